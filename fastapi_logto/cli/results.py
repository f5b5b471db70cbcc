"""The results of the commands: shown by `rendering`, written as JSON by `to_json`."""

import dataclasses
import json
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, TypeAlias

from fastapi_logto.errors import LogtoError

Status: TypeAlias = Literal["ok", "failed", "warning", "skipped"]
"""The outcome of a check: a warning does not fail the command, and a skipped check had nothing to check."""


class ExitCode:
    """The exit codes of the command."""

    FINE: ClassVar[int] = 0
    FAILED: ClassVar[int] = 1
    USAGE: ClassVar[int] = 2
    FAULT: ClassVar[int] = 70
    INTERRUPTED: ClassVar[int] = 130


class CommandError(LogtoError):
    """A usage error: shown as one message without a traceback."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """The result of one check.

    `found` is quoted if it came from outside. `reason` is set only for checks of a token: that of the error response.
    """

    name: str
    status: Status
    found: str = ""
    advice: str = ""
    reason: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """A group of checks."""

    title: str
    checks: tuple[Check, ...]


def to_json(value: Any) -> str:  # noqa: ANN401 - any of the values of this package
    """Return a value of dataclasses, tuples, dictionaries, strings and numbers as JSON."""
    document = dataclasses.asdict(value) if dataclasses.is_dataclass(value) and not isinstance(value, type) else value
    return json.dumps(document, indent=2)
