"""`fastapi-logto dev` as a running server: its addresses, its hosts, and how it ends."""

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import httpx
import pytest

from tests.conftest import RunCli

DEADLINE_SECONDS = 20
DISCOVERY = "/oidc/.well-known/openid-configuration"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_command_serves_until_a_signal_and_ends_quietly(tmp_path: Path, number: signal.Signals) -> None:
    command = [sys.executable, "-W", "error", "-m", "fastapi_logto", "dev", "--port", "0", "--audience", "urn:api"]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("LOGTO_")}
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=tmp_path, env=environment
    ) as process:
        assert process.stdout is not None
        try:
            lines: list[str] = []
            while not lines or not lines[-1].startswith("fastapi-logto token"):
                lines.append(process.stdout.readline().rstrip())
                assert process.poll() is None
            endpoint = lines[-8].removeprefix("LOGTO_ENDPOINT=")
            document = fetch_discovery(endpoint)
            pages = [httpx.get(url, trust_env=False) for url in (f"{endpoint}/", f"{endpoint}/oidc")]
            process.send_signal(number)
            out, err = process.communicate(timeout=DEADLINE_SECONDS)
        finally:
            process.kill()
    assert document["issuer"] == f"{endpoint}/oidc"
    assert lines[0] == f"Local issuer {endpoint}/oidc, for development only; Ctrl-C stops it"
    assert lines[2] == f"Page with all users and clients: {endpoint}/"
    assert [page.text.count("<h1>Local issuer</h1>") for page in pages] == [1, 1]
    assert lines[-7:] == [
        "LOGTO_AUDIENCE=urn:api",
        "LOGTO_SWAGGER_CLIENT_ID=local-spa",
        "LOGTO_MACHINE_ID=local-machine",
        "LOGTO_MACHINE_SECRET=local-machine-secret",
        "",
        "Then, in the folder of .env and in another terminal, get a token:",
        "fastapi-logto token --user alice",
    ]
    assert (process.returncode, out, err) == (0, "", "")


def fetch_discovery(endpoint: str, *, host: str | None = None) -> dict[str, object]:
    deadline = time.monotonic() + DEADLINE_SECONDS
    while True:
        try:
            headers = {} if host is None else {"Host": host}
            document: dict[str, object] = httpx.get(endpoint + DISCOVERY, headers=headers, trust_env=False).json()
        except httpx.TransportError:
            assert time.monotonic() < deadline
            time.sleep(0.02)
        else:
            return document


def test_the_issuer_of_a_container_network_accepts_its_names_and_puts_the_handlers_of_signals_back(
    cli: RunCli, capsys: pytest.CaptureFixture[str]
) -> None:
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    seen: list[str] = []
    documents: list[dict[str, object]] = []

    def interrupt_when_printed() -> None:
        while not (match := re.search(r'"LOGTO_ENDPOINT": "([^"]+)"', "".join(seen))):
            seen.append(capsys.readouterr().out)
            time.sleep(0.01)
        documents.extend(fetch_discovery(match[1], host=host) for host in ("issuer:3001", "other:9", "stranger"))
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=interrupt_when_printed, daemon=True)
    thread.start()
    hosts = ["--allowed-host", "issuer:3001", "--allowed-host", "other", "--webhook", "http://api:8000/"]
    ended = cli("dev", "--port", "0", "--host", "0.0.0.0", "--allow-remote", *hosts, "--json")  # noqa: S104 - allowed
    thread.join(DEADLINE_SECONDS)

    assert (ended.code, ended.err) == (0, "")
    endpoint = json.loads("".join(seen))["environment"]["LOGTO_ENDPOINT"]
    assert endpoint.startswith("http://127.0.0.1:")
    assert re.search(r'"LOGTO_WEBHOOK_SIGNING_KEY": "\w{32}"', "".join(seen))
    issuer, other, stranger = documents
    assert (issuer["issuer"], issuer["jwks_uri"]) == (f"{endpoint}/oidc", "http://issuer:3001/oidc/jwks")
    assert other["jwks_uri"] == "http://other:9/oidc/jwks"
    assert stranger["error"] == "invalid_request"
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before


def test_a_remote_host_needs_a_second_option(cli: RunCli) -> None:
    ended = cli("dev", "--host", "0.0.0.0")  # noqa: S104 - it is refused

    assert (ended.code, ended.out) == (2, "")
    assert ended.err.startswith(
        "fastapi-logto: host: expected a loopback address such as 127.0.0.1, found '0.0.0.0'; anyone who can connect"
    )
    assert ended.err.count("\n") == 1


def test_an_address_of_another_machine_is_one_line(cli: RunCli) -> None:
    ended = cli("dev", "--host", "192.0.2.1", "--port", "0", "--allow-remote")

    assert ended.code == 2
    assert ended.err == (
        "fastapi-logto: cannot listen on '192.0.2.1' port 0: Cannot assign requested address; "
        "try another --port or --host\n"
    )


def test_an_invalid_allowed_host_is_one_line(cli: RunCli) -> None:
    ended = cli("dev", "--allowed-host", "https://issuer")

    assert (ended.code, ended.out) == (2, "")
    assert ended.err == (
        "fastapi-logto: allowed_hosts: expected a host such as 'issuer' or 'issuer:3001', found 'https://issuer'\n"
    )


@pytest.mark.parametrize("port", ["-1", "65536", "http", "", "²"])
def test_an_invalid_port_is_refused(cli: RunCli, port: str) -> None:
    ended = cli("dev", f"--port={port}")

    assert (ended.code, ended.out) == (2, "")
    assert "--port" in ended.err
