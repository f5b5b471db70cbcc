"""The server of `oidc_provider/` behaves like Logto in everything that concerns an API."""

import base64
import json
import re
from typing import cast

import httpx
import pytest
from joserfc import jws
from joserfc.jwk import KeySet, KeySetSerialization

from tests.integration.provider import (
    API,
    MACHINE_ID,
    REDIRECT_URI,
    RSA_API,
    SHORTLIVED_API,
    SPA_ID,
    Provider,
    ProviderRefusedError,
    run_provider,
)


def decode(part: str) -> dict[str, object]:
    return cast("dict[str, object]", json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))))


def header(token: str) -> dict[str, object]:
    return decode(token.partition(".")[0])


def claims(token: str) -> dict[str, object]:
    return decode(token.split(".")[1])


def kids(provider: Provider) -> dict[str, str]:
    """Return the `kid` of each key type."""
    return {key["kty"]: key["kid"] for key in provider.jwks()}


def get(url: str, **headers: str) -> httpx.Response:
    return httpx.get(url, headers=headers, trust_env=False)


def post(url: str, form: dict[str, str], **headers: str) -> httpx.Response:
    return httpx.post(url, data=form, headers=headers, trust_env=False)


def test_discovery_names_the_routes_of_logto(provider: Provider) -> None:
    document = get(f"{provider.issuer}/.well-known/openid-configuration").json()

    assert provider.issuer == f"http://127.0.0.1:{provider.port}/oidc"
    expected = {
        "issuer": provider.issuer,
        "jwks_uri": f"{provider.issuer}/jwks",
        "authorization_endpoint": f"{provider.issuer}/auth",
        "token_endpoint": f"{provider.issuer}/token",
        "userinfo_endpoint": f"{provider.issuer}/me",
        "introspection_endpoint": f"{provider.issuer}/token/introspection",
        "revocation_endpoint": f"{provider.issuer}/token/revocation",
    }
    assert {name: document[name] for name in expected} == expected


def test_the_issuer_is_fixed_and_the_jwks_uri_follows_the_host_of_the_request(provider: Provider) -> None:
    document = get(f"{provider.issuer}/.well-known/openid-configuration", Host="logto:3001").json()

    assert (document["issuer"], document["jwks_uri"]) == (provider.issuer, "http://logto:3001/oidc/jwks")


def test_only_the_ec_key_names_its_algorithm_in_the_key_set(provider: Provider) -> None:
    response = get(f"{provider.issuer}/jwks")

    assert [(key["kty"], key.get("alg"), key["use"]) for key in response.json()["keys"]] == [
        ("EC", "ES384", "sig"),
        ("RSA", None, "sig"),
    ]
    assert response.headers["Cache-Control"] == "no-cache, max-age=0, must-revalidate"
    assert response.headers["Content-Type"] == "application/jwk-set+json; charset=utf-8"


def test_the_kid_is_the_thumbprint_of_the_key(provider: Provider) -> None:
    keys = KeySet.import_key_set(cast("KeySetSerialization", {"keys": provider.jwks()})).keys

    assert [key.thumbprint() for key in keys] == [key["kid"] for key in provider.jwks()]


@pytest.mark.parametrize(("resource", "alg", "kty"), [(API, "ES384", "EC"), (RSA_API, "RS256", "RSA")])
def test_the_header_of_an_access_token_has_alg_typ_and_kid(
    provider: Provider, resource: str, alg: str, kty: str
) -> None:
    expected = {"alg": alg, "typ": "at+jwt", "kid": kids(provider)[kty]}

    assert header(provider.machine_token(resource=resource)) == expected
    assert header(provider.user_token(login="alice", resource=resource)) == expected


@pytest.mark.parametrize("resource", [API, RSA_API])
def test_the_signature_verifies_with_the_published_key(provider: Provider, resource: str) -> None:
    keys = KeySet.import_key_set(cast("KeySetSerialization", {"keys": provider.jwks()}))
    token = provider.machine_token(resource=resource, scope="read:user")

    payload = jws.deserialize_compact(token, keys, algorithms=["ES384", "RS256"]).payload

    assert json.loads(payload) == claims(token)


