"""`LogtoAuth`, the security scheme of an application, and the default one that is configured by the environment.

No `from __future__ import annotations` here: FastAPI reads the annotations of `__call__`, and if the dependency is an
object it finds no module in which to resolve string annotations.
"""

import re
import ssl
from collections.abc import AsyncGenerator, Callable, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from fastapi import FastAPI
from typing_extensions import Unpack

from fastapi_logto import startup
from fastapi_logto.alternatives import AlternativeScheme
from fastapi_logto.clock import Clock
from fastapi_logto.description.metadata_pages import publish
from fastapi_logto.errors import SettingsError
from fastapi_logto.introspection import Introspection, check_introspection
from fastapi_logto.misuse import must_be_called
from fastapi_logto.organizations import OrganizationSource
from fastapi_logto.provider.health import ProviderHealth, combine_health
from fastapi_logto.requirements import Requirement
from fastapi_logto.revocation.revocations import Revocations, check_revocations
from fastapi_logto.schemes import OptionalScheme, OrganizationScheme, TokenScheme
from fastapi_logto.settings import LogtoSettings, SettingsOptions, check_audiences
from fastapi_logto.state import NOT_GIVEN, AuthState, collect_tenants
from fastapi_logto.verification.checks import Caller
from fastapi_logto.verification.claims import ClaimsT, check_claims_model
from fastapi_logto.verification.tenants import AudiencePolicy

if TYPE_CHECKING:
    import httpx

_CALL_IT: Final = (
    "expected a requirement, found a function that creates one; call it, as in "
    'Depends(auth.require_scopes("read:user"))'
)


