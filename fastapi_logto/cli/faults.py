"""Describe an exception that a command did not raise on purpose: one line, without a traceback."""

import re
import traceback
from pathlib import Path
from typing import Final

_LONG_WORD: Final = re.compile(r"[A-Za-z0-9_-]{32,}", re.ASCII)


def explain_usage(error: Exception) -> str | None:
    """Return the message of a Typer usage error; `None` for any other exception."""
    # Detected by its method: the class is public only in the newest versions of Typer.
    format_message = getattr(error, "format_message", None)
    if format_message is None:
        return None
    message = str(format_message())
    if type(error).__name__ == "NoArgsIsHelpError":
        return message
    # The message repeats arguments, and an argument may be part of a pasted token or secret.
    shown = _LONG_WORD.sub(lambda match: f"({len(match[0])} characters, not shown)", message).rstrip(".")
    context = getattr(error, "ctx", None)
    command: str = getattr(context, "command_path", "fastapi-logto")
    return f"fastapi-logto: {shown}; see {command} --help"


def explain_fault(error: Exception) -> str:
    """Return the class and position of an unexpected exception. Its text is omitted because it may contain a secret."""
    frame = traceback.extract_tb(error.__traceback__)[-1]
    place = f"{Path(frame.filename).name}:{frame.lineno}"
    return f"fastapi-logto: unexpected {type(error).__name__} at {place}; please report this bug"
