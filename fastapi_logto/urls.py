"""The form of URLs in settings."""

import re
from typing import Final
from urllib.parse import urlsplit

from fastapi_logto.loopback import is_loopback

_NOT_IN_URLS: Final = re.compile(r"[ \"<>\\^`{|}]")


def check_url(value: str) -> str:
    """Return an http or https URL unchanged, or raise `ValueError` if it has credentials, a query or odd characters."""
    try:
        parts = urlsplit(value)
        port_is_valid = parts.port is None or parts.port > 0
    except ValueError:
        raise ValueError("expected a URL") from None
    if parts.scheme not in {"http", "https"} or not parts.hostname or not port_is_valid:
        raise ValueError("expected a URL that begins with https://")
    if parts.username is not None or parts.query or parts.fragment or not value.isascii() or not value.isprintable():
        raise ValueError("expected a URL without credentials, query, fragment or special characters")
    if _NOT_IN_URLS.search(value):
        raise ValueError("expected a URL without spaces, quotes, brackets or backslashes")
    return value


def normalise_endpoint(value: str) -> str:
    """Return the URL of a tenant without a slash or `/oidc` at its end; `ValueError` for a discovery document."""
    if "/.well-known/" in value:
        raise ValueError("expected the URL of the tenant, not that of its discovery document")
    parts = urlsplit(check_url(value.strip().rstrip("/").removesuffix("/oidc").rstrip("/")))
    # Scheme and host are case-insensitive, but the issuer that is built from them must match exactly.
    return f"{parts.scheme}://{parts.netloc.lower()}{parts.path}"


def is_fetchable(url: str) -> bool:
    """Return whether keys may be fetched from a URL without `allow_http`: https, or http on loopback."""
    parts = urlsplit(url)
    return parts.scheme == "https" or is_loopback(parts.hostname or "")


def find_management_resource(endpoint: str) -> str:
    """Return the indicator of a tenant's Management API: its own in Logto Cloud, a fixed one elsewhere."""
    is_cloud = endpoint.startswith("https://") and endpoint.endswith(".logto.app")
    return f"{endpoint}/api" if is_cloud else "https://default.logto.app/api"
