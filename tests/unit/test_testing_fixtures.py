"""The fixtures of the pytest plugin, with each kind of client and with each runner of coroutines."""

import asyncio
import sys
from subprocess import run
from typing import Annotated, Final

import httpx
import pytest
from fastapi import Depends, FastAPI
from pytest_httpx import HTTPXMock
from starlette.testclient import TestClient

from fastapi_logto import LogtoAuth, TokenClaims
from fastapi_logto.errors import ProviderUnavailableError
from fastapi_logto.testing import BAD_TOKENS, BadToken, LocalIssuer, ManualClock, bearer, claims
from fastapi_logto.testing.overriding import Override

APP: Final = """
from typing import Annotated
from fastapi import Depends, FastAPI
from fastapi_logto import TokenClaims, require_scopes

app = FastAPI()

@app.get("/read")
async def read(claims: Annotated[TokenClaims, Depends(require_scopes("read:user"))]) -> str:
    return claims.user_id
"""

CONFTEST: Final = """
import pytest
from my_app import app

@pytest.fixture
def logto_app():
    return app
"""


def build_app() -> FastAPI:
    auth = LogtoAuth(endpoint="https://tenant.example.test", audience="https://api.mine.example.test")
    billing = auth.for_audience("https://billing.example.test")
    app = FastAPI()

    @app.get("/read")
    async def read(claims: Annotated[TokenClaims, Depends(auth.require_scopes("read:user"))]) -> str:
        return claims.user_id

    @app.get("/invoices", dependencies=[Depends(billing)])
    async def invoices() -> bool:
        return True

    return app


app: Final = build_app()


@pytest.fixture
def logto_app() -> FastAPI:
    return app


@pytest.fixture
def overridden(logto_override: Override) -> str:
    logto_override(claims(subject="from a fixture", scopes=["read:user"]))
    return "from a fixture"


@pytest.fixture(scope="module")
async def started_before() -> int:
    """Keep the runner's task, and its context, for the whole module."""
    return id(asyncio.get_running_loop())


def test_the_issuer_is_behind_the_application(logto_client: TestClient, logto_issuer: LocalIssuer) -> None:
    token = logto_issuer.access_token(scopes=["read:user"], subject="someone")
    assert logto_client.get("/read", headers=bearer(token)).json() == "someone"
    billing = logto_issuer.access_token(audience="https://billing.example.test")
    assert logto_client.get("/invoices", headers=bearer(billing)).status_code == 200
    assert logto_client.get("/read", headers=bearer(billing)).status_code == 401


@pytest.mark.parametrize("kind", BAD_TOKENS)
def test_invalid_tokens_are_a_table(logto_client: TestClient, logto_issuer: LocalIssuer, kind: BadToken) -> None:
    answer = logto_client.get("/read", headers=bearer(logto_issuer.bad_token(kind, scopes=["read:user"])))
    assert answer.json()["detail"]["reason"] == BAD_TOKENS[kind]


def test_time_moves_for_both(logto_client: TestClient, logto_issuer: LocalIssuer, logto_clock: ManualClock) -> None:
    headers = bearer(logto_issuer.access_token(scopes=["read:user"]))
    assert logto_client.get("/read", headers=headers).status_code == 200
    logto_clock.advance(3610)
    assert logto_client.get("/read", headers=headers).status_code == 401


def test_the_caller_can_be_changed_during_a_test(logto_client: TestClient, logto_override: Override) -> None:
    for caller, status in [(claims(scopes=["read:user"]), 200), (claims(), 403), (None, 401)]:
        logto_override(caller)
        assert logto_client.get("/read").status_code == status
    logto_override(ProviderUnavailableError())
    assert (logto_client.get("/read").status_code, logto_client.get("/invoices").status_code) == (503, 503)


def test_nothing_of_another_test_is_left(logto_client: TestClient) -> None:
    assert app.dependency_overrides == {}
    assert logto_client.get("/read").status_code == 401


