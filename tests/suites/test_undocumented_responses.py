"""A search for responses of the example that its OpenAPI document does not mention."""

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from tests.integration.conftest import Example
from tests.integration.processes import find_free_port, run_module
from tests.unit.apps import API

ROOT = Path(__file__).parents[2]
SECONDS = 120

CALLERS: dict[str, Callable[[Example], str | None]] = {
    "nobody": lambda _: None,
    "a user with every scope": lambda example: example.issuer.access_token(
        subject="alice0000001", scopes=["read:user", "write:user"], claims={"plan": "pro"}
    ),
    "a user somebody acts for": lambda example: example.issuer.access_token(scopes=["read:user"], actor="support"),
    "a member": lambda example: example.issuer.organization_token("acme", scopes=["read:user"]),
}
# A method that one of two routes of a path does not serve: FastAPI's response lists only those of the first route.
NOT_OURS = "allow_header_conformance"
# In an outage, 503 is the correct response to a valid request too.
OF_AN_OUTAGE = f"{NOT_OURS},not_a_server_error,positive_data_acceptance"


def find_undocumented(
    url: str, token: str | None, *, cwd: Path, excluded: str = NOT_OURS, phases: str = "examples,coverage,fuzzing"
) -> str:
    """Call every operation with requests generated from its document, and return the undocumented responses."""
    header = [] if token is None else ["--header", f"Authorization: Bearer {token}"]
    command = [
        *(str(Path(sys.executable).with_name("schemathesis")), "run", f"{url}/openapi.json"),
        *("--checks", "all", "--exclude-checks", excluded, "--phases", phases),
        *("--max-examples", "15", "--seed", "1", "--no-color", *header),
    ]
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=SECONDS, check=False)
    assert re.search(r"(\d+) generated", done.stdout), done.stdout + done.stderr
    return "" if done.returncode == 0 else done.stdout


@pytest.mark.parametrize("name", CALLERS)
def test_the_example_returns_no_undocumented_response(example: Example, name: str, tmp_path: Path) -> None:
    # Random requests are sent once, by the caller with the most access.
    phases = "examples,coverage,fuzzing" if name == "a user with every scope" else "coverage"

    assert find_undocumented(example.url, CALLERS[name](example), cwd=tmp_path, phases=phases) == ""


def test_the_example_returns_no_undocumented_response_while_the_issuer_is_unreachable(
    example: Example, tmp_path: Path
) -> None:
    port, nobody = find_free_port(), find_free_port()
    environment = {
        "LOGTO_ENDPOINT": f"http://127.0.0.1:{nobody}",
        "LOGTO_AUDIENCE": API,
        "EXAMPLE_MACHINE_ID": "local-machine",
        "EXAMPLE_MACHINE_SECRET": "local-machine-secret",
    }
    with run_module("uvicorn", "example_app.main:app", "--port", str(port), environment=environment, cwd=ROOT) as api:
        url = f"http://127.0.0.1:{port}"
        api.wait_for_url(f"{url}/openapi.json")
        token = example.issuer.access_token(scopes=["read:user", "write:user"])
        away = httpx.get(f"{url}/user/info", headers={"Authorization": f"Bearer {token}"}, trust_env=False)

        assert away.status_code == 503
        assert find_undocumented(url, token, cwd=tmp_path, excluded=OF_AN_OUTAGE) == ""
