"""A token becomes claims or is refused with its exact reason; a verified token is not verified again."""

import asyncio
import copy
import gc
import json
import pickle
import weakref
from collections.abc import Callable, Generator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar, cast

import pytest
from pydantic import BaseModel, SecretStr

from fastapi_logto.errors import (
    AlgorithmError,
    AudienceError,
    AuthorizationHeaderError,
    ClaimError,
    ExpiredTokenError,
    IdTokenError,
    ImmatureTokenError,
    InvalidTokenError,
    IssuerError,
    MalformedTokenError,
    OpaqueTokenError,
    ProviderUnavailableError,
    RefusalError,
    SignatureError,
    TokenTooLargeError,
    TokenTypeError,
    UnknownKeyError,
)
from fastapi_logto.provider.discovery import MetadataSource, build_metadata_source
from fastapi_logto.provider.key_set import PublicKey
from fastapi_logto.provider.key_source import CoolingDownError, KeySource, build_key_source
from fastapi_logto.provider.transport import Transport
from fastapi_logto.settings import LogtoSettings, SettingsArguments
from fastapi_logto.testing import LocalIssuer, ManualClock
from fastapi_logto.testing.signing import JsonValue
from fastapi_logto.verification.cache import find_key, pack_claims, unpack_claims
from fastapi_logto.verification.claims import Actor, TokenClaims, build_claims
from fastapi_logto.verification.tenants import AudiencePolicy, Tenant
from fastapi_logto.verification.turns import Turns
from fastapi_logto.verification.verifier import TokenVerifier
from tests.captured import (
    ADMIN_TENANT_JWKS,
    API,
    DISCOVERY_PATH,
    ISSUER,
    JWKS,
    JWKS_PATH,
    NOW,
    ROTATION,
    TOKENS,
    CapturedServer,
    RotationStage,
    serve_captured,
)
from tests.unit.fakes import ENDPOINT, FakeProvider, SlowClaims, finish_fetches, watch_key

ClaimsT = TypeVar("ClaimsT", bound=TokenClaims)

LOGTO = "http://127.0.0.1:3001"
AUDIENCE = "https://api.example.test"
FIX = f"request the token with resource={API}"
ORGANIZATION = "urn:logto:organization:aaajcxbl1cz3"
KEYS_TTL = 300


class WatchedKeys(KeySource):
    """A key source whose keys count the signatures that are verified with them."""

    verifications = 0

    async def find(self, *, kid: str | None, alg: str) -> tuple[PublicKey, ...]:
        return tuple(watch_key(key, self._count) for key in await super().find(kid=kid, alg=alg))

    def find_held(self, *, kid: str | None, alg: str) -> tuple[PublicKey, ...]:
        return tuple(watch_key(key, self._count) for key in super().find_held(kid=kid, alg=alg))

    def _count(self) -> None:
        self.verifications += 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Bench(Generic[ClaimsT]):
    """A verifier and all its dependencies."""

    provider: FakeProvider
    clock: ManualClock
    keys: WatchedKeys
    verifier: TokenVerifier[ClaimsT]
    issuer: LocalIssuer = field(default_factory=LocalIssuer)

    @property
    def verifications(self) -> int:
        return self.keys.verifications

    def publish(self) -> None:
        """Publish the current key set of the issuer."""
        self.provider.jwks = self.issuer.jwks()

    async def fetch_keys(self) -> None:
        """Let the keys be fetched because of their age."""
        self.clock.advance(KEYS_TTL)
        self.keys.peek()
        assert await finish_fetches() == 1

    async def refused(self, token: str) -> RefusalError:
        with pytest.raises(RefusalError) as caught:
            await self.verifier.verify(SecretStr(token))
        return caught.value


def build_verifier(
    model: type[ClaimsT],
    *,
    provider: FakeProvider,
    clock: ManualClock,
    settings: LogtoSettings,
    turns: Turns | None = None,
) -> tuple[WatchedKeys, TokenVerifier[ClaimsT]]:
    transport = provider.build_transport()
    metadata = MetadataSource(
        fetch_base=settings.fetch_base,
        issuers=settings.accepted_issuers,
        allowed_jwks_origins=settings.allowed_jwks_origins,
        transport=transport,
        monotonic=clock.monotonic,
    )
    keys = WatchedKeys(
        metadata=metadata,
        transport=transport,
        algorithms=settings.algorithms,
        clock=clock,
        ttl_seconds=KEYS_TTL,
        cooldown_seconds=30,
        max_stale_seconds=3600,
        deadline_seconds=15,
    )
    return keys, TokenVerifier(
        [Tenant(settings, key_source=keys)],
        clock=clock,
        claims_model=model,
        turns=turns or Turns(max_waiting=settings.max_waiting_verifications),
    )


def captured_bench(jwks: Mapping[str, object] = JWKS, **changes: object) -> Bench[TokenClaims]:
    """Return a verifier for tokens of the captured tenant."""
    settings = LogtoSettings(**cast("SettingsArguments", {"endpoint": LOGTO, "audience": API, **changes}))
    provider, clock = FakeProvider(jwks, endpoint=LOGTO), ManualClock(now=NOW)
    keys, verifier = build_verifier(TokenClaims, provider=provider, clock=clock, settings=settings)
    return Bench(provider=provider, clock=clock, keys=keys, verifier=verifier)


def local_bench(model: type[ClaimsT], **changes: object) -> Bench[ClaimsT]:
    """Return a verifier for tokens of the test kit's issuer."""
    settings = LogtoSettings(**cast("SettingsArguments", {"endpoint": ENDPOINT, "audience": AUDIENCE, **changes}))
    clock = ManualClock(now=NOW)
    issuer = LocalIssuer(endpoint=ENDPOINT, clock=clock)
    provider = FakeProvider(issuer.jwks())
    keys, verifier = build_verifier(model, provider=provider, clock=clock, settings=settings)
    return Bench(provider=provider, clock=clock, keys=keys, verifier=verifier, issuer=issuer)


@pytest.fixture
def bench() -> Bench[TokenClaims]:
    return local_bench(TokenClaims)


async def until_asked(bench: Bench[ClaimsT]) -> None:
    async with asyncio.timeout(5):
        while not bench.provider.counts:  # noqa: ASYNC110 - there is no event to wait for
            await asyncio.sleep(0.001)


