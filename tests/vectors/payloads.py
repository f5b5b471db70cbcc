"""Payloads with one claim, or their JSON, changed. The issuer's own key signs each of them."""

import json
from typing import Final

from fastapi_logto.settings import SettingsArguments
from tests.vectors.forge import ABSENT, API, ISSUER_URL, NOW, build_claims_set, dump, each
from tests.vectors.rows import AUDIENCE, CLAIMS, EXPIRED, IMMATURE, ISSUER, MALFORMED, PayloadRow, Refusal

_ISS: Final = "CVE-2024-53861; RFC 8725 section 3.8"
_AUD: Final = "RFC 7519 section 4.1.3; RFC 8725 section 3.9; RFC 9068 section 4"
_TIMES: Final = "RFC 7519 sections 2 and 4.1.4"
_NUMBERS: Final = "RFC 8259 section 6; RFC 7519 section 2"
_NBF: Final = "RFC 7519 section 4.1.5"
_IAT: Final = "RFC 7519 section 4.1.6; RFC 9068 section 2.2"
_SUB: Final = "RFC 9068 section 2.2; RFC 7519 section 4.1.2"
_REQUIRED: Final = "RFC 9068 section 2.2"
_SCOPE: Final = "RFC 8693 section 4.2; RFC 9068 section 2.2.3"
_ACT: Final = "RFC 8693 section 4.1"
_ORGANIZATION: Final = "RFC 8725 section 3.9"
_JSON: Final = "RFC 7519 section 7.2; RFC 8259"
_UTF8: Final = "RFC 7519 section 7.2; RFC 8259 section 8.1"
_DUPLICATE: Final = "RFC 7519 section 4; RFC 8259 section 4"
_SURROGATE: Final = "RFC 7493 section 2.1"
_DEPTH: Final = "CVE-2026-27932; RFC 8259 section 9"
_EXTRA: Final = "RFC 7519 section 4"
_NULLS: Final = "RFC 7519 section 4.1; RFC 9068 section 2.2"
_CNF: Final = "RFC 7800 section 3; RFC 9449 section 6; RFC 8705 section 3"

_NESTED: Final[list[list[object]]] = [[]]
_NOTHING_REQUIRED: Final = SettingsArguments(required_claims=())
_LONGEST: Final = SettingsArguments(max_token_bytes=131_072)
_NO_LEEWAY: Final = SettingsArguments(leeway_seconds=0)
_MOST_LEEWAY: Final = SettingsArguments(leeway_seconds=60)


def _row(
    name: str,
    refusal: Refusal | None,
    reference: str,
    *,
    claim: str | None = None,
    settings: SettingsArguments | None = None,
    **changes: object,
) -> PayloadRow:
    """Return a row of the valid claims with some changed."""
    return _raw(name, refusal, reference, dump(build_claims_set(**changes)), claim=claim, settings=settings)


def _claim(
    row: str,
    refusal: Refusal | None,
    reference: str,
    *,
    name: str,
    value: object,
    settings: SettingsArguments | None = None,
) -> PayloadRow:
    """Return a row of the valid claims with the claim of this name changed. A refusal names it."""
    payload = dump(build_claims_set(**{name: value}))
    return _raw(row, refusal, reference, payload, claim=None if refusal is None else name, settings=settings)


def _raw(
    name: str,
    refusal: Refusal | None,
    reference: str,
    payload: bytes,
    *,
    claim: str | None = None,
    settings: SettingsArguments | None = None,
) -> PayloadRow:
    """Return a row of exactly these bytes."""
    return PayloadRow(
        id=name,
        refused=refusal,
        claim=claim,
        reference=reference,
        settings=settings or SettingsArguments(),
        payload=payload,
    )


def _number(name: str, refusal: Refusal | None, claim: str, number: str, *, names_claim: bool = False) -> PayloadRow:
    """Return a row in which a claim is a number with this spelling, which Python's JSON encoder may not write."""
    payload = dump(build_claims_set(**{claim: "NUMBER"})).replace(b'"NUMBER"', number.encode("ascii"))
    return _raw(name, refusal, _NUMBERS, payload, claim=claim if names_claim else None)


def _with_member(text: str) -> bytes:
    """Return the valid claims with one more member with this spelling."""
    return dump(build_claims_set())[:-1] + f",{text}}}".encode("utf-8", "surrogatepass")


