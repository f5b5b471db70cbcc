"""Which routes are open, and what each route requires."""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, cast

import pytest
from fastapi import APIRouter, Depends, FastAPI, Security, WebSocket
from starlette.applications import Starlette
from starlette.middleware.gzip import GZipMiddleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import BaseRoute, Host, Mount, Route, Router, WebSocketRoute
from starlette.staticfiles import StaticFiles
from starlette.testclient import TestClient
from starlette.types import Receive, Scope, Send

from fastapi_logto import LogtoAuth, TokenClaims, mount_protected
from fastapi_logto.testing import LocalIssuer, assert_protected, claims, override, routes

HERE = Path(__file__).parent


@pytest.fixture
def auth() -> LogtoAuth:
    return LocalIssuer().auth()


async def answer(_request: Request) -> Response:
    return PlainTextResponse("")


async def foreign(_scope: Scope, _receive: Receive, _send: Send) -> None: ...


def give() -> bool:
    return True


def build_app(auth: LogtoAuth) -> FastAPI:
    """Return an application with every kind of protected route, and no other one."""
    app = FastAPI()
    app.get("/plain", dependencies=[Depends(auth)])(give)
    app.get("/scoped", dependencies=[Depends(auth.require_scopes("read:user"))])(give)
    app.post("/security", dependencies=[Security(auth, scopes=["write:user"])])(give)
    app.get("/both", dependencies=[Security(auth.optional, scopes=["read:user"])])(give)
    app.get("/of/{organization_id}", dependencies=[Depends(auth.require_organization("read:member"))])(give)
    router = APIRouter(prefix="/router", dependencies=[Depends(auth.require_any_scope("a", "b"))])
    router.get("/inside")(give)
    app.include_router(router, prefix="/v1")

    @app.websocket("/echo")
    async def echo(websocket: WebSocket, claims: Annotated[TokenClaims, Depends(auth)]) -> None: ...

    def ask(claims: Annotated[TokenClaims, Depends(auth)]) -> str:
        return claims.user_id

    app.get("/deep", dependencies=[Depends(ask)])(give)
    app.get("/deep/scoped", dependencies=[Security(ask, scopes=["read:user"])])(give)
    inner = FastAPI(dependencies=[Depends(auth)])
    inner.get("/inner")(give)
    app.mount("/mounted", GZipMiddleware(inner))
    return app


def failures(app: Any, *, except_: Any = ()) -> list[str]:
    with pytest.raises(AssertionError) as caught:
        assert_protected(app, except_=except_)
    first, *lines, last = str(caught.value).splitlines()
    assert first == "expected every route to require a token, found:"
    assert last.startswith("Add a dependency on auth")
    return [line.strip() for line in lines]


def test_an_application_whose_routes_are_all_protected_passes(auth: LogtoAuth) -> None:
    assert_protected(build_app(auth))


def test_what_is_mounted_behind_a_requirement_is_protected(auth: LogtoAuth) -> None:
    app = FastAPI()
    mount_protected(app, path="/files", mounted=StaticFiles(directory=HERE), requires=auth.require_scopes("files"))

    assert_protected(app)

    found = {str(route): route for route in routes(app) if not route.is_own_page}
    assert set(found) == {
        "DELETE,GET,HEAD,OPTIONS,PATCH,POST,PUT /files",
        "DELETE,GET,HEAD,OPTIONS,PATCH,POST,PUT /files/{mounted_path}",
        "WEBSOCKET /files",
        "WEBSOCKET /files/{mounted_path}",
    }
    assert {(route.scopes, route.is_hidden) for route in found.values()} == {(frozenset({"files"}), False)}


def test_pages_that_describe_the_api_are_open(auth: LogtoAuth) -> None:
    app = build_app(auth)
    auth.install(app)

    assert_protected(app)

    own = {route.path for route in routes(app) if route.is_own_page and not route.is_protected}
    assert "/.well-known/oauth-protected-resource" in own


