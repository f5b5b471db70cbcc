"""The terminal. Only this module prints and prompts, so every text is escaped.

Without escaping, text from a provider, a token, an application or a file could move the cursor, set the window title,
hide a link, or overwrite the line that says that a token is not verified. Text is escaped twice: `build_text` escapes
before the layout, so that columns keep their width, and `Terminal` escapes again, so that no text is missed.
"""

import os
import re
import sys
from collections.abc import Callable, Generator, Iterable
from contextlib import contextmanager
from typing import Any

import typer
from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, Group, RenderableType
from rich.containers import Lines
from rich.segment import Segment
from rich.text import Text
from typing_extensions import override

from fastapi_logto.cli.results import CommandError, to_json


def escape(text: str) -> str:
    """Return a line of text without characters that control a terminal.

    Escapes every character that is not printable: control characters (C0 and C1, including ESC), line breaks,
    characters that hide text or reverse its direction, lone surrogates, and spaces other than U+0020.
    """
    return text if text.isprintable() else "".join(one if one.isprintable() else ascii(one)[1:-1] for one in text)


def escape_lines(text: str) -> str:
    """Return text without characters that control a terminal. Newlines are kept."""
    return "\n".join(map(escape, text.split("\n")))


def build_text(*lines: str, style: str = "", is_whole: bool = False) -> Text:
    """Return text for a table or a line of output. Markup has no effect, and line breaks inside a line are escaped.

    It is broken at spaces only, and not even there with `is_whole`.
    """
    return _Words("\n".join(map(escape, lines)), style=style, no_wrap=is_whole)


def break_lines(text: Text, width: int) -> list[Text]:
    """Return the lines of a text. A word that is longer than a line is not broken: nobody could copy it."""
    lines = text.split("\n", allow_blank=True)
    if text.no_wrap:
        return list(lines)
    parts = [part for line in lines for part in line.divide(_find_breaks(line.plain, width))]
    for part in parts:
        part.rstrip()
    return parts


def _find_breaks(line: str, width: int) -> list[int]:
    breaks: list[int] = []
    used = 0
    for word in re.finditer(r"\S+ *", line):
        if used and used + cell_len(word.group().rstrip(" ")) > width:
            breaks.append(word.start())
            used = 0
        used += cell_len(word.group())
    return breaks


class _Words(Text):
    """Text that is broken at spaces only. Rich would also break a word that does not fit."""

    @override
    def wrap(self, console: Console, width: int, **_options: Any) -> Lines:
        return Lines(break_lines(self, width))


class Terminal(Console):
    """Rich console that prints no control characters and no links from text."""

    def __init__(self, *, is_error: bool = False) -> None:
        """Open standard output, or standard error."""
        super().__init__(file=sys.stderr if is_error else sys.stdout, markup=False, emoji=False, highlight=False)

    def show(self, rendered: RenderableType) -> None:
        """Print a result. Words that are longer than a line are not broken."""
        # Outside of a group, Rich would replace a text by a copy, which breaks words.
        self.print(Group(rendered), crop=False)

    @override
    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        for segment in super().render(renderable, options):
            # Only Rich creates control segments, for the progress line. They never contain text.
            yield segment if segment.control else _clean(segment)


def _clean(segment: Segment) -> Segment:
    style = segment.style.update_link(None) if segment.style is not None and segment.style.link else segment.style
    return Segment(escape_lines(segment.text), style)


def open_terminal(*, is_error: bool = False) -> Terminal:
    """Return the terminal for results, or for standard error."""
    return Terminal(is_error=is_error)


def print_result(value: Any, *, is_json: bool, rendered: RenderableType) -> None:  # noqa: ANN401 - any result
    """Print a result on standard output, as JSON or rendered; raise `CommandError` if it can't be written."""
    if is_json:
        write(to_json(value))
        return
    with _writing():
        open_terminal().show(rendered)


def write(text: str) -> None:
    """Print lines on standard output for another program; raise `CommandError` if they can't be written."""
    with _writing():
        sys.stdout.write(f"{escape_lines(text)}\n")


def warn(text: str) -> None:
    """Print lines on standard error."""
    open_terminal(is_error=True).print(build_text(*text.split("\n")), soft_wrap=True)


@contextmanager
def open_progress() -> Generator[Callable[[str], None]]:
    """Show progress, on standard error only, so that standard output contains only the result."""
    if not sys.stderr.isatty():
        yield _print_nothing
        return
    with open_terminal(is_error=True).status(build_text("Reading the settings")) as status:
        yield lambda text: status.update(build_text(text))


def _print_nothing(_text: str) -> None:
    """Do nothing: standard error is not a terminal."""


def ask(question: str) -> str:
    """Prompt for a text."""
    return _prompt(question, hide_input=False).strip()


def ask_secret(question: str) -> str:
    """Prompt for a text without showing it."""
    return _prompt(question, hide_input=True)


def _prompt(question: str, *, hide_input: bool) -> str:
    text: str = typer.prompt(escape(question), hide_input=hide_input, err=True)
    try:
        text.encode()
    except UnicodeEncodeError:
        raise CommandError("prompt: expected UTF-8, found other bytes") from None
    return text


def confirm(question: str) -> None:
    """Prompt for confirmation; raise `typer.Abort` if the reply is no."""
    typer.confirm(escape(question), abort=True, err=True)


@contextmanager
def _writing() -> Generator[None]:
    """Report an output that can't be written in one line. A reader that closes the pipe early is not an error."""
    try:
        yield
        sys.stdout.flush()
    except OSError as error:
        # Otherwise Python flushes again at exit and prints its own error.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if not isinstance(error, BrokenPipeError):
            raise CommandError(f"the output can't be written: {error.strerror}") from None
