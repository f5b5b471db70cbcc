"""What stands behind a scheme: the settings of its tenants, and what verifies their tokens, built at the first use."""

import asyncio
import ssl
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from threading import Lock
from typing import TYPE_CHECKING, Any, Final, Generic, Protocol, TypeAlias

from fastapi_logto.claims import ClaimsT
from fastapi_logto.clock import Clock
from fastapi_logto.errors import SettingsError
from fastapi_logto.metadata import MetadataSource, build_metadata_source
from fastapi_logto.protected_resource import build_metadata_url, find_resource, map_resources
from fastapi_logto.settings import LogtoSettings
from fastapi_logto.tenants import TenantsVerifier
from fastapi_logto.tokens import OpaqueTokens, TokenVerifier, build_key_source
from fastapi_logto.transport import Transport
from fastapi_logto.turns import Turns

if TYPE_CHECKING:
    import httpx

__all__ = ["OpaqueTokensSetup", "Provider", "Verifier"]

_NOBODY: Final[frozenset[str]] = frozenset()

Verifier: TypeAlias = TokenVerifier[ClaimsT] | TenantsVerifier[ClaimsT]
"""What verifies: for one tenant, or for several."""


class OpaqueTokensSetup(Protocol):
    """What makes opaque tokens known: `introspection.Introspection`, seen from here."""

    def build(self, *, metadata: MetadataSource, transport: Transport, clock: Clock) -> OpaqueTokens:
        """Give what knows opaque tokens."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class _Parts(Generic[ClaimsT]):
    """What belongs together, and is replaced together."""

    tenants: tuple[LogtoSettings, ...]
    verifier: Verifier[ClaimsT]
    clock: Clock


class Provider(Generic[ClaimsT]):
    """The settings of a scheme and what verifies its tokens: built at the first use, shared by all nodes.

    Attributes:
        scheme_names: Names in OpenAPI of the nodes, and their audiences; `None` for those of the settings.
        scope_descriptions: What scopes mean, by name, where the application says it.
        publishers: Those whose resources an application serves the metadata of, this one among them; none where it
            serves none.
        given: The settings that the application gave; none where the environment is to be read.
        claims_model: The class of the claims.
        clock: The clocks.
        verifier: What verifies the tokens, once it is built.
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
        """Remember what to build with. Does no I/O.

        Args:
            settings: The settings of each tenant; none to read the environment at the first use.
            claims_model: The class of the claims.
            clock: The clocks.
            http_transport: What sends requests instead of the network.
            ssl_context: For a private certificate authority.
            opaque: What makes opaque tokens known; they are refused without.

        Raises:
            SettingsError: Two tenants have an issuer in common, or opaque tokens are to be accepted of several.
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
        """The settings of each tenant; read from the environment now if they were not needed before.

        Raises:
            SettingsError: The environment lacks one, or has a bad one.
        """
        return self._load().tenants

    @property
    def known_tenants(self) -> tuple[LogtoSettings, ...]:
        """The settings that are known already; none before the environment was read."""
        built = self._built
        return built.tenants if built else ()

    @property
    def accepts_opaque_tokens(self) -> bool:
        """Whether opaque tokens can be made known."""
        return self._opaque is not None

    def find_metadata_url(self, audiences: frozenset[str] | None) -> str | None:
        """Give the URL of the metadata of the resource that some audiences stand for, for a challenge.

        Args:
            audiences: The resource indicators; `None` for those of the settings.

        Returns:
            The URL, of settings alone; `None` where no application serves it or the settings don't say where.
        """
        tenants = self.known_tenants
        if not tenants or tenants[0].public_url is None or not all(one.known_tenants for one in self.publishers):
            return None
        pages = map_resources([indicator for one in self.publishers for indicator in one.indicators])
        return build_metadata_url(tenants[0].public_url, resource=find_resource(tenants[0], audiences), resources=pages)

    @property
    def indicators(self) -> tuple[str, ...]:
        """The resource indicators of the settings and of all nodes, those of the settings first.

        Raises:
            SettingsError: The environment lacks a setting, or has a bad one.
        """
        own = [audience for settings in self.tenants for audience in settings.audience]
        further = [audience for audiences in self.scheme_names.values() for audience in sorted(audiences or ())]
        return tuple(dict.fromkeys([*own, *further]))

    def check_organization_issuer(self, issuer: str | None) -> None:
        """Check that it is clear whose organizations a requirement means.

        Args:
            issuer: An issuer of the tenant, or `"any"`; `None` if the requirement does not say.

        Raises:
            SettingsError: There are several tenants and the requirement does not say, or no tenant has this issuer.
        """
        tenants = self.known_tenants if not self._substitutes else self.given
        if issuer is None and len(tenants) > 1:
            raise SettingsError(
                "organization: this API accepts several tenants, so an organization's id alone is ambiguous; say whose "
                f'organizations are meant: Organization.from_path(issuer="{tenants[0].issuer}"), or issuer="any" if '
                "the handler looks data up by claims.iss and the organization's id"
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
        """Give what verifies the tokens.

        Raises:
            SettingsError: The environment lacks a setting, or has a bad one.
        """
        return self._load().verifier

    async def load_beside(self) -> Verifier[ClaimsT]:
        """Give the same without blocking the loop: the environment may mean a `.env` file."""
        verifier = self.verifier
        return await asyncio.to_thread(self.load) if verifier is None else verifier

    @contextmanager
    def replaced(
        self, settings: LogtoSettings, *, clock: Clock, http_transport: "httpx.AsyncBaseTransport"
    ) -> Generator[None]:
        """Verify by other settings for the length of a block, with keys and remembered tokens of their own; for tests.

        Blocks may overlap and end in any order: the one that was begun last counts.

        Args:
            settings: The settings. The environment is not read.
            clock: The clocks.
            http_transport: What sends requests instead of the network.
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
        # One queue for all tenants: its turns are the application's share of the event loop.
        turns = Turns(max_waiting=max(settings.max_waiting_verifications for settings in tenants))

        def build(settings: LogtoSettings) -> TokenVerifier[ClaimsT]:
            return self._build_one(
                settings, clock=clock, http_transport=http_transport, turns=turns, is_one_of_several=len(tenants) > 1
            )

        if len(tenants) == 1:
            return _Parts(tuple(tenants), build(tenants[0]), clock)
        if self._opaque is not None:
            raise SettingsError(
                "expected one tenant where opaque tokens are accepted: they name no issuer to choose by"
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
