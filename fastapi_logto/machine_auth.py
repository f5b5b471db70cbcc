"""Signs the requests of an `httpx.AsyncClient` with a machine's token, for one origin."""

from collections.abc import AsyncGenerator, Generator
from typing import Final, Protocol

import httpx
from typing_extensions import override

from fastapi_logto.errors import OriginError, SettingsError, quote
from fastapi_logto.grants import IssuedToken
from fastapi_logto.loopback import is_loopback

__all__ = ["GetToken", "MachineAuth"]

_UNAUTHORIZED: Final = 401
_SCHEMES: Final = frozenset({"https", "http"})


class GetToken(Protocol):
    """Returns a token; another one than that which an API refused."""

    async def __call__(self, *, instead_of: IssuedToken | None = None) -> IssuedToken:
        """Return the token."""
        ...


class MachineAuth(httpx.Auth):
    """Signs requests to one origin with a machine's token; gets a new one, once, if the API responds with 401.

    A request to another scheme, host or port raises `OriginError` before anything is sent. httpx itself removes the
    token when it follows a redirect to another origin.
    """

    def __init__(self, get_token: GetToken, *, base_url: str, allow_http: bool) -> None:
        """Check the origin. Sends nothing.

        Args:
            get_token: Gets the token.
            base_url: A URL of the API; its path does not matter.
            allow_http: Allow plain http to other hosts than this machine.

        Raises:
            SettingsError: It is no URL that a token may be sent to.
        """
        self._get_token = get_token
        self._origin = _parse_base_url(base_url, allow_http=allow_http)

    @override
    async def async_auth_flow(self, request: httpx.Request) -> AsyncGenerator[httpx.Request, httpx.Response]:
        """Sign a request. httpx calls this.

        Raises:
            OriginError: The request goes to another origin.
            GrantError: As `LogtoClient.get_token`.
        """
        found = _read_origin(request.url)
        if found != self._origin:
            raise OriginError(
                f"expected a request to {self._origin}, found {quote(found)}; make an httpx.AsyncClient with "
                "client.auth(..., base_url=...) for each API, and send no token to a URL that came from outside",
                expected=self._origin,
                found=quote(found),
            )
        issued = await self._get_token()
        request.headers["Authorization"] = f"Bearer {issued.token}"
        response = yield request
        # A body that is a stream is used up by now. And after a redirect another host may have responded.
        is_refused = response.status_code == _UNAUTHORIZED and _read_origin(response.request.url) == self._origin
        if is_refused and isinstance(request.stream, httpx.ByteStream):
            another = await self._get_token(instead_of=issued)
            if another is not issued:
                request.headers["Authorization"] = f"Bearer {another.token}"
                yield request

    @override
    def sync_auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        """Refuse: getting a token does not block, and a synchronous client can't wait for it."""
        raise RuntimeError("LogtoClient signs the requests of httpx.AsyncClient; httpx.Client is synchronous")


def _parse_base_url(base_url: str, *, allow_http: bool) -> str:
    try:
        url = httpx.URL(base_url)
    except (httpx.InvalidURL, ValueError):
        url = httpx.URL("")
    if url.scheme not in _SCHEMES or not url.host or url.userinfo:
        raise SettingsError(
            "client.auth: expected the base_url of an API such as https://orders.example.com, without credentials, "
            "found another text"
        )
    if url.scheme == "http" and not allow_http and not is_loopback(url.host):
        raise SettingsError(
            f"client.auth: expected a base_url with https, or http on a loopback address only, found "
            f"{quote(_read_origin(url))}; "
            "plain http would show the token to anyone on the way (LogtoClient(allow_http=True) allows it inside a "
            "closed network)"
        )
    return _read_origin(url)


def _read_origin(url: httpx.URL) -> str:
    """Return scheme, host and port (RFC 6454 section 4), as httpx normalizes them and connects by them."""
    return f"{url.scheme}://{url.netloc.decode('ascii')}"
