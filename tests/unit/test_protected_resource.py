"""The metadata that tells clients where to request tokens, and the challenges that name it."""

from collections.abc import Callable
from typing import Annotated, Any

import pytest
from fastapi import APIRouter, Depends, FastAPI, Request, WebSocket
from fastapi.middleware.cors import CORSMiddleware
from starlette.middleware.errors import ServerErrorMiddleware
from starlette.testclient import TestClient, WebSocketDenialResponse

from fastapi_logto import LogtoAuth, LogtoSettings, OrganizationSource, SettingsError, mount_protected
from fastapi_logto.description.metadata_pages import ResourcePages
from fastapi_logto.testing import LocalIssuer, bearer, routes
from tests.unit.apps import API, CountingApp

WELL_KNOWN = "/.well-known/oauth-protected-resource"
issuer = LocalIssuer()


def build_app(auth: LogtoAuth, **install: Any) -> FastAPI:
    app = FastAPI()
    auth.install(app, **install)

    @app.get("/read", dependencies=[Depends(auth.require_scopes("read"))])
    async def read() -> bool:
        return True

    @app.get("/organization", dependencies=[Depends(auth.require_organization("of", organization=BY_HEADER))])
    async def read_of_organization() -> bool:
        return True

    return app


BY_HEADER = OrganizationSource.from_header("x-organization", issuer="any")


def ask(app: FastAPI, path: str = "", **headers: str) -> dict[str, Any]:
    answer = TestClient(app).get(WELL_KNOWN + path, headers=headers)
    assert answer.status_code == 200
    found: dict[str, Any] = answer.json()
    return found


READ = 'Bearer realm="Logto", scope="read"'


def challenge(app: FastAPI, path: str = "/read", token: str | None = None, **headers: str) -> str:
    answer = TestClient(app).get(path, headers={**({} if token is None else bearer(token)), **headers})
    return answer.headers["WWW-Authenticate"]


async def read() -> bool:
    return True


Hide = Callable[[FastAPI, Any], None]


def hide_route(app: FastAPI, requirement: Any) -> None:
    app.get("/hidden", dependencies=[Depends(requirement)], include_in_schema=False)(read)


def hide_router(app: FastAPI, requirement: Any) -> None:
    router = APIRouter(prefix="/hidden", dependencies=[Depends(requirement)], include_in_schema=False)
    router.get("/inside")(read)
    app.include_router(router)


def hide_included_router(app: FastAPI, requirement: Any) -> None:
    router = APIRouter(dependencies=[Depends(requirement)])
    router.get("/inside")(read)
    app.include_router(router, prefix="/hidden", include_in_schema=False)


def hide_mounted_application(app: FastAPI, requirement: Any) -> None:
    inner = FastAPI(dependencies=[Depends(requirement)], include_in_schema=False)
    inner.get("/inside")(read)
    app.mount("/hidden", inner)


HIDDEN: list[Hide] = [hide_route, hide_router, hide_included_router, hide_mounted_application]


