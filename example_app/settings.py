"""What this example itself can be told; Logto's settings are read by `fastapi_logto`."""

import os
from dataclasses import dataclass, field

__all__ = ["ExampleSettings"]


def _read_origins() -> tuple[str, ...]:
    return tuple(os.environ.get("EXAMPLE_CORS_ORIGINS", "*").split(","))


@dataclass(frozen=True, slots=True)
class ExampleSettings:
    """Settings of the example.

    Attributes:
        cors_origins: Origins whose pages may call the API, from `EXAMPLE_CORS_ORIGINS`, with commas.
    """

    cors_origins: tuple[str, ...] = field(default_factory=_read_origins)
