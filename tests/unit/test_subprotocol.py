"""The token of a WebSocket as a subprotocol, for browsers, which can't set its headers."""

from typing import Annotated, Any

import pytest
from fastapi import Depends, FastAPI, WebSocket
from fastapi.testclient import TestClient
from starlette.testclient import WebSocketDenialResponse

from fastapi_logto import LogtoAuth, LogtoSettings, TokenClaims, token_of
from fastapi_logto.testing import LocalIssuer, assert_protected, bearer, claims, override

issuer = LocalIssuer()


def build_app(auth: LogtoAuth) -> FastAPI:
    app = FastAPI()

    async def greet(websocket: WebSocket, found: TokenClaims | None) -> None:
        await websocket.accept(subprotocol="bearer")
        await websocket.send_text(found.sub if found else "nobody")
        await websocket.close()

    @app.websocket("/scope")
    async def scope(
        websocket: WebSocket, found: Annotated[TokenClaims, Depends(auth.require_scopes("read:user"))]
    ) -> None:
        await greet(websocket, found)

    @app.websocket("/optional")
    async def optional(websocket: WebSocket, found: Annotated[TokenClaims | None, Depends(auth.optional)]) -> None:
        await greet(websocket, found)

    @app.websocket("/plain")
    async def plain(websocket: WebSocket, found: Annotated[TokenClaims, Depends(auth.require_scopes("x"))]) -> None:
        await greet(websocket, found)

    @app.get("/")
    async def read(found: Annotated[TokenClaims, Depends(auth)]) -> str:
        return found.sub

    return app


@pytest.fixture
def app() -> FastAPI:
    return build_app(issuer.auth(accept_subprotocol_tokens=True))


def connect(app: Any, path: str, *subprotocols: str, **headers: str) -> tuple[str | None, str]:
    """Return the accepted subprotocol and the first message, or the status and the reason of the denial."""
    try:
        with TestClient(app).websocket_connect(path, subprotocols=list(subprotocols), headers=headers) as websocket:
            return websocket.accepted_subprotocol, websocket.receive_text()
    except WebSocketDenialResponse as denied:
        return str(denied.status_code), denied.json()["detail"]["reason"]


def test_the_token_after_bearer_is_verified_and_only_bearer_is_accepted(app: FastAPI) -> None:
    token = issuer.access_token(subject="me", scopes=["read:user"])

    assert connect(app, "/scope", "bearer", token) == ("bearer", "me")
    assert connect(app, "/scope", "graphql-transport-ws", "bearer", token) == ("bearer", "me")
    assert connect(app, "/scope", "bearer", token, "graphql-transport-ws") == ("bearer", "me")
    assert connect(app, "/optional", "bearer", token) == ("bearer", "me")


def test_a_token_as_subprotocol_is_refused_like_one_in_a_header(app: FastAPI) -> None:
    assert connect(app, "/scope", "bearer", issuer.access_token(scopes=[])) == ("403", "scope")
    for path in ("/scope", "/optional"):
        assert connect(app, path, "bearer", issuer.bad_token("forged")) == ("401", "signature")
        assert connect(app, path, "bearer", issuer.bad_token("expired")) == ("401", "expired")
        assert connect(app, path, "bearer", "rubbish") == ("401", "malformed")
        assert connect(app, path, "bearer") == ("401", "header_format")
        assert connect(app, path, "bearer", "a b") == ("401", "header_format")


async def send_scope(app: FastAPI, **members: Any) -> list[Any]:
    """Return the messages that the application sends for this scope."""
    sent: list[Any] = []
    scope: dict[str, Any] = {
        "type": "websocket",
        "path": "/scope",
        "raw_path": b"/scope",
        "query_string": b"",
        "headers": [],
        "extensions": {"websocket.http.response": {}},
        **members,
    }

    async def receive() -> Any:
        return {"type": "websocket.connect"}

    async def send(message: Any) -> None:
        sent.append(message)

    await app(scope, receive, send)
    return sent


@pytest.mark.parametrize("text", ["\ud800", "\u00e9", "a\r\nX: y"])
async def test_any_invalid_subprotocol_returns_401(app: FastAPI, text: str) -> None:
    sent = await send_scope(app, subprotocols=["bearer", text])

    assert sent[0]["status"] == 401
    assert b"header_format" in sent[1]["body"]


