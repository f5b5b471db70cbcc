"""Every kind of token at every kind of requirement, as one table."""

from collections.abc import Callable, Mapping
from typing import Any, Final

import httpx
import pytest
from fastapi import Depends, FastAPI
from starlette.testclient import TestClient

from fastapi_logto import LogtoAuth, OrganizationSource, RefusalError, Requirement, TokenClaims
from fastapi_logto.testing import Clock, LocalIssuer, bearer
from tests.captured import DISCOVERY, JWKS, JWKS_PATH, NOW
from tests.captured import TOKENS as CAPTURED_TOKENS

BILLING: Final = "https://billing.example.test"

ANSWERS: Final[Mapping[str, tuple[int, str, str]]] = {
    "aud": (401, "invalid_token", "audience"),
    "idt": (401, "invalid_token", "id_token"),
    "opq": (401, "invalid_token", "opaque_token"),
    "exp": (401, "invalid_token", "expired"),
    "sig": (401, "invalid_token", "signature"),
    "scp": (403, "insufficient_scope", "scope"),
    "org": (403, "organization_required", "organization_required"),
    "mis": (403, "organization_mismatch", "organization_mismatch"),
    "usr": (403, "user_required", "user_required"),
    "mac": (403, "machine_required", "machine_required"),
    "cli": (403, "client_not_allowed", "client_not_allowed"),
    "act": (403, "actor_required", "actor_required"),
    "noa": (403, "actor_not_allowed", "actor_not_allowed"),
    "clm": (403, "claims_not_allowed", "claims_not_allowed"),
}
"""The refusal of each kind of cell; `ok` is a 200."""

# Each column is a route. Requests to routes of organizations name organization A.
MATRIX: Final = """
             plain scope any other other-in member org header found token user machine client actor support nobody pro
user         ok    ok    ok  aud   aud      org    org org    org   org   ok   mac     ok     act   act     ok     clm
no_role      ok    scp   scp aud   aud      org    org org    org   org   ok   mac     ok     act   act     ok     clm
machine      ok    ok    ok  aud   aud      org    org org    org   org   usr  ok      cli    act   act     ok     clm
machine_idle ok    scp   scp aud   aud      org    org org    org   org   usr  ok      cli    act   act     ok     clm
api_in_a     ok    ok    ok  aud   aud      ok     ok  ok     ok    ok    ok   mac     ok     act   act     ok     clm
api_in_b     ok    ok    ok  aud   aud      mis    mis mis    mis   ok    ok   mac     ok     act   act     ok     clm
machine_in_a ok    ok    ok  aud   aud      ok     ok  ok     ok    ok    usr  ok      cli    act   act     ok     clm
a            aud   aud   aud aud   ok       ok     ok  ok     ok    ok    aud  aud     aud    aud   aud     aud    aud
b            aud   aud   aud aud   mis      mis    mis mis    mis   ok    aud  aud     aud    aud   aud     aud    aud
a_claimed    aud   aud   aud aud   ok       ok     ok  ok     ok    ok    aud  aud     aud    aud   aud     aud    aud
b_claimed    aud   aud   aud aud   mis      mis    mis mis    mis   ok    aud  aud     aud    aud   aud     aud    aud
a_member     aud   aud   aud aud   ok       ok     scp scp    scp   scp   aud  aud     aud    aud   aud     aud    aud
b_member     aud   aud   aud aud   mis      mis    mis mis    mis   scp   aud  aud     aud    aud   aud     aud    aud
api_b_idle   ok    scp   scp aud   aud      mis    mis mis    mis   scp   ok   mac     ok     act   act     ok     clm
a_machine    aud   aud   aud aud   ok       ok     ok  ok     ok    ok    aud  aud     aud    aud   aud     aud    aud
a_idle       aud   aud   aud aud   ok       ok     scp scp    scp   scp   aud  aud     aud    aud   aud     aud    aud
nameless     aud   aud   aud aud   aud      aud    aud aud    aud   aud   aud  aud     aud    aud   aud     aud    aud
empty        aud   aud   aud aud   aud      aud    aud aud    aud   aud   aud  aud     aud    aud   aud     aud    aud
a_in_a_list  aud   aud   aud aud   aud      aud    aud aud    aud   aud   aud  aud     aud    aud   aud     aud    aud
delegated    ok    ok    ok  aud   aud      org    org org    org   org   ok   mac     ok     ok    ok      noa    clm
chained      ok    ok    ok  aud   aud      org    org org    org   org   ok   mac     ok     ok    act     noa    clm
billing      aud   aud   aud ok    org      aud    aud aud    aud   aud   aud  aud     aud    aud   aud     aud    aud
billing_in_a aud   aud   aud ok    ok       aud    aud aud    aud   aud   aud  aud     aud    aud   aud     aud    aud
both         ok    ok    ok  ok    org      org    org org    org   org   ok   mac     ok     act   act     ok     clm
other_client ok    ok    ok  aud   aud      org    org org    org   org   ok   mac     cli    act   act     ok     clm
url_client   ok    ok    ok  aud   aud      org    org org    org   org   ok   mac     ok     act   act     ok     clm
pro          ok    ok    ok  aud   aud      org    org org    org   org   ok   mac     ok     act   act     ok     ok
id_token     idt   idt   idt idt   idt      idt    idt idt    idt   idt   idt  idt     idt    idt   idt     idt    idt
opaque       opq   opq   opq opq   opq      opq    opq opq    opq   opq   opq  opq     opq    opq   opq     opq    opq
expired      exp   exp   exp aud   aud      exp    exp exp    exp   exp   exp  exp     exp    exp   exp     exp    exp
forged       sig   sig   sig sig   sig      sig    sig sig    sig   sig   sig  sig     sig    sig   sig     sig    sig
"""

