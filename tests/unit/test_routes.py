"""Errors at the start of an application, and the requirements in its OpenAPI document."""

from pathlib import Path
from typing import Any

import pytest
from fastapi import Depends, FastAPI
from starlette.applications import Starlette
from starlette.staticfiles import StaticFiles

from fastapi_logto import LogtoAuth, OrganizationSource, SettingsError
from fastapi_logto.description.routes import iter_routes
from fastapi_logto.testing import LocalIssuer
from tests.unit.apps import build_organization_router


@pytest.fixture
def logto() -> LogtoAuth:
    return LocalIssuer().auth()


def test_the_routes_are_read_with_what_they_are_mounted_under(logto: LogtoAuth) -> None:
    inner, app = FastAPI(), FastAPI()
    inner.include_router(build_organization_router(logto), prefix="/v2")
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


def test_openapi_says_what_is_required_beyond_scopes(logto: LogtoAuth) -> None:
    app = FastAPI()
    app.include_router(
        build_organization_router(logto, logto.require(organization=OrganizationSource.from_path(), caller="user"))
    )
    billing = logto.for_audience("https://billing.example.test/v1")

    @app.get("/invoices", dependencies=[Depends(billing.require_scopes("read:invoice"))])
    async def invoices() -> None:
        """Lists invoices."""

    logto.install(app)
    schema = app.openapi()

    members = schema["paths"]["/of/{organization_id}/members"]["get"]
    assert members["description"].splitlines() == [
        "Requires:",
        "",
        "- a token for the organization in the path, `{organization_id}`",
        "- a user as the caller",
    ]
    assert schema["paths"]["/invoices"]["get"]["description"] == "Lists invoices."
    assert schema["paths"]["/invoices"]["get"]["security"] == [
        {"Logto-https-billing.example.test-v1": ["read:invoice"]}
    ]
    schemes = schema["components"]["securitySchemes"]
    assert schemes["Logto"]["flows"]["authorizationCode"]["scopes"] == {"profile": "Sign-in only, no API permission"}
    flow = schemes["Logto-https-billing.example.test-v1"]["flows"]["authorizationCode"]
    assert flow["scopes"] == {"profile": "Sign-in only, no API permission", "read:invoice": "GET /invoices"}
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
    with pytest.raises(SettingsError, match="expected strings"):
        logto.for_audience(*audiences)


def test_two_schemes_do_not_share_a_name(logto: LogtoAuth) -> None:
    first = logto.for_audience("https://a/b")

    assert logto.for_audience("https://a/b").scheme_name == first.scheme_name
    with pytest.raises(SettingsError, match="expected a unique name"):
        logto.for_audience("https://a-b")
    assert logto.for_audience("https://a-b", scheme_name="Other").scheme_name == "Other"
    with pytest.raises(SettingsError, match="expected a unique name"):
        logto.for_audience("https://c", scheme_name="Logto")
