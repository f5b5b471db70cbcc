"""Plain http uses no proxy; only https, which a proxy can't read, uses the proxy of the environment."""

import asyncio
from collections.abc import Generator

import pytest

from fastapi_logto.cli.doctor.dns import find_proxy
from fastapi_logto.cli.requests import send
from fastapi_logto.client import LogtoClient
from fastapi_logto.provider.failures import ExchangeError, FetchError
from fastapi_logto.provider.transport import Request, Transport
from fastapi_logto.testing import LocalIssuer
from tests.captured import JWKS, JWKS_PATH, CapturedServer, serve_captured
from tests.conftest import RunCli
from tests.proxies import PROXY_VARIABLES, RecordingProxy, serve_proxy
from tests.tenants import API, serve

PLAIN_HTTP_VARIABLES = ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy")
HTTPS_VARIABLES = ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy")


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    # The proxy settings of the machine that runs the tests must have no effect.
    for name in (*PROXY_VARIABLES, "NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def server() -> Generator[CapturedServer]:
    with serve_captured() as running:
        yield running


@pytest.fixture
def proxy() -> Generator[RecordingProxy]:
    with serve_proxy() as running:
        yield running


# 127.1 is 127.0.0.1 for the resolver, and not loopback for us: it represents any host of a closed network.
@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "127.1"])
@pytest.mark.parametrize("variable", PLAIN_HTTP_VARIABLES)
async def test_plain_http_uses_no_proxy(
    variable: str, host: str, server: CapturedServer, proxy: RecordingProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, proxy.url)

    document = await Transport(timeout_seconds=5).fetch_json(f"http://{host}:{server.port}{JWKS_PATH}")

    assert document == JWKS
    assert proxy.requests == []


@pytest.mark.parametrize("scheme", ["http", "HTTP"])
@pytest.mark.parametrize("variable", PLAIN_HTTP_VARIABLES)
def test_plain_http_of_the_command_line_uses_no_proxy(
    variable: str, scheme: str, server: CapturedServer, proxy: RecordingProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, proxy.url)

    response = send(Transport(timeout_seconds=5), f"{scheme}://127.0.0.1:{server.port}{JWKS_PATH}", Request())

    assert response.status == 200
    assert proxy.requests == []


@pytest.mark.parametrize("variable", HTTPS_VARIABLES)
async def test_https_uses_the_proxy_which_learns_the_host_alone(
    variable: str, proxy: RecordingProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, proxy.url)

    with pytest.raises(FetchError, match=r": ProxyError\Z"):
        await Transport(timeout_seconds=5).fetch_json("https://tenant.invalid/oidc/jwks")

    assert [request.partition("\r\n")[0] for request in proxy.requests] == ["CONNECT tenant.invalid:443 HTTP/1.1"]
    assert "jwks" not in proxy.requests[0]


@pytest.mark.parametrize("variable", HTTPS_VARIABLES)
def test_https_of_the_command_line_uses_the_proxy(
    variable: str, proxy: RecordingProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, proxy.url)

    with pytest.raises(ExchangeError, match="ProxyError"):
        send(Transport(timeout_seconds=5), "https://tenant.invalid/oidc/jwks", Request())

    assert [request.partition("\r\n")[0] for request in proxy.requests] == ["CONNECT tenant.invalid:443 HTTP/1.1"]


async def test_a_proxy_that_needs_another_package_does_not_concern_plain_http(
    server: CapturedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ALL_PROXY", "socks5://127.0.0.1:1")

    assert await Transport(timeout_seconds=5).fetch_json(server.endpoint + JWKS_PATH) == JWKS


def test_the_secret_of_a_machine_does_not_reach_the_proxy(
    proxy: RecordingProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in PROXY_VARIABLES:
        monkeypatch.setenv(name, proxy.url)
    issuer = LocalIssuer()
    with serve(issuer):
        client = LogtoClient(
            endpoint=issuer.endpoint, client_id="local-machine", client_secret="local-machine-secret"
        )  # fmt: skip
        issued = asyncio.run(client.get_token(API))

    assert issuer.read_access_token(issued.token) is not None
    assert proxy.requests == []


@pytest.mark.parametrize("arguments", [("doctor",), ("token", "--machine"), ("token", "--user", "alice")])
def test_no_command_sends_a_local_tenant_anything_by_the_proxy(
    arguments: tuple[str, ...], proxy: RecordingProxy, cli: RunCli
) -> None:
    issuer = LocalIssuer()
    with serve(issuer):
        ended = cli(
            *arguments,
            LOGTO_ENDPOINT=issuer.endpoint,
            LOGTO_AUDIENCE=API,
            LOGTO_SWAGGER_CLIENT_ID="local-spa",
            LOGTO_MACHINE_ID="local-machine",
            LOGTO_MACHINE_SECRET="local-machine-secret",
            **dict.fromkeys(PROXY_VARIABLES, proxy.url),
        )

    # Without `--scope`, the scopes of the local issuer are requested first.
    told = "scopes: read:user write:user; to choose others, pass --scope, or --app with your application\n"
    assert (ended.code, ended.err) == (0, told if arguments[0] == "token" else "")
    assert proxy.requests == []


@pytest.mark.parametrize(
    ("url", "value", "shown"),
    [
        ("https://other.example/x", "http://user:password@127.0.0.1:9", "127.0.0.1"),
        ("https://other.example/x", "proxy.example:9", "proxy.example"),
        ("https://other.example/x", "http://[", "an invalid URL"),
        ("https://other.example/x", "http://", "an invalid URL"),
        ("https://tenant.example/x", "http://127.0.0.1:9", None),
        ("http://other.example/x", "http://127.0.0.1:9", None),
    ],
)
def test_the_host_of_the_proxy_is_shown_without_its_credentials(
    url: str, value: str, shown: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("all_proxy", value)
    monkeypatch.setenv("no_proxy", "tenant.example")

    assert find_proxy(url) == shown


def test_without_a_proxy_there_is_none_to_show() -> None:
    assert find_proxy("https://tenant.example/x") is None
