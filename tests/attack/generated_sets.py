"""Seeded key sets of many shapes, with valid and forged tokens for each."""

import hmac
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from random import Random
from typing import Any, Final

from joserfc.jwk import ECKey, OKPKey, RSAKey

from fastapi_logto.testing.signing import encode_segment
from tests.attack.key_set_changes import CHANGES, list_odd_entries
from tests.attack.key_sets import build_weak_key
from tests.attack.mutations import SEED
from tests.vectors.forge import Forge, PrivateKey, build_claims_set, dump, sign

WEAK: Final = "1024 bits"
PRIVATE: Final = "the private key"

_CURVES: Final = {"P-256": "ES256", "P-384": "ES384", "P-521": "ES512"}
_RSA_ALGORITHMS: Final = ("RS256", "RS384", "PS256")
_RANDOM_SETS: Final = 150
_MOST_SIGNERS: Final = 5
_ABSENT: Final = object()


@dataclass(frozen=True, slots=True)
class PoolKey:
    """A key that key sets may publish, and its signature algorithms, the usual one first."""

    name: str
    algorithms: tuple[str, ...]
    key: PrivateKey = field(repr=False)

    @property
    def kid(self) -> str:
        """Its thumbprint."""
        return self.key.thumbprint()

    def publish(self) -> dict[str, Any]:
        """Return its entry in a plain key set."""
        return dict(self.key.as_dict(private=False)) | {"kid": self.kid, "use": "sig", "alg": self.algorithms[0]}


@dataclass(frozen=True, slots=True)
class Pool:
    """The keys of one run: those for key sets, and those that sign forged tokens."""

    keys: tuple[PoolKey, ...]
    strangers: tuple[PoolKey, ...]
    weak: PoolKey
    odd_entries: Mapping[str, str] = field(repr=False)

    @classmethod
    def create(cls, forge: Forge) -> "Pool":
        """Make the keys that the forge does not have."""
        elliptic = [(curve, ECKey.generate_key(curve)) for curve in (*_CURVES, *_CURVES)]
        keys = [PoolKey(f"{curve} key", (_CURVES[curve],), key) for curve, key in elliptic]
        keys += [PoolKey("RSA key", _RSA_ALGORITHMS, key) for key in (forge.rsa, forge.rsa_bound)]
        keys.append(PoolKey("RSA key of 3072 bits", _RSA_ALGORITHMS, RSAKey.generate_key(3072)))
        strangers = [PoolKey("stranger", (alg,), ECKey.generate_key(curve)) for curve, alg in _CURVES.items()]
        strangers.append(PoolKey("stranger", _RSA_ALGORITHMS, forge.stranger_rsa))
        others: list[ECKey | OKPKey] = [OKPKey.generate_key("Ed25519"), OKPKey.generate_key("X25519")]
        others.append(ECKey.generate_key("secp256k1"))
        public = [dict(key.as_dict(private=False)) | {"kid": key.thumbprint()} for key in others]
        weak = PoolKey("RSA key of 1024 bits", _RSA_ALGORITHMS, build_weak_key())
        return cls(tuple(keys), tuple(strangers), weak, list_odd_entries(public))


@dataclass(frozen=True, slots=True)
class Entry:
    """An entry of a key set.

    Attributes:
        change: What differs from a plain entry; empty for a plain one.
        text: The entry as JSON text.
        key: The published key; `None` if the entry is no key of the pool.
    """

    change: str
    text: str = field(repr=False)
    key: PoolKey | None = field(repr=False, default=None)

    @property
    def members(self) -> Mapping[str, Any]:
        """The members as a lenient reader reads them; empty unless it is an object."""
        value = json.loads(self.text)
        return value if isinstance(value, dict) else {}  # pyright: ignore[reportUnknownVariableType] - any JSON


@dataclass(frozen=True)
class GeneratedSet:
    """A key set."""

    id: str
    entries: tuple[Entry, ...] = field(repr=False)

    @cached_property
    def text(self) -> str:
        """The document."""
        return f'{{"keys":[{",".join(entry.text for entry in self.entries)}]}}'


@dataclass(frozen=True, slots=True, kw_only=True)
class SetToken:
    """A token and the facts about it.

    Attributes:
        what: `valid`, or how it is forged.
        alg: The algorithm of its header.
        kid: The key id of its header; `None` without one.
        key: The key of the pool that signed it; `None` if it is forged.
        token: The token.
    """

    what: str
    alg: str
    kid: object
    key: PoolKey | None = field(repr=False)
    token: str = field(repr=False)

    def describe(self) -> str:
        """Return what it is, without the token."""
        return f"{self.what}, {self.alg}, {'without' if self.kid is None else 'with'} kid"


def generate_sets(pool: Pool) -> Iterator[GeneratedSet]:
    """Make every key set: each change alone and with other entries, each count at its limit, and random sets."""
    random = Random(SEED)  # noqa: S311 - repeatable, and no secret
    for name, change in CHANGES.items():
        for key in _pick_kinds(pool, random):
            text = change.apply(key.publish())
            if text is not None:
                yield from _surround(pool, Entry(name, text, key), random)
    for key in _pick_kinds(pool, random):
        members = key.publish() | dict(key.key.as_dict(private=True))
        yield from _surround(pool, Entry(PRIVATE, json.dumps(members), key), random)
    yield from _surround(pool, Entry(WEAK, json.dumps(pool.weak.publish()), pool.weak), random)
    for name, text in pool.odd_entries.items():
        yield from _surround(pool, Entry(name, text), random)
    yield from _list_counts(pool)
    for number in range(_RANDOM_SETS):
        entries = [_pick_entry(pool, random) for _ in range(random.randint(1, 8))]
        yield GeneratedSet(f"chance {number}", tuple(entries))