TOKENS: Final[Mapping[str, Callable[[LocalIssuer], str]]] = {
    "user": lambda issuer: issuer.access_token(scopes=["read:user"]),
    "no_role": lambda issuer: issuer.access_token(scopes=[]),
    "machine": lambda issuer: issuer.machine_token(scopes=["read:user"]),
    "machine_idle": lambda issuer: issuer.machine_token(scopes=None),
    "api_in_a": lambda issuer: issuer.access_token(scopes=["read:user"], organization_id="A"),
    "api_in_b": lambda issuer: issuer.access_token(scopes=["read:user"], organization_id="B"),
    "machine_in_a": lambda issuer: issuer.machine_token(scopes=["read:user"], organization_id="A"),
    "a": lambda issuer: issuer.organization_token("A", scopes=["read:user"]),
    "b": lambda issuer: issuer.organization_token("B", scopes=["read:user"]),
    "a_claimed": lambda issuer: issuer.organization_token("A", scopes=["read:user"], by_resource=True),
    "b_claimed": lambda issuer: issuer.organization_token("B", scopes=["read:user"], by_resource=True),
    "a_member": lambda issuer: issuer.organization_token("A"),
    "b_member": lambda issuer: issuer.organization_token("B"),
    "api_b_idle": lambda issuer: issuer.access_token(scopes=[], organization_id="B"),
    "a_machine": lambda issuer: issuer.organization_token("A", subject="m", client_id="m", scopes=["read:user"]),
    "a_idle": lambda issuer: issuer.organization_token("A", subject="m", client_id="m", scopes=None),
    "nameless": lambda issuer: issuer.access_token(scopes=["read:user"], audience="urn:logto:resource:organizations"),
    "empty": lambda issuer: issuer.organization_token("", scopes=["read:user"]),
    "a_in_a_list": lambda issuer: issuer.organization_token(
        "A", scopes=["read:user"], claims={"aud": ["urn:logto:organization:A"], "organization_id": "A"}
    ),
    "delegated": lambda issuer: issuer.access_token(scopes=["read:user"], actor="support"),
    "chained": lambda issuer: issuer.access_token(
        scopes=["read:user"], claims={"act": {"sub": "agent", "act": {"sub": "support"}}}
    ),
    "billing": lambda issuer: issuer.access_token(scopes=["read:user"], audience=BILLING),
    "billing_in_a": lambda issuer: issuer.access_token(scopes=["read:user"], audience=BILLING, organization_id="A"),
    "both": lambda issuer: issuer.access_token(
        scopes=["read:user"], claims={"aud": ["https://api.example.test", BILLING]}
    ),
    "other_client": lambda issuer: issuer.access_token(scopes=["read:user"], client_id="other"),
    "url_client": lambda issuer: issuer.access_token(scopes=["read:user"], client_id="https://app.example.com/id?a=b"),
    "pro": lambda issuer: issuer.access_token(scopes=["read:user"], claims={"plan": "pro"}),
    "id_token": lambda issuer: issuer.id_token(),
    "opaque": lambda issuer: issuer.opaque_token(),
    "expired": lambda issuer: issuer.access_token(scopes=["read:user"], lifetime_seconds=-60),
    "forged": lambda issuer: issuer.bad_token("forged", scopes=["read:user"]),
}


def is_pro(claims: TokenClaims) -> bool:
    """Return whether the tenant's script put `plan: pro` into the token."""
    return getattr(claims, "plan", None) == "pro"


