"""ASGI applications of any kind behind a requirement."""

import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Annotated, Any, cast

import pytest
from blockbuster import BlockBuster
from fastapi import APIRouter, BackgroundTasks, Depends, FastAPI, HTTPException, Request, Security
from fastapi.security import HTTPBearer, SecurityScopes
from pydantic import BaseModel
from starlette.applications import Starlette
from starlette.authentication import AuthCredentials, AuthenticationBackend, SimpleUser, requires
from starlette.middleware import Middleware
from starlette.middleware.authentication import AuthenticationMiddleware
from starlette.requests import HTTPConnection
from starlette.requests import Request as StarletteRequest
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Mount, Route, WebSocketRoute
from starlette.staticfiles import StaticFiles
from starlette.testclient import TestClient, WebSocketDenialResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from starlette.websockets import WebSocket, WebSocketDisconnect
from typing_extensions import override

from fastapi_logto import (
    LogtoAuth,
    OrganizationSource,
    Requirement,
    SettingsError,
    TokenClaims,
    claims_of,
    mount_protected,
)
from fastapi_logto.description.route_checks import check_routes
from fastapi_logto.description.routes import iter_routes
from fastapi_logto.testing import LocalIssuer, assert_protected, bearer
from tests.unit.apps import detail

issuer = LocalIssuer()
SEEN = ("path", "root_path", "app_root_path", "path_params")


@pytest.fixture
def logto() -> LogtoAuth:
    return issuer.auth(public_url="https://api.example.test")


async def show(request: StarletteRequest) -> JSONResponse:
    seen = {name: request.scope.get(name) for name in SEEN}
    body = (await request.body()).decode()
    urls = [str(request.url), str(request.base_url)]
    return JSONResponse({**seen, "method": request.method, "urls": urls, "body": body})


async def show_user(request: StarletteRequest) -> JSONResponse:
    return JSONResponse(claims_of(request).user_id)


async def stream(_: StarletteRequest) -> StreamingResponse:
    return StreamingResponse(iter(["a", "b"]), status_code=202, headers={"X-Mine": "1"})


async def echo(websocket: WebSocket) -> None:
    await websocket.accept()
    async for text in websocket.iter_text():
        await websocket.send_text(f"{claims_of(websocket).user_id}: {text}")


inner = Starlette(
    routes=[
        Route("/", show, methods=["GET", "POST"]),
        Route("/user", show_user),
        Route("/stream", stream),
        WebSocketRoute("/echo", echo),
        Route("/{rest:path}", show, methods=["GET", "POST", "DELETE"]),
    ]
)


def build_app(logto: LogtoAuth, path: str = "/mcp", **options: Any) -> FastAPI:
    app = FastAPI(**options)
    logto.install(app)
    mount_protected(app, path=path, mounted=inner, requires=logto.require_scopes("read:user"))
    return app


GOOD = bearer(issuer.access_token(subject="me", scopes=["read:user"]))


def build_optional_user(logto: LogtoAuth) -> Any:
    def optional_user(claims: Annotated[TokenClaims | None, Depends(logto.optional)]) -> TokenClaims | None:
        return claims

    return optional_user


def build_user_of_optional_user(logto: LogtoAuth) -> Any:
    class OptionalUser:
        def __init__(self, claims: Annotated[TokenClaims | None, Depends(build_optional_user(logto))]) -> None:
            self.claims = claims

    return OptionalUser


class OtherScheme(HTTPBearer):
    resource_metadata: str | None = None
    resources: frozenset[str] = frozenset()


