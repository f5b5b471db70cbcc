import json
from collections.abc import Iterator
from typing import Any

import pytest
from fastapi.testclient import TestClient

from fastapi_logto import auth
from fastapi_logto.testing import LocalIssuer, assert_protected, bearer
from main import app


# For all tests: the application does not start without settings.
@pytest.fixture(scope="module", autouse=True)
def issuer() -> Iterator[LocalIssuer]:
    with LocalIssuer().connect(auth) as issuer:
        yield issuer


# The SDK's session manager can be started once in a process.
@pytest.fixture(scope="module")
def client() -> Iterator[TestClient]:
    with TestClient(app) as client:
        yield client


def call(client: TestClient, token: str, tool: str, **arguments: str) -> dict[str, Any]:
    """Call a tool, and return its result."""
    response = client.post(
        "/mcp",
        headers=bearer(token) | {"Accept": "application/json, text/event-stream"},
        json={
            "jsonrpc": "2.0",
            "id": 1,
            "method": "tools/call",
            "params": {"name": tool, "arguments": arguments},
        },
    )
    assert response.status_code == 200
    # One server-sent event.
    result: dict[str, Any] = json.loads(response.text.partition("data: ")[2])["result"]
    return result


def test_every_route_requires_a_token() -> None:
    assert_protected(app)


def test_a_client_without_a_token_learns_where_to_get_one(client: TestClient) -> None:
    response = client.post("/mcp", json={})
    assert response.status_code == 401
    assert response.headers["WWW-Authenticate"].startswith("Bearer ")


def test_each_caller_has_notes_of_their_own(client: TestClient, issuer: LocalIssuer) -> None:
    alice = issuer.access_token(subject="alice", scopes=["write:user"])
    bob = issuer.access_token(subject="bob", scopes=["read:user"])

    assert call(client, alice, "add_note", text="milk")["content"][0]["text"] == "Noted for alice"
    assert call(client, alice, "list_notes")["structuredContent"] == {"result": ["milk"]}
    assert call(client, bob, "list_notes")["structuredContent"] == {"result": []}


def test_a_tool_may_require_more_than_the_server(client: TestClient, issuer: LocalIssuer) -> None:
    reader = issuer.access_token(subject="carol", scopes=["read:user"])

    assert call(client, reader, "say_hello")["content"][0]["text"] == "Hello, carol"
    refused = call(client, reader, "add_note", text="beer")
    assert refused["isError"]
    assert "lacks the scope write:user" in refused["content"][0]["text"]
    assert call(client, reader, "list_notes")["structuredContent"] == {"result": []}
