"""A webhook and its delivery log in Logto's Management API."""

import asyncio
import re
from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Final, Protocol, TypeVar
from urllib.parse import urlencode

from fastapi_logto.provider.failures import ExchangeError, FetchError, TooLargeError
from fastapi_logto.provider.transport import RawResponse, Request, Transport
from fastapi_logto.strict_json import JsonObject, JsonValue, StrictJsonError, cut_deep_parts, parse_value

if TYPE_CHECKING:
    from fastapi_logto.client import IssuedToken

ResultT = TypeVar("ResultT")

NEEDED_EVENTS: Final = (
    "User.SuspensionStatus.Updated",
    "User.Deleted",
    "Organization.Membership.Updated",
    "Organization.Deleted",
)
"""The events that revoke tokens. A webhook without one of them would miss it silently."""

PAGE_SIZES: Final = (100, 10, 1)
"""Numbers of deliveries in one response. Smaller ones are for large deliveries, which users can cause."""

# One delivery may list thousands of users, and repeats what its receiver responded.
_LARGE_BYTES: Final = 4 * 1024 * 1024
_ID: Final = re.compile(r"[A-Za-z0-9_-]{1,128}\Z", re.ASCII)
_LATEST_MS: Final = 2**53
_OK, _UNAUTHORIZED = 200, 401
_ADVICE: Final = {
    _UNAUTHORIZED: "the token was rejected; check that management_resource is the Management API of this tenant",
    403: "the machine-to-machine application has no access; give it a machine role with the permission `all` of the "
    "Logto Management API (console: Roles)",
    404: "there is no such webhook; correct hook_id, or create the webhook with fastapi-logto webhook push",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Hook:
    """A webhook in Logto. Its signing key and its headers are not kept.

    Attributes:
        id: Its id.
        url: The URL to which events are delivered.
        events: The names of the events.
        is_enabled: Whether events are delivered.
    """

    id: str
    url: str
    events: tuple[str, ...]
    is_enabled: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """The part of a log that is read, with times in milliseconds of Logto's clock, and where in it.

    Attributes:
        since: The oldest time.
        until: The newest time; `None` for now.
        offset: Number of deliveries that were read already, from the newest one.
    """

    since: int
    until: int | None = None
    offset: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """An entry of the log.

    Attributes:
        id: The id of the entry; `None` if it has no valid one.
        created_at: When it was written, in milliseconds of Logto's clock; `None` if that is not readable.
        body: The event that was delivered, or could not be delivered; `None` if that is not readable.
        is_success: Whether the receiver responded with success.
    """

    id: str | None
    created_at: int | None
    body: JsonObject | None = field(repr=False)
    is_success: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """Deliveries, the newest first."""

    deliveries: tuple[Delivery, ...]
    is_last: bool


class CallApi(Protocol):
    """Makes a call with a token for the Management API, and once more with a new token if the first one is rejected."""

    async def __call__(self, call: "Callable[[IssuedToken], Awaitable[ResultT]]", /) -> ResultT:
        """Return the result of the call."""
        ...


class HookApi:
    """One webhook in the Management API, read with a machine's token.

    A method raises `FetchError` or `GrantError`, whose message says how to fix it.
    """

    def __init__(
        self,
        call_api: CallApi,
        *,
        url: str,
        build_transport: Callable[[int | None], Transport],
    ) -> None:
        """Store the parts. `url` is that of the webhook. `build_transport` gets the size limit, or `None`."""
        self._call_api = call_api
        self._url = url
        self._transport = build_transport(None)
        self._large_transport = build_transport(_LARGE_BYTES)

    async def fetch_hook(self) -> Hook:
        """Return the webhook."""
        response = await self._get(self._url, self._transport)
        hook = await asyncio.to_thread(_parse_hook, response)
        if hook is None:
            raise FetchError(f"{self._url}: expected a webhook, found something else; check the endpoint")
        return hook

    async def fetch_page(self, window: Window, *, size: int) -> Page:
        """Return the next deliveries in a part of the log; `TooLargeError` if `size` of them are too large.

        The offset must be a multiple of the size.
        """
        query = {"start_time": window.since, "page": window.offset // size + 1, "page_size": size}
        if window.until is not None:
            # A millisecond more, because the first versions of Logto with this parameter exclude the time itself.
            query["end_time"] = window.until + 1
        url = f"{self._url}/recent-logs"
        transport = self._large_transport if size == 1 else self._transport
        response = await self._get(f"{url}?{urlencode(query)}", transport)
        deliveries = await asyncio.to_thread(_parse_deliveries, response, size=size)
        if deliveries is None:
            raise FetchError(f"{url}: expected a list of deliveries, found something else; check the endpoint")
        return Page(deliveries=deliveries, is_last=len(deliveries) < size)

    async def _get(self, url: str, transport: Transport) -> RawResponse:
        return await self._call_api(partial(self._send, url, transport))

    async def _send(self, url: str, transport: Transport, issued: "IssuedToken") -> RawResponse:
        name = url.partition("?")[0]
        try:
            response = await transport.exchange(
                url,
                Request(headers={"Authorization": f"Bearer {issued.token}"}),
                reads_errors=False,
                purpose="management",
            )
        except TooLargeError:
            raise
        except ExchangeError as error:
            raise FetchError(f"{name}: {error}") from None
        if response.status == _OK:
            return response
        advice = _ADVICE.get(response.status, "look up the status in Logto's documentation")
        message = f"{name}: expected status 200, found {response.status}; {advice}"
        if response.status == _UNAUTHORIZED:
            from fastapi_logto.client import GrantRefusedError  # noqa: PLC0415 - loads httpx; it is loaded by now

            raise GrantRefusedError(message, status=_UNAUTHORIZED, error="invalid_token", description="")
        raise FetchError(message, status=response.status)


def is_hook_id(value: str) -> bool:
    """Return whether a text can be an id of Logto. It becomes a part of URLs."""
    return _ID.match(value) is not None


def find_problem(hook: Hook, *, events: Collection[str] = NEEDED_EVENTS) -> str | None:
    """Return why events of a webhook are not recorded, and how to fix it; `None` if they are."""
    if not hook.is_enabled:
        return "the webhook is disabled, so Logto records no event; enable it with fastapi-logto webhook push"
    missing = [name for name in events if name not in hook.events]
    if missing:
        return f"the webhook lacks the events {', '.join(missing)}; add them with fastapi-logto webhook push"
    return None


def read_hook(document: JsonValue) -> Hook | None:
    """Return the webhook in a document of the Management API; `None` if it is not one."""
    if not isinstance(document, dict):
        return None
    config, found, event = document.get("config"), document.get("events"), document.get("event")
    # A webhook of an old version has one event, and an empty list.
    events = [name for name in (*(found if isinstance(found, list) else ()), event) if isinstance(name, str)]
    match document.get("id"), config, document.get("enabled"):
        case str(hook_id), {"url": str(url)}, bool(is_enabled) if is_hook_id(hook_id):
            return Hook(id=hook_id, url=url, events=tuple(events), is_enabled=is_enabled)
        case _:
            return None


# Both get the response and not its body, which contains a signing key or signatures: error trackers show the arguments
# of a thread, and asyncio logs its result.
def _parse_hook(response: RawResponse) -> Hook | None:
    try:
        return read_hook(parse_value(response.body))
    except StrictJsonError:
        return None


def _parse_deliveries(response: RawResponse, *, size: int) -> tuple[Delivery, ...] | None:
    try:
        # Users decide about a part of it, such as their custom data.
        found = parse_value(cut_deep_parts(response.body))
    except StrictJsonError:
        return None
    return tuple(map(_read_delivery, found[:size])) if isinstance(found, list) else None


def _read_delivery(entry: JsonValue) -> Delivery:
    members = _as_object(entry)
    payload = _as_object(members.get("payload"))
    body = _as_object(payload.get("hookRequest")).get("body")
    identifier, created_at = members.get("id"), members.get("createdAt")
    return Delivery(
        id=identifier if isinstance(identifier, str) else None,
        created_at=created_at if isinstance(created_at, int) and 0 < created_at < _LATEST_MS else None,
        body=body if isinstance(body, dict) else None,
        is_success=payload.get("result") == "Success",
    )


def _as_object(value: JsonValue) -> JsonObject:
    return value if isinstance(value, dict) else {}
