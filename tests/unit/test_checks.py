"""The checks of verified claims, and the messages that explain a refusal."""

from collections.abc import Callable
from typing import cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastapi_logto import TokenClaims
from fastapi_logto.errors import (
    AudienceError,
    ExpiredTokenError,
    ImmatureTokenError,
    InsufficientScopeError,
    IssuerError,
    RefusalError,
)
from fastapi_logto.strict_json import JsonObject
from fastapi_logto.verification.checks import (
    MAX_ISSUED_AHEAD_SECONDS,
    check_actor,
    check_any_scope,
    check_caller,
    check_claims,
    check_client,
    check_has_organization,
    check_no_actor,
    check_organization,
    check_organization_issuer,
    check_predicate,
    check_scopes,
)
from fastapi_logto.verification.claims import build_claims, parse_claims
from tests.vectors.forge import ABSENT, API, ISSUER_URL, NOW, build_claims_set, dump
from tests.vectors.payloads import PAYLOAD_ROWS
from tests.vectors.rows import PayloadRow

CHECKED_HERE = [
    row
    for row in PAYLOAD_ROWS
    if row.refused is None or row.refused.reason in {"issuer", "audience", "expired", "not_yet_valid"}
]
ADVICE = "; in Logto, assign a role with this permission to the user or machine, and request it in the client"


def make(**changes: object) -> TokenClaims:
    """Return claims like those of a verified token."""
    return parse_claims(dump(build_claims_set(**changes)), model=TokenClaims, required=())


def check(claims: TokenClaims, *, now: float = NOW, leeway_seconds: float = 10) -> None:
    check_claims(claims, issuers={ISSUER_URL}, audiences={API}, now=now, leeway_seconds=leeway_seconds)


@pytest.mark.parametrize("row", CHECKED_HERE, ids=lambda row: row.id)
def test_each_row_of_valid_shape_has_its_outcome(row: PayloadRow) -> None:
    claims = parse_claims(row.payload, model=TokenClaims, required=())
    leeway_seconds = row.settings.get("leeway_seconds", 10)

    if row.refused is None:
        check(claims, leeway_seconds=leeway_seconds)
        return
    with pytest.raises(RefusalError) as caught:
        check(claims, leeway_seconds=leeway_seconds)

    assert row.refused.fits(caught.value), repr(caught.value)
    assert caught.value.claim == row.claim


def test_the_error_of_a_wrong_issuer_names_the_accepted_ones() -> None:
    with pytest.raises(IssuerError) as caught:
        check_claims(
            make(iss="https://evil.test/oidc"),
            issuers={"https://b.test/oidc", "https://a.test/oidc"},
            audiences={API},
            now=NOW,
            leeway_seconds=10,
        )

    assert caught.value.message == (
        "This API accepts tokens of the issuer https://a.test/oidc or https://b.test/oidc; if the client uses "
        "another domain of the same tenant, add that issuer to LOGTO_ISSUERS of the API"
    )
    assert str(caught.value) == (
        "invalid_token: issuer, claim iss, expected 'https://a.test/oidc or https://b.test/oidc', "
        "found 'https://evil.test/oidc'"
    )


def test_an_opaque_token_needs_no_audience() -> None:
    check_claims(make(aud="https://other.test"), issuers={ISSUER_URL}, audiences=None, now=NOW, leeway_seconds=10)


def test_no_audience_is_accepted_where_the_tenant_has_none() -> None:
    with pytest.raises(AudienceError) as caught:
        check_claims(make(), issuers={ISSUER_URL}, audiences=frozenset(), now=NOW, leeway_seconds=10)

    assert caught.value.message == "This part of the API does not accept tokens of the tenant that issued this one"


FIX = "request the token with resource=https://api.example.test"


