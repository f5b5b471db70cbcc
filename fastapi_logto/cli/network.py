"""The only sockets of the command line but for the package's own: one bounded request, no redirect followed."""

import socket
import ssl
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import Any, Final, Literal, TypeAlias, cast
from urllib.parse import parse_qsl, urlsplit
from urllib.request import getproxies, proxy_bypass

import httpx

from fastapi_logto.errors import LogtoError
from fastapi_logto.strict_json import JsonValue

__all__ = ["Network", "Reply", "TlsSession", "UnreachableError", "find_proxy", "parse_location"]

_MAX_BYTES: Final = 256 * 1024
_MAX_FIELDS: Final = 100
_CONNECT_SECONDS: Final = 2.0

FailedLayer: TypeAlias = Literal["dns", "tls", "connection", "http"]
"""Where it went wrong."""


class UnreachableError(LogtoError):
    """No answer came, or none that could be read.

    Attributes:
        layer: Where it went wrong.
    """

    def __init__(self, message: str, *, layer: FailedLayer) -> None:
        super().__init__(message)
        self.layer: FailedLayer = layer


@dataclass(frozen=True, slots=True, kw_only=True)
class TlsSession:
    """How a connection is encrypted.

    Attributes:
        version: `TLSv1.3`, say.
        expires_at: When the server's certificate expires, seconds since the epoch.
    """

    version: str
    expires_at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """An answer of whatever status.

    Attributes:
        status: The status.
        headers: The headers, names in lower case.
        body: The body.
        tls: How the connection was encrypted; `None` for plain http.
        received_at: The wall clock of this machine when the answer came.
    """

    status: int
    headers: Mapping[str, str] = field(repr=False)
    body: bytes = field(repr=False)
    tls: TlsSession | None
    received_at: float


def find_proxy(url: str) -> str | None:
    """Return the host of the proxy that httpx uses for a URL; `None` for plain http, which never uses one.

    Args:
        url: The URL.
    """
    parts = urlsplit(url)
    if parts.scheme != "https" or proxy_bypass(parts.hostname or ""):
        return None
    proxies = getproxies()
    proxy = proxies.get("https") or proxies.get("all")
    if proxy is None:
        return None
    try:
        # A proxy may be written without its scheme. Its credentials are not for a terminal.
        host = urlsplit(proxy if "://" in proxy else f"http://{proxy}").hostname
    except ValueError:
        host = None
    return host or "an invalid URL"


def parse_location(reply: Reply) -> Mapping[str, str]:
    """Return the parameters in the query of a redirect; none if the reply has no `Location` that is a URL.

    Args:
        reply: The reply.
    """
    try:
        query = urlsplit(reply.headers.get("location", "")).query
        return dict(reversed(parse_qsl(query, max_num_fields=_MAX_FIELDS)))
    except ValueError:
        return {}


