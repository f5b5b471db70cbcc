"""Choose the tests that could detect a mutant: those that ran its line, the fastest and most different ones first."""

import ast
import hashlib
import json
import os
import re
import subprocess
import sys
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from itertools import chain, zip_longest
from pathlib import Path
from typing import Final

from tests.mutants.contexts import COLLECTION
from tests.mutants.operators import Mutant

ROOT: Final = Path(__file__).parents[2]
WORK: Final = ROOT / "build" / "mutants"
_DATA: Final = WORK / "coverage"
_SECONDS: Final = WORK / "seconds.json"
_MODULES: Final = WORK / "modules.json"
_ANY_LINE: Final = 0


@cache
def hash_module(path: Path) -> str:
    """Return the hash of a module's text at the first call, which says whether its lines are the measured ones."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


@cache
def hash_code(path: Path) -> str:
    """Return the hash of a module's code at the first call, without what no mutant changes.

    Results stay valid if only comments, layout, docstrings, imports or `__all__` change.
    """
    tree = ast.parse(path.read_bytes())
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            node.body = [statement for statement in node.body if not _is_ignored(statement)]
    return hashlib.sha256(ast.unparse(tree).encode()).hexdigest()


def _is_ignored(statement: ast.stmt) -> bool:
    match statement:
        case ast.Expr(value=ast.Constant(value=str())) | ast.Import() | ast.ImportFrom():
            return True
        case ast.Assign(targets=[ast.Name(id="__all__")]):
            return True
        case _:
            return False


def measure(tests: Sequence[str], modules: Iterable[str]) -> None:
    """Run the tests once and record which test runs which line of the modules.

    Raises:
        subprocess.CalledProcessError: A test fails.
    """
    WORK.mkdir(parents=True, exist_ok=True)
    settings = WORK / "coveragerc"
    lines = ("[run]", "source = fastapi_logto", "parallel = true", "patch = subprocess", f"data_file = {_DATA}")
    settings.write_text("\n".join(lines) + "\n", encoding="utf-8")
    environment = {**os.environ, "MUTANTS_SECONDS": str(_SECONDS)}
    run = [sys.executable, "-m", "coverage"]
    options = [f"--rcfile={settings}"]
    pytest = ["-m", "pytest", "-q", "-n", "auto", "-p", "tests.mutants.contexts", *tests]
    subprocess.run([*run, "erase", *options], cwd=ROOT, check=True)
    subprocess.run([*run, "run", *options, *pytest], cwd=ROOT, env=environment, check=True)
    subprocess.run([*run, "combine", "--quiet", *options], cwd=ROOT, check=True)
    _MODULES.write_text(json.dumps({path: hash_module(ROOT / path) for path in modules}), encoding="utf-8")


@dataclass(frozen=True)
class Selection:
    """The results of the measured run."""

    seconds: Mapping[str, float]
    lines: Mapping[str, Mapping[int, frozenset[str]]]
    first: Collection[str] = ()

    @classmethod
    def read(cls, paths: Iterable[str]) -> "Selection":
        """Read the tests of each line of the modules."""
        import coverage

        data = coverage.CoverageData(basename=str(_DATA))
        data.read()
        lines: dict[str, dict[int, frozenset[str]]] = {}
        names: dict[str, str] = {}
        measured: dict[str, str] = json.loads(_MODULES.read_text(encoding="utf-8"))
        for path in paths:
            found = data.contexts_by_lineno(str(ROOT / path))
            # Each name is stored once, because there are millions of references.
            ran = {line: frozenset(names.setdefault(name, name) for name in tests) for line, tests in found.items()}
            # In a module that was changed since, the lines differ, so any of its tests may detect the mutant.
            is_same = measured.get(path) == hash_module(ROOT / path)
            lines[path] = ran if is_same else {_ANY_LINE: frozenset(chain.from_iterable(ran.values()))}
        first = os.environ.get("MUTANTS_FIRST", "").split(",")
        return cls(json.loads(_SECONDS.read_text(encoding="utf-8")), lines, first)

    def runs_at_import(self, mutant: Mutant) -> bool:
        """Whether the line also runs while tests are imported."""
        return COLLECTION in self.lines[mutant.path].get(mutant.line, ())

    def find_tests(self, mutant: Mutant) -> list[str]:
        """Return the tests that ran the line of the mutant, or, if it is in no function, that could use it.

        The file named after the module comes first, then those of `MUTANTS_FIRST`, then those that run the most of its
        lines.
        """
        found = self._find_by_line(mutant) if mutant.is_in_function else self._find_by_name(mutant)
        tests = self._sort(found or self._by_module[mutant.path])
        lines = self._lines_by_file[mutant.path]

        def find_place(test: str) -> tuple[int, int]:
            file = test.partition("::")[0]
            if mutant.is_likely(test):
                return 0, 0
            return (1, 0) if Path(file).stem in self.first else (2, -lines[file])

        return sorted(tests, key=find_place)

    @cached_property
    def _lines_by_file(self) -> Mapping[str, Mapping[str, int]]:
        """How many lines of each module the tests of a file run."""
        return {
            path: Counter(file for tests in lines.values() for file in {one.partition("::")[0] for one in tests})
            for path, lines in self.lines.items()
        }

    def _find_by_line(self, mutant: Mutant) -> frozenset[str]:
        lines = self.lines[mutant.path]
        # A statement of several lines is recorded by its first line.
        first = next((line for line in range(mutant.line, 0, -1) if line in lines), _ANY_LINE)
        return lines.get(mutant.line, lines.get(first, frozenset())) - {COLLECTION, ""}

    def _find_by_name(self, mutant: Mutant) -> frozenset[str]:
        names = {name for part in mutant.place.split(".")[-1:] for name in part.split("/") if name.isidentifier()}
        # A default or a decorator is used without its name: by the module's own tests, or those of the lines below.
        # A constant is read without running a line of the module.
        own = filter(mutant.is_likely, self.seconds)
        lines = ((line, tests - {COLLECTION, ""}) for line, tests in sorted(self.lines[mutant.path].items()))
        below = next((tests for line, tests in lines if line > mutant.line and tests), frozenset[str]())
        return frozenset(chain(own, below, *(self._by_name.get(name, frozenset()) for name in names)))

    @cached_property
    def _by_module(self) -> Mapping[str, frozenset[str]]:
        return {
            path: frozenset(chain.from_iterable(lines.values())) - {COLLECTION, ""}
            for path, lines in self.lines.items()
        }

    @cached_property
    def _by_name(self) -> Mapping[str, frozenset[str]]:
        found: defaultdict[str, set[str]] = defaultdict(set)
        for path, lines in self.lines.items():
            text = (ROOT / path).read_text(encoding="utf-8").splitlines()
            for line, tests in lines.items():
                if line == _ANY_LINE:
                    continue
                for name in set(re.findall(r"\w+", text[line - 1])):
                    found[name].update(tests)
        return {name: frozenset(tests) - {COLLECTION, ""} for name, tests in found.items()}

    def _sort(self, tests: Iterable[str]) -> list[str]:
        """Return one row of each test function, then the next row of each, and so on; the fastest first."""
        functions: defaultdict[str, list[str]] = defaultdict(list)
        for test in sorted(tests, key=lambda name: (self.seconds.get(name, 1.0), name)):
            functions[test.partition("[")[0]].append(test)
        return [test for row in zip_longest(*functions.values()) for test in row if test is not None]
