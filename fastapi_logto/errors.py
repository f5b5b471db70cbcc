"""The errors of this package, as one tree.

    LogtoError
    ├── SettingsError                    a setting is missing or invalid; raised at startup
    └── RefusalError                     a request is rejected: code, reason, status, message
        ├── AuthorizationHeaderError     401, the header itself
        │   └── AuthorizationMissingError   AuthorizationFormatError   AuthorizationTypeError
        ├── InvalidTokenError            401, the token
        │   ├── MalformedTokenError  TokenTooLargeError  AlgorithmError     TokenTypeError  IdTokenError
        │   ├── OpaqueTokenError     InactiveTokenError  UnknownKeyError    SignatureError  IssuerError
        │   └── AudienceError        ExpiredTokenError   ImmatureTokenError ClaimError
        ├── ForbiddenError               403, the token is valid but does not allow this
        │   ├── InsufficientScopeError
        │   ├── OrganizationRequiredError   OrganizationMismatchError
        │   ├── UserRequiredError      MachineRequiredError      ClientNotAllowedError
        │   └── ActorRequiredError     ActorNotAllowedError      ClaimsNotAllowedError
        └── ProviderUnavailableError     503, the token can't be verified now

The client sees `code`, `reason` and `message`, which may name settings of the API and never contain anything from the
request. `str(error)` is for the log: it adds the claim, the expected value and the value found, quoted and cut.
"""

from collections.abc import Collection
from typing import ClassVar, Final, Literal, TypeAlias

from fastapi_logto.redaction import quote

__all__ = [
    "ActorNotAllowedError",
    "ActorRequiredError",
    "AlgorithmError",
    "AudienceError",
    "AuthorizationFormatError",
    "AuthorizationHeaderError",
    "AuthorizationMissingError",
    "AuthorizationTypeError",
    "ClaimError",
    "ClaimsNotAllowedError",
    "ClientNotAllowedError",
    "ErrorCode",
    "ExpiredTokenError",
    "ForbiddenError",
    "IdTokenError",
    "ImmatureTokenError",
    "InactiveTokenError",
    "InsufficientScopeError",
    "InvalidTokenError",
    "IssuerError",
    "LogtoError",
    "MachineRequiredError",
    "MalformedTokenError",
    "OpaqueTokenError",
    "OrganizationMismatchError",
    "OrganizationRequiredError",
    "ProviderUnavailableError",
    "Reason",
    "RefusalError",
    "SettingsError",
    "SignatureError",
    "TokenTooLargeError",
    "TokenTypeError",
    "UnknownKeyError",
    "UserRequiredError",
]

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
    "claims",
    "scope",
    _Same,
]
"""A stable reason, more specific than the code. The table of error responses in the documentation explains each."""


class LogtoError(Exception):
    """Base class of the errors of this package."""


class SettingsError(LogtoError, ValueError):
    """A setting is missing or invalid. The message names the variable, the value found and a valid example."""


class RefusalError(LogtoError):
    """A request is rejected.

    Attributes:
        code: Stable code of the error response.
        reason: Stable reason, more specific than the code.
        status: HTTP status of the error response.
        message: How to fix it, for the developer of the client. It may name settings of the API.
        claim: The claim or header parameter that was rejected, if it was one.
        expected: What was expected, quoted, for the log.
        found: What was found, quoted and cut, for the log.
    """

    code: ClassVar[ErrorCode]
    reason: ClassVar[Reason]
    status: ClassVar[int]
    default_message: ClassVar[str]

    def __init__(
        self,
        message: str | None = None,
        *,
        claim: str | None = None,
        expected: str | None = None,
        found: str | None = None,
    ) -> None:
        self.message: str = message or self.default_message
        self.claim: str | None = claim
        self.expected: str | None = expected
        self.found: str | None = found
        super().__init__(self.message)

    def __str__(self) -> str:
        """Return the line for the log: code, reason, claim, expected, found."""
        details = {"claim": self.claim, "expected": self.expected, "found": self.found}
        told = [f"{name} {value}" for name, value in details.items() if value is not None]
        return f"{self.code}: {', '.join([self.reason, *told])}"


class AuthorizationHeaderError(RefusalError):
    """The `Authorization` header has no bearer token."""

    status = 401


class AuthorizationMissingError(AuthorizationHeaderError):
    """The `Authorization` header is missing or empty."""

    code = "auth.authorization_header_missing"
    reason = "header_missing"
    default_message = "Send the access token in the header: Authorization: Bearer <access token>"


class AuthorizationFormatError(AuthorizationHeaderError):
    """The header does not have exactly two parts, is repeated, or its token is no token68 (RFC 9110 section 11.2)."""

    code = "auth.authorization_token_invalid_format"
    reason = "header_format"
    default_message = "Send one header with exactly two parts: Authorization: Bearer <access token>"


class AuthorizationTypeError(AuthorizationHeaderError):
    """The header names a scheme other than Bearer."""

    code = "auth.authorization_token_type_not_supported"
    reason = "header_type"
    default_message = "Only the Bearer scheme is supported: Authorization: Bearer <access token>"


class InvalidTokenError(RefusalError):
    """The token is invalid for this API (RFC 6750 section 3.1)."""

    code = "invalid_token"
    status = 401


class MalformedTokenError(InvalidTokenError):
    """The token is not a strict compact JWS (RFC 7515 section 7.1) with JSON objects as header and payload."""

    reason = "malformed"
    default_message = "The token is malformed. Send the token exactly as Logto issued it."


class TokenTooLargeError(InvalidTokenError):
    """The token is longer than `max_token_bytes`."""

    reason = "too_large"
    default_message = "The token is larger than this API accepts; reduce its custom claims"


