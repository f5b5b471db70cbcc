"""Tests of applications that move the time with freezegun, which replaces the functions of `time`."""

import pytest

# In a separate process: the loops of other threads, e.g. of a server of another test, would get the frozen time too,
# and their timers would fire years later.
TEST = """
from datetime import UTC, datetime, timedelta

from fastapi import Depends, FastAPI
from fastapi.testclient import TestClient
from freezegun import freeze_time

from fastapi_logto import LogtoAuth
from fastapi_logto.testing import LocalIssuer, bearer


def test_a_token_expires_when_freezegun_moves_the_time():
    auth = LogtoAuth(endpoint="https://tenant.example", audience="https://api.example.com")
    app = FastAPI()
    app.add_api_route("/", lambda: 1, dependencies=[Depends(auth)])
    client = TestClient(app)
    later = datetime.now(UTC) + timedelta(hours=2)

    with LocalIssuer().connect(auth) as issuer:
        headers = bearer(issuer.access_token())
        assert client.get("/", headers=headers).status_code == 200
        with freeze_time(later):
            expired = client.get("/", headers=headers)
            fresh = client.get("/", headers=bearer(issuer.access_token()))
        again = client.get("/", headers=headers)

    assert (expired.status_code, expired.json()["detail"]["reason"]) == (401, "expired")
    assert (fresh.status_code, again.status_code) == (200, 200)
"""


def test_a_token_expires_when_freezegun_moves_the_time(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(TEST)

    pytester.runpytest_subprocess("-p", "no:randomly").assert_outcomes(passed=1)
