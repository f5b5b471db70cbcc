"""Overridden callers without tokens: which are accepted, and which requests see an override."""

import asyncio
import json
import threading
from collections.abc import AsyncGenerator, Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from typing import Annotated, Any, Final

import httpx
import pytest
from fastapi import APIRouter, Depends, FastAPI, Security, WebSocket
from fastapi.security import SecurityScopes
from pydantic import Field
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware, RequestResponseEndpoint
from starlette.middleware.gzip import GZipMiddleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Mount, Route
from starlette.testclient import TestClient, WebSocketDenialResponse

from fastapi_logto import LogtoAuth, TokenClaims, claims_of, mount_protected
from fastapi_logto.errors import ExpiredTokenError, ProviderUnavailableError
from fastapi_logto.testing import LocalIssuer, bearer, claims, override
from tests.unit.apps import detail

ORGANIZATION_TOKEN: Final = "urn:logto:organization:A"

issuer = LocalIssuer()


class MyClaims(TokenClaims):
    roles: list[str] = Field(default_factory=list[str])


@pytest.fixture
def logto() -> LogtoAuth:
    return issuer.auth()


def build_router(logto: LogtoAuth) -> APIRouter:
    router = APIRouter()

    @router.get("/plain")
    async def plain(claims: Annotated[TokenClaims, Depends(logto)]) -> str:
        return claims.user_id

    @router.get("/threaded")
    def threaded(claims: Annotated[TokenClaims, Depends(logto.require_scopes("read:user"))]) -> str:
        return claims.user_id

    @router.get("/security")
    async def security(claims: Annotated[TokenClaims, Security(logto, scopes=["read:user"])]) -> str:
        return claims.user_id

    @router.get("/optional")
    async def optional(claims: Annotated[TokenClaims | None, Depends(logto.optional)]) -> str:
        return "nobody" if claims is None else claims.user_id

    @router.get("/optional-with-scope")
    async def optional_with_scope(
        claims: Annotated[TokenClaims | None, Security(logto.optional, scopes=["read:user"])],
    ) -> str:
        return "nobody" if claims is None else claims.user_id

    @router.get("/of/{organization_id}")
    async def member(claims: Annotated[TokenClaims, Depends(logto.require_organization("read:user"))]) -> str:
        return claims.user_id

    @router.get("/machines")
    async def machine(claims: Annotated[TokenClaims, Depends(logto.require_machine())]) -> str:
        return claims.user_id

    @router.websocket("/echo")
    async def echo(
        websocket: WebSocket, claims: Annotated[TokenClaims, Depends(logto.require_scopes("read:user"))]
    ) -> None:
        await websocket.accept()
        await websocket.send_text(claims.user_id)
        await websocket.close()

    return router


@pytest.fixture
def app(logto: LogtoAuth) -> FastAPI:
    app = FastAPI()
    app.include_router(build_router(logto))
    return app


@pytest.fixture
def client(app: FastAPI) -> TestClient:
    return TestClient(app)


def status(client: TestClient, path: str) -> int:
    return int(client.get(path).status_code)


def echo(client: TestClient) -> str:
    with client.websocket_connect("/echo") as socket:
        return str(socket.receive_text())


PATHS: Final = ["/plain", "/threaded", "/security", "/optional", "/optional-with-scope", "/of/A", "/machines"]


@pytest.mark.parametrize(
    ("caller", "statuses"),
    [
        (claims(), [200, 403, 403, 200, 403, 403, 403]),
        (claims(scopes=["read:user"]), [200, 200, 200, 200, 200, 403, 403]),
        (claims(scopes=["read:user"], organization_id="A"), [200, 200, 200, 200, 200, 200, 403]),
        (claims(scopes=["read:user"], organization_id="B"), [200, 200, 200, 200, 200, 403, 403]),
        (claims(organization_id="A"), [200, 403, 403, 200, 403, 403, 403]),
        (claims(scopes=["read:user"], audience=ORGANIZATION_TOKEN), [401, 401, 401, 401, 401, 200, 401]),
        (claims(machine=True, scopes=["read:user"]), [200, 200, 200, 200, 200, 403, 200]),
        (None, [401, 401, 401, 200, 401, 401, 401]),
        (ExpiredTokenError(), [401] * 7),
        (ProviderUnavailableError(), [503] * 7),
    ],
    ids=[
        "nothing",
        "a scope",
        "in A",
        "in B",
        "in A without scope",
        "organization token",
        "machine",
        "nobody",
        "expired",
        "outage",
    ],
)
def test_all_that_routes_require_is_checked_without_a_token(
    app: FastAPI, logto: LogtoAuth, client: TestClient, caller: Any, statuses: list[int]
) -> None:
    with override(app, logto, caller):
        assert [status(client, path) for path in PATHS] == statuses
    assert [status(client, path) for path in PATHS] == [401, 401, 401, 200, 401, 401, 401]
    assert app.dependency_overrides == {}