def _acts(count: int) -> object:
    """Return a chain of this many actors."""
    actor: dict[str, object] = {"sub": "actor-0"}
    for number in range(1, count):
        actor = {"sub": f"actor-{number}", "act": actor}
    return actor


_GOOD_TEXT: Final = dump(build_claims_set()).decode("ascii")

_ISSUER_ROWS: Final = (
    *(
        _row(f"iss {iss!r}", ISSUER, _ISS, claim="iss", iss=iss)
        for iss in each(
            [
                "https://tenant.example.test",
                "https://tenant.example.test/",
                "https://tenant.example.test/oid",
                "https://tenant.example.test/oidc/",
                "https://tenant.example.test/oidc/evil",
                "https://tenant.example.test/oidc.evil.test",
                "https://tenant.example.test/OIDC",
                "https://TENANT.example.test/oidc",
                "HTTPS://tenant.example.test/oidc",
                "http://tenant.example.test/oidc",
                "https://tenant.example.test:443/oidc",
                "https://tenant.example.test./oidc",
                "https://tenant.example.test//oidc",
                "https://tenant.example.test/oidc?",
                "https://tenant.example.test/oidc#",
                "https://tenant.example.test/%6fidc",
                "https://tenant.example.test@evil.test/oidc",
                "https://evil.test/https://tenant.example.test/oidc",
                "https://tenant.example.test.evil.test/oidc",
                "https://\u0442enant.example.test/oidc",
                " https://tenant.example.test/oidc",
                "https://tenant.example.test/oidc ",
                "https://tenant.example.test/oidc\n",
                "https://tenant.example.test/oidc\x00",
                "https://other.example.test/oidc",
                "tenant.example.test",
                "",
                "*",
                API,
            ]
        )
    ),
    *(
        _row(f"iss of JSON {json.dumps(iss)}", CLAIMS, _ISS, claim="iss", iss=iss)
        for iss in each([None, True, 0, 1.5, [], {}, [ISSUER_URL], [ISSUER_URL, "x"], {"value": ISSUER_URL}])
    ),
    _row("iss missing", CLAIMS, _ISS, claim="iss", iss=ABSENT),
)

_AUDIENCE_ROWS: Final = (
    _row("aud a list of ours", None, _AUD, aud=[API]),
    _row("aud a list with ours last", None, _AUD, aud=["https://other.example.test", API]),
    _row("aud one of two accepted", None, _AUD, settings={"audience": ("urn:other", API)}),
    *(
        _row(f"aud {aud!r}", AUDIENCE, _AUD, claim="aud", aud=aud)
        for aud in each(
            [
                "https://other.example.test",
                "https://api.example.test/",
                "https://api.example.test//",
                "https://api.example.tes",
                "https://api.example.test.evil.test",
                "https://api.example.test/v1",
                "HTTPS://api.example.test",
                "https://API.example.test",
                "http://api.example.test",
                "https://api.example.test:443",
                "api.example.test",
                "https://other.example.test https://api.example.test",
                "https://other.example.test,https://api.example.test",
                '["https://api.example.test"]',
                " https://api.example.test",
                "https://api.example.test\n",
                "https://api.example.test\x00",
                "https://\u0430pi.example.test",
                "",
                " ",
                "*",
                "https://default.logto.app/api",
                "https://tenant-id.logto.app/api",
                "urn:logto:organization:aaajcxbl1cz3",
                "urn:logto:organization:",
                "urn:logto:resource:organizations",
                "gs93i6d6zybsiqx8ezimq",
                ISSUER_URL,
            ]
        )
    ),
    *(
        _row(f"aud of JSON {json.dumps(aud)}", AUDIENCE, _AUD, claim="aud", aud=aud)
        for aud in each([[""], ["https://other.example.test"], ["https://api.example.test/", "x"], list(API)])
    ),
    *(
        _row(f"aud of JSON {json.dumps(aud)}", CLAIMS, _AUD, claim="aud", aud=aud)
        for aud in each(
            [
                None,
                True,
                0,
                1.5,
                [],
                {},
                [[API]],
                _NESTED,
                [API, 1],
                [API, None],
                [None],
                [{"value": API}],
                {"value": API},
                {"value": None},
                {"values": []},
                {API: API},
            ]
        )
    ),
    _row("aud missing", CLAIMS, _AUD, claim="aud", aud=ABSENT),
)

