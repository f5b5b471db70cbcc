"""When the provider's keys are fetched, and for how long those held may serve."""

import asyncio
import logging
import math
import random
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Final

from fastapi_logto.clock import Clock
from fastapi_logto.errors import AlgorithmError, FetchError, ProviderUnavailableError, UnknownKeyError, quote
from fastapi_logto.flights import Flights
from fastapi_logto.key_set import KeySet, PublicKey, parse_key_set
from fastapi_logto.metadata import MetadataSource
from fastapi_logto.transport import Transport

__all__ = ["KeySource", "ProviderHealth", "combine_health"]

_logger = logging.getLogger("fastapi_logto")

_LONGEST_BACKOFF_SECONDS: Final = 30.0
_REFRESH_AHEAD: Final = 0.8


@dataclass(frozen=True, slots=True, kw_only=True)
class ProviderHealth:
    """What is held of the provider, for a readiness route. Ages are seconds.

    Attributes:
        is_ready: Whether tokens can be verified now.
        is_stale: Whether the keys are past their age and only serve because no newer could be fetched yet.
        key_count: Usable keys held.
        age_seconds: Age of the key set; `None` before the first one.
        last_error: Why the last fetch failed; `None` when it did not.
        next_try_seconds: Time until the next fetch may start; `None` when none is due.
    """

    is_ready: bool
    is_stale: bool
    key_count: int
    age_seconds: float | None
    last_error: str | None
    next_try_seconds: float | None


@dataclass(frozen=True, slots=True)
class _Held:
    """A key set, when it came, and how old it is to be when the next one is fetched."""

    key_set: KeySet
    fetched_at: float
    refresh_age: float


def combine_health(parts: Sequence[ProviderHealth]) -> ProviderHealth:
    """Give the state of several providers as one: as good as the worst of them.

    Args:
        parts: The state of each, one at least.
    """
    ages = [part.age_seconds for part in parts]
    tries = [part.next_try_seconds for part in parts if part.next_try_seconds is not None]
    return ProviderHealth(
        is_ready=all(part.is_ready for part in parts),
        is_stale=any(part.is_stale for part in parts),
        key_count=sum(part.key_count for part in parts),
        age_seconds=None if None in ages else max(age for age in ages if age is not None),
        last_error=next((part.last_error for part in parts if part.last_error is not None), None),
        next_try_seconds=min(tries, default=None),
    )


