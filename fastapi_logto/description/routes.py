"""The routes of an application and what they require, read from the dependencies that FastAPI has analyzed."""

import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from fastapi import routing
from fastapi.dependencies.models import Dependant
from starlette.applications import Starlette
from starlette.routing import Host, Mount, Route, Router, WebSocketRoute

from fastapi_logto.alternatives import AlternativeScheme
from fastapi_logto.requirements import Requirement
from fastapi_logto.revocation.logout import LogoutReceiver
from fastapi_logto.revocation.webhooks import WebhookReceiver
from fastapi_logto.schemes import AnyScheme, OptionalScheme, TokenScheme, find_resources

MOUNTED_ATTRIBUTE: Final = "__fastapi_logto_mounted__"
"""The attribute of an endpoint that forwards its requests to a mounted application."""

MOUNTED_PATH: Final = "mounted_path"
"""The path parameter of such an endpoint: the path below the mount."""

NO_SCOPE: Final = "profile"
"""Logto denies a sign-in that would grant no scope. If a client requests only this one, its token has no permission."""

IDENTITY_SCOPE: Final = "openid"
"""Logto issues an opaque token if a client requests this scope and its token request names no resource."""

_CONVERTOR: Final = re.compile(r":\w+\}")
_MOST_MIDDLEWARE: Final = 20
_OWN_PAGES: Final = (
    "fastapi.applications.FastAPI.setup.<locals>.",
    "fastapi_logto.description.metadata_pages.ResourcePages.serve",
)


class TestOverride:
    """A replacement in `app.dependency_overrides` that keeps the checks of a route, as that of the test kit does.

    Attributes:
        before: The replacement before it, which applies outside of the test.
    """

    __test__ = False

    before: Callable[..., Any] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SchemeCall:
    """A scheme among the dependencies of a route, and the scopes required there.

    Attributes:
        scheme: The dependency that FastAPI calls, as in `auth.schemes`.
        scopes: The scopes that are all required there.
    """

    scheme: AnyScheme[Any]
    scopes: tuple[str, ...]

    @property
    def is_optional(self) -> bool:
        """Whether requests without a token are allowed. If scopes are required, they are not."""
        return isinstance(self.scheme, OptionalScheme) and not self.scopes


