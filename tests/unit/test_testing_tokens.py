"""The token and userinfo endpoints of the local issuer."""

from base64 import b64encode
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlencode

import pytest
from starlette.testclient import TestClient

from fastapi_logto.testing import Directory, LocalIssuer, Machine, ManualClock, Resource
from tests.unit.test_testing_sign_in import API, FORM, Browser, decode

if TYPE_CHECKING:
    from httpx2 import Response  # the response of the newest Starlette's test client

ISSUER: Final = "http://127.0.0.1:3001/oidc"
MACHINE: Final = ("local-machine", "local-machine-secret")
NOTHING_HELD: Final = ("local-machine-without-roles", "local-machine-without-roles-secret")
GRANT: Final = {"grant_type": "client_credentials", "resource": API, "scope": "read:user"}


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(now=1_800_000_000)


@pytest.fixture
def browser(clock: ManualClock) -> Browser:
    return Browser(LocalIssuer(clock=clock))


def expect_refusal(answer: "Response", status: int, error: str, description: str) -> None:
    body = answer.json()
    assert (answer.status_code, body["error"], body["error_description"]) == (status, error, description)
    assert body["code"] == f"oidc.{error}"
    assert answer.headers["cache-control"] == "no-store"


def expect_invalid_grant(answer: "Response") -> None:
    expect_refusal(answer, 400, "invalid_grant", "grant request is invalid")


def test_a_code_is_refused_the_second_time(browser: Browser) -> None:
    code = browser.sign_in()["code"]
    assert browser.redeem(code).status_code == 200
    answer = browser.redeem(code)
    assert answer.status_code == 400
    assert answer.json() == {
        "code": "oidc.invalid_grant",
        "message": "Grant request is invalid.",
        "error_uri": "https://openid.sh/debug/invalid_grant",
        "error": "invalid_grant",
        "error_description": "grant request is invalid",
    }


def test_a_code_that_is_used_twice_revokes_its_refresh_token_and_no_other(browser: Browser) -> None:
    offline = {"scope": "openid offline_access", "prompt": "consent"}
    other = browser.get_tokens(**offline)["refresh_token"]
    code = browser.sign_in(**offline)["code"]
    refresh_token = browser.redeem(code).json()["refresh_token"]
    expect_invalid_grant(browser.redeem(code))
    expect_invalid_grant(browser.refresh(refresh_token))
    assert browser.refresh(other).status_code == 200


@pytest.mark.parametrize(("seconds", "status"), [(59.9, 200), (60, 400)])
def test_a_code_is_valid_for_a_minute(browser: Browser, clock: ManualClock, seconds: float, status: int) -> None:
    code = browser.sign_in()["code"]
    clock.advance(seconds)
    assert browser.redeem(code).status_code == status


def test_expired_codes_are_deleted(browser: Browser, clock: ManualClock) -> None:
    code = browser.sign_in()["code"]
    clock.advance(60)
    browser.sign_in()
    expect_invalid_grant(browser.redeem(code))


@pytest.mark.parametrize(
    "changes",
    [
        {"code": "unknown"},
        {"code_verifier": "another-verifier-of-at-least-43-characters-as-well"},
        {"code_verifier": ""},
        {"code_verifier": "ä" * 43},
        {"redirect_uri": "http://localhost:8000/docs/oauth2-redirect/"},
    ],
)
def test_a_code_is_valid_only_with_what_it_was_issued_for(browser: Browser, changes: dict[str, str]) -> None:
    code = browser.sign_in()["code"]
    expect_invalid_grant(browser.redeem(**{"code": code, **changes}))
    assert browser.redeem(code).status_code == 200


def test_a_code_and_a_refresh_token_are_valid_for_their_own_client_only() -> None:
    example = Directory.example()
    spa, *_ = example.applications
    twin = type(spa)(client_id="twin")
    directory = Directory(resources=example.resources, users=example.users, applications=[spa, twin])
    browser = Browser(LocalIssuer(directory=directory))
    code = browser.sign_in(scope="offline_access", prompt="consent")["code"]
    expect_invalid_grant(browser.redeem(code, client_id="twin"))
    refresh_token = browser.redeem(code).json()["refresh_token"]
    expect_invalid_grant(browser.refresh(refresh_token, client_id="twin"))


