"""The captured data match their README, and their server responds like Logto or with the configured fault."""

import base64
import json
import re
import time
from typing import cast

import httpx
import pytest
from joserfc import jws
from joserfc.errors import InvalidKeyIdError
from joserfc.jwk import KeySet, KeySetSerialization

from tests.captured import (
    ADMIN_TENANT_JWKS,
    DISCOVERY,
    DISCOVERY_PATH,
    INTROSPECTION,
    ISSUER,
    JWKS,
    JWKS_PATH,
    NOW,
    ROTATION,
    TOKENS,
    Answer,
    CapturedToken,
    Fault,
    Jwks,
    RotationStage,
    serve_captured,
)

JWTS = [token for token in TOKENS.values() if token.kind == "jwt"] + [stage.token for stage in ROTATION]
DAY_OF_CAPTURE = range(1_795_392_000, 1_795_478_400)  # 2026-11-23, UTC


def decode(part: str) -> object:
    return json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))


def verified_payload(token: CapturedToken, jwks: Jwks) -> object:
    keys = KeySet.import_key_set(cast("KeySetSerialization", jwks))
    return json.loads(jws.deserialize_compact(token.token, keys, algorithms=["ES384", "RS256"]).payload)


def client() -> httpx.Client:
    return httpx.Client(trust_env=False, timeout=10)


@pytest.mark.parametrize("token", JWTS, ids=lambda token: token.name)
def test_a_captured_jwt_decodes_to_the_header_and_claims_beside_it(token: CapturedToken) -> None:
    header, payload, _signature = token.token.split(".")

    assert decode(header) == token.header
    assert decode(payload) == token.claims


@pytest.mark.parametrize("token", JWTS, ids=lambda token: token.name)
def test_a_captured_jwt_is_of_the_day_and_issuer_that_the_readme_names(token: CapturedToken) -> None:
    assert token.claims["iat"] in DAY_OF_CAPTURE
    assert token.claims["iss"] == ISSUER


def test_all_captured_tokens_but_the_expired_one_are_valid_at_now() -> None:
    invalid = [
        token.name
        for token in TOKENS.values()
        if token.kind == "jwt" and not cast("int", token.claims["iat"]) <= NOW < cast("int", token.claims["exp"])
    ]

    assert invalid == ["user_api_expired"]


@pytest.mark.parametrize("token", [t for t in TOKENS.values() if t.kind == "jwt"], ids=lambda token: token.name)
def test_a_captured_jwt_verifies_with_the_captured_key_set_alone(token: CapturedToken) -> None:
    assert verified_payload(token, JWKS) == token.claims
    with pytest.raises(InvalidKeyIdError, match="No key for kid"):
        verified_payload(token, ADMIN_TENANT_JWKS)


@pytest.mark.parametrize("stage", ROTATION, ids=lambda stage: stage.name)
def test_a_token_of_a_rotation_verifies_with_the_key_set_of_its_stage(stage: RotationStage) -> None:
    assert verified_payload(stage.token, stage.jwks) == stage.token.claims


def test_the_opaque_token_is_43_url_safe_characters() -> None:
    assert re.fullmatch(r"[A-Za-z0-9_-]{43}", TOKENS["opaque"].token)
    assert [name for name, token in TOKENS.items() if token.kind == "opaque"] == ["opaque"]


def test_the_repr_of_a_captured_token_does_not_hold_it() -> None:
    token = TOKENS["m2m_api"]

    assert token.token not in repr(token)
    assert token.token.split(".")[2] not in repr(token)


def test_introspection_of_a_refresh_token_was_active_without_a_token_type() -> None:
    body = INTROSPECTION["introspect refresh token by own client"].body

    assert body is not None
    assert (body["active"], body.get("token_type")) == (True, None)


