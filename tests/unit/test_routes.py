"""What is refused at the start of an application, and what its OpenAPI document says of its requirements."""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import pytest
from fastapi import APIRouter, Depends, FastAPI, WebSocket, routing
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.routing import Host, Mount
from starlette.staticfiles import StaticFiles
from starlette.testclient import TestClient

from fastapi_logto import LogtoAuth, Organization, SettingsError, TokenClaims
from fastapi_logto.routes import check_routes, iter_routes
from fastapi_logto.testing import LocalIssuer
from tests.unit.apps import bearer, build_auth

ISSUERS: dict[LogtoAuth, LocalIssuer] = {}


@pytest.fixture
def logto() -> LogtoAuth:
    issuer = LocalIssuer()
    auth = build_auth(issuer)
    ISSUERS[auth] = issuer
    return auth


def build_router(logto: LogtoAuth, *dependencies: Any) -> APIRouter:
    router = APIRouter(prefix="/of/{organization_id}", dependencies=[Depends(one) for one in dependencies])

    @router.get("/members")
    async def read(claims: Annotated[TokenClaims, Depends(logto.require_organization("read:user"))]) -> str:
        return claims.user_id

    return router


@pytest.mark.parametrize("above", ["router", "application", "mount"])
def test_a_plain_scheme_above_an_organization_is_refused_at_start(logto: LogtoAuth, above: str) -> None:
    app = FastAPI(dependencies=[Depends(logto)] if above == "application" else [])
    inner = FastAPI() if above == "mount" else app
    inner.include_router(build_router(logto, *([] if above == "application" else [logto.optional.auth])))
    if above == "mount":
        app.mount("/v1", inner)
    logto.install(app)

    with (
        pytest.raises(SettingsError, match=r"/of/\{organization_id\}/members: it asks for an organization"),
        TestClient(app),
    ):
        pass


WRAPPERS: dict[str, Callable[[FastAPI], Any]] = {
    "middleware around": lambda app: [Mount("/v1", GZipMiddleware(app))],
    "middleware of the mount": lambda app: [Mount("/v1", app, middleware=[Middleware(GZipMiddleware)])],
    "an application between": lambda app: [Mount("/v1", Starlette(routes=[Mount("/v2", app)]))],
    "a host": lambda app: [Host("api.example.com", app)],
    "a router": lambda app: [Mount("/v1", app.router)],
}


@pytest.mark.parametrize("name", WRAPPERS)
def test_what_is_mounted_is_found_however_it_is_wrapped(logto: LogtoAuth, name: str) -> None:
    inner = FastAPI()
    inner.include_router(build_router(logto, logto))
    app = FastAPI()
    app.router.routes.extend(WRAPPERS[name](inner))

    with pytest.raises(SettingsError, match="asks for an organization"):
        check_routes(app)


def test_optional_above_an_organization_is_refused_like_the_scheme_that_it_asks(logto: LogtoAuth) -> None:
    app = FastAPI(dependencies=[Depends(logto.optional)])
    app.include_router(build_router(logto))

    with pytest.raises(SettingsError, match="asks for an organization"):
        check_routes(app)


def test_the_organization_may_be_in_the_path_of_a_mount(logto: LogtoAuth) -> None:
    inner, app, router = FastAPI(), FastAPI(), APIRouter()

    @inner.get("/members", dependencies=[Depends(logto.require_organization())])
    async def read() -> bool:
        return True

    app.mount("/of/{organization_id:str}", inner)
    router.mount("/sub", inner)
    app.include_router(router, prefix="/in/{organization_id}")
    check_routes(app)

    client = TestClient(app)
    issuer = ISSUERS[logto]
    paths = ["/of/A/members"]
    if hasattr(routing, "iter_route_contexts"):
        # Older versions of FastAPI leave out what is mounted in a router that is included.
        paths.append("/in/A/sub/members")
    for path in paths:
        assert client.get(path, headers=bearer(issuer.organization_token("A"))).status_code == 200
        assert client.get(path, headers=bearer(issuer.organization_token("B"))).status_code == 403


def test_organizations_all_the_way_up_are_fine(logto: LogtoAuth) -> None:
    app = FastAPI()
    app.include_router(
        build_router(
            logto, logto.require_organization(), logto.require(organization=Organization.from_path(), caller="user")
        )
    )
    logto.install(app)

    with TestClient(app):
        pass


def test_a_path_without_its_organization_is_refused_at_start(logto: LogtoAuth) -> None:
    app = FastAPI()

    @app.websocket("/members")
    async def watch(
        websocket: WebSocket, claims: Annotated[TokenClaims, Depends(logto.require_organization())]
    ) -> None: ...

    with pytest.raises(SettingsError, match=r"/members: .* no parameter \{organization_id\}"):
        check_routes(app)


