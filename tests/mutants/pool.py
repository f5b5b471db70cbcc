"""Run the tests of many mutants in as many processes as there are cores."""

import gc
import json
import os
import selectors
import signal
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
from tests.mutants.worker import Outcome, run_tests

__all__ = ["Pool", "Result", "run_fresh"]

# Importing the tests takes longer than running them: a new process imports those of so many files at most.
_MOST_FILES: Final = 12


@dataclass(frozen=True, slots=True)
class Result:
    """How a mutant ended, and the last test that ran against it."""

    outcome: Outcome
    test: str


Record = Callable[[Mutant, Result], None]


@dataclass(slots=True)
class _Job:
    mutant: Mutant | None
    tests: Sequence[str]
    # The mutants that wait for a test to pass without any change.
    waiting: list[tuple[Mutant, Result]]


@dataclass(frozen=True, slots=True)
class _Process:
    """What a process does, given a pipe for its report, and who takes the result."""

    work: Callable[[int], int]
    end: Callable[[Result], None]


class Pool:
    """A pytest plugin that runs the collected tests against mutants, each in a fork of this process."""

    def __init__(self, mutants: Sequence[Mutant], selection: Selection, record: Record) -> None:
        self._jobs = deque(_Job(one, selection.find_tests(one), []) for one in mutants)
        self._paths = sorted({one.path for one in mutants})
        self._selection = selection
        self._record = record
        self._passing: set[str] = set()
        self._failing: set[str] = set()

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        """Take the place of pytest's own loop."""
        items = {item.nodeid: item for item in session.items}
        # Nobody knows which lines a test runs that is newer than the measured run.
        newer = [name for name in items if name not in self._selection.seconds]
        functions = Functions(ROOT, self._paths)
        gc.collect()
        gc.freeze()

        def take() -> _Process | None:
            if not self._jobs:
                return None
            job = self._jobs.popleft()
            names = job.tests if job.mutant is None else [*newer, *job.tests]
            chosen = [items[name] for name in names if name in items and name not in self._failing]
            return _Process(self._build_work(job.mutant, functions, chosen), self._build_end(job))

        _run_parallel(take)
        return True

    def _build_work(
        self, mutant: Mutant | None, functions: Functions, items: Sequence[pytest.Item]
    ) -> Callable[[int], int]:
        def work(report: int) -> int:
            try:
                if mutant is not None:
                    functions.patch(mutant)
            except NotPatchableError:
                return Outcome.NOT_PATCHABLE
            return run_tests(items, dict(self._selection.seconds), report=report)

        return work

    def _build_end(self, job: _Job) -> Callable[[Result], None]:
        def end(result: Result) -> None:
            if job.mutant is None:
                self._end_check(job, result)
            elif result.outcome is not Outcome.KILLED or result.test in self._passing:
                self._record(job.mutant, result)
            else:
                # A test that fails in a fork without any change must not count.
                check = _Job(None, [result.test], [(job.mutant, result)])
                self._jobs.appendleft(check)

        return end

    def _end_check(self, job: _Job, result: Result) -> None:
        (test,) = job.tests
        if result.outcome is Outcome.SURVIVED:
            self._passing.add(test)
            for mutant, killed in job.waiting:
                self._record(mutant, killed)
        else:
            self._failing.add(test)
            self._jobs.extendleft(_Job(one, self._selection.find_tests(one), []) for one, _ in job.waiting)


def run_fresh(mutants: Sequence[Mutant], selection: Selection, record: Record) -> None:
    """Run the tests of each mutant in a new process, which imports the mutant."""

    def iter_processes() -> Iterator[_Process]:
        for mutant in mutants:
            tests = list(_limit_files(selection.find_tests(mutant)))
            seconds = {test: selection.seconds.get(test, 1.0) for test in tests}
            order = json.dumps({"mutant": {**asdict(mutant), "text": mutant.text.decode()}, "tests": seconds})

            def work(report: int, order: str = order) -> int:
                command = [sys.executable, "-m", "tests.mutants.fresh", str(report)]
                done = subprocess.run(
                    command, input=order, cwd=ROOT, text=True, pass_fds=[report], stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL, check=False,
                )  # fmt: skip
                return Outcome.HUNG if done.returncode == -signal.SIGALRM else done.returncode

            def end(result: Result, mutant: Mutant = mutant) -> None:
                record(mutant, result)

            yield _Process(work, end)

    processes = iter_processes()
    _run_parallel(lambda: next(processes, None))


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
            while len(running) < (os.cpu_count() or 1) and (process := take()) is not None:
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
    # A process that ends in any other way was ended by its mutant.
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
    """Send what this process prints to nowhere."""
    with open(os.devnull, "wb") as nowhere:  # noqa: PTH123 - a file descriptor
        os.dup2(nowhere.fileno(), 1)
        os.dup2(nowhere.fileno(), 2)
        yield
