"""Run the whole attack suite: `python -m tests.attack`, or `make attack`."""

import asyncio
import logging
import sys
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Final

from tests.attack.composition import run_composition
from tests.attack.differential import run_differential
from tests.attack.documents import run_documents
from tests.attack.peers import PeerMissingError
from tests.attack.report import Tally, print_report
from tests.attack.vectors import run_authorization_rows, run_token_rows, run_wycheproof
from tests.vectors.forge import Forge

__all__ = ["CLASSES", "LONGEST_SECONDS", "Attack", "main", "run_classes"]

Attack = Callable[[Tally, Forge], Awaitable[None]]

CLASSES: Final[Mapping[str, Attack]] = {
    "vectors: tokens": run_token_rows,
    "vectors: Authorization headers": run_authorization_rows,
    "vectors: Wycheproof": run_wycheproof,
    "hostile documents": run_documents,
    "composition matrix": run_composition,
    "differential: PyJWT and jose": run_differential,
}
LONGEST_SECONDS: Final = 300.0


async def run_classes(classes: Mapping[str, Attack], *, longest_seconds: float = LONGEST_SECONDS) -> list[Tally]:
    """Run each class, and stop the one during which the time is up."""
    forge = Forge.create()
    tallies: list[Tally] = []
    deadline = time.monotonic() + longest_seconds
    for name, run in classes.items():
        tally = Tally(name=name)
        tallies.append(tally)
        started = time.monotonic()
        try:
            async with asyncio.timeout(deadline - started):
                await run(tally, forge)
        except TimeoutError:
            tally.fail(f"stopped, because the suite took longer than {longest_seconds:.0f} s")
        except PeerMissingError as error:
            tally.fail(str(error))
        tally.seconds = time.monotonic() - started
    return tallies


def main() -> int:
    """Run every class and print the report; return the exit code."""
    # Thousands of refusals are what is expected here.
    logging.getLogger("fastapi_logto").addHandler(logging.NullHandler())
    return print_report(asyncio.run(run_classes(CLASSES)))


if __name__ == "__main__":
    sys.exit(main())
