"""The provider's discovery document, and the check that its issuer and URLs belong to this provider."""

from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

from fastapi_logto.clock import Clock
from fastapi_logto.provider.failures import FetchError
from fastapi_logto.provider.transport import Transport
from fastapi_logto.redaction import quote
from fastapi_logto.settings import LogtoSettings
from fastapi_logto.strict_json import JsonObject

MAX_AGE_SECONDS: Final = 24 * 3600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ProviderMetadata:
    """The used fields of a discovery document.

    Attributes:
        issuer: The issuer, one of the accepted ones.
        jwks_uri: URL of the key set.
        introspection_endpoint: URL for introspection; `None` if the document names none at the origin from which it was
            fetched. The same applies to the following ones.
        token_endpoint: URL for token requests.
        userinfo_endpoint: URL of a user's profile.
        authorization_endpoint: URL of the sign-in page.
        device_authorization_endpoint: URL that starts a sign-in on another device.
        sends_issuer: Whether authorization responses name the issuer (RFC 9207).
    """

    issuer: str
    jwks_uri: str
    introspection_endpoint: str | None = None
    token_endpoint: str | None = None
    userinfo_endpoint: str | None = None
    authorization_endpoint: str | None = None
    device_authorization_endpoint: str | None = None
    sends_issuer: bool = False


class MetadataSource:
    """Fetches the discovery document and caches it for a day.

    Attributes:
        url: The URL of the document.
    """

    def __init__(
        self,
        *,
        fetch_base: str,
        issuers: Collection[str],
        allowed_jwks_origins: Collection[str],
        transport: Transport,
        monotonic: Callable[[], float],
    ) -> None:
        """Store the parameters. Nothing is fetched.

        `fetch_base` is the URL below which `/oidc/.well-known/openid-configuration` is; `allowed_jwks_origins` are
        origins, besides that of `fetch_base`, that may host the key set. `monotonic` returns seconds.
        """
        self.url: str = build_discovery_url(fetch_base)
        self._issuers = issuers
        self._allowed_jwks_origins = allowed_jwks_origins
        self._transport = transport
        self._monotonic = monotonic
        self._held: ProviderMetadata | None = None
        self._fetched_at = 0.0

    async def find(self) -> ProviderMetadata:
        """Return the cached document, or fetch and check it if it is older than a day.

        References:
            OpenID Connect Discovery 1.0 section 4.3.
        """
        if self._held is None or self._monotonic() - self._fetched_at >= MAX_AGE_SECONDS:
            self._held = await self._fetch()
            self._fetched_at = self._monotonic()
        return self._held

    def forget(self) -> None:
        """Drop the cached document, because a URL in it turned out to be gone."""
        self._held = None

    async def _fetch(self) -> ProviderMetadata:
        document = await self._transport.fetch_json(self.url, purpose="discovery")
        return parse_metadata(
            document, url=self.url, issuers=self._issuers, allowed_jwks_origins=self._allowed_jwks_origins
        )


def parse_metadata(
    document: JsonObject, *, url: str, issuers: Collection[str], allowed_jwks_origins: Collection[str]
) -> ProviderMetadata:
    """Return the used fields of a discovery document after checking its issuer and the origin of its key set.

    `url` is the URL from which it was fetched.

    References:
        OpenID Connect Discovery 1.0 section 4.3.
    """
    issuer = check_issuer(document, url=url, issuers=issuers)
    jwks_uri, own = document.get("jwks_uri"), _origin(url)
    origins = {own, *map(_origin, allowed_jwks_origins)}
    if not isinstance(jwks_uri, str) or not jwks_uri.isprintable() or _origin(jwks_uri) not in origins:
        raise FetchError(
            f"{url}: expected a jwks_uri at {' or '.join(sorted(origins))}, found {quote(jwks_uri)}; "
            "behind a proxy that terminates TLS, set TRUST_PROXY_HEADER=1 in Logto, or add the origin to "
            "LOGTO_ALLOWED_JWKS_ORIGINS",
            url=url,
        )

    def find(name: str) -> str | None:
        # Secrets are sent there, so a host that only the document names is not accepted.
        value = document.get(name)
        return value if isinstance(value, str) and value.isprintable() and _origin(value) == own else None

    return ProviderMetadata(
        issuer=issuer,
        jwks_uri=jwks_uri,
        introspection_endpoint=find("introspection_endpoint"),
        token_endpoint=find("token_endpoint"),
        userinfo_endpoint=find("userinfo_endpoint"),
        authorization_endpoint=find("authorization_endpoint"),
        device_authorization_endpoint=find("device_authorization_endpoint"),
        sends_issuer=document.get("authorization_response_iss_parameter_supported") is True,
    )


def check_issuer(document: JsonObject, *, url: str, issuers: Collection[str]) -> str:
    """Return the issuer of a discovery document, or raise `FetchError` if it is not accepted."""
    issuer = document.get("issuer")
    if not isinstance(issuer, str) or issuer not in issuers:
        raise FetchError(
            f"{url}: expected the issuer {' or '.join(sorted(issuers))}, found {quote(issuer)}; "
            "correct LOGTO_ENDPOINT, or add this issuer to LOGTO_ISSUERS, or set LOGTO_FETCH_ENDPOINT to the URL "
            "at which this machine reaches the issuer",
            url=url,
        )
    return issuer


def build_metadata_source(settings: LogtoSettings, *, transport: Transport, clock: Clock) -> MetadataSource:
    """Return the source of a tenant's discovery document. Nothing is fetched."""
    return MetadataSource(
        fetch_base=settings.fetch_base,
        issuers=settings.accepted_issuers,
        allowed_jwks_origins=settings.allowed_jwks_origins,
        transport=transport,
        monotonic=clock.monotonic,
    )


def build_discovery_url(fetch_base: str) -> str:
    """Return the URL of a tenant's discovery document; `fetch_base` has no slash at its end."""
    return f"{fetch_base}/oidc/.well-known/openid-configuration"


def _origin(url: str) -> str:
    """Return scheme, host and port in a canonical form (RFC 6454 section 4); empty if the URL is invalid."""
    try:
        parts = urlsplit(url)
        port = parts.port or {"https": 443, "http": 80}.get(parts.scheme)
    except ValueError:
        return ""
    if parts.username is not None or not parts.hostname or port is None:
        return ""
    return f"{parts.scheme}://{parts.hostname}:{port}"
