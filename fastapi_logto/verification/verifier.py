"""From an `Authorization` header to checked claims: the steps for every token. This module does not use FastAPI."""

from collections.abc import Awaitable, Collection, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Final, Generic

from pydantic import SecretStr

from fastapi_logto.clock import Clock
from fastapi_logto.errors import ExpiredTokenError, OpaqueTokenError, ProviderUnavailableError, UnknownKeyError
from fastapi_logto.provider.key_set import PublicKey
from fastapi_logto.provider.key_source import CoolingDownError
from fastapi_logto.redaction import quote
from fastapi_logto.single_flight import Flights
from fastapi_logto.telemetry import count_verification, measure_verification
from fastapi_logto.verification.bearer import USUAL_START, parse_authorization
from fastapi_logto.verification.cache import (
    PackedClaims,
    build_digest,
    estimate_packed_weight,
    find_key,
    is_shared,
    pack_claims,
    unpack_claims,
)
from fastapi_logto.verification.claims import ClaimsT, TokenClaims, build_claims, parse_claims
from fastapi_logto.verification.introspector import Introspector
from fastapi_logto.verification.jws import (
    UnverifiedJws,
    check_again,
    check_size,
    find_unverified_issue_time,
    is_opaque,
    is_personal,
    parse_unverified,
    parse_unverified_issuer,
)
from fastapi_logto.verification.revocation_feed import RevocationFeed
from fastapi_logto.verification.signatures import verify_with_any
from fastapi_logto.verification.tenants import AS_SET, AudiencePolicy, Tenant, Tenants
from fastapi_logto.verification.turns import Turns

# Parsing half a KiB of JSON strictly takes some tens of microseconds, and Logto's payloads have some 400 bytes.
_LONG_PAYLOAD: Final = 512


@dataclass(slots=True)
class _Verified(Generic[ClaimsT]):
    """The claims of a token that a tenant's key signed, also in the form in which they are cached."""

    claims: ClaimsT
    # Claims are personal data, and error trackers show local variables.
    packed: PackedClaims = field(repr=False)
    weight: int
    tenant: Tenant


