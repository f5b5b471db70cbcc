"""Protect a FastAPI application with Logto.

from fastapi_logto import LogtoAuth, TokenClaims
"""

from fastapi_logto.claims import Actor, TokenClaims
from fastapi_logto.clock import Clock
from fastapi_logto.dependencies import LogtoAuth, OptionalLogtoAuth, auth, require_any_scope, require_scopes
from fastapi_logto.errors import LogtoError, RefusalError, SettingsError
from fastapi_logto.keys import ProviderHealth
from fastapi_logto.requirements import AllScopes, AnyScope, Requirement
from fastapi_logto.settings import LogtoSettings, SettingsArguments

__all__ = [
    "Actor",
    "AllScopes",
    "AnyScope",
    "Clock",
    "LogtoAuth",
    "LogtoError",
    "LogtoSettings",
    "OptionalLogtoAuth",
    "ProviderHealth",
    "RefusalError",
    "Requirement",
    "SettingsArguments",
    "SettingsError",
    "TokenClaims",
    "auth",
    "require_any_scope",
    "require_scopes",
]
