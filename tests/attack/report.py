"""The results of the attack suite and their report."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final, TextIO

_MOST_PRINTED: Final = 40


@dataclass(slots=True, kw_only=True)
class Tally:
    """The rows of one class of attacks, and the failures.

    Attributes:
        name: The class.
        rows: How many rows ran.
        failures: A line for each failed row. It names the row and quotes no token.
        seconds: How long the class took.
        tables: Tables in Markdown for the page of the suite, by the name of their markers.
        versions: Versions of further programs and packages that the class ran.
    """

    name: str
    rows: int = 0
    failures: list[str] = field(default_factory=list[str])
    seconds: float = 0.0
    tables: dict[str, str] = field(default_factory=dict[str, str])
    versions: dict[str, str] = field(default_factory=dict[str, str])

    def count(self, row: str, problem: str | None) -> None:
        """Count a row; `problem` says what is wrong with its outcome."""
        self.rows += 1
        if problem is not None:
            self.failures.append(f"{row}: {problem}")

    def fail(self, problem: str) -> None:
        """Add a failure that belongs to no single row, such as a table that is empty."""
        self.failures.append(problem)


def print_report(tallies: Sequence[Tally], *, out: TextIO | None = None) -> int:
    """Print the classes, their rows, failures and seconds; return the exit code."""
    out = sys.stdout if out is None else out
    lines = [("class", "rows", "failures", "seconds")]
    lines += [(one.name, f"{one.rows:,}", str(len(one.failures)), f"{one.seconds:.1f}") for one in tallies]
    failures = sum(len(one.failures) for one in tallies)
    rows = sum(one.rows for one in tallies)
    lines.append(("total", f"{rows:,}", str(failures), f"{sum(one.seconds for one in tallies):.1f}"))
    widths = [max(len(line[column]) for line in lines) for column in range(4)]
    for name, *numbers in lines:
        cells = [name.ljust(widths[0]), *(text.rjust(width) for text, width in zip(numbers, widths[1:], strict=True))]
        print("  ".join(cells), file=out)
    for one in tallies:
        for failure in one.failures[:_MOST_PRINTED]:
            print(f"FAILED {one.name}: {failure}", file=out)
        if len(one.failures) > _MOST_PRINTED:
            print(f"FAILED {one.name}: {len(one.failures) - _MOST_PRINTED} more", file=out)
    is_empty = not tallies or any(one.rows == 0 for one in tallies)
    if is_empty:
        print("FAILED a class ran no row", file=out)
    return 1 if failures or is_empty else 0
