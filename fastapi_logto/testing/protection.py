"""Report which routes of an application are protected, and how."""

from collections.abc import Collection, Iterator

from starlette.types import ASGIApp

from fastapi_logto.description.routes import RouteInfo, find_unknown, find_unlisted, iter_routes


def routes(app: ASGIApp) -> tuple[RouteInfo, ...]:
    """Return the routes of an application and its mounted apps, also below middleware, with their requirements.

    Checks inside a dependency, e.g. with `await auth.verify(token)`, can't be inspected. Neither can a middleware
    or a `route_class` that responds by itself.

    Args:
        app: The application.
    """
    return tuple(iter_routes(app))


def assert_protected(app: ASGIApp, *, except_: Collection[str] = ()) -> None:
    """Fail if a route accepts requests without a valid token.

    ```python
    def test_every_route_is_protected():
        assert_protected(app, except_=["/health", "GET /news"])
    ```

    WebSocket routes, routes of mounted apps, plain Starlette routes, and mounted apps that can't be inspected, such as
    `StaticFiles`, are all checked. `auth.optional` does not protect a route. Routes that document the API are exempt:
    FastAPI's own `/docs`, `/redoc`, `/openapi.json` and `/docs/oauth2-redirect`, and the metadata that
    `auth.install(app)` serves. So are the routes of `Revocations.webhooks` and `Revocations.logout`, which accept only
    signed requests of Logto.

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
    problems = [*_find_open(found, except_), *(f"no such route: {name}" for name in find_unknown(found, except_))]
    if problems:
        lines = "\n  ".join(problems)
        raise AssertionError(
            f"expected every route to require a token, found:\n  {lines}\n"
            "Add a dependency on auth or auth.require_scopes(...), or list public routes in except_."
        )


def _find_open(found: Collection[RouteInfo], allowed: Collection[str]) -> Iterator[str]:
    for route in found:
        if route.is_protected or route.is_own_page or route.is_signed:
            continue
        kinds = find_unlisted(route, allowed)
        if kinds:
            yield f"{','.join(kinds)} {route.path}: {_explain(route)}"


def _explain(route: RouteInfo) -> str:
    if route.kind == "application":
        return "mounted app: its routes can't be inspected"
    if route.is_overridden:
        return "its token check is replaced in app.dependency_overrides"
    return "the token is optional" if route.is_optional else "no token required"
