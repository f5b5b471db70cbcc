"""Opaque access tokens, and what each was issued for."""

import secrets
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

__all__ = ["RANDOM_BYTES", "OpaqueToken", "OpaqueTokens"]

# 32 bytes give the 43 characters that Logto's opaque tokens and token ids have.
RANDOM_BYTES: Final = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class OpaqueToken:
    """What an opaque access token was issued for.

    Attributes:
        subject: The user id.
        client_id: The application it was issued to.
        scope: Its scopes, parted by spaces.
        issued_at: When it was issued, in whole seconds.
        expires_at: The first second at which it is no longer good.
    """

    subject: str
    client_id: str
    scope: str
    issued_at: int
    expires_at: int


class OpaqueTokens:
    """The opaque tokens that are out; safe to use from several threads."""

    def __init__(self, now: Callable[[], float]) -> None:
        """Start without any token.

        Args:
            now: The clock, in seconds since the epoch.
        """
        self._now = now
        self._entries: dict[str, OpaqueToken] = {}

    def issue(self, entry: OpaqueToken) -> str:
        """Give a new token, and forget those that expired."""
        now = self._now()
        for token, other in list(self._entries.items()):
            if now >= other.expires_at:
                self._entries.pop(token, None)
        token = secrets.token_urlsafe(RANDOM_BYTES)
        self._entries[token] = entry
        return token

    def find(self, token: str) -> OpaqueToken | None:
        """Give what a token was issued for, unless it is unknown or expired."""
        entry = self._entries.get(token)
        return entry if entry is not None and self._now() < entry.expires_at else None
