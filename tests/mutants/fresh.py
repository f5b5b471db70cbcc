"""Run the tests of a mutant in this new process: it reads the mutant and its tests from standard input."""

import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.mutants.operators import Mutant
from tests.mutants.patching import import_mutant
from tests.mutants.worker import IMPORT, Outcome, run_tests

ROOT = Path(__file__).parents[2]


class _Loop:
    """Replaces pytest's own loop."""

    def __init__(self, seconds: dict[str, float], report: int) -> None:
        self._seconds = seconds
        self._report = report
        self.outcome = Outcome.KILLED

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        items = {item.nodeid: item for item in session.items}
        chosen = [items[name] for name in self._seconds if name in items]
        self.outcome = run_tests(chosen, self._seconds, report=self._report)
        return True


def main(report: int, order: dict[str, Any]) -> int:
    """Return how the tests ended. A mutant with which they can't be imported is killed."""
    files = sorted({test.partition("::")[0] for test in order["tests"]})
    if missing := [file for file in files if not (ROOT / file).is_file()]:
        raise FileNotFoundError(f"expected the tests of the measured run, found none at {missing}; measure again")
    if order["mutant"] is not None:
        import_mutant(ROOT, Mutant(**{**order["mutant"], "text": order["mutant"]["text"].encode()}))
    os.write(report, f"{IMPORT}\n".encode())
    loop = _Loop(order["tests"], report)
    pytest.main(["-q", "-p", "no:cacheprovider", *files], plugins=[loop])
    return loop.outcome


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), json.load(sys.stdin)))
