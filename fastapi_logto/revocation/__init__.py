"""Revoke access tokens before they expire, on every worker at once."""

from fastapi_logto.revocation.delivery_log import DeliveryLog
from fastapi_logto.revocation.events import (
    Event,
    EventError,
    GrantEvent,
    LockoutEvent,
    MembershipEvent,
    OrganizationEvent,
    RoleEvent,
    ScopeEvent,
    SignInEvent,
    TrustedDeviceEvent,
    UnknownEvent,
    UserEvent,
    parse_event,
)
from fastapi_logto.revocation.redis_store import RedisStore
from fastapi_logto.revocation.revocations import Revocations
from fastapi_logto.verification.revocation_store import (
    Batch,
    LogHealth,
    RevocationHealth,
    RevocationStore,
    RevocationStoreError,
)
from fastapi_logto.verification.revoked import Revocation

__all__ = [
    "Batch",
    "DeliveryLog",
    "Event",
    "EventError",
    "GrantEvent",
    "LockoutEvent",
    "LogHealth",
    "MembershipEvent",
    "OrganizationEvent",
    "RedisStore",
    "Revocation",
    "RevocationHealth",
    "RevocationStore",
    "RevocationStoreError",
    "Revocations",
    "RoleEvent",
    "ScopeEvent",
    "SignInEvent",
    "TrustedDeviceEvent",
    "UnknownEvent",
    "UserEvent",
    "parse_event",
]
