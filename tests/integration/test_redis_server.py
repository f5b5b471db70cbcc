"""Revocations in a real Redis: shared, loaded at the start, and complete after every fault of the server."""

import asyncio
import gc
import logging
import tracemalloc
from collections.abc import AsyncGenerator, Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from fastapi_logto.revocation import RedisStore, Revocation, RevocationStoreError
from fastapi_logto.testing import ManualClock
from fastapi_logto.verification.revocation_feed import RevocationFeed
from tests.integration.processes import find_free_port, run_module
from tests.integration.redis_server import RedisServer
from tests.tenants import make_certificate

NOW: Final = 1_800_000_000
DAY: Final = 24 * 3600
KEPT: Final = DAY + 120
KEY: Final = "{fastapi-logto:revocations}"


def revoke(*user_ids: str) -> list[Revocation]:
    return [Revocation(before=NOW, user_id=user_id) for user_id in user_ids]


async def read_all(store: RedisStore) -> list[str | None]:
    found: list[str | None] = []
    position, is_last = None, False
    while not is_last:
        batch = await store.read(position, wait_seconds=0)
        found += [one.user_id for one in batch.revocations]
        position, is_last = batch.position, batch.is_last
    return found


@pytest.fixture
async def store(redis_server: RedisServer) -> AsyncGenerator[RedisStore]:
    store = RedisStore(redis_server.url)
    yield store
    await store.close()


async def run(server: RedisServer, *command: str | int) -> Any:
    return await asyncio.to_thread(server.run, *command)


async def test_what_one_process_appends_another_one_reads(store: RedisStore, redis_server: RedisServer) -> None:
    other = RedisStore(redis_server.url)
    complete = Revocation(
        before=NOW + 0.123456, user_id="é", organization_id="o", client_id="c", token_id="t", issuer="i"
    )
    everything = Revocation(before=NOW)

    await store.append([complete, everything], kept_seconds=KEPT)

    batch = await other.read(None, wait_seconds=0)
    assert (list(batch.revocations), batch.is_last, batch.is_restarted) == ([complete, everything], True, False)
    assert (await other.read(batch.position, wait_seconds=0)).revocations == []
    await other.close()


async def test_a_read_waits_for_the_next_revocation(store: RedisStore, redis_server: RedisServer) -> None:
    empty = await store.read(None, wait_seconds=0.001)
    assert (empty.revocations, empty.is_last) == ([], True)
    waiting = asyncio.ensure_future(store.read(empty.position, wait_seconds=30))
    while "cmd=xread" not in str(await run(redis_server, "CLIENT", "LIST")):
        assert not waiting.done()

    await store.append(revoke("alice"), kept_seconds=KEPT)

    assert (await waiting).revocations == revoke("alice")


async def test_many_are_read_in_small_batches(store: RedisStore) -> None:
    names = [f"user-{number}" for number in range(100)]
    await store.append(revoke(*names), kept_seconds=KEPT)
    first = await store.read(None, wait_seconds=0)

    assert len(first.revocations) <= 50
    assert not first.is_last
    assert await read_all(store) == names


async def test_100_000_are_loaded_completely_and_take_little_memory(
    store: RedisStore, redis_server: RedisServer
) -> None:
    for first in range(0, 100_000, 500):
        names = [f"user{number:08d}" for number in range(first, first + 500)]
        await store.append(revoke(*names), kept_seconds=KEPT)
    feed = RevocationFeed(
        RedisStore(redis_server.url),
        clock=ManualClock(now=NOW),
        on_outage="closed",
        outage_seconds=30,
        longest_token_seconds=DAY,
        # Measuring the memory takes several times as long as loading.
        load_seconds=300,
    )
    # The modules for a connection are loaded already, so they are not measured.
    gc.collect()
    tracemalloc.start()
    await feed.warm()
    gc.collect()
    taken, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    await feed.close()

    assert len(feed.tokens) == 100_000
    assert taken <= 30 * 2**20


@pytest.fixture
def certificate() -> Iterator[tuple[Path, Path]]:
    """The files of an authority, and of a certificate for 127.0.0.1 with its key."""
    with make_certificate() as files:
        yield files


async def test_a_server_is_reached_over_tls_if_its_certificate_is_valid(
    redis_server: RedisServer, certificate: tuple[Path, Path]
) -> None:
    authority, own = certificate
    port = find_free_port()
    files = ("tls-cert-file", str(own), "tls-key-file", str(own), "tls-auth-clients", "no")
    await run(redis_server, "CONFIG", "SET", *files, "tls-port", port)
    url = f"rediss://127.0.0.1:{port}"
    trusting = RedisStore(f"{url}?ssl_ca_certs={authority}")

    await trusting.save_text("name", "text")
    assert await trusting.load_text("name") == "text"
    with pytest.raises(RevocationStoreError, match=r"found none \(invalid certificate: "):
        await RedisStore(url).load_text("name")


async def test_a_server_is_reached_over_a_unix_socket(tmp_path: Path, redis_server: RedisServer) -> None:
    redis_server.kill()
    local = RedisServer(tmp_path, "--unixsocket", str(tmp_path / "redis.sock"))
    await asyncio.to_thread(local.start)
    try:
        store = RedisStore(f"unix://{tmp_path}/redis.sock?db=1")
        await store.save_text("name", "text")
        assert await store.load_text("name") == "text"
    finally:
        local.kill()


