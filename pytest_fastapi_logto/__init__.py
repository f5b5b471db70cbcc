"""Fixtures of pytest for applications that `fastapi_logto` protects; found by pytest where the package is installed.

Apart from the package itself, so that every start of pytest does not import FastAPI: a test that uses none of
these fixtures pays nothing for them.

```python
# conftest.py
@pytest.fixture
def logto_app():
    return app
```
"""

from collections.abc import Generator
from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    import httpx
    from starlette.testclient import TestClient
    from starlette.types import ASGIApp

    from fastapi_logto import RefusalError, TokenClaims
    from fastapi_logto.testing import LocalIssuer, ManualClock, Override

__all__ = ["logto_app", "logto_async_client", "logto_client", "logto_clock", "logto_issuer", "logto_override"]


@pytest.fixture
def logto_app() -> "ASGIApp":
    """The application under test: for your `conftest.py` to define."""
    pytest.fail(
        "expected a fixture logto_app in your conftest.py that returns your application, found none:\n\n"
        "    @pytest.fixture\n    def logto_app():\n        return app",
        pytrace=False,
    )


@pytest.fixture
def logto_clock() -> "ManualClock":
    """The time of `logto_issuer` and of the application's verification; `logto_clock.advance(60)` moves it."""
    from fastapi_logto.testing import ManualClock  # noqa: PLC0415 - late: see the module

    return ManualClock()


@pytest.fixture
def logto_issuer(logto_app: "ASGIApp", logto_clock: "ManualClock") -> "Generator[LocalIssuer]":
    """An issuer whose tokens `logto_app` accepts for the length of the test, verified in full, without a network."""
    from fastapi_logto.testing import LocalIssuer  # noqa: PLC0415 - late: see the module

    with LocalIssuer(clock=logto_clock).connect(logto_app) as issuer:
        yield issuer


@pytest.fixture
def logto_override(logto_app: "ASGIApp") -> "Generator[Override]":
    """A function of `claims(...)`, `None` or a refusal: who calls `logto_app` from then on, until the test ends."""
    from fastapi_logto.testing.overriding import find_schemes, override_schemes  # noqa: PLC0415 - late: see the module

    with ExitStack() as stack:

        def override(claims: "TokenClaims | RefusalError | None") -> None:
            stack.enter_context(override_schemes(logto_app, find_schemes(logto_app), claims))

        yield override


@pytest.fixture
def logto_client(logto_app: "ASGIApp") -> "TestClient":
    """A client of `logto_app` for tests that are no coroutines. It does not run the application's lifespan."""
    from starlette.testclient import TestClient  # noqa: PLC0415 - late: see the module

    return TestClient(logto_app)


@pytest.fixture
def logto_async_client(logto_app: "ASGIApp") -> "httpx.AsyncClient":
    """A client of `logto_app` for tests that are coroutines, whatever runs them. It does not run the lifespan."""
    import httpx  # noqa: PLC0415 - late: see the module

    return httpx.AsyncClient(transport=httpx.ASGITransport(app=logto_app), base_url="http://testserver")
