"""Clients that stop reading, on real sockets: their connections end when their token expires."""

import socket
import threading
from collections.abc import AsyncGenerator, Callable
from typing import Annotated, Literal

import pytest
from fastapi import Depends, FastAPI, WebSocket
from fastapi.responses import StreamingResponse

from fastapi_logto import TokenClaims
from fastapi_logto.testing import Clock, LocalIssuer
from tests.integration.processes import find_free_port
from tests.integration.serving import serve

NOW = 1_800_000_000.0
CHUNK = "x" * 65_536
UPGRADE = (
    "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
)

issuer = LocalIssuer(clock=Clock(now=lambda: NOW))
auth = issuer.auth(leeway_seconds=0)


def build_app(note_end: Callable[[], None]) -> FastAPI:
    app = FastAPI()

    @app.websocket("/push")
    async def push(websocket: WebSocket, claims: Annotated[TokenClaims, Depends(auth)]) -> None:
        await websocket.accept()
        try:
            async with auth.closing_at_expiry(websocket, claims, close_timeout_seconds=0.2):
                while True:
                    await websocket.send_text(CHUNK)
        finally:
            note_end()

    async def read_chunks() -> AsyncGenerator[str]:
        try:
            while True:
                yield CHUNK
        finally:
            note_end()

    @app.get("/stream")
    async def stream(claims: Annotated[TokenClaims, Depends(auth)]) -> StreamingResponse:
        return StreamingResponse(auth.until_expiry(read_chunks(), claims))

    return app


def request(port: int, path: str, headers: str = "") -> socket.socket:
    """Send a request with a token that lives half a second, and read nothing."""
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    connection.connect(("127.0.0.1", port))
    token = issuer.access_token(claims={"exp": NOW + 0.5})
    lines = f"GET {path} HTTP/1.1\r\nHost: api\r\n{headers}Authorization: Bearer {token}\r\n\r\n"
    connection.sendall(lines.encode())
    return connection


@pytest.mark.parametrize("ws", ["websockets", "websockets-sansio"])
@pytest.mark.filterwarnings("ignore:.*websockets.* is deprecated", "ignore:remove second argument of ws_handler")
def test_the_handler_of_a_websocket_ends_although_its_client_does_not_read(
    ws: Literal["websockets", "websockets-sansio"],
) -> None:
    has_ended = threading.Event()

    with serve(build_app(has_ended.set), port=(port := find_free_port()), ws=ws), request(port, "/push", UPGRADE):
        assert has_ended.wait(timeout=10)


def test_the_source_of_a_stream_is_closed_although_its_client_does_not_read() -> None:
    has_ended = threading.Event()

    with serve(build_app(has_ended.set), port=(port := find_free_port())), request(port, "/stream"):
        assert has_ended.wait(timeout=10)
