"""The claims that a handler gets: built only from a verified token, and completely frozen."""

import copy
import json
import pickle
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Annotated, Any, ClassVar, Final, Self

import pytest
from fastapi import Body, FastAPI
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pydantic import ConfigDict, Field, StrictStr, TypeAdapter, ValidationError, model_validator
from starlette.testclient import TestClient

from fastapi_logto import Actor, TokenClaims
from fastapi_logto.errors import ClaimError, MalformedTokenError, RefusalError
from fastapi_logto.strict_json import JsonObject
from fastapi_logto.verification.claims import ORGANIZATION_AUDIENCE, build_claims, parse_claims
from tests.captured import TOKENS
from tests.vectors.forge import ABSENT, API, ISSUER_URL, NOW, build_claims_set, dump
from tests.vectors.payloads import PAYLOAD_ROWS
from tests.vectors.rows import PayloadRow

REQUIRED: Final = ("client_id", "iat", "jti")
HUGE: Final = 10**400


class TenantClaims(TokenClaims):
    """The claims of a tenant whose script adds further ones."""

    tenant: StrictStr
    roles: list[str] = Field(default_factory=list)


def parse(**changes: object) -> TokenClaims:
    return parse_claims(dump(build_claims_set(**changes)), model=TokenClaims, required=REQUIRED)


def outcome(payload: bytes) -> TokenClaims | RefusalError:
    """Return the claims or the refusal. Any other exception fails the test."""
    try:
        return parse_claims(payload, model=TokenClaims, required=REQUIRED)
    except RefusalError as error:
        return error


@pytest.mark.parametrize("row", PAYLOAD_ROWS, ids=lambda row: row.id)
def test_each_row_of_invalid_shape_is_refused_and_every_other_returns_claims(row: PayloadRow) -> None:
    asked_for = row.settings.get("required_claims", REQUIRED)
    required = (asked_for,) if isinstance(asked_for, str) else asked_for

    if row.refused is None or row.refused.reason not in {"malformed", "claims"}:
        claims = parse_claims(row.payload, model=TokenClaims, required=required)
        assert claims.sub == json.loads(row.payload)["sub"]
        return
    with pytest.raises(RefusalError) as caught:
        parse_claims(row.payload, model=TokenClaims, required=required)
    assert row.refused.fits(caught.value), repr(caught.value)
    assert caught.value.claim == row.claim


@pytest.mark.parametrize("name", sorted(name for name, token in TOKENS.items() if token.kind == "jwt"))
def test_a_captured_payload_becomes_its_claims_and_is_dumped_unchanged(name: str) -> None:
    given_claims = dict(TOKENS[name].claims)

    claims = parse_claims(json.dumps(given_claims).encode(), model=TokenClaims, required=())

    expected = dict(given_claims)
    if str(expected["aud"]).startswith("urn:logto:organization:"):
        expected["organization_id"] = "aaajcxbl1cz3"
    assert claims.model_dump(mode="json", exclude_unset=True) == expected


@pytest.mark.parametrize(
    ("payload", "line"),
    [
        (b"[]", "invalid_token: malformed, found payload: not a JSON object"),
        (b"\xff", "invalid_token: malformed, found payload: not strict JSON: UnicodeDecodeError"),
        (b'{"sub":"a","sub":"b"}', "invalid_token: malformed, found payload: duplicate member"),
        (b'{"exp":NaN}', "invalid_token: malformed, found payload: NaN or Infinity"),
        (b'{"exp":1e400}', "invalid_token: malformed, found payload: a number out of range"),
        (b'{"sub":"\\ud800"}', "invalid_token: malformed, found payload: a lone surrogate"),
        (
            b"[" * 100_000 + b"]" * 100_000,
            "invalid_token: malformed, found payload: nested too deeply",
        ),
        (
            b'{"a":' * 100_000 + b"1" + b"}" * 100_000,
            "invalid_token: malformed, found payload: nested too deeply",
        ),
    ],
    ids=["list", "encoding", "duplicate", "NaN", "infinite", "surrogate", "nested lists", "nested objects"],
)
def test_a_payload_that_is_no_strict_json_is_described_without_quoting_it(payload: bytes, line: str) -> None:
    with pytest.raises(MalformedTokenError) as caught:
        parse_claims(payload, model=TokenClaims, required=REQUIRED)

    assert str(caught.value) == line


