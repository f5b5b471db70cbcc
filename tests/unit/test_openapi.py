"""The OpenAPI document of a protected application: schemes, scopes, requirements and refusals."""

import copy
import json
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from typing import Annotated, Any
from urllib.parse import parse_qs, urlsplit

import pytest
from fastapi import APIRouter, Depends, FastAPI, Security, params
from fastapi.encoders import jsonable_encoder
from fastapi.openapi.models import OAuth2, OpenAPI
from fastapi.openapi.utils import get_openapi
from fastapi.security import APIKeyHeader, OAuth2PasswordBearer
from pydantic import BaseModel
from starlette.testclient import TestClient

from fastapi_logto import LogtoAuth, OrganizationSource, Requirement, SettingsError, TokenClaims
from fastapi_logto.description.openapi import describe
from fastapi_logto.introspection import Introspection
from fastapi_logto.testing import LocalIssuer, bearer
from tests.unit.apps import API, CountingApp

issuer = LocalIssuer()


@pytest.fixture
def logto() -> LogtoAuth:
    return issuer.auth()


def document(*routes: tuple[str, Any], auth: LogtoAuth, **install: Any) -> dict[str, Any]:
    """Return the document of an application with a GET route for each path and its dependencies."""
    app = FastAPI()
    auth.install(app, **install)
    add_routes(app, *routes)
    return app.openapi()


def add_routes(app: FastAPI | APIRouter, *routes: tuple[str, Any]) -> None:
    for path, asked in routes:
        several: tuple[object, ...] = tuple(asked) if isinstance(asked, Together) else (asked,)
        dependencies = [mark(one) for one in several]
        app.get(path, dependencies=dependencies)(read)


class Together(tuple[object, ...]):
    """Several dependencies of one route."""

    __slots__ = ()


def mark(dependency: Any) -> params.Depends:
    return dependency if isinstance(dependency, params.Depends) else Depends(dependency)


async def read() -> bool:
    return True


def operation(schema: dict[str, Any], path: str) -> dict[str, Any]:
    found: dict[str, Any] = schema["paths"][path]["get"]
    return found


