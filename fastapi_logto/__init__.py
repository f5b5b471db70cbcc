"""Protect a FastAPI application with Logto.

from fastapi_logto import LogtoAuth, TokenClaims
"""

from fastapi_logto.auth import (
    LogtoAuth,
    auth,
    require,
    require_any_scope,
    require_machine,
    require_organization,
    require_scopes,
    require_user,
)
from fastapi_logto.errors import LogtoError, RefusalError, SettingsError
from fastapi_logto.mounting import claims_of, mount_protected
from fastapi_logto.organizations import Organization
from fastapi_logto.provider.key_source import ProviderHealth
from fastapi_logto.requirements import Requirement
from fastapi_logto.resource_auth import OptionalLogtoAuth, ResourceAuth
from fastapi_logto.settings import LogtoSettings, SettingsArguments
from fastapi_logto.verification.claims import Actor, TokenClaims

__all__ = [
    "Actor",
    "LogtoAuth",
    "LogtoError",
    "LogtoSettings",
    "OptionalLogtoAuth",
    "Organization",
    "ProviderHealth",
    "RefusalError",
    "Requirement",
    "ResourceAuth",
    "SettingsArguments",
    "SettingsError",
    "TokenClaims",
    "auth",
    "claims_of",
    "mount_protected",
    "require",
    "require_any_scope",
    "require_machine",
    "require_organization",
    "require_scopes",
    "require_user",
]
