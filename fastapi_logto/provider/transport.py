"""The only module that opens HTTP connections: one response per request, with a size limit, a timeout, no redirects.

Each fetch creates a client, because sharing an `httpx.AsyncClient` between event loops fails with "Event loop is
closed", and fetches are rare. The expensive part of a client, its TLS context, is created once in a worker thread.
httpx is imported there too.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Final

from fastapi_logto.provider.failures import (
    ExchangeError,
    FailedLayer,
    FetchError,
    TooLargeError,
    explain_failure,
)
from fastapi_logto.provider.telemetry import FetchPurpose, measure_fetch
from fastapi_logto.redaction import quote_url
from fastapi_logto.strict_json import JsonObject, StrictJsonError, estimate_weight, parse_object

if TYPE_CHECKING:
    import ssl

    import httpx

MAX_DOCUMENT_BYTES: Final = 256 * 1024
_CONNECT_SECONDS: Final = 2.0
_ENCODINGS: Final = ("gzip", "br", "zstd", "deflate", "x-gzip", "compress")


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Request:
    """A request to send. It may contain secrets, so its `repr` shows nothing.

    Attributes:
        method: `GET`, `POST` or `PATCH`.
        headers: Additional headers.
        body: The body.
    """

    method: str = "GET"
    headers: Mapping[str, str] = field(default_factory=dict[str, str])
    body: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class TlsSession:
    """The TLS session of a connection.

    Attributes:
        version: The protocol version, e.g. `TLSv1.3`.
        certificate: The server's certificate as `ssl.SSLObject.getpeercert` returns it; empty if it was not verified.
    """

    version: str
    certificate: Mapping[str, object] = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class RawResponse:
    """A response that was not parsed.

    Attributes:
        status: The HTTP status.
        headers: The headers. Names are not case-sensitive.
        body: The body.
        tls: The TLS session; `None` for plain http.
    """

    status: int
    headers: Mapping[str, str] = field(repr=False)
    body: bytes = field(repr=False)
    tls: TlsSession | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Response:
    """The response of an endpoint. Only its status is shown: a hostile provider repeats tokens and secrets in headers.

    Attributes:
        status: The HTTP status.
        document: The JSON object in the body, which may contain tokens. Empty if the status is not 200 and the body is
            not a JSON object.
        retry_after: The `Retry-After` header, unchanged; `None` without one.
        location: The `Location` header, unchanged; `None` without one.
        weight: The approximate memory of the document, in bytes.
    """

    status: int
    document: JsonObject = field(repr=False)
    retry_after: str | None = field(repr=False)
    location: str | None = field(repr=False)
    weight: int


class Transport:
    """Fetches documents of the provider.

    https uses the proxies of the environment (`HTTPS_PROXY`, `ALL_PROXY`, `NO_PROXY`) like httpx. Plain http never
    uses a proxy, not even for a loopback address: a proxy could read the secrets and replace the keys.
    """

    def __init__(
        self,
        *,
        timeout_seconds: float,
        max_bytes: int = MAX_DOCUMENT_BYTES,
        http_transport: "httpx.AsyncBaseTransport | None" = None,
        ssl_context: "ssl.SSLContext | None" = None,
    ) -> None:
        """Store the parameters. No connection is opened."""
        self._timeout_seconds = timeout_seconds
        self._max_bytes = max_bytes
        self._http_transport = http_transport
        self._ssl_context = ssl_context
        self._user_agent = ""

    async def fetch_json(
        self, url: str, *, parse: Callable[[bytes], JsonObject] = parse_object, purpose: FetchPurpose = "other"
    ) -> JsonObject:
        """Fetch one JSON object. `parse` is called in a thread.

        Anything but a 200 response with a strict JSON object within the timeout and the size limit raises `FetchError`,
        also a redirect. The message never quotes the body.
        """
        response = await self._send(url, Request(), reads_errors=False, parse=parse, purpose=purpose)
        if response.status != 200:
            where = f", a redirect to {quote_url(response.location)}" if response.location is not None else ""
            raise FetchError(
                f"{quote_url(url)}: status {response.status} instead of 200{where}", status=response.status, url=url
            )
        return response.document

    async def send(self, url: str, request: Request, *, purpose: FetchPurpose = "other") -> Response:
        """Send one request, and return the response whatever its status. Redirects are not followed.

        `FetchError` if there is no response within the timeout and the size limit, or if a response with status 200 is
        not a strict JSON object. The message never quotes the body.
        """
        return await self._send(url, request, reads_errors=True, purpose=purpose)

    async def _send(
        self,
        url: str,
        request: Request,
        *,
        reads_errors: bool,
        purpose: FetchPurpose,
        parse: Callable[[bytes], JsonObject] = parse_object,
    ) -> Response:
        name = quote_url(url)
        try:
            raw = await self.exchange(url, request, reads_errors=reads_errors, purpose=purpose)
            return await asyncio.to_thread(_read, raw, parse=parse)
        except ExchangeError as error:
            raise FetchError(f"{name}: {error}", is_about_request=error.is_about_request, url=url) from None
        except StrictJsonError as error:
            raise FetchError(f"{name}: {error}", is_about_request=True, url=url) from None

    async def exchange(
        self, url: str, request: Request, *, reads_errors: bool = True, purpose: FetchPurpose = "other"
    ) -> RawResponse:
        """Send one request, and return the response unparsed, whatever its status. Redirects are not followed.

        `ExchangeError` if there is no response within the timeout and the size limit. Without `reads_errors`, the body
        of an error is empty; with it, only if it is encoded or too large. `purpose` is for metrics and spans.
        """
        with measure_fetch(request.method, url, purpose=purpose) as fetch:
            try:
                response = await self._exchange(url, request, reads_errors=reads_errors)
            except ExchangeError as error:
                fetch.error_type = "timeout" if error.is_timeout else error.layer
                raise
            fetch.status = response.status
            return response

    async def _exchange(self, url: str, request: Request, *, reads_errors: bool) -> RawResponse:
        layer: FailedLayer = "connection"
        try:
            if not self._user_agent:
                await asyncio.to_thread(self._prepare)
            async with (
                # httpx's own timeouts apply to each read, so a slow body could take much longer.
                asyncio.timeout(self._timeout_seconds),
                self._build_client(url) as client,
                client.stream(
                    request.method,
                    url,
                    headers=request.headers,
                    content=request.body.encode() if request.body else None,
                ) as response,
            ):
                layer = "http"
                # Read while the connection is open: a closed one has no session.
                tls = _read_tls(response)
                return RawResponse(
                    status=response.status_code,
                    headers=response.headers,
                    body=await self._read_body(response, reads_errors=reads_errors),
                    tls=tls,
                )
        except ExchangeError:
            raise
        except asyncio.CancelledError as error:
            # It may become the cause of an error that is reported, and its frames contain the request and its secrets.
            raise error.with_traceback(None) from None
        except TimeoutError:
            seconds = f"{self._timeout_seconds:g} s"
            found = f"no complete response within {seconds}" if layer == "http" else f"no response in time ({seconds})"
            raise ExchangeError(found, layer=layer, is_timeout=True) from None
        except Exception as error:  # noqa: BLE001 - the HTTP client's edge: its frames contain the request and its secrets
            raise _explain(error, layer=layer) from None

    def _prepare(self) -> None:
        import httpx  # noqa: PLC0415 - late and in a thread: it reads hundreds of files

        if self._ssl_context is None:
            self._ssl_context = httpx.create_ssl_context()
        try:
            number = version("fastapi-logto")
        except PackageNotFoundError:  # pragma: no cover - run from a tree that was never installed
            number = "unknown"
        # Set last, because it marks the end of the preparation. Firewalls often block clients' default user agents.
        self._user_agent = f"fastapi-logto/{number}"

    def _build_client(self, url: str) -> "httpx.AsyncClient":
        import httpx  # noqa: PLC0415 - already loaded by `_prepare`

        return httpx.AsyncClient(
            transport=self._http_transport,
            verify=self._ssl_context or True,
            trust_env=httpx.URL(url).scheme == "https",
            follow_redirects=False,
            timeout=httpx.Timeout(self._timeout_seconds, connect=min(_CONNECT_SECONDS, self._timeout_seconds)),
            headers={"User-Agent": self._user_agent, "Accept": "application/json", "Accept-Encoding": "identity"},
        )

    async def _read_body(self, response: "httpx.Response", *, reads_errors: bool) -> bytes:
        if response.status_code != 200 and not reads_errors:
            return b""
        try:
            return await self._read_whole_body(response)
        except ExchangeError:
            if response.is_success:
                raise
            # The body of an error may be that of a proxy. The status says enough: after 404, for example, the endpoint
            # is looked up again.
            return b""

    async def _read_whole_body(self, response: "httpx.Response") -> bytes:
        encoding = response.headers.get("content-encoding", "identity")
        if encoding.lower() != "identity":
            # We requested none, and one small chunk can decode to hundreds of megabytes.
            raise ExchangeError(
                f"expected an unencoded body, found {_name_encoding(encoding)}", layer="http", is_about_request=True
            )
        body = bytearray()
        # The transport of a test returns a response that is in memory already, without a stream.
        chunks = _as_stream(response.content) if response.is_stream_consumed else response.aiter_raw()
        async for chunk in chunks:
            body += chunk
            if len(body) > self._max_bytes:
                raise TooLargeError(max_bytes=self._max_bytes)
        return bytes(body)


def _read_tls(response: "httpx.Response") -> TlsSession | None:
    stream = response.extensions.get("network_stream")
    session: ssl.SSLObject | None = None if stream is None else stream.get_extra_info("ssl_object")
    if session is None:
        return None
    return TlsSession(version=str(session.version()), certificate=session.getpeercert() or {})


def _explain(error: Exception, *, layer: FailedLayer) -> ExchangeError:
    import httpx  # noqa: PLC0415 - already loaded by `_prepare`

    if isinstance(error, httpx.TimeoutException):
        return ExchangeError("no response in time", layer=layer, is_timeout=True)
    return explain_failure(error, layer="http" if isinstance(error, httpx.ProtocolError) else layer)


def _name_encoding(encoding: str) -> str:
    # A response to a request with a secret could repeat it in any header.
    known = [name for name in _ENCODINGS if name in encoding.lower().replace(",", " ").split()]
    return f"Content-Encoding {known[0]}" if known else "an encoded one"


def _read(raw: RawResponse, *, parse: Callable[[bytes], JsonObject]) -> Response:
    # Both hide the body in their `repr`: error trackers show the arguments of a thread, and asyncio logs its result.
    document: JsonObject = {}
    try:
        document = parse(raw.body)
    except StrictJsonError:
        if raw.status == 200:
            raise
    return Response(
        status=raw.status,
        document=document,
        retry_after=raw.headers.get("retry-after"),
        location=raw.headers.get("location"),
        weight=estimate_weight(raw.body),
    )


async def _as_stream(body: bytes) -> AsyncIterator[bytes]:
    yield body
