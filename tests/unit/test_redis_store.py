"""The store in Redis, without Redis: its arguments and commands, the entries of the stream, errors without secrets."""

import asyncio
import gc
import logging
import ssl
import sys
import threading
import weakref
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import pytest
import redis.exceptions
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from fastapi_logto.revocation import RedisStore, Revocation, RevocationStoreError
from fastapi_logto.revocation.redis_connection import Argument, Link, explain_redis_error
from fastapi_logto.revocation.redis_store import parse_entry
from fastapi_logto.verification.revocation_store import Batch
from tests.unit.fakes import wait_until

PASSWORD = "pass-word-of-redis"
URL = f"redis://name-of-user:{PASSWORD}@redis.example.test:1/0"
GOOD = (b"before", b"1800000000.5", b"user_id", b"alice")


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """Fields of an entry, and the revocation in them."""

    id: str
    fields: tuple[bytes, ...]
    found: Revocation | None = None


ROWS = (
    Row(id="good", fields=GOOD, found=Revocation(before=1_800_000_000.5, user_id="alice")),
    Row(id="everything is revoked", fields=GOOD[:2], found=Revocation(before=1_800_000_000.5)),
    Row(
        id="all values",
        fields=(*GOOD, b"organization_id", b"o", b"client_id", b"c", b"token_id", b"t", b"issuer", b"i"),
        found=Revocation(
            before=1_800_000_000.5, user_id="alice", organization_id="o", client_id="c", token_id="t", issuer="i"
        ),
    ),
    Row(id="not ASCII", fields=(*GOOD[:3], "é".encode()), found=Revocation(before=1_800_000_000.5, user_id="é")),
    Row(
        id="longest value",
        fields=(*GOOD[:3], b"a" * 2048),
        found=Revocation(before=1_800_000_000.5, user_id="a" * 2048),
    ),
    Row(
        id="longest number",
        fields=(b"before", b"1800000000.5".ljust(32, b"0"), *GOOD[2:]),
        found=Revocation(before=1_800_000_000.5, user_id="alice"),
    ),
    Row(id="too long", fields=(*GOOD[:3], b"a" * 2049)),
    Row(id="empty value", fields=(*GOOD[:3], b"")),
    Row(id="blank value", fields=(*GOOD[:3], b" \t")),
    Row(id="not UTF-8", fields=(*GOOD[:3], b"\xff")),
    Row(id="no fields", fields=()),
    Row(id="no time", fields=GOOD[2:]),
    Row(id="not a number", fields=(b"before", b"soon", *GOOD[2:])),
    Row(id="NaN", fields=(b"before", b"nan", *GOOD[2:])),
    Row(id="infinite", fields=(b"before", b"inf", *GOOD[2:])),
    Row(id="too many digits", fields=(b"before", b"1" * 33, *GOOD[2:])),
    Row(id="unknown field", fields=(*GOOD, b"scope", b"read")),
    Row(id="field twice", fields=(*GOOD, b"user_id", b"bob")),
    Row(id="odd number", fields=GOOD[:3]),
)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.id)
def test_an_entry_is_parsed_strictly(row: Row) -> None:
    assert parse_entry(row.fields) == row.found


@given(st.lists(st.sampled_from([*GOOD, b"", b"issuer", b"\xc3"]) | st.binary(max_size=40), max_size=8))
def test_any_entry_is_a_revocation_or_none(fields: list[bytes]) -> None:
    revocation = parse_entry(fields)

    assert revocation is None or b"before" in fields


ERRORS = (
    (redis.exceptions.AuthenticationError("WRONGPASS"), "expected a valid user and password, found others"),
    (redis.exceptions.AuthenticationWrongNumberOfArgsError("ERR"), "expected a valid user and password, found others"),
    (redis.exceptions.NoPermissionError("User name-of-user has no"), "found one without permission"),
    (redis.exceptions.OutOfMemoryError("command not allowed"), "found the error OutOfMemoryError;"),
    (redis.exceptions.BusyLoadingError("Redis is loading"), "found the error BusyLoadingError;"),
    (redis.exceptions.ResponseError("MISCONF name-of-user may not"), "found the error MISCONF;"),
    # A proxy may repeat the request, in any form.
    (redis.exceptions.ResponseError("EXAMPLESECRET name-of-user"), "found the error of another kind;"),
    (redis.exceptions.ResponseError("exampleSecretError"), "found the error of another kind;"),
    (redis.exceptions.ConnectionError("Error connecting to redis.example.test"), "found none (ConnectionError)"),
)


