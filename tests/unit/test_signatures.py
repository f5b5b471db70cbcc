"""Signatures are checked with each key that can be meant, the slow ones in threads of their own, so many at a time."""

import asyncio
import threading
from collections.abc import Callable, Generator
from dataclasses import dataclass, field, replace
from typing import cast

import pytest
from joserfc.jwk import ECKey
from joserfc.jws import JWSRegistry

from fastapi_logto.errors import ClaimError, ProviderUnavailableError, SignatureError
from fastapi_logto.jws import UnverifiedJws, parse_unverified
from fastapi_logto.key_set import PublicKey, parse_key_set
from fastapi_logto.signatures import SignatureWorkers
from fastapi_logto.strict_json import JsonObject
from fastapi_logto.testing import LocalIssuer
from fastapi_logto.testing.signing import Algorithm
from tests.captured import ADMIN_TENANT_JWKS, JWKS, ROTATION, TOKENS
from tests.unit.fakes import watch_key

ALGORITHMS = ("ES256", "ES384", "RS256")
PAYLOAD = b'{"any":"payload"}'


def read(token: str) -> UnverifiedJws:
    return parse_unverified(token, algorithms=ALGORITHMS, token_types=("at+jwt",))


def keys_of(jwks: object) -> tuple[PublicKey, ...]:
    """Give the keys as they are without AWS-LC, which would make fast ones of the slow."""
    keys = parse_key_set(cast("JsonObject", jwks), algorithms=ALGORITHMS).keys
    return tuple(replace(key, aws_lc=None, is_slow="ES384" in key.algorithms) for key in keys)


@dataclass(frozen=True, slots=True, kw_only=True)
class Signer:
    """A signed token, its key, and strangers' keys of the same type."""

    unverified: UnverifiedJws
    key: PublicKey
    strangers: tuple[PublicKey, ...]


def build_signer(algorithm: Algorithm, *, payload: bytes = PAYLOAD) -> Signer:
    issuer = LocalIssuer()
    strangers: list[PublicKey] = []
    for _ in range(3):
        issuer.rotate(algorithm=algorithm, keep_previous=False)
        strangers += keys_of(issuer.jwks())
    return Signer(unverified=read(issuer.sign(payload)), key=strangers.pop(), strangers=tuple(strangers))


@pytest.fixture(scope="module", params=["ES256", "ES384", "RS256"])
def signer(request: pytest.FixtureRequest) -> Signer:
    return build_signer(request.param)


@pytest.fixture(scope="module")
def slow() -> Signer:
    return build_signer("ES384")


@pytest.fixture
def workers() -> SignatureWorkers:
    return SignatureWorkers(threads=2, max_waiting=2)


@pytest.mark.parametrize("position", [0, 1, 2])
async def test_the_right_key_among_several_vouches_for_the_payload(
    position: int, signer: Signer, workers: SignatureWorkers
) -> None:
    keys = [*signer.strangers]
    keys.insert(position, signer.key)

    payload, key = await workers.verify(signer.unverified, keys, read=bytes)

    assert payload == PAYLOAD
    assert key is signer.key


async def test_one_right_key_is_enough(signer: Signer, workers: SignatureWorkers) -> None:
    assert await workers.verify(signer.unverified, [signer.key], read=bytes) == (PAYLOAD, signer.key)


@pytest.mark.parametrize("count", [1, 2])
async def test_a_signature_that_holds_with_none_of_the_keys_is_refused(
    count: int, signer: Signer, workers: SignatureWorkers
) -> None:
    with pytest.raises(SignatureError) as caught:
        await workers.verify(signer.unverified, signer.strangers[:count], read=bytes)

    assert (caught.value.code, caught.value.reason, caught.value.status) == ("invalid_token", "signature", 401)
    assert (caught.value.claim, caught.value.expected, caught.value.found) == (None, None, None)


async def test_a_key_of_another_type_neither_vouches_nor_stands_in_the_way(workers: SignatureWorkers) -> None:
    ec, rsa = build_signer("ES384"), build_signer("RS256")

    assert await workers.verify(ec.unverified, [rsa.key, ec.key], read=bytes) == (PAYLOAD, ec.key)
    assert await workers.verify(rsa.unverified, [ec.key, rsa.key], read=bytes) == (PAYLOAD, rsa.key)
    with pytest.raises(SignatureError) as caught:
        await workers.verify(ec.unverified, [rsa.key], read=bytes)
    assert caught.value.reason == "signature"


