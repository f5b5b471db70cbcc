"""Several tenants with one scheme, and one tenant with several issuers."""

import asyncio
import gc
import sys
from collections.abc import Callable
from contextlib import suppress
from types import FrameType
from typing import Any

import httpx
import pytest
from fastapi import Depends, FastAPI
from pydantic import model_validator
from starlette.testclient import TestClient

from fastapi_logto import LogtoAuth, LogtoSettings, OrganizationSource, Requirement, SettingsError, TokenClaims
from fastapi_logto.errors import AudienceError, IssuerError, ProviderUnavailableError, RefusalError, TokenTypeError
from fastapi_logto.introspection import Introspection
from fastapi_logto.schemes import find_resources, find_state
from fastapi_logto.testing import LocalIssuer, ManualClock, bearer
from fastapi_logto.testing.signing import JsonValue
from tests.unit.apps import API

A, B = "https://a.example.com", "https://b.example.com"


class Network(httpx.AsyncBaseTransport):
    """Connects to each issuer by its host, counts the fetches, and refuses connections to those that are down."""

    def __init__(self, *issuers: LocalIssuer) -> None:
        self.by_host = {httpx.URL(issuer.endpoint).host: httpx.ASGITransport(app=issuer.app) for issuer in issuers}
        self.asked: list[str] = []
        self.down: set[str] = set()

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        self.asked.append(request.url.host)
        if request.url.host in self.down:
            raise httpx.ConnectError("down")
        return await self.by_host[request.url.host].handle_async_request(request)


class Bench:
    """Two tenants and an application for both."""

    def __init__(self) -> None:
        self.a, self.b = LocalIssuer(endpoint=A), LocalIssuer(endpoint=B)
        self.network = Network(self.a, self.b)
        settings = [
            LogtoSettings(endpoint=A, audience=API),
            LogtoSettings(endpoint=B, audience="https://of-b.example.com", max_token_bytes=4096),
        ]
        self.auth = LogtoAuth(settings=settings, http_transport=self.network)

    async def refused(self, token: str) -> str:
        with pytest.raises(RefusalError) as caught:
            await self.auth.verify(token)
        return caught.value.reason


@pytest.fixture
def bench() -> Bench:
    return Bench()


async def test_each_tenants_tokens_are_verified_with_its_own_keys_and_settings(bench: Bench) -> None:
    a, b = bench.a.access_token(subject="one"), bench.b.access_token(subject="two", audience="https://of-b.example.com")

    for _ in range(2):
        assert (await bench.auth.verify(a)).iss == f"{A}/oidc"
        assert (await bench.auth.verify(b)).sub == "two"
    assert sorted(bench.network.asked) == ["a.example.com"] * 2 + ["b.example.com"] * 2
    # An audience of one tenant is not accepted for the other.
    assert await bench.refused(bench.b.access_token(audience=API)) == "audience"
    assert await bench.refused(bench.a.access_token(audience="https://of-b.example.com")) == "audience"


async def test_a_token_that_names_one_tenant_and_is_signed_by_another_is_refused(bench: Bench) -> None:
    lying = bench.b.access_token(claims={"iss": f"{A}/oidc"})

    assert await bench.refused(lying) == "unknown_key"
    # Even with the `kid` of the other tenant: it is verified with the key of the named tenant.
    (kid,) = (key["kid"] for key in bench.a.jwks()["keys"])
    payload: dict[str, JsonValue] = {"iss": f"{A}/oidc", "sub": "s", "aud": API, "exp": 2**40, "iat": 1}
    payload |= {"jti": "j", "client_id": "c"}
    assert await bench.refused(bench.b.sign(payload, header={"kid": kid})) == "signature"


MALFORMED: dict[str, tuple[Callable[[LocalIssuer], str], str]] = {
    "another issuer": (lambda a: a.access_token(claims={"iss": "https://c.example.com/oidc"}), "issuer"),
    "a slash too many": (lambda a: a.access_token(claims={"iss": f"{A}/oidc/"}), "issuer"),
    "no issuer": (lambda a: a.access_token(claims={"iss": None}), "issuer"),
    "an issuer that is no text": (lambda a: a.access_token(claims={"iss": [f"{A}/oidc"]}), "issuer"),
    "no JSON": (lambda a: a.sign(b"no json"), "malformed"),
    "two issuers": (lambda a: a.sign(f'{{"iss":"{A}/oidc","iss":"{B}/oidc"}}'.encode()), "malformed"),
    "two parts": (lambda _a: "a.b", "malformed"),
    "bad base64": (lambda a: a.access_token().replace(".", ".!", 1), "malformed"),
    "opaque": (lambda a: a.opaque_token(), "opaque_token"),
    "too long": (lambda a: a.access_token(claims={"x": "x" * 20_000}), "too_large"),
}


