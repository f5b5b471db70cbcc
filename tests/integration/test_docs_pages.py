"""Sign in from the docs pages in a real browser: Swagger UI and ReDoc as served by FastAPI, with two issuers."""

import json
import os
import re
import socket
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import pytest
from fastapi import APIRouter, Depends, FastAPI
from fastapi.responses import HTMLResponse
from playwright.sync_api import Browser, expect
from pydantic import BaseModel

from fastapi_logto import LogtoAuth, TokenClaims
from fastapi_logto import auth as default_auth
from fastapi_logto.testing import Directory, LocalIssuer
from tests.integration.docs_pages import (
    CDN_FILES,
    DocsPage,
    SignIn,
    Visit,
    assets_are_installed,
    chromium_is_installed,
    run_chromium,
    sign_in_at_local_issuer,
    sign_in_at_oidc_provider,
    take_picture,
    visit,
)
from tests.integration.processes import find_free_port, run_module
from tests.integration.provider import API, RSA_API, SPA_ID, node_is_installed, run_provider
from tests.integration.serving import build_stripping_proxy, serve

ROOT = Path(__file__).parents[2]
END_TO_END = ROOT / "docs/how-to/test-end-to-end.md"
FRONTEND = Path(__file__).with_name("frontend.html").read_text()
REDOC_LOGO = "https://cdn.redoc.ly/redoc/logo-mini.svg"
# Set by `make screenshots`: the screenshots are then written into the documentation.
MAKES_PICTURES = os.environ.get("FASTAPI_LOGTO_SCREENSHOTS") == "1"


@pytest.fixture(autouse=True)
def loop_guard() -> None:
    """Disable the guard: Playwright runs its own loop in this thread, so each test here blocks that loop."""


# Module scope and not session scope, because no other test can run a loop in this thread while Playwright runs.
@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    if not chromium_is_installed():
        pytest.skip("browser: Chromium is missing (apt-get install chromium)")
    if not assets_are_installed():
        pytest.skip("browser: what the docs pages load from a CDN is missing (make npm)")
    with run_chromium() as running:
        yield running


@pytest.fixture
def visitor(browser: Browser) -> Iterator[Visit]:
    with visit(browser) as begun:
        yield begun


@dataclass(frozen=True, slots=True, kw_only=True)
class Issuer:
    """An issuer, and how a browser signs in there. The redirect URIs of its application are fixed."""

    endpoint: str
    client_id: str
    sign_in: SignIn
    alice: str
    bob: str
    keeps_session: bool
    port: int
    proxy_port: int
    spare_port: int

    def build_auth(self, *, audience: str = API) -> LogtoAuth:
        return LogtoAuth(endpoint=self.endpoint, audience=audience, swagger_client_id=self.client_id)


def build_directory(redirect_uris: list[str]) -> Directory:
    """Return the users of the examples. Alice may also use another API."""
    example = Directory.example(API, redirect_uris=redirect_uris)
    other = replace(example.resources[0], indicator=RSA_API)
    alice = replace(example.users[0], scopes={API: ["read:user", "write:user"], RSA_API: ["read:user"]})
    return replace(example, resources=[*example.resources, other], users=[alice, *example.users[1:]])


@pytest.fixture(scope="module", params=["local issuer", "oidc-provider"])
def issuer(request: pytest.FixtureRequest) -> Iterator[Issuer]:
    ports = [find_free_port() for _ in range(3)]
    port, proxy_port, spare_port = ports
    redirect_uris = [
        f"http://127.0.0.1:{port}/docs/oauth2-redirect",
        f"http://127.0.0.1:{proxy_port}/v1/docs/oauth2-redirect",
        f"http://127.0.0.1:{spare_port}/docs/oauth2-redirect",
    ]
    with ExitStack() as stack:
        if request.param == "local issuer":
            directory = build_directory(redirect_uris)
            endpoint = stack.enter_context(LocalIssuer(directory=directory).serve()).endpoint
            client_id, sign_in = "local-spa", sign_in_at_local_issuer
            alice, bob = directory.users[0].id, directory.users[1].id
        elif node_is_installed():
            endpoint = stack.enter_context(run_provider(redirect_uris=redirect_uris)).endpoint
            client_id, sign_in, alice, bob = SPA_ID, sign_in_at_oidc_provider, "alice", "bob"
        else:
            pytest.skip("oidc-provider: node or its packages are missing")
        yield Issuer(
            endpoint=endpoint,
            client_id=client_id,
            sign_in=sign_in,
            alice=alice,
            bob=bob,
            keeps_session=request.param != "local issuer",
            port=port,
            proxy_port=proxy_port,
            spare_port=spare_port,
        )


