"""The authorization endpoint of the local issuer, as used by a browser."""

import hashlib
import re
from base64 import urlsafe_b64encode
from collections.abc import Mapping, Sequence
from html import unescape
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import parse_qsl, urlencode

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from joserfc import jwt
from joserfc.jwk import KeySet
from starlette.testclient import TestClient

from fastapi_logto.testing import Application, Directory, LocalIssuer, Resource, User

if TYPE_CHECKING:
    from httpx2 import Response  # the response of the newest Starlette's test client

API: Final = "https://api.example.test"
REDIRECT: Final = "http://localhost:8000/docs/oauth2-redirect"
VERIFIER: Final = "a-verifier-of-at-least-43-characters-as-it-must-be"
CHALLENGE: Final = urlsafe_b64encode(hashlib.sha256(VERIFIER.encode()).digest()).rstrip(b"=").decode()
FORM: Final = {"Content-Type": "application/x-www-form-urlencoded"}
GOOD_REQUEST: Final[Mapping[str, str | Sequence[str] | None]] = {
    "client_id": "local-spa",
    "redirect_uri": REDIRECT,
    "response_type": "code",
    "code_challenge": CHALLENGE,
    "code_challenge_method": "S256",
    "resource": API,
    "scope": "read:user write:user",
    "state": "the state",
}


def decode(issuer: LocalIssuer, token: str) -> jwt.Token:
    return jwt.decode(token, import_keys(issuer), algorithms=["ES384", "ES256", "ES512", "RS256"])


def import_keys(issuer: LocalIssuer) -> KeySet:
    return KeySet.import_key_set({"keys": [dict(key) for key in issuer.jwks()["keys"]]})


class Browser:
    """A user on the sign-in page, and the application that the user signs in to."""

    def __init__(self, issuer: LocalIssuer) -> None:
        self.issuer = issuer
        self.http = TestClient(issuer.app, base_url=issuer.endpoint, follow_redirects=False)

    def open(self, **changes: str | Sequence[str] | None) -> "Response":
        """Send a valid authorization request with changes. `None` omits a parameter."""
        parameters = {name: value for name, value in {**GOOD_REQUEST, **changes}.items() if value is not None}
        return self.http.get("/oidc/auth", params=urlencode(parameters, doseq=True))

    def submit(self, page: "Response", *, action: str = "allow", user: str = "alice", untick: str = "") -> "Response":
        """Fill in the form and send it."""
        assert page.status_code == 200
        fields = re.findall(r'<input type="hidden" name="([^"]*)" value="([^"]*)">', page.text)
        fields += [("grant", name) for name in re.findall(r'name="grant" value="([^"]*)"', page.text)]
        filled = [(unescape(name), unescape(value)) for name, value in fields]
        pairs = [pair for pair in filled if pair != ("grant", untick)]
        return self.http.post(
            "/oidc/auth", content=urlencode([*pairs, ("user", user), ("action", action)]), headers=FORM
        )

    def sign_in(
        self, *, user: str = "alice", untick: str = "", action: str = "allow", **changes: str | Sequence[str] | None
    ) -> dict[str, str]:
        """Sign in on the page, and return the parameters of the redirect."""
        return read_redirect(self.submit(self.open(**changes), user=user, untick=untick, action=action))

    def redeem(self, code: str, **changes: str) -> "Response":
        """Exchange a code like the application."""
        form = {
            "grant_type": "authorization_code",
            "client_id": "local-spa",
            "code": code,
            "code_verifier": VERIFIER,
            "redirect_uri": REDIRECT,
        }
        return self.http.post("/oidc/token", data={**form, **changes})

    def get_tokens(
        self, *, user: str = "alice", token_resource: str = "", **asked: str | Sequence[str] | None
    ) -> dict[str, Any]:
        """Sign in, exchange the code, and return the response; `token_resource` is that of the token request."""
        code = read_redirect(self.submit(self.open(**asked), user=user))["code"]
        answer = self.redeem(code, resource=token_resource)
        assert answer.status_code == 200
        body: dict[str, Any] = answer.json()
        return body

    def refresh(self, refresh_token: str, **changes: str) -> "Response":
        """Use a refresh token like the application."""
        form = {"grant_type": "refresh_token", "client_id": "local-spa", "refresh_token": refresh_token}
        return self.http.post("/oidc/token", data={**form, **changes})


