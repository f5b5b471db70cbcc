"""Send raw bytes that an ordinary client can't send, and read every response."""

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final

LONGEST_WAIT_SECONDS: Final = 30.0
_MOST_READ: Final = 1024 * 1024
_LAST_INFORMATIONAL: Final = 199
_SWITCHING: Final = 101


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """A response, with its bytes unchanged in `raw`."""

    status: int
    body: bytes = field(repr=False)
    raw: bytes = field(repr=False)


async def exchange(
    port: int, pieces: Sequence[bytes], *, count: int, patience_seconds: float = LONGEST_WAIT_SECONDS
) -> tuple[list[Reply], bytes]:
    """Send bytes, and read until this many responses arrived or the server closes; return them and all bytes.

    After the timeout, the client closes its half of the connection and waits as long again. A server that waits for
    the rest of an incomplete request then stops waiting.
    """
    data = bytearray()
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        # A server may close the connection before it has read everything.
        with suppress(ConnectionError):
            for piece in pieces:
                writer.write(piece)
                await writer.drain()
        for is_last in (False, True):
            with suppress(TimeoutError):
                async with asyncio.timeout(patience_seconds):
                    await _read(reader, data, count=count)
                break
            if not is_last:
                with suppress(OSError):
                    writer.write_eof()
    finally:
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()
    return parse_replies(bytes(data)), bytes(data)


async def _read(reader: asyncio.StreamReader, data: bytearray, *, count: int) -> None:
    with suppress(ConnectionError):
        while len(data) < _MOST_READ and (chunk := await reader.read(65_536)):
            data += chunk
            if len(parse_replies(bytes(data))) >= count:
                return


def parse_replies(data: bytes) -> list[Reply]:
    """Return the complete final responses at the start of the bytes; that of a WebSocket includes its first frame."""
    found: list[Reply] = []
    while (head_end := data.find(b"\r\n\r\n")) >= 0:
        status, headers = _parse_head(data[:head_end])
        rest = data[head_end + 4 :]
        if status == _SWITCHING and rest:
            return [*found, Reply(status=status, body=rest, raw=data)]
        if status <= _LAST_INFORMATIONAL:
            if status < 100 or status == _SWITCHING:
                break
            data = rest
            continue
        body, size = _parse_body(status, headers, rest)
        if body is None:
            break
        found.append(Reply(status=status, body=body, raw=data[: head_end + 4 + size]))
        data = rest[size:]
    return found


def _parse_head(head: bytes) -> tuple[int, dict[bytes, bytes]]:
    first, *lines = head.split(b"\r\n")
    words = first.split(b" ")
    is_status = len(words) > 1 and words[0].startswith(b"HTTP/1.") and words[1].isdigit()
    headers = {name.strip().lower(): value.strip() for name, _, value in (line.partition(b":") for line in lines)}
    return int(words[1]) if is_status else 0, headers


def _parse_body(status: int, headers: dict[bytes, bytes], data: bytes) -> tuple[bytes | None, int]:
    """Return the body and how many bytes it takes; `None` if it is incomplete."""
    if status in {204, 304}:
        return b"", 0
    if headers.get(b"transfer-encoding", b"").lower() == b"chunked":
        return _parse_chunks(data)
    size = int(headers.get(b"content-length", b"0"))
    return (data[:size], size) if len(data) >= size else (None, 0)


def _parse_chunks(data: bytes) -> tuple[bytes | None, int]:
    body, place = b"", 0
    while (line_end := data.find(b"\r\n", place)) >= 0:
        size = int(data[place:line_end].partition(b";")[0] or b"0", 16)
        place = line_end + 2 + size + 2
        if len(data) < place:
            break
        body += data[line_end + 2 : line_end + 2 + size]
        if size == 0:
            return body, place
    return None, 0
