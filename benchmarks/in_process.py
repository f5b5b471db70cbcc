"""CPU of one request inside the process: no socket, no server, the application called as ASGI.

Each route is the only one of its own application, since a router that tries others first takes its time too.
Rounds are interleaved; the median is taken of each, and differences are told beside the ratio to an unprotected route.
"""

import asyncio
import statistics
import time
from typing import Any

from fastapi import FastAPI

from benchmarks.apps import build
from benchmarks.provider import BenchProvider

__all__ = ["measure_in_process"]

_ROUNDS = 60
_CALLS = 100


async def _call(app: FastAPI, token: str) -> None:
    scope: dict[str, Any] = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": "GET",
        "scheme": "http",
        "path": "/protected",
        "raw_path": b"/protected",
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
    if statuses != [200]:
        raise RuntimeError(f"answers that were not expected: {statuses}")


async def _measure(apps: dict[str, FastAPI], token: str) -> dict[str, float]:
    samples: dict[str, list[float]] = {name: [] for name in apps}
    for app in apps.values():
        for _ in range(200):
            await _call(app, token)
    for _ in range(_ROUNDS):
        for name, app in apps.items():
            start = time.process_time()
            for _ in range(_CALLS):
                await _call(app, token)
            samples[name].append((time.process_time() - start) / _CALLS * 1e6)
    return {name: statistics.median(values) for name, values in samples.items()}


def measure_in_process() -> dict[str, float]:
    """Give the microseconds of CPU that one request takes, by variant, with a token that is known already."""
    with BenchProvider("ES384") as provider:
        names = ("unprotected", "HTTPBearer", "HTTPBearer in a dependency", "auth", "require_scopes")
        apps = {name: build(name, endpoint=provider.endpoint, algorithm="ES384") for name in names}
        return asyncio.run(_measure(apps, provider.mint()))
