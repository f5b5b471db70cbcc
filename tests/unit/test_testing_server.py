"""Discovery, keys, CORS and malformed requests of the local issuer, and its real socket."""

import asyncio
import logging
import socket
import subprocess
import sys
import threading
from typing import TYPE_CHECKING, Final
from urllib.parse import urlencode

import httpx
import pytest
from blockbuster import blockbuster_ctx
from hypothesis import given, settings
from hypothesis import strategies as st
from starlette.testclient import TestClient
from starlette.types import Message

from fastapi_logto.testing import Application, Directory, LocalIssuer
from fastapi_logto.testing.issuer.serving import Server, build_url
from tests.unit.test_testing_sign_in import API, FORM, GOOD_REQUEST, Browser, decode

if TYPE_CHECKING:
    from httpx2 import Response  # the response of the newest Starlette's test client

DISCOVERY: Final = "/oidc/.well-known/openid-configuration"
MACHINE: Final = ("local-machine", "local-machine-secret")
SHARED: Final = LocalIssuer()
GRANT: Final = {"grant_type": "client_credentials", "resource": API}


@pytest.fixture
def issuer() -> LocalIssuer:
    return LocalIssuer(allowed_hosts=["logto"])


@pytest.fixture
def http(issuer: LocalIssuer) -> TestClient:
    return TestClient(issuer.app, base_url="http://Logto:3001", raise_server_exceptions=False)


@pytest.mark.parametrize("path", [DISCOVERY, "/oidc/.well-known/oauth-authorization-server"])
def test_the_issuer_is_fixed_and_all_other_urls_follow_the_request(http: TestClient, path: str) -> None:
    answer = http.get(path)
    assert answer.status_code == 200
    assert answer.headers["access-control-allow-origin"] == "*"
    assert "cache-control" not in answer.headers
    document = answer.json()
    assert document["issuer"] == "http://127.0.0.1:3001/oidc"
    assert {name: document[name] for name in document if name.endswith(("_endpoint", "_uri"))} == {
        "authorization_endpoint": "http://logto:3001/oidc/auth",
        "end_session_endpoint": "http://logto:3001/oidc/session/end",
        "jwks_uri": "http://logto:3001/oidc/jwks",
        "token_endpoint": "http://logto:3001/oidc/token",
        "userinfo_endpoint": "http://logto:3001/oidc/me",
        "introspection_endpoint": "http://logto:3001/oidc/token/introspection",
        "revocation_endpoint": "http://logto:3001/oidc/token/revocation",
    }


def test_forwarded_headers_are_ignored(http: TestClient) -> None:
    headers = {"X-Forwarded-Proto": "https", "X-Forwarded-Host": "auth.example.test"}
    assert http.get(DISCOVERY, headers=headers).json()["jwks_uri"] == "http://logto:3001/oidc/jwks"


def test_discovery_lists_the_algorithms_of_the_keys(issuer: LocalIssuer, http: TestClient) -> None:
    assert http.get(DISCOVERY).json()["id_token_signing_alg_values_supported"] == ["ES384"]
    issuer.rotate(algorithm="RS256")
    assert http.get(DISCOVERY).json()["id_token_signing_alg_values_supported"] == ["PS256", "RS256", "ES384"]


def test_the_key_set_is_served_as_logto_does(issuer: LocalIssuer, http: TestClient) -> None:
    answer = http.get("/oidc/jwks")
    assert answer.json() == issuer.jwks()
    assert answer.headers["cache-control"] == "no-cache, max-age=0, must-revalidate"
    assert answer.headers["access-control-allow-origin"] == "*"
    assert answer.headers["content-type"] == "application/jwk-set+json; charset=utf-8"


def test_a_rotation_is_served_at_once(issuer: LocalIssuer, http: TestClient) -> None:
    kid = issuer.rotate()
    assert http.get("/oidc/jwks").json()["keys"][0]["kid"] == kid


def test_the_index_names_users_clients_and_endpoints_and_no_secret(http: TestClient) -> None:
    page = http.get("/")
    assert page.status_code == 200
    for text in ("for development only", "alice", "bob", "carol", "local-spa", "local-machine-without-roles", API):
        assert text in page.text
    assert "<code>http://logto:3001/oidc/token</code>" in page.text
    assert "-secret" not in page.text
    assert page.headers["x-frame-options"] == "DENY"


