"""The `LogtoAuth`s that check the same revocations: whose events these are, and whose keys sign logout tokens."""

from collections.abc import Collection
from typing import Any, Protocol

from pydantic import SecretStr

from fastapi_logto.errors import ProviderUnavailableError, RefusalError, SettingsError
from fastapi_logto.settings import LogtoSettings
from fastapi_logto.verification.logout_tokens import LOGOUT_TOKEN_TYPE, LogoutToken, check_logout_token
from fastapi_logto.verification.verifier import TokenVerifier


class VerifierSource(Protocol):
    """What verifies the tokens of a `LogtoAuth`. Settings of the environment are read at the first use."""

    @property
    def verifier(self) -> TokenVerifier[Any] | None:
        """The verifier, once it is built."""
        ...

    async def load_in_thread(self) -> TokenVerifier[Any]:
        """Return the verifier without blocking the loop."""
        ...


class Verifiers:
    """The verifiers of the `LogtoAuth`s that check the same revocations."""

    def __init__(self) -> None:
        """Start without any."""
        self._sources: tuple[VerifierSource, ...] = ()

    def attach(self, source: VerifierSource) -> None:
        """Add the verifier of a `LogtoAuth`."""
        self._sources = (*self._sources, source)

    def check_attached(self) -> None:
        """Raise `SettingsError` if no `LogtoAuth` checks the revocations."""
        if not self._sources:
            raise SettingsError(
                "revocations: expected a LogtoAuth that checks the revocations of this route, found none; pass "
                "LogtoAuth(revocations=...)"
            )

    async def load(self) -> None:
        """Read the settings of all. `SettingsError` if one is missing or invalid."""
        for source in self._sources:
            await source.load_in_thread()

    def find_issuer(self, issuer: str | None) -> str | None:
        """Return the issuer in the settings of the tenant that is meant; `None` if there is only one.

        `SettingsError` if that is unclear, or if no tenant has this issuer.
        """
        tenants = self._list_tenants()
        if issuer is None:
            if len({settings.issuer for settings in tenants}) > 1:
                raise SettingsError(
                    "issuer: expected the tenant that sends these events, because this API accepts several, found "
                    f'none; pass issuer="{tenants[0].issuer}", with one route and signing key for each tenant'
                )
            return None
        for settings in tenants:
            if issuer in settings.accepted_issuers:
                return settings.issuer
        if tenants:
            raise SettingsError(
                f"issuer: expected an issuer of the settings, found {issuer!r}; pass that of the tenant, e.g. "
                f'issuer="{tenants[0].issuer}"'
            )
        return issuer

    async def verify_logout(self, token: SecretStr, *, client_ids: Collection[str], now: float) -> LogoutToken:
        """Return a verified logout token; `RefusalError` if it is invalid or can't be verified now."""
        self.check_attached()
        errors: list[RefusalError] = []
        for source in self._sources:
            verifier = await source.load_in_thread()
            try:
                payload, tenant = await verifier.verify_payload(token, token_types=(LOGOUT_TOKEN_TYPE,))
                try:
                    return check_logout_token(payload, settings=tenant.settings, client_ids=client_ids, now=now)
                finally:
                    # Error trackers show what they find in a frame.
                    del payload
            except RefusalError as error:
                errors.append(error)
        try:
            # It may be a token of the one whose keys are unavailable.
            raise max(errors, key=lambda error: isinstance(error, ProviderUnavailableError))
        finally:
            # Their tracebacks refer to this frame: without this line, they would keep each other alive.
            del errors

    def _list_tenants(self) -> list[LogtoSettings]:
        verifiers = [source.verifier for source in self._sources]
        return [tenant.settings for verifier in verifiers if verifier is not None for tenant in verifier.tenants]
