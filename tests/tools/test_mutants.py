"""Mutants: each kind of edit is made once, keeps the line numbers, and takes effect in a running process."""

import gc
import textwrap
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType

import pytest

import fastapi_logto
from tests.mutants.operators import Mutant, build_source, generate
from tests.mutants.page import build_score, count_listed, find_noticed, find_unlisted, read_listed, read_scores
from tests.mutants.patching import Functions, NotPatchableError
from tests.mutants.pool import Queue, Result
from tests.mutants.selection import Selection, hash_code
from tests.mutants.worker import Outcome

# Its source is that of the installed package.
PACKAGE = Path(fastapi_logto.__file__).parent


def mutate(source: str) -> list[str]:
    return [one.change for one in generate("module.py", textwrap.dedent(source).encode())]


@pytest.mark.parametrize(
    ("body", "changes"),
    [
        ("return", ["without `return`"]),
        ("if a < 1:\n        raise KeyError", [
            "`a < 1` is `True`", "`a < 1` is `False`", "`a < 1`: `<` is `<=`", "`1` is `2`", "without `raise KeyError`",
        ]),
        ("return a == b", ["`return a == b` is `return None`", "`a == b`: `==` is `!=`"]),
        ("return not a", ["`return not a` is `return None`", "`not a` is `a`"]),
        ("x = a and b", ["`a and b` without `a`", "`a and b` without `b`"]),
        ("check(a)", ["without `check(a)`"]),
        ("await check(a)", ["without `await check(a)`"]),
        ("self.a = b", ["without `self.a = b`"]),
        ("a += b", ["without `a += b`"]),
        ("del a[b]", ["without `del a[b]`"]),
        ("with lock:\n        a = b", ["without `with lock`"]),
        ("async with lock:\n        a = b", ["without `async with lock`"]),
        ("try:\n        a = b\n    except KeyError:\n        a = None", ["`except KeyError` raises again"]),
        ("try:\n        a = b\n    finally:\n        close()", ["without `finally: close()`", "without `close()`"]),
        ("a = f(b, c=d)", ["`f(...)` without `c=d`"]),
        ("a = min(b)", ["`min` is `max`"]),
        ("a = b - c", ["`b - c`: `-` is `+`"]),
        ("a = 'x'", ["`'x'` is `'xXX'`"]),
        ("for a in b:\n        break", ["`break` is `continue`"]),
        ("a = [b for b in c if b]", ["`b` is `True`", "`b` is `False`"]),
        ("a = b if c else d", ["`c` is `True`", "`c` is `False`"]),
    ],
)  # fmt: skip
def test_a_function_is_changed_in_each_way_once(body: str, changes: list[str]) -> None:
    assert sorted(mutate(f"async def f(self, a, b):\n    {body}\n")) == sorted(changes)


@pytest.mark.parametrize(
    "source",
    [
        '"""A docstring of 1."""',
        "__all__ = ['a']",
        "T = TypeVar('T')",
        "def f(a: 'str') -> 'str': ...",
        "def f():\n    logger.warning('failed', 1)",
        "def f():\n    a = 'A text for people.'",
        "def f():\n    a = f'{b} of 1'",
        "if TYPE_CHECKING:\n    A = 1",
        "@overload\ndef f(a: int = 1) -> int: ...",
    ],
)
def test_what_only_people_and_type_checkers_read_is_not_changed(source: str) -> None:
    assert mutate(source) == []


def test_the_lines_after_a_change_keep_their_numbers() -> None:
    condition = b"    if (\n        a\n        and b\n    ):\n"
    source = b"def f(a):\n" + condition + b"        g(\n            a,\n            c=d,\n        )\n    return a\n"

    for mutant in generate("module.py", source):
        lines = build_source(source, mutant).splitlines()
        assert len(lines) == len(source.splitlines()), mutant.change
        assert lines[-1].startswith(b"    return"), mutant.change


def test_equal_changes_of_a_function_have_different_names() -> None:
    changed = generate("module.py", b"def f():\n    g(1)\n    g(1)\n")

    assert len({one.id for one in changed}) == len(changed) == 4


