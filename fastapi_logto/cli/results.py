"""What the commands find out, as values: shown by `rendering`, written as JSON by `to_json`."""

import dataclasses
import json
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, TypeAlias

from fastapi_logto.errors import LogtoError

__all__ = [
    "Check",
    "CommandError",
    "Diagnosis",
    "ExitCode",
    "FoundSetting",
    "Section",
    "Status",
    "to_json",
]

Status: TypeAlias = Literal["ok", "failed", "warning", "skipped"]
"""How a check ended: a warning fails nothing, and what was skipped had nothing to look at."""


class ExitCode:
    """What scripts are told."""

    FINE: ClassVar[int] = 0
    FAILED: ClassVar[int] = 1
    USAGE: ClassVar[int] = 2
    FAULT: ClassVar[int] = 70
    INTERRUPTED: ClassVar[int] = 130


class CommandError(LogtoError):
    """A mistake of whoever runs the command: one message and no traceback."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One thing that was looked at.

    Attributes:
        name: What.
        status: How it ended.
        found: What was found; quoted where it came from outside.
        advice: What to do, where it did not end well.
        reason: The reason that a request with this token would be answered, of a check of a token.
    """

    name: str
    status: Status
    found: str = ""
    advice: str = ""
    reason: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """Checks that belong together."""

    title: str
    checks: tuple[Check, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundSetting:
    """A setting, and where it is from: `environment`, the name of a file, or `default`."""

    variable: str
    value: str
    source: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Diagnosis:
    """All that `doctor` found.

    Attributes:
        settings: The settings; none where they are wrong.
        sections: The checks.
        exit_code: What the command ends with.
        next_step: What to do first; empty where all is well.
    """

    settings: tuple[FoundSetting, ...] = field(default=())
    sections: tuple[Section, ...]
    exit_code: int
    next_step: str


def to_json(value: Any) -> str:  # noqa: ANN401 - any of the values of this package
    """Give a value as JSON: the members of a dataclass by their names.

    Args:
        value: A value made of dataclasses, tuples, dictionaries, texts and numbers.
    """
    document = dataclasses.asdict(value) if dataclasses.is_dataclass(value) and not isinstance(value, type) else value
    return json.dumps(document, indent=2)
