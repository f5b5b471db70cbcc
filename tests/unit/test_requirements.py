"""Requirements in a module with postponed annotations, which break many dependencies."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Annotated, Any
from unittest.mock import ANY
from uuid import UUID

import pytest
from fastapi import Depends, FastAPI, Security
from starlette.testclient import TestClient

from fastapi_logto import LogtoAuth, LogtoSettings, OrganizationSource, Requirement, SettingsError, TokenClaims
from fastapi_logto.description.conditions import describe_conditions
from fastapi_logto.errors import AudienceError, InsufficientScopeError, OrganizationMismatchError
from fastapi_logto.testing import LocalIssuer, bearer
from tests.unit.apps import detail

issuer = LocalIssuer()
logto: LogtoAuth = issuer.auth()
app = FastAPI()


@app.get("/all")
async def read_all(claims: Annotated[TokenClaims, Depends(logto.require_scopes("a", "b"))]) -> str:
    return claims.user_id


@app.get("/any")
async def read_any(claims: Annotated[TokenClaims, Depends(logto.require_any_scope("a", "b"))]) -> str:
    return claims.user_id


def test_requirements_work_with_postponed_annotations() -> None:
    client = TestClient(app)

    assert client.get("/all", headers=bearer(issuer.access_token(subject="me", scopes=["a", "b"]))).json() == "me"
    assert detail(client, "/all", bearer(issuer.access_token(scopes=["a"]))) == (403, "insufficient_scope", "scope")
    assert client.get("/any", headers=bearer(issuer.access_token(subject="me", scopes=["b"]))).json() == "me"
    assert detail(client, "/any", bearer(issuer.access_token(scopes=["c"]))) == (403, "insufficient_scope", "scope")


def is_mine(claims: TokenClaims) -> bool:
    """A subject that is me."""
    return claims.sub == "me"


def is_somebody(claims: TokenClaims) -> bool:
    return claims.sub != ""


async def always(claims: TokenClaims) -> bool:
    return claims.sub != ""


class AsyncCheck:
    """A callable whose call is a coroutine."""

    async def __call__(self, claims: TokenClaims) -> bool:
        return claims.sub != ""


DIFFERENT: list[Requirement] = [
    logto.require_scopes("a"),
    logto.require_scopes("a", "b"),
    logto.require_any_scope("a"),
    logto.require_organization(),
    logto.require_organization("a"),
    logto.require_organization("a", organization=OrganizationSource.from_path("other")),
    logto.require_organization("a", organization=OrganizationSource.from_header("organization_id")),
    logto.require_organization("a", organization=OrganizationSource.from_dependency(is_mine)),
    logto.require_organization("a", organization=OrganizationSource.from_token()),
    logto.require_user(),
    logto.require_user("a"),
    logto.require_machine(),
    logto.require(clients=["a"]),
    logto.require(clients=["a", "b"]),
    logto.require(actor=True),
    logto.require(actor=["a"]),
    logto.require(actor=False),
    logto.require(claims=is_mine),
    logto.require(claims=is_mine, description="something else"),
    logto.require(claims=is_somebody),
    issuer.auth().require_scopes("a"),
    logto.for_audience("https://billing.example.test").require_scopes("a"),
]


def test_requirements_that_require_something_else_are_not_equal() -> None:
    # FastAPI calls only one of two equal dependencies, so a stricter one must never equal a laxer one.
    assert len(set(DIFFERENT)) == len(DIFFERENT)
    assert all(a != b for a in DIFFERENT for b in DIFFERENT if a is not b)
    assert DIFFERENT[0].__eq__("another type") is NotImplemented


def test_requirements_that_require_the_same_are_equal_however_they_are_written() -> None:
    pairs: list[tuple[Requirement, Requirement]] = [
        (logto.require_scopes("a", "b"), logto.require(scopes=["b", "a", "a"])),
        (logto.require_any_scope("a", "b"), logto.require(any_scope={"a", "b"})),
        (logto.require_organization("a"), logto.require(scopes=["a"], organization=OrganizationSource.from_path())),
        (
            logto.require(organization=OrganizationSource.from_header("X-Org")),
            logto.require(organization=OrganizationSource.from_header("x-org")),
        ),
        (logto.require_user(), logto.require(caller="user")),
        (logto.require_machine("a"), logto.require(caller="machine", scopes=["a"])),
        (logto.require(clients=["a", "b"]), logto.require(clients=("b", "a"))),
        (logto.require(actor=["a", "b"]), logto.require(actor=["b", "a"])),
        (logto.require(actor=True), logto.require(actor=True)),
        (logto.require(actor=False), logto.require(actor=False)),
        (logto.require(claims=is_mine), logto.require(claims=is_mine, description="A subject that is me.")),
    ]

    for one, other in pairs:
        assert one == other
        assert hash(one) == hash(other)


@pytest.mark.parametrize(
    "asked",
    [
        {},
        {"scopes": []},
        {"any_scope": ()},
        {"clients": []},
        {"actor": []},
        {"clients": [""]},
        {"clients": ["a", None]},
        {"scopes": ["a"], "clients": []},
        {"caller": "admin"},
        {"claims": always},
        {"claims": AsyncCheck()},
        {"description": "a plan"},
        {"scopes": ["a"], "description": "a plan"},
        {"claims": "admin"},
        {"scopes": "a b"},
    ],
)
def test_a_requirement_that_can_not_be_intended_is_refused_at_its_declaration(asked: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="expected"):
        logto.require(**asked)


@pytest.mark.parametrize(
    ("condition", "what"),
    [("scopes", "scope"), ("any_scope", "scope"), ("clients", "client id"), ("actor", "subject")],
)
def test_the_error_of_an_empty_or_wrong_condition_says_what_is_expected(condition: str, what: str) -> None:
    nothing: dict[str, Any] = {condition: []}
    two: dict[str, Any] = {condition: ["a b"]}

    with pytest.raises(ValueError, match=f"^expected at least one {what}, found none; to accept any valid token, use "):
        logto.require(**nothing)
    with pytest.raises(ValueError, match=f"^expected one {what} without spaces, found 'a b'; pass each one separately"):
        logto.require(**two)


@pytest.mark.parametrize("name", ["", " a", "a ", "\u043e", 7, None])
def test_a_source_of_the_organization_with_an_invalid_name_is_refused(name: Any) -> None:
    with pytest.raises(ValueError, match="expected"):
        OrganizationSource.from_path(name)
    with pytest.raises(ValueError, match="expected"):
        OrganizationSource.from_header(name)


def test_a_source_of_the_organization_has_a_name_only_where_the_request_has_one() -> None:
    sources = [
        OrganizationSource.from_path(),
        OrganizationSource.from_header("X-Org"),
        OrganizationSource.from_dependency(str),
        OrganizationSource.from_token(),
    ]

    assert [source.name for source in sources] == ["organization_id", "x-org", "", ""]


def test_a_single_text_counts_as_a_list_of_one() -> None:
    assert logto.require(scopes="abc") == logto.require_scopes("abc")


def test_a_requirement_can_not_be_subclassed_because_it_could_equal_a_laxer_one() -> None:
    with pytest.raises(TypeError, match="final"):
        type("Stricter", (Requirement,), {})


def test_a_requirement_says_what_it_requires() -> None:
    said = {repr(requirement): describe_conditions(requirement) for requirement in DIFFERENT[2:19]}

    assert said["Requirement(any_scope=('a',))"] == ["one of the scopes `a`"]
    assert said["Requirement(caller='user')"] == ["a user as the caller"]
    assert said["Requirement(actor=False)"] == ["a token without an actor"]
    assert said["Requirement(actor=True)"] == ["an actor who acts on behalf of a user"]
    # The accepted client ids are not in the text.
    assert said["Requirement(clients=('a', 'b'))"] == ["a token that was issued to an allowed application"]
    assert said["Requirement(actor=('a',))"] == ["an allowed actor who acts on behalf of a user"]
    assert [describe_conditions(requirement) for requirement in DIFFERENT[4:9]] == [
        ["a token for the organization in the path, `{organization_id}`"],
        ["a token for the organization in the path, `{other}`"],
        ["a token for the organization in the header `organization_id`"],
        ["a token for the organization of the requested data"],
        ["a token for any organization"],
    ]
    assert describe_conditions(logto.require(claims=is_mine)) == ["A subject that is me."]
    assert describe_conditions(logto.require(claims=is_somebody)) == ["claims that the function `is_somebody` accepts"]
    assert describe_conditions(logto.require(claims=is_mine, description="me")) == ["me"]
    assert logto.require(claims=is_mine).description == "A subject that is me."
    assert logto.require_scopes("a").description == ""


def refuse(requirement: Requirement, token: str, path: str = "/", **options: Any) -> tuple[int, str, str] | None:
    """Return the refusal at a route with this requirement, or `None` for a 200."""
    one = FastAPI()

    @one.get("/", dependencies=[Depends(requirement)])
    @one.get("/of/{organization_id}", dependencies=[Depends(requirement)])
    async def read() -> bool:
        return True

    answer = TestClient(one).get(path, headers=[*bearer(token).items(), *options.get("headers", ())])
    if answer.status_code == 200:
        return None
    found = answer.json()["detail"]
    return answer.status_code, found["code"], found["message"]


def codes(requirement: Requirement, token: str, path: str = "/", **options: Any) -> tuple[int, str] | None:
    """Return status and code of the refusal, or `None` for a 200."""
    refusal = refuse(requirement, token, path, **options)
    return None if refusal is None else refusal[:2]


def sneak(claims: TokenClaims) -> Any:
    """Return a coroutine, which is always true in an `if`."""
    return always(claims)


PREDICATES: dict[str, Callable[[Any], Any]] = {
    "no such attribute": lambda claims: claims.nothing == 1,
    "no such claim": lambda claims: claims.model_extra["nothing"],
    "one": lambda _claims: 1,
    "a text": lambda _claims: "yes",
    "nothing": lambda _claims: None,
    "a coroutine": sneak,
}


@pytest.mark.parametrize("name", PREDICATES)
@pytest.mark.filterwarnings("ignore:coroutine .* was never awaited")
def test_only_true_accepts_the_caller(name: str) -> None:
    refusal = refuse(logto.require(claims=PREDICATES[name], description="a plan"), issuer.access_token())

    assert refusal == (403, "claims_not_allowed", "The claims of the token do not meet a condition of this API: a plan")


@pytest.mark.parametrize(
    ("headers", "code", "details"),
    [
        ([], "organization_required", "found no header"),
        ([("X-Org", "")], "organization_required", "found no header"),
        ([("X-Org", "A"), ("X-Org", "A")], "organization_mismatch", "expected one header, found 2 headers 'x-org'"),
        ([("X-Org", "A"), ("x-org", "B")], "organization_mismatch", "expected one header, found 2 headers 'x-org'"),
        ([("X-Org", "a")], "organization_mismatch", "claim organization_id, expected 'a', found 'A'"),
        ([("X-Org", "A,A")], "organization_mismatch", "claim organization_id, expected 'A,A', found 'A'"),
        ([("X-Org", "A")], None, ""),
    ],
)
def test_one_header_names_one_organization(
    headers: list[tuple[str, str]], code: str | None, details: str, caplog: pytest.LogCaptureFixture
) -> None:
    requirement = logto.require_organization(organization=OrganizationSource.from_header("X-Org"))

    with caplog.at_level("DEBUG", "fastapi_logto"):
        found = codes(requirement, issuer.organization_token("A"), headers=headers)

    assert found == (None if code is None else (403, code))
    assert caplog.text.rstrip().endswith(details)
    assert ("refused" in caplog.text) == (code is not None)


def test_a_403_for_an_organization_names_the_scopes_of_the_requirement() -> None:
    app = FastAPI()
    requirement = logto.require_organization("read:member", "write:member")
    app.get("/of/{organization_id}", dependencies=[Depends(requirement)])(lambda: None)

    response = TestClient(app).get("/of/B", headers=bearer(issuer.organization_token("A")))

    assert response.status_code == 403
    assert 'scope="read:member write:member"' in response.headers["www-authenticate"]


@pytest.mark.parametrize(
    ("path", "is_admitted"), [("/of/A", True), ("/of/a", False), ("/of/A%20", False), ("/of/%41", True)]
)
def test_the_path_names_the_organization_exactly(path: str, *, is_admitted: bool) -> None:
    found = codes(logto.require_organization(), issuer.organization_token("A"), path=path)

    assert found == (None if is_admitted else (403, "organization_mismatch"))


def test_a_path_without_the_organization_accepts_nobody() -> None:
    with pytest.raises(SettingsError, match=r"\{organization_id\}"):
        refuse(logto.require_organization(), issuer.organization_token("A"))


def test_a_dependency_that_finds_no_organization_refuses_and_is_not_called_for_an_invalid_token() -> None:
    asked: list[str] = []

    def find(number: int) -> str | None:
        asked.append(str(number))
        return None

    requirement = logto.require_organization(organization=OrganizationSource.from_dependency(find))

    assert codes(requirement, issuer.organization_token("A"), "/?number=1") == (403, "organization_mismatch")
    assert codes(requirement, issuer.bad_token("forged"), "/?number=2") == (401, "invalid_token")
    assert codes(requirement, issuer.access_token(), "/?number=3") == (403, "organization_required")
    # No caller gets a 422, which shows what the dependency reads, before the token is known to be valid.
    assert codes(requirement, issuer.bad_token("forged"), "/?number=x") == (401, "invalid_token")
    assert asked == ["1"]


class Liar(str):
    """A text that claims to be equal to everything."""

    __slots__ = ()

    def __eq__(self, other: object) -> bool:
        return True

    def __ne__(self, other: object) -> bool:
        return False

    __hash__ = str.__hash__


class Nameless:
    """Also equal to everything, and its `repr` raises."""

    def __eq__(self, other: object) -> bool:
        return True

    def __ne__(self, other: object) -> bool:
        return False

    def __hash__(self) -> int:
        return 0

    def __repr__(self) -> str:
        raise RuntimeError("detached")


@pytest.mark.parametrize("found", [Liar("B"), Nameless(), ANY, b"A", ["A"], True, UUID(int=1), ""], ids=type)
def test_only_a_text_names_an_organization(found: object) -> None:
    requirement = logto.require_organization(organization=OrganizationSource.from_dependency(lambda: found))

    assert codes(requirement, issuer.organization_token("A")) == (403, "organization_mismatch")


def test_an_instance_of_a_subclass_of_str_counts_as_its_text() -> None:
    requirement = logto.require_organization(organization=OrganizationSource.from_dependency(lambda: Liar("A")))

    assert codes(requirement, issuer.organization_token("A")) is None


def test_what_a_predicate_returns_is_not_logged(caplog: pytest.LogCaptureFixture) -> None:
    def read_email(claims: Any) -> Any:
        return claims.email

    def give_something(_claims: Any) -> Any:
        return Nameless()

    with caplog.at_level("DEBUG"):
        for check in (read_email, give_something):
            requirement = logto.require(claims=check, description="a plan")
            token = issuer.access_token(claims={"email": "alice@secret.example"})
            assert codes(requirement, token) == (403, "claims_not_allowed")
    assert "found str" in caplog.text
    assert "found Nameless" in caplog.text
    assert "alice@secret" not in caplog.text


def test_a_requirement_can_not_be_changed() -> None:
    requirement = logto.require_scopes("admin")

    with pytest.raises(AttributeError, match="can't be changed"):
        requirement.scopes = ("read:user",)
    assert requirement.scopes == ("admin",)


def test_a_user_without_a_client_id_can_not_be_distinguished_from_a_machine() -> None:
    lax = issuer.auth(required_claims=["jti"])

    refusal = refuse(lax.require_user(), issuer.access_token(claims={"client_id": None}))

    assert refusal is not None
    assert refusal[1] == "user_required"


def test_scopes_above_a_requirement_are_enforced_too() -> None:
    one = FastAPI()

    @one.get(
        "/",
        dependencies=[Security(logto.require_organization(organization=OrganizationSource.from_token()), scopes=["b"])],
    )
    async def read() -> bool:
        return True

    client = TestClient(one)

    assert client.get("/", headers=bearer(issuer.organization_token("A", scopes=["b"]))).status_code == 200
    assert detail(client, "/", bearer(issuer.organization_token("A"))) == (403, "insufficient_scope", "scope")


@pytest.mark.parametrize("granted", [[], ["a"], ["b"]])
def test_the_challenge_names_the_scopes_above_a_requirement_with_its_own(granted: list[str]) -> None:
    one = FastAPI()

    @one.get("/", dependencies=[Security(logto.require_scopes("a"), scopes=["b"])])
    async def read() -> bool:
        return True

    client = TestClient(one)
    refused = client.get("/", headers=bearer(issuer.access_token(scopes=granted)))

    assert client.get("/", headers=bearer(issuer.access_token(scopes=["a", "b"]))).status_code == 200
    assert refused.status_code == 403
    assert 'scope="b a"' in refused.headers["WWW-Authenticate"]


def test_an_override_of_every_scheme_leaves_the_checks_of_requirements_on() -> None:
    one = FastAPI()

    @one.get("/of/{organization_id}", dependencies=[Depends(logto.require_organization("a"))])
    async def read() -> bool:
        return True

    @one.get("/machine", dependencies=[Depends(logto.require_machine())])
    async def run() -> bool:
        return True

    claims = asyncio.run(logto.verify(issuer.access_token(organization_id="A", scopes=["a"])))
    for scheme in logto.schemes:
        one.dependency_overrides[scheme] = lambda: claims
    client = TestClient(one)

    assert client.get("/of/A").status_code == 200
    assert detail(client, "/of/B") == (403, "organization_mismatch", "organization_mismatch")
    assert detail(client, "/machine") == (403, "machine_required", "machine_required")


def test_requirements_declare_no_parameters_that_would_cause_422_before_401() -> None:
    for path in ("/all", "/any"):
        operation = app.openapi()["paths"][path]["get"]
        assert "parameters" not in operation
        assert "requestBody" not in operation


async def test_claims_are_checked_without_the_token() -> None:
    claims = await logto.verify(issuer.access_token(organization_id="A", scopes=["a"]))
    member = logto.require_organization("a")

    assert member.check(claims, organization_id="A") is claims
    assert logto.require_scopes("a").check(claims) is claims
    with pytest.raises(OrganizationMismatchError):
        member.check(claims, organization_id="B")
    with pytest.raises(OrganizationMismatchError):
        member.check(claims)
    with pytest.raises(InsufficientScopeError) as refused:
        logto.require_scopes("a", "b").check(claims)
    assert (refused.value.missing, refused.value.scopes) == (("b",), ("a", "b"))


async def test_the_claims_of_an_organization_token_pass_no_requirement_without_an_organization() -> None:
    claims = await logto.require_organization().verify(
        issuer.organization_token("A", scopes=["a"]), organization_id="A"
    )

    with pytest.raises(AudienceError) as caught:
        logto.require_scopes("a").check(claims)

    assert str(caught.value) == "invalid_token: audience, claim aud, expected an API, found an organization"


async def test_an_organization_that_would_not_be_compared_is_an_error() -> None:
    claims = await logto.verify(issuer.access_token(organization_id="A", scopes=["a"]))

    for requirement in (
        logto.require_scopes("a"),
        logto.require_organization(organization=OrganizationSource.from_token()),
    ):
        with pytest.raises(ValueError, match="expected none, because this requirement does not check it, found one"):
            requirement.check(claims, organization_id="A")


def test_an_argument_that_is_not_claims_raises_a_type_error() -> None:
    nobody: Any = None
    with pytest.raises(TypeError, match="expected the claims of the token, found NoneType"):
        logto.require_scopes("a").check(nobody)


async def test_an_organization_of_another_tenant_is_refused_without_a_request_too() -> None:
    other = LocalIssuer(endpoint="https://other.example")
    auth = LogtoAuth(settings=[LogtoSettings(endpoint=one.endpoint, audience=one.audience) for one in (issuer, other)])
    source = OrganizationSource.from_path(issuer=f"{other.endpoint}/oidc")
    claims = await logto.verify(issuer.access_token(organization_id="A"))
    assert auth.settings.issuer == claims.iss

    member = auth.require_organization(organization=source)
    with pytest.raises(OrganizationMismatchError, match="claim iss"):
        member.check(claims, organization_id="A")
