"""Measure revocation: propagation over Redis, the cost of a check, memory, and the start of a process.

The Redis server runs on this machine. Each follower is a separate process, with an event loop that does nothing else.
"""

import asyncio
import gc
import json
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import tracemalloc
from collections.abc import Generator
from contextlib import ExitStack, contextmanager
from itertools import pairwise
from typing import Any, Final

from fastapi import Depends, FastAPI

from benchmarks.common import AUDIENCE
from benchmarks.in_process import call
from benchmarks.provider import BenchProvider
from fastapi_logto import LogtoAuth
from fastapi_logto.clock import Clock
from fastapi_logto.revocation import RedisStore, Revocation, Revocations
from fastapi_logto.verification.revocation_feed import RevocationFeed

_COUNT: Final = 100_000
_FOLLOWERS: Final = 4
_ROUNDS: Final = 500
_BUILDS: Final = 5
_PAIRS: Final = 400
_CALLS: Final = 20
_KEPT_SECONDS: Final = 24 * 3600 + 120


@contextmanager
def _serve_redis() -> Generator[str]:
    """Run a Redis server and yield its URL."""
    if shutil.which("redis-server") is None:
        raise RuntimeError("expected redis-server, found none; apt-get install redis-server")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with tempfile.TemporaryDirectory() as folder:
        command = ["redis-server", "--port", str(port), "--bind", "127.0.0.1", "--dir", folder, "--save", ""]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        try:
            while True:
                try:
                    socket.create_connection(("127.0.0.1", port)).close()
                    break
                except ConnectionRefusedError:
                    time.sleep(0.02)
            yield f"redis://127.0.0.1:{port}"
        finally:
            process.kill()
            process.wait()


def _build_feed(url: str) -> RevocationFeed:
    return RevocationFeed(
        RedisStore(url), clock=Clock(), on_outage="closed", outage_seconds=30, longest_token_seconds=24 * 3600
    )


def _name(number: int) -> str:
    # As long as a user id of Logto.
    return f"user{number:08d}"


async def _fill(url: str) -> None:
    store, now = RedisStore(url), time.time()
    for first in range(0, _COUNT, 500):
        revocations = [Revocation(before=now, user_id=_name(number)) for number in range(first, first + 500)]
        await store.append(revocations, kept_seconds=_KEPT_SECONDS)


async def _follow(url: str, rounds: int) -> None:
    """Print the monotonic time at which each revocation is in effect in this process."""
    feed = _build_feed(url)
    await feed.warm()
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    times: list[float] = []
    known = len(feed.tokens)
    while len(times) < rounds:
        # As often as a busy application runs its callbacks.
        await asyncio.sleep(0.0005)
        found = len(feed.tokens) - known - len(times)
        times += [time.monotonic()] * found
    await feed.close()
    sys.stdout.write(json.dumps(times) + "\n")


async def _revoke(url: str, rounds: int) -> list[float]:
    feed = _build_feed(url)
    await feed.warm()
    times: list[float] = []
    for number in range(rounds):
        times.append(time.monotonic())
        await feed.add([Revocation(before=time.time(), user_id=f"revoked{number}")])
        await asyncio.sleep(0.01)
    await feed.close()
    return times


def _measure_propagation(url: str) -> dict[str, float]:
    """Return percentiles of the time from the call of `revoke` to the effect in the last one of four processes."""
    command = [sys.executable, "-m", "benchmarks.revocation", url, str(_ROUNDS)]
    with ExitStack() as stack:
        followers = [
            stack.enter_context(subprocess.Popen(command, stdout=subprocess.PIPE, text=True)) for _ in range(_FOLLOWERS)
        ]
        outputs = [follower.stdout for follower in followers if follower.stdout is not None]
        for output in outputs:
            output.readline()
        begun = asyncio.run(_revoke(url, _ROUNDS))
        ended = zip(*(json.loads(output.readline()) for output in outputs), strict=True)
        waits = sorted((max(times) - start) * 1e3 for start, times in zip(begun, ended, strict=True))
    return {"p50": statistics.median(waits), "p99": waits[int(len(waits) * 0.99)], "longest": waits[-1]}


async def _measure_load(url: str) -> dict[str, float]:
    """Return seconds and memory of loading all revocations, and the longest CPU time without a turn of the loop."""
    feed, loop = _build_feed(url), asyncio.get_running_loop()
    start = time.perf_counter()
    await feed.warm()
    seconds = time.perf_counter() - start
    await feed.close()

    feed, turns = _build_feed(url), list[float]()

    def note_turn() -> None:
        turns.append(time.thread_time())
        loop.call_soon(note_turn)

    gc.collect()
    gc.disable()
    loop.call_soon(note_turn)
    await feed.warm()
    gc.enable()
    held = sorted(after - before for before, after in pairwise(turns))
    await feed.close()

    gc.collect()
    tracemalloc.start()
    before, _ = tracemalloc.get_traced_memory()
    feed = _build_feed(url)
    await feed.warm()
    gc.collect()
    after, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    await feed.close()
    return {
        "seconds": seconds,
        "mebibytes": (after - before) / 2**20,
        "held_p99": held[int(len(held) * 0.99)] * 1e3,
        "held_longest": held[-1] * 1e3,
    }


def _build_app(endpoint: str, revocations: Revocations | None) -> FastAPI:
    auth = LogtoAuth(endpoint=endpoint, audience=AUDIENCE, algorithms=["ES384"], revocations=revocations)
    app = FastAPI()

    @app.get("/protected", dependencies=[Depends(auth)])
    async def protected() -> dict[str, str]:
        return {"hello": "world"}

    return app


async def _measure_pairs(apps: dict[str, FastAPI], token: str) -> list[tuple[float, float]]:
    """Return the CPU time of a request in microseconds, without revocations and with all, in pairs."""
    samples: dict[str, list[float]] = {name: [] for name in apps}
    for app in apps.values():
        for _ in range(200):
            await call(app, token)
    for number in range(_PAIRS):
        # Each one is the first of a pair as often as the other.
        for name in sorted(apps, reverse=number % 2 == 1):
            start = time.process_time()
            for _ in range(_CALLS):
                await call(apps[name], token)
            samples[name].append((time.process_time() - start) / _CALLS * 1e6)
    return list(zip(samples["off"], samples["on"], strict=True))


def _measure_cost(url: str) -> dict[str, float]:
    """Return the CPU time of a request without revocations in microseconds, and by how much that with all is longer."""
    pairs: list[tuple[float, float]] = []
    with BenchProvider("ES384") as provider:
        # Several times, because the places of the objects in memory make a difference too.
        for _ in range(_BUILDS):
            apps = {
                "off": _build_app(provider.endpoint, None),
                "on": _build_app(provider.endpoint, Revocations(RedisStore(url))),
            }
            pairs += asyncio.run(_measure_pairs(apps, provider.mint()))
    return {
        "off": statistics.median(off for off, _ in pairs),
        "difference": statistics.median(on - off for off, on in pairs),
    }


def measure_revocation() -> dict[str, Any]:
    """Return all measurements, with 100,000 revocations in Redis."""
    with _serve_redis() as url:
        asyncio.run(_fill(url))
        return {
            "load": asyncio.run(_measure_load(url)),
            "cost": _measure_cost(url),
            "propagation": _measure_propagation(url),
        }


if __name__ == "__main__":
    asyncio.run(_follow(sys.argv[1], int(sys.argv[2])))
