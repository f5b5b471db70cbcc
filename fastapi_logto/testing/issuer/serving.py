"""Serve a local issuer on a real socket with uvicorn."""

import asyncio
import signal
import socket
import threading
from collections.abc import Generator
from contextlib import contextmanager
from types import FrameType
from typing import Final

from starlette.types import ASGIApp

from fastapi_logto.loopback import is_loopback

try:
    import uvicorn
    from uvicorn.protocols.http.h11_impl import H11Protocol
except ModuleNotFoundError as _err:
    _MESSAGE: Final = 'serving requires uvicorn, which is not installed; pip install "fastapi-logto[testing]"'
    raise ModuleNotFoundError(_MESSAGE, name=_err.name) from _err

_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM)
_BACKLOG: Final = 128
_SHUTDOWN_SECONDS: Final = 1
_WILDCARDS: Final = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - rejected or translated, never the default


class _QuietProtocol(H11Protocol):
    """HTTP without an access log: request lines of an issuer contain private values, e.g. `state` and `login_hint`.

    Set for each connection, because uvicorn's own option changes the logger of every other server in the process.
    """

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn has it
        super().connection_made(transport)
        self.access_log = False


class Server(uvicorn.Server):
    """A uvicorn server that signals when it accepts requests."""

    def __init__(self, app: ASGIApp) -> None:
        """Prepare to serve an application, and import everything that uvicorn needs."""
        config = uvicorn.Config(
            app,
            http=_QuietProtocol,
            ws="none",
            loop="asyncio",
            lifespan="off",
            log_config=None,
            proxy_headers=False,
            server_header=False,
            timeout_graceful_shutdown=_SHUTDOWN_SECONDS,
        )
        config.load()
        super().__init__(config)
        self.has_started: threading.Event = threading.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start and set `has_started`, also after a failure, so that no caller waits forever."""
        try:
            await super().startup(sockets)
        finally:
            self.has_started.set()


def listen(*, host: str, port: int, allow_remote: bool) -> socket.socket:
    """Return a listening socket.

    Raises `ValueError` for a host that is not loopback, unless `allow_remote` is set, and `OSError` if the address is
    in use or not available on this machine.
    """
    if not allow_remote and not is_loopback(host):
        msg = (
            f"host: expected a loopback address such as 127.0.0.1, found {host[:80]!r}; anyone who can connect can "
            "sign in as any user, so pass allow_remote (--allow-remote) only if others must reach it"
        )
        raise ValueError(msg)
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    return socket.create_server((host, port), family=family, backlog=_BACKLOG)


def build_url(sock: socket.socket) -> str:
    """Return the URL of a listening socket, as reachable from this machine."""
    host, port = sock.getsockname()[:2]
    reachable = _WILDCARDS.get(host, str(host))
    return f"http://[{reachable}]:{port}" if ":" in reachable else f"http://{reachable}:{port}"


@contextmanager
def run_in_thread(app: ASGIApp, *, sock: socket.socket) -> Generator[None]:
    """Serve from a thread inside a `with` block."""
    server = Server(app)
    thread = threading.Thread(target=server.run, args=([sock],), name="fastapi-logto-local-issuer", daemon=True)
    thread.start()
    try:
        server.has_started.wait()
        yield
    finally:
        server.should_exit = True
        thread.join()


def run_until_signal(app: ASGIApp, *, sock: socket.socket) -> None:
    """Serve until Ctrl-C or SIGTERM, and close the socket."""
    server = Server(app)
    with _ended_by_signals(server), sock:
        server.run([sock])


@contextmanager
def _ended_by_signals(server: Server) -> Generator[None]:
    """Stop the server without a traceback: uvicorn raises caught signals again at its end."""

    def stop(_signal: int, _frame: FrameType | None) -> None:
        server.should_exit = True

    before = {number: signal.signal(number, stop) for number in _SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
