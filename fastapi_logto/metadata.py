"""The provider's discovery document: where its key set is, checked to be this provider's own."""

from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

from fastapi_logto.clock import Clock
from fastapi_logto.errors import FetchError, quote
from fastapi_logto.settings import LogtoSettings
from fastapi_logto.strict_json import JsonObject
from fastapi_logto.transport import Transport

__all__ = [
    "MetadataSource",
    "ProviderMetadata",
    "build_discovery_url",
    "build_metadata_source",
    "check_issuer",
    "parse_metadata",
]

MAX_AGE_SECONDS: Final = 24 * 3600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ProviderMetadata:
    """What we need of a discovery document.

    Attributes:
        issuer: The issuer it names, one of those accepted.
        jwks_uri: Where the key set is.
        introspection_endpoint: Where an opaque token is asked about; `None` where the document names none
            at the origin that it was fetched from. So are the following.
        token_endpoint: Where tokens are issued.
        userinfo_endpoint: Where a user's profile is.
    """

    issuer: str
    jwks_uri: str
    introspection_endpoint: str | None = None
    token_endpoint: str | None = None
    userinfo_endpoint: str | None = None


class MetadataSource:
    """Fetches the discovery document and keeps it for a day."""

    def __init__(
        self,
        *,
        fetch_base: str,
        issuers: Collection[str],
        allowed_jwks_origins: Collection[str],
        transport: Transport,
        monotonic: Callable[[], float],
    ) -> None:
        """Remember where to look. Fetches nothing.

        Args:
            fetch_base: URL below which `/oidc/.well-known/openid-configuration` is.
            issuers: Issuers that the document may name.
            allowed_jwks_origins: Origins besides that of `fetch_base` where the key set may be.
            transport: What fetches.
            monotonic: The clock for the document's age, in seconds.
        """
        self._url = build_discovery_url(fetch_base)
        self._issuers = issuers
        self._allowed_jwks_origins = allowed_jwks_origins
        self._transport = transport
        self._monotonic = monotonic
        self._held: ProviderMetadata | None = None
        self._fetched_at = 0.0

    async def find(self) -> ProviderMetadata:
        """Give the document from memory, or fetch it when it is older than a day.

        Returns:
            The checked document.

        Raises:
            FetchError: It can't be fetched, or is not this provider's.

        References:
            OpenID Connect Discovery 1.0 section 4.3.
        """
        if self._held is None or self._monotonic() - self._fetched_at >= MAX_AGE_SECONDS:
            self._held = await self._fetch()
            self._fetched_at = self._monotonic()
        return self._held

    def forget(self) -> None:
        """Have the next `find` fetch: the place that the document named turned out to be gone."""
        self._held = None

    async def _fetch(self) -> ProviderMetadata:
        document = await self._transport.fetch_json(self._url)
        return parse_metadata(
            document, url=self._url, issuers=self._issuers, allowed_jwks_origins=self._allowed_jwks_origins
        )


def parse_metadata(
    document: JsonObject, *, url: str, issuers: Collection[str], allowed_jwks_origins: Collection[str]
) -> ProviderMetadata:
    """Give what we need of a discovery document.

    Args:
        document: The document.
        url: Where it came from.
        issuers: Issuers that it may name.
        allowed_jwks_origins: Origins besides that of `url` where the key set may be.

    Raises:
        FetchError: It is not this provider's, or its key set lies elsewhere.

    References:
        OpenID Connect Discovery 1.0 section 4.3.
    """
    issuer = check_issuer(document, url=url, issuers=issuers)
    jwks_uri, own = document.get("jwks_uri"), _origin(url)
    origins = {own, *map(_origin, allowed_jwks_origins)}
    if not isinstance(jwks_uri, str) or not jwks_uri.isprintable() or _origin(jwks_uri) not in origins:
        raise FetchError(
            f"{url}: expected a jwks_uri at {' or '.join(sorted(origins))}, found {quote(jwks_uri)}; "
            "behind a proxy that ends TLS set TRUST_PROXY_HEADER=1 in Logto, or list the origin in "
            "LOGTO_ALLOWED_JWKS_ORIGINS"
        )

    def find(name: str) -> str | None:
        # A secret is sent there: never to a host that only the document names.
        value = document.get(name)
        return value if isinstance(value, str) and value.isprintable() and _origin(value) == own else None

    return ProviderMetadata(
        issuer=issuer,
        jwks_uri=jwks_uri,
        introspection_endpoint=find("introspection_endpoint"),
        token_endpoint=find("token_endpoint"),
        userinfo_endpoint=find("userinfo_endpoint"),
    )


def check_issuer(document: JsonObject, *, url: str, issuers: Collection[str]) -> str:
    """Give the issuer that a discovery document names, once it is known to be one of those accepted.

    Args:
        document: The document.
        url: Where it came from.
        issuers: Issuers that it may name.

    Raises:
        FetchError: It names another one.
    """
    issuer = document.get("issuer")
    if not isinstance(issuer, str) or issuer not in issuers:
        raise FetchError(
            f"{url}: expected the issuer {' or '.join(sorted(issuers))}, found {quote(issuer)}; "
            "correct LOGTO_ENDPOINT, or list this issuer in LOGTO_ISSUERS, or set LOGTO_FETCH_ENDPOINT to where "
            "the issuer is reached from here"
        )
    return issuer


def build_metadata_source(settings: LogtoSettings, *, transport: Transport, clock: Clock) -> MetadataSource:
    """Give the source of a tenant's discovery document. Fetches nothing.

    Args:
        settings: The tenant.
        transport: What fetches.
        clock: Its monotonic time is used.
    """
    return MetadataSource(
        fetch_base=settings.fetch_base,
        issuers=settings.accepted_issuers,
        allowed_jwks_origins=settings.allowed_jwks_origins,
        transport=transport,
        monotonic=clock.monotonic,
    )


def build_discovery_url(fetch_base: str) -> str:
    """Give the URL of the discovery document of a tenant.

    Args:
        fetch_base: URL of the tenant, without a slash at its end.
    """
    return f"{fetch_base}/oidc/.well-known/openid-configuration"


def _origin(url: str) -> str:
    """Give scheme, host and port in one form (RFC 6454 section 4); an empty text for what is no such URL."""
    try:
        parts = urlsplit(url)
        port = parts.port or {"https": 443, "http": 80}.get(parts.scheme)
    except ValueError:
        return ""
    if parts.username is not None or not parts.hostname or port is None:
        return ""
    return f"{parts.scheme}://{parts.hostname}:{port}"
