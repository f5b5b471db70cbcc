"""Run the whole attack suite: `python -m tests.attack`."""

import asyncio
import sys
import time
from collections.abc import Awaitable, Callable
from typing import Final

from tests.attack.composition import run_composition
from tests.attack.differential import run_differential
from tests.attack.report import Tally, print_report
from tests.attack.vectors import run_authorization_rows, run_token_rows, run_wycheproof
from tests.vectors.forge import Forge

__all__ = ["main"]

_CLASSES: Final[dict[str, Callable[[Tally, Forge], Awaitable[None]]]] = {
    "vectors: tokens": run_token_rows,
    "vectors: Authorization headers": run_authorization_rows,
    "vectors: Wycheproof": run_wycheproof,
    "composition matrix": run_composition,
    "differential: PyJWT and jose": run_differential,
}


async def _run() -> list[Tally]:
    forge = Forge.create()
    tallies: list[Tally] = []
    for name, run in _CLASSES.items():
        tally = Tally(name=name)
        started = time.monotonic()
        await run(tally, forge)
        tally.seconds = time.monotonic() - started
        tallies.append(tally)
    return tallies


def main() -> int:
    """Run every class and print the report; return the exit code."""
    return print_report(asyncio.run(_run()))


if __name__ == "__main__":
    sys.exit(main())
