"""An issuer connected to an application's own `auth`: every kind of token, rotation, outage, time, and clean-up."""

import asyncio
from contextlib import ExitStack
from typing import Annotated, Any, Final

import httpx
import pytest
from fastapi import Depends, FastAPI
from pytest_httpx import HTTPXMock
from starlette.testclient import TestClient

import fastapi_logto
from fastapi_logto import LogtoAuth, LogtoSettings, TokenClaims, require_scopes
from fastapi_logto.client import LogtoClient
from fastapi_logto.errors import ProviderUnavailableError, UnknownKeyError
from fastapi_logto.introspection import Introspection
from fastapi_logto.testing import BAD_TOKENS, BadToken, Directory, LocalIssuer, ManualClock, bearer
from fastapi_logto.testing.signing import Algorithm
from tests.unit.apps import detail

API: Final = "https://api.example.test"
OWN: Final = "https://api.mine.example.test"
BILLING: Final = "https://billing.example.test"


class MyClaims(TokenClaims):
    plan: str = "free"


def build_app(auth: LogtoAuth[Any]) -> FastAPI:
    app = FastAPI()
    billing = auth.for_audience(BILLING)

    @app.get("/read")
    async def read(claims: Annotated[TokenClaims, Depends(auth.require_scopes("read:user"))]) -> TokenClaims:
        return claims

    @app.get("/invoices", dependencies=[Depends(billing)])
    async def invoices() -> bool:
        return True

    @app.get("/of/{organization_id}", dependencies=[Depends(auth.require_organization())])
    async def members() -> bool:
        return True

    return app


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(now=1_800_000_000)


@pytest.fixture
def issuer(clock: ManualClock) -> LocalIssuer:
    return LocalIssuer(clock=clock)


@pytest.fixture
def auth() -> LogtoAuth:
    return LogtoAuth(endpoint="https://tenant.example.test", audience=OWN, leeway_seconds=0)


@pytest.fixture
def client(auth: LogtoAuth) -> TestClient:
    return TestClient(build_app(auth))


def read(client: TestClient, token: str, path: str = "/read") -> int:
    return int(client.get(path, headers=bearer(token)).status_code)


@pytest.mark.parametrize("algorithm", ["ES384", "ES256", "ES512", "RS256"])
@pytest.mark.parametrize("kind", BAD_TOKENS)
def test_an_invalid_token_is_refused_for_the_reason_that_is_named(kind: BadToken, algorithm: Algorithm) -> None:
    issuer = LocalIssuer()
    issuer.rotate(algorithm=algorithm, keep_previous=False)
    auth = issuer.auth(leeway_seconds=60)
    client = TestClient(build_app(auth))

    assert read(client, issuer.access_token(scopes=["read:user"])) == 200
    token = issuer.bad_token(kind, scopes=["read:user"])
    assert detail(client, "/read", bearer(token)) == (401, "invalid_token", BAD_TOKENS[kind])


def test_an_invalid_token_has_only_one_fault(issuer: LocalIssuer) -> None:
    client = TestClient(build_app(issuer.auth(token_types=["at+jwt", "absent"])))

    assert read(client, issuer.bad_token("without_type", scopes=["read:user"])) == 200
    assert read(client, issuer.bad_token("without_type", audience=BILLING), "/invoices") == 200
    assert read(client, issuer.bad_token("without_type", organization_id="A"), "/of/A") == 200
    assert read(client, issuer.bad_token("organization", scopes=None), "/of/org") == 200


def test_there_is_no_other_kind_of_invalid_token(issuer: LocalIssuer) -> None:
    with pytest.raises(ValueError, match=r"^expected one of expired, .* found 'stale'"):
        issuer.bad_token("stale")  # type: ignore[arg-type] # pyright: ignore[reportArgumentType] - the mistake


def test_an_application_verifies_tokens_of_the_issuer_that_it_is_connected_to(
    issuer: LocalIssuer, auth: LogtoAuth, client: TestClient
) -> None:
    with issuer.connect(auth) as connected:
        assert connected is issuer
        answer = client.get("/read", headers=bearer(issuer.access_token(scopes=["read:user"])))
        # Its own audience and settings, except for the tenant.
        assert (answer.json()["aud"], answer.json()["iss"]) == (OWN, issuer.issuer)
        assert (auth.settings.endpoint, auth.settings.leeway_seconds) == (issuer.endpoint, 0)
        assert read(client, issuer.access_token(audience=API)) == 401
        assert read(client, issuer.access_token(audience=BILLING), "/invoices") == 200
        assert read(client, issuer.organization_token("A"), "/of/A") == 200
        assert read(client, issuer.machine_token(scopes=["read:user"])) == 200
        assert read(client, issuer.bad_token("forged", scopes=["read:user"])) == 401
    assert auth.settings.endpoint == "https://tenant.example.test"
    assert issuer.audience == API


