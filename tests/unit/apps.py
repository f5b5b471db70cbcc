"""Helpers for tests with FastAPI applications."""

import base64
import hashlib
from collections.abc import Sequence
from typing import Annotated, Any
from urllib.parse import parse_qs, urlsplit

from fastapi import APIRouter, Depends, FastAPI
from starlette.routing import BaseRoute
from starlette.testclient import TestClient
from typing_extensions import override

from fastapi_logto import LogtoAuth, TokenClaims
from fastapi_logto.testing import LocalIssuer

API = "https://api.example.test"


class CountingApp(FastAPI):
    """An application that counts how often its routes are read."""

    reads = 0

    @property
    @override
    def routes(self) -> list[BaseRoute]:
        self.reads += 1
        return super().routes


def build_organization_router(logto: LogtoAuth, *dependencies: Any) -> APIRouter:
    """Return a router with one route, which requires the organization in its path."""
    router = APIRouter(prefix="/of/{organization_id}", dependencies=[Depends(one) for one in dependencies])

    @router.get("/members")
    async def read(claims: Annotated[TokenClaims, Depends(logto.require_organization("read:user"))]) -> str:
        return claims.user_id

    return router


def detail(client: TestClient, path: str, headers: dict[str, str] | None = None) -> tuple[int, str, str]:
    """Return status, code and reason of a refused request."""
    answer = client.get(path, headers=headers or {})
    body = answer.json()["detail"]
    return answer.status_code, body["code"], body["reason"]


def sign_in(
    issuer: LocalIssuer, *, user: str = "alice", scope: str = "openid offline_access", resources: Sequence[str] = ()
) -> dict[str, Any]:
    """Run the authorization code flow, and return the token response."""
    http = TestClient(issuer.app, base_url=issuer.endpoint, follow_redirects=False)
    verifier = "v" * 43
    challenge = base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=").decode()
    asked = {
        "response_type": "code",
        "client_id": "local-spa",
        "redirect_uri": "http://127.0.0.1:8000/docs/oauth2-redirect",
        "scope": scope,
        "resource": resources,
        "grant": scope.split(),
        "prompt": "consent",
        "code_challenge": challenge,
        "code_challenge_method": "S256",
    }
    allowed = http.post("/oidc/auth", data={**asked, "action": "allow", "user": user})
    (code,) = parse_qs(urlsplit(allowed.headers["location"]).query)["code"]
    form = {"grant_type": "authorization_code", "client_id": "local-spa", "code": code, "code_verifier": verifier}
    answer: dict[str, Any] = http.post("/oidc/token", data=form | {"redirect_uri": asked["redirect_uri"]}).json()
    return answer
