"""Run the tests of many mutants in as many processes as there are cores."""

import gc
import json
import os
import selectors
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Final

import pytest

from tests.mutants.operators import Mutant
from tests.mutants.patching import Functions, NotPatchableError
from tests.mutants.selection import ROOT, Selection
from tests.mutants.worker import IMPORT, Outcome, run_tests

# Importing the tests takes longer than running them, so a new process imports those of this many files at most.
_MOST_FILES: Final = int(os.environ.get("MUTANTS_MOST_FILES", "12"))
# More than there are cores help where tests wait, e.g. for a server.
_PROCESSES: Final = int(os.environ.get("MUTANTS_PROCESSES", os.cpu_count() or 1))


@dataclass(frozen=True, slots=True)
class Result:
    """The result of a mutant, and the last test that ran against it."""

    outcome: Outcome
    test: str


Record = Callable[[Mutant, Result], None]


@dataclass(slots=True)
class _Job:
    """Tests to run against a mutant, or without a change; mutants wait for the result of the latter."""

    mutant: Mutant | None
    tests: Sequence[str]
    waiting: tuple[Mutant, Result] | None = None


@dataclass(frozen=True, slots=True)
class _Process:
    """The function of a process, which gets a pipe for its report, and the function that takes the result."""

    work: Callable[[int], int]
    end: Callable[[Result], None]


BuildWork = Callable[[Mutant | None, Sequence[str]], Callable[[int], int]]


class Queue:
    """The mutants that are still to be run. A failed test counts only if it passes without a change."""

    def __init__(self, mutants: Sequence[Mutant], selection: Selection, record: Record, build_work: BuildWork) -> None:
        self._jobs = deque(_Job(one, selection.find_tests(one)) for one in mutants)
        self._selection = selection
        self._record = record
        self._build_work = build_work
        self._passing = {IMPORT}
        self._failing: set[str] = set()

    def take(self) -> _Process | None:
        if not self._jobs:
            return None
        job = self._jobs.popleft()
        tests = [test for test in job.tests if test not in self._failing]
        return _Process(self._build_work(job.mutant, tests), lambda result: self._end(job, result))

    def _end(self, job: _Job, result: Result) -> None:
        is_noticed = result.outcome in {Outcome.KILLED, Outcome.HUNG}
        if is_noticed and not result.test:
            raise RuntimeError(f"expected a test to run against {job.mutant}, found none; measure again")
        if job.mutant is None:
            assert job.waiting is not None
            (test,) = job.tests
            if is_noticed:
                self._failing.add(test)
                self._jobs.appendleft(_Job(job.waiting[0], self._selection.find_tests(job.waiting[0])))
            else:
                self._passing.add(test)
                self._record(*job.waiting)
        elif is_noticed and result.test not in self._passing:
            self._jobs.appendleft(_Job(None, [result.test], (job.mutant, result)))
        else:
            self._record(job.mutant, result)


class Pool:
    """A pytest plugin that runs the collected tests against mutants, each in a fork of this process."""

    def __init__(self, mutants: Sequence[Mutant], selection: Selection, record: Record) -> None:
        self._mutants = mutants
        self._selection = selection
        self._record = record

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        """Replace pytest's own loop."""
        items = {item.nodeid: item for item in session.items}
        seconds = dict(self._selection.seconds)
        # For tests that are newer than the measured run, the lines that they run are unknown.
        newer = [name for name in items if name not in seconds]
        # Python doesn't list frozen objects.
        gc.unfreeze()
        functions = Functions(ROOT, sorted({one.path for one in self._mutants}))
        gc.collect()
        gc.freeze()

        def build_work(mutant: Mutant | None, tests: Sequence[str]) -> Callable[[int], int]:
            names = tests if mutant is None else [*filter(mutant.is_likely, newer), *tests, *newer]

            def work(report: int) -> int:
                try:
                    if mutant is not None:
                        functions.patch(mutant)
                except NotPatchableError:
                    return Outcome.NOT_PATCHABLE
                return run_tests([items[name] for name in names if name in items], seconds, report=report)

            return work

        _run_parallel(Queue(self._mutants, self._selection, self._record, build_work).take)
        return True


def run_fresh(mutants: Sequence[Mutant], selection: Selection, record: Record) -> None:
    """Run the tests of each mutant in a new process, which imports the mutant."""

    def build_work(mutant: Mutant | None, tests: Sequence[str]) -> Callable[[int], int]:
        seconds = {test: selection.seconds.get(test, 1.0) for test in _limit_files(tests)}
        change = None if mutant is None else {**asdict(mutant), "text": mutant.text.decode()}
        order = json.dumps({"mutant": change, "tests": seconds})

        def work(report: int) -> int:
            command = [sys.executable, "-m", "tests.mutants.fresh", str(report)]
            # Compiling the tests takes longer than importing them.
            environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
            done = subprocess.run(
                command, input=order, cwd=ROOT, env=environment, text=True, pass_fds=[report], check=False
            )
            return done.returncode

        return work

    _run_parallel(Queue(mutants, selection, record, build_work).take)


def _limit_files(tests: Sequence[str]) -> Iterator[str]:
    files: set[str] = set()
    for test in tests:
        file = test.partition("::")[0]
        if file in files or len(files) < _MOST_FILES:
            files.add(file)
            yield test


def _run_parallel(take: Callable[[], _Process | None]) -> None:
    running: dict[int, tuple[int, _Process]] = {}
    texts: dict[int, bytes] = {}
    with selectors.DefaultSelector() as selector:
        while True:
            while len(running) < _PROCESSES and (process := take()) is not None:
                pid, pipe = _fork(process.work)
                running[pipe] = pid, process
                texts[pipe] = b""
                selector.register(pipe, selectors.EVENT_READ)
            if not running:
                return
            for key, _ in selector.select():
                pipe = key.fd
                if found := os.read(pipe, 65536):
                    texts[pipe] = (texts[pipe] + found)[-4096:]
                    continue
                selector.unregister(pipe)
                os.close(pipe)
                pid, process = running.pop(pipe)
                code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
                *_, last = ["", *texts.pop(pipe).decode(errors="replace").splitlines()]
                process.end(Result(_read_outcome(code), last))


def _read_outcome(code: int) -> Outcome:
    # If a test ran, a process that ends in any other way was ended by its mutant.
    return Outcome(code) if code in set(Outcome) else Outcome.KILLED


def _fork(work: Callable[[int], int]) -> tuple[int, int]:
    reading, writing = os.pipe()
    pid = os.fork()
    if pid:
        os.close(writing)
        return pid, reading
    code = 1
    with _silence():
        os.close(reading)
        try:
            code = int(work(writing))
        finally:
            os._exit(code)


@contextmanager
def _silence() -> Generator[None]:
    """Discard the output of this process."""
    with open(os.devnull, "wb") as nowhere:  # noqa: PTH123 - a file descriptor
        os.dup2(nowhere.fileno(), 1)
        os.dup2(nowhere.fileno(), 2)
        yield
