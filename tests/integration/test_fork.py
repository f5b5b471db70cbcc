"""A process forks after its first verification, in gunicorn and with `os.fork`: every child can verify tokens."""

import json
import os
from collections.abc import Mapping
from pathlib import Path

import httpx
import pytest

from fastapi_logto.testing import LocalIssuer
from tests.integration.processes import find_free_port, run_module

APPLICATION = """
import asyncio, json, os, sys
if os.environ["BACKEND"] == "openssl":
    sys.modules["awscrt"] = None
import httpx
from fastapi import Depends, FastAPI
from fastapi_logto import LogtoAuth

documents = json.loads(os.environ["DOCUMENTS"])
auth = LogtoAuth(
    endpoint="https://tenant.example.test",
    audience="https://api.example.test",
    http_transport=httpx.MockTransport(lambda request: httpx.Response(200, json=documents[request.url.path])),
)
tokens = json.loads(os.environ["TOKENS"])
# The first verifications, in the process that forks: many, so that some take turns.
async def warm():
    await asyncio.gather(*(auth.verify(token) for token in tokens[:20]))
asyncio.run(warm())

app = FastAPI()

@app.get("/")
async def read(claims=Depends(auth)):
    return {"process": os.getpid(), "user": claims.sub}
"""


@pytest.fixture(scope="module", params=["openssl", "aws-lc"])
def environment(request: pytest.FixtureRequest) -> Mapping[str, str]:
    """Return the variables of a tenant, and of tokens that no process has verified yet."""
    issuer = LocalIssuer(endpoint="https://tenant.example.test")
    documents = {
        "/oidc/.well-known/openid-configuration": {
            "issuer": issuer.issuer,
            "jwks_uri": "https://tenant.example.test/oidc/jwks",
        },
        "/oidc/jwks": issuer.jwks(),
    }
    tokens = [issuer.access_token(subject=f"user-{number}") for number in range(60)]
    return {"DOCUMENTS": json.dumps(documents), "TOKENS": json.dumps(tokens), "BACKEND": str(request.param)}


def test_workers_of_gunicorn_with_preload_verify_new_tokens(environment: Mapping[str, str], tmp_path: Path) -> None:
    (tmp_path / "application.py").write_text(APPLICATION)
    tokens: list[str] = json.loads(environment["TOKENS"])[20:]
    port = find_free_port()
    arguments = (
        "--preload",
        "--workers",
        "2",
        "--worker-class",
        "uvicorn_worker.UvicornWorker",
        "--graceful-timeout",
        "1",
    )
    with run_module(
        "gunicorn", *arguments, "--bind", f"127.0.0.1:{port}", "application:app", environment=environment, cwd=tmp_path
    ) as process:
        process.wait_for_url(f"http://127.0.0.1:{port}/docs")
        seen: set[int] = set()
        for number, token in enumerate(tokens, start=20):
            headers = {"Authorization": f"Bearer {token}", "Connection": "close"}
            response = httpx.get(f"http://127.0.0.1:{port}/", headers=headers, trust_env=False, timeout=20)
            assert (response.status_code, response.json()["user"]) == (200, f"user-{number}")
            seen.add(response.json()["process"])
        process.interrupt()

    assert os.getpid() not in seen
    assert seen


FORK = (
    APPLICATION
    + """
import signal

children = []
for number in range(2):
    child = os.fork()
    if child == 0:
        signal.alarm(30)
        async def verify():
            return [claims.sub for claims in await asyncio.gather(*(auth.verify(token) for token in tokens[20:]))]
        users = asyncio.run(verify())
        os._exit(0 if users == [f"user-{number}" for number in range(20, 60)] else 1)
    children.append(child)
codes = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
print("children ended with", codes, flush=True)
"""
)


def test_a_child_of_fork_verifies_new_tokens(environment: Mapping[str, str], tmp_path: Path) -> None:
    (tmp_path / "forking.py").write_text(FORK)

    with run_module("forking", environment=environment, cwd=tmp_path) as process:
        process.wait()

    assert "children ended with [0, 0]" in process.output