class TestScheme:
    def test_it_signs_in_at_the_tenant_for_the_resource(self) -> None:
        scheme = LogtoAuth(endpoint="https://a.logto.app", audience=["https://api.example.com/v1", "b"]).model

        assert type(scheme) is OAuth2
        flow = scheme.flows.authorizationCode
        assert flow is not None
        url = urlsplit(flow.authorizationUrl)
        assert f"{url.scheme}://{url.netloc}{url.path}" == "https://a.logto.app/oidc/auth"
        assert parse_qs(url.query) == {"resource": ["https://api.example.com/v1"]}
        assert flow.tokenUrl == "https://a.logto.app/oidc/token"
        assert flow.scopes == {}

    def test_it_signs_in_for_the_first_of_several_audiences_in_alphabetical_order(self) -> None:
        scheme = LogtoAuth(endpoint="https://a.logto.app", audience="c").for_audience("b", "a").model

        assert type(scheme) is OAuth2
        flow = scheme.flows.authorizationCode
        assert flow is not None
        assert flow.authorizationUrl == "https://a.logto.app/oidc/auth?resource=a"

    @pytest.mark.parametrize(
        ("arguments", "options", "hint"),
        [
            ({}, {}, "register `<URL of this API>/docs/oauth2-redirect` as its redirect URI"),
            ({}, {"swagger_ui_oauth2_redirect_url": "/back"}, "register `<URL of this API>/back` as its"),
            (
                {"public_url": "https://a.example/v1/"},
                {},
                "register `https://a.example/v1/docs/oauth2-redirect` as its",
            ),
            ({"swagger_client_id": "spa"}, {}, None),
            ({"swagger_client_id": "spa"}, {"docs_url": None}, None),
            ({"swagger_client_id": "spa"}, {"swagger_ui_oauth2_redirect_url": None}, None),
            ({}, {"docs_url": None}, None),
            ({}, {"swagger_ui_oauth2_redirect_url": None}, None),
        ],
    )
    def test_the_description_says_what_to_set_until_it_is_set(
        self, arguments: dict[str, Any], options: dict[str, Any], hint: str | None
    ) -> None:
        auth = issuer.auth(**arguments)
        app = FastAPI(**options)
        auth.install(app)
        add_routes(app, ("/a", auth))

        description = app.openapi()["components"]["securitySchemes"]["Logto"]["description"]

        assert ("LOGTO_SWAGGER_CLIENT_ID" in description) is (hint is not None)
        assert (hint or "") in description
        # With a client id, a docs page of the application itself can sign in.
        signs_in = "swagger_client_id" in arguments or None not in options.values()
        for advice in (
            "Leave `client_secret` empty.",
            "*Access denied*: the user has none of the selected scopes. Select `profile` too.",
            "*Token expired*, or other scopes needed: press *Logout* and *Close*, then authorize again.",
            f"[sign out of Logto]({issuer.issuer}/session/end), then authorize again.",
        ):
            assert (advice in description) is signs_in
        first, *middle, last = description.split("\n\n")
        assert first.startswith("Access tokens of Logto at ")
        assert last.startswith("Do not add the scope `openid`")
        assert len(middle) == (4 if signs_in else 0)
        if "swagger_client_id" in arguments:
            assert middle[0] == "Leave `client_secret` empty."

    def test_the_description_is_a_text_of_short_paragraphs(self, logto: LogtoAuth) -> None:
        scheme = document(("/a", logto), auth=logto)["components"]["securitySchemes"]["Logto"]

        assert scheme["description"] == (
            f"Access tokens of Logto at `{issuer.endpoint}` for the API resource `{API}`.\n\n"
            "To sign in here, create a single-page application in Logto, register "
            "`<URL of this API>/docs/oauth2-redirect` as its redirect URI, and set `LOGTO_SWAGGER_CLIENT_ID` to its "
            "client id. Leave `client_secret` empty.\n\n"
            "*Access denied*: the user has none of the selected scopes. Select `profile` too.\n\n"
            "*Token expired*, or other scopes needed: press *Logout* and *Close*, then authorize again. Without "
            "*Close* in between, Logto may return `invalid_grant`.\n\n"
            f"*Another user*: press *Logout* and *Close*, [sign out of Logto]({issuer.issuer}/session/end), then "
            "authorize again.\n\n"
            "Do not add the scope `openid`: Logto would issue an opaque token, which this API does not accept."
        )

    def test_openid_is_not_offered_because_its_tokens_are_opaque(self, logto: LogtoAuth) -> None:
        scheme = document(("/a", logto.require_scopes("openid", "b")), auth=logto)["components"]["securitySchemes"]

        assert set(scheme["Logto"]["flows"]["authorizationCode"]["scopes"]) == {"b", "profile"}
        assert "Do not add the scope `openid`" in scheme["Logto"]["description"]

    def test_openid_is_offered_where_opaque_tokens_are_accepted(self) -> None:
        opaque = Introspection(client_id="machine", client_secret="secret", allowed_clients=["spa"])
        auth = LogtoAuth(endpoint=issuer.endpoint, audience=API, introspection=opaque)
        billing = auth.for_audience("https://billing.example.test", scheme_name="Billing")

        schema = document(
            ("/a", auth.require_scopes("openid")), ("/b", billing.require_scopes("openid", "b")), auth=auth
        )

        schemes = schema["components"]["securitySchemes"]
        assert set(schemes["Logto"]["flows"]["authorizationCode"]["scopes"]) == {"openid", "profile"}
        assert "openid" not in schemes["Logto"]["description"]
        # Opaque tokens have no audience, so they are only for the API of the settings.
        assert set(schemes["Billing"]["flows"]["authorizationCode"]["scopes"]) == {"b", "profile"}

    @pytest.mark.parametrize("is_first", [True, False], ids=["organization first", "organization last"])
    def test_a_route_of_an_organization_does_not_decide_whether_openid_is_offered(self, *, is_first: bool) -> None:
        opaque = Introspection(client_id="machine", client_secret="secret", allowed_clients=["spa"])
        auth = LogtoAuth(endpoint=issuer.endpoint, audience=API, introspection=opaque)
        routes = (("/a/{organization_id}", auth.require_organization()), ("/b", auth.require_scopes("openid")))

        scheme = document(*(routes if is_first else routes[::-1]), auth=auth)["components"]["securitySchemes"]["Logto"]

        assert set(scheme["flows"]["authorizationCode"]["scopes"]) == {"openid", "profile"}

    def test_a_user_without_permissions_can_always_sign_in(self, logto: LogtoAuth) -> None:
        schema = document(
            ("/a", logto), ("/b", logto.require_user()), ("/c", logto.require_any_scope("c", "d")), auth=logto
        )

        assert schema["components"]["securitySchemes"]["Logto"]["flows"]["authorizationCode"]["scopes"] == {
            "c": "GET /c",
            "d": "GET /c",
            "profile": "Sign-in only, no API permission",
        }

    def test_scopes_that_only_organizations_grant_are_not_offered(self, logto: LogtoAuth) -> None:
        schema = document(
            ("/a/{organization_id}", logto.require_organization("read", "write")),
            ("/b/{organization_id}", Together((logto.require_organization("both"), logto.require_scopes("plain")))),
            ("/c", logto.require_scopes("read")),
            auth=logto,
        )

        assert schema["components"]["securitySchemes"]["Logto"]["flows"]["authorizationCode"]["scopes"] == {
            "profile": "Sign-in only, no API permission",
            "read": "GET /c",
        }
        assert operation(schema, "/a/{organization_id}")["security"] == [{"Logto": ["read", "write"]}]

    def test_an_organization_of_one_scheme_hides_no_scope_of_another(self, logto: LogtoAuth) -> None:
        billing = logto.for_audience("https://billing.example.test", scheme_name="Billing")
        both = Together((logto.require_organization("read"), billing.require_scopes("pay")))

        schemes = document(("/a/{organization_id}", both), auth=logto)["components"]["securitySchemes"]

        assert set(schemes["Logto"]["flows"]["authorizationCode"]["scopes"]) == {"profile"}
        assert set(schemes["Billing"]["flows"]["authorizationCode"]["scopes"]) == {"pay", "profile"}

    def test_a_scope_that_is_required_keeps_its_meaning(self, logto: LogtoAuth) -> None:
        schema = document(("/a", logto), ("/b", logto.require_scopes("profile")), auth=logto)

        assert schema["components"]["securitySchemes"]["Logto"]["flows"]["authorizationCode"]["scopes"] == {
            "profile": "GET /b"
        }

    def test_it_lists_the_scopes_of_the_operations_of_this_very_application(self, logto: LogtoAuth) -> None:
        document(("/other", logto.require_scopes("other")), auth=logto)

        schema = document(
            ("/a", logto.require_scopes("read", "write")),
            ("/b", logto.require_any_scope("read", "admin")),
            ("/c", Security(logto, scopes=["bare"])),
            ("/d", logto.require_user("read")),
            ("/e", logto.require_scopes("read")),
            auth=logto,
            scopes={"write": "Change what is yours", "unheard-of": "Nobody asks for it"},
        )

        assert schema["components"]["securitySchemes"]["Logto"]["flows"]["authorizationCode"]["scopes"] == {
            "admin": "GET /b",
            "bare": "GET /c",
            "profile": "Sign-in only, no API permission",
            "read": "GET /a, GET /b, GET /d and 1 more",
            "write": "Change what is yours",
        }

    @pytest.mark.parametrize(
        ("count", "named"),
        [
            (1, "GET /0"),
            (3, "GET /0, GET /1, GET /2"),
            (4, "GET /0, GET /1, GET /2 and 1 more"),
            (6, "GET /0, GET /1, GET /2 and 3 more"),
        ],
    )
    def test_three_operations_of_a_scope_are_named_and_the_others_counted(
        self, logto: LogtoAuth, count: int, named: str
    ) -> None:
        routes = ((f"/{number}", logto.require_scopes("read")) for number in range(count))

        scheme = document(*routes, auth=logto)["components"]["securitySchemes"]["Logto"]

        assert scheme["flows"]["authorizationCode"]["scopes"]["read"] == named

    def test_routes_and_routers_that_come_after_the_installation_are_listed(self, logto: LogtoAuth) -> None:
        app = FastAPI()
        logto.install(app)
        router = APIRouter(prefix="/late")
        add_routes(router, ("/a", logto.require_scopes("later")))
        app.include_router(router)
        add_routes(app, ("/b", logto.require_scopes("late")))

        schema = app.openapi()

        assert schema["components"]["securitySchemes"]["Logto"]["flows"]["authorizationCode"]["scopes"] == {
            "late": "GET /b",
            "later": "GET /late/a",
            "profile": "Sign-in only, no API permission",
        }
        assert operation(schema, "/late/a")["security"] == [{"Logto": ["later"]}]

    def test_the_document_exists_without_settings(self) -> None:
        auth = LogtoAuth()

        schema = document(("/a", auth.require_scopes("a")), auth=auth)

        scheme = schema["components"]["securitySchemes"]["Logto"]
        assert (scheme["type"], scheme["scheme"], scheme["bearerFormat"]) == ("http", "bearer", "JWT")
        assert "LOGTO_ENDPOINT" in scheme["description"]
        assert operation(schema, "/a")["security"] == [{"Logto": ["a"]}]


