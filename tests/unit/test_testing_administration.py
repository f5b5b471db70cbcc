"""Changes of users and organizations of the local issuer, its buttons, and back-channel logout."""

import base64
import json
import re
import threading
from dataclasses import replace
from html import unescape
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, cast
from urllib.parse import parse_qs, parse_qsl, urlencode

import pytest
from joserfc import jws
from joserfc.jwk import KeySet

from fastapi_logto.testing import Application, Directory, LocalIssuer, ManualClock, User, bearer
from tests.unit.hook_app import Receiver
from tests.unit.test_testing_sign_in import API, FORM, Browser

if TYPE_CHECKING:
    from httpx2 import Response  # the response of the newest Starlette's test client
    from joserfc.jwk import KeySetSerialization

ALICE: Final = "alice0000001"
BOB: Final = "bob000000001"
LOGOUT: Final[dict[str, Any]] = json.loads(
    (Path(__file__).parents[1] / "data/captured/logout-1.43.json").read_text(encoding="utf-8")
)
OFFLINE: Final = {"scope": "openid offline_access read:user", "prompt": "consent", "resource": API}


@pytest.fixture
def issuer() -> LocalIssuer:
    return LocalIssuer()


def find_user(issuer: LocalIssuer, user_id: str) -> User | None:
    return next((user for user in issuer.directory.users if user.id == user_id), None)


def list_members(issuer: LocalIssuer) -> dict[str, set[str]]:
    return {one.id: set(one.members) for one in issuer.directory.organizations}


@pytest.mark.parametrize("name", ["alice", ALICE])
def test_a_user_is_suspended_by_username_or_id(issuer: LocalIssuer, name: str) -> None:
    issuer.suspend(name)
    assert [user.username for user in issuer.directory.users if user.is_suspended] == ["alice"]

    issuer.unsuspend(name)
    assert issuer.directory == Directory.example()


def test_a_username_goes_before_an_equal_user_id(issuer: LocalIssuer) -> None:
    issuer.directory = Directory(
        users=[User(id="eve", username="mallory", name="M"), User(id="e", username="eve", name="E")]
    )
    issuer.suspend("eve")

    assert [user.id for user in issuer.directory.users if user.is_suspended] == ["e"]


@pytest.mark.parametrize("end", ["suspend", "delete"])
def test_the_tokens_of_a_user_end_like_in_logto(issuer: LocalIssuer, end: str) -> None:
    browser = Browser(issuer)
    tokens = browser.get_tokens(token_resource=API, **OFFLINE)
    others = browser.get_tokens(user="bob", token_resource=API, **OFFLINE)
    code = dict(parse_qsl(browser.submit(browser.open(**OFFLINE)).headers["location"].partition("?")[2]))["code"]
    page, opaque, other = browser.open(), issuer.opaque_token(), issuer.opaque_token(subject=BOB)

    if end == "suspend":
        issuer.suspend("alice")
    else:
        issuer.delete_user("alice")

    assert browser.redeem(code).json()["error"] == "invalid_grant"
    assert browser.refresh(tokens["refresh_token"]).json()["error"] == "invalid_grant"
    assert browser.http.get("/oidc/me", headers=bearer(opaque)).status_code == 401
    assert introspect(browser, opaque) == {"active": False}
    assert browser.submit(page, user="alice").status_code in {400, 403}
    assert 'value="alice"' not in browser.open().text
    # The JWT stays valid, and so does everything of other users.
    assert issuer.read_access_token(tokens["access_token"]) is not None
    assert browser.refresh(others["refresh_token"], resource=API).status_code == 200
    assert introspect(browser, other)["active"] is True


def introspect(browser: Browser, token: str) -> dict[str, Any]:
    machine = ("local-machine", "local-machine-secret")
    answer: dict[str, Any] = browser.http.post("/oidc/token/introspection", data={"token": token}, auth=machine).json()
    return answer


