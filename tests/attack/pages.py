"""Write what a run found into its page of the documentation.

The prose of a page is written by hand; the text between two markers with the same name is replaced.
"""

import platform
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Final

from tests.attack.report import Tally
from tests.markdown import build_table, replace_marked

_PAGES: Final = Path(__file__).parents[2] / "docs" / "explanation"
_PACKAGES: Final = ("fastapi", "starlette", "joserfc", "cryptography", "pydantic", "httpx")
_MOST_LISTED: Final = 40


def write_page(name: str, tallies: Sequence[Tally]) -> None:
    """Replace the results of a run, and the tables that its classes made, in `docs/explanation/<name>.md`."""
    blocks = {"run": _describe_run(tallies)}
    for tally in tallies:
        blocks.update(tally.tables)
    write_marked(name, blocks)


def write_marked(name: str, blocks: Mapping[str, str]) -> None:
    """Replace the texts between markers in `docs/explanation/<name>.md`."""
    page = _PAGES / f"{name}.md"
    page.write_text(replace_marked(page.read_text(encoding="utf-8"), blocks), encoding="utf-8")


def _describe_run(tallies: Sequence[Tally]) -> str:
    rows = [(one.name, f"{one.rows:,}", str(len(one.failures)), f"{one.seconds:.1f}") for one in tallies]
    rows.append(
        (
            "**total**",
            f"{sum(one.rows for one in tallies):,}",
            str(sum(len(one.failures) for one in tallies)),
            f"{sum(one.seconds for one in tallies):.1f}",
        )
    )
    versions = {name: version(name) for name in _PACKAGES}
    for one in tallies:
        versions.update(one.versions)
    found = ", ".join(f"{name} {number}" for name, number in versions.items())
    where = f"{datetime.now(UTC):%Y-%m-%d}, Python {platform.python_version()} on {sys.platform}; {found}."
    table = build_table(("class", "rows", "failures", "seconds"), rows)
    failures = [f"- {one.name}: `{line}`" for one in tallies for line in one.failures[:_MOST_LISTED]]
    return "\n\n".join([where, table, *(["Failures:", "\n".join(failures)] if failures else [])])
