"""The provider's key set as a value: its usable keys, and the keys that match a token header.

It is built and replaced as a whole, never edited.
"""

import json
import logging
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from fastapi_logto.provider.failures import FetchError
from fastapi_logto.strict_json import JsonObject, JsonValue, StrictJsonError, check_strict

if TYPE_CHECKING:
    from joserfc.jwk import Key as JoseKey

    from fastapi_logto.provider.aws_lc import AwsLcKey

_logger = logging.getLogger("fastapi_logto")

MAX_KEYS: Final = 100
MAX_KEYS_TRIED: Final = 4
_MAX_KID_LENGTH: Final = 256
_RSA_BITS: Final = range(2048, 8192 + 1)
_MAX_EXPONENT_BITS: Final = 64
_RSA_MODULUS_LENGTHS: Final = range(342, 1366 + 1)
_RSA_ALGORITHMS: Final = frozenset({"RS256", "RS384", "RS512", "PS256", "PS384", "PS512"})
_CURVE_ALGORITHMS: Final = {
    "P-256": frozenset({"ES256"}),
    "P-384": frozenset({"ES384"}),
    "P-521": frozenset({"ES512"}),
    "Ed25519": frozenset({"EdDSA", "Ed25519"}),
}
_KEY_TYPES: Final = frozenset({"EC", "RSA", "OKP"})
_PRIVATE_MEMBERS: Final = frozenset({"d", "p", "q", "dp", "dq", "qi", "oth", "k"})


