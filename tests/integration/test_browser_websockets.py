"""The page about WebSockets and streams, in a real browser against a real server."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page

from fastapi_logto import LogtoAuth
from fastapi_logto.testing import LocalIssuer
from tests.integration.processes import find_free_port
from tests.integration.serving import serve

PAGE = Path(__file__).parents[2] / "docs/how-to/websockets.md"
OPEN = """
([path, ...offered]) => new Promise((resolve) => {
  const socket = new WebSocket(`ws://${location.host}${path}`, offered);
  const seen = [];
  socket.onopen = () => seen.push(["open", socket.protocol]);
  socket.onmessage = (event) => { seen.push(["message", event.data]); };
  socket.onclose = (event) => resolve([...seen, ["close", event.code, event.reason]]);
})
"""
SEND_FIRST = """
([path, token]) => new Promise((resolve) => {
  const socket = new WebSocket(`ws://${location.host}${path}`);
  const seen = [];
  socket.onopen = () => socket.send(token);
  socket.onmessage = (event) => { seen.push(["message", event.data]); };
  socket.onclose = (event) => resolve([...seen, ["close", event.code, event.reason]]);
})
"""
READ_STREAM = """
async ([path, token]) => {
  const response = await fetch(path, { headers: { Authorization: `Bearer ${token}`, Accept: "text/event-stream" } });
  for await (const chunk of response.body.pipeThrough(new TextDecoderStream())) {
    return [response.status, chunk];
  }
}
"""


@pytest.fixture(autouse=True)
def loop_guard() -> None:
    """Disable the guard: Playwright reads files on its own loop."""


@pytest.fixture(scope="module")
def issuer() -> LocalIssuer:
    return LocalIssuer()


@pytest.fixture(scope="module")
def page(issuer: LocalIssuer, browser: Browser) -> Iterator[Page]:
    """A page with the origin of the application in the documentation, which uses a local issuer."""
    names: dict[str, Any] = {"__name__": "example"}
    for block in re.findall(r"^```python\n(.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL):
        exec(compile(block, PAGE.name, "exec"), names)  # noqa: S102 - our own documentation
    found: dict[str, LogtoAuth] = {name: names[name] for name in ("auth", "browser_auth")}
    with (
        issuer.connect(found["auth"]),
        issuer.connect(found["browser_auth"]),
        serve(names["app"], port=find_free_port(), ws="websockets-sansio") as url,
    ):
        context = browser.new_context()
        opened = context.new_page()
        opened.goto(f"{url}/openapi.json")
        yield opened
        context.close()


def test_a_token_as_subprotocol_opens_the_connection_and_is_not_repeated(page: Page, issuer: LocalIssuer) -> None:
    token = issuer.access_token(subject="alice")

    seen = page.evaluate(OPEN, ["/chat", "bearer", token])

    assert seen[:2] == [["open", "bearer"], ["message", "Hello, alice"]]


def test_an_invalid_token_as_subprotocol_opens_nothing(page: Page, issuer: LocalIssuer) -> None:
    for offered in (["bearer", issuer.bad_token("forged")], ["bearer"], [issuer.access_token()], []):
        seen = page.evaluate(OPEN, ["/chat", *offered])
        # A browser shows no status of a refused handshake.
        assert seen == [["close", 1006, ""]]


def test_a_token_as_first_message_is_verified(page: Page, issuer: LocalIssuer) -> None:
    accepted = page.evaluate(SEND_FIRST, ["/first-message", issuer.access_token(subject="alice", scopes=["read:user"])])
    refused = page.evaluate(SEND_FIRST, ["/first-message", issuer.access_token(scopes=[])])

    assert accepted[0] == ["message", "Hello, alice"]
    assert refused == [["close", 1008, "insufficient_scope"]]


def test_a_stream_is_read_with_fetch(page: Page, issuer: LocalIssuer) -> None:
    token = issuer.access_token(scopes=["read:user"])

    assert page.evaluate(READ_STREAM, ["/events", token]) == [200, "data: event\n\n"]