@pytest.mark.parametrize("path", [DISCOVERY, "/oidc/jwks", "/oidc/token", "/oidc/token/revocation", "/oidc/me"])
def test_every_preflight_is_accepted(http: TestClient, path: str) -> None:
    headers = {"Origin": "https://attacker.test", "Access-Control-Request-Headers": "authorization,x-a"}
    answer = http.options(path, headers=headers)
    assert answer.status_code == 204
    assert answer.headers["access-control-allow-origin"] == "*"
    assert answer.headers["access-control-allow-methods"] == "GET, POST"
    assert answer.headers["access-control-allow-headers"] == "authorization,x-a"


@pytest.mark.parametrize(
    ("redirect_uris", "origin", "status"),
    [
        ((), "http://localhost:8000", 200),
        ((), "http://127.0.0.1", 200),
        ((), "http://[::1]:1", 200),
        ((), "https://localhost:8000", 400),
        ((), "http://localhost:8000/", 400),
        ((), "http://localhost.attacker.test", 400),
        ((), "null", 400),
        (("https://spa.test/callback",), "https://spa.test", 200),
        (("https://spa.test/callback",), "http://localhost:8000", 400),
        (("https://spa.test/callback",), "https://spa.test.attacker.test", 400),
    ],
)
def test_the_token_endpoint_answers_the_origins_of_the_redirect_uris(
    redirect_uris: tuple[str, ...], origin: str, status: int
) -> None:
    example = Directory.example(redirect_uris=redirect_uris)
    redirect_uri = redirect_uris[0] if redirect_uris else "http://localhost:8000/docs/oauth2-redirect"
    browser = Browser(LocalIssuer(directory=example))
    location = browser.submit(browser.open(redirect_uri=redirect_uri)).headers["location"]
    code = httpx.URL(location).params["code"]
    form = {
        "grant_type": "authorization_code",
        "client_id": "local-spa",
        "code": code,
        "code_verifier": "a-verifier-of-at-least-43-characters-as-it-must-be",
        "redirect_uri": redirect_uri,
    }
    answer = browser.http.post("/oidc/token", data=form, headers={"Origin": origin})
    assert answer.status_code == status
    assert answer.headers.get("access-control-allow-origin") == ("*" if status == 200 else None)
    if status == 400:
        assert answer.json()["error_description"] == f"origin {origin} not allowed for client: local-spa"


def test_a_machine_may_not_be_used_from_a_page(http: TestClient) -> None:
    answer = http.post("/oidc/token", data=GRANT, auth=MACHINE, headers={"Origin": "http://localhost:8000"})
    assert answer.status_code == 400
    assert "access-control-allow-origin" not in answer.headers


def expect_bad_request(answer: "Response", description: str) -> None:
    assert answer.status_code == 400
    assert answer.json() == {
        "code": "oidc.invalid_request",
        "message": "Request is invalid.",
        "error": "invalid_request",
        "error_description": description,
    }


MALFORMED: Final = {
    "a broken escape": b"grant_type=%zz",
    "half an escape": b"grant_type=%2",
    "not UTF-8, escaped": b"grant_type=%ff",
    "not UTF-8, raw": b"grant_type=\xff",
    "UTF-8, raw": "grant_type=é".encode(),
    "a control character": b"grant_type=a\nb",
    "too many parameters": b"a=1&" * 101,
}


@pytest.mark.parametrize("body", MALFORMED.values(), ids=MALFORMED.keys())
def test_a_malformed_body_is_400(http: TestClient, body: bytes) -> None:
    answer = http.post("/oidc/token", content=body, headers=FORM)
    expect_bad_request(answer, "failed to parse the request's parameters")


@pytest.mark.parametrize("body", MALFORMED.values(), ids=MALFORMED.keys())
def test_a_malformed_query_is_a_page_of_status_400(issuer: LocalIssuer, body: bytes) -> None:
    status, headers, page = asyncio.run(call(issuer, path="/oidc/auth", query=body))
    assert status == 400
    assert headers[b"content-type"] == b"text/html; charset=utf-8"
    assert b"failed to parse the request&#x27;s parameters" in page