def add_open(app: FastAPI, _: LogtoAuth) -> None:
    app.get("/open")(give)


def add_open_head(app: FastAPI, _: LogtoAuth) -> None:
    app.head("/open")(give)


def add_optional(app: FastAPI, auth: LogtoAuth) -> None:
    app.get("/open", dependencies=[Depends(auth.optional)])(give)


def add_websocket(app: FastAPI, _: LogtoAuth) -> None:
    @app.websocket("/open")
    async def echo(websocket: WebSocket) -> None: ...


def add_mounted(app: FastAPI, _: LogtoAuth) -> None:
    inner = FastAPI()
    inner.get("/open")(give)
    app.mount("/v2", GZipMiddleware(inner))


def add_route(*added: BaseRoute) -> Callable[[FastAPI, LogtoAuth], None]:
    return lambda app, _: app.router.routes.extend(added)


def add_host(app: FastAPI, _: LogtoAuth) -> None:
    inner = FastAPI(openapi_url=None)
    inner.get("/open")(give)
    app.router.routes.append(Host("other.example.test", inner))


def add_application_as_endpoint(app: FastAPI, _: LogtoAuth) -> None:
    inner = FastAPI(openapi_url=None)
    inner.get("/admin/users")(give)
    app.add_route("/admin/{rest:path}", cast("Any", inner))


def add_default(app: FastAPI, _: LogtoAuth) -> None:
    app.mount("/rest", Router(default=foreign))


def add_own_default(app: FastAPI, _: LogtoAuth) -> None:
    app.router.default = foreign


def add_unknown_application(app: FastAPI, _: LogtoAuth) -> None:
    class Unknown:
        """An application with routes like those of Starlette, which is not a Starlette application."""

        routes: list[BaseRoute]

        def __init__(self) -> None:
            self.routes = []

        async def __call__(self, _scope: Scope, _receive: Receive, _send: Send) -> None: ...

    app.mount("/unknown", Unknown())


def add_health(app: FastAPI, auth: LogtoAuth) -> None:
    app.get("/health")(auth.health)


def add_own_docs(app: FastAPI, _: LogtoAuth) -> None:
    app.get("/docs/mine")(give)


class Odd(BaseRoute):
    """An unknown kind of route."""

    path = "/odd"


@pytest.mark.parametrize(
    ("add", "named"),
    [
        (add_open, ["GET /open: no token required"]),
        (add_open_head, ["HEAD /open: no token required"]),
        (add_optional, ["GET /open: the token is optional"]),
        (add_websocket, ["WEBSOCKET /open: no token required"]),
        (add_mounted, ["GET /v2/open: no token required"]),
        (add_host, ["GET /open: no token required"]),
        (add_own_docs, ["GET /docs/mine: no token required"]),
        (add_health, ["GET /health: no token required"]),
        (
            add_application_as_endpoint,
            ["* /admin/{rest}: mounted app: its routes can't be inspected"],
        ),
        (add_default, ["* /rest/{path}: mounted app: its routes can't be inspected"]),
        (add_own_default, ["* /{path}: mounted app: its routes can't be inspected"]),
        (add_unknown_application, ["* /unknown: mounted app: its routes can't be inspected"]),
        (add_route(Route("/open", answer)), ["GET,HEAD /open: no token required"]),
        (add_route(WebSocketRoute("/open", answer)), ["WEBSOCKET /open: no token required"]),
        (
            add_route(Mount("/files", StaticFiles(directory=HERE))),
            ["* /files: mounted app: its routes can't be inspected"],
        ),
        (add_route(Mount("/other", foreign)), ["* /other: mounted app: its routes can't be inspected"]),
        (
            add_route(Mount("/a/{b:path}", Starlette(routes=[Route("/c", GZipMiddleware(foreign))]))),
            ["* /a/{b}/c: no token required"],
        ),
        (
            add_route(Mount("/router", Router([Route("/c", answer, methods=["PUT"])]))),
            ["PUT /router/c: no token required"],
        ),
        (add_route(Odd()), ["* /odd: mounted app: its routes can't be inspected"]),
    ],
)
def test_open_routes_are_named(auth: LogtoAuth, add: Callable[[FastAPI, LogtoAuth], None], named: list[str]) -> None:
    app = build_app(auth)
    add(app, auth)

    assert failures(app) == named
    path = named[0].partition(":")[0].partition(" ")[2]
    assert_protected(app, except_=[path])
    assert failures(app, except_=["/nowhere", path]) == ["no such route: /nowhere"]


