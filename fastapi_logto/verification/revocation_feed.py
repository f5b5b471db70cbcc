"""Keep the revocations of this process up to date with a store that several processes share."""

import asyncio
import logging
import math
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from itertools import islice
from typing import Final, Literal, TypeAlias

from fastapi_logto.clock import Clock
from fastapi_logto.errors import ProviderUnavailableError
from fastapi_logto.provider.background import BackgroundTask
from fastapi_logto.provider.backoff import Backoff
from fastapi_logto.single_flight import Flights
from fastapi_logto.telemetry import RevocationSource, count_revocations, count_store_failure
from fastapi_logto.verification.claims import TokenClaims
from fastapi_logto.verification.revocation_store import (
    RevocationHealth,
    RevocationLog,
    RevocationStore,
    RevocationStoreError,
    call_store,
)
from fastapi_logto.verification.revoked import Revocation, RevokedTokens

_logger = logging.getLogger("fastapi_logto")

OnOutage: TypeAlias = Literal["closed", "open"]
"""What happens to requests while the store is unavailable: 503, or a check against the revocations that are known."""

# A read waits this long for the next revocation.
_WAIT_SECONDS: Final = 2.0
# A process whose last contact is older, e.g. because its loop was stopped, reads before it answers.
_CURRENT_SECONDS: Final = 10.0
# Processes restore a store one after the other. What one of them has appended, the next one need not.
_RESTORE_SECONDS: Final = 5.0
_APPENDED_AT_ONCE: Final = 100
# Revocations that are listed in one turn of the event loop, in a quarter of a millisecond.
_LISTED_PER_TURN: Final = 100