ADMITTING: list[tuple[Callable[[LogtoAuth], Any], str]] = [
    (lambda logto: logto.optional, "auth.optional"),
    (build_optional_user, "optional_user"),
    (build_user_of_optional_user, "OptionalUser"),
    (lambda _: lambda: None, "<lambda>"),
    (lambda logto: lambda: logto, "<lambda>"),
    (lambda logto: partial(logto, security_scopes=SecurityScopes()), "partial"),
    (lambda _: HTTPBearer(), "HTTPBearer"),
    (lambda _: Requirement(cast("Any", OtherScheme()), caller="user"), "Requirement"),
    (lambda _: TokenClaims.model_construct, "model_construct"),
    (Depends, "Depends"),
    (lambda _: "token", "str"),
    (lambda _: None, "NoneType"),
]


def check(claims: TokenClaims) -> None:
    if claims.user_id == "banned":
        raise HTTPException(418)


def build_check_of_auth(logto: LogtoAuth) -> Any:
    async def not_banned(claims: Annotated[TokenClaims, Depends(logto)]) -> None:
        check(claims)

    return not_banned


def build_check_of_a_requirement(logto: LogtoAuth) -> Any:
    def user(claims: Annotated[TokenClaims, Depends(logto.require_scopes("read:user"))]) -> Iterator[dict[str, str]]:
        check(claims)
        yield {"name": claims.user_id}

    return user


def build_check_of_a_dependency(logto: LogtoAuth) -> Any:
    class User:
        def __init__(
            self,
            claims: Annotated[TokenClaims | None, Depends(logto.optional)],
            user: Annotated[dict[str, str], Depends(build_check_of_a_requirement(logto))],
        ) -> None:
            self.claims, self.user = claims, user

    return User


def build_check_of_scopes(logto: LogtoAuth) -> Any:
    async def user(claims: Annotated[TokenClaims, Security(logto.optional, scopes=["read:user"])]) -> str:
        check(claims)
        return claims.user_id

    return user


REQUIRING = [build_check_of_auth, build_check_of_a_requirement, build_check_of_a_dependency, build_check_of_scopes]


