"""The discovery document must be that of the issuer, and its key set must be at the same origin."""

from collections.abc import Collection

import pytest

from fastapi_logto.provider.discovery import MetadataSource, ProviderMetadata
from fastapi_logto.provider.failures import FetchError
from fastapi_logto.testing import ManualClock
from tests.captured import DISCOVERY, DISCOVERY_PATH, NOW
from tests.unit.fakes import ENDPOINT, ISSUER, FakeProvider

URL = f"{ENDPOINT}/oidc/.well-known/openid-configuration"
DAY = 24 * 3600
WRONG_ISSUER = (
    f"{URL}: expected the issuer {ISSUER}, found {{}}; correct LOGTO_ENDPOINT, or add this issuer to LOGTO_ISSUERS, "
    "or set LOGTO_FETCH_ENDPOINT to the URL at which this machine reaches the issuer"
)
WRONG_PLACE = (
    f"{URL}: expected a jwks_uri at https://tenant.logto.app:443, found {{}}; behind a proxy that terminates TLS, "
    "set TRUST_PROXY_HEADER=1 in Logto, or add the origin to LOGTO_ALLOWED_JWKS_ORIGINS"
)


@pytest.fixture
def provider() -> FakeProvider:
    return FakeProvider({"keys": []})


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(now=NOW)


def build_source(
    provider: FakeProvider,
    clock: ManualClock,
    *,
    fetch_base: str = ENDPOINT,
    issuers: Collection[str] = frozenset({ISSUER}),
    allowed_jwks_origins: Collection[str] = (),
) -> MetadataSource:
    return MetadataSource(
        fetch_base=fetch_base,
        issuers=issuers,
        allowed_jwks_origins=allowed_jwks_origins,
        transport=provider.build_transport(),
        monotonic=clock.monotonic,
    )


async def refusal(source: MetadataSource) -> str:
    with pytest.raises(FetchError) as caught:
        await source.find()
    # A field of the log record.
    assert caught.value.url == source.url
    return str(caught.value)


async def test_the_captured_document_of_logto_is_accepted(provider: FakeProvider, clock: ManualClock) -> None:
    provider.discovery = dict(DISCOVERY)
    source = build_source(
        provider, clock, fetch_base="http://127.0.0.1:3001", issuers=["http://127.0.0.1:3001/oidc", ISSUER]
    )

    assert await source.find() == ProviderMetadata(
        issuer="http://127.0.0.1:3001/oidc",
        jwks_uri="http://127.0.0.1:3001/oidc/jwks",
        introspection_endpoint="http://127.0.0.1:3001/oidc/token/introspection",
        token_endpoint="http://127.0.0.1:3001/oidc/token",
        userinfo_endpoint="http://127.0.0.1:3001/oidc/me",
        authorization_endpoint="http://127.0.0.1:3001/oidc/auth",
        device_authorization_endpoint="http://127.0.0.1:3001/oidc/device/auth",
        sends_issuer=True,
    )


async def test_the_document_of_a_tenant_at_a_path_is_below_that_path(
    provider: FakeProvider, clock: ManualClock
) -> None:
    await build_source(provider, clock, fetch_base=f"{ENDPOINT}/tenant").find()

    assert provider.counts == {"/tenant/oidc/.well-known/openid-configuration": 1}


@pytest.mark.parametrize(
    ("issuer", "found"),
    [
        ("https://stranger.logto.app/oidc", "'https://stranger.logto.app/oidc'"),
        (f"{ISSUER}/", f"'{ISSUER}/'"),
        (ENDPOINT, f"'{ENDPOINT}'"),
        ("HTTPS://tenant.logto.app/oidc", "'HTTPS://tenant.logto.app/oidc'"),
        ("", "''"),
        (None, "None"),
        (7, "7"),
        ([ISSUER], f"['{ISSUER}']"),
        ({ISSUER: True}, f"{{'{ISSUER}': True}}"),
        ("x" * 5000, "'" + "x" * 79 + "..."),
        ("\r\n\x1b", r"'\r\n\x1b'"),
    ],
)
async def test_a_document_of_another_issuer_is_refused(
    issuer: object, found: str, provider: FakeProvider, clock: ManualClock
) -> None:
    provider.discovery["issuer"] = issuer

    assert await refusal(build_source(provider, clock)) == WRONG_ISSUER.format(found)


async def test_a_document_without_an_issuer_is_refused(provider: FakeProvider, clock: ManualClock) -> None:
    del provider.discovery["issuer"]

    assert await refusal(build_source(provider, clock)) == WRONG_ISSUER.format("None")


async def test_every_accepted_issuer_is_named_when_another_is_found(provider: FakeProvider, clock: ManualClock) -> None:
    source = build_source(provider, clock, issuers=["https://b.example/oidc", "https://a.example/oidc"])

    assert "expected the issuer https://a.example/oidc or https://b.example/oidc, found" in await refusal(source)