async def find_organization(project: str) -> str | None:
    """Return the organization of a project, like an application that reads it from a database."""
    return {"of-a": "A", "of-b": "B"}.get(project)


def build_requirements(auth: LogtoAuth) -> dict[str, Requirement]:
    """Return the requirement of each column that has one."""
    billing = auth.for_audience(BILLING)
    return {
        "scope": auth.require_scopes("read:user"),
        "any": auth.require_any_scope("read:user", "admin"),
        "other-in": billing.require_organization(),
        "member": auth.require_organization(),
        "org": auth.require_organization("read:user"),
        "header": auth.require_organization(
            "read:user", organization=OrganizationSource.from_header("X-Organization-Id")
        ),
        "found": auth.require_organization(
            "read:user", organization=OrganizationSource.from_dependency(find_organization)
        ),
        "token": auth.require_organization("read:user", organization=OrganizationSource.from_token()),
        "user": auth.require_user(),
        "machine": auth.require_machine(),
        "client": auth.require(clients=["local-spa", "https://app.example.com/id?a=b"]),
        "actor": auth.require(actor=True),
        "support": auth.require(actor=["support", "root"]),
        "nobody": auth.require(actor=False),
        "pro": auth.require(claims=is_pro),
    }


def build_app(auth: LogtoAuth) -> FastAPI:
    """Return an application with a route for each column, with `install()` called."""
    app = FastAPI()
    auth.install(app)
    dependencies: dict[str, Callable[..., Any]] = {
        "plain": auth,
        "other": auth.for_audience(BILLING),
        **build_requirements(auth),
    }
    for name, dependency in dependencies.items():

        @app.get(f"/{name}/{{organization_id}}", dependencies=[Depends(dependency)])
        async def read() -> bool:
            return True

    return app


def read_matrix() -> list[tuple[str, str, str]]:
    """Return token, column and content of each cell."""
    head, *rows = (line.split() for line in MATRIX.strip().splitlines())
    assert all(len(row) == len(head) + 1 for row in rows)
    return [(row[0], column, cell) for row in rows for column, cell in zip(head, row[1:], strict=True)]


@pytest.fixture(scope="module")
def issuer() -> LocalIssuer:
    return LocalIssuer()


@pytest.fixture(scope="module")
def client(issuer: LocalIssuer) -> TestClient:
    return TestClient(build_app(issuer.auth()))


def ask(client: TestClient, column: str, token: str, *, organization: str = "A") -> tuple[int, str, str] | None:
    """Return the refusal of a request for an organization, or `None` for a 200."""
    headers = bearer(token) | {"X-Organization-Id": organization}
    answer = client.get(f"/{column}/{organization}", headers=headers, params={"project": f"of-{organization.lower()}"})
    if answer.status_code == 200:
        return None
    body = answer.json()["detail"]
    return answer.status_code, body["code"], body["reason"]


@pytest.mark.parametrize(("token", "column", "cell"), read_matrix(), ids=lambda value: value)
def test_each_kind_of_token_at_each_kind_of_requirement(
    client: TestClient, issuer: LocalIssuer, token: str, column: str, cell: str
) -> None:
    assert ask(client, column, TOKENS[token](issuer)) == (None if cell == "ok" else ANSWERS[cell])


async def test_a_requirement_decides_the_same_about_a_token_without_a_request(issuer: LocalIssuer) -> None:
    requirements = build_requirements(issuer.auth())
    cells = [(token, column, cell) for token, column, cell in read_matrix() if column in requirements]

    for token, column, cell in cells:
        requirement = requirements[column]
        compares = column in {"other-in", "member", "org", "header", "found"}
        found: tuple[int, str, str] | None = None
        try:
            await requirement.verify(TOKENS[token](issuer), organization_id="A" if compares else None)
        except RefusalError as error:
            found = (error.status, error.code, error.reason)
        assert found == (None if cell == "ok" else ANSWERS[cell]), (token, column)

    assert len(cells) == len(TOKENS) * len(requirements)


def test_the_table_has_every_token_every_requirement_and_every_response() -> None:
    cells = read_matrix()

    assert {token for token, _, _ in cells} == TOKENS.keys()
    assert {column for _, column, _ in cells} == {"plain", "other", *build_requirements(LogtoAuth())}
    assert {cell for _, _, cell in cells} == {"ok", *ANSWERS}