class TestRefusals:
    @pytest.mark.parametrize("path", ["/mcp", "/mcp/", "/mcp/user", "/mcp/deep/er/", "/mcp//user", "/mcp/%2e%2e/user"])
    @pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"])
    def test_the_mounted_application_is_not_called_without_a_valid_token(
        self, logto: LogtoAuth, method: str, path: str
    ) -> None:
        client = TestClient(build_app(logto))

        anonymous = client.request(method, path)
        assert anonymous.status_code == 401
        assert anonymous.headers["WWW-Authenticate"] == (
            'Bearer realm="Logto", scope="read:user", '
            'resource_metadata="https://api.example.test/.well-known/oauth-protected-resource"'
        )
        assert client.request(method, path, headers=bearer(issuer.bad_token("forged"))).status_code == 401
        assert client.request(method, path, headers=bearer(issuer.access_token(scopes=["other"]))).status_code == 403

    def test_the_challenge_names_the_scopes_of_the_mount_and_not_all_of_the_application(self, logto: LogtoAuth) -> None:
        app = build_app(logto)
        app.delete("/users", dependencies=[Depends(logto.require_scopes("delete:user"))])(lambda: None)
        client = TestClient(app)

        assert 'scope="read:user"' in client.post("/mcp").headers["WWW-Authenticate"]
        page = client.get("/.well-known/oauth-protected-resource").json()
        assert {"read:user", "delete:user"} <= set(page["scopes_supported"])

    def test_a_method_that_is_not_served_is_405(self, logto: LogtoAuth) -> None:
        client = TestClient(build_app(logto))

        assert client.request("PROPFIND", "/mcp/user", headers=GOOD).status_code == 405

    def test_a_websocket_is_denied_with_the_same_body(self, logto: LogtoAuth) -> None:
        client = TestClient(build_app(logto))

        with pytest.raises(WebSocketDenialResponse) as denied, client.websocket_connect("/mcp/echo"):
            pass
        assert (denied.value.status_code, denied.value.json()["detail"]["code"]) == (
            401,
            "auth.authorization_header_missing",
        )

    def test_the_body_is_not_read_for_somebody_who_is_refused(self, logto: LogtoAuth) -> None:
        client = TestClient(build_app(logto))

        assert client.post("/mcp/user", content=b"{", headers={"Content-Type": "application/json"}).status_code == 401

    @pytest.mark.parametrize(("build", "found"), ADMITTING, ids=[found for _, found in ADMITTING])
    def test_a_dependency_that_would_admit_callers_without_a_token_is_refused(
        self, logto: LogtoAuth, build: Callable[[LogtoAuth], Any], found: str
    ) -> None:
        app = FastAPI()

        with pytest.raises(ValueError, match="requires:") as caught:
            mount_protected(app, path="/mcp", mounted=inner, requires=build(logto))

        assert str(caught.value) == (
            f"requires: expected auth or a requirement, found {found}, which allows requests without a token; "
            'pass auth, auth.require_scopes("..."), or a dependency that depends on one of them'
        )
        assert TestClient(app).get("/mcp/user").status_code == 404

    @pytest.mark.parametrize("name", ["require_scopes", "verify"])
    def test_a_method_that_was_meant_to_be_called_says_so(self, logto: LogtoAuth, name: str) -> None:
        with pytest.raises(TypeError, match=r"Depends\(auth"):
            mount_protected(FastAPI(), path="/mcp", mounted=inner, requires=getattr(logto, name))

    @pytest.mark.parametrize("build", REQUIRING, ids=lambda build: build.__name__)
    def test_a_custom_dependency_on_a_requirement_requires_a_token_too(
        self, logto: LogtoAuth, build: Callable[[LogtoAuth], Any]
    ) -> None:
        app = FastAPI()
        mount_protected(app, path="/mcp", mounted=inner, requires=build(logto))
        assert_protected(app)
        client = TestClient(app)

        assert detail(client, "/mcp/user") == (401, "auth.authorization_header_missing", "header_missing")
        with pytest.raises(WebSocketDenialResponse) as denied, client.websocket_connect("/mcp/echo"):
            pass
        assert denied.value.status_code == 401
        assert client.get("/mcp/user", headers=bearer(issuer.bad_token("forged"))).status_code == 401
        # Whatever it returns, the mounted application finds the claims of the token.
        assert client.get("/mcp/user", headers=GOOD).json() == "me"
        with client.websocket_connect("/mcp/echo", headers=GOOD) as websocket:
            websocket.send_text("hello")
            assert websocket.receive_text() == "me: hello"
        banned = bearer(issuer.access_token(subject="banned", scopes=["read:user"]))
        assert client.get("/mcp/user", headers=banned).status_code == 418
        with (
            pytest.raises(WebSocketDenialResponse) as refused,
            client.websocket_connect("/mcp/echo", headers=banned),
        ):
            pass
        assert refused.value.status_code == 418

    def test_an_override_of_a_dependency_of_ones_own_leaves_the_check_of_the_token(self, logto: LogtoAuth) -> None:
        app, own = FastAPI(), build_check_of_scopes(logto)
        mount_protected(app, path="/mcp", mounted=inner, requires=own)
        app.dependency_overrides[own] = lambda: None
        client = TestClient(app)

        assert client.get("/mcp/user").status_code == 401
        assert client.get("/mcp/user", headers=bearer(issuer.access_token(scopes=["other"]))).status_code == 403
        assert client.get("/mcp/user", headers=GOOD).json() == "me"

    @pytest.mark.parametrize("path", ["", "/", "mcp", "//", "/a/{rest:path}", "/a/{rest:path}/b"])
    def test_an_invalid_path_is_refused(self, logto: LogtoAuth, path: str) -> None:
        with pytest.raises(ValueError, match="path: expected a path such as /mcp, without a :path parameter"):
            mount_protected(FastAPI(), path=path, mounted=inner, requires=logto)


