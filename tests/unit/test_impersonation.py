"""Impersonation: a subject token from the Management API, and its exchange."""

import asyncio
import json
import re
from collections.abc import Generator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Final

import httpx
import pytest
from starlette.testclient import TestClient

from fastapi_logto.client import GrantRefusedError, GrantUnavailableError, LogtoClient
from fastapi_logto.testing import Application, Directory, LocalIssuer, Machine, Resource, User, bearer
from tests.unit.apps import API
from tests.unit.clients import Bench
from tests.unit.fakes import wait_until

MANAGEMENT: Final = "https://default.logto.app/api"
BOB: Final = "bob000000001"
CAPTURED: Final[dict[str, dict[str, Any]]] = {
    one["name"]: one["response"]
    for one in json.loads(
        (Path(__file__).parents[1] / "data/captured/management-api.json").read_text(encoding="utf-8")
    )["exchanges"]
}


@pytest.fixture
def bench() -> Bench:
    return Bench()


async def test_impersonation_takes_two_calls(bench: Bench) -> None:
    support = bench.issuer.opaque_token(subject="alice0000001")

    subject_token = await bench.client.create_subject_token(BOB, resource=MANAGEMENT)
    issued = await bench.client.exchange_token(subject_token, API, scopes=["read:user"], actor_token=support)

    claims = bench.issuer.read_access_token(issued.token)
    assert claims is not None
    assert (claims["sub"], claims["act"], claims["scope"]) == (BOB, {"sub": "alice0000001"}, "read:user")
    with pytest.raises(GrantRefusedError, match="used up"):
        await bench.client.exchange_token(subject_token, API)


async def test_the_machine_token_is_cached_and_the_subject_token_is_not(bench: Bench) -> None:
    tokens = {await bench.client.create_subject_token(BOB, resource=MANAGEMENT) for _ in range(3)}

    assert len(tokens) == 3
    assert [request.url.path for request in bench.provider.asked] == ["/oidc/token", *["/api/subject-tokens"] * 3]
    assert bench.provider.forms[0] == {"grant_type": "client_credentials", "resource": MANAGEMENT, "scope": "all"}
    assert bench.provider.asked[1].content == b'{"userId": "bob000000001"}'
    assert bench.provider.asked[1].headers["content-type"] == "application/json"


async def test_the_request_goes_to_the_fetch_endpoint() -> None:
    bench = Bench(fetch_endpoint="http://localhost:3001/")

    token = await bench.client.create_subject_token(BOB, resource=MANAGEMENT)

    assert token.get_secret_value().startswith("sub_")
    assert "sub_" not in repr(token)
    assert str(bench.provider.asked[-1].url) == "http://localhost:3001/api/subject-tokens"


async def test_an_unknown_user_is_named_as_the_problem(bench: Bench) -> None:
    with pytest.raises(GrantRefusedError, match="check that the user exists in this tenant") as caught:
        await bench.client.create_subject_token("nobody", resource=MANAGEMENT)
    assert (caught.value.status, caught.value.error) == (404, "entity.relation_foreign_key_not_found")
    # This is not an outage of the provider, so the next request is sent.
    assert await bench.client.create_subject_token(BOB, resource=MANAGEMENT)


async def test_an_empty_user_id_is_an_error_and_is_not_sent(bench: Bench) -> None:
    with pytest.raises(ValueError, match=r"^expected a value for user_id, found an empty string$"):
        await bench.client.create_subject_token("", resource=MANAGEMENT)
    assert bench.provider.asked == []


async def test_only_a_401_replaces_the_token_of_the_machine() -> None:
    bench = Bench(client_id="local-machine-without-roles", client_secret="local-machine-without-roles-secret")
    await bench.client.get_token(MANAGEMENT, scopes=["all"])
    bench.clock.advance(10)

    with pytest.raises(GrantRefusedError) as caught:
        await bench.client.create_subject_token(BOB, resource=MANAGEMENT)
    assert caught.value.status == 403
    assert [request.url.path for request in bench.provider.asked] == ["/oidc/token", "/api/subject-tokens"]


async def test_a_machine_without_access_needs_a_role() -> None:
    bench = Bench(client_id="local-machine-without-roles", client_secret="local-machine-without-roles-secret")

    with pytest.raises(GrantRefusedError, match="a role with the permission `all`") as caught:
        await bench.client.create_subject_token(BOB, resource=MANAGEMENT)
    assert (caught.value.status, caught.value.error) == (403, "auth.forbidden")


async def test_the_resource_of_another_api_is_named_as_the_problem(bench: Bench) -> None:
    with pytest.raises(GrantRefusedError, match="this tenant's Management API") as caught:
        await bench.client.create_subject_token(BOB, resource=API)
    assert (caught.value.status, caught.value.error) == (401, "auth.unauthorized")