SECURITY: dict[str, tuple[Callable[[LogtoAuth], Any], list[dict[str, list[str]]]]] = {
    "any token": (lambda auth: auth, [{"Logto": []}]),
    "all scopes": (lambda auth: auth.require_scopes("a", "b"), [{"Logto": ["a", "b"]}]),
    "one of some": (lambda auth: auth.require_any_scope("a", "b"), [{"Logto": ["a"]}, {"Logto": ["b"]}]),
    "all and one of some": (
        lambda auth: auth.require(scopes=["a"], any_scope=["b", "c"]),
        [{"Logto": ["a", "b"]}, {"Logto": ["a", "c"]}],
    ),
    "one of some, of which one is asked for anyway": (
        lambda auth: Together((auth.require_scopes("a"), auth.require_any_scope("a", "b"))),
        [{"Logto": ["a"]}],
    ),
    "one of some, twice": (
        lambda auth: Together((auth.require_any_scope("a", "b"), auth.require_any_scope("c", "d"))),
        [{"Logto": ["a", "c"]}, {"Logto": ["a", "d"]}, {"Logto": ["b", "c"]}, {"Logto": ["b", "d"]}],
    ),
    "as many alternatives as anybody would read": (
        lambda auth: auth.require_any_scope(*(f"s{number}" for number in range(16))),
        [{"Logto": [f"s{number}"]} for number in range(16)],
    ),
    "more alternatives than anybody would read, in two steps": (
        lambda auth: Together((auth.require_any_scope(*"abcde"), auth.require_any_scope(*"wxyz"))),
        [{"Logto": [scope]} for scope in "abcde"],
    ),
    "more alternatives than anybody would read": (
        lambda auth: auth.require_any_scope(*(f"s{number}" for number in range(17))),
        [{"Logto": []}],
    ),
    "optional": (lambda auth: auth.optional, [{}, {"Logto": []}]),
    "optional, but for a scope": (lambda auth: Security(auth.optional, scopes=["a"]), [{"Logto": ["a"]}]),
    "optional below a requirement": (
        lambda auth: Together((auth.require_user("a"), auth.optional)),
        [{"Logto": ["a"]}],
    ),
    "two audiences at once": (
        lambda auth: Together(
            (auth.require_scopes("a"), auth.for_audience("https://b", scheme_name="B").require_scopes("b"))
        ),
        [{"Logto": ["a"], "B": ["b"]}],
    ),
    "an organization": (
        lambda auth: auth.require_organization("a", organization=OrganizationSource.from_token()),
        [{"Logto": ["a"]}],
    ),
    "somebody else's scheme beside": (
        lambda auth: Together((auth.require_scopes("a"), APIKeyHeader(name="x-key", scheme_name="Key"))),
        [{"Logto": ["a"]}, {"Key": []}],
    ),
    "another authorization server's scheme with scopes": (
        lambda auth: Together(
            (
                auth.require_scopes("a"),
                Security(OAuth2PasswordBearer("https://b.example/token", scheme_name="Other"), scopes=["x"]),
            )
        ),
        [{"Logto": ["a"]}, {"Other": ["x"]}],
    ),
}


