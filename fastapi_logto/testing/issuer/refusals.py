"""Error responses of a local issuer, with Logto's messages."""

from collections.abc import Mapping
from typing import Final, Literal, TypeAlias

ErrorCode: TypeAlias = Literal[
    "access_denied",
    "insufficient_scope",
    "invalid_client",
    "invalid_grant",
    "invalid_request",
    "invalid_scope",
    "invalid_target",
    "invalid_token",
    "login_required",
    "unsupported_grant_type",
    "unsupported_response_mode",
    "unsupported_response_type",
    "unsupported_token_type",
]

NO_GRANT: Final = "grant request is invalid"
"""The description of `invalid_grant`: like Logto, without a reason."""

NO_TARGET: Final = "resource indicator is missing, or unknown"
"""The description of `invalid_target`."""

_MESSAGES: Final[Mapping[str, str]] = {
    "access_denied": "Access denied.",
    "invalid_grant": "Grant request is invalid.",
    "invalid_request": "Request is invalid.",
    "invalid_scope": "Invalid scope: {{error_description}}.",
    "invalid_target": "Invalid resource indicator.",
    "unsupported_grant_type": "Unsupported `grant_type` requested.",
}


class RefusedError(Exception):
    """A request that the issuer refuses. `scope` is the missing scope, for `invalid_scope`."""

    def __init__(
        self,
        error: ErrorCode,
        description: str,
        *,
        status: int = 400,
        scope: str | None = None,
        challenge: str | None = None,
    ) -> None:
        """Store the parts of the response."""
        super().__init__(f"{error}: {description}")
        self.error: Final = error
        self.description: Final = description
        self.status: Final = status
        self.scope: Final = scope
        self.challenge: Final = challenge

    @property
    def body(self) -> dict[str, str]:
        """The JSON body: the members of RFC 6749, with Logto's `code` and `message`."""
        code = f"oidc.{self.error}"
        body = {"code": code, "message": _MESSAGES.get(self.error, f"An OIDC error occurred: {code}.")}
        if self.error == "invalid_grant":
            body["error_uri"] = "https://openid.sh/debug/invalid_grant"
        body |= {"error": self.error, "error_description": self.description}
        return body if self.scope is None else body | {"scope": self.scope}
