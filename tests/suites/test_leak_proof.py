"""The proof that nothing leaks, with real parts and some of the attacks. With planted leaks, it fails."""

import os
import sys
from collections.abc import Sequence
from typing import Final

import pytest

from tests.attack.asgi import send
from tests.attack.documents import run_key_sets
from tests.attack.key_sets import KEY_SET_ROWS
from tests.attack.provider import Provider, build_app, build_auth
from tests.attack.report import Tally
from tests.attack.vectors import run_token_rows
from tests.prove.command_scenes import COMMAND_SCENES
from tests.prove.leaks import run_leaks
from tests.prove.learning import list_kept_secrets
from tests.prove.observing import Run, Scene, run_in_asyncio, run_scenes
from tests.prove.outcomes import SUCCEEDED
from tests.prove.real_scenes import REAL_SCENES
from tests.prove.served import Served, sign_in
from tests.prove.sinks import SINKS
from tests.vectors.forge import Forge
from tests.vectors.payloads import PAYLOAD_ROWS
from tests.vectors.tokens import TOKEN_ROWS

FORGE: Final = Forge.create()
LONG_SCENES: Final = {**REAL_SCENES, **COMMAND_SCENES}


@pytest.fixture(autouse=True)
def loop_guard() -> None:
    """Disable the guard: the loops of the proof serve nothing, and asyncio reads source files in debug mode."""


@pytest.mark.parametrize("name", LONG_SCENES)
def test_nothing_leaks(name: str) -> None:
    run = run_in_asyncio(run_scenes({name: LONG_SCENES[name]}))

    assert (run.sinks.leaks, run.failures) == ([], [])
    assert sum(count.records for count in run.sinks.counts.values()) > 30


def test_each_secret_of_a_sign_in_is_found() -> None:
    kinds: list[str] = []

    async def act(run: Run) -> None:
        served = Served(run)
        with served.issuer.serve():
            issued = await sign_in(run, served.issuer)
        tokens = [(name, issued[name]) for name in ("access_token", "refresh_token", "id_token")]
        for kind, secret in (*list_kept_secrets(served.issuer), *tokens):
            before = len(run.sinks.leaks)
            run.sinks.put("documents", kind, secret)
            assert len(run.sinks.leaks) > before, kind
            kinds.append(kind)

    run_in_asyncio(run_scenes({"sign-in": Scene(act=act, outcomes={})}))

    assert kinds == ["the authorization code", "the client secret", "access_token", "refresh_token", "id_token"]


def print_a_secret(_command: Sequence[str]) -> int:
    sys.stdout.write(os.environ["LOGTO_MACHINE_SECRET"])
    return 0


def test_a_command_that_prints_another_secret_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.prove.command_scenes._call_main", print_a_secret)

    run = run_in_asyncio(run_scenes({"commands": COMMAND_SCENES["commands that issue"]}))

    assert "command line: token: the client secret, plain" in run.sinks.leaks
    assert "commands: token --machine --scope: not reached: prints-1" in run.failures


async def attack(tally: Tally, forge: Forge) -> None:
    await run_token_rows(tally, forge, rows=(*TOKEN_ROWS[:20], *PAYLOAD_ROWS[:20]))
    await run_key_sets(tally, forge, KEY_SET_ROWS[:3])


async def repeat_a_token(tally: Tally, forge: Forge) -> None:
    app = build_app(build_auth(Provider(forge.jwks())))
    app.get("/repeat")(forge.good)
    reply = await send(app, "/repeat", authorization=[f"Bearer {forge.good()}".encode()])
    tally.count("a token", None if reply.status == 200 else "no response")


async def fail_a_row(tally: Tally, _forge: Forge) -> None:
    tally.count("a row", "expected 401, found 200")


async def do_nothing(_tally: Tally, _forge: Forge) -> None:
    return None


async def show_a_key(run: Run) -> None:
    run.outcomes.add("a key", SUCCEEDED)
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
    scene = Scene(act=show_a_key, outcomes={"a key": SUCCEEDED})

    run_in_asyncio(run_leaks(tally, FORGE, scenes={"a key": scene}, corpus={"a repeated token": repeat_a_token}))

    found = "\n".join(tally.failures)
    assert "responses: a repeated token: http /repeat: the payload of the token, plain" in found
    assert "documents: the key set: the bytes of d of the key stranger, base64" in found
    assert "not reached" not in found


def test_attacks_that_fail_or_have_no_rows_are_reported() -> None:
    tally = Tally(name="leaks")

    run_in_asyncio(run_leaks(tally, FORGE, scenes={}, corpus={"failed": fail_a_row, "empty": do_nothing}))

    found = "\n".join(tally.failures)
    assert "failed: a row: expected 401, found 200" in found
    for name in ("failed", "empty"):
        assert f"{name}: the attack: not reached: succeeded" in found
