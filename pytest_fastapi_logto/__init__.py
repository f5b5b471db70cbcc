"""pytest fixtures for applications protected by `fastapi_logto`. pytest finds them if the package is installed.

They are in a separate package, so that pytest does not import FastAPI on every start.

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
    from fastapi_logto.testing import LocalIssuer, ManualClock
    from fastapi_logto.testing.overriding import Override

__all__ = ["logto_app", "logto_async_client", "logto_client", "logto_clock", "logto_issuer", "logto_override"]


@pytest.fixture
def logto_app() -> "ASGIApp":
    """The application under test; define this fixture in your `conftest.py`."""
    pytest.fail(
        "expected a fixture logto_app in your conftest.py that returns your application, found none:\n\n"
        "    @pytest.fixture\n    def logto_app():\n        return app",
        pytrace=False,
    )


@pytest.fixture
def logto_clock() -> "ManualClock":
    """The clock of `logto_issuer` and of the application's verification; `logto_clock.advance(60)` moves it."""
    from fastapi_logto.testing import ManualClock  # noqa: PLC0415 - late: see the module docstring

    return ManualClock()


@pytest.fixture
def logto_issuer(logto_app: "ASGIApp", logto_clock: "ManualClock") -> "Generator[LocalIssuer]":
    """An issuer whose tokens `logto_app` accepts during the test, with full verification and without a network."""
    from fastapi_logto.testing import LocalIssuer  # noqa: PLC0415 - late: see the module docstring

    with LocalIssuer(clock=logto_clock).connect(logto_app) as issuer:
        yield issuer


@pytest.fixture
def logto_override(logto_app: "ASGIApp") -> "Generator[Override]":
    """A function that sets the caller of `logto_app` until the test ends: `claims(...)`, `None` or a `RefusalError`."""
    from fastapi_logto.testing.overriding import find_schemes, override_schemes  # noqa: PLC0415 - late: see the module docstring

    with ExitStack() as stack:

        def override(claims: "TokenClaims | RefusalError | None") -> None:
            stack.enter_context(override_schemes(logto_app, find_schemes(logto_app), claims))

        yield override


@pytest.fixture
def logto_client(logto_app: "ASGIApp") -> "TestClient":
    """A client of `logto_app` for synchronous tests. It does not run the application's lifespan."""
    from starlette.testclient import TestClient  # noqa: PLC0415 - late: see the module docstring

    return TestClient(logto_app)


@pytest.fixture
def logto_async_client(logto_app: "ASGIApp") -> "httpx.AsyncClient":
    """A client of `logto_app` for asynchronous tests with any runner. It does not run the application's lifespan."""
    import httpx  # noqa: PLC0415 - late: see the module docstring

    return httpx.AsyncClient(transport=httpx.ASGITransport(app=logto_app), base_url="http://testserver")
