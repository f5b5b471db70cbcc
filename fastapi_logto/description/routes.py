"""The requirements of an application's routes, read from the dependencies that FastAPI has analyzed."""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal, TypeVar

from fastapi import FastAPI, routing
from fastapi.dependencies.models import Dependant
from starlette.applications import Starlette
from starlette.routing import Host, Mount, Route, Router, WebSocketRoute

from fastapi_logto.description.openapi import SIGN_IN_SCOPE, OperationNeeds, SchemeNotes
from fastapi_logto.errors import ForbiddenError
from fastapi_logto.requirements import Requirement
from fastapi_logto.resource_auth import OptionalLogtoAuth
from fastapi_logto.schemes import OrganizationScheme, TokenScheme
from fastapi_logto.verification.checks import build_scopes_error

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
"""The attribute of an endpoint that forwards its requests to a mounted application."""

MOUNTED_PATH: Final = "mounted_path"
"""The path parameter of such an endpoint: the path below the mount."""

_CONVERTOR: Final = re.compile(r":\w+\}")
_MOST_MIDDLEWARE: Final = 20
_MOST_ALTERNATIVES: Final = 16
_OWN_PAGES: Final = (
    "fastapi.applications.FastAPI.setup.<locals>.",
    "fastapi_logto.description.metadata_pages.ResourcePages.serve",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class SchemeNode:
    """One place among the dependencies of a route where a scheme is called.

    Attributes:
        call: The dependency that FastAPI calls: the scheme, or its optional variant.
        scopes: The scopes that are all required there.
    """

    call: TokenScheme[Any] | OptionalLogtoAuth[Any]
    scopes: tuple[str, ...]

    @property
    def scheme(self) -> TokenScheme[Any]:
        """The scheme."""
        return find_scheme(self.call)

    @property
    def is_optional(self) -> bool:
        """Whether requests without a token are allowed. If scopes are required, they are not."""
        return isinstance(self.call, OptionalLogtoAuth) and not self.scopes


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundRoute:
    """One place where a request may end, whether it is FastAPI's or not, and the requirements of its dependencies.

    Attributes:
        path: The full path, including prefixes of mounts and routers.
        methods: The HTTP methods; empty for a WebSocket or an application, and if all methods are allowed.
        kind: `http` or `websocket` for a route; `application` for an application whose routes can't be inspected.
        endpoint: The function or application that is called.
        owner: The application or router to which the route belongs.
        requirements: The requirements among its dependencies and their dependencies.
        nodes: The places where these, or the route itself, call a scheme.
        stand_ins: The replacements in `app.dependency_overrides` for one of these, or for a dependency that calls them.
        dependants: The route as FastAPI analyzed it, and each of its dependencies.
        is_hidden: Whether the application omits the route from its OpenAPI document (`include_in_schema=False`).
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
        """The schemes that are called, with repetitions."""
        return tuple(node.scheme for node in self.nodes)

    @property
    def scopes(self) -> tuple[str, ...]:
        """The scopes that are all required, by requirements or by FastAPI's own `Security(auth, scopes=[...])`."""
        return tuple(_unique(scope for node in self.nodes for scope in node.scopes))

    @property
    def is_protected(self) -> bool:
        """Whether every request needs a valid token."""
        return any(not node.is_optional for node in self.nodes)

    @property
    def is_optional(self) -> bool:
        """Whether a scheme is called, but requests without a token are allowed too."""
        return bool(self.nodes) and not self.is_protected

    @property
    def is_own_page(self) -> bool:
        """Whether the route is open because it describes the API: FastAPI's docs pages, the resource metadata."""
        # Functions only: an application in place of a route has the module of its class.
        name = getattr(self.endpoint, "__qualname__", None)
        return name is not None and f"{getattr(self.endpoint, '__module__', '')}.{name}".startswith(_OWN_PAGES)


def find_scheme(call: TokenScheme[Any] | OptionalLogtoAuth[Any]) -> TokenScheme[Any]:
    """Return the scheme of a dependency; for the optional variant, the scheme that it uses."""
    return call.auth if isinstance(call, OptionalLogtoAuth) else call


def iter_routes(app: object, *, prefix: str = "") -> Iterator[FoundRoute]:
    """Yield all places of an application where a request may end, prefixed with `prefix`.

    Mounted applications are included, also below middleware.
    """
    owner = _find_owner(app)
    if owner is None:
        yield FoundRoute(path=prefix or "/", methods=frozenset(), kind="application", endpoint=app, owner=None)
        return
    # Newer versions of FastAPI include routers lazily: only this function returns these routes.
    iter_contexts: Any = getattr(routing, "iter_route_contexts", iter)
    for route in iter_contexts(owner.routes):
        original = getattr(route, "original_route", route)
        path = getattr(route, "path", None) or ""
        if isinstance(original, Mount | Host):
            yield from iter_routes(original.app, prefix=prefix + _CONVERTOR.sub("}", path))
            continue
        endpoint = getattr(route, "endpoint", None)
        # An application may take the place of a route, and then handles all its requests.
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
        # Starlette's default application handles requests that match no route.
        yield FoundRoute(
            path=prefix + "/{path}", methods=frozenset(), kind="application", endpoint=router.default, owner=owner
        )


def _iter_frontends(owner: Starlette | Router, *, prefix: str) -> Iterator[FoundRoute]:
    """Yield the files that newer versions of FastAPI serve if no route matches. They are not in the list of routes."""
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
                # Files are never in the OpenAPI document, so that does not mean that they are hidden.
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
        # A mount is never in the OpenAPI document, so that does not mean that it is hidden.
        is_hidden=not is_in_schema and mounted is None,
        mounted=mounted,
    )


