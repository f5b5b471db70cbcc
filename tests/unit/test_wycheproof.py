"""Project Wycheproof's vectors of signatures, compact JWS and JWKs.

The numbers of vectors that ran are asserted, so an emptied file fails.
"""

import json
from base64 import urlsafe_b64decode
from collections import Counter
from typing import Any, Final, Literal

import pytest
from joserfc.jwk import Key as JoseKey
from joserfc.jwk import import_key
from pydantic import SecretStr

from fastapi_logto.errors import AlgorithmError, InvalidTokenError, SignatureError, UnknownKeyError
from fastapi_logto.provider.aws_lc import build_aws_lc_key
from fastapi_logto.provider.key_set import KeySet, parse_key_set
from fastapi_logto.verification.jws import UnverifiedJws, parse_unverified
from fastapi_logto.verification.signatures import verify_signature
from tests.wycheproof import is_symmetric, list_entries, read_groups

OURS: Final = ("ES256", "ES384", "ES512", "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "EdDSA")
"""Every algorithm that can be accepted. The defaults alone would exclude most vectors."""

pytestmark = pytest.mark.usefixtures("backend")


def holds(alg: str, key: JoseKey, vector: dict[str, Any]) -> bool:
    """Return whether a signature of a message is valid. Any exception other than `SignatureError` fails the test."""
    message, signature = bytes.fromhex(vector["msg"]), bytes.fromhex(vector["sig"])
    unverified = UnverifiedJws(
        alg=alg, kid=None, typ="at+jwt", signing_input=message, payload=b"trusted", signature=signature
    )
    try:
        return verify_signature(unverified, key, aws_lc=build_aws_lc_key(key)) == b"trusted"
    except SignatureError:
        return False


@pytest.mark.parametrize(
    ("name", "alg", "key_type", "outcomes"),
    [
        (
            "ecdsa_secp256r1_sha256_p1363_test.json",
            "ES256",
            "EC",
            {("valid", True): 173, ("invalid", False): 89},
        ),
        (
            "ecdsa_secp384r1_sha384_p1363_test.json",
            "ES384",
            "EC",
            {("valid", True): 193, ("invalid", False): 87},
        ),
        ("ed25519_test.json", "EdDSA", "OKP", {("valid", True): 88, ("invalid", False): 63}),
        (
            "rsa_signature_2048_sha256_test.json",
            "RS256",
            "RSA",
            # The acceptable one lacks the NULL of the hash's parameters, which RFC 8017 appendix B.1 requires. A
            # strict verifier compares whole encodings, and Logto never omits the NULL, so the vector is refused.
            {("valid", True): 9, ("invalid", False): 249, ("acceptable", False): 1},
        ),
    ],
    ids=["ES256", "ES384", "EdDSA", "RS256"],
)
def test_every_signature_is_valid_or_invalid_as_its_vector_says(
    name: str, alg: str, key_type: Literal["EC", "OKP", "RSA"], outcomes: dict[tuple[str, bool], int]
) -> None:
    ran: Counter[tuple[str, bool]] = Counter()
    wrong: list[int] = []
    for group in read_groups(name):
        key = import_key(group["publicKeyPem"], key_type)
        for vector in group["tests"]:
            outcome = (vector["result"], holds(alg, key, vector))
            ran[outcome] += 1
            if outcome not in outcomes:
                wrong.append(vector["tcId"])

    assert wrong == []
    assert ran == Counter(outcomes)


def build_key_set(group: dict[str, Any]) -> KeySet | None:
    """Parse the published keys of a group like a provider's key set; `None` if no key is usable."""
    key_set = parse_key_set({"keys": list_entries(group)}, algorithms=OURS)
    return key_set if key_set.keys else None


def refusal_of(token: object, key_set: KeySet | None) -> type[InvalidTokenError] | None:
    """Parse a JWS, find its key and verify it; return the class of the refusal, or `None` if it is accepted."""
    assert isinstance(token, str)
    try:
        # The vectors are not access tokens: none has a typ.
        unverified = parse_unverified(SecretStr(token), algorithms=OURS, token_types=("absent",))
        keys = () if key_set is None else key_set.find(kid=unverified.kid, alg=unverified.alg)
        if not keys:
            raise UnknownKeyError
        verify_signature(unverified, keys[0].jose, aws_lc=keys[0].aws_lc)
    except InvalidTokenError as error:
        return type(error)
    return None


# Vectors with an expected result that differs from ours, each with the reason.
VALID_BUT_REFUSED: Final = {
    259: "an empty payload: a token's payload is a JSON object (RFC 7519 section 7.2)",
    264: "an empty payload",
    268: "an empty payload",
    272: "an empty payload",
    320: "an empty payload",
    325: "an empty payload",
    346: "the key is bound to PS256 and the header says PS384 (RFC 7517 section 4.4)",
    347: "the key is bound to ES521, which is no algorithm (RFC 7518 section 3.4 names it ES512)",
    350: "the key is bound to PS256 and the header says PS384",
    351: "the key is bound to ES521, which is no algorithm",
}


def test_every_compact_jws_of_an_asymmetric_key_is_accepted_or_refused_as_its_vector_says() -> None:
    ran: Counter[tuple[str, bool]] = Counter()
    wrong: dict[int, str] = {}
    for group in read_groups("json_web_signature_test.json"):
        if is_symmetric(group):
            continue
        key_set = build_key_set(group)
        for vector in group["tests"]:
            is_admitted = refusal_of(vector["jws"], key_set) is None
            ran[vector["result"], is_admitted] += 1
            expected = vector["result"] == "valid" and vector["tcId"] not in VALID_BUT_REFUSED
            if is_admitted != expected:
                wrong[vector["tcId"]] = vector["comment"]

    assert wrong == {}
    assert ran == Counter({("valid", True): 26, ("valid", False): len(VALID_BUT_REFUSED), ("invalid", False): 325})


def test_no_jws_of_a_secret_key_is_accepted_not_even_a_valid_one() -> None:
    ran: Counter[str] = Counter()
    for group in read_groups("json_web_signature_test.json"):
        if not is_symmetric(group):
            continue
        assert build_key_set(group) is None
        for vector in group["tests"]:
            refusal = refusal_of(vector["jws"], None)
            ran["admitted" if refusal is None else "refused"] += 1
            if vector["result"] == "valid" and "InvalidCharacter" not in vector["comment"]:
                assert refusal is AlgorithmError

    assert ran == Counter({"refused": 40})


def test_json_serializations_and_none_are_refused_for_the_right_reason() -> None:
    refusals: Counter[str] = Counter()
    for group in read_groups("json_web_signature_test.json"):
        for vector in group["tests"]:
            if "AlgIsNone" in vector["flags"]:
                refusals[f"none: {getattr(refusal_of(vector['jws'], build_key_set(group)), '__name__', '')}"] += 1

    assert refusals == Counter({"none: AlgorithmError": 4})


# The only key that we accept although its vector is not valid.
INVALID_BUT_ADMITTED: Final = {
    7: "a ROCA modulus (CVE-2017-15361): whoever holds the issuer's own factors can sign anyway, and the "
    "key set comes from that issuer alone; Logto never makes keys on such a chip",
}


def test_every_key_is_used_or_skipped_as_its_vector_says() -> None:
    ran: Counter[tuple[str, bool]] = Counter()
    wrong: dict[int, str] = {}
    for group in read_groups("json_web_key_test.json"):
        key_set = build_key_set(group)
        for vector in group["tests"]:
            is_admitted = refusal_of(vector["jws"], key_set) is None
            ran[vector["result"], is_admitted] += 1
            # Valid vectors of secret keys are refused like all secret keys.
            expected = vector["tcId"] in INVALID_BUT_ADMITTED or (
                vector["result"] == "valid" and not is_symmetric(group)
            )
            if is_admitted != expected:
                wrong[vector["tcId"]] = vector["comment"]

    assert wrong == {}
    assert ran == Counter(
        {("valid", True): 1, ("valid", False): 4, ("invalid", False): 20, ("invalid", True): len(INVALID_BUT_ADMITTED)}
    )


@pytest.mark.parametrize(
    ("tc_id", "is_usable"),
    [
        (5, True),
        (6, False),
        (7, True),
        (8, False),
        (9, False),
        (19, False),
        (20, False),
        (21, False),
        (22, False),
        (23, False),
        (24, False),
    ],
)
def test_an_invalid_key_never_gets_into_the_key_set(*, tc_id: int, is_usable: bool) -> None:
    (group,) = (
        group
        for group in read_groups("json_web_key_test.json")
        if any(vector["tcId"] == tc_id for vector in group["tests"])
    )

    assert (build_key_set(group) is not None) == is_usable


def test_a_secret_in_a_key_set_is_skipped_and_the_public_key_is_still_used() -> None:
    # The vector expects that the whole set is refused. A secret in it is never used, and to refuse the set
    # would let one odd entry lock out all callers.
    (group,) = (g for g in read_groups("json_web_key_test.json") if g["comment"] == "jws_mixedSymmetryKeyset")
    key_set = build_key_set(group)

    assert [key["kty"] for key in group["private"]["keys"]] == ["oct", "EC"]
    assert key_set is not None
    assert [key.kid for key in key_set.keys] == ["kid-ec-sign"]
    assert refusal_of(group["tests"][0]["jws"], key_set) is AlgorithmError


def test_the_ids_of_the_vectors_match_their_descriptions() -> None:
    # Detects a renumbered file, with which the lists of exceptions above would be wrong.
    vectors = {
        vector["tcId"]: (vector["comment"], vector["result"], vector["jws"])
        for group in read_groups("json_web_signature_test.json")
        for vector in group["tests"]
    }
    for tc_id, reason in VALID_BUT_REFUSED.items():
        comment, result, jws = vectors[tc_id]
        assert result == "valid"
        if "payload" in reason:
            assert comment == "emptyPayload"
            assert jws.split(".")[1] == ""
        else:
            assert comment in {"Figure20", "Figure27"}
            assert json.loads(urlsafe_b64decode(jws.split(".")[0] + "=="))["alg"] in {"PS384", "ES512"}