@pytest.mark.parametrize("name", ["scheme", "requirement", "above"])
@pytest.mark.parametrize(
    "by", ["function", "optional", "scheme", "other scheme", "other requirement", "same requirement"]
)
def test_an_override_of_a_check_is_reported(auth: LogtoAuth, name: str, by: str) -> None:
    def above(claims: Annotated[TokenClaims, Depends(auth)], _: Annotated[bool, Depends(give)]) -> str:
        return claims.user_id

    app = FastAPI()
    requirement = auth.require_scopes("read:user")
    app.get("/scoped", dependencies=[Depends(requirement), Depends(above), Depends(give)])(give)
    choices: dict[str, Callable[..., Any]] = {"scheme": auth, "requirement": requirement, "above": above}
    stand_ins: dict[str, Callable[..., Any]] = {
        "function": give,
        "optional": auth.optional,
        "scheme": auth,
        "other scheme": auth.for_audience("https://other.example.test"),
        "other requirement": auth.require_scopes("other"),
        "same requirement": auth.require_scopes("read:user"),
    }
    overridden, stand_in = choices[name], stand_ins[by]
    # It checks no token, also not where it is a dependency of a function that checks one.
    app.dependency_overrides[give] = lambda: False
    assert_protected(app)

    app.dependency_overrides[overridden] = stand_in
    if overridden == stand_in:
        assert_protected(app)
    else:
        assert failures(app) == ["GET /scoped: its token check is replaced in app.dependency_overrides"]


def test_an_override_is_reported_below_a_router_that_is_mounted_by_itself(auth: LogtoAuth) -> None:
    inner, app = FastAPI(), FastAPI()
    inner.get("/scoped", dependencies=[Depends(auth)])(give)
    app.mount("/v1", inner.router)
    assert_protected(app)

    inner.dependency_overrides[auth] = give
    assert TestClient(app).get("/v1/scoped").json() is True
    assert failures(app) == ["GET /v1/scoped: its token check is replaced in app.dependency_overrides"]


def test_an_override_of_this_package_does_not_count_as_open(auth: LogtoAuth) -> None:
    app = build_app(auth)

    with override(app, auth, claims()):
        assert_protected(app)


def test_an_override_of_this_package_hides_no_other_one(auth: LogtoAuth) -> None:
    app = FastAPI()
    app.get("/plain", dependencies=[Depends(auth)])(give)
    app.dependency_overrides[auth] = give

    with override(app, auth, claims()):
        assert failures(app) == ["GET /plain: its token check is replaced in app.dependency_overrides"]


def test_a_method_may_be_listed_by_itself() -> None:
    app = FastAPI()
    app.api_route("/open", methods=["GET", "POST"])(give)
    app.router.routes.append(Route("/plain", answer))

    assert_protected(app, except_=["GET /open", "POST /open", "GET /plain"])
    assert failures(app, except_=["GET /open", "/plain"]) == ["POST /open: no token required"]
    assert failures(app, except_=["GET /open", "HEAD /plain", "PUT /open"]) == [
        "POST /open: no token required",
        "GET /plain: no token required",
        "no such route: PUT /open",
    ]


