"""What checking one signature costs, against handing a call to a thread: `python -m benchmarks signature`.

It decides which algorithms are checked in threads (`fastapi_logto.signatures`). Rounds are
interleaved, so that a machine that slows down slows all of them; only ratios are meant to be read.
"""

import asyncio
import json
import statistics
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Literal

from pydantic import SecretStr

from fastapi_logto.jws import parse_unverified, verify_signature
from fastapi_logto.key_set import parse_key_set
from fastapi_logto.strict_json import parse_object
from fastapi_logto.testing import LocalIssuer

ROUNDS = 60
CALLS = 20
ALGORITHMS: tuple[Literal["ES384", "ES256", "RS256"], ...] = ("ES384", "ES256", "RS256")


def build_check(algorithm: Literal["ES384", "ES256", "RS256"], *, is_aws_lc: bool) -> Callable[[], Awaitable[object]]:
    """Give a call that checks a good signature of an algorithm."""
    issuer = LocalIssuer()
    issuer.rotate(algorithm=algorithm, keep_previous=False)
    unverified = parse_unverified(SecretStr(issuer.access_token()), algorithms=[algorithm], token_types=["at+jwt"])
    key = parse_key_set(parse_object(json.dumps(issuer.jwks()).encode()), algorithms=[algorithm]).keys[0]
    aws_lc = key.aws_lc if is_aws_lc else None

    async def check() -> object:
        return verify_signature(unverified, key.jose, aws_lc=aws_lc)

    return check


async def measure() -> dict[str, float]:
    """Give the median cost of each call in seconds."""
    executor = ThreadPoolExecutor(max_workers=1)
    loop = asyncio.get_running_loop()

    async def hand_over() -> object:
        return await loop.run_in_executor(executor, int)

    calls: dict[str, Callable[[], Awaitable[object]]] = {"hand-over": hand_over}
    calls |= {name: build_check(name, is_aws_lc=False) for name in ALGORITHMS}
    calls["ES384 by AWS-LC"] = build_check("ES384", is_aws_lc=True)
    samples: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(ROUNDS):
        for name, call in calls.items():
            start = time.perf_counter()
            for _ in range(CALLS):
                await call()
            samples[name].append((time.perf_counter() - start) / CALLS)
    executor.shutdown()
    return {name: statistics.median(values) for name, values in samples.items()}


def measure_costs() -> dict[str, float]:
    """Give the cost of each as a ratio to that of a hand-over to a thread and back."""
    costs = asyncio.run(measure())
    return {name: cost / costs["hand-over"] for name, cost in costs.items()}
