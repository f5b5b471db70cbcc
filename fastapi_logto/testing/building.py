"""Build claims without a token, for tests of the code behind the verification."""

import secrets
import time
from collections.abc import Collection, Mapping
from typing import Any, Final

from fastapi_logto.errors import ClaimError
from fastapi_logto.testing.directory import EXAMPLE_AUDIENCE
from fastapi_logto.testing.minting import LIFETIME_SECONDS
from fastapi_logto.testing.opaque import RANDOM_BYTES
from fastapi_logto.testing.texts import as_json, as_text, join_scopes
from fastapi_logto.verification.claims import ClaimsT, TokenClaims, build_claims

_USER: Final = "alice0000001"
_APPLICATION: Final = "local-spa"
_MACHINE: Final = "local-machine"


def claims(
    *,
    claims_model: type[ClaimsT] = TokenClaims,  # type: ignore[assignment]  # ClaimsT has this default
    subject: str | None = None,
    scopes: Collection[str] = (),
    organization_id: str | None = None,
    client_id: str | None = None,
    machine: bool = False,
    actor: str | None = None,
    audience: str | Collection[str] = EXAMPLE_AUDIENCE,
    issuer: str = "http://127.0.0.1:3001/oidc",
    issued_at: float | None = None,
    lifetime_seconds: float = LIFETIME_SECONDS,
    extra: Mapping[str, Any] | None = None,
) -> ClaimsT:
    """Return the claims of an access token of a user or a machine, as a handler receives them.

    Without arguments, returns the claims of a user without scopes. Use them with `override`, or to call a handler
    directly. An application accepts claims without a token only through an override.

    Args:
        claims_model: The class of the claims: the one passed to the application's `LogtoAuth`.
        subject: The user id.
        scopes: The scopes, e.g. `["read:user"]`.
        organization_id: The organization of an organization-level API token.
        client_id: The application or machine that the token is issued to.
        machine: Whether the caller is a machine. Its client id is then the subject.
        actor: The subject of the actor who acts on the user's behalf.
        audience: The API that the token is for; `urn:logto:organization:<id>` for an organization token.
        issuer: The issuer.
        issued_at: Seconds since the epoch; the current time by default.
        lifetime_seconds: Seconds from `issued_at` to `exp`; may be negative. An override does not check the expiry.
        extra: Claims to add or replace; a claim set to `None` is omitted.

    Returns:
        The claims, frozen.

    Raises:
        TypeError: `scopes` is a single string.
        ValueError: Two arguments contradict each other, or `claims_model` rejects a claim.
    """
    if machine:
        if subject is not None:
            raise ValueError("expected no subject with machine=True, found one; pass the machine's client_id")
        client_id = subject = client_id or _MACHINE
    began = int(time.time()) if issued_at is None else issued_at
    members: dict[str, Any] = {
        "iss": issuer,
        "sub": _USER if subject is None else subject,
        "aud": audience if isinstance(audience, str) else list(audience),
        "exp": began + lifetime_seconds,
        "iat": began,
        "jti": secrets.token_urlsafe(RANDOM_BYTES),
        "client_id": _APPLICATION if client_id is None else client_id,
        "scope": join_scopes(scopes),
        "organization_id": organization_id,
        "act": None if actor is None else {"sub": actor},
        **(extra or {}),
    }
    plain = {name: as_json(value) for name, value in members.items() if value is not None}
    try:
        return build_claims(plain, model=claims_model)
    except ClaimError as error:
        # A `ValueError`, because the test is wrong: no request is rejected.
        raise ValueError(f"claims: {error.claim}: expected {error.expected}, found {error.found}") from error


def bearer(token: str) -> dict[str, str]:
    """Return the request headers with an access token: `client.get("/", headers=bearer(token))`.

    Args:
        token: The access token.
    """
    return {"Authorization": f"Bearer {as_text(token)}"}
