"""The errors of this package, as one tree.

    LogtoError
    ├── SettingsError                    a setting is missing or invalid; raised at startup
    ├── FetchError                       a response of the provider is unusable; internal
    ├── GrantError                       a token for the API's own requests could not be obtained
    │   ├── GrantRefusedError            the provider refuses to issue it
    │   ├── GrantUnavailableError        the provider is unreachable, fails or rate limits
    │   └── OriginError                  a request would send the token to another origin
    └── RefusalError                     a request is rejected: code, reason, status, message
        ├── AuthorizationHeaderError     401, the header itself
        │   ├── AuthorizationMissingError
        │   ├── AuthorizationFormatError
        │   └── AuthorizationTypeError
        ├── InvalidTokenError            401, the token
        │   ├── MalformedTokenError      TokenTooLargeError     AlgorithmError
        │   ├── TokenTypeError           IdTokenError           OpaqueTokenError
        │   ├── InactiveTokenError       UnknownKeyError        SignatureError
        │   └── IssuerError              AudienceError          ExpiredTokenError
        │       ImmatureTokenError       ClaimError
        ├── ForbiddenError               403, the token is valid but does not allow this
        │   ├── InsufficientScopeError
        │   ├── OrganizationRequiredError   OrganizationMismatchError
        │   ├── UserRequiredError      MachineRequiredError      ClientNotAllowedError
        │   └── ActorRequiredError     ActorNotAllowedError      ClaimsNotAllowedError
        └── ProviderUnavailableError     503, the token can't be verified now

The client sees `code`, `reason` and `message`. They may name settings of the API, and never contain
anything from the request. `str(error)` is for the log: it adds the claim, the expected value and the
value found, quoted and cut. No error contains a token, a key or a secret.
"""

from collections.abc import Collection
from typing import ClassVar, Final, Literal, TypeAlias

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
    "FetchError",
    "ForbiddenError",
    "GrantError",
    "GrantRefusedError",
    "GrantUnavailableError",
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
    "OriginError",
    "ProviderUnavailableError",
    "Reason",
    "RefusalError",
    "SettingsError",
    "SignatureError",
    "TokenTooLargeError",
    "TokenTypeError",
    "UnknownKeyError",
    "UserRequiredError",
    "quote",
]

