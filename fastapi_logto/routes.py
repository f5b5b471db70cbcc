"""What the routes of an application ask for, read from what FastAPI made of their dependencies."""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal, TypeVar

from fastapi import FastAPI, routing
from fastapi.dependencies.models import Dependant
from starlette.applications import Starlette
from starlette.routing import Host, Mount, Route, Router, WebSocketRoute

from fastapi_logto.checks import build_scopes_error
from fastapi_logto.errors import ForbiddenError
from fastapi_logto.openapi import SIGN_IN_SCOPE, OperationNeeds, SchemeNotes
from fastapi_logto.requirements import Requirement
from fastapi_logto.resource_auth import OptionalLogtoAuth
from fastapi_logto.schemes import OrganizationScheme, TokenScheme

__all__ = [
    "MOUNTED_ATTRIBUTE",
    "MOUNTED_PATH",
    "FoundRoute",
    "SchemeNode",
    "find_scheme",
    "iter_routes",
    "list_needs",
    "list_notes",
    "list_scopes",
]

PickedT = TypeVar("PickedT")

MOUNTED_ATTRIBUTE: Final = "__fastapi_logto_mounted__"
"""The attribute of an endpoint that passes its requests on to a mounted application."""

MOUNTED_PATH: Final = "mounted_path"
"""The path parameter of such an endpoint: the path below the mount."""