async def test_entries_are_removed_by_their_age_and_the_next_read_continues(
    store: RedisStore, redis_server: RedisServer
) -> None:
    # Entries of whole nodes are removed, a hundred by default.
    await run(redis_server, "CONFIG", "SET", "stream-node-max-entries", 1)
    seconds, _ = await asyncio.to_thread(redis_server.run, "TIME")
    old = f"{(seconds - KEPT - 60) * 1000}-1"
    await run(redis_server, "XADD", KEY, old, "before", NOW, "user_id", "old")
    assert (await store.read(None, wait_seconds=0)).position == old

    await store.append(revoke("new"), kept_seconds=KEPT)

    batch = await store.read(old, wait_seconds=0)
    assert (batch.revocations, batch.is_restarted) == (revoke("new"), False)
    assert await read_all(store) == ["new"]


async def test_the_longest_time_of_several_apis_decides_how_long_entries_are_kept(
    store: RedisStore, redis_server: RedisServer
) -> None:
    await store.append(revoke("alice"), kept_seconds=KEPT)
    await store.append(revoke("bob"), kept_seconds=1)

    assert await run(redis_server, "GET", f"{KEY}:kept") == str(KEPT).encode()


async def test_a_foreign_entry_is_skipped_with_one_warning(
    store: RedisStore, redis_server: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    await store.append(revoke("alice"), kept_seconds=KEPT)
    for value in ("secret", "x" * 3000):
        await run(redis_server, "XADD", KEY, "*", "field", value)
    await store.append(revoke("bob"), kept_seconds=KEPT)

    assert await read_all(store) == ["alice", "bob"]
    (record,) = [one for one in caplog.records if one.levelno == logging.WARNING]
    assert record.getMessage().startswith("Redis: expected only entries of this package under the key of RedisStore")
    assert "secret" not in record.getMessage()


async def test_one_process_leads_until_its_lease_ends(store: RedisStore, redis_server: RedisServer) -> None:
    other = RedisStore(redis_server.url)

    assert await store.try_lead("task", seconds=60)
    assert not await other.try_lead("task", seconds=60)
    assert await other.try_lead("another task", seconds=60)
    assert await store.try_lead("task", seconds=0.001)
    async with asyncio.timeout(30):
        while not await other.try_lead("task", seconds=60):
            pass


async def test_a_text_is_saved_for_all_processes(store: RedisStore, redis_server: RedisServer) -> None:
    assert await store.load_text("position") is None
    await store.save_text("position", "é")

    assert await RedisStore(redis_server.url).load_text("position") == "é"


async def test_stores_with_different_keys_are_separate_and_their_keys_are_in_one_slot(
    store: RedisStore, redis_server: RedisServer
) -> None:
    other = RedisStore(redis_server.url, key="api:{staging}")
    await other.append(revoke("alice"), kept_seconds=KEPT)
    await other.try_lead("task", seconds=60)
    await other.save_text("position", "1")
    assert await read_all(store) == []

    keys = await run(redis_server, "KEYS", "*")

    assert sorted(keys) == [
        b"api:{staging}",
        b"api:{staging}:kept",
        b"api:{staging}:lead:task",
        b"api:{staging}:oldest",
        b"api:{staging}:text:position",
    ]
    await other.close()


async def test_a_connection_that_the_server_has_closed_is_replaced(
    store: RedisStore, redis_server: RedisServer
) -> None:
    position = (await store.read(None, wait_seconds=0.001)).position
    await run(redis_server, "CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")

    await store.append(revoke("alice"), kept_seconds=KEPT)
    assert (await store.read(position, wait_seconds=0)).revocations == revoke("alice")


def test_each_event_loop_has_its_own_connection_which_is_not_left_open(redis_server: RedisServer) -> None:
    store = RedisStore(redis_server.url)

    async def work(name: str) -> list[str | None]:
        await store.append(revoke(name), kept_seconds=KEPT)
        return await read_all(store)

    assert asyncio.run(work("first")) == ["first"]
    assert asyncio.run(work("second")) == ["first", "second"]
    # An unclosed socket would be a warning, which is an error here.
    gc.collect()


@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_the_connection_of_a_closed_loop_is_forgotten(redis_server: RedisServer) -> None:
    store = RedisStore(redis_server.url)
    for wait_seconds in (0.001, 0):
        asyncio.run(store.read(None, wait_seconds=wait_seconds))
    gc.collect()

    # Only for this command.
    assert str(redis_server.run("CLIENT", "LIST")).count("addr=") == 2


FORK = """
import asyncio, os, sys
from fastapi_logto.revocation import RedisStore, Revocation

store = RedisStore(sys.argv[1])
loop = asyncio.new_event_loop()

async def work(name):
    await store.append([Revocation(before=1, user_id=name)], kept_seconds=60)
    return [one.user_id for one in (await store.read(None, wait_seconds=0.001)).revocations]

print("parent", loop.run_until_complete(work("a")), loop.run_until_complete(store.try_lead("task", seconds=60)))
sys.stdout.flush()
child = os.fork()
if child == 0:
    own = asyncio.new_event_loop()
    print("child", own.run_until_complete(work("b")), own.run_until_complete(store.try_lead("task", seconds=60)))
    sys.stdout.flush()
    os._exit(0)
os.waitpid(child, 0)
print("parent", loop.run_until_complete(work("c")), loop.run_until_complete(store.try_lead("task", seconds=60)))
loop.run_until_complete(store.close())
"""


def test_a_child_of_fork_has_its_own_connection_and_is_another_leader(
    redis_server: RedisServer, tmp_path: Path
) -> None:
    (tmp_path / "forking.py").write_text(FORK)

    with run_module("forking", redis_server.url, environment={}, cwd=tmp_path) as process:
        process.wait()

    assert process.output.splitlines() == [
        "parent ['a'] True",
        "child ['a', 'b'] False",
        "parent ['a', 'b', 'c'] True",
    ]
