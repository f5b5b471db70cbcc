"""Add what FastAPI does not know to an OpenAPI document: security schemes, required scopes and error responses."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from fastapi import FastAPI
from pydantic import BaseModel, TypeAdapter
from typing_extensions import override

from fastapi_logto.description.conditions import build_refusals, describe_conditions
from fastapi_logto.description.routes import NO_SCOPE, RouteInfo, iter_routes, list_required_scopes
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
from fastapi_logto.schemes import AnyScheme, OrganizationScheme, find_policy, find_state
from fastapi_logto.settings import LogtoSettings
from fastapi_logto.verification.checks import build_scopes_error

if TYPE_CHECKING:
    from _collections_abc import dict_items, dict_keys

__all__ = ["IDENTITY_SCOPE", "SwaggerOptions", "describe"]

IDENTITY_SCOPE: Final = "openid"
"""Logto issues an opaque token if a client requests this scope and its token request names no resource."""

_HTTP_METHODS: Final = frozenset({"get", "put", "post", "delete", "options", "head", "patch", "trace"})
_MOST_OPERATIONS_NAMED: Final = 3
_MOST_ALTERNATIVES: Final = 16
_SCHEMAS: Final = "#/components/schemas/"
_RESPONSES: Final = "#/components/responses/"

JsonObject: TypeAlias = dict[str, Any]


def describe(document: JsonObject, app: FastAPI) -> None:
    """Add the security schemes and error responses of an application to its document, in place.

    A second call changes nothing. Mounted applications are not included: each has its own OpenAPI document.
    """
    routes = [route for route in iter_routes(app) if route.calls and route.owner is app]
    by_operation = {(route.path, method.lower()): route for route in routes for method in route.methods}
    found = [
        (operation, by_operation[path, method])
        for path, method, operation in _iter_operations(document)
        if (path, method) in by_operation
    ]
    if not found:
        return
    schemes = _choose_schemes(routes)
    shared = _build_shared_responses()
    for operation, route in found:
        _describe_security(operation, route, names=schemes.keys())
        _describe_conditions(operation, route)
        _describe_refusals(operation, route, shared=shared)
    redirect_path = app.swagger_ui_oauth2_redirect_url if app.docs_url else None
    for scheme in schemes.values():
        _describe_scheme(document, scheme, redirect_path=redirect_path)
    _add_components(document, responses=shared, models=[find_state(one).claims_model for one in schemes.values()])


def _choose_schemes(routes: Iterable[RouteInfo]) -> dict[str, AnyScheme[Any]]:
    """Return the schemes by their names. Of several with one name, the plain one describes it best."""
    schemes: dict[str, AnyScheme[Any]] = {}
    for scheme in (scheme for route in routes for scheme in route.schemes):
        if scheme.scheme_name not in schemes or not isinstance(scheme, OrganizationScheme):
            schemes[scheme.scheme_name] = scheme
    return schemes


def _iter_operations(document: JsonObject) -> Iterator[tuple[str, str, JsonObject]]:
    for path, operations in document.get("paths", {}).items():
        yield from ((path, method, operation) for method, operation in operations.items() if method in _HTTP_METHODS)


def _describe_security(operation: JsonObject, route: RouteInfo, *, names: Iterable[str]) -> None:
    """Set the required schemes and scopes. FastAPI would list several schemes as alternatives."""
    anybody: list[dict[str, list[str]]] = [{}] if route.is_optional else []
    others = [entry for entry in operation.get("security", []) if entry and entry.keys().isdisjoint(names)]
    operation["security"] = [*anybody, *_build_security(route), *others]


def _build_security(route: RouteInfo) -> list[dict[str, list[str]]]:
    """Return the required schemes and scopes of a route. If there are several entries, one of them is enough."""
    everything: dict[str, list[str]] = {}
    for call in route.calls:
        everything[call.scheme.scheme_name] = _unique([*everything.get(call.scheme.scheme_name, ()), *call.scopes])
    alternatives = [everything]
    for requirement in route.requirements:
        name, any_scope = requirement.scheme.scheme_name, requirement.any_scope
        is_new = bool(any_scope) and set(everything[name]).isdisjoint(any_scope)
        if is_new and len(alternatives) * len(any_scope) <= _MOST_ALTERNATIVES:
            alternatives = [
                {**entry, name: _unique([*entry[name], scope])} for entry in alternatives for scope in any_scope
            ]
    return alternatives


def _describe_conditions(operation: JsonObject, route: RouteInfo) -> None:
    lines = _unique(line for requirement in route.requirements for line in describe_conditions(requirement))
    text = "\n".join(["Requires:", "", *(f"- {line}" for line in lines)])
    before = operation.get("description", "")
    if lines and text not in before:
        operation["description"] = f"{before}\n\n{text}" if before else text


def _describe_refusals(operation: JsonObject, route: RouteInfo, *, shared: JsonObject) -> None:
    """Add the responses 401, 403 and 503. Responses that the application declares itself are kept."""
    responses: JsonObject = operation.setdefault("responses", {})
    names = {"401": "LogtoTokenRefused" if route.is_optional else "LogtoUnauthorized", "503": "LogtoUnavailable"}
    for status, name in names.items():
        said = responses.setdefault(status, {"$ref": _RESPONSES + name})
        if "$ref" not in said:
            responses[status] = {**shared[name], **said}
    refusals = [refusal for requirement in route.requirements for refusal in build_refusals(requirement)]
    scopes = list_required_scopes(route)
    if scopes:
        refusals.append(build_scopes_error(scopes, missing=scopes, granted="another"))
    responses["403"] = {**_build_forbidden(refusals), **responses.get("403", {})}
    operation["responses"] = dict(sorted(responses.items()))


def _unique(values: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(values))


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


def _describe_scheme(document: JsonObject, scheme: AnyScheme[Any], *, redirect_path: str | None) -> None:
    """List the scopes that the operations of this document require, and explain how to sign in.

    Only this document counts, so an application does not list the scopes of another one in the same process.
    """
    name, state = scheme.scheme_name, find_state(scheme)
    described: JsonObject = document.get("components", {}).get("securitySchemes", {}).get(name, {})
    if "flows" not in described:
        return
    asking: dict[str, dict[str, None]] = {}
    for path, method, operation in _iter_operations(document):
        for entry in operation.get("security", []):
            if name in entry:
                for scope in entry[name] or [""]:
                    asking.setdefault(scope, {})[f"{method.upper()} {path}"] = None
    scopes = {scope: _describe_scope(list(operations)) for scope, operations in asking.items()}
    if "" in scopes:
        # Clients of these operations must also request some scope, or Logto denies the sign-in.
        scopes.setdefault(NO_SCOPE, f"No permission of this API, for {scopes.pop('')}")
    takes_opaque_tokens = find_policy(scheme).accepts_opaque and state.accepts_opaque_tokens
    if not takes_opaque_tokens:
        scopes.pop(IDENTITY_SCOPE, None)
    described["flows"]["authorizationCode"]["scopes"] = {
        scope: state.scope_descriptions.get(scope, scopes[scope]) for scope in sorted(scopes)
    }
    lines = [_build_sign_in_hint(state.tenants[0], redirect_path=redirect_path)]
    if not takes_opaque_tokens:
        lines.append(_WITHOUT_IDENTITY)
    before: str = described["description"]
    described["description"] = "\n\n".join([before, *(line for line in lines if line and line not in before)])


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


def _build_sign_in_hint(settings: LogtoSettings, *, redirect_path: str | None) -> str:
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