@pytest.mark.parametrize("name", REQUIRED)
def test_a_required_claim_that_is_missing_is_named_to_the_client(name: str) -> None:
    with pytest.raises(ClaimError) as caught:
        parse(**{name: ABSENT})

    assert caught.value.message == (
        f"The token has no claim {name}, which access tokens of Logto have; send the access token"
    )
    assert str(caught.value) == f"invalid_token: claims, claim {name}, expected a value, found nothing"


def test_a_token_that_is_bound_to_a_key_is_refused_with_what_to_do_instead() -> None:
    with pytest.raises(ClaimError) as caught:
        parse(cnf={"jkt": "a"})

    assert caught.value.message == (
        "The token is bound to a key of its client (cnf), which this API can't verify; request a bearer token"
    )
    assert str(caught.value) == (
        "invalid_token: claims, claim cnf, expected a bearer token, found a sender-constrained token (RFC 7800)"
    )


def nest_actors(count: int) -> object:
    actor: dict[str, object] = {"sub": "first"}
    for number in range(1, count):
        actor = {"sub": f"actor {number}", "act": actor}
    return actor


def test_eight_actors_are_accepted() -> None:
    assert parse(act=nest_actors(8)).act is not None


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"sub": ABSENT}, "invalid_token: claims, claim sub, expected missing, found nothing"),
        ({"sub": ""}, "invalid_token: claims, claim sub, expected string_too_short, found ''"),
        ({"exp": True}, "invalid_token: claims, claim exp, expected int_type, found True"),
        (
            {"exp": "1\r\n" * 40},
            "invalid_token: claims, claim exp, expected int_type, found '" + r"1\r\n" * 15 + "1\\r\\...",
        ),
        ({"aud": []}, "invalid_token: claims, claim aud, expected an audience, found none"),
        ({"act": {"sub": 1}}, "invalid_token: claims, claim act, expected string_type, found 1"),
        ({"scope": ["a"]}, "invalid_token: claims, claim scope, expected string_type, found ('a',)"),
        ({"scope": None}, "invalid_token: claims, claim scope, expected a value, found null"),
        (
            {"act": {"sub": "a", "act": None}},
            "invalid_token: claims, claim act, expected an actor of each actor, found null",
        ),
        ({"act": nest_actors(9)}, "invalid_token: claims, claim act, expected at most 8 actors, found more"),
        (
            {"aud": f"{ORGANIZATION_AUDIENCE}a", "organization_id": "b"},
            "invalid_token: claims, claim organization_id, expected the organization of the audience, found 'b'",
        ),
    ],
)
def test_a_claim_of_the_wrong_shape_is_named_quoted_and_cut_in_the_log_alone(
    changes: Mapping[str, object], line: str
) -> None:
    with pytest.raises(ClaimError) as caught:
        parse(**changes)

    assert str(caught.value) == line
    assert caught.value.message == "A claim of the token is missing or malformed"


def test_claims_keep_their_names_of_the_wire() -> None:
    claims = parse(nbf=5, organization_id="org", act={"sub": "actor"})

    assert (claims.iss, claims.sub, claims.aud) == (ISSUER_URL, "iuvey8ee7hls", API)
    assert (claims.exp, claims.iat, claims.nbf) == (NOW + 3500, NOW - 100, 5)
    assert (claims.jti, claims.client_id) == ("jKWg6xwbZsJT7THAf", "gs93i6d6zybsiqx8ezimq")
    assert (claims.scope, claims.organization_id) == ("read:user write:user", "org")
    assert claims.user_id == "iuvey8ee7hls"


def test_optional_claims_are_none_when_missing() -> None:
    claims = parse_claims(
        dump({"iss": "i", "sub": "s", "aud": "a", "exp": 1}),
        model=TokenClaims,
        required=(),
    )

    assert (claims.iat, claims.nbf, claims.jti, claims.client_id, claims.scope) == (None,) * 5
    assert (claims.organization_id, claims.act, claims.issued_at) == (None,) * 3
    assert claims.scopes == frozenset()
    assert not claims.is_machine
    assert claims.model_fields_set == {"iss", "sub", "aud", "exp"}