def read_redirect(answer: "Response", *, target: str = REDIRECT) -> dict[str, str]:
    assert answer.status_code == 303
    uri, _, query = answer.headers["location"].partition("?")
    assert uri == target
    return dict(parse_qsl(query, strict_parsing=True))


SHARED: Final = LocalIssuer()


@pytest.fixture
def browser() -> Browser:
    return Browser(LocalIssuer())


def test_a_sign_in_returns_a_token_for_the_user_and_the_requested_scopes(browser: Browser) -> None:
    redirect = browser.sign_in(user="alice")
    assert list(redirect) == ["code", "state", "iss"]
    assert (redirect["state"], redirect["iss"]) == ("the state", "http://127.0.0.1:3001/oidc")
    answer = browser.redeem(redirect["code"])
    assert answer.status_code == 200
    token = decode(browser.issuer, answer.json()["access_token"])
    assert token.header["typ"] == "at+jwt"
    assert {name: token.claims[name] for name in ("sub", "client_id", "scope", "iss", "aud")} == {
        "sub": "alice0000001",
        "client_id": "local-spa",
        "scope": "read:user write:user",
        "iss": "http://127.0.0.1:3001/oidc",
        "aud": API,
    }


def test_the_redirect_has_no_state_when_none_was_sent(browser: Browser) -> None:
    assert list(browser.sign_in(state=None)) == ["code", "iss"]


def test_a_query_of_the_redirect_uri_is_kept(browser: Browser) -> None:
    page = browser.open(redirect_uri=REDIRECT + "?tab=1")
    location = browser.submit(page).headers["location"]
    assert location.startswith(REDIRECT + "?tab=1&code=")


def test_a_scope_that_was_not_ticked_is_not_granted(browser: Browser) -> None:
    code = browser.sign_in(untick="write:user")["code"]
    assert browser.redeem(code).json()["scope"] == "read:user"


def test_a_scope_that_the_user_does_not_hold_is_never_granted(browser: Browser) -> None:
    assert browser.get_tokens(user="bob")["scope"] == "read:user"


def test_a_scope_added_to_the_form_by_hand_is_not_granted(browser: Browser) -> None:
    pairs = [*parse_qsl(urlencode({**GOOD_REQUEST, "scope": "read:user"})), ("user", "alice"), ("action", "allow")]
    content = urlencode([*pairs, ("grant", "read:user"), ("grant", "write:user")])
    redirect = read_redirect(browser.http.post("/oidc/auth", content=content, headers=FORM))
    assert browser.redeem(redirect["code"]).json()["scope"] == "read:user"


@pytest.mark.parametrize("scope", ["read:user", "read:user unknown", "unknown"])
def test_asking_only_for_scopes_that_the_user_lacks_is_denied(browser: Browser, scope: str) -> None:
    assert browser.sign_in(user="carol", scope=scope) == {
        "error": "access_denied",
        "error_description": "none of the requested scopes is granted",
        "state": "the state",
        "iss": "http://127.0.0.1:3001/oidc",
    }


def test_unticking_everything_is_denied(browser: Browser) -> None:
    assert browser.sign_in(scope="read:user", untick="read:user")["error"] == "access_denied"


def test_openid_signs_in_a_user_without_permissions_whose_api_token_has_an_empty_scope(browser: Browser) -> None:
    answer = browser.get_tokens(user="carol", scope="openid read:user", token_resource=API)
    assert answer["scope"] == ""
    assert decode(browser.issuer, answer["access_token"]).claims["scope"] == ""


@pytest.mark.parametrize("scope", [None, ""])
def test_asking_for_no_scope_at_all_is_denied_to_everybody(browser: Browser, scope: str | None) -> None:
    assert browser.sign_in(user="alice", scope=scope)["error"] == "access_denied"


