"""Which routes of an application are protected, and by what."""

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from typing import Any

from starlette.types import ASGIApp

from fastapi_logto.requirements import Requirement
from fastapi_logto.routes import FoundRoute, iter_routes
from fastapi_logto.testing.overriding import Entry

__all__ = ["RouteInfo", "assert_protected", "routes"]


@dataclass(frozen=True, slots=True, kw_only=True)
class RouteInfo:
    """One route of an application, and what it asks of its callers.

    Attributes:
        path: Its path, with what it is mounted or included under: `/v1/users/{user_id}`.
        methods: Its HTTP methods; none for a WebSocket or a mounted application, or where all are let through.
        is_websocket: Whether it is for WebSockets.
        is_foreign: Whether it is a mounted application, such as `StaticFiles`, whose routes can't be seen.
        is_own_page: Whether it tells of the API: FastAPI's docs pages and `/openapi.json`, and the metadata that
            `auth.install(app)` serves.
        requirements: The requirements among its dependencies and those of what is above it, and among theirs.
        scopes: The scopes that must all be granted, by requirements or by `Security(auth, scopes=[...])`.
        schemes: The schemes that give the claims, as in `auth.schemes`.
        is_protected: Whether nobody gets in without a good token.
        is_overridden: Whether `app.dependency_overrides` replaces one of its checks, even by another scheme or
            requirement, which would admit other tokens. The route is not protected then. `override` of this package
            does not count.
        is_optional: Whether it asks `auth.optional` and so lets in who brings no token at all.
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
        """What `assert_protected` may call it: its path, and its path after each of its methods."""
        kinds = {"WEBSOCKET"} if self.is_websocket else self.methods
        return frozenset({self.path, *(f"{kind} {self.path}" for kind in kinds)})

    def __str__(self) -> str:
        """Give its methods and path."""
        kind = "WEBSOCKET" if self.is_websocket else ",".join(sorted(self.methods)) or "*"
        return f"{kind} {self.path}"


def routes(app: ASGIApp) -> tuple[RouteInfo, ...]:
    """Give the routes of an application and of those mounted in it, below middleware too, with what each asks.

    What a dependency checks by itself, with `await auth.verify(token)` say, can't be seen; neither can a middleware
    that answers by itself.

    Args:
        app: The application.
    """
    return tuple(map(_describe, iter_routes(app)))


def assert_protected(app: ASGIApp, *, except_: Collection[str] = ()) -> None:
    """Fail where a route lets somebody in without a good token.

    ```python
    def test_every_route_is_protected():
        assert_protected(app, except_=["/health", "GET /news"])
    ```

    Routes for WebSockets count, those of mounted applications, plain ones of Starlette, and mounted applications
    that can't be seen into, such as `StaticFiles`. `auth.optional` protects nothing. What tells of the API need
    not be listed: FastAPI's own `/docs`, `/redoc`, `/openapi.json` and `/docs/oauth2-redirect`, and the metadata
    that `auth.install(app)` serves.

    Args:
        app: The application.
        except_: The routes that are meant to be open: a path, or a method and a path (`WEBSOCKET` for those).

    Raises:
        AssertionError: Some are open and not listed, or listed and not there; it names them.
        TypeError: `except_` is a text instead of a collection.
    """
    if isinstance(except_, str):
        msg = f"expected a list of paths, found the text {except_!r}"
        raise TypeError(msg)
    found = routes(app)
    named = {name for route in found for name in route.names}
    problems = [*_find_open(found, except_), *(f"no such route: {name}" for name in except_ if name not in named)]
    if problems:
        lines = "\n  ".join(problems)
        raise AssertionError(
            f"expected every route to ask for a token, found:\n  {lines}\n"
            "Let them depend on auth or auth.require_scopes(...), or list those that are meant to be open in except_."
        )


def _find_open(found: Collection[RouteInfo], allowed: Collection[str]) -> Iterator[str]:
    for route in found:
        if route.is_protected or route.is_own_page or route.path in allowed:
            continue
        # All its methods must be listed where they are listed one by one.
        listed = frozenset(route.methods if not route.is_websocket else {"WEBSOCKET"})
        left = sorted(kind for kind in listed if f"{kind} {route.path}" not in allowed)
        # A route of GET answers HEAD too.
        if left == ["HEAD"] and f"GET {route.path}" in allowed:
            continue
        if left or not listed:
            why = (
                "a mounted application, which can't be seen into"
                if route.is_foreign
                else "what asks for a token is overridden in app.dependency_overrides"
                if route.is_overridden
                else "sign-in is optional"
                if route.is_optional
                else "asks for nothing"
            )
            yield f"{','.join(left) or '*'} {route.path}: {why}"


def _describe(route: FoundRoute) -> RouteInfo:
    # An entry of `override` gives way to what stood in its place before.
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
