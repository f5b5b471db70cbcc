"""The metadata that tells clients where to request tokens for this API (RFC 9728).

All of it comes from settings and from the application's own routes. The `Host` header is not used: anyone can set it,
and could send clients to another authorization server.
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
"""The path of the document; the path of the resource follows it (RFC 9728 section 3)."""

ResourceMetadata: TypeAlias = Mapping[str, str | Sequence[str]]


def find_resource(settings: LogtoSettings, audiences: Collection[str] | None) -> str:
    """Return the resource indicator that clients should request; without `audiences`, the first one of the settings."""
    return settings.audience[0] if audiences is None else min(audiences)


def map_resources(indicators: Iterable[str]) -> dict[str, str]:
    """Return the resources that have a page of metadata, by the path that follows the well-known one.

    The API's own indicators come first. If several have the same path, the first one is used. If none has an empty
    path, the very first one also gets the page without a path.
    """
    resources: dict[str, str] = {}
    for indicator in indicators:
        resources.setdefault(_find_path(indicator), indicator)
    first = next(iter(resources.values()), None)
    return resources if first is None else {"": first, **resources}


def _find_path(resource: str) -> str:
    """Return the path of a resource indicator, unescaped as servers do it, and without a slash at its end.

    It is empty for an indicator that is not a URL.
    """
    try:
        parts = urlsplit(resource)
    except ValueError:
        return ""
    return unquote(parts.path).rstrip("/") if parts.scheme in {"http", "https"} and parts.netloc else ""


def build_metadata_url(public_url: str, *, resource: str, resources: Mapping[str, str]) -> str | None:
    """Return the URL of a resource's metadata; `None` if the page at this path belongs to another resource.

    `public_url` is where clients reach the API. The indicator can't be used for that: it may be any text, and its host
    may belong to somebody else.
    """
    path = _find_path(resource)
    parts = urlsplit(public_url)
    return f"{parts.scheme}://{parts.netloc}{WELL_KNOWN}{quote(path)}" if resources.get(path) == resource else None


def build_resource_metadata(
    tenants: Sequence[LogtoSettings], *, resource: str, scopes: Collection[str]
) -> ResourceMetadata:
    """Return the metadata document of one resource.

    If some tenants have the resource among their own audiences, only these are listed.

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
