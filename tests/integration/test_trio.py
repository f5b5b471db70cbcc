"""FastAPI also runs on Trio, which this package does not support: the error says so."""

import pytest
from fastapi import Depends, FastAPI
from fastapi.testclient import TestClient

from fastapi_logto import LogtoAuth
from fastapi_logto.testing import LocalIssuer, bearer, claims, override

EXPECTED = "expected an event loop of asyncio, found none, so the application runs on Trio"


@pytest.fixture
def issuer() -> LocalIssuer:
    return LocalIssuer()


@pytest.fixture
def auth(issuer: LocalIssuer) -> LogtoAuth:
    return issuer.auth()


@pytest.fixture
def app(auth: LogtoAuth) -> FastAPI:
    app = FastAPI()
    app.add_api_route("/", lambda: 1, dependencies=[Depends(auth)])
    return app


def test_the_first_token_on_trio_fails_with_an_error_that_names_the_cause(issuer: LocalIssuer, app: FastAPI) -> None:
    client = TestClient(app, backend="trio")

    assert client.get("/").status_code == 401
    with pytest.raises(RuntimeError, match=EXPECTED):
        client.get("/", headers=bearer(issuer.access_token()))


def test_an_application_on_trio_does_not_start(auth: LogtoAuth, app: FastAPI) -> None:
    auth.install(app)

    with pytest.raises(RuntimeError, match=EXPECTED), TestClient(app, backend="trio"):
        pass  # pragma: no cover - it never starts


def test_settings_from_the_environment_are_not_read_on_trio() -> None:
    app = FastAPI()
    app.add_api_route("/", lambda: 1, dependencies=[Depends(LogtoAuth())])

    with pytest.raises(RuntimeError, match=EXPECTED):
        TestClient(app, backend="trio").get("/", headers=bearer("a"))


def test_the_metadata_is_not_served_on_trio(auth: LogtoAuth, app: FastAPI) -> None:
    auth.install(app, lifespan=False)

    with pytest.raises(RuntimeError, match=EXPECTED):
        TestClient(app, backend="trio").get("/.well-known/oauth-protected-resource")


def test_an_override_works_on_trio(auth: LogtoAuth, app: FastAPI) -> None:
    with override(app, auth, claims()):
        assert TestClient(app, backend="trio").get("/").status_code == 200
