"""The command `fastapi-logto`: why a token is refused, what routes ask for, and scopes pushed to Logto.

Needs `pip install "fastapi-logto[cli]"`. What a command finds out is a typed value, made without a word
printed; one module shows it and another one writes it as JSON, so that the two can't differ.
"""

import sys
from collections.abc import Sequence
from typing import Final

__all__ = ["main"]

_EXTRA: Final = ("typer", "rich")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command.

    Args:
        arguments: The command line without the program's name; that of the process when left out.

    Returns:
        The exit code: 0 fine, 1 a check failed, 2 a wrong usage or setting, 70 a fault of the command.
    """
    try:
        from fastapi_logto.cli.commands import run  # noqa: PLC0415 - needs the extra
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in _EXTRA:
            raise
        sys.stderr.write('fastapi-logto: its command line needs more packages; pip install "fastapi-logto[cli]"\n')
        return 1
    return run(arguments)
