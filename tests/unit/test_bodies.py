"""Bodies that anyone may send: limits of size, time and memory."""

import asyncio
import hmac
from collections.abc import Awaitable, Callable, Sequence

import pytest
from fastapi import Request
from starlette.types import Message

from fastapi_logto.revocation.bodies import BodyError, BodyReader

LARGE = b"x" * (64 * 1024 + 1)


def build_request(
    chunks: Sequence[bytes], *, gate: asyncio.Event | None = None, headers: Sequence[tuple[bytes, bytes]] = ()
) -> Request:
    """Return a request whose last chunk arrives when the gate opens."""
    remaining = list(chunks)

    async def receive() -> Message:
        if gate is not None and len(remaining) == 1:
            await gate.wait()
        if not remaining:
            return {"type": "http.disconnect"}
        return {"type": "http.request", "body": remaining.pop(0), "more_body": bool(remaining)}

    return Request({"type": "http", "headers": list(headers)}, receive=receive)


async def refuse(call: Awaitable[bytes]) -> tuple[int, str]:
    with pytest.raises(BodyError) as refused:
        await call
    return refused.value.status, str(refused.value)


async def test_a_body_is_returned_as_it_was_sent_and_digested_while_it_arrives() -> None:
    digests = [hmac.new(key, digestmod="sha256") for key in (b"old", b"new")]

    body = await BodyReader(max_bytes=6).read(build_request([b"abc", b"def"]), digests=digests)

    assert body == b"abcdef"
    assert [one.digest() for one in digests] == [hmac.digest(key, b"abcdef", "sha256") for key in (b"old", b"new")]


@pytest.mark.parametrize(
    ("length", "read_count"),
    [(b"7", 0), (b"9" * 19, 0), (b"9" * 20, 3), (b"9" * 5000, 3), (b"6", 3), (b"-7", 3), (b"\xb2", 3)],
    ids=lambda value: str(value)[:30],
)
async def test_a_stated_length_only_refuses_a_body_earlier(length: bytes, read_count: int) -> None:
    chunks = [b"abc", b"def", b"g"]
    request = build_request(chunks, headers=[(b"content-length", length)])
    digest = hmac.new(b"key", digestmod="sha256")

    status, message = await refuse(BodyReader(max_bytes=6).read(request, digests=[digest]))

    assert (status, message) == (413, "expected a body of at most 6 bytes, found more")
    assert digest.digest() == hmac.digest(b"key", b"".join(chunks[:read_count]), "sha256")


async def test_a_body_that_takes_too_long_is_408() -> None:
    reader = BodyReader(max_bytes=10, max_seconds=0.01)

    status, message = await refuse(reader.read(build_request([b"a", b"b"], gate=asyncio.Event())))

    assert (status, message) == (408, "expected a complete body within 0.01 s, found a part of it")


async def test_a_body_may_take_ten_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    waits, timeout = list[float | None](), asyncio.timeout

    def end_at_once(seconds: float | None) -> asyncio.Timeout:
        waits.append(seconds)
        return timeout(0)

    monkeypatch.setattr(asyncio, "timeout", end_at_once)

    status, message = await refuse(BodyReader(max_bytes=10).read(build_request([b"a", b"b"], gate=asyncio.Event())))

    assert (status, message) == (408, "expected a complete body within 10 s, found a part of it")
    assert waits == [10]


async def test_an_incomplete_body_is_400() -> None:
    request = Request({"type": "http", "headers": []}, receive=build_disconnect())

    assert await refuse(BodyReader(max_bytes=10).read(request)) == (
        400,
        "expected a complete body, found a part of it",
    )


def build_disconnect() -> Callable[[], Awaitable[Message]]:
    async def receive() -> Message:
        return {"type": "http.disconnect"}

    return receive


async def test_a_few_large_bodies_arrive_at_a_time_and_any_number_of_small_ones() -> None:
    reader, gate = BodyReader(max_bytes=10 * len(LARGE)), asyncio.Event()
    held = [asyncio.ensure_future(reader.read(build_request([LARGE, b"end"], gate=gate))) for _ in range(8)]
    for _ in range(5):
        await asyncio.sleep(0)

    assert await refuse(reader.read(build_request([LARGE, b"end"]))) == (
        503,
        "expected fewer concurrent large bodies, found too many",
    )
    assert await reader.read(build_request([b"small"])) == b"small"
    assert await reader.read(build_request([LARGE[1:]])) == LARGE[1:]

    gate.set()
    assert await asyncio.gather(*held) == [LARGE + b"end"] * 8
    assert await reader.read(build_request([LARGE, b"end"])) == LARGE + b"end"
