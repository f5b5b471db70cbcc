"""Deliver the events of an issuer to its hooks."""

import json
from collections.abc import Mapping, Sequence
from typing import Final
from urllib.parse import urlencode

from starlette.types import ASGIApp

from fastapi_logto.clock import Clock
from fastapi_logto.testing.issuer.deliveries import Delivery, DeliveryLog, sign_body
from fastapi_logto.testing.issuer.hooks import Hook, HookStore, build_id
from fastapi_logto.testing.signing import JsonValue

_USER_AGENT: Final = "Logto (https://logto.io/)"


class Webhooks:
    """The hooks of an issuer, the log of their deliveries, and the requests to applications. Thread-safe."""

    def __init__(self, clock: Clock, *, allow_remote: bool) -> None:
        """Start without hooks. Unless `allow_remote` is set, requests are sent to this machine only."""
        self.hooks: Final = HookStore(clock.now)
        self.log: Final = DeliveryLog()
        self._clock = clock
        self._allow_remote = allow_remote
        self._apps: dict[str, ASGIApp] = {}

    def deliver_to(self, app: ASGIApp, *, base_url: str) -> None:
        """Send requests to this origin to an application in memory."""
        from fastapi_logto.testing.issuer.sending import parse_origin  # noqa: PLC0415 - needs httpx

        self._apps[parse_origin(base_url)] = app

    def check_target(self, url: str) -> None:
        """Raise `ValueError` unless requests may be sent to a URL."""
        from fastapi_logto.testing.issuer import sending  # noqa: PLC0415 - needs httpx

        sending.check_target(url, apps=self._apps, allow_remote=self._allow_remote)

    def deliver(self, event: Mapping[str, JsonValue]) -> None:
        """Send an event to the hooks that subscribed it, once, and return after the last response."""
        hooks = [hook for hook in self.hooks.list_all() if hook.is_enabled and event["event"] in hook.events]
        if not hooks:
            return
        from fastapi_logto.testing.issuer import sending  # noqa: PLC0415 - needs httpx

        bodies = [{**event, "hookId": hook.id} for hook in hooks]
        requests = [
            sending.Outgoing(url=hook.url, body=raw, headers=_build_headers(hook, raw))
            for hook, raw in zip(hooks, map(_encode, bodies), strict=True)
        ]
        outcomes = sending.send_all(requests, apps=self._apps, allow_remote=self._allow_remote)
        for hook, body, outcome in zip(hooks, bodies, outcomes, strict=True):
            self.log.add(
                Delivery(
                    id=build_id(),
                    hook_id=hook.id,
                    event=str(event["event"]),
                    body=body,
                    result="Success" if outcome.error is None else "Error",
                    status=outcome.status,
                    response=outcome.body,
                    error=outcome.error,
                    created_at=int(self._clock.now() * 1000),
                )
            )

    def send_logout_tokens(self, tokens: Sequence[tuple[str, str]]) -> tuple[int | None, ...]:
        """Post each logout token to its URL, and return the statuses; `None` for a request without a response."""
        from fastapi_logto.testing.issuer import sending  # noqa: PLC0415 - needs httpx

        headers = {"User-Agent": _USER_AGENT, "Content-Type": "application/x-www-form-urlencoded"}
        requests = [
            sending.Outgoing(url=url, body=urlencode({"logout_token": token}).encode(), headers=headers)
            for url, token in tokens
        ]
        outcomes = sending.send_all(requests, apps=self._apps, allow_remote=self._allow_remote)
        return tuple(outcome.status for outcome in outcomes)


def _encode(body: Mapping[str, JsonValue]) -> bytes:
    return json.dumps(body, separators=(",", ":"), ensure_ascii=False).encode()


def _build_headers(hook: Hook, raw: bytes) -> Mapping[str, str]:
    headers = {"user-agent": _USER_AGENT, "content-type": "application/json"}
    own = hook.config.get("headers")
    if isinstance(own, dict):
        headers |= {name.lower(): str(value) for name, value in own.items()}
    return headers | {"logto-signature-sha-256": sign_body(hook, raw)}
