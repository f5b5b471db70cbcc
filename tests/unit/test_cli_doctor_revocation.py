"""The checks of `doctor` for the webhook, its route, its delivery log and the store."""

import json
import sys
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import pytest
from fastapi import FastAPI
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Mount, Route

from fastapi_logto.cli.hooks import POLL_ONLY_URL
from fastapi_logto.revocation import Revocations
from fastapi_logto.testing import LocalIssuer
from tests.conftest import RunCli
from tests.management import serve_management
from tests.tenants import API, serve

KEY: Final = "a1b2c3d4e5f6a1b2c3d4e5f6a1b2c3d4"
DEPLOYER: Final = {"LOGTO_MANAGEMENT_CLIENT_ID": "deployer", "LOGTO_MANAGEMENT_CLIENT_SECRET": "deployer-secret"}
Check = dict[str, Any]
RunDoctor = Callable[..., dict[str, Check]]


@pytest.fixture
def issuer() -> Iterator[LocalIssuer]:
    with serve_management() as (served, _):
        yield served


@pytest.fixture
def doctor(cli: RunCli, issuer: LocalIssuer) -> RunDoctor:
    """Run `doctor`, and return the checks of the section, by name."""

    def run(*arguments: str, **environment: str) -> dict[str, Check]:
        own = {"LOGTO_ENDPOINT": issuer.endpoint, "LOGTO_AUDIENCE": API, **DEPLOYER, **environment}
        ended = cli("doctor", "--json", *arguments, **own)
        assert KEY not in ended.out
        sections = {section["title"]: section["checks"] for section in json.loads(ended.out)["sections"]}
        return {check["name"]: check for check in sections.get("Revocation", ())}

    return run


@contextmanager
def serve_api() -> Generator[str]:
    """Serve an API with the route, and yield its URL."""
    app = FastAPI()
    app.include_router(Revocations().webhooks(signing_key=KEY))
    with serve(LocalIssuer(), app=app) as url:
        yield f"{url}/webhooks/logto"


def look(check: Check) -> tuple[str, str]:
    return check["status"], check["found"]


def test_without_a_webhook_there_is_nothing_to_check(doctor: RunDoctor) -> None:
    assert doctor() == {}


def test_a_webhook_that_works_passes_every_check(doctor: RunDoctor, issuer: LocalIssuer) -> None:
    with serve_api() as url:
        hook = issuer.add_hook(url, signing_key=KEY)
        quiet = doctor(LOGTO_WEBHOOK_ID=hook.id)
        issuer.emit("User.Deleted", params={"userId": "x"})
        found = doctor(LOGTO_WEBHOOK_ID=hook.id, LOGTO_WEBHOOK_SIGNING_KEY=KEY)

    assert look(quiet["Delivery log"]) == ("ok", "readable; no delivery in the last 24 h")
    assert {name: look(check) for name, check in found.items()} == {
        "Webhook": ("ok", f"{hook.id} is enabled and has the events that revoke tokens"),
        "Webhook route": ("ok", f"'{url}' refuses requests without a signature"),
        "Signing key": ("ok", "the route accepts LOGTO_WEBHOOK_SIGNING_KEY"),
        "Delivery log": ("ok", "readable; last 1 deliveries as expected"),
    }


def test_a_signing_key_that_the_api_does_not_have_is_reported(doctor: RunDoctor, issuer: LocalIssuer) -> None:
    with serve_api() as url:
        hook = issuer.add_hook(url, signing_key=KEY)
        found = doctor(LOGTO_WEBHOOK_ID=hook.id, LOGTO_WEBHOOK_SIGNING_KEY="x" * 32)

    assert look(found["Signing key"]) == (
        "failed",
        "expected status 400 for a signed request whose body is no event, found 401",
    )


def test_a_webhook_that_is_disabled_or_lacks_an_event_is_reported(doctor: RunDoctor, issuer: LocalIssuer) -> None:
    hook = issuer.add_hook("http://127.0.0.1:9/", events=["User.Deleted"])

    found = doctor(LOGTO_WEBHOOK_ID=hook.id)["Webhook"]

    assert found["status"] == "failed"
    assert found["found"].startswith("the webhook lacks the events User.SuspensionStatus.Updated, ")
    assert found["advice"] == "Add them with fastapi-logto webhook push."


def test_a_url_that_nothing_serves_is_a_warning_and_failed_deliveries_are_too(
    doctor: RunDoctor, issuer: LocalIssuer
) -> None:
    hook = issuer.add_hook("http://127.0.0.1:9/webhooks/logto")
    issuer.emit("User.Deleted", params={"userId": "x"})

    found = doctor(LOGTO_WEBHOOK_ID=hook.id)

    assert look(found["Webhook route"]) == (
        "warning",
        "'http://127.0.0.1:9/webhooks/logto': connection refused: nothing listens there",
    )
    assert look(found["Delivery log"]) == ("warning", "readable; 1 of the last 1 deliveries failed")
    assert found["Delivery log"]["advice"].startswith(
        f"Look at them on the page of the local issuer, {issuer.endpoint}/."
    )


