"""Opaque tokens, accepted by choice: the tenant is asked about each of them (RFC 7662)."""

import logging
import math
from collections.abc import Collection
from dataclasses import dataclass, field
from functools import partial
from threading import BoundedSemaphore
from typing import Final

from pydantic import SecretStr

from fastapi_logto.cache import TokenCache
from fastapi_logto.clock import Clock
from fastapi_logto.errors import (
    AudienceError,
    FetchError,
    InactiveTokenError,
    ProviderUnavailableError,
    SettingsError,
    quote,
)
from fastapi_logto.flights import Flights
from fastapi_logto.metadata import MetadataSource, ProviderMetadata
from fastapi_logto.oauth import read_retry_after, send_form
from fastapi_logto.strict_json import JsonObject
from fastapi_logto.transport import Transport

__all__ = ["Introspection"]

_logger = logging.getLogger("fastapi_logto")

_MAX_CACHE_SECONDS: Final = 300
_CACHE_SIZE: Final = 10_000
_CACHE_BYTES: Final = 32 * 1024 * 1024
_GONE: Final = frozenset({404, 410})
_TOO_MANY: Final = 429


@dataclass(frozen=True, slots=True, kw_only=True)
class Introspection:
    """Accept opaque tokens, for `LogtoAuth(opaque=...)`.

    Logto issues an opaque token when its client asks for no resource. What Logto answers about one has no
    audience, so it can't show that the token was meant for this API: which applications' tokens are accepted
    must be said. They are accepted by `Depends(auth)` and its requirements, but not where an organization or
    another API resource is asked for.

    Attributes:
        client_id: Of a machine-to-machine or traditional web application, who asks.
        client_secret: Its secret.
        allowed_clients: Client ids of the applications whose tokens are accepted.
        cache_seconds: How long an answer is believed, 0 to 300; never past the token's `exp`. A token that is
            revoked goes on being accepted for so long.
        max_waiting: How many questions may be under way before further tokens get 503.

    Raises:
        SettingsError: One of them is missing or out of range.

    References:
        RFC 7662.
    """

    client_id: str
    client_secret: str = field(repr=False)
    allowed_clients: Collection[str]
    cache_seconds: float = 30
    max_waiting: int = 50

    def __post_init__(self) -> None:
        """Check the values."""
        clients = (self.allowed_clients,) if isinstance(self.allowed_clients, str) else tuple(self.allowed_clients)
        object.__setattr__(self, "allowed_clients", clients)
        if not self.client_id or not self.client_secret:
            raise SettingsError("introspection: expected client_id and client_secret, found an empty one")
        if not clients or not all(clients):
            raise SettingsError(
                "introspection: expected allowed_clients, the applications whose opaque tokens are accepted, found "
                "none; without them every application of the tenant would be"
            )
        if not 0 <= self.cache_seconds <= _MAX_CACHE_SECONDS:
            raise SettingsError(f"introspection: expected cache_seconds of 0 to 300, found {self.cache_seconds!r}")
        if self.max_waiting < 1:
            raise SettingsError(f"introspection: expected max_waiting of 1 at least, found {self.max_waiting!r}")

    def build(self, *, metadata: MetadataSource, transport: Transport, clock: Clock) -> "Introspector":
        """Give what asks. Sends nothing.

        Args:
            metadata: Says where to ask.
            transport: What sends.
            clock: Its monotonic time is used for what is remembered.
        """
        return Introspector(self, metadata=metadata, transport=transport, clock=clock)


@dataclass(frozen=True, slots=True)
class _Answer:
    """What the provider said of a token: its claims, or why it is refused; and until when that is believed."""

    claims: JsonObject | None
    until: float
    client_id: str | None = None
    weight: int = 1000


