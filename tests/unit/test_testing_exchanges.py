"""Token exchange at the local issuer: each subject token, actor token and target has the result of a real Logto.

Each row names the source of its value: `ran` means a running Logto 1.43; a name in quotes is a captured response in
`tests/data/captured/token-endpoint-errors.json`; a file is a source file of Logto in
`packages/core/src/oidc/grants/token-exchange/`.
"""

import json
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import parse_qsl

import pytest
from starlette.testclient import TestClient

from fastapi_logto.cli.directory_file import read_directory
from fastapi_logto.cli.results import CommandError
from fastapi_logto.testing import Application, Directory, LocalIssuer, ManualClock, User, bearer
from fastapi_logto.testing.issuer.exchanges import ExchangeParties
from fastapi_logto.testing.issuer.forms import Parameters
from fastapi_logto.testing.issuer.refusals import RefusedError
from fastapi_logto.testing.opaque import IssuedTokens, UserToken
from tests.captured import API
from tests.unit.test_testing_sign_in import Browser

if TYPE_CHECKING:
    from httpx2 import Response  # the response of the test client of the newest Starlette

EXCHANGE: Final = "urn:ietf:params:oauth:grant-type:token-exchange"
ACCESS: Final = "urn:ietf:params:oauth:token-type:access_token"
PERSONAL: Final = "urn:logto:token-type:personal_access_token"
IMPERSONATION: Final = "urn:logto:token-type:impersonation_token"
ALICE: Final = "alice0000001"
BOB: Final = "bob000000001"
MANAGEMENT: Final = "https://default.logto.app/api"
DATA: Final = Path(__file__).parents[1] / "data/captured"
CAPTURED: Final[dict[str, dict[str, Any]]] = {
    one["name"]: one["response"]
    for name in ("token-endpoint-errors.json", "management-api.json")
    for one in json.loads((DATA / name).read_text(encoding="utf-8"))["exchanges"]
}
REFUSED: Final = CAPTURED["exchange: garbage subject token"]["body"]


def build_issuer(**arguments: Any) -> LocalIssuer:
    example = Directory.example()
    directory = replace(
        example,
        users=[
            *example.users,
            User(id="eve", username="eve", name="Eve", is_suspended=True, personal_access_tokens=["pat_eve"]),
            User(id="dora", username="dora", name="Dora", personal_access_tokens=["pat_dora", "pat_dora2"]),
        ],
        applications=[*example.applications, Application(client_id="partner", is_third_party=True)],
    )
    return LocalIssuer(directory=directory, **arguments)


ISSUER: Final = build_issuer()


@pytest.fixture
def issuer() -> LocalIssuer:
    return build_issuer()


def exchange(issuer: LocalIssuer, subject_token: str, kind: str = ACCESS, **form: str) -> "Response":
    sent = {"grant_type": EXCHANGE, "subject_token": subject_token, "subject_token_type": kind, **form}
    client = TestClient(issuer.app, base_url=issuer.endpoint)
    return client.post("/oidc/token", data=sent, auth=("local-machine", "local-machine-secret"))


def use_once(issuer: LocalIssuer) -> str:
    token = issuer.subject_token()
    assert exchange(issuer, token).status_code == 200
    return token


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """A subject token, and whether Logto accepts it."""

    id: str
    mint: Callable[[LocalIssuer], str]
    is_accepted: bool
    source: str
    kind: str = ACCESS


