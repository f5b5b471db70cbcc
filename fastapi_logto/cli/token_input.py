"""Where a token comes from: standard input or a prompt, and never the command line, which others can read."""

import re
import sys
from collections.abc import Sequence
from typing import Final, TextIO

from fastapi_logto.cli.results import CommandError
from fastapi_logto.cli.terminal import ask_secret

__all__ = ["can_ask", "check_arguments", "prompt_token", "read_token"]

_LONGEST: Final = 256 * 1024
_TOKEN: Final = re.compile(
    r"eyJ[A-Za-z0-9_-]*\.[A-Za-z0-9_-]*\.|(?:^|(?<=[\s=:\"']))[A-Za-z0-9_][A-Za-z0-9_-]{42}(?=$|[\s\"',;])", re.ASCII
)
"""What a JWT begins with, anywhere in an argument, or an opaque token of Logto as a word."""

_PREFIX: Final = re.compile(r"(?:authorization\s*:\s*)?(?:bearer\s+)?", re.IGNORECASE)


def check_arguments(arguments: Sequence[str]) -> None:
    """Refuse a command line with a token in it, before a message about wrong arguments repeats it.

    Args:
        arguments: The arguments.

    Raises:
        CommandError: One of them looks like a token, or is not text.
    """
    for argument in arguments:
        if _TOKEN.search(argument):
            raise CommandError(
                "expected no token among the arguments, where the shell's history and every process of this machine "
                "can read it; pipe it in, or have the command ask for it. If this one is real, end its session"
            )
        try:
            argument.encode()
        except UnicodeEncodeError:
            raise CommandError("expected arguments in UTF-8, found other bytes") from None


def can_ask() -> bool:
    """Say whether somebody is there to be asked: standard input is a terminal, and not closed."""
    stdin: TextIO | None = sys.stdin
    return stdin is not None and stdin.isatty()


def read_token() -> str:
    """Give the token of standard input.

    Raises:
        CommandError: There is none, or more than any token has.
    """
    stdin: TextIO | None = sys.stdin
    data = b"" if stdin is None else stdin.buffer.read(_LONGEST + 1)
    if len(data) > _LONGEST:
        raise CommandError(f"standard input: expected a token, found more than {_LONGEST} bytes")
    return _strip(data.decode("utf-8", "replace"), where="standard input")


def prompt_token() -> str:
    """Ask for the token, which is not shown; read it from standard input where nobody can be asked.

    Raises:
        CommandError: There is none.
    """
    if not can_ask():
        return read_token()
    return _strip(ask_secret("Access token (not shown)"), where="prompt")


def _strip(text: str, *, where: str) -> str:
    # Pasted with what stood around it: a header's name, `Bearer`, quotes of a JSON document.
    token = text.strip().strip("\"'")
    token = token[_PREFIX.match(token).end() :].strip()  # type: ignore[union-attr] # pyright: ignore[reportOptionalMemberAccess] - it matches the empty text too
    if not token:
        raise CommandError(f"{where}: expected an access token, found nothing")
    return token