# For tests that do not depend on the issuer.
ONE_ISSUER = pytest.mark.parametrize("issuer", ["oidc-provider"], indirect=True)


class Nickname(BaseModel):
    nickname: str = "Al"


def add_routes(app: FastAPI, auth: LogtoAuth) -> None:
    @app.get("/user/info", tags=["user"])
    async def read_user(claims: Annotated[TokenClaims, Depends(auth.require_scopes("read:user"))]) -> dict[str, Any]:
        return {"user_id": claims.user_id, "scopes": sorted(claims.scopes)}

    @app.patch("/user/info", tags=["user"])
    async def change_user(
        patch: Nickname, claims: Annotated[TokenClaims, Depends(auth.require_scopes("write:user"))]
    ) -> dict[str, Any]:
        return {"user_id": claims.user_id, "nickname": patch.nickname}

    reports = APIRouter(prefix="/reports", tags=["reports"], dependencies=[Depends(auth.require_scopes("read:report"))])

    @reports.get("/latest")
    async def read_report() -> str:
        return "All is well"

    app.include_router(reports)


def build_app(auth: LogtoAuth) -> FastAPI:
    app = FastAPI()
    auth.install(app)
    # After `install()`, because the page shows the scopes of all routes at the time of the request.
    add_routes(app, auth)
    return app


@pytest.fixture(scope="module")
def site(issuer: Issuer) -> Iterator[str]:
    with serve(build_app(issuer.build_auth()), port=issuer.port) as url:
        yield url


def sign_in(docs: DocsPage, issuer: Issuer, login: str, *scopes: str, scheme: str = "Logto") -> None:
    docs.open_dialog()
    if scopes:
        docs.select(*scopes, scheme=scheme)
    issuer.sign_in(docs.press_authorize(scheme=scheme), login)
    expect(docs.scheme(scheme).get_by_role("heading", name="Authorized", exact=True)).to_be_visible()
    docs.close_dialog()


def test_the_dialog_offers_the_scopes_of_all_routes_and_knows_the_client(
    visitor: Visit, site: str, issuer: Issuer
) -> None:
    docs = visitor.open_docs(f"{site}/docs")
    docs.open_dialog()

    assert docs.scopes() == docs.selected() == ["profile", "read:report", "read:user", "write:user"]
    expect(docs.scheme().get_by_label("client_id:")).to_have_value(issuer.client_id)
    expect(docs.dialog.locator(".auth-container")).to_have_count(1)
    expect(docs.scheme()).to_contain_text("Leave client_secret empty.")


def test_on_a_phone_nothing_in_the_dialog_is_cut_off(visitor: Visit, site: str) -> None:
    docs = visitor.open_docs(f"{site}/docs")
    docs.page.set_viewport_size({"width": 390, "height": 844})
    docs.open_dialog()

    content = docs.dialog.locator(".modal-ux-content")
    assert content.evaluate("one => one.scrollWidth - one.clientWidth") == 0