def test_scopes_count_for_the_requested_resources_only() -> None:
    other = "https://other.example.test"
    issuer = LocalIssuer(
        directory=Directory(
            resources=[
                Resource(indicator=API, scopes={"read": "Read"}),
                Resource(indicator=other, scopes={"read": ""}),
            ],
            users=[User(id="u", username="alice", name="Alice", scopes={other: ["read"]})],
            applications=[Application(client_id="local-spa")],
        )
    )
    browser = Browser(issuer)
    assert browser.sign_in(scope="read")["error"] == "access_denied"
    both = browser.sign_in(scope="read openid", resource=[API, other])["code"]
    assert browser.redeem(both, resource=API).json()["scope"] == ""
    assert browser.redeem(both, resource=other).json()["error"] == "invalid_grant"
    code = browser.sign_in(scope="read openid", resource=[API, other])["code"]
    assert browser.redeem(code, resource=other).json()["scope"] == "read"


def test_cancel_is_reported_to_the_application(browser: Browser) -> None:
    assert browser.sign_in(action="cancel") == {
        "error": "access_denied",
        "error_description": "End-User aborted interaction",
        "state": "the state",
        "iss": "http://127.0.0.1:3001/oidc",
    }


@pytest.mark.parametrize(
    ("changes", "error", "description"),
    [
        ({"response_type": None}, "invalid_request", "missing required parameter 'response_type'"),
        ({"response_type": "token"}, "unsupported_response_type", "unsupported response_type requested"),
        ({"response_mode": "fragment"}, "unsupported_response_mode", "unsupported response_mode requested"),
        ({"code_challenge": None}, "invalid_request", "missing required parameter 'code_challenge'"),
        ({"code_challenge": "x" * 42}, "invalid_request", "code_challenge must be 43 characters of base64url"),
        ({"code_challenge": "x" * 42 + "="}, "invalid_request", "code_challenge must be 43 characters of base64url"),
        (
            {"code_challenge_method": "plain"},
            "invalid_request",
            "PKCE with code_challenge_method S256 is required",
        ),
        ({"code_challenge_method": None}, "invalid_request", "PKCE with code_challenge_method S256 is required"),
        ({"resource": API + "/"}, "invalid_target", "resource indicator is missing, or unknown"),
        ({"resource": [API, "urn:other"]}, "invalid_target", "resource indicator is missing, or unknown"),
        ({"prompt": "none"}, "login_required", "End-User authentication is required"),
    ],
)
def test_an_invalid_request_is_reported_to_the_application(
    browser: Browser, changes: dict[str, str | Sequence[str] | None], error: str, description: str
) -> None:
    assert read_redirect(browser.open(**changes)) == {
        "error": error,
        "error_description": description,
        "state": "the state",
        "iss": "http://127.0.0.1:3001/oidc",
    }


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"client_id": None}, "invalid_request"),
        ({"client_id": "unknown"}, "invalid_client"),
        ({"client_id": "local-machine"}, "invalid_client"),
        ({"redirect_uri": None}, "invalid_request"),
        ({"redirect_uri": ""}, "invalid_request"),
        ({"redirect_uri": "https://attacker.test/"}, "invalid_request"),
        ({"state": ["one", "two"]}, "invalid_request"),
        ({"client_id": "local-spa", "user": ["a", "b"]}, "invalid_request"),
    ],
)
def test_nothing_is_redirected_before_client_and_redirect_uri_are_known(
    browser: Browser, changes: dict[str, str | Sequence[str] | None], error: str
) -> None:
    answer = browser.open(**changes)
    assert answer.status_code == 400
    assert "location" not in answer.headers
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert f"<code>{error}</code>" in answer.text


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"user": "alice"}, "missing required parameter &#x27;action&#x27;"),
        ({"action": "allow"}, "missing required parameter &#x27;user&#x27;"),
        ({"action": "allow", "user": "mallory"}, "the form does not come from this page"),
        ({"action": "other", "user": "alice"}, "the form does not come from this page"),
    ],
)
def test_a_form_that_the_page_can_not_send_is_refused(browser: Browser, fields: dict[str, str], message: str) -> None:
    answer = browser.http.post("/oidc/auth", content=urlencode({**GOOD_REQUEST, **fields}), headers=FORM)
    assert answer.status_code == 400
    assert message in answer.text