def _pick_kinds(pool: Pool, random: Random) -> Sequence[PoolKey]:
    """Return an elliptic and an RSA key: changes of the material fit one of them."""
    elliptic = [key for key in pool.keys if isinstance(key.key, ECKey)]
    return random.choice(elliptic), random.choice([key for key in pool.keys if key not in elliptic])


def _surround(pool: Pool, entry: Entry, random: Random) -> Iterator[GeneratedSet]:
    neighbour = random.choice([key for key in pool.keys if key is not entry.key])
    plain = Entry("", json.dumps(neighbour.publish()), neighbour)
    name = f"{entry.change} ({entry.key.name})" if entry.key else entry.change
    yield GeneratedSet(f"{name}, alone", (entry,))
    yield GeneratedSet(f"{name}, then a plain key", (entry, plain))
    yield GeneratedSet(f"{name}, after a plain key", (plain, entry))


def _plain(key: PoolKey, **changes: object) -> Entry:
    members = {name: value for name, value in (key.publish() | changes).items() if value is not _ABSENT}
    return Entry("", json.dumps(members), key)


def _list_counts(pool: Pool) -> Iterator[GeneratedSet]:
    first = pool.keys[0]
    unknown = Entry("unknown key type", '{"kty":"x"}')
    yield GeneratedSet("no entries", ())
    yield GeneratedSet("every key of the pool", tuple(_plain(key) for key in pool.keys))
    yield GeneratedSet("every key of the pool, reversed", tuple(_plain(key) for key in reversed(pool.keys)))
    yield GeneratedSet("one key twice", (_plain(first), _plain(first)))
    yield GeneratedSet("every key without kid", tuple(_plain(key, kid=_ABSENT) for key in pool.keys))
    for count in (99, 100, 101):
        yield GeneratedSet(f"a key after {count} others", (*[unknown] * count, _plain(first)))
        yield GeneratedSet(f"a key before {count} others", (_plain(first), *[unknown] * count))
    for curve in _CURVES:
        same = [key for key in pool.keys if key.name == f"{curve} key"]
        yield GeneratedSet(f"one kid for each {curve} key", tuple(_plain(key, kid="same") for key in same))
    for count in (3, 4, 5):
        others = [PoolKey("other", ("ES256",), ECKey.generate_key("P-256")) for _ in range(count)]
        entries = (*(_plain(key, kid="same") for key in others), _plain(first, kid="same"))
        yield GeneratedSet(f"a kid that {count} other keys have first", entries)
    mixed = tuple(_plain(key, kid="same") for key in pool.keys)
    yield GeneratedSet("one kid for every key", mixed)
    yield GeneratedSet("one kid for every key, reversed", mixed[::-1])


def _pick_entry(pool: Pool, random: Random) -> Entry:
    chance = random.random()
    if chance < 0.15:
        return Entry(*random.choice(list(pool.odd_entries.items())))
    key = random.choice(pool.keys)
    if chance < 0.5:
        name, change = random.choice(list(CHANGES.items()))
        text = change.apply(key.publish())
        if text is not None:
            return Entry(name, text, key)
    return _plain(key, alg=random.choice((key.algorithms[0], _ABSENT)), use=random.choice(("sig", _ABSENT)))


def list_tokens(pool: Pool, key_set: GeneratedSet) -> Iterator[SetToken]:
    """Make tokens with the keys of the set, with each algorithm, with and without key id; also forged ones."""
    seen: list[tuple[str, object]] = []
    for entry in key_set.entries:
        kid = entry.members.get("kid") if entry.key else None
        if entry.key is None or (entry.key.kid, kid) in seen or len(seen) == _MOST_SIGNERS:
            continue
        seen.append((entry.key.kid, kid))
        kids = {str(kid) if isinstance(kid, str) else entry.key.kid: None, None: None}
        for one in kids:
            for alg in entry.key.algorithms:
                yield _sign(entry.key, alg=alg, kid=one)
        yield from _forge(pool, entry.key, next(iter(kids)))


def _sign(key: PoolKey, *, alg: str, kid: str | None) -> SetToken:
    token = sign(_head(alg, kid), alg=alg, key=key.key)
    return SetToken(what="valid", alg=alg, kid=kid, key=key, token=token)


def _forge(pool: Pool, key: PoolKey, kid: str | None) -> Iterator[SetToken]:
    alg = key.algorithms[0]
    stranger = next(one for one in pool.strangers if alg in one.algorithms)
    yield _forged("signed by a stranger", alg, kid, sign(_head(alg, kid), alg=alg, key=stranger.key))
    embedded = dict(stranger.key.as_dict(private=False))
    with_key = sign(_head(alg, kid, jwk=embedded), alg=alg, key=stranger.key)
    yield _forged("signed by a stranger whose key is in the header", alg, kid, with_key)
    yield _forged("without signature", "none", kid, f"{_head('none', kid)}.")
    head = _head("HS256", kid)
    signature = hmac.digest(key.key.as_pem(private=False), head.encode("ascii"), "sha256")
    yield _forged("signed with the public key as secret", "HS256", kid, f"{head}.{encode_segment(signature)}")


def _forged(what: str, alg: str, kid: str | None, token: str) -> SetToken:
    return SetToken(what=what, alg=alg, kid=kid, key=None, token=token)


def _head(alg: str, kid: str | None, **members: object) -> str:
    header = {"alg": alg, "typ": "at+jwt"} | ({} if kid is None else {"kid": kid}) | members
    return f"{encode_segment(dump(header))}.{encode_segment(dump(build_claims_set()))}"