class RevocationFeed:
    """The revocations of this process, and what a shared store adds to them."""

    def __init__(
        self,
        store: RevocationStore | None,
        *,
        clock: Clock,
        on_outage: OnOutage,
        outage_seconds: float,
        longest_token_seconds: float,
        longest_wait_seconds: float = 2,
        load_seconds: float = 30,
        logs: Sequence[RevocationLog] = (),
    ) -> None:
        """Store the parts. Nothing is read.

        `longest_wait_seconds` limits the wait for the next try in an outage: after it, revocations must arrive soon.
        `load_seconds` limits the first read, which may load a hundred thousand; a store that does not respond fails
        much earlier.
        """
        self.tokens: Final = RevokedTokens(now=clock.now, longest_token_seconds=longest_token_seconds)
        self._store = store
        self._logs = tuple(logs)
        self._clock = clock
        self._on_outage = on_outage
        self._outage_seconds = outage_seconds
        self._current_seconds = min(_CURRENT_SECONDS, outage_seconds)
        self._longest_token_seconds = longest_token_seconds
        self._longest_wait_seconds = longest_wait_seconds
        self._load_seconds = load_seconds
        self._position: str | None = None
        self._contact_at = -math.inf
        self._last_error: RevocationStoreError | None = None
        self._backoff = Backoff(monotonic=clock.monotonic, longest_seconds=longest_wait_seconds)
        # Revocations that the store has not got yet; in a dict, because two flushes may append the same ones.
        self._waiting: dict[Revocation, None] = {}
        # Revocations that a restarted store may have lost.
        self._lost: dict[Revocation, None] = {}
        self._reads: Flights[None, None] = Flights()
        self._flushes: Flights[None, None] = Flights()
        self._user_count = 0
        self._follower = BackgroundTask("fastapi_logto: follow the store of revocations")
        self._has_warned = False

    @property
    def is_current(self) -> bool:
        """Whether everything is known that was in the store a moment ago, and the logs are followed."""
        for log in self._logs:
            if not log.is_current:
                return False
        if self._store is None:
            return True
        return self._follower.is_running and self._clock.monotonic() - self._contact_at <= self._current_seconds

    def admits_now(self, claims: TokenClaims, *, issuer: str | None) -> bool:
        """Return whether a token was not revoked; false also if that is not known without waiting."""
        return self.is_current and not self.tokens.is_revoked(claims, issuer=issuer)

    def now(self) -> float:
        """Return wall time in seconds since the epoch."""
        return self._clock.now()

    async def catch_up(self) -> None:
        """Read what is new, once for concurrent requests, and keep following the logs and the store.

        `ProviderUnavailableError` if the store has been unavailable for too long and requests must not go on without
        it.
        """
        # The logs first: what another process has found in them is in the store.
        await asyncio.gather(*(log.catch_up() for log in self._logs if not log.is_current))
        store = self._store
        if store is None:
            return
        # In an outage, the task that follows the store tries again, and requests do not wait for it.
        if self._backoff.wait_seconds == 0 and not (self._backoff.is_failing and self._follower.is_running):
            await self._reads.join_or_lead(None, partial(self._read_all, store))
        self._follower.keep(partial(self._follow, store))
        age = self._clock.monotonic() - self._contact_at
        if self._on_outage == "closed" and age > self._outage_seconds:
            raise ProviderUnavailableError(
                "It can't be checked now whether the token was revoked; try again later",
                retry_after_seconds=self._backoff.retry_after_seconds,
                found=f"no contact with the store of revocations: {self._last_error}",
            )

    async def warm(self) -> None:
        """Load the revocations, and keep them up to date until `close` is called as often as this.

        If the store is unavailable, the error is logged, not raised.
        """
        self._user_count += 1
        with suppress(ProviderUnavailableError):
            await self.catch_up()

    def check(self, claims: TokenClaims, *, issuer: str | None) -> None:
        """Raise `RevokedTokenError` if a token was revoked; `issuer` is that of the settings of its tenant."""
        self.tokens.check(claims, issuer=issuer)

    def check_life(self, claims: TokenClaims) -> None:
        """Log a warning, once, about a token that lives longer than revocations are kept."""
        if self._has_warned:
            return
        issued_at = self._clock.now() if claims.iat is None else claims.iat
        # Both may be integers that are too large for a float.
        if claims.exp > max(issued_at, 0) + self._longest_token_seconds:
            self._has_warned = True
            _logger.warning(
                "a token lives longer than revocations are kept, %d s: once they have expired, it is accepted again; "
                "set longest_token_seconds of Revocations to the longest token expiration in Logto",
                self._longest_token_seconds,
            )

    async def add(self, revocations: Sequence[Revocation], *, source: RevocationSource = "call") -> int:
        """Apply revocations in this process, then append them to the store; return how many are new here.

        `RevocationStoreError` if the store does not have them yet. It gets them when it works again.
        """
        count = 0
        for number, one in enumerate(revocations, 1):
            if self.tokens.add(one):
                count += 1
                if self._store is not None:
                    self._waiting[one] = None
            if number % _APPENDED_AT_ONCE == 0:
                # An event may concern thousands of users.
                await asyncio.sleep(0)
        count_revocations(source=source, count=count)
        # Also if these are known: the store may have rejected them before.
        if self._store is not None and self._waiting:
            try:
                await self._flushes.join_or_lead(None, partial(self._flush, self._store))
            except RevocationStoreError as error:
                self._note_failure(error)
                # It appends them later. Without requests, nothing else would start it.
                self._follower.keep(partial(self._follow, self._store))
                raise
        return count

    async def close(self) -> None:
        """Stop following the logs and the store, and close its connections, unless another application needs them."""
        self._user_count = max(0, self._user_count - 1)
        if self._user_count:
            return
        for log in self._logs:
            await log.close()
        await self._follower.close()
        if self._store is not None:
            await self._store.close()

    def health(self) -> RevocationHealth:
        """Return the state. Nothing is read."""
        age = self._clock.monotonic() - self._contact_at
        is_stale = self._store is not None and age > self._current_seconds
        return RevocationHealth(
            is_ready=self._store is None or self._on_outage == "open" or age <= self._outage_seconds,
            is_stale=is_stale,
            count=len(self.tokens),
            age_seconds=None if self._store is None or math.isinf(age) else age,
            waiting_count=len(self._waiting) + len(self._lost),
            last_error=None if self._last_error is None else str(self._last_error),
            logs=tuple(log.health() for log in self._logs),
        )

    async def _read_all(self, store: RevocationStore) -> None:
        try:
            async with asyncio.timeout(self._load_seconds):
                while not await self._read(store, wait_seconds=0):
                    pass
        except RevocationStoreError as error:
            self._note_failed_read(error)
        except TimeoutError:
            found = f"expected all revocations within {self._load_seconds:g} s, found more"
            self._note_failed_read(RevocationStoreError(found))

    async def _follow(self, store: RevocationStore) -> None:
        while True:
            try:
                wait_seconds = 0 if self._waiting else min(_WAIT_SECONDS, self._current_seconds / 2)
                await self._read(store, wait_seconds=wait_seconds)
                if self._waiting:
                    # It can be read, but rejects new entries.
                    await asyncio.sleep(self._longest_wait_seconds)
            except RevocationStoreError as error:
                await asyncio.sleep(self._note_failed_read(error))

    async def _read(self, store: RevocationStore, *, wait_seconds: float) -> bool:
        """Read one batch; return whether it was the last one."""
        batch = await call_store(store.read(self._position, wait_seconds=wait_seconds))
        if batch.is_restarted:
            self._lost = await self._list_known()
            _logger.warning("the store of revocations has lost its data; %d are appended again", len(self._lost))
        count = 0
        for revocation in batch.revocations:
            count += self.tokens.add(revocation)
            self._lost.pop(revocation, None)
        count_revocations(source="store", count=count)
        self._position = batch.position
        if batch.is_last:
            self._contact_at = self._clock.monotonic()
            self._backoff.succeed()
            await self._try_to_repair(store)
        return batch.is_last

    async def _try_to_repair(self, store: RevocationStore) -> None:
        """Append what the store does not have. It may be read although it is full."""
        try:
            await self._repair(store)
        except RevocationStoreError as error:
            self._note_failure(error)
        else:
            if self._last_error is not None:
                _logger.info("the store of revocations works again")
            self._last_error = None

    async def _list_known(self) -> dict[Revocation, None]:
        known: dict[Revocation, None] = {}
        for revocation in self.tokens.list_all():
            known[revocation] = None
            if len(known) % _LISTED_PER_TURN == 0:
                await asyncio.sleep(0)
        return known

    async def _repair(self, store: RevocationStore) -> None:
        """Append what the store could not take, or has lost."""
        if self._lost:
            leads = await call_store(store.try_lead("restore", seconds=_RESTORE_SECONDS))
            if leads:
                self._waiting |= self._lost
                self._lost = {}
        if self._waiting:
            await self._flushes.join_or_lead(None, partial(self._flush, store))

    async def _flush(self, store: RevocationStore) -> None:
        while self._waiting:
            taken = list(islice(self._waiting, _APPENDED_AT_ONCE))
            await call_store(store.append(taken, kept_seconds=self.tokens.kept_seconds))
            for revocation in taken:
                self._waiting.pop(revocation, None)

    def _note_failed_read(self, error: RevocationStoreError) -> float:
        """Note why the store failed, and return the seconds until the next read."""
        self._note_failure(error)
        return self._backoff.fail()

    def _note_failure(self, error: RevocationStoreError) -> None:
        count_store_failure()
        if self._last_error is None:
            _logger.warning("the store of revocations is unavailable: %s", error)
        self._last_error = error
