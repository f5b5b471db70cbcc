"""From the token text to the payload with a verified signature."""

from base64 import urlsafe_b64decode
from dataclasses import FrozenInstanceError, fields
from typing import Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from joserfc.jwk import ECKey, OctKey, OKPKey, RSAKey
from joserfc.jwk import Key as JoseKey
from pydantic import SecretStr

from fastapi_logto.errors import (
    AlgorithmError,
    IdTokenError,
    MalformedTokenError,
    OpaqueTokenError,
    RefusalError,
    SignatureError,
    TokenTooLargeError,
    TokenTypeError,
    UnknownKeyError,
)
from fastapi_logto.provider.key_set import parse_key_set
from fastapi_logto.testing.signing import encode_segment
from fastapi_logto.verification.jws import (
    UnverifiedJws,
    check_again,
    check_size,
    parse_unverified,
    parse_unverified_issuer,
)
from fastapi_logto.verification.signatures import verify_signature
from tests.captured import JWKS, TOKENS
from tests.vectors.forge import ABSENT, Forge, build_claims_set, dump, each
from tests.vectors.headers import HEADER_ROWS, SEEN_LATE
from tests.vectors.rows import TokenRow
from tests.vectors.tokens import TOKEN_ROWS

FORGE: Final = Forge.create()
ALGORITHMS: Final = ("ES256", "ES384", "ES512", "RS256")
KEY_SET: Final = parse_key_set(FORGE.jwks(), algorithms=ALGORITHMS)
GOOD: Final = FORGE.good()
GOOD_RSA: Final = FORGE.good_rsa()
BASE64URL: Final = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
SHAPE_REASONS: Final = {"malformed", "too_large", "algorithm", "type", "id_token", "opaque_token"}


def parse(token: str, *, token_types: tuple[str, ...] = ("at+jwt",)) -> UnverifiedJws:
    return parse_unverified(SecretStr(token), algorithms=ALGORITHMS, token_types=token_types)


def outcome(text: str) -> UnverifiedJws | RefusalError:
    """Return the parts or the refusal. Any other exception fails the test."""
    try:
        return parse(text, token_types=("at+jwt", "absent"))
    except RefusalError as error:
        return error


def encode(segments: tuple[bytes, bytes, bytes]) -> str:
    return ".".join(encode_segment(segment) for segment in segments)


def verify(token: str) -> bytes:
    """Parse and verify the text with the published keys, and return the payload."""
    unverified = parse(token)
    keys = KEY_SET.find(kid=unverified.kid, alg=unverified.alg)
    if not keys:
        raise UnknownKeyError
    return verify_signature(unverified, keys[0].jose)


def test_a_valid_token_returns_its_parts() -> None:
    unverified = parse(GOOD)

    head, _, signature = GOOD.rpartition(".")
    assert unverified == UnverifiedJws(
        alg="ES384",
        kid=FORGE.ec.thumbprint(),
        typ="at+jwt",
        signing_input=head.encode("ascii"),
        payload=dump(build_claims_set()),
        signature=urlsafe_b64decode(signature),
    )


def test_a_type_is_returned_in_lower_case_and_without_its_prefix() -> None:
    assert parse(FORGE.with_header(typ="Application/AT+JWT")).typ == "at+jwt"
    assert parse(FORGE.with_header(typ=ABSENT), token_types=("at+jwt", "absent")).typ is None
    assert parse(FORGE.with_header(typ="JWT"), token_types=("at+jwt", "jwt")).typ == "jwt"


def test_a_kid_is_returned_unchanged_or_as_none() -> None:
    assert parse(FORGE.with_header(kid="k" * 256)).kid == "k" * 256
    assert parse(FORGE.with_header(kid=ABSENT)).kid is None


@pytest.mark.parametrize(
    "row",
    [row for row in (*HEADER_ROWS, *TOKEN_ROWS) if row.refused is None or row.refused.reason in SHAPE_REASONS],
    ids=lambda row: row.id,
)
def test_each_row_of_invalid_shape_is_refused_before_any_key_lookup(row: TokenRow) -> None:
    token = row.change(FORGE)
    types = tuple(str(token_type).lower() for token_type in row.settings.get("token_types", ("at+jwt",)))
    algorithms = tuple(str(alg) for alg in row.settings.get("algorithms", ALGORITHMS))

    def look() -> UnverifiedJws:
        check_size(SecretStr(token), max_bytes=row.settings.get("max_token_bytes", 16_384))
        return parse_unverified(SecretStr(token), algorithms=algorithms, token_types=types)

    if row.refused is None or row.id in SEEN_LATE:
        assert look().signing_input.decode("ascii") == token.rpartition(".")[0]
        return
    with pytest.raises(RefusalError) as caught:
        look()
    assert row.refused.fits(caught.value), repr(caught.value)
    assert caught.value.claim == row.claim


