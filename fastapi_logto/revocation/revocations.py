"""Revoke access tokens before they expire."""

import logging
import math
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from datetime import datetime
from functools import partial
from threading import Lock
from typing import Final, Literal, TypeAlias

from fastapi_logto.clock import Clock
from fastapi_logto.redaction import quote
from fastapi_logto.verification.revocation_feed import (
    OnOutage,
    RevocationFeed,
    RevocationHealth,
    RevocationStore,
    RevocationStoreError,
)
from fastapi_logto.verification.revoked import Revocation

__all__ = ["Feeds", "RevocationSource", "Revocations", "build_revocation", "check_revocations", "find_feeds"]

RevocationSource: TypeAlias = Literal["call", "webhook", "log", "logout"]
"""Where a revocation came from: a call of the application, a webhook, the delivery log, or a back-channel logout."""

_logger: Final = logging.getLogger("fastapi_logto")

_MOST_SECONDS: Final = 366 * 24 * 3600
_MOST_CHARACTERS: Final = 2048


class Feeds:
    """The revocations of this process, and those of tests that replace them."""

    def __init__(self, store: RevocationStore | None, *, build: Callable[..., RevocationFeed]) -> None:
        """Store the parts. `build` returns a feed of a store and a clock."""
        self._store = store
        self._build = build
        self._lock = Lock()
        self._own: RevocationFeed | None = None
        self._substitutes: list[RevocationFeed] = []

    @property
    def current(self) -> RevocationFeed:
        """The revocations in use."""
        return self._substitutes[-1] if self._substitutes else self.use_clock(Clock())

    def use_clock(self, clock: Clock) -> RevocationFeed:
        """Return the revocations outside tests. Those of the first `LogtoAuth` decide about the clock."""
        with self._lock:
            if self._own is None:
                self._own = self._build(self._store, clock=clock)
            return self._own

    @contextmanager
    def replaced(self, *, clock: Clock) -> Generator[RevocationFeed]:
        """Start without revocations and without the store inside a block; for tests. Blocks may overlap."""
        feed = self._build(None, clock=clock)
        with self._lock:
            self._substitutes.append(feed)
        try:
            yield feed
        finally:
            with self._lock:
                self._substitutes.remove(feed)


class Revocations:
    """Access tokens that are refused although they have not expired, for `LogtoAuth(revocations=...)`.

    A JWT stays valid until it expires, also if its user is suspended. With this, such a token is refused with 401
    `invalid_token`, reason `revoked`, and WebSockets and streams under `auth.closing_at_expiry` and `auth.until_expiry`
    end at once. Tokens that are issued later are not affected.

    Without a store, each process knows only the revocations that it was told itself.

    Args:
        store: Where several processes share revocations, such as `RedisStore`.
        on_outage: What happens while the store is unavailable for longer than `outage_seconds`: `"closed"` responds
            with 503, `"open"` goes on with the revocations that are known. Both are reported by `health()` and in the
            log.
        outage_seconds: How long the store may be unavailable before `"closed"` takes effect. A process that has never
            reached the store responds with 503 at once.
        longest_token_seconds: The longest token expiration in Logto, in seconds. Revocations are kept that long. A
            token that lives longer is reported once in the log.

    Raises:
        ValueError: A value is out of range.
    """

    def __init__(
        self,
        store: RevocationStore | None = None,
        *,
        on_outage: OnOutage = "closed",
        outage_seconds: float = 30,
        longest_token_seconds: float = 24 * 3600,
    ) -> None:
        if on_outage not in {"closed", "open"}:
            raise ValueError(f"on_outage: expected 'closed' or 'open', found {quote(on_outage)}; pass one of them")
        _check_range("outage_seconds", outage_seconds, least=1)
        _check_range("longest_token_seconds", longest_token_seconds, least=1)
        build = partial(
            RevocationFeed,
            on_outage=on_outage,
            outage_seconds=outage_seconds,
            longest_token_seconds=longest_token_seconds,
        )
        self._feeds = Feeds(store, build=build)

    async def revoke(
        self,
        *,
        user_id: str | None = None,
        organization_id: str | None = None,
        client_id: str | None = None,
        token_id: str | None = None,
        issuer: str | None = None,
        before: datetime | float | None = None,
    ) -> None:
        """Refuse the tokens that match all given values and were issued at or before a time.

        Args:
            user_id: The subject, or the actor who acts on behalf of the subject.
            organization_id: The organization that the tokens are for.
            client_id: The application to which the tokens were issued.
            token_id: The `jti` of one token.
            issuer: The issuer of the tenant, `<endpoint>/oidc`, if the API accepts several; by default every tenant.
            before: The time, in seconds since the epoch or as a `datetime` with a time zone; by default now.

        Raises:
            ValueError: No value is given, or an invalid one.
            RevocationStoreError: The store is unavailable. The revocation is in effect in this process, and other
                processes get it when the store works again.
        """
        revocation = build_revocation(
            user_id=user_id,
            organization_id=organization_id,
            client_id=client_id,
            token_id=token_id,
            issuer=issuer,
            before=self._feeds.current.now() if before is None else before,
        )
        await self._add([revocation], source="call")

    async def revoke_all(self, *, issuer: str | None = None, before: datetime | float | None = None) -> None:
        """Refuse all tokens that were issued at or before a time, so that every client needs a new one.

        Args:
            issuer: As for `revoke`.
            before: As for `revoke`.

        Raises:
            ValueError: As for `revoke`.
            RevocationStoreError: As for `revoke`.
        """
        _check_text("issuer", issuer)
        moment = _read_time(self._feeds.current.now() if before is None else before)
        await self._add([Revocation(before=moment, issuer=issuer)], source="call")

    def health(self) -> RevocationHealth:
        """Return the state of the revocations. Nothing is read."""
        return self._feeds.current.health()

    async def _add(self, revocations: Sequence[Revocation], *, source: RevocationSource) -> None:
        try:
            count = await self._feeds.current.add(revocations)
        except RevocationStoreError:
            _logger.warning("revocations of the source %s are in effect in this process only", source)
            raise
        if count:
            # Without ids, which are personal data.
            _logger.info("%d revocations of the source %s are in effect", count, source)


