"""List every route of an application and what it requires."""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Literal, TypeAlias

from fastapi import FastAPI

from fastapi_logto.cli.results import CommandError, ExitCode
from fastapi_logto.description.conditions import describe_conditions
from fastapi_logto.description.route_checks import check_routes
from fastapi_logto.description.routes import RouteInfo, find_unknown, find_unlisted, iter_routes, list_required_scopes
from fastapi_logto.errors import SettingsError

Protection: TypeAlias = Literal["required", "optional", "none", "documentation", "allowed", "signature"]
"""Whether a token is required.

`documentation` marks FastAPI's own pages, `allowed` the paths passed with `--allow`, and `signature` the routes for
signed requests of Logto.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class RouteRow:
    """One route.

    Attributes:
        path: Its path.
        methods: Its methods; `WEBSOCKET` or `MOUNT` for routes without methods, `*` for routes that accept all.
        token: Whether a token is required.
        scopes: Scopes that must all be granted.
        needs: Its other requirements, in words.
    """

    path: str
    methods: tuple[str, ...]
    token: Protection
    scopes: tuple[str, ...]
    needs: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class RouteTable:
    """The routes of an application.

    Attributes:
        routes: All routes, in the application's order.
        unprotected: How many routes accept requests without a token and were not allowed to.
        problems: Invalid requirements, with the messages that the application raises at start.
        exit_code: The exit code of the command.
    """

    routes: tuple[RouteRow, ...]
    unprotected: int
    problems: tuple[str, ...]
    exit_code: int

    @property
    def api_routes(self) -> tuple[RouteRow, ...]:
        """The routes without FastAPI's own pages, such as `/docs`."""
        return tuple(route for route in self.routes if route.token != "documentation")  # noqa: S105 - a kind of route


def list_routes(app: object, *, allowed: Collection[str] = (), fails_unprotected: bool = False) -> RouteTable:
    """Return the routes of an application; raise if it has none, or if an allowed path does not exist."""
    found = list(iter_routes(app))
    if not found or found[0].endpoint is app:
        raise CommandError(f"expected a FastAPI application with routes, found {type(app).__name__}")
    rows = tuple(_describe(route, allowed) for route in found)
    unknown = find_unknown(found, allowed)
    if unknown:
        # Otherwise a renamed path would stay in the list unnoticed.
        raise CommandError(f"--allow: expected paths of routes, found {', '.join(unknown)}; remove or correct")
    problems = _find_problems(app)
    unprotected = sum(row.token == "none" for row in rows)  # noqa: S105 - whether a token is needed
    is_failed = bool(problems) or (fails_unprotected and unprotected > 0)
    return RouteTable(
        routes=rows,
        unprotected=unprotected,
        problems=problems,
        exit_code=ExitCode.FAILED if is_failed else ExitCode.FINE,
    )


def _describe(route: RouteInfo, allowed: Collection[str]) -> RouteRow:
    kinds = {"websocket": ("WEBSOCKET",), "application": ("MOUNT",), "http": ("*",)}
    return RouteRow(
        path=route.path,
        methods=tuple(sorted(route.methods)) or kinds[route.kind],
        token=_describe_token(route, allowed),
        scopes=list_required_scopes(route),
        needs=tuple(
            dict.fromkeys(line for requirement in route.requirements for line in describe_conditions(requirement))
        ),
    )


def _describe_token(route: RouteInfo, allowed: Collection[str]) -> Protection:
    if route.calls and not route.is_overridden:
        return "optional" if route.is_optional else "required"
    if route.is_own_page:
        return "documentation"
    if route.is_signed:
        return "signature"
    return "none" if find_unlisted(route, allowed) else "allowed"


def _find_problems(app: object) -> tuple[str, ...]:
    if not isinstance(app, FastAPI):
        return ()
    try:
        check_routes(app)
    except SettingsError as error:
        return tuple(str(error).splitlines())
    return ()
