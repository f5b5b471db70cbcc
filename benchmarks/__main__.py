"""Measure and write the results: `make bench`, or `python -m benchmarks [SCENARIO ...]` for some scenarios.

The measurements are stored in `benchmarks/results.json`; `benchmarks/RESULTS.md` and the charts are made from it.
`BENCH_QUICK=1` shortens `unrelated`, `growth` and `load`, to try them out. The results are then printed, not stored.
"""

import datetime as dt
import json
import os
import platform
import sys
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

from benchmarks import report, scenarios
from benchmarks.growth import measure_growth
from benchmarks.in_process import measure_in_process, measure_new_in_process
from benchmarks.one_process import measure_import, measure_memory
from benchmarks.revocation import measure_revocation
from benchmarks.scenarios import BASELINES, KEY_VERIFY, OURS, OURS_AWS_LC, OURS_SCOPES, contestants
from benchmarks.soak import run_soak
from benchmarks.stress import measure_load
from benchmarks.turns import measure_turns
from benchmarks.unrelated import measure_disturbance, measure_unrelated
from fastapi_logto.settings import Algorithm

_ALGORITHMS: tuple[Algorithm, ...] = ("ES384", "ES256", "RS256")
_RESULTS = Path(__file__).with_name("results.json")
_IS_QUICK = bool(os.environ.get("BENCH_QUICK"))


def _known() -> dict[str, Any]:
    # Few contestants and many short rounds, because they differ by only a few percent.
    these = [*BASELINES, OURS, OURS_SCOPES]
    return scenarios.measure_rates(these, "ES384", tokens=1, restarts=True, rounds=20, seconds=1)


def _again() -> dict[str, Any]:
    return {
        algorithm: scenarios.measure_rates(
            [*BASELINES, OURS, OURS_SCOPES, *contestants(algorithm)],
            algorithm,
            tokens=1,
            restarts=True,
            rounds=5,
            seconds=1,
        )
        for algorithm in _ALGORITHMS
    }


def _thousand() -> dict[str, Any]:
    these = [*BASELINES, OURS, OURS_SCOPES, *contestants("ES384")]
    return {"ES384": scenarios.measure_rates(these, "ES384", tokens=1000, restarts=True, rounds=5, seconds=1)}


def _new() -> dict[str, Any]:
    found: dict[str, Any] = {}
    for algorithm in _ALGORITHMS:
        more = [KEY_VERIFY, OURS_AWS_LC] if algorithm == "ES384" else []
        these = [*BASELINES[:2], OURS, *more, *contestants(algorithm)]
        found[algorithm] = scenarios.measure_rates(
            these, algorithm, tokens=6000, once=True, restarts=True, rounds=7, seconds=1
        )
    return found


def _named(*names: str) -> list[scenarios.Contestant]:
    return [one for one in contestants("ES384") if one.environment["BENCH_PEER"] in names]


def _disturb(*, is_frozen: bool) -> dict[str, Any]:
    return measure_disturbance([OURS, OURS_AWS_LC, *_named("pyjwt", "fastmcp")], is_frozen=is_frozen)


SCENARIOS: dict[str, Callable[[], Any]] = {
    "turns": measure_turns,
    "in-process": measure_in_process,
    "new-in-process": measure_new_in_process,
    "known": _known,
    "again": _again,
    "thousand": _thousand,
    "new": _new,
    "disturbance": lambda: _disturb(is_frozen=False),
    "disturbance-frozen": lambda: _disturb(is_frozen=True),
    "disturbance-short": lambda: measure_disturbance([OURS, *_named("joserfc", "pyjwt")], algorithm="RS256", rounds=5),
    "slow-provider": lambda: scenarios.measure_slow_provider([OURS, *_named("pyjwt", "python_jose", "fastmcp")]),
    "unrelated": lambda: measure_unrelated(rounds=1, seconds=1) if _IS_QUICK else measure_unrelated(),
    "growth": lambda: measure_growth(rounds=2) if _IS_QUICK else measure_growth(),
    "load": lambda: measure_load(cycles=1) if _IS_QUICK else measure_load(),
    "memory": measure_memory,
    "revocation": measure_revocation,
    "soak": lambda: run_soak(300),
    "import": measure_import,
    "start": lambda: scenarios.measure_start([BASELINES[0], OURS, *contestants("ES384")]),
}


def _describe_machine() -> dict[str, Any]:
    models = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    return {
        "date": dt.datetime.now(dt.UTC).date().isoformat(),
        "processor": models[0].partition(":")[2].strip() if models else platform.processor(),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "packages": {name: version(name) for name in ("fastapi", "uvicorn", "joserfc", "cryptography", "awscrt")},
    }


def main(names: list[str]) -> int:
    """Run the named scenarios, by default all, and write the results. The exit code is 1 if one found a problem."""
    unknown = set(names) - SCENARIOS.keys()
    if unknown:
        sys.stderr.write(f"expected {', '.join(SCENARIOS)}, found {', '.join(sorted(unknown))}\n")
        return 2
    results: dict[str, Any] = json.loads(_RESULTS.read_text()) if _RESULTS.exists() else {}
    problems: list[str] = []
    for name in names or SCENARIOS:
        sys.stdout.write(f"{name} ...\n")
        sys.stdout.flush()
        results[name] = SCENARIOS[name]()
        problems += report.list_problems(name, results[name])
        if _IS_QUICK:
            sys.stdout.write(json.dumps(results[name], indent=1) + "\n")
            continue
        results["machine"] = _describe_machine()
        _RESULTS.write_text(json.dumps(results, indent=1) + "\n")
    if not _IS_QUICK:
        report.write(results)
    for problem in problems:
        sys.stderr.write(f"FAILED {problem}\n")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
