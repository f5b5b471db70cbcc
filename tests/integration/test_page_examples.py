"""The example pages in a browser: `npm run build`, Logto's SDK, the local issuer, an API, Chromium."""

import json
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

REACT = ROOT / "examples/react"
VUE = ROOT / "examples/vue"
API = "https://api.example.test"


@pytest.fixture(autouse=True)
def loop_guard() -> None:
    """Disable the guard: Playwright reads files on its own loop."""


def check_is_installed(example: Path) -> None:
    if shutil.which("npm") is None or not (example / "node_modules/stamp").is_file():
        pytest.skip("pages: npm or the packages of the examples are missing (make npm)")


def build_page(example: Path, folder: Path, **variables: str) -> Starlette:
    """Build the page for these addresses, and return a server for its files."""
    check_is_installed(example)
    command = ["npm", "run", "build", "--", "--outDir", str(folder), "--emptyOutDir"]
    done = run(
        command,
        cwd=example,
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


@pytest.fixture(scope="module", params=[REACT, VUE], ids=["react", "vue"])
def url(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of the page, with an API and a local issuer for it."""
    port, api_port = find_free_port(), find_free_port()
    web, api = f"http://127.0.0.1:{port}", f"http://127.0.0.1:{api_port}"
    with ExitStack() as stack:
        issuer = stack.enter_context(LocalIssuer().serve())
        page = build_page(
            request.param,
            tmp_path_factory.mktemp("page"),
            VITE_LOGTO_ENDPOINT=issuer.endpoint,
            VITE_API_URL=api,
            VITE_API_RESOURCE=API,
        )
        environment = {"LOGTO_ENDPOINT": issuer.endpoint, "LOGTO_AUDIENCE": API, "WEB_ORIGIN": web}
        # Both pages call the same API.
        server = stack.enter_context(
            run_module("uvicorn", "main:app", "--port", str(api_port), environment=environment, cwd=REACT)
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


def test_both_pages_have_the_same_settings() -> None:
    for name in ("src/config.js", "src/style.css"):
        assert (REACT / name).read_text() == (VUE / name).read_text()


SCRIPTS = [
    (page.stem, script)
    for page in sorted((ROOT / "docs").rglob("*.md"))
    for script in re.findall(r"^```js\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL)
]


def run_node(file: Path, *arguments: str) -> str:
    if shutil.which("node") is None:
        pytest.skip("pages: node is missing")
    done = run(["node", *arguments, str(file)], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


# Replaces the browser, and the requests that the SDK sends to Logto.
STUB = """
globalThis.window = { location: { origin: 'https://app.test', href: 'https://app.test/callback?code=1' } };
globalThis.localStorage = globalThis.sessionStorage = { getItem: () => null };
export function watch(client) {
  for (const name of ['signIn', 'handleSignInCallback', 'getAccessToken']) {
    if (!(name in client)) throw new Error(`no ${name}`);
    client[name] = async (...given) => console.log(name, ...given);
  }
}
"""


def test_the_code_for_other_pages_calls_what_the_sdk_has(tmp_path: Path) -> None:
    check_is_installed(REACT)
    (code,) = [script for page, script in SCRIPTS if page == "browser-clients"]
    # The SDK for React is built on it.
    (tmp_path / "node_modules").symlink_to(REACT / "node_modules")
    (tmp_path / "package.json").write_text('{"type": "module"}')
    (tmp_path / "stub.js").write_text(STUB)
    (tmp_path / "config.js").write_text("export const api = { resource: 'https://api.test' }, logto = {};")
    created = "const client = new LogtoClient(logto);\n"
    assert created in code
    page = "import { watch } from './stub.js';\n" + code.replace(created, f"{created}watch(client);\n")
    (tmp_path / "page.js").write_text(page)

    assert run_node(tmp_path / "page.js").splitlines() == [
        "signIn https://app.test/callback",
        "handleSignInCallback https://app.test/callback?code=1",
        "getAccessToken https://api.test",
    ]


@pytest.mark.parametrize(("page", "script"), SCRIPTS, ids=[page for page, _ in SCRIPTS])
def test_the_javascript_of_the_documentation_is_valid(page: str, script: str, tmp_path: Path) -> None:
    (tmp_path / f"{page}.mjs").write_text(script)

    run_node(tmp_path / f"{page}.mjs", "--check")


def test_the_script_for_custom_claims_returns_those_of_the_page(tmp_path: Path) -> None:
    (script,) = [script for page, script in SCRIPTS if page == "roles-and-plans"]
    user = {"customData": {"plan": "pro"}, "roles": [{"id": "role00000001", "name": "editor"}]}
    call = f"console.log(JSON.stringify(await getCustomJwtClaims({{ context: {json.dumps({'user': user})} }})));"
    (tmp_path / "claims.mjs").write_text(f"{script}{call}")

    assert json.loads(run_node(tmp_path / "claims.mjs")) == {"plan": "pro", "roles": ["editor"]}
