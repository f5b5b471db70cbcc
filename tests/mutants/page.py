"""The mutants that change nothing, with the reasons, and the page of the documentation."""

import platform
import tomllib
from collections import Counter
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from tests.attack.pages import build_table, write_marked
from tests.mutants.operators import Mutant
from tests.mutants.worker import Outcome

__all__ = ["find_unlisted", "read_listed", "write"]

_LISTED: Final = Path(__file__).with_name("survivors.toml")


def read_listed() -> dict[str, str]:
    """Return the reason of each mutant that may survive, by its id."""
    groups = tomllib.loads(_LISTED.read_text(encoding="utf-8")).get("survivors", [])
    return {mutant: group["why"] for group in groups for mutant in group["mutants"]}


def find_unlisted(outcomes: Mapping[Mutant, Outcome], listed: Mapping[str, str]) -> list[Mutant]:
    """Return the mutants that survived without a reason."""
    return [one for one, outcome in outcomes.items() if outcome is Outcome.SURVIVED and one.id not in listed]


def write(outcomes: Mapping[Mutant, Outcome], listed: Mapping[str, str]) -> None:
    """Write the score of each module and the survivors into the page."""
    rows: list[tuple[str, ...]] = []
    total: Counter[str] = Counter()
    for path in sorted({one.path for one in outcomes}):
        count = _count({one: outcome for one, outcome in outcomes.items() if one.path == path}, listed)
        rows.append(_describe(f"`{path.removeprefix('fastapi_logto/')}`", count))
        total += count
    rows.append(_describe("**total**", total))
    survived = {one.id for one, outcome in outcomes.items() if outcome is Outcome.SURVIVED}
    reasons: dict[str, list[str]] = {}
    for mutant, why in listed.items():
        if mutant in survived:
            reasons.setdefault(why, []).append(mutant)
    head = ("module", "mutants", "noticed", "of these by a hang", "change nothing", "not noticed", "score")
    blocks = {
        "run": f"{datetime.now(UTC):%Y-%m-%d}, Python {platform.python_version()}.",
        "score": build_table(head, rows),
        "survivors": "\n\n".join(
            f"{why}\n\n" + "\n".join(f"- `{one.removeprefix('fastapi_logto/')}`" for one in mutants)
            for why, mutants in reasons.items()
        ),
    }
    write_marked("mutation-testing", blocks)


def _count(outcomes: Mapping[Mutant, Outcome], listed: Mapping[str, str]) -> Counter[str]:
    count = Counter(total=len(outcomes))
    for mutant, outcome in outcomes.items():
        if outcome is Outcome.SURVIVED:
            count["listed" if mutant.id in listed else "unlisted"] += 1
        else:
            count["noticed"] += 1
            count["hung"] += outcome is Outcome.HUNG
    return count


def _describe(name: str, count: Counter[str]) -> tuple[str, ...]:
    score = count["noticed"] / max(1, count["total"] - count["listed"])
    names = ("total", "noticed", "hung", "listed", "unlisted")
    return (name, *(f"{count[one]:,}" for one in names), f"{100 * score:.1f} %")