def test_tokens_that_a_suspension_ended_do_not_come_back(issuer: LocalIssuer) -> None:
    browser = Browser(issuer)
    refresh_token = browser.get_tokens(token_resource=API, **OFFLINE)["refresh_token"]

    issuer.suspend("alice")
    issuer.unsuspend("alice")

    assert browser.refresh(refresh_token).json()["error"] == "invalid_grant"
    assert browser.sign_in()["code"]


def test_a_deleted_user_is_in_no_organization(issuer: LocalIssuer) -> None:
    issuer.delete_user("bob")

    assert find_user(issuer, BOB) is None
    assert list_members(issuer) == {"acme": {ALICE, "local-machine"}, "globex": set()}


def test_a_member_is_added_and_removed(issuer: LocalIssuer) -> None:
    issuer.add_to_organization("carol", organization_id="globex", scopes={API: ["read:user"]})
    issuer.remove_from_organization(BOB, organization_id="globex")

    assert list_members(issuer)["globex"] == {"carol0000001"}
    assert issuer.directory.organizations[1].members["carol0000001"] == {API: ("read:user",)}
    assert list_members(issuer)["acme"] == {ALICE, BOB, "local-machine"}


def test_a_machine_can_be_a_member(issuer: LocalIssuer) -> None:
    receiver = Receiver()
    issuer.deliver_to(receiver.app)
    issuer.add_hook("http://testserver/")

    issuer.add_to_organization("local-machine", organization_id="globex")
    issuer.remove_from_organization("local-machine", organization_id="globex")

    added, removed = (one.document for one in receiver.received)
    # As captured from Logto; the removal has the same form.
    assert (added["matchedRoute"], added["addedApplicationIds"]) == (
        "/organizations/:id/applications",
        ["local-machine"],
    )
    assert removed["path"] == "/organizations/globex/applications/local-machine"
    assert (removed["status"], removed["removedApplicationIds"]) == (204, ["local-machine"])


def test_an_organization_is_deleted(issuer: LocalIssuer) -> None:
    issuer.delete_organization("globex")

    assert list(list_members(issuer)) == ["acme"]


def test_an_unknown_user_member_or_organization_is_an_error(issuer: LocalIssuer) -> None:
    user = "user: expected a username or user id of this directory, found 'nobody'"
    for change in (issuer.suspend, issuer.unsuspend, issuer.delete_user, issuer.end_session):
        with pytest.raises(ValueError, match=user):
            change("nobody")
    with pytest.raises(ValueError, match=user):
        issuer.add_to_organization("nobody", organization_id="acme")
    with pytest.raises(ValueError, match="member: expected a member of 'globex', found 'alice0000001'"):
        issuer.remove_from_organization("alice", organization_id="globex")
    organization = "organization_id: expected one of this directory, found 'nowhere'"
    with pytest.raises(ValueError, match=organization):
        issuer.add_to_organization("alice", organization_id="nowhere")
    with pytest.raises(ValueError, match=organization):
        issuer.delete_organization("nowhere")
    assert issuer.directory == Directory.example()


def test_concurrent_changes_are_all_made() -> None:
    users = [User(id=f"u{i}", username=f"user{i}", name="U") for i in range(40)]
    issuer = LocalIssuer(directory=Directory(users=users))
    threads = [threading.Thread(target=issuer.suspend, args=(user.id,)) for user in users]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert all(user.is_suspended for user in issuer.directory.users)


# The buttons of the index page.


def find_forms(page: "Response") -> list[dict[str, str]]:
    forms = re.findall(r'<form method="post" action="changes">(.*?)</form>', page.text)
    fields = [re.findall(r'name="([^"]*)" value="([^"]*)"', form) for form in forms]
    return [{name: unescape(value) for name, value in pairs} for pairs in fields]


def press(browser: Browser, **headers: str) -> "Response":
    """Press the first button of the index page."""
    form = find_forms(browser.http.get("/"))[0]
    return browser.http.post("/changes", content=urlencode(form), headers={**FORM, **headers})


