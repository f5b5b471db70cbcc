"""Send the requests of an issuer: webhooks and logout tokens. Imported late, because it needs httpx.

Anyone who gets a Management API token can create a hook, so requests leave this machine only if that is allowed.
"""

import asyncio
import json
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Final

import httpx
from starlette.types import ASGIApp

from fastapi_logto.loopback import is_loopback

_TIMEOUT_SECONDS: Final = 10.0
_MAX_BODY_BYTES: Final = 4096
_MAX_PORT: Final = 65_535


@dataclass(frozen=True, slots=True, kw_only=True)
class Outgoing:
    """A POST request to send."""

    url: str
    body: bytes = field(repr=False)
    headers: Mapping[str, str] = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What came of a request: a response, an error, or both if the status is not 2xx."""

    status: int | None = None
    body: str = field(default="", repr=False)
    error: str | None = None


def parse_origin(url: str) -> str:
    """Return the origin of an http(s) URL, e.g. `http://testserver`; `ValueError` for anything else."""
    return _format_origin(_parse(url))


def check_target(url: str, *, apps: Mapping[str, ASGIApp], allow_remote: bool) -> httpx.URL:
    """Return the parsed URL; `ValueError` if requests to it are not allowed.

    It is the parser that also connects: another one may find another host in the same text.
    """
    parsed = _parse(url)
    if not (allow_remote or is_loopback(parsed.host) or _format_origin(parsed) in apps):
        raise ValueError(
            f"url: expected a loopback host, found {parsed.host[:80]!r}; pass the application to deliver_to(), or set "
            "allow_remote_webhooks (--allow-remote)"
        )
    return parsed


def send_all(
    requests: Sequence[Outgoing],
    *,
    apps: Mapping[str, ASGIApp],
    allow_remote: bool,
    timeout_seconds: float = _TIMEOUT_SECONDS,
) -> tuple[Outcome, ...]:
    """Send all requests concurrently, once each, and return their outcomes when all are done.

    `apps` are applications that respond in memory, by the origin of their URL.
    """

    async def send() -> list[Outcome]:
        pending = (
            _send(request, apps=apps, allow_remote=allow_remote, timeout_seconds=timeout_seconds)
            for request in requests
        )
        return await asyncio.gather(*pending)

    # In another thread, because the caller's may run an event loop.
    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="fastapi-logto-webhooks") as executor:
        return tuple(executor.submit(lambda: asyncio.run(send())).result())


async def _send(
    request: Outgoing, *, apps: Mapping[str, ASGIApp], allow_remote: bool, timeout_seconds: float
) -> Outcome:
    try:
        url = check_target(request.url, apps=apps, allow_remote=allow_remote)
        transport = _build_transport(url, apps=apps)
        # No proxy from the environment, and no redirect: both could lead to another host.
        async with (
            asyncio.timeout(timeout_seconds),
            httpx.AsyncClient(transport=transport, trust_env=False, timeout=timeout_seconds) as client,
            client.stream("POST", url, content=request.body, headers=request.headers) as response,
        ):
            body = await _read(response)
    except (TimeoutError, httpx.TimeoutException):
        return Outcome(error=_describe("TimeoutError", {"message": "Request timed out"}))
    except (httpx.HTTPError, httpx.InvalidURL, ValueError) as error:
        return Outcome(error=_describe("TypeError", {"message": "fetch failed", "cause": {"message": str(error)}}))
    if response.is_success:
        return Outcome(status=response.status_code, body=body)
    message = f"Request failed with status code {response.status_code} {response.reason_phrase}".rstrip()
    return Outcome(status=response.status_code, body=body, error=_describe("HTTPError", {"message": message}))


def _build_transport(url: httpx.URL, *, apps: Mapping[str, ASGIApp]) -> httpx.AsyncBaseTransport:
    app = apps.get(_format_origin(url))
    if app is None:
        # Certificates are loaded only if they are needed, which takes some 20 ms.
        return httpx.AsyncHTTPTransport(verify=url.scheme == "https")
    # An exception of the application is a response with status 500, as from a server.
    return httpx.ASGITransport(app=app, raise_app_exceptions=False)


async def _read(response: httpx.Response) -> str:
    body = b""
    # Not decompressed: a small response may become a large one.
    async for chunk in response.aiter_raw():
        body += chunk
        if len(body) > _MAX_BODY_BYTES:
            break
    return body[:_MAX_BODY_BYTES].decode("utf-8", errors="replace")


def _parse(url: str) -> httpx.URL:
    try:
        parsed = httpx.URL(url)
    except httpx.InvalidURL:
        parsed = httpx.URL("")
    if parsed.scheme not in {"http", "https"} or not parsed.host or (parsed.port or 0) > _MAX_PORT:
        raise ValueError("url: expected an http or https URL, found another text")
    return parsed


def _format_origin(url: httpx.URL) -> str:
    return f"{url.scheme}://{url.netloc.decode('ascii')}"


def _describe(name: str, details: Mapping[str, object]) -> str:
    return f"{name}: {json.dumps(details, separators=(',', ':'))}"
