"""`make demo`: each printed command does what the text next to it says."""

import re
import shlex
from pathlib import Path

import httpx
import pytest

from tests import captured
from tests.integration.processes import find_free_port, find_free_ports, run_module
from tests.integration.redis_server import redis_is_installed

ROOT = Path(__file__).parents[2]
COMMAND = re.compile(r"^  (?P<said>.+): (?P<status>\d{3})(?: (?P<code>\S+))?\n    (?P<curl>curl .+)$", re.MULTILINE)


def run_curl(command: str) -> httpx.Response:
    """Send the request of a printed `curl -i URL [-H header]`."""
    words = shlex.split(command)
    assert words[:2] == ["curl", "-i"]
    headers = dict(word.split(": ", 1) for option, word in zip(words[3::2], words[4::2], strict=True) if option == "-H")
    return httpx.get(words[2], headers=headers, trust_env=False)


def test_the_demo_prints_commands_that_do_what_they_say_and_ends_quietly() -> None:
    port, issuer_port = find_free_port(), find_free_port()
    with run_module(
        "example_app.demo", environment={"PORT": str(port), "ISSUER_PORT": str(issuer_port)}, cwd=ROOT
    ) as demo:
        output = demo.wait_for_text("Ctrl-C")
        commands = list(COMMAND.finditer(output))
        answers = {match["said"]: (run_curl(match["curl"]), int(match["status"]), match["code"]) for match in commands}
        docs = httpx.get(f"http://127.0.0.1:{port}/docs", trust_env=False)
        # The issuer as printed by the demo: a terminal turns it into a link.
        printed = re.search(r"issuer  (\S+)", output)
        assert printed is not None
        issuer = httpx.get(printed[1], trust_env=False)
        index = httpx.get(f"http://127.0.0.1:{port}/", trust_env=False)
        code = demo.interrupt()
        output = demo.output

    assert f"http://127.0.0.1:{port}/docs" in output
    assert (docs.status_code, issuer.status_code, index.status_code) == (200, 200, 200)
    assert issuer.url == f"http://127.0.0.1:{issuer_port}/oidc"
    assert "<h1>Local issuer</h1>" in issuer.text
    assert "/docs" in index.text
    assert "local-spa" in docs.text
    assert len(answers) == 4
    for said, (answer, status, expected) in answers.items():
        assert answer.status_code == status, said
        assert expected is None or answer.json()["detail"]["code"] == expected, said
    assert "INFO: fastapi_logto: refused: invalid_token: signature" in output
    assert code == 0
    assert "Traceback" not in output


def test_the_demo_uses_a_tenant_that_the_environment_names() -> None:
    port = find_free_port()
    with captured.serve_captured() as server:
        environment = {
            "PORT": str(port),
            "ISSUER_PORT": "1",
            "LOGTO_ENDPOINT": "http://127.0.0.1:3001",
            "LOGTO_FETCH_ENDPOINT": server.endpoint,
            "LOGTO_AUDIENCE": captured.API,
        }
        with run_module("example_app.demo", environment=environment, cwd=ROOT) as demo:
            output = demo.wait_for_text("Ctrl-C stops it")
            headers = {"Authorization": f"Bearer {captured.TOKENS['user_reader_api'].token}"}
            answer = httpx.get(f"http://127.0.0.1:{port}/user/info", headers=headers, trust_env=False)
            code = demo.interrupt()

    assert "tenant  http://127.0.0.1:3001" in output
    assert f"resource={captured.API}" in output
    assert answer.status_code == 200
    assert code == 0


@pytest.mark.parametrize("name", ["PORT", "ISSUER_PORT"])
def test_a_port_in_use_is_reported_with_the_variable_that_selects_another(name: str) -> None:
    with captured.serve_captured() as other:
        ports = {"PORT": str(find_free_port()), "ISSUER_PORT": str(find_free_port()), name: str(other.port)}
        with run_module("example_app.demo", environment=ports, cwd=ROOT) as demo:
            assert demo.wait() == 1
            assert demo.output.startswith(f"port {other.port}: Address already in use")
            assert f"; set {name} to another port, e.g. {name}=" in demo.output
            assert demo.output.count("\n") == 1


def test_a_port_that_is_no_number_is_reported() -> None:
    environment = {"PORT": "http", "ISSUER_PORT": str(find_free_port())}
    with run_module("example_app.demo", environment=environment, cwd=ROOT) as demo:
        assert demo.wait() == 1
        assert demo.output == "PORT: expected a port such as 8000, found 'http'\n"


def test_a_mistake_is_reported_in_one_line_and_not_in_a_traceback() -> None:
    with run_module("example_app.demo", environment={"LOGTO_ENDPOINT": "https://a.logto.app"}, cwd=ROOT) as demo:
        assert demo.wait() == 1
        assert demo.output.startswith("LOGTO_AUDIENCE (argument audience): audience is required; found nothing")
        assert demo.output.count("\n") == 1


@pytest.mark.skipif(not redis_is_installed(), reason="redis-server is missing")
def test_four_workers_refuse_the_token_of_a_user_who_is_suspended_on_the_page_of_the_issuer() -> None:
    port, issuer_port = find_free_ports(4), find_free_port()

    def build_line(text: str) -> str:
        return "  ".join(f"{one}: {text}".ljust(18) for one in range(port, port + 4)).rstrip()

    with run_module(
        "example_app.revocation", environment={"PORT": str(port), "ISSUER_PORT": str(issuer_port)}, cwd=ROOT
    ) as demo:
        demo.wait_for_text(build_line("200"))
        page = f"http://127.0.0.1:{issuer_port}"
        button = {"action": "suspend", "member": "alice0000001"}
        pressed = httpx.post(f"{page}/changes", data=button, headers={"Origin": page}, trust_env=False)
        demo.wait_for_text(build_line("401 revoked"))
        code = demo.interrupt()

    assert pressed.status_code == 303
    assert code == 0
    assert "Traceback" not in demo.output


def test_the_demo_of_revocation_says_that_redis_is_missing(tmp_path: Path) -> None:
    ports = {"PORT": str(find_free_port()), "ISSUER_PORT": str(find_free_port())}
    with run_module("example_app.revocation", environment={**ports, "PATH": str(tmp_path)}, cwd=ROOT) as demo:
        assert demo.wait() == 1

    assert demo.output == "expected redis-server, found none; install it, e.g. with apt-get install redis-server\n"