@given(raw=st.binary(max_size=200))
@settings(deadline=None)
def test_no_query_and_no_body_is_ever_a_server_error(raw: bytes) -> None:
    async def send_both() -> tuple[int, int]:
        form = [(b"content-type", b"application/x-www-form-urlencoded")]
        body: list[Message] = [{"type": "http.request", "body": raw, "more_body": False}]
        page = await call(SHARED, path="/oidc/auth", query=raw)
        answer = await call(SHARED, path="/oidc/token", method="POST", headers=form, messages=body)
        return page[0], answer[0]

    assert asyncio.run(send_both()) == (400, 400)


@pytest.mark.parametrize(
    ("headers", "body", "description"),
    [
        (FORM, b"grant_type=a&grant_type=b", "'grant_type' parameter must not be provided twice"),
        (FORM, b"a=" + b"x" * 65535, "the body is larger than 65536 bytes"),
        ({"Content-Type": "application/json"}, b"{}", "only application/x-www-form-urlencoded bodies are supported"),
        ({}, b"", "only application/x-www-form-urlencoded bodies are supported"),
    ],
)
@pytest.mark.parametrize("path", ["/oidc/token"])
def test_a_body_that_cannot_be_read_is_400(
    http: TestClient, path: str, headers: dict[str, str], body: bytes, description: str
) -> None:
    expect_bad_request(http.post(path, content=body, headers=headers), description)


def test_the_sign_in_form_is_limited_as_well(http: TestClient) -> None:
    answer = http.post("/oidc/auth", content=b"a=" + b"x" * 65535, headers=FORM)
    expect_bad_request(answer, "the body is larger than 65536 bytes")


def test_a_body_of_exactly_the_limit_is_read(http: TestClient) -> None:
    answer = http.post("/oidc/token", content=b"a=" + b"x" * 65534, headers=FORM)
    expect_bad_request(answer, "no client authentication mechanism provided")


async def call(
    issuer: LocalIssuer,
    *,
    path: str,
    method: str = "GET",
    query: bytes = b"",
    headers: list[tuple[bytes, bytes]] | None = None,
    messages: list[Message] | None = None,
) -> tuple[int, dict[bytes, bytes], bytes]:
    """Call the application without an HTTP client, which can't send such requests."""
    waiting: list[Message] = messages or [{"type": "http.request", "body": b"", "more_body": False}]
    sent: list[Message] = []

    async def receive() -> Message:
        return waiting.pop(0)

    async def send(message: Message) -> None:
        sent.append(message)

    scope = {
        "type": "http",
        "method": method,
        "scheme": "http",
        "path": path,
        "query_string": query,
        "headers": [(b"host", b"127.0.0.1:3001"), *(headers or [])],
    }
    await issuer.app(scope, receive, send)
    body = b"".join(message["body"] for message in sent[1:])
    return sent[0]["status"], dict(sent[0]["headers"]), body


def test_a_client_that_leaves_early_does_no_harm(issuer: LocalIssuer) -> None:
    messages: list[Message] = [
        {"type": "http.request", "body": b"a=", "more_body": True},
        {"type": "http.disconnect"},
    ]
    headers = [(b"content-type", b"application/x-www-form-urlencoded")]
    answer = asyncio.run(call(issuer, path="/oidc/token", method="POST", headers=headers, messages=messages))
    assert answer[0] == 400
    assert b"the body ended too early" in answer[2]


@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", "/token"), ("POST", "/jwks"), ("GET", "/jwks.json"), ("GET", "/jwks/"), ("GET", "//jwks")],
)
def test_an_unknown_route_or_method_is_404(http: TestClient, method: str, path: str) -> None:
    answer = http.request(method, f"http://logto:3001/oidc{path}")
    assert answer.status_code == 404
    assert answer.json() == {
        "code": "oidc.invalid_request",
        "message": "Request is invalid.",
        "error": "invalid_request",
        "error_description": f"unrecognized route or not allowed method ({method} on {path})",
    }


def test_paths_outside_of_the_issuer_are_404(http: TestClient) -> None:
    answer = http.get("/.well-known/openid-configuration")
    assert (answer.status_code, answer.text) == (404, "Not Found")


def test_the_event_loop_is_never_blocked(issuer: LocalIssuer) -> None:
    async def run() -> list[int]:
        transport = httpx.ASGITransport(app=issuer.app)
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:3001") as client:
            answers = [
                await client.get("/"),
                await client.get(DISCOVERY),
                await client.get("/oidc/jwks"),
                await client.get("/oidc/auth", params=urlencode(GOOD_REQUEST, doseq=True)),
                await client.post("/oidc/token", data=GRANT, auth=MACHINE),
            ]
        return [answer.status_code for answer in answers]

    with blockbuster_ctx():
        assert asyncio.run(run()) == [200] * 5


