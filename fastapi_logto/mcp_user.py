"""The caller of a mounted application as the MCP SDK's authenticated user. Imported only if the SDK is loaded."""

from mcp.server.auth.middleware.auth_context import AuthContextMiddleware
from mcp.server.auth.middleware.bearer_auth import AuthenticatedUser
from mcp.server.auth.provider import AccessToken
from pydantic import Field, SecretStr
from starlette.authentication import SimpleUser

from fastapi_logto.verification.claims import TokenClaims

__all__ = ["AuthContextMiddleware", "build_mcp_user"]


class _AccessToken(AccessToken):
    """The SDK's model of a token, without the token in its `repr`, which logs and error trackers show."""

    token: str = Field(repr=False)


def build_mcp_user(claims: TokenClaims, token: SecretStr | None) -> SimpleUser:
    """Return the SDK's `AuthenticatedUser` for a caller. `token` is `None` only if a test overrides the verification.

    The SDK compares client, issuer and subject with those of the caller who started an MCP session.
    """
    audiences = claims.audiences
    user = AuthenticatedUser(
        _AccessToken(
            token="" if token is None else token.get_secret_value(),
            client_id=claims.client_id or "",
            scopes=sorted(claims.scopes),
            expires_at=int(claims.exp),
            resource=next(iter(audiences)) if len(audiences) == 1 else None,
            subject=claims.sub,
            claims={**claims.model_dump(exclude_unset=True, by_alias=True), "iss": claims.iss},
        )
    )
    # The SDK sets the client id here. The name and identity of a Starlette user are those of the subject.
    user.username = claims.sub
    return user
