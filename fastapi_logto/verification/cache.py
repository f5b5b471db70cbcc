"""The cache of verified tokens, and the form in which it holds their claims."""

from collections import OrderedDict
from functools import lru_cache
from hashlib import sha256
from threading import Lock
from typing import Any, Final, Generic, TypeAlias, TypeVar, cast

from fastapi_logto.strict_json import estimate_weight
from fastapi_logto.verification.claims import NO_EXTRA, ClaimsT, TokenClaims, make_claims

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
        self._places: Places[ValueT] | None = None
        # Event loops of several threads may share a store.
        self._lock = Lock()

    def share(self, places: "Places[ValueT]") -> None:
        """Also note in `places` which digests are stored here; call it before anything is stored.

        Stores that share them must never hold the same digest. One lookup then says which of them holds an entry.
        """
        self._places = places

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
            if self._places is not None:
                self._places.by_first_byte[digest[0]][digest] = self
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
            if self._places is not None:
                self._places.by_first_byte[digest[0]].pop(digest, None)


class Places(Generic[ValueT]):
    """Which of several stores holds the entry of a digest.

    Many dicts, because one that grows is copied as a whole: with many tenants, that would hold the event loop for long.
    """

    def __init__(self) -> None:
        """Create an empty register."""
        self.by_first_byte: tuple[dict[bytes, TokenCache[ValueT]], ...] = tuple({} for _ in range(256))

    def find(self, digest: bytes) -> TokenCache[ValueT] | None:
        """Return the store that may hold the entry of a digest, which may be empty, or `None`."""
        return self.by_first_byte[digest[0]].get(digest) if digest else None


PackedClaims: TypeAlias = dict[str, Any]
"""The fields of claims and some metadata, under keys that no field can have; mutable claims are stored as they are."""

_PLAIN_BYTES: Final = 2000
_KEY, _NAMES, _EXTRA, _WHOLE = " key", " names", " extra", " claims"


def pack_claims(claims: TokenClaims, *, key: str) -> PackedClaims:
    """Return claims in the form in which thousands of them are cached; `key` identifies the key that signed them.

    The garbage collector walks through every object that it tracks, again and again, and the event loop waits: tens of
    milliseconds each second while thousands of new tokens come in. It does not track a dict of strings and numbers.
    """
    if type(claims) is not TokenClaims or claims.act is not None:
        return {_KEY: key, _WHOLE: claims}
    packed = {**vars(claims), _KEY: key, _NAMES: " ".join(claims.__pydantic_fields_set__ & vars(claims).keys())}
    if claims.__pydantic_extra__:
        packed[_EXTRA] = claims.__pydantic_extra__
    return packed


def estimate_packed_weight(packed: PackedClaims, payload: bytes) -> int:
    """Return about how many bytes packed claims take in memory, rather too many than too few."""
    if _WHOLE in packed or _EXTRA in packed or not isinstance(packed["aud"], str):
        return estimate_weight(payload)
    # A dict of known size, and texts of up to four bytes per character.
    return _PLAIN_BYTES + 5 * len(payload)


def find_key(packed: PackedClaims) -> str:
    """Return the identity of the key that signed packed claims."""
    key: str = packed[_KEY]
    return key


def is_shared(packed: PackedClaims) -> bool:
    """Return whether packed claims are the instance that was packed, and not a copy of its values."""
    return _WHOLE in packed


def unpack_claims(packed: PackedClaims, *, model: type[ClaimsT]) -> ClaimsT:
    """Return a new instance of packed claims, so that a change to it affects no other request."""
    if _WHOLE in packed:
        # The application's model may have mutable fields, e.g. lists.
        return cast("ClaimsT", packed[_WHOLE].model_copy(deep=True))
    # Like Pydantic's own copy, in a third of the time. All values are immutable.
    values = packed.copy()
    del values[_KEY]
    names = _split_names(values.pop(_NAMES))
    return make_claims(model, values, names=names, extra=values.pop(_EXTRA, NO_EXTRA))


@lru_cache
def _split_names(names: str) -> set[str]:
    # Shared by all claims with these fields: `model_fields_set` returns a copy.
    return set(names.split())
