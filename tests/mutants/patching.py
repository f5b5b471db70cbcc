"""Put a mutant into a running process by replacing the code of functions, or into a new one by an import hook."""

import gc
import importlib.abc
import importlib.machinery
import importlib.util
import inspect
import sys
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import CodeType, FunctionType, ModuleType

from typing_extensions import override

from tests.mutants.operators import Mutant, build_source


class NotPatchableError(Exception):
    """The mutant changes code that has already run, such as a constant of its module."""


class Functions:
    """The functions of a process, by the location of their code."""

    def __init__(self, root: Path, paths: Sequence[str]) -> None:
        self._root = root
        files = {str(root / path) for path in paths}
        self._by_place: defaultdict[tuple[str, str, int], list[FunctionType]] = defaultdict(list)
        for one in gc.get_objects():
            if isinstance(one, FunctionType) and one.__code__.co_filename in files:
                self._by_place[_get_place(one.__code__)].append(one)

    def patch(self, mutant: Mutant) -> None:
        """Replace the code of the functions that the mutant changes.

        Raises:
            NotPatchableError: The change is not in the body of a function of this process.
        """
        path = self._root / mutant.path
        source = path.read_bytes()
        old = compile(source, str(path), "exec", dont_inherit=True)
        new = compile(build_source(source, mutant), str(path), "exec", dont_inherit=True)
        changed = list(_find_changed(old, new))
        if not any(self._by_place[_get_place(before)] for before, _ in changed):
            raise NotPatchableError
        for before, after in changed:
            for function in self._by_place[_get_place(before)]:
                try:
                    function.__code__ = after
                except ValueError as error:
                    raise NotPatchableError from error


def _get_place(code: CodeType) -> tuple[str, str, int]:
    return code.co_filename, code.co_qualname, code.co_firstlineno


def _find_changed(old: CodeType, new: CodeType) -> Iterator[tuple[CodeType, CodeType]]:
    """Yield the functions that differ, each with its new code, including those that contain a changed function."""
    if old == new:
        return
    if old.co_flags & inspect.CO_NEWLOCALS:
        yield old, new
    elif _get_own(old) != _get_own(new):
        raise NotPatchableError
    inner = [[one for one in code.co_consts if isinstance(one, CodeType)] for code in (old, new)]
    if len(inner[0]) == len(inner[1]):
        for before, after in zip(*inner, strict=True):
            yield from _find_changed(before, after)


def _get_own(code: CodeType) -> tuple[bytes, tuple[object, ...], tuple[str, ...]]:
    """Return the code of a module or a class without that of the functions in it."""
    return code.co_code, tuple(one for one in code.co_consts if not isinstance(one, CodeType)), code.co_names


def import_mutant(root: Path, mutant: Mutant) -> None:
    """Make this process import the mutant in place of its module."""
    name = mutant.path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
    if name in sys.modules:
        raise RuntimeError(f"expected {name} not to be imported yet")
    sys.meta_path.insert(0, _Finder(name, root / mutant.path, mutant))


class _Finder(importlib.abc.MetaPathFinder):
    def __init__(self, name: str, path: Path, mutant: Mutant) -> None:
        self._name = name
        self._path = path
        self._mutant = mutant

    @override
    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if fullname != self._name:
            return None
        loader = _Loader(fullname, str(self._path), self._mutant)
        return importlib.util.spec_from_file_location(fullname, self._path, loader=loader)


class _Loader(importlib.machinery.SourceFileLoader):
    def __init__(self, fullname: str, path: str, mutant: Mutant) -> None:
        super().__init__(fullname, path)
        self._mutant = mutant

    @override
    def get_code(self, fullname: str) -> CodeType:
        source = build_source(Path(self.path).read_bytes(), self._mutant)
        return compile(source, self.path, "exec", dont_inherit=True)
