"""The deliveries of webhooks, and their log."""

import hashlib
import hmac
import json
import threading
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal, cast

from fastapi_logto.testing.issuer.hooks import Hook
from fastapi_logto.testing.signing import JsonValue

SUCCESS: Final = "Success"
_MAX_ENTRIES: Final = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """One delivery of an event to a hook.

    Attributes:
        id: The id of the log entry.
        hook_id: The hook.
        event: The event, e.g. `User.Deleted`.
        body: The body of the request.
        result: `Success` if the response had a 2xx status.
        status: The status of the response; `None` if there was no response.
        response: The body of the response, up to 4 KiB.
        error: Why the delivery failed, as Logto reports it; `None` if it did not.
        created_at: The time of the log entry, in milliseconds since the epoch.
    """

    id: str
    hook_id: str
    event: str
    body: Mapping[str, JsonValue] = field(repr=False)
    result: Literal["Success", "Error"]
    status: int | None = None
    response: str = field(default="", repr=False)
    error: str | None = None
    created_at: int


def sign_body(hook: Hook, body: bytes) -> str:
    """Return the signature of a body: hexadecimal HMAC-SHA256."""
    return hmac.new(hook.signing_key.encode(), body, hashlib.sha256).hexdigest()


def build_log_entry(delivery: Delivery) -> Mapping[str, JsonValue]:
    """Return a delivery as an entry of `GET /api/hooks/{id}/recent-logs`."""
    key = f"TriggerHook.{delivery.event}"
    payload: dict[str, JsonValue] = {"key": key, "result": delivery.result}
    if delivery.error is not None:
        payload["error"] = delivery.error
    payload["hookId"] = delivery.hook_id
    if delivery.status is not None:
        payload["response"] = {"body": _parse(delivery.response), "statusCode": delivery.status}
    payload["hookRequest"] = {"body": _sort(delivery.body)}
    return {"id": delivery.id, "key": key, "payload": payload, "createdAt": delivery.created_at}


class DeliveryLog:
    """The last deliveries of an issuer, also those of deleted hooks. Thread-safe."""

    def __init__(self) -> None:
        """Start without entries."""
        self._lock = threading.Lock()
        self._entries: deque[Delivery] = deque(maxlen=_MAX_ENTRIES)

    def add(self, delivery: Delivery) -> None:
        """Add an entry, and drop the oldest beyond ten thousand."""
        with self._lock:
            self._entries.append(delivery)

    def list_all(self) -> tuple[Delivery, ...]:
        """Return the entries, newest first."""
        with self._lock:
            return tuple(reversed(self._entries))


def _parse(text: str) -> JsonValue:
    try:
        return cast("JsonValue", json.loads(text))
    except (ValueError, RecursionError):
        return text


def _sort(value: object) -> JsonValue:
    """Return a value with members in the order of PostgreSQL's `jsonb`: by length, then by name."""
    if isinstance(value, list | tuple):
        return [_sort(entry) for entry in cast("Sequence[object]", value)]
    if not isinstance(value, Mapping):
        return cast("JsonValue", value)
    members = cast("Mapping[str, object]", value)
    return {name: _sort(members[name]) for name in sorted(members, key=lambda name: (len(name.encode()), name))}