CAPTURED: Final[Mapping[str, tuple[str, str, str, str]]] = {
    # name: result at the plain scheme, at the organization, with read:user in it, with read:member in it
    "m2m_api": ("ok", "org", "org", "org"),
    "m2m_api_noscope": ("ok", "org", "org", "org"),
    "m2m_org": ("aud", "ok", "scp", "ok"),
    "m2m_org_api": ("ok", "ok", "scp", "scp"),
    "management_api": ("aud", "aud", "aud", "aud"),
    "user_api_spa": ("ok", "org", "org", "org"),
    "user_norole_api": ("ok", "org", "org", "org"),
    "user_id_token": ("idt", "idt", "idt", "idt"),
    "opaque": ("opq", "opq", "opq", "opq"),
    "org_token_scoped": ("aud", "ok", "scp", "ok"),
    "org_api_token": ("ok", "ok", "ok", "scp"),
    "exchange_impersonation_act": ("ok", "org", "org", "org"),
    "pat_exchange": ("ok", "org", "org", "org"),
}
"""Tokens of a real Logto. Those for an organization are for `aaajcxbl1cz3`."""


@pytest.mark.parametrize("name", CAPTURED)
def test_each_kind_of_captured_token_at_the_requirements_of_its_organization(name: str) -> None:
    auth = LogtoAuth(
        endpoint="http://127.0.0.1:3001",
        audience="https://api.example.test",
        clock=Clock(now=lambda: NOW),
        http_transport=httpx.MockTransport(answer_as_captured),
    )
    app = FastAPI()
    dependencies: list[Callable[..., Any]] = [auth]
    dependencies += [auth.require_organization(*scopes) for scopes in ((), ("read:user",), ("read:member",))]
    for number, dependency in enumerate(dependencies):

        @app.get(f"/{number}/{{organization_id}}", dependencies=[Depends(dependency)])
        async def read() -> bool:
            return True

    client = TestClient(app)
    token = CAPTURED_TOKENS[name].token

    for number, cell in enumerate(CAPTURED[name]):
        found = ask(client, str(number), token, organization="aaajcxbl1cz3")
        assert found == (None if cell == "ok" else ANSWERS[cell]), number
        if cell == "ok" and number > 0:
            assert ask(client, str(number), token, organization="another") == ANSWERS["mis"]


def answer_as_captured(request: httpx.Request) -> httpx.Response:
    """Respond like the server whose tokens were captured."""
    return httpx.Response(200, json=dict(JWKS if request.url.path == JWKS_PATH else DISCOVERY))


class TestCarol:
    """Carol is a member of A and of B. In A she has a role with `read:user`, in B she has none."""

    def test_her_plain_api_token_carries_the_scopes_of_her_organization_roles_and_opens_no_organization(
        self, client: TestClient, issuer: LocalIssuer
    ) -> None:
        token = issuer.access_token(subject="carol", scopes=["read:user"])

        assert ask(client, "scope", token) is None
        assert ask(client, "org", token, organization="A") == ANSWERS["org"]
        assert ask(client, "org", token, organization="B") == ANSWERS["org"]

    @pytest.mark.parametrize("shape", ["api", "organization", "by_resource"])
    def test_her_token_for_a_opens_a_only(self, client: TestClient, issuer: LocalIssuer, shape: str) -> None:
        token = (
            issuer.access_token(subject="carol", scopes=["read:user"], organization_id="A")
            if shape == "api"
            else issuer.organization_token(
                "A", subject="carol", scopes=["read:user"], by_resource=shape == "by_resource"
            )
        )

        assert ask(client, "org", token, organization="A") is None
        assert ask(client, "org", token, organization="B") == ANSWERS["mis"]
        # The response for an organization that does not exist is the same.
        assert ask(client, "org", token, organization="nowhere") == ANSWERS["mis"]

    def test_membership_of_b_grants_no_permission_there(self, client: TestClient, issuer: LocalIssuer) -> None:
        token = issuer.organization_token("B", subject="carol")

        assert ask(client, "member", token, organization="B") is None
        assert ask(client, "org", token, organization="B") == ANSWERS["scp"]

    def test_a_refusal_names_neither_organization(self, client: TestClient, issuer: LocalIssuer) -> None:
        token = issuer.organization_token("secret-A", scopes=["read:user"])

        answer = client.get("/org/secret-B", headers=bearer(token))

        assert answer.status_code == 403
        assert "secret" not in answer.text + str(answer.headers)
        assert answer.headers["WWW-Authenticate"].startswith('Bearer error="insufficient_scope"')


def test_a_token_that_one_policy_has_cached_is_refused_by_another(client: TestClient, issuer: LocalIssuer) -> None:
    organization, billing = issuer.organization_token("A", scopes=["read:user"]), issuer.access_token(audience=BILLING)

    for _ in range(2):
        assert ask(client, "org", organization) is None
        assert ask(client, "plain", organization) == ANSWERS["aud"]
        assert ask(client, "other", billing) is None
        assert ask(client, "scope", billing) == ANSWERS["aud"]
