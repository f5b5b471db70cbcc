"""A clock that a test moves."""

import time

from fastapi_logto.clock import Clock

__all__ = ["ManualClock"]


class _Moment:
    def __init__(self, now: float) -> None:
        self.start = now
        self.passed = 0.0

    def now(self) -> float:
        return self.start + self.passed

    def monotonic(self) -> float:
        return self.passed


class ManualClock(Clock):
    """Both clocks of the package, standing still until a test moves them.

    An issuer made with it gives it to every `auth` that is connected to it, so that tokens, keys and their
    ages are all of one time.

    ```python
    clock = ManualClock()
    issuer = LocalIssuer(clock=clock)
    token = issuer.access_token()
    clock.advance(3700)  # `token` has expired
    ```
    """

    def __init__(self, *, now: float | None = None) -> None:
        """Stop the clock.

        Args:
            now: Where it starts, in seconds since the epoch; at the real time when left out.
        """
        moment = _Moment(time.time() if now is None else now)
        super().__init__(now=moment.now, monotonic=moment.monotonic)
        object.__setattr__(self, "_moment", moment)

    def advance(self, seconds: float) -> None:
        """Let time pass.

        Args:
            seconds: How much; not negative, for time does not run backwards.

        Raises:
            ValueError: It is negative.
        """
        if seconds < 0:
            msg = f"expected seconds of 0 at least, found {seconds!r}"
            raise ValueError(msg)
        moment: _Moment = object.__getattribute__(self, "_moment")
        moment.passed += seconds
