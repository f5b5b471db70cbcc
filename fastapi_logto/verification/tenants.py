"""The tenants of an API: what a token of each must satisfy, and which of them issued a token."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from fastapi_logto.errors import IssuerError, SettingsError
from fastapi_logto.provider.key_source import KeySource
from fastapi_logto.redaction import quote
from fastapi_logto.settings import LogtoSettings
from fastapi_logto.verification.cache import PackedClaims, Places, TokenCache
from fastapi_logto.verification.checks import check_claims
from fastapi_logto.verification.claims import TokenClaims
from fastapi_logto.verification.jws import UnverifiedIssuer


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


class Tenant:
    """One tenant: its keys, and what its settings require of a token."""

    def __init__(self, settings: LogtoSettings, *, key_source: KeySource, is_one_of_several: bool = False) -> None:
        """Look the settings up once, not for each token.

        `is_one_of_several` accepts only audiences of these settings, whatever a policy allows: the API has other
        tenants, whose audiences are not this tenant's.
        """
        self.settings: LogtoSettings = settings
        self.key_source: KeySource = key_source
        self.audiences: frozenset[str] = frozenset(settings.audience)
        self.token_types: tuple[str, ...] = tuple(kind.lower() for kind in settings.token_types)
        # Of its own, so that one tenant's tokens do not push out those of another.
        self.cache: TokenCache[PackedClaims] = TokenCache(
            size=settings.token_cache_size, max_bytes=settings.token_cache_bytes
        )
        self._is_one_of_several = is_one_of_several
        self._issuers = settings.accepted_issuers
        self._leeway_seconds = settings.leeway_seconds
        self._accepts_organizations = settings.accept_organization_tokens

    def check(self, claims: TokenClaims, policy: AudiencePolicy, *, now: float) -> None:
        """Check issuer, audience and times of verified claims; see `check_claims`."""
        audiences = self.audiences if policy.audiences is None else policy.audiences
        if self._is_one_of_several:
            # Empty for a tenant that has no part in this place of the API: none of its tokens is accepted there.
            audiences &= self.audiences
        check_claims(
            claims,
            issuers=self._issuers,
            audiences=audiences,
            accepts_organizations=policy.accepts_organizations and self._accepts_organizations and bool(audiences),
            now=now,
            leeway_seconds=self._leeway_seconds,
        )

    def check_opaque(self, claims: TokenClaims, policy: AudiencePolicy, *, now: float) -> None:
        """Do the same for an introspected token. Without an audience, its client was checked instead."""
        if claims.audiences:
            self.check(claims, policy, now=now)
        else:
            check_claims(claims, issuers=self._issuers, audiences=None, now=now, leeway_seconds=self._leeway_seconds)


class Tenants:
    """The tenants of an API, at least one, by their issuers."""

    def __init__(self, tenants: Sequence[Tenant]) -> None:
        """Index the tenants; `SettingsError` if two of them accept the same issuer."""
        self.all: tuple[Tenant, ...] = tuple(tenants)
        self.only: Tenant | None = self.all[0] if len(self.all) == 1 else None
        by_issuer: dict[str, Tenant] = {}
        for tenant in self.all:
            for issuer in tenant.settings.accepted_issuers:
                if issuer in by_issuer:
                    raise SettingsError(
                        f"expected tenants with different issuers, found {issuer} twice; list it for one tenant only"
                    )
                by_issuer[issuer] = tenant
        self._by_issuer: Mapping[str, Tenant] = by_issuer
        # Requests must not take longer the more tenants there are, so what they need of all is put together here.
        self._by_cache: Mapping[TokenCache[PackedClaims], Tenant] = {tenant.cache: tenant for tenant in self.all}
        self._places: Places[PackedClaims] = Places()
        if self.only is None:
            for cache in self._by_cache:
                cache.share(self._places)
        self.audiences: frozenset[str] = frozenset().union(*(tenant.audiences for tenant in self.all))
        self._listed_issuers: str = quote(" or ".join(sorted(by_issuer)))
        self._main_issuers: Mapping[str, str] = {name: one.settings.issuer for name, one in by_issuer.items()}
        self.max_token_bytes: int = max(tenant.settings.max_token_bytes for tenant in self.all)
        # Each once, in order: messages list them.
        algorithms = (name for tenant in self.all for name in tenant.settings.algorithms)
        self.algorithms: tuple[str, ...] = tuple(dict.fromkeys(algorithms))
        self.token_types: tuple[str, ...] = tuple(dict.fromkeys(name for one in self.all for name in one.token_types))

    def find_issuer(self, issuer: str) -> str | None:
        """Return the issuer in the settings of the tenant that an accepted issuer, e.g. a custom domain, belongs to."""
        return self._main_issuers.get(issuer)

    def find_holder(self, digest: bytes) -> Tenant | None:
        """Return the tenant whose cache may hold a token; `None` if none does."""
        if self.only is not None:
            return self.only
        cache = self._places.find(digest)
        return None if cache is None else self._by_cache[cache]

    def find(self, issuer: UnverifiedIssuer) -> Tenant:
        """Return the tenant with an issuer, which must match exactly.

        It only selects the tenant, whose keys verify the token and whose settings then check the issuer again.

        References:
            RFC 8725 section 3.8.
        """
        tenant = self._by_issuer.get(issuer)
        if tenant is None:
            raise IssuerError(
                "The token was not issued by a tenant of this API; request a token from one of its tenants",
                claim="iss",
                expected=self._listed_issuers,
                found="another one",
            )
        return tenant
