"""Tokens of machine-to-machine applications, by their credentials."""

from collections.abc import Collection
from dataclasses import dataclass, field

from fastapi_logto.cli.loops import run_to_end
from fastapi_logto.client import IssuedToken, LogtoClient
from fastapi_logto.settings import LogtoSettings

__all__ = ["Credentials", "get_token"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Credentials:
    """Those of a machine-to-machine application.

    Attributes:
        client_id: Its id.
        client_secret: Its secret; left out of the `repr`.
    """

    client_id: str
    client_secret: str = field(repr=False)


def get_token(
    settings: LogtoSettings,
    credentials: Credentials,
    *,
    resource: str,
    scopes: Collection[str] = (),
    organization_id: str | None = None,
) -> IssuedToken:
    """Give a token for an API resource.

    Args:
        settings: The tenant.
        credentials: Who asks.
        resource: The resource indicator.
        scopes: Scopes to ask for.
        organization_id: For the permissions inside an organization.

    Raises:
        GrantError: The tenant refuses or can't be reached.
    """
    client = LogtoClient(
        endpoint=settings.endpoint,
        fetch_endpoint=settings.fetch_endpoint,
        allow_http=settings.allow_http,
        timeout_seconds=settings.fetch_timeout_seconds,
        client_id=credentials.client_id,
        client_secret=credentials.client_secret,
    )
    return run_to_end(client.get_token(resource, scopes=scopes, organization_id=organization_id))
