"""A document is fetched over a real socket, complete, within the limits of size and time, or `FetchError` is raised."""

import asyncio
import gzip
import ipaddress
import json
import re
import socket
import ssl
import threading
import time
from collections.abc import AsyncIterator, Generator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from importlib import metadata
from pathlib import Path

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from fastapi_logto import LogtoAuth
from fastapi_logto.client import GrantUnavailableError, LogtoClient
from fastapi_logto.errors import ProviderUnavailableError
from fastapi_logto.provider.failures import ExchangeError, FetchError
from fastapi_logto.provider.transport import MAX_DOCUMENT_BYTES, Request, Transport
from fastapi_logto.strict_json import estimate_weight, parse_object_of_entries
from fastapi_logto.testing import LocalIssuer
from tests.captured import DISCOVERY_PATH, ISSUER, JWKS, JWKS_PATH, Answer, CapturedServer, Fault, serve_captured

SECRET = "hunter2"


@pytest.fixture
def server() -> Generator[CapturedServer]:
    with serve_captured() as running:
        yield running


@pytest.fixture
def transport() -> Transport:
    return Transport(timeout_seconds=5)


@pytest.fixture
def closed_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port: int = listening.getsockname()[1]
    return port


async def refusal(transport: Transport, url: str) -> FetchError:
    with pytest.raises(FetchError) as caught:
        await transport.fetch_json(url)
    return caught.value


async def test_a_document_of_the_provider_is_given_as_a_json_object(
    server: CapturedServer, transport: Transport
) -> None:
    discovery = await transport.fetch_json(server.endpoint + DISCOVERY_PATH)

    assert discovery["issuer"] == ISSUER
    assert discovery["jwks_uri"] == server.endpoint + JWKS_PATH
    assert await transport.fetch_json(server.endpoint + JWKS_PATH) == JWKS
    assert server.counts == {DISCOVERY_PATH: 1, JWKS_PATH: 1}


