"""Read the delivery log of a webhook from the last delivery that was read, at an interval."""

import asyncio
import json
import logging
import math
from collections.abc import Awaitable, Callable, Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Final

from fastapi_logto.errors import LogtoError, SettingsError
from fastapi_logto.provider.background import BackgroundTask
from fastapi_logto.provider.backoff import Backoff
from fastapi_logto.provider.failures import TooLargeError
from fastapi_logto.revocation.delivery_log import DeliveryLog, find_hook_api
from fastapi_logto.revocation.events import Event, EventError, build_event
from fastapi_logto.revocation.hook_api import PAGE_SIZES, Delivery, Page, Window, find_problem
from fastapi_logto.single_flight import Flights
from fastapi_logto.strict_json import StrictJsonError, parse_object
from fastapi_logto.verification.revocation_store import LogHealth, RevocationStore, RevocationStoreError

_logger: Final = logging.getLogger("fastapi_logto")

# An entry may be committed a little later than another one with a later time.
_OVERLAP_MS: Final = 60_000
# A process that reads for all and has ended is replaced after the interval and this.
_LEAD_SECONDS: Final = 30.0
_LONGEST_PASS_SECONDS: Final = 60.0
# Deliveries that are applied in one turn of the event loop.
_APPLIED_AT_ONCE: Final = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class _Progress:
    """What was read so far. With a store, it is saved there for the process that reads next.

    Attributes:
        window: What is read next. Everything before it was applied.
        read_at: Wall time when the log was last read to its end; `None` before that.
        error: What is wrong; `None` if nothing is.
    """

    window: Window
    read_at: float | None = None
    error: str | None = None


