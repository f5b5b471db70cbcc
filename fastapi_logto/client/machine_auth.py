"""Adds a machine's token to the requests of an `httpx.AsyncClient`, for one origin."""

from collections.abc import AsyncGenerator, Generator
from typing import Final, Protocol

import httpx
from typing_extensions import override

from fastapi_logto.client.errors import OriginError
from fastapi_logto.client.grants import IssuedToken
from fastapi_logto.errors import SettingsError
from fastapi_logto.loopback import is_loopback
from fastapi_logto.redaction import quote

_UNAUTHORIZED: Final = 401
_SCHEMES: Final = frozenset({"https", "http"})


class GetToken(Protocol):
    """Returns a token, different from the one that an API rejected."""

    async def __call__(self, *, instead_of: IssuedToken | None = None) -> IssuedToken:
        """Return a token; a new one if `instead_of` was rejected."""
        ...


class MachineAuth(httpx.Auth):
    """Adds a machine's token to requests to one origin, and retries once with a new token after a 401.

    A request to another scheme, host or port raises `OriginError` before anything is sent. httpx itself removes the
    token when it follows a redirect to another origin.
    """

    def __init__(self, get_token: GetToken, *, base_url: str, allow_http: bool) -> None:
        """Check the origin. Nothing is sent.

        Args:
            get_token: Gets the token.
            base_url: A URL of the API; its path is ignored.
            allow_http: Allow plain http to hosts other than loopback.

        Raises:
            SettingsError: The URL is invalid, or plain http to another host.
        """
        self._get_token = get_token
        try:
            self._origin = _parse_base_url(base_url, allow_http=allow_http)
        finally:
            # Error trackers show what they find in a frame, e.g. a password in a URL.
            del base_url

    @override
    async def async_auth_flow(self, request: httpx.Request) -> AsyncGenerator[httpx.Request, httpx.Response]:
        """Add the token to a request. httpx calls this.

        Raises:
            OriginError: The request goes to another origin.
            GrantError: As in `LogtoClient.get_token`.
        """
        found = _read_origin(request.url)
        if found != self._origin:
            raise OriginError(
                f"expected a request to {self._origin}, found {quote(found)}; create an httpx.AsyncClient with "
                "client.machine_auth(..., base_url=...) for each API, and send no token to a URL from outside",
                expected=self._origin,
                found=quote(found),
            )
        issued = await self._get_token()
        request.headers["Authorization"] = f"Bearer {issued.token}"
        response = yield request
        # A streamed body can't be sent again. After a redirect, another host may have responded.
        is_refused = response.status_code == _UNAUTHORIZED and _read_origin(response.request.url) == self._origin
        if is_refused and isinstance(request.stream, httpx.ByteStream):
            another = await self._get_token(instead_of=issued)
            if another is not issued:
                request.headers["Authorization"] = f"Bearer {another.token}"
                yield request

    @override
    def sync_auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        """Raise an error: a synchronous client can't wait for the token."""
        raise RuntimeError("expected an httpx.AsyncClient, found a synchronous httpx.Client; use httpx.AsyncClient")


def _parse_base_url(base_url: str, *, allow_http: bool) -> str:
    try:
        url = httpx.URL(base_url)
    except (httpx.InvalidURL, ValueError):
        url = httpx.URL("")
    is_valid = url.scheme in _SCHEMES and bool(url.host) and not url.userinfo
    scheme, host, origin = url.scheme, url.host, _read_origin(url)
    # As above.
    del base_url, url
    if not is_valid:
        raise SettingsError(
            "client.machine_auth: expected the base_url of an API such as https://orders.example.com, without "
            "credentials, found another value"
        )
    if scheme == "http" and not allow_http and not is_loopback(host):
        raise SettingsError(
            f"client.machine_auth: expected a base_url with https, or http on a loopback address only, found "
            f"{quote(origin)}; "
            "with plain http, anyone on the network path can read the token (pass LogtoClient(allow_http=True) to "
            "allow it inside a closed network)"
        )
    return origin


def _read_origin(url: httpx.URL) -> str:
    """Return scheme, host and port (RFC 6454 section 4), as httpx normalizes and uses them."""
    return f"{url.scheme}://{url.netloc.decode('ascii')}"
