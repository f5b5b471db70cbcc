"""The webhooks of the local issuer, compared with deliveries of a real Logto 1.43."""

import asyncio
import hashlib
import hmac
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, cast

import pytest
from blockbuster import blockbuster_ctx
from starlette.types import Message, Receive, Scope, Send

from fastapi_logto.testing import Directory, LocalIssuer, ManualClock, User
from fastapi_logto.testing.issuer.sending import Outgoing, send_all
from tests.captured import Answer, Fault, serve_captured
from tests.unit.hook_app import KEY, Receiver, is_signed

DATA: Final = Path(__file__).parents[1] / "data/captured"
CAPTURED: Final[list[dict[str, Any]]] = json.loads((DATA / "webhooks-1.43.json").read_text(encoding="utf-8"))[
    "deliveries"
]
BODIES: Final = [json.loads(one["body"]) for one in CAPTURED]
HOOK: Final = "http://testserver/webhooks/logto"
ALICE: Final = "alice0000001"
BOB: Final = "bob000000001"
NOW: Final = 1_795_646_803.207
REFUSED: Final = 'TypeError: {"message":"fetch failed","cause":{"message":"All connection attempts failed"}}'


@pytest.fixture
def receiver() -> Receiver:
    return Receiver()


@pytest.fixture
def issuer(receiver: Receiver) -> LocalIssuer:
    issuer = LocalIssuer(clock=ManualClock(now=NOW))
    issuer.deliver_to(receiver.app)
    issuer.add_hook(HOOK, signing_key=KEY)
    return issuer


def find_captured(event: str, method: str) -> dict[str, Any]:
    return next(body for body in BODIES if body["event"] == event and body.get("method") == method)


def describe(value: object) -> object:
    """Return the names in order, and the types. A member that Logto sets to null or to a value counts as null."""
    if isinstance(value, dict):
        nullable = {"lastSignInAt", "applicationId"}
        members = cast("dict[str, object]", value)
        return [(name, None if name in nullable else describe(member)) for name, member in members.items()]
    if isinstance(value, list):
        return [describe(member) for member in cast("list[object]", value)]
    return type(value)


def remove_bob(issuer: LocalIssuer) -> None:
    issuer.remove_from_organization("bob", organization_id="globex")


CHANGES: Final[list[tuple[str, str, Callable[[LocalIssuer], None]]]] = [
    ("User.SuspensionStatus.Updated", "PATCH", lambda issuer: issuer.suspend("alice")),
    ("User.SuspensionStatus.Updated", "PATCH", lambda issuer: issuer.unsuspend("alice")),
    ("User.Deleted", "DELETE", lambda issuer: issuer.delete_user("alice")),
    (
        "Organization.Membership.Updated",
        "POST",
        lambda issuer: issuer.add_to_organization("alice", organization_id="globex"),
    ),
    ("Organization.Membership.Updated", "DELETE", remove_bob),
    ("Organization.Deleted", "DELETE", lambda issuer: issuer.delete_organization("acme")),
]


@pytest.mark.parametrize(("event", "method", "change"), CHANGES, ids=[f"{one[0]} {one[1]}" for one in CHANGES])
def test_an_event_of_a_change_has_the_members_and_types_of_logto(
    issuer: LocalIssuer, receiver: Receiver, event: str, method: str, change: Callable[[LocalIssuer], None]
) -> None:
    change(issuer)

    (received,) = receiver.received
    captured = find_captured(event, method)
    assert describe(received.document) == describe(captured)
    for name in ("event", "method", "status", "matchedRoute"):
        assert received.document[name] == captured[name]


OTHER_REQUEST: Final = {"OrganizationRole.Scopes.Updated", "User.Data.Updated", "Organization.Membership.Updated"}
BY_HAND: Final = [body for body in BODIES if "method" in body]