@pytest.mark.parametrize(("error", "text"), ERRORS, ids=lambda value: type(value).__name__)
def test_an_error_of_redis_is_explained_without_its_text(error: Exception, text: str) -> None:
    explained = explain_redis_error(error)

    assert text in explained
    assert "name-of-user" not in explained
    assert "example" not in explained.lower()


@pytest.mark.parametrize(
    "code",
    [
        *("BUSY", "CLUSTERDOWN", "CROSSSLOT", "ERR", "EXECABORT", "LOADING", "MASTERDOWN", "MISCONF", "MOVED"),
        *("NOREPLICAS", "OOM", "READONLY", "TRYAGAIN", "UNBLOCKED", "WRONGTYPE"),
    ],
)
def test_a_known_code_of_redis_is_named(code: str) -> None:
    explained = explain_redis_error(redis.exceptions.ResponseError(f"{code} name-of-user"))

    assert explained == f"expected a successful command, found the error {code}; see the log of the server"


@pytest.mark.parametrize(
    "url", ["", "https://redis.example.test", f"redis://u:{PASSWORD}@host:port", f"redis://h?x={PASSWORD}", "host:1"]
)
def test_an_invalid_url_is_rejected_without_being_shown(url: str) -> None:
    with pytest.raises(ValueError, match=r"^url: expected the URL of a Redis server") as caught:
        RedisStore(url)

    assert PASSWORD not in str(caught.value)
    assert caught.value.__suppress_context__


@pytest.mark.parametrize("timeout_seconds", [0, -1, 61, True, float("nan")])
def test_the_timeout_has_limits(timeout_seconds: float) -> None:
    with pytest.raises(ValueError, match=r"^timeout_seconds: expected more than 0 and at most 60 seconds, found "):
        RedisStore(URL, timeout_seconds=timeout_seconds)


@pytest.mark.parametrize("timeout_seconds", [0.001, 60])
def test_the_timeout_may_be_at_a_limit(timeout_seconds: float) -> None:
    RedisStore(URL, timeout_seconds=timeout_seconds)


def test_the_key_must_not_be_empty() -> None:
    with pytest.raises(ValueError, match=r"^key: expected a text that is not empty, found none"):
        RedisStore(URL, key=" ")


@pytest.mark.parametrize(("missing", "named"), [("redis.asyncio.connection", "redis"), ("hiredis", "hiredis")])
def test_without_the_extra_the_error_names_it(missing: str, named: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, missing, None)

    with pytest.raises(ImportError, match=rf"found no {named}.*; install fastapi-logto\[redis\]$"):
        RedisStore(URL)


@pytest.mark.parametrize("url", [URL, SecretStr(URL)], ids=["text", "secret"])
async def test_an_unreachable_server_is_an_error_without_the_url(url: str | SecretStr) -> None:
    store = RedisStore(url)

    with pytest.raises(RevocationStoreError) as caught:
        await store.load_text("name")

    shown = f"{caught.value} {caught.value!r} {store!r} {vars(store)}"
    assert str(caught.value).startswith("Redis: expected a connection, found none (no address: ")
    assert PASSWORD not in shown
    assert "example" not in shown
    await store.close()


async def test_the_trust_store_is_read_once_and_not_on_the_event_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    threads, create = list[threading.Thread](), ssl.create_default_context

    def record() -> ssl.SSLContext:
        threads.append(threading.current_thread())
        return create()

    monkeypatch.setattr(ssl, "create_default_context", record)
    store = RedisStore("rediss://127.0.0.1:1")

    for _ in range(2):
        with pytest.raises(RevocationStoreError, match="expected a connection"):
            await store.load_text("name")

    (thread,) = threads
    assert thread is not threading.current_thread()


