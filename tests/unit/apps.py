"""An issuer plugged into `LogtoAuth` without a network, and what tests of the FastAPI side share."""

from typing import Any

import httpx
from starlette.testclient import TestClient

from fastapi_logto import LogtoAuth
from fastapi_logto.testing import LocalIssuer

API = "https://api.example.test"


def build_auth(issuer: LocalIssuer, **arguments: Any) -> LogtoAuth:
    """Give a scheme for the issuer's tenant that reaches it in memory."""
    return LogtoAuth(
        endpoint=issuer.endpoint, audience=API, http_transport=httpx.ASGITransport(app=issuer.app), **arguments
    )


def bearer(token: str) -> dict[str, str]:
    """Give the headers of a request with a token."""
    return {"Authorization": f"Bearer {token}"}


def detail(client: TestClient, path: str, headers: dict[str, str] | None = None) -> tuple[int, str, str]:
    """Give status, code and reason of a refused request."""
    answer = client.get(path, headers=headers or {})
    body = answer.json()["detail"]
    return answer.status_code, body["code"], body["reason"]