@pytest.mark.parametrize("kind", ["scheme", "another audience", "application"])
def test_a_scheme_or_a_whole_application_is_connected(issuer: LocalIssuer, auth: LogtoAuth, kind: str) -> None:
    app = build_app(auth)
    target: Any = {"scheme": auth, "another audience": auth.for_audience(BILLING), "application": app}[kind]
    with issuer.connect(target):
        assert read(TestClient(app), issuer.access_token(scopes=["read:user"])) == 200


def test_all_the_schemes_of_an_application_are_connected(issuer: LocalIssuer, auth: LogtoAuth) -> None:
    app = build_app(auth)
    other = LogtoAuth(endpoint="https://other.example.test", audience=BILLING, scheme_name="Other")
    inner = FastAPI(dependencies=[Depends(other.optional)])
    inner.get("/invoices")(lambda: True)
    app.mount("/v1", inner)
    client = TestClient(app)

    with issuer.connect(app):
        assert read(client, issuer.access_token(scopes=["read:user"])) == 200
        assert read(client, issuer.access_token(audience=BILLING), "/v1/invoices") == 200
        assert read(client, issuer.access_token(), "/v1/invoices") == 401


def test_an_application_without_any_scheme_is_an_error(issuer: LocalIssuer) -> None:
    with pytest.raises(ValueError, match="found neither"), issuer.connect(FastAPI()):
        pass


