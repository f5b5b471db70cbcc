"""The costs and benefits of the budget of a turn: `python -m benchmarks turns`.

Sixty-four new tokens arrive at once. Another task of the same event loop measures how long it is kept waiting, in CPU
time of this thread, so that busy neighbours of the machine change nothing. Rounds are interleaved.
"""

import asyncio
import statistics
import time
from typing import Any, Literal

from benchmarks.common import AUDIENCE, choose_aws_lc
from fastapi_logto import LogtoAuth
from fastapi_logto.testing import LocalIssuer
from fastapi_logto.verification import turns

_ROUNDS = 6
_TOKENS = 64
_BUDGETS = {"one": 1e-9, "0.25 ms": 0.000_25, "0.5 ms": 0.000_5, "1 ms": 0.001, "2 ms": 0.002, "no limit": 1e9}
_KINDS: dict[str, tuple[Literal["ES384", "ES256", "RS256"], bool]] = {
    "ES384, OpenSSL": ("ES384", False),
    "ES384, AWS-LC": ("ES384", True),
    "ES256": ("ES256", False),
    "RS256": ("RS256", False),
}


async def _wait_for_others(waits: list[float], done: asyncio.Event) -> None:
    before = time.thread_time()
    while not done.is_set():
        await asyncio.sleep(0)
        now = time.thread_time()
        waits.append(now - before)
        before = now


async def _measure_round(auth: LogtoAuth, tokens: list[str]) -> tuple[float, float]:
    """Return the longest wait of another task, and the CPU of one verification, in seconds."""
    waits: list[float] = []
    done = asyncio.Event()
    other = asyncio.create_task(_wait_for_others(waits, done))
    await asyncio.sleep(0)
    start = time.thread_time()
    await asyncio.gather(*(auth.verify(token) for token in tokens))
    cpu = (time.thread_time() - start) / len(tokens)
    done.set()
    await other
    return max(waits), cpu


def _measure_kind(algorithm: Literal["ES384", "ES256", "RS256"], *, is_aws_lc: bool) -> dict[str, dict[str, float]]:
    issuer = LocalIssuer()
    issuer.rotate(algorithm=algorithm, keep_previous=False)
    samples: dict[str, list[tuple[float, float]]] = {name: [] for name in _BUDGETS}

    async def run() -> None:
        auth = issuer.auth(audience=AUDIENCE, algorithms=[algorithm], max_waiting_verifications=1000)
        await auth.verify(issuer.access_token(audience=AUDIENCE))
        for _ in range(_ROUNDS):
            for name, budget in _BUDGETS.items():
                tokens = [issuer.access_token(audience=AUDIENCE) for _ in range(_TOKENS)]
                turns.TURN_SECONDS = budget  # type: ignore[misc] # what is measured
                samples[name].append(await _measure_round(auth, tokens))

    usual = turns.TURN_SECONDS
    try:
        with choose_aws_lc(is_installed=is_aws_lc):
            asyncio.run(run())
    finally:
        turns.TURN_SECONDS = usual  # type: ignore[misc] # as it was
    one = statistics.median(cpu for _, cpu in samples["no limit"])
    return {
        name: {
            "wait": statistics.median(wait for wait, _ in values) / one,
            "cpu": statistics.median(cpu for _, cpu in values) / one,
            "wait_ms": statistics.median(wait for wait, _ in values) * 1000,
        }
        for name, values in samples.items()
    }


def measure_turns() -> dict[str, Any]:
    """Measure each budget with each kind of signature.

    Returns:
        By kind and budget: the longest wait of another task, in verifications; CPU of a verification over that
        without a limit; and the wait in milliseconds.
    """
    return {kind: _measure_kind(algorithm, is_aws_lc=is_aws_lc) for kind, (algorithm, is_aws_lc) in _KINDS.items()}
