"""The proof that nothing leaks: all attacks run, and all output is searched for their secrets."""

from collections.abc import Awaitable, Callable, Mapping
from typing import Final

from tests.attack.composition import run_composition
from tests.attack.documents import run_documents
from tests.attack.endpoints import OPAQUE_TOKEN, SECRET
from tests.attack.report import Tally
from tests.attack.vectors import run_authorization_rows, run_token_rows
from tests.markdown import build_table
from tests.prove.command_scenes import COMMAND_SCENES, HANDED_OVER
from tests.prove.object_scenes import HOLDERS, OBJECT_SCENES
from tests.prove.observing import Run, Scene, observe, run_scenes
from tests.prove.outcomes import SUCCEEDED
from tests.prove.real_scenes import REAL_SCENES
from tests.prove.scenes import SCENES
from tests.prove.sinks import NOT_SHOWN, NOT_SHOWN_CALLS, NOT_SHOWN_RECORDS, SINKS
from tests.vectors.forge import Forge

_SHARE_OF_RULES: Final = frozenset({"auth", "auth.optional", "require_scopes", "require_machine", "other"})

Corpus = Callable[[Tally, Forge], Awaitable[None]]


async def _run_composition(tally: Tally, forge: Forge) -> None:
    await run_composition(tally, forge, only=_SHARE_OF_RULES)


CORPUS: Final[Mapping[str, Corpus]] = {
    "tokens": run_token_rows,
    "Authorization headers": run_authorization_rows,
    "hostile documents": run_documents,
    "composition": _run_composition,
}
ALLOWED: Final[Mapping[str, Mapping[str, str]]] = {
    "local variables of frames": NOT_SHOWN,
    "arguments of threads": NOT_SHOWN_CALLS,
    "log messages": NOT_SHOWN_RECORDS,
    "pickles": HOLDERS,
    "responses and output": HANDED_OVER,
}
"""Places that may contain secrets, with the reasons. All other places are searched."""

EVERY_SCENE: Final[Mapping[str, Scene]] = {**SCENES, **OBJECT_SCENES, **REAL_SCENES, **COMMAND_SCENES}


def build_scene(attack: Corpus, forge: Forge) -> Scene:
    """Return a class of the attack suite as a scene. It succeeds if all rows of the class succeed."""

    async def act(run: Run) -> None:
        for name in ("ec", "rsa", "rsa_bound", "p256", "stranger", "stranger_rsa"):
            run.canaries.add_key(f"the key {name}", getattr(forge, name))
        run.learn_keys(forge.issuer)
        run.learn_secret("the client secret", SECRET)
        run.canaries.add("the opaque token", OPAQUE_TOKEN)
        tally = Tally(name=run.name)
        with observe(run):
            await attack(tally, forge)
        run.outcomes.add("the attack", SUCCEEDED if tally.rows and not tally.failures else "failed")
        run.failures += [f"{run.name}: {failure}" for failure in tally.failures]

    return Scene(act=act, outcomes={"the attack": SUCCEEDED})


async def run_leaks(
    tally: Tally,
    forge: Forge,
    *,
    scenes: Mapping[str, Scene] = EVERY_SCENE,
    corpus: Mapping[str, Corpus] = CORPUS,
) -> None:
    """Run everything; fail for each leak, each outcome that was not reached, and each place that was never searched."""
    attacks = {name: build_scene(attack, forge) for name, attack in corpus.items()}
    run = await run_scenes(attacks | dict(scenes))
    sinks = run.sinks
    for problem in (*sinks.leaks, *run.failures):
        tally.fail(problem)
    for sink in SINKS:
        count = sinks.counts[sink]
        tally.rows += count.records
        if not count.records:
            tally.fail(f"{sink}: nothing was searched")
    rows = [(sink, f"{one.records:,}", f"{one.characters:,}", str(one.found)) for sink, one in sinks.counts.items()]
    tally.tables["leaks"] = build_table(("where", "records", "characters", "leaks"), rows)
    allowed = [(where, f"`{name}`", reason) for where, names in ALLOWED.items() for name, reason in names.items()]
    tally.tables["leaks-allowed"] = build_table(("where", "of what", "why"), allowed)