@pytest.mark.parametrize(
    ("login", "scopes"), [("alice", ["read:user", "write:user"]), ("bob", ["read:user"]), ("carol", [])]
)
def test_the_first_click_on_authorize_signs_in_with_all_scopes_selected(
    visitor: Visit, issuer: Issuer, login: str, scopes: list[str]
) -> None:
    auth = issuer.build_auth()
    app = build_app(auth)

    @app.get("/account")
    async def read_account(claims: Annotated[TokenClaims, Depends(auth)]) -> dict[str, Any]:
        return {"scopes": sorted(claims.scopes)}

    @app.get("/of/{organization_id}")
    async def read_organization(
        claims: Annotated[TokenClaims, Depends(auth.require_organization("read:member"))],
    ) -> None:
        """Require a scope that no token of this page has."""

    with serve(app, port=issuer.spare_port) as url:
        docs = visitor.open_docs(f"{url}/docs")
        sign_in(docs, issuer, login)
        account, user = docs.execute("GET", "/account"), docs.execute("GET", "/user/info")

    assert visitor.authorization_query()["scope"] == ["profile read:report read:user write:user"]
    assert (account.status, account.body) == (200, {"scopes": scopes})
    assert user.status == (200 if scopes else 403)


def test_alice_signs_in_calls_the_api_and_signs_out(visitor: Visit, site: str, issuer: Issuer) -> None:
    docs = visitor.open_docs(f"{site}/docs")

    sign_in(docs, issuer, "alice", "read:user")
    signed_in = docs.execute("GET", "/user/info")
    docs.log_out()
    signed_out = docs.execute("GET", "/user/info")

    assert (signed_in.status, signed_in.body) == (200, {"user_id": issuer.alice, "scopes": ["read:user"]})
    assert (signed_out.status, signed_out.code) == (401, "auth.authorization_header_missing")


def test_another_user_signs_in_once_the_session_at_the_issuer_has_ended(
    visitor: Visit, site: str, issuer: Issuer
) -> None:
    docs = visitor.open_docs(f"{site}/docs")
    sign_in(docs, issuer, "alice")
    docs.log_out()

    if issuer.keeps_session:
        docs.open_dialog()
        docs.press_authorize()
        expect(docs.scheme().get_by_role("heading", name="Authorized", exact=True)).to_be_visible()
        docs.close_dialog()
        assert docs.execute("GET", "/user/info").body["user_id"] == issuer.alice
        docs.log_out()
        docs.open_dialog()
        with docs.page.expect_popup() as opened:
            docs.scheme().get_by_role("link", name="sign out of Logto").click()
        opened.value.get_by_role("button", name="Yes").click()
        opened.value.wait_for_url("**/session/end/success")
        docs.close_dialog()
    sign_in(docs, issuer, "bob")

    assert docs.execute("GET", "/user/info").body["user_id"] == issuer.bob


@ONE_ISSUER
def test_authorizing_again_needs_the_dialog_closed_in_between(visitor: Visit, site: str, issuer: Issuer) -> None:
    def authorize() -> None:
        popup = docs.press_authorize()
        if not (issuer.keeps_session and asked):
            issuer.sign_in(popup, "alice")
        asked.append("alice")

    def expect_signed_in() -> None:
        expect(docs.scheme().get_by_role("heading", name="Authorized", exact=True)).to_be_visible()

    asked: list[str] = []
    docs = visitor.open_docs(f"{site}/docs")
    docs.open_dialog()
    authorize()
    expect_signed_in()
    docs.scheme().get_by_role("button", name="Remove authorization").click()
    authorize()
    docs.expect_error("invalid_grant")

    docs.close_dialog()
    docs.open_dialog()
    authorize()
    expect_signed_in()


def test_the_authorization_request_names_the_api_with_pkce_and_not_openid(
    visitor: Visit, site: str, issuer: Issuer
) -> None:
    docs = visitor.open_docs(f"{site}/docs")

    sign_in(docs, issuer, "alice", "read:user", "write:user")

    query = visitor.authorization_query()
    assert re.fullmatch(r"[A-Za-z0-9_-]{43}", query.pop("code_challenge")[0])
    assert query.pop("state") != [""]
    assert query == {
        "resource": [API],
        "response_type": ["code"],
        "client_id": [issuer.client_id],
        "redirect_uri": [f"{site}/docs/oauth2-redirect"],
        "scope": ["read:user write:user"],
        "code_challenge_method": ["S256"],
    }


