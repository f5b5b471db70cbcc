"""Shared code of the applications. Its imports must not count towards their start time."""

import gc
import os
from typing import Final

__all__ = ["AUDIENCE", "freeze"]

AUDIENCE: Final = "https://api.example.test"


def freeze() -> None:
    """Exclude existing objects from garbage collection, if the environment requests it."""
    if os.environ.get("BENCH_FREEZE"):
        gc.collect()
        gc.freeze()