class LogFollower:
    """Reads one delivery log in the background, and applies what was delivered, or could not be delivered.

    A delivery may be applied more than once: after a restart, and by several processes.
    """

    def __init__(
        self,
        log: DeliveryLog,
        *,
        store: RevocationStore | None,
        handle: Callable[[Event], Awaitable[None]],
        has_stored: Callable[[], bool],
        events: Collection[str],
        longest_seconds: float,
        most_pages: int = 100,
        pass_seconds: float = 10,
    ) -> None:
        """Store the parts. Nothing is read.

        Args:
            log: The log.
            store: The store, if processes share one.
            handle: Applies an event.
            has_stored: Returns whether the store has everything that was applied.
            events: Names of events that the webhook must have.
            longest_seconds: How far back the first pass reads.
            most_pages: How many pages one pass reads. The next one follows at once, and continues where it ended.
            pass_seconds: How long one pass may take, which a first request waits for.
        """
        self._api, self._clock = find_hook_api(log)
        self._label = log.label
        self._interval_seconds = log.interval_seconds
        self._store = store
        self._handle = handle
        self._has_stored = has_stored
        self._events = events
        self._most_pages = most_pages
        self._pass_seconds = pass_seconds
        self._longest_ms = int(longest_seconds * 1000)
        self._name = f"log {log.label}"
        self._background = BackgroundTask("fastapi_logto: follow a delivery log")
        self._backoff = Backoff(monotonic=self._clock.monotonic)
        self._passes: Flights[None, None] = Flights()
        self._progress: _Progress | None = None
        self._tried_at = -math.inf
        self._is_behind = False
        self._skipped_count = 0
        # The deliveries of the overlap, which the next pass reads again.
        self._applied: dict[str, int] = {}

    @property
    def is_current(self) -> bool:
        """Whether the log is read in the background, and no pause of this process is likely."""
        # Longer than a pass and the longest wait after a failure: no request waits because Logto does not respond.
        return self._background.is_running and not self._is_due(
            after_seconds=2 * self._interval_seconds + _LONGEST_PASS_SECONDS
        )

    async def catch_up(self) -> None:
        """Read what is new if that was not tried recently, and keep reading in the background."""
        if self._is_due(after_seconds=self._interval_seconds) and self._backoff.wait_seconds == 0:
            # Not only by the process that reads for all: it may be stopped, as this one was.
            await self._passes.join_or_lead(None, self._pass)
        self._background.keep(self._follow)

    async def close(self) -> None:
        """Stop reading."""
        await self._background.close()

    def health(self) -> LogHealth:
        """Return the state. Nothing is read."""
        progress = self._progress
        read_at = None if progress is None else progress.read_at
        return LogHealth(
            name=self._label,
            age_seconds=None if read_at is None else max(0.0, self._clock.now() - read_at),
            skipped_count=self._skipped_count,
            last_error=None if progress is None else progress.error,
        )

    def _is_due(self, *, after_seconds: float) -> bool:
        return self._clock.monotonic() - self._tried_at >= after_seconds

    async def _follow(self) -> None:
        while True:
            await asyncio.sleep(self._find_wait_seconds())
            if await self._leads():
                await self._passes.join_or_lead(None, self._pass)
            else:
                self._progress = await self._load() or self._progress
                self._tried_at = self._clock.monotonic()
                self._is_behind = False
                self._backoff.succeed()

    def _find_wait_seconds(self) -> float:
        if self._backoff.is_failing:
            return self._backoff.wait_seconds
        if self._is_behind:
            return 0
        return max(0.0, self._tried_at + self._interval_seconds - self._clock.monotonic())

    async def _leads(self) -> bool:
        """Return whether this process reads for all others; always without a store, and if that can't be known."""
        if self._store is None:
            return True
        try:
            return await self._store.try_lead(self._name, seconds=self._interval_seconds + _LEAD_SECONDS)
        except RevocationStoreError:
            return True

    async def _pass(self) -> None:
        """Read what is new, within bounds. Whatever goes wrong is in the state afterwards, and is not raised."""
        before = self._progress = self._progress or await self._load() or self._build_first()
        try:
            async with asyncio.timeout(self._pass_seconds):
                await self._read(before)
                error = find_problem(await self._api.fetch_hook(), events=self._events)
        except TimeoutError:
            error, self._is_behind = None, True
            if self._progress is before:
                error = (
                    f"expected a response within {self._pass_seconds:g} s, found none; check the connection to Logto"
                )
        except TooLargeError as found:
            error = f"a delivery is skipped: {found}"
        except LogtoError as found:
            error = str(found)
        self._tried_at = self._clock.monotonic()
        self._progress = self._note(self._progress, error)
        await self._save()

    async def _read(self, progress: _Progress) -> None:
        """Read pages, the newest first, until everything since the last pass was read, or this pass is long enough."""
        for _ in range(self._most_pages):
            page = await self._fetch(progress)
            await self._apply(page, newest=_find_newest(progress.window, page))
            progress, is_complete = self._advance(progress, page)
            self._progress = progress
            await self._save()
            if is_complete:
                self._is_behind = False
                return
        if not self._is_behind:
            _logger.warning(
                "the delivery log has more than %d new entries; the next pass continues", progress.window.offset
            )
        self._is_behind = True

    async def _fetch(self, progress: _Progress) -> Page:
        window = progress.window
        *sizes, smallest = (size for size in PAGE_SIZES if window.offset % size == 0)
        for size in sizes:
            try:
                return await self._api.fetch_page(window, size=size)
            except TooLargeError:
                pass
        try:
            return await self._api.fetch_page(window, size=smallest)
        except TooLargeError:
            # The pass ends here, so that a server that sends too much each time is not asked all the time.
            self._skipped_count += 1
            self._progress = replace(progress, window=replace(window, offset=window.offset + smallest))
            raise

    async def _apply(self, page: Page, *, newest: int | None) -> None:
        deliveries = [one for one in reversed(page.deliveries) if one.id not in self._applied]
        for number, (delivery, event) in enumerate(await asyncio.to_thread(_parse, deliveries), 1):
            if event is None:
                self._skipped_count += 1
            else:
                await self._try_to_handle(event)
            if delivery.id and delivery.created_at and newest and delivery.created_at >= newest - _OVERLAP_MS:
                self._applied[delivery.id] = delivery.created_at
            if number % _APPLIED_AT_ONCE == 0:
                await asyncio.sleep(0)

    async def _try_to_handle(self, event: Event) -> None:
        try:
            await self._handle(event)
        except RevocationStoreError:
            # It is applied here. The store gets it later, and the progress not before.
            pass
        except SettingsError:
            raise
        except Exception:
            # A function of the application must not keep later events from being applied.
            _logger.exception("on_event failed for an event of the delivery log")

    def _advance(self, progress: _Progress, page: Page) -> tuple[_Progress, bool]:
        """Return the progress after a page, and whether it was the last one."""
        window, newest = progress.window, _find_newest(progress.window, page)
        times = [one.created_at for one in page.deliveries if one.created_at is not None]
        # Old versions of Logto ignore the times in the request, and return a whole day.
        if not page.is_last and max(times, default=window.since) >= window.since:
            offset = window.offset + len(page.deliveries)
            return replace(progress, window=Window(since=window.since, until=newest, offset=offset)), False
        since = window.since
        if newest is not None:
            # Not in the future, or what happens until then would not be read.
            since = max(since, min(newest, int(self._clock.now() * 1000)) - _OVERLAP_MS)
        self._applied = {name: time for name, time in self._applied.items() if time >= since}
        return replace(progress, window=Window(since=since), read_at=self._clock.now()), True

    def _note(self, progress: _Progress, error: str | None) -> _Progress:
        if error is None:
            self._backoff.succeed()
            if progress.error is not None:
                _logger.info("the delivery log is read again")
        else:
            self._backoff.fail()
            if progress.error != error:
                _logger.warning("the delivery log of %s can't be relied on: %s", self._label, error)
        return replace(progress, error=error)

    def _build_first(self) -> _Progress:
        """Return the progress before the first pass: tokens that are older than this have expired."""
        return _Progress(window=Window(since=int(self._clock.now() * 1000) - self._longest_ms))

    async def _load(self) -> _Progress | None:
        if self._store is None:
            return None
        try:
            text = await self._store.load_text(self._name)
        except RevocationStoreError:
            return None
        saved = None if text is None else _parse_progress(text)
        if saved is None:
            return None
        since = max(saved.window.since, self._build_first().window.since)
        return replace(saved, window=replace(saved.window, since=since))

    async def _save(self) -> None:
        if self._store is None or self._progress is None or not self._has_stored():
            return
        # Otherwise another process reads more than it needs to.
        with suppress(RevocationStoreError):
            await self._store.save_text(self._name, _render_progress(self._progress))


