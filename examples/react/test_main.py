from fastapi.testclient import TestClient

from fastapi_logto import auth
from fastapi_logto.testing import assert_protected, claims, override
from main import app

client = TestClient(app)
ORIGIN = {"Origin": "http://127.0.0.1:5173"}


def test_every_route_requires_a_token() -> None:
    assert_protected(app)


def test_the_page_may_send_its_token_and_read_a_rejection() -> None:
    wanted = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization"}
    preflight = client.options("/visits", headers=ORIGIN | wanted)
    assert preflight.status_code == 200
    assert preflight.headers["access-control-allow-origin"] == ORIGIN["Origin"]

    with override(app, auth, claims(subject="bob", scopes=["read:user"])):
        rejected = client.post("/visits", headers=ORIGIN)
    assert rejected.status_code == 403
    assert rejected.json()["detail"]["code"] == "insufficient_scope"
    assert rejected.headers["access-control-allow-origin"] == ORIGIN["Origin"]


def test_a_page_of_another_origin_may_not() -> None:
    preflight = client.options(
        "/visits", headers={"Origin": "https://attacker.test", "Access-Control-Request-Method": "POST"}
    )
    assert preflight.status_code == 400
    assert "access-control-allow-origin" not in preflight.headers


def test_visits_are_counted_per_user() -> None:
    for user, visits in (("alice", 1), ("alice", 2), ("dora", 1)):
        with override(app, auth, claims(subject=user, scopes=["write:user"])):
            assert client.post("/visits").json() == {"visits": visits}
