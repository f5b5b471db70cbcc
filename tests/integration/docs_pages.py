"""FastAPI's docs pages in a browser."""

import json
import re
import shutil
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, cast
from urllib.parse import parse_qs, urlsplit

from playwright.sync_api import (
    Browser,
    BrowserContext,
    FloatRect,
    Locator,
    Page,
    Request,
    Route,
    expect,
    sync_playwright,
)

_ASSETS: Final = Path(__file__).parent / "docs_assets" / "node_modules"
_CDN: Final = "https://cdn.jsdelivr.net/npm/"
CDN_FILES: Final = {
    f"{_CDN}swagger-ui-dist@5/swagger-ui-bundle.js": _ASSETS / "swagger-ui-dist/swagger-ui-bundle.js",
    f"{_CDN}swagger-ui-dist@5/swagger-ui.css": _ASSETS / "swagger-ui-dist/swagger-ui.css",
    f"{_CDN}redoc@2/bundles/redoc.standalone.js": _ASSETS / "redoc/bundles/redoc.standalone.js",
}
"""The files that FastAPI's pages load from a CDN, and the same files as installed by npm."""

_ARGUMENTS: Final = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    # No other name can be resolved, so that no request leaves this machine.
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
)
_WAIT_MILLISECONDS: Final = 15_000
_OUTSIDE: Final = re.compile(r"^https?://(?!127\.0\.0\.1[:/])")


def chromium_is_installed() -> bool:
    """Whether there is a Chromium on the path."""
    return _find_chromium() is not None


def _find_chromium() -> str | None:
    # The shell has no interface of a browser, which takes half of the processor's time.
    return shutil.which("chromium-headless-shell") or shutil.which("chromium")


def assets_are_installed() -> bool:
    """Whether `npm ci` was run in `docs_assets/`."""
    return all(path.is_file() for path in CDN_FILES.values())


