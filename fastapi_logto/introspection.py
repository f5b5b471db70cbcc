"""Opaque tokens, accepted on request: the tenant introspects each of them (RFC 7662)."""

from collections.abc import Collection
from dataclasses import dataclass, field, fields
from typing import Final, final

from pydantic import SecretStr

from fastapi_logto.errors import SettingsError
from fastapi_logto.provider.endpoints import as_secret, is_encodable

__all__ = ["Introspection"]

_MAX_CACHE_SECONDS: Final = 300


@final
@dataclass(frozen=True, slots=True, kw_only=True, init=False)
class Introspection:
    """The options for opaque tokens, for `LogtoAuth(introspection=...)`.

    Logto issues an opaque token if the client requests no resource. Logto's introspection response has no audience, so
    it can't prove that the token is meant for this API. Therefore you must list the applications whose tokens are
    accepted. `Depends(auth)` and its requirements accept such tokens, unless an organization or another API resource is
    required. `LogtoAuth` must have only one tenant, because an opaque token names no issuer.

    Attributes:
        client_id: Client id of the machine-to-machine or traditional web application that sends the introspection
            requests.
        client_secret: Its secret, as a `str` or a `SecretStr`.
        allowed_clients: Client ids of the applications whose tokens are accepted.
        cache_seconds: How long a response is cached, 0 to 300 seconds; never past the token's `exp`. A revoked token is
            accepted for up to this time.
        max_waiting: Maximum number of introspection requests for new tokens in flight; further new tokens get 503. The
            same number is reserved for tokens that were active within the last hour, so that a flood of invented tokens
            does not block known users.

    Raises:
        SettingsError: A value is missing or out of range.

    References:
        RFC 7662.
    """

    client_id: str
    client_secret: str | SecretStr = field(repr=False)
    allowed_clients: Collection[str]
    cache_seconds: float
    max_waiting: int

    # Not a generated one, in whose frame error trackers would find the secret.
    def __init__(
        self,
        *,
        client_id: str,
        client_secret: str | SecretStr,
        allowed_clients: Collection[str],
        cache_seconds: float = 30,
        max_waiting: int = 50,
    ) -> None:
        secret = as_secret(client_secret)
        del client_secret
        clients = (allowed_clients,) if isinstance(allowed_clients, str) else tuple(allowed_clients)
        values = (client_id, secret, clients, cache_seconds, max_waiting)
        for member, value in zip(fields(self), values, strict=True):
            object.__setattr__(self, member.name, value)
        if not self.client_id or not secret:
            raise SettingsError("introspection: expected client_id and client_secret, found an empty one")
        if not is_encodable(self.client_id + secret.get_secret_value()):
            raise SettingsError("introspection: expected client_id and client_secret in UTF-8, found a lone surrogate")
        if not clients or not all(clients):
            raise SettingsError(
                "introspection: expected allowed_clients, the client ids of the applications whose opaque tokens are "
                "accepted, found none; list them, because otherwise tokens of every application would be accepted"
            )
        if not 0 <= self.cache_seconds <= _MAX_CACHE_SECONDS:
            raise SettingsError(f"introspection: expected cache_seconds of 0 to 300, found {self.cache_seconds!r}")
        if self.max_waiting < 1:
            raise SettingsError(f"introspection: expected max_waiting of at least 1, found {self.max_waiting!r}")


def check_introspection(introspection: object) -> Introspection | None:
    """Return the argument; `TypeError` if it is neither `None` nor an `Introspection`."""
    if introspection is not None and not isinstance(introspection, Introspection):
        # Not its value, which may contain a secret.
        found = type(introspection).__name__
        raise TypeError(f"introspection: expected an Introspection, found a {found}; pass Introspection(...)")
    return introspection
