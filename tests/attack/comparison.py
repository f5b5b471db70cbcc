"""Compare our verdicts with those of peers. Each difference needs a row that explains it."""

from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

from tests.attack.peers import GUIDE, JOSE, MCP_AUTH, PYJWT, Verdict
from tests.attack.report import Tally
from tests.markdown import build_table

PYJWT_ONLY: Final = frozenset({PYJWT})
LOGTO: Final = frozenset({GUIDE, MCP_AUTH})
NODE: Final = LOGTO | {JOSE}
ALL: Final = NODE | PYJWT_ONLY

FactsT = TypeVar("FactsT")


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference(Generic[FactsT]):
    """An expected kind of difference, and its reason.

    Attributes:
        id: Name of the row.
        we_accept: Our verdict. If we accept and a peer refuses, the row needs the better reason.
        peers: The peers whose verdict may be the opposite.
        fits: Returns whether a token is of this kind.
        why: Why our verdict is right.
        reference: The source of the reason.
    """

    id: str
    we_accept: bool = False
    peers: frozenset[str]
    fits: Callable[[FactsT], bool]
    why: str
    reference: str


class Comparison(Generic[FactsT]):
    """The rows of one comparison, and how often each one explains a difference."""

    def __init__(self, rows: Sequence[Difference[FactsT]]) -> None:
        self._rows = rows
        self._used: dict[str, Counter[str]] = {row.id: Counter() for row in rows}

    def judge(self, facts: FactsT, *, name: str, ours: Verdict, peers: Mapping[str, Verdict]) -> str | None:
        """Return what is wrong with our verdict; `None` if each peer agrees or a row explains the difference."""
        if ours.surprise is not None:
            return f"{name}: ours raised {ours.surprise}"
        contrary = [peer for peer, verdict in peers.items() if verdict.accepts != ours.accepts]
        fitting = [row for row in self._rows if row.we_accept == ours.accepts and row.fits(facts)] if contrary else []
        unexplained = [peer for peer in contrary if not any(peer in row.peers for row in fitting)]
        if unexplained:
            verb, opposite = ("accept", "refuse") if ours.accepts else ("refuse", "accept")
            return f"{name}: we {verb} and {_join(unexplained)} {opposite}, which no row explains"
        for row in fitting:
            self._used[row.id].update(row.peers.intersection(contrary))
        return None

    def fail_idle(self, tally: Tally) -> None:
        """Add a failure for each row that explains no difference, and for each such peer of a row."""
        for row in self._rows:
            idle = sorted(row.peers - self._used[row.id].keys())
            if idle:
                tally.fail(f"the row {row.id!r} explains nothing of {_join(idle)}; correct it")

    def build_table(self) -> str:
        """Return the rows in Markdown: how often each peer differs, and why our verdict is right."""
        head = ("difference", "we", "who differs, in how many cases", "why our verdict is right", "reference")
        return build_table(head, [self._build_row(row) for row in self._rows])

    def _build_row(self, row: Difference[FactsT]) -> Sequence[str]:
        counts = self._used[row.id]
        who = ", ".join(f"{peer} {counts[peer]:,}" for peer in sorted(row.peers, key=str.lower))
        return (row.id, "accept" if row.we_accept else "refuse", who, row.why, row.reference)


def _join(names: Collection[str]) -> str:
    return " and ".join(names)