async def test_a_request_names_this_package_and_accepts_a_plain_json_body(
    server: CapturedServer, transport: Transport
) -> None:
    await transport.fetch_json(server.endpoint + JWKS_PATH)
    await transport.fetch_json(server.endpoint + JWKS_PATH)

    for request in server.requests:
        assert request.method == "GET"
        assert re.fullmatch(r"fastapi-logto/\d+\.\d+\.\d+\S*", request.headers["user-agent"])
        assert request.headers["accept-encoding"] == "identity"
        assert request.headers["accept"] == "application/json"
        assert request.headers.keys() == {"host", "user-agent", "accept-encoding", "accept", "connection"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Misbehaviour:
    """A response that is not a document, and the message of the error after the URL."""

    id: str
    answer: Answer | Fault
    says: str
    status: int | None = None


MISBEHAVIOURS = (
    Misbehaviour(id="reset", answer=Fault.RESET, says="ReadError"),
    Misbehaviour(
        id="404", answer=Answer.json({"detail": SECRET}, status=404), says="status 404 instead of 200", status=404
    ),
    Misbehaviour(id="410", answer=Answer(status=410), says="status 410 instead of 200", status=410),
    Misbehaviour(
        id="500", answer=Answer(status=500, body=SECRET.encode()), says="status 500 instead of 200", status=500
    ),
    Misbehaviour(id="503", answer=Answer.json(JWKS, status=503), says="status 503 instead of 200", status=503),
    Misbehaviour(id="201", answer=Answer.json(JWKS, status=201), says="status 201 instead of 200", status=201),
    Misbehaviour(id="204", answer=Answer(status=204), says="status 204 instead of 200", status=204),
    Misbehaviour(id="304", answer=Answer(status=304), says="status 304 instead of 200", status=304),
    Misbehaviour(
        id="html",
        answer=Answer(body=f"<html>{SECRET}</html>".encode(), headers={"Content-Type": "text/html"}),
        says="not strict JSON: JSONDecodeError",
    ),
    Misbehaviour(id="empty", answer=Answer(), says="not strict JSON: JSONDecodeError"),
    Misbehaviour(id="array", answer=Answer.json([SECRET]), says="not a JSON object"),
    Misbehaviour(id="null", answer=Answer.json(None), says="not a JSON object"),
    Misbehaviour(
        id="duplicate member", answer=Answer(body=b'{"keys": [], "keys": ["hunter2"]}'), says="duplicate member"
    ),
    Misbehaviour(
        id="UTF-16",
        answer=Answer(body='{"keys": []}'.encode("utf-16")),
        says="not strict JSON: a byte order mark before it",
    ),
    Misbehaviour(
        id="UTF-8 with a byte order mark",
        answer=Answer(body=b'\xef\xbb\xbf{"keys": []}'),
        says="not strict JSON: a byte order mark before it",
    ),
    Misbehaviour(id="bomb of brackets", answer=Answer(body=b"[" * 100_000), says="nested too deeply"),
    Misbehaviour(
        id="truncated",
        answer=Answer(body=b'{"keys": ["hunter2"]}', content_length=257),
        says="RemoteProtocolError",
    ),
    Misbehaviour(
        id="gzip bomb", answer=Answer.gzip_bomb(4), says="expected an unencoded body, found Content-Encoding gzip"
    ),
    Misbehaviour(
        id="gzip",
        answer=Answer(body=gzip.compress(b'{"keys": []}'), headers={"Content-Encoding": "GZIP"}),
        says="expected an unencoded body, found Content-Encoding gzip",
    ),
    Misbehaviour(
        id="identity and gzip",
        answer=Answer(body=b'{"keys": []}', headers={"Content-Encoding": "identity, gzip"}),
        says="expected an unencoded body, found Content-Encoding gzip",
    ),
    Misbehaviour(
        id="identity and gzip without a space",
        answer=Answer(body=b'{"keys": []}', headers={"Content-Encoding": "identity,gzip"}),
        says="expected an unencoded body, found Content-Encoding gzip",
    ),
    Misbehaviour(
        id="an encoding that could be a secret",
        answer=Answer(body=b'{"keys": []}', headers={"Content-Encoding": SECRET}),
        says="expected an unencoded body, found an encoded one",
    ),
    Misbehaviour(
        id="too large",
        answer=Answer(body=b'{"keys": ["' + b"hunter2" * 40_000 + b'"]}'),
        says="expected at most 262144 bytes, found more",
    ),
    Misbehaviour(
        id="too large in chunks",
        answer=Answer(body=b" " * 300_000, headers={"Transfer-Encoding": "chunked"}),
        says="expected at most 262144 bytes, found more",
    ),
)


@pytest.mark.parametrize("row", MISBEHAVIOURS, ids=lambda row: row.id)
async def test_a_response_that_is_not_a_document_is_an_error_that_never_shows_the_body(
    row: Misbehaviour, server: CapturedServer, transport: Transport
) -> None:
    url = server.endpoint + JWKS_PATH
    server.replace(JWKS_PATH, row.answer)

    error = await refusal(transport, url)

    assert str(error).startswith(f"{url}: {row.says}")
    assert row.says.endswith(": ") or str(error) == f"{url}: {row.says}"
    assert error.status == row.status
    assert SECRET not in str(error)
    assert server.counts == {JWKS_PATH: 1}


async def test_the_content_type_does_not_matter(server: CapturedServer, transport: Transport) -> None:
    server.replace(JWKS_PATH, Answer(body=b'{"keys": []}', headers={"Content-Type": "text/html"}))

    assert await transport.fetch_json(server.endpoint + JWKS_PATH) == {"keys": []}


async def test_a_document_is_parsed_as_its_reader_says(server: CapturedServer, transport: Transport) -> None:
    server.replace(JWKS_PATH, Answer(body=b'{"keys": [{"kid": "a", "kid": "b"}, 1]}'))
    url = server.endpoint + JWKS_PATH

    assert str(await refusal(transport, url)) == f"{url}: duplicate member"
    assert await transport.fetch_json(url, parse=parse_object_of_entries) == {"keys": [None, 1]}


@pytest.mark.parametrize("encoding", ["gzip", "br", "zstd", "deflate", "x-gzip", "compress"])
async def test_a_known_encoding_is_named(encoding: str, server: CapturedServer, transport: Transport) -> None:
    server.replace(JWKS_PATH, Answer(body=b"{}", headers={"Content-Encoding": encoding}))

    error = await refusal(transport, server.endpoint + JWKS_PATH)

    assert str(error).endswith(f": expected an unencoded body, found Content-Encoding {encoding}")


async def test_the_encoding_identity_is_accepted(server: CapturedServer, transport: Transport) -> None:
    server.replace(JWKS_PATH, Answer(body=b'{"keys": []}', headers={"Content-Encoding": "Identity"}))

    assert await transport.fetch_json(server.endpoint + JWKS_PATH) == {"keys": []}


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_a_redirect_is_not_followed(status: int, server: CapturedServer, transport: Transport) -> None:
    server.replace("/elsewhere", Answer.json(JWKS))
    server.replace(JWKS_PATH, Answer.redirect(f"{server.endpoint}/elsewhere", status=status))

    error = await refusal(transport, server.endpoint + JWKS_PATH)

    assert str(error) == (
        f"{server.endpoint}{JWKS_PATH}: status {status} instead of 200, a redirect to {server.endpoint}/elsewhere"
    )
    assert server.counts == {JWKS_PATH: 1}


async def test_a_refused_connection_is_an_error(closed_port: int, transport: Transport) -> None:
    error = await refusal(transport, f"http://127.0.0.1:{closed_port}/")

    assert str(error) == f"http://127.0.0.1:{closed_port}/: connection refused: nothing listens there"
    assert error.status is None


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (Fault.HANG, "no response in time (0.2 s)"),
        (Answer(body=b'{"keys": []}'.ljust(200), seconds_per_byte=0.05), "no complete response within 0.2 s"),
    ],
    ids=["no response", "a slow body whose every byte is in time"],
)
async def test_a_whole_document_has_one_deadline(answer: Answer | Fault, says: str, server: CapturedServer) -> None:
    url = server.endpoint + JWKS_PATH
    server.replace(JWKS_PATH, answer)
    started = asyncio.get_running_loop().time()

    error = await refusal(Transport(timeout_seconds=0.2), url)

    assert str(error) == f"{url}: {says}"
    assert error.status is None
    assert 0.2 <= asyncio.get_running_loop().time() - started < 5