@pytest.mark.parametrize(
    ("caller", "expected", "header"),
    [
        (None, (401, "auth.authorization_header_missing", "header_missing"), ("www-authenticate", "Bearer")),
        (claims(), (403, "insufficient_scope", "scope"), ("www-authenticate", "Bearer error=")),
        (
            ProviderUnavailableError(retry_after_seconds=7),
            (503, "provider_unavailable", "provider_unavailable"),
            ("retry-after", "7"),
        ),
    ],
    ids=["nobody", "scope", "outage"],
)
def test_refusals_have_the_usual_response(
    app: FastAPI, logto: LogtoAuth, client: TestClient, caller: Any, expected: Any, header: tuple[str, str]
) -> None:
    with override(app, logto, caller):
        assert detail(client, "/threaded") == expected
        assert client.get("/threaded").headers[header[0]].startswith(header[1])


def test_a_websocket_is_reached_too(app: FastAPI, logto: LogtoAuth, client: TestClient) -> None:
    with override(app, logto, claims(subject="someone", scopes=["read:user"])):
        assert echo(client) == "someone"
    with (
        override(app, logto, claims()),
        pytest.raises(WebSocketDenialResponse) as denied,
        client.websocket_connect("/echo"),
    ):
        pass
    assert denied.value.status_code == 403


def mounted(app: FastAPI) -> FastAPI:
    outer = FastAPI()
    outer.mount("/v1", app)
    return outer


def below_middleware(app: FastAPI) -> FastAPI:
    async def pass_on(request: Request, call_next: RequestResponseEndpoint) -> Response:
        return await call_next(request)

    app.add_middleware(BaseHTTPMiddleware, dispatch=pass_on)
    outer = FastAPI()
    outer.router.routes.append(Mount("/v1", app, middleware=[Middleware(GZipMiddleware)]))
    return outer


def below_starlette(app: FastAPI) -> Starlette:
    return Starlette(routes=[Mount("/v1", GZipMiddleware(app))])


def as_a_router(app: FastAPI) -> Starlette:
    return Starlette(routes=[Mount("/v1", app.router)])


@pytest.mark.parametrize("wrap", [mounted, below_middleware, below_starlette])
def test_mounted_applications_are_reached(app: FastAPI, logto: LogtoAuth, wrap: Callable[[FastAPI], Any]) -> None:
    outer = wrap(app)
    client = TestClient(outer)

    with override(outer, logto, claims(scopes=["read:user"])):
        assert status(client, "/v1/threaded") == 200
    assert status(client, "/v1/threaded") == 401
    assert app.dependency_overrides == {}


def test_a_router_that_is_mounted_finds_its_application(app: FastAPI, logto: LogtoAuth) -> None:
    with override(as_a_router(app), logto, claims()):
        assert set(app.dependency_overrides) == set(logto.schemes)


def test_a_router_of_no_application_is_named(logto: LogtoAuth) -> None:
    app = Starlette(routes=[Mount("/v1", build_router(logto))])

    with pytest.raises(ValueError, match=r"^/v1/plain: expected a route of a FastAPI application"):
        override(app, logto, claims())


def test_an_auth_that_no_route_requires_is_an_error(app: FastAPI) -> None:
    with pytest.raises(ValueError, match="pass the auth of its routes"):
        override(app, issuer.auth(), claims())