@pytest.mark.parametrize("name", ["code", "redirect_uri"])
def test_a_token_request_without_its_parameters_is_refused(browser: Browser, name: str) -> None:
    answer = browser.redeem(**{"code": "x", name: ""})
    expect_refusal(answer, 400, "invalid_request", f"missing required parameter '{name}'")


def test_a_resource_in_the_token_request_returns_a_jwt_for_it(browser: Browser) -> None:
    answer = browser.get_tokens(scope="openid read:user", token_resource=API)
    assert answer["scope"] == "read:user"
    assert decode(browser.issuer, answer["access_token"]).claims["aud"] == API


def test_a_resource_that_was_not_granted_is_refused(browser: Browser) -> None:
    code = browser.sign_in(scope="openid", resource=None)["code"]
    answer = browser.redeem(code, resource=API)
    expect_refusal(answer, 400, "invalid_target", "resource indicator is missing, or unknown")


def test_openid_without_a_resource_in_the_token_request_returns_an_opaque_token(browser: Browser) -> None:
    answer = browser.get_tokens(scope="openid read:user")
    assert len(answer["access_token"]) == 43
    assert "." not in answer["access_token"]
    assert answer["scope"] == "openid"


def test_no_openid_and_one_resource_returns_a_jwt_for_it(browser: Browser) -> None:
    answer = browser.get_tokens(scope="read:user profile")
    assert answer["scope"] == "read:user"
    assert decode(browser.issuer, answer["access_token"]).claims["aud"] == API
    assert sorted(answer) == ["access_token", "expires_in", "scope", "token_type"]


def test_no_resource_at_all_returns_an_opaque_token(browser: Browser) -> None:
    answer = browser.get_tokens(scope="read:user profile", resource=None)
    assert answer["scope"] == "profile"
    assert len(answer["access_token"]) == 43


def test_two_granted_resources_require_a_choice() -> None:
    other = "https://other.example.test"
    example = Directory.example()
    directory = Directory(
        resources=[*example.resources, Resource(indicator=other)],
        users=example.users,
        applications=example.applications,
    )
    browser = Browser(LocalIssuer(directory=directory))
    code = browser.sign_in(resource=[API, other])["code"]
    answer = browser.redeem(code)
    expect_refusal(answer, 400, "invalid_target", "only a single resource indicator value must be requested")


def test_openid_returns_an_id_token_with_nonce_and_profile(browser: Browser) -> None:
    answer = browser.get_tokens(user="bob", scope="openid profile", nonce="the nonce")
    token = decode(browser.issuer, answer["id_token"])
    assert "typ" not in token.header
    assert token.claims == {
        "name": "Bob Example",
        "username": "bob",
        "nonce": "the nonce",
        "sub": "bob000000001",
        "aud": "local-spa",
        "exp": 1_800_003_600,
        "iat": 1_800_000_000,
        "iss": ISSUER,
    }


def test_an_id_token_says_nothing_of_the_user_without_the_scope_profile(browser: Browser) -> None:
    answer = browser.get_tokens(scope="openid")
    assert sorted(decode(browser.issuer, answer["id_token"]).claims) == ["aud", "exp", "iat", "iss", "sub"]


@pytest.mark.parametrize("prompt", [None, "login"])
def test_offline_access_needs_the_consent_prompt(browser: Browser, prompt: str | None) -> None:
    answer = browser.get_tokens(scope="openid offline_access", prompt=prompt)
    assert "refresh_token" not in answer
    assert answer["scope"] == "openid"


def test_a_refresh_token_returns_new_tokens_and_a_new_refresh_token(browser: Browser) -> None:
    first = browser.get_tokens(scope="openid offline_access read:user", prompt="login consent")
    answer = browser.refresh(first["refresh_token"], resource=API)
    assert answer.status_code == 200
    body = answer.json()
    assert sorted(body) == ["access_token", "expires_in", "id_token", "refresh_token", "scope", "token_type"]
    assert body["refresh_token"] != first["refresh_token"]
    assert decode(browser.issuer, body["access_token"]).claims["scope"] == "read:user"


