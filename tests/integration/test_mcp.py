"""MCP servers behind a requirement: the official client signs in, given only the URL."""

from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import httpx
import pytest
from mcp_types import CallToolResult, TextContent
from starlette.responses import JSONResponse
from starlette.types import Receive, Scope, Send

from fastapi_logto.testing import Directory, DynamicApps, LocalIssuer
from tests.docs import ROOT, check_tests_pass, copy_project
from tests.integration.mcp_client import REDIRECT_URI, SignIn, connect
from tests.integration.processes import find_free_port, run_module
from tests.tenants import make_certificate, serve

SERVERS = {"official SDK": "examples.mcp.main", "FastMCP": "tests.integration.mcp_servers.fastmcp_server"}
LIST_TOOLS: dict[str, Any] = {"jsonrpc": "2.0", "id": 1, "method": "tools/list", "params": {}}


@pytest.fixture(autouse=True)
def loop_guard() -> None:
    """Disable the guard: the client is not ours and reads files on its loop. The servers are other processes."""


@dataclass(frozen=True, slots=True)
class Server:
    """A running MCP server and the issuer whose users it serves."""

    base: str
    issuer: LocalIssuer

    @property
    def url(self) -> str:
        return f"{self.base}/mcp"

    def ask(self, token: str | None = None, *, path: str = "/mcp", **more: str) -> httpx.Response:
        """Send a plain request. A refusal needs no MCP client."""
        headers = {"Accept": "application/json, text/event-stream", **more}
        if token is not None:
            headers["Authorization"] = f"Bearer {token}"
        return httpx.post(self.base + path, json=LIST_TOOLS, headers=headers, trust_env=False, timeout=30)


@contextmanager
def run_server(module: str, *, dynamic_apps: DynamicApps | None = None) -> Generator[Server]:
    port = find_free_port()
    base = f"http://127.0.0.1:{port}"
    # As MCP requires, the resource indicator is the URL that clients use.
    directory = replace(Directory.example(f"{base}/mcp"), dynamic_apps=dynamic_apps)
    with LocalIssuer(directory=directory).serve() as issuer:
        environment = {
            "LOGTO_ENDPOINT": issuer.endpoint,
            "LOGTO_AUDIENCE": f"{base}/mcp",
            "LOGTO_PUBLIC_URL": base,
        }
        with run_module("uvicorn", f"{module}:app", "--port", str(port), environment=environment, cwd=ROOT) as api:
            api.wait_for_url(f"{base}/openapi.json")
            yield Server(base, issuer)
            api.interrupt()
            assert "Traceback" not in api.output


@pytest.fixture(scope="module", params=SERVERS)
def server(request: pytest.FixtureRequest) -> Iterator[Server]:
    with run_server(SERVERS[request.param]) as running:
        yield running


def test_the_tests_of_the_example_project_pass(tmp_path: Path) -> None:
    check_tests_pass(copy_project(ROOT / "examples/mcp", tmp_path))


def texts(result: CallToolResult) -> list[str]:
    return [content.text for content in result.content if isinstance(content, TextContent)]


async def test_a_client_that_knows_nothing_but_the_url_signs_in_and_calls(server: Server) -> None:
    alice = SignIn("alice")

    async with connect(server.url, sign_in=alice) as client:
        tools = {tool.name for tool in (await client.list_tools()).tools}
        greeting = await client.call_tool("say_hello", {})

    assert {"say_hello"} <= tools
    assert (greeting.is_error, texts(greeting)) == (False, ["Hello, alice0000001"])
    (asked,) = alice.asked
    scopes = asked["scope"][0].split()
    assert (asked["resource"], asked["code_challenge_method"]) == ([server.url], ["S256"])
    assert "read:user" in scopes
    assert "openid" not in scopes


