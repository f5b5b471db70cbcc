"""Opaque access tokens and their contents."""

import secrets
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

__all__ = ["RANDOM_BYTES", "OpaqueToken", "OpaqueTokens"]

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


class OpaqueTokens:
    """The issued opaque tokens. Thread-safe."""

    def __init__(self, now: Callable[[], float]) -> None:
        """Start without tokens."""
        self._now = now
        self._entries: dict[str, OpaqueToken] = {}

    def issue(self, entry: OpaqueToken) -> str:
        """Return a new token, and drop expired ones."""
        now = self._now()
        for token, other in list(self._entries.items()):
            if now >= other.expires_at:
                self._entries.pop(token, None)
        token = secrets.token_urlsafe(RANDOM_BYTES)
        self._entries[token] = entry
        return token

    def find(self, token: str) -> OpaqueToken | None:
        """Return the contents of a token; `None` if it is unknown or expired."""
        entry = self._entries.get(token)
        return entry if entry is not None and self._now() < entry.expires_at else None