def test_a_used_refresh_token_is_valid_for_three_seconds_more(browser: Browser, clock: ManualClock) -> None:
    refresh_token = browser.get_tokens(scope="offline_access", prompt="consent")["refresh_token"]
    assert browser.refresh(refresh_token).status_code == 200
    clock.advance(2.9)
    assert browser.refresh(refresh_token).status_code == 200


def test_a_refresh_token_used_again_later_revokes_the_whole_grant(browser: Browser, clock: ManualClock) -> None:
    refresh_token = browser.get_tokens(scope="offline_access", prompt="consent")["refresh_token"]
    newest = browser.refresh(refresh_token).json()["refresh_token"]
    clock.advance(3)
    expect_invalid_grant(browser.refresh(refresh_token))
    expect_invalid_grant(browser.refresh(newest))


def test_a_refresh_token_is_valid_for_two_weeks(browser: Browser, clock: ManualClock) -> None:
    first = browser.get_tokens(scope="offline_access", prompt="consent")["refresh_token"]
    clock.advance(14 * 24 * 3600 - 1)
    second = browser.refresh(first).json()["refresh_token"]
    clock.advance(1)
    expect_invalid_grant(browser.refresh(first))
    assert browser.refresh(second).status_code == 200


def test_a_refresh_can_request_less_and_not_more(browser: Browser) -> None:
    first = browser.get_tokens(user="bob", scope="read:user write:user offline_access", prompt="consent")
    less = browser.refresh(first["refresh_token"], scope="offline_access")
    assert less.json()["scope"] == ""
    same = browser.refresh(first["refresh_token"], scope="offline_access read:user")
    assert same.json()["scope"] == "read:user"
    more = browser.refresh(first["refresh_token"], scope="read:user write:user")
    expect_refusal(more, 400, "invalid_scope", "refresh token missing requested scope")
    assert more.json()["scope"] == "write:user"
    assert more.json()["message"] == "Invalid scope: {{error_description}}."


def test_an_unknown_or_missing_refresh_token_is_refused(browser: Browser) -> None:
    expect_invalid_grant(browser.refresh("unknown"))
    expect_refusal(browser.refresh(""), 400, "invalid_request", "missing required parameter 'refresh_token'")


def test_nobody_is_a_member_of_any_organization(browser: Browser) -> None:
    first = browser.get_tokens(scope="offline_access", prompt="consent")
    answer = browser.refresh(first["refresh_token"], organization_id="org")
    expect_refusal(answer, 403, "access_denied", "user is not a member of the organization")
    answer = browser.http.post("/oidc/token", data={**GRANT, "organization_id": "org"}, auth=MACHINE)
    expect_refusal(answer, 403, "access_denied", "app has not associated with the organization")
    assert answer.json()["message"] == "Access denied."


def test_a_machine_gets_a_token_for_itself(browser: Browser) -> None:
    answer = browser.http.post("/oidc/token", data=GRANT, auth=MACHINE)
    assert answer.status_code == 200
    body = answer.json()
    token = decode(browser.issuer, body.pop("access_token"))
    assert body == {"expires_in": 3600, "token_type": "Bearer", "scope": "read:user"}
    jti = token.claims.pop("jti")
    assert len(jti) == 43
    assert token.claims == {
        "sub": "local-machine",
        "iat": 1_800_000_000,
        "exp": 1_800_003_600,
        "scope": "read:user",
        "client_id": "local-machine",
        "iss": ISSUER,
        "aud": API,
    }


@pytest.mark.parametrize(
    ("auth", "scope", "granted"),
    [
        (MACHINE, "write:user read:user", "write:user read:user"),
        (MACHINE, "read:user delete:all openid read:user", "read:user"),
        (MACHINE, "delete:all", None),
        (MACHINE, "", None),
        (NOTHING_HELD, "read:user", None),
    ],
)
def test_scopes_that_a_machine_lacks_are_just_absent(
    browser: Browser, auth: tuple[str, str], scope: str, granted: str | None
) -> None:
    body = browser.http.post("/oidc/token", data={**GRANT, "scope": scope}, auth=auth).json()
    claims = decode(browser.issuer, body["access_token"]).claims
    assert (body.get("scope"), claims.get("scope")) == (granted, granted)
    assert ("scope" in body, "scope" in claims) == (granted is not None, granted is not None)


