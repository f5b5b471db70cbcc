"""Report which routes of an application are protected, and how."""

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from typing import Any

from starlette.types import ASGIApp

from fastapi_logto.description.routes import FoundRoute, iter_routes
from fastapi_logto.requirements import Requirement
from fastapi_logto.testing.overriding import Entry

__all__ = ["RouteInfo", "assert_protected", "routes"]


@dataclass(frozen=True, slots=True, kw_only=True)
class RouteInfo:
    """One route of an application and its requirements.

    Attributes:
        path: Its full path, including the prefixes of mounts and routers: `/v1/users/{user_id}`.
        methods: Its HTTP methods; empty for a WebSocket or a mounted app, or if all methods are accepted.
        is_websocket: Whether it is a WebSocket route.
        is_foreign: Whether it is a mounted app, such as `StaticFiles`, whose routes can't be inspected.
        is_own_page: Whether it documents the API: FastAPI's docs pages and `/openapi.json`, and the metadata that
            `auth.install(app)` serves.
        requirements: The requirements among its dependencies, those of its parents, and their sub-dependencies.
        scopes: The scopes that must all be granted, from requirements or from `Security(auth, scopes=[...])`.
        schemes: The schemes that return the claims, as in `auth.schemes`.
        is_protected: Whether a valid token is always required.
        is_overridden: Whether `app.dependency_overrides` replaces one of its checks, even with another scheme or
            requirement, which would accept other tokens. The route is then not protected. `override` of this package
            does not count.
        is_optional: Whether it depends on `auth.optional` and so accepts requests without a token.
    """

    path: str
    methods: frozenset[str]
    is_websocket: bool
    is_foreign: bool
    is_own_page: bool
    requirements: tuple[Requirement[Any], ...]
    scopes: frozenset[str]
    schemes: tuple[Callable[..., Any], ...]
    is_protected: bool
    is_overridden: bool
    is_optional: bool

    @property
    def names(self) -> frozenset[str]:
        """The names for `assert_protected`: its path, and each of its methods followed by the path."""
        kinds = {"WEBSOCKET"} if self.is_websocket else self.methods
        return frozenset({self.path, *(f"{kind} {self.path}" for kind in kinds)})

    def __str__(self) -> str:
        """Return its methods and path."""
        kind = "WEBSOCKET" if self.is_websocket else ",".join(sorted(self.methods)) or "*"
        return f"{kind} {self.path}"


def routes(app: ASGIApp) -> tuple[RouteInfo, ...]:
    """Return the routes of an application and its mounted apps, also below middleware, with their requirements.

    Checks inside a dependency, e.g. with `await auth.verify(token)`, can't be inspected. Neither can a middleware
    that responds by itself.

    Args:
        app: The application.
    """
    return tuple(map(_describe, iter_routes(app)))


def assert_protected(app: ASGIApp, *, except_: Collection[str] = ()) -> None:
    """Fail if a route accepts requests without a valid token.

    ```python
    def test_every_route_is_protected():
        assert_protected(app, except_=["/health", "GET /news"])
    ```

    WebSocket routes, routes of mounted apps, plain Starlette routes, and mounted apps that can't be inspected, such as
    `StaticFiles`, are all checked. `auth.optional` does not protect a route. Routes that document the API need not be
    listed: FastAPI's own `/docs`, `/redoc`, `/openapi.json` and `/docs/oauth2-redirect`, and the metadata that
    `auth.install(app)` serves.

    Args:
        app: The application.
        except_: The routes that may be unprotected: a path, or a method and a path (`WEBSOCKET` for WebSockets).

    Raises:
        AssertionError: A route is unprotected but not listed, or listed but not found; the message names it.
        TypeError: `except_` is a string instead of a collection.
    """
    if isinstance(except_, str):
        msg = f"except_: expected a list of paths, found the string {except_!r}"
        raise TypeError(msg)
    found = routes(app)
    named = {name for route in found for name in route.names}
    problems = [*_find_open(found, except_), *(f"no such route: {name}" for name in except_ if name not in named)]
    if problems:
        lines = "\n  ".join(problems)
        raise AssertionError(
            f"expected every route to require a token, found:\n  {lines}\n"
            "Add a dependency on auth or auth.require_scopes(...), or list public routes in except_."
        )


def _find_open(found: Collection[RouteInfo], allowed: Collection[str]) -> Iterator[str]:
    for route in found:
        if route.is_protected or route.is_own_page or route.path in allowed:
            continue
        # Without the plain path in the list, each of its methods must be listed.
        listed = frozenset(route.methods if not route.is_websocket else {"WEBSOCKET"})
        left = sorted(kind for kind in listed if f"{kind} {route.path}" not in allowed)
        # A GET route responds to HEAD too.
        if left == ["HEAD"] and f"GET {route.path}" in allowed:
            continue
        if left or not listed:
            why = (
                "mounted app: its routes can't be inspected"
                if route.is_foreign
                else "its token check is replaced in app.dependency_overrides"
                if route.is_overridden
                else "the token is optional"
                if route.is_optional
                else "no token required"
            )
            yield f"{','.join(left) or '*'} {route.path}: {why}"


def _describe(route: FoundRoute) -> RouteInfo:
    # An entry of `override` does not count; the entry that it replaced does.
    is_overridden = any(not isinstance(one, Entry) or one.before is not None for one in route.stand_ins)
    return RouteInfo(
        path=route.path,
        methods=route.methods,
        is_websocket=route.kind == "websocket",
        is_foreign=route.kind == "application",
        is_own_page=route.is_own_page,
        requirements=tuple(dict.fromkeys(route.requirements)),
        scopes=frozenset(route.scopes),
        schemes=tuple(dict.fromkeys(node.call for node in route.nodes)),
        is_protected=route.is_protected and not is_overridden,
        is_overridden=is_overridden,
        is_optional=route.is_optional,
    )
