"""The command `fastapi-logto`: diagnose rejected tokens, list route requirements, sync scopes with Logto.

Requires `pip install "fastapi-logto[cli]"`. Each command computes a typed result without printing. `rendering` shows
the result and `results.to_json` writes it as JSON, so the two can't differ.
"""

import sys
from collections.abc import Sequence
from typing import Final

_EXTRA: Final = ("typer", "rich")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code, with the arguments of the process by default.

    Exit codes: 0 success, 1 a check failed, 2 invalid usage or settings, 70 internal error.
    """
    try:
        from fastapi_logto.cli.commands import run  # noqa: PLC0415 - needs the extra
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in _EXTRA:
            raise
        sys.stderr.write('fastapi-logto: the command line needs more packages; pip install "fastapi-logto[cli]"\n')
        return 1
    return run(arguments)