@pytest.mark.parametrize("name", SECURITY)
def test_an_operation_says_which_schemes_and_scopes_it_requires(logto: LogtoAuth, name: str) -> None:
    build, security = SECURITY[name]

    schema = document(("/a", build(logto)), auth=logto)

    assert operation(schema, "/a")["security"] == security
    OpenAPI.model_validate(schema)


def is_pro(claims: TokenClaims) -> bool:
    """The plan `pro`."""
    return getattr(claims, "plan", None) == "pro"


# The requirement, and a valid token that does not satisfy it.
REFUSALS: dict[str, tuple[Callable[[LogtoAuth], Requirement | Any], str]] = {
    "scopes": (lambda auth: auth.require_scopes("a", "b"), issuer.access_token(scopes=["another"])),
    "one scope": (lambda auth: auth.require_scopes("a"), issuer.access_token(scopes=["another"])),
    "bare scopes": (lambda auth: Security(auth, scopes=["a"]), issuer.access_token(scopes=["another"])),
    "any scope": (lambda auth: auth.require_any_scope("a", "b"), issuer.access_token(scopes=["another"])),
    "user": (lambda auth: auth.require_user(), issuer.machine_token()),
    "machine": (lambda auth: auth.require_machine(), issuer.access_token()),
    "client": (lambda auth: auth.require(clients=["spa"]), issuer.access_token(client_id="other")),
    "actor": (lambda auth: auth.require(actor=True), issuer.access_token()),
    "no actor": (lambda auth: auth.require(actor=False), issuer.access_token(actor="support")),
    "claims": (lambda auth: auth.require(claims=is_pro), issuer.access_token()),
    "organization": (
        lambda auth: auth.require_organization(organization=OrganizationSource.from_header("x-organization")),
        issuer.access_token(),
    ),
    "another organization": (
        lambda auth: auth.require_organization(organization=OrganizationSource.from_header("x-organization")),
        issuer.organization_token("B"),
    ),
    "any organization": (
        lambda auth: auth.require_organization(organization=OrganizationSource.from_token()),
        issuer.access_token(),
    ),
}


@pytest.mark.parametrize("name", REFUSALS)
def test_the_example_of_a_403_is_the_actual_response(logto: LogtoAuth, name: str) -> None:
    build, token = REFUSALS[name]
    app = FastAPI()
    logto.install(app)
    add_routes(app, ("/a", build(logto)))

    response = operation(app.openapi(), "/a")["responses"]["403"]
    answer = TestClient(app).get("/a", headers={**bearer(token), "x-organization": "A"})

    assert answer.status_code == 403
    body = answer.json()
    example = response["content"]["application/json"]["examples"][body["detail"]["reason"]]
    assert example["value"] == body
    assert response["description"] == "The token is valid, but it does not allow this operation."
    if len(response["content"]["application/json"]["examples"]) == 1:
        assert response["headers"]["WWW-Authenticate"]["example"] == answer.headers["WWW-Authenticate"]