class TestMounted:
    @pytest.mark.parametrize(
        "path", ["/mcp/", "/mcp/a", "/mcp/a/b/", "/mcp//a", "/mcp/a//", "/mcp/a%20b", "/mcp/%C3%A9", "/mcp/mcp"]
    )
    @pytest.mark.parametrize("root_path", ["", "/v1"])
    def test_it_gets_the_same_scope_as_below_an_ordinary_mount(
        self, logto: LogtoAuth, path: str, root_path: str
    ) -> None:
        mounted = TestClient(FastAPI(routes=[Mount("/mcp", inner)]), root_path=root_path)
        client = TestClient(build_app(logto), root_path=root_path)

        answer = client.post(f"{root_path}{path}?q=1", headers=GOOD, content=b"body")

        assert answer.status_code == 200
        assert answer.json() == mounted.post(f"{root_path}{path}?q=1", content=b"body").json()
        assert (answer.json()["method"], answer.json()["body"]) == ("POST", "body")

    def test_the_path_itself_is_its_root_without_a_redirect(self, logto: LogtoAuth) -> None:
        answer = TestClient(build_app(logto), follow_redirects=False).post("/mcp", headers=GOOD)

        assert answer.status_code == 200
        assert (answer.json()["path"], answer.json()["root_path"]) == ("/mcp/", "/mcp")

    def test_it_is_found_behind_a_proxy_that_takes_the_prefix_off(self, logto: LogtoAuth) -> None:
        client = TestClient(build_app(logto), root_path="/v1")

        answer = client.get("/mcp/deep/er", headers=GOOD)

        assert answer.json()["root_path"] == "/v1/mcp"
        assert answer.json()["urls"] == ["http://testserver/v1/mcp/deep/er", "http://testserver/v1/"]

    @pytest.mark.parametrize(("path", "root_path"), [("/v1docs", "/v1"), ("/v1", "/v1X"), ("/X", "/v1")])
    def test_a_mount_path_that_begins_like_the_root_path_is_kept(
        self, logto: LogtoAuth, path: str, root_path: str
    ) -> None:
        client = TestClient(build_app(logto, path), root_path=root_path)

        assert client.get(f"{path}/x", headers=GOOD).json()["root_path"] == root_path + path

    def test_it_sees_what_it_sees_below_two_ordinary_mounts(self, logto: LogtoAuth) -> None:
        ordinary = FastAPI(routes=[Mount("/mcp", inner)])
        client, expected = (
            TestClient(Starlette(routes=[Mount("/outer", app)])) for app in (build_app(logto), ordinary)
        )

        answer = client.get("/outer/mcp/a", headers=GOOD)

        assert answer.status_code == 200
        assert answer.json() == expected.get("/outer/mcp/a").json()

    @pytest.mark.parametrize("path", ["/mcp/user%0A", "/mcp%0A", "/mcp/%0A", "/mcp/a%0A/user"])
    def test_a_line_end_in_the_path_does_not_change_the_mount(self, logto: LogtoAuth, path: str) -> None:
        client = TestClient(build_app(logto))

        assert client.get(path, headers=GOOD).status_code == 404
        with pytest.raises(WebSocketDisconnect), client.websocket_connect(path, headers=GOOD):
            pass

    def test_it_gets_a_body_that_a_dependency_has_read(self, logto: LogtoAuth) -> None:
        async def find(request: Request) -> str:
            return str((await request.json())["organization"])

        app = FastAPI()
        requires = logto.require_organization("read:user", organization=OrganizationSource.from_dependency(find))
        mount_protected(app, path="/mcp", mounted=inner, requires=requires)
        client = TestClient(app)
        token = bearer(issuer.organization_token("A", scopes=["read:user"]))

        answer = client.post("/mcp/x", headers=token, json={"organization": "A"})

        assert answer.json()["body"] == '{"organization":"A"}'
        assert client.post("/mcp/x", headers=token, json={"organization": "B"}).status_code == 403

    async def test_it_sees_the_end_of_a_request_whose_body_was_read(self, logto: LogtoAuth) -> None:
        async def read(request: Request) -> None:
            await request.body()

        seen: list[Message] = []

        async def note(scope: Scope, receive: Receive, send: Send) -> None:
            seen.extend([await receive(), await receive()])
            await Response()(scope, receive, send)

        app = FastAPI(dependencies=[Depends(read)])
        mount_protected(app, path="/mcp", mounted=note, requires=logto)
        headers = [(b"authorization", GOOD["Authorization"].encode())]
        scope: Scope = {"type": "http", "method": "POST", "path": "/mcp", "query_string": b"", "headers": headers}
        coming: list[Message] = [{"type": "http.request", "body": b"x"}, {"type": "http.disconnect"}]

        async def receive() -> Message:
            return coming.pop(0)

        async def send(_message: Message) -> None: ...

        await app(scope, receive, send)

        assert [(message["type"], message.get("body")) for message in seen] == [
            ("http.request", b"x"),
            ("http.disconnect", None),
        ]

    async def test_it_gets_the_parts_of_a_body_as_they_arrive(self, logto: LogtoAuth) -> None:
        seen: list[Any] = []

        async def note(scope: Scope, receive: Receive, send: Send) -> None:
            seen.extend([scope["path"], scope["root_path"], (await receive())["body"], len(coming)])
            await Response()(scope, receive, send)

        app = FastAPI()
        mount_protected(app, path="/mcp", mounted=note, requires=logto)
        headers = [(b"authorization", GOOD["Authorization"].encode())]
        # Without a root path, which ASGI servers may omit.
        scope: Scope = {"type": "http", "method": "POST", "path": "/mcp", "query_string": b"", "headers": headers}
        coming: list[Message] = [
            {"type": "http.request", "body": b"first", "more_body": True},
            {"type": "http.request", "body": b"second"},
        ]

        async def receive() -> Message:
            return coming.pop(0)

        async def send(_message: Message) -> None: ...

        await app(scope, receive, send)

        assert seen == ["/mcp/", "/mcp", b"first", 1]

    def test_background_tasks_of_dependencies_run(self, logto: LogtoAuth) -> None:
        done: list[str] = []

        def note(tasks: BackgroundTasks) -> None:
            tasks.add_task(done.append, "noted")

        app = FastAPI(dependencies=[Depends(note)])
        mount_protected(app, path="/mcp", mounted=inner, requires=logto)

        assert TestClient(app).get("/mcp/user", headers=GOOD).json() == "me"
        assert done == ["noted"]

    def test_it_has_the_claims(self, logto: LogtoAuth) -> None:
        client = TestClient(build_app(logto))

        assert client.get("/mcp/user", headers=GOOD).json() == "me"
        with client.websocket_connect("/mcp/echo", headers=GOOD) as websocket:
            websocket.send_text("hello")
            assert websocket.receive_text() == "me: hello"

    def test_starlettes_user_is_the_caller_and_its_scopes_are_those_of_the_token(self, logto: LogtoAuth) -> None:
        @requires(["authenticated", "write"])
        async def write(request: StarletteRequest) -> JSONResponse:
            return JSONResponse([request.user.identity, request.user.display_name, sorted(request.auth.scopes)])

        @requires("write")
        async def watch(websocket: WebSocket) -> None:
            await websocket.accept()
            await websocket.send_text(websocket.user.identity)
            await websocket.close()

        class Other(AuthenticationBackend):
            @override
            async def authenticate(self, conn: HTTPConnection) -> tuple[AuthCredentials, SimpleUser]:
                return AuthCredentials(["write"]), SimpleUser("somebody else")

        app = FastAPI(middleware=[Middleware(AuthenticationMiddleware, backend=Other())])
        starlette = Starlette(routes=[Route("/", write), WebSocketRoute("/watch", watch)])
        mount_protected(app, path="/mcp", mounted=starlette, requires=logto)
        client = TestClient(app)
        allowed = bearer(issuer.access_token(subject="me", scopes=["write", "read"]))

        assert client.get("/mcp", headers=allowed).json() == ["me", "me", ["authenticated", "read", "write"]]
        assert client.get("/mcp", headers=GOOD).status_code == 403
        with client.websocket_connect("/mcp/watch", headers=allowed) as websocket:
            assert websocket.receive_text() == "me"
        with pytest.raises(WebSocketDisconnect), client.websocket_connect("/mcp/watch", headers=GOOD):
            pass

    def test_its_response_passes_as_it_is(self, logto: LogtoAuth) -> None:
        answer = TestClient(build_app(logto)).get("/mcp/stream", headers=GOOD)

        assert (answer.status_code, answer.text, answer.headers["X-Mine"]) == (202, "ab", "1")
        assert "content-length" not in answer.headers

    def test_static_files_can_be_protected(self, logto: LogtoAuth, loop_guard: BlockBuster) -> None:
        loop_guard.deactivate()  # Starlette itself reads the file's size on the loop
        app = FastAPI()
        files = StaticFiles(directory=Path(__file__).parent)
        mount_protected(app, path="/files", mounted=files, requires=logto)
        client = TestClient(app)

        assert client.get(f"/files/{Path(__file__).name}").status_code == 401
        found = client.get(f"/files/{Path(__file__).name}", headers=GOOD)
        assert found.text.startswith('"""ASGI applications of any kind')
        assert client.get("/files/../conftest.py", headers=GOOD).status_code == 404

    def test_a_request_that_came_another_way_has_no_claims(self) -> None:
        with pytest.raises(LookupError, match="expected a request with an accepted token"):
            TestClient(inner).get("/user")
        with pytest.raises(LookupError, match="expected a request with an accepted token"):
            claims_of(None)


