"""Hostile responses of a provider as raw bytes, made from a valid document, and the server that sends them."""

import asyncio
import copy
import gzip
import json
import random
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, Final, Literal, TypeAlias

from tests.connections import serve_connections
from tests.prove.fuzz_credentials import mutate

End: TypeAlias = Literal["close", "hang", "endless", "drip", "reset"]

MOST_SENT: Final = 16 * 1024 * 1024
"""More bytes than any limit of the package plus the buffers of two sockets."""

_CHUNK: Final = b"x" * 65_536
_DRIP_SECONDS: Final = 0.01
_DEEP: Final = 3_000
_STATUSES: Final = (
    b"HTTP/1.1 302 Found", b"HTTP/1.1 204 No Content", b"HTTP/1.1 304 Not Modified", b"HTTP/1.1 999 x",
    b"HTTP/1.1 429 x", b"HTTP/1.1 500 x", b"HTTP/1.1 401 x", b"HTTP/1.1 101 Switching Protocols", b"HTTP/1.1 99 x",
    b"HTTP/1.1 -1 x", b"HTTP/1.1 2000 x", b"HTTP/1.1  200 OK", b"HTTP/2 200", b"ICY 200 OK", b"HTTP/1.1 307 x",
    b"HTTP/1.0 200", b"",
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """A response.

    Attributes:
        what: How it was made.
        data: Its bytes.
        end: What follows the bytes.
        document: The JSON value, if one is sent completely with status 200.
    """

    what: str
    data: bytes = field(repr=False)
    end: End = "close"
    document: object = None

    @property
    def is_slow(self) -> bool:
        """Whether it does not end in time."""
        return self.end != "close"


def build_valid(document: object) -> Answer:
    """Return the response of a working provider."""
    return Answer(what="valid", data=_frame(json.dumps(document).encode()), document=document)


def build_answer(rng: random.Random, document: object, elsewhere: str) -> Answer:
    """Return a hostile response; `elsewhere` is the URL of a server that must get no request."""
    kind = rng.choice(["document", "document", "document", "bytes", "bytes", "head", "head", "length", "chunks", "end"])
    if kind == "document":
        changed = _change(rng, copy.deepcopy(document), elsewhere)
        return Answer(what=kind, data=_frame(json.dumps(changed).encode()), document=changed)
    body = json.dumps(document).encode()
    if kind == "bytes":
        body = _break_body(rng, body)
        return Answer(what=kind, data=_frame(body), document=_read(body))
    if kind == "head":
        return _break_head(rng, body, document, elsewhere)
    if kind == "length":
        length = rng.choice([b"0", b"5", b"%d" % (len(body) + 50), b"-1", b"+%d" % len(body), b"1e3", b"9" * 400, b"x",
                             b"%d, %d" % (len(body), len(body)), b"%d\r\nContent-Length: 3" % len(body)])  # fmt: skip
        return Answer(what=kind, data=_head(b"Content-Length: " + length) + body, document=document)
    if kind == "chunks":
        return Answer(what=kind, data=_head(b"Transfer-Encoding: chunked") + _chunk(rng, body), document=document)
    return _never_end(rng, body, document)


def _read(body: bytes) -> object:
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        return None


def _head(*lines: bytes, status: bytes = b"HTTP/1.1 200 OK") -> bytes:
    return b"\r\n".join([status, b"Content-Type: application/json", *lines, b"", b""])


def _frame(body: bytes) -> bytes:
    return _head(b"Content-Length: %d" % len(body)) + body


def _change(rng: random.Random, value: Any, elsewhere: str) -> object:
    """Return a JSON value with one to three members changed, at any depth."""
    root = [value]
    for _ in range(rng.choice([1, 1, 2, 3])):
        places = _list_places(root)
        parent, key = rng.choice(places)
        kind = rng.choice(["odd", "odd", "odd", "delete", "copy", "text"])
        if kind == "delete" and parent is not root:
            del parent[key]
        elif kind == "copy":
            parent[key] = copy.deepcopy(rng.choice(places)[0])
        elif kind == "text" and isinstance(parent[key], str):
            parent[key] = mutate(rng, parent[key].encode() or b"x").decode("latin-1")
        else:
            parent[key] = rng.choice(_list_odd(elsewhere))
    return root[0]


def _list_places(value: Any) -> list[tuple[Any, Any]]:
    items: Any = getattr(value, "items", None)
    members: Any = items() if items else enumerate(value) if hasattr(value, "append") else ()
    return [place for key, member in members for place in ((value, key), *_list_places(member))]


def _list_odd(elsewhere: str) -> list[Any]:
    return [
        None, True, False, 0, -1, 1.5, 10**400, 1e308, "", "x", "\x00\x1b[2J\r\n", "\ud800", "\u202e", "9" * 5000,
        "a" * 70_000, [], {}, [[]], [None] * 5000, {"": {}}, {"a" * 1000: 1}, elsewhere, f"{elsewhere}/jwks", "//evil", "file:///",
        "none", "HS256", "oct", "Bearer", ["x"] * 3,
    ]  # fmt: skip


def _break_body(rng: random.Random, body: bytes) -> bytes:
    place = rng.randrange(len(body))
    return rng.choice(
        [
            mutate(rng, body),
            mutate(rng, body),
            mutate(rng, mutate(rng, body)),
            body[:place],
            body[place:],
            body[:place] + rng.choice([b"\x00", b"\xff", b"\\ud800", b"NaN", b",", b"}", b"]"]) + body[place:],
            body + body,
            b"\xef\xbb\xbf" + body,
            body.decode().encode("utf-16"),
            body[:-1] + b"," + body[1:],
            b"[" * _DEEP + body + b"]" * _DEEP,
            b'{"a":' * _DEEP + body + b"}" * _DEEP,
            body[:-1] + b',"z":' + b"[" * _DEEP + b"]" * _DEEP + b"}",
            body + b" " * 300_000,
            b"",
            b"<!doctype html>",
            gzip.compress(body),
        ]
    )


def _break_head(rng: random.Random, body: bytes, document: object, elsewhere: str) -> Answer:
    length = b"Content-Length: %d" % len(body)
    retry = b"Retry-After: " + rng.choice([b"-1", b"9" * 400, b"x"])
    head = _head(length, b"Location: " + elsewhere.encode(), retry, status=rng.choice(_STATUSES))
    kind = rng.choice(["status", "status", "mutated", "long", "many", "interim", "encoding", "none"])
    if kind == "mutated":
        head = mutate(rng, _head(length))
    elif kind == "long":
        head = _head(length, b"X-Long: " + b"a" * rng.choice([9_000, 70_000, 2_000_000]))
    elif kind == "many":
        head = _head(length, *[b"X-Many: 1"] * rng.choice([100, 5_000, 50_000]))
    elif kind == "interim":
        head = b"HTTP/1.1 103 Early Hints\r\nLink: </>\r\n\r\n" * rng.choice([1, 500]) + _head(length)
    elif kind == "encoding":
        encoding = rng.choice([b"gzip", b"br", b"identity", b"x" * 500, b"gzip, gzip", b"\xff"])
        body = rng.choice([body, gzip.compress(body), gzip.compress(b" " * 2**24)])
        head = _head(b"Content-Length: %d" % len(body), b"Content-Encoding: " + encoding)
    elif kind == "none":
        head = rng.choice([b"", b"\r\n\r\n", b"\x00" * 50, b"HTTP/1.1 200 OK\r\n\r\n"])
    return Answer(what=f"head: {kind}", data=head + body, document=document)


def _chunk(rng: random.Random, body: bytes) -> bytes:
    half = len(body) // 2
    good = b"%x\r\n%s\r\n%x\r\n%s\r\n0\r\n\r\n" % (half, body[:half], len(body) - half, body[half:])
    return rng.choice(
        [
            good,
            good.replace(b"\r\n0\r\n", b"\r\n0\r\nContent-Length: 5\r\nX: y\r\n"),
            good[:-7],
            b"-1\r\n" + body,
            b"f" * 20 + b"\r\n" + body,
            b"%x;" % len(body) + b"a" * 70_000 + b"\r\n" + body + b"\r\n0\r\n\r\n",
            mutate(rng, good),
            b"1\r\n \r\n" * 20_000 + good,
        ]
    )


def _never_end(rng: random.Random, body: bytes, document: object) -> Answer:
    end: End = rng.choice(["hang", "endless", "endless", "drip", "reset"])
    data = rng.choice(
        [
            b"",
            b"HTTP/1.1 200 OK\r\nX: ",
            _head(b"Content-Length: 999999999999") + body[:5],
            _head() + body[:5],
            _head(b"Transfer-Encoding: chunked") + b"fffffffff\r\n",
            _head(b"Transfer-Encoding: chunked") + b"5;",
        ]
    )
    return Answer(what=f"end: {end}", data=data, end=end, document=document)


class HostileServer:
    """Sends the configured response of a path, and records the largest number of bytes sent in one response."""

    def __init__(self) -> None:
        self.endpoint = ""
        self.answers: dict[str, Answer] = {}
        self.most_sent = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Respond to one request."""
        with suppress(asyncio.IncompleteReadError):
            await self._respond(reader, writer)

    async def _respond(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        path = head.split(" ", 2)[1].partition("?")[0]
        answer = self.answers.get(path, Answer(what="missing", data=b"HTTP/1.1 404 x\r\nContent-Length: 0\r\n\r\n"))
        writer.write(answer.data)
        await writer.drain()
        await self._end(answer, reader, writer)

    async def _end(self, answer: Answer, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        sent = len(answer.data)
        if answer.end == "hang":
            # Until the client closes; it may still send a body.
            while await reader.read(65_536):
                pass
        while answer.end == "endless" and sent < MOST_SENT and not writer.is_closing():
            writer.write(_CHUNK)
            sent += len(_CHUNK)
            await writer.drain()
        while answer.end == "drip" and not writer.is_closing():
            writer.write(b" ")
            await writer.drain()
            await asyncio.sleep(_DRIP_SECONDS)
        if answer.end == "reset":
            writer.transport.abort()
        self.most_sent = max(self.most_sent, sent)


@asynccontextmanager
async def run_hostile_server() -> AsyncGenerator[HostileServer]:
    """Serve on a free port of 127.0.0.1."""
    hostile = HostileServer()
    async with serve_connections(hostile.serve) as port:
        hostile.endpoint = f"http://127.0.0.1:{port}"
        yield hostile
