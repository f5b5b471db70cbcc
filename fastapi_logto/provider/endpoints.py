"""The provider's OAuth endpoints: where they are, forms from a client with a secret, and which responses are failures.

Uses Authlib's parts without I/O.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal, TypeAlias
from urllib.parse import quote_plus, urlencode

from authlib.oauth2.auth import ClientAuth
from pydantic import SecretStr

from fastapi_logto.provider.backoff import LONGEST_WAIT_SECONDS
from fastapi_logto.provider.discovery import MetadataSource, ProviderMetadata
from fastapi_logto.provider.failures import FetchError
from fastapi_logto.provider.telemetry import FetchPurpose
from fastapi_logto.provider.transport import Request, Response, Transport
from fastapi_logto.redaction import build_basic_secrets
from fastapi_logto.single_flight import Flights

EndpointName: TypeAlias = Literal["introspection_endpoint", "token_endpoint", "userinfo_endpoint"]
"""The name of an endpoint in the discovery document."""

_PURPOSES: Final[Mapping[EndpointName, FetchPurpose]] = {
    "introspection_endpoint": "introspection",
    "token_endpoint": "token",
    "userinfo_endpoint": "userinfo",
}
# Statuses that mean that the endpoint is no longer at this URL.
_MOVED: Final = frozenset({404, 410})
_FORM: Final = "application/x-www-form-urlencoded"
_TOO_MANY: Final = 429


def as_secret(value: str | SecretStr) -> SecretStr:
    """Return a secret or a token that may be given as a plain text, so that it is in no `repr`.

    A value of a wrong type is hidden, too: what uses it raises an error, whose frames must not show it.
    """
    return value if isinstance(value, SecretStr) else SecretStr(value)


@dataclass(frozen=True, slots=True)
class Client:
    """The credentials of a client."""

    client_id: str
    client_secret: SecretStr

    @property
    def secrets(self) -> tuple[str, ...]:
        """The texts that must not appear in a message: the secret, and the credentials in their HTTP Basic form."""
        return build_basic_secrets(self.client_id, self.client_secret.get_secret_value())


@dataclass(frozen=True, slots=True, repr=False)
class Form:
    """The fields of a form, in order. They include tokens, so the `repr` shows nothing."""

    fields: tuple[tuple[str, str], ...]

    def __add__(self, more: tuple[tuple[str, str], ...]) -> "Form":
        """Return the form with more fields."""
        return Form(self.fields + more)


def build_form_request(url: str, form: Form, *, client: Client) -> Request:
    """Return the request that sends a form to an endpoint, authenticated with HTTP Basic.

    References:
        RFC 6749 sections 2.3.1 and 4.1.3.
    """
    # RFC 6749 section 2.3.1: both are form-encoded before they are joined by a colon. Authlib does not do that.
    auth: Any = ClientAuth(quote_plus(client.client_id), quote_plus(client.client_secret.get_secret_value()))
    prepared: tuple[str, dict[str, str], str] = auth.prepare(
        "POST", url, {"Content-Type": _FORM}, urlencode(form.fields)
    )
    return Request(method="POST", headers=prepared[1], body=prepared[2])


class Endpoints:
    """The OAuth endpoints of a provider, at the URLs of its discovery document."""

    def __init__(self, *, metadata: MetadataSource, transport: Transport) -> None:
        """Store the parts. Nothing is sent."""
        self._metadata = metadata
        self._transport = transport
        self._discovery: Flights[None, ProviderMetadata] = Flights()

    async def send(self, name: EndpointName, build: Callable[[str], Request]) -> tuple[str, Response]:
        """Send a request, which `build` returns for the URL of the endpoint; return that URL and the response.

        `FetchError` unless the endpoint works: its status is 200, or a 4xx that concerns this request only. After 429,
        404 or 410, or another status, further requests are pointless for now.
        """
        url = await self._find_url(name)
        response = await self.send_to(url, build(url), expected=200, purpose=_PURPOSES[name])
        if response.status in _MOVED:
            # The next try looks up the new URL.
            self._metadata.forget()
            raise _build_status_error(url, response, expected=200)
        return url, response

    async def send_to(
        self, url: str, request: Request, *, expected: int, purpose: FetchPurpose = "management"
    ) -> Response:
        """Send a request to a fixed URL. `FetchError` unless its status is the expected one, or a 4xx but not 429."""
        response = await self._transport.send(url, request, purpose=purpose)
        if response.status == _TOO_MANY:
            seconds = _read_retry_after(response.retry_after)
            raise FetchError(f"{url}: too many requests", status=_TOO_MANY, retry_after_seconds=seconds, url=url)
        if response.status != expected and not 400 <= response.status < 500:
            raise _build_status_error(url, response, expected=expected)
        return response

    async def _find_url(self, name: EndpointName) -> str:
        metadata = await self._discovery.join_or_lead(None, self._metadata.find)
        url: str | None = getattr(metadata, name)
        if url is None:
            self._metadata.forget()
            raise FetchError(f"the discovery document names no {name} at its own origin")
        return url


def _build_status_error(url: str, response: Response, *, expected: int) -> FetchError:
    return FetchError(f"{url}: status {response.status} instead of {expected}", status=response.status, url=url)


def _read_retry_after(value: str | None) -> int | None:
    """Return the seconds of a `Retry-After`, between 1 and `LONGEST_WAIT_SECONDS`; `None` without one.

    Also `None` for a date, which is not compared with the local clock (RFC 9110 section 10.2.3).
    """
    text = (value or "").strip()
    if not text.isascii() or not text.isdigit():
        return None
    # `int` raises an error for thousands of digits.
    return LONGEST_WAIT_SECONDS if len(text) > 8 else min(max(int(text), 1), LONGEST_WAIT_SECONDS)


def is_encodable(text: str) -> bool:
    """Return whether a text can be encoded as UTF-8, which a lone surrogate can't."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True
