"""Protect a FastAPI application with Logto.

from fastapi_logto import LogtoAuth, TokenClaims
"""

from fastapi_logto.auth import LogtoAuth, auth, require_scopes
from fastapi_logto.caller import claims_of, token_of
from fastapi_logto.errors import LogtoError, RefusalError, SettingsError
from fastapi_logto.mounting import mount_protected
from fastapi_logto.organizations import OrganizationSource
from fastapi_logto.provider.health import ProviderHealth
from fastapi_logto.requirements import Requirement
from fastapi_logto.settings import LogtoSettings
from fastapi_logto.verification.claims import Actor, TokenClaims

__all__ = [
    "Actor",
    "LogtoAuth",
    "LogtoError",
    "LogtoSettings",
    "OrganizationSource",
    "ProviderHealth",
    "RefusalError",
    "Requirement",
    "SettingsError",
    "TokenClaims",
    "auth",
    "claims_of",
    "mount_protected",
    "require_scopes",
    "token_of",
]
