"""What OpenAPI and Swagger UI are told: the security schemes, what the operations ask for, and how they refuse."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, TypeAlias
from urllib.parse import urlencode

from fastapi.openapi.models import OAuth2, OAuthFlowAuthorizationCode, OAuthFlows
from pydantic import BaseModel, TypeAdapter
from typing_extensions import override

from fastapi_logto.answers import LogtoRefusal, build_body, build_headers
from fastapi_logto.errors import (
    AudienceError,
    AuthorizationMissingError,
    ExpiredTokenError,
    ForbiddenError,
    OpaqueTokenError,
    ProviderUnavailableError,
    RefusalError,
)
from fastapi_logto.settings import LogtoSettings

if TYPE_CHECKING:
    from _collections_abc import dict_items, dict_keys

__all__ = [
    "IDENTITY_SCOPE",
    "SIGN_IN_SCOPE",
    "UNSET_DESCRIPTION",
    "OperationNeeds",
    "SchemeNotes",
    "SwaggerOptions",
    "build_scheme",
    "build_sign_in_hint",
    "describe",
]

UNSET_DESCRIPTION: Final = (
    "Not set up yet: `LOGTO_ENDPOINT` or `LOGTO_AUDIENCE` is missing, or another setting is wrong. "
    "`auth.install(app)` has the application's start say which."
)
"""What stands in the scheme's place while there are no good settings."""

IDENTITY_SCOPE: Final = "openid"
"""With this scope, and without a resource in the token request, Logto issues an opaque token."""

SIGN_IN_SCOPE: Final = "profile"
"""Logto denies a sign-in that would grant nothing. With this scope alone the API's token has no permission."""

_HTTP_METHODS: Final = frozenset({"get", "put", "post", "delete", "options", "head", "patch", "trace"})
_MOST_OPERATIONS_NAMED: Final = 3
_NO_SCOPE: Final = ""
_SCHEMAS: Final = "#/components/schemas/"
_RESPONSES: Final = "#/components/responses/"

JsonObject: TypeAlias = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class SchemeNotes:
    """What is said of one security scheme.

    Attributes:
        name: Its name in the document.
        claims_model: What a verified token becomes.
        takes_opaque_tokens: Whether the scope `openid` is of use here; else it is not offered.
        sign_in_hint: What to do before one can sign in from the docs page; empty where it is done.
        scope_descriptions: What scopes mean, where the application says it.
    """

    name: str
    claims_model: type[BaseModel]
    takes_opaque_tokens: bool
    sign_in_hint: str
    scope_descriptions: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class OperationNeeds:
    """What one operation asks of its callers.

    Attributes:
        security: By scheme the scopes that are asked for; several where one of them is enough.
        is_optional: Whether callers without a token are admitted too.
        lines: What is asked for beyond scopes, in words.
        refusals: How good tokens are refused that are not enough, one of each kind.
    """

    security: Sequence[Mapping[str, Sequence[str]]]
    is_optional: bool
    lines: Sequence[str]
    refusals: Sequence[ForbiddenError]


