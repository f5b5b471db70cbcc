"""The delivery log of a webhook, as a source of revocations."""

import ssl
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Final

from pydantic import SecretStr

from fastapi_logto.clock import Clock
from fastapi_logto.errors import SettingsError
from fastapi_logto.provider.endpoints import as_secret
from fastapi_logto.provider.transport import MAX_DOCUMENT_BYTES, Transport
from fastapi_logto.redaction import quote
from fastapi_logto.revocation.hook_api import HookApi, is_hook_id
from fastapi_logto.settings import LogtoSettings
from fastapi_logto.urls import find_management_resource

if TYPE_CHECKING:
    import httpx

_MOST_SECONDS: Final = 3600


class DeliveryLog:
    """The delivery log of a webhook in Logto, for `Revocations(log=...)`, so that no event is missed.

    Logto never repeats a delivery that failed, but keeps its contents in the log of the webhook. The log is read before
    the first request is admitted, for up to ten seconds, and then at an interval, from the last delivery that was read.
    At the first start, it is read back to the longest lifetime of a token. With a store, one process reads it at the
    interval for all others.

    While the log can't be read, requests are still handled; `Revocations.health()` and the log of the application say
    so. Then only events whose webhook arrives take effect.

    An API that can't be reached from Logto needs no webhook route: create a webhook with
    `fastapi-logto webhook push --poll-only`, whose deliveries all fail, and read its log.

    The credentials are those of a machine-to-machine application with access to the Management API. If the API must not
    hold them, run `fastapi-logto webhook follow` as a separate process.

    Args:
        endpoint: URL of the tenant.
        client_id: The client id of the machine-to-machine application.
        client_secret: Its secret, as a `str` or a `SecretStr`. It never appears in a `repr`, error or log.
        hook_id: The id of the webhook in Logto.
        interval_seconds: How often the log is read, 1 to 3600 seconds.
        issuer: The issuer of the tenant, `<endpoint>/oidc`. Required if the API accepts several tenants, each of which
            then needs its own log.
        management_resource: The indicator of the Management API; needed for a tenant of Logto Cloud with a custom
            domain: `https://tenant-id.logto.app/api`.
        fetch_endpoint: Base URL for requests, if it differs from `endpoint`.
        allow_http: Allow plain http to hosts other than loopback. The secret is sent over it.
        timeout_seconds: Timeout for one whole response.
        clock: Wall time and monotonic time; for tests.
        http_transport: The httpx transport; for tests.
        ssl_context: The TLS context, e.g. for a private certificate authority.

    Raises:
        SettingsError: The endpoint, the id of the webhook or another value is invalid.
    """

    def __init__(
        self,
        endpoint: str,
        *,
        client_id: str,
        client_secret: str | SecretStr,
        hook_id: str,
        interval_seconds: float = 60,
        issuer: str | None = None,
        management_resource: str | None = None,
        fetch_endpoint: str | None = None,
        allow_http: bool = False,
        timeout_seconds: float = 5,
        clock: Clock | None = None,
        http_transport: "httpx.AsyncBaseTransport | None" = None,
        ssl_context: ssl.SSLContext | None = None,
    ) -> None:
        from fastapi_logto.client.client import LogtoClient, call_management_api  # noqa: PLC0415 - loads httpx

        secret = as_secret(client_secret)
        # What records local variables must not find it here.
        del client_secret
        self._clock = clock or Clock()
        # Error trackers represent it also if the settings below are invalid.
        self.label: str = ""
        try:
            if not is_hook_id(hook_id):
                raise SettingsError(
                    f"hook_id: expected the id of a webhook, found {quote(hook_id)}; copy it from Logto"
                )
            if isinstance(interval_seconds, bool) or not 1 <= interval_seconds <= _MOST_SECONDS:
                raise SettingsError(
                    f"interval_seconds: expected 1 to {_MOST_SECONDS}, found {interval_seconds!r}; pass 60"
                )
            self.hook_id: str = hook_id
            self.interval_seconds: float = float(interval_seconds)
            client = LogtoClient(
                endpoint=endpoint,
                client_id=client_id,
                client_secret=secret,
                fetch_endpoint=fetch_endpoint,
                allow_http=allow_http,
                timeout_seconds=timeout_seconds,
                clock=self._clock,
                http_transport=http_transport,
                ssl_context=ssl_context,
            )
            settings = LogtoSettings(
                endpoint=endpoint, audience=client_id, fetch_endpoint=fetch_endpoint, allow_http=allow_http
            )
        finally:
            # They may contain a password too.
            del endpoint, fetch_endpoint
        self.issuer: str | None = issuer
        self.label = f"{settings.issuer} {hook_id}"

        def build_transport(max_bytes: int | None) -> Transport:
            return Transport(
                timeout_seconds=timeout_seconds,
                max_bytes=max_bytes or MAX_DOCUMENT_BYTES,
                http_transport=http_transport,
                ssl_context=ssl_context,
            )

        resource = management_resource or find_management_resource(settings.endpoint)
        self._api = HookApi(
            partial(call_management_api, client, resource),
            url=f"{settings.fetch_base}/api/hooks/{hook_id}",
            build_transport=build_transport,
        )

    def __repr__(self) -> str:
        """Show only the tenant and the webhook."""
        return f"DeliveryLog({self.label!r})"


def find_hook_api(log: DeliveryLog) -> tuple[HookApi, Clock]:
    """Return the webhook in the Management API, and the clock. For this package: users have no need of it."""
    return log._api, log._clock  # noqa: SLF001 # pyright: ignore[reportPrivateUsage] - of this module


def check_logs(log: DeliveryLog | Sequence[DeliveryLog] | None) -> tuple[DeliveryLog, ...]:
    """Return the logs of an argument: none, one or several; `TypeError` if it is something else."""
    if log is None:
        return ()
    logs = tuple(log) if isinstance(log, Sequence) else (log,)
    for one in logs:
        _check_log(one)
    return logs


def _check_log(log: object) -> None:
    if not isinstance(log, DeliveryLog):
        # Not its value, which may contain a secret.
        found = type(log).__name__
        raise TypeError(f"log: expected a DeliveryLog or several, found a {found}; pass DeliveryLog(...)")
