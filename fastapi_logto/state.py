"""The settings of a scheme's tenants and the verifier of their tokens, built at the first use."""

import asyncio
import ssl
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from threading import Lock
from typing import TYPE_CHECKING, Any, Final, Generic, Protocol, TypeAlias

from fastapi_logto.clock import Clock
from fastapi_logto.errors import SettingsError
from fastapi_logto.protected_resource import build_metadata_url, find_resource, map_resources
from fastapi_logto.provider.discovery import MetadataSource, build_metadata_source
from fastapi_logto.provider.transport import Transport
from fastapi_logto.settings import LogtoSettings
from fastapi_logto.verification.claims import ClaimsT
from fastapi_logto.verification.tenants import TenantsVerifier
from fastapi_logto.verification.turns import Turns
from fastapi_logto.verification.verifier import OpaqueTokens, TokenVerifier, build_key_source

if TYPE_CHECKING:
    import httpx

__all__ = ["OpaqueTokensSetup", "Provider", "Verifier"]

_NOBODY: Final[frozenset[str]] = frozenset()

Verifier: TypeAlias = TokenVerifier[ClaimsT] | TenantsVerifier[ClaimsT]
"""The verifier of one tenant or of several."""


class OpaqueTokensSetup(Protocol):
    """The interface of `introspection.Introspection` that is used here."""

    def build(self, *, metadata: MetadataSource, transport: Transport, clock: Clock) -> OpaqueTokens:
        """Return the introspector."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class _Parts(Generic[ClaimsT]):
    """Objects that are replaced together."""

    tenants: tuple[LogtoSettings, ...]
    verifier: Verifier[ClaimsT]
    clock: Clock


class Provider(Generic[ClaimsT]):
    """The settings of a scheme and the verifier of its tokens, built at the first use, shared by its dependencies.

    Attributes:
        scheme_names: OpenAPI names of the schemes, and their audiences; `None` for those of the settings.
        scope_descriptions: Descriptions of scopes that the application provides, by name.
        publishers: All providers whose metadata the same application serves, including this one; empty if it serves
            none.
        given: The settings that the application passed; empty if the environment is to be read.
        claims_model: The class of the claims.
        clock: The clocks.
        verifier: The verifier, once it is built.
    """

    def __init__(
        self,
        settings: Sequence[LogtoSettings],
        *,
        claims_model: type[ClaimsT],
        clock: Clock,
        http_transport: "httpx.AsyncBaseTransport | None",
        ssl_context: ssl.SSLContext | None,
        opaque: OpaqueTokensSetup | None = None,
    ) -> None:
        """Store what is needed to build the verifier. No I/O.

        Without settings, the environment is read at the first use. `SettingsError` if two tenants have an issuer in
        common, or if several tenants are combined with opaque tokens.
        """
        self.scheme_names: dict[str, frozenset[str] | None] = {}
        self.scope_descriptions: dict[str, str] = {}
        self.publishers: Sequence[Provider[Any]] = ()
        self.given: tuple[LogtoSettings, ...] = tuple(settings)
        self.claims_model: type[ClaimsT] = claims_model
        self.clock: Clock = clock
        self.verifier: Verifier[ClaimsT] | None = None
        self._own_clock = clock
        self._http_transport = http_transport
        self._ssl_context = ssl_context
        self._opaque = opaque
        self._lock = Lock()
        self._own: _Parts[ClaimsT] | None = None
        self._substitutes: list[_Parts[ClaimsT]] = []
        self._built: _Parts[ClaimsT] | None = None
        if settings:
            self._own = self._build(settings, clock=clock, http_transport=http_transport)
            self._choose()

    @property
    def tenants(self) -> tuple[LogtoSettings, ...]:
        """The settings of each tenant. They are read from the environment if that has not happened yet.

        Raises:
            SettingsError: A setting in the environment is missing or invalid.
        """
        return self._load().tenants

    @property
    def known_tenants(self) -> tuple[LogtoSettings, ...]:
        """The settings that are known already; empty before the environment was read."""
        built = self._built
        return built.tenants if built else ()

    @property
    def accepts_opaque_tokens(self) -> bool:
        """Whether opaque tokens are introspected."""
        return self._opaque is not None

    def find_metadata_url(self, audiences: frozenset[str] | None) -> str | None:
        """Return the URL of the metadata for a challenge; `audiences=None` means those of the settings.

        It is built from settings only. `None` if no application serves the page, or if `public_url` is not set.
        """
        tenants = self.known_tenants
        if not tenants or tenants[0].public_url is None or not all(one.known_tenants for one in self.publishers):
            return None
        pages = map_resources([indicator for one in self.publishers for indicator in one.indicators])
        return build_metadata_url(tenants[0].public_url, resource=find_resource(tenants[0], audiences), resources=pages)

    @property
    def indicators(self) -> tuple[str, ...]:
        """The resource indicators of the settings, followed by those of all schemes.

        Raises:
            SettingsError: A setting in the environment is missing or invalid.
        """
        own = [audience for settings in self.tenants for audience in settings.audience]
        further = [audience for audiences in self.scheme_names.values() for audience in sorted(audiences or ())]
        return tuple(dict.fromkeys([*own, *further]))

    def check_organization_issuer(self, issuer: str | None) -> None:
        """Raise `SettingsError` unless it is clear whose organizations a requirement means.

        `issuer` is an issuer of the tenant or `"any"`; `None`, if the requirement does not say, is accepted for one
        tenant only.
        """
        tenants = self.known_tenants if not self._substitutes else self.given
        if issuer is None and len(tenants) > 1:
            raise SettingsError(
                "organization: expected issuer=, because this API accepts several tenants and an organization id alone "
                f'is ambiguous, found none; pass Organization.from_path(issuer="{tenants[0].issuer}"), or '
                'issuer="any" if the handler looks up data by claims.iss and the organization id'
            )
        if issuer not in {None, "any"} and tenants and not self._list_issuers(tenants, issuer):
            raise SettingsError(f"organization: expected an issuer of the settings or 'any', found issuer={issuer!r}")

    def find_organization_issuers(self, issuer: str | None) -> frozenset[str] | None:
        """Return the issuers of the tenant whose organizations a requirement means.

        Args:
            issuer: See `check_organization_issuer`.

        Returns:
            Every issuer that this tenant accepts; `None` if it does not matter.
        """
        # In a test, one connected issuer represents every tenant, and claims may come without any settings.
        if issuer == "any" or self._substitutes or not self.known_tenants:
            return None
        if issuer is None:
            return None if len(self.known_tenants) == 1 else frozenset()
        return self._list_issuers(self.known_tenants, issuer)

    @staticmethod
    def _list_issuers(tenants: Sequence[LogtoSettings], issuer: str | None) -> frozenset[str]:
        return next((one.accepted_issuers for one in tenants if issuer in one.accepted_issuers), _NOBODY)

    def load(self) -> Verifier[ClaimsT]:
        """Return the verifier, and read the settings from the environment if that has not happened yet.

        Raises:
            SettingsError: A setting in the environment is missing or invalid.
        """
        return self._load().verifier

    async def load_in_thread(self) -> Verifier[ClaimsT]:
        """Return the verifier without blocking the loop: reading the environment may read a `.env` file."""
        verifier = self.verifier
        return await asyncio.to_thread(self.load) if verifier is None else verifier

    @contextmanager
    def replaced(
        self, settings: LogtoSettings, *, clock: Clock, http_transport: "httpx.AsyncBaseTransport"
    ) -> Generator[None]:
        """Use other settings inside a block, with separate keys and cached tokens; for tests.

        The environment is not read. Blocks may overlap and end in any order: the one that started last applies.
        """
        parts = self._build([settings], clock=clock, http_transport=http_transport)
        with self._lock:
            self._substitutes.append(parts)
            self._choose()
        try:
            yield
        finally:
            with self._lock:
                self._substitutes.remove(parts)
                self._choose()

    def _load(self) -> _Parts[ClaimsT]:
        with self._lock:
            if self._built is not None:
                return self._built
            settings = (LogtoSettings.from_environment(env_file=".env"),)
            self._own = self._build(settings, clock=self._own_clock, http_transport=self._http_transport)
            self._choose()
            return self._own

    def _choose(self) -> None:
        self._built = self._substitutes[-1] if self._substitutes else self._own
        self.verifier = self._built.verifier if self._built else None
        self.clock = self._built.clock if self._built else self._own_clock

    def _build(
        self, tenants: Sequence[LogtoSettings], *, clock: Clock, http_transport: "httpx.AsyncBaseTransport | None"
    ) -> _Parts[ClaimsT]:
        # One queue for all tenants, because its turns limit the application's share of the event loop.
        turns = Turns(max_waiting=max(settings.max_waiting_verifications for settings in tenants))

        def build(settings: LogtoSettings) -> TokenVerifier[ClaimsT]:
            return self._build_one(
                settings, clock=clock, http_transport=http_transport, turns=turns, is_one_of_several=len(tenants) > 1
            )

        if len(tenants) == 1:
            return _Parts(tuple(tenants), build(tenants[0]), clock)
        if self._opaque is not None:
            raise SettingsError(
                f"expected one tenant if opaque tokens are accepted, found {len(tenants)}: opaque tokens name no "
                "issuer that selects a tenant; use one LogtoAuth for each tenant"
            )
        verifier = TenantsVerifier([(settings, build(settings)) for settings in tenants], turns=turns)
        return _Parts(tuple(tenants), verifier, clock)

    def _build_one(
        self,
        settings: LogtoSettings,
        *,
        clock: Clock,
        http_transport: "httpx.AsyncBaseTransport | None",
        turns: Turns,
        is_one_of_several: bool,
    ) -> TokenVerifier[ClaimsT]:
        transport = Transport(
            timeout_seconds=settings.fetch_timeout_seconds,
            http_transport=http_transport,
            ssl_context=self._ssl_context,
        )
        metadata = build_metadata_source(settings, transport=transport, clock=clock)
        opaque = self._opaque
        return TokenVerifier(
            settings=settings,
            keys=build_key_source(settings, metadata=metadata, transport=transport, clock=clock),
            clock=clock,
            claims_model=self.claims_model,
            turns=turns,
            is_one_of_several=is_one_of_several,
            opaque=None if opaque is None else opaque.build(metadata=metadata, transport=transport, clock=clock),
        )