def test_other_audiences_are_overridden_where_they_are_passed(app: FastAPI, logto: LogtoAuth) -> None:
    billing = logto.for_audience("https://billing.example.test")

    @app.get("/invoices", dependencies=[Depends(billing.require_scopes("read:invoice"))])
    async def invoices() -> bool:
        return True

    client = TestClient(app)
    with override(app, logto, claims(scopes=["read:invoice"])):
        assert status(client, "/invoices") == 401
        with override(app, billing, claims(scopes=["read:invoice"])):
            assert (status(client, "/invoices"), status(client, "/threaded")) == (200, 403)


def test_the_inner_block_counts_and_the_outer_one_comes_back(
    app: FastAPI, logto: LogtoAuth, client: TestClient
) -> None:
    with override(app, logto, claims(subject="outer")):
        with override(app, logto, claims(subject="inner")):
            assert client.get("/plain").json() == "inner"
            with override(app, logto, None):
                assert status(client, "/plain") == 401
        assert client.get("/plain").json() == "outer"
    assert status(client, "/plain") == 401


def test_an_exception_ends_a_block(app: FastAPI, logto: LogtoAuth, client: TestClient) -> None:
    with pytest.raises(KeyError), override(app, logto, claims()):
        raise KeyError

    assert status(client, "/plain") == 401
    assert app.dependency_overrides == {}


def test_a_block_is_entered_once(app: FastAPI, logto: LogtoAuth) -> None:
    block = override(app, logto, claims())
    with block, pytest.raises(RuntimeError, match="found a used one"), block:
        pass
    with pytest.raises(RuntimeError, match="found a used one"), block:
        pass
    assert app.dependency_overrides == {}


def test_blocks_may_end_in_another_order(app: FastAPI, logto: LogtoAuth, client: TestClient) -> None:
    first, second = ExitStack(), ExitStack()
    first.enter_context(override(app, logto, claims(subject="first")))
    second.enter_context(override(app, logto, claims(subject="second")))

    first.close()
    assert client.get("/plain").json() == "second"
    second.close()
    assert status(client, "/plain") == 401
    assert app.dependency_overrides == {}


def test_generators_that_take_turns_do_not_mix_up(app: FastAPI, logto: LogtoAuth, client: TestClient) -> None:
    def someone(name: str) -> Generator[None]:
        with override(app, logto, claims(subject=name)):
            yield

    one, other = someone("one"), someone("other")
    next(one)
    next(other)
    one.close()
    assert client.get("/plain").json() == "other"
    other.close()
    assert status(client, "/plain") == 401


def test_an_earlier_override_is_restored(app: FastAPI, logto: LogtoAuth, client: TestClient) -> None:
    def theirs(name: str = "theirs") -> TokenClaims:
        return claims(subject=name, scopes=["read:user"])

    required = logto.require_scopes("read:user")
    app.dependency_overrides = {logto: theirs, required: lambda: claims(subject="by requirement")}
    before = dict(app.dependency_overrides)

    with override(app, logto, claims(subject="ours")):
        assert client.get("/plain").json() == "ours"
        # An equal requirement is the key of the application's own override.
        assert client.get("/threaded").json() == "by requirement"
        with ThreadPoolExecutor(1) as pool:
            # Outside of the block, the application's own override applies, with its own parameters.
            assert pool.submit(lambda: TestClient(app).get("/plain?name=query").json()).result() == "query"
            assert pool.submit(lambda: TestClient(app).get("/security").json()).result() == "theirs"
    assert app.dependency_overrides == before
    assert client.get("/plain").json() == "theirs"


def test_an_override_that_is_added_meanwhile_is_kept(app: FastAPI, logto: LogtoAuth, client: TestClient) -> None:
    def theirs() -> TokenClaims:
        return claims(subject="theirs")

    with override(app, logto, claims(subject="ours")):
        app.dependency_overrides[logto] = theirs
        assert client.get("/plain").json() == "theirs"
        with override(app, logto, claims(subject="ours again")):
            assert client.get("/plain").json() == "ours again"
        assert client.get("/plain").json() == "theirs"
    assert app.dependency_overrides == {logto: theirs}