_EXPIRY_ROWS: Final = (
    _row("exp one second inside the leeway", None, _TIMES, exp=NOW - 9),
    _row("exp at the very second with leeway", EXPIRED, _TIMES, claim="exp", exp=NOW - 10),
    _row("exp a moment inside the leeway", None, _TIMES, exp=NOW - 9.75),
    _row("exp a moment past the leeway", EXPIRED, _TIMES, claim="exp", exp=NOW - 10.25),
    _row("exp next second without leeway", None, _TIMES, settings=_NO_LEEWAY, exp=NOW + 1),
    _row("exp at the very second without leeway", EXPIRED, _TIMES, claim="exp", settings=_NO_LEEWAY, exp=NOW),
    _row("exp one second inside the most leeway", None, _TIMES, settings=_MOST_LEEWAY, exp=NOW - 59),
    _row(
        "exp at the very second with the most leeway", EXPIRED, _TIMES, claim="exp", settings=_MOST_LEEWAY, exp=NOW - 60
    ),
    _row("exp a year ago", EXPIRED, _TIMES, claim="exp", exp=NOW - 31_536_000),
    _row("exp zero", EXPIRED, _TIMES, claim="exp", exp=0),
    _row("exp negative", EXPIRED, _TIMES, claim="exp", exp=-1),
    _row("exp in milliseconds", None, _TIMES, exp=(NOW + 3500) * 1000),
    _row("exp -10**400", EXPIRED, _NUMBERS, claim="exp", exp=-(10**400)),
    _row("exp 10**400", None, _NUMBERS, exp=10**400),
    _number("exp 1e300", None, "exp", "1e300"),
    _number("exp with an exponent", None, "exp", "1.795455e9"),
    _number("exp 1e400", MALFORMED, "exp", "1e400"),
    _number("exp -1e400", MALFORMED, "exp", "-1e400"),
    _number("exp NaN", MALFORMED, "exp", "NaN"),
    _number("exp Infinity", MALFORMED, "exp", "Infinity"),
    _number("exp -Infinity", MALFORMED, "exp", "-Infinity"),
    _number("exp of 5,000 digits", MALFORMED, "exp", "1" * 5000),
    _number("exp in hexadecimal", MALFORMED, "exp", "0x7fffffff"),
    _number("exp with a leading zero", MALFORMED, "exp", "01795455500"),
    _number("exp with a plus sign", MALFORMED, "exp", "+1795455500"),
    _number("exp -0.0", EXPIRED, "exp", "-0.0", names_claim=True),
    *(
        _row(f"exp of JSON {json.dumps(exp)}", CLAIMS, _TIMES, claim="exp", exp=exp)
        for exp in each(
            [None, True, False, "", "1795455500", "NaN", "never", "2036-11-21T00:00:00Z", [], {}, [NOW + 3500]]
        )
    ),
    _row("exp missing", CLAIMS, _TIMES, claim="exp", exp=ABSENT),
)

_START_ROWS: Final = (
    _row("nbf past", None, _NBF, nbf=NOW - 100),
    _row("nbf null", CLAIMS, _NBF, claim="nbf", nbf=None),
    _row("nbf at the edge of the leeway", None, _NBF, nbf=NOW + 10),
    _row("nbf past the leeway", IMMATURE, _NBF, claim="nbf", nbf=NOW + 11),
    _row("nbf now without leeway", None, _NBF, settings=_NO_LEEWAY, nbf=NOW),
    _row("nbf next second without leeway", IMMATURE, _NBF, claim="nbf", settings=_NO_LEEWAY, nbf=NOW + 1),
    _row("nbf at the edge of the most leeway", None, _NBF, settings=_MOST_LEEWAY, nbf=NOW + 60),
    _row("nbf past the most leeway", IMMATURE, _NBF, claim="nbf", settings=_MOST_LEEWAY, nbf=NOW + 61),
    _row("nbf 10**400", IMMATURE, _NUMBERS, claim="nbf", nbf=10**400),
    _row("nbf -10**400", None, _NUMBERS, nbf=-(10**400)),
    _number("nbf NaN", MALFORMED, "nbf", "NaN"),
    _number("nbf -Infinity", MALFORMED, "nbf", "-Infinity"),
    *(
        _row(f"nbf of JSON {json.dumps(nbf)}", CLAIMS, _NBF, claim="nbf", nbf=nbf)
        for nbf in each([True, False, "", "0", [], {}])
    ),
    _row("iat at the edge", None, _IAT, iat=NOW + 60),
    _row("iat past the edge", IMMATURE, _IAT, claim="iat", iat=NOW + 61),
    _row("iat's edge does not move with the leeway", IMMATURE, _IAT, claim="iat", settings=_NO_LEEWAY, iat=NOW + 61),
    _row("iat a fraction", None, _IAT, iat=NOW - 0.5),
    _row("iat zero", None, _IAT, iat=0),
    _row("iat negative", None, _IAT, iat=-1),
    _row("iat 10**400", IMMATURE, _NUMBERS, claim="iat", iat=10**400),
    _number("iat 1e400", MALFORMED, "iat", "1e400"),
    _number("iat NaN", MALFORMED, "iat", "NaN"),
    *(
        _row(f"iat of JSON {json.dumps(iat)}", CLAIMS, _IAT, claim="iat", iat=iat)
        for iat in each([None, True, False, "", "1795451900", [], {}])
    ),
    _row("iat missing", CLAIMS, _IAT, claim="iat", iat=ABSENT),
    _row("iat missing where it is not required", None, _IAT, settings=_NOTHING_REQUIRED, iat=ABSENT),
    _row("iat null where it is not required", CLAIMS, _IAT, claim="iat", settings=_NOTHING_REQUIRED, iat=None),
    _row("iat a text where it is not required", CLAIMS, _IAT, claim="iat", settings=_NOTHING_REQUIRED, iat="0"),
    _row("iat ahead where it is not required", IMMATURE, _IAT, claim="iat", settings=_NOTHING_REQUIRED, iat=NOW + 61),
)

