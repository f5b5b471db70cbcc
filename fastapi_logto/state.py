"""The state that the schemes of one `LogtoAuth` share: the settings and the token verifier, built at the first use."""

import asyncio
import ssl
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from threading import Lock
from typing import TYPE_CHECKING, Any, Final, Generic, NamedTuple

from fastapi_logto.clock import Clock
from fastapi_logto.errors import SettingsError
from fastapi_logto.introspection import Introspection
from fastapi_logto.protected_resource import build_metadata_url, find_resource, map_resources
from fastapi_logto.provider.discovery import build_metadata_source
from fastapi_logto.provider.endpoints import Client, Endpoints, as_secret
from fastapi_logto.provider.key_source import build_key_source
from fastapi_logto.provider.transport import Transport
from fastapi_logto.revocation.revocations import Revocations, find_feeds
from fastapi_logto.settings import LogtoSettings
from fastapi_logto.single_flight import running_loop
from fastapi_logto.verification.claims import ClaimsT, TokenClaims
from fastapi_logto.verification.introspector import Introspector
from fastapi_logto.verification.revocation_feed import RevocationFeed
from fastapi_logto.verification.tenants import Tenant
from fastapi_logto.verification.turns import Turns
from fastapi_logto.verification.verifier import TokenVerifier

if TYPE_CHECKING:
    import httpx

SERVED_PAGES: Final = "fastapi_logto.served_pages"
"""The key in the ASGI scope for the `ServedPages` of each application that a request has passed, in this order."""

NOT_GIVEN: Final[Any] = object()
"""The default of an argument for which `None` is an error: it must not select the environment instead."""

_NOBODY: Final[frozenset[str]] = frozenset()


@dataclass(frozen=True, slots=True, eq=False)
class _Parts(Generic[ClaimsT]):
    """Objects that are replaced together. `issuers` are those of the tenant that has an issuer."""

    tenants: tuple[LogtoSettings, ...]
    verifier: TokenVerifier[ClaimsT]
    clock: Clock
    issuers: Mapping[str, frozenset[str]]


class ServedPages(NamedTuple):
    """The metadata pages of an application that a request has passed.

    Attributes:
        states: All states whose metadata the application serves.
        mount_path: The path at which the application is mounted in others; empty if it is not mounted.
    """

    states: "Sequence[AuthState[Any]]"
    mount_path: str


