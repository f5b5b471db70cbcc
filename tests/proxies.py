"""A proxy that records its requests, for `HTTP_PROXY` and similar variables."""

import socketserver
import threading
from collections.abc import Generator
from contextlib import contextmanager
from typing import Final

PROXY_VARIABLES: Final = ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy", "HTTPS_PROXY", "https_proxy")


class RecordingProxy:
    """A proxy on 127.0.0.1 that rejects every request.

    Attributes:
        url: Its URL.
        requests: The head of each request, with the part of the body that arrived with it.
    """

    def __init__(self) -> None:
        self.requests: list[str] = []
        self._server = _Server(("127.0.0.1", 0), _Handler)
        self._server.proxy = self
        self.url: str = f"http://127.0.0.1:{self._server.server_address[1]}"

    def run(self) -> None:
        self._server.serve_forever(poll_interval=0.01)

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


class _Server(socketserver.ThreadingTCPServer):
    daemon_threads = False
    proxy: RecordingProxy


class _Handler(socketserver.BaseRequestHandler):
    server: _Server  # pyright: ignore[reportIncompatibleVariableOverride] - the only server that makes it

    def handle(self) -> None:
        data = self.request.recv(65_536)
        if data:
            self.server.proxy.requests.append(data.decode("latin-1"))
            self.request.sendall(b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")


@contextmanager
def serve_proxy() -> Generator[RecordingProxy]:
    """Run a proxy on a free port of 127.0.0.1."""
    proxy = RecordingProxy()
    thread = threading.Thread(target=proxy.run, name="recording-proxy", daemon=True)
    thread.start()
    try:
        yield proxy
    finally:
        proxy.close()
        thread.join()