_NAME_ROWS: Final = (
    *(
        _row(f"sub of JSON {json.dumps(sub)}", CLAIMS, _SUB, claim="sub", sub=sub)
        for sub in each([None, "", 0, 1, True, [], {}, ["iuvey8ee7hls"]])
    ),
    _row("sub missing", CLAIMS, _SUB, claim="sub", sub=ABSENT),
    *(
        _claim(f"{claim} of JSON {json.dumps(value)}", CLAIMS, _REQUIRED, name=claim, value=value)
        for claim in ("client_id", "jti")
        for value in each([None, 0, True, [], {}, ["x"]])
    ),
    *(_claim(f"{claim} missing", CLAIMS, _REQUIRED, name=claim, value=ABSENT) for claim in ("client_id", "jti")),
    *(
        _claim(
            f"{claim} {what} where it is not required",
            refusal,
            _REQUIRED,
            name=claim,
            value=value,
            settings=_NOTHING_REQUIRED,
        )
        for claim in ("client_id", "jti")
        for what, value, refusal in (("missing", ABSENT, None), ("null", None, CLAIMS), ("a number", 1, CLAIMS))
    ),
    _row("a claim that the settings require", None, _REQUIRED, settings={"required_claims": "scope"}),
    _row(
        "a claim missing that the settings require",
        CLAIMS,
        _REQUIRED,
        claim="tenant",
        settings={"required_claims": "tenant"},
    ),
    _row("scope missing", None, _SCOPE, scope=ABSENT),
    _row("scope null", CLAIMS, _SCOPE, claim="scope", scope=None),
    _row("scope empty", None, _SCOPE, scope=""),
    *(
        _row(f"scope of JSON {json.dumps(scope)}", CLAIMS, _SCOPE, claim="scope", scope=scope)
        for scope in (["read:user"], [], 0, True, {}, {"read:user": True})
    ),
    _row("act", None, _ACT, act={"sub": "aklozoogia1m"}),
    _row("act with further members", None, _ACT, act={"sub": "aklozoogia1m", "client_id": "x", "roles": ["a"]}),
    _row("act null", CLAIMS, _ACT, claim="act", act=None),
    _row("act of act", None, _ACT, act=_acts(2)),
    _row("act with act null", CLAIMS, _ACT, claim="act", act={"sub": "x", "act": None}),
    _row("act of act with act null", CLAIMS, _ACT, claim="act", act={"sub": "x", "act": {"sub": "y", "act": None}}),
    _row("act with a blank sub", CLAIMS, _ACT, claim="act", act={"sub": " \t"}),
    _row("sub blank", CLAIMS, _SUB, claim="sub", sub=" "),
    *(
        _claim(f"{name} null", CLAIMS, _NULLS, name=name, value=None)
        for name in ("iss", "aud", "exp", "organization_id", "may_act", "auth_time", "acr", "amr")
    ),
    *(_row(f"{name} null", None, _NULLS, **{name: None}) for name in ("tenant", "email", "picture", "roles", "sid")),
    *(
        _row(f"cnf {json.dumps(cnf)}", CLAIMS, _CNF, claim="cnf", cnf=cnf)
        for cnf in each([{"jkt": "0ZcOCORZNYy"}, {"x5t#S256": "bw"}, {}, None, "", [], 0])
    ),
    _row("a chain of 8 actors", None, _ACT, act=_acts(8)),
    _row("a chain of 9 actors", CLAIMS, _ACT, claim="act", act=_acts(9)),
    _row("a chain of 31 actors", CLAIMS, _ACT, claim="act", act=_acts(31)),
    _row("a chain of 32 actors", MALFORMED, _DEPTH, act=_acts(32)),
    *(
        _row(f"act of JSON {json.dumps(act)}", CLAIMS, _ACT, claim="act", act=act)
        for act in each(
            [
                {},
                [],
                "aklozoogia1m",
                "",
                0,
                True,
                {"sub": None},
                {"sub": ""},
                {"sub": 1},
                {"sub": ["x"]},
                {"name": "x"},
                [{"sub": "x"}],
                {"sub": "x", "act": {}},
                {"sub": "x", "act": {"sub": 1}},
                {"sub": "x", "act": "y"},
                {"sub": "x", "act": {"sub": "y", "act": {"sub": ""}}},
            ]
        )
    ),
    _row("organization_id", None, _ORGANIZATION, organization_id="aaajcxbl1cz3"),
    *(
        _row(
            f"organization_id of JSON {json.dumps(value)}",
            CLAIMS,
            _ORGANIZATION,
            claim="organization_id",
            organization_id=value,
        )
        for value in each([0, True, [], {}, ["aaajcxbl1cz3"]])
    ),
    *(
        _row(
            f"organization_id {json.dumps(value)} against the organization of the audience",
            CLAIMS,
            _ORGANIZATION,
            claim="organization_id",
            aud="urn:logto:organization:aaajcxbl1cz3",
            organization_id=value,
        )
        for value in each(["other", "", "AAAJCXBL1CZ3", None, 1, ["aaajcxbl1cz3"]])
    ),
    _row(
        "organization_id like the organization of the audience",
        AUDIENCE,
        _ORGANIZATION,
        claim="aud",
        aud="urn:logto:organization:aaajcxbl1cz3",
        organization_id="aaajcxbl1cz3",
    ),
    _row(
        "custom claims named like what the claims have",
        None,
        _EXTRA,
        scopes=["admin"],
        audiences=["x"],
        user_id="admin",
        is_machine=True,
        expires_at=0,
        actor={"sub": "x"},
        model_extra={"x": 1},
        model_config={"frozen": False},
        model_fields_set=["x"],
        model_copy="x",
        __class__="x",
        __dict__={"sub": "admin"},
        __pydantic_extra__={"sub": "admin"},
        __pydantic_fields_set__=["x"],
        __pydantic_private__={"x": 1},
        self="x",
        cls="x",
    ),
)

