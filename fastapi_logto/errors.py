"""The errors about settings and rejected requests, as one tree.

    LogtoError
    ├── SettingsError                    a setting is missing or invalid; raised at startup
    └── RefusalError                     a request is rejected: code, reason, status, message
        ├── AuthorizationHeaderError     401, the header itself
        │   └── AuthorizationMissingError   AuthorizationFormatError   AuthorizationTypeError
        ├── InvalidTokenError            401, the token
        │   ├── MalformedTokenError  TokenTooLargeError  AlgorithmError     TokenTypeError  IdTokenError
        │   ├── OpaqueTokenError     InactiveTokenError  UnknownKeyError    SignatureError  IssuerError
        │   └── AudienceError        ExpiredTokenError   ImmatureTokenError RevokedTokenError  ClaimError
        ├── ForbiddenError               403, the token is valid but does not allow this
        │   ├── InsufficientScopeError
        │   ├── OrganizationRequiredError   OrganizationMismatchError
        │   ├── UserRequiredError      MachineRequiredError      ClientNotAllowedError
        │   └── ActorRequiredError     ActorNotAllowedError      ClaimsNotAllowedError
        └── ProviderUnavailableError     503, the token can't be verified now

The client sees `code`, `reason` and `message`, which may name settings of the API and never contain anything from the
request. `str(error)` is for the log: it adds the claim, the expected value and the value found, quoted and cut.
"""

from collections.abc import Callable, Collection
from typing import ClassVar, Final

from fastapi_logto.reasons import ErrorCode, Reason
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
    "RevokedTokenError",
    "SettingsError",
    "SignatureError",
    "TokenTooLargeError",
    "TokenTypeError",
    "UnknownKeyError",
    "UserRequiredError",
]


class LogtoError(Exception):
    """Base class of the errors of this package. They can be copied and pickled."""

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...], dict[str, object]]:
        """Restore the attributes without calling the constructor, whose arguments differ from `args`."""
        return _restore, (type(self), self.args), self.__dict__


def _restore(error: type[LogtoError], args: tuple[object, ...]) -> LogtoError:
    return error.__new__(error, *args)


class SettingsError(LogtoError, ValueError):
    """A setting is missing or invalid. The message names the variable, the value found and a valid example."""


