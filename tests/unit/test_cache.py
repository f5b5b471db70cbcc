"""The cache of verified tokens is bounded, evicts the least recently used first, and never contains a token."""

import base64
import gc
import hashlib
import sys
import threading
import tracemalloc
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from fastapi_logto.testing import LocalIssuer
from fastapi_logto.testing.signing import JsonValue
from fastapi_logto.verification.cache import Places, TokenCache, build_digest, estimate_packed_weight, pack_claims
from tests.captured import TOKENS
from tests.unit.apps import API

A, B, C, D = (build_digest(name) for name in (b"a", b"b", b"c", b"d"))


def filled(size: int, *digests: bytes) -> TokenCache[str]:
    cache: TokenCache[str] = TokenCache(size=size, max_bytes=1_000_000)
    for digest in digests:
        cache.keep(digest, digest.hex(), weight=1)
    return cache


def held(cache: TokenCache[str], *digests: bytes) -> list[bool]:
    return [cache.find(digest) == digest.hex() for digest in digests]


def test_an_entry_is_found_by_its_digest_alone() -> None:
    cache = filled(2, A)

    assert cache.find(A) == A.hex()
    assert cache.find(B) is None


def test_the_oldest_entry_is_evicted_if_there_are_too_many() -> None:
    cache = filled(3, A, B, C, D)

    assert len(cache) == 3
    assert held(cache, A, B, C, D) == [False, True, True, True]


def test_an_entry_that_was_used_outlives_one_that_was_not() -> None:
    cache = filled(3, A, B, C)

    cache.find(A)
    cache.keep(D, D.hex(), weight=1)

    assert held(cache, A, B, C, D) == [True, False, True, True]


def test_an_entry_that_is_stored_again_counts_once_and_is_the_newest() -> None:
    cache = filled(2, A, B)

    cache.keep(A, "new", weight=1)
    cache.keep(C, C.hex(), weight=1)

    assert len(cache) == 2
    assert (cache.find(A), cache.find(B), cache.find(C)) == ("new", None, C.hex())


def test_a_search_without_a_result_changes_nothing() -> None:
    cache = filled(2, A, B)

    cache.find(D)
    cache.keep(C, C.hex(), weight=1)

    assert held(cache, A, B, C) == [False, True, True]


def test_a_store_of_size_0_keeps_nothing() -> None:
    cache = filled(0, A)

    assert len(cache) == 0
    assert cache.find(A) is None


def test_a_store_of_size_1_keeps_the_last() -> None:
    assert held(filled(1, A, B), A, B) == [False, True]


def test_only_a_dropped_entry_is_removed() -> None:
    cache = filled(3, A, B)

    cache.drop(A)

    assert len(cache) == 1
    assert held(cache, A, B) == [False, True]


def test_dropping_a_missing_entry_is_no_error() -> None:
    cache = filled(3, A)

    cache.drop(B)

    assert held(cache, A) == [True]


def test_many_entries_never_exceed_the_bound() -> None:
    cache: TokenCache[int] = TokenCache(size=10, max_bytes=1_000_000)
    for number in range(1000):
        cache.keep(build_digest(b"%d" % number), number, weight=1)
        assert len(cache) <= 10

    assert [cache.find(build_digest(b"%d" % number)) for number in (989, 990, 999)] == [None, 990, 999]


def test_loops_of_several_threads_may_share_a_store() -> None:
    cache: TokenCache[str] = TokenCache(size=3, max_bytes=1_000_000)

    def use(turn: int) -> bool:
        found = True
        for digest in (A, B, C, D)[turn % 4 :] * 250:
            cache.keep(digest, digest.hex(), weight=1)
            found &= cache.find(digest) in {digest.hex(), None}
            cache.drop(digest)
        return found

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with ThreadPoolExecutor(max_workers=8) as threads:
            assert list(threads.map(use, range(8))) == [True] * 8
    finally:
        sys.setswitchinterval(interval)
    assert len(cache) == 0


class Interrupting(bytes):
    """A digest that calls a function at its first lookup."""

    interrupt: Callable[[], object] | None = None

    def __hash__(self) -> int:
        interrupt, self.interrupt = self.interrupt, None
        if interrupt is not None:
            interrupt()
        return bytes.__hash__(self)


def find(cache: TokenCache[str], digest: bytes) -> None:
    cache.find(digest)


def drop(cache: TokenCache[str], digest: bytes) -> None:
    cache.drop(digest)


def keep(cache: TokenCache[str], digest: bytes) -> None:
    cache.keep(digest, "new", weight=1)


@pytest.mark.parametrize("use", [find, drop, keep])
def test_no_other_thread_comes_between_the_steps_of_an_operation(
    use: Callable[[TokenCache[str], bytes], None],
) -> None:
    cache, digest = filled(3, A), Interrupting(A)
    started, dropped = threading.Event(), threading.Event()
    came_between: list[bool] = []

    def drop_too() -> None:
        started.set()
        cache.drop(A)
        dropped.set()

    def interrupt() -> None:
        other.start()
        assert started.wait(10)
        came_between.append(dropped.wait(0.05))

    other = threading.Thread(target=drop_too)
    digest.interrupt = interrupt
    use(cache, digest)
    other.join(10)

    assert came_between == [False]
    assert dropped.is_set()


