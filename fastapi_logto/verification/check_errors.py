"""The errors of failed checks whose messages depend on the token or the route."""

from collections.abc import Collection, Set

from fastapi_logto.errors import AudienceError, ClaimsNotAllowedError, InsufficientScopeError, IssuerError
from fastapi_logto.redaction import quote
from fastapi_logto.verification.claims import TokenClaims


def build_issuer_error(claims: TokenClaims, issuers: Collection[str]) -> IssuerError:
    """Return the error for a token of an issuer that is not accepted."""
    # The signature is valid, so a key of this tenant signed the token: the issuer is another domain of the tenant.
    accepted = " or ".join(sorted(issuers))
    return IssuerError(
        f"This API accepts tokens of the issuer {accepted}; if the client uses another domain of the same tenant, "
        "add that issuer to LOGTO_ISSUERS of the API",
        claim="iss",
        expected=quote(accepted),
        found=quote(claims.iss),
    )


def build_audience_error(claims: TokenClaims, audiences: Set[str]) -> AudienceError:
    """Return the error for a token for another API, with the likely reason."""
    wanted = " or ".join(sorted(audiences))
    found = claims.audiences
    fix = f"request the token with resource={wanted}"
    if not audiences:
        message = "This part of the API does not accept tokens of the tenant that issued this one"
    elif {audience.rstrip("/") for audience in found} & {audience.rstrip("/") for audience in audiences}:
        message = f"The audience differs by a trailing slash, which makes it a different resource; {fix}"
    elif any(audience.endswith(".logto.app/api") for audience in found):
        message = f"The token was issued for Logto's Management API, not for this API; {fix}"
    elif any(audience.startswith("urn:logto:") for audience in found):
        message = f"This is an organization token, which this route does not accept; {fix}"
    else:
        message = f"The token was issued for another API; {fix}"
    return AudienceError(message, claim="aud", expected=quote(wanted), found=quote(claims.aud))


def build_scopes_error(
    required: Collection[str], *, missing: Collection[str], granted: str | None
) -> InsufficientScopeError:
    """Return the error for a token that lacks required scopes; `granted` is its `scope` claim."""
    text = "the scope" if len(missing) == 1 else "the scopes"
    return _build_scope_error(f"The token lacks {text} {', '.join(missing)}", required, missing, granted)


def build_any_scope_error(accepted: Collection[str], *, granted: str | None) -> InsufficientScopeError:
    """Return the error for a token that has none of the accepted scopes; `granted` is its `scope` claim."""
    message = f"The token has none of the scopes {', '.join(accepted)}"
    return _build_scope_error(message, accepted, accepted, granted)


def _build_scope_error(
    message: str, scopes: Collection[str], missing: Collection[str], granted: str | None
) -> InsufficientScopeError:
    if not (granted or "").strip(" "):
        message += " and has no scope at all"
    message += "; in Logto, assign a role with this permission to the user or machine, and request it in the client"
    return InsufficientScopeError(message, scopes=scopes, missing=missing, found=quote(granted))


def build_predicate_error(what: str, *, found: str | None = None) -> ClaimsNotAllowedError:
    """Return the error for claims that a function rejects; `found` is the result that it returned, for the log."""
    return ClaimsNotAllowedError(
        f"The claims of the token do not meet a condition of this API: {what}", expected=quote(what), found=found
    )