@pytest.mark.parametrize(
    ("scope", "scopes"),
    [
        ("read:user write:user", {"read:user", "write:user"}),
        ("write:user read:user write:user", {"read:user", "write:user"}),
        ("", set[str]()),
        ("  ", set[str]()),
        (" a  b ", {"a", "b"}),
        (ABSENT, set[str]()),
        ("a\u00a0b", {"a\u00a0b"}),
        ("a\tb\nc", {"a\tb\nc"}),
        ("a\u2003b\u3000c", {"a\u2003b\u3000c"}),
        (
            'say"it" \u0447\u0438\u0442\u0430\u0442\u044c,\u043f\u0438\u0441\u0430\u0442\u044c',
            {'say"it"', "\u0447\u0438\u0442\u0430\u0442\u044c,\u043f\u0438\u0441\u0430\u0442\u044c"},
        ),
    ],
)
def test_scopes_are_split_at_the_space_alone(scope: object, scopes: set[str]) -> None:
    assert parse(scope=scope).scopes == scopes


@pytest.mark.parametrize(
    ("aud", "audiences"),
    [(API, {API}), ([API], {API}), ([API, "x", API], {API, "x"}), ("", {""})],
)
def test_audiences_are_a_set_of_whole_texts(aud: object, audiences: set[str]) -> None:
    assert parse(aud=aud).audiences == audiences


@pytest.mark.parametrize(
    ("seconds", "when"),
    [
        (0, datetime(1970, 1, 1, tzinfo=UTC)),
        (1_795_452_000, datetime(2026, 11, 23, 16, 40, tzinfo=UTC)),
        (1_795_452_000.5, datetime(2026, 11, 23, 16, 40, 0, 500_000, tzinfo=UTC)),
        (-1, datetime(1969, 12, 31, 23, 59, 59, tzinfo=UTC)),
        (253_402_300_799, datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC)),
        (253_402_300_800, None),
        (10**12, None),
        (10**18, None),
        (HUGE, None),
        (-HUGE, None),
        (1e300, None),
        (-1e18, None),
    ],
)
def test_times_are_in_utc_and_none_if_they_are_out_of_range(seconds: float, when: datetime | None) -> None:
    claims = parse(exp=seconds, iat=seconds)

    assert (claims.expires_at, claims.issued_at) == (when, when)
    assert claims.exp == seconds


def test_a_machine_is_its_own_subject() -> None:
    assert parse(sub="gs93i6d6zybsiqx8ezimq").is_machine
    assert not parse().is_machine
    assert not parse(sub="gs93i6d6").is_machine
    assert not parse(sub="gs93i6d6zybsiqx8ezimq2").is_machine
    assert not parse_claims(dump(build_claims_set(client_id=ABSENT)), model=TokenClaims, required=()).is_machine


def test_an_actor_may_have_an_actor() -> None:
    claims = parse(act={"sub": "service", "role": "admin", "act": {"sub": "user"}})

    assert claims.act is not None
    assert claims.act.sub == "service"
    assert claims.act.model_extra == {"role": "admin"}
    assert claims.act.act is not None
    assert (claims.act.act.sub, claims.act.act.act) == ("user", None)


@pytest.mark.parametrize(
    ("changes", "organization_id"),
    [
        ({}, None),
        ({"organization_id": "aaajcxbl1cz3"}, "aaajcxbl1cz3"),
        ({"aud": "urn:logto:organization:aaajcxbl1cz3"}, "aaajcxbl1cz3"),
        ({"aud": "urn:logto:organization:a:b"}, "a:b"),
        ({"aud": "urn:logto:organization:same", "organization_id": "same"}, "same"),
        ({"aud": "urn:logto:resource:organizations", "organization_id": "aaajcxbl1cz3"}, "aaajcxbl1cz3"),
        ({"aud": "urn:logto:resource:organizations"}, None),
        ({"aud": "URN:logto:organization:aaajcxbl1cz3"}, None),
        ({"aud": "x urn:logto:organization:aaajcxbl1cz3"}, None),
    ],
)
def test_the_organization_comes_from_the_claim_or_the_audience(
    changes: Mapping[str, object], organization_id: str | None
) -> None:
    assert parse(**changes).organization_id == organization_id


