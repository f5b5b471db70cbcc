"""Fetch the document that describes an application whose client id is a URL. Imported late, because it needs httpx.

Anyone can send a client id, so the issuer must not fetch from the private network around it.
"""

import asyncio
import socket
from collections.abc import Callable
from ipaddress import IPv4Address, IPv6Network, ip_address
from typing import Any, Final, TypeAlias
from urllib.parse import unquote, urlsplit

import httpx
from typing_extensions import override

from fastapi_logto.loopback import is_loopback
from fastapi_logto.provider.failures import FetchError
from fastapi_logto.provider.transport import Transport
from fastapi_logto.strict_json import JsonObject, JsonValue
from fastapi_logto.testing.directory import Application
from fastapi_logto.testing.issuer.refusals import RefusedError
from fastapi_logto.testing.redirects import check_redirect_uris
from fastapi_logto.urls import check_url

_MAX_BYTES: Final = 5 * 1024
_TIMEOUT_SECONDS: Final = 5.0
_GLOBAL_UNICAST: Final = IPv6Network("2000::/3")

Resolve: TypeAlias = Callable[[str, int], list[tuple[Any, Any, Any, Any, Any]]]


def fetch_application(
    client_id: str,
    *,
    allow_loopback: bool,
    resolve: Resolve = socket.getaddrinfo,
    http_transport: httpx.AsyncBaseTransport | None = None,
) -> Application:
    """Return the application that the document at its client id describes. Blocks, so call it in a thread.

    `RefusedError` if the URL is not allowed, the document can't be fetched, or it is not that of a public application
    with this client id.

    References:
        draft-ietf-oauth-client-id-metadata-document sections 3, 4, 4.1 and 6.5.
    """
    host, port = _check_client_id(client_id, allow_loopback=allow_loopback)
    address = _find_address(host, port, allow_loopback=allow_loopback, resolve=resolve)
    pinned = _PinnedTransport(http_transport or httpx.AsyncHTTPTransport(), address=address)
    transport = Transport(timeout_seconds=_TIMEOUT_SECONDS, max_bytes=_MAX_BYTES, http_transport=pinned)
    try:
        document = asyncio.run(transport.fetch_json(client_id))
    except FetchError as error:
        raise _refuse(str(error)) from None
    return _parse(document, client_id=client_id)


def _check_client_id(client_id: str, *, allow_loopback: bool) -> tuple[str, int]:
    """Return host and port of a client id that may be fetched."""
    try:
        parts = urlsplit(check_url(client_id))
    except ValueError as error:
        raise _refuse(str(error)) from None
    host = parts.hostname or ""
    if parts.scheme != "https" and not (allow_loopback and is_loopback(host)):
        raise _refuse("expected an https URL")
    segments = unquote(parts.path).split("/")
    if parts.path in {"", "/"} or not {".", ".."}.isdisjoint(segments):
        raise _refuse("expected a URL with a path, without the segments . and ..")
    return host, parts.port or {"https": 443, "http": 80}[parts.scheme]


def _find_address(host: str, port: int, *, allow_loopback: bool, resolve: Resolve) -> str:
    """Return the address to connect to. A name with any address that is not allowed is refused."""
    try:
        addresses = [str(found[4][0]) for found in resolve(host, port)]
    except (OSError, UnicodeError):
        addresses = []
    is_allowed = is_loopback if allow_loopback and is_loopback(host) else _is_public
    if not addresses or not all(map(is_allowed, addresses)):
        raise _refuse("expected a host with public addresses only")
    return addresses[0]


def _is_public(text: str) -> bool:
    address = ip_address(text)
    if isinstance(address, IPv4Address):
        return address.is_global and not address.is_multicast
    # Addresses outside of this network, and 6to4, may contain an IPv4 address that is not public.
    return address in _GLOBAL_UNICAST and address.is_global and address.sixtofour is None


def _parse(document: JsonObject, *, client_id: str) -> Application:
    if document.get("client_id") != client_id:
        raise _refuse("expected the same client_id as the URL")
    if "client_secret" in document or document.get("token_endpoint_auth_method", "none") != "none":
        raise _refuse("expected a public application, with token_endpoint_auth_method none")
    found = document.get("redirect_uris")
    redirect_uris = [uri for uri in found if _is_redirect_uri(uri)] if isinstance(found, list) else []
    if not redirect_uris:
        # Without any, an application of the directory may use every loopback URI.
        raise _refuse("expected redirect_uris with an http or https URI")
    return Application(client_id=client_id, redirect_uris=[str(uri) for uri in redirect_uris])


def _is_redirect_uri(uri: JsonValue) -> bool:
    try:
        check_redirect_uris([uri] if isinstance(uri, str) else [""])
    except ValueError:
        # Of a desktop application, for example, with its own scheme.
        return False
    return True


def _refuse(problem: str) -> RefusedError:
    return RefusedError(
        "invalid_client", f"the client id is not the URL of a valid client metadata document: {problem}"
    )


class _PinnedTransport(httpx.AsyncBaseTransport):
    """Connects to the address that was checked. A second lookup of the name could return another one."""

    def __init__(self, inner: httpx.AsyncBaseTransport, *, address: str) -> None:
        self._inner = inner
        self._address = address

    @override
    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        # The certificate must still be that of the name.
        request.extensions = {**request.extensions, "sni_hostname": request.url.host}
        request.url = request.url.copy_with(host=self._address)
        return await self._inner.handle_async_request(request)

    @override
    async def aclose(self) -> None:
        await self._inner.aclose()
