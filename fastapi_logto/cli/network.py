"""The command line's own HTTP client: bounded requests, no redirects. Other requests use the package's transport."""

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
"""The layer at which a request failed."""


class UnreachableError(LogtoError):
    """No response was received, or it could not be read.

    Attributes:
        layer: The layer at which the request failed.
    """

    def __init__(self, message: str, *, layer: FailedLayer) -> None:
        super().__init__(message)
        self.layer: FailedLayer = layer


@dataclass(frozen=True, slots=True, kw_only=True)
class TlsSession:
    """The encryption of a connection.

    Attributes:
        version: The protocol version, e.g. `TLSv1.3`.
        expires_at: When the server's certificate expires, in seconds since the epoch.
    """

    version: str
    expires_at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """A response with any status.

    Attributes:
        headers: The headers, with names in lower case.
        tls: The encryption of the connection; `None` for plain http.
        received_at: This machine's wall clock when the response was received, in seconds since the epoch.
    """

    status: int
    headers: Mapping[str, str] = field(repr=False)
    body: bytes = field(repr=False)
    tls: TlsSession | None
    received_at: float


def find_proxy(url: str) -> str | None:
    """Return the host of the proxy that httpx uses for a URL; `None` for plain http, which never uses one."""
    parts = urlsplit(url)
    if parts.scheme != "https" or proxy_bypass(parts.hostname or ""):
        return None
    proxies = getproxies()
    proxy = proxies.get("https") or proxies.get("all")
    if proxy is None:
        return None
    try:
        # A proxy may be written without its scheme. Only its host is shown, because its URL may contain credentials.
        host = urlsplit(proxy if "://" in proxy else f"http://{proxy}").hostname
    except ValueError:
        host = None
    return host or "an invalid URL"


def parse_location(reply: Reply) -> Mapping[str, str]:
    """Return the query parameters of a redirect; empty if the reply has no `Location` or it is not a valid URL."""
    try:
        query = urlsplit(reply.headers.get("location", "")).query
        return dict(reversed(parse_qsl(query, max_num_fields=_MAX_FIELDS)))
    except ValueError:
        return {}


class Network:
    """Sends requests with a deadline and a size limit."""

    def __init__(self, *, timeout_seconds: float) -> None:
        """Store the timeout, in seconds for each step and for the whole body. Opens no connection."""
        self._timeout_seconds = timeout_seconds
        self._user_agent = f"fastapi-logto/{version('fastapi-logto')}"

    def resolve(self, host: str) -> list[str]:
        """Return the addresses of a host, or raise `UnreachableError` if it has none or the lookup times out."""
        found: list[str] = []
        failed: list[OSError | UnicodeError] = []

        def ask() -> None:
            try:
                found.extend(str(entry[4][0]) for entry in socket.getaddrinfo(host, None, type=socket.SOCK_STREAM))
            except (OSError, UnicodeError) as error:
                # A label of more than 63 characters is a UnicodeError.
                failed.append(error)

        # The system resolver has no deadline, so it runs in a thread.
        thread = threading.Thread(target=ask, daemon=True, name="fastapi-logto: resolve")
        thread.start()
        thread.join(self._timeout_seconds)
        if failed or not found:
            reason = _describe_failure(failed[0]) if failed else "no response in time"
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
        """Send a request and return the response, whatever its status. Redirects are not followed.

        Raises `UnreachableError` if there is no response, or if it is too large, too slow or encoded. The error quotes
        no body.
        """
        try:
            with (
                httpx.Client(
                    follow_redirects=False,
                    # Over plain http a proxy could read secrets and replace keys.
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
            raise UnreachableError("expected an unencoded body, found an encoded one", layer="http")
        body = bytearray()
        for chunk in response.iter_raw():
            body += chunk
            if len(body) > _MAX_BYTES:
                raise UnreachableError(f"expected at most {_MAX_BYTES} bytes, found more", layer="http")
            if time.monotonic() > deadline:
                raise UnreachableError(f"no complete response within {self._timeout_seconds:g} s", layer="http")
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
    """Return the root cause of an httpx error, in a few words."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ssl.SSLCertVerificationError):
            return UnreachableError(f"invalid certificate: {cause.verify_message}", layer="tls")
        if isinstance(cause, ssl.SSLError):
            return UnreachableError(f"TLS failed: {cause.reason or type(cause).__name__}", layer="tls")
        if isinstance(cause, socket.gaierror):
            return UnreachableError(f"no address: {cause.strerror}", layer="dns")
        if isinstance(cause, ConnectionRefusedError):
            return UnreachableError("connection refused: nothing listens there", layer="connection")
        cause = cause.__cause__ or cause.__context__
    if isinstance(error, httpx.TimeoutException):
        return UnreachableError("no response in time", layer="connection")
    layer: FailedLayer = "http" if isinstance(error, httpx.ProtocolError) else "connection"
    return UnreachableError(type(error).__name__, layer=layer)
