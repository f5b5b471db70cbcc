"""What checking one signature costs, against handing a call to a thread: `make bench`.

It decides which algorithms are checked in threads (`fastapi_logto.signatures`). Rounds are
interleaved, so that a machine that slows down slows all of them; only ratios are meant to be read.
"""

import asyncio
import json
import statistics
import sys
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Literal

from fastapi_logto.jws import parse_unverified, verify_signature
from fastapi_logto.key_set import parse_key_set
from fastapi_logto.strict_json import parse_object
from fastapi_logto.testing import LocalIssuer

ROUNDS = 60
CALLS = 20
ALGORITHMS: tuple[Literal["ES384", "ES256", "RS256"], ...] = ("ES384", "ES256", "RS256")


def build_check(algorithm: Literal["ES384", "ES256", "RS256"]) -> Callable[[], Awaitable[object]]:
    """Give a call that checks a good signature of an algorithm."""
    issuer = LocalIssuer()
    issuer.rotate(algorithm=algorithm, keep_previous=False)
    unverified = parse_unverified(issuer.access_token(), algorithms=[algorithm], token_types=["at+jwt"])
    key = parse_key_set(parse_object(json.dumps(issuer.jwks()).encode()), algorithms=[algorithm]).keys[0].jose

    async def check() -> object:
        return verify_signature(unverified, key)

    return check


async def measure() -> dict[str, float]:
    """Give the median cost of each call in seconds."""
    executor = ThreadPoolExecutor(max_workers=1)
    loop = asyncio.get_running_loop()

    async def hand_over() -> object:
        return await loop.run_in_executor(executor, int)

    calls = {name: build_check(name) for name in ALGORITHMS} | {"hand-over": hand_over}
    samples: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(ROUNDS):
        for name, call in calls.items():
            start = time.perf_counter()
            for _ in range(CALLS):
                await call()
            samples[name].append((time.perf_counter() - start) / CALLS)
    executor.shutdown()
    return {name: statistics.median(values) for name, values in samples.items()}


def main() -> int:
    """Print each cost as a ratio to that of a hand-over to a thread and back."""
    costs = asyncio.run(measure())
    for name, cost in costs.items():
        sys.stdout.write(f"{name:10} {cost / costs['hand-over']:6.1f} x a hand-over to a thread and back\n")
    sys.stdout.write(f"ES384 over ES256: {costs['ES384'] / costs['ES256']:.1f}, over RS256: ")
    sys.stdout.write(f"{costs['ES384'] / costs['RS256']:.1f}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