@contextmanager
def run_chromium() -> Generator[Browser]:
    """Run the system's Chromium, without a window."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=_find_chromium(), args=[*_ARGUMENTS])
        try:
            yield browser
        finally:
            browser.close()


@dataclass(frozen=True, slots=True)
class Visit:
    """A visit with its own browser profile, and all its requests."""

    context: BrowserContext
    requests: list[Request]

    def outside(self) -> set[str]:
        """Return the requested URLs that are not on this machine."""
        return {request.url for request in self.requests if _OUTSIDE.match(request.url)}

    def authorization_query(self) -> dict[str, list[str]]:
        """Return the query of the only authorization request."""
        (query,) = (
            urlsplit(request.url).query
            for request in self.requests
            if (request.method, urlsplit(request.url).path) == ("GET", "/oidc/auth")
        )
        return parse_qs(query)

    def open_docs(self, url: str) -> "DocsPage":
        """Open Swagger UI at this URL."""
        page = self._open(url)
        expect(page.locator(".scheme-container").get_by_role("button", name="Authorize")).to_be_visible()
        return DocsPage(page)

    def open_redoc(self, url: str) -> Page:
        """Open ReDoc at this URL."""
        page = self._open(url)
        expect(page.locator(".api-content h1")).to_be_visible()
        return page

    def _open(self, url: str) -> Page:
        page = self.context.new_page()
        # Only until the page has loaded. While requests are intercepted, Playwright itself responds to CORS preflights,
        # and the test needs the issuer's responses.
        page.route(_OUTSIDE, _answer_for_the_cdn)
        page.goto(url, wait_until="load")
        page.unroute(_OUTSIDE)
        return page


def _answer_for_the_cdn(route: Route) -> None:
    path = CDN_FILES.get(route.request.url)
    if path is None:
        route.abort()
    else:
        route.fulfill(path=path)


@contextmanager
def visit(browser: Browser) -> Generator[Visit]:
    """Begin a visit without cookies or storage of other visits."""
    context = browser.new_context(viewport={"width": 1280, "height": 1000}, device_scale_factor=1)
    context.set_default_timeout(_WAIT_MILLISECONDS)
    requests: list[Request] = []

    def record(request: Request) -> None:
        requests.append(request)

    context.on("request", record)
    try:
        yield Visit(context, requests)
    finally:
        context.close()


@dataclass(frozen=True, slots=True)
class Answer:
    """The response to a call as shown on the page."""

    status: int
    body: dict[str, object]

    @property
    def code(self) -> str:
        """The code of a refusal."""
        return cast("dict[str, str]", self.body["detail"])["code"]

    @property
    def reason(self) -> str:
        """The reason of a refusal."""
        return cast("dict[str, str]", self.body["detail"])["reason"]

    @property
    def message(self) -> str:
        """The message of a refusal."""
        return cast("dict[str, str]", self.body["detail"])["message"]


@dataclass(frozen=True, slots=True)
class DocsPage:
    """An open page of Swagger UI."""

    page: Page

    @property
    def dialog(self) -> Locator:
        """The dialog that the button Authorize opens."""
        return self.page.locator(".modal-ux")

    def open_dialog(self) -> None:
        """Press Authorize on the page, and wait for the dialog."""
        self.page.locator(".scheme-container").get_by_role("button", name="Authorize").click()
        expect(self.dialog).to_be_visible()

    def close_dialog(self) -> None:
        """Close the dialog."""
        # Each scheme has such a button, and all buttons do the same.
        # A click is lost if the page redraws the dialog at that moment, as it does after a sign-in.
        for attempt in range(1, 6):
            self.dialog.get_by_role("button", name="Close", exact=True).first.click()
            try:
                expect(self.dialog).to_have_count(0, timeout=1000)
            except AssertionError:
                if attempt == 5:
                    raise
            else:
                return

    def scheme(self, name: str = "Logto") -> Locator:
        """Return the part of the dialog for one security scheme."""
        heading = self.page.get_by_role("heading", name=f"{name} (OAuth2, authorizationCode with PKCE)")
        return self.dialog.locator(".auth-container", has=heading)

    def scopes(self, name: str = "Logto") -> list[str]:
        """Return the scopes that the dialog offers."""
        return self.scheme(name).locator(".scopes .name").all_inner_texts()

    def selected(self, name: str = "Logto") -> list[str]:
        """Return the scopes that are selected in the dialog."""
        boxes = self.scheme(name).locator(".scopes input[type=checkbox]:checked")
        return [box.get_attribute("data-value") or "" for box in boxes.all()]

    def select(self, *scopes: str, scheme: str = "Logto") -> None:
        """Select these scopes in the dialog, and no others."""
        self.scheme(scheme).get_by_text("select none").click()
        for scope in scopes:
            # The checkbox itself is covered by its styled replacement.
            self.scheme(scheme).locator("label", has=self.page.get_by_text(scope, exact=True)).click()

    def press_authorize(self, *, scheme: str = "Logto") -> Page:
        """Press Authorize in the dialog, and return the window that it opens."""
        with self.page.expect_popup() as popup:
            self.scheme(scheme).get_by_role("button", name="Apply given OAuth2 credentials").click()
        return popup.value

    def expect_error(self, text: str) -> None:
        """Wait until the dialog shows an error with this text, and check that nobody is signed in."""
        expect(self.scheme().locator(".errors")).to_contain_text(text)
        expect(self.scheme().get_by_role("button", name="Apply given OAuth2 credentials")).to_be_visible()

    def log_out(self) -> None:
        """Log out, so that the page discards the token."""
        self.open_dialog()
        self.scheme().get_by_role("button", name="Remove authorization").click()
        expect(self.scheme().get_by_role("button", name="Apply given OAuth2 credentials")).to_be_visible()
        self.close_dialog()

    def operation(self, method: str, path: str) -> Locator:
        """Return the block of an operation."""
        return self.page.locator(f".opblock-{method.lower()}", has=self.page.locator(f'[data-path="{path}"]'))

    def take_picture(self, path: Path, *, sections: int) -> None:
        """Save a screenshot of the page, down to the end of its first sections."""
        end = self.page.locator(".opblock-tag").nth(sections).bounding_box()
        assert end is not None
        clip: FloatRect = {"x": 0, "y": 0, "width": 1280, "height": end["y"]}
        self.page.screenshot(path=path, clip=clip, full_page=True, animations="disabled")

    def execute(self, method: str, path: str) -> Answer:
        """Try an operation with the default values of the page, and return the response that it shows."""
        block = self.operation(method, path)
        execute = block.get_by_role("button", name="Execute", exact=True)
        if execute.is_visible():
            # So that the response on the page is not the previous one.
            block.get_by_role("button", name="Clear", exact=True).click()
        else:
            block.locator(".opblock-summary-control").click()
            block.get_by_role("button", name="Try it out").click()
        execute.click()
        row = block.locator(".live-responses-table tr.response")
        status = row.locator(".response-col_status").inner_text()
        body = row.locator(".highlight-code code, .highlight-code pre").first.inner_text()
        return Answer(int(status.split()[0]), json.loads(body))


# Show the whole dialog without the shade around it. Hide the token and values that differ in each response.
_PICTURE_STYLE: Final = """
.backdrop-ux { background: white !important; }
.modal-ux-content { max-height: none !important; }
.curl-command, .copy-to-clipboard, .download-contents, .responses-inner > div > h4,
.response-col_description > div:has(.headerline), .responses-table:not(.live-responses-table)
{ display: none !important; }
"""


def take_picture(shown: Locator, path: Path) -> None:
    """Save a screenshot of an element after its animations."""
    shown.screenshot(path=path, animations="disabled", caret="hide", style=_PICTURE_STYLE)


SignIn = Callable[[Page, str], None]
"""Signs a user in on the issuer's page in a window, which is closed afterwards."""


def sign_in_at_local_issuer(popup: Page, login: str) -> None:
    """Select a user, keep all requested scopes, continue."""
    popup.locator(f'input[name="user"][value="{login}"]').check()
    with popup.expect_event("close"):
        popup.get_by_role("button", name="Continue").click()


def sign_in_at_oidc_provider(popup: Page, login: str) -> None:
    """Enter the user's name, and sign in."""
    popup.locator('input[name="login"]').fill(login)
    with popup.expect_event("close"):
        popup.get_by_role("button", name="Sign in").click()