@pytest.mark.parametrize("name", MALFORMED)
async def test_a_token_that_names_no_tenant_is_refused_without_a_fetch(bench: Bench, name: str) -> None:
    make, reason = MALFORMED[name]

    assert await bench.refused(make(bench.a)) == reason
    assert bench.network.asked == []


async def test_the_log_line_of_an_issuer_of_no_tenant_lists_the_tenants(bench: Bench) -> None:
    with pytest.raises(IssuerError) as caught:
        await bench.auth.verify(bench.a.access_token(claims={"iss": "https://c.example.com/oidc"}))

    assert caught.value.message == (
        "The token was not issued by a tenant of this API; request a token from one of its tenants"
    )
    assert str(caught.value) == (
        f"invalid_token: issuer, claim iss, expected '{A}/oidc or {B}/oidc', found another one"
    )


async def test_a_long_token_is_accepted(bench: Bench) -> None:
    token = bench.a.access_token(subject="long", claims={"roles": ["r" * 100] * 30})

    assert (await bench.auth.verify(token)).sub == "long"


async def test_more_long_tokens_than_there_is_room_for_are_503(bench: Bench) -> None:
    settings = [LogtoSettings(endpoint=endpoint, audience=API, max_waiting_verifications=2) for endpoint in (A, B)]
    auth = LogtoAuth(settings=settings, http_transport=bench.network)
    members = {f"x{number}": 1.5 for number in range(800)}
    tokens = [bench.a.access_token(claims={"iss": "https://c", **members}) for _ in range(40)]

    outcomes = await asyncio.gather(*(auth.verify(token) for token in tokens), return_exceptions=True)

    assert {type(outcome) for outcome in outcomes} == {IssuerError, ProviderUnavailableError}
    assert (await auth.verify(bench.a.access_token(subject="long", claims={"x": "x" * 3000}))).sub == "long"


async def test_the_largest_limit_of_all_tenants_counts_for_the_common_queue(bench: Bench) -> None:
    limits = {A: 1, B: 40}
    settings = [LogtoSettings(endpoint=one, audience=API, max_waiting_verifications=limits[one]) for one in limits]
    auth = LogtoAuth(settings=settings, http_transport=bench.network)
    tokens = [bench.a.access_token(subject=str(number)) for number in range(40)]

    subjects = [claims.sub for claims in await asyncio.gather(*(auth.verify(token) for token in tokens))]

    assert subjects == [str(number) for number in range(40)]


async def test_an_invalid_header_is_refused_before_the_payload_is_read(bench: Bench) -> None:
    assert await bench.refused(bench.a.sign(b"no json", header={"alg": "HS256"})) == "algorithm"
    assert await bench.refused(bench.a.id_token()) == "id_token"


@pytest.mark.parametrize("alg", [["ES384"], {"ES384": 1}, [], {}, [["ES384"]], None, 384, True])
@pytest.mark.parametrize("count", [1, 2], ids=["one tenant", "several"])
def test_an_algorithm_that_is_not_a_text_is_rejected(alg: JsonValue, count: int, bench: Bench) -> None:
    app = FastAPI()
    settings = [LogtoSettings(endpoint=endpoint, audience=API) for endpoint in (A, B)[:count]]
    auth = LogtoAuth(settings=settings, http_transport=bench.network)
    app.get("/", dependencies=[Depends(auth)])(lambda: None)

    payload: dict[str, JsonValue] = {
        "iss": f"{A}/oidc",
        "sub": "s",
        "aud": API,
        "exp": 2**40,
        "iat": 1,
        "jti": "j",
        "client_id": "c",
    }

    response = TestClient(app).get("/", headers=bearer(bench.a.sign(payload, header={"alg": alg})))

    assert (response.status_code, response.json()["detail"]["reason"]) == (401, "algorithm")


async def test_an_unreachable_tenant_does_not_affect_another_one(bench: Bench) -> None:
    bench.network.down = {"b.example.com"}

    assert (await bench.auth.verify(bench.a.access_token())).iss == f"{A}/oidc"
    with pytest.raises(ProviderUnavailableError):
        await bench.auth.verify(bench.b.access_token())