@pytest.mark.parametrize(
    ("name", "reasons"),
    [
        ("any scope", {"scope"}),
        ("user", {"user_required"}),
        ("machine", {"machine_required"}),
        ("client", {"client_not_allowed"}),
        ("actor", {"actor_required"}),
        ("no actor", {"actor_not_allowed"}),
        ("claims", {"claims_not_allowed"}),
        ("organization", {"organization_required", "organization_mismatch"}),
        ("any organization", {"organization_required"}),
    ],
)
def test_a_403_has_an_example_for_each_condition_and_no_other_one(
    logto: LogtoAuth, name: str, reasons: set[str]
) -> None:
    schema = document(("/a", REFUSALS[name][0](logto)), auth=logto)

    assert set(operation(schema, "/a")["responses"]["403"]["content"]["application/json"]["examples"]) == reasons


class TestAnswers:
    def test_every_protected_operation_has_them_and_no_other_one(self, logto: LogtoAuth) -> None:
        app = FastAPI()
        logto.install(app)
        add_routes(app, ("/a", logto), ("/b", logto.optional), ("/c", logto.require_scopes("c")))
        app.get("/open")(read)

        schema = app.openapi()

        for path in ("/a", "/b", "/c"):
            assert list(operation(schema, path)["responses"]) == ["200", "401", "403", "503"]
        assert list(operation(schema, "/open")["responses"]) == ["200"]
        assert "security" not in operation(schema, "/open")

    def test_bodies_headers_and_examples_are_those_of_the_answers(self, logto: LogtoAuth) -> None:
        app = FastAPI()
        logto.install(app)
        add_routes(app, ("/a", logto), ("/b", logto.optional))
        schema = app.openapi()
        shared = schema["components"]["responses"]

        assert operation(schema, "/a")["responses"]["401"] == {"$ref": "#/components/responses/LogtoUnauthorized"}
        assert operation(schema, "/b")["responses"]["401"] == {"$ref": "#/components/responses/LogtoTokenRefused"}
        assert operation(schema, "/a")["responses"]["503"] == {"$ref": "#/components/responses/LogtoUnavailable"}
        missing, unavailable = shared["LogtoUnauthorized"], shared["LogtoUnavailable"]
        answer = TestClient(app).get("/a")
        content = missing["content"]["application/json"]
        assert content["examples"]["header_missing"]["value"] == answer.json()
        assert content["schema"] == {"$ref": "#/components/schemas/LogtoRefusal"}
        assert set(missing["headers"]) == {"WWW-Authenticate"}
        assert "header_missing" not in shared["LogtoTokenRefused"]["content"]["application/json"]["examples"]
        assert set(unavailable["headers"]) == {"Retry-After"}
        assert unavailable["content"]["application/json"]["examples"]["provider_unavailable"]["value"]["detail"][
            "code"
        ] == ("provider_unavailable")

    def test_a_route_that_requires_no_more_than_a_token_has_no_example_of_a_403(self, logto: LogtoAuth) -> None:
        response = operation(document(("/a", logto), auth=logto), "/a")["responses"]["403"]

        assert "examples" not in response["content"]["application/json"]
        assert response["description"] == (
            "The token is valid, but it does not allow this operation. Currently any valid token is accepted."
        )
        assert list(response["headers"]) == ["WWW-Authenticate"]
        assert "example" not in response["headers"]["WWW-Authenticate"]

    def test_responses_that_the_application_declares_itself_are_kept(self, logto: LogtoAuth) -> None:
        class Mine(BaseModel):
            code: str

        app = FastAPI()
        logto.install(app)
        own: dict[int | str, dict[str, Any]] = {
            401: {"model": Mine},
            403: {"description": "Not yours."},
            503: {"description": "Closed at night.", "headers": {"X-Mine": {"schema": {"type": "string"}}}},
            "default": {"description": "Anything else."},
        }
        app.get("/a", dependencies=[Depends(logto.require_scopes("a"))], responses=own)(read)

        responses = operation(app.openapi(), "/a")["responses"]

        assert list(responses) == ["200", "401", "403", "503", "default"]
        assert responses["401"]["content"]["application/json"]["schema"] == {"$ref": "#/components/schemas/Mine"}
        assert set(responses["401"]["headers"]) == {"WWW-Authenticate"}
        assert responses["403"]["description"] == "Not yours."
        assert set(responses["403"]["content"]["application/json"]["examples"]) == {"scope"}
        assert set(responses["503"]["headers"]) == {"X-Mine"}
        assert responses["503"]["content"]["application/json"]["schema"] == {
            "$ref": "#/components/schemas/LogtoRefusal"
        }

    def test_each_shared_response_says_what_a_client_can_rely_on(self, logto: LogtoAuth) -> None:
        shared = document(("/a", logto), auth=logto)["components"]["responses"]

        assert {name: response["description"] for name, response in shared.items()} == {
            "LogtoUnauthorized": "The access token is missing or invalid.",
            "LogtoTokenRefused": "The access token is invalid. (Requests without a token are allowed.)",
            "LogtoUnavailable": "The token can't be verified now, because the identity provider is unavailable.",
        }
        assert shared["LogtoUnavailable"]["headers"] == {
            "Retry-After": {
                "description": "Seconds to wait before a retry.",
                "schema": {"type": "integer", "minimum": 1},
                "example": 1,
            }
        }
        for name in ("LogtoUnauthorized", "LogtoTokenRefused"):
            assert shared[name]["headers"] == {
                "WWW-Authenticate": {
                    "description": "The RFC 6750 challenge: error, description and required scopes.",
                    "schema": {"type": "string"},
                    "example": (
                        'Bearer error="invalid_token", error_description="This is an opaque token, which Logto issues '
                        'without a resource; request the token with the resource indicator of this API"'
                    ),
                }
            }
        summaries = {
            name: [example["summary"] for example in response["content"]["application/json"]["examples"].values()]
            for name, response in shared.items()
        }
        invalid = ["invalid_token, expired", "invalid_token, audience", "invalid_token, opaque_token"]
        assert summaries == {
            "LogtoUnauthorized": ["auth.authorization_header_missing, header_missing", *invalid],
            "LogtoTokenRefused": invalid,
            "LogtoUnavailable": ["provider_unavailable, provider_unavailable"],
        }

    def test_the_operations_of_each_method_have_them(self, logto: LogtoAuth) -> None:
        methods = ["delete", "get", "head", "options", "patch", "post", "put", "trace"]
        app = FastAPI()
        logto.install(app)
        for method in methods:
            app.api_route("/a", methods=[method], dependencies=[Depends(logto)])(read)

        operations = app.openapi()["paths"]["/a"]

        assert sorted(operations) == methods
        for described in operations.values():
            assert described["security"] == [{"Logto": []}]
            assert list(described["responses"]) == ["200", "401", "403", "503"]

    def test_components_that_the_application_defines_itself_take_precedence(self, logto: LogtoAuth) -> None:
        app = FastAPI()
        build = app.openapi
        own = {
            "responses": {"Mine": {"description": "Mine."}, "LogtoUnavailable": {"description": "Closed at night."}},
            "schemas": {"LogtoRefusalDetail": {"type": "object"}},
        }
        app.openapi = lambda: (  # type: ignore[method-assign]
            (schema := build()) | {"components": {**schema["components"], **copy.deepcopy(own)}}
        )
        logto.install(app)
        add_routes(app, ("/a", logto))

        components = app.openapi()["components"]

        assert set(components["responses"]) == {"LogtoTokenRefused", "LogtoUnauthorized", "LogtoUnavailable", "Mine"}
        assert {name: components["responses"][name] for name in own["responses"]} == own["responses"]
        assert components["schemas"]["LogtoRefusalDetail"] == {"type": "object"}
        assert list(components["schemas"]) == ["LogtoRefusal", "LogtoRefusalDetail"]

    def test_the_components_occur_once_and_are_typed(self, logto: LogtoAuth) -> None:
        schemas = document(("/a", logto), auth=logto)["components"]["schemas"]

        assert list(schemas) == sorted(schemas)
        assert set(schemas) == {"LogtoRefusal", "LogtoRefusalDetail"}
        detail = schemas["LogtoRefusalDetail"]
        assert detail["required"] == ["code", "reason", "message"]
        assert "insufficient_scope" in detail["properties"]["code"]["enum"]
        assert "header_missing" in detail["properties"]["reason"]["enum"]
        assert "$defs" not in json.dumps(schemas)

    def test_the_components_show_the_claims_of_the_tenant(self) -> None:
        class MyClaims(TokenClaims):
            """Claims with a plan."""

            plan: str

        auth: LogtoAuth[MyClaims] = LogtoAuth(
            endpoint="https://a.logto.app", audience=API, claims_model=MyClaims, scheme_name="Mine"
        )
        app = FastAPI()
        auth.install(app)

        @app.get("/a")
        async def read_claims(claims: Annotated[MyClaims, Depends(auth)]) -> MyClaims:
            return claims

        add_routes(app, ("/b", auth))
        schemas = app.openapi()["components"]["schemas"]

        assert schemas["MyClaims"]["properties"]["plan"] == {"type": "string", "title": "Plan"}
        assert "TokenClaims" not in schemas

    @pytest.mark.parametrize("returns_claims", [False, True])
    def test_a_model_of_the_application_keeps_its_name_and_meaning(
        self, logto: LogtoAuth, *, returns_claims: bool
    ) -> None:
        class Actor(BaseModel):
            """Somebody in a film."""

            stage_name: str

        app = FastAPI()
        logto.install(app)

        @app.get("/actors", dependencies=[Depends(logto)])
        async def list_actors() -> list[Actor]:
            return []

        if returns_claims:

            @app.get("/claims")
            async def read_claims(claims: Annotated[TokenClaims, Depends(logto)]) -> TokenClaims:
                return claims

        schema = app.openapi()
        schemas = schema["components"]["schemas"]

        def follow(reference: dict[str, str]) -> set[str]:
            return set(schemas[reference["$ref"].rpartition("/")[2]]["properties"])

        content = operation(schema, "/actors")["responses"]["200"]["content"]["application/json"]
        assert follow(content["schema"]["items"]) == {"stage_name"}
        assert ("TokenClaims" in schemas) is returns_claims
        if returns_claims:
            assert follow(schemas["TokenClaims"]["properties"]["act"]["anyOf"][0]) == {"sub", "act"}
        # No component without a reference.
        assert {name for name in schemas if f'schemas/{name}"' not in json.dumps(schema)} == set()

    def test_an_application_without_protection_has_none_of_it(self, logto: LogtoAuth) -> None:
        app = FastAPI()
        logto.install(app)
        app.get("/open")(read)

        assert "components" not in app.openapi()


