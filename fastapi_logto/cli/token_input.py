"""Read a token from standard input or a prompt, never from the command line, which others can read."""

import re
import sys
from collections.abc import Sequence
from typing import Final, TextIO

from fastapi_logto.cli.results import CommandError
from fastapi_logto.cli.terminal import ask_secret

_LONGEST: Final = 256 * 1024
_TOKEN: Final = re.compile(
    r"""eyJ[A-Za-z0-9_-]*\.[A-Za-z0-9_-]*\.|(?:^|(?<=[\s=:"']))(?:"""
    r"""pat_[A-Za-z0-9_-]{28}|[A-Za-z0-9_][A-Za-z0-9_-]{42}(?=$|[\s"',;]))""",
    re.ASCII,
)
"""Matches the start of a JWT anywhere in an argument, or a personal access token or opaque token as a separate word."""

_PREFIX: Final = re.compile(r"(?:authorization\s*:\s*)?(?:bearer\s+)?", re.IGNORECASE)


def check_arguments(arguments: Sequence[str]) -> None:
    """Reject a command line that contains a token, before an error message repeats the arguments."""
    for argument in arguments:
        if _TOKEN.search(argument):
            raise CommandError(
                "expected no token in the arguments, found one; the shell history and every process on this machine "
                "can read it. Pipe the token in, or paste it at the prompt. If this one is real, end its session"
            )
        try:
            argument.encode()
        except UnicodeEncodeError:
            raise CommandError("expected arguments in UTF-8, found other bytes") from None


def can_ask() -> bool:
    """Return whether standard input is an open terminal, so that a prompt is possible."""
    stdin: TextIO | None = sys.stdin
    return stdin is not None and stdin.isatty()


def read_token() -> str:
    """Return the token from standard input; raise if it is missing or longer than 256 KiB."""
    stdin: TextIO | None = sys.stdin
    data = b"" if stdin is None else stdin.buffer.read(_LONGEST + 1)
    if len(data) > _LONGEST:
        raise CommandError(f"standard input: expected a token, found more than {_LONGEST} bytes")
    return _strip(data.decode("utf-8", "replace"), where="standard input")


def prompt_token() -> str:
    """Prompt for the token without showing it, or read it from standard input if that is not a terminal."""
    if not can_ask():
        return read_token()
    return _strip(ask_secret("Access token (not shown)"), where="prompt")


def _strip(text: str, *, where: str) -> str:
    # The pasted text may include a header name, `Bearer`, or the quotes of a JSON document.
    token = text.strip().strip("\"'")
    token = token[_PREFIX.match(token).end() :].strip()  # type: ignore[union-attr] # pyright: ignore[reportOptionalMemberAccess] - it matches the empty text too
    if not token:
        raise CommandError(f"{where}: expected an access token, found nothing")
    return token