def test_a_token_with_two_organizations_has_none() -> None:
    with pytest.raises(ClaimError) as caught:
        parse(aud=f"{ORGANIZATION_AUDIENCE}one", organization_id="two")

    assert str(caught.value) == (
        "invalid_token: claims, claim organization_id, expected the organization of the audience, found 'two'"
    )


EXTRA: Final[dict[str, object]] = {
    "roles": ["a", {"name": "b", "tags": ["c"]}],
    "tenant": {"id": "acme", "plans": [{"name": "pro"}], "empty": {}},
    "email": "alice@example.test",
}


def test_custom_claims_are_attributes_and_extras() -> None:
    claims = parse(**EXTRA)
    extra = claims.model_extra

    assert extra is not None
    assert dict(extra) == {
        "roles": ("a", {"name": "b", "tags": ("c",)}),
        "tenant": {"id": "acme", "plans": ({"name": "pro"},), "empty": {}},
        "email": "alice@example.test",
    }
    assert getattr(claims, "tenant") == extra["tenant"]  # noqa: B009 - a name that the class does not declare
    with pytest.raises(AttributeError):
        getattr(claims, "phone")  # noqa: B009 - a name that the class does not declare


def test_a_custom_claim_never_hides_an_attribute_of_the_class() -> None:
    claims = parse(
        scopes=["admin"],
        user_id="admin",
        is_machine=True,
        audiences=["x"],
        expires_at=0,
        actor={"sub": "x"},
        model_fields_set=["x"],
        __class__="x",
        __dict__={"sub": "admin"},
        __pydantic_extra__={"sub": "admin"},
    )

    assert type(claims) is TokenClaims
    assert claims.scopes == {"read:user", "write:user"}
    assert (claims.user_id, claims.sub, claims.is_machine, claims.act) == (
        "iuvey8ee7hls",
        "iuvey8ee7hls",
        False,
        None,
    )
    assert claims.audiences == {API}
    assert claims.expires_at == datetime.fromtimestamp(NOW + 3500, UTC)
    assert claims.model_extra is not None
    assert claims.model_extra["user_id"] == "admin"


@pytest.mark.parametrize("name", [*TokenClaims.model_fields, "tenant", "new", "scopes", "user_id"])
def test_no_attribute_can_be_set_or_deleted(name: str) -> None:
    claims = parse(act={"sub": "x"}, **EXTRA)
    before = claims.model_dump_json()

    with pytest.raises((ValidationError, AttributeError)):
        setattr(claims, name, "changed")
    with pytest.raises((ValidationError, AttributeError)):
        delattr(claims, name)

    assert claims.model_dump_json() == before


def test_no_attribute_of_an_actor_can_be_set_or_deleted() -> None:
    actor = parse(act={"sub": "x", "roles": ["a"]}).act

    assert actor is not None
    for name in ("sub", "act", "roles", "new"):
        with pytest.raises((ValidationError, AttributeError)):
            setattr(actor, name, "changed")
        with pytest.raises((ValidationError, AttributeError)):
            delattr(actor, name)
    assert actor.model_dump() == {"sub": "x", "act": None, "roles": ("a",)}


CHANGES: Final[Mapping[str, Callable[[Any], object]]] = {
    "set": lambda members: members.__setitem__("id", "changed"),
    "delete": lambda members: members.__delitem__("id"),
    "merge in place": lambda members: members.__ior__({"id": "changed"}),
    "clear": lambda members: members.clear(),
    "pop": lambda members: members.pop("id"),
    "popitem": lambda members: members.popitem(),
    "setdefault": lambda members: members.setdefault("new", 1),
    "update": lambda members: members.update(id="changed"),
    "update from pairs": lambda members: members.update([("id", "changed")]),
}


