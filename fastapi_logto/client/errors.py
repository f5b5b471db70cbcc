"""The errors of the API as a client."""

from fastapi_logto.errors import LogtoError


class GrantError(LogtoError):
    """A token for the API's own requests, or a user's profile, could not be obtained."""


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
