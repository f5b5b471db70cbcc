"""The provider's key set as a value: which of its keys are usable, and which one a token means.

Built whole, replaced whole, never edited.
"""

import json
import logging
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from fastapi_logto.errors import FetchError
from fastapi_logto.strict_json import JsonObject, JsonValue, StrictJsonError, check_strict

if TYPE_CHECKING:
    from joserfc.jwk import Key as JoseKey

    from fastapi_logto.aws_lc import AwsLcKey

__all__ = ["KeySet", "PublicKey", "UnusableKeyError", "parse_key", "parse_key_set"]

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
        kid: Key ID; `None` where the key set gives none.
        algorithms: The algorithms that it may be used with: ours, narrowed by its type, curve and `alg`.
        thumbprint: RFC 7638 thumbprint, the same for the same key in another document.
        jose: The key for the JOSE engine.
        aws_lc: The key for AWS-LC, where that is installed and verifies with such a key faster.
    """

    kid: str | None
    algorithms: frozenset[str]
    thumbprint: str
    jose: "JoseKey" = field(repr=False, compare=False)
    aws_lc: "AwsLcKey | None" = field(repr=False, compare=False, default=None)

    @property
    def identity(self) -> str:
        """What tells this key, with its `kid` and algorithms, from every other one."""
        return " ".join((self.thumbprint, *sorted(self.algorithms), repr(self.kid)))


class KeySet:
    """The usable keys of one JWK set document."""

    def __init__(self, keys: Sequence[PublicKey]) -> None:
        """Index the keys.

        Args:
            keys: The usable keys, in the document's order.
        """
        self.keys: tuple[PublicKey, ...] = tuple(keys)
        self._identities = frozenset(key.identity for key in self.keys)

    def find(self, *, kid: str | None, alg: str) -> tuple[PublicKey, ...]:
        """Give the keys that a token header can mean.

        Args:
            kid: Key ID from the header; `None` matches only where exactly one key fits `alg`.
            alg: Algorithm from the header, one of those accepted.

        Returns:
            The keys, four at most; none when none fits.
        """
        fitting = [key for key in self.keys if alg in key.algorithms]
        if kid is None:
            return tuple(fitting) if len(fitting) == 1 else ()
        return tuple(key for key in fitting if key.kid == kid)[:MAX_KEYS_TRIED]

    def holds(self, identity: str) -> bool:
        """Say whether this very key, with its `kid` and algorithms, is in the set."""
        return identity in self._identities


def parse_key_set(document: JsonObject, *, algorithms: Collection[str]) -> KeySet:
    """Return the usable keys of a JWK set. Each key stands alone: an invalid one is skipped.

    Args:
        document: The JWK set, as `strict_json.parse_object_of_entries` returns it.
        algorithms: Algorithms that we accept.

    Returns:
        The key set. It is empty if none of the first hundred entries is usable.

    Raises:
        FetchError: There is no list of keys.

    References:
        RFC 7517 sections 4 and 5; RFC 7518 section 6; RFC 8725 section 3.5.
    """
    entries = document.get("keys")
    if not isinstance(entries, list):
        raise FetchError("key set: expected a list named keys")
    keys: list[PublicKey] = []
    # Logto publishes three at most. Importing thousands would be work that a stranger chose for us.
    for position, entry in enumerate(entries[:MAX_KEYS]):
        try:
            keys.append(parse_key(entry, algorithms=algorithms))
        except UnusableKeyError as error:
            _logger.debug("key set: skipped key %d: %s", position, error)
    return KeySet(keys)


class UnusableKeyError(ValueError):
    """An entry of a key set is no key that may verify a token. The message says why, and quotes nothing of it."""


def parse_key(entry: JsonValue, *, algorithms: Collection[str]) -> PublicKey:
    """Give the key of one entry of a JWK set.

    Args:
        entry: The entry.
        algorithms: Algorithms that we accept.

    Raises:
        UnusableKeyError: It is none that may be used.
    """
    try:
        return _parse_key(entry, algorithms=algorithms)
    except Exception as error:  # noqa: BLE001 - the JOSE engine's edge: KeyError, TypeError, binascii.Error and more
        raise UnusableKeyError(
            str(error) if type(error) in {ValueError, StrictJsonError} else type(error).__name__
        ) from None


def _parse_key(entry: JsonValue, *, algorithms: Collection[str]) -> PublicKey:
    # Late, by the thread that parses: the JOSE engine is more than half of what this package imports.
    from joserfc.jwk import import_key  # noqa: PLC0415

    from fastapi_logto.aws_lc import build_aws_lc_key  # noqa: PLC0415

    if not isinstance(entry, dict):
        raise ValueError("not an object")  # noqa: TRY004 - one kind of error for an invalid key
    check_strict(entry)
    kty, kid = entry.get("kty"), _check_kid(entry)
    if not isinstance(kty, str) or kty not in _KEY_TYPES:
        raise ValueError("its kty is not EC, RSA or OKP")
    if _PRIVATE_MEMBERS & entry.keys():
        # Whoever publishes a private key has lost it.
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
        # Looked at in its encoding, because the engine warns of weak keys in the application's name.
        raise ValueError("its modulus is not one of 2048 to 8192 bits")
    # Only what the key itself is made of goes to the engine: its own idea of `use`, `alg` and the like stays out.
    material = {name: entry[name] for name in ("kty", "crv", "x", "y", "n", "e") if name in entry}
    jose = import_key(material)  # type: ignore[arg-type] # pyright: ignore[reportArgumentType] - it checks for itself
    usable = _fitting_algorithms(jose) & frozenset(algorithms)
    if "alg" in entry:
        usable &= {str(entry["alg"])}
    if not usable:
        raise ValueError("its type, curve and alg fit no accepted algorithm")
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
        raise ValueError("its kid is not a text of 1 to 256 characters")
    return kid


def _fitting_algorithms(key: "JoseKey") -> frozenset[str]:
    from joserfc.jwk import RSAKey  # noqa: PLC0415 - loaded by now

    if not isinstance(key, RSAKey):
        return _CURVE_ALGORITHMS.get(str(key.get("crv")), frozenset())
    numbers = key.public_key.public_numbers()
    if numbers.n.bit_length() not in _RSA_BITS:
        raise ValueError(f"{numbers.n.bit_length()} bits, expected 2048 to 8192")
    if numbers.e < 3 or numbers.e % 2 == 0:  # pragma: no cover - cryptography refuses such first, as of today
        raise ValueError("its exponent is not an odd number from 3")
    if numbers.e.bit_length() > _MAX_EXPONENT_BITS:
        # Each signature would cost what a private operation costs.
        raise ValueError(f"its exponent has {numbers.e.bit_length()} bits, expected {_MAX_EXPONENT_BITS} at most")
    return _RSA_ALGORITHMS