def find_feeds(revocations: Revocations) -> Feeds:
    """Return the revocations of this process. For this package: users have no need of it."""
    return revocations._feeds  # noqa: SLF001 # pyright: ignore[reportPrivateUsage] - of this module


def build_revocation(
    *,
    user_id: str | None,
    organization_id: str | None,
    client_id: str | None,
    token_id: str | None,
    issuer: str | None,
    before: datetime | float,
) -> Revocation:
    """Return a revocation of some tokens; `ValueError` if it would concern all, or if a value is invalid."""
    texts = {"user_id": user_id, "organization_id": organization_id, "client_id": client_id, "token_id": token_id}
    if all(value is None for value in texts.values()):
        # A `None` by mistake must not end all sessions.
        raise ValueError(
            "expected a user_id, organization_id, client_id or token_id, found none; to revoke all tokens, call "
            "revoke_all()"
        )
    for name, value in {**texts, "issuer": issuer}.items():
        _check_text(name, value)
    return Revocation(
        before=_read_time(before),
        user_id=user_id,
        organization_id=organization_id,
        client_id=client_id,
        token_id=token_id,
        issuer=issuer,
    )


def _read_time(before: datetime | float) -> float:
    if isinstance(before, datetime):
        if before.utcoffset() is None:
            raise ValueError(
                "before: expected a datetime with a time zone, found one without; use datetime.now(timezone.utc)"
            )
        return before.timestamp()
    if isinstance(before, bool) or not math.isfinite(before):
        raise ValueError(f"before: expected seconds since the epoch, found {before!r}; pass time.time()")
    return float(before)


def _check_range(name: str, seconds: float, *, least: float) -> None:
    if isinstance(seconds, bool) or not least <= seconds <= _MOST_SECONDS:
        raise ValueError(
            f"{name}: expected {least:g} to {_MOST_SECONDS} seconds, found {seconds!r}; pass such a number"
        )


def _check_text(name: str, value: object) -> None:
    if value is not None and not (isinstance(value, str) and value.strip() and len(value) <= _MOST_CHARACTERS):
        raise ValueError(f"{name}: expected a text that is not empty, found {quote(value)}; pass the id from Logto")


def check_revocations(revocations: object) -> Revocations | None:
    """Return the argument; `TypeError` if it is neither `None` nor a `Revocations`."""
    if revocations is not None and not isinstance(revocations, Revocations):
        found = type(revocations).__name__
        raise TypeError(f"revocations: expected a Revocations, found a {found}; pass Revocations(...)")
    return revocations