async def test_a_server_may_leave_out_the_list_of_subprotocols(app: FastAPI) -> None:
    sent = await send_scope(app)

    assert sent[0]["status"] == 401
    assert b"header_missing" in sent[1]["body"]


def test_the_token_that_came_as_subprotocol_is_that_of_the_caller() -> None:
    auth = issuer.auth(accept_subprotocol_tokens=True)
    app = FastAPI()

    @app.websocket("/")
    async def read(websocket: WebSocket, _: Annotated[TokenClaims, Depends(auth)]) -> None:
        await websocket.accept(subprotocol="bearer")
        await websocket.send_text(token_of(websocket).get_secret_value())
        await websocket.close()

    token = issuer.access_token()
    assert connect(app, "/", "bearer", token) == ("bearer", token)


def test_a_websocket_that_offers_no_token_has_none(app: FastAPI) -> None:
    token = issuer.access_token(scopes=["read:user"])

    for offered in ([], ["graphql-ws"], [token], ["Bearer", token]):
        assert connect(app, "/scope", *offered) == ("401", "header_missing")
        assert connect(app, "/optional", *offered) == ("bearer", "nobody")


def test_a_token_in_both_places_is_refused(app: FastAPI) -> None:
    token = issuer.access_token(scopes=["read:user"])

    assert connect(app, "/scope", "bearer", token, **bearer(token)) == ("401", "header_format")
    assert connect(app, "/optional", "bearer", token, **bearer(token)) == ("401", "header_format")


def test_a_second_token_is_refused(app: FastAPI) -> None:
    token = issuer.access_token(scopes=["read:user"])

    for path in ("/scope", "/optional"):
        for other in (issuer.access_token(scopes=["read:user"]), issuer.bad_token("forged"), "chat"):
            assert connect(app, path, "bearer", token, "bearer", other) == ("401", "header_format")
            assert connect(app, path, "bearer", other, "chat", "bearer", token) == ("401", "header_format")
        assert connect(app, path, "bearer", "bearer", token) == ("401", "header_format")
        assert connect(app, path, "bearer", token, "bearer") == ("401", "header_format")


def test_it_is_off_by_default() -> None:
    app = build_app(issuer.auth())
    token = issuer.access_token(scopes=["read:user"])

    assert connect(app, "/scope", "bearer", token) == ("401", "header_missing")
    assert connect(app, "/optional", "bearer", token) == ("bearer", "nobody")


def test_a_subprotocol_in_the_header_of_an_http_request_is_not_read(app: FastAPI) -> None:
    headers = {"Sec-WebSocket-Protocol": f"bearer, {issuer.access_token()}"}

    assert TestClient(app).get("/", headers=headers).json()["detail"]["reason"] == "header_missing"


def test_settings_from_the_environment_are_read_for_the_first_websocket(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOGTO_ENDPOINT", issuer.endpoint)
    monkeypatch.setenv("LOGTO_AUDIENCE", issuer.audience)
    monkeypatch.setenv("LOGTO_ACCEPT_SUBPROTOCOL_TOKENS", "true")

    for path in ("/scope", "/optional"):
        assert connect(build_app(LogtoAuth()), path, "bearer", "rubbish") == ("401", "malformed")


def test_a_websocket_without_a_token_gets_its_error_even_if_settings_are_missing() -> None:
    app = build_app(LogtoAuth())

    for offered in ([], ["graphql-ws"]):
        assert connect(app, "/scope", *offered) == ("401", "header_missing")
        assert connect(app, "/optional", *offered) == ("bearer", "nobody")


def test_one_tenant_that_accepts_it_is_enough() -> None:
    auth = LogtoAuth(
        settings=[
            LogtoSettings(endpoint="https://a.example", audience="https://api.example.com"),
            LogtoSettings(
                endpoint="https://b.example", audience="https://api.example.com", accept_subprotocol_tokens=True
            ),
        ]
    )

    assert connect(build_app(auth), "/scope", "bearer", "rubbish") == ("401", "malformed")


def test_an_override_and_assert_protected_reach_it() -> None:
    auth = issuer.auth(accept_subprotocol_tokens=True)
    app = build_app(auth)

    with override(app, auth, claims(subject="me", scopes=["read:user"])):
        assert connect(app, "/scope", "bearer", "rubbish") == ("bearer", "me")
        assert connect(app, "/plain", "bearer", "rubbish") == ("403", "scope")
    assert_protected(app, except_=["/optional"])
