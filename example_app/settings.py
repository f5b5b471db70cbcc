"""Settings of the example. The settings for Logto are read by `fastapi_logto`."""

import os
from dataclasses import dataclass, field


def _read_list(name: str, default: str) -> tuple[str, ...]:
    return tuple(os.environ.get(name, default).split(","))


@dataclass(frozen=True, slots=True)
class ExampleSettings:
    """Settings of the example.

    Attributes:
        cors_origins: Origins whose pages may call the API, from `EXAMPLE_CORS_ORIGINS`, separated by commas.
        machine_id: Client id of a machine-to-machine application, from `EXAMPLE_MACHINE_ID`; empty for none.
        machine_secret: Its secret, from `EXAMPLE_MACHINE_SECRET`.
        opaque_clients: Applications whose opaque tokens are accepted, from `EXAMPLE_OPAQUE_CLIENTS`, separated by
            commas.
        redis_url: Redis server through which several processes share revocations, from `LOGTO_REDIS_URL`; empty for
            one process.
        webhook_signing_key: Signing key of the webhook in Logto, from `LOGTO_WEBHOOK_SIGNING_KEY`; empty for none.
    """

    cors_origins: tuple[str, ...] = field(default_factory=lambda: _read_list("EXAMPLE_CORS_ORIGINS", "*"))
    machine_id: str = field(default_factory=lambda: os.environ.get("EXAMPLE_MACHINE_ID", ""))
    machine_secret: str = field(default_factory=lambda: os.environ.get("EXAMPLE_MACHINE_SECRET", ""), repr=False)
    opaque_clients: tuple[str, ...] = field(default_factory=lambda: _read_list("EXAMPLE_OPAQUE_CLIENTS", "local-spa"))
    redis_url: str = field(default_factory=lambda: os.environ.get("LOGTO_REDIS_URL", ""), repr=False)
    webhook_signing_key: str = field(
        default_factory=lambda: os.environ.get("LOGTO_WEBHOOK_SIGNING_KEY", ""), repr=False
    )