class DeafConnection:
    """A connection whose server never confirms that it is closed."""

    ssl_context = None

    async def send_command(self, *arguments: Argument) -> None:
        raise NotImplementedError

    async def read_response(self) -> object:
        raise NotImplementedError

    async def disconnect(self, nowait: bool = False) -> None:  # noqa: FBT001, FBT002 - the signature of redis-py
        if not nowait:
            await asyncio.Event().wait()


async def test_closing_a_connection_does_not_wait_for_the_server() -> None:
    async with asyncio.timeout(1):
        await Link(DeafConnection()).close()


Reply: TypeAlias = "bytes | int | Sequence[Reply] | None"

KEY = b"{fastapi-logto:revocations}"
ALICE, BOB = (Revocation(before=1_800_000_000.5, user_id=name) for name in ("alice", "bob"))


def encode(reply: Reply) -> bytes:
    """Return a reply in the protocol of Redis."""
    if reply is None:
        return b"$-1\r\n"
    if isinstance(reply, int):
        return b":%d\r\n" % reply
    if isinstance(reply, bytes):
        return b"$%d\r\n%b\r\n" % (len(reply), reply)
    return b"*%d\r\n%b" % (len(reply), b"".join(map(encode, reply)))


def entry(position: str, revocation: Revocation) -> Reply:
    return [
        position.encode(),
        [b"before", repr(revocation.before).encode(), b"user_id", str(revocation.user_id).encode()],
    ]


class ScriptedServer:
    """Sends the replies of a script, and records the commands; without a reply, it lets the client wait.

    Attributes:
        replies: What is sent next.
        commands: What was received.
        opened: Number of connections.
        closed: Number of those that the client has closed.
    """

    def __init__(self) -> None:
        self.replies: list[Reply] = []
        self.commands: list[list[bytes]] = []
        self.opened = self.closed = 0
        self._writers: list[asyncio.StreamWriter] = []

    def drop_connections(self) -> None:
        """Close all connections, as a server does with those that are not used for a while."""
        for writer in self._writers:
            writer.close()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.opened += 1
        self._writers.append(writer)
        while count := (await reader.readline())[1:]:
            command: list[bytes] = []
            for _ in range(int(count)):
                length = int((await reader.readline())[1:])
                command.append((await reader.readexactly(length + 2))[:-2])
            if command[:2] == [b"CLIENT", b"SETINFO"]:
                # Older versions of redis-py name themselves on each connection.
                writer.write(b"+OK\r\n")
                continue
            self.commands.append(command)
            if self.replies:
                writer.write(encode(self.replies.pop(0)))
        self.closed += 1
        writer.close()


@pytest.fixture
async def server(tmp_path: Path) -> AsyncGenerator[ScriptedServer]:
    scripted = ScriptedServer()
    listening = await asyncio.start_unix_server(scripted.serve, tmp_path / "redis")
    yield scripted
    listening.close()


@pytest.fixture
def store(tmp_path: Path) -> RedisStore:
    return RedisStore(f"unix://{tmp_path / 'redis'}")


async def test_revocations_are_appended_in_one_command_on_its_own_connection(
    server: ScriptedServer, store: RedisStore
) -> None:
    server.replies = [None]
    whole = Revocation(before=1, user_id="u", organization_id="o", client_id="c", token_id="t", issuer="i")

    await store.append([ALICE, whole], kept_seconds=3600.2)
    await wait_until(lambda: server.closed == 1)

    ((name, script, *arguments),) = server.commands
    assert name == b"EVAL"
    assert b"XADD" in script
    assert arguments == [
        *(b"3", KEY, KEY + b":oldest", KEY + b":kept", b"3601"),
        *(b"4", b"before", b"1800000000.5", b"user_id", b"alice"),
        *(b"12", b"before", b"1.0", b"user_id", b"u", b"organization_id", b"o", b"client_id", b"c", b"token_id", b"t"),
        *(b"issuer", b"i"),
    ]


