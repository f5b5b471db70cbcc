"""A cache of verified tokens, so that the same token is not verified again for each request."""

from collections import OrderedDict
from hashlib import sha256
from threading import Lock
from typing import Generic, TypeVar

__all__ = ["TokenCache", "build_digest"]

ValueT = TypeVar("ValueT")


def build_digest(text: bytes) -> bytes:
    """Return the cache key of a token: the SHA-256 of its header value. The cache never holds the token itself.

    Another text for the same signature is another token.
    """
    return sha256(text).digest()


class TokenCache(Generic[ValueT]):
    """A store by digest, bounded by entries and by bytes. The least recently used entry is evicted first.

    It only stores: the clock, the key and the policy are checked again when an entry is used.
    """

    def __init__(self, *, size: int, max_bytes: int) -> None:
        """Create an empty store. `size` may be 0; `max_bytes` limits the estimated weight of all entries."""
        self._size = size
        self._max_bytes = max_bytes
        self._bytes = 0
        self._entries: OrderedDict[bytes, tuple[ValueT, int]] = OrderedDict()
        # Event loops of several threads may share a store.
        self._lock = Lock()

    def __len__(self) -> int:
        """Return the number of entries."""
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
        """Store a value, and evict the least recently used entries while there are too many or they are too large.

        `weight` is the approximate size in bytes; see `strict_json.estimate_weight`.
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
        """Remove an entry if it is stored."""
        with self._lock:
            self._remove(digest)

    def _remove(self, digest: bytes) -> None:
        removed = self._entries.pop(digest, None)
        if removed is not None:
            self._bytes -= removed[1]
