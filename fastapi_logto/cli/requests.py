"""Send requests from a command, which has no event loop, with the package's transport."""

from collections.abc import Mapping, Sequence
from typing import Final
from urllib.parse import parse_qsl, urlencode, urlsplit

from fastapi_logto.cli.loops import run_to_end
from fastapi_logto.provider.transport import RawResponse, Request, Transport

_MAX_FIELDS: Final = 100


def send(transport: Transport, url: str, request: Request) -> RawResponse:
    """Send a request and return the response, whatever its status; `ExchangeError` if there is none."""
    return run_to_end(transport.exchange(url, request))


def build_form(fields: Mapping[str, str | Sequence[str]], *, headers: Mapping[str, str] | None = None) -> Request:
    """Return the request that sends the fields of a form; a field may have several values."""
    return Request(
        method="POST",
        headers={"Content-Type": "application/x-www-form-urlencoded", **(headers or {})},
        body=urlencode(fields, doseq=True),
    )


def parse_location(response: RawResponse) -> Mapping[str, str]:
    """Return the query parameters of a redirect; empty if there is no `Location` or it is not a valid URL."""
    try:
        query = urlsplit(response.headers.get("location", "")).query
        return dict(reversed(parse_qsl(query, max_num_fields=_MAX_FIELDS)))
    except ValueError:
        return {}