def test_the_application_is_as_ready_as_the_worst_of_its_tenants(bench: Bench) -> None:
    app = FastAPI()
    bench.auth.install(app)

    @app.get("/", dependencies=[Depends(bench.auth)])
    async def read() -> bool:
        return True

    bench.network.down = {"b.example.com"}
    with TestClient(app) as client:
        token = bench.a.access_token()
        # The second time it is cached for the tenant that verified it.
        assert [client.get("/", headers=bearer(token)).status_code for _ in range(2)] == [200, 200]
        health = bench.auth.health()
    assert (health.is_ready, health.key_count, health.age_seconds) == (False, 1, None)
    assert health.last_error is not None
    assert B in health.last_error
    assert health.next_try_seconds is not None

    bench = Bench()
    with TestClient(FastAPI(lifespan=bench.auth.lifespan)):
        health = bench.auth.health()
    assert (health.is_ready, health.key_count, health.last_error) == (True, 2, None)


async def test_a_stale_tenant_and_a_fresh_one_are_together_stale_and_as_old_as_the_older() -> None:
    clock = ManualClock(now=1_800_000_000)
    a, b = LocalIssuer(endpoint=A, clock=clock), LocalIssuer(endpoint=B, clock=clock)
    settings = [LogtoSettings(endpoint=endpoint, audience=API) for endpoint in (A, B)]
    auth = LogtoAuth(settings=settings, http_transport=Network(a, b), clock=clock)
    await auth.verify(a.access_token())
    clock.advance(301)
    await auth.verify(b.access_token())

    health = auth.health()

    assert (health.is_ready, health.is_stale, health.age_seconds, health.key_count) == (True, True, 301, 2)


async def test_of_two_unreachable_tenants_the_next_try_is_that_of_the_earlier_one() -> None:
    clock = ManualClock(now=1_800_000_000)
    a, b = LocalIssuer(endpoint=A, clock=clock), LocalIssuer(endpoint=B, clock=clock)
    network = Network(a, b)
    network.down = {"a.example.com", "b.example.com"}
    settings = [LogtoSettings(endpoint=endpoint, audience=API) for endpoint in (A, B)]
    auth = LogtoAuth(settings=settings, http_transport=network, clock=clock)
    for issuer in (b, a, b):
        # After the second failure of B, the wait is two seconds; after the first one of A, one second.
        clock.advance(0.6)
        with pytest.raises(ProviderUnavailableError):
            await auth.verify(issuer.access_token())

    assert network.asked == ["b.example.com", "a.example.com", "b.example.com"]
    assert auth.health().next_try_seconds == pytest.approx(0.4, abs=0.11)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"settings": []}, "found none"),
        (
            {"settings": [LogtoSettings(endpoint=A, audience=API), LogtoSettings(endpoint=A, audience="other")]},
            "expected tenants with different issuers",
        ),
        (
            {
                "settings": [
                    LogtoSettings(endpoint=A, audience=API),
                    LogtoSettings(endpoint=B, audience=API, issuers=f"{A}/oidc"),
                ]
            },
            "expected tenants with different issuers",
        ),
        (
            {
                "settings": [LogtoSettings(endpoint=A, audience=API), LogtoSettings(endpoint=B, audience=API)],
                "introspection": Introspection(client_id="c", client_secret="s", allowed_clients=["a"]),
            },
            "expected one tenant if opaque tokens are accepted, found 2",
        ),
    ],
    ids=["none", "twice", "one's issuer", "opaque"],
)
def test_tenants_that_can_not_be_distinguished_are_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        LogtoAuth(**arguments)


async def test_one_tenant_under_two_domains_has_one_key_set() -> None:
    issuer = LocalIssuer(endpoint=A)
    network = Network(issuer)
    auth = LogtoAuth(endpoint=A, audience=API, issuers=f"{B}/oidc", http_transport=network)

    assert (await auth.verify(issuer.access_token())).iss == f"{A}/oidc"
    assert (await auth.verify(issuer.access_token(claims={"iss": f"{B}/oidc"}))).iss == f"{B}/oidc"
    assert network.asked == ["a.example.com"] * 2


async def test_keys_are_fetched_from_another_address_than_the_issuers() -> None:
    issuer = LocalIssuer(endpoint=A, allowed_hosts=["logto:3001"])
    network = Network(issuer)
    network.by_host["logto"] = network.by_host.pop("a.example.com")
    auth = LogtoAuth(
        endpoint=A, audience=API, fetch_endpoint="http://logto:3001", allow_http=True, http_transport=network
    )

    assert (await auth.verify(issuer.access_token())).iss == f"{A}/oidc"
    assert set(network.asked) == {"logto"}