_CONVERTOR: Final = re.compile(r":\w+\}")
_MOST_MIDDLEWARE: Final = 20
_MOST_ALTERNATIVES: Final = 16
_OWN_PAGES: Final = (
    "fastapi.applications.FastAPI.setup.<locals>.",
    "fastapi_logto.resource_pages.ResourcePages.answer",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class SchemeNode:
    """One place among the dependencies of a route where a scheme is asked.

    Attributes:
        call: What FastAPI calls there: the scheme, or what makes its token optional.
        scopes: The scopes that must be granted there, all of them.
    """

    call: TokenScheme[Any] | OptionalLogtoAuth[Any]
    scopes: tuple[str, ...]

    @property
    def scheme(self) -> TokenScheme[Any]:
        """The scheme."""
        return find_scheme(self.call)

    @property
    def is_optional(self) -> bool:
        """Whether callers without a token are admitted; where scopes are asked for, nobody is without one."""
        return isinstance(self.call, OptionalLogtoAuth) and not self.scopes


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundRoute:
    """One place where a request may end, of FastAPI's or not, and what its dependencies ask for.

    Attributes:
        path: Its path, with what it is mounted or included under.
        methods: Its HTTP methods; none for a WebSocket or an application, or where all are let through.
        kind: Whether it is a route, of HTTP or for a WebSocket, or an application that can't be seen into.
        endpoint: What it calls.
        owner: The application or router whose route it is.
        requirements: The requirements among its dependencies, and among theirs.
        nodes: Where these ask a scheme, or the route does itself.
        stand_ins: What is called instead of one of these, or of what asks them, by `app.dependency_overrides`.
        dependants: The route as FastAPI analysed it, and each of its dependencies.
        is_hidden: Whether the application keeps the route out of its OpenAPI document (`include_in_schema=False`).
        mounted: The application that `mount_protected` mounted here.
    """

    path: str
    methods: frozenset[str]
    kind: Literal["http", "websocket", "application"]
    endpoint: object
    owner: object
    requirements: tuple[Requirement[Any], ...] = ()
    nodes: tuple[SchemeNode, ...] = ()
    stand_ins: tuple[object, ...] = ()
    dependants: tuple[Dependant, ...] = ()
    is_hidden: bool = False
    mounted: object = None

    @property
    def schemes(self) -> tuple[TokenScheme[Any], ...]:
        """The schemes that are asked, as often as they are."""
        return tuple(node.scheme for node in self.nodes)

    @property
    def scopes(self) -> tuple[str, ...]:
        """The scopes that must all be granted, by requirements or by FastAPI's own `Security(auth, scopes=[...])`."""
        return tuple(_unique(scope for node in self.nodes for scope in node.scopes))

    @property
    def is_protected(self) -> bool:
        """Whether nobody gets in without a good token."""
        return any(not node.is_optional for node in self.nodes)

    @property
    def is_optional(self) -> bool:
        """Whether a scheme is asked, and callers without a token are admitted too."""
        return bool(self.nodes) and not self.is_protected

    @property
    def is_own_page(self) -> bool:
        """Whether it is open because it tells of the API: FastAPI's docs pages, and the metadata of the resource."""
        # Of functions alone: an application that stands in a route's place has the module of its class.
        name = getattr(self.endpoint, "__qualname__", None)
        return name is not None and f"{getattr(self.endpoint, '__module__', '')}.{name}".startswith(_OWN_PAGES)


def find_scheme(call: TokenScheme[Any] | OptionalLogtoAuth[Any]) -> TokenScheme[Any]:
    """Give the scheme of what FastAPI calls: where the token is optional, that which reads one.

    Args:
        call: The scheme, or what makes its token optional.
    """
    return call.auth if isinstance(call, OptionalLogtoAuth) else call


def iter_routes(app: object, *, prefix: str = "") -> Iterator[FoundRoute]:
    """Give every place of an application where a request may end, and of those mounted in it, below middleware too.

    Args:
        app: The application.
        prefix: What its paths begin with.
    """
    owner = _find_owner(app)
    if owner is None:
        yield FoundRoute(path=prefix or "/", methods=frozenset(), kind="application", endpoint=app, owner=None)
        return
    # Newer versions of FastAPI include routers late: these routes are known only to this function.
    iter_contexts: Any = getattr(routing, "iter_route_contexts", iter)
    for route in iter_contexts(owner.routes):
        original = getattr(route, "original_route", route)
        path = getattr(route, "path", None) or ""
        if isinstance(original, Mount | Host):
            yield from iter_routes(original.app, prefix=prefix + _CONVERTOR.sub("}", path))
            continue
        endpoint = getattr(route, "endpoint", None)
        # An application may stand in a route's place, and answers what it likes.
        is_route = isinstance(original, Route | WebSocketRoute) and _find_owner(endpoint) is None
        yield _build_route(
            path=prefix + str(getattr(route, "path_format", None) or path),
            methods=frozenset(getattr(route, "methods", None) or ()),
            kind="application" if not is_route else "websocket" if isinstance(original, WebSocketRoute) else "http",
            endpoint=endpoint,
            owner=owner,
            dependant=getattr(route, "dependant", None),
            overrides=_find_overrides(route, owner),
            is_in_schema=getattr(route, "include_in_schema", True),
        )
    yield from _iter_frontends(owner, prefix=prefix)
    router: Any = owner.router if isinstance(owner, Starlette) else owner
    if router.default != router.not_found:
        # Of Starlette: what answers where no route fits.
        yield FoundRoute(
            path=prefix + "/{path}", methods=frozenset(), kind="application", endpoint=router.default, owner=owner
        )


def _iter_frontends(owner: Starlette | Router, *, prefix: str) -> Iterator[FoundRoute]:
    """Give the files that newer versions of FastAPI serve where no route fits: they are in no list of routes."""
    iter_late: Any = getattr(getattr(owner, "router", owner), "_iter_low_priority_routes", tuple)
    for late in iter_late():
        group = getattr(late, "original_route", late)
        for files in getattr(group, "routes", ()):
            yield _build_route(
                path=prefix + str(getattr(late, "frontend_prefix", "")) + str(files.path),
                methods=frozenset({"GET", "HEAD"}),
                kind="http",
                endpoint=files,
                owner=owner,
                dependant=late.dependant,
                overrides=_find_overrides(late, owner),
                # Files are in no OpenAPI document, and nobody has hidden them.
                is_in_schema=True,
            )


def _build_route(
    *,
    path: str,
    methods: frozenset[str],
    kind: Literal["http", "websocket", "application"],
    endpoint: object,
    owner: object,
    dependant: Dependant | None,
    overrides: Mapping[object, object],
    is_in_schema: bool,
) -> FoundRoute:
    dependencies = list(_iter_dependencies(dependant)) if isinstance(dependant, Dependant) else []
    mounted = getattr(endpoint, MOUNTED_ATTRIBUTE, None)
    return FoundRoute(
        path=path,
        methods=methods,
        kind=kind,
        endpoint=endpoint,
        owner=owner,
        requirements=_pick((one.call for one in dependencies), Requirement),
        nodes=tuple(filter(None, map(_find_node, dependencies))),
        stand_ins=tuple(_iter_stand_ins(dependencies, overrides)),
        dependants=(dependant, *dependencies) if isinstance(dependant, Dependant) else (),
        # A mount is in no OpenAPI document, and nobody has hidden it.
        is_hidden=not is_in_schema and mounted is None,
        mounted=mounted,
    )


def _find_overrides(route: object, owner: object) -> Mapping[object, object]:
    """Return the table that FastAPI looks into for a route: of the application that the route was made for."""
    providers = (getattr(one, "dependency_overrides_provider", None) for one in (route, owner))
    provider = next(filter(None, providers), owner)
    return getattr(provider, "dependency_overrides", {})


def _iter_stand_ins(dependencies: Iterable[Dependant], overrides: Mapping[object, object]) -> Iterator[object]:
    # Another scheme or requirement is a stand-in too: it admits tokens that the original refuses.
    for dependency in dependencies:
        if overrides.get(dependency.call, dependency.call) != dependency.call and any(
            map(_find_node, [dependency, *_iter_dependencies(dependency)])
        ):
            yield overrides[dependency.call]


def _find_owner(app: object) -> Starlette | Router | None:
    """Give the application that has the routes, with middleware around it or not; `None` of what has none."""
    for _ in range(_MOST_MIDDLEWARE):
        if isinstance(app, Starlette | Router):
            return app
        app = getattr(app, "app", None)
    return None


def list_needs(app: FastAPI) -> dict[tuple[str, str], OperationNeeds]:
    """Return what the protected operations of an application require, by path and method in lower case.

    Each mounted application has its own OpenAPI document.

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
        if route.nodes and route.owner is app
        for method in route.methods
    }


def list_notes(app: FastAPI, *, redirect_path: str | None) -> list[SchemeNotes]:
    """Return the notes on the schemes of an application, one for each name.

    Each mounted application has its own OpenAPI document.

    Args:
        app: The application.
        redirect_path: Where Swagger UI waits for the answer of a sign-in; `None` where there is no such page.
    """
    schemes: dict[str, TokenScheme[Any]] = {}
    for scheme in (scheme for route in iter_routes(app) if route.owner is app for scheme in route.schemes):
        # Of the nodes of one name the plain one knows best.
        if scheme.scheme_name not in schemes or not isinstance(scheme, OrganizationScheme):
            schemes[scheme.scheme_name] = scheme
    return [scheme.build_notes(redirect_path=redirect_path) for scheme in schemes.values()]


def list_scopes(app: FastAPI, *, resource: str) -> frozenset[str]:
    """Return the scopes to request in a token for one resource, so that it opens the routes of an application.

    Routes that the application keeps out of its OpenAPI document are left out: anyone may read the metadata.

    Args:
        app: The application.
        resource: The resource indicator.
    """
    found: set[str] = set()
    for route in (route for route in iter_routes(app) if not route.is_hidden):
        nodes = [node for node in route.nodes if resource in node.scheme.resources]
        scopes = {scope for node in nodes for scope in node.scopes}
        for requirement in route.requirements:
            if resource in requirement.scheme.resources:
                scopes.update(requirement.any_scope)
        if nodes:
            found |= scopes or {SIGN_IN_SCOPE}
    return frozenset(found)


def _build_security(route: FoundRoute) -> list[dict[str, list[str]]]:
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


def _build_refusals(route: FoundRoute) -> list[ForbiddenError]:
    refusals = [refusal for requirement in route.requirements for refusal in requirement.build_refusals()]
    if route.scopes:
        refusals.append(build_scopes_error(route.scopes, missing=route.scopes, granted="another"))
    return refusals


def _unique(values: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(values))


def _pick(calls: Iterable[object], kind: type[PickedT]) -> tuple[PickedT, ...]:
    return tuple(call for call in calls if isinstance(call, kind))


def _iter_dependencies(dependant: Dependant) -> Iterator[Dependant]:
    for dependency in dependant.dependencies:
        yield dependency
        yield from _iter_dependencies(dependency)


def _find_node(dependency: Dependant) -> SchemeNode | None:
    call: Any = dependency.call
    if not issubclass(type(call), TokenScheme | OptionalLogtoAuth):
        return None
    scopes = _unique([*(dependency.parent_oauth_scopes or ()), *(dependency.own_oauth_scopes or ())])
    return SchemeNode(call=call, scopes=tuple(scopes))
