"""`fastapi-logto init` writes an application that works, and never changes a file."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from fastapi_logto.cli.local import describe_issuer
from fastapi_logto.testing import LocalIssuer
from tests.conftest import RunCli
from tests.docs import README
from tests.tenants import API, serve

FILES = [".env", "main.py", "test_main.py"]


def list_files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_the_written_test_passes(cli: RunCli, tmp_path: Path) -> None:
    ended = cli("init", "--local")

    # In a process without the options of this suite.
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:randomly", "--rootdir", str(tmp_path)]
    own = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST")}
    done = subprocess.run(command, cwd=tmp_path, env=own, capture_output=True, text=True, check=False)
    assert (ended.code, ended.err) == (0, "")
    assert ended.out == (
        "Created .env, main.py and test_main.py.\n\nNext, each in its own terminal:\nfastapi-logto dev\nfastapi dev\n"
        "pytest    # after: pip install pytest\n"
    )
    assert done.returncode == 0, done.stdout
    assert "2 passed" in done.stdout


def test_the_files_are_those_of_the_readme(cli: RunCli, tmp_path: Path) -> None:
    cli("init", "--local")

    (section,) = re.findall(r"^## Quickstart\n(.*?)^## ", README.read_text(), re.M | re.S)
    blocks = dict(re.findall(r"^```(ini|python)\n(.*?)^```$", section, re.M | re.S))
    assert list_files(tmp_path) == FILES
    assert (tmp_path / "main.py").read_text() == blocks["python"]
    assert (tmp_path / ".env").read_text() == blocks["ini"]
    issuer = describe_issuer(LocalIssuer(), has_known_secrets=True)
    assert blocks["ini"].splitlines() == [f"{name}={value}" for name, value in issuer.environment.items()]


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("is_link", [False, True])
def test_an_existing_file_is_named_and_nothing_is_written(
    cli: RunCli, tmp_path: Path, name: str, *, is_link: bool
) -> None:
    path = tmp_path / name
    if is_link:
        path.symlink_to(tmp_path / "elsewhere")
    else:
        path.write_text("mine")

    ended = cli("init", "--local")

    assert (ended.code, ended.out) == (2, "")
    assert f", found {name}; nothing was written" in ended.err
    assert list_files(tmp_path) == [name]
    assert is_link or path.read_text() == "mine"


def test_a_file_that_cannot_be_written_leaves_none_behind(tmp_path: Path) -> None:
    code = (
        "import resource, signal, sys\n"
        "from fastapi_logto.cli import main\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "before = resource.getrlimit(resource.RLIMIT_FSIZE)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (250, before[1]))\n"
        "code = main(['init', '--local'])\n"
        # The measurement of coverage writes a file at the end.
        "resource.setrlimit(resource.RLIMIT_FSIZE, before)\n"
        "sys.exit(code)\n"
    )

    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)

    assert done.returncode == 2
    assert "found: File too large; nothing was written" in done.stderr
    assert list_files(tmp_path) == []


def test_the_values_of_a_tenant_are_prompted_for_and_checked(cli: RunCli, tmp_path: Path) -> None:
    issuer = LocalIssuer()
    with serve(issuer):
        ended = cli("init", stdin=f"{issuer.endpoint}/\n {API} \n", is_terminal=True)

    assert (tmp_path / ".env").read_text() == f"LOGTO_ENDPOINT={issuer.endpoint}\nLOGTO_AUDIENCE={API}\n"
    assert ended.code == 0
    assert "Endpoint of the tenant" in ended.err
    assert f"{issuer.endpoint} (from .env)" in ended.out
    assert "fastapi-logto dev" not in ended.out


def test_a_tenant_that_is_unreachable_is_an_exit_code(cli: RunCli, tmp_path: Path) -> None:
    ended = cli("init", "--endpoint", "http://127.0.0.1:1", "--audience", API)

    assert ended.code == 1
    assert "Next step" in ended.out
    assert list_files(tmp_path) == FILES


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "expected a terminal for the prompt, found none; pass --endpoint"),
        (("--endpoint", "https://a.logto.app"), "found none; pass --audience"),
        (("--local", "--audience", API), "expected --local or --endpoint and --audience, found both; omit one"),
        (("--endpoint", "a.logto.app", "--audience", API), "LOGTO_ENDPOINT (argument endpoint): "),
        (
            ("--endpoint", "https://a.logto.app", "--audience", "urn:a,urn:b"),
            "LOGTO_AUDIENCE: expected a value without",
        ),
        (("--endpoint", "https://a.logto.app", "--audience", "urn:a\nLOGTO_ISSUERS=x"), "expected a value without"),
    ],
)
def test_nothing_is_written_with_a_mistake(
    cli: RunCli, tmp_path: Path, arguments: tuple[str, ...], message: str
) -> None:
    ended = cli("init", *arguments)

    assert (ended.code, ended.out) == (2, "")
    assert message in ended.err
    assert list_files(tmp_path) == []


def test_variables_of_the_environment_are_an_error_because_the_file_would_not_be_read(
    cli: RunCli, tmp_path: Path
) -> None:
    ended = cli("init", "--local", LOGTO_AUDIENCE=API)

    assert ended.code == 2
    assert "found LOGTO_AUDIENCE; with it, .env is not read" in ended.err
    assert list_files(tmp_path) == []