class LogtoAuth(TokenScheme[ClaimsT]):
    """Protects routes with access tokens of one or several Logto tenants.

    `Depends(auth)` returns the claims of any valid token. `Depends(auth.require_scopes("read:user"))` also requires
    scopes. The other `require…` methods add other conditions. FastAPI's own `Security(auth, scopes=[...])` checks
    scopes too, except if `app.dependency_overrides` replaces `auth`; with `fastapi_logto.testing.override`, it does.

    The constructor does no I/O and needs no running event loop. Without settings or arguments, the environment is read
    at the first use, so an import of the application never fails because of missing settings.

    The defaults of the settings (`issuers` and below) are those of `LogtoSettings`.

    Args:
        endpoint: URL of the tenant. A trailing slash or `/oidc` is ignored.
        audience: Resource indicators of the API in Logto; one or more. They must match exactly: an extra slash
            makes it a different resource.
        settings: The settings, instead of arguments; a list for several tenants. A token is verified with the settings
            of the tenant whose issuer it names.
        claims_model: A subclass of `TokenClaims` with the tenant's custom claims.
        scheme_name: The name in OpenAPI. It must be unique within an application.
        introspection: Accept opaque tokens, with `fastapi_logto.introspection.Introspection`.
        revocations: Reject tokens that were revoked, with `fastapi_logto.revocation.Revocations`.
        clock: Wall time and monotonic time; for tests.
        http_transport: The httpx transport; for tests.
        ssl_context: The TLS context, e.g. for a private certificate authority.
        issuers: Additional issuers to accept, such as a custom domain of the same tenant, including `/oidc`.
        fetch_endpoint: Base URL for fetching, if it differs from `endpoint`, e.g. inside a container network.
        allow_http: Allow plain http for hosts other than loopback: to fetch keys, and in `public_url`.
        allowed_jwks_origins: Additional origins that may host the key set, besides the origin of the discovery
            document.
        algorithms: Accepted signature algorithms. A token header can't add to them.
        token_types: Accepted values of the `typ` header. Older versions of Logto also need `JWT`, or `absent` for none.
        required_claims: Required claims besides `iss`, `aud`, `sub` and `exp`, which are always required. A value
            replaces the default, which is `client_id`, `iat` and `jti`.
        leeway_seconds: Allowed clock difference for `exp` and `nbf`, in seconds, 0 to 60.
        max_token_bytes: Maximum length of a token, in bytes.
        keys_ttl_seconds: Age at which the key set expires. It is refreshed earlier, at about 80 % of this age.
        keys_cooldown_seconds: Minimum time between two fetches for unknown keys.
        keys_max_stale_seconds: How long expired keys may be used while Logto is unreachable; 0 disables this.
        fetch_timeout_seconds: Timeout for fetching one whole document.
        token_cache_size: Maximum number of cached verified tokens; 0 disables the cache.
        token_cache_bytes: Approximate memory limit for cached tokens, in bytes.
        max_waiting_verifications: Maximum number of new tokens that wait to be verified; further ones get 503.
        accept_organization_tokens: Accept organization tokens on routes that require an organization. Such a
            token names no API, so it is valid for every API of the tenant.
        accept_subprotocol_tokens: Also accept the token of a WebSocket as a subprotocol after `bearer`, for browsers,
            which can't set headers. The handler must accept the subprotocol `bearer`.
        swagger_client_id: Client id of the single-page application that Swagger UI signs in with.
        public_url: Public URL of this API. Error responses then link to its metadata (RFC 9728).
        documentation_url: URL of the documentation for client developers, published in the metadata.

    Raises:
        SettingsError: An argument is missing, invalid or unknown, both settings and arguments are given, two tenants
            have the same issuer, or there are several tenants and `introspection`.
        TypeError: `claims_model`, `introspection` or `revocations` has another type.

    References:
        RFC 6750; RFC 9068.
    """

    def __init__(
        self,
        *,
        endpoint: str = NOT_GIVEN,
        audience: str | Collection[str] = NOT_GIVEN,
        settings: LogtoSettings | Sequence[LogtoSettings] | None = None,
        claims_model: type[ClaimsT] | None = None,
        scheme_name: str = "Logto",
        introspection: Introspection | None = None,
        revocations: Revocations | None = None,
        clock: Clock | None = None,
        http_transport: "httpx.AsyncBaseTransport | None" = None,
        ssl_context: ssl.SSLContext | None = None,
        **options: Unpack[SettingsOptions],
    ) -> None:
        try:
            tenants = collect_tenants(settings, {"endpoint": endpoint, "audience": audience, **options})
        finally:
            del endpoint, audience, settings, options  # error trackers show frames, and a URL may have a password
        state = AuthState(
            tenants,
            claims_model=check_claims_model(claims_model),
            clock=clock or Clock(),
            http_transport=http_transport,
            ssl_context=ssl_context,
            introspection=check_introspection(introspection),
            revocations=check_revocations(revocations),
        )
        self._set_up(state, None, scheme_name=scheme_name)

    def _set_up(self, state: AuthState[ClaimsT], audiences: frozenset[str] | None, *, scheme_name: str) -> None:
        """Create the dependencies; without `audiences`, those of the settings count. Reads no settings."""
        # Opaque tokens have no audience: they are accepted for the API of the settings only.
        own = AudiencePolicy(audiences, accepts_opaque=audiences is None)
        super().__init__(state, own, scheme_name=scheme_name)
        self._optional = OptionalScheme(self)
        self._in_organization = OrganizationScheme(state, audiences, scheme_name=scheme_name)
        if state.scheme_names.setdefault(scheme_name, audiences) != audiences:
            raise SettingsError(
                f"scheme_name: expected a unique name, found {scheme_name!r}, which another scheme has; choose another"
            )

    @must_be_called(_CALL_IT)
    def require_scopes(self, *scopes: str) -> Requirement[ClaimsT]:
        """Return a dependency that requires all of the scopes.

        Args:
            *scopes: The scopes, one per argument.

        Returns:
            A value for `Depends`. Two with the same scopes are equal.

        Raises:
            ValueError: No scope is given, or one is empty or contains spaces.
        """
        return Requirement(self, scopes=scopes)

    @must_be_called(_CALL_IT)
    def require_any_scope(self, *scopes: str) -> Requirement[ClaimsT]:
        """Return a dependency that requires at least one of the scopes.

        Args:
            *scopes: The scopes, one per argument.

        Returns:
            A value for `Depends`. Two with the same scopes are equal.

        Raises:
            ValueError: No scope is given, or one is empty or contains spaces.
        """
        return Requirement(self, any_scope=scopes)

    @must_be_called(_CALL_IT)
    def require_organization(
        self, *scopes: str, organization: OrganizationSource | None = None
    ) -> Requirement[ClaimsT]:
        """Return a dependency that requires a token for the organization that the request names.

        Organization tokens and organization-level API tokens are accepted. Without scopes, every member is accepted,
        also members without a role.

        Args:
            *scopes: Scopes that must all be granted in this organization.
            organization: Where the request names it; by default in the path parameter `organization_id`.

        Returns:
            A value for `Depends`.

        Raises:
            ValueError: A scope is empty or contains spaces.
            SettingsError: There are several tenants, and `organization` names no issuer or an unknown one.
            TypeError: `organization` is not an `OrganizationSource`.
        """
        source = OrganizationSource.from_path() if organization is None else organization
        return self.require(scopes=scopes or None, organization=source)

    @must_be_called(_CALL_IT)
    def require_user(self, *scopes: str) -> Requirement[ClaimsT]:
        """Return a dependency that requires a user as the caller, not a machine, and all `scopes`, if any."""
        return self.require(scopes=scopes or None, caller="user")

    @must_be_called(_CALL_IT)
    def require_machine(self, *scopes: str) -> Requirement[ClaimsT]:
        """Return a dependency that requires a machine as the caller, not a user, and all `scopes`, if any."""
        return self.require(scopes=scopes or None, caller="machine")

    @must_be_called(_CALL_IT)
    def require(
        self,
        *,
        scopes: Collection[str] | None = None,
        any_scope: Collection[str] | None = None,
        organization: OrganizationSource | None = None,
        caller: Caller | None = None,
        clients: Collection[str] | None = None,
        actor: bool | Collection[str] | None = None,
        claims: Callable[[ClaimsT], bool] | None = None,
        description: str | None = None,
    ) -> Requirement[ClaimsT]:
        """Return a dependency that requires several conditions, all of which must hold.

        Args:
            scopes: Scopes that must all be granted.
            any_scope: Scopes of which at least one must be granted.
            organization: Where the request names the organization that the token must be for.
            caller: `"user"` or `"machine"`.
            clients: Client ids of the applications that may call, which must match exactly; an id may be a URL.
            actor: `True` requires an actor who acts on behalf of the subject, `False` rejects one, and a list of
                subjects requires one of these actors. Only the outermost actor counts (RFC 8693 section 4.1).
            claims: A function that takes the claims and returns exactly `True` to accept them. If it raises an error,
                e.g. because a claim is missing, the request is rejected.
            description: What that function requires, in words that callers may read; by default the first line of its
                docstring.

        Returns:
            A value for `Depends`. Two with the same conditions are equal.

        Raises:
            ValueError: No condition is given, or an invalid one, such as an empty list or a coroutine function.
            TypeError: `organization` is not an `OrganizationSource`.
            SettingsError: There are several tenants, and `organization` has no `issuer`.
        """
        return Requirement(
            self if organization is None else self._in_organization,
            scopes=scopes,
            any_scope=any_scope,
            organization=organization,
            caller=caller,
            clients=clients,
            actor=actor,
            claims=claims,
            description=description,
        )

    @property
    def optional(self) -> OptionalScheme[ClaimsT]:
        """The dependency that returns `None` if a request has no bearer token: no header, or one of another scheme.

        If there is a bearer token, it is checked: an invalid one is always rejected, never treated as anonymous.
        """
        return self._optional

    @must_be_called(_CALL_IT)
    def unless(self, find_caller: Callable[..., Any]) -> AlternativeScheme[ClaimsT]:
        """Return a dependency that requires a token, unless another dependency has found the caller.

        OpenAPI lists both as alternatives. Scopes of `Security(auth.unless(...), scopes=[...])` are required of tokens
        only. What `find_caller` accepts is **not** checked.

        Args:
            find_caller: A dependency that checks other credentials, such as an API key. It returns their owner, raises
                an error for invalid ones, and returns `None` if the request has none.

        Returns:
            A value for `Depends`, which returns the owner of the other credentials or the claims of the token.

        Raises:
            TypeError: `find_caller` is not callable, or is a class, or a security scheme such as `APIKeyHeader`, which
                does not check the key.
        """
        return AlternativeScheme(self, find_caller=find_caller)

    @must_be_called(_CALL_IT)
    def for_audience(self, *audiences: str, scheme_name: str | None = None) -> "LogtoAuth[ClaimsT]":
        """Return a scheme for other API resources of the same tenant. It shares keys and cached tokens with this one.

        A token for one of these resources is rejected by this scheme, and vice versa. With several tenants, a tenant's
        tokens are accepted only for the audiences in its own settings. An organization token names no API, so a
        requirement for an organization accepts it here too, unless `accept_organization_tokens` is false.

        Args:
            *audiences: The resource indicators, which must match exactly.
            scheme_name: The name in OpenAPI; by default this scheme's name followed by the first audience.

        Returns:
            The scheme.

        Raises:
            SettingsError: No audience is given; one is empty or the audience of organization tokens; with several
                tenants, none of them is in the settings of a tenant; or another scheme has the same name.
        """
        checked = check_audiences(audiences)
        given = self._state.given
        if len(given) > 1 and not any(audience in settings.audience for settings in given for audience in checked):
            raise SettingsError(
                f"audience: expected one in the settings of a tenant, found {', '.join(checked)}; add it to the "
                "settings, because with several tenants a token is accepted only for audiences of its tenant"
            )
        name = scheme_name or f"{self.scheme_name}-{re.sub('[^A-Za-z0-9._-]+', '-', checked[0])}"
        made: LogtoAuth[ClaimsT] = object.__new__(type(self))
        made._set_up(self._state, frozenset(checked), scheme_name=name)
        return made

    @property
    def schemes(self) -> tuple[Callable[..., Any], ...]:
        """All dependencies that return claims, to override each of them in `app.dependency_overrides`.

        These are the scheme itself, `optional`, and the one that requirements for organizations use.
        """
        return (self, self._optional, self._in_organization)

    @property
    def settings(self) -> LogtoSettings:
        """The settings of the first tenant, read from the environment if necessary.

        Raises:
            SettingsError: A setting in the environment is missing or invalid.
        """
        return self._state.tenants[0]

    def health(self) -> ProviderHealth:
        """Return the state of the cached keys, combined for all tenants, and start a fetch if one is due.

        `is_ready` is also false if `on_outage` is `"closed"` and the revocation store has been unavailable for more
        than `outage_seconds`.

        Raises:
            SettingsError: A setting in the environment is missing or invalid.
        """
        keys = combine_health([tenant.key_source.health() for tenant in self._state.load().tenants])
        revocations = self._state.revocations
        return keys if revocations is None or revocations.health().is_ready else replace(keys, is_ready=False)

    def install(
        self,
        app: FastAPI,
        *,
        lifespan: bool = True,
        swagger: bool = True,
        metadata: bool = True,
        scopes: Mapping[str, str] | None = None,
    ) -> None:
        """Set up an application: check it at startup, fetch the keys early, sign in on the docs page, serve metadata.

        Routes are protected without it. It also covers routes that are added later, before the first request. A
        `RefusalError` of `auth.verify` or `requirement.check` in your own routes and dependencies becomes an error
        response, unless the application has its own handler for it.

        Args:
            app: The application.
            lifespan: Check settings and routes, and fetch the keys, at startup. The application starts even if Logto is
                unreachable. Without it, e.g. in a mounted application whose lifespan is not run, the settings are read
                when the docs page is first requested; reading a `.env` file then blocks the event loop.
            swagger: Sign in with PKCE on the docs page, and add requirements and error responses to the OpenAPI
                document. If you replace `app.openapi` by your own function, do so before calling `install`, or call the
                previous `app.openapi` in it.
            metadata: Serve the metadata of the protected resource (RFC 9728) below
                `/.well-known/oauth-protected-resource`. If `public_url` is set, error responses link to it.
            scopes: Descriptions of scopes by name, for the docs page. The metadata lists these scopes too, even if no
                route requires them, because a handler may check a scope itself.
        """
        startup.install_handler(app, self._state)
        self._state.scope_descriptions.update({str.__str__(name): text for name, text in (scopes or {}).items()})
        document = startup.install_openapi(app, self._state) if swagger else None
        if lifespan:
            startup.install_lifespan(app, self._state, document)
        if metadata:
            publish(app, self._state)

    @asynccontextmanager
    async def lifespan(self, _app: object = None) -> AsyncGenerator[None]:
        """Check the settings, fetch the keys and load revocations, for applications with their own lifespan.

        Routes are **not** checked; `install(app)` does that.

        Raises:
            SettingsError: A setting in the environment is missing or invalid.
        """
        async with startup.keep_keys(self._state):
            yield


auth: Final = LogtoAuth()
"""The default scheme. It is configured by `LOGTO_…` variables or a `.env` file, which are read at its first use."""

require_scopes: Final = auth.require_scopes
"""The method `require_scopes` of the default scheme."""
