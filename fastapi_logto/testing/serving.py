"""A real socket for a local issuer, served by uvicorn."""

import asyncio
import signal
import socket
import threading
from collections.abc import Generator
from contextlib import contextmanager
from types import FrameType
from typing import Final

from starlette.types import ASGIApp

from fastapi_logto.testing.hosts import is_loopback

try:
    import uvicorn
    from uvicorn.protocols.http.h11_impl import H11Protocol
except ModuleNotFoundError as _err:
    _MESSAGE: Final = 'serving needs uvicorn, which is not installed; pip install "fastapi-logto[testing]"'
    raise ModuleNotFoundError(_MESSAGE, name=_err.name) from _err

__all__ = ["Server", "build_url", "listen", "run_in_thread", "run_until_signal"]

_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM)
_BACKLOG: Final = 128
_SHUTDOWN_SECONDS: Final = 1
_WILDCARDS: Final = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - named to be refused, or translated


class _QuietProtocol(H11Protocol):
    """HTTP without access log: request lines of an issuer are nobody's business.

    Set for each connection, because uvicorn's own switch changes the logger of every
    other server in the process.
    """

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn has it
        super().connection_made(transport)
        self.access_log = False


class Server(uvicorn.Server):
    """A uvicorn server that says when it accepts requests."""

    def __init__(self, app: ASGIApp) -> None:
        """Prepare to serve an application, importing all that uvicorn needs."""
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
        """Start, and say so; a failure says so too, for nobody shall wait for ever."""
        try:
            await super().startup(sockets)
        finally:
            self.has_started.set()


def listen(*, host: str, port: int, allow_remote: bool) -> socket.socket:
    """Give a listening socket.

    Raises:
        ValueError: The host is not a loopback one, and `allow_remote` was not given.
        OSError: The address is in use, or not of this machine.
    """
    if not allow_remote and not is_loopback(host):
        msg = (
            f"host: expected a loopback address such as 127.0.0.1, found {host[:80]!r}; a local issuer lets anybody "
            "sign in as anyone, so say allow_remote (--allow-remote) if others shall reach it"
        )
        raise ValueError(msg)
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    return socket.create_server((host, port), family=family, backlog=_BACKLOG)


def build_url(sock: socket.socket) -> str:
    """Give the URL under which a listening socket is reached from this machine."""
    host, port = sock.getsockname()[:2]
    reachable = _WILDCARDS.get(host, str(host))
    return f"http://[{reachable}]:{port}" if ":" in reachable else f"http://{reachable}:{port}"


@contextmanager
def run_in_thread(app: ASGIApp, *, sock: socket.socket) -> Generator[None]:
    """Serve from a thread, from before the first statement inside until after the last."""
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
    """Serve until Ctrl-C or SIGTERM, and close the socket.

    Args:
        app: The application.
        sock: What it listens on.
    """
    server = Server(app)
    with _ended_by_signals(server), sock:
        server.run([sock])


@contextmanager
def _ended_by_signals(server: Server) -> Generator[None]:
    """End the server quietly: uvicorn raises the signals that it caught again when it is done."""

    def stop(_signal: int, _frame: FrameType | None) -> None:
        server.should_exit = True

    before = {number: signal.signal(number, stop) for number in _SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
