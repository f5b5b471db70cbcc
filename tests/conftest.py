"""Fixtures for every test: one async backend, a guard against blocking the loop, and no silent skips."""

import gc
import io
import os
import sys
from collections.abc import Callable, Generator
from dataclasses import dataclass
from pathlib import Path

import pytest
from blockbuster import BlockBuster, blockbuster_ctx
from hypothesis import HealthCheck, settings
from typing_extensions import override

from fastapi_logto.cli import main
from fastapi_logto.provider.aws_lc import load_aws_lc

# How fast inputs are generated says nothing about the package, and machines are shared.
settings.register_profile("shared", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("shared")

NO_SKIPS = os.environ.get("FASTAPI_LOGTO_NO_SKIPS") == "1"


def pytest_collection_finish() -> None:
    """Spare the garbage collector what lives until the end, so that a full collection takes a millisecond, not 300."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(autouse=True)
def loop_guard() -> Generator[BlockBuster]:
    """Fail if a test blocks the running loop with a file, a socket or a sleep."""
    with blockbuster_ctx() as guard:
        # The measurement of coverage shares a lock with the threads of a test.
        guard.functions["threading.Lock.acquire"].can_block_in("coverage/collector.py", "lock_data")
        yield guard


@pytest.fixture(autouse=True)
def no_settings_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in os.environ:
        if name.startswith("LOGTO_"):
            monkeypatch.delenv(name)


@dataclass(frozen=True, slots=True)
class Ended:
    """The exit code and output of a command."""

    code: int
    out: str
    err: str


class _Terminal(io.TextIOWrapper):
    """Standard input that is a terminal."""

    @override
    def isatty(self) -> bool:
        return True


RunCli = Callable[..., Ended]


@pytest.fixture
def cli(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> RunCli:
    """Run the command line in this process and in an empty directory: `cli("doctor", "--json", stdin=token)`."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.delenv("FORCE_COLOR", raising=False)

    def run(*arguments: str, stdin: str = "", is_terminal: bool = False, **environment: str) -> Ended:
        with pytest.MonkeyPatch.context() as patch:
            for name, value in environment.items():
                patch.setenv(name, value)
            kind = _Terminal if is_terminal else io.TextIOWrapper
            patch.setattr(sys, "stdin", kind(io.BytesIO(stdin.encode())))
            code = main(arguments)
        printed = capsys.readouterr()
        return Ended(code, printed.out, printed.err)

    return run


UseAwsLc = Callable[[object], None]


@pytest.fixture
def use_aws_lc(monkeypatch: pytest.MonkeyPatch) -> Generator[UseAwsLc]:
    """Install another module as `awscrt.crypto` for a test; `None` is a missing one."""

    def use(module: object) -> None:
        monkeypatch.setitem(sys.modules, "awscrt.crypto", module)
        load_aws_lc.cache_clear()

    yield use
    load_aws_lc.cache_clear()


@pytest.fixture
def openssl(use_aws_lc: UseAwsLc) -> None:
    """Verify every signature with OpenSSL, as if AWS-LC were not installed."""
    use_aws_lc(None)


@pytest.fixture(params=["openssl", "aws-lc"])
def backend(request: pytest.FixtureRequest) -> str:
    """Run a test with each library that verifies P-384 signatures. Both are installed wherever tests run."""
    assert load_aws_lc() is not None
    if request.param == "openssl":
        request.getfixturevalue("openssl")
    return str(request.param)


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """Fail on skipped tests if `FASTAPI_LOGTO_NO_SKIPS` is set."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if NO_SKIPS and reporter is not None and (skipped := len(reporter.stats.get("skipped", ()))):
        reporter.write_line(f"ERROR: expected no skipped tests with FASTAPI_LOGTO_NO_SKIPS, found {skipped}", red=True)
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
