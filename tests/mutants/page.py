"""The score of each module, in `scores.json` and on the page, and the listed survivors with their reasons."""

import json
import platform
import tomllib
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from tests.attack.pages import write_marked
from tests.markdown import build_table
from tests.mutants.operators import Mutant
from tests.mutants.worker import Outcome

_LISTED: Final = Path(__file__).with_name("survivors.toml")
_SCORES: Final = Path(__file__).with_name("scores.json")
_HEAD: Final = ("module", "run", "mutants", "noticed", "by a hang", "change nothing", "not noticed")


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """The results of the mutants of a module.

    Attributes:
        module: Hash of the code of the module that was run.
        run: Date and Python version of the run.
        mutants: How many there are.
        hung: How many were detected because the tests hung.
        survived: How many no test detected, including those that are listed with a reason.
    """

    module: str
    run: str
    mutants: int
    hung: int
    survived: int


def build_score(module: str, outcomes: Mapping[Mutant, Outcome]) -> Score:
    """Return the score of a module after a run of all its mutants."""
    ended = list(outcomes.values())
    return Score(
        module=module,
        run=f"{datetime.now(UTC):%Y-%m-%d}, {platform.python_version()}",
        mutants=len(ended),
        hung=ended.count(Outcome.HUNG),
        survived=ended.count(Outcome.SURVIVED),
    )


def read_scores() -> dict[str, Score]:
    """Return the score of each module that was run."""
    return {path: Score(**found) for path, found in json.loads(_SCORES.read_text(encoding="utf-8")).items()}


def read_listed() -> dict[str, str]:
    """Return the reason of each mutant that may survive, by its id."""
    groups = tomllib.loads(_LISTED.read_text(encoding="utf-8")).get("survivors", [])
    return {mutant: group["why"] for group in groups for mutant in group["mutants"]}


def find_unlisted(outcomes: Mapping[Mutant, Outcome], listed: Mapping[str, str]) -> list[Mutant]:
    """Return the mutants that survived without a reason."""
    return [one for one, outcome in outcomes.items() if outcome is Outcome.SURVIVED and one.id not in listed]


def find_noticed(outcomes: Mapping[Mutant, Outcome], listed: Mapping[str, str]) -> list[Mutant]:
    """Return the mutants that are listed as survivors although a test detects them."""
    return [one for one, outcome in outcomes.items() if outcome is not Outcome.SURVIVED and one.id in listed]


def write(scores: Mapping[str, Score], listed: Mapping[str, str], *, missing: int) -> None:
    """Store the scores, and write them and the listed survivors into the page; `missing` modules were not run."""
    found = {path: asdict(score) for path, score in sorted(scores.items())}
    _SCORES.write_text(f"{json.dumps(found, indent=1)}\n", encoding="utf-8")
    rows = [_describe(path, score, listed) for path, score in sorted(scores.items())]
    reasons: dict[str, list[str]] = {}
    for mutant, why in listed.items():
        reasons.setdefault(why, []).append(mutant)
    blocks = {
        "score": "\n\n".join([_summarize(scores, listed, missing), *([build_table(_HEAD, rows)] if rows else [])]),
        "survivors": "\n\n".join(
            f"{why}\n\n" + "\n".join(f"- {_shorten(one)}" for one in mutants) for why, mutants in reasons.items()
        ),
    }
    write_marked("mutation-testing", blocks)


def count_listed(path: str, listed: Mapping[str, str]) -> int:
    """Return how many mutants of a module may survive."""
    return sum(mutant.startswith(f"{path}::") for mutant in listed)


def _summarize(scores: Mapping[str, Score], listed: Mapping[str, str], missing: int) -> str:
    if not scores:
        return f"None of the {missing} modules was run completely yet."
    mutants = sum(one.mutants - count_listed(path, listed) for path, one in scores.items())
    noticed = sum(one.mutants - one.survived for one in scores.values())
    share = 100 * noticed / max(1, mutants)
    text = f"**{noticed:,} of {mutants:,}** changes that change something are noticed ({share:.1f} %)."
    return f"{text} {missing} modules were not run yet." if missing else text


def _describe(path: str, score: Score, listed: Mapping[str, str]) -> tuple[str, ...]:
    allowed = count_listed(path, listed)
    numbers = (score.mutants, score.mutants - score.survived, score.hung, allowed, score.survived - allowed)
    return (f"`{path.removeprefix('fastapi_logto/')}`", score.run, *(f"{one:,}" for one in numbers))


def _shorten(mutant: str) -> str:
    path, _, rest = mutant.partition("::")
    place, _, change = rest.partition(": ")
    return f"`{path.removeprefix('fastapi_logto/')}`, `{place}`: {change}"
