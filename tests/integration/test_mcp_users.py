"""MCP servers behind `mount_protected` know the caller: sessions belong to their user, and tools get the token."""

from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
from fastapi import FastAPI
from fastmcp import FastMCP
from fastmcp.server.auth import require_scopes
from fastmcp.server.dependencies import get_access_token as get_fastmcp_token
from mcp.server import MCPServer
from mcp.server.auth.middleware.auth_context import get_access_token
from mcp.server.auth.provider import AccessToken
from mcp.server.transport_security import TransportSecuritySettings
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route
from starlette.testclient import TestClient
from starlette.types import ASGIApp

from fastapi_logto import mount_protected
from fastapi_logto.testing import LocalIssuer, bearer, claims, override

URL = "https://api.example.com/mcp"
VERSION = "2025-06-18"
issuer = LocalIssuer()


@pytest.fixture(autouse=True)
def loop_guard() -> None:
    """Disable the guard: the servers under test are not ours, and may block their loop."""


@dataclass
class Session:
    """A client of a mounted MCP server that writes its requests itself, so that it can use any session."""

    client: TestClient
    token: str
    id: str | None = None
    numbers: list[int] = field(default_factory=list[int])

    def send(self, method: str, rpc: str | None = None, token: str | None = None, **params: Any) -> Any:
        headers = {
            **bearer(token or self.token),
            "Accept": "text/event-stream" if method == "GET" else "application/json, text/event-stream",
            **({"MCP-Session-Id": self.id, "MCP-Protocol-Version": VERSION} if self.id else {}),
        }
        self.numbers.append(1)
        body = {"jsonrpc": "2.0", "id": len(self.numbers), "method": rpc, "params": params}
        return self.client.request(method, "/mcp", headers=headers, json=body if rpc else None)

    def start(self) -> "Session":
        hello: dict[str, Any] = {
            "protocolVersion": VERSION,
            "capabilities": {},
            "clientInfo": {"name": "test", "version": "1"},
        }
        started = self.send("POST", "initialize", **hello)
        assert started.status_code == 200
        self.id = started.headers["mcp-session-id"]
        return self

    def list_tools(self, token: str | None = None) -> list[str]:
        return [tool["name"] for tool in self.send("POST", "tools/list", token).json()["result"]["tools"]]

    def call(self, tool: str, token: str | None = None) -> Any:
        result = self.send("POST", "tools/call", token, name=tool, arguments={}).json()["result"]
        return result["structuredContent"]["result"]


def token(subject: str = "alice", scopes: tuple[str, ...] = ("read:user",), **more: Any) -> str:
    return issuer.access_token(subject=subject, scopes=scopes, audience=URL, **more)


@contextmanager
def mounted(server: ASGIApp, lifespan: Any) -> Generator[TestClient]:
    auth = issuer.auth(audience=URL)
    app = FastAPI(lifespan=lifespan)
    mount_protected(app, path="/mcp", mounted=server, requires=auth)
    with TestClient(app, base_url="http://127.0.0.1") as client:
        yield client


def describe(found: AccessToken | None) -> dict[str, Any]:
    assert found is not None
    return {
        **found.model_dump(include={"client_id", "scopes", "resource", "subject", "expires_at", "token"}),
        "iss": (found.claims or {})["iss"],
        "repr": repr(found),
    }


@pytest.fixture(scope="module")
def official() -> Generator[TestClient]:
    """A stateful server of the official SDK."""
    mcp = MCPServer("x")

    @mcp.tool()
    def who() -> dict[str, Any]:
        return {"result": describe(get_access_token())}

    server = mcp.streamable_http_app(
        streamable_http_path="/",
        json_response=True,
        transport_security=TransportSecuritySettings(enable_dns_rebinding_protection=False),
    )

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncGenerator[None]:
        async with mcp.session_manager.run():
            yield

    with mounted(server, lifespan) as client:
        yield client


@pytest.fixture(scope="module")
def fastmcp() -> Generator[TestClient]:
    """A stateful FastMCP server with a tool that requires a scope."""
    mcp = FastMCP("x")

    @mcp.tool
    def who() -> dict[str, Any]:
        return {"result": describe(get_fastmcp_token())}

    @mcp.tool(auth=require_scopes("write:user"))
    def write() -> str:
        return "written"

    server = mcp.http_app(path="/", json_response=True)
    with mounted(server, server.lifespan) as client:
        yield client


@pytest.fixture(params=["official", "fastmcp"])
def client(request: pytest.FixtureRequest) -> TestClient:
    found: TestClient = request.getfixturevalue(request.param)
    return found


@pytest.mark.parametrize("method", ["GET", "POST", "DELETE"])
@pytest.mark.parametrize(
    "other", [token("mallory"), token("alice", client_id="other-client")], ids=["another user", "another client"]
)
def test_a_session_can_only_be_used_with_a_token_of_the_user_and_client_that_started_it(
    client: TestClient, method: str, other: str
) -> None:
    alice = Session(client, token("alice")).start()
    mallory = Session(client, other, id=alice.id)

    assert mallory.send(method, "tools/list" if method == "POST" else None).status_code == 404
    # The session still exists, and continues with a new token of its user.
    assert "who" in alice.list_tools(token("alice"))
    assert alice.send("DELETE").status_code == 200
    assert alice.send("POST", "tools/list").status_code == 404


def test_a_tool_gets_the_token_of_the_request_that_calls_it(client: TestClient) -> None:
    first, second = token(scopes=("b", "a")), token(scopes=())
    session = Session(client, first).start()

    for one, scopes in ((first, ["a", "b"]), (second, []), (first, ["a", "b"])):
        found = session.call("who", one)
        assert (found["token"], found["scopes"]) == (one, scopes)
        assert (found["subject"], found["client_id"], found["resource"]) == ("alice", "local-spa", URL)
        assert (found["iss"], type(found["expires_at"])) == (issuer.issuer, int)


def test_a_tool_of_fastmcp_may_require_a_scope_itself(fastmcp: TestClient) -> None:
    session = Session(fastmcp, token()).start()
    more = token(scopes=("read:user", "write:user"))

    assert session.list_tools() == ["who"]
    assert session.list_tools(more) == ["who", "write"]
    assert session.call("write", more) == "written"
    assert "written" not in session.send("POST", "tools/call", name="write", arguments={}).text


def test_the_token_is_not_part_of_the_repr_of_the_sdks_access_token(official: TestClient) -> None:
    secret = token()

    shown = Session(official, secret).start().call("who")["repr"]

    assert "subject='alice'" in shown
    assert not any(part in shown for part in secret.split("."))


@pytest.mark.parametrize(("audience", "resource"), [(URL, URL), ([URL, "https://b.example"], None)])
def test_a_starlette_application_sees_the_subject_as_user_if_the_sdk_is_loaded(
    audience: Any, resource: str | None
) -> None:
    def show(request: Request) -> JSONResponse:
        user = request.user
        return JSONResponse([user.identity, user.display_name, user.access_token.token, user.access_token.resource])

    auth = issuer.auth(audience=URL)
    app = FastAPI()
    mount_protected(app, path="/mcp", mounted=Starlette(routes=[Route("/", show)]), requires=auth)

    # Without a token, because the test replaces the verification.
    with override(app, auth, claims(subject="me", audience=audience)):
        assert TestClient(app).get("/mcp").json() == ["me", "me", "", resource]
