"""Several tenants for one scheme: each has its own keys, and the issuer of a token selects the tenant."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Final, Generic

from pydantic import SecretStr

from fastapi_logto.errors import IssuerError, SettingsError, quote
from fastapi_logto.provider.key_source import KeySource
from fastapi_logto.settings import LogtoSettings
from fastapi_logto.verification.claims import ClaimsT
from fastapi_logto.verification.jws import UnverifiedIssuer, check_size, parse_unverified, parse_unverified_issuer
from fastapi_logto.verification.turns import Turns
from fastapi_logto.verification.verifier import AS_SET, AudiencePolicy, TokenVerifier, build_token_digest

__all__ = ["TenantsVerifier"]

# Parsing half a KiB of JSON strictly takes some tens of microseconds, and Logto's payloads have some 400 bytes.
_LONG_PAYLOAD: Final = 512


class TenantsVerifier(Generic[ClaimsT]):
    """Verifies access tokens of several tenants, each with only that tenant's keys and settings."""

    def __init__(self, tenants: Sequence[tuple[LogtoSettings, TokenVerifier[ClaimsT]]], *, turns: Turns) -> None:
        """Index the tenants by their accepted issuers; `SettingsError` if two of them accept the same one."""
        self._verifiers: tuple[TokenVerifier[ClaimsT], ...] = tuple(verifier for _, verifier in tenants)
        by_issuer: dict[str, TokenVerifier[ClaimsT]] = {}
        for settings, verifier in tenants:
            for issuer in settings.accepted_issuers:
                if issuer in by_issuer:
                    raise SettingsError(
                        f"expected tenants with different issuers, found {issuer} twice; list it for one tenant only"
                    )
                by_issuer[issuer] = verifier
        # The verifier with the largest limit accepts every header that another one accepts.
        limit, self._longest = max(tenants, key=lambda tenant: tenant[0].max_token_bytes)
        self._max_token_bytes = limit.max_token_bytes
        self._algorithms = {algorithm for settings, _ in tenants for algorithm in settings.algorithms}
        self._token_types = {kind.lower() for settings, _ in tenants for kind in settings.token_types}
        self._turns = turns
        self._by_issuer: Mapping[str, TokenVerifier[ClaimsT]] = by_issuer

    @property
    def sources(self) -> tuple[KeySource, ...]:
        """The keys of each tenant."""
        return tuple(source for verifier in self._verifiers for source in verifier.sources)

    def build_digest(self, values: Sequence[bytes]) -> bytes:
        """Return the cache key of a request's token; see `TokenVerifier.build_digest`."""
        return self._longest.build_digest(values)

    def recall(self, digest: bytes, policy: AudiencePolicy = AS_SET) -> ClaimsT | None:
        """Return the claims of a token that one of the tenants has cached; see `TokenVerifier.recall`."""
        for verifier in self._verifiers:
            known = verifier.recall(digest, policy)
            if known is not None:
                return known
        return None

    async def verify(self, token: SecretStr, policy: AudiencePolicy = AS_SET) -> ClaimsT:
        """Return the claims of a token, verified by the tenant whose issuer it names.

        The issuer is read before the signature is verified, but only to select one of the configured tenants, whose
        issuer must match exactly. That tenant verifies the signature with its own keys, and then checks the issuer
        again.

        References:
            RFC 8725 section 3.8.
        """
        check_size(token, max_bytes=self._max_token_bytes)
        # A cached token needs no turn to find its tenant.
        known = self.recall(build_token_digest(token), policy)
        if known is not None:
            return known
        verifier = self._by_issuer.get(await self._find_issuer(token))
        if verifier is None:
            raise IssuerError(
                "The token was not issued by a tenant of this API; request a token from one of its tenants",
                claim="iss",
                expected=quote(" or ".join(sorted(self._by_issuer))),
                found="another one",
            )
        return await verifier.verify(token, policy)

    async def _find_issuer(self, token: SecretStr) -> UnverifiedIssuer:
        unverified = parse_unverified(token, algorithms=self._algorithms, token_types=self._token_types)
        if len(unverified.payload) <= _LONG_PAYLOAD:
            return parse_unverified_issuer(unverified)
        return await self._turns.run(partial(parse_unverified_issuer, unverified))