def read_scopes_selected(app: FastAPI) -> object:
    return jsonable_encoder(app.swagger_ui_init_oauth).get("scopes")


class TestSelectedScopes:
    def test_all_offered_scopes_are_selected_also_those_of_routes_that_are_added_later(self, logto: LogtoAuth) -> None:
        app = FastAPI()
        logto.install(app)
        billing = logto.for_audience("https://billing.example.test", scheme_name="Billing")
        add_routes(app, ("/a", logto.require_scopes("b", "a")), ("/b", billing.require_scopes("pay")))

        assert read_scopes_selected(app) == ["a", "b", "pay", "profile"]
        assert '"scopes": ["a", "b", "pay", "profile"]' in TestClient(app).get("/docs").text

    def test_openid_is_not_selected_because_it_makes_tokens_opaque(self) -> None:
        opaque = Introspection(client_id="machine", client_secret="secret", allowed_clients=["spa"])
        auth = LogtoAuth(endpoint=issuer.endpoint, audience=API, introspection=opaque)
        app = FastAPI()
        auth.install(app)
        add_routes(app, ("/a", auth.require_scopes("openid", "a")))

        assert read_scopes_selected(app) == ["a", "profile"]

    def test_the_options_of_the_application_take_precedence(self, logto: LogtoAuth) -> None:
        app = FastAPI(swagger_ui_init_oauth={"scopes": "a"})
        logto.install(app)
        add_routes(app, ("/a", logto.require_scopes("a", "b")))

        assert read_scopes_selected(app) == "a"

    def test_none_are_selected_on_a_page_that_also_signs_in_elsewhere(self, logto: LogtoAuth) -> None:
        elsewhere = OAuth2PasswordBearer("https://elsewhere.example/token", scheme_name="Elsewhere")
        app = FastAPI()
        logto.install(app)
        add_routes(app, ("/a", logto.require_scopes("a")), ("/b", elsewhere))

        assert read_scopes_selected(app) is None

    def test_other_kinds_of_schemes_and_missing_settings_do_not_matter(self, logto: LogtoAuth) -> None:
        unset = LogtoAuth(scheme_name="Unset")
        key = APIKeyHeader(name="x-key", scheme_name="Key")
        app = FastAPI()
        logto.install(app)
        add_routes(app, ("/a", logto.require_scopes("a")), ("/b", unset), ("/c", key))

        assert read_scopes_selected(app) == ["a", "profile"]