@pytest.mark.parametrize(
    "row",
    [row for row in (*HEADER_ROWS, *TOKEN_ROWS) if row.refused is not None and row.refused.reason == "signature"],
    ids=lambda row: row.id,
)
def test_each_row_of_an_invalid_signature_parses_and_is_refused_by_the_key_it_names(row: TokenRow) -> None:
    algorithms = tuple(str(alg) for alg in row.settings.get("algorithms", ALGORITHMS))
    unverified = parse_unverified(SecretStr(row.change(FORGE)), algorithms=algorithms, token_types=("at+jwt",))
    keys = parse_key_set(FORGE.jwks(), algorithms=algorithms).find(kid=unverified.kid, alg=unverified.alg)

    assert len(keys) == 1
    with pytest.raises(SignatureError) as caught:
        verify_signature(unverified, keys[0].jose)
    assert row.refused is not None
    assert row.refused.fits(caught.value)
    assert (caught.value.claim, caught.value.expected) == (None, None)


def test_the_size_limit_is_exact() -> None:
    check_size(SecretStr("x" * 1024), max_bytes=1024)
    check_size(SecretStr(""), max_bytes=1024)
    with pytest.raises(TokenTooLargeError) as caught:
        check_size(SecretStr("x" * 1025), max_bytes=1024)

    assert str(caught.value) == "invalid_token: too_large, expected at most 1024 bytes, found 1025 bytes"
    assert (caught.value.code, caught.value.reason, caught.value.status) == ("invalid_token", "too_large", 401)


def check_for_a_tenant(
    token: str, *, max_bytes: int = 10_000, algorithms: tuple[str, ...] = ALGORITHMS, typ: str = "at+jwt"
) -> None:
    unverified = parse(token, token_types=("at+jwt", "absent"))
    check_again(unverified, max_bytes=max_bytes, algorithms=algorithms, token_types=(typ,))


@pytest.mark.parametrize("length", range(1, 14))
def test_the_size_limit_of_a_parsed_token_is_exact(length: int) -> None:
    token = f"{GOOD.rpartition('.')[0]}.{encode_segment(bytes(length))}"

    check_for_a_tenant(token, max_bytes=len(token))
    with pytest.raises(TokenTooLargeError) as caught:
        check_for_a_tenant(token, max_bytes=len(token) - 1)

    assert caught.value.found == f"{len(token)} bytes"


def test_a_parsed_token_is_checked_by_the_algorithms_and_types_of_its_tenant() -> None:
    untyped = FORGE.with_header(typ=ABSENT)

    check_for_a_tenant(GOOD)
    check_for_a_tenant(untyped, typ="absent")
    with pytest.raises(AlgorithmError) as algorithm:
        check_for_a_tenant(GOOD, algorithms=("RS256",))
    with pytest.raises(IdTokenError):
        check_for_a_tenant(untyped)
    with pytest.raises(TokenTypeError):
        check_for_a_tenant(GOOD, typ="jwt")
    assert (algorithm.value.expected, algorithm.value.found) == ("RS256", "'ES384'")


@pytest.mark.parametrize(
    ("token", "found"),
    [
        ("", "1 segments"),
        ("a.b", "2 segments"),
        ("a.b.c.d", "4 segments"),
        ("a.b.c.d.e", "5 segments"),
        ("a.b.c.d.e.f", "more than five segments"),
        ("." * 1_000_000, "more than five segments"),
    ],
)
def test_a_wrong_number_of_segments_is_logged(token: str, found: str) -> None:
    with pytest.raises(MalformedTokenError) as caught:
        parse(token)

    assert str(caught.value) == f"invalid_token: malformed, expected three segments, found {found}"


def test_an_opaque_token_is_distinguished_from_a_malformed_one() -> None:
    with pytest.raises(OpaqueTokenError) as caught:
        parse(TOKENS["opaque"].token)

    assert str(caught.value) == "invalid_token: opaque_token"


@pytest.mark.parametrize(
    ("token", "name"),
    [
        (f"={GOOD}", "header"),
        (GOOD.replace(".", "=.", 1), "header"),
        (GOOD.rpartition(".")[0] + "=." + GOOD.rpartition(".")[2], "payload"),
        (f"{GOOD}=", "signature"),
        (f"{GOOD}\ud800", "signature"),
    ],
    ids=["before the header", "header", "payload", "signature", "surrogate"],
)
def test_a_segment_that_is_no_strict_base64url_is_named(token: str, name: str) -> None:
    with pytest.raises(MalformedTokenError) as caught:
        parse(token)

    assert str(caught.value) == (
        f"invalid_token: malformed, expected a {name} in base64url without padding (RFC 7515 section 2)"
    )


