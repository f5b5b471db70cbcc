"""The security scheme of the example, and the revocations that it checks. Both read the environment."""

from example_app.settings import ExampleSettings
from fastapi_logto import LogtoAuth
from fastapi_logto.revocation import RedisStore, Revocations

settings = ExampleSettings()

# Without a store, each process knows only the webhooks that it receives itself.
revocations = Revocations(RedisStore(settings.redis_url) if settings.redis_url else None)

auth = LogtoAuth(revocations=revocations)
require_scopes = auth.require_scopes