def test_the_server_answers_discovery_with_the_fixed_issuer_and_the_host_of_the_request() -> None:
    with serve_captured() as server, client() as http:
        document = http.get(server.endpoint + DISCOVERY_PATH).json()
        elsewhere = http.get(server.endpoint + DISCOVERY_PATH, headers={"Host": "logto:3001"}).json()

        assert document["jwks_uri"] == f"{server.endpoint}/oidc/jwks"
    assert (document["issuer"], elsewhere["issuer"]) == (ISSUER, ISSUER)
    assert elsewhere["jwks_uri"] == "http://logto:3001/oidc/jwks"


def test_the_server_answers_at_the_captured_host_byte_for_byte_with_the_captured_headers() -> None:
    plain = {"Host": "127.0.0.1:3001", "Accept-Encoding": "identity"}
    with serve_captured() as server, client() as http:
        discovery = http.get(server.endpoint + DISCOVERY_PATH, headers=plain)
        jwks = http.get(server.endpoint + JWKS_PATH, headers=plain)

    assert discovery.json() == DISCOVERY
    assert dict(discovery.headers) == {
        "vary": "Accept-Encoding, Origin",
        "access-control-allow-origin": "*",
        "etag": '"89b-RXkd8zBOkflbWY+dFmI5kePkwdU"',
        "content-type": "application/json; charset=utf-8",
        "content-length": "2203",
    }
    assert jwks.json() == JWKS
    assert dict(jwks.headers) == {
        "vary": "Accept-Encoding, Origin",
        "access-control-allow-origin": "*",
        "cache-control": "no-cache, max-age=0, must-revalidate",
        "etag": '"101-EievWSFgX9NtOvvByQvuMUrkKWA"',
        "content-type": "application/jwk-set+json; charset=utf-8",
        "content-length": "257",
    }


def test_the_server_compresses_discovery_into_chunks_and_leaves_the_small_key_set_alone() -> None:
    with serve_captured() as server, client() as http:
        discovery = http.get(server.endpoint + DISCOVERY_PATH, headers={"Accept-Encoding": "gzip"})
        jwks = http.get(server.endpoint + JWKS_PATH, headers={"Accept-Encoding": "gzip"})

    assert (discovery.headers["Content-Encoding"], discovery.headers["Transfer-Encoding"]) == ("gzip", "chunked")
    assert discovery.json()["issuer"] == ISSUER
    assert "Content-Encoding" not in jwks.headers


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"If-None-Match": '"101-EievWSFgX9NtOvvByQvuMUrkKWA"'}, 304),
        ({"If-None-Match": 'W/"101-EievWSFgX9NtOvvByQvuMUrkKWA"'}, 304),
        ({"If-None-Match": '"nope"'}, 200),
        ({"If-None-Match": '"101-EievWSFgX9NtOvvByQvuMUrkKWA"', "Cache-Control": "no-cache"}, 200),
    ],
)
def test_the_server_answers_conditional_requests(headers: dict[str, str], status: int) -> None:
    with serve_captured() as server, client() as http:
        assert http.get(server.endpoint + JWKS_PATH, headers=headers).status_code == status


def test_the_server_counts_requests_for_each_path_and_keeps_their_headers() -> None:
    with serve_captured() as server, client() as http:
        http.get(server.endpoint + DISCOVERY_PATH)
        http.get(server.endpoint + JWKS_PATH, headers={"User-Agent": "one"})
        http.post(server.endpoint + JWKS_PATH + "?x=1", headers={"User-Agent": "two"}, data={"a": "b"})

        assert server.counts == {DISCOVERY_PATH: 1, JWKS_PATH: 2}
        assert server.counts["/never"] == 0
        assert [(request.method, request.headers["user-agent"]) for request in server.requests[1:]] == [
            ("GET", "one"),
            ("POST", "two"),
        ]


def test_any_other_path_is_404_as_captured() -> None:
    with serve_captured() as server, client() as http:
        response = http.get(server.endpoint + "/oidc/jwks.json")

    assert response.status_code == 404
    assert response.json() == {
        "code": "oidc.invalid_request",
        "message": "Request is invalid.",
        "error": "invalid_request",
        "error_description": "unrecognized route or not allowed method (GET on /jwks.json)",
    }


