"""Two servers of two workers each: a call to one worker ends the tokens of a user on all four."""

import json
import time
from collections.abc import Generator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import httpx
import pytest

from fastapi_logto.testing import LocalIssuer
from tests.integration.processes import find_free_port, run_module
from tests.integration.redis_server import RedisServer

APPLICATION = """
import json, os
import httpx
from fastapi import Depends, FastAPI, Response
from fastapi_logto import LogtoAuth
from fastapi_logto.revocation import RedisStore, Revocations

documents = json.loads(os.environ["DOCUMENTS"])
revocations = Revocations(RedisStore(os.environ["REDIS_URL"]))
auth = LogtoAuth(
    endpoint="https://tenant.example.test",
    audience="https://api.example.test",
    http_transport=httpx.MockTransport(lambda request: httpx.Response(200, json=documents[request.url.path])),
    revocations=revocations,
)
app = FastAPI()
auth.install(app)

@app.middleware("http")
async def name_worker(request, call_next):
    response = await call_next(request)
    response.headers["worker"] = str(os.getpid())
    return response

@app.get("/")
async def read(claims=Depends(auth)):
    return claims.sub

@app.post("/suspended/{user_id}", dependencies=[Depends(auth.require_scopes("manage:users"))])
async def suspend(user_id: str):
    await revocations.revoke(user_id=user_id)
"""
ISSUER = LocalIssuer(endpoint="https://tenant.example.test")


@pytest.fixture
def servers(redis_server: RedisServer, tmp_path: Path) -> Generator[tuple[str, str]]:
    """The URLs of two servers that share a Redis."""
    (tmp_path / "application.py").write_text(APPLICATION)
    documents = {
        "/oidc/.well-known/openid-configuration": {
            "issuer": ISSUER.issuer,
            "jwks_uri": "https://tenant.example.test/oidc/jwks",
        },
        "/oidc/jwks": ISSUER.jwks(),
    }
    environment = {"DOCUMENTS": json.dumps(documents), "REDIS_URL": redis_server.url}
    with ExitStack() as stack:
        first, second = (stack.enter_context(run_server(tmp_path, environment)) for _ in range(2))
        yield first, second


@contextmanager
def run_server(folder: Path, environment: dict[str, str]) -> Generator[str]:
    port = find_free_port()
    arguments = ("--workers", "2", "--port", str(port), "--log-level", "warning", "application:app")
    with run_module("uvicorn", *arguments, environment=environment, cwd=folder) as process:
        try:
            process.wait_for_url(f"http://127.0.0.1:{port}/docs")
            yield f"http://127.0.0.1:{port}"
        finally:
            # If it was killed, its workers would continue.
            process.interrupt()


def ask_all(servers: tuple[str, str], token: str) -> dict[str, tuple[int, str]]:
    """Return status and text of the latest response of each worker, after all four have answered."""
    found: dict[str, tuple[int, str]] = {}
    for url in servers:
        workers: set[str] = set()
        while len(workers) < 2:
            # A new connection, which any worker may accept.
            response = httpx.get(url, headers={"Authorization": f"Bearer {token}"}, trust_env=False, timeout=20)
            workers.add(response.headers["worker"])
            found[response.headers["worker"]] = response.status_code, response.text
    return found


def test_a_user_who_is_suspended_on_one_worker_is_refused_by_all_four(servers: tuple[str, str]) -> None:
    alice, bob = (ISSUER.access_token(subject=name) for name in ("alice", "bob"))
    admin = {"Authorization": f"Bearer {ISSUER.access_token(subject='admin', scopes=['manage:users'])}"}
    before = ask_all(servers, alice)
    assert len(before) == 4
    assert set(before.values()) == {(200, '"alice"')}

    suspended = httpx.post(f"{servers[0]}/suspended/alice", headers=admin, trust_env=False, timeout=20)
    assert suspended.status_code == 200
    deadline = time.monotonic() + 30
    after = ask_all(servers, alice)
    while (200, '"alice"') in after.values() and time.monotonic() < deadline:
        after = ask_all(servers, alice)

    assert after.keys() == before.keys()
    assert {(status, json.loads(text)["detail"]["reason"]) for status, text in after.values()} == {(401, "revoked")}
    assert set(ask_all(servers, bob).values()) == {(200, '"bob"')}