class _McpToken(BaseModel):
    """What the MCP SDK keeps of a token."""

    token: str
    client_id: str
    scopes: list[str]
    expires_at: int | None = None
    resource: str | None = None
    subject: str | None = None
    claims: dict[str, Any] | None = None


class _McpUser(SimpleUser):
    """The MCP SDK's user."""

    def __init__(self, access_token: _McpToken) -> None:
        super().__init__(access_token.client_id)
        self.access_token = access_token


class _McpMiddleware:
    """The MCP SDK's middleware, which makes the user of the scope that of the context."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self.app({**scope, "in_context": scope["user"]}, receive, send)


@pytest.fixture
def mcp_sdk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the MCP SDK seem to be loaded: the tests of the package run without it."""
    parts: list[tuple[str, str, object]] = [
        ("mcp.server.auth.middleware.auth_context", "AuthContextMiddleware", _McpMiddleware),
        ("mcp.server.auth.middleware.bearer_auth", "AuthenticatedUser", _McpUser),
        ("mcp.server.auth.provider", "AccessToken", _McpToken),
    ]
    for name, member, value in parts:
        module = ModuleType(name)
        setattr(module, member, value)
        monkeypatch.setitem(sys.modules, name, module)
    # It is imported again, and forgotten after the test.
    monkeypatch.setitem(sys.modules, "fastapi_logto.mcp_user", ModuleType("fastapi_logto.mcp_user"))
    del sys.modules["fastapi_logto.mcp_user"]


