"""Shared code of the applications. Its imports must not count towards their start time."""

import gc
import os
import sys
from collections.abc import Generator
from contextlib import contextmanager
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


@contextmanager
def choose_aws_lc(*, is_installed: bool) -> Generator[None]:
    """Verify with AWS-LC, or simulate that it is not installed, for keys that are parsed in this block."""
    from fastapi_logto.provider.aws_lc import load_aws_lc

    loaded = sys.modules.pop("awscrt.crypto", None)
    if not is_installed:
        sys.modules["awscrt.crypto"] = None  # type: ignore[assignment] # pyright: ignore[reportArgumentType]
    load_aws_lc.cache_clear()
    try:
        yield
    finally:
        sys.modules.pop("awscrt.crypto", None)
        if loaded is not None:
            sys.modules["awscrt.crypto"] = loaded
        load_aws_lc.cache_clear()