def test_a_table_that_was_copied_meanwhile_keeps_no_override_of_the_block(
    app: FastAPI, logto: LogtoAuth, client: TestClient
) -> None:
    first = app.dependency_overrides
    with override(app, logto, claims()):
        app.dependency_overrides = dict(first)
        assert status(client, "/plain") == 200
        app.dependency_overrides[build_router] = build_router
    assert (first, app.dependency_overrides) == ({}, {build_router: build_router})


def test_an_override_that_was_cleared_meanwhile_is_not_restored(
    app: FastAPI, logto: LogtoAuth, client: TestClient
) -> None:
    app.dependency_overrides[logto] = claims
    with override(app, logto, claims()):
        app.dependency_overrides.clear()
        assert status(client, "/plain") == 401
    assert app.dependency_overrides == {}


def test_an_override_that_remains_in_a_copy_of_the_table_verifies_tokens(
    app: FastAPI, logto: LogtoAuth, client: TestClient
) -> None:
    with override(app, logto, claims()):
        stale = dict(app.dependency_overrides)
    app.dependency_overrides = stale

    assert status(client, "/plain") == 401
    assert client.get("/plain", headers=bearer(issuer.access_token(subject="real"))).json() == "real"


def test_threads_that_override_the_same_application_do_not_see_each_other(app: FastAPI, logto: LogtoAuth) -> None:
    meet = threading.Barrier(5, timeout=30)

    def call(name: str) -> list[str]:
        seen: list[str] = []
        with override(app, logto, claims(subject=name)):
            meet.wait()
            seen.extend(TestClient(app).get("/plain").json() for _ in range(5))
            meet.wait()
        seen.append(str(TestClient(app).get("/plain").status_code))
        return seen

    def call_for_real() -> list[int]:
        meet.wait()
        seen = [status(TestClient(app), "/plain") for _ in range(5)]
        meet.wait()
        return seen

    names = ["a", "b", "c", "d"]
    with ThreadPoolExecutor(5) as pool:
        calls = [pool.submit(call, name) for name in names]
        real = pool.submit(call_for_real)

    assert [one.result() for one in calls] == [[name] * 5 + ["401"] for name in names]
    assert real.result() == [401] * 5
    assert app.dependency_overrides == {}


def http(app: FastAPI) -> httpx.AsyncClient:
    return httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://testserver")


async def test_tasks_that_override_the_same_application_do_not_see_each_other(app: FastAPI, logto: LogtoAuth) -> None:
    meet = asyncio.Barrier(4)

    async def call(name: str | None) -> list[int | str]:
        async with http(app) as client:
            with ExitStack() as stack:
                if name is not None:
                    stack.enter_context(override(app, logto, claims(subject=name, scopes=["read:user"])))
                await meet.wait()
                answers = [await client.get(path) for path in ("/plain", "/threaded", "/security")]
                await meet.wait()
            return [answer.json() if answer.status_code == 200 else answer.status_code for answer in answers]

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(call(name)) for name in ("a", "b", "c", None)]

    assert [task.result() for task in tasks] == [["a"] * 3, ["b"] * 3, ["c"] * 3, [401] * 3]
    assert app.dependency_overrides == {}


async def test_a_task_that_outlives_its_block_has_no_caller(app: FastAPI, logto: LogtoAuth) -> None:
    gate = asyncio.Event()

    async def call() -> int:
        await gate.wait()
        async with http(app) as client:
            return (await client.get("/plain")).status_code

    with override(app, logto, claims()):
        late = asyncio.create_task(call())
        await asyncio.sleep(0)
    gate.set()
    assert await late == 401


async def test_a_request_whose_block_ends_on_its_way_is_verified(app: FastAPI, logto: LogtoAuth) -> None:
    def theirs() -> TokenClaims:
        return claims()

    app.dependency_overrides[logto] = theirs
    with override(app, logto, claims()):
        entry: Any = app.dependency_overrides[logto]
        scope = {"type": "http", "headers": [(b"authorization", f"Bearer {issuer.access_token()}".encode())]}
    # FastAPI read its parameters inside the block.
    found = await entry(conn=Request(scope), security_scopes=SecurityScopes())
    assert found.user_id == "alice0000001"


