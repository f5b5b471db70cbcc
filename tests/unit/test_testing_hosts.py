"""The hosts that the local issuer accepts, and the pages that may send its sign-in form."""

import asyncio
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

import httpx
import pytest
from starlette.testclient import TestClient
from starlette.types import Message, Scope

from fastapi_logto.testing import LocalIssuer
from tests.unit.test_testing_sign_in import FORM, GOOD_REQUEST, Browser

if TYPE_CHECKING:
    from httpx2 import Response  # the response of the newest Starlette's test client

DISCOVERY: Final = "/oidc/.well-known/openid-configuration"
EVERY_PATH: Final = (
    ("GET", "/"),
    ("GET", DISCOVERY),
    ("GET", "/oidc/.well-known/oauth-authorization-server"),
    ("GET", "/oidc/jwks"),
    ("GET", "/oidc/auth"),
    ("POST", "/oidc/auth"),
    ("POST", "/oidc/token"),
    ("POST", "/oidc/token/introspection"),
    ("GET", "/oidc/me"),
    ("OPTIONS", "/oidc/token"),
    ("POST", "/changes"),
    ("POST", "/api/subject-tokens"),
    ("GET", "/api/hooks"),
    ("GET", "/nowhere"),
)


async def ask(issuer: LocalIssuer, hosts: Sequence[bytes], *, path: str = "/") -> tuple[int, bytes]:
    """Send `Host` headers that an HTTP client can't send."""
    sent: list[Message] = []

    async def receive() -> Message:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Message) -> None:
        sent.append(message)

    headers = [(b"host", host) for host in hosts]
    scope: Scope = {"type": "http", "method": "GET", "scheme": "http", "path": path, "query_string": b""}
    await issuer.app({**scope, "headers": headers}, receive, send)
    return sent[0]["status"], b"".join(message["body"] for message in sent[1:])


@pytest.mark.parametrize(("method", "path"), EVERY_PATH)
def test_every_path_is_refused_for_a_name_that_was_rebound_to_this_machine(method: str, path: str) -> None:
    http = TestClient(LocalIssuer().app, base_url="http://evil.example:3001")
    answer = http.request(method, path)
    assert answer.status_code == 421
    assert answer.json()["error"] == "invalid_request"
    assert answer.json()["error_description"] == (
        "expected the host 127.0.0.1:3001, found evil.example:3001; if others reach this issuer by that name, "
        "allow it with allowed_hosts (--allowed-host)"
    )
    assert "access-control-allow-origin" not in answer.headers


@pytest.mark.parametrize("endpoint", ["http://127.0.0.1:3001", "http://tenant.example.test:3001"])
@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("127.0.0.1:3001", 200),
        ("127.9.9.9:3001", 200),
        ("localhost:3001", 200),
        ("LOCALHOST:3001", 200),
        ("[::1]:3001", 200),
        ("[0:0:0:0:0:0:0:1]:3001", 200),
        ("127.0.0.1", 421),
        ("127.0.0.1:3002", 421),
        ("localhost:80", 421),
        ("localhost.:3001", 421),
        ("a.localhost:3001", 421),
        ("localhost.evil.example:3001", 421),
        ("127.0.0.1.evil.example:3001", 421),
        ("127.1:3001", 421),
        ("0.0.0.0:3001", 421),
        ("192.0.2.1:3001", 421),
        ("[::]:3001", 421),
        ("[:::]:3001", 421),
        ("testserver", 421),
    ],
)
def test_only_loopback_names_with_the_issuers_port_are_accepted(endpoint: str, host: str, status: int) -> None:
    assert asyncio.run(ask(LocalIssuer(endpoint=endpoint), [host.encode()]))[0] == status


@pytest.mark.parametrize(
    ("endpoint", "host", "status"),
    [
        ("http://tenant.example.test:3001", "tenant.example.test:3001", 200),
        ("http://Tenant.example.test:3001", "tenant.EXAMPLE.test:3001", 200),
        ("http://tenant.example.test:3001", "tenant.example.test", 421),
        ("http://tenant.example.test:3001", "other.example.test:3001", 421),
        ("http://tenant.example.test", "tenant.example.test", 200),
        ("http://tenant.example.test", "tenant.example.test:80", 200),
        ("http://tenant.example.test", "tenant.example.test:443", 421),
        ("https://tenant.example.test", "tenant.example.test", 200),
        ("https://tenant.example.test", "tenant.example.test:443", 200),
        ("https://tenant.example.test", "tenant.example.test:80", 421),
        ("http://192.0.2.1:3001", "192.0.2.1:3001", 200),
    ],
)
def test_the_endpoints_host_is_accepted_with_its_port(endpoint: str, host: str, status: int) -> None:
    assert asyncio.run(ask(LocalIssuer(endpoint=endpoint), [host.encode()]))[0] == status


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("issuer:3001", 200),
        ("issuer:3002", 421),
        ("issuer", 421),
        ("auth.example.test", 200),
        ("auth.example.test:8443", 200),
        ("AUTH.example.test", 200),
        ("a.auth.example.test", 421),
        ("[2001:db8::1]:3001", 200),
        ("127.0.0.1:3001", 200),
    ],
)
def test_further_hosts_are_accepted_if_they_are_allowed(host: str, status: int) -> None:
    issuer = LocalIssuer(allowed_hosts=["issuer:3001", "Auth.example.test", "[2001:db8::1]"])
    assert asyncio.run(ask(issuer, [host.encode()]))[0] == status


