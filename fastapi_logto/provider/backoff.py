"""When a failing endpoint may be tried again."""

import math
import random
from collections.abc import Callable
from typing import Final

LONGEST_WAIT_SECONDS: Final = 30
"""The longest wait before the next try. A longer `Retry-After` of a provider is cut to it."""

# After half a day of failures, the power would be too large for a float.
_LARGEST_EXPONENT: Final = 10


class Backoff:
    """Counts consecutive failures of one endpoint and spaces the tries: 1, 2, 4 … 30 s apart, ±10 %."""

    def __init__(self, *, monotonic: Callable[[], float], longest_seconds: float = LONGEST_WAIT_SECONDS) -> None:
        """Start without failures; `monotonic` returns seconds. `longest_seconds` limits the exponential wait."""
        self._monotonic = monotonic
        self._longest_seconds = longest_seconds
        self._failures = 0
        self._next_try_at = -math.inf

    @property
    def is_failing(self) -> bool:
        """Whether the last counted try failed."""
        return self._failures > 0

    @property
    def wait_seconds(self) -> float:
        """Time until the next try may start; 0 if it may start now."""
        return max(0.0, self._next_try_at - self._monotonic())

    @property
    def retry_after_seconds(self) -> int:
        """Whole seconds to wait before a new request, at least 1."""
        return max(1, math.ceil(self.wait_seconds))

    def fail(self, *, retry_after_seconds: int | None = None) -> float:
        """Count a failed try, and return the seconds until the next try may start.

        `retry_after_seconds` is the provider's `Retry-After`. It replaces the exponential wait, up to
        `LONGEST_WAIT_SECONDS`: a provider must not block an API for an hour.
        """
        self._failures += 1
        if retry_after_seconds is None:
            exponent = min(self._failures - 1, _LARGEST_EXPONENT)
            # Spread, so that the processes of one deployment do not all try at the same moment.
            wait = min(2.0**exponent, self._longest_seconds) * random.uniform(0.9, 1.1)  # noqa: S311
        else:
            wait = float(min(retry_after_seconds, LONGEST_WAIT_SECONDS))
        self._next_try_at = self._monotonic() + wait
        return wait

    def succeed(self) -> None:
        """Reset the failures."""
        self._failures = 0
        self._next_try_at = -math.inf