def test_the_form_is_checked_again_when_it_comes_back(browser: Browser) -> None:
    fields = {**GOOD_REQUEST, "resource": "urn:other", "action": "allow", "user": "alice"}
    answer = browser.http.post("/oidc/auth", content=urlencode(fields), headers=FORM)
    assert read_redirect(answer)["error"] == "invalid_target"


def test_the_page_shows_users_scopes_and_what_it_is(browser: Browser) -> None:
    page = browser.open(scope="read:user delete:all openid offline_access")
    assert "for development only" in page.text
    assert "It requires no password" in page.text
    assert re.findall(r'name="user" id="user-(\d)" value="(\w+)"( checked)?', page.text) == [
        ("0", "alice", " checked"),
        ("1", "bob", ""),
        ("2", "carol", ""),
    ]
    badges = re.findall(r'name="grant" value="([^"]+)".*?<em class="badge ([^"]*)">not held</em>', page.text)
    assert badges == [("read:user", "lacks-2"), ("delete:all", "lacks-0 lacks-1 lacks-2")]
    assert "Also requested: <code>openid</code> <code>offline_access</code>" in page.text
    assert "<small>Read users</small>" in page.text
    assert "<small>no requested resource has this scope</small>" in page.text


def test_the_page_has_no_checkboxes_when_no_api_scope_is_requested(browser: Browser) -> None:
    page = browser.open(scope="openid", resource=None)
    assert 'type="checkbox"' not in page.text
    assert "What may the application do?" not in page.text


@pytest.mark.parametrize(("hint", "checked"), [("bob", "bob"), ("nobody", "alice")])
def test_login_hint_picks_the_user(browser: Browser, hint: str, checked: str) -> None:
    page = browser.open(login_hint=hint)
    assert re.findall(r'value="(\w+)" checked required', page.text) == [checked]


def test_everything_echoed_is_escaped() -> None:
    evil = "\"'><script>alert(1)</script>&amp;"
    issuer = LocalIssuer(
        directory=Directory(
            resources=[Resource(indicator=evil, scopes={"s<b>": evil})],
            users=[User(id=evil, username=evil, name=evil, scopes={evil: ["s<b>"]})],
            applications=[Application(client_id=evil)],
        )
    )
    browser = Browser(issuer)
    asked: dict[str, str] = {"client_id": evil, "resource": evil, "scope": "s<b> x<i>", "state": evil, "extra<u>": evil}
    redirect_uri = "http://localhost:1/<s>'%22"
    page = browser.open(redirect_uri=redirect_uri, **asked)
    for text in (page.text, browser.http.get("/").text, browser.open(client_id=evil + "<q>").text):
        assert re.search(r"<(?:script|b|i|u|s|q)>", text) is None
    answer = browser.submit(page, user=evil)
    assert read_redirect(answer, target=redirect_uri)["state"] == evil


@given(state=st.text(min_size=1), hint=st.text())
@settings(deadline=None)
def test_any_state_comes_back_as_it_was(state: str, hint: str) -> None:
    redirect = Browser(SHARED).sign_in(state=state, login_hint=hint)
    assert redirect["state"] == state


@pytest.mark.parametrize("changes", [{}, {"client_id": "unknown"}])
def test_pages_may_not_be_framed_stored_or_scripted(browser: Browser, changes: dict[str, str]) -> None:
    headers = browser.open(**changes).headers
    assert headers["content-security-policy"] == (
        "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; frame-ancestors 'none'"
    )
    assert headers["x-frame-options"] == "DENY"
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "same-origin"
    assert headers["cache-control"] == "no-store"


def test_the_response_to_the_form_may_not_be_stored(browser: Browser) -> None:
    answer = browser.submit(browser.open())
    assert (answer.headers["cache-control"], answer.headers["referrer-policy"]) == ("no-store", "same-origin")