def test_a_request_without_a_valid_token_reaches_no_tool_and_the_response_says_where_to_get_one(server: Server) -> None:
    page = f"{server.base}/.well-known/oauth-protected-resource/mcp"
    poor = server.issuer.access_token(audience=server.url, scopes=["other"])

    for path in ("/mcp", "/mcp/"):
        anonymous, forged, foreign, powerless = (
            server.ask(token, path=path)
            for token in (
                None,
                server.issuer.bad_token("forged"),
                server.issuer.access_token(audience="https://a"),
                poor,
            )
        )
        assert [one.status_code for one in (anonymous, forged, foreign, powerless)] == [401, 401, 401, 403]
        assert anonymous.headers["WWW-Authenticate"].startswith('Bearer realm="Logto", ')
        assert anonymous.headers["WWW-Authenticate"].endswith(f'resource_metadata="{page}"')
        assert 'scope="read:user' in powerless.headers["WWW-Authenticate"]
        assert foreign.json()["detail"]["reason"] == "audience"


def test_it_answers_under_the_names_that_an_api_has(server: Server) -> None:
    token = server.issuer.access_token(audience=server.url, scopes=["read:user"])

    answer = server.ask(token, Host="api.example.com", Origin="https://inspector.example.com")

    assert (answer.status_code, "say_hello" in answer.text) == (200, True)


def test_the_metadata_names_the_url_the_issuer_and_the_scopes(server: Server) -> None:
    metadata = httpx.get(f"{server.base}/.well-known/oauth-protected-resource/mcp", trust_env=False).json()

    assert metadata["resource"] == server.url
    assert metadata["authorization_servers"] == [server.issuer.issuer]
    assert "read:user" in metadata["scopes_supported"]


@pytest.mark.parametrize("server", ["FastMCP"], indirect=True)
async def test_a_client_requests_exactly_the_scopes_that_the_mount_requires(server: Server) -> None:
    alice = SignIn("alice")

    async with connect(server.url, sign_in=alice) as client:
        await client.list_tools()

    # The SDK adds `offline_access` itself, for a refresh token.
    assert set(alice.asked[0]["scope"][0].split()) - {"offline_access"} == {"read:user"}


@pytest.mark.parametrize("server", ["official SDK"], indirect=True)
async def test_each_caller_has_notes_of_their_own_and_a_tool_may_require_more(server: Server) -> None:
    async with connect(server.url, sign_in=SignIn("alice")) as client:
        added = await client.call_tool("add_note", {"text": "milk"})
        mine = await client.call_tool("list_notes", {})
    async with connect(server.url, sign_in=SignIn("bob")) as client:
        refused = await client.call_tool("add_note", {"text": "beer"})
        theirs = await client.call_tool("list_notes", {})

    assert texts(added) == ["Noted for alice0000001"]
    assert mine.structured_content == {"result": ["milk"]}
    assert (refused.is_error, "lacks the scope write:user" in texts(refused)[0]) == (True, True)
    assert theirs.structured_content == {"result": []}


@dataclass
class ClientDocument:
    """The web server of an MCP client that is not registered, with the document that describes it."""

    url: str = ""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        document = {"client_id": self.url, "client_name": "Test", "redirect_uris": [REDIRECT_URI]}
        await JSONResponse(document)(scope, receive, send)


async def test_a_client_that_is_not_registered_signs_in_with_the_url_of_its_document(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    document, alice = ClientDocument(), SignIn("alice")
    dynamic_apps = DynamicApps(scopes=["read:user"], allow_loopback=True)
    with make_certificate() as (authority, certificate):
        monkeypatch.setenv("SSL_CERT_FILE", str(authority))
        with (
            serve(LocalIssuer(), app=document, certificate=certificate) as base,
            run_server(SERVERS["official SDK"], dynamic_apps=dynamic_apps) as server,
        ):
            document.url = f"{base}/client.json"
            async with connect(server.url, sign_in=alice, metadata_url=document.url) as client:
                greeting = await client.call_tool("say_hello", {})
                refused = await client.call_tool("add_note", {"text": "milk"})

    assert (greeting.is_error, texts(greeting)) == (False, ["Hello, alice0000001"])
    (asked,) = alice.asked
    assert asked["client_id"] == [document.url]
    # The client requests what the metadata lists. What the tenant does not allow is missing from the token.
    assert {"read:user", "write:user"} <= set(asked["scope"][0].split())
    assert (refused.is_error, "lacks the scope write:user" in texts(refused)[0]) == (True, True)
