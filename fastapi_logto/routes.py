"""What the routes of an application ask for, read from what FastAPI made of their dependencies."""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeVar, cast, get_args

from fastapi import FastAPI, routing
from fastapi.dependencies.models import Dependant
from starlette.routing import BaseRoute, Host, Mount

from fastapi_logto.checks import build_scopes_error
from fastapi_logto.claims import TokenClaims
from fastapi_logto.errors import ForbiddenError, SettingsError
from fastapi_logto.openapi import SIGN_IN_SCOPE, OperationNeeds, SchemeNotes
from fastapi_logto.organizations import Organization
from fastapi_logto.requirements import Requirement
from fastapi_logto.resource_auth import OptionalLogtoAuth
from fastapi_logto.schemes import OrganizationScheme, TokenScheme

__all__ = ["ProtectedRoute", "SchemeNode", "check_routes", "iter_routes", "list_needs", "list_notes", "list_scopes"]

PickedT = TypeVar("PickedT")

_CONVERTOR: Final = re.compile(r":\w+\}")
_MOST_MIDDLEWARE: Final = 20
_MOST_ALTERNATIVES: Final = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class ProtectedRoute:
    """One route, and what its dependencies ask for.

    Attributes:
        path: Its path, with what it is mounted or included under.
        methods: Its HTTP methods; none for a WebSocket.
        requirements: The requirements among its dependencies, and among theirs.
        nodes: Where these ask a scheme, or the route does itself.
        unguarded: Parameters of a claims type that FastAPI would read from the body.
    """

    path: str
    methods: frozenset[str]
    requirements: tuple[Requirement[Any], ...]
    nodes: tuple["SchemeNode", ...]
    unguarded: tuple[str, ...]

    @property
    def schemes(self) -> tuple[TokenScheme[Any], ...]:
        """The schemes that are asked, as often as they are."""
        return tuple(node.scheme for node in self.nodes)

    @property
    def is_optional(self) -> bool:
        """Whether callers without a token are admitted too."""
        return all(node.is_optional for node in self.nodes)


@dataclass(frozen=True, slots=True, kw_only=True)
class SchemeNode:
    """One place among the dependencies of a route where a scheme is asked.

    Attributes:
        scheme: The scheme.
        scopes: The scopes that must be granted there, all of them.
        is_optional: Whether callers without a token are admitted.
    """

    scheme: TokenScheme[Any]
    scopes: tuple[str, ...]
    is_optional: bool


def iter_routes(app: object, *, prefix: str = "") -> Iterator[ProtectedRoute]:
    """Give the routes of an application and of those mounted in it, protected or not, below middleware too.

    Args:
        app: The application.
        prefix: What its paths begin with.
    """
    # Newer versions of FastAPI include routers late: these routes are known only to this function.
    iter_contexts: Any = getattr(routing, "iter_route_contexts", iter)
    for route in iter_contexts(_find_routes(app)):
        original = getattr(route, "original_route", route)
        dependant = getattr(route, "dependant", None)
        if isinstance(dependant, Dependant):
            dependencies = list(_iter_dependencies(dependant))
            calls = [dependency.call for dependency in dependencies]
            yield ProtectedRoute(
                path=f"{prefix}{getattr(route, 'path_format', route.path)}",
                methods=frozenset(getattr(route, "methods", None) or ()),
                requirements=_pick(calls, Requirement),
                nodes=tuple(filter(None, map(_find_node, dependencies))),
                unguarded=tuple(_iter_unguarded(dependant)),
            )
        elif isinstance(original, Mount | Host):
            path = getattr(route, "path", None) or ""
            yield from iter_routes(original.app, prefix=prefix + _CONVERTOR.sub("}", path))


def _find_routes(app: object) -> Sequence[BaseRoute]:
    """Give the routes of an application that middleware may be around; none of what is no such application."""
    for _ in range(_MOST_MIDDLEWARE):
        routes = getattr(app, "routes", None)
        if isinstance(routes, Sequence):
            return cast("Sequence[BaseRoute]", routes)
        app = getattr(app, "app", None)
    return ()


def check_routes(app: FastAPI) -> None:
    """Refuse what can't be meant, before the first request finds it out.

    Args:
        app: The application.

    Raises:
        SettingsError: A handler would read claims from the request's body; a route asks for an organization
            while something above it admits no organization's token, or asks for it in a path without it.
    """
    problems = [problem for route in iter_routes(app) for problem in _find_problems(route)]
    if problems:
        raise SettingsError("\n".join(dict.fromkeys(problems)))


def list_needs(app: FastAPI) -> dict[tuple[str, str], OperationNeeds]:
    """Give what the protected operations of an application ask for, by path and method in lower case.

    Args:
        app: The application.
    """
    return {
        (route.path, method.lower()): OperationNeeds(
            security=_build_security(route),
            is_optional=route.is_optional,
            lines=_unique(line for requirement in route.requirements for line in requirement.describe()),
            refusals=_build_refusals(route),
        )
        for route in iter_routes(app)
        if route.nodes
        for method in route.methods
    }


