"""Run the classes of a suite within a time limit, and write their page of the documentation."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from typing import Final

from tests.attack.pages import write_page
from tests.attack.peers import PeerMissingError
from tests.attack.report import Tally, print_report
from tests.vectors.forge import Forge

Attack = Callable[[Tally, Forge], Awaitable[None]]

_LONGEST_SECONDS: Final = 600.0


async def run_classes(classes: Mapping[str, Attack], *, longest_seconds: float = _LONGEST_SECONDS) -> list[Tally]:
    """Run each class, and stop the one that exceeds the time limit."""
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


def run_suite(
    page: str, classes: Mapping[str, Attack], *, longest_seconds: float = _LONGEST_SECONDS, processes: int | None = 1
) -> int:
    """Run every class, print the report and write it into the page; return the exit code.

    With several processes (`None`: as many as there are cores), each class runs in one of them.
    """
    if processes == 1:
        tallies = _run_here(classes, longest_seconds)
    else:
        run_one = partial(_run_class, deadline=time.monotonic() + longest_seconds)
        with ProcessPoolExecutor(processes) as pool:
            tallies = list(pool.map(run_one, classes.items()))
    write_page(page, tallies)
    return print_report(tallies)


def _run_here(classes: Mapping[str, Attack], longest_seconds: float) -> list[Tally]:
    # Thousands of refusals are expected here.
    logging.getLogger("fastapi_logto").addHandler(logging.NullHandler())
    return asyncio.run(run_classes(classes, longest_seconds=longest_seconds))


def _run_class(named: tuple[str, Attack], *, deadline: float) -> Tally:
    (tally,) = _run_here(dict([named]), deadline - time.monotonic())
    return tally
