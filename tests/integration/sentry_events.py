"""The real sentry-sdk with its defaults, local variables among them, and with the scrubber of the documentation."""

import asyncio
import json
import re
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

import httpx
import pytest
import sentry_sdk
from fastapi import Depends, FastAPI, Request
from sentry_sdk.envelope import Envelope
from sentry_sdk.transport import Transport
from starlette.testclient import TestClient

from fastapi_logto import LogtoAuth
from fastapi_logto.client import LogtoClient
from fastapi_logto.errors import InvalidTokenError
from fastapi_logto.introspection import Introspection
from fastapi_logto.testing import LocalIssuer, bearer
from tests.unit.apps import API

ENDPOINT = "https://tenant.example.test"
TOKEN = LocalIssuer(endpoint=ENDPOINT).access_token()
OPAQUE, SECRET = "o" * 43, "secret-of-a-machine-xyz"
PERSONAL = "pat_personal_access_token_aaaaaaaa"
PAGE = Path(__file__).parents[2] / "docs/how-to/operations.md"


class _Keeps(Transport):
    """Keeps events in this process, and sends nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.events: list[Any] = []

    def capture_envelope(self, envelope: Envelope) -> None:
        self.events += [event for item in envelope.items if (event := item.get_event())]


def read_scrubber() -> Callable[[Any], Any]:
    """Return the function of the documentation."""
    (code,) = re.findall(r"```python\n(from typing import Any\n\nSECRET_HEADERS.*?)```", PAGE.read_text(), re.DOTALL)
    names: dict[str, Any] = {}
    exec(code, names)  # noqa: S102 - our own page
    scrub: Callable[[Any], Any] = names["scrub"]
    return scrub


@pytest.fixture
def kept() -> Generator[_Keeps]:
    transport, scrub = _Keeps(), read_scrubber()
    sentry_sdk.init(dsn="http://key@127.0.0.1/1", transport=transport, before_send=lambda event, _hint: scrub(event))
    yield transport
    sentry_sdk.get_client().close()
    sentry_sdk.init()


def unreachable(_request: httpx.Request) -> httpx.Response:
    raise httpx.ConnectError("down")


def build_app() -> FastAPI:
    transport = httpx.MockTransport(unreachable)
    opaque = Introspection(client_id="i", client_secret=SECRET, allowed_clients=["a"])
    auth = LogtoAuth(endpoint=ENDPOINT, audience=API, http_transport=transport, introspection=opaque)
    client = LogtoClient(endpoint=ENDPOINT, client_id="m", client_secret=SECRET, http_transport=transport)
    app = FastAPI()
    app.get("/protected", dependencies=[Depends(auth)])(lambda: None)

    @app.get("/exchange")
    async def exchange(_request: Request) -> None:
        await client.exchange_token(PERSONAL, API, subject_token_type="personal_access_token")

    return app


def find_own_frames(kept: _Keeps) -> list[Any]:
    frames = [
        frame
        for event in kept.events
        for error in event["exception"]["values"]
        for frame in error["stacktrace"]["frames"]
        if frame["module"].startswith("fastapi_logto")
    ]
    assert frames
    return frames


@pytest.mark.parametrize(
    ("path", "token", "status"),
    [("/protected", TOKEN, 503), ("/protected", OPAQUE, 503), ("/exchange", TOKEN, 500)],
    ids=["a JWT", "an opaque token", "an exchange"],
)
def test_an_event_of_an_outage_holds_no_token_and_no_secret(path: str, token: str, status: int, kept: _Keeps) -> None:
    client = TestClient(build_app(), raise_server_exceptions=False)

    assert client.get(path, headers=bearer(token)).status_code == status
    sentry_sdk.flush()

    frames = find_own_frames(kept)
    assert not [frame["function"] for frame in frames if "headers" in json.dumps(frame.get("vars"), default=str)]
    sent = json.dumps(kept.events, default=str)
    assert [
        secret for secret in (token, *token.split("."), SECRET, PERSONAL) if len(secret) > 20 and secret in sent
    ] == []


@pytest.mark.parametrize("refused", [{"aud": "https://other.example"}, {"scope": 1}, {"jti": None}])
def test_an_event_of_a_refused_token_holds_none_of_its_other_claims(refused: dict[str, Any], kept: _Keeps) -> None:
    issuer = LocalIssuer()
    auth = issuer.auth(audience=API)
    token = issuer.access_token(claims={"email": "alice@example.com", **refused})

    with pytest.raises(InvalidTokenError) as caught:
        asyncio.run(auth.verify(token))
    sentry_sdk.capture_exception(caught.value)
    sentry_sdk.flush()

    shown = {frame["function"]: json.dumps(frame.get("vars"), default=str) for frame in find_own_frames(kept)}
    assert [function for function, text in shown.items() if "alice@example.com" in text] == []