def test_the_default_auth_needs_no_environment_while_it_is_connected(
    issuer: LocalIssuer, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = FastAPI()
    app.get("/read", dependencies=[Depends(require_scopes("read:user"))])(lambda: True)
    client = TestClient(app)

    # The developer's environment is not read.
    monkeypatch.setenv("LOGTO_ENDPOINT", "no url")
    with issuer.connect(fastapi_logto.auth):
        assert read(client, issuer.access_token()) == 200
        assert fastapi_logto.auth.settings.audience == (API,)
    another = LogtoAuth()
    with issuer.connect(another):
        assert another.settings.endpoint == issuer.endpoint
    with pytest.raises(fastapi_logto.SettingsError, match="LOGTO_ENDPOINT"):
        _ = another.settings


async def test_the_environment_is_read_again_afterwards(issuer: LocalIssuer, monkeypatch: pytest.MonkeyPatch) -> None:
    auth = LogtoAuth()
    with issuer.connect(auth):
        assert (await auth.verify(issuer.access_token())).user_id == "alice0000001"
    monkeypatch.setenv("LOGTO_ENDPOINT", "https://tenant.example.test")
    monkeypatch.setenv("LOGTO_AUDIENCE", OWN)
    settings = await asyncio.to_thread(lambda: auth.settings)
    assert settings.audience == (OWN,)
    with issuer.connect(auth):
        # It was read before, but the test does not depend on it.
        assert auth.settings.audience == (API,)
    assert auth.settings is settings


async def test_nothing_is_cached_across_the_ends_of_a_block(issuer: LocalIssuer) -> None:
    own = LocalIssuer(clock=issuer.clock)
    auth = own.auth()
    token, other = own.access_token(), issuer.access_token()
    await auth.verify(token)
    keys = auth.health()

    with issuer.connect(auth):
        assert auth.health().key_count == 0
        # Both have the same endpoint and differ only in their keys.
        with pytest.raises(UnknownKeyError):
            await auth.verify(token)
        assert (await auth.verify(other)).user_id == "alice0000001"
    assert auth.health() == keys
    assert (await auth.verify(token)).user_id == "alice0000001"
    with pytest.raises(UnknownKeyError):
        await auth.verify(other)


async def test_blocks_may_end_in_another_order(issuer: LocalIssuer, auth: LogtoAuth) -> None:
    second = LocalIssuer(endpoint="http://second.test")
    one, other = ExitStack(), ExitStack()
    one.enter_context(issuer.connect(auth))
    other.enter_context(second.connect(auth))

    one.close()
    await auth.verify(second.access_token())
    assert auth.settings.endpoint == "http://second.test"
    other.close()
    assert auth.settings.endpoint == "https://tenant.example.test"


def test_the_audience_of_tokens_is_that_of_what_is_connected_last(issuer: LocalIssuer, auth: LogtoAuth) -> None:
    other = LogtoAuth(endpoint="https://other.example.test", audience=BILLING)
    one, another = ExitStack(), ExitStack()
    one.enter_context(issuer.connect(auth))
    another.enter_context(issuer.connect(other))

    assert issuer.audience == BILLING
    one.close()
    assert issuer.audience == BILLING
    another.close()
    assert issuer.audience == API


async def test_further_settings_apply_inside_the_block(issuer: LocalIssuer, auth: LogtoAuth) -> None:
    with issuer.connect(auth, audience=[BILLING, API], token_types=["absent"]):
        assert (auth.settings.audience, auth.settings.leeway_seconds) == ((BILLING, API), 0)
        assert (await auth.verify(issuer.bad_token("without_type"))).audiences == {BILLING}
    assert auth.settings.audience == (OWN,)
    with pytest.raises(fastapi_logto.SettingsError, match="unknown setting: leeway"), issuer.connect(auth, leeway=3):  # type: ignore[call-arg] # pyright: ignore[reportCallIssue] - the mistake
        pass
    assert (auth.settings.audience, issuer.audience) == ((OWN,), API)


def test_an_exception_ends_a_block(issuer: LocalIssuer, auth: LogtoAuth) -> None:
    with pytest.raises(KeyError), issuer.connect(auth):
        raise KeyError
    assert (auth.settings.audience, issuer.audience) == ((OWN,), API)


async def test_an_auth_of_several_tenants_knows_the_issuer_alone(issuer: LocalIssuer) -> None:
    auth = LogtoAuth(settings=[LogtoSettings(endpoint=f"https://{name}.test", audience=name) for name in "ab"])
    with issuer.connect(auth):
        assert (await auth.verify(issuer.access_token())).audiences == {"a"}


async def test_opaque_tokens_are_introspected_at_the_issuer(issuer: LocalIssuer) -> None:
    opaque = Introspection(
        client_id="local-machine", client_secret="local-machine-secret", allowed_clients=["local-spa"]
    )
    auth = LogtoAuth(endpoint="https://tenant.example.test", audience=OWN, introspection=opaque)
    with issuer.connect(auth):
        assert (await auth.verify(issuer.opaque_token())).user_id == "alice0000001"


async def test_a_claims_model_is_that_of_the_application(issuer: LocalIssuer) -> None:
    auth = LogtoAuth(endpoint="https://tenant.example.test", audience=OWN, claims_model=MyClaims)
    with issuer.connect(auth):
        assert (await auth.verify(issuer.access_token(claims={"plan": "pro"}))).plan == "pro"
    made = issuer.auth(claims_model=MyClaims, audience=BILLING, scheme_name="Billing")
    assert (await made.verify(issuer.access_token(audience=BILLING))).plan == "free"
    assert made.scheme_name == "Billing"


def test_the_start_of_an_application_fetches_the_keys_of_the_issuer(issuer: LocalIssuer, auth: LogtoAuth) -> None:
    app = build_app(auth)
    auth.install(app)
    with issuer.connect(auth), TestClient(app) as client:
        assert auth.health().is_ready
        assert read(client, issuer.access_token(scopes=["read:user"])) == 200
    assert not auth.health().is_ready


def test_metadata_and_challenges_are_those_of_the_issuer_meanwhile(issuer: LocalIssuer) -> None:
    page = "/.well-known/oauth-protected-resource"
    auth = LogtoAuth(endpoint="https://tenant.example.test", audience=OWN, public_url=OWN)
    app = build_app(auth)
    auth.install(app, lifespan=False)
    client = TestClient(app)

    def find_servers() -> object:
        return client.get(page).json()["authorization_servers"]

    assert find_servers() == ["https://tenant.example.test/oidc"]
    with issuer.connect(auth):
        assert find_servers() == [issuer.issuer]
        assert f'resource_metadata="{OWN}{page}"' in client.get("/read").headers["WWW-Authenticate"]
    assert find_servers() == ["https://tenant.example.test/oidc"]


def test_the_application_and_the_issuer_use_the_time_of_the_clock(
    issuer: LocalIssuer, clock: ManualClock, auth: LogtoAuth, client: TestClient
) -> None:
    with issuer.connect(auth):
        token = issuer.access_token(scopes=["read:user"], lifetime_seconds=60)
        assert read(client, token) == 200
        clock.advance(59.5)
        assert read(client, token) == 200
        clock.advance(0.5)
        assert detail(client, "/read", bearer(token)) == (401, "invalid_token", "expired")
        assert read(client, issuer.access_token(scopes=["read:user"])) == 200


def test_time_does_not_run_backwards(clock: ManualClock) -> None:
    with pytest.raises(ValueError, match="at least 0"):
        clock.advance(-1)
    assert (clock.now(), clock.monotonic()) == (1_800_000_000, 0)


def test_a_clock_starts_at_the_real_time_when_nothing_is_said() -> None:
    assert ManualClock().now() > 1_700_000_000


async def test_a_rotation_is_noticed(issuer: LocalIssuer, clock: ManualClock) -> None:
    auth = issuer.auth()
    before = issuer.access_token()
    await auth.verify(before)
    issuer.rotate(algorithm="RS256")
    await auth.verify(issuer.access_token())
    await auth.verify(before)

    issuer.rotate(keep_previous=False)
    after = issuer.access_token()
    with pytest.raises(ProviderUnavailableError) as caught:
        await auth.verify(after)
    clock.advance(caught.value.retry_after_seconds)
    await auth.verify(after)
    with pytest.raises(UnknownKeyError):
        await auth.verify(before)


async def test_an_outage_is_over_when_its_last_block_is(issuer: LocalIssuer, clock: ManualClock) -> None:
    auth = issuer.auth()
    with issuer.outage():
        with issuer.outage(), pytest.raises(ProviderUnavailableError):
            await auth.verify(issuer.access_token())
        clock.advance(2)
        with pytest.raises(ProviderUnavailableError):
            await auth.verify(issuer.access_token())
    clock.advance(4)
    await auth.verify(issuer.access_token())
    with issuer.outage():
        # The cached keys are still used.
        await auth.verify(issuer.access_token())
        with pytest.raises(ProviderUnavailableError):
            await auth.verify(issuer.bad_token("unknown_key"))


def test_an_outage_is_one_on_a_socket_too(issuer: LocalIssuer) -> None:
    with issuer.serve() as served, httpx.Client(base_url=served.endpoint) as http:
        with issuer.outage():
            assert http.get("/oidc/jwks").status_code == 503
        assert http.get("/oidc/jwks").status_code == 200


async def test_mocks_of_httpx_do_not_respond_in_place_of_the_issuer(
    issuer: LocalIssuer, auth: LogtoAuth, httpx_mock: HTTPXMock
) -> None:
    httpx_mock.add_response(url="https://mail.example.test/send", json={"sent": True})

    with issuer.connect(auth):
        await auth.verify(issuer.access_token())
        async with httpx.AsyncClient() as http:
            assert (await http.get("https://mail.example.test/send")).json() == {"sent": True}
        assert (await auth.verify(issuer.access_token())).audiences == {OWN}
    # The application's own auth is mocked again, as it was before.
    httpx_mock.add_exception(httpx.ConnectError("away"))
    with pytest.raises(ProviderUnavailableError):
        await auth.verify(issuer.access_token())
    assert [str(request.url) for request in httpx_mock.get_requests()] == [
        "https://mail.example.test/send",
        "https://tenant.example.test/oidc/.well-known/openid-configuration",
    ]


async def test_the_issuer_does_not_respond_in_place_of_other_servers(
    issuer: LocalIssuer, auth: LogtoAuth, httpx_mock: HTTPXMock
) -> None:
    # The API's calls to other servers are unchanged. Here they reach the mock, which has no token endpoint.
    machine = LogtoClient(endpoint=issuer.endpoint, client_id="local-machine", client_secret="local-machine-secret")
    httpx_mock.add_exception(httpx.ConnectError("away"))

    with issuer.connect(auth):
        with pytest.raises(fastapi_logto.LogtoError):
            await machine.get_token(API)
        await auth.verify(issuer.access_token())
    assert len(httpx_mock.get_requests()) == 1


def test_the_audience_is_that_of_a_custom_directory() -> None:
    issuer = LocalIssuer(directory=Directory.example(BILLING))
    auth = issuer.auth()
    assert auth.settings.audience == (BILLING,)
    assert read(TestClient(build_app(auth)), issuer.access_token()) == 200
