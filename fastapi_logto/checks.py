"""What verified claims must say: issuer, audience, times, scopes."""

from collections.abc import Collection, Set
from typing import Final

from fastapi_logto.claims import TokenClaims
from fastapi_logto.errors import (
    AudienceError,
    ExpiredTokenError,
    ImmatureTokenError,
    InsufficientScopeError,
    IssuerError,
    quote,
)

__all__ = ["check_any_scope", "check_claims", "check_scopes"]

MAX_ISSUED_AHEAD_SECONDS: Final = 60
"""How far `iat` may lie ahead: clocks differ, and a token of the far future is a mistake or worse."""


def check_claims(
    claims: TokenClaims,
    *,
    issuers: Collection[str],
    audiences: Set[str],
    now: float,
    leeway_seconds: float,
) -> None:
    """Check issuer, audience and times of verified claims.

    Args:
        claims: The claims.
        issuers: Issuers to accept, compared to the letter.
        audiences: Audiences of which the token must have one, compared to the letter.
        now: Wall time, seconds since the epoch.
        leeway_seconds: How far two clocks may differ.

    Raises:
        IssuerError: `iss` is not accepted.
        AudienceError: `aud` names none of the audiences.
        ExpiredTokenError: `now >= exp + leeway_seconds`.
        ImmatureTokenError: `nbf` or `iat` lies ahead.

    References:
        RFC 7519 section 4.1; RFC 9068 section 4; RFC 8725 sections 3.8 and 3.9.
    """
    if claims.iss not in issuers:
        raise _build_issuer_error(claims, issuers)
    audience = claims.aud
    if audience not in audiences if isinstance(audience, str) else audiences.isdisjoint(audience):
        raise _build_audience_error(claims, audiences)
    # Compared without adding to what came in: `exp` may be an integer that no float can hold.
    if now - leeway_seconds >= claims.exp:
        raise ExpiredTokenError(claim="exp", expected=f"a time after {now:.0f}", found=quote(claims.exp))
    if claims.nbf is not None and claims.nbf > now + leeway_seconds:
        raise ImmatureTokenError(claim="nbf", expected=f"a time before {now:.0f}", found=quote(claims.nbf))
    if claims.iat is not None and claims.iat > now + MAX_ISSUED_AHEAD_SECONDS:
        raise ImmatureTokenError(claim="iat", expected=f"a time before {now:.0f}", found=quote(claims.iat))


def _build_issuer_error(claims: TokenClaims, issuers: Collection[str]) -> IssuerError:
    # The signature held, so this tenant's key signed it: the issuer is another domain of the tenant.
    accepted = " or ".join(sorted(issuers))
    return IssuerError(
        f"This API accepts tokens of the issuer {accepted}; where the client uses another domain of the same "
        "tenant, the API must list that issuer in LOGTO_ISSUERS",
        claim="iss",
        expected=quote(accepted),
        found=quote(claims.iss),
    )


def _build_audience_error(claims: TokenClaims, audiences: Set[str]) -> AudienceError:
    wanted = " or ".join(sorted(audiences))
    found = claims.audiences
    ask = f"ask for resource={wanted} when requesting the token"
    if {audience.rstrip("/") for audience in found} & {audience.rstrip("/") for audience in audiences}:
        message = f"The audience differs by a trailing slash, which Logto takes for another resource; {ask}"
    elif any(audience.endswith(".logto.app/api") for audience in found):
        message = f"The token was issued for Logto's Management API, not for this API; {ask}"
    elif any(audience.startswith("urn:logto:") for audience in found):
        message = f"This is an organization token, which this route does not accept; {ask}"
    else:
        message = f"The token was issued for another API; {ask}"
    return AudienceError(message, claim="aud", expected=quote(wanted), found=quote(claims.aud))


def check_scopes(claims: TokenClaims, required: Collection[str]) -> None:
    """Check that the claims have all of the required scopes.

    Args:
        claims: The claims.
        required: Scopes, each of which must be granted.

    Raises:
        InsufficientScopeError: Some are missing; the error names them.
    """
    granted = claims.scopes
    if not granted.issuperset(required):
        missing = [scope for scope in required if scope not in granted]
        text = "the scope" if len(missing) == 1 else "the scopes"
        raise _build_scope_error(f"The token lacks {text} {', '.join(missing)}", claims, required, missing)


def check_any_scope(claims: TokenClaims, accepted: Collection[str]) -> None:
    """Check that the claims have at least one of the accepted scopes.

    Args:
        claims: The claims.
        accepted: Scopes, one of which must be granted.

    Raises:
        InsufficientScopeError: None of them is granted.
    """
    if claims.scopes.isdisjoint(accepted):
        message = f"The token has none of the scopes {', '.join(accepted)}"
        raise _build_scope_error(message, claims, accepted, accepted)


def _build_scope_error(
    message: str, claims: TokenClaims, scopes: Collection[str], missing: Collection[str]
) -> InsufficientScopeError:
    if not claims.scopes:
        message += " and has no scope at all"
    message += "; give the user or machine a role with the permission in Logto, and have the client ask for the scope"
    return InsufficientScopeError(message, scopes=scopes, missing=missing, found=quote(claims.scope))