def test_a_digest_is_the_sha_256_of_the_exact_header() -> None:
    header = b"Bearer " + TOKENS["user_api_spa"].token.encode()

    assert build_digest(header) == hashlib.sha256(header).digest()
    assert build_digest(b"abc").hex() == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


@pytest.mark.parametrize("position", [0, 100, -1])
def test_headers_that_differ_in_one_character_have_different_digests(position: int) -> None:
    header = b"Bearer " + TOKENS["user_api_spa"].token.encode()
    other = bytearray(header)
    other[position] ^= 1

    assert build_digest(bytes(other)) != build_digest(header)


# Bytes


def test_the_oldest_entries_are_evicted_if_the_size_exceeds_the_limit() -> None:
    cache: TokenCache[str] = TokenCache(size=100, max_bytes=10)
    for digest, weight in ((A, 4), (B, 4), (C, 4)):
        cache.keep(digest, digest.hex(), weight=weight)

    assert [cache.find(digest) is not None for digest in (A, B, C)] == [False, True, True]


def test_an_entry_larger_than_the_whole_limit_is_not_cached() -> None:
    cache: TokenCache[str] = TokenCache(size=100, max_bytes=10)

    cache.keep(A, "a", weight=11)

    assert len(cache) == 0
    cache.keep(B, "b", weight=10)
    assert cache.find(B) == "b"


def test_dropped_and_replaced_entries_no_longer_count_towards_the_size() -> None:
    cache: TokenCache[str] = TokenCache(size=100, max_bytes=10)
    cache.keep(A, "a", weight=10)
    cache.keep(A, "a", weight=2)
    cache.keep(B, "b", weight=8)
    cache.drop(B)
    cache.keep(C, "c", weight=8)

    assert (cache.find(A), cache.find(B), cache.find(C)) == ("a", None, "c")


HEAVY: dict[str, dict[str, JsonValue]] = {
    "usual": {},
    "text": {"custom": "x" * 11_000},
    "wide text": {"custom": "\U0001f600" * 900},
    "text with one wide character": {"custom": "x" * 9_000 + "\U0001f600"},
    "objects": {"custom": [{} for _ in range(3600)]},
    "lists": {"custom": [[] for _ in range(3600)]},
    "nested": {"custom": [{"a": [[]]} for _ in range(1000)]},
    "names": {f"k{number}": [] for number in range(1000)},
    "numbers": {"custom": [number + 1e-9 for number in range(600)]},
    "large integers": {"custom": [10**18 + number for number in range(500)]},
    "scopes with one wide character": {"scope": "x" * 9_000 + "\U0001f600"},
    "audiences": {
        "aud": [API, *(f"{number:02}" for number in range(100)), *(f"{number:03}" for number in range(1000))]
    },
}


@pytest.mark.parametrize("claims", HEAVY.values(), ids=HEAVY)
async def test_the_claims_of_a_token_take_at_most_the_memory_that_is_estimated(claims: dict[str, JsonValue]) -> None:
    issuer = LocalIssuer()
    issuer.rotate(algorithm="RS256", keep_previous=False)
    auth = issuer.auth()
    tokens = [issuer.access_token(subject=f"user-{number}", claims=claims) for number in range(12)]
    verified = [await auth.verify(token) for token in tokens[:2]]
    payload = base64.urlsafe_b64decode(tokens[0].split(".")[1] + "==")
    estimated = estimate_packed_weight(pack_claims(verified[0], key="k"), payload)
    gc.collect()
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        for token in tokens[2:]:
            await auth.verify(token)
        gc.collect()
        held = (tracemalloc.get_traced_memory()[0] - before) / 10
    finally:
        tracemalloc.stop()

    assert 0 < held <= estimated


async def test_the_settings_bound_the_memory_of_cached_tokens() -> None:
    issuer = LocalIssuer()
    issuer.rotate(algorithm="RS256", keep_previous=False)
    auth = issuer.auth(token_cache_bytes=1_000_000)
    gc.collect()
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        for number in range(40):
            await auth.verify(issuer.access_token(subject=f"user-{number}", claims=HEAVY["objects"]))
        gc.collect()
        held = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()

    assert held < 2_000_000


def test_an_entry_that_is_too_large_evicts_no_other_one() -> None:
    cache: TokenCache[str] = TokenCache(size=100, max_bytes=10)
    cache.keep(A, "a", weight=5)

    cache.keep(B, "b", weight=11)

    assert (cache.find(A), cache.find(B)) == ("a", None)


def test_stores_that_share_their_places_are_searched_with_one_lookup() -> None:
    places = Places[str]()

    def list_places() -> dict[bytes, TokenCache[str]]:
        return {digest: cache for part in places.by_first_byte for digest, cache in part.items()}

    one, other = (TokenCache[str](size=2, max_bytes=10) for _ in range(2))
    for cache in (one, other):
        cache.share(places)

    one.keep(A, "a", weight=1)
    other.keep(B, "b", weight=1)
    assert list_places() == {A: one, B: other}
    assert (places.find(A), places.find(B), places.find(C), places.find(b"")) == (one, other, None, None)
    # A place exists exactly as long as its entry: it may be evicted, dropped, replaced, or too large.
    one.keep(A, "again", weight=1)
    one.keep(C, "c", weight=1)
    one.keep(D, "d", weight=1)
    assert list_places() == {C: one, D: one, B: other}
    other.drop(B)
    other.drop(B)
    one.keep(C, "too large", weight=11)
    assert list_places() == {D: one}