SUBJECTS: Final = (
    Subject(
        id="JWT access token",
        mint=lambda issuer: issuer.access_token(),
        is_accepted=True,
        source='"exchange: user JWT by m2m app with allowTokenExchange"',
    ),
    Subject(id="opaque token", mint=lambda issuer: issuer.opaque_token(scopes=[]), is_accepted=True, source="ran"),
    Subject(
        id="organization token",
        mint=lambda issuer: issuer.organization_token("acme"),
        is_accepted=True,
        source="ran",
    ),
    Subject(
        id="subject token for impersonation",
        mint=lambda issuer: issuer.subject_token(),
        is_accepted=True,
        source='"exchange: impersonation subject token, first use"',
    ),
    Subject(
        id="subject token for impersonation, of its old type",
        mint=lambda issuer: issuer.subject_token(),
        kind=IMPERSONATION,
        is_accepted=True,
        source="account.ts",
    ),
    Subject(
        id="used subject token for impersonation",
        mint=use_once,
        is_accepted=False,
        source='"exchange: impersonation subject token, second use"',
    ),
    Subject(
        id="subject token for impersonation as a personal access token",
        mint=lambda issuer: issuer.subject_token(),
        kind=PERSONAL,
        is_accepted=False,
        source="account.ts",
    ),
    Subject(
        id="personal access token",
        mint=lambda issuer: issuer.personal_access_token(),
        kind=PERSONAL,
        is_accepted=True,
        source="ran",
    ),
    Subject(
        id="personal access token as an access token",
        mint=lambda issuer: issuer.personal_access_token(),
        is_accepted=False,
        source="account.ts",
    ),
    Subject(
        id="unknown personal access token",
        mint=lambda _: "pat_doesnotexist",
        kind=PERSONAL,
        is_accepted=False,
        source='"exchange: unknown PAT"',
    ),
    Subject(
        id="ID token",
        mint=lambda issuer: issuer.id_token(),
        is_accepted=False,
        source='"exchange: id_token declared as access token"',
    ),
    Subject(
        id="ID token of its type",
        mint=lambda issuer: issuer.id_token(),
        kind="urn:ietf:params:oauth:token-type:id_token",
        is_accepted=False,
        source='"exchange: id_token"',
    ),
    Subject(
        id="JWT of a third-party application",
        mint=lambda issuer: issuer.access_token(client_id="partner"),
        is_accepted=False,
        source="ran",
    ),
    Subject(
        id="opaque token of a third-party application",
        mint=lambda issuer: issuer.opaque_token(client_id="partner"),
        is_accepted=False,
        source="account.ts",
    ),
    Subject(
        id="JWT of an unknown application",
        mint=lambda issuer: issuer.access_token(client_id="deleted"),
        is_accepted=False,
        source="account.ts",
    ),
    Subject(
        id="JWT of a suspended user",
        mint=lambda issuer: issuer.access_token(subject="eve"),
        is_accepted=False,
        source="ran",
    ),
    Subject(
        id="personal access token of a suspended user",
        mint=lambda _: "pat_eve",
        kind=PERSONAL,
        is_accepted=False,
        source="findAccount in packages/core/src/oidc/init.ts",
    ),
    Subject(
        id="machine token",
        mint=lambda issuer: issuer.machine_token(),
        is_accepted=False,
        source='"exchange: subject is an M2M token"',
    ),
    Subject(
        id="unknown text",
        mint=lambda _: "garbage",
        is_accepted=False,
        source='"exchange: garbage subject token"',
    ),
    Subject(
        id="JWT with a changed signature",
        mint=lambda issuer: issuer.bad_token("forged"),
        is_accepted=False,
        source='"exchange: tampered JWT"',
    ),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ActorToken:
    """An actor token, and whether Logto accepts it."""

    id: str
    mint: Callable[[LocalIssuer], str | None]
    is_accepted: bool
    source: str


ACTORS: Final = (
    ActorToken(id="no actor", mint=lambda _: None, is_accepted=True, source="captured exchanges"),
    ActorToken(
        id="opaque with openid",
        mint=lambda issuer: issuer.opaque_token(subject=BOB),
        is_accepted=True,
        source="ran",
    ),
    ActorToken(
        id="opaque without openid",
        mint=lambda issuer: issuer.opaque_token(subject=BOB, scopes=["profile"]),
        is_accepted=False,
        source="ran",
    ),
    ActorToken(
        id="JWT access token", mint=lambda issuer: issuer.access_token(subject=BOB), is_accepted=False, source="ran"
    ),
    ActorToken(id="unknown actor", mint=lambda _: "garbage", is_accepted=False, source="actor-token.ts"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """The target of an exchange; `audience` is that of the JWT, and `None` for an opaque token."""

    id: str
    form: dict[str, str]
    source: str
    scope: str = ""
    audience: str | None = None
    error: dict[str, str] | None = None


TARGETS: Final = (
    Target(
        id="API",
        form={"resource": API, "scope": "read:user openid read:member"},
        audience=API,
        scope="read:user",
        source='"exchange: user JWT by m2m app with allowTokenExchange"',
    ),
    Target(
        id="none",
        form={"scope": "openid read:user"},
        scope="openid",
        source='"exchange: no resource"; index.ts for the scope',
    ),
    Target(
        id="organization",
        form={"organization_id": "acme", "scope": "read:member read:user"},
        audience="urn:logto:organization:acme",
        scope="read:member",
        source="ran; index.ts for the scope",
    ),
    Target(
        id="unknown resource",
        form={"resource": "https://nope.example.test"},
        error=CAPTURED["exchange: unknown resource"]["body"],
        source='"exchange: unknown resource"; index.ts for the order: the target is checked before the actor',
    ),
)


@pytest.mark.parametrize("target", TARGETS, ids=lambda row: row.id)
@pytest.mark.parametrize("actor", ACTORS, ids=lambda row: row.id)
@pytest.mark.parametrize("subject", SUBJECTS, ids=lambda row: row.id)
def test_an_exchange_has_the_result_of_a_real_logto(subject: Subject, actor: ActorToken, target: Target) -> None:
    form, actor_token = dict(target.form), actor.mint(ISSUER)
    if actor_token is not None:
        form |= {"actor_token": actor_token, "actor_token_type": ACCESS}
    response = exchange(ISSUER, subject.mint(ISSUER), subject.kind, **form)

    # Logto checks the subject, then the target, then the actor.
    if not subject.is_accepted:
        assert (response.status_code, response.json()) == (400, REFUSED)
    elif target.error is not None:
        assert (response.status_code, response.json()) == (400, target.error)
    elif not actor.is_accepted:
        assert (response.status_code, response.json()) == (400, REFUSED)
    else:
        assert (response.status_code, response.json()["scope"]) == (200, target.scope)
        claims = ISSUER.read_access_token(response.json()["access_token"])
        if target.audience is None:
            assert claims is None
            profile = TestClient(ISSUER.app, base_url=ISSUER.endpoint).get(
                "/oidc/me", headers=bearer(response.json()["access_token"])
            )
            assert profile.json() == {"sub": ALICE}
        else:
            expected = {"sub": ALICE, "client_id": "local-machine", "aud": target.audience, "scope": target.scope}
            assert claims is not None
            assert {name: claims[name] for name in expected} == expected
            assert claims.get("act") == (None if actor_token is None else {"sub": BOB})
            assert "organization_id" not in claims


CAPTURED_ROWS: Final = [row for row in (*SUBJECTS, *ACTORS, *TARGETS) if row.source.startswith('"')]


@pytest.mark.parametrize("row", CAPTURED_ROWS, ids=lambda row: row.id)
def test_a_row_agrees_with_the_captured_response_that_it_names(row: Subject | ActorToken | Target) -> None:
    response = CAPTURED[row.source.split('"')[1]]

    if isinstance(row, Target):
        assert response["body"].get("error") == (row.error or {}).get("error")
    elif row.is_accepted:
        assert response["status"] == 200
    else:
        assert (response["status"], response["body"]) == (400, REFUSED)


@pytest.mark.parametrize(
    "changes",
    [
        {"resource": "https://nope.example.test"},
        {"organization_id": "globex"},
        {"resource": API, "actor_token": "garbage", "actor_token_type": ACCESS},
    ],
    ids=["unknown resource", "not a member", "invalid actor"],
)
def test_a_refused_exchange_does_not_use_up_the_subject_token(issuer: LocalIssuer, changes: dict[str, str]) -> None:
    token = issuer.subject_token()

    assert exchange(issuer, token, **changes).status_code in {400, 403}
    assert exchange(issuer, token, resource=API).status_code == 200
    assert exchange(issuer, token, resource=API).json() == REFUSED


def test_only_one_of_two_concurrent_exchanges_uses_a_subject_token(issuer: LocalIssuer) -> None:
    issued = IssuedTokens(issuer.clock.now)
    token = issued.impersonation.issue(UserToken(subject=ALICE, expires_at=math.inf))
    parties = ExchangeParties(issuer, issued=issued)
    form = Parameters([("subject_token", token), ("subject_token_type", ACCESS)])

    assert parties.find_subject(form).id == parties.find_subject(form).id == ALICE
    parties.use_up(form)
    with pytest.raises(RefusedError) as caught:
        parties.use_up(form)
    assert caught.value.body == REFUSED


def test_a_personal_access_token_is_exchanged_many_times(issuer: LocalIssuer) -> None:
    token = issuer.personal_access_token(subject=BOB)

    for _ in range(2):
        response = exchange(issuer, token, PERSONAL, resource=API, scope="read:user")
        claims = issuer.read_access_token(response.json()["access_token"])
        assert claims is not None
        assert (claims["sub"], claims["scope"]) == (BOB, "read:user")
    assert exchange(issuer, "pat_dora", PERSONAL, organization_id="acme").status_code == 403
    assert exchange(issuer, "pat_dora2", PERSONAL, resource=API).status_code == 200


def test_an_expired_subject_token_is_refused() -> None:
    clock = ManualClock()
    issuer = build_issuer(clock=clock)
    personal = issuer.personal_access_token(lifetime_seconds=10)
    others = [issuer.subject_token(lifetime_seconds=10), issuer.opaque_token(lifetime_seconds=10)]

    clock.advance(9)
    assert exchange(issuer, personal, PERSONAL).status_code == 200
    clock.advance(1)
    assert exchange(issuer, personal, PERSONAL).json() == REFUSED
    assert [exchange(issuer, token).json() for token in others] == [REFUSED, REFUSED]


def test_a_subject_token_expires_after_ten_minutes_and_a_personal_access_token_never() -> None:
    clock = ManualClock()
    issuer = build_issuer(clock=clock)
    early, late, personal = issuer.subject_token(), issuer.subject_token(), issuer.personal_access_token()

    clock.advance(599)
    assert exchange(issuer, early).status_code == 200
    clock.advance(1)
    assert exchange(issuer, late).json() == REFUSED
    clock.advance(100 * 365 * 24 * 3600)
    assert exchange(issuer, personal, PERSONAL).status_code == 200


@pytest.mark.parametrize("kind", ["", PERSONAL, "urn:ietf:params:oauth:token-type:jwt"])
def test_an_actor_token_must_be_declared_as_an_access_token(issuer: LocalIssuer, kind: str) -> None:
    form = {"actor_token": issuer.opaque_token(), "actor_token_type": kind, "resource": API}

    assert exchange(issuer, issuer.subject_token(), **form).json() == REFUSED


@pytest.mark.parametrize("actor", ["eve", "local-machine", "nobody"])
def test_an_actor_must_be_a_user_who_is_not_suspended(issuer: LocalIssuer, actor: str) -> None:
    form = {"actor_token": issuer.opaque_token(subject=actor), "actor_token_type": ACCESS, "resource": API}

    assert exchange(issuer, issuer.subject_token(), **form).json() == REFUSED


def create(issuer: LocalIssuer, body: object, authorization: str | None) -> "Response":
    client = TestClient(issuer.app, base_url=issuer.endpoint)
    headers = {} if authorization is None else {"Authorization": authorization}
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    return client.post("/api/subject-tokens", content=content, headers={"Content-Type": "application/json", **headers})


def test_the_management_api_creates_a_subject_token(issuer: LocalIssuer) -> None:
    token = issuer.machine_token(audience=MANAGEMENT, scopes=["all"])
    response = create(issuer, {"userId": BOB, "context": {"ticket": 1}}, f"Bearer {token}")

    assert (response.status_code, response.json()["expiresIn"]) == (201, 600)
    assert response.headers["cache-control"] == "no-store"
    created = exchange(issuer, response.json()["subjectToken"], resource=API)
    claims = issuer.read_access_token(created.json()["access_token"])
    assert claims is not None
    assert claims["sub"] == BOB
    suspended = create(issuer, {"userId": "eve"}, f"Bearer {token}").json()["subjectToken"]
    assert exchange(issuer, suspended, resource=API).json() == REFUSED


@dataclass(frozen=True, slots=True, kw_only=True)
class Rejection:
    """A request to the Management API that is rejected like a captured one."""

    id: str
    captured: str
    authorization: Callable[[LocalIssuer], str | None]


REJECTIONS: Final = (
    Rejection(id="no token", captured="no token, POST", authorization=lambda _: None),
    Rejection(id="Basic", captured="Basic scheme", authorization=lambda _: "Basic bTpz"),
    Rejection(id="garbage", captured="garbage token", authorization=lambda _: "Bearer garbage"),
    Rejection(
        id="token of another API",
        captured="token for another API (wrong audience)",
        authorization=lambda issuer: f"Bearer {issuer.machine_token(scopes=['all'])}",
    ),
    Rejection(
        id="expired",
        captured="expired token, POST",
        authorization=lambda issuer: (
            f"Bearer {issuer.machine_token(audience=MANAGEMENT, scopes=['all'], lifetime_seconds=0)}"
        ),
    ),
    Rejection(
        id="without all",
        captured="management token without scope all, POST",
        authorization=lambda issuer: f"Bearer {issuer.machine_token(audience=MANAGEMENT, scopes=['almost:all'])}",
    ),
    Rejection(
        id="without a scope",
        captured="management token without scope all, POST",
        authorization=lambda issuer: f"Bearer {issuer.machine_token(audience=MANAGEMENT, scopes=None)}",
    ),
)


@pytest.mark.parametrize("row", REJECTIONS, ids=lambda row: row.id)
def test_the_management_api_rejects_a_caller_like_logto(issuer: LocalIssuer, row: Rejection) -> None:
    response, captured = create(issuer, {"userId": BOB}, row.authorization(issuer)), CAPTURED[row.captured]

    expected = {name: captured["body"][name] for name in ("code", "message")}
    assert (response.status_code, response.json()) == (captured["status"], expected)


@pytest.mark.parametrize(
    "body", [b"", b"{", b"[]", {}, {"userId": 1}, b"[" * 50_000], ids=["", "cut", "list", "empty", "number", "deep"]
)
def test_the_management_api_rejects_an_invalid_body(issuer: LocalIssuer, body: object) -> None:
    response = create(issuer, body, f"Bearer {issuer.machine_token(audience=MANAGEMENT, scopes=['all'])}")

    assert (response.status_code, response.json()["code"]) == (400, "guard.invalid_input")


def test_a_subject_token_for_an_unknown_user_is_404(issuer: LocalIssuer) -> None:
    response = create(
        issuer, {"userId": "nobody"}, f"Bearer {issuer.machine_token(audience=MANAGEMENT, scopes=['all'])}"
    )

    assert (response.status_code, response.json()["code"]) == (404, "entity.relation_foreign_key_not_found")


def suspend_alice(issuer: LocalIssuer) -> None:
    users = [replace(user, is_suspended=user.is_suspended or user.id == ALICE) for user in issuer.directory.users]
    issuer.directory = replace(issuer.directory, users=users)


def test_a_suspended_user_gets_no_new_tokens_and_keeps_a_jwt(issuer: LocalIssuer) -> None:
    browser = Browser(issuer)
    asked = {"scope": "openid offline_access read:user", "prompt": "consent", "resource": API}
    tokens = browser.get_tokens(token_resource=API, **asked)
    code = dict(parse_qsl(browser.submit(browser.open(**asked)).headers["location"].partition("?")[2]))["code"]
    opaque = issuer.opaque_token()
    suspend_alice(issuer)

    assert browser.redeem(code).json() == REFUSED
    assert browser.refresh(tokens["refresh_token"]).json() == REFUSED
    profile = browser.http.get("/oidc/me", headers=bearer(opaque))
    assert (profile.status_code, profile.json()) == (400, REFUSED)
    assert issuer.read_access_token(tokens["access_token"]) is not None


def test_a_suspended_user_cannot_sign_in(issuer: LocalIssuer) -> None:
    browser = Browser(issuer)
    page = browser.open()

    assert 'value="alice"' in page.text
    assert 'value="eve"' not in page.text
    refused = browser.submit(page, user="eve")
    assert (refused.status_code, "location" in refused.headers) == (403, False)
    assert "this user is suspended" in refused.text


def test_the_index_shows_who_is_suspended_and_which_application_is_a_third_partys(issuer: LocalIssuer) -> None:
    page = TestClient(issuer.app, base_url=issuer.endpoint).get("/").text

    assert "<td>Eve (suspended)</td>" in page
    assert "<td>Dora</td>" in page
    assert page.count("(suspended)") == page.count("third-party single-page app") == 1
    assert "pat_" not in page


@pytest.mark.parametrize("tokens", [["dora"], ["pat_1", "x"]], ids=["no prefix", "one without"])
def test_a_personal_access_token_without_its_prefix_is_an_error(tokens: list[str]) -> None:
    with pytest.raises(ValueError, match="expected texts that start with 'pat_', found another"):
        User(id="u", username="u", name="U", personal_access_tokens=tokens)


def test_a_personal_access_token_belongs_to_one_user() -> None:
    users = [User(id=name, username=name, name=name, personal_access_tokens=["pat_S3cret"]) for name in ("a", "b")]

    with pytest.raises(ValueError, match="expected unique tokens, found one twice"):
        Directory(users=users)
    assert "S3cret" not in repr(users[0])


def test_only_a_machine_may_have_the_permission_of_the_management_api() -> None:
    with pytest.raises(ValueError, match="expected a resource of this directory, found 'https://default"):
        Directory(users=[User(id="u", username="u", name="U", scopes={MANAGEMENT: ["all"]})])


PEOPLE: Final = """
[[resources]]
indicator = "https://api.example.test"
[roles.support]
"https://default.logto.app/api" = ["all"]
[[users]]
username = "dora"
personal_access_tokens = ["pat_dora"]
[[users]]
username = "eve"
suspended = true
personal_access_tokens = ["pat_eve"]
[[machines]]
client_id = "local-machine"
client_secret = "local-machine-secret"
roles = ["support"]
[[applications]]
client_id = "my-spa"
[[applications]]
client_id = "partner"
third_party = true
backchannel_logout_uri = "http://127.0.0.1:8000/logout"
"""


def test_a_file_of_users_configures_token_exchange(tmp_path: Path) -> None:
    (tmp_path / "people.toml").write_text(PEOPLE)
    issuer = LocalIssuer(directory=read_directory(tmp_path / "people.toml"))
    scopes = issuer.directory.machines[0].scopes[MANAGEMENT]
    created = create(issuer, {"userId": "dora"}, f"Bearer {issuer.machine_token(audience=MANAGEMENT, scopes=scopes)}")

    assert exchange(issuer, created.json()["subjectToken"], resource=API).status_code == 200
    assert exchange(issuer, "pat_dora", PERSONAL, resource=API).status_code == 200
    assert exchange(issuer, "pat_eve", PERSONAL, resource=API).json() == REFUSED
    assert exchange(issuer, issuer.access_token(client_id="my-spa"), resource=API).status_code == 200
    assert exchange(issuer, issuer.access_token(client_id="partner"), resource=API).json() == REFUSED
    uris = [one.backchannel_logout_uri for one in issuer.directory.applications]
    assert uris == [None, "http://127.0.0.1:8000/logout"]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            '["all"]',
            '["some"]',
            "roles.support: expected scopes of 'https://default.logto.app/api': all, found ['some']",
        ),
        ("suspended = true", "roles = ['support']", "expected a resource of this directory, found 'https://default."),
        ("suspended = true", "suspended = 1", "users.1.suspended: Input should be a valid boolean"),
        ('"pat_eve"', '"pat_dora"', "personal_access_tokens: expected unique tokens, found one twice"),
    ],
)
def test_an_invalid_configuration_of_token_exchange_is_reported(
    tmp_path: Path, old: str, new: str, message: str
) -> None:
    (tmp_path / "people.toml").write_text(PEOPLE.replace(old, new))

    with pytest.raises(CommandError) as caught:
        read_directory(tmp_path / "people.toml")
    assert message in str(caught.value)
