"""The two clocks, passed in so that tests can move time without waiting."""

import time
from collections.abc import Callable
from dataclasses import dataclass

__all__ = ["Clock"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Clock:
    """Wall time for claims, monotonic time for ages.

    Attributes:
        now: Returns seconds since the epoch, like `exp`.
        monotonic: Returns seconds that never decrease, for ages and cooldowns.
    """

    now: Callable[[], float] = time.time
    monotonic: Callable[[], float] = time.monotonic