@pytest.mark.parametrize(("seconds", "milliseconds"), [(90, b"90000"), (0, b"1")])
async def test_a_lease_is_renewed_by_the_same_object_of_the_same_process(
    seconds: float, milliseconds: bytes, server: ScriptedServer, store: RedisStore
) -> None:
    server.replies = [1, 0]

    leads = [await store.try_lead("task", seconds=seconds) for _ in range(2)]

    assert leads == [True, False]
    first, second = server.commands
    assert first == second
    assert first[2:4] == [b"1", KEY + b":lead:task"]
    assert first[5:] == [milliseconds]


async def test_a_text_is_saved_and_loaded(server: ScriptedServer, store: RedisStore) -> None:
    server.replies = [b"OK", b"text \xff", None]

    await store.save_text("name", "text")

    assert await store.load_text("name") == "text \ufffd"
    assert await store.load_text("name") is None
    assert server.commands == [[b"SET", KEY + b":text:name", b"text"], *[[b"GET", KEY + b":text:name"]] * 2]
    await wait_until(lambda: server.closed == 3)
    assert server.opened == 3


@pytest.mark.parametrize(("key", "used"), [("own", b"{own}"), ("own:{tag}", b"own:{tag}")])
async def test_all_keys_are_in_one_hash_slot(key: str, used: bytes, server: ScriptedServer, tmp_path: Path) -> None:
    server.replies = [b"OK"]

    await RedisStore(f"unix://{tmp_path / 'redis'}", key=key).save_text("name", "text")

    assert server.commands == [[b"SET", used + b":text:name", b"text"]]


async def test_the_first_read_returns_all_and_keeps_no_connection(server: ScriptedServer, store: RedisStore) -> None:
    server.replies = [[entry("1-0", ALICE), entry("2-0", BOB)]]

    batch = await store.read(None, wait_seconds=0)

    assert batch == Batch(revocations=[ALICE, BOB], position="2-0", is_last=True)
    assert server.commands == [[b"XRANGE", KEY, b"0-0", b"+", b"COUNT", b"33"]]
    await wait_until(lambda: server.closed == 1)


async def test_a_read_waits_for_the_next_revocation_on_a_connection_that_is_kept(
    server: ScriptedServer, store: RedisStore
) -> None:
    server.replies = [[entry("1-0", ALICE)], None, [entry("1-0", ALICE), entry("2-0", BOB)], [entry("2-0", BOB)], None]
    server.replies.append([entry("2-0", BOB)])

    assert await store.read("1-0", wait_seconds=1.5) == Batch(revocations=[BOB], position="2-0", is_last=True)
    assert await store.read("2-0", wait_seconds=1.5) == Batch(revocations=[], position="2-0", is_last=True)

    def read(position: bytes) -> list[bytes]:
        return [b"XRANGE", KEY, position, b"+", b"COUNT", b"33"]

    def wait(position: bytes) -> list[bytes]:
        return [b"XREAD", b"COUNT", b"1", b"BLOCK", b"1500", b"STREAMS", KEY, position]

    assert server.commands == [
        *(read(b"1-0"), wait(b"1-0"), read(b"1-0")),
        *(read(b"2-0"), wait(b"2-0"), read(b"2-0")),
    ]
    assert (server.opened, server.closed) == (1, 0)
    await store.close()
    await wait_until(lambda: server.closed == 1)


async def test_a_read_goes_on_when_the_server_has_closed_the_connection_that_was_kept(
    server: ScriptedServer, store: RedisStore, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "fastapi_logto")
    server.replies = [[entry("1-0", ALICE)], [entry("1-0", ALICE), entry("2-0", BOB)]]
    first = await store.read(None, wait_seconds=1)
    server.drop_connections()
    await wait_until(lambda: server.closed == 1)
    assert caplog.messages == []

    second = await store.read(first.position, wait_seconds=1)

    assert (first.revocations, second.revocations, server.opened) == ([ALICE], [BOB], 2)
    (message,) = caplog.messages
    assert message.startswith("Redis: a new connection is opened after: expected a connection, found none (")
    await store.close()


