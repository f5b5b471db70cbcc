"""The example application on a real socket, route by route."""

import hmac
import json
import re
from datetime import UTC, datetime
from pathlib import Path

import httpx
import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from example_app.settings import ExampleSettings
from fastapi_logto.testing import LocalIssuer, bearer
from tests.integration.conftest import WEBHOOK_SIGNING_KEY, Example
from tests.integration.processes import find_free_port, run_module

ROOT = Path(__file__).parents[2]
PROTECTED = """
from fastapi import Depends, FastAPI

from fastapi_logto import auth

app = FastAPI()


@app.get("/", dependencies=[Depends(auth)])
async def read() -> None: ...
"""


def call(
    example: Example, path: str, token: str | None = None, *, method: str = "GET", body: object = None
) -> httpx.Response:
    headers = {} if token is None else {"Authorization": f"Bearer {token}"}
    return httpx.request(method, example.url + path, headers=headers, json=body, trust_env=False)


def test_user_info_needs_read_user(example: Example) -> None:
    good = call(example, "/user/info", example.issuer.access_token(subject="me", scopes=["read:user", "other"]))
    poor = call(example, "/user/info", example.issuer.access_token(scopes=["write:user"]))
    forged = call(example, "/user/info", example.issuer.bad_token("forged"))

    assert (good.status_code, good.json()["user_id"], good.json()["scopes"]) == (200, "me", ["other", "read:user"])
    assert (poor.status_code, poor.json()["detail"]["code"]) == (403, "insufficient_scope")
    assert (forged.status_code, forged.json()["detail"]["reason"]) == (401, "signature")
    assert call(example, "/user/info").json()["detail"]["code"] == "auth.authorization_header_missing"


def test_changing_user_info_needs_write_user(example: Example) -> None:
    writer = example.issuer.access_token(subject="writer", scopes=["read:user", "write:user"])
    reader = example.issuer.access_token(subject="writer", scopes=["read:user"])

    refused = call(example, "/user/info", reader, method="PATCH", body={"nickname": "no"})
    changed = call(example, "/user/info", writer, method="PATCH", body={"nickname": "Wanda"})

    assert refused.status_code == 403
    assert changed.json() == {"user_id": "writer", "scopes": ["read:user", "write:user"], "nickname": "Wanda"}
    assert call(example, "/user/info", reader).json()["nickname"] == "Wanda"
    assert call(example, "/user/info", writer, method="PATCH", body={"nickname": ""}).status_code == 422


def test_health_is_open_and_tells_the_state_of_the_keys(example: Example) -> None:
    answer = call(example, "/health")

    assert answer.status_code == 200
    body = answer.json()
    assert body["status"] == "ok"
    assert (body["keys"]["is_ready"], body["keys"]["is_stale"], body["keys"]["count"]) == (True, False, 1)
    assert body["keys"]["age_seconds"] >= 0


def test_a_greeting_is_for_anybody_but_not_for_an_invalid_token(example: Example) -> None:
    assert call(example, "/greeting").json() == {"message": "Hello, stranger"}
    assert call(example, "/greeting", example.issuer.access_token(subject="me")).json() == {"message": "Hello, me"}
    assert call(example, "/greeting", example.issuer.bad_token("forged")).status_code == 401


def test_the_account_router_is_protected_as_a_whole(example: Example) -> None:
    token = example.issuer.access_token(subject="me", scopes=["write:user"])
    claims = call(example, "/account/claims", token)

    assert (claims.status_code, claims.json()["sub"], claims.json()["scope"]) == (200, "me", "write:user")
    assert call(example, "/account/permissions", token).json() == ["write:user"]
    assert call(example, "/account/permissions", example.issuer.access_token(scopes=["x"])).status_code == 403
    assert call(example, "/account/claims").status_code == 401
    assert call(example, "/account/permissions").status_code == 401


def test_the_members_of_an_organization_need_its_own_token_with_read_user(example: Example) -> None:
    mint = example.issuer
    in_a, in_b = (mint.access_token(subject="me", scopes=["read:user"], organization_id=name) for name in "AB")
    path = "/organizations/A/members"

    assert call(example, path, in_a).json() == {"organization_id": "A", "members": ["me"]}
    assert call(example, path, in_b).json()["detail"]["code"] == "organization_mismatch"
    assert (
        call(example, path, mint.access_token(scopes=["read:user"])).json()["detail"]["code"] == "organization_required"
    )
    assert call(example, path, mint.organization_token("A")).json()["detail"]["code"] == "insufficient_scope"
    assert call(example, "/projects", mint.organization_token("A")).json() == {"organization_id": "A", "projects": []}


