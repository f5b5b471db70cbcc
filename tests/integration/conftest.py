"""Real servers and a real browser, shared by the integration tests."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from fastapi_logto.testing import LocalIssuer
from tests.integration.processes import find_free_port
from tests.integration.provider import Provider, node_is_installed, run_provider
from tests.integration.redis_server import RedisServer, redis_is_installed
from tests.integration.serving import serve

if TYPE_CHECKING:
    from playwright.sync_api import Browser

WEBHOOK_SIGNING_KEY = "signing-key-of-the-example"


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Group the tests of a file for one worker, so that its servers and browsers start once; per issuer, if several."""
    for item in items:
        issuer = (
            item.callspec.params.get("issuer", "")
            if isinstance(item, pytest.Function) and hasattr(item, "callspec")
            else ""
        )
        item.add_marker(pytest.mark.xdist_group(f"{item.path.stem} {issuer}".strip()))


@pytest.fixture(scope="session")
def provider() -> Iterator[Provider]:
    """The real OpenID Connect server that Logto is built on."""
    if not node_is_installed():
        pytest.skip("oidc-provider: node or its packages are missing")
    with run_provider() as running:
        yield running


@dataclass(frozen=True, slots=True)
class Example:
    """The example application on a real socket, and the issuer whose tokens it accepts."""

    url: str
    issuer: LocalIssuer


@pytest.fixture(scope="session")
def example() -> Iterator[Example]:
    """The example application under uvicorn, protected by a local issuer."""
    with LocalIssuer().serve() as issuer, pytest.MonkeyPatch.context() as patch:
        # The default scheme reads these once per process, at the start of the application.
        patch.setenv("LOGTO_ENDPOINT", issuer.endpoint)
        patch.setenv("LOGTO_AUDIENCE", "https://api.example.test")
        # The example reads these while it is imported.
        patch.setenv("EXAMPLE_MACHINE_ID", "local-machine")
        patch.setenv("EXAMPLE_MACHINE_SECRET", "local-machine-secret")
        patch.setenv("LOGTO_WEBHOOK_SIGNING_KEY", WEBHOOK_SIGNING_KEY)
        with serve("example_app.main:app", port=find_free_port()) as url:
            patch.undo()
            yield Example(url, issuer)


@pytest.fixture
def redis_server(tmp_path: Path) -> Iterator[RedisServer]:
    """A real Redis server without data, a new one for each test."""
    if not redis_is_installed():
        pytest.skip("redis-server is missing")
    server = RedisServer(tmp_path)
    server.start()
    try:
        yield server
    finally:
        server.kill()


# Module scope and not session scope, because no other test can run a loop in this thread while Playwright runs.
@pytest.fixture(scope="module")
def browser() -> Iterator["Browser"]:
    """A real Chromium."""
    # Imported here, because most tests don't need Playwright.
    from tests.integration.docs_pages import chromium_is_installed, run_chromium

    if not chromium_is_installed():
        pytest.skip("browser: Chromium is missing; apt-get install chromium")
    with run_chromium() as running:
        yield running
