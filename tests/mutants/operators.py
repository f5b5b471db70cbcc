"""Make mutants: copies of a module with one small change each, like a careless edit or a wrong merge.

A mutant is a range of bytes of the source and its replacement. The replacement has as many lines as the range, so the
line numbers of all other code stay the same.
"""

import ast
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import PurePath
from typing import Final

from typing_extensions import override

_LONGEST_TEXT: Final = 60
_COMPARISONS: Final[dict[type[ast.cmpop], tuple[str, ...]]] = {
    ast.Lt: ("<=", ">="),
    ast.LtE: ("<", ">"),
    ast.Gt: (">=", "<="),
    ast.GtE: (">", "<"),
    # The opposite comes last. In a condition it tests nothing more than the constants `True` and `False`.
    ast.Eq: ("!=",),
    ast.NotEq: ("==",),
    ast.Is: ("is not",),
    ast.IsNot: ("is",),
    ast.In: ("not in",),
    ast.NotIn: ("in",),
}
_ARITHMETIC: Final[dict[type[ast.operator], str]] = {
    ast.Add: "-",
    ast.Sub: "+",
    ast.Mult: "/",
    ast.Div: "*",
    ast.FloorDiv: "*",
    ast.Mod: "+",
    ast.BitAnd: "|",
    ast.BitOr: "&",
    ast.BitXor: "&",
    ast.LShift: ">>",
    ast.RShift: "<<",
}
_CALLS: Final = {"min": "max", "max": "min", "any": "all", "all": "any"}
# They only matter to type checkers and readers.
_UNTYPED_CALLS: Final = frozenset({"TypeVar", "NewType", "ParamSpec", "cast", "getLogger"})
_UNTYPED_NAMES: Final = frozenset({"__all__", "__slots__", "__match_args__"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Mutant:
    """A change to a module.

    Attributes:
        path: The module, relative to the root of the project.
        place: The function that is changed, or the names that a statement of a module or a class assigns.
        is_in_function: Whether the change is in the body of a function.
        line: First line of the change.
        start: First byte of the range that is replaced.
        end: The byte after the range.
        text: The replacement.
        change: A short description of the change.
    """

    path: str
    place: str
    is_in_function: bool
    line: int
    start: int
    end: int
    text: bytes
    change: str

    @property
    def id(self) -> str:
        """A name that stays the same if other lines of the module change."""
        return f"{self.path}::{self.place}: {self.change}"

    def is_likely(self, test: str) -> bool:
        """Whether a test is in the test file of the module, and so is the most likely to fail."""
        return f"test_{PurePath(self.path).stem}" in test


def build_source(source: bytes, mutant: Mutant) -> bytes:
    """Return the source of the module with the change."""
    return source[: mutant.start] + mutant.text + source[mutant.end :]


def generate(path: str, source: bytes) -> list[Mutant]:
    """Return the mutants of a module that are valid Python, in the order of their lines."""
    maker = _Maker(path, source)
    maker.visit(ast.parse(source))
    seen: Counter[str] = Counter()
    mutants: list[Mutant] = []
    for mutant in sorted(maker.mutants, key=lambda one: (one.start, one.end, one.text)):
        if _is_python(build_source(source, mutant)):
            seen[mutant.id] += 1
            again = f" ({seen[mutant.id]})" if seen[mutant.id] > 1 else ""
            mutants.append(replace(mutant, change=mutant.change + again))
    return mutants


def _is_python(source: bytes) -> bool:
    try:
        compile(source, "mutant", "exec", dont_inherit=True)
    except (SyntaxError, ValueError):
        return False
    return True


def _shorten(text: bytes) -> str:
    words = " ".join(text.decode().split())
    return words if len(words) <= _LONGEST_TEXT else f"{words[: _LONGEST_TEXT - 3]}..."


class _Maker(ast.NodeVisitor):
    """Collect the mutants of a module."""

    def __init__(self, path: str, source: bytes) -> None:
        self.mutants: list[Mutant] = []
        self._path = path
        self._source = source
        self._lines = [0]
        for line in source.splitlines(keepends=True):
            self._lines.append(self._lines[-1] + len(line))
        self._places: list[str] = []
        self._functions = 0
        self._forced: set[ast.expr] = set()

    def _range(self, node: ast.stmt | ast.expr | ast.keyword) -> tuple[int, int]:
        assert node.end_lineno is not None
        assert node.end_col_offset is not None
        return self._lines[node.lineno - 1] + node.col_offset, self._lines[node.end_lineno - 1] + node.end_col_offset

    def _text(self, node: ast.stmt | ast.expr | ast.keyword) -> bytes:
        start, end = self._range(node)
        return self._source[start:end]

    def _replace(self, start: int, end: int, text: bytes, change: str, *, is_statement: bool = False) -> None:
        missing = self._source[start:end].count(b"\n") - text.count(b"\n")
        if missing > 0:
            text = text + b"\n" * missing if is_statement else b"(" + text + b"\n" * missing + b")"
        line = self._source.count(b"\n", 0, start) + 1
        self.mutants.append(
            Mutant(
                path=self._path,
                place=".".join(self._places) or "module",
                is_in_function=self._functions > 0,
                line=line,
                start=start,
                end=end,
                text=text,
                change=change,
            )
        )

    def _swap(self, node: ast.expr, text: bytes) -> None:
        """Replace an expression. Parentheses keep its place in the expression around it."""
        old = self._text(node)
        self._replace(*self._range(node), b"(" + text + b")", f"`{_shorten(old)}` is `{_shorten(text)}`")

    def _drop(self, node: ast.stmt) -> None:
        start, end = self._range(node)
        self._replace(start, end, b"pass", f"without `{_shorten(self._text(node))}`", is_statement=True)

    # Definitions and places

    def _enter(self, node: ast.FunctionDef | ast.AsyncFunctionDef) -> None:
        if any(isinstance(one, ast.Name) and one.id == "overload" for one in node.decorator_list):
            return
        self._places.append(node.name)
        for default in (*node.args.defaults, *(one for one in node.args.kw_defaults if one is not None)):
            self.visit(default)
        self._functions += 1
        for statement in _skip_docstring(node.body):
            self.visit(statement)
        self._functions -= 1
        self._places.pop()

    @override
    def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
        self._enter(node)

    @override
    def visit_AsyncFunctionDef(self, node: ast.AsyncFunctionDef) -> None:
        self._enter(node)

    @override
    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        self._places.append(node.name)
        functions, self._functions = self._functions, 0
        for statement in _skip_docstring(node.body):
            self.visit(statement)
        self._functions = functions
        self._places.pop()

    @override
    def visit_Module(self, node: ast.Module) -> None:
        for statement in _skip_docstring(node.body):
            self.visit(statement)

    @override
    def visit_Lambda(self, node: ast.Lambda) -> None:
        self._functions += 1
        self.visit(node.body)
        self._functions -= 1

    # Statements

    def _assign(self, node: ast.Assign | ast.AnnAssign | ast.AugAssign, targets: list[ast.expr]) -> None:
        names = [_shorten(self._text(one)) for one in targets]
        if node.value is None or _UNTYPED_NAMES.intersection(names):
            return
        if self._functions:
            if isinstance(node, ast.AugAssign) or any(not isinstance(one, ast.Name | ast.Tuple) for one in targets):
                self._drop(node)
            for target in targets:
                self.visit(target)
            self.visit(node.value)
        else:
            self._places.append("/".join(names))
            self.visit(node.value)
            self._places.pop()

    @override
    def visit_Assign(self, node: ast.Assign) -> None:
        self._assign(node, node.targets)

    @override
    def visit_AnnAssign(self, node: ast.AnnAssign) -> None:
        self._assign(node, [node.target])

    @override
    def visit_AugAssign(self, node: ast.AugAssign) -> None:
        self._assign(node, [node.target])

    @override
    def visit_Expr(self, node: ast.Expr) -> None:
        if isinstance(node.value, ast.Call | ast.Await | ast.Yield) and self._functions and not _is_logging(node.value):
            self._drop(node)
        self.generic_visit(node)

    @override
    def visit_Delete(self, node: ast.Delete) -> None:
        if any(not isinstance(one, ast.Name) for one in node.targets):
            self._drop(node)

    @override
    def visit_Raise(self, node: ast.Raise) -> None:
        self._drop(node)
        self.generic_visit(node)

    @override
    def visit_Return(self, node: ast.Return) -> None:
        if node.value is not None and not (isinstance(node.value, ast.Constant) and node.value.value is None):
            start, end = self._range(node)
            change = f"`{_shorten(self._text(node))}` is `return None`"
            self._replace(start, end, b"return None", change, is_statement=True)
        elif node.value is None:
            self._drop(node)
        self.generic_visit(node)

    @override
    def visit_Break(self, node: ast.Break) -> None:
        self._replace(*self._range(node), b"continue", "`break` is `continue`", is_statement=True)

    @override
    def visit_Continue(self, node: ast.Continue) -> None:
        self._replace(*self._range(node), b"break", "`continue` is `break`", is_statement=True)

    def _force(self, test: ast.expr, *values: bytes) -> None:
        for value in values:
            self._swap(test, value)
        self._forced.add(test)
        if isinstance(test, ast.BoolOp):
            self._forced.update(test.values)
        self.visit(test)

    @override
    def visit_If(self, node: ast.If) -> None:
        if isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            return
        self._force(node.test, b"True", b"False")
        for statement in (*node.body, *node.orelse):
            self.visit(statement)

    @override
    def visit_While(self, node: ast.While) -> None:
        self._force(node.test, b"False")
        for statement in (*node.body, *node.orelse):
            self.visit(statement)

    @override
    def visit_IfExp(self, node: ast.IfExp) -> None:
        self._force(node.test, b"True", b"False")
        self.visit(node.body)
        self.visit(node.orelse)

    @override
    def visit_comprehension(self, node: ast.comprehension) -> None:
        self.visit(node.iter)
        for test in node.ifs:
            self._force(test, b"True", b"False")

    @override
    def visit_Try(self, node: ast.Try) -> None:
        for handler in node.handlers:
            first, last = handler.body[0], handler.body[-1]
            if not isinstance(first, ast.Raise) or first.exc is not None:
                start, end = self._range(first)[0], self._range(last)[1]
                kind = _shorten(self._text(handler.type)) if handler.type else ""
                self._replace(start, end, b"raise", f"`except {kind}` raises again", is_statement=True)
        if node.finalbody:
            start, end = self._range(node.finalbody[0])[0], self._range(node.finalbody[-1])[1]
            self._replace(
                start, end, b"pass", f"without `finally: {_shorten(self._source[start:end])}`", is_statement=True
            )
        self.generic_visit(node)

    def _with(self, node: ast.With | ast.AsyncWith) -> None:
        start, last = self._range(node)[0], node.items[-1]
        end = self._range(last.optional_vars or last.context_expr)[1]
        if all(item.optional_vars is None for item in node.items):
            self._replace(start, end, b"if True", f"without `{_shorten(self._source[start:end])}`", is_statement=True)
        self.generic_visit(node)

    @override
    def visit_With(self, node: ast.With) -> None:
        self._with(node)

    @override
    def visit_AsyncWith(self, node: ast.AsyncWith) -> None:
        self._with(node)

    # Expressions

    @override
    def visit_Compare(self, node: ast.Compare) -> None:
        left = node.left
        for operator, right in zip(node.ops, node.comparators, strict=True):
            start, end = self._range(left)[1], self._range(right)[0]
            between = self._source[start:end]
            name = between.strip(b" \n()").split(b"#")[0].strip()
            for new in _COMPARISONS[type(operator)][: -1 if node in self._forced else None]:
                change = f"`{_shorten(self._text(node))}`: `{name.decode()}` is `{new}`"
                self._replace(start, end, between.replace(name, new.encode(), 1), change)
            left = right
        self.generic_visit(node)

    @override
    def visit_BoolOp(self, node: ast.BoolOp) -> None:
        word = b" and " if isinstance(node.op, ast.And) else b" or "
        for index in range(len(node.values)):
            kept = [b"(" + self._text(one) + b")" for at, one in enumerate(node.values) if at != index]
            old = f"`{_shorten(self._text(node))}` without `{_shorten(self._text(node.values[index]))}`"
            self._replace(*self._range(node), b"(" + word.join(kept) + b")", old)
        self.generic_visit(node)

    @override
    def visit_UnaryOp(self, node: ast.UnaryOp) -> None:
        if isinstance(node.op, ast.Not) and node not in self._forced:
            self._swap(node, self._text(node.operand))
        self.generic_visit(node)

    @override
    def visit_BinOp(self, node: ast.BinOp) -> None:
        start, end = self._range(node.left)[1], self._range(node.right)[0]
        between = self._source[start:end]
        new = _ARITHMETIC.get(type(node.op))
        sign = between.strip(b" \n()").split(b"#")[0].strip()
        if new is not None and not any(
            isinstance(one, ast.Constant) and isinstance(one.value, str) for one in (node.left, node.right)
        ):
            change = f"`{_shorten(self._text(node))}`: `{sign.decode()}` is `{new}`"
            self._replace(start, end, between.replace(sign, new.encode(), 1), change)
        self.generic_visit(node)

    @override
    def visit_Call(self, node: ast.Call) -> None:
        name = node.func.id if isinstance(node.func, ast.Name) else ""
        if name in _UNTYPED_CALLS or _is_logging(node):
            for argument in node.args[1:] if name == "cast" else ():
                self.visit(argument)
            return
        if name in _CALLS:
            self._swap(node.func, _CALLS[name].encode())
        if self._functions:
            for at, keyword in enumerate(node.keywords):
                self._remove_keyword(node, at, keyword)
        self.generic_visit(node)

    def _remove_keyword(self, node: ast.Call, at: int, keyword: ast.keyword) -> None:
        if keyword.arg is None:
            return
        start, end = self._range(keyword)
        while self._source[end : end + 1] in (b" ", b"\n"):
            end += 1
        if self._source[end : end + 1] == b",":
            end += 1
        elif at or node.args:
            start = self._source.rindex(b",", 0, start)
        gap = b"\n" * self._source[start:end].count(b"\n")
        self._replace(
            start,
            end,
            gap,
            f"`{_shorten(self._text(node.func))}(...)` without `{_shorten(self._text(keyword))}`",
            is_statement=True,
        )

    @override
    def visit_Constant(self, node: ast.Constant) -> None:
        value = node.value
        if value is True or value is False:
            self._swap(node, str(not value).encode())
        elif isinstance(value, int | float):
            self._swap(node, repr(value + 1).encode())
        elif self._text(node)[:1] not in b"\"'b":
            # A raw string, or a part of a longer one.
            return
        elif isinstance(value, str) and " " not in value:
            self._swap(node, repr(f"{value}XX").encode())
        elif isinstance(value, bytes) and b" " not in value:
            self._swap(node, repr(value + b"XX").encode())

    @override
    def visit_JoinedStr(self, node: ast.JoinedStr) -> None:
        """Skip f-strings: they are texts for people, and Python before 3.12 has no positions of their parts."""

    @override
    def visit_MatchValue(self, node: ast.MatchValue) -> None:
        pass


def _skip_docstring(body: list[ast.stmt]) -> list[ast.stmt]:
    first = body[0]
    is_docstring = isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant)
    return body[1:] if is_docstring else body


def _is_logging(node: ast.expr) -> bool:
    while isinstance(node, ast.Call | ast.Attribute | ast.Await):
        node = node.func if isinstance(node, ast.Call) else node.value
    return isinstance(node, ast.Name) and node.id in {"logger", "_LOGGER", "_LOG", "LOGGER", "_logger", "log"}