async def test_the_captured_tokens_hold_with_the_captured_keys(workers: SignatureWorkers) -> None:
    for token, jwks in (
        (TOKENS["user_api_spa"].token, JWKS),
        *((stage.token.token, stage.jwks) for stage in ROTATION),
    ):
        unverified = read(token)
        keys = [key for key in keys_of(jwks) if key.kid == unverified.kid]
        assert await workers.verify(unverified, keys, read=bytes) == (unverified.payload, keys[0])


async def test_the_captured_tokens_do_not_hold_with_another_tenants_key(workers: SignatureWorkers) -> None:
    with pytest.raises(SignatureError):
        await workers.verify(read(TOKENS["user_api_spa"].token), keys_of(ADMIN_TENANT_JWKS), read=bytes)


def watched(signer: Signer) -> tuple[list[str], PublicKey]:
    """Give the names of the threads that use a key, and the key."""
    names: list[str] = []
    return names, watch_key(signer.key, lambda: names.append(threading.current_thread().name))


def build_es512_signer() -> Signer:
    """Sign as the test kit's issuer, which has no ES512, does not."""
    private = ECKey.generate_key("P-521")
    (key,) = parse_key_set({"keys": [cast("JsonObject", private.as_dict(private=False))]}, algorithms=["ES512"]).keys
    signature = JWSRegistry.algorithms["ES512"].sign(b"header.payload", private)
    unverified = UnverifiedJws(
        alg="ES512", kid=None, typ=None, signing_input=b"header.payload", payload=PAYLOAD, signature=signature
    )
    return Signer(unverified=unverified, key=key, strangers=())


@pytest.mark.parametrize("build", [lambda: build_signer("ES384"), build_es512_signer], ids=["ES384", "ES512"])
async def test_a_slow_signature_is_checked_in_a_thread_of_this_package(
    build: Callable[[], Signer], workers: SignatureWorkers
) -> None:
    slow = build()
    names, key = watched(slow)

    assert await workers.verify(slow.unverified, [key], read=bytes) == (PAYLOAD, slow.key)

    (name,) = names
    assert name.startswith("fastapi_logto_")


@pytest.mark.parametrize("algorithm", ["RS256", "ES256"])
async def test_a_fast_signature_is_checked_on_the_loop(algorithm: Algorithm, workers: SignatureWorkers) -> None:
    fast = build_signer(algorithm)
    names, key = watched(fast)

    assert await workers.verify(fast.unverified, [key], read=bytes) == (PAYLOAD, fast.key)

    assert names == [threading.current_thread().name]


async def test_a_fast_signature_is_checked_without_a_break(workers: SignatureWorkers) -> None:
    # Requests that wait in the midst are many objects at a time, which the garbage collector then walks through.
    fast = build_signer("RS256")

    with pytest.raises(StopIteration) as ended:
        workers.verify(fast.unverified, [fast.key], read=bytes).send(None)

    assert ended.value.value == (PAYLOAD, fast.key)


@pytest.mark.parametrize(("size", "is_beside"), [(2048, False), (2049, True)], ids=["small", "large"])
async def test_a_large_payload_is_read_in_a_thread_whatever_the_signature_costs(
    *, size: int, is_beside: bool, workers: SignatureWorkers
) -> None:
    fast = build_signer("RS256", payload=b" " * size)
    readers: list[str] = []

    def note(payload: bytes) -> int:
        readers.append(threading.current_thread().name)
        return len(payload)

    assert await workers.verify(fast.unverified, [fast.key], read=note) == (size, fast.key)
    assert (readers != [threading.current_thread().name]) is is_beside


async def test_a_payload_that_is_refused_gives_its_place_back(workers: SignatureWorkers) -> None:
    slow = build_signer("ES384")

    def refuse(_payload: bytes) -> None:
        raise ClaimError

    for _ in range(3):
        with pytest.raises(ClaimError):
            await workers.verify(slow.unverified, [slow.key], read=refuse)


async def test_a_payload_is_not_read_before_its_signature_holds(workers: SignatureWorkers) -> None:
    read_payloads: list[bytes] = []
    for signer in (build_signer("ES384"), build_signer("RS256")):
        with pytest.raises(SignatureError):
            await workers.verify(signer.unverified, signer.strangers, read=read_payloads.append)

    assert read_payloads == []


@dataclass(slots=True)
class Gate:
    """Holds the threads that verify signatures until it is opened."""

    opened: threading.Event = field(default_factory=threading.Event)
    inside: int = 0
    most_inside: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def pass_through(self) -> None:
        with self.lock:
            self.inside += 1
            self.most_inside = max(self.most_inside, self.inside)
        assert self.opened.wait(10)
        with self.lock:
            self.inside -= 1

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(5):
            while not condition():  # noqa: ASYNC110 - what is waited for happens in threads
                await asyncio.sleep(0.001)


