"""The example application, in a process with two variables set, accepts and refuses tokens of a real Logto."""

from collections.abc import Iterator
from dataclasses import dataclass

import httpx
import pytest

from tests import captured
from tests.integration.processes import find_free_port, run_module


@dataclass(frozen=True, slots=True)
class Row:
    """The response to one captured token at `GET /user/info`, which requires `read:user`."""

    token: str
    status: int
    code: str = ""
    reason: str = ""
    message: str = ""


ROWS = (
    Row("m2m_api", 200),
    Row("user_api_spa", 200),
    Row("user_reader_api", 200),
    # Her only scope comes from an organization's role, but it is in a plain token too.
    Row("user_norole_api", 200),
    Row("org_api_token", 200),
    Row("exchange_impersonation_act", 200),
    Row("exchange_impersonation_no_actor", 200),
    Row("pat_exchange", 200),
    Row("user_api_custom_claims", 200),
    Row("m2m_api_noscope", 403, "insufficient_scope", "scope", "lacks the scope read:user and has no scope at all"),
    Row("m2m_norole", 403, "insufficient_scope", "scope", "assign a role with this permission"),
    Row("m2m_org_api", 403, "insufficient_scope", "scope", "lacks the scope read:user;"),
    Row("user_id_token", 401, "invalid_token", "id_token", "send the access token of the same response"),
    Row("opaque", 401, "invalid_token", "opaque_token", "request the token with resource=https://api.example.test"),
    Row("management_api", 401, "invalid_token", "audience", "issued for Logto's Management API"),
    Row("m2m_org", 401, "invalid_token", "audience", "This is an organization token"),
    Row("org_token_scoped", 401, "invalid_token", "audience", "This is an organization token"),
    Row("user_api_expired", 401, "invalid_token", "expired", "refresh it or sign in again"),
)


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    port = find_free_port()
    with captured.serve_captured() as server:
        environment = {
            "LOGTO_ENDPOINT": "http://127.0.0.1:3001",
            "LOGTO_AUDIENCE": captured.API,
            # The tokens contain the port of the real server, which may be in use here.
            "LOGTO_FETCH_ENDPOINT": server.endpoint,
        }
        with run_module("uvicorn", "example_app.main:app", "--port", str(port), environment=environment) as process:
            process.wait_for_url(f"http://127.0.0.1:{port}/health")
            yield f"http://127.0.0.1:{port}"
            assert process.interrupt() in {0, -2, 130}
            assert "Traceback" not in process.output
            for row in ROWS:
                assert captured.TOKENS[row.token].token not in process.output


def test_the_table_has_every_captured_token() -> None:
    assert {row.token for row in ROWS} == set(captured.TOKENS)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.token)
def test_a_captured_token_gets_its_response(url: str, row: Row) -> None:
    token = captured.TOKENS[row.token]

    answer = httpx.get(f"{url}/user/info", headers={"Authorization": f"Bearer {token.token}"}, trust_env=False)

    assert answer.status_code == row.status
    if row.status == 200:
        assert token.claims is not None
        assert answer.json()["user_id"] == token.claims["sub"]
        assert answer.json()["scopes"] == sorted(str(token.claims["scope"]).split())
    else:
        detail = answer.json()["detail"]
        assert (detail["code"], detail["reason"]) == (row.code, row.reason)
        assert row.message in detail["message"]
        assert answer.headers["WWW-Authenticate"].startswith(f'Bearer error="{row.code}"')
