"""A client that is generated from the example's OpenAPI document."""

import importlib
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.integration.conftest import Example

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


def test_the_document_holds_what_the_page_of_the_documentation_says(example: Example) -> None:
    document = httpx.get(f"{example.url}/openapi.json", trust_env=False).json()
    text = (ROOT / "docs/how-to/openapi.md").read_text()

    for name in re.findall(r"`(LogtoRefusal|TokenClaims)`", text):
        assert name in document["components"]["schemas"]
    assert "read_user_user_info_get" in json.dumps(document)
