"""Everything that can go wrong, as one tree.

    LogtoError
    ├── SettingsError                    a missing or bad setting, at start
    ├── FetchError                       one document could not be fetched; internal to keys
    ├── GrantError                       a token for the API's own calls could not be had
    │   ├── GrantRefusedError            the provider refuses it
    │   ├── GrantUnavailableError        the provider can't be reached, or asks for patience
    │   └── OriginError                  a request that must not carry it, to another host
    └── RefusalError                     a request is refused: code, reason, status, message
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
        ├── ForbiddenError               403, a good token that is not enough here
        │   ├── InsufficientScopeError
        │   ├── OrganizationRequiredError   OrganizationMismatchError
        │   ├── UserRequiredError      MachineRequiredError      ClientNotAllowedError
        │   └── ActorRequiredError     ActorNotAllowedError      ClaimsNotAllowedError
        └── ProviderUnavailableError     503, nobody can say whether the token is good

What the client may read is `code`, `reason` and `message`: they name our own settings and never
anything that came in. `str(error)` is for the log: it adds the claim, what was expected and what
was found, quoted and cut. None of them ever holds a token, a key or a secret.
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
"""What a client switches on. The first three are the codes of Logto's own guides."""

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
"""Why, one word finer than the code. Each is explained in the documentation's table of answers."""

_QUOTED_LENGTH: Final = 80


def quote(value: object) -> str:
    """Quote a value that came from outside, cut at 80 characters, safe for any log.

    Args:
        value: Anything; its `repr` is taken, non-ASCII characters and controls escaped.

    Returns:
        ASCII text on one line.
    """
    text = ascii(value)
    return text if len(text) <= _QUOTED_LENGTH else text[:_QUOTED_LENGTH] + "..."


class LogtoError(Exception):
    """Base of every error that this package raises on purpose."""


class SettingsError(LogtoError, ValueError):
    """A setting is missing or bad. The message names the variable, what was found and a good example."""


class FetchError(LogtoError):
    """A document of the provider could not be had.

    Attributes:
        status: The HTTP status that came instead of 200; `None` when no answer came.
        retry_after_seconds: The provider's `Retry-After`; `None` without one.
        is_about_request: The endpoint responded, and only the body of this response is unusable. Users choose some of
            what is in a body, so that it says nothing about the next request.
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
    """A token for the API's own calls, or a user's profile, could not be had. See `fastapi_logto.client`."""


class GrantRefusedError(GrantError):
    """The provider refuses: wrong credentials, an unknown resource, an organization that the application is not in.

    Attributes:
        status: The HTTP status.
        error: The OAuth error, such as `invalid_client` or `invalid_target` (RFC 6749 section 5.2).
        description: Why, in the provider's words, cut.
    """

    def __init__(self, message: str, *, status: int, error: str, description: str) -> None:
        super().__init__(message)
        self.status: int = status
        self.error: str = error
        self.description: str = description


class GrantUnavailableError(GrantError):
    """The provider can't be reached, has a fault, or has had too many requests.

    Attributes:
        retry_after_seconds: Whole seconds after which a retry makes sense.
    """

    def __init__(self, message: str, *, retry_after_seconds: int = 1) -> None:
        super().__init__(message)
        self.retry_after_seconds: int = retry_after_seconds


class OriginError(GrantError, ValueError):
    """A request would take a machine's token to another origin than that of its API. Nothing was sent.

    Attributes:
        expected: The API's origin.
        found: The origin of the request, quoted and cut.
    """

    def __init__(self, message: str, *, expected: str, found: str) -> None:
        super().__init__(message)
        self.expected: str = expected
        self.found: str = found


class RefusalError(LogtoError):
    """A request is refused.

    Attributes:
        code: Stable code of the answer.
        reason: Stable finer reason.
        status: HTTP status of the answer.
        message: What the developer of the calling client can do. Names our settings at most.
        claim: The claim or header member that did not fit, if it was one.
        expected: What would have been right, quoted, for the log.
        found: What came, quoted and cut, for the log.
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
        """Give the line for the log: reason, claim, expected, found."""
        parts: list[str] = [self.reason]
        if self.claim is not None:
            parts.append(f"claim {self.claim}")
        if self.expected is not None:
            parts.append(f"expected {self.expected}")
        if self.found is not None:
            parts.append(f"found {self.found}")
        return f"{self.code}: " + ", ".join(parts)


class AuthorizationHeaderError(RefusalError):
    """The `Authorization` header carries no bearer token."""

    status: ClassVar[int] = 401


