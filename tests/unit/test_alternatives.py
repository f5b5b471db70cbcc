"""Routes that accept an API key instead of a token."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any

import pytest
from fastapi import Depends, FastAPI, HTTPException, Request, Security
from fastapi.security import APIKeyHeader, HTTPBasic, HTTPBasicCredentials
from starlette.testclient import TestClient
from starlette.types import Message, Receive, Scope, Send

from fastapi_logto import LogtoAuth, TokenClaims, claims_of, mount_protected
from fastapi_logto.testing import LocalIssuer, assert_protected, bearer, claims, override, routes
from fastapi_logto.testing.overriding import find_schemes, override_schemes

issuer = LocalIssuer()
KEY = {"X-API-Key": "valid"}
NO_KEY: dict[str, str] = {}


@dataclass(frozen=True)
class Partner:
    name: str


read_key = APIKeyHeader(name="X-API-Key", auto_error=False)


async def find_partner(key: Annotated[str | None, Security(read_key)]) -> Partner | None:
    if key is None:
        return None
    if key != "valid":
        raise HTTPException(401, "Unknown API key")
    return Partner(name="acme")


@pytest.fixture
def logto() -> LogtoAuth:
    return issuer.auth()


def build_app(logto: LogtoAuth, *, find: Callable[..., Any] = find_partner) -> FastAPI:
    app = FastAPI()
    logto.install(app)

    @app.get("/read")
    async def read(caller: Annotated[TokenClaims | Partner, Depends(logto.unless(find))]) -> str:
        return caller.name if isinstance(caller, Partner) else caller.user_id

    @app.get("/write")
    async def write(
        caller: Annotated[TokenClaims | Partner, Security(logto.unless(find), scopes=["write"])],
    ) -> str:
        return caller.name if isinstance(caller, Partner) else caller.user_id

    return app


def token(**arguments: Any) -> dict[str, str]:
    return bearer(issuer.access_token(subject="me", **arguments))


@pytest.mark.parametrize(
    ("headers", "status", "found"),
    [
        ({**NO_KEY, **token()}, 200, "me"),
        (KEY, 200, "acme"),
        ({**KEY, **token()}, 200, "acme"),
        ({**KEY, **bearer(issuer.bad_token("expired"))}, 200, "acme"),
        ({**KEY, "Authorization": "Basic dTpw"}, 200, "acme"),
        (NO_KEY, 401, "header_missing"),
        (bearer(issuer.bad_token("expired")), 401, "expired"),
        ({"X-API-Key": "unknown"}, 401, "Unknown API key"),
        ({"X-API-Key": "unknown", **token()}, 401, "Unknown API key"),
    ],
)
def test_a_key_or_a_token_is_required(logto: LogtoAuth, headers: dict[str, str], status: int, found: str) -> None:
    with TestClient(build_app(logto)) as client:
        response = client.get("/read", headers=headers)

    body = response.json()
    if status == 401:
        body = body["detail"] if isinstance(body["detail"], str) else body["detail"]["reason"]
    assert (response.status_code, body) == (status, found)


def test_scopes_are_required_of_tokens_only(logto: LogtoAuth) -> None:
    with TestClient(build_app(logto)) as client:
        assert client.get("/write", headers=KEY).json() == "acme"
        assert client.get("/write", headers=token(scopes=["write"])).json() == "me"
        refused = client.get("/write", headers=token(scopes=["read"]))

    assert (refused.status_code, refused.json()["detail"]["code"]) == (403, "insufficient_scope")


@pytest.mark.parametrize("returned", [None, False, "", 0])
def test_a_false_value_of_the_function_counts_as_no_caller(logto: LogtoAuth, returned: object) -> None:
    with TestClient(build_app(logto, find=lambda: returned)) as client:
        assert client.get("/read", headers=KEY).status_code == 401


@pytest.mark.parametrize("checks_nothing", [read_key, "X-API-Key", Partner, issuer.auth(), issuer.auth().optional])
def test_a_security_scheme_in_place_of_a_function_is_refused(logto: LogtoAuth, checks_nothing: Any) -> None:
    with pytest.raises(TypeError, match="expected a function that checks other credentials and returns their owner"):
        logto.unless(checks_nothing)


def test_a_key_replaces_the_caller_of_an_earlier_request(logto: LogtoAuth) -> None:
    app = FastAPI()

    @app.get("/", dependencies=[Depends(logto)])
    @app.get("/read", dependencies=[Depends(logto.unless(find_partner))])
    async def read(request: Request) -> str | None:
        try:
            return claims_of(request).sub
        except LookupError:
            return None

    async def read_twice(scope: Scope, receive: Receive, send: Send) -> None:
        async def drop(_message: Message) -> None: ...

        if scope["type"] == "http":
            await app(scope, receive, drop)
            scope = {**scope, "path": "/read", "headers": [(b"x-api-key", b"valid")]}
        await app(scope, receive, send)

    with TestClient(read_twice) as client:
        assert client.get("/", headers=token()).json() is None


def test_openapi_lists_the_key_and_the_token_as_alternatives(logto: LogtoAuth) -> None:
    schema = build_app(logto).openapi()

    read, write = (schema["paths"][path]["get"] for path in ("/read", "/write"))
    assert read["security"] == [{"Logto": []}, {"APIKeyHeader": []}]
    assert write["security"] == [{"Logto": ["write"]}, {"APIKeyHeader": []}]
    assert read["responses"]["401"] == {"$ref": "#/components/responses/LogtoUnauthorized"}
    assert set(schema["components"]["securitySchemes"]) == {"Logto", "APIKeyHeader"}


def test_openapi_adds_no_scope_to_a_password(logto: LogtoAuth) -> None:
    read_password = HTTPBasic(auto_error=False)

    async def find(password: Annotated[HTTPBasicCredentials | None, Security(read_password)]) -> Partner | None:
        return None if password is None else Partner(name=password.username)

    schema = build_app(logto, find=find).openapi()

    assert schema["paths"]["/write"]["get"]["security"] == [{"Logto": ["write"]}, {"HTTPBasic": []}]


def test_such_a_route_is_protected_unless_one_of_its_checks_is_replaced(logto: LogtoAuth) -> None:
    app = build_app(logto)
    assert_protected(app)
    (route,) = (route for route in routes(app) if route.path == "/read")

    for check in (find_partner, read_key, route.calls[0].scheme):
        app.dependency_overrides = {check: lambda: Partner(name="anybody")}
        with pytest.raises(AssertionError, match="GET /read: its token check is replaced"):
            assert_protected(app)
    app.dependency_overrides = {print: lambda: None}
    assert_protected(app)


def test_an_override_of_all_schemes_sets_the_caller_and_one_of_the_token_alone_does_not(logto: LogtoAuth) -> None:
    app = build_app(logto)
    app.get("/plain", dependencies=[Depends(logto)])(lambda: True)
    caller = claims(subject="me", scopes=["read"])

    with TestClient(app) as client:
        with override_schemes(app, find_schemes(app), caller):
            assert client.get("/read").json() == "me"
            assert client.get("/write").status_code == 403
        with override(app, logto, caller):
            assert client.get("/plain").status_code == 200
            assert client.get("/read").status_code == 401


def test_an_application_that_reads_claims_is_not_mounted_behind_it(logto: LogtoAuth) -> None:
    with pytest.raises(ValueError, match="expected auth or a requirement, found AlternativeScheme"):
        mount_protected(FastAPI(), path="/inner", mounted=FastAPI(), requires=logto.unless(find_partner))
