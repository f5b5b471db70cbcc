"""Opaque tokens, accepted on request: the tenant introspects each of them (RFC 7662)."""

import logging
from collections.abc import Collection
from dataclasses import dataclass, field
from functools import partial
from typing import Final

from pydantic import SecretStr

from fastapi_logto.clock import Clock
from fastapi_logto.errors import (
    AudienceError,
    FetchError,
    InactiveTokenError,
    ProviderUnavailableError,
    SettingsError,
    quote,
)
from fastapi_logto.provider.discovery import MetadataSource, ProviderMetadata
from fastapi_logto.provider.endpoints import MOVED, Client, Form, build_form_request, check_works, is_encodable
from fastapi_logto.provider.lanes import Lane, LaneClosedError
from fastapi_logto.provider.transport import Response, Transport
from fastapi_logto.redaction import mask
from fastapi_logto.single_flight import Flights
from fastapi_logto.strict_json import JsonObject
from fastapi_logto.verification.cache import TokenCache

__all__ = ["Introspection"]

_logger = logging.getLogger("fastapi_logto")

_MAX_CACHE_SECONDS: Final = 300
_CACHE_SIZE: Final = 10_000
_CACHE_BYTES: Final = 32 * 1024 * 1024
# Approximate memory of a cached rejection.
_REFUSED_BYTES: Final = 500
# Logto's opaque tokens are valid for an hour.
_KNOWN_SECONDS: Final = 3600.0
_UNAUTHORIZED: Final = 401
_INVALID_CLIENT: Final = "invalid_client"


