"""Requests to the provider's OAuth endpoints: a form, and who sends it. On Authlib's parts without I/O."""

from collections.abc import Sequence
from typing import Any
from urllib.parse import quote_plus, urlencode

from authlib.oauth2.auth import ClientAuth

from fastapi_logto.transport import Answer, Transport

__all__ = ["read_retry_after", "send_form"]

_FORM = "application/x-www-form-urlencoded"
_LONGEST_WAIT_SECONDS = 3600


async def send_form(
    transport: Transport, url: str, fields: Sequence[tuple[str, str]], *, client_id: str, client_secret: str
) -> Answer:
    """Send a form to an endpoint, as a client with a secret.

    Args:
        transport: What sends.
        url: The endpoint.
        fields: The form's fields.
        client_id: The client's id.
        client_secret: Its secret.

    Returns:
        The answer, of whatever status.

    Raises:
        FetchError: None came.

    References:
        RFC 6749 sections 2.3.1 and 4.1.3.
    """
    # RFC 6749 section 2.3.1 has both form-encoded before they are joined by a colon, which Authlib leaves to us.
    auth: Any = ClientAuth(quote_plus(client_id), quote_plus(client_secret))
    prepared: tuple[str, dict[str, str], str] = auth.prepare("POST", url, {"Content-Type": _FORM}, urlencode(fields))
    return await transport.send("POST", prepared[0], headers=prepared[1], body=prepared[2])


def read_retry_after(value: str | None) -> int:
    """Give the seconds of a `Retry-After`, between one and an hour; a date counts as one.

    Args:
        value: The header, as it came; `None` without one.

    References:
        RFC 9110 section 10.2.3.
    """
    text = (value or "").strip()
    return min(max(int(text), 1), _LONGEST_WAIT_SECONDS) if text.isascii() and text.isdigit() and len(text) < 9 else 1
