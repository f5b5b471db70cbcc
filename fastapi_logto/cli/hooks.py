"""Compare a webhook in Logto with what an API needs, and create or update it."""

import re
from collections.abc import Collection
from dataclasses import dataclass, field, replace
from typing import Final

from fastapi_logto.cli.management import ManagementApi
from fastapi_logto.cli.results import CommandError, ExitCode
from fastapi_logto.redaction import quote
from fastapi_logto.revocation.hook_api import NEEDED_EVENTS, is_hook_id, read_hook
from fastapi_logto.strict_json import JsonObject, JsonValue
from fastapi_logto.urls import check_url

# A name that never resolves (RFC 6761 section 6.4), and a port that is refused before that (WHATWG Fetch).
POLL_ONLY_URL: Final = "https://poll-only.invalid:1/fastapi-logto"
"""The URL of a webhook whose deliveries all fail at once. Logto accepts any text, and keeps the events in the log."""

_NAME: Final = "fastapi-logto"
_EVENT: Final = re.compile(r"[A-Za-z][A-Za-z.]{0,79}\Z", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class HookReport:
    """A webhook in Logto, compared with what an API needs.

    Attributes:
        tenant: The endpoint of the tenant.
        hook_id: Its id; `None` if there is no such webhook.
        url: The URL that the API needs.
        found_url: Its URL in Logto, if that is another one.
        present: Events that are needed, and that it has.
        missing: Events that are needed, and that it lacks.
        extra: Other events that it has; they are kept.
        is_enabled: Whether events are delivered.
        is_pushed: Whether it was created or changed.
        environment: Variables for `.env`. The signing key is among them only if it is new.
        exit_code: The exit code.
    """

    tenant: str
    hook_id: str | None
    url: str
    found_url: str | None = None
    present: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    extra: tuple[str, ...] = ()
    is_enabled: bool = True
    is_pushed: bool = False
    environment: dict[str, str] = field(default_factory=dict[str, str], repr=False)
    exit_code: int = ExitCode.FINE

    @property
    def differs(self) -> bool:
        """Whether something in Logto must be changed."""
        return self.hook_id is None or self.found_url is not None or bool(self.missing) or not self.is_enabled


def list_events(more: Collection[str]) -> tuple[str, ...]:
    """Return the events that an API needs; `CommandError` if one of `more` can't be the name of an event."""
    for name in more:
        if not _EVENT.match(name):
            raise CommandError(f"--event: expected an event such as Role.Scopes.Updated, found {quote(name)}")
    return tuple(dict.fromkeys((*NEEDED_EVENTS, *more)))


def compare_hook(
    api: ManagementApi, *, tenant: str, url: str, hook_id: str | None, events: Collection[str]
) -> HookReport:
    """Return the difference between a webhook in Logto, found by its id or URL, and what an API needs."""
    try:
        check_url(url)
    except ValueError as error:
        raise CommandError(f"--url: {error}, found {quote(url)}; pass the URL of the webhook route") from None
    found = _find(api, url=url, hook_id=hook_id)
    if found is None:
        return HookReport(tenant=tenant, hook_id=None, url=url, missing=tuple(events))
    hook = read_hook(found)
    if hook is None:
        raise CommandError("Management API: expected webhooks, found something else")
    return HookReport(
        tenant=tenant,
        hook_id=hook.id,
        url=url,
        found_url=None if hook.url == url else hook.url,
        present=tuple(name for name in events if name in hook.events),
        missing=tuple(name for name in events if name not in hook.events),
        extra=tuple(name for name in hook.events if name not in events),
        is_enabled=hook.is_enabled,
        environment={"LOGTO_WEBHOOK_ID": hook.id},
    )


def push_hook(api: ManagementApi, report: HookReport, *, name: str | None, rotates_key: bool) -> HookReport:
    """Create or update the webhook, and return the report afterwards. Nothing that it has is removed."""
    needed = (*report.present, *report.missing)
    events: list[JsonValue] = [*needed, *report.extra]
    if report.hook_id is None:
        document: JsonObject = {"name": name or _NAME, "events": events, "config": {"url": report.url}}
        written = api.create_hook(document)
    elif report.differs:
        document = {"events": events, "enabled": True}
        if report.found_url is not None:
            config = (_find(api, url=report.url, hook_id=report.hook_id) or {}).get("config")
            # With its other members, because the whole object is replaced.
            document["config"] = {**(config if isinstance(config, dict) else {}), "url": report.url}
        written = api.update_hook(report.hook_id, document)
    else:
        written = {}
    if rotates_key and report.hook_id is not None:
        written = api.rotate_signing_key(report.hook_id)
    is_key_new = rotates_key or report.hook_id is None
    changed = compare_hook(
        api, tenant=report.tenant, url=report.url, hook_id=report.hook_id or _read_id(written), events=needed
    )
    environment = dict(changed.environment)
    if is_key_new:
        environment["LOGTO_WEBHOOK_SIGNING_KEY"] = _read_signing_key(written)
    if changed.differs:
        raise CommandError("Management API: expected a webhook with all events, found a difference; run this again")
    return replace(changed, is_pushed=True, environment=environment)


def _find(api: ManagementApi, *, url: str, hook_id: str | None) -> JsonObject | None:
    hooks = api.list_hooks()
    if hook_id is not None:
        found = next((hook for hook in hooks if hook.get("id") == hook_id), None)
        if found is None:
            raise CommandError(f"--hook-id: expected the id of a webhook of this tenant, found {quote(hook_id)}")
        return found
    matches = [hook for hook in hooks if isinstance(hook.get("config"), dict) and _read_url(hook) == url]
    if len(matches) > 1:
        raise CommandError(f"expected one webhook with the URL {quote(url)}, found {len(matches)}; pass --hook-id")
    return matches[0] if matches else None


def _read_url(hook: JsonObject) -> JsonValue:
    config = hook.get("config")
    return config.get("url") if isinstance(config, dict) else None


def _read_id(hook: JsonObject) -> str:
    found = hook.get("id")
    if not isinstance(found, str) or not is_hook_id(found):
        raise CommandError("Management API: expected the id of the webhook, found none")
    return found


def _read_signing_key(hook: JsonObject) -> str:
    found = hook.get("signingKey")
    if not isinstance(found, str) or not (found.isascii() and found.isalnum()):
        raise CommandError("Management API: expected the signing key of the webhook, found none; copy it from Logto")
    return found
