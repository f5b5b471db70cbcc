"""Check verified claims: issuer, audience and times for every token; scopes, organization and caller for a route."""

from collections.abc import Callable, Collection, Set
from typing import Final, Literal, TypeAlias

from fastapi_logto.errors import (
    ActorNotAllowedError,
    ActorRequiredError,
    ClientNotAllowedError,
    ExpiredTokenError,
    ImmatureTokenError,
    MachineRequiredError,
    OrganizationMismatchError,
    OrganizationRequiredError,
    UserRequiredError,
)
from fastapi_logto.redaction import quote
from fastapi_logto.verification.check_errors import (
    build_any_scope_error,
    build_audience_error,
    build_issuer_error,
    build_predicate_error,
    build_scopes_error,
)
from fastapi_logto.verification.claims import ClaimsT, TokenClaims

Caller: TypeAlias = Literal["user", "machine"]
"""The kind of caller: a user who signed in, or a machine-to-machine application that acts for itself."""

# For up to this many required scopes, searching a list is faster than building a set.
_FEW_SCOPES: Final = 4

MAX_ISSUED_AHEAD_SECONDS: Final = 60
"""How far in the future `iat` may be. Clocks differ, but a token from the far future is a mistake or an attack."""


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

    Issuers and audiences must match exactly. `audiences` is `None` only for opaque tokens, which have none.
    `accepts_organizations` also accepts organization tokens, whose audience is an organization and not an API.
    `now` is wall time in seconds since the epoch; a token has expired if `now >= exp + leeway_seconds`.

    References:
        RFC 7519 section 4.1; RFC 9068 section 4; RFC 8725 sections 3.8 and 3.9.
    """
    if claims.iss not in issuers:
        raise build_issuer_error(claims, issuers)
    if audiences is not None:
        audience = claims.aud
        is_other = audience not in audiences if isinstance(audience, str) else audiences.isdisjoint(audience)
        if is_other and not (accepts_organizations and claims.is_organization_token and claims.organization_id):
            raise build_audience_error(claims, audiences)
    # The leeway is subtracted from `now`, not added to `exp`: `exp` may be an integer too large for a float.
    if now - leeway_seconds >= claims.exp:
        raise ExpiredTokenError(claim="exp", expected=f"a time after {now:.0f}", found=quote(claims.exp))
    if claims.nbf is not None and claims.nbf > now + leeway_seconds:
        raise ImmatureTokenError(claim="nbf", expected=f"a time before {now:.0f}", found=quote(claims.nbf))
    if claims.iat is not None and claims.iat > now + MAX_ISSUED_AHEAD_SECONDS:
        raise ImmatureTokenError(claim="iat", expected=f"a time before {now:.0f}", found=quote(claims.iat))


def check_scopes(claims: TokenClaims, required: Collection[str]) -> None:
    """Raise an error that names the missing scopes, unless all required scopes are granted."""
    if type(claims) is TokenClaims and _has_scopes(claims.scope, required):
        return
    granted = claims.scopes
    if not granted.issuperset(required):
        missing = [scope for scope in required if scope not in granted]
        raise build_scopes_error(required, missing=missing, granted=claims.scope)


def _has_scopes(granted: str | None, required: Collection[str]) -> bool:
    """Do what the sets of scopes do, for the few scopes of most tokens in a third of the time."""
    texts: Collection[str] = (granted or "").split(" ")
    if len(required) > _FEW_SCOPES:
        # In a list, the time would grow with the product of the two numbers.
        texts = set(texts)
    for scope in required:  # noqa: SIM110 - a loop is faster than `all` with a generator
        # An empty text is no scope, and nobody is granted it.
        if not scope or scope not in texts:
            return False
    return True


def check_any_scope(claims: TokenClaims, accepted: Collection[str]) -> None:
    """Raise an error unless at least one of the accepted scopes is granted."""
    if claims.scopes.isdisjoint(accepted):
        raise build_any_scope_error(accepted, granted=claims.scope)


def check_has_organization(claims: TokenClaims) -> None:
    """Raise an error unless the token is for an organization, whichever it is."""
    if not claims.organization_id:
        raise OrganizationRequiredError(claim="organization_id", expected="an organization", found="nothing")


def check_organization(claims: TokenClaims, organization_id: str | None) -> None:
    """Raise an error unless the token is for the organization that the request names; `None` if it names none.

    Membership in the organization grants no permission: see `check_scopes`.
    """
    check_has_organization(claims)
    if claims.organization_id != organization_id:
        raise OrganizationMismatchError(
            claim="organization_id", expected=quote(organization_id), found=quote(claims.organization_id)
        )


def check_organization_issuer(claims: TokenClaims, issuers: Collection[str] | None) -> None:
    """Raise an error unless the token is from the tenant whose organizations are meant; `None` accepts any tenant.

    An organization id is unique within its tenant only.
    """
    if issuers is not None and claims.iss not in issuers:
        raise OrganizationMismatchError(
            claim="iss", expected=quote(" or ".join(sorted(issuers))), found=quote(claims.iss)
        )


def check_caller(claims: TokenClaims, caller: Caller) -> None:
    """Raise an error unless the caller is of the required kind.

    Without a `client_id` the kind is unknown, so the caller is neither a user nor a machine.
    """
    if caller == "machine" and not claims.is_machine:
        raise MachineRequiredError(claim="sub", expected="the client_id", found=quote(claims.sub))
    # Without a client id the kind of caller is unknown, and a machine must not be taken for a user.
    if caller == "user" and (claims.is_machine or claims.client_id is None):
        raise UserRequiredError(claim="sub", expected="a user, not the client_id", found=quote(claims.client_id))


def check_client(claims: TokenClaims, clients: Collection[str]) -> None:
    """Raise an error unless the token was issued to one of the clients, whose ids must match exactly."""
    if claims.client_id not in clients:
        raise ClientNotAllowedError(
            claim="client_id", expected=quote(" or ".join(sorted(clients))), found=quote(claims.client_id)
        )


def check_actor(claims: TokenClaims, actors: Collection[str]) -> None:
    """Raise an error unless one of the actors acts on behalf of the subject; any actor, if `actors` is empty.

    Only the outermost actor counts: nested actors acted earlier (RFC 8693 section 4.1).
    """
    found = None if claims.act is None else claims.act.sub
    if found is None or (actors and found not in actors):
        raise ActorRequiredError(
            claim="act", expected=quote(" or ".join(sorted(actors)) or "an actor"), found=quote(found)
        )


def check_no_actor(claims: TokenClaims) -> None:
    """Raise an error if somebody acts on behalf of the subject."""
    if claims.act is not None:
        raise ActorNotAllowedError(claim="act", expected="nobody", found=quote(claims.act.sub))


def check_predicate(claims: ClaimsT, predicate: Callable[[ClaimsT], bool], *, what: str) -> None:
    """Raise an error unless the function returns exactly `True`; `what` describes its condition.

    If the function fails, the token is rejected too: a token without the claim is rejected like one with a wrong value.
    """
    try:
        verdict: object = predicate(claims)
    except Exception as error:  # noqa: BLE001 - the data of a token can make it raise anything
        verdict = error
    if verdict is not True:
        # Only the type is logged: the value may be a claim, which is personal data.
        raise build_predicate_error(what, found="False" if verdict is False else type(verdict).__name__)