class TokenVerifier(Generic[ClaimsT]):
    """Verifies access tokens of one or several tenants, and caches them for all audience policies."""

    def __init__(
        self,
        tenants: Sequence[Tenant],
        *,
        clock: Clock,
        claims_model: type[ClaimsT],
        turns: Turns,
        introspector: Introspector | None = None,
        revocations: RevocationFeed | None = None,
    ) -> None:
        """Store the parts. No I/O. `SettingsError` if two tenants accept the same issuer.

        Opaque tokens are rejected without an introspector, which is for a single tenant: they name no issuer.
        """
        self._tenants = Tenants(tenants)
        self._now = clock.now
        self._claims_model = claims_model
        self._turns = turns
        self._introspector = introspector
        self._revocations = revocations
        self._max_header_bytes = len(USUAL_START) + self._tenants.max_token_bytes
        self._flights: Flights[bytes, _Verified[ClaimsT]] = Flights()

    @property
    def tenants(self) -> tuple[Tenant, ...]:
        """The tenants."""
        return self._tenants.all

    def find_issuer(self, claims: TokenClaims) -> str | None:
        """Return the issuer in the settings of the tenant that issued a token; `None` if it is not one of these."""
        return self._tenants.find_issuer(claims.iss)

    async def verify_header(self, values: list[bytes], policy: AudiencePolicy = AS_SET) -> ClaimsT:
        """Return the claims of the token in the `Authorization` headers of a request, of which there must be one.

        Scopes and organizations are not checked here; see `requirements`.

        References:
            RFC 6750 section 2.1; RFC 9068 section 4.
        """
        try:
            # The header is not parsed if its token is cached. One that is too long can't be cached, nor can several.
            is_short = len(values) == 1 and len(values[0]) <= self._max_header_bytes
            digest = build_digest(values[0]) if is_short else b""
            claims = self._recall(digest, policy)
            if claims is not None:
                revocations = self._revocations
                # Without another coroutine for the most frequent request.
                if revocations is None or revocations.admits_now(claims, issuer=self._tenants.find_issuer(claims.iss)):
                    return claims
                return await self._admit(claims, revocations)
            token = parse_authorization(values)
            is_usual = is_short and _is_usual(values[0], token)
        finally:
            # Error trackers show what they find in a frame.
            del values
        if not is_usual:
            return await self.verify(token, policy)
        claims = await self._verify_new(token, digest, policy)
        return claims if self._revocations is None else await self._admit(claims, self._revocations)

    async def verify(self, token: SecretStr, policy: AudiencePolicy = AS_SET) -> ClaimsT:
        """Return the claims of a token without its header; see `verify_header`."""
        check_size(token, max_bytes=self._tenants.max_token_bytes)
        # That of the usual header: in another form, a token must not be cached once more.
        digest = build_digest(USUAL_START + token.get_secret_value().encode("utf-8", "surrogatepass"))
        claims = self._recall(digest, policy)
        if claims is None:
            claims = await self._verify_new(token, digest, policy)
        return claims if self._revocations is None else await self._admit(claims, self._revocations)

    async def verify_payload(self, token: SecretStr, *, token_types: Collection[str]) -> tuple[bytes, Tenant]:
        """Return the payload of a signed token that is not an access token, and the tenant whose key signed it.

        Its claims are not checked. `token_types` are the accepted values of its `typ`.
        """
        check_size(token, max_bytes=self._tenants.max_token_bytes)
        unverified = parse_unverified(token, algorithms=self._tenants.algorithms, token_types=token_types)
        tenant = self._tenants.only
        if tenant is None:
            tenant = await self._turns.run(partial(self._find_tenant, unverified, token_types))
        keys = await self._find_keys(unverified, tenant)
        payload, _ = await self._turns.run(partial(verify_with_any, unverified, keys))
        return payload, tenant

    async def _admit(self, claims: ClaimsT, revocations: RevocationFeed) -> ClaimsT:
        """Return the claims of a verified token unless it was revoked."""
        if not revocations.is_current:
            await revocations.catch_up()
        revocations.check(claims, issuer=self.find_issuer(claims))
        return claims

    def _recall(self, digest: bytes, policy: AudiencePolicy) -> ClaimsT | None:
        """Return the claims of a cached token after checking again everything that can have changed, or `None`.

        The result is a new instance. The token may have been verified for another policy.
        """
        tenant = self._tenants.find_holder(digest)
        packed = None if tenant is None else tenant.cache.find(digest)
        if tenant is None or packed is None:
            return None
        key_set = tenant.key_source.peek()
        if key_set is None:
            return None
        if not key_set.holds(find_key(packed)):
            # The key was withdrawn, so its tokens are no longer valid.
            tenant.cache.drop(digest)
            return None
        claims = unpack_claims(packed, model=self._claims_model)
        # Error trackers show what they find in a frame.
        del packed
        try:
            tenant.check(claims, policy, now=self._now())
        except ExpiredTokenError:
            tenant.cache.drop(digest)
            raise
        count_verification("cache")
        return claims

    def _verify_new(self, token: SecretStr, digest: bytes, policy: AudiencePolicy) -> Awaitable[ClaimsT]:
        if self._introspector is not None and policy.accepts_opaque and is_opaque(token) and not is_personal(token):
            return self._introspect(self._introspector, token, digest, policy)
        return self._verify_signed(token, digest, policy)

    @measure_verification
    async def _verify_signed(self, token: SecretStr, digest: bytes, policy: AudiencePolicy) -> ClaimsT:
        unverified, tenant = None, None
        if self._flights.find(digest) is None:
            unverified = self._parse(token, policy)
            tenant = self._find_tenant_now(unverified)
            keys = () if tenant is None else tenant.key_source.find_held(kid=unverified.kid, alg=unverified.alg)
            if tenant is not None and keys:
                work = partial(self._verify_signature, unverified, tenant, keys)
                verified = self._turns.run_if_free(work)
                if verified is None:
                    verified = await self._flights.share(digest, self._turns.enqueue(work))
                return self._accept(verified, digest, policy, is_own=True)
        # Keys or a tenant must be awaited: once for all concurrent requests with the same token.
        verify = partial(self._verify_later, token, policy, unverified, tenant)
        verified = await self._flights.join_or_lead(digest, verify)
        return self._accept(verified, digest, policy, is_own=False)

    def _accept(self, verified: _Verified[ClaimsT], digest: bytes, policy: AudiencePolicy, *, is_own: bool) -> ClaimsT:
        """Check verified claims for this policy, cache them, and return an instance of this request's own."""
        verified.tenant.check(verified.claims, policy, now=self._now())
        verified.tenant.cache.keep(digest, verified.packed, weight=verified.weight)
        count_verification("signature")
        if self._revocations is not None:
            self._revocations.check_life(verified.claims)
        is_unshared = is_own and not is_shared(verified.packed)
        return verified.claims if is_unshared else unpack_claims(verified.packed, model=self._claims_model)

    async def _introspect(
        self, introspector: Introspector, token: SecretStr, digest: bytes, policy: AudiencePolicy
    ) -> ClaimsT:
        claims = build_claims(await introspector.introspect(token, digest), model=self._claims_model)
        self._tenants.all[0].check_opaque(claims, policy, now=self._now())
        if self._revocations is not None:
            self._revocations.check_life(claims)
        count_verification("introspection")
        return claims

    def _parse(self, token: SecretStr, policy: AudiencePolicy) -> UnverifiedJws:
        tenants = self._tenants
        try:
            return parse_unverified(token, algorithms=tenants.algorithms, token_types=tenants.token_types)
        except OpaqueTokenError:
            resources = policy.audiences or tenants.audiences
            raise OpaqueTokenError(
                resources=resources, is_personal=is_personal(token), needs_organization=policy.accepts_organizations
            ) from None

    async def _verify_later(
        self, token: SecretStr, policy: AudiencePolicy, unverified: UnverifiedJws | None, tenant: Tenant | None
    ) -> _Verified[ClaimsT]:
        unverified = unverified or self._parse(token, policy)
        tenant = tenant or self._find_tenant_now(unverified)
        if tenant is None:
            tenant = await self._turns.run(partial(self._find_tenant, unverified))
        keys = await self._find_keys(unverified, tenant)
        return await self._turns.run(partial(self._verify_signature, unverified, tenant, keys))

    def _find_tenant_now(self, unverified: UnverifiedJws) -> Tenant | None:
        """Return the tenant of a token, or `None` if finding it takes a turn."""
        if self._tenants.only is not None:
            return self._tenants.only
        return self._find_tenant(unverified) if len(unverified.payload) <= _LONG_PAYLOAD else None

    def _find_tenant(self, unverified: UnverifiedJws, token_types: Collection[str] | None = None) -> Tenant:
        """Return the tenant whose issuer a token names, after checking it by the tenant's own settings."""
        tenant = self._tenants.find(parse_unverified_issuer(unverified))
        check_again(
            unverified,
            max_bytes=tenant.settings.max_token_bytes,
            algorithms=tenant.settings.algorithms,
            token_types=token_types or tenant.token_types,
        )
        return tenant

    def _verify_signature(
        self, unverified: UnverifiedJws, tenant: Tenant, keys: Sequence[PublicKey]
    ) -> _Verified[ClaimsT]:
        payload, key = verify_with_any(unverified, keys)
        try:
            claims = parse_claims(payload, model=self._claims_model, required=tenant.settings.required_claims)
            packed = pack_claims(claims, key=key.identity)
            return _Verified(claims, packed, estimate_packed_weight(packed, payload), tenant)
        finally:
            # Error trackers show what they find in a frame.
            del payload

    async def _find_keys(self, unverified: UnverifiedJws, tenant: Tenant) -> Sequence[PublicKey]:
        try:
            return await tenant.key_source.find(kid=unverified.kid, alg=unverified.alg)
        except CoolingDownError as error:
            cooling_down = error
        # Its time of issue is unverified, and chooses between two refusals only: a key that signed before the last
        # fetch would have been in that set. Later ones may be new, and a client must not throw their tokens away.
        issued_at = find_unverified_issue_time(unverified)
        is_required = "iat" in tenant.settings.required_claims
        if issued_at is None and not is_required:
            issued_at = cooling_down.fetched_at
        if issued_at is not None and issued_at >= cooling_down.fetched_at - tenant.settings.leeway_seconds:
            raise ProviderUnavailableError(
                "The token is signed with a key that was not published at the last fetch of the keys; try again later",
                retry_after_seconds=cooling_down.retry_after_seconds,
                found=f"an unknown key during the cooldown, {quote(unverified.kid)} {unverified.alg}",
            )
        raise UnknownKeyError(
            claim="kid", expected="a key of the issuer's key set", found=f"{quote(unverified.kid)} {unverified.alg}"
        )


def _is_usual(value: bytes, token: SecretStr) -> bool:
    return value.startswith(USUAL_START) and len(value) == len(USUAL_START) + len(token)
