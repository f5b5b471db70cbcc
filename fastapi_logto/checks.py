"""What verified claims must say: issuer, audience, times; and for a route: scopes, organization, who calls."""

from collections.abc import Callable, Collection, Set
from typing import Final, Literal, TypeAlias

from fastapi_logto.claims import ClaimsT, TokenClaims
from fastapi_logto.errors import (
    ActorNotAllowedError,
    ActorRequiredError,
    AudienceError,
    ClaimsNotAllowedError,
    ClientNotAllowedError,
    ExpiredTokenError,
    ImmatureTokenError,
    InsufficientScopeError,
    IssuerError,
    MachineRequiredError,
    OrganizationMismatchError,
    OrganizationRequiredError,
    UserRequiredError,
    quote,
)

__all__ = [
    "Caller",
    "build_any_scope_error",
    "build_predicate_error",
    "build_scopes_error",
    "check_actor",
    "check_any_scope",
    "check_caller",
    "check_claims",
    "check_client",
    "check_has_organization",
    "check_no_actor",
    "check_organization",
    "check_organization_issuer",
    "check_predicate",
    "check_scopes",
]

Caller: TypeAlias = Literal["user", "machine"]
"""Who calls: somebody who signed in, or a machine-to-machine application for itself."""

MAX_ISSUED_AHEAD_SECONDS: Final = 60
"""How far `iat` may lie ahead: clocks differ, and a token of the far future is a mistake or worse."""


