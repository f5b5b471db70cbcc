"""`LogtoAuth` in FastAPI applications: claims, refusals, overrides, WebSockets, loops."""

import asyncio
import os
import traceback
from collections.abc import AsyncGenerator, Callable, Collection
from contextlib import asynccontextmanager
from enum import Enum, StrEnum
from pathlib import Path
from typing import Annotated, Any

import httpx
import pytest
from fastapi import APIRouter, Depends, FastAPI, Request, Security, WebSocket
from fastapi.encoders import jsonable_encoder
from pydantic import field_validator
from starlette.testclient import TestClient, WebSocketDenialResponse
from starlette.types import Message, Receive, Scope, Send

import fastapi_logto
from fastapi_logto import LogtoAuth, LogtoSettings, OrganizationSource, SettingsError, TokenClaims, auth, require_scopes
from fastapi_logto.errors import (
    AuthorizationMissingError,
    ExpiredTokenError,
    MalformedTokenError,
    ProviderUnavailableError,
)
from fastapi_logto.testing import LocalIssuer, ManualClock, bearer
from tests.captured import NOW
from tests.unit.apps import API, detail
from tests.unit.fakes import ENDPOINT, SlowClaims


class Counting(httpx.AsyncBaseTransport):
    """Counts the requests that reach the issuer, by path."""

    def __init__(self, issuer: LocalIssuer) -> None:
        self.inner = httpx.ASGITransport(app=issuer.app)
        self.counts: dict[str, int] = {}

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        self.counts[request.url.path] = self.counts.get(request.url.path, 0) + 1
        return await self.inner.handle_async_request(request)


@pytest.fixture
def issuer() -> LocalIssuer:
    return LocalIssuer()


@pytest.fixture
def logto(issuer: LocalIssuer) -> LogtoAuth:
    return issuer.auth()


def build_app(logto: LogtoAuth) -> FastAPI:
    app = FastAPI()

    @app.get("/claims")
    async def read_claims(claims: Annotated[TokenClaims, Depends(logto)]) -> TokenClaims:
        return claims

    @app.get("/read")
    async def read(claims: Annotated[TokenClaims, Depends(logto.require_scopes("read:user"))]) -> str:
        return claims.user_id

    @app.get("/both")
    async def both(claims: Annotated[TokenClaims, Depends(logto.require_scopes("read:user", "write:user"))]) -> str:
        return claims.user_id

    @app.get("/any")
    async def either(claims: Annotated[TokenClaims, Depends(logto.require_any_scope("write:user", "admin"))]) -> str:
        return claims.user_id

    @app.get("/security")
    async def fastapis_own(claims: Annotated[TokenClaims, Security(logto, scopes=["write:user"])]) -> str:
        return claims.user_id

    @app.get("/optional")
    async def optional(claims: Annotated[TokenClaims | None, Depends(logto.optional)]) -> str | None:
        return None if claims is None else claims.user_id

    @app.get("/optional-with-scope")
    async def optional_with_scope(
        claims: Annotated[TokenClaims | None, Security(logto.optional, scopes=["write:user"])],
    ) -> str | None:
        return None if claims is None else claims.user_id

    @app.websocket("/echo")
    async def echo(
        websocket: WebSocket, claims: Annotated[TokenClaims, Depends(logto.require_scopes("read:user"))]
    ) -> None:
        await websocket.accept()
        await websocket.send_text(claims.user_id)
        await websocket.close()

    return app


@pytest.fixture
def client(logto: LogtoAuth) -> TestClient:
    return TestClient(build_app(logto))


def test_a_valid_token_returns_its_claims(client: TestClient, issuer: LocalIssuer) -> None:
    token = issuer.access_token(subject="someone", scopes=["read:user"], claims={"tenant": "acme"})

    answer = client.get("/claims", headers=bearer(token))

    assert answer.status_code == 200
    body = answer.json()
    assert (body["sub"], body["scope"], body["tenant"], body["aud"]) == ("someone", "read:user", "acme", API)


@pytest.mark.parametrize(
    ("path", "scopes", "status"),
    [
        ("/read", ["read:user"], 200),
        ("/read", ["write:user"], 403),
        ("/read", [], 403),
        ("/both", ["read:user", "write:user"], 200),
        ("/both", ["read:user"], 403),
        ("/any", ["admin"], 200),
        ("/any", ["write:user", "other"], 200),
        ("/any", ["read:user"], 403),
        ("/security", ["write:user"], 200),
        ("/security", ["read:user"], 403),
        ("/optional", [], 200),
        ("/optional-with-scope", ["write:user"], 200),
        ("/optional-with-scope", ["read:user"], 403),
    ],
)
def test_each_way_to_require_scopes_is_enforced(
    client: TestClient, issuer: LocalIssuer, path: str, scopes: list[str], status: int
) -> None:
    answer = client.get(path, headers=bearer(issuer.access_token(scopes=scopes)))

    assert answer.status_code == status
    if status == 403:
        assert answer.json()["detail"]["code"] == "insufficient_scope"