class KeySource:
    """The keys of one provider: fetched when due, kept through outages, one fetch at a time.

    A request whose `kid` is held never waits for the network while the set may still serve.
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
    ) -> None:
        """Remember the policy. Fetches nothing and needs no running loop.

        Args:
            metadata: Where the key set is.
            transport: What fetches.
            algorithms: Algorithms that we accept.
            clock: Its monotonic time is used.
            ttl_seconds: Age from which the set is stale. It is fetched anew at about 80 % of it, beside the requests.
            cooldown_seconds: Shortest time between two fetches that unknown keys cause.
            max_stale_seconds: How long past its age the set still serves.
        """
        self._metadata = metadata
        self._transport = transport
        self._algorithms = algorithms
        self._monotonic = clock.monotonic
        self._ttl_seconds = ttl_seconds
        self._cooldown_seconds = cooldown_seconds
        self._max_stale_seconds = max_stale_seconds
        self._held: _Held | None = None
        self._last_error: FetchError | None = None
        self._failures = 0
        self._next_try_at = -math.inf
        self._last_forced_at = -math.inf
        self._flights: Flights[None, None] = Flights()

    async def find(self, *, kid: str | None, alg: str) -> tuple[PublicKey, ...]:
        """Give the public keys that a token header points at.

        A `kid` that is not held causes one fetch, unless the last such try is younger than the
        cooldown. The token itself is not seen here.

        Args:
            kid: Key ID from the token header; `None` matches only where exactly one key fits.
            alg: Algorithm from the header, already one of those accepted.

        Returns:
            The keys whose `kid` and algorithm fit, four at most.

        Raises:
            AlgorithmError: The key of this `kid` is held and does not allow `alg`.
            UnknownKeyError: No key fits, after the fetch that was due.
            ProviderUnavailableError: No usable keys are held, or a fetch that was due failed.

        References:
            RFC 7517 section 4.5; OpenID Connect Core 1.0 section 10.1.1.
        """
        key_set = self.peek()
        if key_set is None:
            key_set = await self._fetch_first()
            is_new = True
        else:
            is_new = False
        keys = key_set.find(kid=kid, alg=alg)
        if not keys and any(key.kid == kid for key in key_set.keys if kid is not None):
            # Another algorithm than the key's own: no new key set is a reason to believe such a token.
            raise AlgorithmError(claim="alg", expected="an algorithm of the key with this kid", found=alg)
        if not keys and not is_new:
            keys = (await self._fetch_for_unknown()).find(kid=kid, alg=alg)
        if not keys:
            raise UnknownKeyError(claim="kid", expected="a key of the issuer's key set", found=f"{quote(kid)} {alg}")
        return keys

    def peek(self) -> KeySet | None:
        """Give the key set that may serve now, without waiting; start a fetch beside when one is due.

        Returns:
            The key set; `None` when none is held or the held one is too old.
        """
        held = self._held
        if held is None:
            return None
        age = self._monotonic() - held.fetched_at
        if age >= held.refresh_age:
            if age >= self._ttl_seconds + self._max_stale_seconds:
                return None
            self._start_if_due()
        return held.key_set

    async def warm(self) -> None:
        """Fetch the key set if none is held. A provider that is away is logged, not raised."""
        if self.peek() is None:
            await self._join_or_start()

    async def close(self) -> None:
        """End the fetch that runs on this loop, if one does, without noise."""
        flight = self._flights.find(None)
        if flight is not None:
            flight.cancel()
            await asyncio.wait([flight])

    def health(self) -> ProviderHealth:
        """Give the state of the keys. Reads memory only."""
        now, held = self._monotonic(), self._held
        age = None if held is None else now - held.fetched_at
        return ProviderHealth(
            is_ready=age is not None and age < self._ttl_seconds + self._max_stale_seconds,
            is_stale=age is not None and age >= self._ttl_seconds,
            key_count=0 if held is None else len(held.key_set.keys),
            age_seconds=age,
            last_error=None if self._last_error is None else str(self._last_error),
            next_try_seconds=None if self._last_error is None else max(0.0, self._next_try_at - now),
        )

    async def _fetch_first(self) -> KeySet:
        """Fetch because nothing held may serve. While the provider is ill, ask it no more often than it is due."""
        await self._join_or_start()
        key_set = self.peek()
        if key_set is None:
            raise self._build_unavailable()
        return key_set

    async def _join_or_start(self) -> None:
        flight = self._flights.find(None)
        if flight is None and self._monotonic() >= self._next_try_at:
            flight = self._start()
        if flight is not None:
            await asyncio.wait([flight])

    async def _fetch_for_unknown(self) -> KeySet:
        """Fetch because a `kid` is not held: the provider may have rotated its keys."""
        flight = self._flights.find(None)
        if flight is None and self._monotonic() - self._last_forced_at >= self._cooldown_seconds:
            # Counted from the last forced try, good or bad: counted from any fetch, a rotation just
            # after the start would be refused; counting successes only, an ill provider would be
            # asked once for each request.
            self._last_forced_at = self._monotonic()
            flight = self._start()
        if flight is not None:
            await asyncio.wait([flight])
        key_set = self.peek()
        if key_set is None or self._last_error is not None:
            # Perhaps the provider has the key: "your token is bad" would be a guess.
            raise self._build_unavailable()
        return key_set

    def _build_unavailable(self) -> ProviderUnavailableError:
        wait = self._next_try_at - self._monotonic()
        return ProviderUnavailableError(
            retry_after_seconds=max(1, math.ceil(wait)) if math.isfinite(wait) else 1, found=str(self._last_error)
        )

    def _start_if_due(self) -> None:
        if self._monotonic() >= self._next_try_at and self._flights.find(None) is None:
            self._start()

    def _start(self) -> asyncio.Future[None]:
        return self._flights.start(None, self._refresh(), name="fastapi_logto: fetch keys")

    async def _refresh(self) -> None:
        """Fetch and replace the key set. Never raises: the outcome is in the state."""
        try:
            key_set = await self._fetch()
        except Exception as surprise:  # noqa: BLE001 - whatever it is, the next request must not find out anew
            error = surprise if isinstance(surprise, FetchError) else FetchError(type(surprise).__name__)
            self._failures += 1
            self._last_error = error
            # The exponent is bounded too: after half a day of failures no float would hold the power.
            backoff = min(2.0 ** min(self._failures - 1, 10), _LONGEST_BACKOFF_SECONDS) * random.uniform(0.9, 1.1)  # noqa: S311
            self._next_try_at = self._monotonic() + backoff
            _logger.warning("keys: fetch failed, next try in %.0f s at the earliest: %s", backoff, error)
            return
        # Spread, so that the processes of one deployment do not ask all at once for ever after.
        refresh_age = self._ttl_seconds * _REFRESH_AHEAD * random.uniform(0.95, 1.05)  # noqa: S311
        if self._held is not None and self._held.key_set.keys == key_set.keys:
            # Usually nothing has changed. Remembered tokens refer to what is held, and go on to.
            key_set = self._held.key_set
        self._held = _Held(key_set, self._monotonic(), refresh_age)
        self._last_error, self._failures = None, 0
        self._next_try_at = -math.inf

    async def _fetch(self) -> KeySet:
        metadata = await self._metadata.find()
        try:
            document = await self._transport.fetch_json(metadata.jwks_uri)
        except FetchError as error:
            if error.status in {404, 410}:
                self._metadata.forget()
            raise
        # Importing a hundred keys takes milliseconds: not on the loop.
        return await asyncio.to_thread(parse_key_set, document, algorithms=self._algorithms)
