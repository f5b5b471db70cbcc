"""An issuer behind a `LogtoAuth` without a network. Imported late, because it needs httpx."""

from collections.abc import Generator, Mapping
from contextlib import contextmanager
from typing import Any

import httpx
from starlette.types import ASGIApp

from fastapi_logto.clock import Clock
from fastapi_logto.provider import Provider
from fastapi_logto.resource_auth import ResourceAuth
from fastapi_logto.routes import find_scheme
from fastapi_logto.schemes import find_provider
from fastapi_logto.settings import LogtoSettings
from fastapi_logto.testing.overriding import find_schemes

__all__ = ["build_transport", "find_providers", "replace_provider"]


def build_transport(app: ASGIApp) -> httpx.AsyncBaseTransport:
    """Give what hands requests to an issuer in memory.

    A class of its own to httpx: whatever patches its transports of the network, such as pytest-httpx, neither
    sees these requests nor answers them.

    Args:
        app: The issuer's application.
    """
    return httpx.ASGITransport(app=app)


def find_providers(target: ResourceAuth[Any] | ASGIApp) -> tuple[Provider[Any], ...]:
    """Give what verifies for a scheme, or for all those that an application's routes ask.

    Args:
        target: The scheme or the application.

    Raises:
        ValueError: No route of the application asks any.
    """
    if isinstance(target, ResourceAuth):
        return (find_provider(target),)
    found = tuple(dict.fromkeys(find_provider(find_scheme(node)) for node in find_schemes(target)))
    if not found:
        raise ValueError("expected a LogtoAuth, or an application of which some route asks one, found neither")
    return found


@contextmanager
def replace_provider(
    provider: Provider[Any], changes: Mapping[str, Any], *, audience: str, clock: Clock, app: ASGIApp
) -> Generator[LogtoSettings]:
    """Have a provider's tokens verified with an issuer's keys, for the length of a block.

    Args:
        provider: The provider.
        changes: What is other than in the application's own settings: the tenant.
        audience: For which API, where the provider's own settings come from the environment.
        clock: The clocks.
        app: The issuer's application.

    Returns:
        The settings meanwhile: those that the application gave, but for the tenant. Of the environment nothing
        is read, for a test must not depend on it.
    """
    arguments: dict[str, Any] = {"audience": audience}
    if provider.given:
        arguments = provider.given[0].model_dump(exclude_unset=True)
    settings = LogtoSettings(**{**arguments, **changes})
    with provider.replaced(settings, clock=clock, http_transport=build_transport(app)):
        yield settings
