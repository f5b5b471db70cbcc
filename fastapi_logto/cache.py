"""Verified tokens, remembered so that the same token is not verified again with each request."""

from collections import OrderedDict
from hashlib import sha256
from threading import Lock
from typing import Generic, TypeVar

__all__ = ["TokenCache", "build_digest"]

ValueT = TypeVar("ValueT")


def build_digest(text: bytes) -> bytes:
    """Give what stands for a token in memory: the SHA-256 of the header that brings it, never the token itself.

    Args:
        text: The exact value of the header. Another text for the same signature is another token.

    Returns:
        32 bytes.
    """
    return sha256(text).digest()


class TokenCache(Generic[ValueT]):
    """A store by digest, bounded by entries and by bytes; the least recently used entry goes first.

    It only stores: the clock, the key and the policy are checked again when an entry is used.
    """

    def __init__(self, *, size: int, max_bytes: int) -> None:
        """Make an empty store.

        Args:
            size: How many entries it holds; 0 for none.
            max_bytes: How much memory the entries may take, by their estimated weight.
        """
        self._size = size
        self._max_bytes = max_bytes
        self._bytes = 0
        self._entries: OrderedDict[bytes, tuple[ValueT, int]] = OrderedDict()
        # Loops of several threads may share a store.
        self._lock = Lock()

    def __len__(self) -> int:
        """Count the entries."""
        return len(self._entries)

    def find(self, digest: bytes) -> ValueT | None:
        """Return the entry of a digest, or `None`."""
        with self._lock:
            entry = self._entries.get(digest)
            if entry is None:
                return None
            self._entries.move_to_end(digest)
            return entry[0]

    def keep(self, digest: bytes, value: ValueT, *, weight: int) -> None:
        """Store a value, and drop the least recently used ones while there are too many or they weigh too much.

        Args:
            digest: Its digest.
            value: The value.
            weight: About how many bytes it takes; see `strict_json.estimate_weight`.
        """
        with self._lock:
            self._remove(digest)
            if weight > self._max_bytes:
                return
            self._entries[digest] = (value, weight)
            self._bytes += weight
            while len(self._entries) > self._size or self._bytes > self._max_bytes:
                self._remove(next(iter(self._entries)))

    def drop(self, digest: bytes) -> None:
        """Drop an entry, if it is stored."""
        with self._lock:
            self._remove(digest)

    def _remove(self, digest: bytes) -> None:
        removed = self._entries.pop(digest, None)
        if removed is not None:
            self._bytes -= removed[1]
