"""When the provider's keys are fetched, and how long cached keys may be used."""

import asyncio
import logging
import math
import random
from collections.abc import Collection
from dataclasses import dataclass
from typing import Final
from weakref import WeakKeyDictionary

from fastapi_logto.clock import Clock
from fastapi_logto.errors import AlgorithmError, ProviderUnavailableError, UnknownKeyError
from fastapi_logto.provider.backoff import Backoff
from fastapi_logto.provider.discovery import MetadataSource
from fastapi_logto.provider.failures import FetchError
from fastapi_logto.provider.health import ProviderHealth
from fastapi_logto.provider.key_set import KeySet, PublicKey, parse_key_set
from fastapi_logto.provider.loop_runs import LoopRun
from fastapi_logto.provider.telemetry import build_fetch_fields, count_key_fetch
from fastapi_logto.provider.transport import Transport
from fastapi_logto.redaction import quote
from fastapi_logto.settings import LogtoSettings
from fastapi_logto.single_flight import Flights, is_on_loop
from fastapi_logto.strict_json import parse_object_of_entries

_logger = logging.getLogger("fastapi_logto")

_REFRESH_AHEAD: Final = 0.8


class CoolingDownError(Exception):
    """A `kid` is unknown, and the next forced fetch is not due yet.

    Attributes:
        fetched_at: Wall time of the last successful fetch: an older key that is not in it is not the provider's.
        retry_after_seconds: Whole seconds until the next forced fetch.
    """

    def __init__(self, *, fetched_at: float, retry_after_seconds: int) -> None:
        super().__init__()
        self.fetched_at: float = fetched_at
        self.retry_after_seconds: int = retry_after_seconds


@dataclass(frozen=True, slots=True)
class _Held:
    """A cached key set, when it was fetched (monotonic and wall time), and the age at which it is refreshed."""

    key_set: KeySet
    fetched_at: float
    fetched_at_wall_time: float
    refresh_age: float
    run: LoopRun


@dataclass(frozen=True, slots=True)
class _Started:
    """When a fetch started: its number, ages, wall time, and the run of its event loop."""

    number: int
    at: float
    at_wall_time: float
    run: LoopRun