class Introspector:
    """Asks the provider about opaque tokens, once for all who bring the same one, and remembers for a short time."""

    def __init__(self, config: Introspection, *, metadata: MetadataSource, transport: Transport, clock: Clock) -> None:
        """Put the parts together. Sends nothing.

        Args:
            config: Who asks, and what is accepted.
            metadata: Says where to ask.
            transport: What sends.
            clock: Its monotonic time is used for what is remembered.
        """
        self._config = config
        self._metadata = metadata
        self._transport = transport
        self._monotonic = clock.monotonic
        self._flights: Flights[bytes, _Answer] = Flights()
        self._discovery: Flights[None, ProviderMetadata] = Flights()
        # Apart, so that a flood of made-up tokens pushes out no good one.
        self._active: TokenCache[_Answer] = TokenCache(size=_CACHE_SIZE, max_bytes=_CACHE_BYTES)
        self._inactive: TokenCache[_Answer] = TokenCache(size=_CACHE_SIZE, max_bytes=_CACHE_BYTES)
        self._places = BoundedSemaphore(config.max_waiting)
        self._silent_until = 0.0

    async def introspect(self, token: SecretStr, digest: bytes) -> JsonObject:
        """Give the claims of a token that the provider says is active.

        Issuer and times are for the caller to check, each time: only the provider's word is remembered.

        Args:
            token: An opaque token.
            digest: What stands for it in memory.

        Returns:
            The claims; `aud` is an empty list where the provider names none.

        Raises:
            InactiveTokenError: It is not active, or no access token.
            AudienceError: It was issued to an application whose tokens are not accepted.
            ProviderUnavailableError: The provider can't be asked, refuses to answer, or too many questions wait.

        References:
            RFC 7662 sections 2.2 and 4.
        """
        answer = self._active.find(digest) or self._inactive.find(digest)
        if answer is None or self._monotonic() >= answer.until:
            answer = await self._flights.join_or_lead(digest, partial(self._ask, token))
            now, before = self._active, self._inactive
            if answer.claims is None:
                now, before = before, now
            before.drop(digest)
            now.keep(digest, answer, weight=answer.weight)
        if answer.claims is None:
            raise InactiveTokenError if answer.client_id is None else _build_client_error(answer.client_id)
        return answer.claims

    async def _ask(self, token: SecretStr) -> _Answer:
        left = self._silent_until - self._monotonic()
        if left > 0:
            raise ProviderUnavailableError(retry_after_seconds=math.ceil(left), found="too many requests before")
        if not self._places.acquire(blocking=False):
            raise ProviderUnavailableError(
                "More tokens wait to be asked about than this API has room for; try again later", found="no place left"
            )
        try:
            document = await self._fetch(token)
        except FetchError as error:
            _logger.warning("opaque tokens can't be checked: %s", error)
            raise ProviderUnavailableError(found="the provider can't be asked") from None
        finally:
            self._places.release()
        return self._read(document, until=self._monotonic() + self._config.cache_seconds)

    async def _fetch(self, token: SecretStr) -> JsonObject:
        metadata = await self._discovery.join_or_lead(None, self._metadata.find)
        url = metadata.introspection_endpoint
        if url is None:
            raise FetchError("the discovery document names no introspection_endpoint at its own origin")
        answer = await send_form(
            self._transport,
            url,
            [("token", token.get_secret_value()), ("token_type_hint", "access_token")],
            client_id=self._config.client_id,
            client_secret=self._config.client_secret,
        )
        if answer.status in _GONE:
            # The endpoint has moved: the next question looks where to.
            self._metadata.forget()
        if answer.status == _TOO_MANY:
            until = self._monotonic() + read_retry_after(answer.retry_after)
            self._silent_until = max(until, self._silent_until)
        if answer.status != 200:
            raise FetchError(
                f"{url}: status {answer.status} instead of 200, {quote(answer.document.get('error'))}; check client_id "
                "and client_secret of the application that asks",
                status=answer.status,
            )
        return answer.document

    def _read(self, document: JsonObject, *, until: float) -> _Answer:
        token_type = document.get("token_type")
        # Logto calls a refresh token active too, and gives it no type.
        if document.get("active") is not True or not isinstance(token_type, str) or token_type.lower() != "bearer":
            return _Answer(None, until)
        client_id = document.get("client_id")
        if client_id not in self._config.allowed_clients:
            return _Answer(None, until, client_id=quote(client_id))
        claims = {name: value for name, value in document.items() if name not in {"active", "token_type"}}
        return _Answer({"aud": [], **claims}, until)


def _build_client_error(client_id: str) -> AudienceError:
    return AudienceError(
        "The opaque token was issued to an application whose tokens this API does not accept; ask for its "
        "resource when requesting the token",
        claim="client_id",
        expected="an allowed client",
        found=client_id,
    )
