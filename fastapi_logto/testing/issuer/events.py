"""The bodies of events: the order and types of their members are those of Logto's deliveries."""

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Final

from fastapi_logto.testing.directory import User
from fastapi_logto.testing.signing import JsonValue

# Method, route and status of the request that causes an event.
Cause = tuple[str, str, int]

_CAUSES: Final[Mapping[str, Cause]] = {
    "User.Created": ("POST", "/users", 200),
    "User.Deleted": ("DELETE", "/users/:userId", 204),
    "User.Data.Updated": ("PATCH", "/users/:userId", 200),
    "User.SuspensionStatus.Updated": ("PATCH", "/users/:userId/is-suspended", 200),
    "Role.Created": ("POST", "/roles", 200),
    "Role.Deleted": ("DELETE", "/roles/:id", 204),
    "Role.Data.Updated": ("PATCH", "/roles/:id", 200),
    "Role.Scopes.Updated": ("POST", "/roles/:id/scopes", 201),
    "Scope.Created": ("POST", "/resources/:resourceId/scopes", 201),
    "Scope.Deleted": ("DELETE", "/resources/:resourceId/scopes/:scopeId", 204),
    "Scope.Data.Updated": ("PATCH", "/resources/:resourceId/scopes/:scopeId", 200),
    "Organization.Created": ("POST", "/organizations", 201),
    "Organization.Deleted": ("DELETE", "/organizations/:id", 204),
    "Organization.Data.Updated": ("PATCH", "/organizations/:id", 200),
    "Organization.Membership.Updated": ("POST", "/organizations/:id/users", 201),
    "OrganizationRole.Created": ("POST", "/organization-roles", 201),
    "OrganizationRole.Deleted": ("DELETE", "/organization-roles/:id", 204),
    "OrganizationRole.Data.Updated": ("PATCH", "/organization-roles/:id", 200),
    "OrganizationRole.Scopes.Updated": ("POST", "/organization-roles/:id/scopes", 201),
    "OrganizationScope.Created": ("POST", "/organization-scopes", 201),
    "OrganizationScope.Deleted": ("DELETE", "/organization-scopes/:id", 204),
    "OrganizationScope.Data.Updated": ("PATCH", "/organization-scopes/:id", 200),
}
ADDED_USER: Final[Cause] = _CAUSES["Organization.Membership.Updated"]
REMOVED_USER: Final[Cause] = ("DELETE", "/organizations/:id/users/:userId", 204)
ADDED_APPLICATION: Final[Cause] = ("POST", "/organizations/:id/applications", 201)
REMOVED_APPLICATION: Final[Cause] = ("DELETE", "/organizations/:id/applications/:applicationId", 204)
_PARAMETER: Final = re.compile(r":(\w+)")


def build_event(
    event: str,
    *,
    now: float,
    params: Mapping[str, str],
    members: Mapping[str, JsonValue],
    cause: Cause | None = None,
) -> dict[str, JsonValue]:
    """Return the body of an event, without the `hookId` that is added for each hook.

    `params` are the ids in the path of the request that causes the event. `members` are the other members, and replace
    those of the request. An event that no request of the Management API causes has no members of a request.
    """
    created_at = datetime.fromtimestamp(now, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    head: dict[str, JsonValue] = {"event": event, "createdAt": created_at, "userAgent": "fastapi-logto"}
    head["ip"] = "127.0.0.1"
    cause = cause or _CAUSES.get(event)
    request = {} if cause is None else _describe_request(cause, params)
    # In this event alone, the data comes first.
    first: Mapping[str, JsonValue] = members if event == "User.Deleted" else {}
    return {**head, **first, **request, **members}


def describe_user(user: User, *, created_at: float, updated_at: float) -> dict[str, JsonValue]:
    """Return a user as in the `data` of an event. Times are seconds since the epoch."""
    return {
        "id": user.id,
        "username": user.username,
        "primaryEmail": None,
        "primaryPhone": None,
        "name": user.name,
        "avatar": None,
        "customData": {},
        "identities": {},
        "lastSignInAt": None,
        "createdAt": int(created_at * 1000),
        "updatedAt": int(updated_at * 1000),
        "profile": {},
        "applicationId": None,
        "cimdClientId": None,
        "isSuspended": user.is_suspended,
    }


def _describe_request(cause: Cause, params: Mapping[str, str]) -> dict[str, JsonValue]:
    method, route, status = cause
    missing = [name for name in _PARAMETER.findall(route) if name not in params]
    if missing:
        raise ValueError(f"params: expected {missing[0]!r}, found none; pass the ids of the path {route}")
    path = _PARAMETER.sub(lambda match: params[match[1]], route)
    if route.startswith("/roles/"):
        params = {"0": path.removeprefix("/roles"), **params}
    return {"path": path, "method": method, "status": status, "params": dict(params), "matchedRoute": route}
