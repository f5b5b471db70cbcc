"""Test kit for protected applications, and a local issuer that behaves like Logto for development and demos.

Keys, signatures and endpoints are real, but nothing requires a password. Never make the local issuer reachable for
others.
"""

from fastapi_logto.clock import Clock
from fastapi_logto.description.routes import RouteInfo
from fastapi_logto.testing.bad_tokens import BAD_TOKENS, BadToken
from fastapi_logto.testing.building import bearer, claims
from fastapi_logto.testing.clocks import ManualClock
from fastapi_logto.testing.directory import Application, Directory, Machine, Organization, Resource, User
from fastapi_logto.testing.dynamic_apps import DynamicApps
from fastapi_logto.testing.issuer.deliveries import Delivery
from fastapi_logto.testing.issuer.hooks import Hook
from fastapi_logto.testing.issuer.local_issuer import LocalIssuer
from fastapi_logto.testing.overriding import override
from fastapi_logto.testing.protection import assert_protected, routes
from fastapi_logto.testing.revoking import revoke

__all__ = [
    "BAD_TOKENS",
    "Application",
    "BadToken",
    "Clock",
    "Delivery",
    "Directory",
    "DynamicApps",
    "Hook",
    "LocalIssuer",
    "Machine",
    "ManualClock",
    "Organization",
    "Resource",
    "RouteInfo",
    "User",
    "assert_protected",
    "bearer",
    "claims",
    "override",
    "revoke",
    "routes",
]
