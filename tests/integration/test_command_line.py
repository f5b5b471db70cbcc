"""Each command in a separate process, as scripts run it."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from fastapi_logto.testing import LocalIssuer
from tests.integration.processes import run_command, run_module
from tests.integration.provider import API as PROVIDER_API
from tests.integration.provider import Provider
from tests.management import serve_management
from tests.recordings import find_file, read_recording, record
from tests.tenants import API, FAULTS, run_situation
from tests.unit.test_cli_local import FILE

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("name", FAULTS)
def test_what_a_recording_shows_is_what_the_command_prints(name: str) -> None:
    # `make recordings` writes them.
    assert read_recording(find_file(name).read_text()) == record(name, colours=False)


@pytest.mark.parametrize(
    ("name", "check", "advice"),
    [
        ("audience", "Audience", f"resource={API}"),
        ("issuer", "Issuer", "LOGTO_ISSUERS"),
        ("clock", "Clock", "NTP"),
        ("opaque", "Shape", f"resource={API}"),
        ("unreachable", "Discovery", "Start Logto"),
        ("proxy", "Key set URL", "TRUST_PROXY_HEADER=1"),
    ],
)
def test_doctor_finds_the_fault_and_says_what_to_do(name: str, check: str, advice: str, tmp_path: Path) -> None:
    with run_situation(name) as situation:
        done = run_command(
            "doctor",
            "--token-stdin",
            "--json",
            stdin=f"Authorization: Bearer {situation.token}\n",
            environment=situation.environment,
            cwd=tmp_path,
        )

    diagnosis = json.loads(done.stdout)
    failed = [
        one["name"] for section in diagnosis["sections"] for one in section["checks"] if one["status"] == "failed"
    ]
    assert (done.returncode, done.stderr) == (1, "")
    assert failed[0] == check
    assert set(failed) <= {check, "Not before"}
    assert advice in diagnosis["next_step"]
    assert situation.token not in done.stdout


@pytest.mark.parametrize(
    ("client_id", "check", "found"),
    [
        ("spa", "", ""),
        ("web", "Application", "web requires a secret"),
        ("native", "Redirect URI", "status 400 invalid_redirect_uri"),
    ],
)
def test_doctor_finds_an_application_that_the_docs_page_can_not_use(
    provider: Provider, tmp_path: Path, client_id: str, check: str, found: str
) -> None:
    environment = {
        "LOGTO_ENDPOINT": provider.endpoint, "LOGTO_AUDIENCE": PROVIDER_API, "LOGTO_SWAGGER_CLIENT_ID": client_id,
    }  # fmt: skip
    done = run_command("doctor", "--json", environment=environment, cwd=tmp_path)

    checks = [one for section in json.loads(done.stdout)["sections"] for one in section["checks"]]
    failed = [one for one in checks if one["status"] == "failed"]
    assert done.returncode == (1 if check else 0)
    assert (failed[0]["name"] if failed else "") == check
    assert not failed or found in failed[0]["found"]


def test_inspect_reads_a_pipe_and_warns_that_nothing_is_verified(tmp_path: Path) -> None:
    token = LocalIssuer().access_token(scopes=["read:user"])

    done = run_command("inspect", stdin=token, cwd=tmp_path)

    assert (done.returncode, done.stderr) == (0, "")
    assert "NOT VERIFIED" in done.stdout.splitlines()[1]
    assert "alice0000001" in done.stdout
    assert token.rpartition(".")[2] not in done.stdout


def test_routes_fails_where_a_route_is_not_protected() -> None:
    done = run_command("routes", "example_app.main:app", "--fail-unprotected", "--json", cwd=ROOT)

    table = json.loads(done.stdout)
    assert (done.returncode, done.stderr) == (1, "")
    assert [row["path"] for row in table["routes"] if row["token"] == "none"] == ["/", "/health"]
    allowed = ("--allow", "/", "--allow", "/health")
    assert run_command("routes", "example_app.main:app", "--fail-unprotected", *allowed, cwd=ROOT).returncode == 0


def test_a_missing_setting_is_reported_without_a_traceback(tmp_path: Path) -> None:
    done = run_command("inspect", "--verify", stdin="x", cwd=tmp_path)

    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith("fastapi-logto: LOGTO_ENDPOINT (argument endpoint): endpoint is required")
    assert "Traceback" not in done.stderr


def test_colours_are_off_where_they_are_not_wanted(tmp_path: Path) -> None:
    wanted = {"FORCE_COLOR": "1", "TERM": "xterm-256color"}

    coloured = run_command("inspect", stdin="x.y.z", environment=wanted, cwd=tmp_path)
    plain = run_command("inspect", stdin="x.y.z", environment={"NO_COLOR": "1", **wanted}, cwd=tmp_path)

    assert "\x1b[1;31m" in coloured.stdout
    assert "31m" not in plain.stdout


def test_a_terminal_without_the_marks_gets_others(tmp_path: Path) -> None:
    done = run_command("doctor", environment={"PYTHONIOENCODING": "ascii"}, cwd=tmp_path)

    assert done.returncode == 2
    assert "x  LOGTO_ENDPOINT" in done.stdout


@pytest.mark.parametrize("package", ["rich", "typer"])
def test_without_its_packages_the_command_says_what_to_install(package: str) -> None:
    code = (
        f"import sys; sys.modules[{package!r}] = None\nfrom fastapi_logto.cli import main; sys.exit(main(['doctor']))"
    )

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)

    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr == 'fastapi-logto: the command line needs more packages; pip install "fastapi-logto[cli]"\n'


def test_the_entry_point_and_the_module_are_the_same_command() -> None:
    script = Path(sys.executable).with_name("fastapi-logto")

    by_script = subprocess.run([script, "--help"], capture_output=True, text=True, check=False)

    assert (by_script.returncode, by_script.stderr) == (0, "")
    assert by_script.stdout == run_command("--help").stdout
    assert "doctor" in by_script.stdout


def test_the_shell_can_complete_the_commands() -> None:
    environment = {"_FASTAPI_LOGTO_COMPLETE": "complete_bash", "COMP_WORDS": "fastapi-logto ro", "COMP_CWORD": "1"}

    done = run_command(environment=environment)

    assert done.stdout.split() == ["routes"]


def test_scopes_are_pushed_and_compared_as_a_pipeline_does_it() -> None:
    with serve_management() as (issuer, management):
        environment = {
            "LOGTO_ENDPOINT": issuer.endpoint,
            "LOGTO_AUDIENCE": API,
            "LOGTO_MANAGEMENT_CLIENT_ID": "deployer",
            "LOGTO_MANAGEMENT_CLIENT_SECRET": "deployer-secret",
        }
        before = run_command("scopes", "diff", "example_app.main:app", "--json", environment=environment, cwd=ROOT)
        push = run_command("scopes", "push", "example_app.main:app", "--yes", environment=environment, cwd=ROOT)
        after = run_command("scopes", "diff", "example_app.main:app", "--json", environment=environment, cwd=ROOT)

    assert (before.returncode, push.returncode, after.returncode) == (1, 0, 0)
    assert json.loads(before.stdout)["resources"][0]["missing"] == management.list_names(API)
    assert json.loads(after.stdout)["resources"][0]["missing"] == []
    assert "deployer-secret" not in push.stdout + push.stderr


def test_dev_serves_what_its_file_says_and_token_mints_from_it(tmp_path: Path) -> None:
    (tmp_path / "people.toml").write_text(FILE)
    redirect = "http://localhost:5173/callback"
    arguments = ("dev", "--file", "people.toml", "--port", "0")
    with run_module("fastapi_logto", *arguments, environment={"COLUMNS": "200"}, cwd=tmp_path) as issuer:
        output = issuer.wait_for_text("fastapi-logto token --user dora")
        (tmp_path / ".env").write_text(output.partition("Put into .env:\n")[2].partition("\n\n")[0])
        minted = run_command(
            "token", "--user", "dora", "--scope", "read:user", "--redirect-uri", redirect, cwd=tmp_path
        )  # fmt: skip
        checked = run_command("doctor", "--token-stdin", "--json", stdin=minted.stdout, cwd=tmp_path)
        code = issuer.interrupt()

    assert (minted.returncode, minted.stderr) == (0, "")
    token_checks = json.loads(checked.stdout)["sections"][-1]["checks"]
    assert {check["status"] for check in token_checks} == {"ok"}
    assert (code, "Traceback" in issuer.output) == (0, False)
    assert "emil" in output
    assert "worker-secret" not in output
