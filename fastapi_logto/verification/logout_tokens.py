"""Check logout tokens, with which a provider tells that a user has signed out."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Final

from fastapi_logto.errors import (
    AudienceError,
    ClaimError,
    ExpiredTokenError,
    ImmatureTokenError,
    IssuerError,
    MalformedTokenError,
    RefusalError,
)
from fastapi_logto.redaction import quote
from fastapi_logto.settings import LogtoSettings
from fastapi_logto.strict_json import JsonObject, JsonValue, StrictJsonError, parse_object
from fastapi_logto.verification.checks import MAX_ISSUED_AHEAD_SECONDS

LOGOUT_TOKEN_TYPE: Final = "logout+jwt"  # noqa: S105 - a type of tokens
"""The `typ` of a logout token, which tells it from access tokens and ID tokens."""

_EVENT: Final = "http://schemas.openid.net/event/backchannel-logout"
_MOST_CHARACTERS: Final = 256
_DAY_SECONDS: Final = 24 * 3600


@dataclass(frozen=True, slots=True, kw_only=True)
class LogoutToken:
    """A verified logout token.

    Attributes:
        issuer: The issuer in the settings of the tenant.
        subject: The user who has signed out.
        token_id: Its `jti`.
        issued_at: Seconds since the epoch.
        refused_at: When it has expired for certain, in seconds since the epoch; a day from now at most.
    """

    issuer: str
    subject: str
    token_id: str
    issued_at: float
    refused_at: float


def check_logout_token(
    payload: bytes, *, settings: LogtoSettings, client_ids: Collection[str], now: float
) -> LogoutToken:
    """Check the claims of a logout token whose signature and `typ` were verified.

    It must name the user (`sub`): access tokens do not contain the session (`sid`). Whether its `jti` is new is not
    checked.

    References:
        OpenID Connect Back-Channel Logout 1.0 sections 2.4 and 2.6; OpenID Connect Core 1.0 section 3.1.3.7.
    """
    try:
        return _check_members(payload, settings=settings, client_ids=client_ids, now=now)
    except RefusalError as error:
        # Error trackers show what they find in a frame: here the claims, which are personal data.
        raise error.with_traceback(None) from None
    finally:
        del payload


def _check_members(payload: bytes, *, settings: LogtoSettings, client_ids: Collection[str], now: float) -> LogoutToken:
    try:
        claims = parse_object(payload)
    except StrictJsonError as error:
        raise MalformedTokenError(found=f"payload: {error}") from None
    issuer, audience = claims.get("iss"), claims.get("aud")
    if not isinstance(issuer, str) or issuer not in settings.accepted_issuers:
        expected = quote(" or ".join(sorted(settings.accepted_issuers)))
        raise IssuerError(claim="iss", expected=expected, found=quote(issuer))
    audiences = audience if isinstance(audience, list) else [audience]
    # Each of them must be trusted, not just one.
    if not audiences or not all(isinstance(one, str) and one in client_ids for one in audiences):
        expected = quote(" or ".join(sorted(client_ids)))
        raise AudienceError(claim="aud", expected=expected, found=quote(audience))
    issued_at, expires_at = _read_time(claims, "iat"), _read_time(claims, "exp")
    if now - settings.leeway_seconds >= expires_at:
        raise ExpiredTokenError(claim="exp", expected=f"a time after {now:.0f}", found=quote(expires_at))
    if issued_at > now + MAX_ISSUED_AHEAD_SECONDS:
        raise ImmatureTokenError(claim="iat", expected=f"a time before {now:.0f}", found=quote(issued_at))
    _check_is_logout(claims)
    return LogoutToken(
        issuer=settings.issuer,
        subject=_read_text(claims, "sub"),
        token_id=_read_text(claims, "jti"),
        issued_at=issued_at,
        # Its `exp` may be too large for a float.
        refused_at=min(expires_at, now + _DAY_SECONDS) + settings.leeway_seconds,
    )


def _check_is_logout(claims: JsonObject) -> None:
    events = claims.get("events")
    # The value should be empty, and nothing else in it matters.
    if not isinstance(events, dict) or not isinstance(events.get(_EVENT), dict):
        raise ClaimError(claim="events", expected=f"an object with the member {_EVENT}", found=type(events).__name__)
    # Otherwise an ID token could be one too.
    if "nonce" in claims:
        raise ClaimError(claim="nonce", expected="no such claim", found="one")
    if "sid" in claims:
        _read_text(claims, "sid")


def _read_text(claims: Mapping[str, JsonValue], name: str) -> str:
    text = claims.get(name)
    if not isinstance(text, str) or not text.strip() or len(text) > _MOST_CHARACTERS:
        raise ClaimError(claim=name, expected=f"a text of 1 to {_MOST_CHARACTERS} characters", found=quote(text))
    return text


def _read_time(claims: Mapping[str, JsonValue], name: str) -> float:
    time = claims.get(name)
    if isinstance(time, bool) or not isinstance(time, int | float):
        raise ClaimError(claim=name, expected="seconds since the epoch", found=quote(time))
    return time
