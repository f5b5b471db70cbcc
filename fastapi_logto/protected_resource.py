"""The metadata that tells clients where to request tokens for this API (RFC 9728).

All of it comes from settings and from the application's own routes. The `Host` header is not used: anyone can set it,
and could send clients to another authorization server.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Final, TypeAlias
from urllib.parse import quote, unquote, urlsplit

from fastapi_logto.settings import LogtoSettings
from fastapi_logto.urls import is_fetchable

WELL_KNOWN: Final = "/.well-known/oauth-protected-resource"
"""The path of the document; path and query of the resource follow it (RFC 9728 section 3)."""

# RFC 3986 section 3.4, and the percent sign of what is escaped already.
_IN_QUERY: Final = "%/?:@!$&'()*+,;="

ResourceMetadata: TypeAlias = Mapping[str, str | Sequence[str]]


def find_resource(settings: LogtoSettings, audiences: Collection[str] | None) -> str:
    """Return the resource indicator that clients should request; without `audiences`, the first one of the settings."""
    return settings.audience[0] if audiences is None else min(audiences)


def map_resources(indicators: Iterable[str]) -> dict[str, str]:
    """Return the resources that have a page of metadata, by the end of its URL: what follows the well-known path.

    The API's own indicators come first. If several have the same path and query, the first one is used. If none has an
    empty path, the very first one also gets the page without a path, where MCP clients look last.
    """
    resources: dict[str, str] = {}
    for indicator in indicators:
        end = _find_end(indicator)
        if end is not None:
            resources.setdefault(end, indicator)
    first = next(iter(resources.values()), None)
    return resources if first is None else {"": first, **resources}


def build_end(path: str, query: str) -> str:
    """Return the end of the URL of a page for an unescaped path and a query."""
    # Only a slash that follows the host is removed. `/v1` and `/v1/` are two resources (RFC 9728 section 3).
    end = "" if path == "/" else quote(path)
    return f"{end}?{quote(query, safe=_IN_QUERY)}" if query else end


def _find_end(resource: str) -> str | None:
    """Return the end of the URL of a resource's page: its path and query.

    `None` if the resource has no page, because it is not an https URL without a fragment (RFC 9728 section 1.2). Plain
    http is accepted for loopback hosts.
    """
    try:
        parts = urlsplit(resource)
        if parts.scheme in {"http", "https"} and parts.hostname and is_fetchable(resource) and "#" not in resource:
            return build_end(unquote(parts.path), parts.query)
    except ValueError:
        # No URL, or one with a lone surrogate.
        return None
    return None


def build_metadata_url(public_url: str, *, mount_path: str, resource: str, resources: Mapping[str, str]) -> str | None:
    """Return the URL of a resource's metadata; `None` if it has no page, or the page belongs to another resource.

    `public_url` is where clients reach the API, with or without the path at which the application with the pages is
    mounted. The indicator can't be used for that, because its host may belong to somebody else.
    """
    end, mount = _find_end(resource), quote(mount_path)
    if end is None or resources.get(end) != resource:
        return None
    base = public_url if urlsplit(public_url).path.endswith(mount) else public_url + mount
    return f"{base}{WELL_KNOWN}{end}"


def build_resource_metadata(
    tenants: Sequence[LogtoSettings], *, resource: str, scopes: Collection[str], name: str | None
) -> ResourceMetadata:
    """Return the metadata document of one resource.

    If some tenants have the resource among their own audiences, only these are listed. `name` is for users to read.

    References:
        RFC 9728 section 2.
    """
    tenants = [settings for settings in tenants if resource in settings.audience] or tenants
    issuers = [issuer for settings in tenants for issuer in (settings.issuer, *settings.issuers)]
    document: dict[str, str | Sequence[str]] = {
        "resource": resource,
        **({} if name is None else {"resource_name": name}),
        "authorization_servers": list(dict.fromkeys(issuers)),
        # An empty list must be omitted (section 3.2).
        **({"scopes_supported": sorted(scopes)} if scopes else {}),
        "bearer_methods_supported": ["header"],
    }
    documentation = next((settings.documentation_url for settings in tenants if settings.documentation_url), None)
    if documentation is not None:
        document["resource_documentation"] = documentation
    return document