# Audiences and organizations of one tenant are not those of another


ADMIN = "https://admin.example.com"


def build_shared(*, admin_of: str = A) -> Bench:
    """Return two tenants with a common audience, one of which has a second audience."""
    bench = Bench()
    settings = [
        LogtoSettings(endpoint=endpoint, audience=[API, ADMIN] if endpoint == admin_of else API) for endpoint in (A, B)
    ]
    bench.auth = LogtoAuth(settings=settings, http_transport=bench.network)
    return bench


@pytest.mark.parametrize("is_cached", [False, True])
async def test_for_audience_accepts_only_the_tokens_of_tenants_that_list_the_audience(*, is_cached: bool) -> None:
    bench = build_shared()
    admin, only = bench.auth.for_audience(ADMIN, API, scheme_name="Both"), bench.auth.for_audience(ADMIN)
    a, b = bench.a.access_token(audience=ADMIN), bench.b.access_token(claims={"aud": [ADMIN, "x"]})
    both = bench.b.access_token(claims={"aud": [ADMIN, API]})
    if is_cached:
        await bench.auth.verify(both)

    for _ in range(2):
        assert (await admin.verify(a)).iss == f"{A}/oidc"
        assert (await admin.verify(both)).iss == f"{B}/oidc"
        with pytest.raises(AudienceError):
            await admin.verify(b)
        with pytest.raises(AudienceError) as caught:
            await only.verify(both)
        assert caught.value.message == "This part of the API does not accept tokens of the tenant that issued this one"


async def test_an_audience_that_no_tenant_lists_is_refused_where_it_is_declared() -> None:
    with pytest.raises(SettingsError, match=r"found https://nowhere\.example; add it to the settings"):
        build_shared().auth.for_audience("https://nowhere.example")
    assert find_resources(LocalIssuer().auth().for_audience("https://nowhere.example")) == {"https://nowhere.example"}


def from_header(*, issuer: str | None = None) -> OrganizationSource:
    return OrganizationSource.from_header("X-Organization", issuer=issuer)


def from_dependency(*, issuer: str | None = None) -> OrganizationSource:
    return OrganizationSource.from_dependency(lambda: "acme", issuer=issuer)


SOURCES: dict[str, Callable[..., OrganizationSource]] = {
    "path": OrganizationSource.from_path,
    "header": from_header,
    "dependency": from_dependency,
    "token": OrganizationSource.from_token,
}


@pytest.mark.parametrize("source", SOURCES)
def test_with_several_tenants_a_requirement_says_whose_organization_it_means(source: str) -> None:
    auth = build_shared().auth

    with pytest.raises(SettingsError) as caught:
        auth.require_organization(organization=SOURCES[source]())

    assert str(caught.value) == (
        "organization: expected issuer=, because this API accepts several tenants and an organization id alone is "
        'ambiguous, found none; pass OrganizationSource.from_path(issuer="https://a.example.com/oidc"), or '
        'issuer="any" if the handler looks up data by claims.iss and the organization id'
    )


def test_an_issuer_of_no_tenant_is_refused_where_it_is_required() -> None:
    for auth in (build_shared().auth, LocalIssuer().auth()):
        with pytest.raises(SettingsError, match=r"expected an issuer of the settings or 'any', found issuer='https"):
            auth.require_organization(organization=OrganizationSource.from_path(issuer="https://a.example.com"))


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize(
    ("issuer", "expected"), [(f"{A}/oidc", (200, 403)), (f"{B}/oidc", (403, 200)), ("any", (200, 200))]
)
def test_an_organization_of_one_tenant_does_not_pass_for_that_of_another(
    source: str, issuer: str, expected: tuple[int, int]
) -> None:
    bench = build_shared()
    app = FastAPI()

    @app.get(
        "/organizations/{organization_id}",
        dependencies=[Depends(bench.auth.require_organization(organization=SOURCES[source](issuer=issuer)))],
    )
    async def read() -> None: ...

    def call(one: LocalIssuer) -> Any:
        headers = {**bearer(one.organization_token("acme")), "X-Organization": "acme"}
        return TestClient(app).get("/organizations/acme", headers=headers)

    answers = [call(bench.a), call(bench.b)]

    assert tuple(answer.status_code for answer in answers) == expected
    codes = {answer.json()["detail"]["code"] for answer in answers if answer.status_code == 403}
    assert codes <= {"organization_mismatch"}