@pytest.mark.parametrize(
    ("header", "code", "reason", "challenge"),
    [
        (None, "auth.authorization_header_missing", "header_missing", 'Bearer realm="Logto"'),
        ("", "auth.authorization_header_missing", "header_missing", 'Bearer realm="Logto"'),
        ("Bearer", "auth.authorization_token_invalid_format", "header_format", 'Bearer realm="Logto"'),
        ("Bearer a b", "auth.authorization_token_invalid_format", "header_format", 'Bearer realm="Logto"'),
        (
            "Basic YTpi",
            "auth.authorization_token_type_not_supported",
            "header_type",
            'Bearer realm="Logto"',
        ),
        (
            "Digest a, b",
            "auth.authorization_token_type_not_supported",
            "header_type",
            'Bearer realm="Logto"',
        ),
        ("Bearer abc", "invalid_token", "malformed", 'Bearer error="invalid_token", '),
    ],
)
def test_a_refusal_has_status_code_reason_and_challenge(
    client: TestClient, header: str | None, code: str, reason: str, challenge: str
) -> None:
    answer = client.get("/claims", headers={} if header is None else {"Authorization": header})

    assert answer.status_code == 401
    assert (answer.json()["detail"]["code"], answer.json()["detail"]["reason"]) == (code, reason)
    assert answer.headers["WWW-Authenticate"].startswith(challenge)


def test_several_authorization_headers_are_refused(client: TestClient, issuer: LocalIssuer) -> None:
    token = issuer.access_token()

    answer = client.get("/claims", headers=[("Authorization", f"Bearer {token}"), ("Authorization", "Bearer other")])

    assert answer.status_code == 401
    assert answer.json()["detail"]["code"] == "auth.authorization_token_invalid_format"


def test_a_missing_scope_is_named_in_body_and_challenge(client: TestClient, issuer: LocalIssuer) -> None:
    answer = client.get("/both", headers=bearer(issuer.access_token(scopes=["read:user"])))

    assert answer.json() == {
        "detail": {
            "code": "insufficient_scope",
            "reason": "scope",
            "message": "The token lacks the scope write:user; in Logto, assign a role with this permission to the user "
            "or machine, and request it in the client",
        }
    }
    assert answer.headers["WWW-Authenticate"].startswith('Bearer error="insufficient_scope", error_description="')
    assert answer.headers["WWW-Authenticate"].endswith('scope="read:user write:user"')


@pytest.mark.parametrize("header", [None, "", " ", "Basic YTpi", "Basic", "Digest a, b"])
def test_optional_returns_none_without_bearer_credentials(client: TestClient, header: str | None) -> None:
    answer = client.get("/optional", headers={} if header is None else {"Authorization": header})

    assert (answer.status_code, answer.json()) == (200, None)


def test_optional_refuses_an_invalid_token(client: TestClient, issuer: LocalIssuer) -> None:
    assert client.get("/optional", headers=bearer(issuer.access_token(subject="me"))).json() == "me"
    assert detail(client, "/optional", bearer(issuer.bad_token("forged"))) == (401, "invalid_token", "signature")
    for header in ("Bearer", "Bearer a b", issuer.access_token()):
        assert detail(client, "/optional", {"Authorization": header})[2] == "header_format"
    for header in (
        f"Bearer: {issuer.access_token()}",
        f"{issuer.access_token()} b",
        f"{'o' * 43} b",
        f"\x0bBearer {issuer.access_token()}",
    ):
        assert detail(client, "/optional", {"Authorization": header})[2] == "header_type"
    two = [("Authorization", "Basic YTpi"), ("Authorization", f"Bearer {issuer.access_token()}")]
    assert client.get("/optional", headers=two).json()["detail"]["reason"] == "header_format"


def test_optional_with_scopes_refuses_a_request_without_a_token(client: TestClient) -> None:
    assert detail(client, "/optional-with-scope") == (401, "auth.authorization_header_missing", "header_missing")


@pytest.mark.parametrize(
    "name",
    [
        *("verify", "for_audience", "require", "require_scopes", "require_any_scope", "require_organization"),
        *("require_user", "require_machine"),
    ],
)
def test_a_method_that_must_be_called_is_refused_as_a_dependency(issuer: LocalIssuer, name: str) -> None:
    app = FastAPI()
    dependency = getattr(issuer.auth(), name)

    with pytest.raises(TypeError, match=r"found auth.verify|found a function"):

        @app.get("/", dependencies=[Depends(dependency)])
        async def read() -> None: ...


def test_what_is_stored_in_the_scope_shows_neither_claims_nor_token(issuer: LocalIssuer) -> None:
    app = FastAPI()

    @app.get("/", dependencies=[Depends(issuer.auth())])
    async def read(request: Request) -> list[str]:
        return [repr(value) for name, value in request.scope.items() if "logto" in name]

    assert TestClient(app).get("/", headers=bearer(issuer.access_token())).json() == ["_Caller()"]


@pytest.mark.parametrize("how", ["expired", "withdrawn"])
def test_a_request_made_of_a_copied_scope_is_checked_again(how: str) -> None:
    """A middleware or a batch endpoint may call the application again later with the scope of a request."""
    clock = ManualClock(now=NOW)
    issuer = LocalIssuer(endpoint=ENDPOINT, clock=clock)
    auth = LogtoAuth(endpoint=ENDPOINT, audience=API, clock=clock, http_transport=httpx.ASGITransport(app=issuer.app))
    inner = FastAPI()

    @inner.get("/", dependencies=[Depends(auth)])
    async def read() -> None: ...

    statuses: list[int] = []
    token = issuer.access_token()

    async def again(scope: Scope, receive: Receive, send: Send) -> None:
        async def note(message: Message) -> None:
            if message["type"] == "http.response.start":
                statuses.append(message["status"])
            if statuses[2:]:
                await send(message)

        await inner({**scope}, receive, note)
        if how == "expired":
            clock.advance(3600 + 10)
        else:
            clock.advance(60)
            issuer.rotate(keep_previous=False)
        # In the second case, its unknown key causes a new fetch of the key set.
        other = issuer.access_token(subject="other", lifetime_seconds=9000)
        await inner({**scope, "headers": [(b"authorization", f"Bearer {other}".encode())]}, receive, note)
        await inner({**scope}, receive, note)

    TestClient(again).get("/", headers=bearer(token))

    assert statuses == [200, 200, 401]


