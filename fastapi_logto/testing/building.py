"""The claims of a token that was never issued, for tests of what is behind the verification."""

import secrets
import time
from collections.abc import Collection, Mapping
from typing import Any, Final, overload

from fastapi_logto.claims import ClaimsT, TokenClaims, build_claims
from fastapi_logto.errors import ClaimError
from fastapi_logto.strict_json import JsonValue
from fastapi_logto.testing.directory import EXAMPLE_AUDIENCE
from fastapi_logto.testing.minting import LIFETIME_SECONDS
from fastapi_logto.testing.opaque import RANDOM_BYTES

__all__ = ["bearer", "claims"]

_USER: Final = "alice0000001"
_APPLICATION: Final = "local-spa"
_MACHINE: Final = "local-machine"


@overload
def claims(
    *,
    subject: str | None = None,
    scope: str | None = None,
    scopes: Collection[str] | None = None,
    organization_id: str | None = None,
    client_id: str | None = None,
    machine: bool = False,
    actor: str | None = None,
    audience: str | Collection[str] = EXAMPLE_AUDIENCE,
    issuer: str = "http://127.0.0.1:3001/oidc",
    issued_at: float | None = None,
    lifetime_seconds: float = LIFETIME_SECONDS,
    extra: Mapping[str, Any] | None = None,
) -> TokenClaims: ...


@overload
def claims(
    *,
    claims_model: type[ClaimsT],
    subject: str | None = None,
    scope: str | None = None,
    scopes: Collection[str] | None = None,
    organization_id: str | None = None,
    client_id: str | None = None,
    machine: bool = False,
    actor: str | None = None,
    audience: str | Collection[str] = EXAMPLE_AUDIENCE,
    issuer: str = "http://127.0.0.1:3001/oidc",
    issued_at: float | None = None,
    lifetime_seconds: float = LIFETIME_SECONDS,
    extra: Mapping[str, Any] | None = None,
) -> ClaimsT: ...


def claims(
    *,
    claims_model: type[Any] = TokenClaims,
    subject: str | None = None,
    scope: str | None = None,
    scopes: Collection[str] | None = None,
    organization_id: str | None = None,
    client_id: str | None = None,
    machine: bool = False,
    actor: str | None = None,
    audience: str | Collection[str] = EXAMPLE_AUDIENCE,
    issuer: str = "http://127.0.0.1:3001/oidc",
    issued_at: float | None = None,
    lifetime_seconds: float = LIFETIME_SECONDS,
    extra: Mapping[str, Any] | None = None,
) -> Any:
    """Give the claims of a user's access token, or of a machine's, as a handler would get them.

    Without arguments: a user without any scope. They are for `override`, and for calling a handler directly.
    Claims of no token are good for nothing else: no application takes them but through an override.

    Args:
        claims_model: The class to make: the one that the application's `LogtoAuth` was given.
        subject: The user id.
        scope: Scopes parted by spaces, as the token has them.
        scopes: The same as a collection.
        organization_id: The organization that the token speaks for: an organization-level API token.
        client_id: The application, or the machine, that the token was issued to.
        machine: Whether a machine calls, for itself: then its client id is the subject.
        actor: Who acts on the subject's behalf.
        audience: For which API the token is; `urn:logto:organization:<id>` for an organization token.
        issuer: The issuer.
        issued_at: Seconds since the epoch; now when left out.
        lifetime_seconds: From `issued_at` to `exp`; may be negative. An override does not look at it.
        extra: Custom claims, and claims to replace; one of `None` is left out.

    Returns:
        The claims, frozen.

    Raises:
        ValueError: Two arguments contradict each other, or a claim is none that `claims_model` admits.
    """
    if machine:
        if subject is not None:
            raise ValueError("expected no subject where machine=True: the subject of a machine is its client_id")
        client_id = subject = client_id or _MACHINE
    began = int(time.time()) if issued_at is None else issued_at
    members: dict[str, JsonValue] = {
        "iss": issuer,
        "sub": _USER if subject is None else subject,
        "aud": audience if isinstance(audience, str) else list(audience),
        "exp": began + lifetime_seconds,
        "iat": began,
        "jti": secrets.token_urlsafe(RANDOM_BYTES),
        "client_id": _APPLICATION if client_id is None else client_id,
        "scope": _join(scope, scopes),
        "organization_id": organization_id,
        "act": None if actor is None else {"sub": actor},
        **(extra or {}),
    }
    try:
        return build_claims({name: value for name, value in members.items() if value is not None}, model=claims_model)
    except ClaimError as error:
        # A mistake in the test, and no refusal of a request.
        raise ValueError(f"claims: {error.claim}: expected {error.expected}, found {error.found}") from error


def bearer(token: str) -> dict[str, str]:
    """Give the headers of a request with a token: `client.get("/", headers=bearer(token))`.

    Args:
        token: The access token.
    """
    return {"Authorization": f"Bearer {token}"}


def _join(scope: str | None, scopes: Collection[str] | None) -> str:
    if scopes is None:
        return scope or ""
    if scope is not None:
        raise ValueError("expected scope or scopes, found both")
    if isinstance(scopes, str):
        raise ValueError(f"expected a collection of scopes, found {scopes!r}; write scope= or a list")  # noqa: TRY004
    for one in scopes:
        if one.split() != [one]:
            raise ValueError(f"expected one scope in each entry of scopes, found {one!r}")
    return " ".join(scopes)