@dataclass(frozen=True, slots=True, kw_only=True)
class RouteInfo:
    """A route or a mounted application, of FastAPI or Starlette, and what it requires of the caller.

    Attributes:
        path: Its full path, including the prefixes of mounts and routers: `/v1/users/{user_id}`.
        methods: Its HTTP methods; empty for a WebSocket or an application, and if all methods are accepted.
        kind: `http` or `websocket` for a route; `application` for a mounted app, such as `StaticFiles`, whose routes
            can't be inspected.
        endpoint: The function or application that is called.
        owner: The application or router to which the route belongs; `None` if there is none.
        requirements: The requirements among its dependencies, including those of its routers and sub-dependencies.
        calls: The schemes among these dependencies, with the scopes required at each place.
        is_overridden: Whether `app.dependency_overrides` replaces one of its checks, even with another scheme or
            requirement, which would accept other tokens. The route is then not protected. `override` of
            `fastapi_logto.testing` does not count.
        is_hidden: Whether the application omits it from its OpenAPI document (`include_in_schema=False`).
        mounted: The application that `mount_protected` mounted here; otherwise `None`.
    """

    path: str
    methods: frozenset[str]
    kind: Literal["http", "websocket", "application"]
    endpoint: object
    owner: object
    requirements: tuple[Requirement[Any], ...] = ()
    calls: tuple[SchemeCall, ...] = ()
    is_overridden: bool = False
    is_hidden: bool = False
    mounted: object = None
    _dependants: tuple[Dependant, ...] = field(default=(), repr=False)

    @property
    def scopes(self) -> frozenset[str]:
        """The scopes that are all required, by requirements or by FastAPI's own `Security(auth, scopes=[...])`."""
        return frozenset(list_required_scopes(self))

    @property
    def schemes(self) -> tuple[AnyScheme[Any], ...]:
        """The schemes that return the claims, as in `auth.schemes`."""
        return tuple(dict.fromkeys(call.scheme for call in self.calls))

    @property
    def is_protected(self) -> bool:
        """Whether a valid token is always required."""
        return not self.is_overridden and any(not call.is_optional for call in self.calls)

    @property
    def is_optional(self) -> bool:
        """Whether it depends on `auth.optional` and so accepts requests without a token."""
        return bool(self.calls) and all(call.is_optional for call in self.calls)

    @property
    def is_own_page(self) -> bool:
        """Whether it documents the API: FastAPI's docs pages and `/openapi.json`, and the metadata pages."""
        # Functions only: an application in place of a route has the module of its class.
        name = getattr(self.endpoint, "__qualname__", "")
        return f"{getattr(self.endpoint, '__module__', '')}.{name}".startswith(_OWN_PAGES)

    @property
    def is_signed(self) -> bool:
        """Whether it accepts only signed requests of Logto, like those of `Revocations.webhooks` and `.logout`."""
        return find_receiver(self) is not None

    @property
    def names(self) -> frozenset[str]:
        """The names that a list of public routes can use for it: its path, or a method and the path."""
        kinds = {"WEBSOCKET"} if self.kind == "websocket" else self.methods
        return frozenset({self.path, *(f"{kind} {self.path}" for kind in kinds)})

    def __str__(self) -> str:
        """Return its methods and path."""
        kind = "WEBSOCKET" if self.kind == "websocket" else ",".join(sorted(self.methods)) or "*"
        return f"{kind} {self.path}"


def list_required_scopes(route: RouteInfo) -> tuple[str, ...]:
    """Return the scopes that are all required, in the order of the dependencies."""
    return tuple(dict.fromkeys(scope for call in route.calls for scope in call.scopes))


def find_dependants(route: RouteInfo) -> tuple[Dependant, ...]:
    """Return a route as FastAPI analyzed it, and each of its dependencies."""
    return route._dependants  # noqa: SLF001 # pyright: ignore[reportPrivateUsage] - of this module


def find_receiver(route: RouteInfo) -> WebhookReceiver | LogoutReceiver | None:
    """Return what receives the signed requests of a route; `None` if it is not such a route."""
    receiver = getattr(route.endpoint, "__self__", None)
    return receiver if isinstance(receiver, WebhookReceiver | LogoutReceiver) else None


def iter_routes(app: object, *, prefix: str = "") -> Iterator[RouteInfo]:
    """Yield all places of an application where a request may end, prefixed with `prefix`.

    Mounted applications are included, also below middleware.
    """
    owner = _find_owner(app)
    if owner is None:
        yield RouteInfo(path=prefix or "/", methods=frozenset(), kind="application", endpoint=app, owner=None)
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
        yield RouteInfo(
            path=prefix + "/{path}", methods=frozenset(), kind="application", endpoint=router.default, owner=owner
        )


def _iter_frontends(owner: Starlette | Router, *, prefix: str) -> Iterator[RouteInfo]:
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
) -> RouteInfo:
    dependencies = list(_iter_dependencies(dependant)) if isinstance(dependant, Dependant) else []
    mounted = getattr(endpoint, MOUNTED_ATTRIBUTE, None)
    return RouteInfo(
        path=path,
        methods=methods,
        kind=kind,
        endpoint=endpoint,
        owner=owner,
        requirements=tuple(dict.fromkeys(filter(None, map(_find_requirement, dependencies)))),
        calls=tuple(filter(None, map(_find_call, dependencies))),
        is_overridden=any(map(_removes_checks, _iter_overrides(dependencies, overrides))),
        _dependants=(dependant, *dependencies) if isinstance(dependant, Dependant) else (),
        # A mount is never in the OpenAPI document, so that does not mean that it is hidden.
        is_hidden=not is_in_schema and mounted is None,
        mounted=mounted,
    )