def test_an_unreachable_issuer_is_503_with_retry_after() -> None:
    def refuse(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("refused", request=request)

    logto = LogtoAuth(endpoint="http://127.0.0.1:3001", audience=API, http_transport=httpx.MockTransport(refuse))
    answer = TestClient(build_app(logto)).get("/claims", headers=bearer(LocalIssuer().access_token()))

    assert answer.status_code == 503
    assert answer.json()["detail"]["code"] == "provider_unavailable"
    assert int(answer.headers["Retry-After"]) >= 1
    assert "WWW-Authenticate" not in answer.headers


def test_a_websocket_is_refused_before_it_is_accepted(client: TestClient, issuer: LocalIssuer) -> None:
    with client.websocket_connect("/echo", headers=bearer(issuer.access_token(subject="me"))) as websocket:
        assert websocket.receive_text() == "me"

    with pytest.raises(WebSocketDenialResponse) as refused, client.websocket_connect("/echo"):
        pass
    assert refused.value.status_code == 401
    assert refused.value.headers["WWW-Authenticate"] == 'Bearer realm="Logto", scope="read:user"'
    assert refused.value.json()["detail"]["code"] == "auth.authorization_header_missing"


async def call_websocket(app: FastAPI, headers: dict[str, str]) -> list[dict[str, Any]]:
    """Connect like a server without the denial extension."""
    sent: list[dict[str, Any]] = []
    scope = {
        "type": "websocket",
        "path": "/echo",
        "query_string": b"",
        "headers": [(name.lower().encode(), value.encode()) for name, value in headers.items()],
        "subprotocols": [],
    }

    async def receive() -> dict[str, Any]:
        return {"type": "websocket.connect"}

    async def send(message: Any) -> None:
        sent.append(message)

    await app(scope, receive, send)
    return sent


async def test_a_websocket_of_a_server_without_denial_responses_closes_with_1008(
    logto: LogtoAuth, issuer: LocalIssuer
) -> None:
    app = build_app(logto)

    no_token = await call_websocket(app, {})
    no_scope = await call_websocket(app, bearer(issuer.access_token(scopes=[])))

    assert no_token == [{"type": "websocket.close", "code": 1008, "reason": "auth.authorization_header_missing"}]
    assert no_scope == [{"type": "websocket.close", "code": 1008, "reason": "insufficient_scope"}]


def test_a_requirement_is_overridden_by_an_equal_one(client: TestClient, logto: LogtoAuth, issuer: LocalIssuer) -> None:
    app: Any = client.app
    app.dependency_overrides[logto.require_scopes("read:user")] = lambda: logto_claims(issuer, subject="fake")

    assert client.get("/read").json() == "fake"
    assert client.get("/both").status_code == 401


def logto_claims(issuer: LocalIssuer, *, subject: str = "fake", scopes: Collection[str] = ()) -> TokenClaims:
    """Return claims like those of a verified token."""

    async def verify() -> TokenClaims:
        return await issuer.auth().verify(issuer.access_token(subject=subject, scopes=scopes))

    return asyncio.run(verify())


def test_overriding_the_scheme_leaves_the_scope_checks_of_requirements_on(
    client: TestClient, logto: LogtoAuth, issuer: LocalIssuer
) -> None:
    app: Any = client.app
    claims = logto_claims(issuer, scopes=["read:user"])
    app.dependency_overrides[logto] = lambda: claims

    assert client.get("/read").json() == "fake"
    assert detail(client, "/both") == (403, "insufficient_scope", "scope")
    assert detail(client, "/any") == (403, "insufficient_scope", "scope")
    # With `Security`, FastAPI's own way, the scheme does the check, and the override replaces the scheme.
    assert client.get("/security").json() == "fake"


def test_requirements_are_equal_if_they_require_the_same(logto: LogtoAuth, issuer: LocalIssuer) -> None:
    other = issuer.auth()

    assert logto.require_scopes("a", "b") == logto.require_scopes("b", "a", "a")
    assert hash(logto.require_scopes("a", "b")) == hash(logto.require_scopes("b", "a"))
    assert logto.require_scopes("a") != logto.require_scopes("b")
    assert logto.require_scopes("a") != logto.require_any_scope("a")
    assert logto.require_scopes("a") != other.require_scopes("a")
    assert logto.require_scopes("a") != "a"
    assert logto.optional is logto.optional
    assert repr(logto.require_any_scope("a", "b")) == "Requirement(any_scope=('a', 'b'))"


@pytest.mark.parametrize(
    "scopes",
    [
        (),
        ("",),
        ("read:user write:user",),
        ("read:user\t",),
        ("read:user", ""),
        (["read:user", "write:user"],),
        (None,),
    ],
)
def test_a_requirement_with_invalid_scopes_is_refused_at_its_declaration(
    logto: LogtoAuth, scopes: tuple[Any, ...]
) -> None:
    with pytest.raises(ValueError, match="expected"):
        logto.require_scopes(*scopes)
    with pytest.raises(ValueError, match="expected"):
        logto.require_any_scope(*scopes)


def build_counting_model() -> tuple[type[TokenClaims], list[str]]:
    """Return a claims model, and the subjects of the tokens that were verified with it."""
    verified: list[str] = []

    class Counted(TokenClaims):
        @field_validator("sub")
        @classmethod
        def note(cls, value: str) -> str:
            verified.append(value)
            return value

    return Counted, verified


def test_a_token_is_verified_once_even_if_several_dependencies_require_it(issuer: LocalIssuer) -> None:
    model, verified = build_counting_model()
    logto = issuer.auth(claims_model=model)

    app = FastAPI(dependencies=[Depends(logto)])
    router = APIRouter(dependencies=[Security(logto, scopes=["read:user"])])

    @router.get("/")
    async def read(
        claims: Annotated[TokenClaims, Depends(logto.require_scopes("write:user"))],
        same: Annotated[TokenClaims, Depends(logto.require_scopes("read:user", "write:user"))],
        again: Annotated[TokenClaims | None, Depends(logto.optional)],
    ) -> bool:
        return claims == same == again

    app.include_router(router)
    token = issuer.access_token(scopes=["read:user", "write:user"])
    answer = TestClient(app).get("/", headers=bearer(token))

    assert answer.json() is True
    assert verified == ["alice0000001"]


@pytest.mark.parametrize("start", ["Bearer ", "bearer ", "BEARER    ", "Bearer" + " " * 20_000])
def test_a_header_in_an_unusual_form_is_cached_with_the_usual_one(issuer: LocalIssuer, start: str) -> None:
    model, verified = build_counting_model()
    app = build_app(issuer.auth(claims_model=model))
    token = issuer.access_token(scopes=["read:user"])

    answers = [TestClient(app).get("/read", headers={"Authorization": f"{start}{token}"}) for _ in range(3)]
    answers.append(TestClient(app).get("/read", headers=bearer(token)))

    assert [answer.status_code for answer in answers] == [200] * 4
    assert verified == ["alice0000001"]


@pytest.mark.parametrize("padding", [1, 20_000])
def test_a_token_that_is_replaced_in_an_unusual_header_is_verified_again(issuer: LocalIssuer, padding: int) -> None:
    logto = issuer.auth()
    app = FastAPI()
    start = "Bearer" + " " * padding

    async def swap(request: Request, first: Annotated[TokenClaims, Depends(logto)]) -> str:
        second = start + issuer.access_token(subject="second")
        request.scope["headers"][:] = [(b"authorization", second.encode())]
        return first.user_id

    @app.get("/")
    async def read(
        first: Annotated[str, Depends(swap)],
        second: Annotated[TokenClaims, Depends(logto.require_scopes("read:user"))],
    ) -> list[str]:
        return [first, second.user_id]

    answer = TestClient(app).get("/", headers={"Authorization": start + issuer.access_token(subject="first")})

    assert answer.json() == ["first", "second"]


def test_a_token_that_middleware_replaces_is_verified_again(issuer: LocalIssuer) -> None:
    logto = issuer.auth()
    app = FastAPI()

    async def swap(request: Request, first: Annotated[TokenClaims, Depends(logto)]) -> str:
        headers = [(name, value) for name, value in request.scope["headers"] if name != b"authorization"]
        second = issuer.access_token(subject="second")
        request.scope["headers"][:] = [*headers, (b"authorization", f"Bearer {second}".encode())]
        return first.user_id

    @app.get("/")
    async def read(
        first: Annotated[str, Depends(swap)],
        second: Annotated[TokenClaims, Depends(logto.require_scopes("read:user"))],
    ) -> list[str]:
        return [first, second.user_id]

    answer = TestClient(app).get("/", headers=bearer(issuer.access_token(subject="first")))

    assert answer.json() == ["first", "second"]


def test_a_mounted_application_is_protected_by_its_own_dependencies(issuer: LocalIssuer) -> None:
    inner_issuer = LocalIssuer(endpoint="http://127.0.0.1:3002")
    inner = build_app(inner_issuer.auth())
    app = build_app(issuer.auth())
    app.mount("/inner", inner)
    client = TestClient(app)

    assert client.get("/claims", headers=bearer(issuer.access_token())).status_code == 200
    assert client.get("/inner/claims", headers=bearer(inner_issuer.access_token())).status_code == 200
    assert detail(client, "/inner/claims", bearer(issuer.access_token())) == (401, "invalid_token", "unknown_key")
    assert detail(client, "/claims", bearer(inner_issuer.access_token())) == (401, "invalid_token", "unknown_key")


def test_everything_works_without_a_lifespan_and_on_a_loop_for_each_request(
    client: TestClient, issuer: LocalIssuer
) -> None:
    # Without `with`, the client creates an event loop for each request and closes it afterwards.
    for _ in range(3):
        assert client.get("/read", headers=bearer(issuer.access_token())).status_code == 200
    issuer.rotate(keep_previous=False)
    assert client.get("/read", headers=bearer(issuer.access_token())).status_code == 200


async def test_verify_returns_claims_without_a_request(logto: LogtoAuth, issuer: LocalIssuer) -> None:
    claims = await logto.verify(issuer.access_token(subject="me", scopes=["read:user"]))

    assert (claims.user_id, claims.scopes) == ("me", frozenset({"read:user"}))
    with pytest.raises(ExpiredTokenError):
        await logto.verify(issuer.access_token(lifetime_seconds=-60))


def test_the_cause_of_a_response_is_the_refusal(logto: LogtoAuth) -> None:
    app = build_app(logto)
    causes: list[BaseException | None] = []

    @app.exception_handler(401)
    async def remember(_request: Request, error: Exception) -> Any:
        causes.append(error.__cause__)
        raise error

    with pytest.raises(Exception, match="401"):
        TestClient(app).get("/claims")
    assert type(causes[0]) is AuthorizationMissingError


class TenantClaims(TokenClaims):
    """Claims that a tenant's script adds."""

    roles: list[str]


def test_custom_claims_are_typed_and_each_request_has_its_own(issuer: LocalIssuer) -> None:
    logto = LogtoAuth(
        endpoint=issuer.endpoint,
        audience=API,
        claims_model=TenantClaims,
        http_transport=httpx.ASGITransport(app=issuer.app),
    )
    app = FastAPI()

    @app.get("/")
    async def read(claims: Annotated[TenantClaims, Depends(logto.require_scopes("read:user"))]) -> list[str]:
        claims.roles.append("seen")
        return claims.roles

    client = TestClient(app)
    token = issuer.access_token(claims={"roles": ["admin"]})

    assert client.get("/", headers=bearer(token)).json() == ["admin", "seen"]
    assert client.get("/", headers=bearer(token)).json() == ["admin", "seen"]
    assert detail(client, "/", bearer(issuer.access_token())) == (401, "invalid_token", "claims")


def test_a_handler_that_forgets_depends_gets_no_claims_from_the_body() -> None:
    app = FastAPI()

    @app.post("/")
    async def write(claims: TokenClaims) -> str:
        return claims.user_id

    answer = TestClient(app).post(
        "/", json={"iss": "x", "sub": "admin", "aud": API, "exp": 4102444800, "scope": "read:user"}
    )

    assert answer.status_code == 422
    assert "only from a verified token" in answer.text


def read_items(options: dict[str, Any]) -> list[str]:
    return [name for name, _ in options.items()]


def read_keys(options: dict[str, Any]) -> list[str]:
    return [*options.keys()]


class TestInstall:
    def test_invalid_settings_end_the_start_with_one_error(self, caplog: pytest.LogCaptureFixture) -> None:
        app = FastAPI()
        LogtoAuth().install(app)

        with pytest.raises(SettingsError, match="LOGTO_ENDPOINT") as caught, TestClient(app):
            pass

        (record,) = [one for one in caplog.records if one.name == "fastapi_logto"]
        assert record.levelname == "CRITICAL"
        assert record.getMessage() == f"the application does not start: {caught.value}"
        # The traceback that servers print omits the frames in which the package found the mistake.
        own = [frame.filename for frame in traceback.extract_tb(caught.tb) if "/fastapi_logto/" in frame.filename]
        assert [Path(name).name for name in own] == ["metadata_pages.py", "startup.py"]

    def test_the_keys_are_cached_after_the_start_and_the_applications_lifespan_runs(self, issuer: LocalIssuer) -> None:
        transport = Counting(issuer)
        logto = LogtoAuth(endpoint=issuer.endpoint, audience=API, http_transport=transport)
        order: list[str] = []

        @asynccontextmanager
        async def lifespan(_app: FastAPI) -> AsyncGenerator[dict[str, int]]:
            order.append(f"start with {logto.health().key_count} key")
            yield {"mine": 1}
            order.append("end")

        app = FastAPI(lifespan=lifespan)
        logto.install(app)

        @app.get("/")
        async def read(request: Request) -> int:
            return int(request.state.mine)

        with TestClient(app) as client:
            assert client.get("/").json() == 1
            assert transport.counts == {"/oidc/.well-known/openid-configuration": 1, "/oidc/jwks": 1}
        assert order == ["start with 1 key", "end"]

    def test_a_provider_that_is_unreachable_does_not_keep_the_application_from_starting(self) -> None:
        def refuse(request: httpx.Request) -> httpx.Response:
            raise httpx.ConnectError("refused", request=request)

        logto = LogtoAuth(endpoint="http://127.0.0.1:3001", audience=API, http_transport=httpx.MockTransport(refuse))
        app = FastAPI()
        logto.install(app)

        with TestClient(app) as client:
            assert client.get("/openapi.json").status_code == 200
            assert logto.health().is_ready is False
            assert logto.health().last_error == (
                "http://127.0.0.1:3001/oidc/.well-known/openid-configuration: ConnectError"
            )

    def test_each_part_can_be_left_out(self, logto: LogtoAuth) -> None:
        app = build_app(logto)
        lifespan = app.router.lifespan_context
        logto.install(app, lifespan=False, swagger=False, metadata=False)

        assert app.router.lifespan_context is lifespan
        assert app.swagger_ui_init_oauth is None
        assert "401" not in app.openapi()["paths"]["/claims"]["get"]["responses"]
        assert TestClient(app).get("/.well-known/oauth-protected-resource").status_code == 404

    def test_the_lifespan_alone_leaves_the_docs_page_as_it_is(self, logto: LogtoAuth) -> None:
        app = build_app(logto)
        logto.install(app, swagger=False)

        with TestClient(app):
            assert logto.health().is_ready
        assert app.swagger_ui_init_oauth is None

    def test_swagger_signs_in_with_pkce_and_keeps_what_the_application_set(self, issuer: LocalIssuer) -> None:
        app = FastAPI(swagger_ui_init_oauth={"appName": "Mine"})
        issuer.auth(swagger_client_id="spa").install(app)

        assert jsonable_encoder(app.swagger_ui_init_oauth) == {
            "usePkceWithAuthorizationCodeGrant": True,
            "clientId": "spa",
            "appName": "Mine",
        }

    def test_the_swagger_client_of_the_application_takes_precedence(self, issuer: LocalIssuer) -> None:
        app = FastAPI(swagger_ui_init_oauth={"clientId": "mine", "usePkceWithAuthorizationCodeGrant": False})
        issuer.auth(swagger_client_id="spa").install(app)

        assert jsonable_encoder(app.swagger_ui_init_oauth) == {
            "usePkceWithAuthorizationCodeGrant": False,
            "clientId": "mine",
        }

    def test_the_swagger_client_of_the_environment_is_used_when_the_environment_is_set(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        logto = LogtoAuth(http_transport=httpx.MockTransport(lambda _: httpx.Response(500)))
        app = FastAPI()
        logto.install(app, lifespan=False)
        before = {"usePkceWithAuthorizationCodeGrant": True}
        assert jsonable_encoder(app.swagger_ui_init_oauth) == before
        monkeypatch.setenv("LOGTO_ENDPOINT", "http://127.0.0.1:3001")
        monkeypatch.setenv("LOGTO_AUDIENCE", API)
        monkeypatch.setenv("LOGTO_SWAGGER_CLIENT_ID", "spa")

        assert app.swagger_ui_init_oauth is not None
        assert {**app.swagger_ui_init_oauth} == {**before, "clientId": "spa"}
        assert list(app.swagger_ui_init_oauth) == ["usePkceWithAuthorizationCodeGrant", "clientId"]
        page = TestClient(app).get("/docs").text
        assert 'ui.initOAuth({"usePkceWithAuthorizationCodeGrant": true, "clientId": "spa"})' in page

    @pytest.mark.parametrize("read", [list, read_items, read_keys], ids=lambda read: read.__name__)
    def test_the_swagger_client_is_found_however_the_options_are_read(
        self, issuer: LocalIssuer, read: Callable[[dict[str, Any]], list[str]]
    ) -> None:
        app = FastAPI()
        issuer.auth(swagger_client_id="spa").install(app)

        assert app.swagger_ui_init_oauth is not None
        assert read(app.swagger_ui_init_oauth) == ["usePkceWithAuthorizationCodeGrant", "clientId"]


class TestDefault:
    def test_the_package_exports_a_default_and_its_requirements(self) -> None:
        assert require_scopes("a") == auth.require_scopes("a")
        assert fastapi_logto.auth is auth

    def test_settings_are_read_at_first_use(self, monkeypatch: pytest.MonkeyPatch, issuer: LocalIssuer) -> None:
        logto = LogtoAuth(http_transport=httpx.ASGITransport(app=issuer.app))
        client = TestClient(build_app(logto))
        monkeypatch.setenv("LOGTO_ENDPOINT", issuer.endpoint)
        monkeypatch.setenv("LOGTO_AUDIENCE", API)

        assert client.get("/read", headers=bearer(issuer.access_token())).status_code == 200
        monkeypatch.setenv("LOGTO_ENDPOINT", "https://changed.logto.app")
        assert logto.settings.endpoint == issuer.endpoint

    def test_a_request_without_a_token_reads_no_settings(self, monkeypatch: pytest.MonkeyPatch) -> None:
        logto = LogtoAuth()
        monkeypatch.setenv("LOGTO_ENDPOINT", "https://a.logto.app")
        monkeypatch.setenv("LOGTO_AUDIENCE", API)

        assert TestClient(build_app(logto)).get("/read").status_code == 401

        monkeypatch.setenv("LOGTO_ENDPOINT", "https://changed.logto.app")
        assert logto.settings.endpoint == "https://changed.logto.app"

    def test_without_settings_every_protected_route_fails_and_says_why(self) -> None:
        broken = TestClient(build_app(LogtoAuth()))

        assert broken.get("/claims").status_code == 401
        with pytest.raises(SettingsError, match="LOGTO_AUDIENCE"):
            broken.get("/claims", headers={"Authorization": "Bearer abc"})

    def test_a_broken_environment_does_not_break_the_docs_page(self) -> None:
        schema = build_app(LogtoAuth()).openapi()

        scheme = schema["components"]["securitySchemes"]["Logto"]
        assert (scheme["type"], scheme["scheme"]) == ("http", "bearer")
        assert "LOGTO_ENDPOINT" in scheme["description"]


class TestArguments:
    def test_arguments_do_not_mix_with_the_environment(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("LOGTO_ISSUERS", "https://other.example.com/oidc")
        monkeypatch.setenv("LOGTO_AUDIENCE", "https://other.example.com")

        assert LogtoAuth(endpoint="https://a.logto.app", audience=API).settings.accepted_issuers == {
            "https://a.logto.app/oidc"
        }
        with pytest.raises(SettingsError, match="argument audience: audience is required"):
            LogtoAuth(endpoint="https://a.logto.app")

    def test_settings_or_arguments_but_not_both(self) -> None:
        settings = LogtoSettings(endpoint="https://a.logto.app", audience=API)

        assert LogtoAuth(settings=settings).settings is settings
        with pytest.raises(SettingsError, match="found both: settings and audience"):
            LogtoAuth(settings=settings, audience=API)


class OldScope(str, Enum):  # noqa: UP042 - applications have such enums
    """An enum whose `str()` is the name of the member, not the text."""

    READ = "read:user"
    WRITE = "write:user"


class NewScope(StrEnum):
    READ = "read:user"
    WRITE = "write:user"


@pytest.mark.parametrize("kind", [OldScope, NewScope])
@pytest.mark.parametrize("how", ["scopes", "any", "require", "security", "user"])
def test_scopes_may_be_members_of_an_enum(
    logto: LogtoAuth, issuer: LocalIssuer, kind: type[OldScope] | type[NewScope], how: str
) -> None:
    ways: dict[str, Callable[[], Any]] = {
        "scopes": lambda: Depends(logto.require_scopes(kind.WRITE)),
        "any": lambda: Depends(logto.require_any_scope(kind.WRITE)),
        "require": lambda: Depends(logto.require(scopes=[kind.WRITE])),
        "security": lambda: Security(logto, scopes=[kind.WRITE]),
        "user": lambda: Depends(logto.require_user(kind.WRITE)),
    }
    app = FastAPI()
    logto.install(app)
    app.get("/", dependencies=[ways[how]()])(lambda: True)
    client = TestClient(app)

    admitted = client.get("/", headers=bearer(issuer.access_token(scopes=["write:user"])))
    refused = client.get("/", headers=bearer(issuer.access_token(scopes=["read:user"])))

    assert (admitted.status_code, refused.status_code) == (200, 403)
    assert "write:user; in Logto" in refused.json()["detail"]["message"]
    assert 'scope="write:user"' in refused.headers["WWW-Authenticate"]
    assert app.openapi()["paths"]["/"]["get"]["security"] == [{"Logto": ["write:user"]}]
    assert logto.require_scopes(kind.READ) == logto.require_scopes("read:user")


class Name(str, Enum):  # noqa: UP042 - as above
    ENDPOINT = "https://tenant.example.com"
    ISSUER = "https://tenant.example.com/oidc"
    AUDIENCE = "https://api.example.com"
    HEADER = "X-Organization"
    CLIENT = "spa"


def test_settings_audiences_and_ids_may_be_members_of_an_enum() -> None:
    auth = LogtoAuth(endpoint=Name.ENDPOINT, audience=[Name.AUDIENCE], issuers=Name.ISSUER)
    source = OrganizationSource.from_header(Name.HEADER, issuer=Name.ISSUER)

    assert repr(auth.settings.endpoint) == "'https://tenant.example.com'"
    assert repr((auth.settings.audience, auth.settings.issuers)) == (
        "(('https://api.example.com',), ('https://tenant.example.com/oidc',))"
    )
    assert repr(auth.for_audience(Name.AUDIENCE).scheme_name) == "'Logto-https-api.example.com'"
    assert repr((source.name, source.issuer)) == "('x-organization', 'https://tenant.example.com/oidc')"
    assert repr(auth.require(clients=[Name.CLIENT], actor=[Name.CLIENT])) == (
        "Requirement(clients=('spa',), actor=('spa',))"
    )


WRONG_TYPES: dict[str, tuple[Callable[[LogtoAuth], object], type[Exception], str]] = {
    "settings that are a URL": (
        lambda _: LogtoAuth(settings="https://a.logto.app"),  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]
        SettingsError,
        "expected a LogtoSettings, or a list with one for each tenant, found str",
    ),
    "no settings": (lambda _: LogtoAuth(settings=[]), SettingsError, "found none"),
    "a list of something else": (
        lambda _: LogtoAuth(settings=[LogtoSettings(endpoint="https://a.logto.app", audience="a"), None]),  # type: ignore[list-item] # pyright: ignore[reportArgumentType]
        SettingsError,
        "found LogtoSettings, NoneType",
    ),
    "a model that is no TokenClaims": (
        lambda _: LogtoAuth(claims_model=dict),  # type: ignore[type-var] # pyright: ignore[reportArgumentType]
        TypeError,
        "claims_model: expected a subclass of TokenClaims, found dict",
    ),
    "an instance in place of a model": (
        lambda _: LogtoAuth(claims_model="TokenClaims"),  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]
        TypeError,
        "claims_model: expected a subclass of TokenClaims, found a str",
    ),
    "an organization that is a text": (
        lambda auth: auth.require_organization("read:user", organization="acme"),  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]
        TypeError,
        "organization: expected an OrganizationSource, such as OrganizationSource.from_path(), found 'acme'",
    ),
    "an organization that is a text, among others": (
        lambda auth: auth.require(scopes=["read:user"], organization="acme"),  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]
        TypeError,
        "organization: expected an OrganizationSource",
    ),
    "a source without a place": (
        lambda _: OrganizationSource(),
        TypeError,
        "found a call of the class itself; call one of them",
    ),
    "an endpoint that is missing in the environment of the application": (
        lambda _: LogtoAuth(endpoint=os.environ.get("NOBODY_SETS_IT"), audience=None),  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]
        SettingsError,
        "LOGTO_ENDPOINT (argument endpoint): ",
    ),
    "an option that is None": (
        lambda _: LogtoAuth(endpoint="https://a.logto.app", audience="a", algorithms=None),  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]
        SettingsError,
        "LOGTO_ALGORITHMS (argument algorithms): ",
    ),
    "an unknown option": (
        lambda _: LogtoAuth(endpoint="https://a.logto.app", audience="a", issuer=None),  # type: ignore[call-arg] # pyright: ignore[reportCallIssue]
        SettingsError,
        "unknown setting: issuer",
    ),
    "introspection that is no Introspection": (
        lambda _: LogtoAuth(introspection=True),  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]
        TypeError,
        "introspection: expected an Introspection, found a bool",
    ),
}


