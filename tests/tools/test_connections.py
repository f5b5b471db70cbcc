"""The server of the tests leaves no connection open, even if it was accepted shortly before the end."""

import asyncio
import gc
import socket

import pytest

from tests.connections import serve_connections


@pytest.mark.parametrize("turns", range(6))
def test_a_connection_is_closed_whenever_it_was_accepted(turns: int) -> None:
    ended = 0

    async def handle(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
        nonlocal ended
        await reader.read()
        ended += 1

    async def connect() -> None:
        async with serve_connections(handle) as port:
            client.settimeout(0)
            client.connect_ex(("127.0.0.1", port))
            for _ in range(turns):
                await asyncio.sleep(0)

    with socket.socket() as client:
        asyncio.run(connect())
    gc.collect()

    assert ended == (turns > 1)


async def test_a_handler_may_lose_its_connection() -> None:
    async def handle(_reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
        raise ConnectionResetError

    async with serve_connections(handle) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)

        assert await reader.read() == b""
        writer.close()
        await writer.wait_closed()