def test_the_page_has_a_button_for_each_change(issuer: LocalIssuer) -> None:
    issuer.suspend("carol")

    forms = find_forms(Browser(issuer).http.get("/"))

    assert {"action": "suspend", "member": ALICE} in forms
    assert {"action": "delete", "member": ALICE} in forms
    assert {"action": "unsuspend", "member": "carol0000001"} in forms
    assert {"action": "remove", "member": BOB, "organization": "globex"} in forms
    assert len(forms) == 10


def test_each_button_makes_its_change(issuer: LocalIssuer) -> None:
    http = Browser(issuer).http
    pressed: set[str] = set()
    while forms := find_forms(http.get("/")):
        form = next((one for one in forms if one["action"] not in pressed), forms[-1])
        pressed.add(form["action"])
        before = issuer.directory
        answer = http.post("/changes", content=urlencode(form), headers=FORM)
        assert (answer.status_code, answer.headers["location"]) == (303, "/")
        assert issuer.directory != before

    assert pressed == {"suspend", "unsuspend", "delete", "remove"}
    assert (issuer.directory.users, list_members(issuer)) == ((), {"acme": set(), "globex": set()})
    assert "Organizations" not in http.get("/").text


@pytest.mark.parametrize(
    "headers",
    [{"Origin": "http://evil.example"}, {"Origin": "null"}, {"Sec-Fetch-Site": "cross-site"}],
    ids=["origin", "hidden origin", "site"],
)
def test_a_page_of_another_origin_cannot_press_a_button(issuer: LocalIssuer, headers: dict[str, str]) -> None:
    answer = press(Browser(issuer), **headers)

    assert answer.status_code == 403
    assert issuer.directory == Directory.example()


def test_the_own_page_can(issuer: LocalIssuer) -> None:
    answer = press(Browser(issuer), **{"Origin": issuer.endpoint, "Sec-Fetch-Site": "same-origin"})

    assert answer.status_code == 303
    assert issuer.directory != Directory.example()


@pytest.mark.parametrize(
    ("form", "message"),
    [
        ({"action": "suspend", "member": "<nobody>"}, "found '<nobody>'"),
        ({"action": "explode", "member": "alice"}, "the form does not come from this page"),
        ({"member": "alice"}, "missing required parameter 'action'"),
        ({"action": "remove", "member": "alice"}, "missing required parameter 'organization'"),
        ({"action": "remove", "member": "alice", "organization": "globex"}, "expected a member of 'globex'"),
    ],
)
def test_a_form_that_fits_no_entry_is_an_error_page(issuer: LocalIssuer, form: dict[str, str], message: str) -> None:
    answer = Browser(issuer).http.post("/changes", content=urlencode(form), headers=FORM)

    assert answer.status_code == 400
    assert "<nobody>" not in answer.text
    assert message in unescape(answer.text)
    assert issuer.directory == Directory.example()


def test_the_page_shows_the_last_deliveries_and_no_key(issuer: LocalIssuer) -> None:
    receiver = Receiver()
    page = Browser(issuer).http.get("/").text
    assert "deliveries" not in page

    issuer.deliver_to(receiver.app)
    hook = issuer.add_hook("http://testserver/")
    for _ in range(11):
        issuer.suspend("alice")
    issuer.add_hook("http://127.0.0.1:1/", events=["User.Deleted"])
    issuer.delete_user("bob")

    page = unescape(Browser(issuer).http.get("/").text).replace("<wbr>", "")
    assert page.count('<code class="words">User.SuspensionStatus.Updated</code>') == 8
    assert "Success: status 200" in page
    assert 'Error: TypeError: {"message":"fetch failed"' in page
    assert hook.signing_key not in page


# Back-channel logout.