class AuthorizationMissingError(AuthorizationHeaderError):
    """There is no `Authorization` header, or an empty one."""

    code: ClassVar[ErrorCode] = "auth.authorization_header_missing"
    reason: ClassVar[Reason] = "header_missing"
    default_message: ClassVar[str] = "Send the access token in the header: Authorization: Bearer <access token>"


class AuthorizationFormatError(AuthorizationHeaderError):
    """The header has not exactly two parts, comes several times, or its token is no token68 (RFC 9110 11.2)."""

    code: ClassVar[ErrorCode] = "auth.authorization_token_invalid_format"
    reason: ClassVar[Reason] = "header_format"
    default_message: ClassVar[str] = "Send one header of exactly two parts: Authorization: Bearer <access token>"


class AuthorizationTypeError(AuthorizationHeaderError):
    """The header names another scheme than Bearer."""

    code: ClassVar[ErrorCode] = "auth.authorization_token_type_not_supported"
    reason: ClassVar[Reason] = "header_type"
    default_message: ClassVar[str] = "Only the Bearer scheme is supported: Authorization: Bearer <access token>"


class InvalidTokenError(RefusalError):
    """The token is not one that this API accepts (RFC 6750 section 3.1)."""

    code: ClassVar[ErrorCode] = "invalid_token"
    status: ClassVar[int] = 401


class MalformedTokenError(InvalidTokenError):
    """The token is not a strict compact JWS (RFC 7515 section 7.1) of JSON objects."""

    reason: ClassVar[Reason] = "malformed"
    default_message: ClassVar[str] = "The token is not a well-formed access token; send it exactly as Logto issued it"


class TokenTooLargeError(InvalidTokenError):
    """The token is longer than `max_token_bytes`."""

    reason: ClassVar[Reason] = "too_large"
    default_message: ClassVar[str] = "The token is larger than this API accepts; put fewer custom claims into it"


class AlgorithmError(InvalidTokenError):
    """The header names an algorithm that is not on our list, or not one of the key that it names."""

    reason: ClassVar[Reason] = "algorithm"
    default_message: ClassVar[str] = "The token is signed with an algorithm that this API does not accept"


class TokenTypeError(InvalidTokenError):
    """The header's `typ` is not that of an access token (RFC 9068 section 2.1)."""

    reason: ClassVar[Reason] = "type"
    default_message: ClassVar[str] = "The token is not an access token: its header must have typ at+jwt"


class IdTokenError(InvalidTokenError):
    """The token looks like an ID token. It tells a client who signed in, and opens no API."""

    reason: ClassVar[Reason] = "id_token"
    default_message: ClassVar[str] = "This looks like an ID token; send the access token instead"


_OPAQUE: Final = (
    "This is an opaque token, which Logto issues when no resource is asked for; ask for {} when requesting the token"
)


class OpaqueTokenError(InvalidTokenError):
    """The token is opaque: Logto issues such when no resource was asked for."""

    reason: ClassVar[Reason] = "opaque_token"
    default_message: ClassVar[str] = _OPAQUE.format("the resource of this API")

    def __init__(self, *, resources: Collection[str] = ()) -> None:
        super().__init__(_OPAQUE.format(f"resource={' or '.join(sorted(resources))}") if resources else None)


class InactiveTokenError(InvalidTokenError):
    """The provider says that an opaque token is no active access token of its own (RFC 7662 section 2.2)."""

    reason: ClassVar[Reason] = "inactive"
    default_message: ClassVar[str] = "The token is not active; sign in again"


class UnknownKeyError(InvalidTokenError):
    """No key of the provider's key set fits the token's header."""

    reason: ClassVar[Reason] = "unknown_key"
    default_message: ClassVar[str] = (
        "The token is signed with a key that the issuer of this API does not publish; get a new token from this issuer"
    )


class SignatureError(InvalidTokenError):
    """The signature is not the key's over this token."""

    reason: ClassVar[Reason] = "signature"
    default_message: ClassVar[str] = "The signature of the token does not hold; send it exactly as Logto issued it"


class IssuerError(InvalidTokenError):
    """The token was issued by another issuer than those accepted."""

    reason: ClassVar[Reason] = "issuer"
    default_message: ClassVar[str] = "The token was issued by another issuer than this API accepts"


class AudienceError(InvalidTokenError):
    """The token was issued for another API."""

    reason: ClassVar[Reason] = "audience"
    default_message: ClassVar[str] = "The token was issued for another API"