FINDS: Final[Mapping[str, Callable[[Any], Any]]] = {
    "extras": lambda claims: claims.model_extra,
    "object": lambda claims: claims.model_extra["tenant"],
    "object in a list": lambda claims: claims.model_extra["tenant"]["plans"][0],
    "object of a list": lambda claims: claims.model_extra["roles"][1],
    "an actor's extras": lambda claims: claims.act.model_extra,
    "an actor's object": lambda claims: claims.act.model_extra["x"],
}


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("place", FINDS)
def test_no_object_in_the_claims_can_be_changed(change: str, place: str) -> None:
    claims = parse(act={"sub": "x", "x": {"id": 1}}, **EXTRA)
    before = claims.model_dump_json()

    with pytest.raises(TypeError, match="the claims of a verified token can't be changed"):
        CHANGES[change](FINDS[place](claims))

    assert claims.model_dump_json() == before


def test_every_list_in_the_claims_is_a_tuple() -> None:
    claims = parse(aud=[API, "x"], **EXTRA)

    extra = claims.model_extra

    assert claims.aud == (API, "x")
    assert extra is not None
    for value in (extra["roles"], extra["roles"][1]["tags"], extra["tenant"]["plans"]):
        assert type(value) is tuple


def test_each_caller_gets_a_copy_of_the_set_of_fields() -> None:
    claims = parse()
    held = set(claims.model_fields_set)

    claims.model_fields_set.clear()

    assert claims.model_fields_set == held
    assert held == {"jti", "sub", "iat", "exp", "scope", "client_id", "iss", "aud"}


def test_a_later_change_of_the_payload_does_not_change_the_claims() -> None:
    members: JsonObject = {"iss": "i", "sub": "s", "aud": "a", "exp": 1, "roles": ["a"], "tenant": {"id": 1}}

    claims = build_claims(members, model=TokenClaims)
    members["roles"] = ["changed"]
    members["sub"] = "changed"

    assert claims.sub == "s"
    assert claims.model_extra == {"roles": ("a",), "tenant": {"id": 1}}


DUPLICATES: Final[Mapping[str, Callable[[TokenClaims], TokenClaims]]] = {
    "copy": copy.copy,
    "deepcopy": copy.deepcopy,
    "model_copy": lambda claims: claims.model_copy(),
    "deep model_copy": lambda claims: claims.model_copy(deep=True),
    "pickle": lambda claims: pickle.loads(pickle.dumps(claims)),  # noqa: S301 - our own bytes
    "pickle of protocol 2": lambda claims: pickle.loads(pickle.dumps(claims, protocol=2)),  # noqa: S301 - our own bytes
}


@pytest.mark.parametrize("way", DUPLICATES)
def test_a_copy_is_equal_and_as_frozen(way: str) -> None:
    claims = parse(act={"sub": "x", "x": {"y": 1}}, **EXTRA)

    made = DUPLICATES[way](claims)

    assert made == claims
    assert made.model_dump_json() == claims.model_dump_json()
    assert made.model_fields_set == claims.model_fields_set
    assert made.model_extra is not None
    assert made.act is not None
    assert made.act.model_extra is not None
    for frozen in (made.model_extra, made.model_extra["tenant"], made.act.model_extra):
        with pytest.raises(TypeError, match="can't be changed"):
            frozen["more"] = 1
    with pytest.raises(ValidationError, match="frozen"):
        setattr(made, "sub", "changed")  # noqa: B010 - a type checker knows that it is frozen
    with pytest.raises(TypeError, match="can't be changed"):
        made.model_extra["tenant"]["id"] = "changed"


def test_a_frozen_object_is_a_dict_to_read() -> None:
    extra = parse(members={"a": 1, "b": [2]}).model_extra
    assert extra is not None
    members = extra["members"]

    assert members == {"a": 1, "b": (2,)}
    assert json.dumps(members) == '{"a": 1, "b": [2]}'
    assert members | {"c": 3} == {"a": 1, "b": (2,), "c": 3}
    assert copy.copy(members) is members
    assert copy.deepcopy(members) is members
    assert repr(members) == "{'a': 1, 'b': (2,)}"


def test_claims_compare_by_their_values() -> None:
    assert parse() == parse()
    assert parse() != parse(sub="another")
    assert parse() != parse(custom=1)