def test_a_user_without_the_scope_is_shown_which_one_is_missing(visitor: Visit, site: str, issuer: Issuer) -> None:
    docs = visitor.open_docs(f"{site}/docs")

    sign_in(docs, issuer, "bob", "read:user", "write:user")
    answer = docs.execute("PATCH", "/user/info")

    assert (answer.status, answer.code) == (403, "insufficient_scope")
    assert "write:user" in answer.message


@pytest.mark.parametrize(("login", "scopes"), [("carol", ["read:user"]), ("alice", [])], ids=["not held", "no scope"])
def test_a_sign_in_that_would_grant_nothing_is_denied_in_the_dialog(
    visitor: Visit, site: str, issuer: Issuer, login: str, scopes: list[str]
) -> None:
    docs = visitor.open_docs(f"{site}/docs")
    docs.open_dialog()
    docs.select(*scopes)

    issuer.sign_in(docs.press_authorize(), login)

    docs.expect_error("[access_denied]")


def test_a_resource_that_the_issuer_does_not_know_is_reported_in_the_dialog(visitor: Visit, issuer: Issuer) -> None:
    with serve(build_app(issuer.build_auth(audience=f"{API}/")), port=issuer.spare_port) as url:
        docs = visitor.open_docs(f"{url}/docs")
        docs.open_dialog()
        docs.select("read:user")
        docs.press_authorize()

        docs.expect_error("[invalid_target]")


def test_a_redirect_uri_that_is_not_registered_is_reported_in_the_window(visitor: Visit, issuer: Issuer) -> None:
    with serve(build_app(issuer.build_auth()), port=find_free_port()) as url:
        docs = visitor.open_docs(f"{url}/docs")
        docs.open_dialog()
        docs.select("read:user")

        expect(docs.press_authorize().locator("body")).to_contain_text("redirect_uri")


def test_openid_is_not_offered_though_a_route_requires_it(visitor: Visit, issuer: Issuer) -> None:
    auth = issuer.build_auth()
    app = build_app(auth)
    app.get("/mistake", dependencies=[Depends(auth.require_scopes("openid"))])(lambda: True)

    with serve(app, port=issuer.spare_port) as url:
        docs = visitor.open_docs(f"{url}/docs")
        docs.open_dialog()

        assert docs.scopes() == docs.selected() == ["profile", "read:report", "read:user", "write:user"]


def test_a_user_without_any_permission_signs_in_where_that_is_enough_and_is_refused_elsewhere(
    visitor: Visit, issuer: Issuer
) -> None:
    auth = issuer.build_auth()
    app = build_app(auth)

    @app.get("/account")
    async def read_account(claims: Annotated[TokenClaims, Depends(auth)]) -> dict[str, Any]:
        return {"user_id": claims.user_id, "scopes": sorted(claims.scopes)}

    with serve(app, port=issuer.spare_port) as url:
        docs = visitor.open_docs(f"{url}/docs")
        sign_in(docs, issuer, "carol", "read:user", "profile")
        account = docs.execute("GET", "/account")
        refused = docs.execute("GET", "/user/info")

    assert (account.status, account.body["scopes"]) == (200, [])
    assert (refused.status, refused.code) == (403, "insufficient_scope")
    assert "read:user" in refused.message


@ONE_ISSUER
def test_one_of_several_scopes_and_optional_sign_in_are_called_with_the_token_too(
    visitor: Visit, issuer: Issuer
) -> None:
    auth = issuer.build_auth()
    app = build_app(auth)

    @app.get("/either")
    async def read_either(
        claims: Annotated[TokenClaims, Depends(auth.require_any_scope("read:user", "read:all"))],
    ) -> dict[str, Any]:
        return {"user_id": claims.user_id}

    @app.get("/greeting")
    async def greet(claims: Annotated[TokenClaims | None, Depends(auth.optional)]) -> dict[str, Any]:
        return {"user_id": None if claims is None else claims.user_id}

    with serve(app, port=issuer.spare_port) as url:
        docs = visitor.open_docs(f"{url}/docs")
        stranger = docs.execute("GET", "/greeting")
        sign_in(docs, issuer, "alice", "read:user")
        either = docs.execute("GET", "/either")
        known = docs.execute("GET", "/greeting")

    assert (stranger.status, stranger.body) == (200, {"user_id": None})
    assert (either.status, either.body) == (200, {"user_id": issuer.alice})
    assert (known.status, known.body) == (200, {"user_id": issuer.alice})


