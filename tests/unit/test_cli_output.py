"""The common behaviour of all commands: start, end, prompts and output."""

import contextlib
import io
import json
import os
import re
import secrets
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest

from fastapi_logto.cli import main
from fastapi_logto.testing import LocalIssuer
from tests.conftest import RunCli
from tests.tenants import API, serve
from tests.terminals import run_on_terminal

COMMANDS = ["doctor", "inspect", "routes", "dev", "init", "token", "scopes"]


def test_another_module_that_is_missing_is_a_fault_of_ours_and_not_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "fastapi_logto.cli.commands", None)

    with pytest.raises(ModuleNotFoundError, match=r"fastapi_logto\.cli\.commands"):
        main([])


def test_help_may_be_printed_anywhere() -> None:
    with contextlib.redirect_stdout(io.StringIO()) as out:
        assert main(["--help"]) == 0

    assert all(f"\n  {command} " in out.getvalue() for command in COMMANDS)


def test_the_version_is_that_of_the_package(cli: RunCli) -> None:
    ended = cli("--version")

    assert (ended.code, ended.out, ended.err) == (0, f"{metadata.version('fastapi-logto')}\n", "")


@pytest.mark.parametrize("command", [*COMMANDS[:-1], "scopes diff", "scopes push"])
def test_the_help_of_each_command_has_an_example(command: str) -> None:
    with contextlib.redirect_stdout(io.StringIO()) as out:
        assert main([*command.split(), "-h"]) == 0

    text = " ".join(out.getvalue().split())
    assert re.search(rf"Examples?: fastapi-logto {command}", text), text


def test_without_a_command_the_help_is_shown(cli: RunCli) -> None:
    ended = cli()

    assert ended.code in {0, 2}
    assert "Usage: fastapi-logto [OPTIONS] COMMAND" in ended.out + ended.err


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize(
    "form",
    [
        "{}",
        "--token={}",
        "Bearer {}",
        "Authorization: Bearer {}",
        "Authorization:{}",
        "'{}'",
        "token:{}",
        " {} ",
        "{},",
    ],
)
@pytest.mark.parametrize("kind", ["access", "opaque", "personal"])
def test_a_token_as_an_argument_is_refused_and_not_repeated(cli: RunCli, command: str, form: str, kind: str) -> None:
    issuer = LocalIssuer()
    token = f"x{issuer.opaque_token()[1:]}" if kind == "opaque" else issuer.access_token()
    if kind == "personal":
        token = f"pat_{token[:32]}"

    ended = cli(command, form.format(token))

    assert (ended.code, ended.out) == (2, "")
    assert "expected no token in the arguments" in ended.err
    assert token not in ended.err


@pytest.mark.parametrize(
    "arguments", [["inspect", "{}"], ["{}"], ["doctor", "--{}"], ["dev", "--port", "{}"], ["routes"]]
)
@pytest.mark.parametrize("kind", ["a part of a token", "a secret"])
def test_a_message_about_wrong_arguments_repeats_no_long_word(cli: RunCli, arguments: list[str], kind: str) -> None:
    text = LocalIssuer().access_token().split(".")[1] if kind == "a part of a token" else secrets.token_urlsafe(40)

    ended = cli(*(one.format(text) for one in arguments))

    assert (ended.code, ended.out) == (2, "")
    assert ended.err.startswith("fastapi-logto: ")
    assert re.search(r"; see fastapi-logto( inspect| doctor| dev| routes)? --help\n\Z", ended.err)
    assert ended.err.count("\n") == 1
    assert text[:32] not in ended.err


def test_arguments_that_are_not_text_are_refused(cli: RunCli) -> None:
    ended = cli("token", "--machine", "--scope", "\udcff")

    assert (ended.code, ended.err) == (2, "fastapi-logto: expected arguments in UTF-8, found other bytes\n")


def test_an_unknown_option_is_a_wrong_usage(cli: RunCli) -> None:
    ended = cli("doctor", "--tokn")

    assert (ended.code, ended.out) == (2, "")
    assert "--token" in ended.err


def test_a_token_is_read_without_showing_it_and_progress_is_not_printed_into_the_output(tmp_path: Path) -> None:
    issuer = LocalIssuer()
    with serve(issuer):
        token = issuer.access_token()
        environment = {"LOGTO_ENDPOINT": issuer.endpoint, "LOGTO_AUDIENCE": API}
        session = run_on_terminal(
            "doctor", "--token", "--json", environment=environment, cwd=tmp_path, typed=token, is_output_piped=True
        )

    diagnosis = json.loads(session.out)
    assert session.code == 0
    assert {check["status"] for check in diagnosis["sections"][-1]["checks"]} == {"ok"}
    assert f"Checking {issuer.endpoint}".encode() in session.seen
    assert token.encode() not in session.seen + session.out


@pytest.mark.parametrize("arguments", [["inspect"], ["doctor", "--token"], ["doctor", "--token-stdin"]])
def test_a_standard_input_that_is_closed_is_an_empty_one(
    arguments: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "stdin", None)

    assert main(arguments) == 2
    assert capsys.readouterr().err == "fastapi-logto: standard input: expected an access token, found nothing\n"


def run_with_output(target: str, tmp_path: Path, *more: str) -> subprocess.CompletedProcess[str]:
    (tmp_path / "web.py").write_text("from fastapi import FastAPI\napp = FastAPI()\n")
    arguments = [sys.executable, "-m", "fastapi_logto", "routes", "web:app", *more]
    with Path(target).open("w", encoding="utf-8") as stream:
        return subprocess.run(
            arguments, stdin=subprocess.DEVNULL, stdout=stream, stderr=subprocess.PIPE, text=True, cwd=tmp_path,
            check=False, timeout=60,
        )  # fmt: skip


def test_an_output_that_can_not_be_written_is_reported_in_one_line(tmp_path: Path) -> None:
    done = run_with_output("/dev/full", tmp_path)

    assert done.returncode == 2
    assert done.stderr == "fastapi-logto: the output can't be written: No space left on device\n"


@pytest.mark.parametrize("more", [(), ("--json",), ("--format", "markdown")])
def test_a_reader_that_closes_the_pipe_early_is_no_error(tmp_path: Path, more: tuple[str, ...]) -> None:
    read, write = os.pipe()
    opened = f"/dev/fd/{write}"
    with Path(opened).open("w", encoding="utf-8"):
        os.close(read)
        done = run_with_output(opened, tmp_path, *more)
    os.close(write)

    assert done.stderr == ""


def test_a_named_file_of_variables_must_exist(cli: RunCli, tmp_path: Path) -> None:
    for name in ("prdo.env", str(tmp_path)):
        ended = cli("doctor", "--env-file", name)

        assert (ended.code, ended.out) == (2, "")
        assert (
            ended.err
            == f"fastapi-logto: --env-file: expected a file of variables, found none at {name}; correct the path\n"
        )


def test_a_token_comes_from_one_place(cli: RunCli) -> None:
    ended = cli("doctor", "--token", "--token-stdin")

    assert (ended.code, ended.err) == (2, "fastapi-logto: expected --token or --token-stdin, found both; omit one\n")
