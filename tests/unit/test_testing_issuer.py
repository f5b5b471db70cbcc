"""Keys and tokens that the local issuer creates without a request."""

import base64
import json
import re
from collections.abc import Callable, Collection, Mapping
from typing import Any, Final

import pytest
from joserfc import jws
from joserfc.errors import BadSignatureError
from joserfc.jwk import ECKey

from fastapi_logto.testing import Directory, LocalIssuer, ManualClock
from fastapi_logto.testing.opaque import OpaqueToken, TokenStore
from fastapi_logto.testing.signing import Algorithm, JsonValue
from tests.unit.test_testing_sign_in import API, decode, import_keys

NOW: Final = 1_800_000_000
ISSUER: Final = "http://127.0.0.1:3001/oidc"


@pytest.fixture
def issuer() -> LocalIssuer:
    return LocalIssuer(clock=ManualClock(now=NOW + 0.75))


def read_segment(token: str, index: int) -> Any:
    segment = token.split(".")[index]
    return json.loads(base64.urlsafe_b64decode(segment + "=" * (-len(segment) % 4)))


def test_the_issuer_is_below_the_endpoint_without_its_slash() -> None:
    issuer = LocalIssuer(endpoint="http://logto.test/")
    assert (issuer.endpoint, issuer.issuer) == ("http://logto.test", "http://logto.test/oidc")


def test_the_first_key_is_published_as_logto_publishes_it(issuer: LocalIssuer) -> None:
    (key,) = issuer.jwks()["keys"]
    assert list(key) == ["kty", "use", "kid", "alg", "crv", "x", "y"]
    assert (key["kty"], key["use"], key["alg"], key["crv"]) == ("EC", "sig", "ES384", "P-384")
    assert key["kid"] == ECKey.import_key({name: key[name] for name in ("kty", "crv", "x", "y")}).thumbprint()


@pytest.mark.parametrize(
    ("algorithm", "members"),
    [
        ("ES384", ["kty", "use", "kid", "alg", "crv", "x", "y"]),
        ("ES256", ["kty", "use", "kid", "alg", "crv", "x", "y"]),
        ("ES512", ["kty", "use", "kid", "alg", "crv", "x", "y"]),
        ("RS256", ["kty", "use", "kid", "n", "e"]),
    ],
)
def test_a_rotation_signs_at_once_and_keeps_the_previous_key(
    issuer: LocalIssuer, algorithm: Algorithm, members: list[str]
) -> None:
    (old,) = issuer.jwks()["keys"]
    before = issuer.access_token()
    kid = issuer.rotate(algorithm=algorithm)
    new, previous = issuer.jwks()["keys"]
    assert (new["kid"], previous) == (kid, old)
    assert list(new) == members
    token = decode(issuer, issuer.access_token())
    assert token.header == {"alg": algorithm, "typ": "at+jwt", "kid": kid}
    assert decode(issuer, before).header["kid"] == old["kid"]


def test_a_second_rotation_drops_the_oldest_key(issuer: LocalIssuer) -> None:
    first = issuer.rotate()
    second = issuer.rotate()
    assert [key["kid"] for key in issuer.jwks()["keys"]] == [second, first]


def test_a_rotation_without_grace_leaves_one_key(issuer: LocalIssuer) -> None:
    kid = issuer.rotate(keep_previous=False)
    assert [key["kid"] for key in issuer.jwks()["keys"]] == [kid]


def test_an_access_token_has_the_shape_of_logtos(issuer: LocalIssuer) -> None:
    text = issuer.access_token()
    assert list(read_segment(text, 0)) == ["alg", "typ", "kid"]
    claims = decode(issuer, text).claims
    assert list(claims) == ["jti", "sub", "iat", "exp", "scope", "client_id", "iss", "aud"]
    assert re.fullmatch(r"[A-Za-z0-9_-]{43}", claims.pop("jti")) is not None
    assert claims == {
        "sub": "alice0000001",
        "iat": NOW,
        "exp": NOW + 3600,
        "scope": "read:user write:user",
        "client_id": "local-spa",
        "iss": ISSUER,
        "aud": API,
    }