async def test_coroutines_have_a_client_too(
    logto_async_client: httpx.AsyncClient, logto_issuer: LocalIssuer, logto_override: Override
) -> None:
    async with logto_async_client as client:
        token = logto_issuer.access_token(scopes=["read:user"], subject="someone")
        assert (await client.get("/read", headers=bearer(token))).json() == "someone"
        logto_override(claims(scopes=["read:user"], subject="somebody else"))
        assert (await client.get("/read")).json() == "somebody else"


async def test_a_fixture_overrides_for_a_coroutine_whose_runner_is_older(
    started_before: int, overridden: str, logto_async_client: httpx.AsyncClient
) -> None:
    assert started_before == id(asyncio.get_running_loop())
    async with logto_async_client as client:
        assert (await client.get("/read")).json() == overridden


def test_a_fixture_overrides_for_a_client_of_a_thread(overridden: str, logto_client: TestClient) -> None:
    assert logto_client.get("/read").json() == overridden


async def test_mocks_of_httpx_work_beside_the_issuer(
    logto_async_client: httpx.AsyncClient, logto_issuer: LocalIssuer, httpx_mock: HTTPXMock
) -> None:
    httpx_mock.add_response(url="https://mail.example.test/", text="sent")
    async with logto_async_client as client, httpx.AsyncClient() as http:
        token = logto_issuer.access_token(scopes=["read:user"])
        assert (await client.get("/read", headers=bearer(token))).status_code == 200
        assert (await http.get("https://mail.example.test/")).text == "sent"
    assert len(httpx_mock.get_requests()) == 1


def test_an_application_that_is_not_named_is_an_error(pytester: pytest.Pytester) -> None:
    pytester.makepyfile("def test_it(logto_client): ...")

    result = pytester.runpytest_subprocess("-p", "no:randomly")
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*expected a fixture logto_app in your conftest.py that returns your application*"])


@pytest.mark.parametrize("options", [["-o", "asyncio_mode=auto"], ["-o", "anyio_mode=auto"]], ids=["asyncio", "anyio"])
def test_three_lines_are_enough_with_each_runner_of_coroutines(pytester: pytest.Pytester, options: list[str]) -> None:
    pytester.makepyfile(my_app=APP)
    pytester.makeconftest(CONFTEST)
    pytester.makepyfile(
        """
        import pytest
        from fastapi_logto.testing import bearer, claims

        @pytest.fixture
        def anyio_backend():
            return "asyncio"

        @pytest.fixture
        async def reader(logto_override):
            logto_override(claims(scopes=["read:user"], subject="reader"))

        @pytest.fixture
        async def started():
            yield "before the override"

        def test_sync(logto_client, logto_issuer):
            token = logto_issuer.access_token(scopes=["read:user"])
            assert logto_client.get("/read", headers=bearer(token)).status_code == 200

        def test_sync_override(logto_client, logto_override):
            logto_override(claims())
            assert logto_client.get("/read").status_code == 403

        async def test_async(logto_async_client, logto_issuer, logto_override):
            token = logto_issuer.access_token(scopes=["read:user"])
            async with logto_async_client as client:
                assert (await client.get("/read", headers=bearer(token))).status_code == 200
                logto_override(claims())
                assert (await client.get("/read")).status_code == 403

        async def test_async_fixture(started, reader, logto_async_client):
            async with logto_async_client as client:
                assert (await client.get("/read")).json() == "reader"

        async def test_nothing_is_left(logto_async_client):
            async with logto_async_client as client:
                assert (await client.get("/read")).status_code == 401
        """
    )
    strict = ["-W", "error", "-o", "asyncio_default_fixture_loop_scope=function"]
    result = pytester.runpytest_subprocess(*strict, *options)
    result.assert_outcomes(passed=5)


def test_a_start_of_pytest_imports_nothing_heavy() -> None:
    code = (
        "import sys, pytest_fastapi_logto; "
        "print([name for name in ('fastapi_logto', 'fastapi', 'starlette', 'pydantic', 'httpx', 'joserfc', 'asyncio') "
        "if name in sys.modules])"
    )

    done = run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout.strip() == "[]"
