"""Webhooks in the Management API of the local issuer, and the delivery log."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.testclient import TestClient

from fastapi_logto.testing import LocalIssuer, ManualClock, bearer
from tests.unit.hook_app import Receiver, is_signed
from tests.unit.test_testing_webhooks import describe

if TYPE_CHECKING:
    from httpx2 import Response  # the response of the newest Starlette's test client

DATA: Final = Path(__file__).parents[1] / "data/captured"
LOGS: Final[list[dict[str, Any]]] = json.loads((DATA / "hook-logs.json").read_text(encoding="utf-8"))["logs"]
MANAGEMENT: Final = "https://default.logto.app/api"
NOW: Final = 1_795_647_695
NOW_MS: Final = NOW * 1000
DAY_MS: Final = 86_400_000
CONFIG: Final = {"url": "http://testserver/webhooks/logto"}
VALID: Final = {"name": "n", "events": ["User.Deleted", "User.SuspensionStatus.Updated"], "config": CONFIG}


class Tenant:
    """An issuer with an API that receives its webhooks, and a client of its Management API."""

    def __init__(self) -> None:
        self.clock = ManualClock(now=NOW)
        self.issuer = LocalIssuer(clock=self.clock)
        self.receiver = Receiver()
        self.issuer.deliver_to(self.receiver.app)
        self.http = TestClient(self.issuer.app, base_url=self.issuer.endpoint)

    def ask(self, method: str, path: str, body: object = None, **query: str) -> "Response":
        token = self.issuer.machine_token(audience=MANAGEMENT, scopes=["all"])
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        return self.http.request(method, f"/api/hooks{path}", content=content, params=query, headers=bearer(token))

    def create(self, **changes: object) -> dict[str, Any]:
        answer = self.ask("POST", "", {**VALID, **changes})
        assert answer.status_code == 201
        hook: dict[str, Any] = answer.json()
        return hook

    def read_log(self, hook_id: str, **query: str) -> list[dict[str, Any]]:
        answer = self.ask("GET", f"/{hook_id}/recent-logs", **query)
        assert answer.status_code == 200
        entries: list[dict[str, Any]] = answer.json()
        return entries


@pytest.fixture
def tenant() -> Tenant:
    return Tenant()


def expect_error(answer: "Response", status: int, code: str, message: str) -> None:
    assert (answer.status_code, answer.json()) == (status, {"code": code, "message": message})


def test_a_hook_is_created_like_in_logto(tenant: Tenant) -> None:
    config = {**CONFIG, "headers": {"X-A": "b"}, "retries": 3, "unknown": 1}
    hook = tenant.create(config=config, unknown=1)

    assert list(hook) == [
        "tenantId",
        "id",
        "name",
        "event",
        "events",
        "config",
        "signingKey",
        "enabled",
        "createdAt",
    ]
    assert (len(hook["id"]), len(hook["signingKey"])) == (21, 32)
    del config["unknown"]
    assert {name: hook[name] for name in hook if name not in {"id", "signingKey"}} == {
        "tenantId": "default",
        "name": "n",
        "event": None,
        "events": VALID["events"],
        "config": config,
        "enabled": True,
        "createdAt": NOW_MS,
    }
    assert tenant.ask("GET", f"/{hook['id']}").json() == hook
    assert tenant.ask("GET", "").json() == [hook]


def test_a_hook_of_the_api_delivers_signed_with_its_headers(tenant: Tenant) -> None:
    headers = {"X-A": "b", "User-Agent": "mine", "logto-signature-sha-256": "forged"}
    hook = tenant.create(config={**CONFIG, "headers": headers})

    tenant.issuer.suspend("alice")

    (received,) = tenant.receiver.received
    assert is_signed(received, hook["signingKey"])
    assert (received.headers["x-a"], received.headers["user-agent"]) == ("b", "mine")


def test_the_name_and_the_state_have_defaults(tenant: Tenant) -> None:
    hook = tenant.ask("POST", "", {"events": ["User.Deleted", "User.Deleted"], "config": CONFIG}).json()

    assert (hook["name"], hook["enabled"], hook["events"]) == ("", True, ["User.Deleted"])


def test_hooks_are_listed_newest_first(tenant: Tenant) -> None:
    ids = [tenant.create()["id"] for _ in range(3)]

    assert [hook["id"] for hook in tenant.ask("GET", "").json()] == ids[::-1]
    page = tenant.ask("GET", "", page="2", page_size="2")
    assert ([hook["id"] for hook in page.json()], page.headers["total-number"]) == ([ids[0]], "3")
    assert "total-number" not in tenant.ask("GET", "").headers


def test_a_hook_is_updated(tenant: Tenant) -> None:
    hook = tenant.create()
    config = {"url": "http://testserver/other"}

    answer = tenant.ask("PATCH", f"/{hook['id']}", {"events": ["User.Created"], "config": config, "enabled": False})

    assert answer.status_code == 200
    assert answer.json() == {**hook, "events": ["User.Created"], "config": config, "enabled": False}
    assert tenant.ask("PATCH", f"/{hook['id']}", {"name": "m"}).json() == {**answer.json(), "name": "m"}


def test_a_disabled_hook_delivers_nothing(tenant: Tenant) -> None:
    hook = tenant.create(enabled=False)
    tenant.issuer.suspend("alice")
    assert tenant.receiver.received == []

    tenant.ask("PATCH", f"/{hook['id']}", {"enabled": True})
    tenant.issuer.suspend("alice")
    assert tenant.receiver.events == ["User.SuspensionStatus.Updated"]


def test_a_new_signing_key_signs_from_then_on(tenant: Tenant) -> None:
    hook = tenant.create()
    answer = tenant.ask("PATCH", f"/{hook['id']}/signing-key")

    assert answer.status_code == 200
    renewed = answer.json()
    assert renewed["signingKey"] != hook["signingKey"]
    assert {**renewed, "signingKey": ""} == {**hook, "signingKey": ""}
    tenant.issuer.suspend("alice")
    assert is_signed(tenant.receiver.received[0], renewed["signingKey"])


def test_a_deleted_hook_delivers_nothing_and_its_log_stays(tenant: Tenant) -> None:
    hook = tenant.create()
    tenant.issuer.suspend("alice")
    answer = tenant.ask("DELETE", f"/{hook['id']}")
    tenant.issuer.suspend("alice")

    assert (answer.status_code, answer.content) == (204, b"")
    assert tenant.ask("GET", "").json() == []
    assert len(tenant.receiver.received) == 1
    assert len(tenant.read_log(hook["id"])) == 1


def test_an_unknown_hook_is_404_as_in_logto(tenant: Tenant) -> None:
    expect_error(
        tenant.ask("GET", "/nope"), 404, "entity.not_exists_with_id", "The hooks with ID `nope` does not exist."
    )
    for path, body in (("/nope", {"name": "n"}), ("/nope/signing-key", None)):
        expect_error(tenant.ask("PATCH", path, body), 404, "entity.not_exists", "The hook does not exist.")
    expect_error(tenant.ask("DELETE", "/nope"), 404, "entity.not_found", "The resource does not exist.")
    assert tenant.read_log("nope") == []


def test_a_hook_needs_events(tenant: Tenant) -> None:
    answer = tenant.ask("POST", "", {"config": CONFIG})
    expect_error(answer, 400, "hook.missing_events", "You need to provide at least one event.")


def test_an_update_needs_a_field(tenant: Tenant) -> None:
    answer = tenant.ask("PATCH", f"/{tenant.create()['id']}", {"signingKey": "mine"})
    expect_error(answer, 422, "entity.invalid_input", "Invalid input. Value list must not be empty.")


INVALID: Final[list[dict[str, object]]] = [
    {"name": 1},
    {"name": "n" * 257},
    {"enabled": "yes"},
    {"events": []},
    {"events": "User.Deleted"},
    {"events": ["User.Gone"]},
    {"events": [1]},
    {"config": []},
    {"config": {}},
    {"config": {"url": 1}},
    {"config": {**CONFIG, "headers": []}},
    {"config": {**CONFIG, "headers": {"a": 1}}},
    {"config": {**CONFIG, "retries": 4}},
    {"config": {**CONFIG, "retries": -1}},
    {"config": {**CONFIG, "retries": True}},
    {"config": {**CONFIG, "retries": "1"}},
]


@pytest.mark.parametrize("changes", INVALID, ids=str)
def test_an_invalid_field_is_rejected(tenant: Tenant, changes: dict[str, object]) -> None:
    hook = tenant.create()

    for answer in (tenant.ask("POST", "", {**VALID, **changes}), tenant.ask("PATCH", f"/{hook['id']}", changes)):
        expect_error(answer, 400, "guard.invalid_input", "The request body is invalid.")
    assert tenant.ask("GET", "").json() == [hook]


@pytest.mark.parametrize("body", [b"", b"[]", b"{", {"events": ["User.Deleted"]}])
def test_a_body_without_an_object_or_a_url_is_rejected(tenant: Tenant, body: object) -> None:
    expect_error(tenant.ask("POST", "", body), 400, "guard.invalid_input", "The request body is invalid.")


ROUTES: Final = [
    ("GET", ""),
    ("POST", ""),
    ("GET", "/id"),
    ("PATCH", "/id"),
    ("DELETE", "/id"),
    ("PATCH", "/id/signing-key"),
    ("GET", "/id/recent-logs"),
]


@pytest.mark.parametrize(("method", "path"), ROUTES)
def test_each_route_requires_the_scope_all(tenant: Tenant, method: str, path: str) -> None:
    token = tenant.issuer.machine_token(audience=MANAGEMENT, scopes=["almost:all"])

    assert tenant.http.request(method, f"/api/hooks{path}").json()["code"] == "auth.authorization_header_missing"
    answer = tenant.http.request(method, f"/api/hooks{path}", headers=bearer(token))
    assert (answer.status_code, answer.json()["code"]) == (403, "auth.forbidden")


# The delivery log.


def test_the_log_of_a_url_that_does_not_respond_is_like_logtos() -> None:
    clock = ManualClock(now=NOW)
    issuer = LocalIssuer(clock=clock)
    hook = issuer.add_hook("http://127.0.0.1:1/")
    issuer.add_to_organization("carol", organization_id="globex")
    issuer.remove_from_organization("carol", organization_id="globex")
    issuer.suspend("carol")
    issuer.delete_user("carol")
    issuer.delete_organization("globex")

    token = issuer.machine_token(audience=MANAGEMENT, scopes=["all"])
    http = TestClient(issuer.app, base_url=issuer.endpoint)
    entries = http.get(f"/api/hooks/{hook.id}/recent-logs", headers=bearer(token)).json()

    assert [entry["key"] for entry in entries] == [entry["key"] for entry in LOGS]
    assert describe(fill_name(entries)) == describe(fill_name(LOGS))
    for entry in entries:
        assert len(entry["id"]) == len(LOGS[0]["id"])
        assert entry["payload"]["hookId"] == entry["payload"]["hookRequest"]["body"]["hookId"] == hook.id
        assert entry["payload"]["error"].startswith('TypeError: {"message":"fetch failed","cause":{"message":')


def fill_name(entries: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return entries whose users have a name; the captured one had none."""
    filled: list[dict[str, Any]] = json.loads(json.dumps(entries))
    for entry in filled:
        body = entry["payload"]["hookRequest"]["body"]
        if "data" in body:
            body["data"]["name"] = "name"
    return filled


