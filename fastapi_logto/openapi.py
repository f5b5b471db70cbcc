"""What OpenAPI and Swagger UI are told: the security scheme, and the scopes that the routes ask for."""

from typing import Any, Final
from urllib.parse import urlencode

from fastapi import FastAPI
from fastapi.openapi.models import OAuth2, OAuthFlowAuthorizationCode, OAuthFlows

from fastapi_logto.settings import LogtoSettings

__all__ = ["UNSET_DESCRIPTION", "build_scheme", "describe_scopes", "install_swagger"]

UNSET_DESCRIPTION: Final = (
    "Not set up yet: `LOGTO_ENDPOINT` or `LOGTO_AUDIENCE` is missing, or another setting is wrong. "
    "`auth.install(app)` has the application's start say which."
)
"""What stands in the scheme's place while there are no good settings."""

_HTTP_METHODS: Final = frozenset({"get", "put", "post", "delete", "options", "head", "patch", "trace"})


def build_scheme(settings: LogtoSettings) -> OAuth2:
    """Give the OAuth 2.0 scheme: authorization code with PKCE at the tenant.

    `resource` is part of the authorization URL, because Swagger UI's other way to add it reaches the
    authorization request only together with a token URL that Logto ignores it in. The scopes are left
    empty: only the operations of an application know them; see `describe_scopes`.

    Args:
        settings: The tenant and the API.

    Returns:
        The scheme's model.

    References:
        RFC 8707 section 2.1; OpenAPI 3.1 section 4.8.28.
    """
    resource = settings.audience[0]
    return OAuth2(
        description=_build_description(settings),
        flows=OAuthFlows(
            authorizationCode=OAuthFlowAuthorizationCode(
                authorizationUrl=f"{settings.issuer}/auth?{urlencode({'resource': resource})}",
                tokenUrl=f"{settings.issuer}/token",
                scopes={},
            )
        ),
    )


def _build_description(settings: LogtoSettings) -> str:
    lines = [f"Access tokens of Logto at `{settings.endpoint}` for the API resource `{settings.audience[0]}`."]
    if settings.swagger_client_id is None:
        lines.append(
            "To sign in here, create a single-page application in Logto, register "
            "`<URL of this API>/docs/oauth2-redirect` as its redirect URI, and set `LOGTO_SWAGGER_CLIENT_ID` "
            "to its id."
        )
    lines.append("Do not add the scope `openid`: Logto then issues an opaque token, which no API can verify by itself.")
    return "\n\n".join(lines)


def install_swagger(app: FastAPI, *, client_id: str | None) -> None:
    """Have Swagger UI sign in with PKCE. What the application set itself stays.

    Args:
        app: The application.
        client_id: Id of the single-page application; `None` leaves the field empty to be typed in.
    """
    options: dict[str, Any] = {"usePkceWithAuthorizationCodeGrant": True}
    if client_id is not None:
        options["clientId"] = client_id
    app.swagger_ui_init_oauth = {**options, **(app.swagger_ui_init_oauth or {})}


def describe_scopes(schema: dict[str, Any], *, scheme_name: str) -> None:
    """List in an OpenAPI document's scheme the scopes that its operations ask for.

    They come from the operations of this very document, so that an application shows its own scopes
    and not those of another one in the same process. Doing it twice changes nothing.

    Args:
        schema: The document, changed in place.
        scheme_name: Name of the security scheme.
    """
    scheme = schema.get("components", {}).get("securitySchemes", {}).get(scheme_name)
    if scheme is None or "flows" not in scheme:
        return
    scopes: dict[str, str] = {}
    for path in schema.get("paths", {}).values():
        for method, operation in path.items():
            if method in _HTTP_METHODS:
                for requirement in operation.get("security", []):
                    scopes.update(dict.fromkeys(requirement.get(scheme_name, []), ""))
    scheme["flows"]["authorizationCode"]["scopes"] = dict(sorted(scopes.items()))