@pytest.mark.parametrize(
    ("aud", "message"),
    [
        ("https://other.test", f"The token was issued for another API; {FIX}"),
        ("", f"The token was issued for another API; {FIX}"),
        (f"{API}/", f"The audience differs by a trailing slash, which makes it a different resource; {FIX}"),
        (f"{API}//", f"The audience differs by a trailing slash, which makes it a different resource; {FIX}"),
        (
            ["https://other.test", f"{API}/"],
            f"The audience differs by a trailing slash, which makes it a different resource; {FIX}",
        ),
        (
            "https://default.logto.app/api",
            f"The token was issued for Logto's Management API, not for this API; {FIX}",
        ),
        (
            ["https://tenant.logto.app/api"],
            f"The token was issued for Logto's Management API, not for this API; {FIX}",
        ),
        (
            "urn:logto:organization:aaajcxbl1cz3",
            f"This is an organization token, which this route does not accept; {FIX}",
        ),
        (
            ["https://other.test", "https://tenant.logto.app/api"],
            f"The token was issued for Logto's Management API, not for this API; {FIX}",
        ),
        (
            ["https://other.test", "urn:logto:organization:a"],
            f"This is an organization token, which this route does not accept; {FIX}",
        ),
        # Only a trailing slash is ignored in the comparison.
        (f"{API}X", f"The token was issued for another API; {FIX}"),
        ("urn:logto:resource:organizations", f"This is an organization token, which this route does not accept; {FIX}"),
    ],
)
def test_the_error_of_a_wrong_audience_names_the_resource_to_request(aud: object, message: str) -> None:
    with pytest.raises(AudienceError) as caught:
        check(make(aud=aud))

    assert caught.value.message == message
    assert caught.value.expected == "'https://api.example.test'"


def test_a_missing_slash_is_reported_too() -> None:
    with pytest.raises(AudienceError) as caught:
        check_claims(make(), issuers={ISSUER_URL}, audiences={f"{API}/"}, now=NOW, leeway_seconds=0)
    with pytest.raises(AudienceError) as other:
        check_claims(make(), issuers={ISSUER_URL}, audiences={f"{API}X"}, now=NOW, leeway_seconds=0)

    assert caught.value.message == (
        "The audience differs by a trailing slash, which makes it a different resource; "
        "request the token with resource=https://api.example.test/"
    )
    assert other.value.message == f"The token was issued for another API; {FIX}X"


def check_where_organizations_are_accepted(claims: TokenClaims) -> None:
    check_claims(claims, issuers={ISSUER_URL}, audiences={API}, accepts_organizations=True, now=NOW, leeway_seconds=0)


@pytest.mark.parametrize(
    "changes",
    [
        {"aud": "urn:logto:organization:org_1"},
        {"aud": "urn:logto:resource:organizations", "organization_id": "org_1"},
    ],
)
def test_an_organization_token_is_accepted_only_where_organizations_are(changes: dict[str, object]) -> None:
    claims = make(**changes)

    check_where_organizations_are_accepted(claims)
    with pytest.raises(AudienceError):
        check(claims)


@pytest.mark.parametrize(
    "changes",
    [
        # A token for an organization's users, but for another API.
        {"aud": "https://other.test", "organization_id": "org_1"},
        {"aud": ["urn:logto:resource:organizations", "https://other.test"], "organization_id": "org_1"},
        # The audience of organization tokens, without an organization.
        {"aud": "urn:logto:resource:organizations"},
        {"aud": "urn:logto:resource:organizations", "organization_id": ""},
        {"aud": "urn:logto:organization:"},
    ],
)
def test_where_organization_tokens_are_accepted_other_audiences_are_not(changes: dict[str, object]) -> None:
    with pytest.raises(AudienceError):
        check_where_organizations_are_accepted(make(**changes))


def test_the_log_line_of_a_wrong_audience_quotes_the_audience() -> None:
    with pytest.raises(AudienceError) as caught:
        check_claims(make(aud=["x", "y"]), issuers={ISSUER_URL}, audiences={"a", "b"}, now=NOW, leeway_seconds=0)

    assert str(caught.value) == "invalid_token: audience, claim aud, expected 'a or b', found ('x', 'y')"


