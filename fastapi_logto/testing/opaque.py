"""Issued tokens that are not JWTs, and their contents."""

import secrets
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Generic, Protocol, TypeVar

# 32 bytes make the 43 characters of Logto's opaque tokens and token IDs.
RANDOM_BYTES: Final = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class OpaqueToken:
    """The contents of an opaque access token. Times are seconds since the epoch; it is invalid from `expires_at` on."""

    subject: str
    client_id: str
    scope: str
    issued_at: int
    expires_at: int


@dataclass(frozen=True, slots=True, kw_only=True)
class UserToken:
    """The contents of a token that can only be exchanged: the user, and the time from which it is invalid."""

    subject: str
    expires_at: float


class _Entry(Protocol):
    @property
    def subject(self) -> str: ...

    @property
    def expires_at(self) -> float: ...


_EntryT = TypeVar("_EntryT", bound=_Entry)


class TokenStore(Generic[_EntryT]):
    """The issued tokens of one kind. Thread-safe."""

    def __init__(self, now: Callable[[], float], *, prefix: str = "") -> None:
        """Start without tokens. Each token starts with `prefix`."""
        self._now = now
        self._prefix = prefix
        self._entries: dict[str, _EntryT] = {}

    def issue(self, entry: _EntryT) -> str:
        """Return a new token, and drop expired ones."""
        now = self._now()
        for token, other in list(self._entries.items()):
            if now >= other.expires_at:
                self._entries.pop(token, None)
        token = self._prefix + secrets.token_urlsafe(RANDOM_BYTES)
        self._entries[token] = entry
        return token

    def find(self, token: str) -> _EntryT | None:
        """Return the contents of a token; `None` if it is unknown or expired."""
        entry = self._entries.get(token)
        return entry if entry is not None and self._now() < entry.expires_at else None

    def drop_of(self, subject: str) -> None:
        """Drop all tokens of a user."""
        for token, entry in list(self._entries.items()):
            if entry.subject == subject:
                self._entries.pop(token, None)

    def use_up(self, token: str) -> bool:
        """Drop a token; return whether it existed. Only one of several concurrent calls returns true."""
        return self._entries.pop(token, None) is not None


class IssuedTokens:
    """The issued opaque access tokens, personal access tokens and subject tokens for impersonation."""

    def __init__(self, now: Callable[[], float]) -> None:
        """Start without tokens."""
        self.opaque: Final[TokenStore[OpaqueToken]] = TokenStore(now)
        self.personal: Final[TokenStore[UserToken]] = TokenStore(now, prefix="pat_")
        self.impersonation: Final[TokenStore[UserToken]] = TokenStore(now, prefix="sub_")
