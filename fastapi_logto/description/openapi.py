"""Add what FastAPI does not know to an OpenAPI document: security schemes, required scopes and error responses."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, TypeAlias

from fastapi import FastAPI
from pydantic import TypeAdapter

from fastapi_logto.description.conditions import build_refusals, describe_conditions
from fastapi_logto.description.docs_page import SIGN_IN_ONLY, build_dialog_text
from fastapi_logto.description.routes import (
    IDENTITY_SCOPE,
    NO_SCOPE,
    RouteInfo,
    iter_routes,
    list_required_scopes,
)
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
from fastapi_logto.verification.check_errors import build_scopes_error

_WITHOUT_SCOPES: Final = frozenset({"apiKey", "http"})
_MOST_OPERATIONS_NAMED: Final = 3
_MOST_ALTERNATIVES: Final = 16
_SCHEMAS: Final = "#/components/schemas/"
_RESPONSES: Final = "#/components/responses/"

JsonObject: TypeAlias = dict[str, Any]


def describe(document: JsonObject, app: FastAPI) -> None:
    """Add the security schemes and error responses of an application to its document, in place.

    A second call changes nothing. Mounted applications are not included: each has its own OpenAPI document.
    """
    routes = _list_protected(app)
    by_operation = {(route.path, method.lower()): route for route in routes for method in route.methods}
    found = {
        f"{method.upper()} {path}": (operation, by_operation[path, method])
        for path, operations in document.get("paths", {}).items()
        for method, operation in operations.items()
        if (path, method) in by_operation
    }
    if not found:
        return
    schemes = _choose_schemes(routes)
    shared = _build_shared_responses()
    others = document.get("components", {}).get("securitySchemes", {})
    for operation, route in found.values():
        _describe_security(operation, route, names=schemes.keys(), others=others)
        _describe_conditions(operation, route)
        _describe_refusals(operation, route, shared=shared)
    redirect_path = app.swagger_ui_oauth2_redirect_url if app.docs_url else None
    for scheme in schemes.values():
        _describe_scheme(document, scheme, found, redirect_path=redirect_path)
    _add_components(document, responses=shared)


def list_offered_scopes(app: FastAPI) -> list[str]:
    """Return the scopes that the sign-in dialog selects at first: all that it offers, except for opaque tokens.

    Swagger UI sends them to every OAuth 2.0 scheme of the page, so the list is empty if one is not of this package.
    """
    ours = _choose_schemes(_list_protected(app))
    schemes: dict[str, JsonObject] = app.openapi().get("components", {}).get("securitySchemes", {})
    flows = {
        name: scheme["flows"].get("authorizationCode", {}) for name, scheme in schemes.items() if "flows" in scheme
    }
    if not flows.keys() <= ours.keys():
        return []
    return sorted({scope for flow in flows.values() for scope in flow["scopes"]} - {IDENTITY_SCOPE})


def _list_protected(app: FastAPI) -> list[RouteInfo]:
    return [route for route in iter_routes(app) if route.calls and route.owner is app]


def _choose_schemes(routes: Iterable[RouteInfo]) -> dict[str, AnyScheme[Any]]:
    """Return the schemes by their names. Of several with one name, the plain one describes it best."""
    schemes: dict[str, AnyScheme[Any]] = {}
    for scheme in (scheme for route in routes for scheme in route.schemes):
        if scheme.scheme_name not in schemes or not isinstance(scheme, OrganizationScheme):
            schemes[scheme.scheme_name] = scheme
    return schemes


def _describe_security(
    operation: JsonObject, route: RouteInfo, *, names: Iterable[str], others: Mapping[str, JsonObject]
) -> None:
    """Set the required schemes and scopes. FastAPI would list several schemes as alternatives."""
    anybody: list[dict[str, list[str]]] = [{}] if route.is_optional else []
    listed: list[dict[str, list[str]]] = operation.get("security", [])
    # FastAPI adds the scopes of a token to an API key that is accepted instead of it.
    unscoped = [
        {name: [] if others.get(name, {}).get("type") in _WITHOUT_SCOPES else scopes for name, scopes in entry.items()}
        for entry in listed
        if entry and entry.keys().isdisjoint(names)
    ]
    operation["security"] = [*anybody, *_build_security(route), *unscoped]


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


def _describe_scheme(
    document: JsonObject,
    scheme: AnyScheme[Any],
    found: Mapping[str, tuple[JsonObject, RouteInfo]],
    *,
    redirect_path: str | None,
) -> None:
    """List the scopes that the operations of this document require, and explain how to sign in.

    Only this document counts, so an application does not list the scopes of another one in the same process.
    """
    name, state = scheme.scheme_name, find_state(scheme)
    described: JsonObject = document.get("components", {}).get("securitySchemes", {}).get(name, {})
    if "flows" not in described:
        return
    asking: dict[str, dict[str, None]] = {}
    for label, (operation, route) in found.items():
        # Swagger UI can't request a token for an organization, so these scopes would be selected in vain.
        if not any(isinstance(one, OrganizationScheme) and one.scheme_name == name for one in route.schemes):
            for scope in (scope for entry in operation["security"] for scope in entry.get(name, ())):
                asking.setdefault(scope, {})[label] = None
    # A sign-in that requests this one too is never denied.
    scopes = {NO_SCOPE: SIGN_IN_ONLY, **{scope: _describe_scope(list(labels)) for scope, labels in asking.items()}}
    takes_opaque_tokens = find_policy(scheme).accepts_opaque and state.accepts_opaque_tokens
    if not takes_opaque_tokens:
        scopes.pop(IDENTITY_SCOPE, None)
    described["flows"]["authorizationCode"]["scopes"] = {
        scope: state.scope_descriptions.get(scope, scopes[scope]) for scope in sorted(scopes)
    }
    lines = [build_dialog_text(state.tenants[0], redirect_path=redirect_path)]
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


def _add_components(document: JsonObject, *, responses: JsonObject) -> None:
    """Add what the error responses refer to. FastAPI itself adds the claims model, if a route returns it."""
    components: JsonObject = document.setdefault("components", {})
    refusal = TypeAdapter(LogtoRefusal).json_schema(ref_template=_SCHEMAS + "{model}")
    schemas = {**refusal.pop("$defs"), LogtoRefusal.__name__: refusal, **components.get("schemas", {})}
    components["schemas"] = dict(sorted(schemas.items()))
    components["responses"] = {**responses, **components.get("responses", {})}