def read_token(token: str) -> tuple[dict[str, Any], dict[str, Any]]:
    header, claims = (json.loads(base64.urlsafe_b64decode(part + "==")) for part in token.split(".")[:2])
    return header, claims


def describe(value: dict[str, Any]) -> list[tuple[str, type]]:
    return [(name, type(member)) for name, member in value.items()]


def test_a_logout_token_is_like_one_of_logto() -> None:
    issuer = LocalIssuer(clock=ManualClock(now=1_795_647_168.9))
    header, claims = read_token(issuer.logout_token(client_id="spa"))

    captured = LOGOUT["decoded"]
    assert describe(header) == describe(captured["header"])
    assert describe(claims) == describe(captured["claims"])
    assert header["typ"] == "logout+jwt"
    assert (claims["sub"], claims["aud"], claims["events"]) == (ALICE, "spa", captured["claims"]["events"])
    assert (claims["iat"], claims["exp"]) == (captured["claims"]["iat"], captured["claims"]["exp"])
    assert len(claims["sid"]) == len(captured["claims"]["sid"])


def test_the_captured_logout_token_verifies() -> None:
    token = parse_qs(LOGOUT["body"])["logout_token"][0]

    verified = jws.deserialize_compact(token, KeySet.import_key_set(LOGOUT["jwks"]), algorithms=["ES384"])

    assert json.loads(verified.payload) == LOGOUT["decoded"]["claims"]


def test_a_logout_token_can_be_wrong(issuer: LocalIssuer) -> None:
    header, claims = read_token(
        issuer.logout_token(
            subject=BOB,
            session_id="s",
            typ=None,
            lifetime_seconds=-1,
            claims={"nonce": "n", "events": {}, "aud": "other", "jti": None},
        )
    )

    assert "typ" not in header
    assert {name: claims.get(name) for name in ("sub", "sid", "nonce", "events", "aud", "jti")} == {
        "sub": BOB,
        "sid": "s",
        "nonce": "n",
        "events": {},
        "aud": "other",
        "jti": None,
    }
    assert claims["exp"] == claims["iat"] - 1


def build_issuer(*uris: str | None) -> LocalIssuer:
    applications = [Application(client_id=f"spa-{i}", backchannel_logout_uri=uri) for i, uri in enumerate(uris)]
    return LocalIssuer(directory=replace(Directory.example(), applications=applications))


def test_the_end_of_a_session_is_posted_to_each_application() -> None:
    receiver = Receiver()
    issuer = build_issuer("http://testserver/logout?a=b", None, "http://127.0.0.1:1/", "http://192.0.2.1/")
    issuer.deliver_to(receiver.app)

    statuses = issuer.end_session("bob")

    assert statuses == {"spa-0": 200, "spa-2": None, "spa-3": None}
    (received,) = receiver.received
    assert received.headers["content-type"] == "application/x-www-form-urlencoded"
    form = parse_qs(received.body.decode(), strict_parsing=True)
    assert list(form) == ["logout_token"]
    _, claims = read_token(form["logout_token"][0])
    assert (claims["sub"], claims["aud"], claims["iss"]) == (BOB, "spa-0", issuer.issuer)
    keys = KeySet.import_key_set(cast("KeySetSerialization", issuer.jwks()))
    verified = jws.deserialize_compact(form["logout_token"][0], keys, algorithms=["ES384"])
    assert json.loads(verified.payload) == claims
    # Access tokens stay valid, and no webhook is sent.
    assert issuer.deliveries == ()


def test_a_session_ends_without_any_application_to_tell() -> None:
    assert build_issuer(None).end_session("alice") == {}


@pytest.mark.parametrize("uri", ["", "ftp://127.0.0.1", "http://a b", "http://h/#f"])
def test_a_logout_uri_is_an_http_uri(uri: str) -> None:
    with pytest.raises(ValueError, match=r"backchannel_logout_uri: expected http\(s\) URIs without fragment"):
        Application(client_id="spa", backchannel_logout_uri=uri)