SOURCE = textwrap.dedent(
    """
    LIMIT = 1

    class Scale:
        @property
        def limit(self):
            return LIMIT

    def outer(a):
        def inner(b):
            return b + 1
        return inner(a)

    def decorate(function):
        return function

    @decorate
    def decorated(a, *, b=2):
        return a + b
    """
)


@pytest.fixture
def module(tmp_path: Path) -> ModuleType:
    (tmp_path / "module.py").write_text(SOURCE)
    module = ModuleType("module")
    exec(  # noqa: S102 - as an import does
        compile(SOURCE, str(tmp_path / "module.py"), "exec", dont_inherit=True), module.__dict__
    )
    return module


def find(change: str) -> Mutant:
    (mutant,) = [one for one in generate("module.py", SOURCE.encode()) if f"{one.place}: {one.change}" == change]
    return mutant


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ("outer.inner: `b + 1`: `+` is `-`", (1, 0, 3)),
        ("outer: `return inner(a)` is `return None`", (1, None, 3)),
        ("Scale.limit: `return LIMIT` is `return None`", (None, 2, 3)),
        ("decorated: `a + b`: `+` is `-`", (1, 2, -1)),
    ],
)
def test_a_change_takes_effect_in_functions_that_exist(
    module: ModuleType, tmp_path: Path, change: str, expected: tuple[int | None, ...]
) -> None:
    Functions(tmp_path, ["module.py"]).patch(find(change))

    assert (module.Scale().limit, module.outer(1), module.decorated(1)) == expected


@pytest.mark.parametrize("change", ["LIMIT: `1` is `2`", "decorated: `2` is `3`"])
def test_a_change_of_code_that_has_run_needs_a_new_process(module: ModuleType, tmp_path: Path, change: str) -> None:
    del module
    with pytest.raises(NotPatchableError):
        Functions(tmp_path, ["module.py"]).patch(find(change))


def test_a_change_of_a_function_that_is_not_found_needs_a_new_process(module: ModuleType, tmp_path: Path) -> None:
    gc.freeze()

    with pytest.raises(NotPatchableError):
        Functions(tmp_path, ["module.py"]).patch(find("outer: `return inner(a)` is `return None`"))
    assert module.outer(1) == 2


def test_the_tests_of_a_line_come_with_those_of_its_own_file_first_and_one_of_each_function_before_the_next() -> None:
    names = ["a::slow", "a::quick[1]", "a::quick[2]", "test_module::own"]
    seconds = dict(zip(names, [9.0, 0.1, 0.2, 5.0], strict=True))
    selection = Selection(seconds, {"module.py": {4: frozenset({*names, "collection", ""}), 2: frozenset({"other"})}})
    mutant = Mutant(
        path="module.py", place="f", is_in_function=True, line=5, start=0, end=0, text=b"", change="within a statement"
    )

    assert selection.find_tests(mutant) == ["test_module::own", "a::quick[1]", "a::slow", "a::quick[2]"]
    assert not selection.runs_at_import(mutant)


def test_tests_of_certain_files_come_early() -> None:
    names = ["a.py::one", "a.py::two", "tests/b.py::slow", "tests/b.py::quick", "test_module.py::own"]
    seconds = dict(zip(names, [0.1, 0.2, 2.0, 1.0, 5.0], strict=True))
    selection = Selection(seconds, {"module.py": {4: frozenset(names)}}, first=["b"])
    mutant = Mutant(
        path="module.py", place="f", is_in_function=True, line=4, start=0, end=0, text=b"", change="within a statement"
    )

    assert selection.find_tests(mutant) == [
        "test_module.py::own",
        "tests/b.py::quick",
        "tests/b.py::slow",
        "a.py::one",
        "a.py::two",
    ]


def test_a_constant_is_tested_by_the_file_of_its_module_although_that_runs_none_of_its_lines() -> None:
    path = "fastapi_logto/reasons.py"
    selection = Selection({"test_reasons::own": 1.0, "test_other::other": 0.1}, {path: {}})
    mutant = Mutant(
        path=path, place="Reason", is_in_function=False, line=1, start=0, end=0, text=b"", change="another value"
    )

    assert selection.find_tests(mutant) == ["test_reasons::own"]


