"""From token text to checked claims: the steps for every token. This module does not use FastAPI."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final, Generic, Protocol

from pydantic import SecretStr

from fastapi_logto.clock import Clock
from fastapi_logto.errors import ExpiredTokenError, OpaqueTokenError, ProviderUnavailableError, UnknownKeyError, quote
from fastapi_logto.provider.discovery import MetadataSource
from fastapi_logto.provider.key_set import PublicKey
from fastapi_logto.provider.key_source import CoolingDownError, KeySource
from fastapi_logto.provider.transport import Transport
from fastapi_logto.settings import LogtoSettings
from fastapi_logto.single_flight import Flights
from fastapi_logto.strict_json import JsonObject, estimate_weight
from fastapi_logto.verification.cache import TokenCache, build_digest
from fastapi_logto.verification.checks import check_claims
from fastapi_logto.verification.claims import (
    ClaimsT,
    PackedClaims,
    TokenClaims,
    build_claims,
    find_key,
    pack_claims,
    parse_claims,
    unpack_claims,
)
from fastapi_logto.verification.jws import (
    UnverifiedJws,
    check_size,
    find_unverified_issue_time,
    is_opaque,
    parse_unverified,
)
from fastapi_logto.verification.signatures import verify_with_any
from fastapi_logto.verification.turns import Turns

__all__ = ["AS_SET", "AudiencePolicy", "OpaqueTokens", "TokenVerifier", "build_key_source", "build_token_digest"]

_USUAL_START: Final = b"Bearer "


@dataclass(frozen=True, slots=True)
class AudiencePolicy:
    """The audiences that are accepted in one place of the application.

    Attributes:
        audiences: Resource indicators, which must match exactly; `None` for those of the settings.
        accepts_organizations: Also accept organization tokens, whose audience is an organization and not an API.
        accepts_opaque: Also accept opaque tokens, which have no audience, if the application has enabled them.
    """

    audiences: frozenset[str] | None = None
    accepts_organizations: bool = False
    accepts_opaque: bool = False


AS_SET: Final = AudiencePolicy()
"""The audiences of the settings, and no organization tokens."""


class OpaqueTokens(Protocol):
    """The interface of `introspection.Introspector` that is used here."""

    async def introspect(self, token: SecretStr, digest: bytes) -> JsonObject:
        """Return the claims of a token that is active according to the provider.

        Raises:
            InvalidTokenError: It is not active, or was issued to an application whose tokens are not accepted.
            ProviderUnavailableError: The provider is unavailable.
        """
        ...


class TokenVerifier(Generic[ClaimsT]):
    """Verifies access tokens of one tenant, and caches them for all audience policies."""

    def __init__(
        self,
        *,
        settings: LogtoSettings,
        keys: KeySource,
        clock: Clock,
        claims_model: type[ClaimsT],
        turns: Turns,
        opaque: OpaqueTokens | None = None,
        is_one_of_several: bool = False,
    ) -> None:
        """Store the parts. No I/O.

        Args:
            settings: The policy.
            keys: The tenant's keys.
            clock: Only its wall time is used.
            claims_model: The class of the claims.
            turns: Runs the CPU work.
            opaque: Introspects opaque tokens, which are rejected without it.
            is_one_of_several: Accept only audiences of these settings, whatever a policy allows: the API has other
                tenants, whose audiences are not this tenant's.
        """
        self.keys: KeySource = keys
        self._opaque = opaque
        self._now = clock.now
        self._claims_model = claims_model
        self._algorithms = settings.algorithms
        self._token_types = tuple(token_type.lower() for token_type in settings.token_types)
        self._max_token_bytes = settings.max_token_bytes
        self._max_header_bytes = len(_USUAL_START) + settings.max_token_bytes
        self._required_claims = settings.required_claims
        self._issuers = settings.accepted_issuers
        self._audiences = frozenset(settings.audience)
        self._leeway_seconds = settings.leeway_seconds
        self._is_one_of_several = is_one_of_several
        self._accepts_organization_tokens = settings.accept_organization_tokens
        self._turns = turns
        self._flights: Flights[bytes, tuple[ClaimsT, PublicKey, int]] = Flights()
        self._cache: TokenCache[PackedClaims] = TokenCache(
            size=settings.token_cache_size, max_bytes=settings.token_cache_bytes
        )

    @property
    def sources(self) -> tuple[KeySource, ...]:
        """The keys of the tenant, as a sequence like that of `TenantsVerifier`."""
        return (self.keys,)

    def build_digest(self, values: Sequence[bytes]) -> bytes:
        """Return the cache key of a request's token, computed from all its `Authorization` headers.

        The headers are not parsed. The key is empty if there is not exactly one, or if it is too long to have been
        verified: nothing is cached under that key.
        """
        if len(values) != 1 or len(values[0]) > self._max_header_bytes:
            return b""
        return build_digest(values[0])

    async def verify(self, token: SecretStr, policy: AudiencePolicy = AS_SET) -> ClaimsT:
        """Return the claims of a token, as a new instance.

        Scopes and organizations are not checked here; see `requirements`.

        Args:
            token: The token text, without `Bearer`.
            policy: The accepted audiences.

        Raises:
            InvalidTokenError: The token is invalid for this API; the subclass says why.
            ProviderUnavailableError: The keys are unavailable now, so the token can't be verified.

        References:
            RFC 9068 section 4.
        """
        check_size(token, max_bytes=self._max_token_bytes)
        digest = build_token_digest(token)
        known = self.recall(digest, policy)
        if known is not None:
            return known
        if self._opaque is not None and policy.accepts_opaque and is_opaque(token):
            claims = build_claims(await self._opaque.introspect(token, digest), model=self._claims_model)
            # Logto's opaque tokens have no audience. The introspector has checked the client instead.
            self._check(claims, policy, is_for_anybody=not claims.audiences)
            return claims
        # Once for all concurrent requests with the same token.
        claims, key, weight = await self._flights.join_or_lead(digest, partial(self._verify_signature, token, policy))
        self._check(claims, policy)
        packed = pack_claims(claims, key=key.identity)
        self._cache.keep(digest, packed, weight=weight)
        return unpack_claims(packed, model=self._claims_model)

    def recall(self, digest: bytes, policy: AudiencePolicy = AS_SET) -> ClaimsT | None:
        """Return the claims of a cached token, after checking again everything that can have changed.

        The result is a new instance; `None` if the token must be verified. The token may have been verified for another
        policy.

        Raises:
            InvalidTokenError: The token has expired, or its audience is not accepted here.
        """
        packed = self._cache.find(digest)
        if packed is None:
            return None
        key_set = self.keys.peek()
        if key_set is None:
            return None
        if not key_set.holds(find_key(packed)):
            # The key was withdrawn, so its tokens are no longer valid.
            self._cache.drop(digest)
            return None
        claims = unpack_claims(packed, model=self._claims_model)
        try:
            self._check(claims, policy)
        except ExpiredTokenError:
            self._cache.drop(digest)
            raise
        return claims

    async def _verify_signature(self, token: SecretStr, policy: AudiencePolicy) -> tuple[ClaimsT, PublicKey, int]:
        try:
            unverified = parse_unverified(token, algorithms=self._algorithms, token_types=self._token_types)
        except OpaqueTokenError:
            raise OpaqueTokenError(resources=policy.audiences or self._audiences) from None
        keys = await self._find_keys(unverified)
        claims, key = await self._turns.run(partial(self._verify_and_parse, unverified, keys))
        return claims, key, estimate_weight(unverified.payload)

    def _verify_and_parse(self, unverified: UnverifiedJws, keys: Sequence[PublicKey]) -> tuple[ClaimsT, PublicKey]:
        payload, key = verify_with_any(unverified, keys)
        return parse_claims(payload, model=self._claims_model, required=self._required_claims), key

    async def _find_keys(self, unverified: UnverifiedJws) -> Sequence[PublicKey]:
        try:
            return await self.keys.find(kid=unverified.kid, alg=unverified.alg)
        except CoolingDownError as error:
            cooling_down = error
        # Its time of issue is unverified, and chooses between two refusals only: a key that signed before the last
        # fetch would have been in that set. Later ones may be new, and a client must not throw their tokens away.
        issued_at = find_unverified_issue_time(unverified)
        is_required = "iat" in self._required_claims
        if issued_at is None and not is_required:
            issued_at = cooling_down.fetched_at
        if issued_at is not None and issued_at >= cooling_down.fetched_at - self._leeway_seconds:
            raise ProviderUnavailableError(
                "The token is signed with a key that was not published at the last fetch of the keys; try again later",
                retry_after_seconds=cooling_down.retry_after_seconds,
                found=f"an unknown key during the cooldown, {quote(unverified.kid)} {unverified.alg}",
            )
        raise UnknownKeyError(
            claim="kid", expected="a key of the issuer's key set", found=f"{quote(unverified.kid)} {unverified.alg}"
        )

    def _check(self, claims: TokenClaims, policy: AudiencePolicy, *, is_for_anybody: bool = False) -> None:
        audiences = policy.audiences or self._audiences
        if self._is_one_of_several and policy.audiences is not None:
            # Empty for a tenant that has no part in this place of the API: none of its tokens is accepted there.
            audiences = policy.audiences & self._audiences
        check_claims(
            claims,
            issuers=self._issuers,
            audiences=None if is_for_anybody else audiences,
            accepts_organizations=(
                policy.accepts_organizations and self._accepts_organization_tokens and bool(audiences)
            ),
            now=self._now(),
            leeway_seconds=self._leeway_seconds,
        )


def build_token_digest(token: SecretStr) -> bytes:
    """Return the digest of the usual header of a token: in another form it must not be cached once more."""
    return build_digest(_USUAL_START + token.get_secret_value().encode("utf-8", "surrogatepass"))


def build_key_source(
    settings: LogtoSettings, *, metadata: MetadataSource, transport: Transport, clock: Clock
) -> KeySource:
    """Return the source of a tenant's keys, empty until its first use. Nothing is fetched."""
    return KeySource(
        metadata=metadata,
        transport=transport,
        algorithms=settings.algorithms,
        clock=clock,
        ttl_seconds=settings.keys_ttl_seconds,
        cooldown_seconds=settings.keys_cooldown_seconds,
        max_stale_seconds=settings.keys_max_stale_seconds,
        # One timeout each for discovery and key set, and one for the work in threads.
        deadline_seconds=3 * settings.fetch_timeout_seconds,
    )
