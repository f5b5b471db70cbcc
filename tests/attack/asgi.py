"""A client that calls an ASGI application directly, with headers that no HTTP client would send."""

import json
from collections.abc import Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, Final, Protocol, cast
from urllib.parse import quote

from starlette.types import ASGIApp, Message, Scope

ACCEPTED: Final = 101
"""The status of an accepted WebSocket."""


class Observer(Protocol):
    """Sees each request and its outcome."""

    def begin(self, app: ASGIApp, scope: Scope) -> None:
        """See a request before the application does."""
        ...

    def end(self, scope: Scope, sent: Sequence[Message], error: BaseException | None) -> None:
        """See the response, or the exception of the application."""
        ...


OBSERVER: Final[ContextVar[Observer | None]] = ContextVar("OBSERVER", default=None)
"""The observer of all requests in a context, for the proof that nothing leaks."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """A response, or the outcome of a WebSocket handshake.

    Attributes:
        status: The HTTP status; `ACCEPTED` for an accepted WebSocket, 500 for an exception of the application.
        headers: The headers, names in lower case.
        body: The body.
        raised: The class of an exception that the application raised.
    """

    status: int
    headers: dict[str, str] = field(default_factory=dict[str, str])
    body: bytes = b""
    raised: str | None = None

    @property
    def detail(self) -> dict[str, str]:
        """The `detail` of a refusal; empty if the body has none."""
        try:
            found: Any = json.loads(self.body)["detail"]
        except (ValueError, KeyError, TypeError):
            return {}
        return cast("dict[str, str]", found) if isinstance(found, dict) else {}


async def send(
    app: ASGIApp, path: str, *, authorization: Sequence[bytes] = (), headers: Sequence[tuple[bytes, bytes]] = ()
) -> Reply:
    """Send a GET request."""
    scope = build_scope("http", path, headers=[*headers, *_build_fields(authorization)])
    return await _call(app, scope, first={"type": "http.request", "body": b"", "more_body": False})


async def connect(
    app: ASGIApp, path: str, *, authorization: Sequence[bytes] = (), headers: Sequence[tuple[bytes, bytes]] = ()
) -> Reply:
    """Open a WebSocket, at a server that can send a denial response."""
    scope = build_scope("websocket", path, headers=[*headers, *_build_fields(authorization)])
    return await _call(app, scope, first={"type": "websocket.connect"})


def _build_fields(authorization: Sequence[bytes]) -> list[tuple[bytes, bytes]]:
    return [(b"authorization", value) for value in authorization]


def build_scope(
    kind: str,
    path: str,
    *,
    method: str = "GET",
    headers: Sequence[tuple[bytes, bytes]] = (),
    can_deny: bool = True,
) -> Scope:
    """Return the scope of a request over TLS, as a server builds it.

    Args:
        kind: `http` or `websocket`.
        path: The path, decoded.
        method: The method of an HTTP request.
        headers: The headers, besides `Host`.
        can_deny: Whether the server can send a denial response to a WebSocket handshake.
    """
    scope: Scope = {
        "type": kind,
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "scheme": "https" if kind == "http" else "wss",
        "server": ("api.example.test", 443),
        "client": ("192.0.2.1", 50_000),
        "path": path,
        "raw_path": quote(path).encode("ascii"),
        "root_path": "",
        "query_string": b"",
        "headers": [(b"host", b"api.example.test"), *headers],
    }
    if kind == "http":
        return {**scope, "method": method}
    offered = [value.decode("latin-1") for name, value in headers if name == b"sec-websocket-protocol"]
    return {
        **scope,
        "subprotocols": [part.strip() for value in offered for part in value.split(",")],
        "extensions": {"websocket.http.response": {}} if can_deny else {},
    }


async def _call(app: ASGIApp, scope: Scope, *, first: Message) -> Reply:
    waiting = [first]
    sent: list[Message] = []

    async def receive() -> Message:
        return waiting.pop(0) if waiting else {"type": f"{scope['type']}.disconnect", "code": 1005}

    async def collect(message: Message) -> None:
        sent.append(message)

    raised: Exception | None = None
    observer = OBSERVER.get()
    if observer is not None:
        observer.begin(app, scope)
    try:
        await app(scope, receive, collect)
    except Exception as error:  # noqa: BLE001 - a server would turn it into a 500
        raised = error
    if observer is not None:
        observer.end(scope, sent, raised)
    return _read(sent) if raised is None else Reply(status=500, raised=type(raised).__name__)


def _read(sent: Sequence[Message]) -> Reply:
    for message in sent:
        if message["type"] == "websocket.accept":
            return Reply(status=ACCEPTED)
        if message["type"].endswith("response.start"):
            headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in message["headers"]}
            body = b"".join(other.get("body", b"") for other in sent if other["type"].endswith("response.body"))
            return Reply(status=message["status"], headers=headers, body=body)
    return Reply(status=500, raised="no response")
