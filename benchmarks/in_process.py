"""Measure the CPU time of one request inside the process: no socket and no server, the application is called as ASGI.

Each application has only one protected route and one open route, because a router that tries other routes first takes
time too. Rounds are interleaved; the result is the median, reported as a ratio and as a difference.
"""

import asyncio
import statistics
import time
from typing import Any

from fastapi import FastAPI

from benchmarks.apps import build
from benchmarks.provider import BenchProvider

_ROUNDS = 60
_CALLS = 100


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