def test_claims_that_would_come_from_the_body_are_refused_at_start(logto: LogtoAuth) -> None:
    app = FastAPI()

    async def inner(claims: list[TokenClaims]) -> int:
        return len(claims)

    @app.post("/plain")
    async def plain(claims: TokenClaims) -> str:
        return claims.user_id

    @app.post("/optional")
    async def optional(maybe: TokenClaims | None = None) -> bool:
        return maybe is None

    @app.post("/inner", dependencies=[Depends(inner)])
    async def outer() -> bool:
        return True

    @app.get("/good")
    async def good(claims: Annotated[TokenClaims, Depends(logto)]) -> TokenClaims:
        return claims

    with pytest.raises(SettingsError) as caught:
        check_routes(app)

    lines = str(caught.value).splitlines()
    assert [line.partition(" would come")[0] for line in lines] == [
        "/plain: its parameter claims",
        "/optional: its parameter maybe",
        "/inner: its parameter claims",
    ]


def test_the_routes_are_read_with_what_they_are_mounted_under(logto: LogtoAuth) -> None:
    inner, app = FastAPI(), FastAPI()
    inner.include_router(build_router(logto), prefix="/v2")
    app.mount("/in/{tenant}", inner)
    app.mount("/other", Starlette())
    app.mount("/files", StaticFiles(directory=Path(__file__).parent))

    @app.get("/open/{path:path}")
    async def unprotected(path: str) -> str:
        return path

    found = {route.path: route for route in iter_routes(app)}

    own = {"/docs", "/docs/oauth2-redirect", "/redoc", "/openapi.json"}
    assert set(found) == {
        *("/open/{path}", "/in/{tenant}/v2/of/{organization_id}/members", "/files"),
        *own,
        *(f"/in/{{tenant}}{path}" for path in own),
    }
    assert found["/files"].kind == "application"
    assert found["/open/{path}"].requirements == found["/open/{path}"].schemes == ()
    members = found["/in/{tenant}/v2/of/{organization_id}/members"]
    assert members.methods == {"GET"}
    assert members.requirements == (logto.require_organization("read:user"),)


def test_openapi_says_what_is_asked_for_beyond_scopes(logto: LogtoAuth) -> None:
    app = FastAPI()
    app.include_router(build_router(logto, logto.require(organization=Organization.from_path(), caller="user")))
    billing = logto.for_audience("https://billing.example.test/v1")

    @app.get("/invoices", dependencies=[Depends(billing.require_scopes("read:invoice"))])
    async def invoices() -> None:
        """Lists invoices."""

    logto.install(app)
    schema = app.openapi()

    members = schema["paths"]["/of/{organization_id}/members"]["get"]
    assert members["description"].splitlines() == [
        "Asks for:",
        "",
        "- a token for the organization in the path, `{organization_id}`",
        "- a user as the caller",
    ]
    assert schema["paths"]["/invoices"]["get"]["description"] == "Lists invoices."
    assert schema["paths"]["/invoices"]["get"]["security"] == [
        {"Logto-https-billing.example.test-v1": ["read:invoice"]}
    ]
    schemes = schema["components"]["securitySchemes"]
    assert schemes["Logto"]["flows"]["authorizationCode"]["scopes"] == {
        "read:user": "GET /of/{organization_id}/members"
    }
    flow = schemes["Logto-https-billing.example.test-v1"]["flows"]["authorizationCode"]
    assert flow["scopes"] == {"read:invoice": "GET /invoices"}
    assert flow["authorizationUrl"].endswith("?resource=https%3A%2F%2Fbilling.example.test%2Fv1")


@pytest.mark.parametrize(
    "audiences", [(), ("",), ("urn:logto:organization:a",), ("a", "urn:logto:resource:organizations")]
)
def test_an_audience_that_would_admit_organization_tokens_everywhere_is_refused(
    logto: LogtoAuth, audiences: tuple[str, ...]
) -> None:
    with pytest.raises(SettingsError, match="expected"):
        logto.for_audience(*audiences)
    with pytest.raises(SettingsError, match="expected"):
        LogtoAuth(endpoint="https://a.logto.app", audience=audiences)


@pytest.mark.parametrize("audiences", [(["a"],), (None,), (1,)])
def test_an_audience_that_is_no_text_is_refused(logto: LogtoAuth, audiences: tuple[Any, ...]) -> None:
    with pytest.raises(SettingsError, match="texts"):
        logto.for_audience(*audiences)


def test_two_schemes_do_not_share_a_name(logto: LogtoAuth) -> None:
    first = logto.for_audience("https://a/b")

    assert logto.for_audience("https://a/b").scheme_name == first.scheme_name
    with pytest.raises(SettingsError, match="another name"):
        logto.for_audience("https://a-b")
    assert logto.for_audience("https://a-b", scheme_name="Other").scheme_name == "Other"
    with pytest.raises(SettingsError, match="another name"):
        logto.for_audience("https://c", scheme_name="Logto")