@pytest.fixture
def gate() -> Generator[Gate]:
    gate = Gate()
    yield gate
    gate.opened.set()


async def test_more_signatures_than_there_is_room_for_are_refused_at_once(slow: Signer, gate: Gate) -> None:
    workers = SignatureWorkers(threads=1, max_waiting=2)
    held = watch_key(slow.key, gate.pass_through)
    inside = [asyncio.create_task(workers.verify(slow.unverified, [held], read=bytes)) for _ in range(2)]
    await gate.until(lambda: gate.inside == 1)

    for _ in range(3):
        with pytest.raises(ProviderUnavailableError) as caught:
            await workers.verify(slow.unverified, [slow.key], read=bytes)
        assert caught.value.status == 503
        assert caught.value.retry_after_seconds == 1
        assert caught.value.message == ("More tokens wait to be checked than this API has room for; try again later")
        assert str(caught.value) == "provider_unavailable: provider_unavailable, found no place left"

    gate.opened.set()
    assert await asyncio.gather(*inside) == [(PAYLOAD, slow.key)] * 2


async def test_fast_signatures_need_no_room(slow: Signer, gate: Gate) -> None:
    workers = SignatureWorkers(threads=1, max_waiting=1)
    fast = build_signer("RS256")
    inside = asyncio.create_task(workers.verify(slow.unverified, [watch_key(slow.key, gate.pass_through)], read=bytes))
    await gate.until(lambda: gate.inside == 1)

    assert await workers.verify(fast.unverified, [fast.key], read=bytes) == (PAYLOAD, fast.key)

    gate.opened.set()
    await inside


async def test_no_more_threads_work_than_were_asked_for(slow: Signer, gate: Gate) -> None:
    workers = SignatureWorkers(threads=2, max_waiting=10)
    held = watch_key(slow.key, gate.pass_through)
    tasks = [asyncio.create_task(workers.verify(slow.unverified, [held], read=bytes)) for _ in range(10)]
    await gate.until(lambda: gate.inside == 2)

    gate.opened.set()

    assert await asyncio.gather(*tasks) == [(PAYLOAD, slow.key)] * 10
    assert gate.most_inside == 2


async def test_a_place_is_given_back_after_a_good_signature(slow: Signer) -> None:
    workers = SignatureWorkers(threads=1, max_waiting=1)

    for _ in range(3):
        assert await workers.verify(slow.unverified, [slow.key], read=bytes) == (PAYLOAD, slow.key)


async def test_a_place_is_given_back_after_a_bad_signature(slow: Signer) -> None:
    workers = SignatureWorkers(threads=1, max_waiting=1)

    for _ in range(3):
        with pytest.raises(SignatureError):
            await workers.verify(slow.unverified, slow.strangers, read=bytes)
    assert await workers.verify(slow.unverified, [slow.key], read=bytes) == (PAYLOAD, slow.key)


async def test_a_place_is_given_back_after_a_cancelled_request(slow: Signer, gate: Gate) -> None:
    workers = SignatureWorkers(threads=2, max_waiting=1)
    gone = asyncio.create_task(workers.verify(slow.unverified, [watch_key(slow.key, gate.pass_through)], read=bytes))
    await gate.until(lambda: gate.inside == 1)

    gone.cancel()
    await asyncio.wait([gone])

    assert gone.cancelled()
    # Its thread works on, so its place is not free yet.
    with pytest.raises(ProviderUnavailableError):
        await workers.verify(slow.unverified, [slow.key], read=bytes)
    gate.opened.set()
    await gate.until(lambda: gate.inside == 0)
    async with asyncio.timeout(5):
        while True:
            try:
                assert await workers.verify(slow.unverified, [slow.key], read=bytes) == (PAYLOAD, slow.key)
            except ProviderUnavailableError:
                await asyncio.sleep(0.001)
            else:
                break


def test_one_set_of_workers_serves_two_event_loops_one_after_the_other(slow: Signer) -> None:
    workers = SignatureWorkers(threads=1, max_waiting=1)

    for _ in range(2):
        assert asyncio.run(workers.verify(slow.unverified, [slow.key], read=bytes)) == (PAYLOAD, slow.key)


def test_making_workers_starts_no_thread() -> None:
    before = set(threading.enumerate())

    SignatureWorkers(threads=64, max_waiting=1)

    assert set(threading.enumerate()) <= before