def test_the_mcp_sdk_is_not_needed(logto: LogtoAuth, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.startswith("mcp.")] + ["fastapi_logto.mcp_user"]:
        monkeypatch.delitem(sys.modules, name, raising=False)
    # As if it were not installed.
    monkeypatch.setitem(sys.modules, "mcp", None)

    response = TestClient(build_app(logto)).get("/mcp/user", headers=bearer(issuer.access_token()))

    assert response.status_code == 200


@pytest.mark.usefixtures("mcp_sdk")
class TestMcpUser:
    async def find_user(self, request: StarletteRequest) -> JSONResponse:
        user = request.scope["in_context"]
        assert user is request.user
        return JSONResponse([user.display_name, user.access_token.model_dump(include={"token", "scopes", "subject"})])

    def test_it_is_the_caller_with_the_token_of_the_request(self, logto: LogtoAuth) -> None:
        app = FastAPI()
        mount_protected(app, path="/mcp", mounted=Starlette(routes=[Route("/", self.find_user)]), requires=logto)
        token = issuer.access_token(subject="me", scopes=["read"])

        assert TestClient(app).get("/mcp", headers=bearer(token)).json() == [
            "me",
            {"token": token, "scopes": ["read"], "subject": "me"},
        ]

    def test_it_has_no_token_if_a_test_overrides_the_caller(self, logto: LogtoAuth) -> None:
        app = FastAPI()
        mount_protected(app, path="/mcp", mounted=Starlette(routes=[Route("/", self.find_user)]), requires=logto)

        async def stand_in() -> TokenClaims:
            return await logto.verify(issuer.access_token(subject="other", scopes=[]))

        app.dependency_overrides[logto] = stand_in

        assert TestClient(app).get("/mcp").json() == ["other", {"token": "", "scopes": [], "subject": "other"}]


