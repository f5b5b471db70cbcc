"""Applications that are not registered: their client id is the URL of a document, which the local issuer fetches."""

from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, Final

import httpx
import pytest
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.testclient import TestClient

from fastapi_logto.testing import Directory, DynamicApps, LocalIssuer
from fastapi_logto.testing.issuer.client_documents import fetch_application
from fastapi_logto.testing.issuer.refusals import RefusedError
from tests.tenants import serve
from tests.unit.test_testing_sign_in import API, REDIRECT, Browser, decode

URL: Final = "https://client.example.com/oauth/client.json"
PUBLIC: Final = "93.184.215.14"
VALID: Final[Mapping[str, Any]] = {"client_id": URL, "client_name": "Client", "redirect_uris": [REDIRECT]}


@dataclass
class Network:
    """A network with one name, and a web server that responds to every request."""

    addresses: list[str] = field(default_factory=lambda: [PUBLIC])
    response: httpx.Response = field(default_factory=lambda: httpx.Response(200, json=VALID))
    requests: list[httpx.Request] = field(default_factory=list[httpx.Request])

    def resolve(self, host: str, port: int) -> list[tuple[Any, Any, Any, Any, Any]]:
        assert isinstance(host, str)
        return [(2, 1, 6, "", (address, port)) for address in self.addresses]

    def respond(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        return self.response

    def fetch(self, client_id: str = URL, *, allow_loopback: bool = False) -> tuple[str, ...]:
        """Return the redirect URIs of the application."""
        application = fetch_application(
            client_id,
            allow_loopback=allow_loopback,
            resolve=self.resolve,
            http_transport=httpx.MockTransport(self.respond),
        )
        assert application.client_id == client_id
        return tuple(application.redirect_uris)


def test_the_document_is_fetched_from_the_address_that_was_checked() -> None:
    network = Network()

    assert network.fetch() == (REDIRECT,)
    (request,) = network.requests
    assert str(request.url) == f"https://{PUBLIC}/oauth/client.json"
    assert (request.headers["host"], request.extensions["sni_hostname"]) == ("client.example.com", "client.example.com")


@pytest.mark.parametrize(
    "client_id",
    [
        "http://client.example.com/client.json",
        "https://client.example.com",
        "https://client.example.com/",
        "https://client.example.com/client.json?a=b",
        "https://client.example.com/client.json#a",
        "https://user:password@client.example.com/client.json",
        "https://client.example.com/a/../client.json",
        "https://client.example.com/a/%2e%2E/client.json",
        "https://client.example.com/./client.json",
        "https://client.example.com:99999/client.json",
        "https://client.example.com/client json",
        "https:///client.json",
        "ftp://client.example.com/client.json",
        "file:///etc/passwd",
    ],
)
def test_a_url_that_is_not_a_valid_client_id_is_not_fetched(client_id: str) -> None:
    network = Network()

    with pytest.raises(RefusedError, match="not the URL of a valid client metadata document: expected") as refused:
        network.fetch(client_id, allow_loopback=True)
    assert (refused.value.error, network.requests) == ("invalid_client", [])


@pytest.mark.parametrize(
    "addresses",
    [
        [],
        ["127.0.0.1"],
        [PUBLIC, "10.0.0.1"],
        ["10.0.0.1", PUBLIC],
        ["169.254.169.254"],
        ["100.64.0.1"],
        ["0.0.0.0"],  # noqa: S104 - an address to connect to
        ["224.0.1.1"],
        ["::1"],
        ["::"],
        ["::ffff:127.0.0.1"],
        ["64:ff9b::7f00:1"],
        ["2002:7f00:1::"],
        ["fe80::1%eth0"],
        ["fd00::1"],
        ["ff0e::1"],
    ],
    ids=" ".join,
)
@pytest.mark.parametrize("allow_loopback", [False, True])
def test_nothing_is_fetched_from_an_address_that_is_not_public(addresses: list[str], *, allow_loopback: bool) -> None:
    network = Network(addresses)

    with pytest.raises(RefusedError, match="expected a host with public addresses only"):
        network.fetch(allow_loopback=allow_loopback)
    assert network.requests == []


@pytest.mark.parametrize("address", [PUBLIC, "2606:2800:220:1::1"])
def test_public_addresses_are_allowed(address: str) -> None:
    network = Network([address])

    assert network.fetch() == (REDIRECT,)
    assert network.requests[0].url.host == address


@pytest.mark.parametrize("error", [OSError("no such host"), UnicodeError("label too long")])
def test_a_name_that_can_not_be_resolved_is_refused(error: Exception) -> None:
    def fail(_host: str, _port: int) -> list[tuple[Any, Any, Any, Any, Any]]:
        raise error

    with pytest.raises(RefusedError, match="expected a host with public addresses only"):
        fetch_application(URL, allow_loopback=False, resolve=fail)


@pytest.mark.parametrize("url", ["http://127.0.0.1:9000/c", "https://localhost/c", "http://[::1]/c"])
def test_loopback_must_be_allowed_and_its_names_must_resolve_to_loopback(url: str) -> None:
    document = httpx.Response(200, json={**VALID, "client_id": url})
    network = Network(["127.0.0.1", "::1"], document)

    assert network.fetch(url, allow_loopback=True) == (REDIRECT,)
    for addresses, allow_loopback in ((["127.0.0.1"], False), ([PUBLIC], True), (["127.0.0.1", PUBLIC], True)):
        other = Network(addresses, document)
        with pytest.raises(RefusedError, match="expected"):
            other.fetch(url, allow_loopback=allow_loopback)
        assert other.requests == []


LARGE: Final = {**VALID, "client_name": "x" * 5 * 1024}


@pytest.mark.parametrize(
    ("response", "problem"),
    [
        (httpx.Response(302, headers={"Location": f"https://{PUBLIC}/other"}), "status 302 instead of 200"),
        (httpx.Response(404, json=VALID), "status 404 instead of 200"),
        (httpx.Response(200, json=LARGE), "expected at most 5120 bytes, found more"),
        (httpx.Response(200, text="<html>"), "client.json: "),
        (httpx.Response(200, json=[VALID]), "client.json: "),
        (httpx.Response(200, json={**VALID, "client_id": f"{URL}/"}), "expected the same client_id as the URL"),
        (httpx.Response(200, json={"redirect_uris": [REDIRECT]}), "expected the same client_id as the URL"),
        (httpx.Response(200, json={**VALID, "client_secret": "x"}), "expected a public application"),
        (
            httpx.Response(200, json={**VALID, "token_endpoint_auth_method": "client_secret_basic"}),
            "expected a public application",
        ),
        *(
            (httpx.Response(200, json={**VALID, "redirect_uris": uris}), "expected redirect_uris with an http")
            for uris in (None, [], "http://localhost", ["app:/callback", 1, None, "http://localhost/#a"])
        ),
    ],
)
def test_a_document_that_is_not_that_of_a_public_application_is_refused(response: httpx.Response, problem: str) -> None:
    network = Network(response=response)

    with pytest.raises(RefusedError, match=problem):
        network.fetch()
    assert len(network.requests) == 1


def test_redirect_uris_with_other_schemes_are_ignored() -> None:
    document = {**VALID, "redirect_uris": ["app:/callback", REDIRECT], "token_endpoint_auth_method": "none"}

    assert Network(response=httpx.Response(200, json=document)).fetch() == (REDIRECT,)


@dataclass
class Client:
    """An application that serves its own document, and counts how often that is fetched."""

    url: str = ""
    fetched: int = 0

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.fetched += 1
        path = Request(scope).url.path
        document = {"client_id": self.url, "redirect_uris": [REDIRECT]}
        await JSONResponse(document, status_code=200 if path == "/client.json" else 404)(scope, receive, send)


@contextmanager
def run_client() -> Generator[Client]:
    client = Client()
    with serve(LocalIssuer(), app=client) as base:
        client.url = f"{base}/client.json"
        yield client


def build_browser(*scopes: str, allow_loopback: bool = True) -> Browser:
    dynamic = DynamicApps(scopes=scopes, allow_loopback=allow_loopback)
    return Browser(LocalIssuer(directory=replace(Directory.example(), dynamic_apps=dynamic)))


def test_discovery_says_whether_dynamic_applications_are_accepted() -> None:
    member = "client_id_metadata_document_supported"
    found = [
        TestClient(browser.issuer.app, base_url=browser.issuer.endpoint).get(f"/oidc/.well-known/{name}").json()
        for browser in (build_browser(), Browser(LocalIssuer()))
        for name in ("openid-configuration", "oauth-authorization-server")
    ]

    assert [document.get(member) for document in found] == [True, True, None, None]


def test_an_application_signs_in_without_registration_and_gets_the_scopes_that_are_allowed() -> None:
    browser = build_browser("read:user", "email")

    with run_client() as client:
        scope = "openid offline_access profile email read:user write:user"
        page = browser.open(client_id=client.url, scope=scope, prompt="consent")
        assert client.url in page.text
        code = browser.sign_in(client_id=client.url, scope=scope, prompt="consent")["code"]
        assert browser.redeem(code).json()["error"] == "invalid_grant"
        code = browser.sign_in(client_id=client.url, scope=scope, prompt="consent")["code"]
        answer = browser.redeem(code, client_id=client.url, resource=API).json()
        renewed = browser.refresh(answer["refresh_token"], client_id=client.url, resource=API).json()
        opaque = browser.refresh(renewed["refresh_token"], client_id=client.url).json()

    for found in (answer, renewed):
        token = decode(browser.issuer, found["access_token"]).claims
        assert (token["client_id"], token["scope"], token["sub"]) == (client.url, "read:user", "alice0000001")
    assert opaque["scope"].split() == ["openid", "offline_access", "email"]


def test_a_registered_application_is_neither_fetched_nor_limited() -> None:
    browser = build_browser()

    assert decode(browser.issuer, browser.get_tokens()["access_token"]).claims["scope"] == "read:user write:user"


def test_a_redirect_uri_that_is_not_in_the_document_gets_no_response() -> None:
    browser = build_browser("read:user")

    with run_client() as client:
        for uri in (f"{REDIRECT}/", REDIRECT.replace("8000", "8001"), "http://127.0.0.1:8000/docs/oauth2-redirect"):
            page = browser.open(client_id=client.url, redirect_uri=uri)
            assert (page.status_code, page.headers.get("location")) == (400, None)
            assert "redirect_uri is not one of the redirect URIs" in page.text


def test_an_application_without_a_document_is_refused_at_both_endpoints() -> None:
    browser = build_browser("read:user")

    with run_client() as client:
        unknown = client.url.replace("client", "unknown")
        page = browser.open(client_id=unknown)
        answer = browser.redeem("code", client_id=unknown)

    assert (page.status_code, "status 404 instead of 200" in page.text) == (400, True)
    assert (answer.status_code, answer.json()["error"]) == (400, "invalid_client")


@pytest.mark.parametrize("dynamic", [None, DynamicApps(scopes=["read:user"])], ids=["off", "no loopback"])
def test_nothing_on_this_machine_is_fetched_unless_that_is_allowed(dynamic: DynamicApps | None) -> None:
    browser = Browser(LocalIssuer(directory=replace(Directory.example(), dynamic_apps=dynamic)))

    with run_client() as client:
        assert browser.open(client_id=client.url).status_code == 400
        assert browser.redeem("code", client_id=client.url).json()["error"] == "invalid_client"

    assert client.fetched == 0
