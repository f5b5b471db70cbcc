"""The application of the scenario `load`: `uvicorn --factory benchmarks.load_app:create_app`."""

import os
from functools import partial

from fastapi import Depends, FastAPI

from benchmarks.common import AUDIENCE, hide_aws_lc
from fastapi_logto import LogtoAuth
from fastapi_logto.introspection import Introspection
from fastapi_logto.revocation import RedisStore, Revocations
from fastapi_logto.verification.revocation_feed import OnOutage


def _revocations(on_outage: OnOutage) -> Revocations:
    # The shortest outage after which `closed` responds with 503.
    return Revocations(RedisStore(os.environ["BENCH_REDIS_URL"]), on_outage=on_outage, outage_seconds=1)


def create_app() -> FastAPI:
    """Return an application with an open route, one that also accepts opaque tokens, and one for each `on_outage`."""
    hide_aws_lc()
    build = partial(
        LogtoAuth,
        endpoint=os.environ["BENCH_ENDPOINT"],
        audience=AUDIENCE,
        algorithms=["ES384"],
        # Short, so that the key set is fetched again in each phase with unknown keys.
        keys_cooldown_seconds=1,
        # Full after some seconds, so that memory does not grow because of it.
        token_cache_size=2000,
    )
    introspection = Introspection(client_id="api", client_secret="secret", allowed_clients=["client"])  # noqa: S106
    routes = {
        "/protected": build(introspection=introspection),
        "/redis-closed": build(revocations=_revocations("closed"), scheme_name="Closed"),
        "/redis-open": build(revocations=_revocations("open"), scheme_name="Open"),
    }
    app = FastAPI()

    async def hello() -> dict[str, str]:
        return {"hello": "world"}

    app.get("/open", operation_id="open")(hello)
    for path, auth in routes.items():
        auth.install(app)
        dependencies = [Depends(auth.require_scopes("read:user"))]
        app.get(path, dependencies=dependencies, operation_id=path.strip("/"))(hello)
    return app
