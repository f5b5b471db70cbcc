"""The API as a client: tokens for its own calls to other APIs, and for those it makes on behalf of its callers."""

import json
import math
import re
import ssl
from collections.abc import AsyncGenerator, Collection, Generator
from dataclasses import dataclass, field
from functools import partial
from typing import Final, Literal, Protocol, TypeAlias

import httpx
from typing_extensions import override

from fastapi_logto.cache import TokenCache, build_digest
from fastapi_logto.clock import Clock
from fastapi_logto.errors import (
    FetchError,
    GrantRefusedError,
    GrantUnavailableError,
    SettingsError,
    quote,
)
from fastapi_logto.flights import Flights
from fastapi_logto.metadata import ProviderMetadata, build_metadata_source
from fastapi_logto.oauth import read_retry_after, send_form
from fastapi_logto.settings import LogtoSettings
from fastapi_logto.strict_json import JsonObject
from fastapi_logto.transport import Answer, Transport

__all__ = ["IssuedToken", "LogtoClient", "MachineAuth", "SubjectTokenType"]

SubjectTokenType: TypeAlias = Literal["access_token", "personal_access_token"]
"""What is exchanged: an access or subject token, or a user's personal access token."""

_TOKEN_TYPES: Final[dict[SubjectTokenType, str]] = {
    "access_token": "urn:ietf:params:oauth:token-type:access_token",
    "personal_access_token": "urn:logto:token-type:personal_access_token",
}
_EXCHANGE: Final = "urn:ietf:params:oauth:grant-type:token-exchange"
_TOKEN68: Final = re.compile(r"[A-Za-z0-9\-._~+/]+=*\Z", re.ASCII)
_MARGIN_SECONDS: Final = 60.0
# An API that refuses every token must not cost a request for a new one each time.
_REPLACE_SECONDS: Final = 10.0
_LONGEST_SECONDS: Final = 24 * 3600.0
_CACHE_SIZE: Final = 10_000
_CACHE_BYTES: Final = 32 * 1024 * 1024
_TOO_MANY: Final = 429
_GONE: Final = frozenset({404, 410})
_ERROR: Final = re.compile(r"[a-z_]{1,80}\Z", re.ASCII)
_UNAUTHORIZED: Final = 401

Fields: TypeAlias = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class IssuedToken:
    """A token that the provider issued to this API.

    Attributes:
        token: The access token; left out of the `repr`.
        scopes: The scopes that were granted. **One that was asked for and not granted is absent here, and no
            error**: Logto issues the token all the same.
    """

    token: str = field(repr=False)
    scopes: frozenset[str]


@dataclass(frozen=True, slots=True)
class _Kept:
    """A token; until when it is given out, and from when on another one is asked for where an API refuses it."""

    issued: IssuedToken
    until: float
    until_replaced: float


