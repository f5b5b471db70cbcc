"""Which tokens were revoked: the revocations that are known to this process, and a lookup for each token."""

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from itertools import compress, islice
from operator import attrgetter, itemgetter
from threading import Lock
from typing import Final, TypeAlias

from fastapi_logto.errors import RevokedTokenError
from fastapi_logto.verification.claims import TokenClaims

MAX_LATE_SECONDS: Final = 120
"""How long after its expiry a token may still be accepted: the largest leeway twice, for clocks that differ."""

_NAMES: Final = ("user_id", "organization_id", "client_id", "token_id", "issuer")
_read_values: Final[Callable[[object], tuple[str | None, ...]]] = attrgetter(*_NAMES)
# Connections that are checked again in one callback of the event loop, in a fifth of a millisecond.
_WATCHES_PER_TURN: Final = 100

_Key: TypeAlias = str | tuple[str, ...]
_Values: TypeAlias = tuple[str | None, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Revocation:
    """Tokens that are refused: those that match every value given here, and were issued at or before a time.

    Attributes:
        before: Seconds since the epoch. Tokens that were issued later are not affected. Adding the same revocation
            again has no effect.
        user_id: The subject of the tokens, or the actor who acts on behalf of the subject. Only the outermost actor
            counts (RFC 8693 section 4.1).
        organization_id: The organization that the tokens are for.
        client_id: The application to which the tokens were issued, also a machine.
        token_id: The `jti` of one token.
        issuer: The issuer in the settings of the tenant, `<endpoint>/oidc`; `None` for every tenant of the API.
    """

    before: float
    user_id: str | None = None
    organization_id: str | None = None
    client_id: str | None = None
    token_id: str | None = None
    issuer: str | None = None


@dataclass(frozen=True, slots=True)
class _Table:
    """The revocations that give the same values, e.g. only a user: from the values to the time, the oldest first."""

    are_given: tuple[bool, ...]
    find_key: Callable[[_Values], _Key]
    times: "OrderedDict[_Key, float]"


@dataclass(frozen=True, slots=True, eq=False)
class _Watch:
    """A connection that ends when the token that opened it is revoked."""

    claims: TokenClaims
    issuer: str | None
    end: Callable[[], object]


class RevokedTokens:
    """The revocations that are known, each until all tokens that it concerns have expired. A check is a lookup.

    Several threads may use it.

    Attributes:
        kept_seconds: How long after its time a revocation is kept.
    """

    def __init__(self, *, now: Callable[[], float], longest_token_seconds: float) -> None:
        """Start without revocations. `now` returns wall time."""
        self._now = now
        self.kept_seconds: Final = longest_token_seconds + MAX_LATE_SECONDS
        # Replaced whole when another combination of values occurs, because checks do not take the lock.
        self._tables: tuple[_Table, ...] = ()
        self._watches: dict[asyncio.AbstractEventLoop, dict[str | None, set[_Watch]]] = {}
        self._lock = Lock()

    def __len__(self) -> int:
        """Return the number of revocations."""
        return sum(len(table.times) for table in self._tables)

    def add(self, revocation: Revocation) -> bool:
        """Add a revocation; return whether that changes anything. Expired ones are removed, two at a time."""
        oldest = self._now() - self.kept_seconds
        if revocation.before <= oldest:
            return False
        values = _read_values(revocation)
        with self._lock:
            table = self._find_table(tuple(value is not None for value in values))
            key, times = table.find_key(values), table.times
            if times.get(key, oldest) >= revocation.before:
                return False
            times[key] = revocation.before
            times.move_to_end(key)
            for expired in [old for old in islice(times, 2) if times[old] <= oldest]:
                del times[expired]
            watches = self._select_watches(revocation)
        for loop, selected in watches:
            with suppress(RuntimeError):  # its loop is closed
                loop.call_soon_threadsafe(self._end_revoked, loop, selected)
        return True

    def check(self, claims: TokenClaims, *, issuer: str | None) -> None:
        """Raise `RevokedTokenError` if a token was revoked; `issuer` is that of the settings of its tenant."""
        if self._tables and self.is_revoked(claims, issuer=issuer):
            raise RevokedTokenError

    def is_revoked(self, claims: TokenClaims, *, issuer: str | None) -> bool:
        """Return whether a token was revoked. Without a time of issue, it was issued before every revocation."""
        # A tuple, because this happens in each request.
        values: _Values = (claims.sub, claims.organization_id, claims.client_id, claims.jti, issuer)
        if type(claims) is not TokenClaims:
            # An application's model may have converted them, e.g. to a UUID.
            values = tuple(map(_as_text, values))
        if self._matches(values, claims.iat):
            return True
        # The actor is a user too, who must not act on behalf of others either.
        return claims.act is not None and self._matches((claims.act.sub, *values[1:]), claims.iat)

    def _matches(self, values: _Values, issued_at: float | None) -> bool:
        for table in self._tables:
            before = table.times.get(table.find_key(values))
            if before is not None and (issued_at is None or issued_at <= before):
                return True
        return False

    def list_all(self) -> Iterator[Revocation]:
        """Yield all revocations that have not expired, in any order. Those that are added meanwhile may be missing."""
        oldest = self._now() - self.kept_seconds
        for table in self._tables:
            with self._lock:
                # The order does not matter, and an `OrderedDict` takes ten times as long in its own.
                keys = list(dict[_Key, float].keys(table.times))
            for key in keys:
                before = table.times.get(key, oldest)
                if before > oldest:
                    given = compress(_NAMES, table.are_given)
                    yield Revocation(before=before, **dict(zip(given, _as_tuple(key), strict=True)))

    def watch(self, claims: TokenClaims, *, issuer: str | None, end: Callable[[], object]) -> Callable[[], None]:
        """Call `end` on the running loop when a token is revoked, or now if it was already; return how to stop this.

        `end` may be called more than once.
        """
        loop = asyncio.get_running_loop()
        watch = _Watch(claims, issuer, end)
        subjects = _list_subjects(claims)
        with self._lock:
            watches = self._watches.setdefault(loop, {})
            for subject in subjects:
                watches.setdefault(subject, set()).add(watch)
        if self.is_revoked(claims, issuer=issuer):
            end()
        return partial(self._forget, loop, watch, subjects)

    def _forget(self, loop: asyncio.AbstractEventLoop, watch: _Watch, subjects: frozenset[str | None]) -> None:
        with self._lock:
            watches = self._watches[loop]
            for subject in subjects:
                watches[subject].discard(watch)
                if not watches[subject]:
                    del watches[subject]
            if not watches:
                del self._watches[loop]

    def _select_watches(self, revocation: Revocation) -> list[tuple[asyncio.AbstractEventLoop, Iterator[_Watch]]]:
        """Return the connections that a revocation may concern, by their loop."""
        return [
            (
                loop,
                iter(tuple(watches.get(revocation.user_id, ())))
                if revocation.user_id is not None
                else iter([watch for group in watches.values() for watch in group]),
            )
            for loop, watches in self._watches.items()
        ]

    def _end_revoked(self, loop: asyncio.AbstractEventLoop, watches: Iterator[_Watch]) -> None:
        """End the revoked ones of some connections, and continue with the others in the loop's next turn."""
        selected = list(islice(watches, _WATCHES_PER_TURN))
        for watch in selected:
            if self.is_revoked(watch.claims, issuer=watch.issuer):
                watch.end()
        if selected:
            loop.call_soon(self._end_revoked, loop, watches)

    def _find_table(self, are_given: tuple[bool, ...]) -> _Table:
        for table in self._tables:
            if table.are_given == are_given:
                return table
        table = _Table(are_given, _build_reader(are_given), OrderedDict())
        self._tables = (*self._tables, table)
        return table


def _build_reader(are_given: tuple[bool, ...]) -> Callable[[_Values], _Key]:
    """Return a function that reads the given values: one alone, which takes less memory, or a tuple."""
    places = list(compress(range(len(are_given)), are_given))
    if not places:
        return _read_nothing
    return itemgetter(*places)


def _read_nothing(_: _Values) -> _Key:
    return ()


def _as_text(value: object) -> str | None:
    return value if value is None or isinstance(value, str) else str(value)


def _as_tuple(key: _Key) -> tuple[str, ...]:
    return (key,) if isinstance(key, str) else key


def _list_subjects(claims: TokenClaims) -> frozenset[str | None]:
    # As in `is_revoked`, in the form in which a revocation names a user.
    subject = _as_text(claims.sub)
    return frozenset({subject} if claims.act is None else {subject, claims.act.sub})
