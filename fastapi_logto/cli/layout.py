"""Arrange texts in columns. A word is never broken: users copy ids, paths, URLs, scopes and secrets.

Rich's own tables, panels and paddings break or crop a word that does not fit. Here such a record takes several lines,
and a word that is longer than a line is left to the terminal, which copies it in one piece.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderResult  # noqa: TID251 - the type of Rich's protocol
from rich.panel import Panel
from rich.text import Text  # noqa: TID251 - for annotations

from fastapi_logto.cli.terminal import break_lines, build_text

_GAP: Final = 2
_INDENT: Final = 4
_NARROW: Final = 24
"""A column of sentences that is narrower is hard to read."""
_BORDERS: Final = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Grid:
    """Records with several columns. If they do not fit beside each other, each record takes several lines.

    Attributes:
        titles: The title of each column.
        rows: The cells of each record.
        leading: How many cells name the record; they share a line if the columns do not fit.
    """

    titles: Sequence[str]
    rows: Sequence[Sequence[Text]]
    leading: int = 1

    def __rich_console__(
        self,
        console: Console,
        options: ConsoleOptions,
    ) -> RenderResult:
        """Render the records for a width."""
        titles = [build_text(title, style="bold") for title in self.titles]
        widths = _choose_widths([titles, *self.rows], options.max_width)
        if widths is not None:
            for cells in (titles, *self.rows):
                yield from _join(cells, widths)
            return
        for cells in self.rows:
            name = cells[0] if self.leading == 1 else build_text(" ").join(cells[: self.leading])
            yield from _indent(break_lines(name, options.max_width), 0)
            for title, cell in zip(self.titles[self.leading :], cells[self.leading :], strict=True):
                if cell.plain:
                    first, *others = break_lines(
                        build_text(f"{title}: ").append_text(cell), options.max_width - _INDENT
                    )
                    yield _fix(build_text(" " * _GAP).append_text(first))
                    yield from _indent(others, _INDENT)


@dataclass(frozen=True, slots=True, kw_only=True)
class Listing:
    """Names with a text beside each; below it, if it does not fit.

    Attributes:
        rows: The names and their texts.
        indent: The number of spaces before each line.
        name_width: The least width of the names.
    """

    rows: Sequence[tuple[Text, Text]]
    indent: int = 0
    name_width: int

    def __rich_console__(
        self,
        console: Console,
        options: ConsoleOptions,
    ) -> RenderResult:
        """Render the names for a width."""
        available = options.max_width - self.indent
        lengths = [cell_len(name.plain) for name, _ in self.rows]
        width = max([self.name_width, *lengths])
        if not all(_is_readable(text, available - width - _GAP) for _, text in self.rows):
            width = max([self.name_width, *(length for length in lengths if length <= available // 2)])
        for (name, text), length in zip(self.rows, lengths, strict=True):
            if length <= width and _find_longest_word(text) <= available - width - _GAP:
                yield from _indent(_join((name, text), (width, available - width - _GAP)), self.indent)
            else:
                yield from _indent([name], self.indent)
                if text.plain:
                    indent = self.indent + _INDENT
                    yield from _indent(break_lines(text, options.max_width - indent), indent)


@dataclass(frozen=True, slots=True, kw_only=True)
class Box:
    """A text in a box; without the box, if a word does not fit into it."""

    text: Text
    title: str = ""
    border_style: str

    def __rich_console__(
        self,
        console: Console,
        options: ConsoleOptions,
    ) -> RenderResult:
        """Render the text for a width."""
        if _find_longest_word(self.text) <= options.max_width - _BORDERS:
            yield Panel(self.text, title=self.title or None, title_align="left", border_style=self.border_style)
            return
        if self.title:
            yield build_text(f"{self.title}:", style="bold")
        yield from _indent(break_lines(self.text, options.max_width), 0)


def _find_longest_word(text: Text) -> int:
    words = text.plain.split("\n") if text.no_wrap else text.plain.split()
    return max(map(cell_len, words), default=0)


def _find_longest_line(text: Text) -> int:
    return max(map(cell_len, text.plain.split("\n")))


def _is_readable(text: Text, width: int) -> bool:
    return _find_longest_word(text) <= width and min(_find_longest_line(text), _NARROW) <= width


def _choose_widths(rows: Sequence[Sequence[Text]], available: int) -> Sequence[int] | None:
    """Return the width of each column, at least that of its longest word; `None` if this is too much."""
    columns = list(zip(*rows, strict=True))
    least = [max(map(_find_longest_word, cells)) for cells in columns]
    wanted = [max(map(_find_longest_line, cells)) - width for cells, width in zip(columns, least, strict=True)]
    free = available - sum(least) - _GAP * (len(columns) - 1)
    if free < 0:
        return None
    total = max(sum(wanted), free, 1)
    return [width + more * free // total for width, more in zip(least, wanted, strict=True)]


def _join(cells: Sequence[Text], widths: Sequence[int]) -> Iterator[Text]:
    """Yield the lines of a record whose cells are beside each other."""
    columns = [break_lines(cell, width) for cell, width in zip(cells, widths, strict=True)]
    for number in range(max(map(len, columns))):
        line = build_text("")
        start = 0
        for column, width in zip(columns, widths, strict=True):
            if number < len(column) and column[number].plain:
                line.append(" " * (start - cell_len(line.plain)))
                line.append_text(column[number])
            start += width + _GAP
        yield _fix(line)


def _indent(lines: Iterable[Text], indent: int) -> Iterator[Text]:
    for line in lines:
        yield _fix(build_text(" " * indent).append_text(line))


def _fix(line: Text) -> Text:
    """Return a line that Rich prints as it is."""
    line.no_wrap = True
    line.overflow = "ignore"
    return line
