"""What OpenAPI says of a protected application."""

from typing import Any
from urllib.parse import parse_qs, urlsplit

from fastapi.openapi.models import OAuth2

from fastapi_logto import LogtoSettings
from fastapi_logto.openapi import build_scheme, describe_needs, describe_scopes


def test_the_scheme_signs_in_at_the_tenant_for_the_resource() -> None:
    scheme = build_scheme(
        LogtoSettings(endpoint="https://a.logto.app", audience=["https://api.example.com/v1", "b"]),
        resource="https://api.example.com/v1",
    )

    assert type(scheme) is OAuth2
    flow = scheme.flows.authorizationCode
    assert flow is not None
    url = urlsplit(flow.authorizationUrl)
    assert f"{url.scheme}://{url.netloc}{url.path}" == "https://a.logto.app/oidc/auth"
    assert parse_qs(url.query) == {"resource": ["https://api.example.com/v1"]}
    assert flow.tokenUrl == "https://a.logto.app/oidc/token"
    assert flow.scopes == {}


def test_the_description_says_what_to_set_until_it_is_set() -> None:
    without = build_scheme(LogtoSettings(endpoint="https://a.logto.app", audience="b"), resource="b").description
    with_client = build_scheme(
        LogtoSettings(endpoint="https://a.logto.app", audience="b", swagger_client_id="spa"), resource="b"
    ).description

    assert without is not None
    assert "LOGTO_SWAGGER_CLIENT_ID" in without
    assert "/docs/oauth2-redirect" in without
    assert with_client is not None
    assert "LOGTO_SWAGGER_CLIENT_ID" not in with_client


def test_scopes_come_from_the_operations_of_the_scheme_alone() -> None:
    schema: dict[str, Any] = {
        "components": {"securitySchemes": {"Logto": {"flows": {"authorizationCode": {"scopes": {}}}}}},
        "paths": {
            "/a": {
                "parameters": [{"security": [{"Logto": ["not an operation"]}]}],
                "get": {"security": [{"Logto": ["write", "read"]}]},
                "post": {"security": [{"Other": ["other"]}, {"Logto": ["admin"]}]},
                "put": {},
            }
        },
    }

    describe_scopes(schema, scheme_names={"Logto"})
    describe_scopes(schema, scheme_names={"Logto"})

    flow = schema["components"]["securitySchemes"]["Logto"]["flows"]["authorizationCode"]
    assert flow["scopes"] == {"admin": "", "read": "", "write": ""}


def test_a_document_without_the_scheme_stays_as_it_is() -> None:
    bare: dict[str, Any] = {"paths": {}}
    bearer: dict[str, Any] = {"components": {"securitySchemes": {"Logto": {"type": "http"}}}}

    describe_scopes(bare, scheme_names={"Logto"})
    describe_scopes(bearer, scheme_names={"Logto"})

    assert bare == {"paths": {}}
    assert bearer == {"components": {"securitySchemes": {"Logto": {"type": "http"}}}}


def test_needs_follow_the_description_once() -> None:
    schema: dict[str, Any] = {
        "paths": {
            "/a": {"parameters": [], "get": {"description": "Reads."}, "post": {}, "put": {}},
            "/b": {"get": {}},
        }
    }
    needs = {("/a", "get"): ["a user"], ("/a", "post"): ["a user", "an actor"], ("/a", "parameters"): ["nothing"]}

    describe_needs(schema, needs)
    describe_needs(schema, needs)

    assert schema["paths"]["/a"]["get"]["description"] == "Reads.\n\nAsks for:\n\n- a user"
    assert schema["paths"]["/a"]["post"]["description"] == "Asks for:\n\n- a user\n- an actor"
    assert schema["paths"]["/a"]["put"] == schema["paths"]["/b"]["get"] == {}