def test_with_one_tenant_a_requirement_may_say_its_issuer_or_not() -> None:
    issuer = LocalIssuer()
    auth = issuer.auth()
    app = FastAPI()

    for path, place in (("/none", None), ("/own", issuer.issuer), ("/any", "any")):
        where = OrganizationSource.from_token(issuer=place)
        app.get(path, dependencies=[Depends(auth.require_organization(organization=where))])(lambda: None)

    client = TestClient(app, headers=bearer(issuer.organization_token("acme")))
    assert [client.get(path).status_code for path in ("/none", "/own", "/any")] == [200] * 3


# Organization tokens


@pytest.mark.parametrize(("accepted", "status"), [(True, 200), (False, 401)])
@pytest.mark.parametrize("audience", [None, ADMIN])
def test_organization_tokens_are_refused_by_choice_and_those_for_an_api_are_not(
    *, accepted: bool, status: int, audience: str | None
) -> None:
    issuer = LocalIssuer()
    auth = issuer.auth(accept_organization_tokens=accepted)
    scheme = auth if audience is None else auth.for_audience(audience)
    app = FastAPI()
    app.get("/", dependencies=[Depends(scheme.require_organization(organization=OrganizationSource.from_token()))])(
        lambda: None
    )

    answer = TestClient(app).get("/", headers=bearer(issuer.organization_token("acme")))
    of_api = issuer.access_token(audience=audience or API, organization_id="acme")

    assert answer.status_code == status
    if not accepted:
        assert answer.json()["detail"]["reason"] == "audience"
    assert TestClient(app).get("/", headers=bearer(of_api)).status_code == 200


def test_an_organization_token_of_a_tenant_without_the_audience_opens_nothing_below_it() -> None:
    bench = build_shared()
    admin = bench.auth.for_audience(ADMIN)
    app = FastAPI()
    where = OrganizationSource.from_token(issuer="any")
    app.get("/", dependencies=[Depends(admin.require_organization(organization=where))])(lambda: None)

    statuses = [
        TestClient(app).get("/", headers=bearer(one.organization_token("acme"))).status_code
        for one in (bench.a, bench.b)
    ]

    assert statuses == [200, 401]


def test_a_requirement_that_is_made_by_hand_must_say_whose_organization_it_means_too() -> None:
    with pytest.raises(SettingsError, match="this API accepts several tenants"):
        Requirement(build_shared().auth, organization=OrganizationSource.from_path())


async def test_a_cached_token_needs_no_place_in_the_queue() -> None:
    bench = Bench()
    settings = [LogtoSettings(endpoint=endpoint, audience=API, max_waiting_verifications=1) for endpoint in (A, B)]
    auth = LogtoAuth(settings=settings, http_transport=bench.network)
    known = bench.a.access_token(claims={"roles": ["r" * 100] * 20})
    await auth.verify(known)
    flood = [bench.a.access_token(claims={"roles": ["r" * 100] * 20}) for _ in range(60)]

    outcomes = await asyncio.gather(
        *(auth.verify(token) for token in flood), *(auth.verify(known) for _ in range(5)), return_exceptions=True
    )

    assert ProviderUnavailableError in {type(outcome) for outcome in outcomes[:-5]}
    assert [getattr(outcome, "iss", outcome) for outcome in outcomes[-5:]] == [f"{A}/oidc"] * 5


@pytest.mark.parametrize("is_warm", [False, True], ids=["cold", "warm"])
async def test_a_token_must_be_within_the_limit_of_its_own_tenant(*, is_warm: bool) -> None:
    bench = Bench()
    if is_warm:
        await bench.auth.verify(bench.b.access_token(audience="https://of-b.example.com"))
    of_a = bench.a.access_token(audience=API, claims={"note": "x" * 3200})
    of_b = bench.b.access_token(audience="https://of-b.example.com", claims={"note": "x" * 3200})

    assert len(of_b) > 4096
    assert (await bench.auth.verify(of_a)).iss == f"{A}/oidc"
    assert await bench.refused(of_b) == "too_large"


