"""Add what FastAPI does not know to an OpenAPI document: security schemes, required scopes and error responses."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, TypeAlias
from urllib.parse import urlencode

from fastapi.openapi.models import OAuth2, OAuthFlowAuthorizationCode, OAuthFlows
from pydantic import BaseModel, TypeAdapter
from typing_extensions import override

from fastapi_logto.errors import (
    AudienceError,
    AuthorizationMissingError,
    ExpiredTokenError,
    ForbiddenError,
    OpaqueTokenError,
    ProviderUnavailableError,
    RefusalError,
)
from fastapi_logto.responses import LogtoRefusal, build_body, build_headers
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
    "Not configured: `LOGTO_ENDPOINT` or `LOGTO_AUDIENCE` is missing, or another setting is invalid. "
    "With `auth.install(app)`, the application reports the error at startup."
)
"""The description of the security scheme while there are no valid settings."""

IDENTITY_SCOPE: Final = "openid"
"""Logto issues an opaque token if a client requests this scope and its token request names no resource."""

SIGN_IN_SCOPE: Final = "profile"
"""Logto denies a sign-in that would grant no scope. If a client requests only this one, its token has no permission."""

_HTTP_METHODS: Final = frozenset({"get", "put", "post", "delete", "options", "head", "patch", "trace"})
_MOST_OPERATIONS_NAMED: Final = 3
_NO_SCOPE: Final = ""
_SCHEMAS: Final = "#/components/schemas/"
_RESPONSES: Final = "#/components/responses/"

JsonObject: TypeAlias = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class SchemeNotes:
    """What the document says about one security scheme.

    Attributes:
        name: The name of the scheme in the document.
        claims_model: The model of verified claims.
        takes_opaque_tokens: Whether opaque tokens are accepted. Otherwise the scope `openid` is not offered.
        sign_in_hint: How to set up sign-in on the docs page; empty if it is set up.
        scope_descriptions: Descriptions of scopes that the application provides.
    """

    name: str
    claims_model: type[BaseModel]
    takes_opaque_tokens: bool
    sign_in_hint: str
    scope_descriptions: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class OperationNeeds:
    """What one operation requires from its callers.

    Attributes:
        security: The required scopes by scheme. If there are several entries, one of them is enough.
        is_optional: Whether requests without a token are allowed.
        lines: Requirements other than scopes, in words.
        refusals: Examples of 403 errors, one of each kind.
    """

    security: Sequence[Mapping[str, Sequence[str]]]
    is_optional: bool
    lines: Sequence[str]
    refusals: Sequence[ForbiddenError]


def build_scheme(settings: LogtoSettings, *, resource: str) -> OAuth2:
    """Return the OAuth 2.0 scheme of the tenant: authorization code with PKCE.

    `resource` is part of the authorization URL. Swagger UI can add it in one other way only, together with a token
    URL in which Logto ignores it. The scopes are empty; `describe` fills them in from the operations.

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
    """Add the security schemes and error responses to a document, in place. A second call changes nothing.

    The keys of `operations` are the path and the method in lower case.
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
    """Set the required schemes and scopes. FastAPI would list several schemes as alternatives."""
    ours = [{name: list(scopes) for name, scopes in entry.items()} for entry in needs.security]
    anybody: list[dict[str, list[str]]] = [{}] if needs.is_optional else []
    others = [entry for entry in operation.get("security", []) if entry and entry.keys().isdisjoint(names)]
    operation["security"] = [*anybody, *ours, *others]


def _describe_needs(operation: JsonObject, needs: OperationNeeds) -> None:
    text = "\n".join(["Requires:", "", *(f"- {line}" for line in needs.lines)])
    before = operation.get("description", "")
    if needs.lines and text not in before:
        operation["description"] = f"{before}\n\n{text}" if before else text


def _describe_refusals(operation: JsonObject, needs: OperationNeeds, *, shared: JsonObject) -> None:
    """Add the responses 401, 403 and 503. Responses that the application declares itself are kept."""
    responses: JsonObject = operation.setdefault("responses", {})
    names = {"401": "LogtoTokenRefused" if needs.is_optional else "LogtoUnauthorized", "503": "LogtoUnavailable"}
    for status, name in names.items():
        said = responses.setdefault(status, {"$ref": _RESPONSES + name})
        if "$ref" not in said:
            responses[status] = {**shared[name], **said}
    responses["403"] = {**_build_forbidden(needs.refusals), **responses.get("403", {})}
    operation["responses"] = dict(sorted(responses.items()))


def _build_forbidden(refusals: Sequence[ForbiddenError]) -> JsonObject:
    description = "The token is valid, but it does not allow this operation."
    if not refusals:
        # Declared anyway: clients that handle it keep working if the operation requires more later.
        description += " Currently any valid token is accepted."
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
    return {"Retry-After": {"description": "Seconds to wait before a retry.", "schema": schema, "example": 1}}


def _build_challenge(refusals: Sequence[RefusalError]) -> JsonObject:
    challenge: JsonObject = {
        "description": "The RFC 6750 challenge: error, description and required scopes.",
        "schema": {"type": "string"},
    }
    if refusals:
        challenge["example"] = build_headers(refusals[-1])["WWW-Authenticate"]
    return {"WWW-Authenticate": challenge}


def _build_shared_responses() -> JsonObject:
    """Return the responses that all operations share; new objects, because an application may edit its document."""
    invalid_tokens = (ExpiredTokenError(), AudienceError(), OpaqueTokenError())
    return {
        "LogtoUnauthorized": _build_response(
            "The access token is missing or invalid.", (AuthorizationMissingError(), *invalid_tokens)
        ),
        "LogtoTokenRefused": _build_response(
            "The access token is invalid. (Requests without a token are allowed.)", invalid_tokens
        ),
        "LogtoUnavailable": _build_response(
            "The token can't be verified now, because the identity provider is unavailable.",
            (ProviderUnavailableError(),),
        ),
    }


def _describe_scheme(document: JsonObject, notes: SchemeNotes) -> None:
    """List the scopes that the operations of this document require, and explain how to sign in.

    Only this document counts, so an application does not list the scopes of another one in the same process.
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
        # Clients of these operations must also request some scope, or Logto denies the sign-in.
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
    f"Do not add the scope `{IDENTITY_SCOPE}`: Logto would issue an opaque token, which this API does not accept."
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
    """Return how to set up sign-in on the docs page; empty if it is set up or if there is no such page.

    `redirect_path` is the redirect path of Swagger UI, below the URL of the API.
    """
    if settings.swagger_client_id is not None or redirect_path is None:
        return ""
    return (
        "To sign in here, create a single-page application in Logto, register "
        f"`{settings.public_url or '<URL of this API>'}{redirect_path}` as its redirect URI, and set "
        "`LOGTO_SWAGGER_CLIENT_ID` to its client id."
    )


class SwaggerOptions(dict[str, Any]):
    """The OAuth options of Swagger UI: PKCE, and the client that signs in.

    The client id is looked up when the page is built, because the settings may be known long after the application.
    """

    def __init__(self, options: Mapping[str, Any], *, find_client_id: Callable[[], str | None]) -> None:
        """Store the options of the application, which take precedence.

        `find_client_id` returns the id of the single-page application; with `None` the user types it in.
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
