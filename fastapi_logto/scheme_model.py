"""The security scheme in the OpenAPI document."""

from typing import Final
from urllib.parse import urlencode

from fastapi.openapi.models import OAuth2, OAuthFlowAuthorizationCode, OAuthFlows

from fastapi_logto.settings import LogtoSettings

UNSET_DESCRIPTION: Final = (
    "Not configured: `LOGTO_ENDPOINT` or `LOGTO_AUDIENCE` is missing, or another setting is invalid. "
    "With `auth.install(app)`, the application reports the error at startup."
)
"""The description of the security scheme while there are no valid settings."""


def build_model(settings: LogtoSettings, *, resource: str) -> OAuth2:
    """Return the OAuth 2.0 scheme of the tenant: authorization code with PKCE.

    `resource` is part of the authorization URL. Swagger UI can add it in one other way only, together with a token
    URL in which Logto ignores it. The scopes are empty: the OpenAPI document fills them in from its operations.

    References:
        RFC 8707 section 2.1; OpenAPI 3.1 section 4.8.28.
    """
    return OAuth2(
        description=f"Access tokens of Logto at `{settings.endpoint}` for the API resource `{resource}`.",
        flows=OAuthFlows(
            authorizationCode=OAuthFlowAuthorizationCode(
                authorizationUrl=f"{settings.issuer}/auth?{urlencode({'resource': resource})}",
                tokenUrl=f"{settings.issuer}/token",
                scopes={},
            )
        ),
    )