def test_the_issuer_is_checked_before_the_audience_and_the_audience_before_the_times() -> None:
    with pytest.raises(IssuerError):
        check(make(iss="x", aud="x", exp=0, nbf=NOW * 2, iat=NOW * 2))
    with pytest.raises(AudienceError):
        check(make(aud="x", exp=0, nbf=NOW * 2, iat=NOW * 2))
    with pytest.raises(ExpiredTokenError):
        check(make(exp=0, nbf=NOW * 2, iat=NOW * 2))
    with pytest.raises(ImmatureTokenError) as caught:
        check(make(nbf=NOW * 2, iat=NOW * 2))
    assert caught.value.claim == "nbf"


@pytest.mark.parametrize(
    ("exp", "now", "leeway_seconds"),
    [
        (1000, 1009.999, 10),
        (1000, 999.999, 0),
        (1000, 1059, 60),
        (10**400, 1e12, 0),
        (10**400, 1e12, 10.5),
        (1000.5, 1000.25, 0),
    ],
)
def test_a_token_is_valid_until_the_leeway_is_over(exp: float, now: float, leeway_seconds: float) -> None:
    check(make(exp=exp, iat=0), now=now, leeway_seconds=leeway_seconds)


@pytest.mark.parametrize(
    ("exp", "now", "leeway_seconds"),
    [(1000, 1010, 10), (1000, 1000, 0), (1000, 1060, 60), (-(10**400), 0, 60), (1000.5, 1000.5, 0)],
)
def test_a_token_has_expired_at_the_exact_second(exp: float, now: float, leeway_seconds: float) -> None:
    with pytest.raises(ExpiredTokenError) as caught:
        check(make(exp=exp, iat=0), now=now, leeway_seconds=leeway_seconds)

    assert caught.value.claim == "exp"
    assert caught.value.expected == f"a time after {now:.0f}"


def test_times_in_a_token_are_quoted_and_cut() -> None:
    with pytest.raises(ExpiredTokenError) as expired:
        check(make(exp=NOW - 10))
    with pytest.raises(ImmatureTokenError) as early:
        check(make(nbf=10**400))
    with pytest.raises(ImmatureTokenError) as issued_ahead:
        check(make(iat=NOW + 61))

    assert str(expired.value) == (
        "invalid_token: expired, claim exp, expected a time after 1795452000, found 1795451990"
    )
    assert str(early.value) == (
        f"invalid_token: not_yet_valid, claim nbf, expected a time before 1795452000, found 1{'0' * 79}..."
    )
    assert str(issued_ahead.value) == (
        "invalid_token: not_yet_valid, claim iat, expected a time before 1795452000, found 1795452061"
    )
    assert MAX_ISSUED_AHEAD_SECONDS == 60


@settings(max_examples=200, deadline=None)
@given(
    st.integers(-(2**40), 2**40) | st.floats(-1e12, 1e12),
    st.floats(0, 4e9),
    st.sampled_from([0, 0.5, 10, 60]),
)
def test_a_token_is_valid_exactly_while_now_is_before_exp_and_leeway(
    exp: float, now: float, leeway_seconds: float
) -> None:
    claims = make(exp=exp, iat=ABSENT)

    if now - leeway_seconds < exp:
        check(claims, now=now, leeway_seconds=leeway_seconds)
    else:
        with pytest.raises(ExpiredTokenError):
            check(claims, now=now, leeway_seconds=leeway_seconds)


