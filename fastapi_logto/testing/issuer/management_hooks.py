"""The webhooks and their delivery log in Logto's Management API."""

import asyncio
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias, TypeVar

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from fastapi_logto.strict_json import JsonObject, JsonValue
from fastapi_logto.testing.issuer.bodies import read_body
from fastapi_logto.testing.issuer.deliveries import SUCCESS, Delivery, build_log_entry
from fastapi_logto.testing.issuer.hooks import Hook, check_events
from fastapi_logto.testing.issuer.management import ManagementError, check_authorization, invalid_body, parse_body
from fastapi_logto.testing.issuer.webhooks import Webhooks
from fastapi_logto.testing.minting import TokenMint

_NO_STORE: Final[Mapping[str, str]] = {"Cache-Control": "no-store"}
_DAY_MS: Final = 24 * 3600 * 1000
_DEFAULT_PAGE_SIZE: Final = 20
_MAX_PAGE_SIZE: Final = 100
_LONGEST_NAME: Final = 256
_MOST_RETRIES: Final = 3
_NUMBER: Final = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")
_YES: Final = frozenset({"1", "true", "y", "yes"})


@dataclass(frozen=True, slots=True, kw_only=True)
class _Call:
    hook_id: str
    query: Mapping[str, str]
    body: bytes = field(repr=False)


_T = TypeVar("_T")
_Operation: TypeAlias = Callable[[_Call], Response]


def build_hook_routes(mint: TokenMint, *, webhooks: Webhooks) -> list[Route]:
    """Return the routes below `/api/hooks`. Each requires a token with the scope `all`."""
    api = _HookApi(mint, webhooks)

    def route(method: str, path: str, operation: _Operation) -> Route:
        async def endpoint(request: Request) -> Response:
            hook_id = str(request.path_params.get("id", ""))
            call = _Call(hook_id=hook_id, query=dict(request.query_params), body=await read_body(request))
            return await asyncio.to_thread(respond, call, authorization=request.headers.get("authorization"))

        def respond(call: _Call, *, authorization: str | None) -> Response:
            check_authorization(mint, authorization)
            return operation(call)

        return Route(f"/api/hooks{path}", endpoint, methods=[method])

    return [
        route("GET", "", api.show_all),
        route("POST", "", api.create),
        route("GET", "/{id}", api.show),
        route("PATCH", "/{id}", api.update),
        route("DELETE", "/{id}", api.delete),
        route("PATCH", "/{id}/signing-key", api.renew_signing_key),
        route("GET", "/{id}/recent-logs", api.list_deliveries),
    ]


class _HookApi:
    """One method per route."""

    def __init__(self, mint: TokenMint, webhooks: Webhooks) -> None:
        self._clock = mint.clock
        self._webhooks = webhooks

    def show_all(self, call: _Call) -> Response:
        with_stats = call.query.get("includeExecutionStats", "").lower() in _YES
        hooks: Sequence[Hook] = self._webhooks.hooks.list_all()
        headers = _NO_STORE
        # Without these parameters, Logto returns all hooks.
        if call.query.keys() & {"page", "page_size"}:
            hooks, headers = _paginate(hooks, call.query)
        return _respond([self._describe(hook, with_stats=with_stats) for hook in hooks], headers=headers)

    def show(self, call: _Call) -> Response:
        hook = self._webhooks.hooks.find(call.hook_id)
        if hook is None:
            details = {"name": "hooks", "id": call.hook_id[:80]}
            raise ManagementError("entity.not_exists_with_id", status=404, details=details)
        return _respond(self._describe(hook, with_stats=bool(call.query.get("includeExecutionStats"))))

    def create(self, call: _Call) -> Response:
        fields = _parse_fields(parse_body(call.body))
        if "config" not in fields:
            raise invalid_body()
        if "events" not in fields:
            raise ManagementError("hook.missing_events", status=400)
        return _respond(self._describe(self._webhooks.hooks.create(**fields)), status=201)

    def update(self, call: _Call) -> Response:
        fields = _parse_fields(parse_body(call.body))
        if not fields:
            raise ManagementError("entity.invalid_input", status=422)
        return self._respond_updated(self._webhooks.hooks.update(call.hook_id, fields))

    def renew_signing_key(self, call: _Call) -> Response:
        return self._respond_updated(self._webhooks.hooks.renew_signing_key(call.hook_id))

    def delete(self, call: _Call) -> Response:
        if not self._webhooks.hooks.delete(call.hook_id):
            raise ManagementError("entity.not_found", status=404)
        return Response(status_code=204)

    def list_deliveries(self, call: _Call) -> Response:
        start, end = (_parse_time(call.query, name) for name in ("start_time", "end_time"))
        if start is not None and end is not None and start > end:
            raise ManagementError("log.invalid_time_window", status=400)
        if start is None and end is None:
            start = self._clock.now() * 1000 - _DAY_MS
        log_key = call.query.get("logKey")
        found = [
            delivery
            for delivery in self._find_deliveries(call.hook_id)
            if (start is None or delivery.created_at >= start)
            and (end is None or delivery.created_at <= end)
            and (not log_key or log_key == f"TriggerHook.{delivery.event}")
        ]
        page, headers = _paginate(found, call.query)
        return _respond([build_log_entry(delivery) for delivery in page], headers=headers)

    def _find_deliveries(self, hook_id: str) -> list[Delivery]:
        return [delivery for delivery in self._webhooks.log.list_all() if delivery.hook_id == hook_id]

    def _respond_updated(self, hook: Hook | None) -> Response:
        if hook is None:
            raise ManagementError("entity.not_exists", status=404, details={"name": "hook"})
        return _respond(self._describe(hook))

    def _describe(self, hook: Hook, *, with_stats: bool = False) -> JsonObject:
        members: JsonObject = {
            "tenantId": "default",
            "id": hook.id,
            "name": hook.name,
            "event": None,
            "events": list(hook.events),
            "config": hook.config,
            "signingKey": hook.signing_key,
            "enabled": hook.is_enabled,
            "createdAt": int(hook.created_at * 1000),
        }
        if with_stats:
            since = self._clock.now() * 1000 - _DAY_MS
            recent = [one for one in self._find_deliveries(hook.id) if one.created_at >= since]
            successes = sum(one.result == SUCCESS for one in recent)
            members["executionStats"] = {"successCount": successes, "requestCount": len(recent)}
        return members