def test_every_part_of_an_access_token_can_be_chosen(issuer: LocalIssuer) -> None:
    text = issuer.access_token(
        subject="somebody",
        client_id="app",
        scopes=["a", "b"],
        audience="urn:other",
        organization_id="org",
        actor="admin",
        lifetime_seconds=-5,
        claims={"roles": ["x"], "jti": "fixed", "iat": None},
    )
    claims = decode(issuer, text).claims
    assert list(claims.items()) == [
        ("roles", ["x"]),
        ("organization_id", "org"),
        ("act", {"sub": "admin"}),
        ("jti", "fixed"),
        ("sub", "somebody"),
        ("exp", NOW - 5),
        ("scope", "a b"),
        ("client_id", "app"),
        ("iss", ISSUER),
        ("aud", "urn:other"),
    ]


@pytest.mark.parametrize(("scopes", "scope"), [(None, None), ([], "")])
def test_scope_has_an_empty_and_an_absent_state(
    issuer: LocalIssuer, scopes: list[str] | None, scope: str | None
) -> None:
    assert decode(issuer, issuer.access_token(scopes=scopes)).claims.get("scope") == scope


SCOPED: Final[Mapping[str, Callable[[LocalIssuer, Collection[str]], str]]] = {
    "access_token": lambda issuer, scopes: issuer.access_token(scopes=scopes),
    "machine_token": lambda issuer, scopes: issuer.machine_token(scopes=scopes),
    "organization_token": lambda issuer, scopes: issuer.organization_token("acme", scopes=scopes),
    "bad_token": lambda issuer, scopes: issuer.bad_token("forged", scopes=scopes),
    "opaque_token": lambda issuer, scopes: issuer.opaque_token(scopes=scopes),
}


@pytest.mark.parametrize("mint", SCOPED.values(), ids=SCOPED)
def test_a_single_string_of_scopes_is_an_error(
    issuer: LocalIssuer, mint: Callable[[LocalIssuer, Collection[str]], str]
) -> None:
    with pytest.raises(TypeError, match="scopes: expected a collection of texts, found the string 'a b'; pass a list"):
        mint(issuer, "a b")
    with pytest.raises(ValueError, match="scopes: expected one scope per entry, found 'a b'"):
        mint(issuer, ["a b"])


def test_a_machine_token_is_its_clients_own(issuer: LocalIssuer) -> None:
    claims = decode(issuer, issuer.machine_token()).claims
    assert (claims["sub"], claims["client_id"]) == ("local-machine", "local-machine")
    assert claims["scope"] == "read:user write:user"
    assert claims["aud"] == API


def test_every_part_of_a_machine_token_can_be_chosen(issuer: LocalIssuer) -> None:
    text = issuer.machine_token(
        client_id="robot",
        scopes=None,
        audience="urn:other",
        organization_id="org",
        lifetime_seconds=1,
        claims={"jti": "fixed"},
    )
    assert decode(issuer, text).claims == {
        "organization_id": "org",
        "jti": "fixed",
        "sub": "robot",
        "iat": NOW,
        "exp": NOW + 1,
        "client_id": "robot",
        "iss": ISSUER,
        "aud": "urn:other",
    }


def test_a_machine_without_permissions_has_no_scope_claim_by_default() -> None:
    example = Directory.example()
    issuer = LocalIssuer(directory=Directory(resources=example.resources, machines=example.machines[1:]))
    assert "scope" not in decode(issuer, issuer.machine_token()).claims


def test_an_id_token_has_no_type_and_is_for_its_client(issuer: LocalIssuer) -> None:
    token = decode(issuer, issuer.id_token(claims={"nonce": "n"}))
    assert list(token.header) == ["alg", "kid"]
    assert token.claims == {
        "nonce": "n",
        "sub": "alice0000001",
        "aud": "local-spa",
        "exp": NOW + 3600,
        "iat": NOW,
        "iss": ISSUER,
    }


def test_an_opaque_token_is_cached_until_it_expires() -> None:
    times = [NOW]
    tokens: TokenStore[OpaqueToken] = TokenStore(lambda: times[-1])
    issued = OpaqueToken(subject="u", client_id="c", scope="openid email", issued_at=NOW, expires_at=NOW + 10)
    token = tokens.issue(issued)
    times.append(NOW + 9)
    assert tokens.find(token) == issued
    times.append(NOW + 10)
    assert tokens.find(token) is None
    tokens.issue(issued)
    times.append(NOW)
    assert tokens.find(token) is None


