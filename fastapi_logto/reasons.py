"""The stable codes and reasons of error responses."""

from typing import Literal, TypeAlias

_Same: TypeAlias = Literal[
    "organization_required",
    "organization_mismatch",
    "user_required",
    "machine_required",
    "client_not_allowed",
    "actor_required",
    "actor_not_allowed",
    "claims_not_allowed",
    "provider_unavailable",
]

ErrorCode: TypeAlias = Literal[
    "auth.authorization_header_missing",
    "auth.authorization_token_invalid_format",
    "auth.authorization_token_type_not_supported",
    "invalid_token",
    "insufficient_scope",
    _Same,
]
"""The stable `code` of an error response. The first three are used in Logto's own guides."""

Reason: TypeAlias = Literal[
    "header_missing",
    "header_format",
    "header_type",
    "malformed",
    "too_large",
    "algorithm",
    "type",
    "id_token",
    "opaque_token",
    "inactive",
    "unknown_key",
    "signature",
    "issuer",
    "audience",
    "expired",
    "not_yet_valid",
    "revoked",
    "claims",
    "scope",
    _Same,
]
"""A stable reason, more specific than the code. The table of error responses in the documentation explains each."""
