"""The command that runs a local issuer."""

import os
import re
import runpy
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator

import httpx
import pytest

from fastapi_logto.testing.__main__ import main

DEADLINE_SECONDS = 20
DISCOVERY = "/oidc/.well-known/openid-configuration"


@pytest.fixture
def taken_port() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        yield sock.getsockname()[1]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_command_serves_until_a_signal_and_ends_quietly(number: signal.Signals) -> None:
    arguments = [sys.executable, "-W", "error", "-m", "fastapi_logto.testing", "--port", "0", "--audience", "urn:api"]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            lines = [process.stdout.readline().rstrip() for _ in range(9)]
            endpoint = lines[-2].removeprefix("  LOGTO_ENDPOINT=")
            document = fetch_discovery(endpoint)
            process.send_signal(number)
            out, err = process.communicate(timeout=DEADLINE_SECONDS)
        finally:
            process.kill()
    assert document["issuer"] == f"{endpoint}/oidc"
    assert lines == [
        f"Local issuer {endpoint}/oidc (development only; Ctrl-C stops it)",
        "Users, without passwords:",
        "  alice  read:user write:user",
        "  bob    read:user",
        "  carol  (no scopes)",
        "Clients: local-spa, local-machine, local-machine-without-roles",
        "Environment of the API:",
        f"  LOGTO_ENDPOINT={endpoint}",
        "  LOGTO_AUDIENCE=urn:api",
    ]
    assert (process.returncode, out, err) == (0, "", "")


def fetch_discovery(endpoint: str) -> dict[str, object]:
    deadline = time.monotonic() + DEADLINE_SECONDS
    while True:
        try:
            document: dict[str, object] = httpx.get(endpoint + DISCOVERY).json()
        except httpx.TransportError:
            assert time.monotonic() < deadline
            time.sleep(0.02)
        else:
            return document


def test_the_handlers_of_signals_are_put_back(capsys: pytest.CaptureFixture[str]) -> None:
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    seen: list[str] = []

    def interrupt_when_printed() -> None:
        while not (match := re.search(r"LOGTO_ENDPOINT=(\S+)", "".join(seen))):
            seen.append(capsys.readouterr().out)
            time.sleep(0.01)
        fetch_discovery(match[1])
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=interrupt_when_printed, daemon=True)
    thread.start()
    assert main(["--port", "0"]) == 0
    thread.join(DEADLINE_SECONDS)
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before


def test_a_port_in_use_is_one_line_and_exit_code_1(taken_port: int, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--port", str(taken_port)]) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err == (
        f"cannot listen on 127.0.0.1 port {taken_port}: Address already in use; try another --port\n"
    )


def test_a_remote_host_is_one_line_and_exit_code_1(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--host", "0.0.0.0"]) == 1  # noqa: S104 - what is refused
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("host: expected a loopback address such as 127.0.0.1, found '0.0.0.0'")
    assert captured.err.count("\n") == 1


def test_a_missing_uvicorn_is_one_line_and_exit_code_1(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    monkeypatch.delitem(sys.modules, "fastapi_logto.testing.issuer.serving", raising=False)
    assert main([]) == 1
    assert capsys.readouterr().err == (
        'serving requires uvicorn, which is not installed; pip install "fastapi-logto[testing]"\n'
    )


@pytest.mark.parametrize("port", ["-1", "65536", "http", "", "²"])
def test_a_port_that_is_none_is_refused(port: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main([f"--port={port}"])
    assert ended.value.code == 2
    assert f"expected a port from 0 to 65535, found {port!r}" in capsys.readouterr().err


def test_the_module_is_the_command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.delitem(sys.modules, "fastapi_logto.testing.__main__")
    monkeypatch.setattr(sys, "argv", ["ignored", "--help"])
    with pytest.raises(SystemExit) as ended:
        runpy.run_module("fastapi_logto.testing", run_name="__main__")
    assert ended.value.code == 0
    assert capsys.readouterr().out.startswith("usage: python -m fastapi_logto.testing ")