@dataclass(frozen=True, slots=True, kw_only=True)
class PublicKey:
    """A key that may verify signatures.

    Attributes:
        kid: Key ID; `None` if the key set has none.
        algorithms: The algorithms that it may be used with: the accepted ones that match its type, curve and `alg`.
        thumbprint: RFC 7638 thumbprint, the same for the same key in another document.
        jose: The key for the JOSE engine.
        aws_lc: The key for AWS-LC, if that is installed and verifies faster with such a key.
        identity: Identifies this key together with its `kid` and algorithms.
    """

    kid: str | None
    algorithms: frozenset[str]
    thumbprint: str
    jose: "JoseKey" = field(repr=False, compare=False)
    aws_lc: "AwsLcKey | None" = field(repr=False, compare=False, default=None)
    identity: str = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Join the identity once, not for each token."""
        identity = " ".join((self.thumbprint, *sorted(self.algorithms), repr(self.kid)))
        object.__setattr__(self, "identity", identity)


class KeySet:
    """The usable keys of one JWK set document."""

    def __init__(self, keys: Sequence[PublicKey]) -> None:
        """Index the usable keys, in the order of the document."""
        self.keys: tuple[PublicKey, ...] = tuple(keys)
        self._identities = frozenset(key.identity for key in self.keys)
        headers = {(key.kid, alg): () for key in self.keys for alg in key.algorithms}
        self._by_header: dict[tuple[str | None, str], tuple[PublicKey, ...]] = {
            (kid, alg): tuple(key for key in self.keys if key.kid == kid and alg in key.algorithms)[:MAX_KEYS_TRIED]
            for kid, alg in headers
        }

    def find(self, *, kid: str | None, alg: str) -> tuple[PublicKey, ...]:
        """Return the keys that match a token header, at most four.

        Without a `kid`, a key matches only if it is the only one for `alg`.
        """
        if kid is None:
            fitting = [key for key in self.keys if alg in key.algorithms]
            return tuple(fitting) if len(fitting) == 1 else ()
        return self._by_header.get((kid, alg), ())

    def holds(self, identity: str) -> bool:
        """Return whether the set has exactly this key, with its `kid` and algorithms."""
        return identity in self._identities


def parse_key_set(document: JsonObject, *, algorithms: Collection[str]) -> KeySet:
    """Return the usable keys of a JWK set from `strict_json.parse_object_of_entries`. Invalid keys are skipped.

    The key set is empty if none of the first hundred entries is usable. `FetchError` if there is no list of keys.

    References:
        RFC 7517 sections 4 and 5; RFC 8725 section 3.5.
    """
    entries = document.get("keys")
    if not isinstance(entries, list):
        raise FetchError("key set: expected a list named keys")
    keys: list[PublicKey] = []
    # Logto publishes at most three. Importing thousands would let somebody else choose how much work is done.
    for position, entry in enumerate(entries[:MAX_KEYS]):
        try:
            keys.append(parse_key(entry, algorithms=algorithms))
        except UnusableKeyError as error:
            _logger.debug("key set: skipped key %d: %s", position, error)
    return KeySet(keys)


class UnusableKeyError(ValueError):
    """An entry of a key set is not a usable key. The message says why, and quotes nothing from the entry."""


def parse_key(entry: JsonValue, *, algorithms: Collection[str]) -> PublicKey:
    """Return the key of one entry of a JWK set, or raise `UnusableKeyError`."""
    try:
        return _parse_key(entry, algorithms=algorithms)
    except Exception as error:  # noqa: BLE001 - the JOSE engine's edge: KeyError, TypeError, binascii.Error and more
        raise UnusableKeyError(
            str(error) if type(error) in {ValueError, StrictJsonError} else type(error).__name__
        ) from None


def _parse_key(entry: JsonValue, *, algorithms: Collection[str]) -> PublicKey:
    # Imported late, by the thread that parses: the JOSE engine is more than half of this package's imports.
    from joserfc.jwk import import_key  # noqa: PLC0415

    from fastapi_logto.provider.aws_lc import build_aws_lc_key  # noqa: PLC0415

    if not isinstance(entry, dict):
        raise ValueError("not an object")  # noqa: TRY004 - one kind of error for an invalid key
    check_strict(entry)
    kty, kid = entry.get("kty"), _check_kid(entry)
    if not isinstance(kty, str) or kty not in _KEY_TYPES:
        raise ValueError("its kty is not EC, RSA or OKP")
    if _PRIVATE_MEMBERS & entry.keys():
        # A published private key is compromised.
        raise ValueError("it has private members")
    if entry.get("use", "sig") != "sig":
        raise ValueError("its use is not sig")
    operations = entry.get("key_ops", ["verify"])
    if not isinstance(operations, list) or "verify" not in operations:
        raise ValueError("its key_ops have no verify")
    if len(operations) != len({json.dumps(operation) for operation in operations}):
        # RFC 7517 section 4.3.
        raise ValueError("its key_ops have duplicates")
    if kty == "RSA" and len(str(entry.get("n"))) not in _RSA_MODULUS_LENGTHS:
        # Checked in its encoding, before the engine can emit a warning about a weak key in the application.
        raise ValueError("its modulus is not one of 2048 to 8192 bits")
    # Only the key material goes to the engine, so that its own rules for `use`, `alg` and so on do not apply.
    material = {name: entry[name] for name in ("kty", "crv", "x", "y", "n", "e") if name in entry}
    jose = import_key(material)  # type: ignore[arg-type] # pyright: ignore[reportArgumentType] - it checks for itself
    usable = _fitting_algorithms(jose) & frozenset(algorithms)
    if "alg" in entry:
        usable &= {str(entry["alg"])}
    if not usable:
        raise ValueError("its type, curve and alg match no accepted algorithm")
    return PublicKey(
        kid=kid,
        algorithms=usable,
        thumbprint=jose.thumbprint(),
        jose=jose,
        aws_lc=build_aws_lc_key(jose),
    )


def _check_kid(entry: JsonObject) -> str | None:
    if "kid" not in entry:
        return None
    kid = entry["kid"]
    if not isinstance(kid, str) or not 0 < len(kid) <= _MAX_KID_LENGTH:
        raise ValueError("its kid is not a string of 1 to 256 characters")
    return kid


def _fitting_algorithms(key: "JoseKey") -> frozenset[str]:
    from joserfc.jwk import RSAKey  # noqa: PLC0415 - loaded by now

    if not isinstance(key, RSAKey):
        return _CURVE_ALGORITHMS.get(str(key.get("crv")), frozenset())
    numbers = key.public_key.public_numbers()
    if numbers.n.bit_length() not in _RSA_BITS:
        raise ValueError(f"{numbers.n.bit_length()} bits, expected 2048 to 8192")
    if numbers.e < 3 or numbers.e % 2 == 0:  # pragma: no cover - current versions of cryptography reject it first
        raise ValueError("its exponent is not an odd number of at least 3")
    if numbers.e.bit_length() > _MAX_EXPONENT_BITS:
        # With a large exponent, each verification would be as expensive as a private operation.
        raise ValueError(f"its exponent has {numbers.e.bit_length()} bits, expected at most {_MAX_EXPONENT_BITS}")
    return _RSA_ALGORITHMS