class TestCustomDocument:
    """FastAPI's recipe to extend OpenAPI: a function of the application in place of `app.openapi`."""

    @staticmethod
    def build(app: FastAPI) -> Callable[[], dict[str, Any]]:
        def custom() -> dict[str, Any]:
            if not app.openapi_schema:
                app.openapi_schema = get_openapi(title="Mine", version="1", routes=app.routes)
            return app.openapi_schema

        return custom

    def test_one_that_is_set_before_the_installation_is_described(self, logto: LogtoAuth) -> None:
        app = FastAPI()
        app.openapi = self.build(app)  # type: ignore[method-assign]
        logto.install(app)
        add_routes(app, ("/a", logto.require_scopes("a")))

        with TestClient(app) as client:
            schema = client.get("/openapi.json").json()

        assert schema["info"]["title"] == "Mine"
        assert list(operation(schema, "/a")["responses"]) == ["200", "401", "403", "503"]

    @pytest.mark.parametrize("is_read_before_the_start", [False, True])
    def test_one_that_calls_the_function_before_it_is_described(
        self, logto: LogtoAuth, *, is_read_before_the_start: bool
    ) -> None:
        app = FastAPI()
        logto.install(app)
        build = app.openapi
        app.openapi = lambda: {**build(), "x-logo": "mine"}  # type: ignore[method-assign]
        add_routes(app, ("/a", logto.require_scopes("a")))
        if is_read_before_the_start:
            app.openapi()

        with TestClient(app) as client:
            schema = client.get("/openapi.json").json()

        assert schema["x-logo"] == "mine"
        assert list(operation(schema, "/a")["responses"]) == ["200", "401", "403", "503"]

    def test_one_that_ignores_the_function_before_it_is_refused_at_start(self, logto: LogtoAuth) -> None:
        app = FastAPI()
        logto.install(app)
        add_routes(app, ("/a", logto.require_scopes("a")))
        app.openapi = self.build(app)  # type: ignore[method-assign]

        with pytest.raises(SettingsError) as caught, TestClient(app):
            pass

        assert str(caught.value) == (
            "app.openapi: expected the function that auth.install(app) set, or one that calls it, found another one, "
            "so the docs page would show no scopes and no error responses; set app.openapi before auth.install(app)"
        )

    def test_one_between_two_installations_is_described(self, logto: LogtoAuth) -> None:
        app = FastAPI()
        logto.install(app)
        app.openapi = self.build(app)  # type: ignore[method-assign]
        issuer.auth(scheme_name="Other").install(app)
        add_routes(app, ("/a", logto.require_scopes("a")))

        with TestClient(app) as client:
            schema = client.get("/openapi.json").json()

        assert list(operation(schema, "/a")["responses"]) == ["200", "401", "403", "503"]

    def test_one_may_need_what_the_lifespan_prepares(self, logto: LogtoAuth) -> None:
        @asynccontextmanager
        async def lifespan(app: FastAPI) -> AsyncGenerator[None]:
            app.state.logo = "mine"
            yield

        app = FastAPI(lifespan=lifespan)
        logto.install(app)
        build = app.openapi
        app.openapi = lambda: {**build(), "x-logo": app.state.logo}  # type: ignore[method-assign]
        add_routes(app, ("/a", logto))

        with TestClient(app) as client:
            assert client.get("/openapi.json").json()["x-logo"] == "mine"

    def test_without_descriptions_any_function_is_accepted(self, logto: LogtoAuth) -> None:
        app = FastAPI()
        logto.install(app, swagger=False)
        app.openapi = self.build(app)  # type: ignore[method-assign]

        with TestClient(app) as client:
            assert client.get("/openapi.json").json()["info"]["title"] == "Mine"