def as_json(claims: BaseModel) -> object:
    return json.loads(json.dumps(claims.model_dump(exclude_unset=True)))


# The tokens of a real Logto


ADMITTED = (
    "m2m_api",
    "m2m_api_noscope",
    "m2m_norole",
    "m2m_org_api",
    "user_api_spa",
    "user_reader_api",
    "user_norole_api",
    "org_api_token",
    "exchange_impersonation_act",
    "exchange_impersonation_no_actor",
    "pat_exchange",
    "user_api_custom_claims",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused:
    """A captured token that this API does not accept, and all attributes of its error."""

    token: str
    error: type[InvalidTokenError]
    reason: str
    message: str
    claim: str | None = None
    expected: str | None = None
    found: str | None = None


REFUSED = (
    Refused(
        token="m2m_org",
        error=AudienceError,
        reason="audience",
        message=f"This is an organization token, which this route does not accept; {FIX}",
        claim="aud",
        expected=f"'{API}'",
        found=f"'{ORGANIZATION}'",
    ),
    Refused(
        token="org_token_scoped",
        error=AudienceError,
        reason="audience",
        message=f"This is an organization token, which this route does not accept; {FIX}",
        claim="aud",
        expected=f"'{API}'",
        found=f"'{ORGANIZATION}'",
    ),
    Refused(
        token="management_api",
        error=AudienceError,
        reason="audience",
        message=f"The token was issued for Logto's Management API, not for this API; {FIX}",
        claim="aud",
        expected=f"'{API}'",
        found="'https://default.logto.app/api'",
    ),
    Refused(
        token="user_id_token",
        error=IdTokenError,
        reason="id_token",
        message=(
            "The token header has no typ: this looks like an ID token, which APIs do not accept; send the access "
            "token of the same response"
        ),
        claim="typ",
        expected="at+jwt",
        found="nothing",
    ),
    Refused(
        token="opaque",
        error=OpaqueTokenError,
        reason="opaque_token",
        message=(
            f"This is an opaque token, which Logto issues without a resource; request the token with resource={API}"
        ),
    ),
    Refused(
        token="user_api_expired",
        error=ExpiredTokenError,
        reason="expired",
        message="The token has expired; refresh it or sign in again",
        claim="exp",
        expected="a time after 1795452000",
        found="1795450043",
    ),
)


PERSONAL = "pat_" + "a" * 32


@pytest.mark.parametrize(
    ("token", "policy", "message"),
    [
        (
            "o" * 43,
            AudiencePolicy(accepts_organizations=True),
            (
                "This is an opaque token, which Logto issues without a resource; request the token with "
                f"organization_id; for permissions of the API, also with resource={API}"
            ),
        ),
        (
            "o" * 43,
            AudiencePolicy(frozenset({"urn:b"})),
            "This is an opaque token, which Logto issues without a resource; request the token with resource=urn:b",
        ),
        (
            # The API would accept these if the application introspected them.
            "o" * 43,
            AudiencePolicy(accepts_opaque=True),
            f"This is an opaque token, which Logto issues without a resource; request the token with resource={API}",
        ),
        (
            PERSONAL,
            AudiencePolicy(),
            f"This is a personal access token; exchange it for an access token (RFC 8693) with resource={API}",
        ),
        (
            PERSONAL,
            AudiencePolicy(frozenset({"urn:b"}), accepts_organizations=True),
            (
                "This is a personal access token; exchange it for an access token (RFC 8693) with organization_id; for "
                "permissions of the API, also with resource=urn:b"
            ),
        ),
    ],
    ids=[
        "opaque, in an organization",
        "opaque, for its own audience",
        "opaque, unknown here",
        "personal",
        "personal, in an organization",
    ],
)
async def test_an_opaque_token_is_refused_with_what_to_do_instead(
    token: str, policy: AudiencePolicy, message: str, bench: Bench[TokenClaims]
) -> None:
    with pytest.raises(OpaqueTokenError) as caught:
        await bench.verifier.verify(SecretStr(token), policy)

    assert (caught.value.message, caught.value.reason) == (message, "opaque_token")


def test_every_captured_token_has_its_row() -> None:
    assert sorted([*ADMITTED, *(row.token for row in REFUSED)]) == sorted(TOKENS)


@pytest.mark.parametrize("name", ADMITTED)
async def test_a_captured_access_token_becomes_its_claims(name: str) -> None:
    bench = captured_bench()

    claims = await bench.verifier.verify(SecretStr(TOKENS[name].token))

    assert type(claims) is TokenClaims
    assert as_json(claims) == TOKENS[name].claims
    assert as_json(await bench.verifier.verify(SecretStr(TOKENS[name].token))) == TOKENS[name].claims
    assert bench.verifications == 1


@pytest.mark.parametrize("row", REFUSED, ids=lambda row: row.token)
async def test_a_captured_token_that_is_not_for_this_api_is_refused(row: Refused) -> None:
    bench = captured_bench()

    for _ in range(2):
        error = await bench.refused(TOKENS[row.token].token)

        assert type(error) is row.error
        assert (error.code, error.reason, error.status) == ("invalid_token", row.reason, 401)
        assert error.message == row.message
        assert (error.claim, error.expected, error.found) == (row.claim, row.expected, row.found)


@pytest.mark.parametrize("stage", ROTATION, ids=lambda stage: stage.name)
async def test_the_token_of_each_stage_of_a_captured_rotation_is_accepted(stage: RotationStage) -> None:
    claims = await captured_bench(stage.jwks).verifier.verify(SecretStr(stage.token.token))

    assert as_json(claims) == stage.token.claims


async def test_each_stage_of_a_captured_rotation_is_followed() -> None:
    bench = captured_bench()
    for stage in ROTATION:
        bench.provider.jwks = stage.jwks
        bench.clock.advance(30)
        assert (await bench.verifier.verify(SecretStr(stage.token.token))).jti == stage.token.claims["jti"]
    # The first key is no longer published, so its token has an unknown key.
    error = await bench.refused(ROTATION[0].token.token)

    assert (type(error), error.claim) == (UnknownKeyError, "kid")
    assert error.found == "'dF0AW-t-6zxshXIDzCiRALbZV3F1K6FR_52fJ_M3xYg' ES384"


async def test_a_captured_token_of_another_tenants_key_is_refused() -> None:
    error = await captured_bench(ADMIN_TENANT_JWKS).refused(TOKENS["user_api_spa"].token)

    assert (type(error), error.claim) == (UnknownKeyError, "kid")


async def test_a_key_of_the_tokens_kid_that_is_not_the_tokens_key_verifies_nothing() -> None:
    kid = JWKS["keys"][0]["kid"]
    bench = captured_bench({"keys": [{**ADMIN_TENANT_JWKS["keys"][0], "kid": kid}]})

    error = await bench.refused(TOKENS["user_api_spa"].token)

    assert (type(error), error.reason, error.status) == (SignatureError, "signature", 401)
    assert bench.provider.fetches == (1, 1)


async def test_of_two_keys_with_one_kid_the_right_one_verifies() -> None:
    kid = JWKS["keys"][0]["kid"]
    bench = captured_bench({"keys": [{**ADMIN_TENANT_JWKS["keys"][0], "kid": kid}, *JWKS["keys"]]})

    assert (
        as_json(await bench.verifier.verify(SecretStr(TOKENS["user_api_spa"].token))) == TOKENS["user_api_spa"].claims
    )


@pytest.fixture
def server() -> Generator[CapturedServer]:
    with serve_captured() as running:
        yield running


def build_real(settings: LogtoSettings) -> TokenVerifier[TokenClaims]:
    """Return a verifier that fetches over real sockets."""
    clock = ManualClock(now=NOW)
    transport = Transport(timeout_seconds=5)
    metadata = build_metadata_source(settings, transport=transport, clock=clock)
    keys = build_key_source(settings, metadata=metadata, transport=transport, clock=clock)
    return TokenVerifier(
        [Tenant(settings, key_source=keys)], clock=clock, claims_model=TokenClaims, turns=Turns(max_waiting=400)
    )


async def test_keys_are_fetched_from_the_fetch_endpoint_while_the_issuer_stays(server: CapturedServer) -> None:
    verifier = build_real(LogtoSettings(endpoint=LOGTO, audience=API, fetch_endpoint=server.endpoint))

    assert as_json(await verifier.verify(SecretStr(TOKENS["user_api_spa"].token))) == TOKENS["user_api_spa"].claims
    assert server.counts == {DISCOVERY_PATH: 1, JWKS_PATH: 1}


async def test_discovery_and_tokens_of_a_further_issuer_are_accepted(
    server: CapturedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LOGTO_ENDPOINT", server.endpoint)
    monkeypatch.setenv("LOGTO_AUDIENCE", API)
    monkeypatch.setenv("LOGTO_ISSUERS", ISSUER)
    verifier = build_real(LogtoSettings.from_environment())

    assert as_json(await verifier.verify(SecretStr(TOKENS["user_api_spa"].token))) == TOKENS["user_api_spa"].claims


async def test_discovery_of_an_issuer_that_is_not_listed_makes_the_keys_unavailable(server: CapturedServer) -> None:
    verifier = build_real(LogtoSettings(endpoint=server.endpoint, audience=API))

    with pytest.raises(ProviderUnavailableError) as caught:
        await verifier.verify(SecretStr(TOKENS["user_api_spa"].token))

    assert caught.value.found == (
        f"{server.endpoint}{DISCOVERY_PATH}: expected the issuer {server.endpoint}/oidc, found '{ISSUER}'; correct "
        "LOGTO_ENDPOINT, or add this issuer to LOGTO_ISSUERS, or set LOGTO_FETCH_ENDPOINT to the URL at which this "
        "machine reaches the issuer"
    )
    assert server.counts == {DISCOVERY_PATH: 1}


async def test_the_issuer_of_another_domain_is_accepted_where_it_is_listed() -> None:
    # The document names the issuer of the other domain too, like Logto's.
    provider, clock = FakeProvider(JWKS, endpoint="https://inside.example", issuer=ISSUER), ManualClock(now=NOW)
    settings = LogtoSettings(endpoint="https://inside.example", audience=API, issuers=ISSUER)
    _, verifier = build_verifier(TokenClaims, provider=provider, clock=clock, settings=settings)

    assert as_json(await verifier.verify(SecretStr(TOKENS["user_api_spa"].token))) == TOKENS["user_api_spa"].claims


async def test_the_issuer_of_another_domain_is_refused_where_it_is_not_listed() -> None:
    provider, clock = FakeProvider(JWKS, endpoint="https://inside.example"), ManualClock(now=NOW)
    settings = LogtoSettings(endpoint="https://inside.example", audience=API)
    _, verifier = build_verifier(TokenClaims, provider=provider, clock=clock, settings=settings)

    with pytest.raises(IssuerError) as caught:
        await verifier.verify(SecretStr(TOKENS["user_api_spa"].token))

    assert (caught.value.claim, caught.value.reason, caught.value.status) == ("iss", "issuer", 401)
    assert caught.value.expected == "'https://inside.example/oidc'"
    assert caught.value.found == f"'{ISSUER}'"
    assert caught.value.message == (
        "This API accepts tokens of the issuer https://inside.example/oidc; if the client uses another domain of the "
        "same tenant, add that issuer to LOGTO_ISSUERS of the API"
    )


# The steps of a verification


@dataclass(frozen=True, slots=True, kw_only=True)
class Changed:
    """One change to a valid token, and its error."""

    id: str
    build: Callable[[LocalIssuer], str]
    error: type[InvalidTokenError]
    claim: str | None = None
    fetches: bool = True


def with_claims(**claims: JsonValue) -> Callable[[LocalIssuer], str]:
    return lambda issuer: issuer.access_token(claims=claims)


def with_header(**header: JsonValue) -> Callable[[LocalIssuer], str]:
    return lambda issuer: issuer.sign(GOOD_CLAIMS, header=header)


GOOD_CLAIMS: Mapping[str, JsonValue] = {
    "iss": f"{ENDPOINT}/oidc",
    "aud": AUDIENCE,
    "sub": "user",
    "client_id": "client",
    "jti": "1",
    "iat": NOW,
    "exp": NOW + 60,
}
CHANGED = (
    Changed(id="too large", build=with_claims(big="x" * 20_000), error=TokenTooLargeError, fetches=False),
    Changed(
        id="two parts",
        build=lambda issuer: issuer.access_token().rpartition(".")[0],
        error=MalformedTokenError,
        fetches=False,
    ),
    Changed(
        id="algorithm not listed", build=with_header(alg="PS256"), error=AlgorithmError, claim="alg", fetches=False
    ),
    Changed(
        id="a type of another kind",
        build=with_header(typ="logout+jwt"),
        error=TokenTypeError,
        claim="typ",
        fetches=False,
    ),
    Changed(id="an ID token", build=lambda issuer: issuer.id_token(), error=IdTokenError, claim="typ", fetches=False),
    Changed(id="an opaque token", build=lambda issuer: issuer.opaque_token(), error=OpaqueTokenError, fetches=False),
    Changed(id="an unknown kid", build=with_header(kid="unknown"), error=UnknownKeyError, claim="kid"),
    Changed(id="RS256 under an EC key", build=with_header(alg="RS256"), error=AlgorithmError, claim="alg"),
    Changed(id="a forged signature", build=lambda issuer: issuer.bad_token("forged"), error=SignatureError),
    Changed(id="a payload of no JSON", build=lambda issuer: issuer.sign(b"claims"), error=MalformedTokenError),
    Changed(id="no subject", build=with_claims(sub=None), error=ClaimError, claim="sub"),
    Changed(id="no client id", build=with_claims(client_id=None), error=ClaimError, claim="client_id"),
    Changed(id="no jti", build=with_claims(jti=None), error=ClaimError, claim="jti"),
    Changed(id="no iat", build=with_claims(iat=None), error=ClaimError, claim="iat"),
    Changed(id="no expiry", build=with_claims(exp=None), error=ClaimError, claim="exp"),
    Changed(
        id="another issuer", build=with_claims(iss="https://stranger.example/oidc"), error=IssuerError, claim="iss"
    ),
    Changed(id="another audience", build=with_claims(aud="https://other.example"), error=AudienceError, claim="aud"),
    Changed(id="expired", build=with_claims(exp=NOW - 10), error=ExpiredTokenError, claim="exp"),
    Changed(id="not valid yet", build=with_claims(nbf=NOW + 11), error=ImmatureTokenError, claim="nbf"),
    Changed(id="issued ahead", build=with_claims(iat=NOW + 61), error=ImmatureTokenError, claim="iat"),
)


async def test_the_valid_token_of_the_table_is_accepted(bench: Bench[TokenClaims]) -> None:
    assert as_json(await bench.verifier.verify(SecretStr(bench.issuer.sign(GOOD_CLAIMS)))) == GOOD_CLAIMS
    assert (await bench.verifier.verify(SecretStr(bench.issuer.access_token()))).aud == AUDIENCE


@pytest.mark.parametrize("row", CHANGED, ids=lambda row: row.id)
async def test_a_valid_token_with_one_change_is_refused_each_time(row: Changed, bench: Bench[TokenClaims]) -> None:
    token = row.build(bench.issuer)

    for _ in range(2):
        error = await bench.refused(token)

        assert type(error) is row.error
        assert (error.code, error.status, error.claim) == ("invalid_token", 401, row.claim)
        assert token[:40] not in f"{error} {error.message}"
    assert (bench.provider.fetches != (0, 0)) is row.fetches


async def test_without_keys_a_well_formed_token_is_503_and_a_malformed_one_still_401(
    bench: Bench[TokenClaims],
) -> None:
    bench.provider.go_away()

    assert (await bench.refused(bench.issuer.access_token())).status == 503
    assert (await bench.refused("a.b")).status == 401
    assert (await bench.refused(bench.issuer.id_token())).reason == "id_token"
    assert (await bench.refused(bench.issuer.opaque_token())).reason == "opaque_token"


async def test_a_token_under_rs256_is_accepted(bench: Bench[TokenClaims]) -> None:
    bench.issuer.rotate(algorithm="RS256")
    bench.publish()

    assert (await bench.verifier.verify(SecretStr(bench.issuer.sign(GOOD_CLAIMS)))).sub == "user"
    assert bench.verifications == 1


async def test_each_of_several_audiences_is_accepted_and_no_other() -> None:
    bench = local_bench(TokenClaims, audience=["https://a.example", "https://b.example"])

    for audience in ("https://a.example", "https://b.example"):
        assert (await bench.verifier.verify(SecretStr(bench.issuer.access_token(audience=audience)))).aud == audience
    error = await bench.refused(bench.issuer.access_token(audience="https://a.example/"))
    assert (type(error), error.claim) == (AudienceError, "aud")
    assert error.message == (
        "The audience differs by a trailing slash, which makes it a different resource; "
        "request the token with resource=https://a.example or https://b.example"
    )
    error = await bench.refused(bench.issuer.opaque_token())
    assert error.message.endswith("request the token with resource=https://a.example or https://b.example")


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """A setting, and a token that is refused by default and accepted with it."""

    changes: Mapping[str, object]
    build: Callable[[LocalIssuer], str]
    error: type[InvalidTokenError]


SETTINGS = (
    Setting(changes={"token_types": ["at+jwt", "JWT"]}, build=with_header(typ="jwt"), error=TokenTypeError),
    Setting(changes={"token_types": "absent"}, build=with_header(typ=None), error=IdTokenError),
    Setting(changes={"required_claims": ()}, build=with_claims(jti=None), error=ClaimError),
    Setting(changes={"leeway_seconds": 60}, build=with_claims(exp=NOW - 59), error=ExpiredTokenError),
    Setting(changes={"max_token_bytes": 32_768}, build=with_claims(big="x" * 13_000), error=TokenTooLargeError),
    Setting(
        changes={"issuers": "https://auth.example.com/oidc"},
        build=with_claims(iss="https://auth.example.com/oidc"),
        error=IssuerError,
    ),
)


@pytest.mark.parametrize("row", SETTINGS, ids=lambda row: next(iter(row.changes)))
async def test_a_setting_accepts_what_is_refused_without_it(row: Setting) -> None:
    strict, lenient = local_bench(TokenClaims), local_bench(TokenClaims, **row.changes)

    assert type(await strict.refused(row.build(strict.issuer))) is row.error
    assert (await lenient.verifier.verify(SecretStr(row.build(lenient.issuer)))).iss.endswith("/oidc")


async def test_more_new_tokens_than_the_setting_allows_to_wait_are_503() -> None:
    bench = local_bench(SlowClaims, max_waiting_verifications=1)
    tokens = [bench.issuer.access_token() for _ in range(100)]
    await bench.keys.warm()

    outcomes = await asyncio.gather(
        *(bench.verifier.verify(SecretStr(token)) for token in tokens), return_exceptions=True
    )

    # A turn verifies one token, another one waits, and the others are refused.
    assert {type(outcome) for outcome in outcomes} == {SlowClaims, ProviderUnavailableError}
    assert type(outcomes[0]) is SlowClaims
    assert [type(await bench.verifier.verify(SecretStr(token))) for token in tokens[-3:]] == [SlowClaims] * 3


# Tokens that were verified before


BAD: Mapping[str, Callable[[LocalIssuer], str]] = {
    "forged": lambda issuer: issuer.bad_token("forged"),
    "expired": lambda issuer: issuer.access_token(lifetime_seconds=-60),
    "audience": lambda issuer: issuer.access_token(audience="other"),
    "claims": lambda issuer: issuer.sign({"sub": "nobody"}),
    "opaque": lambda issuer: issuer.opaque_token(),
    "malformed": lambda _issuer: "abc",
}


@pytest.mark.parametrize("name", BAD)
@pytest.mark.usefixtures("backend")
async def test_a_refused_token_leaves_nothing_for_the_garbage_collector(name: str) -> None:
    """Otherwise a flood of them would make it traverse the whole process repeatedly, while the loop waits."""
    mint = BAD[name]
    bench = local_bench(TokenClaims)
    await bench.verifier.verify(SecretStr(bench.issuer.access_token()))

    async def refuse(token: str) -> None:
        # Like a request that sends a response.
        with suppress(InvalidTokenError):
            await bench.verifier.verify(SecretStr(token))

    for _ in range(2):
        # The first time, permanent objects are created.
        await refuse(mint(bench.issuer))
        await asyncio.gather(*[refuse(token) for token in [mint(bench.issuer)] * 3])
        gc.collect()
    gc.disable()
    try:
        for token in [mint(bench.issuer) for _ in range(5)]:
            await refuse(token)
        assert gc.collect() == 0
    finally:
        gc.enable()


async def test_claims_with_odd_names_are_cached_unchanged(bench: Bench[TokenClaims]) -> None:
    odd: dict[str, JsonValue] = {"nbf x": 1, "": 2, " key": "k", " names": "n", " extra": {"a": 1}, " claims": "c"}
    token = bench.issuer.access_token(claims=odd)

    first, again = await bench.verifier.verify(SecretStr(token)), await bench.verifier.verify(SecretStr(token))

    assert again.model_extra == first.model_extra == odd
    assert again.model_fields_set == first.model_fields_set
    assert set(odd) <= again.model_fields_set
    assert "nbf" not in again.model_fields_set


async def test_further_claims_can_not_be_filled_a_second_time(bench: Bench[TokenClaims]) -> None:
    token = bench.issuer.access_token(claims={"tenant": "acme"})
    first = await bench.verifier.verify(SecretStr(token))
    assert first.model_extra is not None
    extra: Any = first.model_extra
    extra.__init__({"tenant": "changed"})

    assert (await bench.verifier.verify(SecretStr(token))).model_extra == {"tenant": "acme"}


def test_a_cached_token_is_not_traversed_by_the_garbage_collector() -> None:
    claims = build_claims(
        {"iss": "i", "sub": "s", "aud": "a", "exp": 2, "iat": 1, "jti": "j", "client_id": "c", "scope": "x"},
        model=TokenClaims,
    )

    packed = pack_claims(claims, key="k")

    assert not gc.is_tracked(packed)
    assert unpack_claims(packed, model=TokenClaims) == claims
    assert find_key(packed) == "k"


async def test_a_token_is_verified_once(bench: Bench[TokenClaims]) -> None:
    token = bench.issuer.access_token()

    claims = [await bench.verifier.verify(SecretStr(token)) for _ in range(10)]

    assert bench.verifications == 1
    assert claims == [claims[0]] * 10
    # Equal claims could still differ in attributes that are not fields.
    assert [vars(one) for one in claims] == [vars(claims[0])] * 10
    assert vars(claims[0]).keys() == TokenClaims.model_fields.keys()


async def test_a_token_in_another_form_of_the_header_is_not_cached_once_more(bench: Bench[TokenClaims]) -> None:
    token = bench.issuer.access_token()
    (tenant,) = bench.verifier.tenants

    for form in ("Bearer {}", "Bearer  {}", "bearer {}", " Bearer {}", "Bearer {} "):
        for _ in range(2):
            await bench.verifier.verify_header([form.format(token).encode()])

    assert bench.verifications == 1
    assert len(tenant.cache) == 1


@pytest.mark.parametrize(
    "build", [b"%s".__mod__, b" %s".__mod__, b"Token %s".__mod__], ids=["none", "a space", "other"]
)
async def test_a_cached_token_without_its_scheme_is_refused(
    build: Callable[[bytes], bytes], bench: Bench[TokenClaims]
) -> None:
    token = bench.issuer.access_token().encode()
    for _ in range(2):
        await bench.verifier.verify_header([b"Bearer " + token])
    await bench.verifier.verify(SecretStr(token.decode()))

    with pytest.raises(AuthorizationHeaderError) as caught:
        await bench.verifier.verify_header([build(token)])

    assert caught.value.status == 401


@pytest.mark.parametrize("other", [b"", b"Bearer x", b"Basic eA=="])
async def test_a_second_header_is_refused_also_if_the_token_of_one_is_cached(
    other: bytes, bench: Bench[TokenClaims]
) -> None:
    header = b"Bearer " + bench.issuer.access_token().encode()
    await bench.verifier.verify_header([header])

    for values in ([header, other], [other, header], [header, header]):
        with pytest.raises(AuthorizationHeaderError):
            await bench.verifier.verify_header(values)


async def test_the_claims_of_a_new_and_of_a_cached_token_can_be_copied_and_pickled(bench: Bench[TokenClaims]) -> None:
    token = bench.issuer.access_token(claims={"act": {"sub": "support"}, "tenant": {"id": 1}, "roles": ["a"]})
    plain = bench.issuer.access_token(scopes=["read"], claims={"plan": "free"})

    for text in (token, plain):
        for verified in [await bench.verifier.verify(SecretStr(text)) for _ in range(2)]:
            copies = [
                pickle.loads(pickle.dumps(verified)),  # noqa: S301 - our own bytes
                copy.copy(verified),
                copy.deepcopy(verified),
            ]
            assert copies == [verified] * 3
            assert {one.model_dump_json() for one in copies} == {verified.model_dump_json()}


@pytest.mark.parametrize("size", [2048, 2050])
async def test_a_token_of_exactly_the_longest_size_is_cached_and_a_longer_one_refused(size: int) -> None:
    bench = local_bench(TokenClaims, max_token_bytes=size)
    start = size - len(bench.issuer.access_token(claims={"x": ""}))
    tokens = [bench.issuer.access_token(claims={"x": "x" * n}) for n in range(start * 3 // 4 - 4, start * 3 // 4 + 4)]
    (longest,) = (token for token in tokens if len(token) == size)
    longer = next(token for token in tokens if len(token) > size)

    for _ in range(2):
        await bench.verifier.verify_header([f"Bearer {longest}".encode()])
    with pytest.raises(TokenTooLargeError):
        await bench.verifier.verify_header([f"Bearer {longer}".encode()])

    assert bench.verifications == 1


async def test_several_requests_with_one_new_token_at_the_same_time_verify_it_once(bench: Bench[TokenClaims]) -> None:
    token = bench.issuer.access_token()
    await bench.keys.warm()

    claims = await asyncio.gather(*(bench.verifier.verify(SecretStr(token)) for _ in range(20)))

    assert claims == [claims[0]] * 20
    assert bench.verifications == 1


async def test_requests_with_one_new_token_wait_for_one_verification_while_others_are_verified() -> None:
    bench = local_bench(TokenClaims)
    token, *others = [bench.issuer.access_token() for _ in range(11)]
    await bench.keys.warm()

    claims = await asyncio.gather(*(bench.verifier.verify(SecretStr(one)) for one in [*others, *[token] * 20]))

    assert claims[10:] == [claims[10]] * 20
    assert bench.verifications == 11


async def test_several_requests_with_one_invalid_token_at_the_same_time_all_get_its_error(
    bench: Bench[TokenClaims],
) -> None:
    token = bench.issuer.bad_token("forged")

    errors = await asyncio.gather(*(bench.refused(token) for _ in range(20)))

    assert {type(error) for error in errors} == {SignatureError}
    assert bench.verifications == 1


async def test_different_new_tokens_at_the_same_time_are_verified_each(bench: Bench[TokenClaims]) -> None:
    tokens = [bench.issuer.access_token(subject=str(number)) for number in range(10)]

    claims = await asyncio.gather(*(bench.verifier.verify(SecretStr(token)) for token in tokens))

    assert [each.sub for each in claims] == [str(number) for number in range(10)]
    assert bench.verifications == 10


async def test_a_first_request_that_is_cancelled_does_not_affect_the_others(bench: Bench[TokenClaims]) -> None:
    token = bench.issuer.access_token()
    gate = bench.provider.gate = asyncio.Event()
    first, *others = [asyncio.create_task(bench.verifier.verify(SecretStr(token))) for _ in range(10)]
    await until_asked(bench)

    first.cancel()
    await asyncio.wait([first])
    gate.set()

    assert first.cancelled()
    assert [claims.aud for claims in await asyncio.gather(*others)] == [AUDIENCE] * 9
    assert bench.verifications == 1


async def test_the_next_request_reads_no_payload_before_its_signature_either(bench: Bench[TokenClaims]) -> None:
    token = LocalIssuer(endpoint="https://other.example.test", clock=bench.clock).access_token()
    gate = bench.provider.gate = asyncio.Event()
    first, second = (asyncio.create_task(bench.refused(token)) for _ in range(2))
    await until_asked(bench)

    first.cancel()
    await asyncio.wait([first])
    gate.set()

    # Its issuer is unknown too.
    assert type(await second) is UnknownKeyError


async def test_an_invalid_token_whose_requests_were_all_cancelled_causes_no_warning(
    bench: Bench[TokenClaims], caplog: pytest.LogCaptureFixture
) -> None:
    token = bench.issuer.bad_token("forged")
    gate = bench.provider.gate = asyncio.Event()
    gone = [asyncio.create_task(bench.verifier.verify(SecretStr(token))) for _ in range(3)]
    await until_asked(bench)
    for request in gone:
        request.cancel()
    await asyncio.wait(gone)
    gate.set()
    await finish_fetches()
    gc.collect()

    assert caplog.messages == []
    assert type(await bench.refused(token)) is SignatureError
    assert bench.verifications == 1


def test_a_verification_that_one_event_loop_left_unfinished_does_not_affect_the_next_loop(
    bench: Bench[TokenClaims],
) -> None:
    token = bench.issuer.access_token()
    left: list[asyncio.Task[TokenClaims]] = []
    loops: list[weakref.ref[asyncio.AbstractEventLoop]] = []

    async def leave_hanging() -> None:
        loops.append(weakref.ref(asyncio.get_running_loop()))
        bench.provider.gate = asyncio.Event()
        left.append(asyncio.create_task(bench.verifier.verify(SecretStr(token))))
        await until_asked(bench)

    asyncio.run(leave_hanging())
    bench.provider.gate = None
    left.clear()

    assert asyncio.run(bench.verifier.verify(SecretStr(token))).aud == AUDIENCE
    assert bench.verifications == 1
    gc.collect()
    assert [loop() for loop in loops] == [None]


async def test_a_cached_token_causes_no_request_to_the_provider(bench: Bench[TokenClaims]) -> None:
    token = bench.issuer.access_token()
    claims = await bench.verifier.verify(SecretStr(token))
    bench.provider.go_away()
    bench.clock.advance(KEYS_TTL - 1)

    assert await bench.verifier.verify(SecretStr(token)) == claims
    assert bench.provider.fetches == (1, 1)


async def test_a_cached_token_is_refused_by_the_first_call_after_its_expiry(bench: Bench[TokenClaims]) -> None:
    token = bench.issuer.access_token(lifetime_seconds=60)
    await bench.verifier.verify(SecretStr(token))
    bench.clock.advance(69.9)
    await bench.verifier.verify(SecretStr(token))
    assert bench.verifications == 1

    bench.clock.advance(0.1)
    error = await bench.refused(token)

    assert (type(error), error.claim, error.found) == (ExpiredTokenError, "exp", str(NOW + 60))
    assert bench.verifications == 1


async def test_an_expired_token_leaves_the_store(bench: Bench[TokenClaims]) -> None:
    token = bench.issuer.access_token(lifetime_seconds=60)
    await bench.verifier.verify(SecretStr(token))
    bench.clock.advance(70)
    await bench.refused(token)

    # It is not cached, so it is verified again and refused again.
    assert type(await bench.refused(token)) is ExpiredTokenError
    assert bench.verifications == 2


async def test_a_withdrawn_key_invalidates_its_tokens_and_no_others(bench: Bench[TokenClaims]) -> None:
    old = bench.issuer.access_token()
    await bench.verifier.verify(SecretStr(old))
    bench.issuer.rotate()
    bench.publish()
    new = bench.issuer.access_token()
    await bench.verifier.verify(SecretStr(new))
    await bench.verifier.verify(SecretStr(old))
    assert bench.verifications == 2

    bench.provider.jwks = {"keys": bench.issuer.jwks()["keys"][:1]}
    await bench.fetch_keys()

    error = await bench.refused(old)
    assert (type(error), error.claim) == (UnknownKeyError, "kid")
    assert (await bench.verifier.verify(SecretStr(new))).iss == f"{ENDPOINT}/oidc"
    assert bench.verifications == 2


async def test_a_key_that_came_back_has_its_tokens_verified_again(bench: Bench[TokenClaims]) -> None:
    token = bench.issuer.access_token()
    await bench.verifier.verify(SecretStr(token))
    published = bench.provider.jwks
    bench.provider.jwks = LocalIssuer().jwks()
    await bench.fetch_keys()
    await bench.refused(token)

    bench.provider.jwks = published
    await bench.fetch_keys()

    assert (await bench.verifier.verify(SecretStr(token))).iss == f"{ENDPOINT}/oidc"
    assert bench.verifications == 2


async def test_a_token_of_a_key_that_was_replaced_under_its_kid_is_refused(bench: Bench[TokenClaims]) -> None:
    token = bench.issuer.access_token()
    await bench.verifier.verify(SecretStr(token))
    kid = bench.issuer.jwks()["keys"][0]["kid"]
    bench.provider.jwks = {"keys": [{**LocalIssuer().jwks()["keys"][0], "kid": kid}]}
    await bench.fetch_keys()

    assert type(await bench.refused(token)) is SignatureError


async def test_a_cached_token_is_503_if_no_key_may_be_used(bench: Bench[TokenClaims]) -> None:
    token = bench.issuer.access_token(lifetime_seconds=10_000)
    await bench.verifier.verify(SecretStr(token))
    bench.provider.go_away()
    bench.clock.advance(KEYS_TTL + 3600)

    assert (await bench.refused(token)).code == "provider_unavailable"


@pytest.mark.parametrize("part", [0, 1, 2])
async def test_a_token_that_differs_in_one_character_is_another_token(part: int, bench: Bench[TokenClaims]) -> None:
    token = bench.issuer.access_token()
    await bench.verifier.verify(SecretStr(token))
    parts = token.split(".")
    parts[part] = parts[part][:10] + ("A" if parts[part][10] != "A" else "B") + parts[part][11:]

    assert (await bench.refused(".".join(parts))).status == 401
    assert (await bench.verifier.verify(SecretStr(token))).iss == f"{ENDPOINT}/oidc"


async def test_a_text_that_decodes_to_a_cached_token_is_refused(bench: Bench[TokenClaims]) -> None:
    token = bench.issuer.access_token()
    await bench.verifier.verify(SecretStr(token))

    for text in (f"{token}=", f" {token}", f"{token}\n", token.replace("-", "+").replace("_", "/")):
        if text != token:
            assert type(await bench.refused(text)) is MalformedTokenError


async def test_a_refused_token_is_not_cached(bench: Bench[TokenClaims]) -> None:
    early = bench.issuer.access_token(claims={"nbf": NOW + 60})
    await bench.refused(early)
    bench.clock.advance(50)

    assert (await bench.verifier.verify(SecretStr(early))).nbf == NOW + 60
    assert bench.verifications == 2


async def test_refused_tokens_evict_no_valid_one() -> None:
    bench = local_bench(TokenClaims, token_cache_size=1)
    token = bench.issuer.access_token()
    await bench.verifier.verify(SecretStr(token))

    for row in CHANGED:
        await bench.refused(row.build(bench.issuer))
    before = bench.verifications
    await bench.verifier.verify(SecretStr(token))

    assert bench.verifications == before


async def test_the_least_recently_used_token_is_evicted_first() -> None:
    bench = local_bench(TokenClaims, token_cache_size=2)
    first, second, third = (bench.issuer.access_token() for _ in range(3))
    for token in (first, second, first, third):
        await bench.verifier.verify(SecretStr(token))
    assert bench.verifications == 3

    await bench.verifier.verify(SecretStr(first))
    assert bench.verifications == 3
    await bench.verifier.verify(SecretStr(second))
    assert bench.verifications == 4


async def test_a_flood_of_valid_tokens_stays_within_the_limit() -> None:
    bench = local_bench(TokenClaims, token_cache_size=10)
    tokens = [bench.issuer.access_token() for _ in range(50)]

    for token in tokens:
        await bench.verifier.verify(SecretStr(token))
    assert bench.verifications == 50

    for token in tokens[-10:]:
        await bench.verifier.verify(SecretStr(token))
    assert bench.verifications == 50
    await bench.verifier.verify(SecretStr(tokens[-11]))
    assert bench.verifications == 51


async def test_a_token_that_one_policy_accepts_another_refuses_each_time(bench: Bench[TokenClaims]) -> None:
    settings = LogtoSettings(endpoint=bench.issuer.endpoint, audience="https://billing.example.com")
    _, other = build_verifier(TokenClaims, provider=bench.provider, clock=bench.clock, settings=settings)
    token = bench.issuer.access_token()

    for _ in range(2):
        assert (await bench.verifier.verify(SecretStr(token))).aud == AUDIENCE
        with pytest.raises(AudienceError):
            await other.verify(SecretStr(token))


async def test_a_policy_of_a_single_tenant_accepts_its_audiences_and_not_those_of_the_settings(
    bench: Bench[TokenClaims],
) -> None:
    policy = AudiencePolicy(frozenset({"https://billing.example.com"}))
    token = bench.issuer.access_token(audience="https://billing.example.com")

    for _ in range(2):
        assert (await bench.verifier.verify(SecretStr(token), policy)).aud == "https://billing.example.com"
        with pytest.raises(AudienceError):
            await bench.verifier.verify(SecretStr(token))
        with pytest.raises(AudienceError):
            await bench.verifier.verify(SecretStr(bench.issuer.access_token()), policy)


async def test_with_a_store_of_size_0_each_token_is_verified_each_time() -> None:
    bench = local_bench(TokenClaims, token_cache_size=0)
    token = bench.issuer.access_token()

    claims = [await bench.verifier.verify(SecretStr(token)) for _ in range(3)]

    assert claims == [claims[0]] * 3
    assert bench.verifications == 3


def test_a_cached_token_is_used_on_the_next_event_loop(bench: Bench[TokenClaims]) -> None:
    token = bench.issuer.access_token()

    first = asyncio.run(bench.verifier.verify(SecretStr(token)))

    assert asyncio.run(bench.verifier.verify(SecretStr(token))) == first
    assert bench.verifications == 1


# Each caller has its own claims


async def test_what_one_caller_does_to_its_claims_the_next_one_does_not_see(bench: Bench[TokenClaims]) -> None:
    token = bench.issuer.access_token(subject="alice", claims={"roles": ["reader"]})

    for _ in range(3):
        claims = await bench.verifier.verify(SecretStr(token))
        assert (claims.sub, claims.organization_id) == ("alice", None)
        assert claims.model_extra == {"roles": ("reader",)}
        assert "organization_id" not in claims.model_fields_set
        vars(claims)["sub"] = "admin"
        vars(claims)["organization_id"] = "acme"
        claims.model_fields_set.add("organization_id")
    assert bench.verifications == 1


async def test_what_one_of_several_callers_at_the_same_time_does_to_its_claims_the_others_do_not_see(
    bench: Bench[TokenClaims],
) -> None:
    token = bench.issuer.access_token(subject="alice")

    first, *others = await asyncio.gather(*(bench.verifier.verify(SecretStr(token)) for _ in range(3)))
    vars(first)["sub"] = "admin"
    vars(others[0])["organization_id"] = "acme"

    assert [claims.sub for claims in others] == ["alice", "alice"]
    assert (first.organization_id, others[1].organization_id) == (None, None)
    assert bench.verifications == 1


async def test_what_one_caller_does_to_its_actor_the_next_one_does_not_see(bench: Bench[TokenClaims]) -> None:
    token = bench.issuer.access_token(actor="bob")

    for _ in range(3):
        actor = (await bench.verifier.verify(SecretStr(token))).act
        assert type(actor) is Actor
        assert actor.sub == "bob"
        vars(actor)["sub"] = "admin"


class Team(BaseModel):
    """A mutable part of an application's own claims."""

    members: list[str]


class OwnClaims(TokenClaims):
    """An application's own claims, with values that can be changed."""

    roles: list[str]
    team: Team


@pytest.mark.parametrize("is_warm", [False, True], ids=["cold", "warm"])
async def test_what_one_caller_does_to_lists_of_its_own_claims_the_next_one_does_not_see(*, is_warm: bool) -> None:
    bench = local_bench(OwnClaims)
    if is_warm:
        await bench.keys.warm()
    token = bench.issuer.access_token(claims={"roles": ["reader"], "team": {"members": ["alice"]}})

    for _ in range(3):
        claims = await bench.verifier.verify(SecretStr(token))
        assert type(claims) is OwnClaims
        assert claims.roles == ["reader"]
        assert claims.team == Team(members=["alice"])
        claims.roles.append("admin")
        claims.team.members.append("mallory")
    assert bench.verifications == 1


async def test_a_claim_that_does_not_match_the_applications_model_is_refused() -> None:
    bench = local_bench(OwnClaims)

    error = await bench.refused(bench.issuer.access_token(claims={"roles": "reader"}))

    assert (type(error), error.claim, error.reason) == (ClaimError, "roles", "claims")


# The key source that is built from settings


async def build_warm_source(clock: ManualClock, provider: FakeProvider, **changes: object) -> KeySource:
    settings = LogtoSettings(**cast("SettingsArguments", {"endpoint": ENDPOINT, "audience": AUDIENCE, **changes}))
    transport = provider.build_transport()
    metadata = build_metadata_source(settings, transport=transport, clock=clock)
    source = build_key_source(settings, metadata=metadata, transport=transport, clock=clock)
    assert provider.fetches == (0, 0)
    await source.warm()
    return source


async def test_the_times_of_the_key_source_are_those_of_the_settings() -> None:
    clock, provider = ManualClock(now=NOW), FakeProvider(JWKS)
    source = await build_warm_source(
        clock, provider, keys_ttl_seconds=60, keys_max_stale_seconds=100, keys_cooldown_seconds=5
    )

    for seconds, fetches in ((0, 2), (4.9, 2), (0.1, 3)):
        clock.advance(seconds)
        with pytest.raises((UnknownKeyError, CoolingDownError)):
            await source.find(kid="unknown", alg="ES384")
        assert provider.fetches == (1, fetches)
    provider.go_away()
    clock.advance(59.9)
    assert (source.health().is_stale, source.health().is_ready) == (False, True)
    clock.advance(0.1)
    assert (source.health().is_stale, source.health().is_ready) == (True, True)
    clock.advance(99.9)
    assert (source.health().is_stale, source.health().is_ready) == (True, True)
    clock.advance(0.1)
    assert (source.health().is_stale, source.health().is_ready) == (True, False)


async def test_the_algorithms_and_origins_of_the_key_source_are_those_of_the_settings() -> None:
    clock, provider = ManualClock(now=NOW), FakeProvider(JWKS)
    provider.discovery["jwks_uri"] = "https://keys.example.com/jwks"

    refused = await build_warm_source(clock, provider)
    assert "found 'https://keys.example.com/jwks'" in str(refused.health().last_error)
    provider.counts.clear()
    other = await build_warm_source(
        clock, provider, allowed_jwks_origins="https://keys.example.com", algorithms="RS256"
    )
    assert other.health().last_error == "key set: no key is usable with RS256"
    provider.counts.clear()
    good = await build_warm_source(clock, provider, allowed_jwks_origins="https://keys.example.com")
    assert good.health().key_count == 1