async def test_a_fetch_that_is_cancelled_is_cancelled_and_no_error(
    server: CapturedServer, transport: Transport
) -> None:
    server.replace(JWKS_PATH, Fault.HANG)
    fetch = asyncio.create_task(transport.fetch_json(server.endpoint + JWKS_PATH))
    while not server.requests:  # noqa: ASYNC110 - the event happens in a thread
        await asyncio.sleep(0.001)

    fetch.cancel()

    with pytest.raises(asyncio.CancelledError):
        await fetch


async def test_the_size_limit_of_a_document_is_exact(server: CapturedServer) -> None:
    url = server.endpoint + JWKS_PATH
    transport = Transport(timeout_seconds=5, max_bytes=64)

    server.replace(JWKS_PATH, Answer(body=b'{"keys": []}'.ljust(64)))
    assert await transport.fetch_json(url) == {"keys": []}

    server.replace(JWKS_PATH, Answer(body=b'{"keys": []}'.ljust(65)))
    assert str(await refusal(transport, url)) == f"{url}: expected at most 64 bytes, found more"


def test_a_document_may_have_256_kib() -> None:
    assert MAX_DOCUMENT_BYTES == 262_144


@pytest.mark.parametrize(
    ("url", "kind"),
    [
        ("ftp://127.0.0.1/", "UnsupportedProtocol"),
        ("/relative", "UnsupportedProtocol"),
        ("http://[::1", "InvalidURL"),
        ("http://127.0.0.1:notaport/", "InvalidURL"),
        ("http://xn--/", "IDNAError"),
    ],
)
async def test_an_invalid_url_is_an_error(url: str, kind: str, transport: Transport) -> None:
    assert str(await refusal(transport, url)) == f"{url}: {kind}"


async def test_a_url_from_a_document_can_not_add_lines_to_the_log(transport: Transport) -> None:
    # The URL of the key set comes from the discovery document, so it is quoted and cut.
    error = await refusal(transport, "http://127.0.0.1/\r\n2026-01-01 ERROR forged\x1b[2J" + "x" * 10_000)

    assert str(error).isprintable()
    assert len(str(error)) < 1000


