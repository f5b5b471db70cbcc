"""The caller, for code that only has the request."""

from collections.abc import Awaitable, Callable
from typing import Annotated, Any

import pytest
from fastapi import APIRouter, Depends, FastAPI, Request, Response, Security, WebSocket
from fastapi.responses import JSONResponse
from fastapi.testclient import TestClient
from starlette.types import Receive, Scope, Send

from fastapi_logto import LogtoAuth, TokenClaims, claims_of, token_of
from fastapi_logto.testing import LocalIssuer, bearer, claims, override

issuer = LocalIssuer()
Next = Callable[[Request], Awaitable[Response]]


class Seen(list[str]):
    """The values that the middleware of an application found after each response."""


def find_user(request: Request) -> str:
    try:
        return claims_of(request).sub
    except LookupError as error:
        return str(error).partition(",")[0]


@pytest.fixture
def auth() -> LogtoAuth:
    return issuer.auth()


@pytest.fixture
def seen() -> Seen:
    return Seen()


@pytest.fixture
def client(auth: LogtoAuth, seen: Seen) -> TestClient:
    app = FastAPI()
    auth.install(app)

    @app.middleware("http")
    async def log(request: Request, call_next: Next) -> Response:
        response = await call_next(request)
        seen.append(find_user(request))
        return response

    @app.exception_handler(ZeroDivisionError)
    async def handle(request: Request, _error: Exception) -> Response:
        return JSONResponse({"user": find_user(request)}, status_code=500)

    router = APIRouter(dependencies=[Depends(auth)])

    @router.get("/router")
    async def below_a_router(request: Request) -> str:
        return find_user(request)

    @router.get("/broken")
    async def broken() -> float:
        return 1 / 0

    app.include_router(router)

    @app.get("/scope")
    async def with_scope(_: Annotated[TokenClaims, Depends(auth.require_scopes("read:user"))]) -> None: ...

    @app.get("/security")
    async def with_scope_of_fastapi(_: Annotated[TokenClaims, Security(auth, scopes=["read:user"])]) -> None: ...

    @app.get("/optional")
    async def optional(request: Request, _: Annotated[TokenClaims | None, Depends(auth.optional)]) -> str:
        return find_user(request)

    @app.get("/token")
    async def token(request: Request, _: Annotated[TokenClaims, Depends(auth)]) -> str:
        return token_of(request).get_secret_value()

    @app.get("/open")
    async def open_to_all(request: Request) -> str:
        return find_user(request)

    return TestClient(app)


NOBODY = "expected a request with an accepted token"


def test_a_handler_below_a_protected_router_finds_the_caller(client: TestClient) -> None:
    assert client.get("/router", headers=bearer(issuer.access_token(subject="me"))).json() == "me"


def test_middleware_finds_the_caller_after_the_response(client: TestClient, seen: Seen) -> None:
    client.get("/router", headers=bearer(issuer.access_token(subject="me")))
    refused = [
        client.get(path, headers=bearer(issuer.access_token(subject="me", scopes=[])))
        for path in ("/scope", "/security")
    ]
    client.get("/router", headers=bearer(issuer.bad_token("forged")))
    client.get("/router")
    client.get("/open", headers=bearer(issuer.access_token()))

    # The caller of a 403 is known: its token is valid.
    assert [response.status_code for response in refused] == [403, 403]
    assert seen == ["me", "me", "me", NOBODY, NOBODY, NOBODY]


def test_an_exception_handler_finds_the_caller(client: TestClient) -> None:
    answer = client.get("/broken", headers=bearer(issuer.access_token(subject="me")))

    assert (answer.status_code, answer.json()) == (500, {"user": "me"})


def test_optional_sign_in_stores_the_caller_if_there_is_one(client: TestClient) -> None:
    assert client.get("/optional", headers=bearer(issuer.access_token(subject="me"))).json() == "me"
    assert client.get("/optional").json() == NOBODY


def test_the_caller_of_an_override_is_found_and_has_no_token(client: TestClient, auth: LogtoAuth, seen: Seen) -> None:
    with override(client.app, auth, claims(subject="me")):
        assert client.get("/router").json() == "me"
        with pytest.raises(LookupError, match="a caller that a test overrides"):
            client.get("/token")
    assert seen[0] == "me"


def test_claims_that_a_function_returns_in_place_of_the_scheme_reach_a_requirement(
    client: TestClient, auth: LogtoAuth, seen: Seen
) -> None:
    app: Any = client.app
    app.dependency_overrides[auth] = lambda: claims(subject="me", scopes=["read:user"])

    assert client.get("/scope").status_code == 200
    assert seen == ["me"]


def test_the_claims_are_of_the_class_of_the_scheme() -> None:
    class MyClaims(TokenClaims):
        plan: str

    auth = issuer.auth(claims_model=MyClaims)
    app = FastAPI()

    @app.get("/", dependencies=[Depends(auth)])
    async def read(request: Request) -> str:
        found = claims_of(request)
        assert isinstance(found, MyClaims)
        return found.plan

    assert TestClient(app).get("/", headers=bearer(issuer.access_token(claims={"plan": "pro"}))).json() == "pro"


@pytest.mark.parametrize("header", ["Bearer {}", "bearer {}", "Bearer   {}", " BEARER {} "])
def test_the_token_is_the_verified_text_in_every_form_of_the_header(client: TestClient, header: str) -> None:
    token = issuer.access_token()

    assert client.get("/token", headers={"Authorization": header.format(token)}).json() == token
    # From the cache too.
    assert client.get("/token", headers={"Authorization": header.format(token)}).json() == token


def test_without_a_request_there_is_no_caller() -> None:
    for find in (claims_of, token_of):
        with pytest.raises(LookupError, match=NOBODY):
            find(None)


def test_a_request_with_a_copied_scope_does_not_inherit_the_caller(auth: LogtoAuth) -> None:
    inner = FastAPI()
    found: list[str] = []

    @inner.get("/")
    async def read(request: Request, _: Annotated[TokenClaims | None, Depends(auth.optional)]) -> None:
        found.append(f"{find_user(request)} {token_of(request) if request.headers.get('authorization') else ''}")

    @inner.middleware("http")
    async def log(request: Request, call_next: Next) -> Response:
        response = await call_next(request)
        found.append(find_user(request))
        return response

    async def batch(scope: Scope, receive: Receive, send: Send) -> None:
        other, forged = issuer.access_token(subject="other"), issuer.bad_token("forged")

        async def drop(_message: Any) -> None: ...

        scope = {**scope}
        await inner(scope, receive, drop)
        await inner({**scope, "headers": [(b"authorization", f"Bearer {other}".encode())]}, receive, drop)
        await inner({**scope, "headers": []}, receive, drop)
        await inner({**scope, "headers": [(b"authorization", f"Bearer {forged}".encode())]}, receive, send)

    TestClient(batch).get("/", headers=bearer(issuer.access_token(subject="me")))

    assert found == ["me **********", "me", "other **********", "other", f"{NOBODY} ", NOBODY, NOBODY]


def test_a_websocket_has_its_caller(auth: LogtoAuth) -> None:
    app = FastAPI()

    @app.websocket("/")
    async def echo(websocket: WebSocket, _: Annotated[TokenClaims, Depends(auth)]) -> None:
        await websocket.accept()
        await websocket.send_json([claims_of(websocket).sub, token_of(websocket).get_secret_value()])
        await websocket.close()

    token = issuer.access_token(subject="me")
    with TestClient(app).websocket_connect("/", headers=bearer(token)) as websocket:
        assert websocket.receive_json() == ["me", token]
