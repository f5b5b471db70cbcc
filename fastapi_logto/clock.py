"""The two clocks, passed in so that tests can move time without waiting."""

import time
from collections.abc import Callable
from dataclasses import dataclass


def _now() -> float:
    # Looked up late: freezegun replaces `time.time`, and a test of an expired token must not pass with 200.
    return time.time()


@dataclass(frozen=True, slots=True, kw_only=True)
class Clock:
    """Wall time for claims, monotonic time for ages.

    Attributes:
        now: Returns seconds since the epoch, like `exp`.
        monotonic: Returns seconds that never decrease, for ages and cooldowns.
    """

    now: Callable[[], float] = _now
    # Not looked up late: freezegun's monotonic time jumps to the epoch and back, so an age could be negative for years.
    monotonic: Callable[[], float] = time.monotonic
