"""The usable keys of a key set are used, whatever other entries it has."""

import logging
from base64 import urlsafe_b64encode
from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import cast

import pytest
from joserfc.jwk import ECKey, OKPKey

from fastapi_logto.provider.failures import FetchError
from fastapi_logto.provider.key_set import KeySet, PublicKey, parse_key_set
from fastapi_logto.strict_json import JsonObject, JsonValue
from fastapi_logto.testing import LocalIssuer
from tests.captured import ADMIN_TENANT_JWKS, JWKS, ROTATION, Jwks, RotationStage

DEFAULT = ("ES384", "RS256")
EVERY = ("ES256", "ES384", "ES512", "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "EdDSA", "Ed25519")
RSA = frozenset({"RS256", "RS384", "RS512", "PS256", "PS384", "PS512"})
NO_ALGORITHM = "its type, curve and alg match no accepted algorithm"
BAD_KID = "its kid is not a string of 1 to 256 characters"

EC: dict[str, JsonValue] = {**JWKS["keys"][0], "kid": "ec"}
OTHER_EC: dict[str, JsonValue] = {**ADMIN_TENANT_JWKS["keys"][0], "kid": "other"}


def number(value: int) -> str:
    return urlsafe_b64encode(value.to_bytes((value.bit_length() + 7) // 8, "big")).rstrip(b"=").decode("ascii")


def rsa(*, bits: int = 2048, e: int = 65_537, **changes: JsonValue) -> dict[str, JsonValue]:
    """Return an RSA key whose modulus is odd and has exactly this many bits; its factors are unknown."""
    return {"kty": "RSA", "use": "sig", "kid": "rsa", "n": number((1 << (bits - 1)) + 1), "e": number(e), **changes}


def curve(crv: str, **changes: JsonValue) -> dict[str, JsonValue]:
    key = ECKey.generate_key(crv) if crv.startswith("P-") else OKPKey.generate_key(crv)  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]
    return {**cast("dict[str, JsonValue]", key.as_dict(private=False)), "kid": "curve", **changes}


def changed(**changes: JsonValue) -> dict[str, JsonValue]:
    return {**EC, **changes}


def without(name: str) -> dict[str, JsonValue]:
    return {member: value for member, value in EC.items() if member != name}


def parse(*entries: JsonValue, algorithms: Collection[str] = DEFAULT) -> KeySet:
    return parse_key_set({"keys": list(entries)}, algorithms=algorithms)


def kids(keys: Collection[PublicKey]) -> list[str | None]:
    return [key.kid for key in keys]


def as_document(jwks: Jwks) -> JsonObject:
    return cast("JsonObject", jwks)


@dataclass(frozen=True, slots=True, kw_only=True)
class Usable:
    """A key, and the algorithms for which it may be used if all are accepted."""

    id: str
    entry: dict[str, JsonValue]
    algorithms: frozenset[str]


USABLE = (
    Usable(id="as captured", entry=changed(), algorithms=frozenset({"ES384"})),
    Usable(id="no alg", entry=without("alg"), algorithms=frozenset({"ES384"})),
    Usable(id="no use", entry=without("use"), algorithms=frozenset({"ES384"})),
    Usable(id="key_ops verify", entry=changed(key_ops=["verify"]), algorithms=frozenset({"ES384"})),
    Usable(id="key_ops sign and verify", entry=changed(key_ops=["sign", "verify"]), algorithms=frozenset({"ES384"})),
    Usable(id="unknown members", entry=changed(x5c=["?"], x5u=7, iat=None, crit={}), algorithms=frozenset({"ES384"})),
    Usable(id="longest kid", entry=changed(kid="k" * 256), algorithms=frozenset({"ES384"})),
    Usable(id="kid in any script", entry=changed(kid="../ключ'--"), algorithms=frozenset({"ES384"})),
    Usable(id="P-256", entry=curve("P-256"), algorithms=frozenset({"ES256"})),
    Usable(id="P-384", entry=curve("P-384"), algorithms=frozenset({"ES384"})),
    Usable(id="P-521", entry=curve("P-521"), algorithms=frozenset({"ES512"})),
    Usable(id="Ed25519", entry=curve("Ed25519"), algorithms=frozenset({"EdDSA", "Ed25519"})),
    Usable(id="Ed25519, alg EdDSA", entry=curve("Ed25519", alg="EdDSA"), algorithms=frozenset({"EdDSA"})),
    Usable(id="RSA", entry=rsa(), algorithms=RSA),
    Usable(id="RSA, alg RS256", entry=rsa(alg="RS256"), algorithms=frozenset({"RS256"})),
    Usable(id="RSA, alg PS512", entry=rsa(alg="PS512"), algorithms=frozenset({"PS512"})),
    Usable(id="RSA of 8192 bits", entry=rsa(bits=8192), algorithms=RSA),
    Usable(id="RSA, e = 3", entry=rsa(e=3), algorithms=RSA),
    Usable(id="RSA, e of 64 bits", entry=rsa(e=(1 << 64) - 1), algorithms=RSA),
)


@pytest.mark.parametrize("row", USABLE, ids=lambda row: row.id)
def test_a_valid_key_may_be_used_with_the_algorithms_of_its_type(row: Usable) -> None:
    (key,) = parse(row.entry, algorithms=EVERY).keys

    assert key.algorithms == row.algorithms
    assert key.kid == row.entry["kid"]


@pytest.mark.parametrize("row", USABLE, ids=lambda row: row.id)
def test_a_key_may_be_used_with_no_algorithm_that_is_not_accepted(row: Usable) -> None:
    for accepted in EVERY:
        key_set = parse(EC, row.entry, algorithms=(accepted, "ES384"))

        assert key_set.keys[-1].algorithms <= {accepted, "ES384"}
        assert {key.algorithms & {accepted} for key in key_set.find(kid=str(row.entry["kid"]), alg=accepted)} <= {
            row.algorithms & {accepted}
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Unusable:
    """An entry that is not a usable key; `says` is `None` if the JOSE engine chooses the message."""

    id: str
    entry: JsonValue
    says: str | None = None


UNUSABLE = (
    Unusable(id="null", entry=None, says="not an object"),
    Unusable(id="a text", entry="hunter2", says="not an object"),
    Unusable(id="a number out of range", entry=changed(exp=float("inf")), says="a number out of range"),
    Unusable(id="a kid that is no Unicode", entry=changed(kid="\ud800"), says="a lone surrogate"),
    Unusable(id="a list", entry=[EC], says="not an object"),
    Unusable(id="empty", entry={}, says="its kty is not EC, RSA or OKP"),
    Unusable(id="no kty", entry=without("kty"), says="its kty is not EC, RSA or OKP"),
    Unusable(id="kty null", entry=changed(kty=None), says="its kty is not EC, RSA or OKP"),
    Unusable(id="kty a list", entry=changed(kty=["EC"]), says="its kty is not EC, RSA or OKP"),
    Unusable(id="kty in lower case", entry=changed(kty="ec"), says="its kty is not EC, RSA or OKP"),
    Unusable(id="oct", entry={"kty": "oct", "kid": "ec", "k": "aHVudGVyMg"}, says="its kty is not EC, RSA or OKP"),
    *(
        Unusable(id=f"private member {name}", entry=changed(**{name: "AQ"}), says="it has private members")
        for name in ("d", "p", "q", "dp", "dq", "qi", "oth", "k")
    ),
    Unusable(id="private member null", entry=changed(d=None), says="it has private members"),
    Unusable(id="kid a number", entry=changed(kid=7), says=BAD_KID),
    Unusable(id="kid a list", entry=changed(kid=["ec"]), says=BAD_KID),
    Unusable(id="kid false", entry=changed(kid=False), says=BAD_KID),
    Unusable(id="kid empty", entry=changed(kid=""), says=BAD_KID),
    Unusable(id="kid too long", entry=changed(kid="k" * 257), says=BAD_KID),
    Unusable(id="use enc", entry=changed(use="enc"), says="its use is not sig"),
    Unusable(id="use null", entry=changed(use=None), says="its use is not sig"),
    Unusable(id="use a list", entry=changed(use=["sig"]), says="its use is not sig"),
    Unusable(id="key_ops without verify", entry=changed(key_ops=["sign"]), says="its key_ops have no verify"),
    Unusable(id="key_ops empty", entry=changed(key_ops=[]), says="its key_ops have no verify"),
    Unusable(id="key_ops a text", entry=changed(key_ops="verify"), says="its key_ops have no verify"),
    Unusable(id="key_ops null", entry=changed(key_ops=None), says="its key_ops have no verify"),
    Unusable(id="key_ops twice", entry=changed(key_ops=["verify", "verify"]), says="its key_ops have duplicates"),
    Unusable(id="alg null", entry=changed(alg=None), says=NO_ALGORITHM),
    Unusable(id="alg a list", entry=changed(alg=["ES384"]), says=NO_ALGORITHM),
    Unusable(id="alg in lower case", entry=changed(alg="es384"), says=NO_ALGORITHM),
    Unusable(id="alg of another curve", entry=changed(alg="ES256"), says=NO_ALGORITHM),
    Unusable(id="alg of another type", entry=changed(alg="RS256"), says=NO_ALGORITHM),
    Unusable(id="alg HS256", entry=changed(alg="HS256"), says=NO_ALGORITHM),
    Unusable(id="alg none", entry=changed(alg="none"), says=NO_ALGORITHM),
    Unusable(id="alg not accepted", entry=rsa(alg="RS384"), says=NO_ALGORITHM),
    Unusable(id="curve not accepted", entry=curve("P-256"), says=NO_ALGORITHM),
    Unusable(id="P-256 said to be ES384", entry=curve("P-256", alg="ES384"), says=NO_ALGORITHM),
    Unusable(id="Ed25519 said to be ES384", entry=curve("Ed25519", alg="ES384"), says=NO_ALGORITHM),
    Unusable(id="a key for exchange", entry=curve("X25519"), says=NO_ALGORITHM),
    Unusable(id="crv unknown", entry=changed(crv="hunter2")),
    Unusable(id="crv a number", entry=changed(crv=384)),
    Unusable(id="crv of another length", entry=changed(crv="P-256")),
    Unusable(id="no crv", entry=without("crv")),
    Unusable(id="no x", entry=without("x")),
    Unusable(id="x null", entry=changed(x=None)),
    Unusable(id="x a number", entry=changed(x=7)),
    Unusable(id="x empty", entry=changed(x="")),
    Unusable(id="x too short", entry=changed(x=str(EC["x"])[:-8])),
    Unusable(id="x too long", entry=changed(x=str(EC["x"]) + "AAAA")),
    Unusable(id="x no base64", entry=changed(x="A")),
    Unusable(id="x not ASCII", entry=changed(x="ключ")),
    Unusable(id="x a lone surrogate", entry=changed(x="\ud800")),
    Unusable(id="a point off the curve", entry=changed(y=EC["x"])),
    Unusable(id="a point of another key", entry=changed(y=OTHER_EC["y"])),
    Unusable(id="the point at zero", entry=changed(x="AA", y="AA")),
    Unusable(id="EC said to be RSA", entry=changed(kty="RSA")),
    Unusable(id="RSA said to be EC", entry=rsa(kty="EC")),
    Unusable(id="RSA of 1024 bits", entry=rsa(bits=1024), says="its modulus is not one of 2048 to 8192 bits"),
    Unusable(id="RSA of 2047 bits", entry=rsa(bits=2047), says="2047 bits, expected 2048 to 8192"),
    Unusable(id="RSA of 8193 bits", entry=rsa(bits=8193), says="its modulus is not one of 2048 to 8192 bits"),
    Unusable(id="RSA of 64 Kbit", entry=rsa(bits=65_536), says="its modulus is not one of 2048 to 8192 bits"),
    Unusable(id="RSA, e of 65 bits", entry=rsa(e=(1 << 64) + 1), says="its exponent has 65 bits, expected at most 64"),
    Unusable(id="RSA, e = 1", entry=rsa(e=1)),
    Unusable(id="RSA, e = 2", entry=rsa(e=2)),
    Unusable(id="RSA, e even", entry=rsa(e=65_536)),
    Unusable(id="RSA, e above n", entry=rsa(e=(1 << 2048) + 1)),
    Unusable(id="RSA, e zero", entry=rsa() | {"e": "AA"}),
    Unusable(id="RSA, e a number", entry=rsa() | {"e": 65_537}),
    Unusable(id="RSA, no e", entry={name: value for name, value in rsa().items() if name != "e"}),
    Unusable(id="RSA, n zero", entry=rsa() | {"n": "AA"}),
    Unusable(id="RSA, n empty", entry=rsa() | {"n": ""}),
)


# The JOSE engine accepts short RSA keys with a warning. As an error, the warning would replace our check here.
@pytest.mark.filterwarnings("ignore:Key size should be:joserfc.errors.SecurityWarning")
@pytest.mark.parametrize("row", UNUSABLE, ids=lambda row: row.id)
def test_an_unusable_entry_between_valid_ones_is_skipped(row: Unusable, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "fastapi_logto")

    key_set = parse(EC, row.entry, OTHER_EC)

    assert kids(key_set.keys) == ["ec", "other"]
    (line,) = caplog.messages
    assert line.startswith("key set: skipped key 1: ")
    assert row.says is None or line == f"key set: skipped key 1: {row.says}"
    assert len(line) < 200
    assert "hunter2" not in line


@pytest.mark.filterwarnings("ignore:Key size should be:joserfc.errors.SecurityWarning")
def test_the_valid_entries_are_used_among_all_unusable_ones() -> None:
    key_set = parse(EC, *(row.entry for row in UNUSABLE), OTHER_EC)

    assert kids(key_set.keys) == ["ec", "other"]


NO_KEYS: tuple[tuple[JsonObject, str], ...] = (
    ({}, "key set: expected a list named keys"),
    ({"keys": None}, "key set: expected a list named keys"),
    ({"keys": {"0": EC}}, "key set: expected a list named keys"),
    ({"keys": "hunter2"}, "key set: expected a list named keys"),
    ({"Keys": [EC]}, "key set: expected a list named keys"),
    (EC, "key set: expected a list named keys"),
)


@pytest.mark.parametrize(("document", "says"), NO_KEYS)
def test_a_document_without_a_list_of_keys_is_a_failed_fetch(document: JsonObject, says: str) -> None:
    with pytest.raises(FetchError) as caught:
        parse_key_set(document, algorithms=DEFAULT)

    assert str(caught.value) == says
    assert caught.value.status is None


NONE_USABLE: tuple[list[JsonValue], ...] = ([], ["hunter2", {}], [changed(use="enc")])


@pytest.mark.parametrize("entries", NONE_USABLE)
def test_a_list_without_a_usable_key_is_an_empty_key_set(entries: list[JsonValue]) -> None:
    assert parse_key_set({"keys": entries}, algorithms=DEFAULT).keys == ()


def test_only_the_first_hundred_entries_are_looked_at(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "fastapi_logto")
    strange: list[JsonValue] = [None] * 99

    key_set = parse(*strange, EC, OTHER_EC, *[None] * 10_000)

    assert kids(key_set.keys) == ["ec"]
    assert caplog.messages == [f"key set: skipped key {position}: not an object" for position in range(99)]


def test_a_valid_entry_after_ten_thousand_others_is_not_searched_for() -> None:
    assert parse(*[None] * 10_000, EC).keys == ()


def test_a_hundred_keys_are_all_used() -> None:
    key_set = parse(*(changed(kid=str(position)) for position in range(101)))

    assert kids(key_set.keys) == [str(position) for position in range(100)]


def test_the_captured_key_set_contains_logtos_key() -> None:
    (key,) = parse_key_set(as_document(JWKS), algorithms=DEFAULT).keys

    assert key.kid == key.thumbprint == "dF0AW-t-6zxshXIDzCiRALbZV3F1K6FR_52fJ_M3xYg"
    assert key.algorithms == {"ES384"}


@pytest.mark.parametrize("stage", ROTATION, ids=lambda stage: stage.name)
def test_every_key_of_a_captured_rotation_is_used(stage: RotationStage) -> None:
    key_set = parse_key_set(as_document(stage.jwks), algorithms=DEFAULT)

    assert kids(key_set.keys) == [entry["kid"] for entry in stage.jwks["keys"]]
    assert [key.thumbprint for key in key_set.keys] == kids(key_set.keys)
    assert [key.algorithms for key in key_set.keys] == [
        {"RS256"} if entry["kty"] == "RSA" else {"ES384"} for entry in stage.jwks["keys"]
    ]
    assert kids(key_set.find(kid=stage.token.header["kid"], alg=stage.token.header["alg"])) == [
        stage.token.header["kid"]
    ]


def test_a_key_is_found_by_kid_and_algorithm_together() -> None:
    key_set = parse(EC, OTHER_EC, rsa(), algorithms=(*DEFAULT, "PS256"))

    assert kids(key_set.find(kid="ec", alg="ES384")) == ["ec"]
    assert kids(key_set.find(kid="other", alg="ES384")) == ["other"]
    assert kids(key_set.find(kid="rsa", alg="RS256")) == ["rsa"]
    assert kids(key_set.find(kid="rsa", alg="PS256")) == ["rsa"]
    assert key_set.find(kid="ec", alg="RS256") == ()
    assert key_set.find(kid="rsa", alg="ES384") == ()
    assert key_set.find(kid="rsa", alg="RS512") == ()


@pytest.mark.parametrize("kid", ["EC", "ec ", "e", "", "unknown", "ec\0", "../ec"])
def test_a_kid_is_compared_exactly(kid: str) -> None:
    assert parse(EC, OTHER_EC).find(kid=kid, alg="ES384") == ()


def test_keys_of_one_kid_are_all_found_in_the_documents_order() -> None:
    twin = {**OTHER_EC, "kid": "ec"}
    key_set = parse(rsa(kid="ec"), EC, OTHER_EC, twin)

    assert [key.thumbprint for key in key_set.find(kid="ec", alg="ES384")] == [
        parse(entry).keys[0].thumbprint for entry in (EC, twin)
    ]
    assert [key.algorithms for key in key_set.find(kid="ec", alg="RS256")] == [{"RS256"}]


def test_at_most_four_keys_of_one_kid_are_tried() -> None:
    entries = [curve("P-384", kid="same") for _ in range(6)]

    found = parse(*entries).find(kid="same", alg="ES384")

    assert [key.thumbprint for key in found] == [parse(entry).keys[0].thumbprint for entry in entries[:4]]


def test_without_a_kid_the_only_key_of_the_algorithm_is_found() -> None:
    key_set = parse(EC, rsa())

    assert kids(key_set.find(kid=None, alg="ES384")) == ["ec"]
    assert kids(key_set.find(kid=None, alg="RS256")) == ["rsa"]
    assert key_set.find(kid=None, alg="PS256") == ()


def test_without_a_kid_none_of_several_keys_is_found() -> None:
    assert parse(EC, OTHER_EC).find(kid=None, alg="ES384") == ()


def test_a_key_without_a_kid_is_found_by_no_kid() -> None:
    key_set = parse(without("kid"))

    assert kids(key_set.keys) == [None]
    assert kids(key_set.find(kid=None, alg="ES384")) == [None]
    for kid in ("None", "", key_set.keys[0].thumbprint):
        assert key_set.find(kid=kid, alg="ES384") == ()


def test_a_key_set_holds_the_same_key_of_a_later_document() -> None:
    (key,) = parse(EC).keys

    assert parse(OTHER_EC, {**EC, "x5c": ["later"]}).holds(key.identity)


@pytest.mark.parametrize(
    "entry",
    [OTHER_EC, {**OTHER_EC, "kid": "ec"}, {**EC, "kid": "other"}, rsa(kid="ec")],
    ids=["another key", "another key of its kid", "the same under another kid", "another type"],
)
def test_a_key_set_does_not_hold_another_key(entry: dict[str, JsonValue]) -> None:
    (key,) = parse(EC).keys

    assert not parse(entry).holds(key.identity)


def test_a_key_whose_algorithms_changed_is_another_key() -> None:
    (key,) = parse(rsa(), algorithms=("RS256", "PS256")).keys

    assert not parse(rsa(alg="PS256"), algorithms=("RS256", "PS256")).holds(key.identity)


def test_the_repr_of_a_key_has_only_its_identifiers() -> None:
    (key,) = parse(EC).keys

    assert repr(key) == f"PublicKey(kid='ec', algorithms=frozenset({{'ES384'}}), thumbprint='{key.thumbprint}')"
    assert key.thumbprint == "dF0AW-t-6zxshXIDzCiRALbZV3F1K6FR_52fJ_M3xYg"


def test_the_same_key_of_two_documents_is_one_value() -> None:
    assert len({*parse(EC).keys, *parse(EC).keys, *parse(OTHER_EC).keys}) == 2


def test_a_key_set_is_not_changed_by_the_list_it_was_made_of() -> None:
    keys = list(parse(EC).keys)
    key_set = KeySet(keys)

    keys.append(replace(keys[0], kid="later"))

    assert kids(key_set.keys) == ["ec"]
    assert not key_set.holds(keys[1].identity)


def test_the_keys_of_the_test_kits_issuer_are_usable() -> None:
    issuer = LocalIssuer()
    ec = issuer.jwks()["keys"][0]["kid"]
    rsa_kid = issuer.rotate(algorithm="RS256")

    key_set = parse_key_set(cast("JsonObject", issuer.jwks()), algorithms=DEFAULT)

    assert kids(key_set.keys) == [rsa_kid, ec]
    assert [key.algorithms for key in key_set.keys] == [{"RS256"}, {"ES384"}]