class AlgorithmError(InvalidTokenError):
    """The algorithm in the token header is not allowed, or is not the algorithm of the key that the header names."""

    reason = "algorithm"
    default_message = "The token is signed with an algorithm that this API does not accept"


class TokenTypeError(InvalidTokenError):
    """The `typ` of the token header is not that of an access token (RFC 9068 section 2.1)."""

    reason = "type"
    default_message = "The token is not an access token; the typ of its header must be at+jwt"


class IdTokenError(InvalidTokenError):
    """The token looks like an ID token. ID tokens tell a client who signed in; APIs do not accept them."""

    reason = "id_token"
    default_message = "This looks like an ID token; send the access token instead"


_OPAQUE: Final = "This is an opaque token, which Logto issues without a resource; request the token with {}"


class OpaqueTokenError(InvalidTokenError):
    """The token is opaque. Logto issues opaque tokens if the client requests no resource."""

    reason = "opaque_token"
    default_message = _OPAQUE.format("the resource indicator of this API")

    def __init__(self, *, resources: Collection[str] = ()) -> None:
        super().__init__(_OPAQUE.format(f"resource={' or '.join(sorted(resources))}") if resources else None)


class InactiveTokenError(InvalidTokenError):
    """The provider reports that an opaque token is not an active access token (RFC 7662 section 2.2)."""

    reason = "inactive"
    default_message = "The token is not active; sign in again"


class UnknownKeyError(InvalidTokenError):
    """No key in the provider's key set matches the token header."""

    reason = "unknown_key"
    default_message = "The token is signed with a key that the issuer does not publish; get a new token from its issuer"


class SignatureError(InvalidTokenError):
    """The signature does not match the token."""

    reason = "signature"
    default_message = "Invalid token signature. Send the token exactly as Logto issued it."


class IssuerError(InvalidTokenError):
    """The issuer of the token is not accepted."""

    reason = "issuer"
    default_message = "This API does not accept the issuer of the token"


class AudienceError(InvalidTokenError):
    """The token was issued for another API."""

    reason = "audience"
    default_message = "The token was issued for another API"


class ExpiredTokenError(InvalidTokenError):
    """The token has expired (`exp`)."""

    reason = "expired"
    default_message = "The token has expired; refresh it or sign in again"


class ImmatureTokenError(InvalidTokenError):
    """The `nbf` or `iat` of the token is in the future."""

    reason = "not_yet_valid"
    default_message = "The token is not valid yet; check the clocks of the issuer and of this API"


class ClaimError(InvalidTokenError):
    """A claim is missing or malformed."""

    reason = "claims"
    default_message = "A claim of the token is missing or malformed"


class ForbiddenError(RefusalError):
    """The token is valid, but does not allow this request (RFC 6750 section 3.1, `insufficient_scope`).

    Attributes:
        scopes: All scopes that the route requires, if scopes are missing.
    """

    status = 403
    scopes: tuple[str, ...] = ()


class InsufficientScopeError(ForbiddenError):
    """The token lacks scopes.

    Attributes:
        missing: The scopes that the token lacks; all of them if any one would be enough.
    """

    code = "insufficient_scope"
    reason = "scope"
    default_message = "The token lacks a scope"

    def __init__(
        self, message: str, *, scopes: Collection[str], missing: Collection[str], found: str | None = None
    ) -> None:
        super().__init__(message, claim="scope", expected=quote(" ".join(scopes)), found=found)
        self.scopes: tuple[str, ...] = tuple(scopes)
        self.missing: tuple[str, ...] = tuple(missing)


class OrganizationRequiredError(ForbiddenError):
    """The token is not for an organization, or the request does not name one."""

    code = reason = "organization_required"
    default_message = "The token is not for an organization; request one with organization_id"


class OrganizationMismatchError(ForbiddenError):
    """The token is for a different organization than the request names. That organization need not exist."""

    code = reason = "organization_mismatch"
    default_message = "The token is for another organization than the request names; request a token for that one"


class UserRequiredError(ForbiddenError):
    """The caller is a machine, but only users are allowed."""

    code = reason = "user_required"
    default_message = "Only users may call this; send the access token of a user who signed in"


class MachineRequiredError(ForbiddenError):
    """The caller is a user, but only machines are allowed."""

    code = reason = "machine_required"
    default_message = "Only machines may call this; send an access token of a machine-to-machine application"


class ClientNotAllowedError(ForbiddenError):
    """The token was issued to an application that is not allowed here."""

    code = reason = "client_not_allowed"
    default_message = "The application to which the token was issued may not call this"


class ActorRequiredError(ForbiddenError):
    """The token has no actor, or one that is not allowed."""

    code = reason = "actor_required"
    default_message = "Only an allowed actor, acting on behalf of a user, may call this"


class ActorNotAllowedError(ForbiddenError):
    """The token has an actor, but only the subject itself is allowed."""

    code = reason = "actor_not_allowed"
    default_message = "Nobody may call this on behalf of a user; sign in as that user"


class ClaimsNotAllowedError(ForbiddenError):
    """The claims of the token do not meet a condition of the route."""

    code = reason = "claims_not_allowed"
    default_message = "The claims of the token do not allow this"


class ProviderUnavailableError(RefusalError):
    """The token can't be verified now, e.g. because the provider is unreachable or too many tokens are waiting.

    Attributes:
        retry_after_seconds: Whole seconds to wait before a retry.
    """

    code = reason = "provider_unavailable"
    status = 503
    default_message = "The identity provider is unavailable, so the token can't be verified now; try again later"

    def __init__(self, message: str | None = None, *, retry_after_seconds: int = 1, found: str | None = None) -> None:
        super().__init__(message, found=found)
        self.retry_after_seconds: int = retry_after_seconds
