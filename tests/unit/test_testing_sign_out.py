"""The local issuer ends a sign-in: sign-out in the browser, and revocation of tokens."""

from typing import TYPE_CHECKING

import pytest
from starlette.testclient import TestClient

from fastapi_logto.testing import Application, Directory, LocalIssuer
from tests.unit.test_testing_sign_in import FORM, SHARED, Browser

if TYPE_CHECKING:
    from httpx2 import Response  # the response of the newest Starlette's test client

SPA = "local-spa"
HOME = "http://localhost:5173/"


def sign_out(issuer: LocalIssuer = SHARED, /, **parameters: str) -> "Response":
    http = TestClient(issuer.app, base_url=issuer.endpoint, follow_redirects=False)
    return http.get("/oidc/session/end", params=parameters)


def test_a_sign_out_returns_to_the_application_with_its_state() -> None:
    returned = sign_out(client_id=SPA, post_logout_redirect_uri=HOME)
    assert (returned.status_code, returned.headers["location"]) == (303, HOME)
    assert returned.headers["cache-control"] == "no-store"

    returned = sign_out(client_id=SPA, post_logout_redirect_uri=f"{HOME}?a=b", state="x&y")
    assert returned.headers["location"] == f"{HOME}?a=b&state=x%26y"
    returned = sign_out(client_id=SPA, post_logout_redirect_uri=HOME, state="x")
    assert returned.headers["location"] == f"{HOME}?state=x"


def test_a_sign_out_may_be_a_form() -> None:
    http = TestClient(SHARED.app, base_url=SHARED.endpoint, follow_redirects=False)
    content = f"client_id={SPA}&post_logout_redirect_uri={HOME}"
    assert http.post("/oidc/session/end", content=content, headers=FORM).headers["location"] == HOME


@pytest.mark.parametrize("parameters", [{}, {"client_id": SPA}, {"post_logout_redirect_uri": HOME}])
def test_a_sign_out_without_application_or_uri_ends_on_a_page(parameters: dict[str, str]) -> None:
    page = sign_out(**parameters)
    assert page.status_code == 200
    assert "<h1>Signed out</h1>" in page.text
    assert page.headers["x-frame-options"] == "DENY"


@pytest.mark.parametrize(
    ("client_id", "uri", "text"),
    [
        ("nobody", HOME, "no application has the client id"),
        ("local-machine", HOME, "no application has the client id"),
        (SPA, "https://attacker.test/", "post_logout_redirect_uri not registered"),
        (SPA, "http://localhost@attacker.test/", "post_logout_redirect_uri not registered"),
        (SPA, "javascript:alert(1)", "post_logout_redirect_uri not registered"),
    ],
)
def test_a_sign_out_never_redirects_to_an_unknown_uri(client_id: str, uri: str, text: str) -> None:
    page = sign_out(client_id=client_id, post_logout_redirect_uri=uri)
    assert page.status_code == 400
    assert text in page.text


def test_an_application_with_explicit_uris_returns_to_them_only() -> None:
    registered = "https://spa.test/goodbye"
    application = Application(client_id=SPA, post_logout_redirect_uris=[registered])
    issuer = LocalIssuer(directory=Directory(applications=[application]))
    assert sign_out(issuer, client_id=SPA, post_logout_redirect_uri=registered).headers["location"] == registered
    assert sign_out(issuer, client_id=SPA, post_logout_redirect_uri=HOME).status_code == 400
    with pytest.raises(ValueError, match=r"^post_logout_redirect_uris: expected http\(s\) URIs without fragment"):
        Application(client_id=SPA, post_logout_redirect_uris=["my-app://goodbye"])


def revoke(browser: Browser, token: str, *, origin: str | None = None, **form: str) -> "Response":
    headers = {} if origin is None else {"Origin": origin}
    return browser.http.post("/oidc/token/revocation", data={"client_id": SPA, "token": token, **form}, headers=headers)


@pytest.fixture
def browser() -> Browser:
    return Browser(LocalIssuer())


def test_a_revoked_refresh_token_and_those_it_was_exchanged_for_are_refused(browser: Browser) -> None:
    first = browser.get_tokens(scope="openid offline_access", prompt="consent")["refresh_token"]
    second = browser.refresh(first).json()["refresh_token"]
    other = browser.get_tokens(scope="openid offline_access", prompt="consent")["refresh_token"]

    answer = revoke(browser, second, origin="http://localhost:5173")

    assert (answer.status_code, answer.content) == (200, b"")
    assert answer.headers["access-control-allow-origin"] == "*"
    assert [browser.refresh(token).status_code for token in (first, second, other)] == [400, 400, 200]


def test_a_revoked_opaque_token_is_inactive(browser: Browser) -> None:
    token = browser.issuer.opaque_token(scopes=["openid"])
    headers = {"Authorization": f"Bearer {token}"}
    assert browser.http.get("/oidc/me", headers=headers).status_code == 200

    assert revoke(browser, token).status_code == 200

    assert browser.http.get("/oidc/me", headers=headers).status_code == 401


def test_a_token_of_another_application_and_an_unknown_token_are_not_revoked(browser: Browser) -> None:
    refresh_token = browser.get_tokens(scope="openid offline_access", prompt="consent")["refresh_token"]
    opaque = browser.issuer.opaque_token(scopes=["openid"])
    machine = {"client_id": "local-machine", "client_secret": "local-machine-secret"}

    answers = [revoke(browser, token, **machine) for token in (refresh_token, opaque, "unknown")]

    assert [answer.status_code for answer in answers] == [200, 200, 200]
    assert browser.refresh(refresh_token).status_code == 200
    assert browser.http.get("/oidc/me", headers={"Authorization": f"Bearer {opaque}"}).status_code == 200


def test_a_jwt_cannot_be_revoked(browser: Browser) -> None:
    answer = revoke(browser, browser.issuer.access_token())
    assert answer.status_code == 400
    assert answer.json()["error"] == "unsupported_token_type"
    description = "Structured JWT Tokens cannot be revoked via the revocation_endpoint"
    assert answer.json()["error_description"] == description


def test_a_page_of_another_origin_cannot_revoke(browser: Browser) -> None:
    token = browser.issuer.opaque_token(scopes=["openid"])
    answer = revoke(browser, token, origin="https://attacker.test")
    assert answer.status_code == 400
    assert "access-control-allow-origin" not in answer.headers
    assert browser.http.get("/oidc/me", headers={"Authorization": f"Bearer {token}"}).status_code == 200