def test_who_may_call_is_a_matter_of_the_route(example: Example) -> None:
    mint = example.issuer
    machine, user = mint.machine_token(), mint.access_token(subject="me")
    acting = mint.access_token(actor="support")
    billing = mint.access_token(subject="me", audience="https://billing.example.test")

    assert call(example, "/sync", machine, method="POST").json() == {"by": "local-machine"}
    assert call(example, "/sync", user, method="POST").json()["detail"]["code"] == "machine_required"
    assert call(example, "/inbox", user).json() == ["Welcome, me"]
    assert call(example, "/inbox", acting).json()["detail"]["code"] == "actor_not_allowed"
    assert call(example, "/invoices", billing).json() == ["No invoice for me"]
    assert call(example, "/invoices", user).json()["detail"]["reason"] == "audience"
    assert call(example, "/user/info", billing).json()["detail"]["reason"] == "audience"


def test_the_routes_for_support_beta_and_plan_each_accept_only_their_callers(example: Example) -> None:
    mint = example.issuer
    user = mint.access_token(subject="me", client_id="another-app")

    acting = call(example, "/support/notes", mint.access_token(subject="me", actor="ada"))
    assert acting.json() == ["ada looks after me"]
    assert call(example, "/support/notes", user).json()["detail"]["code"] == "actor_required"
    assert call(example, "/beta", mint.access_token()).json() == "Welcome to the beta from local-spa"
    assert call(example, "/beta", user).json()["detail"]["code"] == "client_not_allowed"
    assert call(example, "/pro", mint.access_token(subject="me", claims={"plan": "pro"})).json() == "Thank you, me"
    refused = call(example, "/pro", user).json()["detail"]
    assert (refused["code"], refused["message"].rpartition(": ")[2]) == (
        "claims_not_allowed",
        "A token with the plan `pro`.",
    )


def test_a_stream_ends_with_its_token_or_before(example: Example) -> None:
    reader = example.issuer.access_token(scopes=["read:user"])

    assert call(example, "/ticks", reader).text.splitlines() == ["tick 0", "tick 1", "tick 2"]
    ending = example.issuer.access_token(scopes=["read:user"], lifetime_seconds=-9)
    cut = call(example, "/ticks?count=20", ending).text.splitlines()
    assert 1 <= len(cut) < 20


def test_the_api_calls_another_api_as_itself_and_on_behalf_of_its_caller(example: Example) -> None:
    bob = next(user for user in example.issuer.directory.users if user.username == "bob")
    user = example.issuer.access_token(subject=bob.id)

    assert call(example, "/calls/machine", user).json() == {"scopes": ["read:user"]}
    assert call(example, "/calls/on-behalf", user).json() == {"scopes": ["read:user"]}
    stranger = example.issuer.access_token(subject="nobody")
    assert call(example, "/calls/on-behalf", stranger).status_code == 502
    assert call(example, "/calls/on-behalf", example.issuer.machine_token()).status_code == 403


@pytest.mark.usefixtures("example")
def test_a_tenant_that_issues_no_token_is_reported() -> None:
    # Here, because these modules read the environment that the fixture sets.
    from example_app import calls
    from example_app.scheme import auth

    app = FastAPI()
    app.include_router(calls.build_router(ExampleSettings(machine_id="local-machine", machine_secret="wrong")))

    with LocalIssuer().serve() as issuer, issuer.connect(auth):
        answer = TestClient(app).get("/calls/machine", headers=bearer(issuer.access_token()))

    assert (answer.status_code, answer.json()) == (502, {"detail": "The tenant issues no token"})


def test_a_webhook_revokes_the_tokens_of_a_suspended_user(example: Example) -> None:
    token = example.issuer.access_token(subject="suspended")
    other = example.issuer.access_token(subject="another")
    assert call(example, "/account/claims", token).status_code == 200
    body = json.dumps(
        {
            "event": "User.SuspensionStatus.Updated",
            "createdAt": datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "hookId": "hook",
            "data": {"id": "suspended", "isSuspended": True},
        }
    ).encode()
    signature = hmac.new(WEBHOOK_SIGNING_KEY.encode(), body, "sha256").hexdigest()

    received = httpx.post(
        f"{example.url}/webhooks/logto",
        content=body,
        headers={"logto-signature-sha-256": signature},
        trust_env=False,
    )

    assert received.status_code == 204
    assert call(example, "/account/claims", token).json()["detail"]["reason"] == "revoked"
    assert call(example, "/account/claims", other).status_code == 200