async def test_a_token_signed_with_a_withdrawn_key_is_replaced_once(bench: Bench) -> None:
    await bench.client.create_subject_token(BOB, resource=MANAGEMENT)
    bench.issuer.rotate(keep_previous=False)
    bench.clock.advance(10)

    assert await bench.client.create_subject_token(BOB, resource=MANAGEMENT)
    paths = [request.url.path.rpartition("/")[2] for request in bench.provider.asked[2:]]
    assert paths == ["subject-tokens", "token", "subject-tokens"]


async def test_a_young_token_is_not_replaced(bench: Bench) -> None:
    await bench.client.create_subject_token(BOB, resource=MANAGEMENT)
    bench.issuer.rotate(keep_previous=False)

    with pytest.raises(GrantRefusedError, match=r"auth\.unauthorized"):
        await bench.client.create_subject_token(BOB, resource=MANAGEMENT)
    assert len(bench.provider.asked) == 3


@pytest.mark.parametrize("name", ["token for another API (wrong audience)", "expired token, POST"])
async def test_the_claims_that_a_401_repeats_are_in_no_error(bench: Bench, name: str) -> None:
    await bench.client.get_token(MANAGEMENT, scopes=["all"])
    captured = CAPTURED[name]
    assert "jti" in captured["body"]["data"]["payload"]
    bench.provider.say(captured["body"], status=captured["status"])

    with pytest.raises(GrantRefusedError) as caught:
        await bench.client.create_subject_token(BOB, resource=MANAGEMENT)
    said = f"{caught.value} {vars(caught.value)}"
    assert not [value for value in captured["body"]["data"]["payload"].values() if str(value) in said]
    assert caught.value.description == "'Unauthorized. Please check credentials and its scope.'"


@pytest.mark.parametrize("token", [None, "S3cret-machine-token"], ids=["JWT", "opaque"])
async def test_a_token_that_the_api_repeats_is_masked(bench: Bench, token: str | None) -> None:
    if token is not None:
        bench.say_token(access_token=token)
    issued = await bench.client.get_token(MANAGEMENT, scopes=["all"])
    bench.provider.say({"code": "auth.unauthorized", "message": f"no: {issued.token}"}, status=400)

    with pytest.raises(GrantRefusedError) as caught:
        await bench.client.create_subject_token(BOB, resource=MANAGEMENT)
    assert caught.value.description == "'***'"
    assert issued.token[-20:] not in f"{caught.value} {vars(caught.value)}"


@pytest.mark.parametrize(
    ("status", "document"),
    [
        (200, {"subjectToken": "sub_1"}),
        (201, {}),
        (201, {"subjectToken": 1}),
        (201, {"subjectToken": "sub 1"}),
        (404, {"message": "Not Found"}),
        (500, {"code": "entity.create_failed"}),
    ],
)
async def test_an_unexpected_response_means_that_the_api_is_unavailable(
    bench: Bench, status: int, document: object
) -> None:
    await bench.client.get_token(MANAGEMENT, scopes=["all"])
    bench.provider.say(document, status=status)

    with pytest.raises(GrantUnavailableError, match="/api/subject-tokens: "):
        await bench.client.create_subject_token(BOB, resource=MANAGEMENT)


async def test_an_outage_of_the_management_api_blocks_no_other_request(bench: Bench) -> None:
    await bench.client.get_token(MANAGEMENT, scopes=["all"])
    bench.provider.answer = lambda _: httpx.Response(429, headers={"Retry-After": "20"})
    for _ in range(2):
        with pytest.raises(GrantUnavailableError) as caught:
            await bench.client.create_subject_token(BOB, resource=MANAGEMENT)
        assert caught.value.retry_after_seconds == 20
    assert len(bench.provider.asked) == 2
    bench.provider.answer = None

    assert (await bench.client.get_token(API)).token
    assert (await bench.client.exchange_token(bench.issuer.access_token(), API)).token
    assert len(bench.provider.asked) == 4


async def test_the_number_of_concurrent_requests_is_limited() -> None:
    bench = Bench(max_waiting=1)
    await bench.client.get_token(MANAGEMENT, scopes=["all"])
    bench.provider.gate = asyncio.Event()
    first = asyncio.create_task(bench.client.create_subject_token(BOB, resource=MANAGEMENT))
    await wait_until(lambda: len(bench.provider.asked) == 2)

    with pytest.raises(GrantUnavailableError, match="Management API: not sent, 1 are in flight"):
        await bench.client.create_subject_token(BOB, resource=MANAGEMENT)
    bench.provider.gate.set()
    assert await first