class TestAsRoutes:
    def test_on_a_router_with_an_organization_in_its_path(self, logto: LogtoAuth) -> None:
        app, router = FastAPI(), APIRouter(prefix="/of")
        requires = logto.require_organization("read:user")
        mount_protected(router, path="/{organization_id}/mcp", mounted=inner, requires=requires)
        app.include_router(router, prefix="/v1")
        check_routes(app)
        client = TestClient(app)
        token = issuer.organization_token("A", scopes=["read:user"])

        assert client.get("/v1/of/A/mcp/user", headers=bearer(token)).status_code == 200
        assert detail(client, "/v1/of/B/mcp/user", bearer(token))[:2] == (403, "organization_mismatch")
        seen = client.get("/v1/of/A/mcp/x", headers=bearer(token)).json()
        assert (seen["root_path"], seen["path_params"]) == ("/v1/of/A/mcp", {"organization_id": "A", "rest": "x"})

    @pytest.mark.parametrize("scopes", [(), ("read:user",)], ids=["auth", "requirement"])
    def test_overrides_reach_it(self, logto: LogtoAuth, scopes: tuple[str, ...]) -> None:
        app = build_app(logto)

        async def stand_in() -> TokenClaims:
            return await logto.verify(issuer.access_token(subject="other", scopes=["read:user"]))

        app.dependency_overrides[logto.require_scopes(*scopes) if scopes else logto] = stand_in

        assert TestClient(app).get("/mcp/user").json() == "other"

    def test_the_start_up_check_the_list_of_routes_and_the_metadata_include_it(self, logto: LogtoAuth) -> None:
        app = build_app(logto)
        found = {route.path: route for route in iter_routes(app)}

        assert {"/mcp", "/mcp/{mounted_path}"} <= set(found)
        assert found["/mcp"].requirements == (logto.require_scopes("read:user"),)
        metadata = TestClient(app).get("/.well-known/oauth-protected-resource").json()
        assert metadata["scopes_supported"] == ["read:user"]
        assert "/mcp" not in app.openapi()["paths"]

        mount_protected(app, path="/bad", mounted=inner, requires=logto.require_organization())
        with pytest.raises(SettingsError, match=r"/bad: expected the path parameter \{organization_id\}"):
            check_routes(app)

    def test_dependencies_of_the_application_are_called_too(self, logto: LogtoAuth) -> None:
        asked: list[str] = []

        async def note(request: Request) -> None:
            asked.append(request.url.path)

        app = build_app(logto, dependencies=[Depends(note)])

        assert TestClient(app).get("/mcp/user", headers=GOOD).status_code == 200
        assert asked == ["/mcp/user"]
