"""A server on the loop of a test that leaves no connection open."""

import asyncio
import socket
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import TypeAlias

_Handle: TypeAlias = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def serve_connections(handle: _Handle) -> AsyncGenerator[int]:
    """Serve on a free port of 127.0.0.1, and yield it. At the end, all connections are cut and all handlers ended.

    A handler may raise `ConnectionError`. `asyncio.start_server` loses a connection that it accepts in the last turns
    of the loop, and warns of an unclosed socket.
    """
    loop = asyncio.get_running_loop()
    connections: dict[asyncio.Task[None], socket.socket] = {}

    def accept() -> None:
        client, _ = listener.accept()
        client.settimeout(0)
        connections[loop.create_task(_handle(handle, client))] = client

    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(0)
        loop.add_reader(listener, accept)
        try:
            yield listener.getsockname()[1]
        finally:
            loop.remove_reader(listener)
            for client in connections.values():
                # Most are already closed.
                with suppress(OSError):
                    client.shutdown(socket.SHUT_RDWR)
            await asyncio.gather(*connections)


async def _handle(handle: _Handle, client: socket.socket) -> None:
    reader, writer = await asyncio.open_connection(sock=client)
    with suppress(ConnectionError):
        try:
            await handle(reader, writer)
        finally:
            writer.close()
            await writer.wait_closed()
