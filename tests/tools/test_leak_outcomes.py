"""The leak proof fails if a scene does not reach all its expected outcomes."""

from typing import Final

import pytest

from tests.prove.leak_providers import MAKERS, Maker
from tests.prove.object_scenes import OBJECT_SCENES
from tests.prove.observing import Act, Run, Scene, run_in_asyncio, run_scenes
from tests.prove.outcomes import Outcomes, name_outcome
from tests.prove.scenes import SCENES

SHORT_SCENES: Final = {**SCENES, **OBJECT_SCENES}
WORKING: Final = "that works"


@pytest.fixture(autouse=True)
def loop_guard() -> None:
    """The loops of the proof serve nobody, and asyncio reads source files in its debug mode."""


@pytest.fixture
def makers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Break the provider that works."""
    broken: Maker = MAKERS["unreachable"]
    monkeypatch.setitem(MAKERS, WORKING, broken)


@pytest.mark.usefixtures("makers")
@pytest.mark.parametrize(
    ("name", "missing"),
    [
        ("calls", "a machine token: not reached: succeeded"),
        ("cancelled calls", "a machine token, afterwards: not reached: succeeded"),
        ("tokens", "verify: not reached: SignatureError"),
        ("requests", "GET /me: not reached: 200"),
        ("connections", "WebSocket /socket: not reached: accepted,1008"),
        ("logout", "POST /webhooks/logto/logout: not reached: 200"),
        ("machine_auth", "a request: not reached: succeeded"),
        ("documents", "GET /me: not reached: 200"),
    ],
)
def test_a_scene_at_a_provider_that_is_broken_fails(name: str, missing: str) -> None:
    run = run_in_asyncio(run_scenes({name: SHORT_SCENES[name]}))

    assert run.sinks.leaks == []
    assert f"{name}: {missing}" in run.failures


def judge(act: Act, **outcomes: str) -> list[str]:
    return run_in_asyncio(run_scenes({"a scene": Scene(act=act, outcomes=outcomes)})).failures


async def fail(error: Exception) -> None:
    raise error


async def try_twice(run: Run) -> None:
    await run.attempt("call", fail(OSError("down")))
    run.build("make", dict)


async def do_nothing(_run: Run) -> None:
    return None


def test_each_outcome_is_compared() -> None:
    assert judge(try_twice, call="OSError", make="succeeded") == []
    assert judge(try_twice, call="succeeded OSError", make="succeeded") == ["a scene: call: not reached: succeeded"]
    assert judge(try_twice, call="OSError") == ["a scene: make: not expected: succeeded"]
    assert judge(do_nothing, call="OSError") == ["a scene: call: not reached: OSError"]


def test_a_scene_that_expects_nothing_fails() -> None:
    assert judge(do_nothing) == ["a scene: no outcome is expected of this scene"]
    assert list(Outcomes().compare({"call": ""})) == ["no outcome is expected of this scene"]


def test_the_outcomes_of_one_scene_are_not_those_of_the_next() -> None:
    expecting = {"call": "OSError", "make": "succeeded"}
    scenes = {"first": Scene(act=try_twice, outcomes=expecting), "second": Scene(act=do_nothing, outcomes=expecting)}

    failures = run_in_asyncio(run_scenes(scenes)).failures

    assert failures == ["second: call: not reached: OSError", "second: make: not reached: succeeded"]


def test_an_outcome_is_named_by_the_class_of_the_error() -> None:
    assert (name_outcome(None), name_outcome(OSError("x"))) == ("succeeded", "OSError")
