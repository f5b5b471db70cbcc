"""Programs that read the example's OpenAPI document: a client generator, and a search for undocumented responses."""

import importlib
import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.integration.conftest import Example
from tests.integration.processes import find_free_port, run_module
from tests.unit.apps import API

ROOT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent
SECONDS = 120


def run(command: str, *arguments: str, cwd: Path) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [BIN / command, *arguments], cwd=cwd, capture_output=True, text=True, timeout=SECONDS, check=False
    )


@pytest.fixture(scope="module")
def package(example: Example, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The client that is generated from the served document."""
    directory = tmp_path_factory.mktemp("client")
    document = httpx.get(f"{example.url}/openapi.json", trust_env=False)
    (directory / "openapi.json").write_bytes(document.content)
    # The tools that format the code are not needed here.
    (directory / "config.yml").write_text("post_hooks: []\n")
    done = run(
        "openapi-python-client",
        *("generate", "--path", "openapi.json", "--config", "config.yml"),
        *("--meta", "none", "--output-path", "generated_client", "--fail-on-warning"),
        cwd=directory,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return directory / "generated_client"


def test_a_generated_client_compiles_and_its_answers_are_typed(package: Path) -> None:
    compiled = run("python", "-m", "compileall", "-q", package.name, cwd=package.parent)
    assert compiled.returncode == 0, compiled.stdout

    operation = (package / "api/user/read_user_user_info_get.py").read_text()
    assert ") -> LogtoRefusal | UserInfo | None:" in operation


def test_a_generated_client_meets_the_refusals_as_values(
    example: Example, package: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "path", [str(package.parent), *sys.path])
    importlib.invalidate_caches()
    client: Any = importlib.import_module("generated_client")
    models: Any = importlib.import_module("generated_client.models")
    read_user: Any = importlib.import_module("generated_client.api.user.read_user_user_info_get")

    def ask(token: str) -> Any:
        with client.AuthenticatedClient(base_url=example.url, token=token, httpx_args={"trust_env": False}) as one:
            return read_user.sync(client=one)

    good = ask(example.issuer.access_token(subject="me", scopes=["read:user"]))
    forged = ask(example.issuer.bad_token("forged"))
    poor = ask(example.issuer.access_token(scopes=["other"]))

    assert (type(good), good.user_id) == (models.UserInfo, "me")
    assert type(forged) is type(poor) is models.LogtoRefusal
    assert forged.detail.code is models.LogtoRefusalDetailCode.INVALID_TOKEN
    assert forged.detail.reason is models.LogtoRefusalDetailReason.SIGNATURE
    assert poor.detail.code is models.LogtoRefusalDetailCode.INSUFFICIENT_SCOPE
    assert "read:user" in poor.detail.message


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
    done = run(
        "schemathesis",
        *("run", f"{url}/openapi.json", "--checks", "all", "--exclude-checks", excluded),
        *("--phases", phases, "--max-examples", "15", "--seed", "1", "--no-color", *header),
        cwd=cwd,
    )
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


def test_the_document_holds_what_the_page_of_the_documentation_says(example: Example) -> None:
    document = httpx.get(f"{example.url}/openapi.json", trust_env=False).json()
    text = (ROOT / "docs/how-to/openapi.md").read_text()

    for name in re.findall(r"`(LogtoRefusal|TokenClaims)`", text):
        assert name in document["components"]["schemas"]
    assert "read_user_user_info_get" in json.dumps(document)