def _find_overrides(route: object, owner: object) -> Mapping[object, object]:
    """Return the override table that FastAPI uses for a route: that of the application which created the route."""
    providers = (getattr(one, "dependency_overrides_provider", None) for one in (route, owner))
    provider = next(filter(None, providers), owner)
    return getattr(provider, "dependency_overrides", {})


def _iter_overrides(dependencies: Iterable[Dependant], overrides: Mapping[object, object]) -> Iterator[object]:
    """Yield the replacements for schemes, requirements, and dependencies that call one of them."""
    # Another scheme or requirement is also yielded: it may accept tokens that the original rejects.
    for dependency in dependencies:
        below = list(_iter_dependencies(dependency))
        is_check = any(map(_find_call, [dependency, *below]))
        # These check other credentials.
        others = below if issubclass(type(dependency.call), AlternativeScheme) else []
        for checked in [dependency, *others] if is_check else []:
            if overrides.get(checked.call, checked.call) != checked.call:
                yield overrides[checked.call]


def _removes_checks(override: object) -> bool:
    return not isinstance(override, TestOverride) or override.before is not None


def _find_owner(app: object) -> Starlette | Router | None:
    """Return the application or router that has the routes, also below middleware; `None` if there is none."""
    for _ in range(_MOST_MIDDLEWARE):
        if isinstance(app, Starlette | Router):
            return app
        app = getattr(app, "app", None)
    return None


def find_unlisted(route: RouteInfo, public: Collection[str]) -> list[str]:
    """Return the kinds of requests to a route that a list of public routes does not name: methods, `WEBSOCKET` or `*`.

    The list names routes as `RouteInfo.names` does.
    """
    if route.path in public:
        return []
    kinds = {"WEBSOCKET"} if route.kind == "websocket" else route.methods or {"*"}
    left = sorted(kind for kind in kinds if f"{kind} {route.path}" not in public)
    # A GET route responds to HEAD too.
    return [] if left == ["HEAD"] and f"GET {route.path}" in public else left


def find_unknown(routes: Iterable[RouteInfo], public: Collection[str]) -> list[str]:
    """Return the entries of a list of public routes that name none of the routes, e.g. after one was renamed."""
    names = {name for route in routes for name in route.names}
    return sorted(name for name in public if name not in names)


def list_scopes(app: object, *, resource: str) -> frozenset[str]:
    """Return the scopes that a token for one resource needs to call the routes of an application.

    Routes that the application omits from its OpenAPI document are skipped, because anyone may read the metadata.
    """
    found: set[str] = set()
    for route in (route for route in iter_routes(app) if not route.is_hidden):
        calls = [call for call in route.calls if resource in find_resources(call.scheme)]
        scopes = {scope for call in calls for scope in call.scopes}
        for requirement in route.requirements:
            if resource in find_resources(requirement.scheme):
                scopes.update(requirement.any_scope)
        if calls:
            found |= scopes or {NO_SCOPE}
    return frozenset(found)


def _iter_dependencies(dependant: Dependant) -> Iterator[Dependant]:
    for dependency in dependant.dependencies:
        yield dependency
        yield from _iter_dependencies(dependency)


def _find_requirement(dependency: Dependant) -> Requirement[Any] | None:
    call: Any = dependency.call
    return call if issubclass(type(call), Requirement) else None


def _find_call(dependency: Dependant) -> SchemeCall | None:
    call: Any = dependency.call
    if not issubclass(type(call), TokenScheme | OptionalScheme):
        return None
    scopes = [*(dependency.parent_oauth_scopes or ()), *(dependency.own_oauth_scopes or ())]
    # Plain texts: FastAPI passes on what the application wrote, which may be the member of an enum.
    return SchemeCall(scheme=call, scopes=tuple(dict.fromkeys(map(str.__str__, scopes))))
