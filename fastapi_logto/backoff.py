"""When a failing endpoint may be tried again."""

import math
import random
from collections.abc import Callable
from typing import Final

__all__ = ["LONGEST_WAIT_SECONDS", "Backoff"]

LONGEST_WAIT_SECONDS: Final = 30
"""The longest wait before the next try, and the longest `Retry-After` of a provider that is followed."""

# After half a day of failures no float would hold the power.
_LARGEST_EXPONENT: Final = 10


class Backoff:
    """Counts the consecutive failures of one endpoint and spaces the tries: 1, 2, 4 … 30 s apart, ±10 %."""

    def __init__(self, *, monotonic: Callable[[], float]) -> None:
        """Start without a failure.

        Args:
            monotonic: The clock, in seconds.
        """
        self._monotonic = monotonic
        self._failures = 0
        self._next_try_at = -math.inf

    @property
    def is_failing(self) -> bool:
        """Whether the last try that counts has failed."""
        return self._failures > 0

    @property
    def wait_seconds(self) -> float:
        """Time until the next try may start; 0 if it may start now."""
        return max(0.0, self._next_try_at - self._monotonic())

    def fail(self, *, retry_after_seconds: int | None = None) -> float:
        """Count a failed try.

        Args:
            retry_after_seconds: The provider's own `Retry-After`, used instead of the exponential wait, up to
                `LONGEST_WAIT_SECONDS`: a provider must not silence an API for an hour.

        Returns:
            Seconds until the next try may start.
        """
        self._failures += 1
        if retry_after_seconds is None:
            exponent = min(self._failures - 1, _LARGEST_EXPONENT)
            # Spread, so that the processes of one deployment do not all try at the same moment.
            wait = min(2.0**exponent, LONGEST_WAIT_SECONDS) * random.uniform(0.9, 1.1)  # noqa: S311
        else:
            wait = float(min(retry_after_seconds, LONGEST_WAIT_SECONDS))
        self._next_try_at = self._monotonic() + wait
        return wait

    def succeed(self) -> None:
        """Forget the failures."""
        self._failures = 0
        self._next_try_at = -math.inf