def list_notes(app: FastAPI, *, redirect_path: str | None) -> list[SchemeNotes]:
    """Give what is said of the schemes of an application, once for each name.

    Args:
        app: The application.
        redirect_path: Where Swagger UI waits for the answer of a sign-in; `None` where there is no such page.
    """
    schemes: dict[str, TokenScheme[Any]] = {}
    for scheme in (scheme for route in iter_routes(app) for scheme in route.schemes):
        # Of the nodes of one name the plain one knows best.
        if scheme.scheme_name not in schemes or not isinstance(scheme, OrganizationScheme):
            schemes[scheme.scheme_name] = scheme
    return [scheme.build_notes(redirect_path=redirect_path) for scheme in schemes.values()]


def list_scopes(app: FastAPI, *, resource: str) -> frozenset[str]:
    """Give the scopes to ask for in a token for one resource, so that it opens the routes of an application.

    Args:
        app: The application.
        resource: The resource indicator.
    """
    return frozenset(
        scope
        for route in iter_routes(app)
        for entry in _build_security(route)
        for node in route.nodes
        if resource in node.scheme.resources
        for scope in entry[node.scheme.scheme_name] or [SIGN_IN_SCOPE]
    )


def _build_security(route: ProtectedRoute) -> list[dict[str, list[str]]]:
    """Give the schemes and scopes that a route asks for; several where one of them is enough."""
    everything: dict[str, list[str]] = {}
    for node in route.nodes:
        everything[node.scheme.scheme_name] = _unique([*everything.get(node.scheme.scheme_name, ()), *node.scopes])
    alternatives = [everything]
    for requirement in route.requirements:
        name, any_scope = requirement.scheme.scheme_name, requirement.any_scope
        is_new = bool(any_scope) and set(everything[name]).isdisjoint(any_scope)
        if is_new and len(alternatives) * len(any_scope) <= _MOST_ALTERNATIVES:
            alternatives = [
                {**entry, name: _unique([*entry[name], scope])} for entry in alternatives for scope in any_scope
            ]
    return alternatives


def _build_refusals(route: ProtectedRoute) -> list[ForbiddenError]:
    refusals = [refusal for requirement in route.requirements for refusal in requirement.build_refusals()]
    scopes = _unique(scope for node in route.nodes for scope in node.scopes)
    if scopes:
        refusals.append(build_scopes_error(scopes, missing=scopes, granted="another"))
    return refusals


def _unique(values: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(values))


def _pick(calls: Iterable[object], kind: type[PickedT]) -> tuple[PickedT, ...]:
    return tuple(call for call in calls if isinstance(call, kind))


def _find_problems(route: ProtectedRoute) -> Iterator[str]:
    for name in route.unguarded:
        yield (
            f"{route.path}: its parameter {name} would come from the request's body; declare it with Depends(auth) or "
            "Depends(auth.require_scopes(...))"
        )
    if any(not isinstance(scheme, OrganizationScheme) for scheme in route.schemes) and any(
        isinstance(scheme, OrganizationScheme) for scheme in route.schemes
    ):
        yield (
            f"{route.path}: it asks for an organization, but another of its dependencies, perhaps of its router, "
            "admits no organization tokens; let each of them ask for the organization"
        )
    for requirement in route.requirements:
        place: Organization | None = requirement.organization
        if place is not None and place.source == "path" and f"{{{place.name}}}" not in route.path:
            yield f"{route.path}: it {place.describe_absence()}"


def _iter_dependencies(dependant: Dependant) -> Iterator[Dependant]:
    for dependency in dependant.dependencies:
        yield dependency
        yield from _iter_dependencies(dependency)


def _find_node(dependency: Dependant) -> SchemeNode | None:
    call: Any = dependency.call
    scopes = tuple(_unique([*(dependency.parent_oauth_scopes or ()), *(dependency.own_oauth_scopes or ())]))
    if issubclass(type(call), OptionalLogtoAuth):
        # Where scopes are asked for, it admits nobody without a token.
        return SchemeNode(scheme=call.auth, scopes=scopes, is_optional=not scopes)
    if issubclass(type(call), TokenScheme):
        return SchemeNode(scheme=call, scopes=scopes, is_optional=False)
    return None


def _iter_unguarded(dependant: Dependant) -> Iterator[str]:
    for field in (*dependant.body_params, *dependant.query_params, *dependant.header_params, *dependant.cookie_params):
        if _mentions_claims(field.field_info.annotation):
            yield field.name
    for dependency in dependant.dependencies:
        yield from _iter_unguarded(dependency)


def _mentions_claims(annotation: object) -> bool:
    if isinstance(annotation, type) and issubclass(annotation, TokenClaims):
        return True
    return any(_mentions_claims(argument) for argument in get_args(annotation))
