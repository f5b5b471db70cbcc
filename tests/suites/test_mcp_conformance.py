"""The conformance suites of the Model Context Protocol, for the SDK's example server behind a requirement."""

import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import httpx
import pytest

from fastapi_logto.testing import Directory, LocalIssuer
from tests.integration.processes import find_free_port, run_module

ROOT: Final = Path(__file__).parents[2]
SUITES: Final = Path(__file__).parent / "mcp_conformance"
SECONDS: Final = 300


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    """The URL of the server, which gets the token of a user with each request."""
    if shutil.which("node") is None or not (SUITES / "node_modules/conformance-stable/package.json").is_file():
        pytest.skip("MCP conformance: node or its packages are missing")
    port = find_free_port()
    base = f"http://127.0.0.1:{port}"
    with LocalIssuer(directory=Directory.example(f"{base}/mcp")).serve() as issuer:
        environment = {
            "LOGTO_ENDPOINT": issuer.endpoint,
            "LOGTO_AUDIENCE": f"{base}/mcp",
            "LOGTO_PUBLIC_URL": base,
            "MCP_TOKEN": issuer.access_token(scopes=["read:user"]),
        }
        # Only h11 removes the white space around header values, which a scenario requires (RFC 9110 section 5.5).
        arguments = ["tests.integration.mcp_servers.conformance_server:app", "--http", "h11", "--port", str(port)]
        with run_module("uvicorn", *arguments, environment=environment, cwd=ROOT) as api:
            api.wait_for_url(f"{base}/openapi.json")
            yield f"{base}/mcp"


def test_the_server_under_test_requires_a_token(url: str) -> None:
    answer = httpx.post(url, headers={"Authorization": "Bearer forged"}, trust_env=False)

    assert answer.status_code == 401


@pytest.mark.parametrize(
    ("version", "revision", "scenarios"),
    [("stable", "2025-11-25", 32), ("next", "2025-11-25", 33), ("next", "2026-07-28", 40)],
)
def test_it_passes_every_scenario_of_a_suite(url: str, version: str, revision: str, scenarios: int) -> None:
    command = ["node", "--import", "./node_20.mjs", f"node_modules/conformance-{version}/dist/index.js", "server"]
    options = ["--url", url, "--suite", "all", "--spec-version", revision]

    done = subprocess.run(
        [*command, *options], cwd=SUITES, capture_output=True, encoding="utf-8", timeout=SECONDS, check=False
    )

    summary = done.stdout.partition("=== SUMMARY ===")[2]
    assert (done.returncode, re.findall(r"^✗.*", summary, re.MULTILINE)) == (0, []), summary
    # An update of a suite changes this number on purpose.
    assert len(re.findall(r"^✓", summary, re.MULTILINE)) == scenarios