@pytest.mark.parametrize(
    ("resources", "description"),
    [
        ([], "both `resource` and `organization_id` are not provided"),
        ([""], "both `resource` and `organization_id` are not provided"),
        (["https://unknown.test"], "resource indicator is missing, or unknown"),
        ([API + "/"], "resource indicator is missing, or unknown"),
        ([API, "https://b.test"], "only a single resource indicator value is supported for this grant type"),
    ],
)
def test_a_machine_names_exactly_one_known_resource(browser: Browser, resources: list[str], description: str) -> None:
    form = {"grant_type": "client_credentials", "resource": resources}
    answer = browser.http.post("/oidc/token", content=urlencode(form, doseq=True), headers=FORM, auth=MACHINE)
    expect_refusal(answer, 400, "invalid_target", description)
    assert answer.json()["message"] == "Invalid resource indicator."


def test_a_secret_may_come_in_the_body(browser: Browser) -> None:
    client = {"client_id": MACHINE[0], "client_secret": MACHINE[1]}
    assert browser.http.post("/oidc/token", data={**GRANT, **client}).status_code == 200


@pytest.mark.parametrize("client", [{"client_id": MACHINE[0]}, {"client_id": MACHINE[0], "client_secret": "wrong"}])
def test_a_wrong_or_missing_secret_in_the_body_is_401(browser: Browser, client: dict[str, str]) -> None:
    answer = browser.http.post("/oidc/token", data={**GRANT, **client})
    expect_refusal(answer, 401, "invalid_client", "client authentication failed")
    assert "www-authenticate" not in answer.headers


@pytest.mark.parametrize("secret", ["wrong", "wröng"])
def test_a_wrong_secret_by_basic_is_401_with_a_challenge(browser: Browser, secret: str) -> None:
    credentials = b64encode(f"local-machine:{secret}".encode()).decode()
    answer = browser.http.post("/oidc/token", data=GRANT, headers={"Authorization": f"Basic {credentials}"})
    expect_refusal(answer, 401, "invalid_client", "client authentication failed")
    assert answer.json()["message"] == "An OIDC error occurred: oidc.invalid_client."
    assert answer.headers["www-authenticate"] == (
        f'Basic realm="{ISSUER}", error="invalid_client", error_description="client authentication failed"'
    )


def test_a_public_client_has_no_secret(browser: Browser) -> None:
    answer = browser.http.post("/oidc/token", data={"grant_type": "refresh_token"}, auth=("local-spa", "secret"))
    expect_refusal(answer, 401, "invalid_client", "client authentication failed")


def test_basic_credentials_are_form_decoded() -> None:
    client_id, secret = "a:b c", "100%+é&"
    directory = Directory(
        resources=[Resource(indicator=API)], machines=[Machine(client_id=client_id, client_secret=secret)]
    )
    issuer = LocalIssuer(directory=directory)
    http = TestClient(issuer.app, base_url=issuer.endpoint)
    encoded = urlencode([(client_id, secret)]).replace("=", ":")
    headers = {"Authorization": "bAsIc " + b64encode(encoded.encode()).decode()}
    assert http.post("/oidc/token", data=GRANT, headers=headers).status_code == 200


@pytest.mark.parametrize(
    ("auth", "form", "error", "description"),
    [
        (("unknown", "x"), {}, "invalid_client", "invalid client unknown"),
        (None, {}, "invalid_request", "no client authentication mechanism provided"),
        (MACHINE, {"client_secret": "x"}, "invalid_request", None),
        (MACHINE, {"client_id": "other"}, "invalid_request", "mismatch in body and authorization client ids"),
        (
            ("local-machine", ""),
            {},
            "invalid_request",
            "client_secret must be provided in the Authorization header",
        ),
        (("", "x"), {}, "invalid_request", "invalid authorization header value format"),
    ],
)
def test_client_authentication_is_refused_with_400(
    browser: Browser, auth: tuple[str, str] | None, form: dict[str, str], error: str, description: str | None
) -> None:
    options: dict[str, Any] = {"auth": auth} if auth else {}
    answer = browser.http.post("/oidc/token", data={**GRANT, **form}, **options)
    expected = description or "client authentication must only be provided using one mechanism"
    expect_refusal(answer, 400, error, expected)