def test_the_server_publishes_other_keys_on_request() -> None:
    with serve_captured(jwks=ROTATION[0].jwks) as server, client() as http:
        before = http.get(server.endpoint + JWKS_PATH).json()
        server.publish(ROTATION[1].jwks)
        after = http.get(server.endpoint + JWKS_PATH).json()

    assert (before, after) == (ROTATION[0].jwks, ROTATION[1].jwks)


def test_the_server_starts_again_on_its_port() -> None:
    with serve_captured() as first, client() as http:
        http.get(first.endpoint + JWKS_PATH)
        port = first.port
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"http://127.0.0.1:{port}{JWKS_PATH}", trust_env=False)
    with serve_captured(port=port) as second:
        assert httpx.get(second.endpoint + JWKS_PATH, trust_env=False).json() == JWKS


def test_a_replaced_response_is_sent_until_it_is_restored() -> None:
    answer = Answer(status=503, body=b"down", headers={"Retry-After": "7"})
    with serve_captured() as server, client() as http:
        server.replace(JWKS_PATH, answer)
        replaced = http.get(server.endpoint + JWKS_PATH)
        server.restore(JWKS_PATH)
        restored = http.get(server.endpoint + JWKS_PATH)

    assert (replaced.status_code, replaced.content) == (503, b"down")
    assert dict(replaced.headers) == {"retry-after": "7", "content-length": "4"}
    assert restored.json() == JWKS


def test_a_redirect_names_its_location() -> None:
    with serve_captured() as server, client() as http:
        server.replace(JWKS_PATH, Answer.redirect("http://elsewhere.example.test/", status=307))
        response = http.get(server.endpoint + JWKS_PATH)

    assert (response.status_code, response.headers["Location"]) == (307, "http://elsewhere.example.test/")


def test_a_hanging_response_never_comes_and_ends_with_the_server() -> None:
    with serve_captured() as server, client() as http:
        server.replace(JWKS_PATH, Fault.HANG)
        with pytest.raises(httpx.ReadTimeout):
            http.get(server.endpoint + JWKS_PATH, timeout=0.2)
        assert server.counts == {JWKS_PATH: 1}


def test_a_reset_connection_is_an_error_of_the_socket() -> None:
    with serve_captured() as server, client() as http:
        server.replace(JWKS_PATH, Fault.RESET)
        with pytest.raises(httpx.ReadError, match="reset by peer"):
            http.get(server.endpoint + JWKS_PATH)


def test_a_dripping_body_outlives_the_read_timeout_of_each_byte() -> None:
    answer = Answer(body=b"0123456789", seconds_per_byte=0.03)
    with serve_captured() as server, client() as http:
        server.replace(JWKS_PATH, answer)
        started = time.monotonic()
        response = http.get(server.endpoint + JWKS_PATH, timeout=0.25)

    assert response.content == b"0123456789"
    assert time.monotonic() - started >= 0.25


def test_a_dripping_body_stops_when_the_server_closes() -> None:
    started = time.monotonic()
    with serve_captured() as server, client() as http:
        server.replace(JWKS_PATH, Answer(body=b"0123456789", seconds_per_byte=60))
        with http.stream("GET", server.endpoint + JWKS_PATH) as response:
            assert response.headers["Content-Length"] == "10"

    assert time.monotonic() - started < 30


def test_a_truncated_body_ends_before_its_announced_length() -> None:
    with serve_captured() as server, client() as http:
        server.replace(JWKS_PATH, Answer(body=b'{"keys"', content_length=257))
        with pytest.raises(httpx.RemoteProtocolError, match="received 7 bytes, expected 257"):
            http.get(server.endpoint + JWKS_PATH)


def test_a_gzip_bomb_is_a_valid_and_empty_key_set_of_many_times_its_size() -> None:
    answer = Answer.gzip_bomb(4)
    with serve_captured() as server, client() as http:
        server.replace(JWKS_PATH, answer)
        response = http.get(server.endpoint + JWKS_PATH)

    assert response.json() == {"keys": []}
    assert len(answer.body) * 500 < 4 * 2**20 < len(response.content)
