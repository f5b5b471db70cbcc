"""Errors of `auth.verify` and `requirement.check` in the code of an application become error responses."""

import logging
from typing import Annotated, Any

import pytest
from fastapi import Depends, FastAPI, HTTPException, Query, Request, Response, WebSocket
from fastapi.responses import JSONResponse
from fastapi.testclient import TestClient
from starlette.testclient import WebSocketDenialResponse
from starlette.websockets import WebSocketDisconnect

from fastapi_logto import LogtoAuth, RefusalError, TokenClaims
from fastapi_logto.testing import LocalIssuer

issuer = LocalIssuer()
PAGE = 'resource_metadata="https://api.example.test/.well-known/oauth-protected-resource"'


def build_app(auth: LogtoAuth, **arguments: Any) -> FastAPI:
    app = FastAPI(**arguments)
    requirement = auth.require_scopes("read:user")

    async def verify(token: Annotated[str, Query()]) -> TokenClaims:
        return requirement.check(await auth.verify(token))

    @app.get("/")
    async def read(claims: Annotated[TokenClaims, Depends(verify)]) -> str:
        return claims.sub

    @app.websocket("/early")
    async def early(websocket: WebSocket, claims: Annotated[TokenClaims, Depends(verify)]) -> None: ...

    @app.websocket("/late")
    async def late(websocket: WebSocket) -> None:
        await websocket.accept()
        await requirement.verify(await websocket.receive_text())
        await websocket.send_text("in")
        await websocket.close()

    return app


@pytest.fixture
def auth() -> LogtoAuth:
    return issuer.auth(public_url="https://api.example.test")


@pytest.fixture
def client(auth: LogtoAuth) -> TestClient:
    app = build_app(auth)
    auth.install(app)
    return TestClient(app)


def get(client: TestClient, token: str) -> Any:
    return client.get("/", params={"token": token})


def test_a_valid_token_is_accepted(client: TestClient) -> None:
    assert get(client, issuer.access_token(subject="me")).json() == "me"


def test_an_invalid_token_is_a_401_with_the_body_and_the_challenge_of_a_route(client: TestClient) -> None:
    answer = get(client, issuer.bad_token("forged"))

    assert (answer.status_code, answer.json()["detail"]["reason"]) == (401, "signature")
    assert answer.headers["WWW-Authenticate"].startswith('Bearer error="invalid_token", error_description="Invalid')
    assert answer.headers["WWW-Authenticate"].endswith(PAGE)


def test_a_missing_scope_is_a_403_that_names_it(client: TestClient) -> None:
    answer = get(client, issuer.access_token(scopes=[]))

    assert (answer.status_code, answer.json()["detail"]["code"]) == (403, "insufficient_scope")
    assert 'scope="read:user"' in answer.headers["WWW-Authenticate"]


def test_an_outage_is_a_503(client: TestClient) -> None:
    with issuer.outage():
        answer = get(client, issuer.access_token())

    assert (answer.status_code, answer.json()["detail"]["code"]) == (503, "provider_unavailable")
    assert int(answer.headers["Retry-After"]) >= 1


def test_the_refusal_is_logged(client: TestClient, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "fastapi_logto"):
        get(client, issuer.access_token(scopes=[]))

    assert "refused: insufficient_scope: scope, claim scope" in caplog.text


def test_without_pages_of_metadata_the_challenge_names_none(auth: LogtoAuth) -> None:
    app = build_app(auth)
    auth.install(app, metadata=False)
    answer = get(TestClient(app), issuer.bad_token("forged"))

    assert (answer.status_code, answer.json()["detail"]["reason"]) == (401, "signature")
    assert "resource_metadata" not in answer.headers["WWW-Authenticate"]


def test_with_several_resources_the_challenge_names_no_metadata(auth: LogtoAuth) -> None:
    auth.for_audience("https://billing.example")
    app = build_app(auth)
    auth.install(app)

    assert "resource_metadata" not in get(TestClient(app), "x").headers["WWW-Authenticate"]


def test_which_of_several_tenants_was_meant_is_not_guessed(auth: LogtoAuth) -> None:
    app = build_app(LogtoAuth(endpoint="https://other.example", audience="https://billing.example"))
    auth.install(app)
    LogtoAuth(endpoint="https://other.example", audience="https://billing.example").install(app, lifespan=False)

    assert "resource_metadata" not in get(TestClient(app), "x").headers["WWW-Authenticate"]


def test_a_handler_of_the_application_is_kept(auth: LogtoAuth) -> None:
    app = build_app(auth)

    @app.exception_handler(RefusalError)
    async def handle(_request: Request, error: RefusalError) -> Response:
        return JSONResponse({"mine": error.reason}, status_code=error.status)

    auth.install(app)

    assert get(TestClient(app), "x").json() == {"mine": "malformed"}


@pytest.mark.parametrize("key", [HTTPException, 401])
@pytest.mark.parametrize("kind", ["function", "coroutine function"])
def test_the_applications_own_form_of_http_errors_is_used(auth: LogtoAuth, key: Any, kind: str) -> None:
    def build(_request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        detail: Any = error.detail
        return JSONResponse({"problem": detail["reason"]}, status_code=error.status_code, headers=error.headers)

    async def build_async(request: Request, error: Exception) -> Response:
        return build(request, error)

    app = build_app(auth, exception_handlers={key: build if kind == "function" else build_async})
    auth.install(app)

    answer = get(TestClient(app), "x")

    assert (answer.status_code, answer.json()) == (401, {"problem": "malformed"})
    assert "WWW-Authenticate" in answer.headers


def test_a_websocket_that_was_not_accepted_gets_a_denial_response(client: TestClient) -> None:
    with pytest.raises(WebSocketDenialResponse) as denied, client.websocket_connect("/early?token=x"):
        pass

    assert (denied.value.status_code, denied.value.json()["detail"]["reason"]) == (401, "malformed")


def test_without_the_extension_a_websocket_is_closed(client: TestClient) -> None:
    async def without(scope: Any, receive: Any, send: Any) -> None:
        await client.app({**scope, "extensions": {}}, receive, send)

    with pytest.raises(WebSocketDisconnect) as closed, TestClient(without).websocket_connect("/early?token=x"):
        pass

    assert (closed.value.code, closed.value.reason) == (1008, "invalid_token")


def test_an_accepted_websocket_is_closed_with_the_code(client: TestClient) -> None:
    with client.websocket_connect("/late") as websocket:
        websocket.send_text(issuer.access_token())
        assert websocket.receive_text() == "in"

    with client.websocket_connect("/late") as websocket:
        websocket.send_text(issuer.access_token(scopes=[]))
        with pytest.raises(WebSocketDisconnect) as closed:
            websocket.receive_text()
    assert (closed.value.code, closed.value.reason) == (1008, "insufficient_scope")
