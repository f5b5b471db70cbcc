"""Put all kinds of load on one worker and on four: rates, response times, statuses and memory.

Each phase is preceded by its baseline: an unprotected route of the same server, with as many clients.
"""

import statistics
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from benchmarks.load import Load, Running, Server, finish, serve, start
from benchmarks.memory import MemorySampler, find_growth, summarize_memory
from benchmarks.phases import BASELINE, PHASES, Phase, Stream, World, find_wrong
from benchmarks.provider import BenchProvider
from tests.integration.redis_server import RedisServer, redis_is_installed

_WORKERS: Final = (1, 4)
_BASELINE_SECONDS: Final = 2
# More than any machine verifies.
_NEW_TOKENS_PER_SECOND: Final = 3000


@dataclass(slots=True)
class Row:
    """The measurements of one stream: ratios to the baseline of each cycle, and all statuses."""

    phase: str
    stream: Stream
    failed: int = 0
    rates: list[float] = field(default_factory=list[float])
    p50s: list[float] = field(default_factory=list[float])
    p99s: list[float] = field(default_factory=list[float])
    statuses: Counter[int] = field(default_factory=Counter[int])

    def add(self, load: Load, baseline: Load) -> None:
        """Add the measurements of one cycle."""
        self.rates.append(load.rate / baseline.rate)
        self.p50s.append(load.p50 / baseline.p50)
        self.p99s.append(load.p99 / baseline.p99)
        self.statuses.update(load.statuses)
        self.failed += load.failed

    def summarize(self) -> dict[str, Any]:
        """Return the medians of all cycles."""
        return {
            "phase": self.phase,
            "stream": self.stream.name,
            "clients": self.stream.clients,
            "rate": statistics.median(self.rates),
            "p50": statistics.median(self.p50s),
            "p99": statistics.median(self.p99s),
            "p99_range": [min(self.p99s), max(self.p99s)],
            "statuses": {str(status): count for status, count in sorted(self.statuses.items())},
            "wrong": self.failed + sum(self.statuses[one] for one in self.statuses.keys() - self.stream.allowed),
        }


class _LoadTest:
    """The load on one server."""

    def __init__(self, server: Server, world: World, *, seconds: int) -> None:
        self.problems: list[str] = []
        self._server = server
        self._world = world
        self._seconds = seconds
        self._rows = {
            (phase.name, stream.name): Row(phase.name, stream) for phase in PHASES for stream in phase.streams
        }

    def check_itself(self) -> None:
        """Fail unless a status that is not allowed is reported."""
        stream = replace(PHASES[0].streams[0], allowed=frozenset({401}))
        if not find_wrong(stream, finish(self._start(stream, seconds=1))):
            raise RuntimeError("expected that responses with another status are reported, found no report")

    def run_cycle(self) -> None:
        """Run all phases."""
        self._world.renew(new_tokens=_NEW_TOKENS_PER_SECOND * self._seconds)
        for phase in PHASES:
            baseline = finish(self._start(BASELINE, seconds=min(_BASELINE_SECONDS, self._seconds)))
            self._note(phase, BASELINE, baseline)
            for stream, load in self._run(phase):
                self._rows[phase.name, stream.name].add(load, baseline)
                self._note(phase, stream, load)

    def summarize(self) -> list[dict[str, Any]]:
        """Return the rows of the table."""
        return [row.summarize() for row in self._rows.values()]

    def _run(self, phase: Phase) -> list[tuple[Stream, Load]]:
        phase.before(self._world)
        running = [(stream, self._start(stream, seconds=self._seconds)) for stream in phase.streams]
        time.sleep(0.3)
        phase.during(self._world)
        found = [(stream, finish(load)) for stream, load in running]
        phase.after(self._world)
        return found

    def _start(self, stream: Stream, *, seconds: int) -> Running:
        tokens = None if stream.tokens is None else self._world.find(stream.tokens)
        return start(
            self._server,
            path=stream.path,
            tokens=tokens,
            clients=stream.clients,
            seconds=seconds,
            counts_statuses=True,
        )

    def _note(self, phase: Phase, stream: Stream, load: Load) -> None:
        self.problems += [f"{phase.name}: {wrong}" for wrong in find_wrong(stream, load)]
        if stream.is_once and stream.tokens and load.requests > self._world.count(stream.tokens):
            raise RuntimeError(f"{phase.name}: the new tokens ran out")


def _measure(workers: int, *, cycles: int, seconds: int) -> tuple[dict[str, Any], list[str]]:
    with BenchProvider("ES384") as provider, ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        (folder / "redis").mkdir()
        redis = RedisServer(folder / "redis")
        redis.start()
        stack.callback(redis.kill)
        world = World(provider, redis, folder)
        environment = {"BENCH_ENDPOINT": provider.endpoint, "BENCH_REDIS_URL": redis.url}
        server = stack.enter_context(
            serve("benchmarks.load_app:create_app", environment, token=provider.mint(), workers=workers)
        )
        test = _LoadTest(server, world, seconds=seconds)
        test.check_itself()
        began = time.monotonic()
        with MemorySampler(server.workers) as sampler:
            for _ in range(cycles):
                test.run_cycle()
        memory = summarize_memory(sampler.samples)
        ended = ["expected that all workers run until the end, found that one has ended"] if sampler.has_ended else []
        problems = [f"{workers} workers: {one}" for one in (*test.problems, *ended, *find_growth(memory))]
        found = {"seconds": time.monotonic() - began, "rows": test.summarize(), "memory": memory}
        return found, problems


def measure_load(*, cycles: int = 5, seconds: int = 3, workers: Sequence[int] = _WORKERS) -> dict[str, Any]:
    """Run all phases against each number of workers.

    Args:
        cycles: How often all phases are run. Memory is compared between the second and the last fifth of the time.
        seconds: The duration of a phase.
        workers: The numbers of workers.

    Returns:
        By number of workers: the duration, a row for each stream and the memory of each worker; and `problems`, a line
        for each response and each growth of memory that is not allowed.
    """
    if not redis_is_installed():
        raise RuntimeError("expected redis-server, found none; apt-get install redis-server")
    found: dict[str, Any] = {"workers": {}, "problems": []}
    for count in workers:
        found["workers"][str(count)], problems = _measure(count, cycles=cycles, seconds=seconds)
        found["problems"] += problems
    return found
