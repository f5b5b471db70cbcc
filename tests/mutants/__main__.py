"""Change the package in thousands of small ways, and check that a test fails for each change: `make mutants`.

Without arguments, it runs the modules that have changed since their last run, and those with an unlisted survivor.
Results are stored in `build/mutants`, so an interrupted run continues where it stopped. `--changed main` runs only the
mutants of lines that differ from that revision. `MUTANTS_LONGEST_SECONDS` limits the CPU time of the tests of a
mutant; the default is 30. `MUTANTS_FIRST=test_telemetry,test_caller` runs the tests of these files early, because they
are likely to notice the mutants. `MUTANTS_MOST_FILES` limits the files of tests that a mutant in no function is run
with; the default is 12.
"""

import argparse
import json
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from typing import Any, Final

import pytest

from tests.mutants.operators import Mutant, generate
from tests.mutants.page import (
    Score,
    build_score,
    count_listed,
    find_noticed,
    find_unlisted,
    read_listed,
    read_scores,
    write,
)
from tests.mutants.pool import Pool, Result, run_fresh
from tests.mutants.selection import ROOT, WORK, Selection, hash_code, measure
from tests.mutants.worker import Outcome

_RESULTS: Final = WORK / "results.json"
_TESTS: Final = ("tests/unit", "tests/tools")
# Tools for developers: a request doesn't reach them.
_LEFT_OUT: Final = ("fastapi_logto/cli/", "fastapi_logto/testing/", "fastapi_logto/__main__.py")
_SAVED_AFTER: Final = 20


class Results:
    """The results of the mutants, stored in a file."""

    def __init__(self) -> None:
        self._found: dict[str, dict[str, Any]] = json.loads(_RESULTS.read_text()) if _RESULTS.exists() else {}
        self._unsaved = 0

    def get(self, mutant: Mutant) -> Outcome | None:
        """Return the outcome of a mutant of the module's current text."""
        found = self._found.get(mutant.id)
        return (
            Outcome(found["outcome"])
            if found is not None and found["module"] == hash_code(ROOT / mutant.path)
            else None
        )

    def record(self, mutant: Mutant, result: Result) -> None:
        """Store a result."""
        self._found[mutant.id] = {
            "outcome": result.outcome,
            "test": result.test,
            "module": hash_code(ROOT / mutant.path),
        }
        self._unsaved += 1
        if self._unsaved == _SAVED_AFTER:
            self.save()
        if result.outcome is Outcome.SURVIVED:
            show(f"survived: {mutant.path}:{mutant.line} {mutant.place}: {mutant.change}")

    def save(self) -> None:
        """Write the file."""
        _RESULTS.write_text(json.dumps(self._found, indent=0), encoding="utf-8")
        self._unsaved = 0


def show(line: str) -> None:
    """Print a line and flush it."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def find_modules() -> list[str]:
    """Return the modules that a request can reach."""
    found = (str(path.relative_to(ROOT)) for path in sorted((ROOT / "fastapi_logto").rglob("*.py")))
    return [path for path in found if not path.startswith(_LEFT_OUT)]


def find_changed_lines(revision: str) -> Mapping[str, set[int]]:
    """Return the lines of each file that differ from a revision."""
    command = ["git", "-c", "diff.noprefix=false", "-c", "diff.mnemonicPrefix=false", "diff", "--unified=0", revision]
    text = subprocess.run(
        [*command, "--", "fastapi_logto"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    lines: dict[str, set[int]] = {}
    path = ""
    for line in text.splitlines():
        if line.startswith("+++ b/"):
            path = line.removeprefix("+++ b/")
        elif found := re.match(r"@@ -\S+ \+(\d+)(?:,(\d+))? @@", line):
            first, count = int(found[1]), int(found[2] or 1)
            lines.setdefault(path, set()).update(range(first, first + count))
    return lines


def run(mutants: Sequence[Mutant], results: Results, selection: Selection) -> None:
    """Run the tests of each mutant: in a fork if only functions change, otherwise in a new process."""
    fresh: list[Mutant] = []

    def record(mutant: Mutant, result: Result) -> None:
        if result.outcome is Outcome.NOT_PATCHABLE or (
            result.outcome is Outcome.SURVIVED and selection.runs_at_import(mutant)
        ):
            fresh.append(mutant)
        else:
            results.record(mutant, result)

    try:
        if mutants:
            code = pytest.main(["-q", "-p", "no:cacheprovider", *_TESTS], plugins=[Pool(mutants, selection, record)])
            if code not in (pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED):
                raise RuntimeError(f"expected pytest to end well, found exit code {code}")
        run_fresh(fresh, selection, results.record)
    finally:
        results.save()


def main(arguments: Sequence[str]) -> int:
    """Run the mutants, store the scores of whole modules, and return 1 if the list of survivors is wrong."""
    parser = argparse.ArgumentParser(prog="python -m tests.mutants", description=__doc__)
    parser.add_argument("paths", nargs="*", metavar="MODULE", help="only these modules")
    parser.add_argument("--changed", metavar="REVISION", help="only lines that differ from this revision")
    parser.add_argument("--measure", action="store_true", help="measure anew which test runs which line")
    options = parser.parse_args(arguments)
    scores, listed = read_scores(), read_listed()
    modules = options.paths or [path for path in find_modules() if not _is_done(path, scores, listed)]
    mutants = [mutant for path in modules for mutant in generate(path, (ROOT / path).read_bytes())]
    if options.changed:
        changed = find_changed_lines(options.changed)
        mutants = [one for one in mutants if one.line in changed.get(one.path, set())]
    if options.measure or not (WORK / "seconds.json").exists():
        measure(_TESTS, find_modules())
    results = Results()
    missing = [one for one in mutants if _must_run(one, results, listed)]
    show(f"{len(mutants)} mutants, {len(missing)} of them to run")
    run(missing, results, Selection.read(find_modules()))
    outcomes = {one: outcome for one in mutants if (outcome := results.get(one)) is not None}
    if not options.changed:
        for path in modules:
            found = {one: outcome for one, outcome in outcomes.items() if one.path == path}
            scores[path] = build_score(hash_code(ROOT / path), found)
        write(scores, listed, missing=len(set(find_modules()) - set(scores)))
    unlisted = find_unlisted(outcomes, listed)
    for mutant in unlisted:
        show(f"no test notices: {mutant.path}:{mutant.line} {mutant.place}: {mutant.change}")
    noticed = find_noticed(outcomes, listed)
    for mutant in noticed:
        show(f"listed, but a test notices it: {mutant.path}:{mutant.line} {mutant.place}: {mutant.change}")
    show(f"{len(outcomes)} mutants, {len(unlisted)} of them survived without a reason in tests/mutants/survivors.toml")
    return 1 if unlisted or noticed else 0


def _is_done(path: str, scores: Mapping[str, Score], listed: Mapping[str, str]) -> bool:
    score = scores.get(path)
    if score is None or score.module != hash_code(ROOT / path):
        return False
    return score.survived <= count_listed(path, listed)


def _must_run(mutant: Mutant, results: Results, listed: Mapping[str, str]) -> bool:
    outcome = results.get(mutant)
    return outcome is None or (outcome is Outcome.SURVIVED and mutant.id not in listed)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