@pytest.mark.parametrize("name", WRONG_TYPES)
def test_a_wrong_type_is_an_error_at_the_call(logto: LogtoAuth, name: str) -> None:
    call, kind, message = WRONG_TYPES[name]

    with pytest.raises(kind) as caught:
        call(logto)

    assert type(caught.value) is kind
    assert message in str(caught.value)


@pytest.mark.parametrize("token", [None, b"abc", 1])
async def test_a_token_that_is_no_text_is_refused(logto: LogtoAuth, token: Any) -> None:
    with pytest.raises(MalformedTokenError, match=f"expected a string, found {type(token).__name__}"):
        await logto.verify(token)


def test_two_schemes_of_one_application_show_under_their_own_names(issuer: LocalIssuer) -> None:
    first, second = issuer.auth(), issuer.auth(scheme_name="Other")
    app = build_app(first)
    first.install(app, lifespan=False)

    @app.get("/other", dependencies=[Depends(second.require_scopes("other"))])
    async def other() -> None: ...

    schema = app.openapi()

    schemes = schema["components"]["securitySchemes"]
    assert set(schemes) == {"Logto", "Other"}
    assert schema["paths"]["/other"]["get"]["security"] == [{"Other": ["other"]}]
    scopes = schemes["Logto"]["flows"]["authorizationCode"]["scopes"]
    assert set(scopes) == {"admin", "profile", "read:user", "write:user"}
    assert app.openapi() == schema