def test_an_opaque_token_has_the_shape_of_logtos(issuer: LocalIssuer) -> None:
    assert re.fullmatch(r"[A-Za-z0-9_-]{43}", issuer.opaque_token()) is not None


def test_an_unknown_opaque_token_is_not_found() -> None:
    assert TokenStore[OpaqueToken](lambda: NOW).find("x" * 43) is None


@pytest.mark.parametrize("algorithm", ["ES384", "RS256"])
def test_a_forged_token_differs_in_its_signature_only(issuer: LocalIssuer, algorithm: Algorithm) -> None:
    issuer.rotate(algorithm=algorithm)
    text = issuer.bad_token("forged", scopes=None, audience="urn:other", organization_id="org")
    good = issuer.access_token(scopes=None, audience="urn:other", organization_id="org")
    assert read_segment(text, 0) == read_segment(good, 0)
    assert read_segment(text, 1) | {"jti": ""} == read_segment(good, 1) | {"jti": ""}
    with pytest.raises(BadSignatureError):
        decode(issuer, text)


@pytest.mark.parametrize(
    ("header", "members"),
    [
        (None, ["alg", "typ", "kid"]),
        ({"typ": None}, ["alg", "kid"]),
        ({"kid": None, "crit": ["b64"], "b64": False}, ["alg", "typ", "crit", "b64"]),
        ({"alg": "none"}, ["alg", "typ", "kid"]),
    ],
)
def test_any_header_is_signed(issuer: LocalIssuer, header: dict[str, JsonValue] | None, members: list[str]) -> None:
    text = issuer.sign({"a": 1}, header=header)
    head = read_segment(text, 0)
    assert list(head) == members
    changed = {name: value for name, value in (header or {}).items() if value is not None}
    assert {name: head[name] for name in changed} == changed
    assert read_segment(text, 1) == {"a": 1}
    key = import_keys(issuer).keys[0]
    signing_input, _, signature = text.rpartition(".")
    raw = base64.urlsafe_b64decode(signature + "=" * (-len(signature) % 4))
    assert jws.JWSRegistry.algorithms["ES384"].verify(signing_input.encode(), raw, key) is True


def test_bytes_are_signed_unchanged(issuer: LocalIssuer) -> None:
    payload = issuer.sign(b'{"a":1,"a":2}\xff').split(".")[1]
    assert base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)) == b'{"a":1,"a":2}\xff'


WITHOUT_DEFAULT: Final[list[tuple[str, Callable[[LocalIssuer], str]]]] = [
    ("users", lambda issuer: issuer.access_token(scopes=["s"], audience="a", client_id="c")),
    ("applications", lambda issuer: issuer.access_token(scopes=["s"], audience="a", subject="u")),
    ("resources", lambda issuer: issuer.access_token(scopes=["s"], subject="u", client_id="c")),
    ("users", lambda issuer: issuer.access_token(audience="a", subject="u", client_id="c")),
    ("machines", lambda issuer: issuer.machine_token(scopes=["s"], audience="a")),
    ("machines", lambda issuer: issuer.machine_token(client_id="c", audience="a")),
    ("users", lambda issuer: issuer.id_token(client_id="c")),
    ("applications", lambda issuer: issuer.opaque_token(subject="u")),
]


@pytest.mark.parametrize(("name", "mint"), WITHOUT_DEFAULT)
def test_a_default_that_the_directory_lacks_is_named(name: str, mint: Callable[[LocalIssuer], str]) -> None:
    issuer = LocalIssuer(directory=Directory())
    with pytest.raises(ValueError, match=f"expected at least one of its {name} as a default, found none"):
        mint(issuer)


def test_a_name_in_the_call_needs_no_default() -> None:
    issuer = LocalIssuer(directory=Directory())
    claims = decode(issuer, issuer.access_token(subject="u", client_id="c", scopes=["s"], audience="a")).claims
    assert (claims["sub"], claims["client_id"], claims["scope"], claims["aud"]) == ("u", "c", "s", "a")


def test_private_members_are_never_shown(issuer: LocalIssuer) -> None:
    issuer.rotate(algorithm="RS256")
    members = {member for key in issuer.jwks()["keys"] for member in key}
    assert members.isdisjoint({"d", "p", "q", "dp", "dq", "qi"})