def test_all_of_the_required_scopes_are_needed() -> None:
    claims = make(scope="read:user write:user")

    check_scopes(claims, ())
    check_scopes(claims, ["write:user"])
    check_scopes(claims, ["write:user", "read:user"])
    with pytest.raises(InsufficientScopeError) as caught:
        check_scopes(claims, ["read:user", "delete:user"])

    assert caught.value.message == f"The token lacks the scope delete:user{ADVICE}"
    assert (caught.value.scopes, caught.value.missing) == (("read:user", "delete:user"), ("delete:user",))
    assert (caught.value.claim, caught.value.found) == ("scope", "'read:user write:user'")
    assert (caught.value.code, caught.value.reason, caught.value.status) == ("insufficient_scope", "scope", 403)


def test_several_missing_scopes_are_all_named_in_their_order() -> None:
    with pytest.raises(InsufficientScopeError) as caught:
        check_scopes(make(scope="x"), ["b", "x", "a"])

    assert caught.value.message == f"The token lacks the scopes b, a{ADVICE}"
    assert caught.value.missing == ("b", "a")


@pytest.mark.parametrize(("scope", "found"), [("", "''"), (ABSENT, "None"), ("  ", "'  '")])
def test_the_error_says_that_a_token_has_no_scope(scope: object, found: str) -> None:
    with pytest.raises(InsufficientScopeError) as required:
        check_scopes(make(scope=scope), ["a"])
    with pytest.raises(InsufficientScopeError) as accepted:
        check_any_scope(make(scope=scope), ["a", "b"])

    assert required.value.message == f"The token lacks the scope a and has no scope at all{ADVICE}"
    assert accepted.value.message == f"The token has none of the scopes a, b and has no scope at all{ADVICE}"
    assert (required.value.found, accepted.value.found) == (found, found)


@pytest.mark.parametrize(
    "granted", ["read:users", "read:use", "READ:USER", "read", "read:user\u00a0write:user", "read:user,write:user", "*"]
)
def test_a_scope_that_only_looks_alike_is_another_scope(granted: str) -> None:
    with pytest.raises(InsufficientScopeError):
        check_scopes(make(scope=granted), ["read:user"])
    with pytest.raises(InsufficientScopeError):
        check_any_scope(make(scope=granted), ["read:user"])


def test_one_of_the_accepted_scopes_is_enough() -> None:
    check_any_scope(make(scope="a"), ["a", "b"])
    check_any_scope(make(scope="x b"), ["a", "b"])
    with pytest.raises(InsufficientScopeError) as caught:
        check_any_scope(make(scope="c"), ["a", "b"])

    assert caught.value.message == f"The token has none of the scopes a, b{ADVICE}"
    assert (caught.value.scopes, caught.value.missing) == (("a", "b"), ("a", "b"))


def test_an_empty_list_of_alternative_scopes_is_never_granted() -> None:
    with pytest.raises(InsufficientScopeError):
        check_any_scope(make(scope="a"), ())


@settings(max_examples=100, deadline=None)
@given(st.lists(st.sampled_from("abcd"), max_size=4), st.lists(st.sampled_from("abcd"), min_size=1, max_size=6))
def test_scopes_are_checked_as_sets(granted: list[str], asked: list[str]) -> None:
    claims = make(scope=" ".join(granted))
    outcomes: list[bool] = []
    for check_one in (check_scopes, check_any_scope):
        try:
            check_one(claims, asked)
        except InsufficientScopeError:
            outcomes.append(False)
        else:
            outcomes.append(True)

    assert outcomes == [set(asked) <= set(granted), bool(set(asked) & set(granted))]


@pytest.mark.parametrize("granted", [None, "", " ", "a", "a b", "a  b", " a", "b a c"])
@pytest.mark.parametrize(
    "required",
    [(), ("a",), ("b",), ("a", "b"), ("",), ("a", ""), ("a b",), (" ",), ("a", "b", "c", "", "a"), ("a",) * 5, ("XX",)],
)
def test_scopes_are_checked_as_sets_of_texts(granted: str | None, required: tuple[str, ...]) -> None:
    members: JsonObject = {"iss": "i", "sub": "s", "aud": "a", "exp": 1}
    claims = build_claims(members if granted is None else {**members, "scope": granted}, model=TokenClaims)
    admitted = frozenset(filter(None, (granted or "").split(" "))).issuperset(required)

    if admitted:
        check_scopes(claims, required)
    else:
        with pytest.raises(InsufficientScopeError) as caught:
            check_scopes(claims, required)
        assert caught.value.missing == tuple(scope for scope in required if scope not in claims.scopes)