@dataclass(frozen=True, slots=True, kw_only=True)
class Introspection:
    """Accept opaque tokens, for `LogtoAuth(opaque=...)`.

    Logto issues an opaque token if the client requests no resource. Logto's introspection response has no audience, so
    it can't prove that the token is meant for this API. Therefore you must list the applications whose tokens are
    accepted. `Depends(auth)` and its requirements accept such tokens, unless an organization or another API resource is
    required.

    Attributes:
        client_id: Client id of a machine-to-machine or traditional web application, which sends the requests.
        client_secret: Its secret.
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
    client_secret: str = field(repr=False)
    allowed_clients: Collection[str]
    cache_seconds: float = 30
    max_waiting: int = 50

    def __post_init__(self) -> None:
        """Validate the values."""
        clients = (self.allowed_clients,) if isinstance(self.allowed_clients, str) else tuple(self.allowed_clients)
        object.__setattr__(self, "allowed_clients", clients)
        if not self.client_id or not self.client_secret:
            raise SettingsError("introspection: expected client_id and client_secret, found an empty one")
        if not is_encodable(self.client_id + self.client_secret):
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

    def build(self, *, metadata: MetadataSource, transport: Transport, clock: Clock) -> "Introspector":
        """Return the introspector. Nothing is sent.

        Args:
            metadata: The source of the endpoint's URL.
            transport: The transport.
            clock: Its monotonic time measures the age of cached responses.
        """
        return Introspector(self, metadata=metadata, transport=transport, clock=clock)


@dataclass(frozen=True, slots=True)
class _Outcome:
    """The provider's response about a token, cached until a time: the token's claims, or `None` if it is rejected."""

    claims: JsonObject | None
    until: float
    client_id: str | None = None
    weight: int = _REFUSED_BYTES


class Introspector:
    """Introspects opaque tokens, once for concurrent requests with the same token, and caches the responses briefly."""

    def __init__(self, config: Introspection, *, metadata: MetadataSource, transport: Transport, clock: Clock) -> None:
        """Store the parts. Nothing is sent."""
        self._config = config
        self._metadata = metadata
        self._transport = transport
        self._monotonic = clock.monotonic
        self._flights: Flights[bytes, _Outcome] = Flights()
        self._discovery: Flights[None, ProviderMetadata] = Flights()
        # Separate caches, so that a flood of invented tokens does not evict valid ones.
        self._active: TokenCache[_Outcome] = TokenCache(size=_CACHE_SIZE, max_bytes=_CACHE_BYTES)
        self._inactive: TokenCache[_Outcome] = TokenCache(size=_CACHE_SIZE, max_bytes=_CACHE_BYTES)
        # Anyone can invent tokens and use up the limit for new ones. Known users have a separate limit.
        self._new, self._known = (
            Lane(f"introspection of {kind} tokens", monotonic=clock.monotonic, max_in_flight=config.max_waiting)
            for kind in ("new", "known")
        )
        self._client = Client(config.client_id, SecretStr(config.client_secret))

    async def introspect(self, token: SecretStr, digest: bytes) -> JsonObject:
        """Return the claims of a token that is active according to the provider; `digest` is the key of the cache.

        The caller must check issuer and times at each request, because the response is cached. `aud` is an empty list
        if the provider names none (RFC 7662 sections 2.2 and 4).
        """
        active = self._active.find(digest)
        response = active or self._inactive.find(digest)
        now = self._monotonic()
        if response is None or now >= response.until:
            is_known = active is not None and now < active.until + _KNOWN_SECONDS
            lane = self._known if is_known else self._new
            response = await self._flights.join_or_lead(digest, partial(self._ask, token, lane))
            kept, dropped = self._active, self._inactive
            if response.claims is None:
                kept, dropped = dropped, kept
            dropped.drop(digest)
            kept.keep(digest, response, weight=response.weight)
        if response.claims is None:
            raise InactiveTokenError if response.client_id is None else _build_client_error(response.client_id)
        return response.claims

    async def _ask(self, token: SecretStr, lane: Lane) -> _Outcome:
        try:
            with lane.enter():
                url, response = await self._send(token)
        except LaneClosedError as error:
            message = "Too many opaque tokens are being verified; try again later" if error.is_full else None
            raise ProviderUnavailableError(
                message, retry_after_seconds=lane.retry_after_seconds, found=str(error)
            ) from None
        except FetchError as error:
            raise ProviderUnavailableError(retry_after_seconds=lane.retry_after_seconds, found=str(error)) from None
        if response.status != 200:
            # This status concerns one token: with a back-off, its bearer could close the lane for all others.
            found = f"status {response.status} instead of 200, {self._quote_error(response, token)}"
            _logger.warning("introspection: %s: %s", url, found)
            raise ProviderUnavailableError(found=found)
        return self._read(response, until=self._monotonic() + self._config.cache_seconds)

    async def _send(self, token: SecretStr) -> tuple[str, Response]:
        metadata = await self._discovery.join_or_lead(None, self._metadata.find)
        url = metadata.introspection_endpoint
        if url is None:
            self._metadata.forget()
            raise FetchError("the discovery document names no introspection_endpoint at its own origin")
        form = Form((("token", token.get_secret_value()), ("token_type_hint", "access_token")))
        response = await self._transport.send(url, build_form_request(url, form, client=self._client))
        if response.status in MOVED:
            # The next try looks up the new URL.
            self._metadata.forget()
        check_works(response, url=url)
        # Logto responds 400 for an unknown client. Rejected credentials are rejected for every token.
        if response.status == _UNAUTHORIZED or (
            response.status != 200 and response.document.get("error") == _INVALID_CLIENT
        ):
            raise FetchError(
                f"{url}: status {response.status} instead of 200, {self._quote_error(response, token)}; check "
                "client_id and client_secret of the application that introspects",
                status=response.status,
            )
        return url, response

    def _quote_error(self, response: Response, token: SecretStr) -> str:
        error = response.document.get("error")
        if not isinstance(error, str):
            return "no OAuth error"
        return quote(mask(error, secrets=[*self._client.secrets, token.get_secret_value()]))

    def _read(self, response: Response, *, until: float) -> _Outcome:
        document = response.document
        token_type = document.get("token_type")
        # Logto reports refresh tokens as active too, without a type.
        if document.get("active") is not True or not isinstance(token_type, str) or token_type.lower() != "bearer":
            return _Outcome(None, until)
        client_id = document.get("client_id")
        if client_id not in self._config.allowed_clients:
            return _Outcome(None, until, client_id=quote(client_id))
        claims = {name: value for name, value in document.items() if name not in {"active", "token_type"}}
        return _Outcome({"aud": [], **claims}, until, weight=response.weight)


def _build_client_error(client_id: str) -> AudienceError:
    return AudienceError(
        "The opaque token was issued to an application whose tokens this API does not accept; request a "
        "token for its resource instead",
        claim="client_id",
        expected="an allowed client",
        found=client_id,
    )
