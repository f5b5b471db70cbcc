"""Measure in fresh processes: the import time, and the memory of a cached token."""

import gc
import statistics
import subprocess
import sys
import tracemalloc

from benchmarks.provider import BenchProvider

_TIME_IMPORT = "import time; start = time.perf_counter(); import {first}; print(time.perf_counter() - start)"
_TIME_BOTH = "import fastapi; " + _TIME_IMPORT


def _run(code: str) -> float:
    command = [sys.executable, "-c", code]
    return float(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def measure_import(rounds: int = 15) -> float:
    """Return the time of `import fastapi_logto` after `import fastapi`, relative to that of `import fastapi`.

    The two measurements alternate.
    """
    base: list[float] = []
    ours: list[float] = []
    for _ in range(rounds):
        base.append(_run(_TIME_IMPORT.format(first="fastapi")))
        ours.append(_run(_TIME_BOTH.format(first="fastapi_logto")))
    return statistics.median(ours) / statistics.median(base)


def measure_memory(tokens: int = 2000) -> float:
    """Return the bytes per cached token, averaged over many, with claims as Logto issues them."""
    import asyncio

    from benchmarks.apps import build_auth

    with BenchProvider("RS256") as provider:
        auth = build_auth(provider.endpoint, "RS256")
        minted = [provider.mint() for _ in range(tokens)]

        async def verify_all() -> tuple[int, int]:
            await auth.verify(provider.mint())
            gc.collect()
            tracemalloc.start()
            before, _ = tracemalloc.get_traced_memory()
            for token in minted:
                await auth.verify(token)
            gc.collect()
            after, _ = tracemalloc.get_traced_memory()
            tracemalloc.stop()
            return before, after

        before, after = asyncio.run(verify_all())
        return (after - before) / tokens