@pytest.mark.parametrize("host", ["", "*", "https://issuer", "issuer:port", "issuer/oidc", "a b", ".issuer\n"])
def test_an_invalid_allowed_host_is_refused_immediately(host: str) -> None:
    with pytest.raises(ValueError, match="allowed_hosts: expected a host such as 'issuer' or 'issuer:3001', found "):
        LocalIssuer(allowed_hosts=["issuer", host])


@pytest.mark.parametrize("path", ["/", DISCOVERY])
@pytest.mark.parametrize(
    "hosts",
    [
        [],
        [b""],
        [b"a b"],
        [b"host:port"],
        [b"h/ost"],
        [b"a@b"],
        [b"\xff"],
        [b"[::1"],
        [b"127.0.0.1:3001", b"evil.example"],
        [b"127.0.0.1:3001", b"127.0.0.1:3001"],
    ],
)
def test_a_host_that_is_missing_malformed_or_repeated_is_400(path: str, hosts: Sequence[bytes]) -> None:
    status, body = asyncio.run(ask(LocalIssuer(), hosts, path=path))
    assert (status, b"the Host header is missing or malformed" in body) == (400, True)


def test_a_served_issuer_accepts_the_host_of_its_socket_and_no_rebound_name() -> None:
    with LocalIssuer().serve() as issuer, httpx.Client(base_url=issuer.endpoint, trust_env=False) as http:
        port = issuer.endpoint.rpartition(":")[2]
        assert http.get("/").status_code == 200
        assert http.get("/", headers={"Host": f"localhost:{port}"}).status_code == 200
        refused = http.get("/", headers={"Host": f"evil.example:{port}"})
        assert (refused.status_code, "alice" in refused.text) == (421, False)
        # The address before and after the issuer is served.
        assert http.get("/", headers={"Host": "127.0.0.1:3001"}).status_code == 421


def test_the_lifespan_of_the_application_names_no_host() -> None:
    issuer = LocalIssuer()
    with TestClient(issuer.app, base_url=issuer.endpoint) as http:
        assert http.get(DISCOVERY).status_code == 200


async def test_an_issuer_in_memory_needs_no_allowed_host_whatever_its_endpoint_is() -> None:
    issuer = LocalIssuer(endpoint="http://tenant.example.test:8080")
    auth = issuer.auth()
    assert (await auth.verify(issuer.access_token())).iss == issuer.issuer
    with issuer.connect(issuer.auth()) as connected:
        assert connected is issuer


def submit(headers: dict[str, str], *, issuer: LocalIssuer | None = None, base_url: str = "") -> "Response":
    """Send the sign-in form of alice with the headers that a browser adds."""
    browser = Browser(issuer or LocalIssuer())
    if base_url:
        browser.http = TestClient(browser.issuer.app, base_url=base_url, follow_redirects=False)
    fields: dict[str, Any] = {**GOOD_REQUEST, "user": "alice", "action": "allow", "grant": "read:user"}
    return browser.http.post("/oidc/auth", data=fields, headers={**FORM, **headers})


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://evil.example", "Sec-Fetch-Site": "cross-site"},
        {"Origin": "https://evil.example"},
        {"Sec-Fetch-Site": "cross-site"},
        # Another port of the same host: the application under development, or another one.
        {"Origin": "http://127.0.0.1:8000", "Sec-Fetch-Site": "same-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Origin": "http://localhost:3001"},
        {"Origin": "null"},
        {"Origin": "null", "Sec-Fetch-Site": "same-origin"},
        {"Origin": ""},
        {"Origin": "127.0.0.1:3001"},
        {"Origin": "http://127.0.0.1:3001.evil.example"},
        {"Origin": "http://127.0.0.1:3001, http://127.0.0.1:3001"},
        {"Origin": "http://127.0.0.1:3001", "Sec-Fetch-Site": "cross-site"},
        {"Origin": "http://127.0.0.1:3001", "Sec-Fetch-Site": ""},
    ],
    ids=str,
)
def test_a_form_from_another_page_signs_nobody_in(headers: dict[str, str]) -> None:
    answer = submit(headers)
    assert answer.status_code == 403
    assert "location" not in answer.headers
    assert "access-control-allow-origin" not in answer.headers
    assert "the form was sent by a page of another origin" in answer.text
    assert answer.headers["x-frame-options"] == "DENY"


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Origin": "http://127.0.0.1:3001", "Sec-Fetch-Site": "same-origin"},
        {"Origin": "http://127.0.0.1:3001"},
        {"Sec-Fetch-Site": "same-origin"},
        {"Sec-Fetch-Site": "none"},
    ],
    ids=str,
)
def test_the_form_of_the_issuers_own_page_signs_in(headers: dict[str, str]) -> None:
    answer = submit(headers)
    assert answer.status_code == 303
    assert re.match(r"http://localhost:8000/docs/oauth2-redirect\?code=", answer.headers["location"])


def test_the_own_page_is_the_one_that_the_browser_has_open() -> None:
    answer = submit(
        {"Origin": "http://localhost:3001", "Sec-Fetch-Site": "same-origin"}, base_url="http://LocalHost:3001"
    )
    assert answer.status_code == 303


def test_behind_a_proxy_that_ends_tls_the_form_is_still_the_issuers_own() -> None:
    issuer = LocalIssuer(allowed_hosts=["auth.example.test"])
    answer = submit({"Origin": "https://auth.example.test"}, issuer=issuer, base_url="http://auth.example.test")
    assert answer.status_code == 303