@pytest.mark.parametrize(("text", "parsed"), [('{"a":[1]}', {"a": [1]}), ("fine", "fine"), ("", "")])
def test_an_entry_has_the_response(tenant: Tenant, text: str, parsed: object) -> None:
    hook = tenant.create()
    tenant.receiver.text = text

    tenant.issuer.suspend("alice")

    (entry,) = tenant.read_log(hook["id"])
    assert list(entry["payload"]) == ["key", "result", "hookId", "response", "hookRequest"]
    assert entry["payload"]["result"] == "Success"
    assert entry["payload"]["response"] == {"statusCode": 200, "body": parsed}
    assert entry["payload"]["hookRequest"]["body"] == tenant.receiver.received[0].document


def test_an_entry_of_a_response_with_an_error_has_both(tenant: Tenant) -> None:
    hook = tenant.create()
    tenant.receiver.status = 500

    tenant.issuer.suspend("alice")

    (entry,) = tenant.read_log(hook["id"])
    assert list(entry["payload"]) == ["key", "result", "error", "hookId", "response", "hookRequest"]
    assert (entry["payload"]["result"], entry["payload"]["response"]["statusCode"]) == ("Error", 500)


def test_a_hook_of_the_api_cannot_reach_other_machines(tenant: Tenant) -> None:
    hook = tenant.create(config={"url": "http://169.254.169.254/"})

    tenant.issuer.suspend("alice")

    (entry,) = tenant.read_log(hook["id"])
    assert "url: expected a loopback host, found '169.254.169.254'" in entry["payload"]["error"]