def test_a_claims_model_that_names_other_scopes_decides_which_are_granted() -> None:
    class Fewer(TokenClaims):
        @property
        def scopes(self) -> frozenset[str]:
            return frozenset({"a"})

    claims = parse_claims(dump(build_claims_set(scope="a b")), model=Fewer, required=())

    check_scopes(claims, ["a"])
    with pytest.raises(InsufficientScopeError):
        check_scopes(claims, ["b"])


USER = make(sub="user_1", client_id="app_1", organization_id="org_1", act={"sub": "agent_1"})
MACHINE = make(sub="app_1", client_id="app_1")


@pytest.mark.parametrize(
    ("refuse", "described"),
    [
        (
            lambda: check_has_organization(MACHINE),
            "organization_required, claim organization_id, expected an organization, found nothing",
        ),
        (
            # Not even if the request names none either.
            lambda: check_organization(MACHINE, None),
            "organization_required, claim organization_id, expected an organization, found nothing",
        ),
        (
            lambda: check_organization(USER, "org_2"),
            "organization_mismatch, claim organization_id, expected 'org_2', found 'org_1'",
        ),
        (
            lambda: check_organization_issuer(USER, {"b", "a"}),
            f"organization_mismatch, claim iss, expected 'a or b', found '{ISSUER_URL}'",
        ),
        (
            lambda: check_caller(USER, "machine"),
            "machine_required, claim sub, expected the client_id, found 'user_1'",
        ),
        (
            lambda: check_caller(MACHINE, "user"),
            "user_required, claim sub, expected a user, not the client_id, found 'app_1'",
        ),
        (
            lambda: check_client(USER, {"b", "a"}),
            "client_not_allowed, claim client_id, expected 'a or b', found 'app_1'",
        ),
        (lambda: check_actor(MACHINE, ()), "actor_required, claim act, expected 'an actor', found None"),
        (
            lambda: check_actor(USER, {"b", "a"}),
            "actor_required, claim act, expected 'a or b', found 'agent_1'",
        ),
        (lambda: check_no_actor(USER), "actor_not_allowed, claim act, expected nobody, found 'agent_1'"),
        (
            lambda: check_predicate(USER, lambda _: False, what="a plan"),
            "claims_not_allowed, expected 'a plan', found False",
        ),
        (
            lambda: check_predicate(USER, lambda _: cast("bool", 1), what="a plan"),
            "claims_not_allowed, expected 'a plan', found int",
        ),
    ],
)
def test_the_log_line_of_a_refusal_names_the_claim_and_the_expected_value(
    refuse: Callable[[], None], described: str
) -> None:
    with pytest.raises(RefusalError) as caught:
        refuse()

    assert str(caught.value).partition(": ")[2] == described


class Counted(str):
    """A scope that counts how often it is compared."""

    __slots__ = ()
    comparisons = 0

    def __eq__(self, other: object) -> bool:
        Counted.comparisons += 1
        return str.__eq__(self, other)

    __hash__ = str.__hash__


@pytest.mark.parametrize("count", [4, 5, 1000])
def test_the_time_for_scopes_does_not_grow_with_the_product_of_granted_and_required_ones(count: int) -> None:
    granted = [f"scope{number}" for number in range(1000)]
    Counted.comparisons = 0

    check_scopes(make(scope=" ".join(granted)), [Counted(scope) for scope in granted[-count:]])

    assert Counted.comparisons <= 4 * len(granted)
