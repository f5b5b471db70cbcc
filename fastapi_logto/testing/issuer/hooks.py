"""The webhooks of a local issuer."""

import secrets
import string
import threading
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

from fastapi_logto.strict_json import JsonObject
from fastapi_logto.testing.texts import as_texts

HOOK_EVENTS: Final = (
    "PostRegister",
    "PostSignIn",
    "PostResetPassword",
    "User.Created",
    "User.Deleted",
    "User.Data.Updated",
    "User.SuspensionStatus.Updated",
    "Role.Created",
    "Role.Deleted",
    "Role.Data.Updated",
    "Role.Scopes.Updated",
    "Scope.Created",
    "Scope.Deleted",
    "Scope.Data.Updated",
    "Organization.Created",
    "Organization.Deleted",
    "Organization.Data.Updated",
    "Organization.Membership.Updated",
    "OrganizationRole.Created",
    "OrganizationRole.Deleted",
    "OrganizationRole.Data.Updated",
    "OrganizationRole.Scopes.Updated",
    "OrganizationScope.Created",
    "OrganizationScope.Deleted",
    "OrganizationScope.Data.Updated",
    "Identifier.Lockout",
    "Message.RateLimited",
    "Grant.LimitExceeded",
)
"""The events that a hook can subscribe to, as in Logto 1.43."""

_ALPHABET: Final = string.ascii_lowercase + string.digits
_ID_LENGTH: Final = 21
_KEY_LENGTH: Final = 32


def build_id() -> str:
    """Return a random id like those of Logto."""
    return "".join(secrets.choice(_ALPHABET) for _ in range(_ID_LENGTH))


def _build_signing_key() -> str:
    return "".join(secrets.choice(string.ascii_letters + string.digits) for _ in range(_KEY_LENGTH))


def check_events(events: Collection[str]) -> tuple[str, ...]:
    """Return the events without duplicates; `ValueError` if there is none, or one that Logto does not have."""
    events = tuple(dict.fromkeys(as_texts(events, what="events")))
    unknown = [event for event in events if event not in HOOK_EVENTS]
    if unknown or not events:
        found = repr(unknown[0][:80]) if unknown else "none"
        raise ValueError(f"events: expected events of Logto such as 'User.Deleted', found {found}; correct the name")
    return events


@dataclass(frozen=True, slots=True, kw_only=True)
class Hook:
    """A webhook of the local issuer.

    Attributes:
        id: The hook id; each delivery contains it as `hookId`.
        events: The events that are delivered.
        signing_key: The key that signs the deliveries; omitted from the `repr`.
        config: The URL, and if set, additional headers (`headers`); omitted from the `repr`.
        name: The name.
        is_enabled: Whether events are delivered.
        created_at: Seconds since the epoch.
    """

    id: str
    events: tuple[str, ...]
    signing_key: str = field(repr=False)
    config: JsonObject = field(repr=False)
    name: str = ""
    is_enabled: bool = True
    created_at: float

    @property
    def url(self) -> str:
        """The URL that events are sent to."""
        return str(self.config["url"])


class HookStore:
    """The hooks of an issuer. Thread-safe."""

    def __init__(self, now: Callable[[], float]) -> None:
        """Start without hooks."""
        self._now = now
        self._lock = threading.Lock()
        self._hooks: dict[str, Hook] = {}

    def list_all(self) -> tuple[Hook, ...]:
        """Return all hooks, newest first."""
        return tuple(reversed(self._hooks.copy().values()))

    def find(self, hook_id: str) -> Hook | None:
        """Return the hook with this id; `None` if there is none."""
        return self._hooks.get(hook_id)

    def create(
        self,
        *,
        config: JsonObject,
        events: tuple[str, ...],
        name: str = "",
        is_enabled: bool = True,
        signing_key: str | None = None,
    ) -> Hook:
        """Add a hook, with a random signing key by default."""
        hook = Hook(
            id=build_id(),
            events=events,
            signing_key=signing_key or _build_signing_key(),
            config=config,
            name=name,
            is_enabled=is_enabled,
            created_at=self._now(),
        )
        with self._lock:
            self._hooks[hook.id] = hook
        return hook

    def update(self, hook_id: str, changes: Mapping[str, Any]) -> Hook | None:
        """Replace fields of a hook, and return it; `None` if there is no such hook."""
        with self._lock:
            hook = self._hooks.get(hook_id)
            if hook is None:
                return None
            self._hooks[hook_id] = changed = replace(hook, **changes)
        return changed

    def renew_signing_key(self, hook_id: str) -> Hook | None:
        """Replace the signing key of a hook, and return the hook; `None` if there is no such hook."""
        return self.update(hook_id, {"signing_key": _build_signing_key()})

    def delete(self, hook_id: str) -> bool:
        """Delete a hook; return whether it existed."""
        with self._lock:
            return self._hooks.pop(hook_id, None) is not None