@pytest.mark.parametrize(
    ("header", "found"),
    [
        (b"[]", "header: not a JSON object"),
        (b"\xff", "header: not strict JSON: UnicodeDecodeError"),
        (b"{", "header: not strict JSON: JSONDecodeError"),
        (b'{"alg":"\\ud800"}', "header: a lone surrogate"),
        (b'{"alg":1e400}', "header: a number out of range"),
        (b'{"alg":"none","alg":"ES384"}', "header: duplicate member"),
        (b'{"alg":NaN}', "header: NaN or Infinity"),
        (b'{"x":' + b"[" * 33 + b"]" * 33 + b"}", "header: nested too deeply"),
    ],
    ids=["list", "encoding", "syntax", "surrogate", "number", "duplicate", "NaN", "nested lists"],
)
def test_a_header_that_is_no_strict_json_is_described_without_quoting_it(header: bytes, found: str) -> None:
    with pytest.raises(MalformedTokenError) as caught:
        parse(FORGE.with_raw_header(header))

    assert str(caught.value) == f"invalid_token: malformed, found {found}"


@pytest.mark.parametrize(
    "header",
    [
        b"[" * 100_000,
        b'{"x":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        b"{" + b'"a":1,' * 2_000 + b'"b":1}',
        b" " * 769,
    ],
    ids=["open lists", "nested lists", "many members", "one byte too many"],
)
def test_a_long_header_is_refused_before_it_is_parsed(header: bytes) -> None:
    token = FORGE.with_raw_header(header)

    with pytest.raises(MalformedTokenError) as caught:
        parse(token)

    assert caught.value.expected == "a header of at most 1024 characters"
    assert caught.value.found == f"{token.index('.')} characters"


def test_the_longest_header_is_read() -> None:
    header = b'{"alg":"ES384","typ":"at+jwt","kid":"a"}'

    assert parse(FORGE.with_raw_header(header + b" " * (768 - len(header)))).kid == "a"


def test_a_header_of_one_more_character_is_refused() -> None:
    header = b'{"alg":"ES384","typ":"at+jwt","kid":"a"}'

    with pytest.raises(MalformedTokenError, match="at most 1024 characters"):
        parse(FORGE.with_raw_header(header + b" " * (769 - len(header))))


def test_a_payload_with_a_hundred_thousand_levels_is_not_parsed_before_the_signature_check() -> None:
    payload = b'{"x":' + b"[" * 100_000 + b"]" * 100_000 + b"}"

    assert verify(FORGE.with_payload(payload)) == payload


@pytest.mark.parametrize("name", ["crit", "b64"])
def test_an_extension_is_refused_by_name(name: str) -> None:
    with pytest.raises(MalformedTokenError) as caught:
        parse(FORGE.with_header(**{name: ["x" * 200]}))

    assert caught.value.claim == name
    assert caught.value.expected == "no such header parameter"
    assert caught.value.found == "['" + "x" * 78 + "..."


@pytest.mark.parametrize("kid", each(["", "k" * 257, 7, ["a"]]))
def test_an_invalid_kid_is_quoted_and_cut(kid: object) -> None:
    with pytest.raises(MalformedTokenError) as caught:
        parse(FORGE.with_header(kid=kid))

    assert (caught.value.claim, caught.value.expected) == ("kid", "a string of 1 to 256 characters")
    assert caught.value.found is not None
    assert caught.value.found[:4] == repr(kid)[:4]
    assert len(caught.value.found) <= 83


def test_the_issuer_in_a_payload_that_is_no_strict_json_is_not_read() -> None:
    unverified = parse(f"{GOOD.partition('.')[0]}.{encode_segment(b'[]')}.{encode_segment(bytes(96))}")

    with pytest.raises(MalformedTokenError) as caught:
        parse_unverified_issuer(unverified)

    assert caught.value.found == "payload: not a JSON object"


def test_an_algorithm_is_refused_with_those_that_are_accepted() -> None:
    with pytest.raises(AlgorithmError) as caught:
        parse(FORGE.with_header(alg="HS256"))

    assert caught.value.message == (
        "The token is signed with an algorithm that this API does not accept; it accepts ES256, ES384, ES512, RS256"
    )
    assert (
        str(caught.value)
        == "invalid_token: algorithm, claim alg, expected ES256 or ES384 or ES512 or RS256, found 'HS256'"
    )


