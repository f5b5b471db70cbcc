import asyncio
import socket
import threading
import time
from collections.abc import Iterator

import httpx
import pytest
import uvicorn
from fastapi.testclient import TestClient

from fastapi_logto import auth
from fastapi_logto.testing import LocalIssuer, assert_protected, bearer
from main import USERS, app
from worker import send


@pytest.fixture
def issuer() -> Iterator[LocalIssuer]:
    with LocalIssuer().serve() as issuer, issuer.connect(auth):
        yield issuer


@pytest.fixture
def api() -> Iterator[str]:
    """The URL of the API, served in a thread."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        # Without a limit, Python 3.12 waits until the other side has closed each connection.
        config = uvicorn.Config(app, log_level="warning", ws="none", timeout_graceful_shutdown=1)
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, args=([listener],))
        thread.start()
        # uvicorn does not close its sockets if it is stopped while it starts.
        while thread.is_alive() and not server.started:
            time.sleep(0.01)
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        server.should_exit = True
        thread.join()


@pytest.fixture(autouse=True)
def environment(issuer: LocalIssuer, api: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the worker reads."""
    USERS.clear()
    monkeypatch.setenv("API_URL", api)
    monkeypatch.setenv("LOGTO_ENDPOINT", issuer.endpoint)
    monkeypatch.setenv("LOGTO_AUDIENCE", issuer.audience)
    monkeypatch.setenv("LOGTO_MACHINE_ID", "local-machine")
    monkeypatch.setenv("LOGTO_MACHINE_SECRET", "local-machine-secret")
    # The API listens on this machine, so no proxy can reach it.
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


def test_every_route_requires_a_token() -> None:
    assert_protected(app)


def test_the_api_stores_what_the_worker_sends() -> None:
    assert asyncio.run(send(["alice", "bob"])) == 2
    assert USERS == ["alice", "bob"]


def test_a_second_run_replaces_the_list() -> None:
    asyncio.run(send(["alice", "bob"]))
    assert asyncio.run(send(["alice"])) == 1
    assert USERS == ["alice"]


def test_a_worker_without_a_role_is_rejected(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOGTO_MACHINE_ID", "local-machine-without-roles")
    monkeypatch.setenv("LOGTO_MACHINE_SECRET", "local-machine-without-roles-secret")
    with pytest.raises(httpx.HTTPStatusError, match="403"):
        asyncio.run(send(["mallory"]))
    assert USERS == []


def test_a_user_is_rejected(issuer: LocalIssuer) -> None:
    response = TestClient(app).put(
        "/users", json=["mallory"], headers=bearer(issuer.access_token(scopes=["write:user"]))
    )
    assert response.json()["detail"]["code"] == "machine_required"
    assert USERS == []
