"""The scenarios. The rounds of all contestants are interleaved."""

import random
import statistics
import sys
import tempfile
import time
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks.load import Load, Server, measure, serve, start
from benchmarks.peers import PEERS
from benchmarks.provider import BenchProvider
from fastapi_logto.settings import Algorithm

_HERE = "benchmarks.apps:create_app"
_PEERS = "benchmarks.peers:create_app"


@dataclass(frozen=True, slots=True, eq=False)
class Contestant:
    """One application: a variant of ours, or a peer. `python` runs it."""

    name: str
    factory: str
    environment: dict[str, str]
    profile: str = "logto"
    python: str = sys.executable


def _ours(name: str, variant: str, *, is_aws_lc: bool = False) -> Contestant:
    environment = {"BENCH_VARIANT": variant, "BENCH_AWS_LC": "1" if is_aws_lc else ""}
    return Contestant(name, _HERE, environment)


BASELINES = (
    _ours("unprotected", "unprotected"),
    _ours("HTTPBearer", "HTTPBearer"),
    _ours("HTTPBearer in a dependency", "HTTPBearer in a dependency"),
)
KEY_VERIFY = _ours("key.verify", "key.verify")
OURS = _ours("fastapi-logto", "auth")
OURS_SCOPES = _ours("fastapi-logto, scopes", "require_scopes")
OURS_AWS_LC = _ours("fastapi-logto[aws-lc]", "auth", is_aws_lc=True)


def contestants(algorithm: Algorithm) -> list[Contestant]:
    """Return the peers that can verify an algorithm."""
    return [
        Contestant(peer.label, _PEERS, {"BENCH_PEER": name}, peer.profile)
        for name, peer in PEERS.items()
        if algorithm in peer.algorithms
    ]


def run_contestant(
    stack: ExitStack, one: Contestant, provider: BenchProvider, algorithm: Algorithm, *, is_frozen: bool = False
) -> Server:
    """Run an application until the stack ends; `is_frozen` states whether it calls `gc.freeze()` at its start."""
    environment = {**one.environment, "BENCH_ENDPOINT": provider.endpoint, "BENCH_ALGORITHM": algorithm}
    environment["BENCH_FREEZE"] = "1" if is_frozen else ""
    token = provider.mint(one.profile)
    return stack.enter_context(serve(one.factory, environment, token=token, python=one.python))


def write_tokens(folder: str, name: str, tokens: Iterable[str]) -> Path:
    """Write a file with one token per line and return its path."""
    path = Path(folder) / name
    path.write_text("\n".join(tokens) + "\n", encoding="ascii")
    return path


def measure_rates(
    these: Sequence[Contestant],
    algorithm: Algorithm,
    *,
    tokens: int,
    once: bool = False,
    restarts: bool = False,
    rounds: int = 3,
    seconds: int = 2,
) -> dict[str, dict[str, Any]]:
    """Return rate, p50 and p99 of the protected route by contestant: the median of the rounds.

    Args:
        these: The contestants.
        algorithm: The algorithm of the tokens.
        tokens: The number of tokens that are sent in turn.
        once: Whether each token is sent only once; each round then has its own tokens.
        restarts: Whether each round has its own processes: one of the same program is up to eight percent faster than
            another, depending on where its memory lies.
        rounds: The number of measurements per contestant.
        seconds: The duration of one measurement.

    Returns:
        Requests per second, and microseconds.
    """
    found: dict[str, list[Load]] = {one.name: [] for one in these}
    with BenchProvider(algorithm) as provider, tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        servers: dict[Contestant, Server] = {}
        files: dict[str, Path] = {}
        for number in range(rounds):
            if number == 0 or restarts:
                stack.close()
                servers = {one: run_contestant(stack, one, provider, algorithm) for one in these}
            if number == 0 or once:
                profiles = {one.profile for one in these}
                files = {
                    profile: write_tokens(folder, profile, (provider.mint(profile) for _ in range(tokens)))
                    for profile in profiles
                }
            # In random order, so that a busy neighbour does not always affect the same contestant.
            for one in random.sample(list(servers), len(servers)):
                # Baselines may get a token twice: they verify nothing, and are faster than tokens can be made.
                is_once = once and one not in BASELINES
                load = measure(start(servers[one], tokens=files[one.profile], once=is_once, seconds=seconds))
                if is_once and load.rate * seconds >= tokens * 0.95:
                    raise RuntimeError(f"{one.name}: expected enough tokens for its rate, found {tokens} for {load}")
                found[one.name].append(load)
    return {name: _median(loads) for name, loads in found.items()}


def _median(loads: Sequence[Load]) -> dict[str, Any]:
    rows: list[dict[str, Any]] = [asdict(load) for load in loads]
    medians = {name: statistics.median(row[name] for row in rows) for name in ("rate", "cpu", "p50", "p99", "longest")}
    # The values of each round too: ratios are computed within a round, and their median is reported.
    return {**medians, "rates": [load.rate for load in loads], "cpus": [load.cpu for load in loads]}


def measure_slow_provider(these: Sequence[Contestant]) -> dict[str, dict[str, float]]:
    """Return how one unknown `kid` affects other requests while the key set takes two seconds to arrive.

    Args:
        these: The contestants.

    Returns:
        By contestant: the longest response time in microseconds for a token with a known `kid`, before
        and during the lookup of the unknown one.
    """
    found: dict[str, dict[str, float]] = {}
    for one in these:
        with BenchProvider("ES384") as provider, tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
            server = run_contestant(stack, one, provider, "ES384")
            file = write_tokens(folder, "known", [provider.mint()])
            before = measure(start(server, tokens=file, clients=4, seconds=3))
            # Some contestants fetch the key set again for an unknown `kid` only after half a minute.
            time.sleep(31)
            provider.jwks_delay_seconds = 2
            with BenchProvider("ES384") as stranger:
                unknown = write_tokens(folder, "unknown", [stranger.mint(iss=provider.issuer)])
            quiet = start(server, tokens=file, clients=4, seconds=4)
            measure(start(server, tokens=unknown, clients=1, seconds=3), is_admitted=False)
            during = measure(quiet)
            found[one.name] = {"before": before.longest, "during": during.longest}
    return found


def measure_start(these: Sequence[Contestant], *, rounds: int = 5) -> dict[str, float]:
    """Return the seconds from the start of the process to the first accepted request, by contestant."""
    samples: dict[str, list[float]] = {one.name: [] for one in these}
    with BenchProvider("ES384") as provider:
        for _ in range(rounds):
            for one in these:
                with ExitStack() as stack:
                    samples[one.name].append(run_contestant(stack, one, provider, "ES384").seconds_to_first_answer)
    return {name: statistics.median(values) for name, values in samples.items()}
