"""A clock that a test controls."""

import time

from fastapi_logto.clock import Clock


class _Moment:
    def __init__(self, now: float) -> None:
        self.start = now
        self.passed = 0.0

    def now(self) -> float:
        return self.start + self.passed

    def monotonic(self) -> float:
        return self.passed


class ManualClock(Clock):
    """A clock that stands still until a test moves it.

    An issuer passes its clock to every connected `auth`, so that tokens and key caches use the same time.

    ```python
    clock = ManualClock()
    issuer = LocalIssuer(clock=clock)
    token = issuer.access_token()
    clock.advance(3700)  # `token` has expired
    ```
    """

    def __init__(self, *, now: float | None = None) -> None:
        """Create a stopped clock.

        Args:
            now: The start, in seconds since the epoch; the current time by default.
        """
        moment = _Moment(time.time() if now is None else now)
        super().__init__(now=moment.now, monotonic=moment.monotonic)
        object.__setattr__(self, "_moment", moment)

    def advance(self, seconds: float) -> None:
        """Move the clock forward.

        Args:
            seconds: The number of seconds, zero or more; time never runs backwards.

        Raises:
            ValueError: The number is negative.
        """
        if seconds < 0:
            msg = f"expected at least 0 seconds, found {seconds!r}"
            raise ValueError(msg)
        moment: _Moment = object.__getattribute__(self, "_moment")
        moment.passed += seconds
