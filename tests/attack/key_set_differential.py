"""The differential run over key sets: compare our verdict on each token of each set with those of the peers."""

from collections.abc import Callable, Sequence
from typing import Final

from fastapi_logto import LogtoAuth
from fastapi_logto.settings import SettingsArguments
from tests.attack.comparison import Comparison, Difference
from tests.attack.generated_sets import GeneratedSet, Pool, SetToken, generate_sets, list_tokens
from tests.attack.key_set_differences import KEY_SET_DIFFERENCES, SetFacts
from tests.attack.peers import ALGORITHMS, PYJWT, Node, PyJwt, Verdict, ask_ours, find_versions, freeze_pyjwt, run_node
from tests.attack.provider import Document, Provider, build_auth
from tests.attack.report import Tally
from tests.vectors.forge import ISSUER_URL, Forge

FEWEST_KEY_SETS: Final = 200


def build_default(provider: Provider) -> LogtoAuth:
    """Return a scheme that accepts the same algorithms as the peers."""
    return build_auth(provider, changes=SettingsArguments(algorithms=ALGORITHMS))


async def run_key_set_differential(
    tally: Tally,
    forge: Forge,
    *,
    build: Callable[[Provider], LogtoAuth] = build_default,
    differences: Sequence[Difference[SetFacts]] = KEY_SET_DIFFERENCES,
    step: int = 1,
) -> None:
    """Compare the verdicts for every key set, or for one of `step`. Unexplained differences are failures."""
    pool = Pool.create(forge)
    comparison = Comparison(differences)
    tally.versions.update(find_versions())
    key_sets = list(generate_sets(pool))[::step]
    with freeze_pyjwt(), run_node('{"keys":[]}') as node:
        for key_set in key_sets:
            tokens = list(list_tokens(pool, key_set))
            for token, ours, peers in zip(tokens, *await _ask_all(key_set, tokens, node, build), strict=True):
                name = f"{key_set.id}: {token.describe()}"
                facts = SetFacts(key_set, token)
                problem = comparison.judge(facts, name=name, ours=ours, peers=peers)
                if ours.accepts and token.key is None:
                    problem = f"{name}: a forged token is accepted"
                tally.count(f"token {tally.rows}", problem)
    tally.tables["key-set-differences"] = comparison.build_table()
    tally.tables["key-sets"] = f"{len({key_set.text for key_set in key_sets}):,} key sets, {tally.rows:,} tokens."
    if step == 1:
        comparison.fail_idle(tally)
        distinct = len({key_set.text for key_set in key_sets})
        if distinct < FEWEST_KEY_SETS:
            tally.fail(f"expected at least {FEWEST_KEY_SETS} key sets, found {distinct}")


async def _ask_all(
    key_set: GeneratedSet, tokens: Sequence[SetToken], node: Node, build: Callable[[Provider], LogtoAuth]
) -> tuple[list[Verdict], list[dict[str, Verdict]]]:
    node.use_key_set(key_set.text)
    node.start([token.token for token in tokens])
    provider = Provider({})
    provider.documents[f"{ISSUER_URL}/jwks"] = Document(body=key_set.text.encode("ascii"))
    auth = build(provider)
    ours = [await ask_ours(auth, token.token) for token in tokens]
    pyjwt = PyJwt(key_set.text)
    peers = [{PYJWT: pyjwt.ask(token.token)} for token in tokens]
    return ours, [one | two for one, two in zip(peers, node.read(len(tokens)), strict=True)]
