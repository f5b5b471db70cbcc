"""A pytest plugin that makes coverage record which test ran which line, and how long each test took."""

import json
import os
from collections.abc import Generator
from pathlib import Path
from typing import Final

import pytest

# Lines that run while tests are imported. A change there takes effect only in a new process.
COLLECTION: Final = "collection"

_seconds: dict[str, float] = {}


def _switch(context: str) -> None:
    import coverage

    current = coverage.Coverage.current()
    if current is not None:
        current.switch_context(context)


@pytest.hookimpl(tryfirst=True)
def pytest_load_initial_conftests() -> None:
    # Before the conftest files, which import the package.
    _switch(COLLECTION)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, bool | None, bool | None]:
    _switch(item.nodeid)
    try:
        return (yield)
    finally:
        _switch(COLLECTION)


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    _seconds[report.nodeid] = _seconds.get(report.nodeid, 0.0) + report.duration


def pytest_sessionfinish() -> None:
    # With xdist, the reports of all workers reach the process that has no worker's name.
    if "PYTEST_XDIST_WORKER" not in os.environ:
        Path(os.environ["MUTANTS_SECONDS"]).write_text(json.dumps(_seconds), encoding="utf-8")