@pytest.mark.parametrize(("length", "is_shown"), [(200, True), (201, False)])
async def test_a_url_is_shown_whole_as_long_as_it_is_short(length: int, is_shown: object, transport: Transport) -> None:
    url = "ftp://".ljust(length, "x")

    error = await refusal(transport, url)

    shown = url if is_shown else "'" + url[:79] + "..."
    assert str(error) == f"{shown}: UnsupportedProtocol"


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("ftp://a\r\nforged", r"'ftp://a\r\nforged'"),
        ("ftp://a\x1b[2J", r"'ftp://a\x1b[2J'"),
        ("ftp://m\xfcller", r"'ftp://m\xfcller'"),
        ("ftp://a\u2028", r"'ftp://a\u2028'"),
    ],
)
async def test_a_url_of_strange_characters_is_shown_quoted(url: str, shown: str, transport: Transport) -> None:
    assert str(await refusal(transport, url)).startswith(f"{shown}: ")


async def test_a_response_in_memory_is_read_as_one_from_a_socket() -> None:
    transport = Transport(
        timeout_seconds=5, http_transport=httpx.MockTransport(lambda _: httpx.Response(200, json={"keys": []}))
    )

    assert await transport.fetch_json("https://tenant.logto.app/oidc/jwks") == {"keys": []}


async def test_a_response_in_memory_is_bounded_too() -> None:
    transport = Transport(
        timeout_seconds=5,
        max_bytes=64,
        http_transport=httpx.MockTransport(lambda _: httpx.Response(200, content=b" " * 65)),
    )

    assert (
        str(await refusal(transport, "https://a.example/"))
        == "https://a.example/: expected at most 64 bytes, found more"
    )


async def test_an_endless_stream_is_closed_when_it_exceeds_the_limit() -> None:
    sent = 0

    async def flood() -> AsyncIterator[bytes]:
        nonlocal sent
        while True:
            sent += 16
            yield b" " * 16

    transport = Transport(
        timeout_seconds=5,
        max_bytes=64,
        http_transport=httpx.MockTransport(lambda _: httpx.Response(200, content=flood())),
    )

    assert (
        str(await refusal(transport, "https://a.example/"))
        == "https://a.example/: expected at most 64 bytes, found more"
    )
    assert sent == 80


async def test_a_response_says_how_much_memory_its_document_takes(server: CapturedServer, transport: Transport) -> None:
    body = json.dumps(JWKS).encode()
    server.replace(JWKS_PATH, Answer(body=body))

    response = await transport.send(server.endpoint + JWKS_PATH, Request())

    assert (response.document, response.weight) == (JWKS, estimate_weight(body))
    assert response.weight > len(body)


@pytest.mark.parametrize(
    ("seconds", "connect_seconds"), [(0.5, 0.5), (2, 2), (30, 2)], ids=["short", "as for a connection", "long"]
)
async def test_a_connection_must_be_established_within_two_seconds(seconds: float, connect_seconds: float) -> None:
    limits: list[object] = []

    def answer(request: httpx.Request) -> httpx.Response:
        limits.append(request.extensions["timeout"])
        return httpx.Response(200, json={})

    await Transport(timeout_seconds=seconds, http_transport=httpx.MockTransport(answer)).fetch_json(
        "https://a.example/"
    )

    assert limits == [{"connect": connect_seconds, "read": seconds, "write": seconds, "pool": seconds}]


async def test_the_trust_store_is_read_once_and_not_on_the_event_loop(
    server: CapturedServer, transport: Transport, monkeypatch: pytest.MonkeyPatch
) -> None:
    create, threads = httpx.create_ssl_context, list[threading.Thread]()

    def watch() -> ssl.SSLContext:
        threads.append(threading.current_thread())
        return create()

    monkeypatch.setattr(httpx, "create_ssl_context", watch)

    for _ in range(2):
        await transport.fetch_json(server.endpoint + JWKS_PATH)

    assert len(threads) == 1
    assert threads[0] is not threading.current_thread()


