"""The API as a client: tokens for its own requests to other APIs, and for requests on behalf of its callers."""

import ssl
from collections.abc import Awaitable, Callable, Collection
from functools import partial
from typing import TYPE_CHECKING, Final, TypeVar, overload

from pydantic import SecretStr

from fastapi_logto.client.errors import GrantRefusedError
from fastapi_logto.client.exchanges import EXCHANGE_GRANT, Exchanges, SubjectTokenType
from fastapi_logto.client.grants import (
    CACHE_BYTES,
    Grants,
    IssuedToken,
    KeptToken,
    build_form,
    build_key,
    check_text,
    is_token,
)
from fastapi_logto.client.machine_auth import MachineAuth
from fastapi_logto.clock import Clock
from fastapi_logto.errors import SettingsError
from fastapi_logto.provider.discovery import build_metadata_source
from fastapi_logto.provider.endpoints import Client, Endpoints, Form, as_secret, is_encodable
from fastapi_logto.provider.transport import Transport
from fastapi_logto.settings import LONGEST_FETCH_SECONDS, LogtoSettings
from fastapi_logto.single_flight import Flights
from fastapi_logto.strict_json import JsonObject
from fastapi_logto.verification.cache import TokenCache

if TYPE_CHECKING:
    import httpx

ResultT = TypeVar("ResultT")

_MACHINE_GRANT: Final = "client_credentials"
_UNAUTHORIZED: Final = 401
_CACHE_SIZE: Final = 10_000