@pytest.mark.parametrize("captured", BY_HAND, ids=[f"{body['event']} {body['matchedRoute']}" for body in BY_HAND])
def test_any_event_can_be_emitted_by_hand_as_logto_sends_it(
    issuer: LocalIssuer, receiver: Receiver, captured: dict[str, Any]
) -> None:
    own = {"event", "createdAt", "userAgent", "ip", "hookId"}
    members = {name: value for name, value in captured.items() if name not in own}
    ids = {name: value for name, value in members["params"].items() if name != "0"}
    defaults = {"id": "an-id", "userId": "a-user"}
    if captured["event"] not in OTHER_REQUEST:
        # The other members come from the request that usually causes the event.
        members = {name: members[name] for name in members if name in {"data", "organizationRoleId"}}
        defaults = {}
    issuer.emit(captured["event"], params=defaults | ids, members=members)

    (received,) = receiver.received
    assert list(received.document) == list(captured)
    for name in captured.keys() - own:
        assert received.document[name] == captured[name]


@pytest.mark.parametrize("event", ["PostSignIn", "Identifier.Lockout", "Grant.LimitExceeded"])
def test_an_event_without_a_request_has_only_the_members_that_are_passed(
    issuer: LocalIssuer, receiver: Receiver, event: str
) -> None:
    issuer.emit(event, members={"userId": ALICE})

    assert list(receiver.received[0].document) == ["event", "createdAt", "userAgent", "ip", "userId", "hookId"]


def test_the_ids_of_the_path_are_required(issuer: LocalIssuer) -> None:
    with pytest.raises(ValueError, match="params: expected 'id', found none; pass the ids of the path /roles/:id"):
        issuer.emit("Role.Scopes.Updated")


def test_an_event_that_logto_does_not_have_is_an_error(issuer: LocalIssuer) -> None:
    with pytest.raises(ValueError, match=r"such as 'User\.Deleted', found 'User\.Suspended'; correct the name"):
        issuer.emit("User.Suspended", params={"userId": ALICE})


def test_the_captured_signatures_are_those_of_the_documentation() -> None:
    for one in CAPTURED:
        expected = hmac.new(one["signing_key"].encode(), one["body"].encode(), hashlib.sha256).hexdigest()
        assert one["headers"]["logto-signature-sha-256"] == expected


def test_a_delivery_is_signed_and_has_the_headers_of_logto(issuer: LocalIssuer, receiver: Receiver) -> None:
    hook = issuer.add_hook("http://testserver/other")

    issuer.suspend("alice")

    by_path = {one.path: one for one in receiver.received}
    assert is_signed(by_path["/webhooks/logto"], KEY)
    assert is_signed(by_path["/other"], hook.signing_key)
    captured = CAPTURED[0]["headers"]
    for name in ("user-agent", "content-type"):
        assert by_path["/other"].headers[name] == captured[name]
    assert by_path["/other"].document["hookId"] == hook.id


def test_the_body_is_compact_json_in_utf_8(receiver: Receiver) -> None:
    issuer = LocalIssuer(directory=Directory(users=[User(id="e", username="e", name="Érin")]))
    issuer.deliver_to(receiver.app)
    issuer.add_hook(HOOK)

    issuer.suspend("e")

    assert '"name":"Érin","avatar":null'.encode() in receiver.received[0].body


def test_the_times_are_those_of_the_issuers_clock(receiver: Receiver) -> None:
    clock = ManualClock(now=NOW)
    issuer = LocalIssuer(clock=clock)
    issuer.deliver_to(receiver.app)
    issuer.add_hook(HOOK)
    clock.advance(1)

    issuer.suspend("alice")

    body = receiver.received[0].document
    assert body["createdAt"] == "2026-11-25T22:46:44.207Z"
    assert (body["data"]["createdAt"], body["data"]["updatedAt"]) == (1_795_646_803_207, 1_795_646_804_207)
    assert issuer.deliveries[0].created_at == 1_795_646_804_207


def test_only_subscribed_events_are_delivered(receiver: Receiver) -> None:
    issuer = LocalIssuer()
    issuer.deliver_to(receiver.app)
    issuer.add_hook(HOOK, events=["User.Deleted", "User.Deleted"])

    issuer.suspend("alice")
    issuer.delete_user("alice")

    assert receiver.events == ["User.Deleted"]


