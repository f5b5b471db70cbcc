"""The proof that nothing leaks, with real parts and a share of the attacks; and that it fails where it must."""

from typing import Final

import pytest

from tests.attack.asgi import send
from tests.attack.documents import run_key_sets
from tests.attack.key_sets import KEY_SET_ROWS
from tests.attack.provider import Provider, build_app, build_auth
from tests.attack.report import Tally
from tests.attack.vectors import run_token_rows
from tests.prove.leaks import run_leaks
from tests.prove.observing import Run, run_in_asyncio, run_scenes
from tests.prove.real_scenes import REAL_SCENES
from tests.prove.sinks import SINKS
from tests.vectors.forge import Forge
from tests.vectors.payloads import PAYLOAD_ROWS
from tests.vectors.tokens import TOKEN_ROWS

FORGE: Final = Forge.create()


@pytest.fixture(autouse=True)
def loop_guard() -> None:
    """The loops of the proof serve nobody, and asyncio reads source files in its debug mode."""


@pytest.mark.parametrize("name", REAL_SCENES)
def test_nothing_leaks(name: str) -> None:
    sinks = run_in_asyncio(run_scenes({name: REAL_SCENES[name]}))

    assert sinks.leaks == []
    assert sum(count.records for count in sinks.counts.values()) > 30


async def attack(tally: Tally, forge: Forge) -> None:
    await run_token_rows(tally, forge, rows=(*TOKEN_ROWS[:20], *PAYLOAD_ROWS[:20]))
    await run_key_sets(tally, forge, KEY_SET_ROWS[:3])


async def repeat_a_token(_tally: Tally, forge: Forge) -> None:
    app = build_app(build_auth(Provider(forge.jwks())))
    app.get("/repeat")(forge.good)
    await send(app, "/repeat", authorization=[f"Bearer {forge.good()}".encode()])


async def show_a_key(run: Run) -> None:
    run.sinks.put("documents", "the key set", FORGE.stranger.as_pem(private=True).decode())


def test_a_share_of_the_attacks_leaks_nothing_and_a_place_that_was_not_searched_fails() -> None:
    tally = Tally(name="leaks")

    run_in_asyncio(run_leaks(tally, FORGE, scenes={}, corpus={"a share": attack}))

    assert tally.rows > 1000
    assert set(tally.failures) <= {f"{sink}: nothing was searched" for sink in SINKS}
    assert {"command line: nothing was searched", "documents: nothing was searched"} <= set(tally.failures)
    assert "| responses |" in tally.tables["leaks"]
    assert "| pickles | `Introspection` |" in tally.tables["leaks-allowed"]


def test_a_response_that_repeats_a_token_and_a_private_key_are_reported() -> None:
    tally = Tally(name="leaks")

    run_in_asyncio(run_leaks(tally, FORGE, scenes={"a key": show_a_key}, corpus={"a repeated token": repeat_a_token}))

    found = "\n".join(tally.failures)
    assert "responses: a repeated token: http /repeat: the payload of the token, plain" in found
    assert "documents: the key set: the bytes of d of the key stranger, base64" in found