async def test_from_a_tree_that_was_never_installed_requests_name_no_version(
    server: CapturedServer, transport: Transport, monkeypatch: pytest.MonkeyPatch
) -> None:
    def find(name: str) -> metadata.Distribution:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata.Distribution, "from_name", find)

    await transport.fetch_json(server.endpoint + JWKS_PATH)

    assert [request.headers["user-agent"] for request in server.requests] == ["fastapi-logto/unknown"]


def test_one_transport_serves_two_event_loops_one_after_the_other(server: CapturedServer, transport: Transport) -> None:
    for _ in range(2):
        assert asyncio.run(transport.fetch_json(server.endpoint + JWKS_PATH)) == JWKS

    assert server.counts == {JWKS_PATH: 2}


async def test_a_missing_trust_store_is_an_error_of_the_fetch(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, transport: Transport
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "missing.pem"))

    error = await refusal(transport, "https://127.0.0.1/")

    assert str(error).startswith("https://127.0.0.1/: ")


async def test_a_proxy_that_can_not_be_used_is_an_error_of_the_fetch(
    monkeypatch: pytest.MonkeyPatch, transport: Transport
) -> None:
    # httpx needs another package for this kind of proxy, and raises an ImportError.
    monkeypatch.setenv("ALL_PROXY", "socks5://127.0.0.1:1")
    monkeypatch.delenv("HTTPS_PROXY", raising=False)
    monkeypatch.delenv("https_proxy", raising=False)
    monkeypatch.setenv("no_proxy", "")

    error = await refusal(transport, "https://tenant.invalid/")

    assert str(error) == "https://tenant.invalid/: ImportError"


@dataclass(frozen=True, slots=True, kw_only=True)
class TlsServer:
    """A server whose certificate no public authority signed."""

    url: str
    authority: ssl.SSLContext


class _Document(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response_only(200)
        self.end_headers()
        self.wfile.write(b'{"keys": []}')


class _QuietServer(HTTPServer):
    def handle_error(self, request: object, client_address: object) -> None:
        """Print nothing: the test is about clients that abort the handshake."""


def _self_signed(directory: Path) -> Path:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(datetime.now(UTC) - timedelta(days=1))
        .not_valid_after(datetime.now(UTC) + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .sign(key, hashes.SHA256())
    )
    file = directory / "server.pem"
    file.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        + certificate.public_bytes(serialization.Encoding.PEM)
    )
    return file