def test_an_access_token_of_a_user_has_the_claims_of_logto_and_no_more(provider: Provider) -> None:
    found = claims(provider.user_token(login="alice"))

    assert list(found) == ["jti", "sub", "iat", "exp", "scope", "client_id", "iss", "aud"]
    assert cast("int", found["exp"]) - cast("int", found["iat"]) == 3600
    assert {name: found[name] for name in ("sub", "scope", "client_id", "iss", "aud")} == {
        "sub": "alice",
        "scope": "read:user write:user",
        "client_id": SPA_ID,
        "iss": provider.issuer,
        "aud": API,
    }


@pytest.mark.parametrize(("login", "scope"), [("alice", "read:user write:user"), ("bob", "read:user"), ("carol", "")])
def test_a_user_gets_the_requested_scopes_that_the_account_holds(provider: Provider, login: str, scope: str) -> None:
    assert claims(provider.user_token(login=login))["scope"] == scope


def test_a_user_gets_no_scope_that_was_not_requested(provider: Provider) -> None:
    assert claims(provider.user_token(login="alice", scope="write:user"))["scope"] == "write:user"


def test_a_user_who_holds_none_of_the_requested_scopes_is_refused(provider: Provider) -> None:
    with pytest.raises(ProviderRefusedError, match=r"^303 access_denied: "):
        provider.user_answer(login="carol", scope="read:user", resource=API)


def test_the_subject_of_a_machine_is_its_client_id(provider: Provider) -> None:
    found = claims(provider.machine_token(scope="read:user"))

    assert (found["sub"], found["client_id"], found["aud"], found["scope"]) == (
        MACHINE_ID,
        MACHINE_ID,
        API,
        "read:user",
    )


@pytest.mark.parametrize("scope", ["", "delete:user"])
def test_a_machine_token_without_any_scope_has_no_scope_claim(provider: Provider, scope: str) -> None:
    assert list(claims(provider.machine_token(scope=scope))) == ["jti", "sub", "iat", "exp", "client_id", "iss", "aud"]


@pytest.mark.parametrize("resource", [None, "https://unknown.example.test", f"{API}/"])
def test_a_machine_needs_the_exact_indicator_of_a_resource(provider: Provider, resource: str | None) -> None:
    with pytest.raises(ProviderRefusedError, match=r"^400 invalid_target: "):
        provider.machine_answer(resource=resource)


def test_a_token_lives_as_long_as_its_resource_says(provider: Provider) -> None:
    found = claims(provider.machine_token(resource=SHORTLIVED_API))

    assert cast("int", found["exp"]) - cast("int", found["iat"]) == 1


def test_without_a_resource_the_access_token_is_opaque(provider: Provider) -> None:
    answer = provider.user_answer(login="alice")

    assert re.fullmatch(r"[A-Za-z0-9_-]{43}", answer["access_token"])
    assert (answer["scope"], answer["expires_in"], answer["token_type"]) == ("openid", 3600, "Bearer")


def test_an_id_token_has_no_typ_and_the_client_as_audience(provider: Provider) -> None:
    token = provider.user_answer(login="alice", scope="openid profile")["id_token"]

    assert header(token) == {"alg": "ES384", "kid": kids(provider)["EC"]}
    assert {name: value for name, value in claims(token).items() if name not in {"iat", "exp"}} == {
        "sub": "alice",
        "username": "alice",
        "aud": SPA_ID,
        "iss": provider.issuer,
    }


@pytest.mark.parametrize(("scope", "kind"), [("read:user", API), ("openid read:user", "opaque")])
def test_a_token_request_without_a_resource_returns_a_jwt_unless_openid_is_requested(
    provider: Provider, scope: str, kind: str
) -> None:
    token = provider.user_answer(login="alice", scope=scope, resource=API, repeat_resource=False)["access_token"]

    assert (claims(token)["aud"] if "." in token else "opaque") == kind


def test_a_refresh_token_comes_with_offline_access_and_returns_a_token_for_the_resource(provider: Provider) -> None:
    scope = "openid offline_access read:user"
    refresh_token = provider.user_answer(login="bob", scope=scope, resource=API)["refresh_token"]

    found = claims(provider.refresh(refresh_token, resource=API)["access_token"])

    assert (found["sub"], found["aud"], found["scope"]) == ("bob", API, "read:user")


def test_without_offline_access_there_is_no_refresh_token(provider: Provider) -> None:
    assert sorted(provider.user_answer(login="alice")) == [
        "access_token",
        "expires_in",
        "id_token",
        "scope",
        "token_type",
    ]


