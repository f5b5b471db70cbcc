"""How long another client waits at an unprotected route while tokens are verified: p99 over its calm p99."""

import random
import statistics
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from benchmarks.load import Server, measure, start
from benchmarks.provider import BenchProvider
from benchmarks.scenarios import OURS, OURS_AWS_LC, Contestant, run_contestant, write_tokens
from fastapi_logto.settings import Algorithm

_PYTHONS: Final = ("3.11", "3.12", "3.13")
_BACKENDS: Final = {"OpenSSL": OURS, "AWS-LC": OURS_AWS_LC}
_ROOT: Final = Path(__file__).parents[1]
_NEW_TOKENS_PER_SECOND: Final = 5000
# What the other clients request; nothing at all if the server is idle.
_PATHS: Final = {"idle": None, "calm": "/open", "again": "/open", "new": "/protected", "forged": "/protected"}


def _measure_kind(server: Server, kind: str, files: Mapping[str, Path], *, seconds: int) -> float:
    """Return the p99 of the unrelated route for one client while 16 others send requests of a kind."""
    path, noise = _PATHS[kind], None
    if path is not None:
        noise = start(server, path=path, tokens=files.get(kind), once=kind == "new", seconds=seconds + 1)
    seen = measure(start(server, path="/open", clients=1, seconds=seconds))
    if noise is not None:
        load = measure(noise, is_admitted=kind != "forged")
        if kind == "new" and load.requests >= 0.95 * _count_new(seconds):
            raise RuntimeError("the new tokens ran out")
    return seen.p99


def _count_new(seconds: int) -> int:
    return _NEW_TOKENS_PER_SECOND * (seconds + 1)


def _measure_all(
    these: Sequence[Contestant],
    kinds: Sequence[str],
    *,
    algorithm: Algorithm,
    is_frozen: bool,
    rounds: int,
    seconds: int,
) -> dict[str, dict[str, list[float]]]:
    """Return the p99 of each round in microseconds, by contestant and kind; the order in a round is random."""
    samples: dict[str, dict[str, list[float]]] = {one.name: {kind: [] for kind in kinds} for one in these}
    with BenchProvider(algorithm) as provider, tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        files = {"forged": write_tokens(folder, "forged", (provider.forge() for _ in range(500)))}
        servers = [(one.name, run_contestant(stack, one, provider, algorithm, is_frozen=is_frozen)) for one in these]
        for _ in range(rounds):
            files["new"] = write_tokens(folder, "new", (provider.mint() for _ in range(_count_new(seconds))))
            for name, server in random.sample(servers, len(servers)):
                for kind in random.sample(kinds, len(kinds)):
                    samples[name][kind].append(_measure_kind(server, kind, files, seconds=seconds))
    return samples


def measure_disturbance(
    these: Sequence[Contestant], *, algorithm: Algorithm = "ES384", is_frozen: bool = False, rounds: int = 3
) -> dict[str, dict[str, float]]:
    """Return the p99 of an unrelated route, in microseconds, while 16 clients keep the application busy.

    Args:
        these: The contestants.
        algorithm: The algorithm of the tokens.
        is_frozen: Whether each application calls `gc.freeze()` at its start.
        rounds: The number of measurements per contestant.

    Returns:
        By contestant: with the clients at an unprotected route (`calm`), sending new tokens (`new`)
        and forged ones (`forged`).
    """
    kinds = ["calm", "new", "forged"]
    samples = _measure_all(these, kinds, algorithm=algorithm, is_frozen=is_frozen, rounds=rounds, seconds=3)
    return {
        name: {kind: statistics.median(values) for kind, values in found.items()} for name, found in samples.items()
    }


def measure_unrelated(*, rounds: int = 5, seconds: int = 3) -> dict[str, Any]:
    """Measure both signature backends on each supported Python.

    Args:
        rounds: The number of measurements of each.
        seconds: The duration of one.

    Returns:
        By Python and backend: the ratios of each round to the calm p99 of that round, while new and forged tokens are
        sent, while nothing has changed (`again`), which is the noise, and without other clients (`idle`).
    """
    these: list[Contestant] = []
    for python in _PYTHONS:
        executable = _ROOT / f".venv-bench-{python}" / "bin" / "python"
        if not executable.exists():
            raise RuntimeError(f"expected Python {python} in {executable.parent}, found none; run make bench")
        for label, one in _BACKENDS.items():
            these.append(replace(one, name=f"{python}, {label}", python=str(executable)))
    samples = _measure_all(these, list(_PATHS), algorithm="ES384", is_frozen=False, rounds=rounds, seconds=seconds)
    return {
        name: {
            kind: [one / calm for one, calm in zip(kinds[kind], kinds["calm"], strict=True)]
            for kind in ("idle", "again", "new", "forged")
        }
        for name, kinds in samples.items()
    }
