"""The API as a client: tokens for its own calls to other APIs, and for calls on behalf of its callers."""

import ssl
from collections.abc import Collection
from functools import partial
from typing import Final

import httpx
from pydantic import SecretStr

from fastapi_logto.cache import TokenCache
from fastapi_logto.clock import Clock
from fastapi_logto.errors import GrantRefusedError, SettingsError
from fastapi_logto.exchanges import EXCHANGE_GRANT, Exchanges, SubjectTokenType
from fastapi_logto.flights import Flights
from fastapi_logto.grants import CACHE_BYTES, Grants, IssuedToken, KeptToken, build_form, build_key, is_token
from fastapi_logto.machine_auth import MachineAuth
from fastapi_logto.metadata import build_metadata_source
from fastapi_logto.oauth import Client, Form, is_encodable
from fastapi_logto.settings import LogtoSettings
from fastapi_logto.strict_json import JsonObject
from fastapi_logto.transport import Transport

__all__ = ["IssuedToken", "LogtoClient", "MachineAuth", "SubjectTokenType"]

_MACHINE_GRANT: Final = "client_credentials"
_CACHE_SIZE: Final = 10_000


class LogtoClient:
    """Gets tokens as a machine-to-machine application of a tenant, and caches them until shortly before they expire.

    Constructing one does no I/O and needs no running loop. It may be shared by the whole application.

    The machine's own tokens, exchanges and userinfo are requested independently of each other: if the provider
    refuses one kind for a while, or is slow with it, the others continue. While the provider fails, each kind is
    tried once after 1, 2, 4 … 30 s, and other calls raise `GrantUnavailableError` at once.

    Args:
        endpoint: URL of the tenant.
        client_id: The machine-to-machine application's id.
        client_secret: Its secret; in no `repr`, error or log.
        fetch_endpoint: Where to reach the tenant, if that differs from `endpoint`.
        allow_http: Allow plain http to another host than this one. The secret is sent over it.
        timeout_seconds: Deadline for one response.
        max_waiting: How many exchanges of one kind of subject token, or userinfo requests, may be in flight.
        clock: The clocks; for tests.
        http_transport: Sends the requests instead of the network; for tests.
        ssl_context: For a private certificate authority.

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
        client_secret: str,
        fetch_endpoint: str | None = None,
        allow_http: bool = False,
        timeout_seconds: float = 5,
        max_waiting: int = 50,
        clock: Clock | None = None,
        http_transport: httpx.AsyncBaseTransport | None = None,
        ssl_context: ssl.SSLContext | None = None,
    ) -> None:
        self.client_id: str = client_id
        client = Client(client_id, SecretStr(client_secret))
        # What records local variables must not find it here.
        del client_secret
        if not client_id or not client.client_secret:
            raise SettingsError("client: expected client_id and client_secret, found an empty one")
        if not is_encodable(client_id + client.client_secret.get_secret_value()):
            raise SettingsError("client: expected client_id and client_secret in UTF-8, found a lone surrogate")
        if max_waiting < 1:
            raise SettingsError(f"client: expected max_waiting of 1 at least, found {max_waiting!r}")
        # A client does not use the audience: only what is known of the tenant is taken from the settings.
        settings = LogtoSettings(
            endpoint=endpoint,
            audience=client_id,
            fetch_endpoint=fetch_endpoint,
            allow_http=allow_http,
            fetch_timeout_seconds=timeout_seconds,
        )
        clock = clock or Clock()
        transport = Transport(timeout_seconds=timeout_seconds, http_transport=http_transport, ssl_context=ssl_context)
        self._allow_http = allow_http
        self._monotonic = clock.monotonic
        self._grants = Grants(
            client=client,
            metadata=build_metadata_source(settings, transport=transport, clock=clock),
            transport=transport,
            monotonic=clock.monotonic,
            max_waiting=max_waiting,
        )
        self._exchanges = Exchanges(self._grants, clock=clock)
        self._flights: Flights[bytes, KeptToken] = Flights()
        self._cache: TokenCache[KeptToken] = TokenCache(size=_CACHE_SIZE, max_bytes=CACHE_BYTES)

    def __repr__(self) -> str:
        """Show the id alone."""
        return f"LogtoClient(client_id={self.client_id!r})"

    async def get_token(
        self, resource: str, *, scopes: Collection[str] = (), organization_id: str | None = None
    ) -> IssuedToken:
        """Return a token of this machine for an API resource.

        Args:
            resource: The exact resource indicator; `https://tenant-id.logto.app/api` with the scope `all` for the
                tenant's Management API.
            scopes: Scopes to request. Those that the machine's roles do not have are absent from the token.
            organization_id: For the resource's permissions inside an organization that the machine is in.

        Returns:
            The token, from the cache while it lives for a minute more.

        Raises:
            GrantRefusedError: The credentials, the resource or the organization are refused.
            GrantUnavailableError: The provider can't be reached, has a fault, or has had too many requests.
            ValueError: A value is empty, or has no encoding in UTF-8.

        References:
            RFC 6749 section 4.4; RFC 8707 section 2.2.
        """
        form = build_form(_MACHINE_GRANT, resource=resource, scopes=scopes, organization_id=organization_id)
        return await self._get(form)

    async def get_organization_token(self, organization_id: str, *, scopes: Collection[str] = ()) -> IssuedToken:
        """Return an organization token of this machine: for no API, with permissions inside the organization.

        Args:
            organization_id: An organization that the machine is in.
            scopes: Organization permissions to request. Those that it does not have are absent from the token.

        Returns:
            The token, from the cache while it lives for a minute more.

        Raises:
            GrantRefusedError: The machine is not in that organization, or there is no such organization.
            GrantUnavailableError: As `get_token`.
            ValueError: As `get_token`.
        """
        return await self._get(
            build_form(_MACHINE_GRANT, resource=None, scopes=scopes, organization_id=organization_id)
        )

    async def exchange(
        self,
        subject_token: str,
        resource: str,
        *,
        scopes: Collection[str] = (),
        organization_id: str | None = None,
        actor_token: str | None = None,
        subject_token_type: SubjectTokenType = "access_token",  # noqa: S107 - the name of a type
    ) -> IssuedToken:
        """Return a token for another API on behalf of a user, in exchange for one of the user's.

        The application must be allowed token exchange in Logto. A machine's token can't be exchanged.

        The result is cached for the same subject token. A subject token that is revoked is exchanged from the cache
        for at most:

        - an access token: 5 minutes, and never past the `exp` of a JWT;
        - a personal access token: 30 seconds;
        - a subject token for impersonation (`sub_…`), which is valid for one exchange: never, and each call sends
          its own request.

        Args:
            subject_token: The caller's access token, after it was verified; a subject token that was created for
                impersonation; or a personal access token.
            resource: The other API's resource indicator.
            scopes: Scopes to request. Those that the user does not have are absent from the token.
            organization_id: For the permissions inside an organization that the user is in.
            actor_token: An access token of the party that acts for the user; it results in the claim `act`.
            subject_token_type: The kind of `subject_token`.

        Returns:
            The token; from the cache as above, while it lives for a minute more.

        Raises:
            GrantRefusedError: A token is expired, used up, not the user's, or has characters that no token has; the
                resource or organization is refused.
            GrantUnavailableError: As `get_token`; or more than `max_waiting` exchanges are in flight. Exchanges that
                succeeded within the last hour have as many separate places.
            ValueError: As `get_token`; or a token is empty.

        References:
            RFC 8693 section 2.
        """
        subject, actor = SecretStr(subject_token), None if actor_token is None else SecretStr(actor_token)
        # What records local variables must not find them here.
        del subject_token, actor_token
        return await self._exchanges.exchange(
            build_form(EXCHANGE_GRANT, resource=resource, scopes=scopes, organization_id=organization_id),
            subject_token=subject,
            subject_token_type=subject_token_type,
            actor_token=actor,
        )

    async def get_userinfo(self, token: str) -> JsonObject:
        """Return the profile of a user.

        Args:
            token: An opaque access token of the user with the scope `openid`. Logto refuses a token for an API here.

        Returns:
            The claims, `sub` among them.

        Raises:
            GrantRefusedError: The token is not valid for this.
            GrantUnavailableError: As `get_token`; or more than `max_waiting` such requests are in flight.

        References:
            OpenID Connect Core 1.0 section 5.3.
        """
        secret = SecretStr(token)
        del token
        if not is_token(secret.get_secret_value()):
            raise GrantRefusedError("userinfo: no bearer token", status=401, error="invalid_token", description="")
        return await self._grants.fetch_userinfo(secret)

    def auth(
        self, resource: str, *, base_url: str, scopes: Collection[str] = (), organization_id: str | None = None
    ) -> MachineAuth:
        """Return the `auth` of an `httpx.AsyncClient`, which signs its requests to one API.

        A request to another scheme, host or port than `base_url` raises `OriginError` and is not sent: a token
        must not follow a link that came from outside. When httpx follows a redirect to another origin, it removes
        the token.

        Args:
            resource: As in `get_token`.
            base_url: A URL of the API, with https, or http on a loopback address (or with the client's
                `allow_http`). Only its scheme, host and port count.
            scopes: As in `get_token`.
            organization_id: As in `get_token`.

        Raises:
            SettingsError: `base_url` is invalid, or plain http to another host.
            ValueError: As `get_token`.

        Example:
            ```python
            url = "https://orders.example.com"
            http = httpx.AsyncClient(base_url=url, auth=client.auth(url, base_url=url))
            ```
        """
        form = build_form(_MACHINE_GRANT, resource=resource, scopes=scopes, organization_id=organization_id)
        return MachineAuth(partial(self._get, form), base_url=base_url, allow_http=self._allow_http)

    async def _get(self, form: Form, *, instead_of: IssuedToken | None = None) -> IssuedToken:
        key = build_key(form)
        kept, now = self._cache.find(key), self._monotonic()
        is_refused = kept is not None and kept.issued is instead_of and now >= kept.replaceable_at
        if kept is None or is_refused or now >= kept.until:
            kept = await self._flights.join_or_lead(key, partial(self._grants.request_token, form, kind="machine"))
            self._cache.keep(key, kept, weight=kept.weight)
        return kept.issued
