"""A real Redis server that a test can stop, empty and slow down, and a proxy in front of it."""

import asyncio
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any, cast

import redis

from tests.connections import serve_connections
from tests.integration.processes import find_free_port

_START_SECONDS = 30.0


def redis_is_installed() -> bool:
    """Whether `redis-server` is on the path."""
    return shutil.which("redis-server") is not None


class RedisServer:
    """A server on a free port of 127.0.0.1, whose data are in a folder.

    Its methods block. On an event loop, call them with `asyncio.to_thread`.

    Attributes:
        port: Its port.
        password: The password for `run`, if the test has set one.
    """

    def __init__(self, folder: Path, *options: str) -> None:
        """Store further options of `redis-server`. It is not started."""
        self.port = find_free_port()
        self.password: str | None = None
        self._folder = folder
        self._options = options
        self._popen: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Its URL."""
        return f"redis://127.0.0.1:{self.port}/0"

    def start(self) -> None:
        """Start it, with the data that are in its folder."""
        own = ("--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(self._folder), "--appendonly", "yes")
        self._popen = subprocess.Popen(["redis-server", *own, *self._options], stdout=subprocess.DEVNULL)
        deadline = time.monotonic() + _START_SECONDS
        tick = threading.Event()
        while True:
            try:
                return self._check_is_ready()
            except redis.ConnectionError:
                assert self._popen.poll() is None, "redis-server has ended"
                assert time.monotonic() < deadline, "redis-server does not respond"
                tick.wait(0.02)

    def kill(self) -> None:
        """End it at once. Its data stay in its folder."""
        if self._popen is not None:
            self._popen.kill()
            self._popen.wait()

    def wipe(self) -> None:
        """Delete its data, while it does not run."""
        shutil.rmtree(self._folder / "appendonlydir")

    def pause(self) -> None:
        """Stop the process. Its sockets stay open."""
        assert self._popen is not None
        self._popen.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Continue the process."""
        assert self._popen is not None
        self._popen.send_signal(signal.SIGCONT)

    def run(self, *command: str | int) -> Any:
        """Run a command like another program."""
        with redis.Redis(port=self.port, password=self.password, protocol=2) as client:
            return cast("Any", client).execute_command(*command)

    def _check_is_ready(self) -> None:
        # A server that requires a password is ready, too.
        with suppress(redis.AuthenticationError):
            self.run("PING")


class RedisProxy:
    """A proxy on the loop of the test.

    Attributes:
        port: Its port.
        delay_seconds: The delay of each response.
        bytes_left: How many more bytes of responses are forwarded before the connections are cut; `None` for all.
    """

    def __init__(self, server: RedisServer) -> None:
        """Store the server."""
        self.port = 0
        self.delay_seconds = 0.0
        self.bytes_left: int | None = None
        self._server = server

    @property
    def url(self) -> str:
        """The URL of the server through it."""
        return f"redis://127.0.0.1:{self.port}/0"

    async def forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        upstream: asyncio.StreamWriter | None = None
        try:
            responses, upstream = await asyncio.open_connection("127.0.0.1", self._server.port)
            await asyncio.gather(self._forward_requests(reader, upstream), self._forward_responses(responses, writer))
        except OSError:
            pass
        finally:
            writer.close()
            if upstream is not None:
                upstream.close()

    async def _forward_requests(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            writer.write(data)
        raise ConnectionAbortedError

    async def _forward_responses(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            await asyncio.sleep(self.delay_seconds)
            if self.bytes_left is not None:
                data = data[: self.bytes_left]
                self.bytes_left -= len(data)
            writer.write(data)
            await writer.drain()
            if self.bytes_left == 0:
                break
        raise ConnectionAbortedError


@asynccontextmanager
async def run_proxy(server: RedisServer) -> AsyncGenerator[RedisProxy]:
    """Run a proxy in front of a server."""
    proxy = RedisProxy(server)
    async with serve_connections(proxy.forward) as proxy.port:
        yield proxy