class TestTwice:
    def test_the_routes_are_read_once_however_often_the_document_is_requested(self, logto: LogtoAuth) -> None:
        app = CountingApp()
        logto.install(app)
        add_routes(app, ("/a", logto))
        first = app.openapi()
        before = app.reads

        assert before > 0
        assert app.openapi() is first
        assert app.reads == before

    def test_a_second_call_and_a_second_installation_change_nothing(self, logto: LogtoAuth) -> None:
        routes = (
            ("/a", logto.require(any_scope=["a", "b"], caller="user")),
            ("/b", Together((logto.optional, APIKeyHeader(name="x-key", scheme_name="Key")))),
        )
        app = FastAPI()
        logto.install(app)
        add_routes(app, *routes)
        once = copy.deepcopy(app.openapi())
        assert app.openapi() == once

        # Another installation around a function of the application describes the same document once more.
        build = app.openapi
        app.openapi = lambda: {**build()}  # type: ignore[method-assign]
        issuer.auth(scheme_name="Other").install(app)

        assert app.openapi() == once

    def test_two_documents_share_nothing(self, logto: LogtoAuth) -> None:
        first = document(("/a", logto), auth=logto)
        second = document(("/a", logto), auth=logto)

        first["components"]["responses"]["LogtoUnavailable"]["description"] = "Edited."
        first["components"]["schemas"]["LogtoRefusal"]["description"] = "Edited."

        assert "Edited." not in json.dumps(second)
        assert "Edited." not in json.dumps(document(("/a", logto), auth=logto))

    def test_a_minimal_document_is_not_changed(self) -> None:
        bare: dict[str, Any] = {"paths": {"/a": {"parameters": [], "get": {}}}}

        describe(bare, FastAPI())

        assert bare == {"paths": {"/a": {"parameters": [], "get": {}}}}


def test_requirements_are_added_to_the_description_once(logto: LogtoAuth) -> None:
    app = FastAPI()
    logto.install(app)
    dependencies = [Depends(logto.require(caller="user", actor=False)), Depends(logto.require_user())]
    app.get("/a", dependencies=dependencies, description="Reads.")(read)
    app.get("/b", dependencies=dependencies)(read)
    app.get("/c", dependencies=[Depends(logto)])(read)

    schema = app.openapi()
    issuer.auth(scheme_name="Other").install(app)
    app.openapi()

    lines = "Requires:\n\n- a user as the caller\n- a token without an actor"
    assert operation(schema, "/a")["description"] == f"Reads.\n\n{lines}"
    assert operation(schema, "/b")["description"] == lines
    assert "description" not in operation(schema, "/c")
