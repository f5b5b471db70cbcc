"""The differential run: our verdict on each mutant against those of PyJWT and npm's `jose`."""

from collections import Counter
from collections.abc import Sequence
from itertools import islice
from typing import Final

from fastapi_logto import LogtoAuth
from fastapi_logto.settings import SettingsArguments
from tests.attack.differences import DIFFERENCES, Difference, explain
from tests.attack.facts import Facts
from tests.attack.mutations import Mutant, generate
from tests.attack.peers import ALGORITHMS, PyJwt, Verdict, ask_ours, freeze_pyjwt, run_jose
from tests.attack.provider import Provider, build_auth
from tests.attack.report import Tally
from tests.vectors.forge import Forge

__all__ = ["FEWEST_MUTANTS", "run_differential"]

FEWEST_MUTANTS: Final = 20_000
# Verdicts of so many tokens fit into a pipe.
_BATCH: Final = 500
_LONGEST_VALUE: Final = 40


async def run_differential(
    tally: Tally,
    forge: Forge,
    *,
    auth: LogtoAuth | None = None,
    differences: Sequence[Difference] = DIFFERENCES,
    share: float = 1.0,
) -> None:
    """Compare the verdicts on every mutant. A difference that no row explains is a failure, and so is an idle row."""
    jwks = forge.jwks()
    auth = auth or build_auth(Provider(jwks), changes=SettingsArguments(algorithms=ALGORITHMS))
    used: Counter[str] = Counter()
    with freeze_pyjwt(), run_jose(jwks) as jose:
        pyjwt = PyJwt(jwks)
        mutants = generate(forge, share=share)
        while batch := list(islice(mutants, _BATCH)):
            jose.start([mutant.token for mutant in batch])
            ours = [await ask_ours(auth, mutant.token) for mutant in batch]
            peers = [pyjwt.ask(mutant.token) for mutant in batch]
            for mutant, one, two, three in zip(batch, ours, peers, jose.read(len(batch)), strict=True):
                tally.count(f"mutant {tally.rows}", _compare(mutant, one, two, three, differences, used))
    if share == 1.0:
        _check_whole(tally, differences, used)


def _compare(
    mutant: Mutant, ours: Verdict, pyjwt: Verdict, jose: Verdict, differences: Sequence[Difference], used: Counter[str]
) -> str | None:
    if ours.surprise is not None:
        return f"{_describe(Facts(mutant))}: ours raised {ours.surprise}"
    contrary = [name for name, verdict in (("pyjwt", pyjwt), ("jose", jose)) if verdict.accepts != ours.accepts]
    if not contrary:
        return None
    facts = Facts(mutant)
    rows = explain(differences, facts, we_accept=ours.accepts, contrary=contrary)
    if rows is None:
        verb, opposite = ("accept", "refuse") if ours.accepts else ("refuse", "accept")
        return f"{_describe(facts)}: we {verb} and {' and '.join(contrary)} {opposite}, which no row explains"
    used.update(row.id for row in rows)
    return None


def _describe(facts: Facts) -> str:
    """Return the mutation and what it changed. A changed value is made here and is no secret."""
    mutant = facts.mutant
    members = {**facts.header.members, **facts.payload.members}
    changes = [f"{name}={members[name]!r:.{_LONGEST_VALUE}}" for name in mutant.member.split("+") if name in members]
    return f"{mutant.kind} ({', '.join(changes) or mutant.member})"


def _check_whole(tally: Tally, differences: Sequence[Difference], used: Counter[str]) -> None:
    if tally.rows < FEWEST_MUTANTS:
        tally.fail(f"expected at least {FEWEST_MUTANTS} mutants, found {tally.rows}")
    for row in differences:
        if not used[row.id]:
            tally.fail(f"the row {row.id!r} explains nothing; remove it")