class RefusalError(LogtoError):
    """A request is rejected.

    Attributes:
        code: Stable code of the error response.
        reason: Stable reason, more specific than the code.
        status: HTTP status of the error response.
        message: What is wrong and how to fix it, for the developer of the client. It may name settings of the API.
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

    status: ClassVar[int] = 401


class AuthorizationMissingError(AuthorizationHeaderError):
    """The `Authorization` header is missing or empty."""

    code: ClassVar[ErrorCode] = "auth.authorization_header_missing"
    reason: ClassVar[Reason] = "header_missing"
    default_message: ClassVar[str] = "Send the access token in the header: Authorization: Bearer <access token>"


class AuthorizationFormatError(AuthorizationHeaderError):
    """The header has not exactly two parts, is repeated, or its token is not a token68 (RFC 9110 section 11.2)."""

    code: ClassVar[ErrorCode] = "auth.authorization_token_invalid_format"
    reason: ClassVar[Reason] = "header_format"
    default_message: ClassVar[str] = "Send one header with exactly two parts: Authorization: Bearer <access token>"


class AuthorizationTypeError(AuthorizationHeaderError):
    """The header names a scheme other than Bearer."""

    code: ClassVar[ErrorCode] = "auth.authorization_token_type_not_supported"
    reason: ClassVar[Reason] = "header_type"
    default_message: ClassVar[str] = "Only the Bearer scheme is supported: Authorization: Bearer <access token>"


class InvalidTokenError(RefusalError):
    """The token is invalid for this API (RFC 6750 section 3.1)."""

    code: ClassVar[ErrorCode] = "invalid_token"
    status: ClassVar[int] = 401


class MalformedTokenError(InvalidTokenError):
    """The token is not a strict compact JWS (RFC 7515 section 7.1) with JSON objects as header and payload."""

    reason: ClassVar[Reason] = "malformed"
    default_message: ClassVar[str] = "The token is malformed. Send the token exactly as Logto issued it."


class TokenTooLargeError(InvalidTokenError):
    """The token is longer than `max_token_bytes`."""

    reason: ClassVar[Reason] = "too_large"
    default_message: ClassVar[str] = "The token is larger than this API accepts; reduce its custom claims"


class AlgorithmError(InvalidTokenError):
    """The algorithm in the token header is not allowed, or is not the algorithm of the key that the header names."""

    reason: ClassVar[Reason] = "algorithm"
    default_message: ClassVar[str] = "The token is signed with an algorithm that this API does not accept"


class TokenTypeError(InvalidTokenError):
    """The `typ` of the token header is not that of an access token (RFC 9068 section 2.1)."""

    reason: ClassVar[Reason] = "type"
    default_message: ClassVar[str] = "The token is not an access token; the typ of its header must be at+jwt"


class IdTokenError(InvalidTokenError):
    """The token looks like an ID token. ID tokens tell a client who signed in; APIs do not accept them."""

    reason: ClassVar[Reason] = "id_token"
    default_message: ClassVar[str] = "This looks like an ID token; send the access token instead"


_OPAQUE: Final = "This is an opaque token, which Logto issues without a resource; request the token with {}"
_PERSONAL: Final = "This is a personal access token; exchange it for an access token (RFC 8693) with {}"
_ANY_RESOURCE: Final = "the resource indicator of this API"


class OpaqueTokenError(InvalidTokenError):
    """The token is opaque: the client requested no resource, or it is a personal access token."""

    reason: ClassVar[Reason] = "opaque_token"
    default_message: ClassVar[str] = _OPAQUE.format(_ANY_RESOURCE)

    def __init__(
        self, *, resources: Collection[str] = (), is_personal: bool = False, needs_organization: bool = False
    ) -> None:
        wanted = f"resource={' or '.join(sorted(resources))}" if resources else _ANY_RESOURCE
        if needs_organization:
            wanted = f"organization_id; for permissions of the API, also with {wanted}"
        super().__init__((_PERSONAL if is_personal else _OPAQUE).format(wanted))


class InactiveTokenError(InvalidTokenError):
    """The provider reports that an opaque token is not an active access token (RFC 7662 section 2.2)."""

    reason: ClassVar[Reason] = "inactive"
    default_message: ClassVar[str] = "The token is not active; sign in again"


class UnknownKeyError(InvalidTokenError):
    """No key in the provider's key set matches the token header."""

    reason: ClassVar[Reason] = "unknown_key"
    default_message: ClassVar[str] = (
        "The token is signed with a key that the issuer does not publish; get a new token from its issuer"
    )


class SignatureError(InvalidTokenError):
    """The signature does not match the token."""

    reason: ClassVar[Reason] = "signature"
    default_message: ClassVar[str] = "Invalid token signature. Send the token exactly as Logto issued it."


class IssuerError(InvalidTokenError):
    """The issuer of the token is not accepted."""

    reason: ClassVar[Reason] = "issuer"
    default_message: ClassVar[str] = "This API does not accept the issuer of the token"


class AudienceError(InvalidTokenError):
    """The token was issued for another API."""

    reason: ClassVar[Reason] = "audience"
    default_message: ClassVar[str] = "The token was issued for another API"


class ExpiredTokenError(InvalidTokenError):
    """The token has expired (`exp`)."""

    reason: ClassVar[Reason] = "expired"
    default_message: ClassVar[str] = "The token has expired; refresh it or sign in again"


class ImmatureTokenError(InvalidTokenError):
    """The `nbf` or `iat` of the token is in the future."""

    reason: ClassVar[Reason] = "not_yet_valid"
    default_message: ClassVar[str] = "The token is not valid yet; check the clocks of the issuer and of this API"


class RevokedTokenError(InvalidTokenError):
    """The token was revoked before its expiry, e.g. because its user was suspended."""

    reason: ClassVar[Reason] = "revoked"
    default_message: ClassVar[str] = "The token was revoked; sign in again"


class ClaimError(InvalidTokenError):
    """A claim is missing or malformed."""

    reason: ClassVar[Reason] = "claims"
    default_message: ClassVar[str] = "A claim of the token is missing or malformed"