async def test_two_hundred_first_requests_fetch_once(issuer: LocalIssuer) -> None:
    transport = Counting(issuer)
    logto = LogtoAuth(endpoint=issuer.endpoint, audience=API, http_transport=transport)
    tokens = [issuer.access_token(subject=f"user-{number}") for number in range(20)]

    claims = await asyncio.gather(*(logto.verify(tokens[number % 20]) for number in range(200)))

    assert {one.user_id for one in claims} == {f"user-{number}" for number in range(20)}
    assert transport.counts == {"/oidc/.well-known/openid-configuration": 1, "/oidc/jwks": 1}


async def test_waiting_verifications_above_the_limit_are_503(issuer: LocalIssuer) -> None:
    logto = issuer.auth(claims_model=SlowClaims, max_waiting_verifications=2)
    await logto.verify(issuer.access_token())
    tokens = [issuer.access_token() for _ in range(100)]

    outcomes = await asyncio.gather(*(logto.verify(token) for token in tokens), return_exceptions=True)

    assert {type(outcome) for outcome in outcomes} == {SlowClaims, ProviderUnavailableError}
    assert (await logto.verify(tokens[-1])).scopes == frozenset({"read:user", "write:user"})


def test_a_scope_that_no_header_can_hold_is_refused_with_the_body_alone(issuer: LocalIssuer) -> None:
    logto = issuer.auth()
    app = FastAPI()

    @app.get("/", dependencies=[Depends(logto.require_scopes('чтение"quoted"'))])
    async def read() -> None: ...

    answer = TestClient(app).get("/", headers=bearer(issuer.access_token()))

    assert answer.status_code == 403
    assert 'чтение"quoted"' in answer.json()["detail"]["message"]
    assert answer.headers["WWW-Authenticate"] == 'Bearer error="insufficient_scope"'


