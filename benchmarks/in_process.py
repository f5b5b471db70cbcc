"""Measure the CPU time of one request inside the process: no socket and no server, the application is called as ASGI.

Each application has only one protected route and one open route, because a router that tries other routes first takes
time too. Rounds are interleaved; the result is the median, reported as a ratio and as a difference.
"""

import asyncio
import random
import statistics
import time
from typing import Any, Final

from fastapi import FastAPI

from benchmarks.apps import build
from benchmarks.common import choose_aws_lc
from benchmarks.peers import PEERS
from benchmarks.provider import BenchProvider
from fastapi_logto.settings import Algorithm

_ROUNDS: Final = 60
_CALLS: Final = 100
_NEW_CALLS: Final = 50
_SIGNATURES: Final[dict[str, tuple[Algorithm, bool]]] = {
    "ES384": ("ES384", False),
    "ES384, AWS-LC": ("ES384", True),
    "ES256": ("ES256", False),
    "RS256": ("RS256", False),
}


async def call(app: FastAPI, token: str, *, path: str = "/protected", status: int = 200) -> None:
    """Send one request to a route, whose response must have a certain status."""
    scope: dict[str, Any] = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": "GET",
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "root_path": "",
        "headers": [(b"host", b"127.0.0.1"), (b"accept", b"*/*"), (b"authorization", f"Bearer {token}".encode())],
        "server": ("127.0.0.1", 80),
        "client": ("127.0.0.1", 1),
    }
    statuses: list[int] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Any) -> None:
        if message["type"] == "http.response.start":
            statuses.append(message["status"])

    await app(scope, receive, send)
    if statuses != [status]:
        raise RuntimeError(f"expected one response with status {status}, found {statuses}")


async def _measure(apps: dict[str, FastAPI], token: str) -> dict[str, float]:
    samples: dict[str, list[float]] = {name: [] for name in apps}
    for app in apps.values():
        for _ in range(200):
            await call(app, token)
    for _ in range(_ROUNDS):
        for name, app in apps.items():
            start = time.process_time()
            for _ in range(_CALLS):
                await call(app, token)
            samples[name].append((time.process_time() - start) / _CALLS * 1e6)
    return {name: statistics.median(values) for name, values in samples.items()}


def measure_in_process() -> dict[str, float]:
    """Return the CPU time of one request in microseconds, by variant, with a cached token."""
    with BenchProvider("ES384") as provider:
        names = ("unprotected", "HTTPBearer", "HTTPBearer in a dependency", "auth", "require_scopes")
        apps = {name: build(name, endpoint=provider.endpoint, algorithm="ES384") for name in names}
        return asyncio.run(_measure(apps, provider.mint()))


async def _measure_new(apps: dict[str, FastAPI], provider: BenchProvider) -> dict[str, list[float]]:
    samples: dict[str, list[float]] = {name: [] for name in apps}
    for number in range(_ROUNDS + 1):
        tokens = {name: [provider.mint() for _ in range(_NEW_CALLS)] for name in apps}
        for name in random.sample(list(apps), len(apps)):
            start = time.process_time()
            for token in tokens[name]:
                await call(apps[name], token)
                # The loop polls, as between the requests of one client, and the turn ends.
                await asyncio.sleep(0)
            # The first round warms up.
            if number:
                samples[name].append((time.process_time() - start) / _NEW_CALLS * 1e6)
    return samples


def measure_new_in_process() -> dict[str, dict[str, float]]:
    """Return the CPU time of one request with a new token, relative to plain joserfc, by signature and variant.

    The result is the median of the ratios within each round.
    """
    found: dict[str, dict[str, float]] = {}
    for kind, (algorithm, is_aws_lc) in _SIGNATURES.items():
        with BenchProvider(algorithm) as provider, choose_aws_lc(is_installed=is_aws_lc):
            names = ("HTTPBearer", "auth", "require_scopes")
            apps = {name: build(name, endpoint=provider.endpoint, algorithm=algorithm) for name in names}
            apps["joserfc"] = PEERS["joserfc"].build(provider.endpoint, algorithm)
            samples = asyncio.run(_measure_new(apps, provider))
        found[kind] = {
            name: statistics.median(cpu / base for cpu, base in zip(cpus, samples["joserfc"], strict=True))
            for name, cpus in samples.items()
        }
    return found
