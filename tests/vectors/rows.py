"""The rows of the attack tables: one change to a valid token or header, and the exact result."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from fastapi_logto.errors import (
    AlgorithmError,
    AudienceError,
    AuthorizationFormatError,
    AuthorizationMissingError,
    AuthorizationTypeError,
    ClaimError,
    ExpiredTokenError,
    IdTokenError,
    ImmatureTokenError,
    IssuerError,
    MalformedTokenError,
    OpaqueTokenError,
    RefusalError,
    SignatureError,
    TokenTooLargeError,
    TokenTypeError,
    UnknownKeyError,
)
from fastapi_logto.settings import SettingsArguments
from tests.vectors.forge import Forge


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """The error of a refused request, written by hand."""

    error: type[RefusalError]
    code: str
    reason: str
    status: int

    def fits(self, error: RefusalError) -> bool:
        """Return whether exactly this error was raised, and no subclass of it."""
        return (type(error), error.code, error.reason, error.status) == (
            self.error,
            self.code,
            self.reason,
            self.status,
        )


def _invalid_token(error: type[RefusalError], reason: str) -> Refusal:
    return Refusal(error=error, code="invalid_token", reason=reason, status=401)


HEADER_MISSING: Final = Refusal(
    error=AuthorizationMissingError, code="auth.authorization_header_missing", reason="header_missing", status=401
)
HEADER_FORMAT: Final = Refusal(
    error=AuthorizationFormatError,
    code="auth.authorization_token_invalid_format",
    reason="header_format",
    status=401,
)
HEADER_TYPE: Final = Refusal(
    error=AuthorizationTypeError,
    code="auth.authorization_token_type_not_supported",
    reason="header_type",
    status=401,
)
MALFORMED: Final = _invalid_token(MalformedTokenError, "malformed")
TOO_LARGE: Final = _invalid_token(TokenTooLargeError, "too_large")
ALGORITHM: Final = _invalid_token(AlgorithmError, "algorithm")
TYPE: Final = _invalid_token(TokenTypeError, "type")
ID_TOKEN: Final = _invalid_token(IdTokenError, "id_token")
OPAQUE: Final = _invalid_token(OpaqueTokenError, "opaque_token")
UNKNOWN_KEY: Final = _invalid_token(UnknownKeyError, "unknown_key")
SIGNATURE: Final = _invalid_token(SignatureError, "signature")
ISSUER: Final = _invalid_token(IssuerError, "issuer")
AUDIENCE: Final = _invalid_token(AudienceError, "audience")
EXPIRED: Final = _invalid_token(ExpiredTokenError, "expired")
IMMATURE: Final = _invalid_token(ImmatureTokenError, "not_yet_valid")
CLAIMS: Final = _invalid_token(ClaimError, "claims")


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One change and its outcome.

    Attributes:
        id: Name of the test case.
        refused: The expected error; `None` if the changed token or header is still valid.
        claim: The claim or header member that the error names.
        reference: The source of the attack or of the rule.
        settings: Settings that differ from the defaults.
    """

    id: str
    refused: Refusal | None
    claim: str | None = None
    reference: str
    settings: SettingsArguments = field(default_factory=SettingsArguments)


@dataclass(frozen=True, slots=True, kw_only=True)
class AuthorizationRow(Row):
    """The `Authorization` headers of one request, and the token in them."""

    values: tuple[str, ...]
    token: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenRow(Row):
    """A whole token, made by a function that gets the forge."""

    change: Callable[[Forge], str] = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class PayloadRow(Row):
    """A payload that is signed by the issuer's key."""

    payload: bytes = field(repr=False)