def test_the_repr_holds_subject_and_client_and_no_other_claim() -> None:
    claims = parse(email="alice@example.test", act={"sub": "actor"})

    assert repr(claims) == "TokenClaims(sub='iuvey8ee7hls', client_id='gs93i6d6zybsiqx8ezimq')"
    assert str(claims) == "sub='iuvey8ee7hls' client_id='gs93i6d6zybsiqx8ezimq'"


# Claims are built only from a verified token.

HINT: Final = "comes only from a verified token: declare it with Depends"


MAKERS: Final[Mapping[str, Callable[[Any, dict[str, object]], object]]] = {
    "constructor": lambda model, members: model(**members),
    "validate": lambda model, members: model.model_validate(members),
    "strict": lambda model, members: model.model_validate(members, strict=True),
    "context": lambda model, members: model.model_validate(members, context={"verified": True}),
    "another object": lambda model, members: model.model_validate(members, context=object()),
    "json": lambda model, members: model.model_validate_json(json.dumps(members)),
    "strings": lambda model, members: model.model_validate_strings(members),
    "adapter": lambda model, members: TypeAdapter[object](model).validate_python(members),
    "adapter of json": lambda model, members: TypeAdapter[object](model).validate_json(json.dumps(members)),
}


@pytest.mark.parametrize("model", [TokenClaims, TenantClaims, Actor])
@pytest.mark.parametrize("way", MAKERS)
def test_claims_are_built_only_from_a_verified_token(model: type[TokenClaims] | type[Actor], way: str) -> None:
    with pytest.raises(ValidationError, match=f"{model.__name__} {HINT}"):
        MAKERS[way](model, build_claims_set(tenant="acme"))


def test_the_error_of_claims_made_otherwise_does_not_show_the_input() -> None:
    with pytest.raises(ValidationError) as caught:
        TokenClaims.model_validate(build_claims_set(email="alice@example.test"))

    assert "alice@example.test" not in str(caught.value)
    assert "iuvey8ee7hls" not in str(caught.value)


def test_existing_claims_pass_validation_unchanged() -> None:
    claims = parse()

    assert TokenClaims.model_validate(claims) is claims
    assert TypeAdapter(TokenClaims).validate_python(claims) is claims


def test_a_plain_token_s_claims_do_not_pass_as_those_of_a_subclass() -> None:
    with pytest.raises(ValidationError, match="TenantClaims comes only from a verified token"):
        TenantClaims.model_validate(parse(tenant="acme"))


def test_a_route_that_forgets_depends_answers_422_and_never_runs() -> None:
    app = FastAPI()
    ran: list[str] = []

    @app.post("/bare")
    async def bare(claims: TokenClaims) -> str:
        ran.append(claims.sub)
        return claims.sub

    @app.post("/embedded")
    async def embedded(claims: Annotated[TokenClaims, Body(embed=True)]) -> str:
        ran.append(claims.sub)
        return claims.sub

    @app.post("/optional")
    async def optional(claims: TokenClaims | None = None) -> str:
        ran.append("" if claims is None else claims.sub)
        return ""

    client = TestClient(app)
    members = build_claims_set(email="alice@example.test")
    answers = [
        client.post("/bare", json=members),
        client.post("/embedded", json={"claims": members}),
        client.post("/optional", json=members),
    ]

    assert [answer.status_code for answer in answers] == [422, 422, 422]
    assert HINT in answers[0].json()["detail"][0]["msg"]
    assert ran == []


# Serialization.


def test_serialized_claims_are_those_of_the_token() -> None:
    claims = parse(act={"sub": "x"}, aud=[API], **EXTRA)

    assert json.loads(claims.model_dump_json(exclude_unset=True)) == build_claims_set(
        act={"sub": "x"}, aud=[API], **EXTRA
    )
    assert claims.model_dump(mode="json", exclude_unset=True) == build_claims_set(act={"sub": "x"}, aud=[API], **EXTRA)
    assert claims.model_dump()["nbf"] is None


def test_huge_numbers_are_serialized_to_the_last_digit() -> None:
    claims = parse(exp=HUGE, big=HUGE, nested={"big": [-HUGE]})

    assert json.loads(claims.model_dump_json()) == {
        **build_claims_set(exp=HUGE, big=HUGE, nested={"big": [-HUGE]}),
        "nbf": None,
        "organization_id": None,
        "act": None,
    }


