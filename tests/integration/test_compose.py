"""The compose file is valid, and its services work with each other and with this package."""

import re
import sys
from pathlib import Path
from subprocess import run
from typing import Any

import pytest
from ruamel.yaml import YAML

from fastapi_logto import LogtoSettings
from tests.docs import ROOT

EXAMPLE = ROOT / "examples/compose"


def check_schema(file: Path) -> tuple[int, str]:
    """Validate a file against the schema of the Compose specification."""
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec", str(file)]
    done = run(command, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout


@pytest.fixture(scope="module")
def services() -> dict[str, Any]:
    yaml: Any = YAML(typ="safe")
    document: dict[str, Any] = yaml.load(EXAMPLE / "compose.yaml")
    found: dict[str, Any] = document["services"]
    return found


def test_the_file_is_valid(tmp_path: Path) -> None:
    assert check_schema(EXAMPLE / "compose.yaml")[0] == 0

    wrong = tmp_path / "compose.yaml"
    wrong.write_text((EXAMPLE / "compose.yaml").read_text().replace("    ports:", "    port:", 1))
    code, output = check_schema(wrong)
    assert (code, "'port' was unexpected" in output) == (1, True)


def test_the_package_accepts_every_variable_of_the_api(
    services: dict[str, Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    variables: dict[str, str] = services["api"]["environment"]
    known = {f"LOGTO_{name.upper()}" for name in LogtoSettings.model_fields}
    assert set(variables) <= known

    monkeypatch.chdir(tmp_path)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    settings = LogtoSettings.from_environment()
    # Tokens name the address at which users reach Logto, and the keys are fetched from the other container.
    assert settings.endpoint == services["logto"]["environment"]["ENDPOINT"]
    assert settings.fetch_base == "http://logto:3001"


def test_every_address_inside_the_network_is_a_service(services: dict[str, Any]) -> None:
    variables = services["logto"]["environment"] | services["api"]["environment"]
    hosts = {re.sub(r".*@|.*//", "", value).partition(":")[0] for value in variables.values() if "://" in value}

    assert hosts - {"localhost", "api.example.com"} == {"postgres", "logto"}
    assert set(services["logto"]["depends_on"]) == {"postgres"}


def test_nothing_is_published_beyond_this_machine_and_no_password_is_in_the_file(services: dict[str, Any]) -> None:
    ports = [port for service in services.values() for port in service.get("ports", [])]

    assert len(ports) == 3
    assert all(port.startswith("127.0.0.1:") for port in ports)
    assert services["postgres"]["environment"]["POSTGRES_PASSWORD"].startswith("${POSTGRES_PASSWORD:?")


def test_the_image_contains_what_its_command_starts() -> None:
    text = (EXAMPLE / "Dockerfile").read_text()

    copied = re.findall(r"^COPY (\S+) \.$", text, re.MULTILINE)
    assert copied == ["main.py"]
    assert (EXAMPLE / copied[0]).is_file()
    assert '"main:app"' in text