def test_an_opaque_token_opens_the_profile_alone(example: Example) -> None:
    opaque = example.issuer.opaque_token(subject="me")

    assert call(example, "/profile", opaque).json() == "me"
    assert call(example, "/profile", example.issuer.access_token(subject="me", scopes=["openid"])).json() == "me"
    assert call(example, "/profile", example.issuer.opaque_token(scopes=["profile"])).status_code == 403
    assert call(example, "/account/claims", opaque).json()["detail"]["reason"] == "opaque_token"


def test_the_websocket_echoes_for_a_valid_token_and_is_denied_with_the_body_of_a_refusal(example: Example) -> None:
    url = example.url.replace("http", "ws") + "/echo"
    headers = {"Authorization": f"Bearer {example.issuer.access_token(subject='me', scopes=['read:user'])}"}

    with connect(url, additional_headers=headers, proxy=None) as websocket:
        websocket.send("hello")
        assert websocket.recv() == "me: hello"

    with pytest.raises(InvalidStatus) as refused, connect(url, proxy=None):
        pass
    assert refused.value.response.status_code == 401
    assert refused.value.response.headers["WWW-Authenticate"].startswith('Bearer realm="Logto"')


def test_a_page_of_another_origin_may_call_and_read_why_it_was_refused(example: Example) -> None:
    preflight = httpx.options(
        f"{example.url}/user/info",
        headers={
            "Origin": "https://app.example.com",
            "Access-Control-Request-Method": "PATCH",
            "Access-Control-Request-Headers": "authorization,content-type",
        },
        trust_env=False,
    )
    refused = httpx.get(f"{example.url}/user/info", headers={"Origin": "https://app.example.com"}, trust_env=False)

    assert preflight.status_code == 200
    allowed = {name.strip().lower() for name in preflight.headers["Access-Control-Allow-Headers"].split(",")}
    assert {"authorization", "content-type"} <= allowed
    assert refused.status_code == 401
    assert refused.headers["Access-Control-Allow-Origin"] == "*"
    assert refused.headers["Access-Control-Expose-Headers"] == "WWW-Authenticate"


def test_openapi_shows_the_scheme_and_the_scopes_of_each_route(example: Example) -> None:
    schema = call(example, "/openapi.json").json()

    paths = schema["paths"]
    assert paths["/user/info"]["get"]["security"] == [{"Logto": ["read:user"]}]
    assert paths["/user/info"]["patch"]["security"] == [{"Logto": ["write:user"]}]
    assert "security" not in paths["/health"]["get"]
    flow = schema["components"]["securitySchemes"]["Logto"]["flows"]["authorizationCode"]
    assert set(flow["scopes"]) == {"profile", "read:user", "write:user"}
    assert flow["tokenUrl"] == f"{example.issuer.issuer}/token"
    assert "TokenClaims" in schema["components"]["schemas"]
    assert call(example, "/docs").status_code == 200


def test_a_rotation_without_grace_is_followed(example: Example) -> None:
    example.issuer.rotate(keep_previous=False)

    assert call(example, "/user/info", example.issuer.access_token(subject="me")).status_code == 200


@pytest.mark.parametrize("way", ["logging", "log config"])
def test_the_documented_ways_to_see_why_a_request_was_rejected(way: str, tmp_path: Path) -> None:
    page = (ROOT / "docs/how-to/operations.md").read_text()
    (snippet,) = re.findall(r'^```py title="main.py"\n(.*?)^```', page, re.MULTILINE | re.DOTALL)
    assert '--8<-- "example_app/logging.json"' in page
    (tmp_path / "main.py").write_text((snippet if way == "logging" else "") + PROTECTED)
    arguments = [] if way == "logging" else ["--log-config", str(ROOT / "example_app/logging.json")]

    port = str(find_free_port())
    with LocalIssuer().serve() as issuer:
        environment = {"LOGTO_ENDPOINT": issuer.endpoint, "LOGTO_AUDIENCE": issuer.audience}
        with run_module(
            "uvicorn", "main:app", "--port", port, *arguments, environment=environment, cwd=tmp_path
        ) as api:
            api.wait_for_text("Uvicorn running on")
            headers = bearer(issuer.access_token(audience="https://other.example.test"))
            # The first request loads modules and fetches the keys.
            response = httpx.get(f"http://127.0.0.1:{port}/", headers=headers, trust_env=False, timeout=60)
            assert response.status_code == 401
            shown = api.wait_for_text("other.example.test")

    (line,) = (line for line in shown.splitlines() if "refused" in line)
    assert line.endswith(
        "INFO fastapi_logto: refused: invalid_token: audience, claim aud, expected 'https://api.example.test', found "
        "'https://other.example.test'"
    )