class AuthState(Generic[ClaimsT]):
    """The settings of a `LogtoAuth` and the verifier of its tokens, built at the first use.

    Attributes:
        scheme_names: OpenAPI names of the schemes, and their audiences; `None` for those of the settings.
        scope_descriptions: Descriptions of scopes that the application provides, by name.
        given: The settings that the application passed; empty if the environment is to be read.
        claims_model: The class of the claims.
        revocations: The revocations that are checked; `None` for none.
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
        introspection: Introspection | None = None,
        revocations: Revocations | None = None,
    ) -> None:
        """Store what is needed to build the verifier. No I/O.

        Without settings, the environment is read at the first use. `SettingsError` if two tenants have an issuer in
        common, or if several tenants are combined with opaque tokens.
        """
        self.scheme_names: dict[str, frozenset[str] | None] = {}
        self.scope_descriptions: dict[str, str] = {}
        self.given: tuple[LogtoSettings, ...] = tuple(settings)
        self.claims_model: type[ClaimsT] = claims_model
        self.revocations: Revocations | None = revocations
        self.clock: Clock = clock
        self.verifier: TokenVerifier[ClaimsT] | None = None
        self._own_clock = clock
        self._http_transport = http_transport
        self._ssl_context = ssl_context
        self._introspection = introspection
        self._lock = Lock()
        self._own: _Parts[ClaimsT] | None = None
        self._substitutes: list[_Parts[ClaimsT]] = []
        self._built: _Parts[ClaimsT] | None = None
        if revocations is not None:
            feeds = find_feeds(revocations)
            # Its calls need the clock even before the settings are read.
            feeds.use_clock(clock)
            feeds.verifiers.attach(self)
        if settings:
            self._own = self._build_own(settings)
            self._choose()

    @property
    def tenants(self) -> tuple[LogtoSettings, ...]:
        """The settings of each tenant. They are read from the environment if that has not happened yet."""
        return self._load().tenants

    @property
    def known_tenants(self) -> tuple[LogtoSettings, ...]:
        """The settings that are known already; empty before the environment was read."""
        built = self._built
        return built.tenants if built else ()

    @property
    def accepts_opaque_tokens(self) -> bool:
        """Whether opaque tokens are introspected."""
        return self._introspection is not None

    def find_resources(self, audiences: frozenset[str] | None) -> frozenset[str]:
        """Return the resource indicators that a scheme accepts; empty while there are no valid settings.

        `audiences=None` means those of the settings.
        """
        if audiences is not None:
            return audiences
        try:
            return frozenset(audience for settings in self.tenants for audience in settings.audience)
        except SettingsError:
            return frozenset()

    def find_metadata_url(self, audiences: frozenset[str] | None, *, scope: Mapping[str, Any]) -> str | None:
        """Return the URL of the metadata for a challenge; `audiences=None` means those of the settings.

        It is built from settings and the path of a mount. `None` if no application that the request has passed serves
        the page, or if `public_url` is not set.
        """
        tenants, pages = self.known_tenants, self.find_pages(scope)
        if not tenants or tenants[0].public_url is None or pages is None:
            return None
        if not all(one.known_tenants for one in pages.states):
            return None
        return build_metadata_url(
            tenants[0].public_url,
            mount_path=pages.mount_path,
            resource=find_resource(tenants[0], audiences),
            resources=map_resources([indicator for one in pages.states for indicator in one.indicators]),
        )

    def find_pages(self, scope: Mapping[str, Any]) -> "ServedPages | None":
        """Return the outermost application with this state's metadata that a request has passed; `None` if none has."""
        return next((pages for pages in scope.get(SERVED_PAGES, ()) if self in pages.states), None)

    @property
    def indicators(self) -> tuple[str, ...]:
        """The resource indicators of the settings, followed by those of all schemes."""
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
                f'is ambiguous, found none; pass OrganizationSource.from_path(issuer="{tenants[0].issuer}"), or '
                'issuer="any" if the handler looks up data by claims.iss and the organization id'
            )
        if issuer not in {None, "any"} and tenants and not any(issuer in one.accepted_issuers for one in tenants):
            raise SettingsError(f"organization: expected an issuer of the settings or 'any', found issuer={issuer!r}")

    def find_organization_issuers(self, issuer: str | None) -> frozenset[str] | None:
        """Return the issuers of the tenant whose organizations a requirement means."""
        built = self._built
        # In a test, one connected issuer represents every tenant, and claims may come without any settings.
        if issuer == "any" or self._substitutes or built is None:
            return None
        if issuer is None:
            return None if len(built.tenants) == 1 else _NOBODY
        return built.issuers.get(issuer, _NOBODY)

    def watch(self, claims: TokenClaims, end: Callable[[], object]) -> Callable[[], None]:
        """Call `end` when a token is revoked; return how to stop this."""
        if self.revocations is None:
            return _do_nothing
        issuer = None if self.verifier is None else self.verifier.find_issuer(claims)
        return find_feeds(self.revocations).current.tokens.watch(claims, issuer=issuer, end=end)

    def load(self) -> TokenVerifier[ClaimsT]:
        """Return the verifier, and read the settings from the environment if that has not happened yet."""
        return self._load().verifier

    async def load_in_thread(self) -> TokenVerifier[ClaimsT]:
        """Return the verifier without blocking the loop: reading the environment may read a `.env` file.

        `RuntimeError` if the loop is not one of asyncio.
        """
        running_loop()
        verifier = self.verifier
        return await asyncio.to_thread(self.load) if verifier is None else verifier

    @contextmanager
    def replaced(
        self, settings: LogtoSettings, *, clock: Clock, http_transport: "httpx.AsyncBaseTransport"
    ) -> Generator[None]:
        """Use other settings inside a block, with separate keys, cached tokens and revocations; for tests.

        The environment is not read. Blocks may overlap and end in any order: the one that started last applies.
        """
        with nullcontext() if self.revocations is None else find_feeds(self.revocations).replaced(clock=clock) as feed:
            parts = self._build([settings], clock=clock, http_transport=http_transport, revocations=feed)
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
            self._own = self._build_own(settings)
            self._choose()
            return self._own

    def _choose(self) -> None:
        self._built = self._substitutes[-1] if self._substitutes else self._own
        self.verifier = self._built.verifier if self._built else None
        self.clock = self._built.clock if self._built else self._own_clock

    def _build_own(self, tenants: Sequence[LogtoSettings]) -> _Parts[ClaimsT]:
        feed = None if self.revocations is None else find_feeds(self.revocations).use_clock(self._own_clock)
        return self._build(tenants, clock=self._own_clock, http_transport=self._http_transport, revocations=feed)

    def _build(
        self,
        tenants: Sequence[LogtoSettings],
        *,
        clock: Clock,
        http_transport: "httpx.AsyncBaseTransport | None",
        revocations: RevocationFeed | None,
    ) -> _Parts[ClaimsT]:
        if self._introspection is not None and len(tenants) > 1:
            raise SettingsError(
                f"expected one tenant if opaque tokens are accepted, found {len(tenants)}: opaque tokens name no "
                "issuer that selects a tenant; use one LogtoAuth for each tenant"
            )
        introspector = None
        built: list[Tenant] = []
        for settings in tenants:
            transport = Transport(
                timeout_seconds=settings.fetch_timeout_seconds,
                http_transport=http_transport,
                ssl_context=self._ssl_context,
            )
            metadata = build_metadata_source(settings, transport=transport, clock=clock)
            keys = build_key_source(settings, metadata=metadata, transport=transport, clock=clock)
            built.append(Tenant(settings, key_source=keys, is_one_of_several=len(tenants) > 1))
            if self._introspection is not None:
                endpoints = Endpoints(metadata=metadata, transport=transport)
                introspector = _build_introspector(self._introspection, endpoints=endpoints, clock=clock)
        verifier = TokenVerifier(
            built,
            clock=clock,
            claims_model=self.claims_model,
            # One queue for all tenants, because its turns limit the application's share of the event loop.
            turns=Turns(max_waiting=max(settings.max_waiting_verifications for settings in tenants)),
            introspector=introspector,
            revocations=revocations,
        )
        issuers = {issuer: one.accepted_issuers for one in tenants for issuer in one.accepted_issuers}
        return _Parts(tuple(tenants), verifier, clock, issuers)


