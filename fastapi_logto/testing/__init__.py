"""Test kit for protected applications, and a local issuer that behaves like Logto for development and demos.

Keys, signatures and endpoints are real, but nothing requires a password. Never make the local issuer reachable for
others.
"""

from fastapi_logto.testing.bad_tokens import BAD_TOKENS, BadToken
from fastapi_logto.testing.building import bearer, claims
from fastapi_logto.testing.clocks import ManualClock
from fastapi_logto.testing.directory import Application, Directory, LocalOrganization, Machine, Resource, User
from fastapi_logto.testing.issuer import LocalIssuer
from fastapi_logto.testing.overriding import Override, override
from fastapi_logto.testing.protection import RouteInfo, assert_protected, routes

__all__ = [
    "BAD_TOKENS",
    "Application",
    "BadToken",
    "Directory",
    "LocalIssuer",
    "LocalOrganization",
    "Machine",
    "ManualClock",
    "Override",
    "Resource",
    "RouteInfo",
    "User",
    "assert_protected",
    "bearer",
    "claims",
    "override",
    "routes",
]