@pytest.mark.parametrize(
    "config",
    [{"url": ""}, {"url": "ftp://127.0.0.1/"}, {**CONFIG, "headers": {"é": "a"}}, {**CONFIG, "headers": {"a": "ü"}}],
    ids=str,
)
def test_a_hook_that_cannot_be_sent_is_a_failed_delivery(tenant: Tenant, config: dict[str, object]) -> None:
    hook = tenant.create(config=config)

    tenant.issuer.suspend("alice")

    (entry,) = tenant.read_log(hook["id"])
    assert entry["payload"]["result"] == "Error"
    assert tenant.receiver.received == []


def test_the_log_has_pages(tenant: Tenant) -> None:
    hook, other = tenant.create(), tenant.create()
    for _ in range(25):
        tenant.issuer.suspend("alice")
        tenant.clock.advance(1)

    answer = tenant.ask("GET", f"/{hook['id']}/recent-logs")
    times = [entry["createdAt"] for entry in answer.json()]
    assert times == [NOW_MS + 1000 * i for i in range(24, 4, -1)]
    assert answer.headers["total-number"] == "25"
    assert [entry["createdAt"] for entry in tenant.read_log(hook["id"], page="2")] == [
        NOW_MS + 1000 * i for i in range(4, -1, -1)
    ]
    assert len(tenant.read_log(other["id"], page_size="100")) == 25
    assert tenant.read_log(hook["id"], page="99", page_size="2") == []