@ONE_ISSUER
def test_each_scheme_has_its_own_sign_in_and_an_operation_gets_the_token_of_its_scheme(
    visitor: Visit, issuer: Issuer
) -> None:
    auth = issuer.build_auth()
    billing = auth.for_audience(RSA_API, scheme_name="Billing")
    app = build_app(auth)

    @app.get("/invoices")
    async def list_invoices(
        claims: Annotated[TokenClaims, Depends(billing.require_scopes("read:user"))],
    ) -> dict[str, Any]:
        return {"audiences": sorted(claims.audiences)}

    with serve(app, port=issuer.spare_port) as url:
        docs = visitor.open_docs(f"{url}/docs")
        docs.open_dialog()
        offered = docs.scopes(), docs.scopes("Billing")
        docs.close_dialog()
        # Also with the scopes of the other scheme, which the issuer ignores: Swagger UI has one selection for all.
        sign_in(docs, issuer, "alice", scheme="Billing")
        without = docs.execute("GET", "/user/info")
        invoices = docs.execute("GET", "/invoices")
        sign_in(docs, issuer, "alice", "read:user")
        user = docs.execute("GET", "/user/info")

    assert offered == (["profile", "read:report", "read:user", "write:user"], ["profile", "read:user"])
    assert (without.status, without.code) == (401, "auth.authorization_header_missing")
    assert (invoices.status, invoices.body) == (200, {"audiences": [RSA_API]})
    assert (user.status, user.body["user_id"]) == (200, issuer.alice)


def test_behind_a_proxy_that_strips_the_root_path_alice_signs_in(visitor: Visit, issuer: Issuer) -> None:
    app = build_app(issuer.build_auth())
    with (
        serve(app, port=find_free_port(), root_path="/v1") as hidden,
        serve(build_stripping_proxy(hidden, prefix="/v1"), port=issuer.proxy_port) as url,
    ):
        docs = visitor.open_docs(f"{url}/v1/docs")
        sign_in(docs, issuer, "alice", "read:user")
        answer = docs.execute("GET", "/user/info")

    assert visitor.authorization_query()["redirect_uri"] == [f"{url}/v1/docs/oauth2-redirect"]
    assert (answer.status, answer.body["user_id"]) == (200, issuer.alice)


def test_redoc_shows_the_scheme_with_its_scopes_and_those_that_an_operation_needs(visitor: Visit, site: str) -> None:
    page = visitor.open_redoc(f"{site}/redoc")
    operation = page.locator('[id="operation/read_user_user_info_get"]')

    operation.get_by_text("Authorizations:").click()

    for text in ("Logto (read:user)", "OAuth2: Logto", "Required scopes: read:user"):
        expect(operation).to_contain_text(text)
    for scope in ("read:report", "read:user", "write:user"):
        expect(operation.get_by_role("listitem").filter(has_text=scope)).to_have_count(1)


@ONE_ISSUER
def test_the_pages_request_nothing_outside_but_their_known_assets(visitor: Visit, site: str, issuer: Issuer) -> None:
    docs = visitor.open_docs(f"{site}/docs")
    sign_in(docs, issuer, "alice", "read:user")
    docs.execute("GET", "/user/info")
    visitor.open_redoc(f"{site}/redoc")

    fonts = {url for url in visitor.outside() if url.startswith("https://fonts.googleapis.com/css?")}
    assert set(CDN_FILES) <= visitor.outside()
    assert visitor.outside() - fonts <= {*CDN_FILES, "https://fastapi.tiangolo.com/img/favicon.png", REDOC_LOGO}


