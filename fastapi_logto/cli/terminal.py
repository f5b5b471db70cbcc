"""The terminal: the only module that prints or asks, so that every text passes `escape`.

A text of a provider, a token, an application or a file could otherwise move the cursor, set the title of the window,
hide a link, or write over the line that says that a token is not verified. Escaping happens twice: `build_text` escapes
before the layout, so that columns keep their width, and `Terminal` escapes what is left, so that it can't be forgotten.
"""

import os
import sys
from collections.abc import Callable, Generator, Iterable
from contextlib import contextmanager

import typer
from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.text import Text
from typing_extensions import override

from fastapi_logto.cli.results import CommandError

__all__ = [
    "Terminal",
    "ask_secret",
    "build_text",
    "confirm",
    "escape",
    "escape_lines",
    "open_progress",
    "open_terminal",
    "show",
    "warn",
    "write",
]


def escape(text: str) -> str:
    """Return a text of one line without characters that control a terminal.

    Every character that is not printable is escaped: control characters (C0 and C1, ESC among them), line breaks,
    characters that hide or that reverse the direction of writing, lone surrogates, and spaces other than U+0020.

    Args:
        text: Any text.
    """
    return text if text.isprintable() else "".join(one if one.isprintable() else ascii(one)[1:-1] for one in text)


def escape_lines(text: str) -> str:
    """Return a text of several lines, separated by newlines, without characters that control a terminal."""
    return "\n".join(map(escape, text.split("\n")))


def build_text(*lines: str, style: str = "") -> Text:
    """Return a text for a table or a line of output. Markup in it has no meaning.

    Args:
        *lines: Its lines; a line break inside of one is escaped.
        style: Its style, in Rich's words.
    """
    return Text("\n".join(map(escape, lines)), style=style)


class Terminal(Console):
    """Rich's console, which prints no control character and no link that comes from a text."""

    def __init__(self, *, is_error: bool = False) -> None:
        """Open standard output, or standard error."""
        super().__init__(file=sys.stderr if is_error else sys.stdout, markup=False, emoji=False, highlight=False)

    @override
    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        for segment in super().render(renderable, options):
            # Control segments are Rich's own, for the progress line: no text gets into them.
            yield segment if segment.control else _clean(segment)


def _clean(segment: Segment) -> Segment:
    style = segment.style.update_link(None) if segment.style is not None and segment.style.link else segment.style
    return Segment(escape_lines(segment.text), style)


def open_terminal(*, is_error: bool = False) -> Terminal:
    """Return the terminal that results are printed on, without colours if they are not wanted.

    Args:
        is_error: Whether to print on standard error.
    """
    return Terminal(is_error=is_error)


def show(rendered: RenderableType) -> None:
    """Print a result on standard output.

    Raises:
        CommandError: The output can't be written.
    """
    with _writing():
        open_terminal().print(rendered)


def write(text: str) -> None:
    """Print lines on standard output, for another program to read.

    Raises:
        CommandError: The output can't be written.
    """
    with _writing():
        sys.stdout.write(f"{escape_lines(text)}\n")


def warn(text: str) -> None:
    """Print lines on standard error."""
    open_terminal(is_error=True).print(build_text(*text.split("\n")), soft_wrap=True)


@contextmanager
def open_progress() -> Generator[Callable[[str], None]]:
    """Print on a terminal what takes time; on standard error, so that the output is the result alone."""
    if not sys.stderr.isatty():
        yield _print_nothing
        return
    with open_terminal(is_error=True).status(build_text("Reading the settings")) as status:
        yield lambda text: status.update(build_text(text))


def _print_nothing(_text: str) -> None:
    """Do nothing: standard error is not a terminal."""


def ask_secret(question: str) -> str:
    """Ask for a text that is not shown while it is typed.

    Args:
        question: The question.

    Raises:
        CommandError: What was typed is not UTF-8.
    """
    answer: str = typer.prompt(escape(question), hide_input=True, err=True)
    try:
        answer.encode()
    except UnicodeEncodeError:
        raise CommandError("prompt: expected a text in UTF-8, found other bytes") from None
    return answer


def confirm(question: str) -> None:
    """Ask for a yes.

    Raises:
        typer.Abort: The reply is no.
    """
    typer.confirm(escape(question), abort=True, err=True)


@contextmanager
def _writing() -> Generator[None]:
    """Report in one line that the output can't be written; a reader that has seen enough is no error."""
    try:
        yield
        sys.stdout.flush()
    except OSError as error:
        # Python would try once more at its end, and complain in its own way.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if not isinstance(error, BrokenPipeError):
            raise CommandError(f"the output can't be written: {error.strerror}") from None
