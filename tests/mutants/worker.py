"""Run tests against one mutant, in a separate process."""

import os
import signal
import time
from collections.abc import Sequence
from enum import IntEnum
from itertools import pairwise
from types import FrameType
from typing import Final

import pytest
from _pytest.runner import runtestprotocol
from _pytest.warnings import catch_warnings_for_item  # pyright: ignore[reportUnknownVariableType] - not fully typed

# In place of a test, if the tests can't be imported with the mutant.
IMPORT: Final = "import"


# A mutant that tests don't detect within this many seconds of CPU time counts as not detected.
LONGEST_SECONDS: Final = float(os.environ.get("MUTANTS_LONGEST_SECONDS", "30"))
_LONGEST_TEST_SECONDS: Final = 30
_SLOWER: Final = 20


class Outcome(IntEnum):
    """The result of the tests of a mutant, which is the exit code of its process."""

    SURVIVED = 0
    KILLED = 41
    NOT_PATCHABLE = 42
    HUNG = 43


def _give_up(number: int, frame: FrameType | None) -> None:
    del number, frame
    os._exit(Outcome.HUNG)


def run_tests(items: Sequence[pytest.Item], seconds: dict[str, float], *, report: int) -> Outcome:
    """Run the tests until one fails, and write its name into the pipe. A test that hangs ends the process."""
    signal.signal(signal.SIGALRM, _give_up)
    started = time.process_time()
    for item, following in pairwise([*items, None]):
        assert item is not None
        signal.alarm(_LONGEST_TEST_SECONDS + int(_SLOWER * seconds.get(item.nodeid, 1.0)))
        os.write(report, f"{item.nodeid}\n".encode())
        # As pytest's own loop does: without it, the marks of a test that ignore a warning do not apply.
        with catch_warnings_for_item(item.config, item.ihook, "runtest", item):
            reports = runtestprotocol(item, log=False, nextitem=following)
        if any(one.failed for one in reports):
            return Outcome.KILLED
        if time.process_time() - started > LONGEST_SECONDS:
            break
    signal.alarm(0)
    return Outcome.SURVIVED