@pytest.mark.parametrize("user_id", ["", "\ud800"], ids=["empty", "surrogate"])
async def test_an_invalid_user_id_is_an_error_and_not_sent(bench: Bench, user_id: str) -> None:
    with pytest.raises(ValueError, match="expected a value for user_id"):
        await bench.client.create_subject_token(user_id, resource=MANAGEMENT)
    assert bench.provider.asked == []


PAGE: Final = Path(__file__).parents[2] / "docs/how-to/call-other-apis.md"
BILLING: Final = "https://billing.example.com"
DOCUMENTED_API: Final = "https://api.example.com"


@dataclass(frozen=True, slots=True)
class Documented:
    """The application of the documentation, connected to a local issuer, and the requests to the other API."""

    issuer: LocalIssuer
    http: TestClient
    billed: list[httpx.Request]


@pytest.fixture
def documented() -> Generator[Documented]:
    scopes = {DOCUMENTED_API: ["read:report", "impersonate:user"], BILLING: ["read:invoice"]}
    issuer = LocalIssuer(
        endpoint="https://tenant-id.logto.app",
        directory=Directory(
            resources=[Resource(indicator=name, scopes=dict.fromkeys(of, "")) for name, of in scopes.items()],
            users=[
                User(id="eva", username="eva", name="Eva", scopes=scopes),
                User(id="dora", username="dora", name="Dora", scopes={BILLING: ["read:invoice"]}),
            ],
            machines=[
                Machine(client_id="machine-app-id", client_secret="machine-app-secret", scopes={MANAGEMENT: ["all"]})
            ],
            applications=[Application(client_id="spa")],
        ),
    )
    page: dict[str, Any] = {"__name__": "page"}
    for block in re.findall(r"^```python\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL):
        exec(compile(block, str(PAGE), "exec"), page)  # noqa: S102 - our own documentation
    billed: list[httpx.Request] = []

    def bill(request: httpx.Request) -> httpx.Response:
        billed.append(request)
        return httpx.Response(200, json=["invoice"])

    # The external services of the example: its tenant, and the other API.
    page["client"] = LogtoClient(
        endpoint=issuer.endpoint,
        client_id="machine-app-id",
        client_secret="machine-app-secret",
        http_transport=httpx.ASGITransport(app=issuer.app),
    )
    page["MANAGEMENT_API"] = MANAGEMENT
    page["httpx"] = SimpleNamespace(
        AsyncClient=partial(httpx.AsyncClient, transport=httpx.MockTransport(bill)), __name__="httpx"
    )
    with issuer.connect(page["auth"]):
        yield Documented(issuer, TestClient(page["app"]), billed)


def read_billed(documented: Documented) -> dict[str, Any]:
    (request,) = documented.billed
    claims = documented.issuer.read_access_token(request.headers["authorization"].removeprefix("Bearer "))
    assert claims is not None
    return {name: claims.get(name) for name in ("sub", "act", "aud", "scope")}


def test_the_documented_impersonation_works(documented: Documented) -> None:
    issuer = documented.issuer
    headers = bearer(issuer.access_token(subject="eva")) | {"X-Actor-Token": issuer.opaque_token(subject="eva")}

    response = documented.http.get("/support/dora/invoices", headers=headers)

    assert (response.status_code, response.json()) == (200, ["invoice"])
    assert read_billed(documented) == {"sub": "dora", "act": {"sub": "eva"}, "aud": BILLING, "scope": "read:invoice"}


def test_the_documented_impersonation_requires_the_scope_and_the_callers_own_actor_token(
    documented: Documented,
) -> None:
    issuer = documented.issuer
    actor = {"X-Actor-Token": issuer.opaque_token(subject="eva")}
    for headers in (
        bearer(issuer.access_token(subject="dora", scopes=[])) | actor,
        bearer(issuer.access_token(subject="dora", scopes=["impersonate:user"])) | actor,
    ):
        assert documented.http.get("/support/eva/invoices", headers=headers).status_code == 403
    assert documented.billed == []


def test_the_documented_exchange_on_behalf_of_the_caller_works(documented: Documented) -> None:
    response = documented.http.get("/my/invoices", headers=bearer(documented.issuer.access_token(subject="dora")))

    assert response.json() == ["invoice"]
    assert read_billed(documented) == {"sub": "dora", "act": None, "aud": BILLING, "scope": "read:invoice"}


def test_the_documented_exchange_of_a_personal_access_token_works(documented: Documented) -> None:
    def read(token: str) -> tuple[int, Any]:
        response = documented.http.get("/reports", headers={"X-Personal-Access-Token": token})
        return response.status_code, response.json()

    assert read(documented.issuer.personal_access_token(subject="eva")) == (200, {"user": "eva"})
    assert read(documented.issuer.personal_access_token(subject="dora"))[0] == 403
    assert read("pat_unknown") == (401, {"detail": "the personal access token is invalid"})