def test_a_route_may_return_the_claims_and_openapi_describes_them() -> None:
    app = FastAPI()
    claims = parse(act={"sub": "x", "act": {"sub": "y"}}, big=HUGE, **EXTRA)

    @app.get("/me", response_model_exclude_unset=True)
    async def read_me() -> TokenClaims:
        return claims

    answer = TestClient(app).get("/me")
    schema = app.openapi()["components"]["schemas"]["TokenClaims"]

    assert answer.status_code == 200
    assert answer.json() == build_claims_set(act={"sub": "x", "act": {"sub": "y"}}, big=HUGE, **EXTRA)
    assert schema["type"] == "object"
    assert schema["required"] == ["iss", "sub", "aud", "exp"]
    assert schema["additionalProperties"] is True
    assert list(schema["properties"]) == [
        "iss",
        "sub",
        "aud",
        "exp",
        "iat",
        "nbf",
        "jti",
        "client_id",
        "scope",
        "organization_id",
        "act",
    ]
    assert schema["properties"]["sub"] == {"type": "string", "minLength": 1, "pattern": "\\S", "title": "Sub"}
    assert app.openapi()["components"]["schemas"]["Actor"]["required"] == ["sub"]


def test_a_route_may_return_the_claims_of_a_subclass_as_plain_ones() -> None:
    app = FastAPI()
    claims = parse_claims(dump(build_claims_set(tenant="acme")), model=TenantClaims, required=())

    @app.get("/me")
    async def read_me() -> TokenClaims:
        return claims

    assert TestClient(app).get("/me").json()["sub"] == "iuvey8ee7hls"


# Subclasses.


def test_a_subclass_types_a_tenant_s_claims() -> None:
    claims = parse_claims(
        dump(build_claims_set(tenant="acme", roles=["a", "b"], plan="pro")), model=TenantClaims, required=REQUIRED
    )

    assert type(claims) is TenantClaims
    assert (claims.tenant, claims.roles, claims.sub) == ("acme", ["a", "b"], "iuvey8ee7hls")
    assert claims.model_extra == {"plan": "pro"}
    assert claims.scopes == {"read:user", "write:user"}


@pytest.mark.parametrize(
    ("changes", "claim", "expected", "found"),
    [
        ({}, "tenant", "missing", "nothing"),
        ({"tenant": 1}, "tenant", "string_type", "1"),
        ({"tenant": "acme", "roles": "admin"}, "roles", "list_type", "'admin'"),
        ({"tenant": "acme", "roles": [1]}, "roles", "string_type", "1"),
    ],
)
def test_a_subclass_s_claims_are_checked_as_strictly(
    changes: Mapping[str, object], claim: str, expected: str, found: str
) -> None:
    with pytest.raises(ClaimError) as caught:
        parse_claims(dump(build_claims_set(**changes)), model=TenantClaims, required=REQUIRED)

    assert (caught.value.claim, caught.value.expected, caught.value.found) == (claim, expected, found)


class Choosy(TokenClaims):
    """A model with an additional condition."""

    @model_validator(mode="after")
    def _check_plan(self) -> Self:
        if self.plan_of(self) != "pro":
            raise ValueError("another plan")
        return self

    @staticmethod
    def plan_of(claims: TokenClaims) -> object:
        return (claims.model_extra or {})["plan"]


def test_a_condition_of_the_whole_model_names_no_claim() -> None:
    with pytest.raises(ClaimError) as unmet:
        parse_claims(dump(build_claims_set(plan="free")), model=Choosy, required=())
    with pytest.raises(ClaimError) as failed:
        parse_claims(dump(build_claims_set()), model=Choosy, required=())

    assert str(unmet.value) == "invalid_token: claims, expected claims that Choosy accepts, found value_error"
    assert str(failed.value) == (
        "invalid_token: claims, expected claims that Choosy accepts, found KeyError in Choosy._check_plan"
    )


JSON_VALUES: Final = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=5),
    lambda values: st.lists(values, max_size=3) | st.dictionaries(st.text(max_size=3), values, max_size=3),
    max_leaves=6,
)