def test_a_websocket_may_be_listed_by_its_kind() -> None:
    app = FastAPI()
    add_route(WebSocketRoute("/open", answer))(app, LogtoAuth())
    app.get("/open")(give)

    assert_protected(app, except_=["WEBSOCKET /open", "GET /open"])
    assert failures(app, except_=["GET /open"]) == ["WEBSOCKET /open: no token required"]
    assert failures(app, except_=["/open", "WEBSOCKET /closed"]) == ["no such route: WEBSOCKET /closed"]


def test_a_text_in_the_place_of_a_list_is_an_error() -> None:
    with pytest.raises(TypeError, match="expected a list of paths"):
        assert_protected(FastAPI(), except_="/health")


def test_an_unknown_asgi_application_counts_as_open() -> None:
    assert failures(foreign) == ["* /: mounted app: its routes can't be inspected"]


def test_the_files_of_a_frontend_are_named(auth: LogtoAuth, tmp_path: Path) -> None:
    app: Any = build_app(auth)
    if not hasattr(app, "frontend"):
        assert_protected(app)
        return  # Older versions of FastAPI have none.
    closed: Any = APIRouter(dependencies=[Depends(auth)])
    closed.frontend("/closed", directory=tmp_path)
    app.include_router(closed, prefix="/in")
    assert_protected(app)

    app.frontend("/pages", directory=tmp_path)
    assert failures(app) == ["GET,HEAD /pages: no token required"]
    assert_protected(app, except_=["/pages"])
    found = {route.path: route for route in routes(app)}
    for path in ("/in/closed", "/pages"):
        assert (found[path].kind, found[path].is_hidden) == ("http", False)


def test_fastapis_own_pages_need_not_be_listed() -> None:
    app = FastAPI(docs_url="/d", redoc_url="/r", openapi_url="/o.json", swagger_ui_oauth2_redirect_url="/d/back")
    app.mount("/v1", FastAPI())

    assert_protected(app)
    assert {str(route) for route in routes(app) if route.is_own_page} == {
        "GET,HEAD /d",
        "GET,HEAD /r",
        "GET,HEAD /o.json",
        "GET,HEAD /d/back",
        "GET,HEAD /v1/docs",
        "GET,HEAD /v1/redoc",
        "GET,HEAD /v1/openapi.json",
        "GET,HEAD /v1/docs/oauth2-redirect",
    }


def test_the_routes_are_reported_with_what_they_require(auth: LogtoAuth) -> None:
    app = build_app(auth)
    add_optional(app, auth)
    add_websocket(app, auth)
    app.mount("/files", StaticFiles(directory=HERE))

    found = {str(route): route for route in routes(app) if not route.is_own_page}

    assert [name for name, route in found.items() if not route.is_protected] == [
        "GET /open",
        "WEBSOCKET /open",
        "* /files",
    ]
    assert found["GET /open"].is_optional
    assert found["GET /open"].schemes == (auth.optional,)
    assert found["* /files"].kind == "application"
    assert found["WEBSOCKET /echo"].kind == "websocket"
    _, _, in_organization = auth.schemes
    of = found["GET /of/{organization_id}"]
    assert (of.path, of.methods, of.kind) == ("/of/{organization_id}", frozenset({"GET"}), "http")
    assert of.requirements == (auth.require_organization("read:member"),)
    assert (of.scopes, of.schemes) == (frozenset({"read:member"}), (in_organization,))
    assert (of.is_protected, of.is_overridden, of.is_optional, of.is_own_page) == (True, False, False, False)
    assert found["POST /security"].scopes == {"write:user"}
    assert found["GET /both"].scopes == {"read:user"}
    assert found["GET /v1/router/inside"].requirements == (auth.require_any_scope("a", "b"),)
    assert found["GET /deep"].scopes == frozenset()
    assert found["GET /deep/scoped"].scopes == {"read:user"}
    assert found["GET /deep"].schemes == found["GET /mounted/inner"].schemes == (auth,)