@pytest.mark.parametrize(
    ("status", "expected"),
    [(404, "found 404 of something else"), (401, "found 401 of something else"), (200, "found 200 of something else")],
)
def test_a_url_of_something_else_is_reported(
    doctor: RunDoctor, issuer: LocalIssuer, status: int, expected: str
) -> None:
    async def respond(_: Request) -> Response:
        return JSONResponse({}, status_code=status)

    app = Starlette(routes=[Route("/{path:path}", respond, methods=["POST"])])
    with serve(LocalIssuer(), app=app) as url:
        hook = issuer.add_hook(f"{url}/hook")
        found = doctor(LOGTO_WEBHOOK_ID=hook.id)["Webhook route"]

    assert look(found) == (
        "failed",
        f"'{url}/hook': expected status 401 for a request without a signature, {expected}",
    )


def test_an_api_that_reads_only_the_log_needs_no_route(doctor: RunDoctor, issuer: LocalIssuer) -> None:
    hooks: Any = vars(issuer)["_webhooks"].hooks
    hook = hooks.create(config={"url": POLL_ONLY_URL}, events=("User.Deleted",))
    issuer.emit("User.Deleted", params={"userId": "x"})

    found = doctor(LOGTO_WEBHOOK_ID=hook.id)

    assert look(found["Webhook route"]) == ("skipped", "the API reads only the delivery log")
    assert look(found["Delivery log"]) == ("ok", "readable; last 1 deliveries as expected")


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        (
            {"LOGTO_MANAGEMENT_CLIENT_SECRET": ""},
            ("skipped", "to check it, set LOGTO_MANAGEMENT_CLIENT_ID and LOGTO_MANAGEMENT_CLIENT_SECRET"),
        ),
        ({"LOGTO_WEBHOOK_ID": "../x"}, ("failed", "hook_id: expected the id of a webhook, found '../x'")),
    ],
)
def test_a_webhook_that_can_not_be_checked_is_shown(
    doctor: RunDoctor, environment: dict[str, str], expected: tuple[str, str]
) -> None:
    found = doctor(**{"LOGTO_WEBHOOK_ID": "unknown", **environment})

    assert look(found["Webhook"]) == expected


def test_a_webhook_that_does_not_exist_is_reported(doctor: RunDoctor) -> None:
    found = doctor(LOGTO_WEBHOOK_ID="unknown")["Webhook"]

    assert found["status"] == "failed"
    assert found["found"].endswith("/api/hooks/unknown: expected status 200, found 404; there is no such webhook")
    assert found["advice"].startswith("Correct hook_id, or create the webhook")


def test_a_log_that_is_not_readable_is_reported(cli: RunCli) -> None:

    async def refuse(_: Request) -> Response:
        return JSONResponse({}, status_code=500)

    with serve_management() as (issuer, management):
        hook = issuer.add_hook("http://127.0.0.1:9/")
        app = Starlette(routes=[Route("/api/hooks/{id}/recent-logs", refuse), Mount("/", management.app)])
        with serve(issuer, app=app):
            own = {"LOGTO_ENDPOINT": issuer.endpoint, "LOGTO_AUDIENCE": API, "LOGTO_WEBHOOK_ID": hook.id, **DEPLOYER}
            sections = json.loads(cli("doctor", "--json", **own).out)["sections"]

    (check,) = (one for section in sections for one in section["checks"] if one["name"] == "Delivery log")
    assert (check["status"], check["advice"]) == ("failed", "Look up the status in Logto's documentation.")


APP: Final = """
from fastapi import Depends, FastAPI
from fastapi_logto import LogtoAuth
from fastapi_logto.revocation import DeliveryLog, Revocations, RevocationStoreError

class Store:
    async def load_text(self, name):
        if {is_away}:
            raise RevocationStoreError("expected a connection, found none; check the URL")
    async def close(self): ...

log = DeliveryLog({endpoint!r}, client_id="deployer", client_secret="deployer-secret", hook_id={hook_id!r})
auth = LogtoAuth(endpoint={endpoint!r}, audience={audience!r}, revocations=Revocations(Store(), log=log))
app = FastAPI(dependencies=[Depends(auth)])

@app.get("/")
async def root() -> None: ...
"""


@pytest.mark.parametrize(
    ("is_away", "expected"),
    [(False, ("ok", "reachable")), (True, ("failed", "expected a connection, found none"))],
)
def test_the_log_and_the_store_of_an_application_are_checked(
    cli: RunCli, issuer: LocalIssuer, tmp_path: Path, *, is_away: bool, expected: tuple[str, str]
) -> None:
    hook = issuer.add_hook("http://127.0.0.1:9/")
    name = f"revoking_{is_away}".lower()
    text = APP.format(endpoint=issuer.endpoint, hook_id=hook.id, audience=API, is_away=is_away)
    (tmp_path / f"{name}.py").write_text(text)
    before = list(sys.path)
    try:
        ended = cli("doctor", "--json", "--app", f"{name}:app")
    finally:
        sys.path[:] = before

    sections = {section["title"]: section["checks"] for section in json.loads(ended.out)["sections"]}
    found = {check["name"]: check for check in sections["Revocation"]}
    assert found["Webhook"]["status"] == "ok"
    assert look(found["Store"]) == expected
