"""What every test gets: one async backend, a guard against blocking the loop, and no silent skip."""

import os
from collections.abc import Generator

import pytest
from blockbuster import BlockBuster, blockbuster_ctx

from fastapi_logto.aws_lc import load_aws_lc

NO_SKIPS = os.environ.get("FASTAPI_LOGTO_NO_SKIPS") == "1"


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(autouse=True)
def loop_guard() -> Generator[BlockBuster]:
    """Fail whatever blocks the running loop: a file, a socket, a sleep."""
    with blockbuster_ctx() as guard:
        yield guard


@pytest.fixture(autouse=True)
def no_settings_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in os.environ:
        if name.startswith("LOGTO_"):
            monkeypatch.delenv(name)


@pytest.fixture
def openssl(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have OpenSSL verify every signature, as where AWS-LC is not installed."""
    monkeypatch.setattr("fastapi_logto.aws_lc.load_aws_lc", lambda: None)


@pytest.fixture(params=["openssl", "aws-lc"])
def backend(request: pytest.FixtureRequest) -> str:
    """Run a test with each library that verifies P-384 signatures. Both are installed wherever tests run."""
    assert load_aws_lc() is not None
    if request.param == "openssl":
        request.getfixturevalue("openssl")
    return str(request.param)


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """Where every real part must be there, a skip is a failure."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if NO_SKIPS and reporter is not None and (skipped := len(reporter.stats.get("skipped", ()))):
        reporter.write_line(f"ERROR: {skipped} skipped, and FASTAPI_LOGTO_NO_SKIPS forbids it", red=True)
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
