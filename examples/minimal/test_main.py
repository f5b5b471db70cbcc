from fastapi.testclient import TestClient

from fastapi_logto import auth
from fastapi_logto.testing import assert_protected, claims, override
from main import app

client = TestClient(app)


def test_every_route_requires_a_token() -> None:
    assert_protected(app)


def test_a_reader_sees_their_id() -> None:
    with override(app, auth, claims(subject="alice", scopes=["read:user"])):
        assert client.get("/user/info").json() == {"user_id": "alice"}


def test_a_user_without_the_scope_is_rejected() -> None:
    with override(app, auth, claims(subject="carol")):
        response = client.get("/user/info")
    assert response.status_code == 403
    assert response.json()["detail"]["code"] == "insufficient_scope"