@pytest.fixture
def tls_server(tmp_path: Path) -> Generator[TlsServer]:
    file = _self_signed(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(file)
    running = _QuietServer(("127.0.0.1", 0), _Document)
    running.socket = context.wrap_socket(running.socket, server_side=True)
    thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    authority = ssl.create_default_context(cafile=str(file))
    yield TlsServer(url=f"https://127.0.0.1:{running.server_port}/", authority=authority)
    running.shutdown()
    thread.join()
    running.server_close()


async def test_a_certificate_that_nobody_verifies_is_refused(tls_server: TlsServer, transport: Transport) -> None:
    assert (
        str(await refusal(transport, tls_server.url))
        == f"{tls_server.url}: invalid certificate: self-signed certificate"
    )


async def test_a_private_authority_is_trusted_where_it_is_given(tls_server: TlsServer) -> None:
    transport = Transport(timeout_seconds=5, ssl_context=tls_server.authority)

    assert await transport.fetch_json(tls_server.url) == {"keys": []}


@pytest.mark.parametrize(
    ("is_given", "problem"), [(False, "invalid certificate: self-signed certificate"), (True, "issuer")]
)
async def test_a_client_of_the_tenant_trusts_a_private_authority_where_it_is_given(
    tls_server: TlsServer, problem: str, *, is_given: bool
) -> None:
    context = tls_server.authority if is_given else None
    client = LogtoClient(endpoint=tls_server.url, client_id="c", client_secret="s", ssl_context=context)

    # The server is reached, but its document is no discovery document.
    with pytest.raises(GrantUnavailableError, match=problem) as caught:
        await client.get_token("https://api.example.com")
    assert ("certificate" in str(caught.value)) is not is_given


async def test_the_keys_are_fetched_with_the_tls_context_of_the_application(tls_server: TlsServer) -> None:
    auth = LogtoAuth(endpoint=tls_server.url, audience="https://api.example.com", ssl_context=tls_server.authority)

    # As above: with another context, the error would name the certificate.
    with pytest.raises(ProviderUnavailableError, match="issuer"):
        await auth.verify(LocalIssuer().access_token())


async def test_an_exchange_returns_every_response_as_it_was_received(
    server: CapturedServer, transport: Transport
) -> None:
    answer = Answer(status=422, body=b"<html>", headers={"Total-Number": "3"})
    server.replace(JWKS_PATH, answer)

    response = await transport.exchange(server.endpoint + JWKS_PATH, Request())

    assert (response.status, response.body, response.headers["total-number"]) == (422, b"<html>", "3")
    assert response.tls is None


async def test_a_response_shows_its_status_alone_because_a_provider_may_repeat_secrets(
    server: CapturedServer, transport: Transport
) -> None:
    headers = {"Retry-After": f"{SECRET}-later", "Location": f"https://a.example/{SECRET}"}
    server.replace(JWKS_PATH, Answer(status=400, body=json.dumps({"error": SECRET}).encode(), headers=headers))
    url = server.endpoint + JWKS_PATH

    raw, response = await transport.exchange(url, Request()), await transport.send(url, Request())

    assert SECRET in raw.headers["location"]
    assert SECRET.encode() in raw.body
    assert (response.document, response.retry_after, response.location) == ({"error": SECRET}, *headers.values())
    assert repr(raw) == "RawResponse(status=400, tls=None)"
    assert repr(response) == f"Response(status=400, weight={response.weight})"


@pytest.mark.parametrize("status", [404, 410, 500])
@pytest.mark.parametrize(
    ("body", "headers"),
    [(gzip.compress(b"<html>"), {"Content-Encoding": "gzip"}), (b"x" * (MAX_DOCUMENT_BYTES + 1), {})],
    ids=["encoded", "too large"],
)
async def test_an_error_keeps_its_status_whatever_its_body(
    status: int, body: bytes, headers: dict[str, str], server: CapturedServer, transport: Transport
) -> None:
    server.replace(JWKS_PATH, Answer(status=status, body=body, headers=headers))
    url = server.endpoint + JWKS_PATH

    raw = await transport.exchange(url, Request())
    response = await transport.send(url, Request())
    with pytest.raises(FetchError) as caught:
        await transport.fetch_json(url)

    assert (raw.status, raw.body) == (status, b"")
    assert (response.status, response.document, caught.value.status) == (status, {}, status)


async def test_the_body_of_a_404_is_not_read(server: CapturedServer) -> None:
    # Its body would not be complete in time.
    server.replace(JWKS_PATH, Answer(status=404, body=b" " * 200, seconds_per_byte=0.05))
    transport, url = Transport(timeout_seconds=2), server.endpoint + JWKS_PATH

    assert (await refusal(transport, url)).status == 404
    response = await transport.exchange(url, Request(), reads_errors=False)

    assert (response.status, response.body) == (404, b"")


@pytest.mark.parametrize(
    ("body", "headers", "found"),
    [
        (gzip.compress(b"{}"), {"Content-Encoding": "gzip"}, "expected an unencoded body, found Content-Encoding gzip"),
        (b"x" * (MAX_DOCUMENT_BYTES + 1), {}, f"expected at most {MAX_DOCUMENT_BYTES} bytes"),
    ],
    ids=["encoded", "too large"],
)
async def test_a_created_resource_that_cannot_be_read_says_why(
    body: bytes, headers: dict[str, str], found: str, server: CapturedServer, transport: Transport
) -> None:
    server.replace(JWKS_PATH, Answer(status=201, body=body, headers=headers))

    with pytest.raises(FetchError, match=found):
        await transport.send(server.endpoint + JWKS_PATH, Request())


async def test_an_exchange_by_https_returns_the_tls_session(tls_server: TlsServer) -> None:
    transport = Transport(timeout_seconds=5, ssl_context=tls_server.authority)

    response = await transport.exchange(tls_server.url, Request())

    assert response.tls is not None
    assert response.tls.version == "TLSv1.3"
    assert 0 < ssl.cert_time_to_seconds(str(response.tls.certificate["notAfter"])) - time.time() < 86_401
    assert repr(response.tls) == "TlsSession(version='TLSv1.3')"


async def failure(transport: Transport, url: str) -> ExchangeError:
    with pytest.raises(ExchangeError) as caught:
        await transport.exchange(url, Request())
    return caught.value


@pytest.mark.parametrize(
    ("answer", "layer", "says"),
    [
        (Fault.RESET, "connection", "ReadError"),
        (Fault.HANG, "connection", "no response in time (0.5 s)"),
        (Answer(body=b"{", content_length=10), "http", "RemoteProtocolError"),
        (Answer(body=b"{}" * 50, seconds_per_byte=0.05), "http", "no complete response within 0.5 s"),
        (Answer(body=b" " * 300_000), "http", "expected at most 262144 bytes, found more"),
        (Answer.gzip_bomb(1), "http", "expected an unencoded body, found Content-Encoding gzip"),
    ],
    ids=["reset", "hang", "cut", "slow", "large", "encoded"],
)
async def test_an_exchange_that_fails_names_the_layer_and_not_the_url(
    answer: Answer | Fault, layer: str, says: str, server: CapturedServer
) -> None:
    server.replace(JWKS_PATH, answer)

    error = await failure(Transport(timeout_seconds=0.5), server.endpoint + JWKS_PATH)

    assert (str(error), error.layer) == (says, layer)


async def test_a_host_a_port_and_a_certificate_that_fail_are_different_layers(
    closed_port: int, tls_server: TlsServer, transport: Transport
) -> None:
    errors = [
        await failure(transport, url)
        for url in ("http://tenant.invalid/", f"http://127.0.0.1:{closed_port}/", tls_server.url)
    ]

    assert [error.layer for error in errors] == ["dns", "connection", "tls"]
    assert str(errors[0]).startswith("no address: ")


def tls_error(reason: str) -> ssl.SSLError:
    error = ssl.SSLError(1, "text")
    error.reason = reason
    return error


def fail_with(error: Exception, cause: BaseException | None = None) -> Transport:
    def handle(_: httpx.Request) -> httpx.Response:
        raise error from cause

    return Transport(timeout_seconds=5, http_transport=httpx.MockTransport(handle))


@pytest.mark.parametrize(
    ("error", "cause", "says"),
    [
        (httpx.ConnectTimeout("x"), None, "no response in time"),
        (
            httpx.ConnectError("x"),
            ExceptionGroup("every address failed", [OSError("unreachable"), ConnectionRefusedError()]),
            "connection refused: nothing listens there",
        ),
        (httpx.ConnectError("x"), ssl.SSLError(1, "text"), "TLS failed: SSLError"),
        (httpx.ConnectError("x"), tls_error("UNSUPPORTED_PROTOCOL"), "TLS failed: UNSUPPORTED_PROTOCOL"),
        *(
            (
                httpx.ConnectError("x"),
                tls_error(reason),
                f"no TLS: the server speaks another protocol, such as plain http ({reason})",
            )
            for reason in ("WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE")
        ),
        (httpx.ConnectError("https://user:secret@a.example"), None, "ConnectError"),
        (httpx.ConnectError("x", request=httpx.Request("GET", "https://a.example")), ValueError(), "ConnectError"),
    ],
    ids=[
        *("timeout", "several addresses", "TLS without a reason", "TLS with a reason"),
        *("no TLS", "no TLS with OpenSSL 3.2", "no cause", "another cause"),
    ],
)
async def test_the_cause_of_a_failed_exchange_is_named(
    error: Exception, cause: BaseException | None, says: str
) -> None:
    assert str(await failure(fail_with(error, cause), "https://a.example/")) == says


async def test_an_error_that_the_caller_is_handling_is_not_reported_as_the_cause() -> None:
    try:
        raise ConnectionRefusedError  # noqa: TRY301 - the error is the subject of the test
    except ConnectionRefusedError:
        error = await failure(fail_with(httpx.ConnectError("x")), "https://a.example/")

    assert str(error) == "ConnectError"