@pytest.mark.parametrize(
    ("events", "found"), [(["User.Gone"], "'User.Gone'"), ([], "none")], ids=["unknown", "without events"]
)
def test_a_hook_needs_events_that_logto_has(events: list[str], found: str) -> None:
    with pytest.raises(ValueError, match=f"events: expected events of Logto such as 'User.Deleted', found {found}"):
        LocalIssuer().add_hook("http://127.0.0.1:1/", events=events)


def test_a_signing_key_is_in_no_repr(issuer: LocalIssuer) -> None:
    hook = issuer.add_hook("http://testserver/?secret=1")

    assert len(hook.signing_key) == 32
    assert hook.signing_key not in repr(hook)
    assert "secret" not in repr(hook)
    assert hook.url == "http://testserver/?secret=1"


def test_a_delivery_is_listed_with_its_response(issuer: LocalIssuer, receiver: Receiver) -> None:
    receiver.text = "fine"

    issuer.suspend("alice")
    issuer.unsuspend("alice")

    last, first = issuer.deliveries
    assert (first.event, first.result, first.status, first.response, first.error) == (
        "User.SuspensionStatus.Updated",
        "Success",
        200,
        "fine",
        None,
    )
    assert [one.document for one in receiver.received] == [first.body, last.body]


@pytest.mark.parametrize(
    ("status", "message"),
    [(500, "500 Internal Server Error"), (302, "302 Found"), (401, "401 Unauthorized"), (799, "799")],
)
def test_a_delivery_with_an_error_response_failed_and_is_not_sent_again(
    issuer: LocalIssuer, receiver: Receiver, status: int, message: str
) -> None:
    receiver.status = status

    issuer.suspend("alice")

    (delivery,) = issuer.deliveries
    assert (delivery.result, delivery.status) == ("Error", status)
    assert delivery.error == f'HTTPError: {{"message":"Request failed with status code {message}"}}'
    assert len(receiver.received) == 1


async def crash(_scope: Scope, _receive: Receive, _send: Send) -> None:
    raise RuntimeError("broken")


async def hang(_scope: Scope, _receive: Receive, _send: Send) -> None:
    await asyncio.Event().wait()


def test_an_exception_of_the_application_is_a_response_with_status_500(issuer: LocalIssuer) -> None:
    issuer.deliver_to(crash)

    issuer.suspend("alice")

    assert (issuer.deliveries[0].result, issuer.deliveries[0].status) == ("Error", 500)


def test_a_url_that_refuses_connections_is_a_failed_delivery() -> None:
    issuer = LocalIssuer()
    issuer.add_hook("http://127.0.0.1:1/")

    issuer.suspend("alice")

    (delivery,) = issuer.deliveries
    assert (delivery.result, delivery.status, delivery.error) == ("Error", None, REFUSED)


def test_a_delivery_that_takes_too_long_is_cancelled() -> None:
    request = Outgoing(url="http://testserver/", body=b"{}", headers={})

    (outcome,) = send_all([request], apps={"http://testserver": hang}, allow_remote=False, timeout_seconds=0.01)

    assert (outcome.status, outcome.error) == (None, 'TimeoutError: {"message":"Request timed out"}')


def test_a_server_that_does_not_respond_is_given_up() -> None:
    with serve_captured() as server:
        server.replace("/hook", Fault.HANG)
        request = Outgoing(url=f"{server.endpoint}/hook", body=b"{}", headers={})

        (outcome,) = send_all([request], apps={}, allow_remote=False, timeout_seconds=0.05)

    assert (outcome.status, outcome.error) == (None, 'TimeoutError: {"message":"Request timed out"}')


