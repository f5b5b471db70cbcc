from fastapi.testclient import TestClient

from fastapi_logto import auth
from fastapi_logto.testing import LocalIssuer, assert_protected, bearer
from main import app

client = TestClient(app)


def test_every_other_route_requires_a_token() -> None:
    assert_protected(app, except_=["/health"])


def test_a_user_reads_their_id() -> None:
    with LocalIssuer().connect(auth) as issuer:
        headers = bearer(issuer.access_token(subject="alice", scopes=["read:user"]))
        assert client.get("/user/info", headers=headers).json() == {"user_id": "alice"}


def test_the_api_is_ready_when_it_has_the_keys() -> None:
    with LocalIssuer().connect(auth) as issuer:
        assert client.get("/health").status_code == 503
        client.get("/user/info", headers=bearer(issuer.access_token()))
        assert client.get("/health").status_code == 204