def test_a_second_loop_sees_the_block_around_it(app: FastAPI, logto: LogtoAuth) -> None:
    async def call() -> Any:
        async with http(app) as client:
            return (await client.get("/plain")).json()

    with override(app, logto, claims(subject="someone")):
        assert [asyncio.run(call()), asyncio.run(call())] == ["someone"] * 2
        assert TestClient(app).get("/plain").json() == "someone"


def test_a_client_that_was_started_before_sees_the_block(app: FastAPI, logto: LogtoAuth) -> None:
    with TestClient(app) as client:
        assert status(client, "/plain") == 401
        with override(app, logto, claims(subject="someone", scopes=["read:user"])):
            assert (client.get("/threaded").json(), echo(client)) == ("someone", "someone")
        assert status(client, "/plain") == 401


async def test_a_thread_that_gets_the_context_takes_part(app: FastAPI, logto: LogtoAuth) -> None:
    seen: list[int] = []
    with override(app, logto, claims()):
        seen.append(await asyncio.to_thread(status, TestClient(app), "/plain"))
        thread = threading.Thread(target=lambda: seen.append(status(TestClient(app), "/plain")))
        thread.start()
        await asyncio.to_thread(thread.join)
    assert seen == [200, 401]


def test_middleware_may_be_around_the_whole_application(app: FastAPI, logto: LogtoAuth) -> None:
    outer = GZipMiddleware(app)
    with override(outer, logto, claims()):
        assert status(TestClient(outer), "/plain") == 200


def test_a_loop_that_existed_before_sees_the_block(app: FastAPI, logto: LogtoAuth) -> None:
    # A test runner keeps one task, whose context was created with the first asynchronous fixture.
    async def serve(asked: asyncio.Queue[str], answers: asyncio.Queue[httpx.Response]) -> None:
        async with http(app) as client:
            while True:
                await answers.put(await client.get(await asked.get()))

    with asyncio.Runner() as runner:

        async def begin() -> tuple[asyncio.Task[None], asyncio.Queue[str], asyncio.Queue[httpx.Response]]:
            asked: asyncio.Queue[str] = asyncio.Queue()
            answers: asyncio.Queue[httpx.Response] = asyncio.Queue()
            return asyncio.create_task(serve(asked, answers)), asked, answers

        task, asked, answers = runner.run(begin())

        def call() -> int:
            async def ask() -> int:
                await asked.put("/plain")
                return (await answers.get()).status_code

            return runner.run(ask())

        assert call() == 401
        with override(app, logto, claims()):
            assert call() == 200
        assert call() == 401
        task.cancel()


async def test_a_block_may_end_in_another_context(app: FastAPI, logto: LogtoAuth) -> None:
    @contextmanager
    def both() -> Generator[None]:
        with override(app, logto, claims()):
            yield

    async def fixture() -> AsyncGenerator[None]:
        with both():
            yield

    generator = fixture()
    await asyncio.create_task(generator.__anext__())
    assert set(app.dependency_overrides) == set(logto.schemes)
    await generator.aclose()
    assert app.dependency_overrides == {}


def test_claims_of_the_class_of_the_auth_are_expected(app: FastAPI) -> None:
    logto = issuer.auth(claims_model=MyClaims)

    @app.get("/roles")
    async def roles(mine: Annotated[MyClaims, Depends(logto)]) -> list[str]:
        mine.roles.append("mine")
        return mine.roles

    client = TestClient(app)
    with pytest.raises(TypeError, match="expected claims of MyClaims, found TokenClaims"):
        override(app, logto, claims())  # type: ignore[misc] # pyright: ignore[reportArgumentType] - the mistake
    with override(app, logto, claims(claims_model=MyClaims, extra={"roles": ["admin"]})):
        # Each request has its own.
        assert [client.get("/roles").json() for _ in range(2)] == [["admin", "mine"]] * 2


@pytest.mark.parametrize("given", [claims, ExpiredTokenError, {"sub": "someone"}])
def test_an_argument_that_is_not_a_caller_is_an_error(app: FastAPI, logto: LogtoAuth, given: Any) -> None:
    with pytest.raises(TypeError, match="expected the result of claims"):
        override(app, logto, given)