class KeySource:
    """The keys of one provider: fetched when due, kept during outages, one fetch at a time.

    A request with a cached `kid` does not wait for the network while the key set may be used. The exception is an event
    loop that runs only during requests: there, a request waits for the refresh of an expired key set.
    """

    def __init__(
        self,
        *,
        metadata: MetadataSource,
        transport: Transport,
        algorithms: Collection[str],
        clock: Clock,
        ttl_seconds: float,
        cooldown_seconds: float,
        max_stale_seconds: float,
        deadline_seconds: float,
    ) -> None:
        """Set the policy. Nothing is fetched, and no running loop is needed."""
        self._metadata = metadata
        self._transport = transport
        self._algorithms = algorithms
        self._clock = clock
        self._monotonic = clock.monotonic
        self._ttl_seconds = ttl_seconds
        self._cooldown_seconds = cooldown_seconds
        self._max_stale_seconds = max_stale_seconds
        self._deadline_seconds = deadline_seconds
        self._held: _Held | None = None
        self._last_error: FetchError | None = None
        self._backoff = Backoff(monotonic=clock.monotonic)
        self._last_forced_at = -math.inf
        self._starts = 0
        self._applied = 0
        self._started: WeakKeyDictionary[asyncio.Future[None], _Started] = WeakKeyDictionary()
        self._flights: Flights[None, None] = Flights()

    async def find(self, *, kid: str | None, alg: str) -> tuple[PublicKey, ...]:
        """Return the public keys that match a token header.

        An unknown `kid` triggers one refresh of the key set, unless the last forced refresh is more recent
        than the cooldown. The token itself is not checked here.

        Args:
            kid: Key ID from the token header; `None` matches only if exactly one key fits.
            alg: Algorithm from the header, already checked against the allowed list.

        Returns:
            The keys whose `kid` and algorithm match, at most four.

        Raises:
            AlgorithmError: The key with this `kid` does not allow `alg`.
            UnknownKeyError: No key matches, after any refresh that was due.
            CoolingDownError: No key matches, and no refresh is due yet.
            ProviderUnavailableError: No usable keys are cached, or a refresh that was due failed.

        References:
            RFC 7517 section 4.5; OpenID Connect Core 1.0 section 10.1.1.
        """
        key_set, is_fetched_for_this = self.peek(), False
        if key_set is None:
            key_set, is_fetched_for_this = await self._fetch_first()
        keys = _match(key_set, kid=kid, alg=alg)
        if not keys and not is_fetched_for_this:
            key_set, is_fetched_for_this = await self._fetch_for_unknown()
            keys = _match(key_set, kid=kid, alg=alg)
        if keys:
            return keys
        if not is_fetched_for_this:
            raise self._build_cooling_down()
        raise UnknownKeyError(claim="kid", expected="a key of the issuer's key set", found=f"{quote(kid)} {alg}")

    def find_held(self, *, kid: str | None, alg: str) -> tuple[PublicKey, ...]:
        """Return the cached public keys that match a token header, without waiting; empty if `find` must be awaited."""
        key_set = self.peek()
        return () if key_set is None else _match(key_set, kid=kid, alg=alg)

    def peek(self) -> KeySet | None:
        """Return the key set that may be used now, without waiting, and start a background refresh if one is due.

        `None` if there is none, if it is too old, or if a refresh must be awaited first.
        """
        held = self._held
        if held is None:
            return None
        age = self._monotonic() - held.fetched_at
        if age < held.refresh_age:
            return held.key_set
        if age >= self._ttl_seconds + self._max_stale_seconds:
            return None
        flight = self._flights.find(None)
        if age >= self._ttl_seconds and self._is_due() and not self._is_reliable(held, flight):
            return None
        if flight is None and self._is_due():
            self._start()
        return held.key_set

    async def warm(self) -> None:
        """Fetch the key set if none is cached. If the provider is unreachable, the error is logged, not raised."""
        if self.peek() is None:
            await self._join_or_start()

    async def close(self) -> None:
        """Cancel the fetch in progress on this loop, if any, without logging an error."""
        flight = self._flights.find(None)
        if flight is not None:
            flight.cancel()
            await asyncio.wait([flight])

    def health(self) -> ProviderHealth:
        """Return the state of the keys, and start a background fetch if one is due and an event loop runs.

        A process that gets no requests because it is not ready would never become ready otherwise.
        """
        now, held = self._monotonic(), self._held
        if is_on_loop() and self.peek() is None and self._find_flight() is None and self._is_due():
            self._start()
        age = None if held is None else now - held.fetched_at
        return ProviderHealth(
            is_ready=self._find_usable() is not None,
            is_stale=age is not None and age >= self._ttl_seconds,
            key_count=0 if held is None else len(held.key_set.keys),
            age_seconds=age,
            last_error=None if self._last_error is None else str(self._last_error),
            next_try_seconds=None if self._last_error is None else self._backoff.wait_seconds,
        )

    def _find_usable(self) -> KeySet | None:
        """Return the cached key set if it may still be used."""
        held = self._held
        if held is None or self._monotonic() - held.fetched_at >= self._ttl_seconds + self._max_stale_seconds:
            return None
        return held.key_set

    def _is_due(self) -> bool:
        return self._backoff.wait_seconds == 0

    def _is_reliable(self, held: _Held, flight: "asyncio.Future[None] | None") -> bool:
        """Return whether a refresh in the background can be relied on.

        The loop may run only during requests: then the run in which the set was fetched has ended, or that in which
        the refresh started, or the refresh is overdue.
        """
        return not held.run.has_ended() if flight is None else self._is_moving(flight)

    def _is_moving(self, flight: "asyncio.Future[None]") -> bool:
        started = self._started[flight]
        return not started.run.has_ended() and not self._is_past_deadline(started)

    def _is_past_deadline(self, started: _Started) -> bool:
        # A second more: on a loop that runs, the refresh ends itself at its deadline.
        return self._monotonic() - started.at >= self._deadline_seconds + 1

    async def _fetch_first(self) -> tuple[KeySet, bool]:
        """Fetch because nothing held may serve, and say whether it was fetched for this.

        A failing provider is requested only as often as it is due.
        """
        is_own = await self._join_or_start()
        key_set = self._find_usable()
        if key_set is None:
            raise self._build_unavailable()
        return key_set, is_own and self._last_error is None

    async def _join_or_start(self) -> bool:
        """Wait for the fetch under way, or for one that is started now; return whether this one was and counts."""
        flight = self._find_flight()
        is_own = flight is None and self._is_due()
        if is_own:
            flight = self._start()
        if flight is not None:
            await asyncio.wait([flight])
        return is_own and self._counts(flight)

    def _counts(self, flight: "asyncio.Future[None] | None") -> bool:
        """Return whether the keys are as new as a fetch, or newer. One that took too long was discarded."""
        return flight is not None and self._applied >= self._started[flight].number

    def _find_flight(self) -> "asyncio.Future[None] | None":
        """Return the refresh under way on this loop. No request depends on one that stopped."""
        flight = self._flights.find(None)
        if flight is not None and not self._is_moving(flight):
            self._flights.abandon(None, flight)
            return None
        return flight

    async def _fetch_for_unknown(self) -> tuple[KeySet, bool]:
        """Fetch because a `kid` is unknown, as after a rotation. Also return whether the keys were fetched for it."""
        flight = self._find_flight()
        is_cooled_down = self._monotonic() - self._last_forced_at >= self._cooldown_seconds
        is_forced = flight is None and (is_cooled_down or (self._last_error is not None and self._is_due()))
        if is_forced:
            # The cooldown starts at each forced try, whether it succeeds or not. If it started at every fetch, a
            # token signed after a rotation shortly after startup would be rejected. If it started at successful
            # ones only, a failing provider would get one request for each token.
            self._last_forced_at = self._monotonic()
            flight = self._start()
        if flight is not None:
            await asyncio.wait([flight])
        key_set = self._find_usable()
        if key_set is None or self._last_error is not None:
            # The provider may have the key, so the token can't be called invalid.
            raise self._build_unavailable()
        return key_set, is_forced and self._counts(flight)

    def _build_cooling_down(self) -> CoolingDownError:
        wait = max(1.0, self._last_forced_at + self._cooldown_seconds - self._monotonic())
        fetched_at = -math.inf if self._held is None else self._held.fetched_at_wall_time
        return CoolingDownError(fetched_at=fetched_at, retry_after_seconds=math.ceil(wait))

    def _build_unavailable(self) -> ProviderUnavailableError:
        return ProviderUnavailableError(
            retry_after_seconds=self._backoff.retry_after_seconds,
            found=str(self._last_error or "an incomplete fetch"),
        )

    def _start(self) -> asyncio.Future[None]:
        self._starts += 1
        started = _Started(self._starts, self._monotonic(), self._clock.now(), LoopRun.current())
        flight = self._flights.start(None, self._refresh(started), name="fastapi_logto: fetch keys")
        self._started[flight] = started
        return flight

    async def _refresh(self, started: _Started) -> None:
        """Fetch the key set. Whatever goes wrong is in the state afterwards, and is not raised."""
        try:
            async with asyncio.timeout(self._deadline_seconds):
                outcome: KeySet | Exception = await self._fetch()
        except Exception as surprise:  # noqa: BLE001 - whatever it is, the next request must not find out anew
            outcome = surprise
        # A try that was stopped together with its loop says nothing of the provider as it is now. And of two loops that
        # fetch at the same time, the one that started later knows better.
        if not self._is_past_deadline(started) and started.number > self._applied:
            self._applied = started.number
            self._apply(outcome, started)

    def _apply(self, outcome: KeySet | Exception, started: _Started) -> None:
        if isinstance(outcome, Exception):
            self._note_failure(outcome)
            return
        key_set = outcome
        if not key_set.keys:
            # This is no outage: the provider has withdrawn its keys.
            self._held = None
            self._note_failure(FetchError(f"key set: no key is usable with {', '.join(self._algorithms)}"))
            return
        # Randomized, so that the processes of one deployment do not all refresh at the same time.
        refresh_age = self._ttl_seconds * _REFRESH_AHEAD * random.uniform(0.95, 1.05)  # noqa: S311
        if self._held is not None and self._held.key_set.keys == key_set.keys:
            # Usually the keys have not changed. Keep the cached set, to which cached tokens refer.
            key_set = self._held.key_set
        # As old as its request: a key that was published while the response was on its way is not in it.
        self._held = _Held(key_set, started.at, started.at_wall_time, refresh_age, started.run)
        self._last_error = None
        self._backoff.succeed()
        count_key_fetch(self._metadata.url, "success")

    def _note_failure(self, raised: Exception) -> None:
        error = raised if isinstance(raised, FetchError) else FetchError(type(raised).__name__)
        self._last_error = error
        count_key_fetch(self._metadata.url, "failure")
        wait = self._backoff.fail()
        _logger.warning(
            *("keys: fetch failed, next try in %.0f s at the earliest: %s", wait, error),
            extra=build_fetch_fields(error.url, error.status, next_try_seconds=wait),
        )

    async def _fetch(self) -> KeySet:
        metadata = await self._metadata.find()
        try:
            document = await self._transport.fetch_json(
                metadata.jwks_uri, parse=parse_object_of_entries, purpose="keys"
            )
        except FetchError as error:
            if error.status in {404, 410}:
                self._metadata.forget()
            raise
        # Importing a hundred keys takes milliseconds, so it runs in a thread and not on the loop.
        return await asyncio.to_thread(parse_key_set, document, algorithms=self._algorithms)


def build_key_source(
    settings: LogtoSettings, *, metadata: MetadataSource, transport: Transport, clock: Clock
) -> KeySource:
    """Return the source of a tenant's keys, empty until its first use. Nothing is fetched."""
    return KeySource(
        metadata=metadata,
        transport=transport,
        algorithms=settings.algorithms,
        clock=clock,
        ttl_seconds=settings.keys_ttl_seconds,
        cooldown_seconds=settings.keys_cooldown_seconds,
        max_stale_seconds=settings.keys_max_stale_seconds,
        # One timeout each for discovery and key set, and one for the work in threads.
        deadline_seconds=3 * settings.fetch_timeout_seconds,
    )


def _match(key_set: KeySet, *, kid: str | None, alg: str) -> tuple[PublicKey, ...]:
    keys = key_set.find(kid=kid, alg=alg)
    if not keys and kid is not None and any(key.kid == kid for key in key_set.keys):
        # The key with this `kid` has another algorithm: no refresh can make such a token valid.
        raise AlgorithmError(claim="alg", expected="an algorithm of the key with this kid", found=alg)
    return keys
