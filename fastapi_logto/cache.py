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
    """A bounded store by digest; the least recently used entry goes first.

    It only remembers: whoever takes an entry out checks the clock, the key and the policy again.
    """

    def __init__(self, *, size: int) -> None:
        """Make an empty store.

        Args:
            size: How many entries it holds; 0 for none at all.
        """
        self._size = size
        self._entries: OrderedDict[bytes, ValueT] = OrderedDict()
        # Loops of several threads may share a store.
        self._lock = Lock()

    def __len__(self) -> int:
        """Count the entries."""
        return len(self._entries)

    def find(self, digest: bytes) -> ValueT | None:
        """Give the entry of a digest, or `None`."""
        with self._lock:
            entry = self._entries.get(digest)
            if entry is not None:
                self._entries.move_to_end(digest)
            return entry

    def keep(self, digest: bytes, value: ValueT) -> None:
        """Remember a value, and drop the least recently used ones when there are too many."""
        with self._lock:
            self._entries[digest] = value
            self._entries.move_to_end(digest)
            while len(self._entries) > self._size:
                self._entries.popitem(last=False)

    def drop(self, digest: bytes) -> None:
        """Forget an entry, if it is there."""
        with self._lock:
            self._entries.pop(digest, None)
