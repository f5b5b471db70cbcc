"""Separate lanes for the requests to one endpoint, so that one kind of request can't block the others."""

import logging
import math
from collections.abc import Callable, Generator
from contextlib import contextmanager
from threading import Lock
from typing import Final

from fastapi_logto.provider.backoff import Backoff
from fastapi_logto.provider.failures import FetchError
from fastapi_logto.provider.telemetry import build_fetch_fields

KNOWN_SECONDS: Final = 3600.0
"""How long a token counts as known after its cached result has ended: as long as Logto's opaque tokens are valid."""

_logger = logging.getLogger("fastapi_logto")

# A try on an event loop that was stopped never ends, and must not close the lane permanently.
_LONGEST_TRY_SECONDS: Final = 30.0


class LaneClosedError(FetchError):
    """The request was not sent.

    Attributes:
        is_full: Whether too many requests are in flight. Otherwise the last one failed and the next try is not due.
    """

    def __init__(self, message: str, *, is_full: bool) -> None:
        super().__init__(message)
        self.is_full: bool = is_full


class Lane:
    """Requests of one kind: limited in number, and one at a time while the endpoint fails."""

    def __init__(self, name: str, *, monotonic: Callable[[], float], max_in_flight: int | None = None) -> None:
        """Start empty and open. `name` is used in messages; `max_in_flight=None` means no limit."""
        self._name = name
        self._monotonic = monotonic
        self._max_in_flight = math.inf if max_in_flight is None else max_in_flight
        self._backoff = Backoff(monotonic=monotonic)
        self._in_flight = 0
        self._try_ends_at = -math.inf
        self._last_failure = ""
        # Event loops of several threads may share a lane.
        self._lock = Lock()

    @property
    def retry_after_seconds(self) -> int:
        """Whole seconds to wait before a new request."""
        return self._backoff.retry_after_seconds

    @contextmanager
    def enter(self) -> Generator[None]:
        """Reserve a place for one request; `LaneClosedError` if the lane is full or closed.

        A `FetchError` inside the block closes the lane for a while. It is logged once for all requests that were in
        flight together.
        """
        is_retry = self._take_place()
        try:
            yield
        except FetchError as error:
            self._note(None if error.is_about_request else error, is_retry=is_retry)
            raise
        else:
            self._note(None, is_retry=is_retry)
        finally:
            with self._lock:
                self._in_flight -= 1
                if is_retry:
                    self._try_ends_at = -math.inf

    def _take_place(self) -> bool:
        with self._lock:
            is_retry = self._backoff.is_failing
            if is_retry and (self._backoff.wait_seconds > 0 or self._monotonic() < self._try_ends_at):
                raise LaneClosedError(f"{self._name}: not sent after a failure: {self._last_failure}", is_full=False)
            if self._in_flight >= self._max_in_flight:
                raise LaneClosedError(f"{self._name}: not sent, {self._in_flight} are in flight", is_full=True)
            self._in_flight += 1
            if is_retry:
                self._try_ends_at = self._monotonic() + _LONGEST_TRY_SECONDS
            return is_retry

    def _note(self, error: FetchError | None, *, is_retry: bool) -> None:
        with self._lock:
            if self._backoff.is_failing and not is_retry:
                # Sent before the endpoint failed, together with a request whose failure was counted already.
                return
            if error is None:
                self._backoff.succeed()
                return
            wait = self._backoff.fail(retry_after_seconds=error.retry_after_seconds)
            self._last_failure = str(error)
        _logger.warning(
            *("%s: failed, next try in %.0f s at the earliest: %s", self._name, wait, error),
            extra=build_fetch_fields(error.url, error.status, next_try_seconds=wait),
        )