def _parse_fields(body: JsonObject) -> dict[str, Any]:
    """Return the fields of a hook that a body sets, by the names in `Hook`. Other members are ignored, as in Logto."""
    name, is_enabled = body.get("name", ""), body.get("enabled", True)
    if not isinstance(name, str) or len(name) > _LONGEST_NAME or not isinstance(is_enabled, bool):
        raise invalid_body()
    fields: dict[str, Any] = {}
    if "name" in body:
        fields["name"] = name
    if "enabled" in body:
        fields["is_enabled"] = is_enabled
    if "config" in body:
        fields["config"] = _parse_config(body["config"])
    if "events" in body:
        fields["events"] = _parse_events(body["events"])
    return fields


def _parse_events(events: JsonValue) -> tuple[str, ...]:
    if not isinstance(events, list):
        raise invalid_body()
    try:
        return check_events([event if isinstance(event, str) else "" for event in events])
    except ValueError:
        raise invalid_body() from None


def _parse_config(config: JsonValue) -> JsonObject:
    if not isinstance(config, dict):
        raise invalid_body()
    url, headers, retries = config.get("url"), config.get("headers", {}), config.get("retries", 0)
    if not isinstance(url, str) or not isinstance(headers, dict):
        raise invalid_body()
    if not all(isinstance(value, str) for value in headers.values()):
        raise invalid_body()
    if not isinstance(retries, int | float) or isinstance(retries, bool) or not 0 <= retries <= _MOST_RETRIES:
        raise invalid_body()
    return {name: config[name] for name in ("url", "headers", "retries") if name in config}


def _respond(document: object, *, status: int = 200, headers: Mapping[str, str] = _NO_STORE) -> Response:
    return JSONResponse(document, status_code=status, headers=headers)


def _paginate(entries: Sequence[_T], query: Mapping[str, str]) -> tuple[Sequence[_T], Mapping[str, str]]:
    """Return a page, and the headers of its response."""
    page = _parse_positive(query.get("page"), default=1)
    size = _parse_positive(query.get("page_size"), default=_DEFAULT_PAGE_SIZE)
    if size > _MAX_PAGE_SIZE:
        raise ManagementError("guard.invalid_pagination", status=400)
    start = (page - 1) * size
    return entries[start : start + size], {**_NO_STORE, "Total-Number": str(len(entries))}


def _parse_positive(text: str | None, *, default: int) -> int:
    if not text:
        return default
    number = _parse_number(text)
    if not number.is_integer() or number <= 0:
        raise ManagementError("guard.invalid_pagination", status=400)
    return int(number)


def _parse_time(query: Mapping[str, str], name: str) -> float | None:
    if name not in query:
        return None
    number = _parse_number(query[name] or "0")
    if not math.isfinite(number):
        raise ManagementError("guard.invalid_input", status=400, details={"type": name})
    return number


def _parse_number(text: str) -> float:
    return float(text) if _NUMBER.fullmatch(text) else math.nan