@pytest.mark.parametrize("is_warm", [False, True], ids=["cold", "warm"])
async def test_a_token_must_be_signed_and_typed_as_its_own_tenant_accepts(*, is_warm: bool) -> None:
    a, b = LocalIssuer(endpoint=A), LocalIssuer(endpoint=B)
    lax = LogtoSettings(endpoint=A, audience=API, algorithms=("ES384", "ES256"), token_types=("at+jwt", "JWT"))
    strict = LogtoSettings(endpoint=B, audience=API, algorithms="ES256")
    auth = LogtoAuth(settings=[lax, strict], http_transport=Network(a, b))
    if is_warm:
        await auth.verify(a.access_token(audience=API))

    (kid,) = (key["kid"] for key in a.jwks()["keys"])
    payload: dict[str, JsonValue] = {
        "iss": f"{A}/oidc",
        "sub": "s",
        "aud": API,
        "exp": 2**33,
        "iat": 1,
        "jti": "j",
        "client_id": "c",
    }
    assert (await auth.verify(a.sign(payload, header={"typ": "JWT", "kid": kid}))).sub == "s"
    for token, reason in (
        (b.access_token(audience=API), "algorithm"),
        (b.sign({**payload, "iss": f"{B}/oidc"}, header={"typ": "JWT"}), "algorithm"),
    ):
        with pytest.raises(RefusalError) as caught:
            await auth.verify(token)
        assert caught.value.reason == reason

    typed = LogtoAuth(settings=[lax, LogtoSettings(endpoint=B, audience=API)], http_transport=Network(a, b))
    with pytest.raises(TokenTypeError):
        await typed.verify(b.sign({**payload, "iss": f"{B}/oidc"}, header={"typ": "JWT"}))


class Misled(TokenClaims):
    """A model of an application that reads the issuer from another claim."""

    @model_validator(mode="before")
    @classmethod
    def _take_another_issuer(cls, data: dict[str, JsonValue]) -> dict[str, JsonValue]:
        return {**data, "iss": data.get("tenant", data["iss"])}


@pytest.mark.parametrize("is_warm", [False, True], ids=["cold", "warm"])
async def test_the_issuer_is_checked_against_the_tenant_whose_key_signed(*, is_warm: bool) -> None:
    a, b = LocalIssuer(endpoint=A), LocalIssuer(endpoint=B)
    settings = [LogtoSettings(endpoint=endpoint, audience=API) for endpoint in (A, B)]
    auth = LogtoAuth(settings=settings, claims_model=Misled, http_transport=Network(a, b))
    if is_warm:
        await auth.verify(a.access_token(audience=API))
        await auth.verify(b.access_token(audience=API))

    for _ in range(2):
        with pytest.raises(IssuerError):
            await auth.verify(a.access_token(audience=API, claims={"tenant": f"{B}/oidc"}))


async def test_the_tokens_of_one_tenant_evict_none_of_another() -> None:
    bench = Bench()
    of_b = bench.b.access_token(audience="https://of-b.example.com")
    settings = [
        LogtoSettings(endpoint=A, audience=API, token_cache_size=2),
        LogtoSettings(endpoint=B, audience="https://of-b.example.com", token_cache_size=1),
    ]
    auth = LogtoAuth(settings=settings, http_transport=bench.network)
    await auth.verify(of_b)
    for _ in range(5):
        await auth.verify(bench.a.access_token(audience=API))

    caches = [tenant.cache for tenant in find_state(auth).load().tenants]
    assert list(map(len, caches)) == [2, 1]
    assert (await auth.verify(of_b)).iss == f"{B}/oidc"


async def count_calls(auth: LogtoAuth, token: str) -> int:
    """Return how many functions are called while a token is verified or refused."""
    calls = 0

    def note(_frame: FrameType, event: str, _arg: object) -> None:
        nonlocal calls
        calls += event == "call"

    # Finalizers are functions too.
    gc.disable()
    sys.setprofile(note)
    try:
        with suppress(RefusalError):
            await auth.verify(token)
    finally:
        sys.setprofile(None)
        gc.enable()
    return calls


@pytest.mark.parametrize("kind", ["cached", "unknown issuer", "opaque"])
async def test_the_work_for_a_token_does_not_grow_with_the_number_of_tenants(bench: Bench, kind: str) -> None:
    token = {
        "cached": bench.a.access_token(),
        "unknown issuer": bench.b.access_token(),
        "opaque": "o" * 43,
    }[kind]
    counts: list[int] = []
    for count in (2, 60):
        others = [LogtoSettings(endpoint=f"https://{number}.example.com", audience=API) for number in range(count - 1)]
        auth = LogtoAuth(settings=[*others, LogtoSettings(endpoint=A, audience=API)], http_transport=bench.network)
        await auth.verify(bench.a.access_token())
        with suppress(RefusalError):
            await auth.verify(token)
        counts.append(await count_calls(auth, token))

    assert counts[0] == counts[1] > 10
