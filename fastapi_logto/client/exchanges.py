"""Token exchange (RFC 8693): which subject tokens are exchanged from the cache, and for how long."""

from base64 import urlsafe_b64decode
from functools import partial
from typing import Final, Literal, TypeAlias

from pydantic import SecretStr

from fastapi_logto.client.errors import GrantRefusedError
from fastapi_logto.client.grants import (
    CACHE_BYTES,
    Grants,
    IssuedToken,
    KeptToken,
    Kind,
    build_key,
    check_text,
    is_token,
)
from fastapi_logto.clock import Clock
from fastapi_logto.provider.endpoints import Form
from fastapi_logto.provider.lanes import KNOWN_SECONDS
from fastapi_logto.single_flight import Flights
from fastapi_logto.strict_json import parse_object
from fastapi_logto.verification.cache import TokenCache

SubjectTokenType: TypeAlias = Literal["access_token", "personal_access_token"]
"""The kind of subject token. `access_token` includes subject tokens for impersonation."""

EXCHANGE_GRANT: Final = "urn:ietf:params:oauth:grant-type:token-exchange"

_TOKEN_TYPES: Final[dict[SubjectTokenType, str]] = {
    "access_token": "urn:ietf:params:oauth:token-type:access_token",
    "personal_access_token": "urn:logto:token-type:personal_access_token",
}
# An exchanged token may be valid for a day, but only the provider knows whether its subject token was revoked.
# A personal access token is verified only by its exchange, so its limit is as short as that of introspection responses.
_LONGEST_SECONDS: Final[dict[SubjectTokenType, float]] = {"access_token": 300.0, "personal_access_token": 30.0}
# The prefix of Logto's subject tokens for impersonation, which may be used once.
_ONE_TIME: Final = "sub_"
_CACHE_SIZE: Final = 10_000
_LONGEST_READ: Final = 16 * 1024
# Later than any date. 10**400 can't be converted to a float.
_LATEST: Final = 1e12


class Exchanges:
    """Exchanges tokens of users, and caches the results by the digest of the request."""

    def __init__(self, grants: Grants, *, clock: Clock) -> None:
        """Start with an empty cache. Monotonic time is used for ages, wall time for the `exp` of subject tokens."""
        self._grants = grants
        self._clock = clock
        self._flights: Flights[bytes, KeptToken] = Flights()
        # Separate from the machine's own tokens: many users must not evict these.
        self._cache: TokenCache[KeptToken] = TokenCache(size=_CACHE_SIZE, max_bytes=CACHE_BYTES)

    async def exchange(
        self,
        form: Form,
        *,
        subject_token: SecretStr,
        subject_token_type: SubjectTokenType,
        actor_token: SecretStr | None,
    ) -> IssuedToken:
        """Return a token in exchange for a user's token; see `LogtoClient.exchange_token`.

        `form` has the fields that all token requests share.
        """
        form += _build_token_fields("subject_token", subject_token, _TOKEN_TYPES[subject_token_type])
        longest_seconds = self._find_rest(subject_token, _LONGEST_SECONDS[subject_token_type])
        if actor_token is not None:
            form += _build_token_fields("actor_token", actor_token, _TOKEN_TYPES["access_token"])
        request = partial(self._grants.request_token, form, longest_seconds=longest_seconds)
        if subject_token.get_secret_value().startswith(_ONE_TIME):
            # Not cached: a second caller gets the provider's rejection, never the first caller's token.
            return (await request(kind=subject_token_type)).issued
        key = build_key(form)
        kept, now = self._cache.find(key), self._clock.monotonic()
        if kept is not None and now < kept.until:
            return kept.issued
        is_known = kept is not None and now < kept.until + KNOWN_SECONDS
        kind: Kind = "known_exchange" if is_known else subject_token_type
        try:
            kept = await self._flights.join_or_lead(key, partial(request, kind=kind))
        except GrantRefusedError:
            # A rejected token no longer counts as one that was exchanged before.
            self._cache.drop(key)
            raise
        self._cache.keep(key, kept, weight=kept.weight)
        return kept.issued

    def _find_rest(self, token: SecretStr, longest_seconds: float) -> float:
        """Return the remaining lifetime of a token in seconds: at most `longest_seconds`, which is also the default."""
        expires_at = _read_expiry(token.get_secret_value())
        return longest_seconds if expires_at is None else min(longest_seconds, max(0.0, expires_at - self._clock.now()))


def _build_token_fields(name: str, token: SecretStr, token_type: str) -> tuple[tuple[str, str], ...]:
    if token.get_secret_value() and not is_token(token.get_secret_value()):
        # Tokens come from callers, so this is handled like a rejection by the provider.
        raise GrantRefusedError(
            f"exchange: expected a {name} with only characters of a bearer token, found others; pass it unchanged",
            status=400,
            error="invalid_grant",
            description="",
        )
    return (name, check_text(name, token.get_secret_value())), (f"{name}_type", token_type)


def _read_expiry(token: str) -> float | None:
    """Return the `exp` of a JWT without verifying it: it can only shorten the time for which a result is cached."""
    segments = token.split(".", 3)
    if len(segments) != 3 or len(token) > _LONGEST_READ:
        return None
    try:
        expires_at = parse_object(urlsafe_b64decode(segments[1] + "==")).get("exp")
    except ValueError:
        return None
    if isinstance(expires_at, bool) or not isinstance(expires_at, int | float):
        return None
    return float(max(0.0, min(expires_at, _LATEST)))