def test_no_algorithm_is_accepted_from_an_empty_list_or_as_part_of_another() -> None:
    with pytest.raises(AlgorithmError):
        parse_unverified(SecretStr(GOOD), algorithms=(), token_types=("at+jwt",))
    with pytest.raises(AlgorithmError):
        parse_unverified(SecretStr(FORGE.with_header(alg="ES")), algorithms=("ES384",), token_types=("at+jwt",))


def test_an_id_token_is_named_as_such() -> None:
    with pytest.raises(IdTokenError) as caught:
        parse(TOKENS["user_id_token"].token)

    assert caught.value.message == (
        "The token header has no typ: this looks like an ID token, which APIs do not accept; send the access token "
        "of the same response"
    )
    assert str(caught.value) == "invalid_token: id_token, claim typ, expected at+jwt, found nothing"


def test_another_type_is_named_in_the_log_only() -> None:
    with pytest.raises(TokenTypeError) as caught:
        parse(FORGE.with_header(typ="logout+jwt"), token_types=("at+jwt", "jwt"))

    assert caught.value.message == "The token is not an access token; the typ of its header must be at+jwt"
    assert str(caught.value) == "invalid_token: type, claim typ, expected at+jwt or jwt, found 'logout+jwt'"


def test_a_type_is_never_accepted_as_part_of_another() -> None:
    with pytest.raises(TokenTypeError):
        parse(FORGE.with_header(typ="at"), token_types=("at+jwt",))
    with pytest.raises(TokenTypeError):
        parse(FORGE.with_header(typ=["at+jwt"]), token_types=("at+jwt",))


def test_the_repr_shows_the_header_and_nothing_of_payload_or_signature() -> None:
    unverified = parse(FORGE.with_header(kid="k" * 200 + "\r\n"))

    assert repr(unverified) == f"UnverifiedJws(alg='ES384', kid='{'k' * 79}..., typ='at+jwt')"


def test_the_parts_cannot_be_changed() -> None:
    unverified = parse(GOOD)

    for field in fields(UnverifiedJws):
        with pytest.raises(FrozenInstanceError):
            setattr(unverified, field.name, b"")


@pytest.mark.parametrize("token", [GOOD, GOOD_RSA], ids=["ES384", "RS256"])
def test_a_valid_signature_returns_the_payload_exactly_as_signed(token: str) -> None:
    assert verify(token) == dump(build_claims_set())


def test_a_token_of_a_real_logto_verifies() -> None:
    keys = parse_key_set({"keys": [dict(key) for key in JWKS["keys"]]}, algorithms=ALGORITHMS)
    unverified = parse(TOKENS["user_api_spa"].token)

    payload = verify_signature(unverified, keys.find(kid=unverified.kid, alg=unverified.alg)[0].jose)

    assert payload == urlsafe_b64decode(TOKENS["user_api_spa"].token.split(".")[1] + "==")


@pytest.mark.parametrize(
    ("key", "found"),
    [
        (FORGE.stranger, None),
        (ECKey.generate_key("P-256"), "InvalidKeyCurveError"),
        (FORGE.rsa, "InvalidKeyTypeError"),
        (OctKey.import_key(b"s" * 64), "InvalidKeyTypeError"),
        (OKPKey.generate_key("Ed25519"), "InvalidKeyTypeError"),
    ],
    ids=["another P-384 key", "P-256", "RSA", "secret", "Ed25519"],
)
def test_any_other_key_leads_to_signature_error_and_to_no_other_error(key: JoseKey, found: str | None) -> None:
    with pytest.raises(SignatureError) as caught:
        verify_signature(parse(GOOD), key)

    assert (caught.value.claim, caught.value.expected) == (None, None)
    if found is None:
        assert caught.value.found is None
    else:
        assert caught.value.found in {found, "ValueError"}
    assert caught.value.__cause__ is None


@pytest.mark.parametrize("size", [1024, 2047, 4096])
def test_an_rsa_signature_of_another_size_is_only_an_invalid_signature(size: int) -> None:
    head, _, _ = GOOD_RSA.rpartition(".")

    with pytest.raises(SignatureError):
        verify(f"{head}.{encode_segment(bytes(size // 8))}")


