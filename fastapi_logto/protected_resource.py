"""The metadata by which clients find out where to ask for tokens for this API (RFC 9728).

All of it comes from settings and from the application's own routes: a `Host` header, which is anybody's to
write, could send clients to another authorization server.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Final, TypeAlias
from urllib.parse import quote, unquote, urlsplit

from fastapi_logto.settings import LogtoSettings

__all__ = [
    "WELL_KNOWN",
    "ResourceMetadata",
    "build_metadata_url",
    "build_resource_metadata",
    "find_resource",
    "map_resources",
]

WELL_KNOWN: Final = "/.well-known/oauth-protected-resource"
"""The path of the document; that of the resource follows it (RFC 9728 section 3)."""

ResourceMetadata: TypeAlias = Mapping[str, str | Sequence[str]]


def find_resource(settings: LogtoSettings, audiences: Collection[str] | None) -> str:
    """Give the resource indicator that clients are to ask for.

    Args:
        settings: The tenant.
        audiences: Those accepted in one place; `None` for those of the settings, whose first one it is then.
    """
    return settings.audience[0] if audiences is None else min(audiences)


def map_resources(indicators: Iterable[str]) -> dict[str, str]:
    """Give the resources that have a page of metadata, by the path that follows the well-known one.

    Args:
        indicators: Resource indicators, the API's own first. Of several with one path the first is taken; where
            none is without a path, the first of all stands there too.
    """
    resources: dict[str, str] = {}
    for indicator in indicators:
        resources.setdefault(_find_path(indicator), indicator)
    first = next(iter(resources.values()), None)
    return resources if first is None else {"": first, **resources}


def _find_path(resource: str) -> str:
    """Give the path of a resource indicator without escapes, as servers give it, and without a slash at its end.

    It is empty for an indicator that is no URL.
    """
    try:
        parts = urlsplit(resource)
    except ValueError:
        return ""
    return unquote(parts.path).rstrip("/") if parts.scheme in {"http", "https"} and parts.netloc else ""


def build_metadata_url(public_url: str, *, resource: str, resources: Mapping[str, str]) -> str | None:
    """Give the URL of a resource's metadata.

    Args:
        public_url: Where clients reach the API. The indicator says nothing of that: it may be any text, and its
            host may be somebody else's.
        resource: The resource indicator.
        resources: Those that have a page; see `map_resources`.

    Returns:
        The URL; `None` where the page in this place is another resource's.
    """
    path = _find_path(resource)
    parts = urlsplit(public_url)
    return f"{parts.scheme}://{parts.netloc}{WELL_KNOWN}{quote(path)}" if resources.get(path) == resource else None


def build_resource_metadata(
    tenants: Sequence[LogtoSettings], *, resource: str, scopes: Collection[str]
) -> ResourceMetadata:
    """Give the document for one resource.

    Args:
        tenants: The tenants; where some have it as an audience of their own, those alone.
        resource: The resource indicator.
        scopes: The scopes that its operations ask for.

    References:
        RFC 9728 section 2.
    """
    tenants = [settings for settings in tenants if resource in settings.audience] or tenants
    issuers = [issuer for settings in tenants for issuer in (settings.issuer, *settings.issuers)]
    document: dict[str, str | Sequence[str]] = {
        "resource": resource,
        "authorization_servers": list(dict.fromkeys(issuers)),
        # An empty list must be omitted (section 3.2).
        **({"scopes_supported": sorted(scopes)} if scopes else {}),
        "bearer_methods_supported": ["header"],
    }
    documentation = next((settings.documentation_url for settings in tenants if settings.documentation_url), None)
    if documentation is not None:
        document["resource_documentation"] = documentation
    return document