def test_a_machine_introspects_the_opaque_token_of_another_client(provider: Provider) -> None:
    answer = provider.introspect(provider.user_answer(login="alice")["access_token"])

    assert cast("int", answer.pop("exp")) - cast("int", answer.pop("iat")) == 3600
    assert answer == {
        "active": True,
        "sub": "alice",
        "client_id": SPA_ID,
        "iss": provider.issuer,
        "scope": "openid",
        "token_type": "Bearer",
    }


def test_a_refresh_token_is_active_but_has_no_token_type(provider: Provider) -> None:
    answer = provider.introspect(provider.user_answer(login="alice", scope="openid offline_access")["refresh_token"])

    assert (answer["active"], "token_type" in answer) == (True, False)


def test_an_unknown_or_revoked_token_is_inactive(provider: Provider) -> None:
    token = provider.user_answer(login="alice")["access_token"]
    provider.revoke(token)

    assert provider.introspect(token) == {"active": False}
    assert provider.introspect("garbage") == {"active": False}


def test_a_jwt_cannot_be_introspected(provider: Provider) -> None:
    with pytest.raises(ProviderRefusedError, match=r"^400 unsupported_token_type: "):
        provider.introspect(provider.machine_token())


def test_a_wrong_secret_cannot_introspect(provider: Provider) -> None:
    response = httpx.post(
        f"{provider.issuer}/token/introspection", data={"token": "x"}, auth=(MACHINE_ID, "wrong"), trust_env=False
    )

    assert (response.status_code, response.json()["error"]) == (401, "invalid_client")


def test_the_token_endpoint_answers_a_browser_on_loopback_and_no_other(provider: Provider) -> None:
    form = {"grant_type": "refresh_token", "client_id": SPA_ID, "refresh_token": "x"}

    near = post(f"{provider.issuer}/token", form, Origin="http://127.0.0.1:8000")
    far = post(f"{provider.issuer}/token", form, Origin="https://evil.example.test")

    assert (near.status_code, near.headers["Access-Control-Allow-Origin"]) == (400, "http://127.0.0.1:8000")
    assert (far.status_code, far.json()["error"], "Access-Control-Allow-Origin" in far.headers) == (
        400,
        "invalid_request",
        False,
    )


def test_a_browser_without_a_login_hint_is_shown_a_form_whose_response_signs_in(provider: Provider) -> None:
    query = {
        "client_id": SPA_ID,
        "response_type": "code",
        "code_challenge_method": "S256",
        "code_challenge": "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM",
        "redirect_uri": REDIRECT_URI,
        "scope": "openid",
    }
    with httpx.Client(trust_env=False) as browser:
        page = browser.get(f"{provider.issuer}/auth", params=query, follow_redirects=True)
        signed_in = browser.post(page.url, data={"login": "alice"})
        resumed = browser.get(signed_in.headers["Location"])

    assert page.headers["Content-Type"] == "text/html; charset=utf-8"
    assert resumed.headers["Location"].startswith(f"{REDIRECT_URI}?code=")


def test_a_rotation_without_grace_replaces_the_key_set_on_the_same_port(provider: Provider) -> None:
    with run_provider(keys="first") as before:
        old, port = before.jwks(), before.port
    with run_provider(keys="second first", port=port) as grace:
        both, signed_with = grace.jwks(), header(grace.machine_token())["kid"]
    with run_provider(keys="second", port=port) as after:
        new, issuer = after.jwks(), after.issuer

    assert old == provider.jwks()
    assert both == new + old
    assert signed_with == new[0]["kid"] != old[0]["kid"]
    assert issuer == before.issuer


def test_the_server_is_gone_after_its_context(provider: Provider) -> None:
    with run_provider() as running:
        assert running.port != provider.port

    with pytest.raises(httpx.ConnectError):
        get(f"{running.issuer}/jwks")
    assert get(f"{provider.issuer}/jwks").status_code == 200


def test_a_port_in_use_is_an_error_that_says_so(provider: Provider) -> None:
    with pytest.raises(RuntimeError, match="EADDRINUSE"), run_provider(port=provider.port):
        pass


def test_a_further_redirect_uri_is_registered_on_request(provider: Provider) -> None:
    further = "http://127.0.0.1:8765/docs/oauth2-redirect"

    with run_provider(redirect_uris=[further]) as running:
        assert running.user_answer(login="alice", redirect_uri=further)["scope"] == "openid"
    with pytest.raises(ProviderRefusedError, match=r"^400 invalid_redirect_uri: "):
        provider.user_answer(login="alice", redirect_uri=further)