@pytest.mark.parametrize(
    "query",
    [{"page": "0"}, {"page": "x"}, {"page": "1.5"}, {"page": "1e999"}, {"page_size": "101"}, {"page_size": "-1"}],
    ids=str,
)
def test_an_invalid_page_is_rejected(tenant: Tenant, query: dict[str, str]) -> None:
    answer = tenant.ask("GET", "/id/recent-logs", **query)
    expect_error(answer, 400, "guard.invalid_pagination", "The request pagination value is invalid.")


WINDOWS: Final[list[tuple[dict[str, str], list[int]]]] = [
    ({}, [2, 1]),
    ({"start_time": "0"}, [2, 1, 0]),
    ({"start_time": ""}, [2, 1, 0]),
    ({"end_time": str(NOW_MS)}, [0]),
    ({"start_time": str(NOW_MS + DAY_MS), "end_time": str(NOW_MS + DAY_MS)}, [1]),
    ({"start_time": str(NOW_MS + 0.5)}, [2, 1]),
    ({"start_time": str(NOW_MS + 2 * DAY_MS + 1)}, []),
    ({"logKey": "TriggerHook.User.Deleted"}, [2]),
    ({"logKey": "TriggerHook.User.Created"}, []),
    ({"logKey": ""}, [2, 1]),
]


@pytest.mark.parametrize(("query", "expected"), WINDOWS, ids=[str(query) for query, _ in WINDOWS])
def test_the_log_is_limited_in_time(tenant: Tenant, query: dict[str, str], expected: list[int]) -> None:
    hook = tenant.create()
    tenant.issuer.suspend("alice")
    tenant.clock.advance(DAY_MS / 1000)
    tenant.issuer.suspend("alice")
    tenant.clock.advance(DAY_MS / 1000)
    tenant.issuer.delete_user("alice")

    assert [entry["createdAt"] for entry in tenant.read_log(hook["id"], **query)] == [
        NOW_MS + DAY_MS * i for i in expected
    ]


@pytest.mark.parametrize("name", ["start_time", "end_time"])
@pytest.mark.parametrize("value", ["x", "1e999", "nan", "1_000", "\N{ARABIC-INDIC DIGIT ONE}"])
def test_a_time_that_is_no_number_is_rejected(tenant: Tenant, name: str, value: str) -> None:
    answer = tenant.ask("GET", "/id/recent-logs", **{name: value})
    expect_error(answer, 400, "guard.invalid_input", f"The request {name} is invalid.")


def test_a_window_that_ends_before_it_starts_is_rejected(tenant: Tenant) -> None:
    answer = tenant.ask("GET", "/id/recent-logs", start_time="2", end_time="1")
    expect_error(answer, 400, "log.invalid_time_window", "`end_time` must be after `start_time`.")


def test_the_statistics_count_the_last_day(tenant: Tenant) -> None:
    hook = tenant.create()
    tenant.issuer.suspend("alice")
    tenant.clock.advance(DAY_MS / 1000 + 1)
    tenant.issuer.suspend("alice")
    tenant.receiver.status = 500
    tenant.issuer.suspend("alice")

    expected = {"successCount": 1, "requestCount": 2}
    assert tenant.ask("GET", "", includeExecutionStats="true").json()[0]["executionStats"] == expected
    assert tenant.ask("GET", f"/{hook['id']}", includeExecutionStats="1").json()["executionStats"] == expected
    assert "executionStats" not in tenant.ask("GET", "", includeExecutionStats="no").json()[0]
    assert "executionStats" not in tenant.ask("GET", f"/{hook['id']}").json()


SHARED: Final = Tenant()


@given(query=st.dictionaries(st.sampled_from(["start_time", "end_time", "page", "page_size", "logKey"]), st.text()))
def test_any_query_is_answered_or_rejected(query: dict[str, str]) -> None:
    assert SHARED.ask("GET", "/id/recent-logs", **query).status_code in {200, 400}