class TestDocument:
    def test_it_says_where_to_request_which_token(self) -> None:
        auth = LogtoAuth(
            endpoint="https://tenant.logto.app",
            issuers=["https://auth.example.com/oidc"],
            audience=API,
            documentation_url="https://docs.example.com",
        )
        app = build_app(auth)

        @app.websocket("/watch")
        async def watch(websocket: WebSocket, _: Annotated[Any, Depends(auth.require_any_scope("a", "b"))]) -> None: ...

        mounted = FastAPI()
        mounted.get("/", dependencies=[Depends(auth.require_scopes("mounted", "openid"))])(read)
        app.mount("/mounted", mounted)

        assert ask(app) == {
            "resource": API,
            "authorization_servers": ["https://tenant.logto.app/oidc", "https://auth.example.com/oidc"],
            "scopes_supported": ["a", "b", "mounted", "of", "read"],
            "bearer_methods_supported": ["header"],
            "resource_documentation": "https://docs.example.com",
        }

    def test_it_lists_the_scopes_that_a_handler_requires_itself(self) -> None:
        app = build_app(issuer.auth(), scopes={"write": "Change what is yours"})

        assert ask(app)["scopes_supported"] == ["of", "read", "write"]

    @pytest.mark.parametrize("hide", HIDDEN, ids=lambda hide: hide.__name__)
    def test_the_scopes_of_routes_that_are_hidden_from_the_schema_are_left_out(self, hide: Hide) -> None:
        auth = issuer.auth()
        app = build_app(auth)
        hide(app, auth.require_scopes("impersonate"))

        assert ask(app)["scopes_supported"] == ["of", "read"]

    def test_a_scope_of_a_hidden_route_is_listed_if_another_route_or_the_application_itself_names_it(self) -> None:
        auth = issuer.auth()
        app = build_app(auth, scopes={"impersonate": "Act as somebody else"})
        for path, shown in (("/hidden", False), ("/shown", True)):
            app.get(path, dependencies=[Depends(auth.require_scopes("read", path))], include_in_schema=shown)(read)
        hide_route(app, auth.require_scopes("impersonate", "read"))

        assert ask(app)["scopes_supported"] == ["/shown", "impersonate", "of", "read"]

    def test_an_api_of_hidden_routes_alone_lists_no_scopes_at_all(self) -> None:
        auth = issuer.auth()
        app = FastAPI(openapi_url=None)
        auth.install(app)
        hide_route(app, auth.require_scopes("impersonate"))

        # RFC 9728 section 3.2: parameters with zero values are omitted.
        assert ask(app) == {
            "resource": API,
            "authorization_servers": [issuer.issuer],
            "bearer_methods_supported": ["header"],
        }

    def test_a_protected_mount_is_listed_although_it_is_in_no_schema(self) -> None:
        auth = issuer.auth()
        app = build_app(auth)
        mount_protected(app, path="/mcp", mounted=FastAPI(), requires=auth.require_scopes("call:tool"))

        assert ask(app)["scopes_supported"] == ["call:tool", "of", "read"]

    def test_it_contains_no_value_of_the_request(self) -> None:
        app = build_app(issuer.auth(public_url="https://api.example.com"))
        evil = {"Host": "evil.example", "X-Forwarded-Host": "evil.example", "Forwarded": "host=evil.example"}

        assert ask(app, **evil) == ask(app)
        assert "evil" not in challenge(app, **evil)

    def test_a_browser_of_any_origin_may_read_it(self) -> None:
        answer = TestClient(build_app(issuer.auth())).get(WELL_KNOWN, headers={"Origin": "https://a.example"})

        assert answer.headers["Access-Control-Allow-Origin"] == "*"
        assert answer.headers["Content-Type"] == "application/json"

    def test_it_has_the_title_of_the_application_as_name(self) -> None:
        auth = issuer.auth()
        app = FastAPI(title="Invoices")
        auth.install(app)

        assert ask(app)["resource_name"] == "Invoices"

    def test_every_scope_is_listed_where_one_of_many_is_enough(self) -> None:
        auth = issuer.auth()
        app = FastAPI()
        auth.install(app)
        many = [f"scope{number:02}" for number in range(17)]
        app.get("/", dependencies=[Depends(auth.require_any_scope(*many))])(read)

        assert ask(app)["scopes_supported"] == many

    def test_it_needs_no_token_where_everything_else_does(self) -> None:
        auth = issuer.auth()
        app = FastAPI(dependencies=[Depends(auth)])
        auth.install(app)

        assert ask(app)["resource"] == API

    def test_the_routes_are_read_once_however_often_it_is_requested(self) -> None:
        auth = issuer.auth()
        app = CountingApp()
        auth.install(app)
        app.get("/a", dependencies=[Depends(auth.require_scopes("a"))])(read)
        found = ask(app)
        before = app.reads

        assert before > 0
        assert ask(app) == ask(app, "/") == found
        assert app.reads == before

    def test_an_application_may_be_installed_twice(self) -> None:
        auth = issuer.auth()
        app = build_app(auth)
        auth.install(app)

        assert ask(app)["authorization_servers"] == [issuer.issuer]

    def test_a_loop_of_another_library_is_named(self) -> None:
        call = ResourcePages(FastAPI()).serve(Request({"type": "http"}))

        with pytest.raises(RuntimeError, match="expected an event loop of asyncio"):
            call.send(None)

    def test_it_is_not_in_the_openapi_document(self) -> None:
        app = build_app(issuer.auth())

        assert WELL_KNOWN not in app.openapi()["paths"]
        assert [route.is_hidden for route in routes(app) if route.path.startswith(WELL_KNOWN)] == [True, True]

    def test_the_settings_of_the_environment_are_read_at_the_first_request(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        app = build_app(LogtoAuth(), lifespan=False)
        monkeypatch.setenv("LOGTO_ENDPOINT", "https://late.logto.app")
        monkeypatch.setenv("LOGTO_AUDIENCE", API)
        monkeypatch.setenv("LOGTO_DOCUMENTATION_URL", "https://docs.example.com/")

        found = ask(app)

        assert found["authorization_servers"] == ["https://late.logto.app/oidc"]
        assert found["resource_documentation"] == "https://docs.example.com/"
        assert ask(app) == found

    def test_if_no_scope_is_required_the_metadata_lists_a_scope_for_the_sign_in(self) -> None:
        auth = issuer.auth()
        app = FastAPI()
        auth.install(app)
        app.get("/a", dependencies=[Depends(auth)])(read)

        assert ask(app)["scopes_supported"] == ["profile"]

    def test_the_described_scopes_are_on_the_pages_of_every_tenant(self) -> None:
        tenants = [
            LogtoSettings(endpoint=f"https://{name}.logto.app", audience=f"https://api.example.com/{name}")
            for name in "ab"
        ]
        app = FastAPI()
        LogtoAuth(settings=tenants).install(app, scopes={"write": "Change what is yours"})

        assert [ask(app, path)["scopes_supported"] for path in ("/a", "/b")] == [["write"], ["write"]]

    def test_the_described_scopes_are_not_those_of_a_further_resource(self) -> None:
        auth = issuer.auth()
        billing = auth.for_audience("https://api.example.test/billing", scheme_name="Billing")
        app = build_app(auth, scopes={"write": "Change what is yours"})
        app.get("/invoices", dependencies=[Depends(billing.require_scopes("bill"))])(read)

        assert ask(app, "/billing")["scopes_supported"] == ["bill"]

    def test_the_scopes_of_a_scheme_that_is_not_installed_are_not_listed(self) -> None:
        app = build_app(issuer.auth())
        other = LogtoAuth(scheme_name="Other")
        app.get("/other", dependencies=[Depends(other.require_scopes("unknown"))])(read)

        assert ask(app)["scopes_supported"] == ["of", "read"]

    def test_several_tenants_are_each_an_authorization_server_of_their_own_audience(self) -> None:
        auth = LogtoAuth(
            settings=[
                LogtoSettings(endpoint="https://a.logto.app", audience=API),
                LogtoSettings(
                    endpoint="https://b.logto.app",
                    audience=[API, "https://b.example.test/b"],
                    documentation_url="https://docs.example.com",
                ),
            ]
        )
        app = build_app(auth)

        assert ask(app)["authorization_servers"] == ["https://a.logto.app/oidc", "https://b.logto.app/oidc"]
        assert ask(app)["resource_documentation"] == "https://docs.example.com"
        assert ask(app, "/b")["authorization_servers"] == ["https://b.logto.app/oidc"]


class TestPath:
    @pytest.mark.parametrize(
        ("audience", "end"),
        [
            ("https://api.example.com", ""),
            ("https://api.example.com/", ""),
            ("https://api.example.com/v1", "/v1"),
            ("https://api.example.com/v1/", "/v1/"),
            ("https://api.example.com/v1?t=1", "/v1?t=1"),
            ("https://api.example.com/v1/?a=b%20c&d=/e", "/v1/?a=b%20c&d=/e"),
            ("https://api.example.com/v1?a=b c&d=é", "/v1?a=b%20c&d=%C3%A9"),
            ("https://api.example.com/?t=1", "?t=1"),
            ("https://api.example.com?t=1", "?t=1"),
            ("https://api.example.com/my%20api", "/my%20api"),
            ("https://api.example.com/x y", "/x%20y"),
            ("https://api.example.com/a%3Fb", "/a%3Fb"),
            ("https://api.example.com//mcp", "//mcp"),
            ("https://api.example.com/caf%C3%A9/", "/caf%C3%A9/"),
            ("http://127.0.0.1:8000/mcp", "/mcp"),
        ],
    )
    def test_path_and_query_of_the_resource_follow(self, audience: str, end: str) -> None:
        app = build_app(issuer.auth(audience=audience, public_url="https://api.example.com"))

        assert challenge(app) == f'{READ}, resource_metadata="https://api.example.com{WELL_KNOWN}{end}"'
        assert ask(app, end)["resource"] == audience
        assert ask(app)["resource"] == audience
        for other in ("/other", "/mcp/further", "/mcp2", "/%2e%2e/mcp", "/v1/further"):
            assert TestClient(app).get(WELL_KNOWN + other).status_code == 404

    async def test_a_path_with_a_lone_surrogate_has_no_page(self) -> None:
        sent: list[Any] = []
        scope: dict[str, Any] = {
            "type": "http",
            "method": "GET",
            "path": f"{WELL_KNOWN}/\ud800",
            "query_string": b"",
            "headers": [],
        }

        async def receive() -> Any:
            return {"type": "http.request", "body": b"", "more_body": False}

        async def send(message: Any) -> None:
            sent.append(message)

        await build_app(issuer.auth())(scope, receive, send)

        assert sent[0]["status"] == 404

    def test_resources_that_differ_in_a_slash_or_a_query_have_separate_pages(self) -> None:
        base = "https://api.example.com"
        ends = ["/v1", "/v1/", "/v1?t=1", "?t=1"]
        auth = issuer.auth(audience=[base + end for end in ends], public_url=base)
        app = FastAPI()
        auth.install(app)
        for number, end in enumerate(ends):
            one = auth.for_audience(base + end, scheme_name=f"One{number}")
            app.get(f"/{number}", dependencies=[Depends(one.require_scopes(f"scope{number}"))])(read)

        for number, end in enumerate(ends):
            assert challenge(app, f"/{number}").endswith(
                f'scope="scope{number}", resource_metadata="{base}{WELL_KNOWN}{end}"'
            )
            found = ask(app, end)
            assert found["resource"] == base + end
            assert f"scope{number}" in found["scopes_supported"]

    def test_a_slash_makes_another_resource_and_an_unknown_query_does_not(self) -> None:
        app = build_app(issuer.auth(audience="https://api.example.com/v1"))

        assert TestClient(app).get(f"{WELL_KNOWN}/v1/").status_code == 404
        assert ask(app, "/v1?cache=no")["resource"] == "https://api.example.com/v1"
        assert ask(app, "/") == ask(app, "?a=b") == ask(app)

    def test_a_path_in_the_public_url_is_kept(self) -> None:
        stage = "https://id.execute-api.eu-west-1.amazonaws.com/prod"
        auth = issuer.auth(audience=f"{stage}/mcp", public_url=stage)
        app = build_app(auth)

        named = f"{stage}{WELL_KNOWN}/prod/mcp"
        assert challenge(app) == f'{READ}, resource_metadata="{named}"'
        # The gateway forwards only what is below the stage, with or without the stage in the path.
        for client in (TestClient(app), TestClient(app, root_path="/prod")):
            found = client.get(named.removeprefix(stage))
            assert found.json()["resource"] == f"{stage}/mcp"

    def test_each_resource_has_its_own_with_its_own_scopes(self) -> None:
        auth = issuer.auth(public_url="https://api.example.test")
        billing = auth.for_audience("https://api.example.test/billing", scheme_name="Billing")
        app = build_app(auth)
        app.get("/invoices", dependencies=[Depends(billing.require_scopes("bill"))])(read)

        assert (ask(app)["resource"], ask(app)["scopes_supported"]) == (API, ["of", "read"])
        found = ask(app, "/billing")
        assert (found["resource"], found["scopes_supported"]) == ("https://api.example.test/billing", ["bill"])
        assert challenge(app, "/invoices") == (
            'Bearer realm="Logto", scope="bill", '
            'resource_metadata="https://api.example.test/.well-known/oauth-protected-resource/billing"'
        )

    def test_a_route_that_requires_tokens_for_two_resources_lists_the_scopes_of_each_on_its_own_page(self) -> None:
        auth = issuer.auth()
        billing = auth.for_audience("https://api.example.test/billing", scheme_name="Billing")
        app = FastAPI()
        auth.install(app)
        requirements = (auth.require_any_scope("read", "write"), billing.require_any_scope("bill", "pay"))
        app.get("/both", dependencies=[Depends(one) for one in requirements])(read)

        assert ask(app)["scopes_supported"] == ["read", "write"]
        assert ask(app, "/billing")["scopes_supported"] == ["bill", "pay"]

    def test_if_two_resources_have_one_path_the_first_has_the_page_and_the_other_is_not_named(self) -> None:
        auth = issuer.auth(public_url="https://api.example.test")
        billing = auth.for_audience("https://billing.example.test", scheme_name="Billing")
        app = build_app(auth)
        app.get("/invoices", dependencies=[Depends(billing)])(read)

        assert ask(app)["resource"] == API
        assert challenge(app, "/invoices") == 'Bearer realm="Logto"'

    def test_two_schemes_of_one_application_have_their_pages_side_by_side(self) -> None:
        first = issuer.auth(audience="https://api.example.com/a", public_url="https://api.example.com")
        second = LogtoAuth(
            endpoint="https://second.logto.app",
            audience="https://api.example.com/b",
            public_url="https://api.example.com",
            scheme_name="Second",
        )
        app = FastAPI()
        first.install(app)
        second.install(app)
        app.get("/a", dependencies=[Depends(first.require_scopes("a"))])(read)
        app.get("/b", dependencies=[Depends(second.require_scopes("b"))])(read)

        for name, server in (("a", issuer.issuer), ("b", "https://second.logto.app/oidc")):
            assert f"{WELL_KNOWN}/{name}" in challenge(app, f"/{name}")
            page = ask(app, f"/{name}")
            assert page["resource"] == f"https://api.example.com/{name}"
            assert (page["authorization_servers"], page["scopes_supported"]) == ([server], [name])

    def test_a_resource_of_one_scheme_names_no_authorization_server_of_another(self) -> None:
        url = "https://api.example.com"
        first = issuer.auth(audience=f"{url}/a")
        second = LogtoAuth(endpoint="https://second.logto.app", audience=f"{url}/b", scheme_name="Second")
        late = second.for_audience(f"{url}/c", scheme_name="Late")
        app = FastAPI()
        first.install(app)
        second.install(app)
        app.get("/c", dependencies=[Depends(late.require_scopes("c"))])(read)

        assert ask(app, "/c")["authorization_servers"] == ["https://second.logto.app/oidc"]

    def test_a_page_of_another_scheme_is_not_named(self) -> None:
        url = "https://api.example.com"
        first = issuer.auth(audience=API, public_url=url)
        second = LogtoAuth(endpoint="https://b.logto.app", audience="urn:b", public_url=url, scheme_name="Second")
        app = FastAPI()
        first.install(app)
        second.install(app)
        app.get("/b", dependencies=[Depends(second)])(read)

        assert challenge(app, "/b") == 'Bearer realm="Logto"'

    def test_tenants_of_one_resource_are_each_an_authorization_server(self) -> None:
        app = FastAPI()
        for name in "ab":
            LogtoAuth(endpoint=f"https://{name}.logto.app", audience=API, scheme_name=name).install(app)

        assert ask(app)["authorization_servers"] == ["https://a.logto.app/oidc", "https://b.logto.app/oidc"]

    def test_a_resource_that_is_declared_later_has_its_page(self) -> None:
        auth = issuer.auth(public_url="https://api.example.com")
        app = build_app(auth)
        assert ask(app)["resource"] == API
        late = auth.for_audience("https://api.example.com/late")
        app.get("/late", dependencies=[Depends(late.require_scopes("late"))])(read)

        assert f"{WELL_KNOWN}/late" in challenge(app, "/late")
        assert ask(app, "/late")["scopes_supported"] == ["late"]

    @pytest.mark.parametrize(
        "audience",
        [
            "urn:example:api",
            "my api",
            "https://[bad",
            "https:///nowhere",
            "https://api.example.com/\ud800",
            "https://api.example.com/#fragment",
            "https://api.example.com/#",
            "http://api.example.com",
            "ftp://127.0.0.1/",
        ],
    )
    def test_an_indicator_that_is_not_an_https_url_has_no_page(self, audience: str) -> None:
        app = build_app(issuer.auth(audience=audience, public_url="https://api.example.com/v1"))

        assert TestClient(app).get(WELL_KNOWN).status_code == 404
        assert challenge(app) == READ

    def test_the_page_without_a_path_is_that_of_the_first_indicator_with_a_page(self) -> None:
        app = build_app(issuer.auth(audience=["urn:a", "https://api.example.com/b", "https://api.example.com/c"]))

        assert ask(app)["resource"] == "https://api.example.com/b"


class TestPreflight:
    ASKED = {  # noqa: RUF012 - not changed
        "Origin": "http://localhost:6274",
        "Access-Control-Request-Method": "GET",
        "Access-Control-Request-Headers": "mcp-protocol-version",
    }

    @pytest.mark.parametrize("path", ["", "/v1", "/v1/"])
    @pytest.mark.parametrize("root_path", ["", "/prod"])
    def test_a_browser_of_any_origin_may_send_other_headers_behind_a_strict_cors_middleware(
        self, path: str, root_path: str
    ) -> None:
        app = build_app(issuer.auth(audience="https://api.example.test/v1"))
        app.add_middleware(CORSMiddleware, allow_origins=["https://spa.example.com"])
        client = TestClient(app, root_path=root_path)

        answer = client.options(root_path + WELL_KNOWN + path, headers=self.ASKED)

        assert (answer.status_code, answer.content) == (204, b"")
        assert answer.headers["Access-Control-Allow-Origin"] == answer.headers["Access-Control-Allow-Headers"] == "*"
        assert answer.headers["Access-Control-Allow-Methods"] == "GET"
        page = client.get(WELL_KNOWN, headers=self.ASKED)
        assert (page.status_code, page.json()["resource"]) == (200, "https://api.example.test/v1")
        assert page.headers["Access-Control-Allow-Origin"] == "*"

    @pytest.mark.parametrize("path", ["/read", WELL_KNOWN + "-of-another", "/further" + WELL_KNOWN])
    def test_other_preflights_are_those_of_the_application(self, path: str) -> None:
        app = build_app(issuer.auth())
        app.add_middleware(CORSMiddleware, allow_origins=["https://spa.example.com"])

        assert TestClient(app).options(path, headers=self.ASKED).text == "Disallowed CORS origin, headers"

    def test_an_options_request_that_is_not_a_preflight_is_not_allowed(self) -> None:
        assert TestClient(build_app(issuer.auth())).options(WELL_KNOWN).status_code == 405

    def test_the_middleware_of_the_application_is_listed_as_before(self) -> None:
        app = build_app(issuer.auth())
        app.add_middleware(CORSMiddleware)
        for _ in range(2):
            app.middleware_stack = None
            assert ask(app)["resource"] == API

        assert len(app.user_middleware) == 1
        assert isinstance(app.middleware_stack, ServerErrorMiddleware)


def mount_plainly(app: FastAPI, path: str, mounted: FastAPI, _auth: LogtoAuth) -> None:
    app.mount(path, mounted)


def mount_behind_a_requirement(app: FastAPI, path: str, mounted: FastAPI, auth: LogtoAuth) -> None:
    mount_protected(app, path=path, mounted=mounted, requires=auth)


class TestMounted:
    BASE = "https://api.example.com"

    def follow(self, app: FastAPI, path: str, **options: Any) -> str:
        """Return the resource on the page that the challenge of a path names."""
        client = TestClient(app, base_url=self.BASE, **options)
        token = bearer(issuer.access_token(audience=f"{self.BASE}/sub", scopes=[]))
        named = client.get(path, headers=token).headers["WWW-Authenticate"].partition('resource_metadata="')[2]
        found = client.get(named.rstrip('"'), headers=token)
        assert (named.startswith(self.BASE), found.status_code) == (True, 200)
        return str(found.json()["resource"])

    @pytest.mark.parametrize("mount", [mount_plainly, mount_behind_a_requirement], ids=lambda mount: mount.__name__)
    @pytest.mark.parametrize("public_path", ["", "/sub"])
    @pytest.mark.parametrize("parent", ["set up", "not set up"])
    def test_the_page_of_a_mounted_application_is_found_where_its_challenge_names_it(
        self, mount: Callable[..., None], public_path: str, parent: str
    ) -> None:
        auth = issuer.auth(audience=f"{self.BASE}/sub", public_url=self.BASE + public_path)
        outer = issuer.auth(audience=self.BASE, public_url=self.BASE, scheme_name="Outer")
        app = FastAPI()
        if parent == "set up":
            outer.install(app)
            app.get("/outer", dependencies=[Depends(outer)])(read)
        mount(app, "/sub", build_app(auth), auth)

        assert self.follow(app, "/sub/read") == f"{self.BASE}/sub"
        if parent == "set up":
            assert self.follow(app, "/outer") == self.BASE

    def test_it_is_found_below_further_mounts_and_behind_a_proxy(self) -> None:
        auth = issuer.auth(audience=f"{self.BASE}/sub", public_url=f"{self.BASE}/prod")
        app, middle = FastAPI(), FastAPI()
        app.mount("/a b", middle)
        middle.mount("/{tenant}/sub", build_app(auth))

        assert self.follow(app, "/prod/a b/é/sub/read", root_path="/prod") == f"{self.BASE}/sub"

    def test_an_application_with_the_same_scheme_names_the_page_of_the_outermost(self) -> None:
        auth = issuer.auth(audience=f"{self.BASE}/sub", public_url=self.BASE)
        app = FastAPI()
        auth.install(app)
        app.mount("/inner", build_app(auth))

        named = f'resource_metadata="{self.BASE}{WELL_KNOWN}/sub"'
        assert named in challenge(app, "/inner/read")
        assert self.follow(app, "/inner/read") == f"{self.BASE}/sub"

    def test_a_page_that_only_a_mounted_application_serves_is_not_named_outside(self) -> None:
        auth = issuer.auth(audience=f"{self.BASE}/sub", public_url=self.BASE)
        app = build_app(auth, metadata=False)
        app.mount("/sub", build_app(auth))
        app.mount("/routes", build_app(auth, metadata=False))

        assert challenge(app) == challenge(app, "/routes/read") == READ
        assert "resource_metadata" in challenge(app, "/sub/read")

    def test_a_mounted_websocket_names_the_page_too(self) -> None:
        auth = issuer.auth(audience=f"{self.BASE}/sub", public_url=self.BASE)
        app, inner = FastAPI(), FastAPI()
        auth.install(inner)
        app.mount("/sub", inner)

        @inner.websocket("/watch")
        async def watch(websocket: WebSocket, _: Annotated[Any, Depends(auth)]) -> None: ...

        with pytest.raises(WebSocketDenialResponse) as denied, TestClient(app).websocket_connect("/sub/watch"):
            pass
        named = f'Bearer realm="Logto", resource_metadata="{self.BASE}/sub{WELL_KNOWN}/sub"'
        assert denied.value.headers["WWW-Authenticate"] == named


class TestChallenge:
    URL = f"https://api.example.com{WELL_KNOWN}"

    @pytest.fixture
    def app(self) -> FastAPI:
        return build_app(issuer.auth(public_url="https://api.example.com/"))

    def test_every_challenge_names_it(self, app: FastAPI) -> None:
        other = {"x-organization": "B"}
        assert challenge(app) == f'{READ}, resource_metadata="{self.URL}"'
        found = [
            challenge(app, token="x"),
            challenge(app, Authorization="Basic abc"),
            challenge(app, token=issuer.bad_token("forged")),
            challenge(app, token=issuer.access_token(scopes=[])),
            challenge(app, "/organization", token=issuer.access_token(scopes=["of"])),
            challenge(app, "/organization", token=issuer.organization_token("A", scopes=["of"]), **other),
        ]
        assert [one.partition('", ')[0] for one in found] == [
            'Bearer error="invalid_token',
            'Bearer realm="Logto',
            'Bearer error="invalid_token',
            'Bearer error="insufficient_scope',
            'Bearer error="insufficient_scope',
            'Bearer error="insufficient_scope',
        ]
        assert all(one.endswith(f', resource_metadata="{self.URL}"') for one in found)

    def test_an_outage_has_no_challenge(self) -> None:
        auth = LogtoAuth(endpoint="http://127.0.0.1:1", audience=API, public_url="https://api.example.com")
        answer = TestClient(build_app(auth)).get("/read", headers=bearer(issuer.access_token(scopes=["read"])))

        assert answer.status_code == 503
        assert "WWW-Authenticate" not in answer.headers

    @pytest.mark.parametrize(
        ("arguments", "install"),
        [({}, {}), ({"public_url": "https://api.example.com"}, {"metadata": False})],
        ids=["no public_url", "no page"],
    )
    def test_a_page_that_does_not_exist_or_has_no_known_url_is_not_named(
        self, arguments: dict[str, Any], install: dict[str, Any]
    ) -> None:
        assert challenge(build_app(issuer.auth(**arguments), **install)) == READ

    def test_before_the_settings_are_known_it_is_left_out(self) -> None:
        app = build_app(LogtoAuth(), lifespan=False)

        assert challenge(app) == READ
        with pytest.raises(SettingsError, match="LOGTO_ENDPOINT"):
            TestClient(app).get(WELL_KNOWN)

    def test_before_the_settings_of_every_scheme_are_known_it_is_left_out(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        app = build_app(issuer.auth(public_url="https://api.example.com"))
        other = LogtoAuth(scheme_name="Other")
        other.install(app, lifespan=False)
        for name, value in {"ENDPOINT": "https://b.example", "AUDIENCE": "https://api.example.com/b"}.items():
            monkeypatch.setenv(f"LOGTO_{name}", value)

        # The pages of the resources depend on the settings of both schemes, and reading them could block the loop.
        assert challenge(app) == READ
        assert ask(app, "/b")["resource"] == "https://api.example.com/b"
        assert challenge(app) == f'{READ}, resource_metadata="https://api.example.com{WELL_KNOWN}"'

    def test_the_first_caller_without_a_token_is_reported_too(self, monkeypatch: pytest.MonkeyPatch) -> None:
        app = build_app(LogtoAuth(), lifespan=False)
        for name, value in {"ENDPOINT": issuer.endpoint, "AUDIENCE": API, "PUBLIC_URL": "https://a.example"}.items():
            monkeypatch.setenv(f"LOGTO_{name}", value)

        assert challenge(app) == f'{READ}, resource_metadata="https://a.example{WELL_KNOWN}"'

    def test_a_websocket_gets_the_same_challenge(self, app: FastAPI) -> None:
        auth = issuer.auth(public_url="https://api.example.com")
        auth.install(app)

        @app.websocket("/watch")
        async def watch(websocket: WebSocket, _: Annotated[Any, Depends(auth)]) -> None: ...

        with pytest.raises(WebSocketDenialResponse) as denied, TestClient(app).websocket_connect("/watch"):
            pass
        assert denied.value.headers["WWW-Authenticate"] == (f'Bearer realm="Logto", resource_metadata="{self.URL}"')