ErrorCode: TypeAlias = Literal[
    "auth.authorization_header_missing",
    "auth.authorization_token_invalid_format",
    "auth.authorization_token_type_not_supported",
    "invalid_token",
    "insufficient_scope",
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
"""A stable reason, more specific than the code. The table of error responses in the documentation explains each."""

_QUOTED_LENGTH: Final = 80


def quote(value: object) -> str:
    """Quote a value from outside for a log: ASCII, on one line, cut at 80 characters.

    Args:
        value: Any value. Its `repr` is used; non-ASCII and control characters are escaped.

    Returns:
        The quoted text.
    """
    text = ascii(value)
    return text if len(text) <= _QUOTED_LENGTH else text[:_QUOTED_LENGTH] + "..."


class LogtoError(Exception):
    """Base class of the errors of this package."""


class SettingsError(LogtoError, ValueError):
    """A setting is missing or invalid. The message names the variable, the value found and a valid example."""


class FetchError(LogtoError):
    """A response of the provider is missing or unusable. Internal: callers get another error.

    Attributes:
        status: The HTTP status, if it was not 200; `None` if there was no response.
        retry_after_seconds: The provider's `Retry-After`; `None` without one.
        is_about_request: The endpoint responded, but the body is unusable. Users influence the body, so the failure may
            concern only this request.
    """

    def __init__(
        self,
        message: str,
        *,
        status: int | None = None,
        retry_after_seconds: int | None = None,
        is_about_request: bool = False,
    ) -> None:
        super().__init__(message)
        self.status: int | None = status
        self.retry_after_seconds: int | None = retry_after_seconds
        self.is_about_request: bool = is_about_request


class GrantError(LogtoError):
    """A token for the API's own requests, or a user's profile, could not be obtained. See `fastapi_logto.client`."""


class GrantRefusedError(GrantError):
    """The provider refuses the request, e.g. because of wrong credentials, an unknown resource or a missing membership.

    Attributes:
        status: The HTTP status.
        error: The OAuth error, such as `invalid_client` or `invalid_target` (RFC 6749 section 5.2).
        description: The provider's own description, cut.
    """

    def __init__(self, message: str, *, status: int, error: str, description: str) -> None:
        super().__init__(message)
        self.status: int = status
        self.error: str = error
        self.description: str = description


class GrantUnavailableError(GrantError):
    """The provider is unreachable, fails or received too many requests.

    Attributes:
        retry_after_seconds: Whole seconds to wait before a retry.
    """

    def __init__(self, message: str, *, retry_after_seconds: int = 1) -> None:
        super().__init__(message)
        self.retry_after_seconds: int = retry_after_seconds


class OriginError(GrantError, ValueError):
    """A request would send a machine's token to another origin than that of its API. Nothing was sent.

    Attributes:
        expected: The origin of the API.
        found: The origin of the request, quoted and cut.
    """

    def __init__(self, message: str, *, expected: str, found: str) -> None:
        super().__init__(message)
        self.expected: str = expected
        self.found: str = found


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
        parts: list[str] = [self.reason]
        if self.claim is not None:
            parts.append(f"claim {self.claim}")
        if self.expected is not None:
            parts.append(f"expected {self.expected}")
        if self.found is not None:
            parts.append(f"found {self.found}")
        return f"{self.code}: " + ", ".join(parts)


class AuthorizationHeaderError(RefusalError):
    """The `Authorization` header has no bearer token."""

    status: ClassVar[int] = 401


class AuthorizationMissingError(AuthorizationHeaderError):
    """The `Authorization` header is missing or empty."""

    code: ClassVar[ErrorCode] = "auth.authorization_header_missing"
    reason: ClassVar[Reason] = "header_missing"
    default_message: ClassVar[str] = "Send the access token in the header: Authorization: Bearer <access token>"


class AuthorizationFormatError(AuthorizationHeaderError):
    """The header does not have exactly two parts, is repeated, or its token is no token68 (RFC 9110 section 11.2)."""

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


_OPAQUE: Final = (
    "This is an opaque token, which Logto issues if the client requests no resource; request the token with {}"
)


class OpaqueTokenError(InvalidTokenError):
    """The token is opaque. Logto issues opaque tokens if the client requests no resource."""

    reason: ClassVar[Reason] = "opaque_token"
    default_message: ClassVar[str] = _OPAQUE.format("the resource indicator of this API")

    def __init__(self, *, resources: Collection[str] = ()) -> None:
        super().__init__(_OPAQUE.format(f"resource={' or '.join(sorted(resources))}") if resources else None)


class InactiveTokenError(InvalidTokenError):
    """The provider reports that an opaque token is not an active access token (RFC 7662 section 2.2)."""

    reason: ClassVar[Reason] = "inactive"
    default_message: ClassVar[str] = "The token is not active; sign in again"


class UnknownKeyError(InvalidTokenError):
    """No key in the provider's key set matches the token header."""

    reason: ClassVar[Reason] = "unknown_key"
    default_message: ClassVar[str] = (
        "The token is signed with a key that the issuer does not publish; get a new token from the issuer of this API"
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


class ClaimError(InvalidTokenError):
    """A claim is missing or malformed."""

    reason: ClassVar[Reason] = "claims"
    default_message: ClassVar[str] = "A claim of the token is missing or malformed"


class ForbiddenError(RefusalError):
    """The token is valid, but does not allow this request (RFC 6750 section 3.1, `insufficient_scope`).

    Attributes:
        scopes: All scopes that the route requires, if scopes are missing.
    """

    status: ClassVar[int] = 403
    scopes: tuple[str, ...] = ()


class InsufficientScopeError(ForbiddenError):
    """The token lacks scopes.

    Attributes:
        scopes: All scopes that the route requires.
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
    """The token is not for an organization, or the request does not name one."""

    code: ClassVar[ErrorCode] = "organization_required"
    reason: ClassVar[Reason] = "organization_required"
    default_message: ClassVar[str] = "The token is not for an organization; request one with organization_id"


class OrganizationMismatchError(ForbiddenError):
    """The token is for a different organization than the request names. That organization need not exist."""

    code: ClassVar[ErrorCode] = "organization_mismatch"
    reason: ClassVar[Reason] = "organization_mismatch"
    default_message: ClassVar[str] = (
        "The token is for another organization than the request names; request a token for that organization"
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
    default_message: ClassVar[str] = "The claims of the token do not allow this"


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
