"""What the routes of an application ask for, read from what FastAPI made of their dependencies."""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeVar, cast, get_args

from fastapi import FastAPI, routing
from fastapi.dependencies.models import Dependant
from starlette.routing import BaseRoute, Host, Mount

from fastapi_logto.claims import TokenClaims
from fastapi_logto.errors import SettingsError
from fastapi_logto.organizations import Organization
from fastapi_logto.requirements import Requirement
from fastapi_logto.resource_auth import OptionalLogtoAuth
from fastapi_logto.schemes import OrganizationScheme, TokenScheme

__all__ = ["ProtectedRoute", "check_routes", "iter_routes", "list_needs"]

PickedT = TypeVar("PickedT")

_CONVERTOR: Final = re.compile(r":\w+\}")
_MOST_MIDDLEWARE: Final = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class ProtectedRoute:
    """One route, and what its dependencies ask for.

    Attributes:
        path: Its path, with what it is mounted or included under.
        methods: Its HTTP methods; none for a WebSocket.
        requirements: The requirements among its dependencies, and among theirs.
        schemes: The schemes that these ask, or that the route asks itself.
        unguarded: Parameters of a claims type that FastAPI would read from the body.
    """

    path: str
    methods: frozenset[str]
    requirements: tuple[Requirement[Any], ...]
    schemes: tuple[TokenScheme[Any], ...]
    unguarded: tuple[str, ...]


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
            calls = list(_iter_calls(dependant))
            yield ProtectedRoute(
                path=f"{prefix}{getattr(route, 'path_format', route.path)}",
                methods=frozenset(getattr(route, "methods", None) or ()),
                requirements=_pick(calls, Requirement),
                schemes=_pick(map(_unwrap, calls), TokenScheme),
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


def list_needs(app: FastAPI) -> dict[tuple[str, str], list[str]]:
    """Give what the routes ask for beyond scopes, by path and method in lower case, a line for each thing.

    Args:
        app: The application.
    """
    return {
        (route.path, method.lower()): list(
            dict.fromkeys(line for requirement in route.requirements for line in requirement.describe())
        )
        for route in iter_routes(app)
        for method in route.methods
    }


def _unwrap(call: Any) -> object:  # noqa: ANN401 - whatever FastAPI calls
    # `auth.optional` asks `auth`.
    return call.auth if issubclass(type(call), OptionalLogtoAuth) else call


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


def _iter_calls(dependant: Dependant) -> Iterator[object]:
    for dependency in dependant.dependencies:
        yield dependency.call
        yield from _iter_calls(dependency)


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