def test_a_served_issuer_has_the_url_of_its_socket_and_leaves_nothing_behind(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    threads = set(threading.enumerate())
    issuer = LocalIssuer()
    with issuer.serve() as served:
        assert served is issuer
        endpoint = issuer.endpoint
        assert issuer.issuer == f"{endpoint}/oidc"
        with httpx.Client(base_url=endpoint) as client:
            document = client.get(DISCOVERY, headers={"X-Forwarded-Proto": "https"}).json()
            assert document["issuer"] == issuer.issuer
            assert document["jwks_uri"] == f"{issuer.issuer}/jwks"
            answer = client.post("/oidc/token", data=GRANT, auth=MACHINE)
            assert "server" not in answer.headers
        token = answer.json()["access_token"]
        assert decode(issuer, token).claims["iss"] == f"{endpoint}/oidc"
    assert issuer.endpoint == "http://127.0.0.1:3001"
    assert set(threading.enumerate()) == threads
    with pytest.raises(httpx.ConnectError):
        httpx.get(endpoint)
    assert "/oidc/token" not in " ".join(record.getMessage() for record in caplog.records if "uvicorn" in record.name)
    assert token not in caplog.text


def test_a_served_issuer_can_come_back_at_the_same_port() -> None:
    issuer = LocalIssuer()
    with issuer.serve():
        port = int(issuer.endpoint.rpartition(":")[2])
    with issuer.serve(port=port):
        assert httpx.get(issuer.endpoint + DISCOVERY).status_code == 200


def test_the_endpoint_is_put_back_when_the_block_fails() -> None:
    issuer = LocalIssuer(endpoint="http://logto.test/")
    with pytest.raises(KeyError), issuer.serve():
        raise KeyError
    assert issuer.endpoint == "http://logto.test"


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "example.test", ""])  # noqa: S104 - what is refused
def test_a_host_that_others_reach_must_be_allowed(host: str) -> None:
    issuer = LocalIssuer()
    with pytest.raises(ValueError, match=r"allow_remote \(--allow-remote\)"), issuer.serve(host=host):
        pytest.fail("served")
    assert issuer.endpoint == "http://127.0.0.1:3001"


def test_a_wildcard_host_is_named_by_its_loopback_address() -> None:
    with LocalIssuer().serve(host="0.0.0.0", allow_remote=True) as issuer:  # noqa: S104 - what is tested
        assert issuer.endpoint.startswith("http://127.0.0.1:")


def test_a_port_in_use_is_reported() -> None:
    with LocalIssuer().serve() as first:
        port = int(first.endpoint.rpartition(":")[2])
        with pytest.raises(OSError, match="in use"), LocalIssuer().serve(port=port):
            pytest.fail("served")


def test_an_ipv6_address_is_put_in_brackets() -> None:
    class Socket(socket.socket):
        def getsockname(self) -> tuple[str, int, int, int]:
            return "::1", 3001, 0, 0

    with Socket() as sock:
        assert build_url(sock) == "http://[::1]:3001"


def test_a_server_that_fails_to_start_says_so_too() -> None:
    server = Server(LocalIssuer().app)
    with socket.socket() as closed:
        pass
    with pytest.raises(OSError, match="Bad file descriptor"):
        asyncio.run(server.serve([closed]))
    assert server.has_started.is_set()


def test_without_uvicorn_serving_says_what_to_install() -> None:
    code = (
        "import sys\n"
        "sys.modules['uvicorn'] = None\n"
        "from fastapi_logto.testing import LocalIssuer\n"
        "with LocalIssuer().serve(): pass\n"
    )

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)

    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.endswith('which is not installed; pip install "fastapi-logto[testing]"\n')


def test_an_application_with_explicit_redirect_uris_is_not_sent_elsewhere() -> None:
    directory = Directory(applications=[Application(client_id="local-spa", redirect_uris=["https://spa.test/cb"])])
    browser = Browser(LocalIssuer(directory=directory))
    assert browser.open(resource=None).status_code == 400
    assert browser.open(resource=None, redirect_uri="https://spa.test/cb").status_code == 200