def check_claims(
    claims: TokenClaims,
    *,
    issuers: Collection[str],
    audiences: Set[str] | None,
    accepts_organizations: bool = False,
    now: float,
    leeway_seconds: float,
) -> None:
    """Check issuer, audience and times of verified claims.

    Args:
        claims: The claims.
        issuers: Issuers to accept, compared to the letter.
        audiences: Audiences of which the token must have one, compared to the letter; `None` only for an opaque
            token, which has none.
        accepts_organizations: Accept organization tokens too, whose audience is an organization and no API.
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
    if audiences is not None:
        audience = claims.aud
        is_other = audience not in audiences if isinstance(audience, str) else audiences.isdisjoint(audience)
        if is_other and not (accepts_organizations and claims.is_organization_token and claims.organization_id):
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
    if not audiences:
        message = "The tenant that issued the token is not one of those for this part of the API"
    elif {audience.rstrip("/") for audience in found} & {audience.rstrip("/") for audience in audiences}:
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
        raise build_scopes_error(required, missing=missing, granted=claims.scope)


def check_any_scope(claims: TokenClaims, accepted: Collection[str]) -> None:
    """Check that the claims have at least one of the accepted scopes.

    Args:
        claims: The claims.
        accepted: Scopes, one of which must be granted.

    Raises:
        InsufficientScopeError: None of them is granted.
    """
    if claims.scopes.isdisjoint(accepted):
        raise build_any_scope_error(accepted, granted=claims.scope)


def build_scopes_error(
    required: Collection[str], *, missing: Collection[str], granted: str | None
) -> InsufficientScopeError:
    """Give the refusal of a token that lacks scopes.

    Args:
        required: All that must be granted.
        missing: Those that are not.
        granted: The token's own claim.
    """
    text = "the scope" if len(missing) == 1 else "the scopes"
    return _build_scope_error(f"The token lacks {text} {', '.join(missing)}", required, missing, granted)


def build_any_scope_error(accepted: Collection[str], *, granted: str | None) -> InsufficientScopeError:
    """Give the refusal of a token that has none of some scopes.

    Args:
        accepted: Those of which one must be granted.
        granted: The token's own claim.
    """
    message = f"The token has none of the scopes {', '.join(accepted)}"
    return _build_scope_error(message, accepted, accepted, granted)


def _build_scope_error(
    message: str, scopes: Collection[str], missing: Collection[str], granted: str | None
) -> InsufficientScopeError:
    if not (granted or "").strip(" "):
        message += " and has no scope at all"
    message += "; give the user or machine a role with the permission in Logto, and have the client ask for the scope"
    return InsufficientScopeError(message, scopes=scopes, missing=missing, found=quote(granted))


def check_has_organization(claims: TokenClaims) -> None:
    """Check that the claims speak for an organization at all. That says nothing of which one.

    Args:
        claims: The claims.

    Raises:
        OrganizationRequiredError: They speak for none.
    """
    if not claims.organization_id:
        raise OrganizationRequiredError(claim="organization_id", expected="an organization", found="nothing")


def check_organization(claims: TokenClaims, organization_id: str | None) -> None:
    """Check that the claims speak for one organization. Being its member is no permission: see `check_scopes`.

    Args:
        claims: The claims.
        organization_id: The organization that the request is about; `None` where it is about none.

    Raises:
        OrganizationRequiredError: They speak for none.
        OrganizationMismatchError: They speak for another one.
    """
    check_has_organization(claims)
    if claims.organization_id != organization_id:
        raise OrganizationMismatchError(
            claim="organization_id", expected=quote(organization_id), found=quote(claims.organization_id)
        )


def check_organization_issuer(claims: TokenClaims, issuers: Collection[str] | None) -> None:
    """Check that the claims are of the tenant whose organizations are meant: an id is unique in its tenant only.

    Args:
        claims: The claims.
        issuers: The issuers of that tenant; `None` if any tenant's organizations are meant.

    Raises:
        OrganizationMismatchError: They are of another tenant.
    """
    if issuers is not None and claims.iss not in issuers:
        raise OrganizationMismatchError(
            claim="iss", expected=quote(" or ".join(sorted(issuers))), found=quote(claims.iss)
        )


def check_caller(claims: TokenClaims, caller: Caller) -> None:
    """Check who calls: a user, or a machine for itself.

    Args:
        claims: The claims.
        caller: Who may.

    Raises:
        UserRequiredError: A machine calls, or the token does not say which application it was issued to.
        MachineRequiredError: A user calls.
    """
    if caller == "machine" and not claims.is_machine:
        raise MachineRequiredError(claim="sub", expected="the client_id", found=quote(claims.sub))
    # Without a client id nobody can tell, and a machine must not pass for a user.
    if caller == "user" and (claims.is_machine or claims.client_id is None):
        raise UserRequiredError(claim="sub", expected="another one than client_id", found=quote(claims.client_id))


def check_client(claims: TokenClaims, clients: Collection[str]) -> None:
    """Check that the token was issued to one of some applications.

    Args:
        claims: The claims.
        clients: Client ids, compared to the letter.

    Raises:
        ClientNotAllowedError: It was issued to another one.
    """
    if claims.client_id not in clients:
        raise ClientNotAllowedError(
            claim="client_id", expected=quote(" or ".join(sorted(clients))), found=quote(claims.client_id)
        )


def check_actor(claims: TokenClaims, actors: Collection[str]) -> None:
    """Check that somebody acts on the subject's behalf.

    Args:
        claims: The claims.
        actors: Who may; empty for anybody. Only the outermost actor counts: those inside acted before.

    Raises:
        ActorRequiredError: Nobody acts, or another one.

    References:
        RFC 8693 section 4.1.
    """
    found = None if claims.act is None else claims.act.sub
    if found is None or (actors and found not in actors):
        raise ActorRequiredError(
            claim="act", expected=quote(" or ".join(sorted(actors)) or "an actor"), found=quote(found)
        )


def check_no_actor(claims: TokenClaims) -> None:
    """Check that nobody acts on the subject's behalf.

    Args:
        claims: The claims.

    Raises:
        ActorNotAllowedError: Somebody does.
    """
    if claims.act is not None:
        raise ActorNotAllowedError(claim="act", expected="nobody", found=quote(claims.act.sub))


def check_predicate(claims: ClaimsT, predicate: Callable[[ClaimsT], bool], *, what: str) -> None:
    """Check the claims by a function.

    Args:
        claims: The claims.
        predicate: The function; nothing but `True` admits.
        what: What it asks for, for the message.

    Raises:
        ClaimsNotAllowedError: It gave something else, or failed: a token that lacks the claim it looks at
            is refused like one that has a wrong one.
    """
    try:
        verdict: object = predicate(claims)
    except Exception as error:  # noqa: BLE001 - whatever a token's data brings it to
        verdict = error
    if verdict is not True:
        # Its type alone: the value may be a claim, and a claim is personal data.
        raise build_predicate_error(what, found="False" if verdict is False else type(verdict).__name__)


def build_predicate_error(what: str, *, found: str | None = None) -> ClaimsNotAllowedError:
    """Give the refusal of claims that a function does not admit.

    Args:
        what: What it asks for.
        found: What it gave instead of `True`, for the log.
    """
    return ClaimsNotAllowedError(
        f"The claims of the token do not allow this: {what}", expected=quote(what), found=found
    )
