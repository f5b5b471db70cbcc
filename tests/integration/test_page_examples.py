"""The React example as a user meets it: `npm run build`, Logto's SDK, the local issuer, the API, and Chromium."""

import os
import re
import shutil
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from subprocess import run

import httpx
import pytest
from playwright.sync_api import Browser, Page, expect
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import FileResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from fastapi_logto.testing import LocalIssuer
from tests.docs import ROOT
from tests.integration.docs_pages import Visit, visit
from tests.integration.processes import find_free_port, run_module
from tests.integration.serving import serve

EXAMPLE = ROOT / "examples/react"
API = "https://api.example.test"


@pytest.fixture(autouse=True)
def loop_guard() -> None:
    """Playwright reads files on its own loop."""


def build_page(folder: Path, **variables: str) -> Starlette:
    """Build the page for these addresses; return a server of its files."""
    if shutil.which("npm") is None or not (EXAMPLE / "node_modules/@logto/react/package.json").is_file():
        pytest.skip("react: npm or the packages of the example are missing (make react)")
    command = ["npm", "run", "build", "--", "--outDir", str(folder), "--emptyOutDir"]
    done = run(
        command,
        cwd=EXAMPLE,
        env={**os.environ, **variables},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr

    async def show(_: Request) -> Response:
        return FileResponse(folder / "index.html")

    # Vite's own server shows the page at any path, too.
    return Starlette(
        routes=[Route("/", show), Route("/callback", show), Mount("/", StaticFiles(directory=folder))],
    )


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of the page, with an API and a local issuer for it."""
    port, api_port = find_free_port(), find_free_port()
    web, api = f"http://127.0.0.1:{port}", f"http://127.0.0.1:{api_port}"
    with ExitStack() as stack:
        issuer = stack.enter_context(LocalIssuer().serve())
        page = build_page(
            tmp_path_factory.mktemp("react"),
            VITE_LOGTO_ENDPOINT=issuer.endpoint,
            VITE_API_URL=api,
            VITE_API_RESOURCE=API,
        )
        environment = {"LOGTO_ENDPOINT": issuer.endpoint, "LOGTO_AUDIENCE": API, "WEB_ORIGIN": web}
        server = stack.enter_context(
            run_module("uvicorn", "main:app", "--port", str(api_port), environment=environment, cwd=EXAMPLE)
        )
        server.wait_for_url(f"{api}/openapi.json")
        yield stack.enter_context(serve(page, port=port))


@pytest.fixture
def visitor(browser: Browser, url: str) -> Iterator[tuple[Visit, Page]]:
    with visit(browser) as visiting:
        page = visiting.context.new_page()
        page.goto(url)
        yield visiting, page


def sign_in(page: Page, user: str) -> None:
    page.get_by_role("button", name="Sign in").click()
    page.locator(f'input[name="user"][value="{user}"]').check()
    page.get_by_role("button", name="Continue").click()
    expect(page.get_by_role("button", name="Sign out")).to_be_visible()


def test_a_user_signs_in_and_calls_the_api(visitor: tuple[Visit, Page], url: str) -> None:
    visiting, page = visitor
    sign_in(page, "alice")
    assert page.url == f"{url}/"

    page.get_by_role("button", name="Who am I?").click()
    expect(page.get_by_role("status")).to_have_text('{ "user_id": "alice0000001" }')
    page.get_by_role("button", name="Count my visit").click()
    expect(page.get_by_role("status")).to_have_text('{ "visits": 1 }')

    # A reload keeps the user signed in.
    page.reload()
    page.get_by_role("button", name="Count my visit").click()
    expect(page.get_by_role("status")).to_have_text('{ "visits": 2 }')
    assert visiting.outside() == set()


def test_a_refused_call_shows_its_code_and_its_message(visitor: tuple[Visit, Page]) -> None:
    _, page = visitor
    sign_in(page, "bob")
    with page.expect_response(re.compile("/visits$")) as responses:
        page.get_by_role("button", name="Count my visit").click()

    # The preflight of CORS is not among them.
    assert responses.value.status == 403
    message = responses.value.json()["detail"]["message"]
    assert "write:user" in message
    expect(page.get_by_role("alert")).to_have_text(f"403 insufficient_scope: {message}")


def test_a_user_who_cancels_sees_why_nobody_is_signed_in(visitor: tuple[Visit, Page]) -> None:
    _, page = visitor
    page.get_by_role("button", name="Sign in").click()
    page.get_by_role("button", name="Cancel").click()

    expect(page.get_by_role("alert")).to_have_text("Error found in the callback URI. Try again")
    page.get_by_role("link", name="Try again").click()
    expect(page.get_by_role("button", name="Sign in")).to_be_visible()


def test_an_api_that_does_not_respond_is_reported(visitor: tuple[Visit, Page]) -> None:
    _, page = visitor
    sign_in(page, "alice")
    page.route("**/user/info", lambda route: route.abort())
    page.get_by_role("button", name="Who am I?").click()

    expect(page.get_by_role("alert")).to_contain_text("expected a response from http://127.0.0.1:")


def test_a_sign_out_ends_the_tokens_and_returns(visitor: tuple[Visit, Page], url: str) -> None:
    visiting, page = visitor
    sign_in(page, "alice")
    kept = page.evaluate("Object.values(localStorage)")
    refresh_token = page.evaluate("localStorage['logto:local-spa:refreshToken']")
    assert refresh_token in kept
    issuer = next(request.url for request in visiting.requests if request.url.endswith("/oidc/token"))

    page.get_by_role("button", name="Sign out").click()
    expect(page.get_by_role("button", name="Sign in")).to_be_visible()

    assert page.url == f"{url}/"
    assert page.evaluate("Object.values(localStorage)") == []
    form = {"grant_type": "refresh_token", "client_id": "local-spa", "refresh_token": refresh_token}
    refused = httpx.post(issuer, data=form, trust_env=False)
    assert (refused.status_code, refused.json()["error"]) == (400, "invalid_grant")
