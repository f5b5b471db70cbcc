"""What OpenAPI and Swagger UI are told: the security scheme, and the scopes that the routes ask for."""

from collections.abc import Collection, Iterator, Mapping, Sequence
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


def build_scheme(settings: LogtoSettings, *, resource: str) -> OAuth2:
    """Give the OAuth 2.0 scheme: authorization code with PKCE at the tenant.

    `resource` is part of the authorization URL, because Swagger UI's other way to add it reaches the
    authorization request only together with a token URL that Logto ignores it in. The scopes are left
    empty: only the operations of an application know them; see `describe_scopes`.

    Args:
        settings: The tenant.
        resource: The API's resource indicator.

    Returns:
        The scheme's model.

    References:
        RFC 8707 section 2.1; OpenAPI 3.1 section 4.8.28.
    """
    return OAuth2(
        description=_build_description(settings, resource=resource),
        flows=OAuthFlows(
            authorizationCode=OAuthFlowAuthorizationCode(
                authorizationUrl=f"{settings.issuer}/auth?{urlencode({'resource': resource})}",
                tokenUrl=f"{settings.issuer}/token",
                scopes={},
            )
        ),
    )


def _build_description(settings: LogtoSettings, *, resource: str) -> str:
    lines = [f"Access tokens of Logto at `{settings.endpoint}` for the API resource `{resource}`."]
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


def describe_scopes(schema: dict[str, Any], *, scheme_names: Collection[str]) -> None:
    """List in an OpenAPI document's schemes the scopes that its operations ask for.

    They come from the operations of this very document, so that an application shows its own scopes
    and not those of another one in the same process. Doing it twice changes nothing.

    Args:
        schema: The document, changed in place.
        scheme_names: Names of the security schemes.
    """
    schemes = schema.get("components", {}).get("securitySchemes", {})
    for name in scheme_names:
        if "flows" in schemes.get(name, {}):
            scopes = {
                scope
                for operation in _iter_operations(schema)
                for requirement in operation.get("security", [])
                for scope in requirement.get(name, [])
            }
            schemes[name]["flows"]["authorizationCode"]["scopes"] = dict.fromkeys(sorted(scopes), "")


def describe_needs(schema: dict[str, Any], needs: Mapping[tuple[str, str], Sequence[str]]) -> None:
    """Say in an OpenAPI document what its operations ask for beyond scopes. Doing it twice changes nothing.

    Args:
        schema: The document, changed in place.
        needs: By path and method in lower case, a line for each thing that is asked for.
    """
    for path, operations in schema.get("paths", {}).items():
        for method, operation in operations.items():
            lines = needs.get((path, method), ())
            text = "\n".join(["Asks for:", "", *(f"- {line}" for line in lines)])
            before = operation.get("description", "") if method in _HTTP_METHODS else ""
            if method in _HTTP_METHODS and lines and text not in before:
                operation["description"] = f"{before}\n\n{text}" if before else text


def _iter_operations(schema: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for path in schema.get("paths", {}).values():
        yield from (operation for method, operation in path.items() if method in _HTTP_METHODS)
