"""The real sentry-sdk, in a separate process, because it patches httpx, FastAPI and Starlette permanently."""

import subprocess
import sys
from pathlib import Path

EVENTS = Path(__file__).with_name("sentry_events.py")


def test_an_event_holds_no_token_no_secret_and_no_other_claims() -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", str(EVENTS)],
        capture_output=True,
        text=True,
        cwd=EVENTS.parents[2],
        timeout=300,
        check=False,
    )

    assert ended.returncode == 0, ended.stdout
    assert "6 passed" in ended.stdout