@pytest.mark.parametrize(
    ("jwks_uri", "found"),
    [
        ("https://stranger.example/oidc/jwks", "'https://stranger.example/oidc/jwks'"),
        ("https://tenant.logto.app.example/oidc/jwks", "'https://tenant.logto.app.example/oidc/jwks'"),
        ("https://tenant.logto.app:8443/oidc/jwks", "'https://tenant.logto.app:8443/oidc/jwks'"),
        ("http://tenant.logto.app/oidc/jwks", "'http://tenant.logto.app/oidc/jwks'"),
        ("http://tenant.logto.app:443/oidc/jwks", "'http://tenant.logto.app:443/oidc/jwks'"),
        ("https://tenant.logto.app@stranger.example/", "'https://tenant.logto.app@stranger.example/'"),
        ("https://me:secret@tenant.logto.app/", "'https://me:secret@tenant.logto.app/'"),
        ("https://tenant.logto.app:99999/", "'https://tenant.logto.app:99999/'"),
        ("https://[tenant.logto.app/", "'https://[tenant.logto.app/'"),
        ("ftp://tenant.logto.app/oidc/jwks", "'ftp://tenant.logto.app/oidc/jwks'"),
        ("file:///etc/passwd", "'file:///etc/passwd'"),
        ("//tenant.logto.app/oidc/jwks", "'//tenant.logto.app/oidc/jwks'"),
        ("/oidc/jwks", "'/oidc/jwks'"),
        ("https://tenant.logto.app/\r\nforged", r"'https://tenant.logto.app/\r\nforged'"),
        ("https://tenant.logto.app/\x1b[2J", r"'https://tenant.logto.app/\x1b[2J'"),
        ("", "''"),
        (None, "None"),
        (["https://tenant.logto.app/oidc/jwks"], "['https://tenant.logto.app/oidc/jwks']"),
    ],
)
async def test_a_key_set_at_another_origin_is_refused(
    jwks_uri: object, found: str, provider: FakeProvider, clock: ManualClock
) -> None:
    provider.discovery["jwks_uri"] = jwks_uri

    assert await refusal(build_source(provider, clock)) == WRONG_PLACE.format(found)


async def test_a_document_without_a_key_set_is_refused(provider: FakeProvider, clock: ManualClock) -> None:
    del provider.discovery["jwks_uri"]

    assert await refusal(build_source(provider, clock)) == WRONG_PLACE.format("None")


@pytest.mark.parametrize(
    "jwks_uri",
    [
        "https://tenant.logto.app/any/path?at=all",
        "https://tenant.logto.app:443/oidc/jwks",
        "HTTPS://Tenant.Logto.APP/oidc/jwks",
    ],
)
async def test_a_key_set_at_the_same_origin_is_accepted(
    jwks_uri: str, provider: FakeProvider, clock: ManualClock
) -> None:
    provider.discovery["jwks_uri"] = jwks_uri

    assert await build_source(provider, clock).find() == ProviderMetadata(issuer=ISSUER, jwks_uri=jwks_uri)


@pytest.mark.parametrize(
    "url",
    [
        "https://stranger.example/oidc/token",
        "https://me:secret@tenant.logto.app/oidc/token",
        "https://tenant.logto.app/\x1b[2J",
        "https://tenant.logto.app/\x7f",
        ["https://tenant.logto.app/oidc/token"],
    ],
)
async def test_an_endpoint_that_is_no_url_of_the_same_origin_is_left_out(
    url: object, provider: FakeProvider, clock: ManualClock
) -> None:
    provider.discovery["token_endpoint"] = url

    assert (await build_source(provider, clock).find()).token_endpoint is None


async def test_the_default_port_of_plain_http_is_80(provider: FakeProvider, clock: ManualClock) -> None:
    provider.discovery["jwks_uri"] = "http://127.0.0.1/oidc/jwks"

    metadata = await build_source(provider, clock, fetch_base="http://127.0.0.1:80").find()

    assert metadata.jwks_uri == "http://127.0.0.1/oidc/jwks"


async def test_a_key_set_may_lie_at_an_origin_that_is_allowed(provider: FakeProvider, clock: ManualClock) -> None:
    provider.discovery["jwks_uri"] = "https://keys.example.com/jwks"
    source = build_source(provider, clock, allowed_jwks_origins=["https://keys.example.com:443/whatever"])

    assert (await source.find()).jwks_uri == "https://keys.example.com/jwks"


async def test_an_allowed_origin_allows_no_other(provider: FakeProvider, clock: ManualClock) -> None:
    provider.discovery["jwks_uri"] = "https://keys.example.com:8443/jwks"
    source = build_source(provider, clock, allowed_jwks_origins=["https://keys.example.com"])

    assert await refusal(source) == WRONG_PLACE.replace(
        "at https://tenant.logto.app:443", "at https://keys.example.com:443 or https://tenant.logto.app:443"
    ).format("'https://keys.example.com:8443/jwks'")


async def test_a_document_is_kept_for_a_day(provider: FakeProvider, clock: ManualClock) -> None:
    source = build_source(provider, clock)
    first = await source.find()
    provider.discovery["jwks_uri"] = f"{ENDPOINT}/new/jwks"

    clock.advance(DAY - 1)
    assert await source.find() is first
    assert provider.fetches == (1, 0)

    clock.advance(1)
    assert (await source.find()).jwks_uri == f"{ENDPOINT}/new/jwks"
    assert provider.fetches == (2, 0)

    clock.advance(DAY - 1)
    await source.find()
    assert provider.fetches == (2, 0)


async def test_a_forgotten_document_is_fetched_again(provider: FakeProvider, clock: ManualClock) -> None:
    source = build_source(provider, clock)
    await source.find()

    source.forget()
    await source.find()

    assert provider.fetches == (2, 0)


async def test_a_refused_document_is_not_kept(provider: FakeProvider, clock: ManualClock) -> None:
    source = build_source(provider, clock)
    provider.discovery["issuer"] = "https://stranger.logto.app/oidc"
    await refusal(source)
    provider.discovery["issuer"] = ISSUER

    assert (await source.find()).issuer == ISSUER
    assert provider.fetches == (2, 0)


async def test_an_error_of_the_fetch_is_raised_unchanged(provider: FakeProvider, clock: ManualClock) -> None:
    provider.faults[DISCOVERY_PATH] = 502

    assert await refusal(build_source(provider, clock)) == f"{URL}: status 502 instead of 200"


async def test_making_a_source_fetches_nothing(provider: FakeProvider, clock: ManualClock) -> None:
    build_source(provider, clock)

    assert provider.fetches == (0, 0)