class ExpiredTokenError(InvalidTokenError):
    """The token's `exp` has passed."""

    reason: ClassVar[Reason] = "expired"
    default_message: ClassVar[str] = "The token has expired; refresh it or sign in again"


class ImmatureTokenError(InvalidTokenError):
    """The token's `nbf` or `iat` lies ahead."""

    reason: ClassVar[Reason] = "not_yet_valid"
    default_message: ClassVar[str] = "The token is not valid yet; check the clocks of the issuer and of this API"


class ClaimError(InvalidTokenError):
    """A claim is missing or of the wrong shape."""

    reason: ClassVar[Reason] = "claims"
    default_message: ClassVar[str] = "A claim of the token is missing or malformed"


class ForbiddenError(RefusalError):
    """The token is good, but not enough for this route (RFC 6750 section 3.1, `insufficient_scope`).

    Attributes:
        scopes: Every scope that the route asks for, where scopes are what is missing.
    """

    status: ClassVar[int] = 403
    scopes: tuple[str, ...] = ()


class InsufficientScopeError(ForbiddenError):
    """The token lacks scopes.

    Attributes:
        scopes: Every scope that the route asks for.
        missing: Those that the token lacks; for any-of all of them.
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
    """The token speaks for no organization, or the request names none."""

    code: ClassVar[ErrorCode] = "organization_required"
    reason: ClassVar[Reason] = "organization_required"
    default_message: ClassVar[str] = (
        "The token speaks for no organization; ask for one by organization_id when requesting the token"
    )


class OrganizationMismatchError(ForbiddenError):
    """The token speaks for another organization than the request names, whether that one exists or not."""

    code: ClassVar[ErrorCode] = "organization_mismatch"
    reason: ClassVar[Reason] = "organization_mismatch"
    default_message: ClassVar[str] = (
        "The token speaks for another organization than the request names; request a token for that organization"
    )


class UserRequiredError(ForbiddenError):
    """A machine calls where only users may."""

    code: ClassVar[ErrorCode] = "user_required"
    reason: ClassVar[Reason] = "user_required"
    default_message: ClassVar[str] = "Only users may call this; send a token that a user signed in for"


class MachineRequiredError(ForbiddenError):
    """A user calls where only machines may."""

    code: ClassVar[ErrorCode] = "machine_required"
    reason: ClassVar[Reason] = "machine_required"
    default_message: ClassVar[str] = (
        "Only machines may call this; send a token that a machine-to-machine application got for itself"
    )


class ClientNotAllowedError(ForbiddenError):
    """The token was issued to an application that may not call this."""

    code: ClassVar[ErrorCode] = "client_not_allowed"
    reason: ClassVar[Reason] = "client_not_allowed"
    default_message: ClassVar[str] = "The application that the token was issued to may not call this"


class ActorRequiredError(ForbiddenError):
    """Nobody acts on the subject's behalf, or not one of those who may."""

    code: ClassVar[ErrorCode] = "actor_required"
    reason: ClassVar[Reason] = "actor_required"
    default_message: ClassVar[str] = "Only somebody who acts on a user's behalf may call this"


class ActorNotAllowedError(ForbiddenError):
    """Somebody acts on the subject's behalf where only the subject itself may."""

    code: ClassVar[ErrorCode] = "actor_not_allowed"
    reason: ClassVar[Reason] = "actor_not_allowed"
    default_message: ClassVar[str] = "Nobody may call this on another's behalf; sign in as the user itself"


class ClaimsNotAllowedError(ForbiddenError):
    """The token's claims are not what the route asks for."""

    code: ClassVar[ErrorCode] = "claims_not_allowed"
    reason: ClassVar[Reason] = "claims_not_allowed"
    default_message: ClassVar[str] = "The claims of the token do not allow this"


class ProviderUnavailableError(RefusalError):
    """The provider's keys are not held and can't be fetched now, or too many verifications wait.

    Attributes:
        retry_after_seconds: Whole seconds after which a retry makes sense.
    """

    code: ClassVar[ErrorCode] = "provider_unavailable"
    reason: ClassVar[Reason] = "provider_unavailable"
    status: ClassVar[int] = 503
    default_message: ClassVar[str] = (
        "The identity provider can't be reached, so the token can't be checked now; try again later"
    )

    def __init__(self, message: str | None = None, *, retry_after_seconds: int = 1, found: str | None = None) -> None:
        super().__init__(message, found=found)
        self.retry_after_seconds: int = retry_after_seconds