@pytest.mark.parametrize(("wait_seconds", "waits"), [(0, []), (0.5, [b"500"])])
async def test_a_read_without_a_wait_returns_at_once(
    wait_seconds: float, waits: list[bytes], server: ScriptedServer, store: RedisStore
) -> None:
    server.replies = [[entry("1-0", ALICE)], None, [entry("1-0", ALICE)]]

    batch = await store.read("1-0", wait_seconds=wait_seconds)

    assert batch == Batch(revocations=[], position="1-0", is_last=True)
    assert [command[4] for command in server.commands if command[0] == b"XREAD"] == waits
    await store.close()


async def test_a_stream_that_is_restored_during_a_read_is_returned_at_once(
    server: ScriptedServer, store: RedisStore
) -> None:
    server.replies = [[], None, [entry("5-1", ALICE)]]

    batch = await store.read("5-1", wait_seconds=1)

    assert batch == Batch(revocations=[ALICE], position="5-1", is_last=True, is_restarted=True)
    await store.close()


async def test_a_read_that_fails_closes_its_connection(server: ScriptedServer, store: RedisStore) -> None:
    server.replies = [[b"text"]]

    with pytest.raises(RevocationStoreError) as caught:
        await store.read(None, wait_seconds=1)

    # The frames of the error still have the connection.
    assert str(caught.value).startswith("Redis: ")
    await wait_until(lambda: server.closed == 1)
    assert server.opened == 1


async def test_a_read_from_the_start_may_use_the_connection_that_was_kept(
    server: ScriptedServer, store: RedisStore
) -> None:
    server.replies = [[entry("1-0", ALICE)]] * 2

    batches = [await store.read(None, wait_seconds=1) for _ in range(2)]

    assert batches == [Batch(revocations=[ALICE], position="1-0", is_last=True)] * 2
    assert server.opened == 1
    await store.close()


@pytest.mark.parametrize(("oldest", "is_restarted"), [(b"6", False), (b"5", True), (None, True), (b"x", True)])
async def test_a_stream_without_the_last_entry_was_lost_unless_that_was_too_old(
    oldest: Reply, is_restarted: object, server: ScriptedServer, store: RedisStore
) -> None:
    server.replies = [[entry("7-0", BOB)], oldest]
    if is_restarted:
        server.replies.append([entry("1-0", ALICE), entry("7-0", BOB)])

    batch = await store.read("5-1", wait_seconds=1)

    assert batch.is_restarted is is_restarted
    assert batch.revocations == ([ALICE, BOB] if is_restarted else [BOB])
    assert batch.position == "7-0"
    assert server.commands[1] == [b"GET", KEY + b":oldest"]
    await store.close()


async def test_a_full_batch_is_followed_by_another_one_on_the_same_connection(
    server: ScriptedServer, store: RedisStore
) -> None:
    entries = [entry(f"{number}-0", ALICE) for number in range(1, 33)]
    server.replies = [entries, [entries[-1], entry("33-0", BOB)]]

    first = await store.read(None, wait_seconds=0)
    second = await store.read(first.position, wait_seconds=0)

    assert (first.position, first.is_last) == ("32-0", False)
    assert second == Batch(revocations=[BOB], position="33-0", is_last=True)
    await wait_until(lambda: server.closed == 1)
    assert server.opened == 1


async def test_entries_of_other_programs_are_skipped_and_reported_once(
    server: ScriptedServer, store: RedisStore, caplog: pytest.LogCaptureFixture
) -> None:
    server.replies = [[[b"1-0", [b"other", b"text"]], [b"2-0", [b"other", b"text"]], entry("3-0", BOB)]]

    batch = await store.read(None, wait_seconds=0)

    assert (batch.revocations, batch.position) == ([BOB], "3-0")
    assert [(record.name, record.levelname) for record in caplog.records] == [("fastapi_logto", "WARNING")]
    assert "expected only entries of this package" in caplog.text