class LogtoClient:
    """Gets tokens as a machine-to-machine application of a tenant, and caches them until shortly before they expire.

    The constructor does no I/O and needs no running event loop. Create one client for the whole application.

    The machine's own tokens, exchanges, subject tokens and userinfo are requested independently: if the provider
    rejects or delays one kind of request, the others continue. While the provider fails, each kind is retried after
    1, 2, 4 … 30 s, and other calls raise `GrantUnavailableError` immediately.

    Args:
        endpoint: URL of the tenant.
        client_id: The client id of the machine-to-machine application.
        client_secret: Its secret, as a `str` or a `SecretStr`. It never appears in a `repr`, error or log.
        fetch_endpoint: Base URL for requests, if it differs from `endpoint`.
        allow_http: Allow plain http to hosts other than loopback. The secret is sent over it.
        timeout_seconds: Timeout for one whole response, at most 60 seconds.
        max_waiting: Maximum number of requests in flight: separately for exchanges of each type of subject token, for
            new subject tokens, and for userinfo. Requests for the machine's own tokens have no limit.
        clock: Wall time and monotonic time; for tests.
        http_transport: The httpx transport; for tests.
        ssl_context: The TLS context, e.g. for a private certificate authority.

    Raises:
        SettingsError: The endpoint is invalid, the id or secret is empty, or another value is out of range.

    References:
        RFC 6749 section 4.4; RFC 8693; RFC 8707.
    """

    def __init__(
        self,
        *,
        endpoint: str,
        client_id: str,
        client_secret: str | SecretStr,
        fetch_endpoint: str | None = None,
        allow_http: bool = False,
        timeout_seconds: float = 5,
        max_waiting: int = 50,
        clock: Clock | None = None,
        http_transport: "httpx.AsyncBaseTransport | None" = None,
        ssl_context: ssl.SSLContext | None = None,
    ) -> None:
        self.client_id: str = client_id
        secret = as_secret(client_secret)
        client = Client(client_id, secret)
        # What records local variables must not find it here.
        del client_secret
        try:
            if not client_id.strip() or not client.client_secret:
                raise SettingsError("client: expected client_id and client_secret, found an empty one")
            if not is_encodable(client_id + client.client_secret.get_secret_value()):
                raise SettingsError("client: expected client_id and client_secret in UTF-8, found a lone surrogate")
            if max_waiting < 1:
                raise SettingsError(f"client: expected max_waiting of at least 1, found {max_waiting!r}")
            if not 0 < timeout_seconds <= LONGEST_FETCH_SECONDS:
                expected = f"timeout_seconds above 0, at most {LONGEST_FETCH_SECONDS}"
                raise SettingsError(f"client: expected {expected}, found {timeout_seconds!r}")
            # A client does not use the audience; it only needs the settings of the tenant.
            settings = LogtoSettings(
                endpoint=endpoint,
                audience=client_id,
                fetch_endpoint=fetch_endpoint,
                allow_http=allow_http,
            )
        finally:
            # They may contain a password too.
            del endpoint, fetch_endpoint
        clock = clock or Clock()
        transport = Transport(timeout_seconds=timeout_seconds, http_transport=http_transport, ssl_context=ssl_context)
        self._allow_http = allow_http
        self._subject_tokens_url = f"{settings.fetch_base}/api/subject-tokens"
        self._monotonic = clock.monotonic
        self._grants = Grants(
            client=client,
            endpoints=Endpoints(
                metadata=build_metadata_source(settings, transport=transport, clock=clock), transport=transport
            ),
            monotonic=clock.monotonic,
            max_waiting=max_waiting,
        )
        self._exchanges = Exchanges(self._grants, clock=clock)
        self._flights: Flights[bytes, KeptToken] = Flights()
        self._cache: TokenCache[KeptToken] = TokenCache(size=_CACHE_SIZE, max_bytes=CACHE_BYTES)

    def __repr__(self) -> str:
        """Show only the client id."""
        return f"LogtoClient(client_id={self.client_id!r})"

    async def get_token(
        self, resource: str, *, scopes: Collection[str] = (), organization_id: str | None = None
    ) -> IssuedToken:
        """Return a token of this machine for an API resource.

        Args:
            resource: The exact resource indicator; `https://tenant-id.logto.app/api` with the scope `all` for the
                tenant's Management API.
            scopes: Scopes to request. Those that the machine's roles do not have are absent from the token.
            organization_id: Request the machine's permissions in this organization, of which it must be a member.

        Returns:
            The token, from the cache until shortly before it expires: a minute, or a tenth of its lifetime if that is
            shorter.

        Raises:
            GrantRefusedError: The credentials, the resource or the organization are rejected.
            GrantUnavailableError: The provider is unreachable, fails or received too many requests.
            ValueError: A value is empty or can't be encoded as UTF-8.

        References:
            RFC 6749 section 4.4; RFC 8707 section 2.2.
        """
        form = build_form(_MACHINE_GRANT, resource=resource, scopes=scopes, organization_id=organization_id)
        return await self._get(form)

    async def get_organization_token(self, organization_id: str, *, scopes: Collection[str] = ()) -> IssuedToken:
        """Return an organization token of this machine. It names no API; its scopes are organization permissions.

        Args:
            organization_id: An organization of which the machine is a member.
            scopes: Organization permissions to request. Those that the machine does not have are absent from the token.

        Returns:
            The token, from the cache until shortly before it expires: a minute, or a tenth of its lifetime if that is
            shorter.

        Raises:
            GrantRefusedError: The machine is not a member of the organization, or the organization does not exist.
            GrantUnavailableError: As in `get_token`.
            ValueError: As in `get_token`.
        """
        return await self._get(
            build_form(_MACHINE_GRANT, resource=None, scopes=scopes, organization_id=organization_id)
        )

    @overload
    async def exchange_token(
        self,
        subject_token: str | SecretStr,
        resource: str,
        *,
        scopes: Collection[str] = (),
        organization_id: str | None = None,
        actor_token: str | SecretStr | None = None,
        subject_token_type: SubjectTokenType = "access_token",  # noqa: S107 - the name of a type
    ) -> IssuedToken: ...

    @overload
    async def exchange_token(
        self,
        subject_token: str | SecretStr,
        resource: None = None,
        *,
        scopes: Collection[str] = (),
        organization_id: str,
        actor_token: str | SecretStr | None = None,
        subject_token_type: SubjectTokenType = "access_token",  # noqa: S107 - the name of a type
    ) -> IssuedToken: ...

    async def exchange_token(
        self,
        subject_token: str | SecretStr,
        resource: str | None = None,
        *,
        scopes: Collection[str] = (),
        organization_id: str | None = None,
        actor_token: str | SecretStr | None = None,
        subject_token_type: SubjectTokenType = "access_token",  # noqa: S107 - the name of a type
    ) -> IssuedToken:
        """Exchange a user's token for a token for another API, to call that API on behalf of the user.

        Without `resource` but with `organization_id`, the result is an organization token of the user. It names no API;
        its scopes are organization permissions.

        The application must be allowed token exchange in Logto. Logto rejects ID tokens, machine tokens, and tokens of
        suspended users and third-party applications.

        The result is cached for the same subject token, and returned even if that token is revoked meanwhile:

        - for an access token, at most 5 minutes, and never past the `exp` of a JWT;
        - for a personal access token, at most 30 seconds.

        For a subject token for impersonation (`sub_…`), nothing is cached: it is valid for one exchange.

        Args:
            subject_token: The caller's verified access token, a subject token for impersonation, e.g. from
                `create_subject_token`, or a personal access token.
            resource: The resource indicator of the other API.
            scopes: Scopes to request. Those that the user does not have are absent from the token.
            organization_id: Request the user's permissions in this organization, of which the user must be a member.
            actor_token: An access token of the user who acts for the subject. It must be opaque and have the scope
                `openid`; Logto issues such a token if no resource is requested, and rejects a JWT. The exchanged token
                names that user in the claim `act`.
            subject_token_type: The kind of `subject_token`.

        Returns:
            The token; from the cache as described above, and as in `get_token`.

        Raises:
            GrantRefusedError: The subject token or the actor token is expired, used up, of the wrong kind, not a user's
                or contains invalid characters (`invalid_grant`); or the resource or organization is rejected.
            GrantUnavailableError: As in `get_token`; or more than `max_waiting` exchanges are in flight. Exchanges that
                succeeded within the last hour have a separate limit of the same size.
            ValueError: As in `get_token`; or a token is empty, or neither `resource` nor `organization_id` is passed.

        References:
            RFC 8693 section 2.
        """
        subject, actor = as_secret(subject_token), None if actor_token is None else as_secret(actor_token)
        # Error trackers record local variables: the plain tokens must not be among them.
        del subject_token, actor_token
        if resource is None and organization_id is None:
            raise ValueError("exchange_token: expected a resource, an organization_id or both, found neither")
        return await self._exchanges.exchange(
            build_form(EXCHANGE_GRANT, resource=resource, scopes=scopes, organization_id=organization_id),
            subject_token=subject,
            subject_token_type=subject_token_type,
            actor_token=actor,
        )

    async def create_subject_token(self, user_id: str, *, resource: str) -> SecretStr:
        """Create a subject token for impersonation. `exchange_token` exchanges it once for a token of that user.

        **With this, your API can act as any user**: check the caller's permission first, and pass an `actor_token` to
        `exchange_token`, so that the token names the actor. The machine needs a role with the permission `all` of the
        Management API.

        Args:
            user_id: The user to impersonate.
            resource: The resource indicator of the Management API: `https://tenant-id.logto.app/api`, or
                `https://default.logto.app/api` for a self-hosted Logto.

        Returns:
            The subject token, `sub_…`, for `exchange_token`. It expires after ten minutes.

        Raises:
            GrantRefusedError: The user does not exist, the machine has no access to the Management API, or as in
                `get_token`.
            GrantUnavailableError: As in `get_token`; or more than `max_waiting` such requests are in flight.
            ValueError: As in `get_token`.
        """
        user_id = check_text("user_id", user_id)
        form = build_form(_MACHINE_GRANT, resource=resource, scopes=["all"], organization_id=None)
        return await self._call(
            form, lambda issued: self._grants.create_subject_token(user_id, url=self._subject_tokens_url, issued=issued)
        )

    async def get_userinfo(self, token: str | SecretStr) -> JsonObject:
        """Return the profile of a user.

        Args:
            token: An opaque access token of the user with the scope `openid`. Logto rejects a token for an API here.

        Returns:
            The claims, including `sub`.

        Raises:
            GrantRefusedError: The token is not valid for this.
            GrantUnavailableError: As in `get_token`; or more than `max_waiting` such requests are in flight.

        References:
            OpenID Connect Core 1.0 section 5.3.
        """
        secret = as_secret(token)
        del token
        if not is_token(secret.get_secret_value()):
            message = "userinfo: the token has characters that no bearer token has; pass the access token unchanged"
            raise GrantRefusedError(message, status=401, error="invalid_token", description="")
        return await self._grants.fetch_userinfo(secret)

    def machine_auth(
        self, resource: str, *, base_url: str, scopes: Collection[str] = (), organization_id: str | None = None
    ) -> MachineAuth:
        """Return an `auth` for `httpx.AsyncClient` that adds a machine token to requests to one API.

        Requests then also raise `GrantRefusedError` and `GrantUnavailableError`, which are no errors of httpx. A
        request to another scheme, host or port than that of `base_url` raises `OriginError` and is not sent: a token
        must not follow a link from outside. If httpx follows a redirect to another origin, it removes the token.

        Args:
            resource: As in `get_token`.
            base_url: A URL of the API, with https, or http on a loopback address (or with the client's
                `allow_http`). Only its scheme, host and port count.
            scopes: As in `get_token`.
            organization_id: As in `get_token`.

        Raises:
            SettingsError: `base_url` is invalid, or plain http to another host.
            ValueError: As in `get_token`.

        Example:
            ```python
            url = "https://orders.example.com"
            http = httpx.AsyncClient(base_url=url, auth=client.machine_auth(url, base_url=url))
            ```
        """
        try:
            form = build_form(_MACHINE_GRANT, resource=resource, scopes=scopes, organization_id=organization_id)
            return MachineAuth(partial(self._get, form), base_url=base_url, allow_http=self._allow_http)
        finally:
            # Error trackers show what they find in a frame, e.g. a password in a URL.
            del base_url

    async def _call(self, form: Form, call: Callable[[IssuedToken], Awaitable[ResultT]]) -> ResultT:
        """Make a call with a token of this machine, and once more with a new token if the first one is rejected."""
        issued = await self._get(form)
        try:
            return await call(issued)
        except GrantRefusedError as error:
            another = await self._get(form, instead_of=issued) if error.status == _UNAUTHORIZED else issued
            if another is issued:
                raise
        # The first token was signed with a key that the tenant no longer has.
        return await call(another)

    async def _get(self, form: Form, *, instead_of: IssuedToken | None = None) -> IssuedToken:
        key = build_key(form)
        kept, now = self._cache.find(key), self._monotonic()
        is_refused = kept is not None and kept.issued is instead_of and now >= kept.replaceable_at
        if kept is None or is_refused or now >= kept.until:
            kept = await self._flights.join_or_lead(key, partial(self._grants.request_token, form, kind="machine"))
            self._cache.keep(key, kept, weight=kept.weight)
        return kept.issued


async def call_management_api(
    client: LogtoClient, resource: str, call: Callable[[IssuedToken], Awaitable[ResultT]]
) -> ResultT:
    """Call the Management API with a token, and once more with a new token if `call` raises a refusal with status 401.

    For this package: users have no need of it.
    """
    form = build_form(_MACHINE_GRANT, resource=resource, scopes=["all"], organization_id=None)
    return await client._call(form, call)  # noqa: SLF001 # pyright: ignore[reportPrivateUsage] - of this module