def test_the_log_names_the_reason_and_never_the_token(
    client: TestClient, issuer: LocalIssuer, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")
    token = issuer.access_token(audience="https://other.example.com")

    client.get("/claims", headers=bearer(token))

    records = [record for record in caplog.records if record.name == "fastapi_logto"]
    lines = [record.getMessage() for record in records if record.levelname != "DEBUG"]
    expected = "expected 'https://api.example.test', found 'https://other.example.com'"
    assert lines == [f"refused: invalid_token: audience, claim aud, {expected}"]
    assert not any(part in caplog.text for part in token.split("."))


@pytest.fixture(autouse=True)
def _empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # The default scheme reads a `.env` file in the current folder.
    monkeypatch.chdir(tmp_path)


async def test_the_lifespan_can_be_composed_by_hand(logto: LogtoAuth) -> None:
    async with logto.lifespan():
        assert (logto.health().is_ready, logto.health().key_count) == (True, 1)


async def test_a_fetch_in_progress_ends_with_the_lifespan() -> None:
    started, gate = asyncio.Event(), asyncio.Event()
    is_away = True

    async def answer(request: httpx.Request) -> httpx.Response:
        if is_away:
            raise httpx.ConnectError("refused", request=request)
        started.set()
        await gate.wait()
        raise AssertionError("expected to be cancelled")

    clock = ManualClock(now=NOW)
    auth = LogtoAuth(endpoint=ENDPOINT, audience=API, clock=clock, http_transport=httpx.MockTransport(answer))
    before = asyncio.all_tasks()

    async with auth.lifespan():
        is_away = False
        clock.advance(3600)
        auth.health()
        await asyncio.wait_for(started.wait(), 30)
        assert asyncio.all_tasks() > before

    assert asyncio.all_tasks() == before


@pytest.mark.parametrize("auth", [LogtoAuth(), LogtoAuth(endpoint=ENDPOINT, audience=API)], ids=["unset", "set"])
def test_a_loop_of_another_library_is_named(auth: LogtoAuth) -> None:
    call = auth.verify("x")

    with pytest.raises(RuntimeError, match="expected an event loop of asyncio"):
        call.send(None)