def read_example(page: str, *, heading: str) -> str:
    """Return the code of a section of a page of the documentation."""
    text = (ROOT / "docs" / page).read_text()
    match = re.search(rf"^## {heading}\n.*?^```python.*?\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    assert match is not None
    return match[1]


def test_without_a_cdn_alice_signs_in_and_nothing_outside_is_requested(visitor: Visit, issuer: Issuer) -> None:
    auth = issuer.build_auth()
    names: dict[str, Any] = {"auth": auth}
    exec(read_example("how-to/docs-page.md", heading="Without a CDN"), names)  # noqa: S102 - our own documentation
    add_routes(names["app"], auth)
    with serve(names["app"], port=issuer.spare_port) as url:
        docs = visitor.open_docs(f"{url}/docs")
        sign_in(docs, issuer, "alice", "read:user")
        answer = docs.execute("GET", "/user/info")
        asked_for = visitor.outside()
        # The logo is loaded last, and is the only file that ReDoc loads from another host.
        with visitor.context.expect_event("request", lambda request: request.url == REDOC_LOGO):
            visitor.open_redoc(f"{url}/redoc")

    assert asked_for == set()
    assert visitor.outside() == {REDOC_LOGO}
    assert (answer.status, answer.body["user_id"]) == (200, issuer.alice)


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """The directory for screenshots. They are made in every run, and kept by `make screenshots` only."""
    return ROOT / "docs/images" if MAKES_PICTURES else tmp_path


def choose_port(port: int) -> int:
    """Return a free port; for a screenshot the one in the documentation, if it is free."""
    with socket.socket() as sock:
        return port if MAKES_PICTURES and sock.connect_ex(("127.0.0.1", port)) else find_free_port()


def test_the_steps_of_the_tutorial_work(browser: Browser, tmp_path: Path, pictures: Path) -> None:
    (tmp_path / "main.py").write_text(read_example("tutorial/first-steps.md", heading="Write the application"))
    port, issuer_port = str(choose_port(8000)), str(choose_port(3001))
    environment = {
        "LOGTO_ENDPOINT": f"http://127.0.0.1:{issuer_port}",
        "LOGTO_AUDIENCE": API,
        "LOGTO_SWAGGER_CLIENT_ID": "local-spa",
    }
    url = f"http://127.0.0.1:{port}/docs"
    with (
        run_module("fastapi_logto", "dev", "--port", issuer_port, environment={}, cwd=tmp_path) as issuer,
        run_module("uvicorn", "main:app", "--port", port, environment=environment, cwd=tmp_path) as api,
    ):
        issuer.wait_for_url(f"http://127.0.0.1:{issuer_port}")
        api.wait_for_url(url)
        with visit(browser) as alice:
            docs = alice.open_docs(url)
            docs.open_dialog()
            take_picture(docs.dialog, pictures / "authorize.png")
            sign_in_at_local_issuer(docs.press_authorize(), "alice")
            docs.close_dialog()
            signed_in = docs.execute("GET", "/user/info")
            take_picture(docs.operation("GET", "/user/info"), pictures / "authorized-call.png")
            docs.log_out()
            signed_out = docs.execute("GET", "/user/info")
        with visit(browser) as bob:
            docs = bob.open_docs(url)
            docs.open_dialog()
            sign_in_at_local_issuer(docs.press_authorize(), "bob")
            docs.close_dialog()
            read, deleted = docs.execute("GET", "/user/info"), docs.execute("DELETE", "/user/info")
        with visit(browser) as carol:
            docs = carol.open_docs(url)
            docs.open_dialog()
            sign_in_at_local_issuer(docs.press_authorize(), "carol")
            docs.close_dialog()
            refused = docs.execute("GET", "/user/info")
            docs.log_out()
            docs.open_dialog()
            docs.select("read:user", "write:user")
            sign_in_at_local_issuer(docs.press_authorize(), "carol")
            docs.expect_error("access_denied")

    assert (signed_in.status, signed_in.body["user_id"]) == (200, "alice0000001")
    assert signed_out.status == 401
    assert (read.status, read.body["scopes"]) == (200, ["read:user"])
    assert (deleted.status, "write:user" in deleted.message) == (403, True)
    assert (refused.status, refused.code) == (403, "insufficient_scope")


def test_the_example_shows_its_routes_with_locks(visitor: Visit, pictures: Path) -> None:
    ports = {"PORT": str(choose_port(8000)), "ISSUER_PORT": str(choose_port(3001))}
    with run_module("example_app.demo", environment=ports, cwd=ROOT) as demo:
        demo.wait_for_text("Ctrl-C")
        docs = visitor.open_docs(f"http://127.0.0.1:{ports['PORT']}/docs")
        docs.take_picture(pictures / "docs-page.png", sections=2)

        expect(docs.operation("GET", "/user/info").get_by_label("authorization button unlocked")).to_be_visible()
        expect(docs.operation("GET", "/health").get_by_label("authorization button unlocked")).to_have_count(0)
        docs.open_dialog()
        assert docs.scopes() == ["profile", "read:user", "write:user"]
        assert docs.scopes("Billing") == ["profile"]
        # The only scheme that accepts opaque tokens, which Logto issues for this scope.
        assert docs.scopes("Opaque") == ["openid", "profile"]
        assert docs.selected("Opaque") == ["profile"]
        docs.select("openid", scheme="Opaque")
        sign_in_at_local_issuer(docs.press_authorize(scheme="Opaque"), "alice")
        docs.close_dialog()
        assert docs.execute("GET", "/profile").status == 200
        assert demo.interrupt() == 0


@pytest.fixture
def frontend() -> Iterator[str]:
    """A page that signs in and calls the API, as the documentation requires for its browser tests."""
    names: dict[str, Any] = {}
    exec(END_TO_END.read_text().split('```python title="main.py"\n')[1].split("```")[0], names)  # noqa: S102 - ours
    port, own_port = find_free_port(), find_free_port()
    pages = FastAPI()

    @pages.get("/")
    async def show() -> HTMLResponse:
        settings = {"endpoint": issuer.endpoint, "resource": issuer.audience, "api": api}
        return HTMLResponse(FRONTEND.replace("SETTINGS", json.dumps(settings)))

    with (
        LocalIssuer(directory=Directory.example("https://api.example.test")).serve() as issuer,
        issuer.connect(default_auth),
        serve(names["app"], port=port) as api,
        serve(pages, port=own_port) as url,
    ):
        yield url


@pytest.mark.parametrize("name", ["test_alice_sees_her_profile", "test_carol_has_no_permission"])
def test_the_browser_tests_of_the_documentation_pass(visitor: Visit, frontend: str, name: str) -> None:
    block = END_TO_END.read_text().split("```py\n")[1].split("```")[0]
    names: dict[str, Any] = {}
    exec(block, names)  # noqa: S102 - our own documentation

    assert sorted(one for one in names if one.startswith("test_")) == [
        "test_alice_sees_her_profile",
        "test_carol_has_no_permission",
    ]
    names[name](visitor.context.new_page(), frontend)


def test_a_page_of_another_origin_cannot_send_the_sign_in_form(visitor: Visit) -> None:
    directory = Directory.example(API, redirect_uris=["http://127.0.0.1:1/callback"])
    pages = FastAPI()

    @pages.get("/")
    async def show() -> HTMLResponse:
        return HTMLResponse(f'<form method="post" action="{served.endpoint}/oidc/auth"><button>Send</button></form>')

    with LocalIssuer(directory=directory).serve() as served, serve(pages, port=find_free_port()) as url:
        page = visitor.context.new_page()
        page.goto(url)
        with page.expect_response(f"{served.endpoint}/oidc/auth") as answered:
            page.get_by_role("button").click()

        assert answered.value.status == 403
        expect(page.get_by_text("the form was sent by a page of another origin")).to_be_visible()
