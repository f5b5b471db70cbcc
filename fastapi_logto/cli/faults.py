"""What is printed if a command ends by an exception that it does not raise itself: one line, and no traceback."""

import re
import traceback
from pathlib import Path
from typing import Final

__all__ = ["explain_fault", "explain_usage"]

_LONG_WORD: Final = re.compile(r"[A-Za-z0-9_-]{32,}", re.ASCII)


def explain_usage(error: Exception) -> str | None:
    """Return the message of Typer's errors about arguments; `None` for any other exception.

    Args:
        error: The exception.
    """
    # By its method: the class is public in the newest versions of Typer only.
    format_message = getattr(error, "format_message", None)
    if format_message is None:
        return None
    message = str(format_message())
    if type(error).__name__ == "NoArgsIsHelpError":
        return message
    # The message repeats arguments, and one of them may be a part of a token or a secret that was pasted.
    shown = _LONG_WORD.sub(lambda match: f"({len(match[0])} characters, not shown)", message).rstrip(".")
    context = getattr(error, "ctx", None)
    command: str = getattr(context, "command_path", "fastapi-logto")
    return f"fastapi-logto: {shown}; see {command} --help"


def explain_fault(error: Exception) -> str:
    """Return the class and the place of an exception that nobody expected. Its text may hold a secret.

    Args:
        error: The exception, which was raised.
    """
    frame = traceback.extract_tb(error.__traceback__)[-1]
    place = f"{Path(frame.filename).name}:{frame.lineno}"
    return f"fastapi-logto: unexpected {type(error).__name__} at {place}; please report this fault of the command"
