"""What the applications share. Imports nothing that would count as their own start."""

import gc
import os
from typing import Final

__all__ = ["AUDIENCE", "freeze"]

AUDIENCE: Final = "https://api.example.test"


def freeze() -> None:
    """Have the garbage collector leave alone what is there already, where the environment says so."""
    if os.environ.get("BENCH_FREEZE"):
        gc.collect()
        gc.freeze()