@settings(max_examples=200, deadline=None)
@given(
    st.dictionaries(
        st.sampled_from(["iss", "sub", "aud", "exp", "iat", "nbf", "scope", "act", "organization_id", "jti", "x"]),
        JSON_VALUES,
        max_size=4,
    )
)
def test_any_changes_of_the_claims_end_in_claims_or_a_refusal(changes: dict[str, object]) -> None:
    payload = dump(build_claims_set(**changes))
    claims = outcome(payload)
    if isinstance(claims, RefusalError):
        assert claims.reason in {"claims", "malformed"}
        assert claims.claim in {*changes, None}
        return
    members = json.loads(payload)
    assert claims.sub == members["sub"] != ""
    assert claims.exp == members["exp"]
    assert type(claims.exp) in {int, float}
    assert json.loads(claims.model_dump_json(exclude_unset=True)).keys() >= members.keys()


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=60) | st.text(alphabet='{}[]":,subexp019. ', max_size=40).map(str.encode))
def test_any_bytes_end_in_a_refusal(payload: bytes) -> None:
    with pytest.raises(RefusalError) as caught:
        parse_claims(payload, model=TokenClaims, required=REQUIRED)

    assert caught.value.reason in {"claims", "malformed"}


@pytest.mark.parametrize("name", ["client_id", "jti"])
def test_a_required_claim_that_is_empty_is_refused_as_a_missing_one(name: str) -> None:
    with pytest.raises(ClaimError) as refused:
        parse(**{name: ""})

    assert (refused.value.claim, refused.value.found) == (name, "nothing")


class _Closed(TokenClaims):
    """A model that forbids unknown claims."""

    model_config: ClassVar[ConfigDict] = ConfigDict(extra="forbid")


def test_a_claim_that_the_model_does_not_know_is_quoted_for_the_log() -> None:
    with pytest.raises(ClaimError) as caught:
        parse_claims(dump(build_claims_set(**{"a\nforged line": 1})), model=_Closed, required=())

    assert caught.value.claim == r"'a\nforged line'"


CLAIM_NAMES = st.sampled_from(
    [*TokenClaims.model_fields, "cnf", "may_act", "auth_time", "email", "roles", "", " key", "model_config"]
)
CLAIM_VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(max_size=4),
    st.sampled_from(["urn:logto:organization:acme", "urn:logto:resource:organizations", "\x1c", "\x85", "\u2003"]),
    st.lists(st.text(max_size=2), max_size=2),
    st.dictionaries(st.text(max_size=2), st.integers(), max_size=2),
)


class Validated(TokenClaims):
    """Always built by Pydantic, like a model of an application."""


def attempt(payload: JsonObject, model: type[TokenClaims]) -> TokenClaims | tuple[str | None, ...]:
    try:
        return build_claims(payload, model=model)
    except ClaimError as error:
        return (error.message, error.claim, error.expected, error.found)


@given(members=st.dictionaries(CLAIM_NAMES, CLAIM_VALUES), is_whole=st.booleans())
@example(members={}, is_whole=True)
@example(members={"email": "a", "scope": "a"}, is_whole=True)
@example(members={f"{name}XX": "a" for name in TokenClaims.model_fields}, is_whole=True)
@example(members={f"{name}XX": 1 for name in TokenClaims.model_fields}, is_whole=True)
def test_the_usual_claims_are_made_as_the_model_makes_them(members: dict[str, Any], *, is_whole: bool) -> None:
    usual: JsonObject = {"iss": "https://a.example", "sub": "alice", "aud": "https://api.example", "exp": 1}
    payload: JsonObject = {**(usual if is_whole else {}), **members}

    plain, validated = (attempt(payload, model) for model in (TokenClaims, Validated))

    if not isinstance(plain, TokenClaims) or not isinstance(validated, TokenClaims):
        assert plain == validated
        return
    assert (list(vars(plain)), vars(plain)) == (list(vars(validated)), vars(validated))
    assert list(map(type, vars(plain).values())) == list(map(type, vars(validated).values()))
    assert plain.model_fields_set == validated.model_fields_set
    assert (plain.model_extra, type(plain.model_extra)) == (validated.model_extra, type(validated.model_extra))
    assert plain.model_dump_json() == validated.model_dump_json()
