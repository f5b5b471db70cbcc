"""Run the state machine, and count how often each rule of the model decided."""

import asyncio

from hypothesis import HealthCheck, Phase, settings
from hypothesis.errors import HypothesisException
from hypothesis.stateful import run_state_machine_as_test

from tests.attack.report import Tally
from tests.markdown import build_table
from tests.prove.model import Rule
from tests.prove.state_machine import DisagreementError, Log, Machine
from tests.vectors.forge import Forge


def run_machine(machine: type[Machine], *, runs: int, steps: int, shrinks: bool = False) -> Log:
    """Run the same sequences each time, and return the log.

    If the package differs from the model, `DisagreementError` is raised. `shrinks` also searches for the shortest such
    sequence, which takes long.
    """
    machine.log = Log()
    phases = [Phase.generate, *([Phase.shrink] if shrinks else [])]
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=runs,
            stateful_step_count=steps,
            phases=phases,
            derandomize=True,
            database=None,
            deadline=None,
            report_multiple_bugs=False,
            print_blob=False,
            suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much],
        ),
    )
    return machine.log


async def run_state_machine(
    tally: Tally,
    _forge: Forge,
    *,
    machine: type[Machine] = Machine,
    runs: int = 500,
    steps: int = 50,
    shrinks: bool = True,
) -> None:
    """Run the machine in a thread, because it runs its own event loops, and count how often each rule decided."""
    try:
        log = await asyncio.to_thread(run_machine, machine, runs=runs, steps=steps, shrinks=shrinks)
    except (DisagreementError, HypothesisException) as found:
        log = machine.log
        tally.fail("\n".join([str(found), *getattr(found, "__notes__", ())]))
    tally.rows += log.requests
    for one in Rule:
        if not log.rules[one]:
            tally.fail(f"expected requests that end with {one.value[0]} because {one.value[1]}, found none")
    rows = [(one.value[0], one.value[1], f"{log.rules[one]:,}") for one in Rule]
    totals = [
        ("", "events", f"{log.steps:,}"),
        ("", "requests", f"{log.requests:,}"),
        ("", "responses of issuers that came late", f"{log.late:,}"),
    ]
    tally.tables["model"] = build_table(("outcome", "because", "times"), [*rows, *totals])