def build_scheme(settings: LogtoSettings, *, resource: str) -> OAuth2:
    """Give the OAuth 2.0 scheme: authorization code with PKCE at the tenant.

    `resource` is part of the authorization URL, because Swagger UI's other way to add it reaches the
    authorization request only together with a token URL that Logto ignores it in. The scopes are left
    empty: only the operations of an application know them; see `describe`.

    Args:
        settings: The tenant.
        resource: The API's resource indicator.

    Returns:
        The scheme's model.

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


def describe(
    document: JsonObject, *, schemes: Iterable[SchemeNotes], operations: Mapping[tuple[str, str], OperationNeeds]
) -> None:
    """Complete an OpenAPI document with what FastAPI does not know of. Doing it twice changes nothing.

    Args:
        document: The document, changed in place.
        schemes: The schemes of its protected operations.
        operations: By path and method in lower case, what the protected ones ask for.
    """
    notes = {scheme.name: scheme for scheme in schemes}
    found = [
        (operation, operations[path, method])
        for path, method, operation in _iter_operations(document)
        if (path, method) in operations
    ]
    if not found:
        return
    shared = _build_shared_responses()
    for operation, needs in found:
        _describe_security(operation, needs, names=notes.keys())
        _describe_needs(operation, needs)
        _describe_refusals(operation, needs, shared=shared)
    for scheme in notes.values():
        _describe_scheme(document, scheme)
    _add_components(document, responses=shared, models=[scheme.claims_model for scheme in notes.values()])


def _iter_operations(document: JsonObject) -> Iterator[tuple[str, str, JsonObject]]:
    for path, operations in document.get("paths", {}).items():
        yield from ((path, method, operation) for method, operation in operations.items() if method in _HTTP_METHODS)


def _describe_security(operation: JsonObject, needs: OperationNeeds, *, names: Iterable[str]) -> None:
    """Say which schemes and scopes are asked for; FastAPI would have any one of several schemes be enough."""
    ours = [{name: list(scopes) for name, scopes in entry.items()} for entry in needs.security]
    anybody: list[dict[str, list[str]]] = [{}] if needs.is_optional else []
    others = [entry for entry in operation.get("security", []) if entry and entry.keys().isdisjoint(names)]
    operation["security"] = [*anybody, *ours, *others]


def _describe_needs(operation: JsonObject, needs: OperationNeeds) -> None:
    text = "\n".join(["Asks for:", "", *(f"- {line}" for line in needs.lines)])
    before = operation.get("description", "")
    if needs.lines and text not in before:
        operation["description"] = f"{before}\n\n{text}" if before else text


def _describe_refusals(operation: JsonObject, needs: OperationNeeds, *, shared: JsonObject) -> None:
    """Add the answers 401, 403 and 503. What the application says of them itself stays."""
    responses: JsonObject = operation.setdefault("responses", {})
    names = {"401": "LogtoTokenRefused" if needs.is_optional else "LogtoUnauthorized", "503": "LogtoUnavailable"}
    for status, name in names.items():
        said = responses.setdefault(status, {"$ref": _RESPONSES + name})
        if "$ref" not in said:
            responses[status] = {**shared[name], **said}
    responses["403"] = {**_build_forbidden(needs.refusals), **responses.get("403", {})}
    operation["responses"] = dict(sorted(responses.items()))


def _build_forbidden(refusals: Sequence[ForbiddenError]) -> JsonObject:
    description = "The token is good, but does not allow this operation."
    if not refusals:
        # For the day when it asks for more: a client that knows the answer goes on working.
        description += " Today nothing more than a good token is asked for."
    return _build_response(description, refusals)


def _build_response(description: str, refusals: Sequence[RefusalError]) -> JsonObject:
    is_outage = any(isinstance(refusal, ProviderUnavailableError) for refusal in refusals)
    content: JsonObject = {"schema": {"$ref": _SCHEMAS + LogtoRefusal.__name__}}
    if refusals:
        content["examples"] = {
            refusal.reason: {"summary": f"{refusal.code}, {refusal.reason}", "value": build_body(refusal)}
            for refusal in refusals
        }
    return {
        "description": description,
        "headers": _build_retry_after() if is_outage else _build_challenge(refusals),
        "content": {"application/json": content},
    }


def _build_retry_after() -> JsonObject:
    schema = {"type": "integer", "minimum": 1}
    return {"Retry-After": {"description": "Seconds after which a retry makes sense.", "schema": schema, "example": 1}}


def _build_challenge(refusals: Sequence[RefusalError]) -> JsonObject:
    challenge: JsonObject = {
        "description": "The challenge of RFC 6750: error, description, and the scopes that are asked for.",
        "schema": {"type": "string"},
    }
    if refusals:
        challenge["example"] = build_headers(refusals[-1])["WWW-Authenticate"]
    return {"WWW-Authenticate": challenge}


def _build_shared_responses() -> JsonObject:
    """Give the answers that all operations have in common; new ones, because an application may edit its document."""
    bad_tokens = (ExpiredTokenError(), AudienceError(), OpaqueTokenError())
    return {
        "LogtoUnauthorized": _build_response(
            "There is no access token, or not a good one.", (AuthorizationMissingError(), *bad_tokens)
        ),
        "LogtoTokenRefused": _build_response(
            "There is an access token, and not a good one. Without any the request is admitted.", bad_tokens
        ),
        "LogtoUnavailable": _build_response(
            "The token can't be checked now, because the identity provider can't be reached.",
            (ProviderUnavailableError(),),
        ),
    }


def _describe_scheme(document: JsonObject, notes: SchemeNotes) -> None:
    """List the scopes that the operations of this very document ask for, and say how to sign in.

    So an application shows its own scopes, and not those of another one in the same process.
    """
    scheme: JsonObject = document.get("components", {}).get("securitySchemes", {}).get(notes.name, {})
    if "flows" not in scheme:
        return
    asking: dict[str, dict[str, None]] = {}
    for path, method, operation in _iter_operations(document):
        for entry in operation.get("security", []):
            if notes.name in entry:
                for scope in entry[notes.name] or [_NO_SCOPE]:
                    asking.setdefault(scope, {})[f"{method.upper()} {path}"] = None
    scopes = {scope: _describe_scope(list(names)) for scope, names in asking.items()}
    if _NO_SCOPE in scopes:
        # Also for these operations there must be something to ask for.
        scopes.setdefault(SIGN_IN_SCOPE, f"No permission of this API, for {scopes.pop(_NO_SCOPE)}")
    if not notes.takes_opaque_tokens:
        scopes.pop(IDENTITY_SCOPE, None)
    scheme["flows"]["authorizationCode"]["scopes"] = {
        scope: notes.scope_descriptions.get(scope, scopes[scope]) for scope in sorted(scopes)
    }
    lines = [notes.sign_in_hint] if notes.sign_in_hint else []
    if not notes.takes_opaque_tokens:
        lines.append(_WITHOUT_IDENTITY)
    scheme["description"] = "\n\n".join(
        [scheme["description"], *(line for line in lines if line not in scheme["description"])]
    )


_WITHOUT_IDENTITY: Final = (
    f"Do not add the scope `{IDENTITY_SCOPE}`: Logto then issues an opaque token, which no API can verify by itself."
)


def _describe_scope(names: Sequence[str]) -> str:
    more = len(names) - _MOST_OPERATIONS_NAMED
    return ", ".join(names[:_MOST_OPERATIONS_NAMED]) + (f" and {more} more" if more > 0 else "")


def _add_components(document: JsonObject, *, responses: JsonObject, models: Iterable[type[BaseModel]]) -> None:
    components: JsonObject = document.setdefault("components", {})
    schemas: JsonObject = components.setdefault("schemas", {})
    template = _SCHEMAS + "{model}"
    documents = [TypeAdapter(LogtoRefusal).json_schema(ref_template=template)]
    documents += [model.model_json_schema(mode="serialization", ref_template=template) for model in models]
    for schema in documents:
        for name, part in {**schema.pop("$defs", {}), schema["title"]: schema}.items():
            schemas.setdefault(name, part)
    components["schemas"] = dict(sorted(schemas.items()))
    components["responses"] = {**responses, **components.get("responses", {})}


def build_sign_in_hint(settings: LogtoSettings, *, redirect_path: str | None) -> str:
    """Give what to do before one can sign in from the docs page; nothing where it is done, or there is no such page.

    Args:
        settings: The tenant.
        redirect_path: Where Swagger UI waits for the answer, below the URL of the API.
    """
    if settings.swagger_client_id is not None or redirect_path is None:
        return ""
    return (
        "To sign in here, create a single-page application in Logto, register "
        f"`{settings.public_url or '<URL of this API>'}{redirect_path}` as its redirect URI, and set "
        "`LOGTO_SWAGGER_CLIENT_ID` to its id."
    )


class SwaggerOptions(dict[str, Any]):
    """What Swagger UI is told of the client that signs in: with PKCE, and which one.

    The client id is looked up when the page is built, for the settings may be known long after the application.
    """

    def __init__(self, options: Mapping[str, Any], *, find_client_id: Callable[[], str | None]) -> None:
        """Remember what is known.

        Args:
            options: What the application set itself, which stays.
            find_client_id: Gives the id of the single-page application; `None` leaves the field empty to be typed in.
        """
        super().__init__({"usePkceWithAuthorizationCodeGrant": True, **options})
        self._find_client_id = find_client_id

    def _complete(self) -> None:
        if "clientId" not in self and (client_id := self._find_client_id()) is not None:
            self["clientId"] = client_id

    @override
    def __iter__(self) -> Iterator[str]:
        self._complete()
        return super().__iter__()

    @override
    def keys(self) -> "dict_keys[str, Any]":
        self._complete()
        return super().keys()

    @override
    def items(self) -> "dict_items[str, Any]":
        self._complete()
        return super().items()