def test_a_redirect_is_not_followed() -> None:
    issuer = LocalIssuer()
    with serve_captured() as server:
        server.replace("/hook", Answer.redirect(f"{server.endpoint}/other"))
        issuer.add_hook(f"{server.endpoint}/hook")
        issuer.suspend("alice")

        assert server.counts == {"/hook": 1}
    assert (issuer.deliveries[0].result, issuer.deliveries[0].status) == ("Error", 302)


def test_a_long_response_is_cut(issuer: LocalIssuer, receiver: Receiver) -> None:
    receiver.text = "x" * 100_000

    issuer.suspend("alice")

    assert issuer.deliveries[0].response == "x" * 4096


def test_a_compressed_response_is_not_decompressed() -> None:
    issuer = LocalIssuer()
    with serve_captured() as server:
        server.replace("/hook", Answer.gzip_bomb(1))
        issuer.add_hook(f"{server.endpoint}/hook")
        issuer.suspend("alice")

    assert " " * 10 not in issuer.deliveries[0].response


REMOTE: Final = [
    "http://192.0.2.1/",
    "http://169.254.169.254/latest/meta-data",
    "http://x.localhost/",
    "http://127.1/",
    "http://0.0.0.0/",
    "http://127.0.0.1\\@192.0.2.1/",
    "https://api.example.com/",
    "http://testserver:8000/",
]


@pytest.mark.parametrize("url", REMOTE)
def test_webhooks_stay_on_this_machine(issuer: LocalIssuer, url: str) -> None:
    with pytest.raises(
        ValueError, match=r"url: expected a loopback host, found .*; pass the application to deliver_to"
    ):
        issuer.add_hook(url)


@pytest.mark.parametrize(
    "url", ["", "ftp://127.0.0.1/", "file:///etc/passwd", "http://", "http://127.0.0.1:70000/", "\n"]
)
def test_a_hook_has_an_http_url(issuer: LocalIssuer, url: str) -> None:
    with pytest.raises(ValueError, match="url: expected an http or https URL"):
        issuer.add_hook(url)


def test_other_machines_are_allowed_by_an_argument() -> None:
    issuer = LocalIssuer(allow_remote_webhooks=True)

    assert issuer.add_hook("http://api.internal:8000/webhooks").url == "http://api.internal:8000/webhooks"


def test_an_application_in_memory_has_an_http_origin() -> None:
    with pytest.raises(ValueError, match="url: expected an http or https URL"):
        LocalIssuer().deliver_to(crash, base_url="testserver")


def test_events_arrive_while_the_callers_loop_runs(receiver: Receiver) -> None:
    issuer = LocalIssuer()
    issuer.deliver_to(receiver.app)
    issuer.add_hook(HOOK)

    async def suspend() -> None:
        with blockbuster_ctx():
            await asyncio.to_thread(issuer.suspend, "alice")

    asyncio.run(suspend())
    asyncio.run(suspend())

    assert receiver.events == ["User.SuspensionStatus.Updated"] * 2


def test_the_directory_has_changed_before_the_event_arrives() -> None:
    issuer = LocalIssuer()
    seen: list[bool] = []

    async def look(_scope: Scope, _receive: Receive, send: Send) -> None:
        seen.append(issuer.directory.users[0].is_suspended)
        # An application may call the issuer: no lock is held during a delivery.
        issuer.directory = issuer.directory
        start: Message = {"type": "http.response.start", "status": 204, "headers": []}
        await send(start)
        await send({"type": "http.response.body"})

    issuer.deliver_to(look)
    issuer.add_hook(HOOK)

    issuer.suspend("alice")

    assert seen == [True]
    assert issuer.deliveries[0].status == 204


def test_a_served_issuer_delivers_on_real_sockets() -> None:
    receiver = Receiver()
    with LocalIssuer().serve() as api:
        # A second server of the test kit is the API.
        api.app.mount("/receiver", receiver.app)
        with LocalIssuer().serve() as issuer:
            issuer.add_hook(f"{api.endpoint}/receiver/webhooks", signing_key=KEY)
            issuer.suspend("alice")

    (received,) = receiver.received
    assert is_signed(received, KEY)
    assert issuer.deliveries[0].result == "Success"
