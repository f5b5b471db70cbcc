"""Healthy tenants, and tenants with faults that users encounter: local servers that really have them."""

import datetime as dt
import ipaddress
import socket
import threading
import time
from collections.abc import Generator, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from email.utils import formatdate
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import uvicorn
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from fastapi_logto.testing import Clock, LocalIssuer

API: Final = "https://api.example.test"
_AHEAD_SECONDS: Final = 3630


@dataclass(frozen=True, slots=True, kw_only=True)
class Situation:
    """The input of a `doctor` run.

    Attributes:
        environment: Environment variables.
        token: The token to check.
    """

    environment: Mapping[str, str]
    token: str = field(repr=False)


class _Fronted:
    """An application behind a proxy that hides TLS from it, or on a machine whose clock is wrong."""

    def __init__(self, app: ASGIApp, *, scheme: str | None, seconds_ahead: float) -> None:
        self._app = app
        self._scheme = scheme
        self._seconds_ahead = seconds_ahead

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        date = formatdate(time.time() + self._seconds_ahead, usegmt=True).encode()

        async def send_with_date(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], (b"date", date)]
            await send(message)

        await self._app({**scope, "scheme": self._scheme or scope["scheme"]}, receive, send_with_date)


class Tenant:
    """An issuer without the page by which the command line recognizes a local issuer, so that it counts as a tenant."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        app = Response(status_code=404) if scope["path"] == "/" else self._app
        await app(scope, receive, send)


@contextmanager
def serve(
    issuer: LocalIssuer,
    *,
    app: ASGIApp | None = None,
    seconds_ahead: float = 0,
    scheme: str | None = None,
    certificate: Path | None = None,
) -> Generator[str]:
    """Serve an issuer and yield its URL.

    Args:
        issuer: The issuer; its `endpoint` becomes the URL.
        app: The application to serve; by default the issuer's.
        seconds_ahead: How far the server's clock is ahead.
        scheme: The scheme that the application sees; by default the real one.
        certificate: A file with the certificate and key of the server.
    """
    config = uvicorn.Config(
        _Fronted(app or issuer.app, scheme=scheme, seconds_ahead=seconds_ahead),
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        date_header=False,
        ssl_certfile=None if certificate is None else str(certificate),
        timeout_graceful_shutdown=1,
    )
    server = uvicorn.Server(config)
    with socket.create_server(("127.0.0.1", 0)) as sock:
        url = f"{'http' if certificate is None else 'https'}://127.0.0.1:{sock.getsockname()[1]}"
        issuer.endpoint = url
        thread = threading.Thread(target=server.run, args=([sock],), daemon=True)
        thread.start()
        try:
            while not server.started:
                assert thread.is_alive(), "the server did not start"
                thread.join(timeout=0.01)
            yield url
        finally:
            server.should_exit = True
            thread.join(timeout=10)
    assert not thread.is_alive()


@contextmanager
def make_certificate(*, days: int = 90) -> Generator[tuple[Path, Path]]:
    """Create an authority and a certificate for 127.0.0.1.

    Yields the file of the authority, and a file with the certificate and its key.
    """
    now = dt.datetime.now(dt.UTC)
    keys = [ec.generate_private_key(ec.SECP256R1()) for _ in range(2)]
    names = [x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)]) for text in ("test authority", "127.0.0.1")]
    built: list[x509.Certificate] = []
    for is_leaf in (False, True):
        key = keys[is_leaf]
        builder = (
            x509.CertificateBuilder()
            .subject_name(names[is_leaf])
            .issuer_name(names[0])
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - dt.timedelta(days=1))
            .not_valid_after(now + dt.timedelta(days=days, hours=1))
            .add_extension(x509.BasicConstraints(ca=not is_leaf, path_length=None), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(keys[0].public_key()), critical=False)
            .add_extension(
                x509.KeyUsage(
                    digital_signature=True,
                    key_cert_sign=not is_leaf,
                    crl_sign=not is_leaf,
                    content_commitment=False,
                    key_encipherment=False,
                    data_encipherment=False,
                    key_agreement=False,
                    encipher_only=False,
                    decipher_only=False,
                ),
                critical=True,
            )
        )
        if is_leaf:
            address = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
            builder = builder.add_extension(x509.SubjectAlternativeName([address]), critical=False)
            usage = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH])
            builder = builder.add_extension(usage, critical=False)
        built.append(builder.sign(keys[0], hashes.SHA256()))
    with TemporaryDirectory() as directory:
        authority, server = Path(directory, "authority.pem"), Path(directory, "server.pem")
        authority.write_bytes(built[0].public_bytes(serialization.Encoding.PEM))
        private = keys[1].private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        server.write_bytes(built[1].public_bytes(serialization.Encoding.PEM) + private)
        yield authority, server


def _build_environment(endpoint: str, **more: str) -> dict[str, str]:
    return {"LOGTO_ENDPOINT": endpoint, "LOGTO_AUDIENCE": API, "LOGTO_SWAGGER_CLIENT_ID": "local-spa", **more}


def _healthy() -> Iterator[Situation]:
    issuer = LocalIssuer()
    with serve(issuer) as url:
        yield Situation(environment=_build_environment(url), token=issuer.access_token())


def _audience() -> Iterator[Situation]:
    issuer = LocalIssuer()
    with serve(issuer, app=Tenant(issuer.app)) as url:
        yield Situation(environment=_build_environment(url), token=issuer.access_token(audience=f"{API}/"))


def _issuer() -> Iterator[Situation]:
    issuer = LocalIssuer()
    with serve(issuer) as url:
        token = issuer.access_token(claims={"iss": "https://auth.example.test/oidc"})
        yield Situation(environment=_build_environment(url), token=token)


def _clock() -> Iterator[Situation]:
    issuer = LocalIssuer(clock=Clock(now=lambda: time.time() + _AHEAD_SECONDS))
    with serve(issuer, seconds_ahead=_AHEAD_SECONDS) as url:
        yield Situation(environment=_build_environment(url), token=issuer.access_token())


def _opaque() -> Iterator[Situation]:
    issuer = LocalIssuer()
    with serve(issuer) as url:
        yield Situation(environment=_build_environment(url), token=issuer.opaque_token())


def _unreachable() -> Iterator[Situation]:
    issuer = LocalIssuer()
    with socket.socket() as sock:
        # The socket is bound but not listening, so the port stays reserved and connections are refused.
        sock.bind(("127.0.0.1", 0))
        issuer.endpoint = f"http://127.0.0.1:{sock.getsockname()[1]}"
        yield Situation(environment=_build_environment(issuer.endpoint), token=issuer.access_token())


def _proxy() -> Iterator[Situation]:
    issuer = LocalIssuer()
    with make_certificate() as (authority, certificate), serve(issuer, scheme="http", certificate=certificate) as url:
        environment = _build_environment(url, SSL_CERT_FILE=str(authority))
        yield Situation(environment=environment, token=issuer.access_token())


FAULTS: Final = {
    "healthy": _healthy,
    "audience": _audience,
    "issuer": _issuer,
    "clock": _clock,
    "opaque": _opaque,
    "unreachable": _unreachable,
    "proxy": _proxy,
}


@contextmanager
def run_situation(name: str) -> Generator[Situation]:
    """Run a situation of `FAULTS` inside a `with` block."""
    yield from FAULTS[name]()