def _do_nothing() -> None:
    """Stop watching nothing."""


def _build_introspector(config: Introspection, *, endpoints: Endpoints, clock: Clock) -> Introspector:
    return Introspector(
        Client(config.client_id, as_secret(config.client_secret)),
        endpoints=endpoints,
        allowed_clients=config.allowed_clients,
        cache_seconds=config.cache_seconds,
        max_waiting=config.max_waiting,
        monotonic=clock.monotonic,
    )


def collect_tenants(
    settings: LogtoSettings | Sequence[LogtoSettings] | None, arguments: Mapping[str, Any]
) -> tuple[LogtoSettings, ...]:
    """Return the settings of each tenant; none if the environment is to be read. `NOT_GIVEN` is no argument."""
    arguments = {name: value for name, value in arguments.items() if value is not NOT_GIVEN}
    try:
        if settings is None:
            return (LogtoSettings(**arguments),) if arguments else ()
        if arguments:
            raise SettingsError(
                f"expected settings or arguments, found both: settings and {', '.join(arguments)}; pass one of them"
            )
    finally:
        # A URL may contain a password, and error trackers show what they find in a frame.
        del arguments
    given: list[object] = list(settings) if isinstance(settings, list | tuple) else [settings]
    tenants = tuple(one for one in given if isinstance(one, LogtoSettings))
    kinds = [type(one).__name__ for one in given]
    # A URL that is passed by mistake, too.
    del settings, given
    if not tenants or len(tenants) < len(kinds):
        found = ", ".join(kinds) or "none"
        raise SettingsError(
            f"settings: expected a LogtoSettings, or a list with one for each tenant, found {found}; to configure one "
            "tenant, pass LogtoAuth(endpoint=..., audience=...)"
        )
    return tenants