class LogtoClient:
    """Gets tokens as a machine-to-machine application of a tenant, and keeps them until shortly before they expire.

    Making one does no I/O and needs no running loop. It may be shared by the whole application.

    Args:
        endpoint: URL of the tenant.
        client_id: The machine-to-machine application's id.
        client_secret: Its secret; in no `repr`, error or log.
        fetch_endpoint: Where to reach the tenant, when that differs from `endpoint`.
        allow_http: Allow plain http to another host than this one. The secret goes over it.
        timeout_seconds: Deadline for one answer.
        clock: The clocks; for tests.
        http_transport: What sends instead of the network; for tests.
        ssl_context: For a private certificate authority.

    Raises:
        SettingsError: The endpoint is bad, or the id or secret is empty.

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
        clock: Clock | None = None,
        http_transport: httpx.AsyncBaseTransport | None = None,
        ssl_context: ssl.SSLContext | None = None,
    ) -> None:
        if not client_id or not client_secret:
            raise SettingsError("client: expected client_id and client_secret, found an empty one")
        # The audience is of no use to a client: only what is known of the tenant is taken from the settings.
        settings = LogtoSettings(
            endpoint=endpoint,
            audience=client_id,
            fetch_endpoint=fetch_endpoint,
            allow_http=allow_http,
            fetch_timeout_seconds=timeout_seconds,
        )
        clock = clock or Clock()
        self.client_id: str = client_id
        self._client_secret = client_secret
        self._monotonic = clock.monotonic
        self._transport = Transport(
            timeout_seconds=timeout_seconds, http_transport=http_transport, ssl_context=ssl_context
        )
        self._metadata = build_metadata_source(settings, transport=self._transport, clock=clock)
        self._discovery: Flights[None, ProviderMetadata] = Flights()
        self._flights: Flights[bytes, _Kept] = Flights()
        self._cache: TokenCache[_Kept] = TokenCache(size=_CACHE_SIZE, max_bytes=_CACHE_BYTES)
        self._silent_until: dict[str, float] = {}

    def __repr__(self) -> str:
        """Show the id alone."""
        return f"LogtoClient(client_id={self.client_id!r})"

    async def get_token(
        self, resource: str, *, scopes: Collection[str] = (), organization_id: str | None = None
    ) -> IssuedToken:
        """Give a token of this machine for an API resource.

        Args:
            resource: The resource indicator, to the letter; `https://tenant-id.logto.app/api` with the scope
                `all` for the tenant's Management API.
            scopes: Scopes to ask for. Those that the machine's roles do not have are absent from the token.
            organization_id: For the resource's permissions inside an organization that the machine is in.

        Returns:
            The token, from memory while it lives for a minute more.

        Raises:
            GrantRefusedError: The credentials, the resource or the organization are refused.
            GrantUnavailableError: The provider can't be reached, has a fault, or asks for patience.

        References:
            RFC 6749 section 4.4; RFC 8707 section 2.2.
        """
        fields = _build_fields("client_credentials", resource, scopes, organization_id)
        return await self._get(fields)

    async def get_organization_token(self, organization_id: str, *, scopes: Collection[str] = ()) -> IssuedToken:
        """Give an organization token of this machine: for no API, with permissions inside the organization.

        Args:
            organization_id: An organization that the machine is in.
            scopes: Organization permissions to ask for. Those that it does not have are absent from the token.

        Returns:
            The token, from memory while it lives for a minute more.

        Raises:
            GrantRefusedError: The machine is not in that organization, or there is none; nobody can tell which.
            GrantUnavailableError: As `get_token`.
        """
        return await self._get(_build_fields("client_credentials", None, scopes, organization_id))

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
        """Give a token for another API on behalf of a user, in exchange for one of the user's.

        The application must be allowed token exchange in Logto. A machine's token is no subject token.

        Args:
            subject_token: The caller's access token, once it was verified; a subject token that was made for
                impersonation, which is good for one exchange; or a personal access token.
            resource: The other API's resource indicator.
            scopes: Scopes to ask for. Those that the user does not have are absent from the token.
            organization_id: For the permissions inside an organization that the user is in.
            actor_token: An access token of who acts for the user; it makes the claim `act`.
            subject_token_type: What `subject_token` is.

        Returns:
            The token, from memory for the same subject token while it lives for a minute more.

        Raises:
            GrantRefusedError: A token is expired, used up or not the user's; the resource or organization is refused.
            ValueError: A token is empty.
            GrantUnavailableError: As `get_token`.

        References:
            RFC 8693 section 2.
        """
        fields = _build_fields(_EXCHANGE, resource, scopes, organization_id)
        fields += (("subject_token", _check("subject_token", subject_token)),)
        fields += (("subject_token_type", _TOKEN_TYPES[subject_token_type]),)
        if actor_token is not None:
            fields += (("actor_token", _check("actor_token", actor_token)),)
            fields += (("actor_token_type", _TOKEN_TYPES["access_token"]),)
        return await self._get(fields)

    async def get_userinfo(self, token: str) -> JsonObject:
        """Give the profile of the user whose token it is.

        Args:
            token: An opaque access token with the scope `openid`. Logto refuses a token for an API here.

        Returns:
            The claims, `sub` among them.

        Raises:
            GrantRefusedError: The token is not good for this.
            GrantUnavailableError: As `get_token`.

        References:
            OpenID Connect Core 1.0 section 5.3.
        """
        if not _TOKEN68.match(token):
            raise GrantRefusedError("userinfo: no bearer token", status=401, error="invalid_token", description="")
        url = await self._find_url("userinfo_endpoint")
        return self._read(await self._send(url, token=token), url=url, secrets=[token])

    def auth(self, resource: str, *, scopes: Collection[str] = (), organization_id: str | None = None) -> "MachineAuth":
        """Give what signs the requests of an `httpx.AsyncClient`: `httpx.AsyncClient(auth=client.auth(...))`.

        It signs every request of that client, wherever it goes: have one for each API.

        Args:
            resource: As in `get_token`.
            scopes: As in `get_token`.
            organization_id: As in `get_token`.
        """
        return MachineAuth(partial(self._get, _build_fields("client_credentials", resource, scopes, organization_id)))

    async def _get(self, fields: Fields, *, instead_of: IssuedToken | None = None) -> IssuedToken:
        # Subject tokens are among the fields: what stands for them in memory is a digest.
        key = build_digest(json.dumps(sorted(fields)).encode("ascii"))
        kept = self._cache.find(key)
        is_refused = kept is not None and kept.issued is instead_of and self._monotonic() >= kept.until_replaced
        if kept is None or is_refused or self._monotonic() >= kept.until:
            kept = await self._flights.join_or_lead(key, partial(self._request, fields))
            self._cache.keep(key, kept, weight=1000 + len(kept.issued.token))
        return kept.issued

    async def _request(self, fields: Fields) -> _Kept:
        url = await self._find_url("token_endpoint")
        secrets = [value for name, value in fields if name in {"subject_token", "actor_token"}]
        answer = self._read(await self._send(url, fields=fields), url=url, secrets=secrets)
        token, token_type, scope = answer.get("access_token"), answer.get("token_type"), answer.get("scope", "")
        lifetime = answer.get("expires_in")
        if not isinstance(token, str) or not _TOKEN68.match(token) or not isinstance(scope, str):
            raise GrantUnavailableError(f"{url}: an answer without a bearer token")
        if not isinstance(token_type, str) or token_type.lower() != "bearer":
            raise GrantUnavailableError(f"{url}: a token of another type than Bearer")
        issued = IssuedToken(token=token, scopes=frozenset(filter(None, scope.split(" "))))
        now = self._monotonic()
        return _Kept(issued, until=now + _find_use_seconds(lifetime), until_replaced=now + _REPLACE_SECONDS)

    async def _find_url(self, name: Literal["token_endpoint", "userinfo_endpoint"]) -> str:
        try:
            metadata = await self._discovery.join_or_lead(None, self._metadata.find)
        except FetchError as error:
            raise GrantUnavailableError(str(error)) from None
        url = metadata.token_endpoint if name == "token_endpoint" else metadata.userinfo_endpoint
        if url is None:
            raise GrantUnavailableError(f"the discovery document names no {name} at its own origin")
        left = self._silent_until.get(url, 0.0) - self._monotonic()
        if left > 0:
            raise GrantUnavailableError(f"{url}: too many requests before", retry_after_seconds=math.ceil(left))
        return url

    async def _send(self, url: str, *, fields: Fields = (), token: str | None = None) -> Answer:
        try:
            if token is not None:
                return await self._transport.send("GET", url, headers={"Authorization": f"Bearer {token}"})
            return await send_form(
                self._transport, url, fields, client_id=self.client_id, client_secret=self._client_secret
            )
        except FetchError as error:
            raise GrantUnavailableError(str(error)) from None

    def _read(self, answer: Answer, *, url: str, secrets: Collection[str]) -> JsonObject:
        if answer.status == 200:
            return answer.document
        if answer.status in _GONE:
            # The endpoint has moved: the next call looks where to.
            self._metadata.forget()
        if answer.status == _TOO_MANY:
            seconds = read_retry_after(answer.retry_after)
            until = self._monotonic() + seconds
            self._silent_until[url] = max(until, self._silent_until.get(url, 0.0))
            raise GrantUnavailableError(f"{url}: too many requests", retry_after_seconds=seconds)
        error = answer.document.get("error")
        if not 400 <= answer.status < 500 or not isinstance(error, str):
            raise GrantUnavailableError(f"{url}: status {answer.status}, and no OAuth error")
        description = str(answer.document.get("error_description", ""))
        for secret in (self._client_secret, *secrets):
            # What the provider repeats of a request is not for our logs.
            description = description.replace(secret, "***")
        raise GrantRefusedError(
            f"{url}: {quote(error)}, {quote(description)}; {_ADVICE.get(error, 'see the error and its description')}",
            status=answer.status,
            error=error if _ERROR.match(error) else quote(error),
            description=quote(description),
        )


_ADVICE: Final = {
    "invalid_client": "check client_id and client_secret, and that they are of this tenant",
    "invalid_target": "check the resource against the API resource's indicator in Logto, to the letter",
    "access_denied": "check that the application or the user is a member of the organization",
    "invalid_grant": "the subject token is expired, used up, of another kind, or a machine's",
    "invalid_request": "check that the application in Logto is a machine-to-machine one, or may exchange tokens",
}


class GetToken(Protocol):
    """What gets a token, another one than that which was refused."""

    async def __call__(self, *, instead_of: IssuedToken | None = None) -> IssuedToken:
        """Give the token."""
        ...


class MachineAuth(httpx.Auth):
    """Signs requests with a machine's token; asks for a new one, once, where the API answers 401."""

    def __init__(self, get_token: GetToken) -> None:
        """Remember how to get a token.

        Args:
            get_token: Gets it.
        """
        self._get_token = get_token

    @override
    async def async_auth_flow(self, request: httpx.Request) -> AsyncGenerator[httpx.Request, httpx.Response]:
        """Sign a request. httpx calls this.

        Raises:
            GrantError: As `LogtoClient.get_token`.
        """
        issued = await self._get_token()
        request.headers["Authorization"] = f"Bearer {issued.token}"
        response = yield request
        # A body that is a stream is used up by now.
        if response.status_code == _UNAUTHORIZED and isinstance(request.stream, httpx.ByteStream):
            another = await self._get_token(instead_of=issued)
            if another is not issued:
                request.headers["Authorization"] = f"Bearer {another.token}"
                yield request

    @override
    def sync_auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        """Refuse: tokens are had without blocking, which a synchronous client can't wait for."""
        raise RuntimeError("LogtoClient signs the requests of httpx.AsyncClient; httpx.Client is synchronous")


def _build_fields(
    grant_type: str, resource: str | None, scopes: Collection[str], organization_id: str | None
) -> Fields:
    names = [scopes] if isinstance(scopes, str) else sorted(set(scopes))
    fields = {"grant_type": grant_type, "resource": resource, "organization_id": organization_id}
    checked = [(name, _check(name, value)) for name, value in fields.items() if value is not None]
    scope = " ".join(str.__str__(name) for name in names)
    return (*checked, ("scope", scope)) if scope else tuple(checked)


def _check(name: str, value: str) -> str:
    """Give a value that is sent, as a plain text: one that shows itself as another would be kept as that one."""
    if not value:
        # Logto takes an empty one for none, and issues another kind of token.
        raise ValueError(f"expected a value for {name}, found an empty text")
    return str.__str__(value)


def _find_use_seconds(lifetime: object) -> float:
    """Give for how long a token is used: its life, less a minute or a tenth; not at all where that is not told."""
    if isinstance(lifetime, bool) or not isinstance(lifetime, int | float) or not lifetime > 0:
        return 0.0
    seconds = float(min(lifetime, _LONGEST_SECONDS))
    return seconds - min(_MARGIN_SECONDS, seconds / 10)