_JSON_ROWS: Final = (
    _raw("white space", None, _JSON, f" \n{_GOOD_TEXT}\t\r\n".encode()),
    _raw("an empty object", CLAIMS, _JSON, b"{}", claim="client_id"),
    _raw("an empty object where nothing is required", CLAIMS, _JSON, b"{}", claim="iss", settings=_NOTHING_REQUIRED),
    *(
        _raw(f"the JSON {text}", MALFORMED, _JSON, text.encode())
        for text in ("[]", f"[{_GOOD_TEXT}]", '"sub"', "0", "true", "null", " ", "{", "foo", f"{_GOOD_TEXT}x")
    ),
    _raw("two objects", MALFORMED, _JSON, (_GOOD_TEXT * 2).encode()),
    _raw("NUL behind", MALFORMED, _JSON, f"{_GOOD_TEXT}\x00".encode()),
    _raw("single quotes", MALFORMED, _JSON, _GOOD_TEXT.replace('"', "'").encode()),
    _raw("cut short", MALFORMED, _JSON, _GOOD_TEXT[:-1].encode()),
    _raw("a comma at the end", MALFORMED, _JSON, f"{_GOOD_TEXT[:-1]},}}".encode()),
    _raw("a control character in a text", MALFORMED, _JSON, _with_member('"x":"\x01"')),
    _raw("form-encoded", MALFORMED, _JSON, b"sub=admin&exp=9999999999"),
    _raw("BOM", MALFORMED, _UTF8, b"\xef\xbb\xbf" + _GOOD_TEXT.encode()),
    _raw("UTF-16 with BOM", MALFORMED, _UTF8, _GOOD_TEXT.encode("utf-16")),
    _raw("UTF-16, little-endian", MALFORMED, _UTF8, _GOOD_TEXT.encode("utf-16-le")),
    _raw("UTF-16, big-endian", MALFORMED, _UTF8, _GOOD_TEXT.encode("utf-16-be")),
    _raw("UTF-32 with BOM", MALFORMED, _UTF8, _GOOD_TEXT.encode("utf-32")),
    _raw("UTF-32, big-endian", MALFORMED, _UTF8, _GOOD_TEXT.encode("utf-32-be")),
    _raw("latin-1", MALFORMED, _UTF8, f'{_GOOD_TEXT[:-1]},"x":"\xe9"}}'.encode("latin-1")),
    _raw("a surrogate as raw bytes", MALFORMED, _UTF8, _with_member('"x":"\ud800"')),
    _raw("sub twice", MALFORMED, _DUPLICATE, _with_member('"sub":"admin"')),
    _raw("sub twice, the same", MALFORMED, _DUPLICATE, _with_member('"sub":"iuvey8ee7hls"')),
    _raw("exp twice, once with escapes", MALFORMED, _DUPLICATE, _with_member('"\\u0065xp":9999999999')),
    _raw("aud twice", MALFORMED, _DUPLICATE, _with_member(f'"aud":["{API}","x"]')),
    _raw("a nested member twice", MALFORMED, _DUPLICATE, _with_member('"x":{"y":[{"a":1,"a":2}]}')),
    _raw("a member of act twice", MALFORMED, _DUPLICATE, _with_member('"act":{"sub":"a","sub":"b"}')),
    _raw("a lone surrogate as sub", MALFORMED, _SURROGATE, dump(build_claims_set(sub="\ud800"))),
    _raw("a lone surrogate as scope", MALFORMED, _SURROGATE, dump(build_claims_set(scope="read \udfff"))),
    _raw("a lone surrogate in an unknown claim", MALFORMED, _SURROGATE, _with_member('"x":["\\udfff"]')),
    _raw("a lone surrogate as a name", MALFORMED, _SURROGATE, _with_member('"\\ud800":1')),
    _raw("a lone surrogate as a nested name", MALFORMED, _SURROGATE, _with_member('"x":{"\\ud800":1}')),
    _raw("surrogates that make a pair", None, _SURROGATE, _with_member('"name":"\\ud83d\\ude00"')),
    _raw("NaN in an unknown claim", MALFORMED, _NUMBERS, _with_member('"x":[NaN]')),
    _raw("1e400 in an unknown claim", MALFORMED, _NUMBERS, _with_member('"x":{"y":1e400}')),
    _raw("5,000 digits in an unknown claim", MALFORMED, _NUMBERS, _with_member(f'"x":{"9" * 5000}')),
    _raw("400 digits in an unknown claim", None, _NUMBERS, _with_member(f'"x":{"9" * 400}')),
    _raw("31 nested lists", None, _DEPTH, _with_member(f'"x":{"[" * 31}{"]" * 31}')),
    _raw("32 nested lists", MALFORMED, _DEPTH, _with_member(f'"x":{"[" * 32}{"]" * 32}')),
    _raw("31 nested objects", None, _DEPTH, _with_member('"x":' + '{"a":' * 30 + "{}" + "}" * 30)),
    _raw("32 nested objects", MALFORMED, _DEPTH, _with_member('"x":' + '{"a":' * 31 + "{}" + "}" * 31)),
    _raw("5,000 nested lists", MALFORMED, _DEPTH, _with_member(f'"x":{"[" * 5000}{"]" * 5000}')),
    _raw(
        "45,000 nested lists", MALFORMED, _DEPTH, _with_member(f'"x":{"[" * 45_000}{"]" * 45_000}'), settings=_LONGEST
    ),
    _raw("95,000 lists never closed", MALFORMED, _DEPTH, b"[" * 95_000, settings=_LONGEST),
    _raw("19,000 objects never closed", MALFORMED, _DEPTH, b'{"a":' * 19_000, settings=_LONGEST),
)

PAYLOAD_ROWS: Final = (
    _row("good", None, "RFC 9068 section 2.2"),
    *_ISSUER_ROWS,
    *_AUDIENCE_ROWS,
    *_EXPIRY_ROWS,
    *_START_ROWS,
    *_NAME_ROWS,
    *_JSON_ROWS,
)
