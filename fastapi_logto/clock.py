"""The two clocks, passed in so that tests move time and never wait for it."""

import time
from collections.abc import Callable
from dataclasses import dataclass

__all__ = ["Clock"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Clock:
    """Wall time for claims, monotonic time for ages.

    Attributes:
        now: Seconds since the epoch, as `exp` counts them.
        monotonic: Seconds that only grow, for ages and cooldowns.
    """

    now: Callable[[], float] = time.time
    monotonic: Callable[[], float] = time.monotonic
