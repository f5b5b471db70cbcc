"""The differential run: compare our verdict on each mutant with those of the peers."""

from collections.abc import Sequence
from itertools import islice
from json import dumps
from typing import Final

from fastapi_logto import LogtoAuth
from fastapi_logto.settings import SettingsArguments
from tests.attack.comparison import Comparison, Difference
from tests.attack.differences import DIFFERENCES
from tests.attack.facts import Facts
from tests.attack.mutations import generate
from tests.attack.peers import ALGORITHMS, PYJWT, PyJwt, ask_ours, find_versions, freeze_pyjwt, run_node
from tests.attack.provider import Provider, build_auth
from tests.attack.report import Tally
from tests.vectors.forge import Forge

FEWEST_MUTANTS: Final = 20_000
# The verdicts of this many tokens fit into a pipe.
_BATCH: Final = 500
_LONGEST_VALUE: Final = 40


async def run_differential(
    tally: Tally,
    forge: Forge,
    *,
    auth: LogtoAuth | None = None,
    differences: Sequence[Difference[Facts]] = DIFFERENCES,
    share: float = 1.0,
) -> None:
    """Compare the verdicts on every mutant. An unexplained difference is a failure; so is a row that explains none."""
    jwks = forge.jwks()
    auth = auth or build_auth(Provider(jwks), changes=SettingsArguments(algorithms=ALGORITHMS))
    comparison = Comparison(differences)
    tally.versions.update(find_versions())
    with freeze_pyjwt(), run_node(dumps(jwks)) as node:
        pyjwt = PyJwt(dumps(jwks))
        mutants = generate(forge, share=share)
        while batch := list(islice(mutants, _BATCH)):
            node.start([mutant.token for mutant in batch])
            ours = [await ask_ours(auth, mutant.token) for mutant in batch]
            others = [{PYJWT: pyjwt.ask(mutant.token)} for mutant in batch]
            for mutant, one, two, three in zip(batch, ours, others, node.read(len(batch)), strict=True):
                facts = Facts(mutant)
                problem = comparison.judge(facts, name=_describe(facts), ours=one, peers=two | three)
                tally.count(f"mutant {tally.rows}", problem)
    tally.tables["differences"] = comparison.build_table()
    if share == 1.0:
        comparison.fail_idle(tally)
        if tally.rows < FEWEST_MUTANTS:
            tally.fail(f"expected at least {FEWEST_MUTANTS} mutants, found {tally.rows}")


def _describe(facts: Facts) -> str:
    """Return the mutation and what it changed. A changed value is made by the suite and is no secret."""
    mutant = facts.mutant
    members = {**facts.header.members, **facts.payload.members}
    changes = [f"{name}={members[name]!r:.{_LONGEST_VALUE}}" for name in mutant.member.split("+") if name in members]
    return f"{mutant.kind} ({', '.join(changes) or mutant.member})"