@pytest.mark.parametrize(
    ("source", "is_same"),
    [
        ('"""Another text."""\n\n\ndef f(a):\n    # A comment.\n    return a + 1\n', True),
        ('__all__ = [\'f\']\n\ndef f(a):\n    """A docstring."""\n    return a + 1\n', True),
        ("def f(a):\n    return a + 2\n", False),
        ("def f(a):\n    a = ['f']\n    return a + 1\n", False),
        ("LIMIT = 1\n\ndef f(a):\n    return a + 1\n", False),
    ],
)
def test_results_stay_valid_as_long_as_the_code_is_the_same(tmp_path: Path, source: str, *, is_same: bool) -> None:
    measured, now = tmp_path / "measured.py", tmp_path / "now.py"
    measured.write_text('"""A module."""\n\ndef f(a):\n    return a + 1\n')
    now.write_text(source)

    assert (hash_code(now) == hash_code(measured)) is is_same


def test_a_survivor_without_a_reason_is_reported() -> None:
    listed, other = generate("module.py", b"def f():\n    g()\n    h()\n")

    outcomes = {listed: Outcome.SURVIVED, other: Outcome.SURVIVED}
    assert find_unlisted(outcomes, {listed.id: "why"}) == [other]
    assert find_unlisted({listed: Outcome.KILLED, other: Outcome.HUNG}, {}) == []
    assert find_noticed(outcomes, {listed.id: "why"}) == []
    assert find_noticed({listed: Outcome.KILLED, other: Outcome.HUNG}, {other.id: "why"}) == [other]


def test_each_listed_survivor_is_a_mutant_of_the_package_and_has_a_reason() -> None:
    listed = read_listed()
    paths = {name.partition("::")[0] for name in listed}
    made = {one.id for path in paths for one in generate(path, (PACKAGE.parent / path).read_bytes())}

    assert set(listed) - made == set()
    assert all(len(why.split()) > 3 for why in listed.values())


def test_no_module_has_a_survivor_without_a_reason() -> None:
    listed = read_listed()
    unlisted = {path: score.survived - count_listed(path, listed) for path, score in read_scores().items()}

    assert {path: count for path, count in unlisted.items() if count > 0} == {}


def test_the_score_of_a_module_counts_its_mutants_by_their_end() -> None:
    first, second, third = generate("module.py", b"def f():\n    g()\n    h()\n    i()\n")
    score = build_score("hash", {first: Outcome.SURVIVED, second: Outcome.KILLED, third: Outcome.HUNG})

    assert (score.module, score.mutants, score.survived, score.hung) == ("hash", 3, 1, 1)


class Recorded:
    """A queue with one mutant, and what it records."""

    def __init__(self) -> None:
        (self.mutant,) = generate("module.py", b"def f():\n    g()\n")
        selection = Selection({"a": 0.1, "b": 0.2}, {"module.py": {2: frozenset({"a", "b"})}})
        self.results: list[tuple[Mutant, Result]] = []
        self.started: list[tuple[Mutant | None, list[str]]] = []
        self.queue = Queue([self.mutant], selection, self._record, self._start)

    def _record(self, mutant: Mutant, result: Result) -> None:
        self.results.append((mutant, result))

    def _start(self, mutant: Mutant | None, tests: Sequence[str]) -> Callable[[int], int]:
        self.started.append((mutant, list(tests)))
        return lambda _report: 0

    def end(self, outcome: Outcome, test: str) -> None:
        process = self.queue.take()
        assert process is not None
        process.end(Result(outcome, test))


@pytest.mark.parametrize("outcome", [Outcome.KILLED, Outcome.HUNG])
def test_a_test_counts_against_a_mutant_only_if_it_passes_without_any_change(outcome: Outcome) -> None:
    recorded = Recorded()

    recorded.end(outcome, "a")
    assert recorded.results == []
    recorded.end(outcome, "a")
    recorded.end(outcome, "b")
    recorded.end(Outcome.SURVIVED, "b")

    mutant = recorded.mutant
    assert recorded.started == [(mutant, ["a", "b"]), (None, ["a"]), (mutant, ["b"]), (None, ["b"])]
    assert recorded.results == [(mutant, Result(outcome, "b"))]
    assert recorded.queue.take() is None


def test_a_mutant_against_which_no_test_ran_is_an_error() -> None:
    with pytest.raises(RuntimeError, match="measure again"):
        Recorded().end(Outcome.KILLED, "")
