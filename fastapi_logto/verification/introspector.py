"""Introspect opaque tokens at the tenant (RFC 7662), and cache the responses briefly."""

import logging
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from functools import partial
from typing import Final

from pydantic import SecretStr

from fastapi_logto.errors import AudienceError, InactiveTokenError, ProviderUnavailableError
from fastapi_logto.provider.endpoints import Client, Endpoints, Form, build_form_request
from fastapi_logto.provider.failures import FetchError
from fastapi_logto.provider.lanes import KNOWN_SECONDS, Lane, LaneClosedError
from fastapi_logto.provider.telemetry import build_fetch_fields
from fastapi_logto.provider.transport import Response
from fastapi_logto.redaction import mask, quote
from fastapi_logto.single_flight import Flights
from fastapi_logto.strict_json import JsonObject
from fastapi_logto.telemetry import count_introspection
from fastapi_logto.verification.cache import TokenCache

_logger = logging.getLogger("fastapi_logto")

_CACHE_SIZE: Final = 10_000
_CACHE_BYTES: Final = 32 * 1024 * 1024
# Approximate memory of a cached rejection.
_REFUSED_BYTES: Final = 500
_UNAUTHORIZED: Final = 401
_INVALID_CLIENT: Final = "invalid_client"


@dataclass(frozen=True, slots=True)
class _Outcome:
    """The provider's response about a token, cached until a time: the token's claims, or `None` if it is rejected."""

    claims: JsonObject | None = field(repr=False)
    until: float
    client_id: str | None = None
    weight: int = _REFUSED_BYTES


class Introspector:
    """Introspects opaque tokens, once for concurrent requests with the same token, and caches the responses briefly."""

    def __init__(
        self,
        client: Client,
        *,
        endpoints: Endpoints,
        allowed_clients: Collection[str],
        cache_seconds: float,
        max_waiting: int,
        monotonic: Callable[[], float],
    ) -> None:
        """Store the parts. Nothing is sent. `fastapi_logto.introspection.Introspection` explains the values."""
        self._client = client
        self._endpoints = endpoints
        self._allowed_clients = allowed_clients
        self._cache_seconds = cache_seconds
        self._monotonic = monotonic
        self._flights: Flights[bytes, _Outcome] = Flights()
        # Separate caches, so that a flood of invented tokens does not evict valid ones.
        self._active: TokenCache[_Outcome] = TokenCache(size=_CACHE_SIZE, max_bytes=_CACHE_BYTES)
        self._inactive: TokenCache[_Outcome] = TokenCache(size=_CACHE_SIZE, max_bytes=_CACHE_BYTES)
        # Anyone can invent tokens and use up the limit for new ones. Known users have a separate limit.
        self._new, self._known = (
            Lane(f"introspection of {kind} tokens", monotonic=monotonic, max_in_flight=max_waiting)
            for kind in ("new", "known")
        )

    async def introspect(self, token: SecretStr, digest: bytes) -> JsonObject:
        """Return the claims of a token that is active according to the provider; `digest` is the key of the cache.

        The caller must check issuer and times at each request, because the response is cached. `aud` is an empty list
        if the provider names none (RFC 7662 sections 2.2 and 4).
        """
        active = self._active.find(digest)
        response = active or self._inactive.find(digest)
        now = self._monotonic()
        if response is None or now >= response.until:
            is_known = active is not None and now < active.until + KNOWN_SECONDS
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
            count_introspection("failure")
            raise ProviderUnavailableError(retry_after_seconds=lane.retry_after_seconds, found=str(error)) from None
        if response.status != 200:
            # This status concerns one token: with a back-off, its bearer could close the lane for all others.
            found = f"status {response.status} instead of 200, {self._quote_error(response, token)}"
            _logger.warning("introspection: %s: %s", url, found, extra=build_fetch_fields(url, response.status))
            count_introspection("failure")
            raise ProviderUnavailableError(found=found)
        outcome = self._read(response, until=self._monotonic() + self._cache_seconds)
        count_introspection("rejected" if outcome.claims is None else "accepted")
        return outcome

    async def _send(self, token: SecretStr) -> tuple[str, Response]:
        form = Form((("token", token.get_secret_value()), ("token_type_hint", "access_token")))
        build = partial(build_form_request, form=form, client=self._client)
        url, response = await self._endpoints.send("introspection_endpoint", build)
        # Logto responds 400 for an unknown client. Rejected credentials are rejected for every token.
        if response.status == _UNAUTHORIZED or (
            response.status != 200 and response.document.get("error") == _INVALID_CLIENT
        ):
            raise FetchError(
                f"{url}: status {response.status} instead of 200, {self._quote_error(response, token)}; check "
                "client_id and client_secret of the application that introspects",
                status=response.status,
                url=url,
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
        if client_id not in self._allowed_clients:
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
