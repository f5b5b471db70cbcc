"""Several tenants behind one scheme: each with keys of its own, chosen by the issuer that a token names."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Final, Generic

from pydantic import SecretStr

from fastapi_logto.claims import ClaimsT
from fastapi_logto.errors import IssuerError, SettingsError, quote
from fastapi_logto.jws import UnverifiedIssuer, check_size, parse_unverified, parse_unverified_issuer
from fastapi_logto.keys import KeySource
from fastapi_logto.settings import LogtoSettings
from fastapi_logto.tokens import AS_SET, AudiencePolicy, TokenVerifier, build_token_digest
from fastapi_logto.turns import Turns

__all__ = ["TenantsVerifier"]

# Parsing half a KiB of JSON strictly takes some tens of microseconds, and Logto's payloads have some 400 bytes.
_LONG_PAYLOAD: Final = 512


class TenantsVerifier(Generic[ClaimsT]):
    """Verifies access tokens of several tenants, each with that tenant's own keys and settings alone."""

    def __init__(self, tenants: Sequence[tuple[LogtoSettings, TokenVerifier[ClaimsT]]], *, turns: Turns) -> None:
        """Index the tenants by the issuers that they accept.

        Args:
            tenants: Settings and verifier of each.
            turns: Runs the CPU work.

        Raises:
            SettingsError: Two of them accept the same issuer.
        """
        self._verifiers: tuple[TokenVerifier[ClaimsT], ...] = tuple(verifier for _, verifier in tenants)
        by_issuer: dict[str, TokenVerifier[ClaimsT]] = {}
        for settings, verifier in tenants:
            for issuer in settings.accepted_issuers:
                if issuer in by_issuer:
                    raise SettingsError(f"expected tenants of different issuers, found {issuer} twice")
                by_issuer[issuer] = verifier
        # Whoever takes the longest tokens knows every header that another one may have taken.
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
        """Give what stands for a request's token in every memory; see `TokenVerifier.build_digest`."""
        return self._longest.build_digest(values)

    def recall(self, digest: bytes, policy: AudiencePolicy = AS_SET) -> ClaimsT | None:
        """Give the claims of a token that one of the tenants verified before; see `TokenVerifier.recall`."""
        for verifier in self._verifiers:
            known = verifier.recall(digest, policy)
            if known is not None:
                return known
        return None

    async def verify(self, token: SecretStr, policy: AudiencePolicy = AS_SET) -> ClaimsT:
        """Give the claims of a token, verified by the tenant whose issuer it names.

        The issuer is read before the signature is checked, only to choose by it, to the letter, among those
        that are configured. The chosen tenant checks the signature with its own keys, and then the issuer again.

        Args:
            token: The token text, without `Bearer`.
            policy: For whom it may have been issued.

        Returns:
            Claims of the caller's own.

        Raises:
            IssuerError: It names none of the tenants.
            InvalidTokenError: As `TokenVerifier.verify`.
            ProviderUnavailableError: As `TokenVerifier.verify`.

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
                "The token was issued by none of the tenants of this API",
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
