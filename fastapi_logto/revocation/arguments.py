"""Check what an application passes to `Revocations`."""

from datetime import datetime
from typing import Final

from fastapi_logto.provider.endpoints import is_encodable
from fastapi_logto.redaction import quote
from fastapi_logto.verification.checks import MAX_ISSUED_AHEAD_SECONDS
from fastapi_logto.verification.revoked import Revocation

_MOST_SECONDS: Final = 366 * 24 * 3600
_MOST_CHARACTERS: Final = 2048


def build_revocation(
    *,
    user_id: str | None,
    organization_id: str | None,
    client_id: str | None,
    token_id: str | None,
    issuer: str | None,
    before: datetime | float | None,
    now: float,
) -> Revocation:
    """Return a revocation of some tokens; `ValueError` if it would concern all, or if a value is invalid."""
    texts = {"user_id": user_id, "organization_id": organization_id, "client_id": client_id, "token_id": token_id}
    if all(value is None for value in texts.values()):
        # A `None` by mistake must not end all sessions.
        raise ValueError(
            "expected a user_id, organization_id, client_id or token_id, found none; to revoke all tokens, call "
            "revoke_all()"
        )
    for name, value in {**texts, "issuer": issuer}.items():
        check_text(name, value)
    return Revocation(
        before=read_time(before, now=now),
        user_id=user_id,
        organization_id=organization_id,
        client_id=client_id,
        token_id=token_id,
        issuer=issuer,
    )


def read_time(before: datetime | float | None, *, now: float) -> float:
    """Return a time in seconds since the epoch; `now` if none is given. `ValueError` if it is not a time until now."""
    if before is None:
        return now
    if isinstance(before, datetime):
        if before.utcoffset() is None:
            raise ValueError(
                "before: expected a datetime with a time zone, found one without; use datetime.now(timezone.utc)"
            )
        before = before.timestamp()
    if not _is_number(before):
        raise ValueError(f"before: expected seconds since the epoch, found {quote(before)}; pass time.time()")
    # Later ones would refuse tokens that do not exist yet, and milliseconds all tokens for ever.
    if before > now + MAX_ISSUED_AHEAD_SECONDS:
        raise ValueError(
            f"before: expected seconds since the epoch that are not in the future, found {quote(before)}; milliseconds "
            "must be divided by 1000"
        )
    return float(before)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and value == value


def check_range(name: str, seconds: float, *, least: float) -> None:
    """Raise `ValueError` unless a number of seconds is in a range that makes sense."""
    if not _is_number(seconds) or not least <= seconds <= _MOST_SECONDS:
        raise ValueError(
            f"{name}: expected {least:g} to {_MOST_SECONDS} seconds, found {seconds!r}; pass such a number"
        )


def check_text(name: str, value: object) -> None:
    """Raise `ValueError` unless a value is `None` or a text that can be an id."""
    if value is None:
        return
    # A lone surrogate can't be sent to a store, and would hold up all others.
    if not (isinstance(value, str) and value.strip() and len(value) <= _MOST_CHARACTERS and is_encodable(value)):
        raise ValueError(f"{name}: expected a text that is not empty, found {quote(value)}; pass the id from Logto")