def test_applications_that_share_an_auth_are_overridden_each_by_itself(app: FastAPI, logto: LogtoAuth) -> None:
    other = FastAPI()
    other.include_router(build_router(logto))
    client, second = TestClient(app), TestClient(other)

    with override(app, logto, claims(subject="one")):
        assert status(second, "/plain") == 401
        with override(other, logto, claims(subject="other")):
            assert (client.get("/plain").json(), second.get("/plain").json()) == ("one", "other")


def test_claims_have_valid_defaults() -> None:
    made = claims()

    assert type(made) is TokenClaims
    assert (made.user_id, made.client_id, made.scopes, made.organization_id) == (
        "alice0000001",
        "local-spa",
        frozenset(),
        None,
    )
    assert (made.is_machine, made.act, made.aud) == (False, None, "https://api.example.test")
    assert (made.exp - (made.iat or 0), made.iss) == (3600, "http://127.0.0.1:3001/oidc")
    assert claims().jti != made.jti


def test_every_part_of_claims_can_be_chosen() -> None:
    made = claims(
        subject="someone",
        scopes=["a", "b"],
        organization_id="A",
        client_id="app",
        actor="support",
        audience=["x", "y"],
        issuer="https://i/oidc",
        issued_at=10,
        lifetime_seconds=10,
        extra={"plan": "pro", "jti": None},
    )

    assert json.loads(made.model_dump_json(exclude_unset=True)) == {
        "iss": "https://i/oidc",
        "sub": "someone",
        "aud": ["x", "y"],
        "exp": 20,
        "iat": 10,
        "client_id": "app",
        "scope": "a b",
        "organization_id": "A",
        "act": {"sub": "support"},
        "plan": "pro",
    }
    machine = claims(machine=True, client_id="job")
    assert (machine.user_id, machine.is_machine, claims(machine=True).user_id) == ("job", True, "local-machine")
    organization = claims(audience=ORGANIZATION_TOKEN)
    assert (organization.is_organization_token, organization.organization_id) == (True, "A")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"scopes": ["a b"]}, "expected one scope per entry"),
        ({"scopes": [""]}, "expected one scope per entry"),
        ({"machine": True, "subject": "someone"}, "expected no subject"),
        ({"subject": ""}, "claims: sub: expected string_too_short"),
        ({"extra": {"exp": "soon"}}, "claims: exp: expected"),
    ],
)
def test_contradictory_claims_are_an_error(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        claims(**arguments)


def test_a_single_string_of_scopes_is_an_error() -> None:
    with pytest.raises(TypeError, match="scopes: expected a collection of texts, found the string 'read:user'"):
        claims(scopes="read:user")


def test_a_mistyped_argument_is_an_error() -> None:
    with pytest.raises(TypeError, match="organisation_id"):
        claims(organisation_id="A")  # type: ignore[call-arg] # pyright: ignore[reportCallIssue] - the mistake


def test_what_is_mounted_behind_a_requirement_is_reached(logto: LogtoAuth) -> None:
    async def show(request: Request) -> Response:
        return Response(claims_of(request).user_id)

    app = FastAPI()
    mounted = Starlette(routes=[Route("/user", show)])
    mount_protected(app, path="/inner", mounted=mounted, requires=logto.require_scopes("read:user"))
    client = TestClient(app)

    with override(app, logto, claims(subject="carol", scopes=["read:user"])):
        assert client.get("/inner/user").text == "carol"
    with override(app, logto, claims(scopes=["other"])):
        assert status(client, "/inner/user") == 403
    assert status(client, "/inner/user") == 401


def test_a_refusal_names_the_metadata_as_without_an_override() -> None:
    logto = issuer.auth(public_url="https://api.example.test")
    app = FastAPI()
    app.include_router(build_router(logto))
    logto.install(app, lifespan=False)
    client = TestClient(app)

    with override(app, logto, None):
        overridden = client.get("/plain")
    assert "resource_metadata=" in overridden.headers["WWW-Authenticate"]
    assert overridden.headers["WWW-Authenticate"] == client.get("/plain").headers["WWW-Authenticate"]