@pytest.mark.parametrize(
    "header",
    [
        "Basic",
        "Basic !",
        "Basic bG9jYWw",
        "Bearer " + b64encode(b"local-machine:local-machine-secret").decode(),
        "Basic " + b64encode(b"no colon").decode(),
        "Basic " + b64encode(b"\xff:x").decode(),
        "Basic " + b64encode(b"%ff:x").decode(),
        b"Basic \xe9",
    ],
)
def test_a_malformed_authorization_header_is_400(browser: Browser, header: str | bytes) -> None:
    encoded = header.encode() if isinstance(header, str) else header
    answer = browser.http.post("/oidc/token", data=GRANT, headers=[(b"authorization", encoded)])
    expect_refusal(answer, 400, "invalid_request", "invalid authorization header value format")


def test_the_client_id_may_be_repeated_in_the_body(browser: Browser) -> None:
    answer = browser.http.post("/oidc/token", data={**GRANT, "client_id": MACHINE[0]}, auth=MACHINE)
    assert answer.status_code == 200


@pytest.mark.parametrize(
    ("form", "auth", "error", "description"),
    [
        ({"grant_type": ""}, MACHINE, "invalid_request", "missing required parameter 'grant_type'"),
        ({"grant_type": "password"}, MACHINE, "unsupported_grant_type", "unsupported grant_type requested"),
        (
            {"grant_type": "refresh_token"},
            MACHINE,
            "invalid_request",
            "requested grant type is not allowed for this client",
        ),
        (
            {"grant_type": "client_credentials", "client_id": "local-spa"},
            None,
            "invalid_request",
            "requested grant type is not allowed for this client",
        ),
    ],
)
def test_a_grant_type_is_refused(
    browser: Browser, form: dict[str, str], auth: tuple[str, str] | None, error: str, description: str
) -> None:
    options: dict[str, Any] = {"auth": auth} if auth else {}
    expect_refusal(browser.http.post("/oidc/token", data=form, **options), 400, error, description)


def test_the_userinfo_endpoint_takes_an_opaque_token_with_openid(browser: Browser) -> None:
    token = browser.get_tokens(user="bob", scope="openid profile")["access_token"]
    answer = browser.http.get("/oidc/me", headers={"Authorization": f"bearer {token}"})
    assert answer.status_code == 200
    assert answer.json() == {"sub": "bob000000001", "name": "Bob Example", "username": "bob"}
    assert answer.headers["access-control-allow-origin"] == "*"
    assert answer.headers["cache-control"] == "no-store"


def test_the_userinfo_endpoint_knows_tokens_minted_directly(browser: Browser) -> None:
    token = browser.issuer.opaque_token(subject="stranger", scopes=["openid", "profile"])
    answer = browser.http.post("/oidc/me", headers={"Authorization": f"Bearer {token}"})
    assert answer.json() == {"sub": "stranger"}


def make_header(issuer: LocalIssuer, kind: str) -> dict[str, str]:
    tokens: dict[str, Any] = {
        "jwt": issuer.access_token(scopes=["openid"]),
        "without openid": issuer.opaque_token(scopes=["profile"]),
        "expired": issuer.opaque_token(lifetime_seconds=0),
        "unknown": "x" * 43,
    }
    good = issuer.opaque_token()
    headers = {name: {"Authorization": f"Bearer {token}"} for name, token in tokens.items()}
    return (headers | {"none": {}, "another scheme": {"Authorization": f"Basic {good}"}})[kind]


@pytest.mark.parametrize("kind", ["jwt", "without openid", "expired", "unknown", "none", "another scheme"])
def test_the_userinfo_endpoint_refuses_any_other_token(browser: Browser, kind: str) -> None:
    answer = browser.http.get("/oidc/me", headers=make_header(browser.issuer, kind))
    expect_refusal(answer, 401, "invalid_token", "invalid token provided")
    assert answer.headers["access-control-allow-origin"] == "*"
    assert answer.headers["www-authenticate"] == (
        f'Bearer realm="{ISSUER}", error="invalid_token", error_description="invalid token provided"'
    )