async def test_a_command_may_take_two_seconds_and_a_read_longer_by_its_wait(
    server: ScriptedServer, store: RedisStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits, timeout = list[float | None](), asyncio.timeout

    def record(seconds: float | None) -> asyncio.Timeout:
        waits.append(seconds)
        return timeout(seconds)

    monkeypatch.setattr(asyncio, "timeout", record)
    server.replies = [None, [entry("1-0", ALICE)]]

    await store.load_text("name")
    await store.read(None, wait_seconds=1.5)
    await store.close()

    assert waits[0] == 2
    assert 3.5 in waits


async def test_a_server_that_does_not_reply_is_an_error_in_time(server: ScriptedServer, tmp_path: Path) -> None:
    store = RedisStore(f"unix://{tmp_path / 'redis'}", timeout_seconds=0.05)

    with pytest.raises(RevocationStoreError, match=r"^Redis: expected a response within 0\.05 s, found none"):
        await store.load_text("name")
    with pytest.raises(RevocationStoreError, match=r"^Redis: expected a response within 0\.1 s, found none"):
        await asyncio.wait_for(store.read(None, wait_seconds=0.05), 5)

    await wait_until(lambda: server.closed == 2)


async def test_a_command_that_is_cancelled_leaves_no_password_in_the_frames_of_its_error(
    server: ScriptedServer, tmp_path: Path
) -> None:
    command = asyncio.create_task(RedisStore(f"unix://{tmp_path / 'redis'}?password={PASSWORD}").load_text("name"))
    await wait_until(lambda: bool(server.commands))
    command.cancel()

    with pytest.raises(asyncio.CancelledError) as caught:
        await command

    assert server.commands == [[b"AUTH", PASSWORD.encode()]]
    frames = [entry.frame for entry in caught.traceback]
    assert "ask" in [frame.code.name for frame in frames]
    assert PASSWORD not in "".join(repr(frame.f_locals) for frame in frames)


async def test_a_connection_that_the_server_ends_is_not_tried_again(tmp_path: Path) -> None:
    opened = 0

    async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal opened
        opened += 1
        await reader.readline()
        writer.close()

    async with await asyncio.start_unix_server(hang_up, tmp_path / "redis"):
        with pytest.raises(RevocationStoreError, match="expected a connection, found none"):
            await RedisStore(f"unix://{tmp_path / 'redis'}?password={PASSWORD}").load_text("name")

    assert opened == 1


@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_nothing_is_kept_of_an_event_loop_that_ended_without_close(tmp_path: Path) -> None:
    store = RedisStore(f"unix://{tmp_path / 'redis'}")

    async def read(*, closes: bool) -> weakref.ref[asyncio.AbstractEventLoop]:
        scripted = ScriptedServer()
        scripted.replies = [[entry("1-0", ALICE)]]
        listening = await asyncio.start_unix_server(scripted.serve, tmp_path / "redis")
        await store.read(None, wait_seconds=1)
        if closes:
            await store.close()
        else:
            scripted.drop_connections()
        await wait_until(lambda: scripted.closed == 1)
        listening.close()
        return weakref.ref(asyncio.get_running_loop())

    ended = asyncio.run(read(closes=False))
    gc.collect()
    assert ended() is not None
    (tmp_path / "redis").unlink(missing_ok=True)

    asyncio.run(read(closes=True))
    gc.collect()

    assert ended() is None


def test_an_event_loop_keeps_its_connection_while_another_one_reads(tmp_path: Path) -> None:
    store, path = RedisStore(f"unix://{tmp_path / 'redis'}"), tmp_path / "redis"
    first, second = (ScriptedServer() for _ in range(2))
    first.replies, second.replies = [[entry("1-0", ALICE)]] * 2, [[entry("1-0", ALICE)]]

    async def listen(scripted: ScriptedServer) -> asyncio.Server:
        return await asyncio.start_unix_server(scripted.serve, path)

    async def close(scripted: ScriptedServer, listening: asyncio.Server) -> None:
        await store.close()
        await wait_until(lambda: scripted.closed == scripted.opened)
        listening.close()

    with asyncio.Runner() as one, asyncio.Runner() as other:
        of_one = one.run(listen(first))
        one.run(store.read(None, wait_seconds=1))
        path.unlink()
        of_other = other.run(listen(second))
        other.run(store.read(None, wait_seconds=1))
        one.run(store.read(None, wait_seconds=1))
        one.run(close(first, of_one))
        other.run(close(second, of_other))

    assert (first.opened, second.opened) == (1, 1)