class Network:
    """Sends requests, each with a deadline and a largest size."""

    def __init__(self, *, timeout_seconds: float) -> None:
        """Remember the bound. Opens nothing.

        Args:
            timeout_seconds: For each step, and for the body as a whole.
        """
        self._timeout_seconds = timeout_seconds
        self._user_agent = f"fastapi-logto/{version('fastapi-logto')}"

    def resolve(self, host: str) -> list[str]:
        """Give the addresses of a host.

        Args:
            host: Its name.

        Raises:
            UnreachableError: It has none, or none came in time.
        """
        found: list[str] = []
        failed: list[OSError | UnicodeError] = []

        def ask() -> None:
            try:
                found.extend(str(entry[4][0]) for entry in socket.getaddrinfo(host, None, type=socket.SOCK_STREAM))
            except (OSError, UnicodeError) as error:
                # A label of more than 63 characters is a UnicodeError.
                failed.append(error)

        # The resolver of the system knows no deadline of ours.
        thread = threading.Thread(target=ask, daemon=True, name="fastapi-logto: resolve")
        thread.start()
        thread.join(self._timeout_seconds)
        if failed or not found:
            reason = _describe_failure(failed[0]) if failed else "no answer in time"
            raise UnreachableError(f"{host}: {reason}", layer="dns")
        return list(dict.fromkeys(found))

    def send(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        query: Mapping[str, str] | None = None,
        form: Mapping[str, str | Sequence[str]] | None = None,
        json: JsonValue = None,
    ) -> Reply:
        """Send a request. Redirects are not followed.

        Args:
            method: The method.
            url: Where to.
            headers: Further headers.
            query: Its query.
            form: A form for its body.
            json: JSON for its body, instead.

        Returns:
            The answer, of whatever status.

        Raises:
            UnreachableError: None came, or one that is too large, encoded or too slow. Quotes no body.
        """
        try:
            with (
                httpx.Client(
                    follow_redirects=False,
                    # A proxy could read the secrets that go over plain http, and replace the keys.
                    trust_env=httpx.URL(url).scheme == "https",
                    timeout=httpx.Timeout(self._timeout_seconds, connect=min(_CONNECT_SECONDS, self._timeout_seconds)),
                    headers={"User-Agent": self._user_agent, "Accept-Encoding": "identity"},
                ) as client,
                client.stream(method, url, headers=headers, params=query, data=form, json=json) as response,
            ):
                tls = _describe_tls(response)
                body = self._read(response)
                received_at = time.time()
        except (httpx.HTTPError, httpx.InvalidURL, OSError, ValueError) as error:
            raise _explain(error) from None
        return Reply(
            status=response.status_code,
            headers={name.lower(): value for name, value in response.headers.items()},
            body=body,
            tls=tls,
            received_at=received_at,
        )

    def _read(self, response: httpx.Response) -> bytes:
        deadline = time.monotonic() + self._timeout_seconds
        if response.headers.get("content-encoding", "identity").lower() != "identity":
            raise UnreachableError("an encoded body, which was not asked for", layer="http")
        body = bytearray()
        for chunk in response.iter_raw():
            body += chunk
            if len(body) > _MAX_BYTES:
                raise UnreachableError(f"more than {_MAX_BYTES} bytes", layer="http")
            if time.monotonic() > deadline:
                raise UnreachableError(f"no whole answer within {self._timeout_seconds:g} s", layer="http")
        return bytes(body)


def _describe_failure(error: OSError | UnicodeError) -> str:
    return (error.strerror if isinstance(error, OSError) else None) or type(error).__name__


def _describe_tls(response: httpx.Response) -> TlsSession | None:
    stream = response.extensions.get("network_stream")
    session: Any = stream.get_extra_info("ssl_object") if stream is not None else None
    if session is None:
        return None
    certificate = cast("dict[str, str]", session.getpeercert() or {})
    return TlsSession(
        version=str(session.version()), expires_at=float(ssl.cert_time_to_seconds(certificate["notAfter"]))
    )


def _explain(error: Exception) -> UnreachableError:
    """Give the reason at the bottom of what httpx wraps, in a few words."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ssl.SSLCertVerificationError):
            return UnreachableError(f"the certificate does not hold: {cause.verify_message}", layer="tls")
        if isinstance(cause, ssl.SSLError):
            return UnreachableError(f"no TLS: {cause.reason or type(cause).__name__}", layer="tls")
        if isinstance(cause, socket.gaierror):
            return UnreachableError(f"no address: {cause.strerror}", layer="dns")
        if isinstance(cause, ConnectionRefusedError):
            return UnreachableError("connection refused: nothing listens there", layer="connection")
        cause = cause.__cause__ or cause.__context__
    if isinstance(error, httpx.TimeoutException):
        return UnreachableError("no answer in time", layer="connection")
    layer: FailedLayer = "http" if isinstance(error, httpx.ProtocolError) else "connection"
    return UnreachableError(type(error).__name__, layer=layer)