def _find_newest(window: Window, page: Page) -> int | None:
    """Return the newest time of the part that is read, which the first page says."""
    times = (one.created_at for one in page.deliveries if one.created_at is not None)
    return window.until if window.until is not None else max(times, default=None)


def _parse(deliveries: Sequence[Delivery]) -> list[tuple[Delivery, Event | None]]:
    """Return the deliveries with their events; `None` for one that is not readable, which is logged."""
    parsed: list[tuple[Delivery, Event | None]] = []
    for delivery in deliveries:
        event = None
        try:
            event = build_event(delivery.body or {})
        except EventError as error:
            _logger.warning("an entry of the delivery log is skipped: %s", error)
        parsed.append((delivery, event))
    return parsed


def _render_progress(progress: _Progress) -> str:
    window = progress.window
    document = {"since": window.since, "until": window.until, "offset": window.offset}
    return json.dumps({**document, "read_at": progress.read_at, "error": progress.error})


def _parse_progress(text: str) -> _Progress | None:
    """Return a progress that was saved; `None` if it is of another version of this package."""
    try:
        document = parse_object(text.encode("utf-8", "surrogatepass"))
    except StrictJsonError:
        return None
    match document:
        case {
            "since": int(since),
            "until": int(until) | (None as until),
            "offset": int(offset),
            "read_at": float(read_at) | (None as read_at),
            "error": str(error) | (None as error),
        } if offset >= 0:
            return _Progress(window=Window(since=since, until=until, offset=offset), read_at=read_at, error=error)
        case _:
            return None
