"""Shared code of the applications. Its imports must not count towards their start time."""

import gc
import os
import sys
from typing import Final

AUDIENCE: Final = "https://api.example.test"


def freeze() -> None:
    """Exclude existing objects from garbage collection, if the environment requests it."""
    if os.environ.get("BENCH_FREEZE"):
        gc.collect()
        gc.freeze()


def hide_aws_lc() -> None:
    """Simulate that AWS-LC is not installed, unless the environment requests it."""
    if not os.environ.get("BENCH_AWS_LC"):
        sys.modules["awscrt"] = None  # type: ignore[assignment] # pyright: ignore[reportArgumentType]