@pytest.mark.parametrize("token", [GOOD, GOOD_RSA], ids=["ES384", "RS256"])
@pytest.mark.parametrize("segment", [0, 1, 2], ids=["header", "payload", "signature"])
def test_no_other_last_character_of_a_segment_is_accepted_although_some_decode_to_the_same(
    token: str, segment: int
) -> None:
    segments = token.split(".")
    last = segments[segment][-1]

    for sign_ in BASE64URL:
        if sign_ == last:
            continue
        changed = [*segments]
        changed[segment] = segments[segment][:-1] + sign_
        with pytest.raises(RefusalError):
            verify(".".join(changed))


@pytest.mark.parametrize("start", ["A", "AA", "AAA", "AAAA"])
def test_only_one_of_the_texts_for_the_same_bytes_is_accepted(start: str) -> None:
    signing_input = GOOD.rpartition(".")[0]
    accepted = {sign_ for sign_ in BASE64URL if isinstance(outcome(f"{signing_input}.{start}{sign_}"), UnverifiedJws)}

    # One character more encodes no further byte.
    texts: set[str] = set() if len(start) == 4 else {start + sign_ for sign_ in BASE64URL}
    assert accepted == {
        text[-1] for text in texts if encode_segment(urlsafe_b64decode(text + "=" * (-len(text) % 4))) == text
    }
    assert len(accepted) == {1: 4, 2: 16, 3: 64, 4: 0}[len(start)]


def test_the_rsa_signature_has_several_texts_for_the_same_bytes() -> None:
    # Otherwise the test above would prove nothing: 256 bytes leave four bits of the last character unused.
    signature = GOOD_RSA.rpartition(".")[2]
    alike = [
        sign_
        for sign_ in BASE64URL
        if urlsafe_b64decode(signature[:-1] + sign_ + "==") == urlsafe_b64decode(signature + "==")
    ]

    assert len(alike) == 16


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_changing_any_one_character_of_a_valid_token_is_refused(data: st.DataObject) -> None:
    token = data.draw(st.sampled_from([GOOD, GOOD_RSA]))
    position = data.draw(st.integers(0, len(token) - 1))
    character = data.draw(st.sampled_from(BASE64URL + ".=+/ \n\x00") | st.characters())

    changed = token[:position] + character + token[position + 1 :]

    if changed == token:
        assert verify(changed) == dump(build_claims_set())
    else:
        with pytest.raises(RefusalError):
            verify(changed)


@settings(max_examples=150, deadline=None)
@given(st.sampled_from([GOOD, GOOD_RSA]), st.integers(0, 600), st.text(min_size=1, max_size=3))
def test_inserting_any_text_into_a_valid_token_is_refused(token: str, position: int, text: str) -> None:
    with pytest.raises(RefusalError):
        verify(token[:position] + text + token[position:])


@settings(max_examples=150, deadline=None)
@given(st.sampled_from([GOOD, GOOD_RSA]), st.integers(0, 600), st.integers(1, 600))
def test_removing_any_part_of_a_valid_token_is_refused(token: str, start: int, length: int) -> None:
    start %= len(token)

    with pytest.raises(RefusalError):
        verify(token[:start] + token[start + length :])


JSON_HEADERS: Final = st.dictionaries(
    st.sampled_from(["alg", "typ", "kid", "crit", "b64", "jwk", "x"]),
    st.recursive(
        st.none()
        | st.booleans()
        | st.integers()
        | st.floats()
        | st.text(max_size=5)
        | st.sampled_from(["ES384", "at+jwt"]),
        lambda values: st.lists(values, max_size=2) | st.dictionaries(st.text(max_size=3), values, max_size=2),
        max_leaves=4,
    ),
)


@settings(max_examples=200, deadline=None)
@given(
    st.one_of(
        st.text(max_size=80),
        st.text(alphabet=BASE64URL + "...==", max_size=80),
        st.tuples(JSON_HEADERS.map(dump) | st.binary(max_size=20), st.binary(max_size=20), st.binary(max_size=20)).map(
            encode
        ),
    )
)
def test_any_text_ends_in_unverified_parts_or_a_refusal(text: str) -> None:
    unverified = outcome(text)
    if isinstance(unverified, RefusalError):
        assert (unverified.status, unverified.code) == (401, "invalid_token")
        assert unverified.reason in SHAPE_REASONS
        return
    assert unverified.alg in ALGORITHMS
    assert unverified.typ in {"at+jwt", None}
    assert text == f"{unverified.signing_input.decode('ascii')}.{encode_segment(unverified.signature)}"
    assert text.split(".")[1] == encode_segment(unverified.payload)


def test_an_rsa_key_of_another_tenant_does_not_verify() -> None:
    with pytest.raises(SignatureError):
        verify_signature(parse(GOOD_RSA), RSAKey.generate_key(2048))
