"""Requests to the provider's OAuth endpoints: forms, sent by a client with a secret. On Authlib's parts without I/O."""

from collections.abc import Sequence
from typing import Any, Final
from urllib.parse import quote_plus, urlencode

from authlib.oauth2.auth import ClientAuth

from fastapi_logto.backoff import LONGEST_WAIT_SECONDS
from fastapi_logto.errors import FetchError
from fastapi_logto.transport import Answer, Transport

__all__ = ["MOVED", "check_answered", "is_encodable", "read_retry_after", "send_form"]

MOVED: Final = frozenset({404, 410})
"""Statuses that mean: the endpoint is no longer at this URL."""

_FORM: Final = "application/x-www-form-urlencoded"
_TOO_MANY: Final = 429


async def send_form(
    transport: Transport, url: str, fields: Sequence[tuple[str, str]], *, client_id: str, client_secret: str
) -> Answer:
    """Send a form to an endpoint, as a client with a secret.

    Args:
        transport: The transport.
        url: The endpoint.
        fields: The form's fields.
        client_id: The client's id.
        client_secret: Its secret.

    Returns:
        The response, of whatever status.

    Raises:
        FetchError: There was none.

    References:
        RFC 6749 sections 2.3.1 and 4.1.3.
    """
    # RFC 6749 section 2.3.1 has both form-encoded before they are joined by a colon, which Authlib leaves to us.
    auth: Any = ClientAuth(quote_plus(client_id), quote_plus(client_secret))
    prepared: tuple[str, dict[str, str], str] = auth.prepare("POST", url, {"Content-Type": _FORM}, urlencode(fields))
    return await transport.send("POST", prepared[0], headers=prepared[1], body=prepared[2])


def check_answered(answer: Answer, *, url: str) -> None:
    """Check that an endpoint works: its status is 200, or a 4xx that concerns the request.

    Args:
        answer: The response.
        url: The endpoint, for the message.

    Raises:
        FetchError: The status is 429, 404 or 410, or neither 200 nor 4xx. No further request makes sense now.
    """
    if answer.status == _TOO_MANY:
        seconds = read_retry_after(answer.retry_after)
        raise FetchError(f"{url}: too many requests", status=_TOO_MANY, retry_after_seconds=seconds)
    if answer.status in MOVED or (answer.status != 200 and not 400 <= answer.status < 500):
        raise FetchError(f"{url}: status {answer.status} instead of 200", status=answer.status)


def read_retry_after(value: str | None) -> int | None:
    """Return the seconds of a `Retry-After`, between 1 and `LONGEST_WAIT_SECONDS`.

    Args:
        value: The header; `None` without one.

    Returns:
        The seconds; `None` without a header, and for a date, which is compared to no clock of ours.

    References:
        RFC 9110 section 10.2.3.
    """
    text = (value or "").strip()
    if not text.isascii() or not text.isdigit():
        return None
    # `int` refuses thousands of digits with an error.
    return LONGEST_WAIT_SECONDS if len(text) > 8 else min(max(int(text), 1), LONGEST_WAIT_SECONDS)


def is_encodable(text: str) -> bool:
    """Return whether a text can be sent: a lone surrogate has no encoding in UTF-8.

    Args:
        text: The text.
    """
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True