def _find_overrides(route: object, owner: object) -> Mapping[object, object]:
    """Return the override table that FastAPI uses for a route: that of the application which created the route."""
    providers = (getattr(one, "dependency_overrides_provider", None) for one in (route, owner))
    provider = next(filter(None, providers), owner)
    return getattr(provider, "dependency_overrides", {})


def _iter_stand_ins(dependencies: Iterable[Dependant], overrides: Mapping[object, object]) -> Iterator[object]:
    # Another scheme or requirement is also reported: it may accept tokens that the original rejects.
    for dependency in dependencies:
        if overrides.get(dependency.call, dependency.call) != dependency.call and any(
            map(_find_node, [dependency, *_iter_dependencies(dependency)])
        ):
            yield overrides[dependency.call]


def _find_owner(app: object) -> Starlette | Router | None:
    """Return the application or router that has the routes, also below middleware; `None` if there is none."""
    for _ in range(_MOST_MIDDLEWARE):
        if isinstance(app, Starlette | Router):
            return app
        app = getattr(app, "app", None)
    return None


def list_needs(app: FastAPI) -> dict[tuple[str, str], OperationNeeds]:
    """Return the requirements of an application's protected operations, by path and method in lower case.

    Mounted applications are not included: each has its own OpenAPI document.
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

    Mounted applications are not included: each has its own OpenAPI document. `redirect_path` is the redirect path of
    Swagger UI; `None` if there is no docs page.
    """
    schemes: dict[str, TokenScheme[Any]] = {}
    for scheme in (scheme for route in iter_routes(app) if route.owner is app for scheme in route.schemes):
        # If several have the same name, the plain scheme has the most complete notes.
        if scheme.scheme_name not in schemes or not isinstance(scheme, OrganizationScheme):
            schemes[scheme.scheme_name] = scheme
    return [scheme.build_notes(redirect_path=redirect_path) for scheme in schemes.values()]


def list_scopes(app: FastAPI, *, resource: str) -> frozenset[str]:
    """Return the scopes that a token for one resource needs to call the routes of an application.

    Routes that the application omits from its OpenAPI document are skipped, because anyone may read the metadata.
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
    """Return the required schemes and scopes of a route. If there are several entries, one of them is enough."""
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
