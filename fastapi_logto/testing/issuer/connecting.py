"""Connect an issuer to a `LogtoAuth` without a network. Imported late, because it needs httpx."""

from collections.abc import Generator, Mapping
from contextlib import contextmanager
from typing import Any

import httpx
from starlette.types import ASGIApp

from fastapi_logto.clock import Clock
from fastapi_logto.settings import LogtoSettings
from fastapi_logto.state import AuthState


def build_transport(app: ASGIApp) -> httpx.AsyncBaseTransport:
    """Return an httpx transport that passes requests to the issuer's application in memory.

    Tools that patch httpx's network transports, such as pytest-httpx, neither see these requests nor respond to them.
    """
    return httpx.ASGITransport(app=app)


@contextmanager
def replace_provider(
    provider: AuthState[Any], changes: Mapping[str, Any], *, audience: str, clock: Clock, app: ASGIApp
) -> Generator[LogtoSettings]:
    """Verify a provider's tokens with an issuer's keys inside a `with` block.

    Yields the settings in use: those passed to the application, with the changes. The environment is not read,
    because a test must not depend on it; `audience` is used if the settings come from the environment.
    """
    arguments: dict[str, Any] = {"audience": audience}
    if provider.given:
        arguments = provider.given[0].model_dump(exclude_unset=True)
    settings = LogtoSettings(**{**arguments, **changes})
    with provider.replaced(settings, clock=clock, http_transport=build_transport(app)):
        yield settings