class ForbiddenError(RefusalError):
    """The token is valid, but does not allow this request (RFC 6750 section 3.1, `insufficient_scope`).

    Attributes:
        scopes: The scopes of the condition that does not hold, if it is about scopes. For `any_scope`, one of them is
            enough.
    """

    status: ClassVar[int] = 403
    scopes: tuple[str, ...] = ()


class InsufficientScopeError(ForbiddenError):
    """The token lacks scopes.

    Attributes:
        missing: The scopes that the token lacks; all of them if any one would be enough.
    """

    code: ClassVar[ErrorCode] = "insufficient_scope"
    reason: ClassVar[Reason] = "scope"
    default_message: ClassVar[str] = "The token lacks a scope"

    def __init__(
        self, message: str, *, scopes: Collection[str], missing: Collection[str], found: str | None = None
    ) -> None:
        super().__init__(message, claim="scope", expected=quote(" ".join(scopes)), found=found)
        self.scopes: tuple[str, ...] = tuple(scopes)
        self.missing: tuple[str, ...] = tuple(missing)


class OrganizationRequiredError(ForbiddenError):
    """The token is not for an organization, or the header that should name one is missing or empty."""

    code: ClassVar[ErrorCode] = "organization_required"
    reason: ClassVar[Reason] = "organization_required"
    default_message: ClassVar[str] = "The token is not for an organization; request one with organization_id"


class OrganizationMismatchError(ForbiddenError):
    """The token is not for the organization that the request names, or is from another tenant than that organization.

    It is not checked whether the organization exists.
    """

    code: ClassVar[ErrorCode] = "organization_mismatch"
    reason: ClassVar[Reason] = "organization_mismatch"
    default_message: ClassVar[str] = (
        "The token is for another organization than the request names; request a token for that one"
    )


class UserRequiredError(ForbiddenError):
    """The caller is a machine, but only users are allowed."""

    code: ClassVar[ErrorCode] = "user_required"
    reason: ClassVar[Reason] = "user_required"
    default_message: ClassVar[str] = "Only users may call this; send the access token of a user who signed in"


class MachineRequiredError(ForbiddenError):
    """The caller is a user, but only machines are allowed."""

    code: ClassVar[ErrorCode] = "machine_required"
    reason: ClassVar[Reason] = "machine_required"
    default_message: ClassVar[str] = (
        "Only machines may call this; send an access token of a machine-to-machine application"
    )


class ClientNotAllowedError(ForbiddenError):
    """The token was issued to an application that is not allowed here."""

    code: ClassVar[ErrorCode] = "client_not_allowed"
    reason: ClassVar[Reason] = "client_not_allowed"
    default_message: ClassVar[str] = "The application to which the token was issued may not call this"


class ActorRequiredError(ForbiddenError):
    """The token has no actor, or one that is not allowed."""

    code: ClassVar[ErrorCode] = "actor_required"
    reason: ClassVar[Reason] = "actor_required"
    default_message: ClassVar[str] = "Only an allowed actor, acting on behalf of a user, may call this"


class ActorNotAllowedError(ForbiddenError):
    """The token has an actor, but only the subject itself is allowed."""

    code: ClassVar[ErrorCode] = "actor_not_allowed"
    reason: ClassVar[Reason] = "actor_not_allowed"
    default_message: ClassVar[str] = "Nobody may call this on behalf of a user; sign in as that user"


class ClaimsNotAllowedError(ForbiddenError):
    """The claims of the token do not meet a condition of the route."""

    code: ClassVar[ErrorCode] = "claims_not_allowed"
    reason: ClassVar[Reason] = "claims_not_allowed"
    default_message: ClassVar[str] = "The claims of the token do not meet a condition of this API"


class ProviderUnavailableError(RefusalError):
    """The token can't be verified now, e.g. because the provider is unreachable or too many tokens are waiting.

    Attributes:
        retry_after_seconds: Whole seconds to wait before a retry.
    """

    code: ClassVar[ErrorCode] = "provider_unavailable"
    reason: ClassVar[Reason] = "provider_unavailable"
    status: ClassVar[int] = 503
    default_message: ClassVar[str] = (
        "The identity provider is unavailable, so the token can't be verified now; try again later"
    )

    def __init__(self, message: str | None = None, *, retry_after_seconds: int = 1, found: str | None = None) -> None:
        super().__init__(message, found=found)
        self.retry_after_seconds: int = retry_after_seconds
