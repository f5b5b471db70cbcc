"""The output of `inspect` for each kind of token. It verifies none of them unless requested."""

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from fastapi_logto.cli.inspection import inspect_token
from fastapi_logto.cli.times import describe_span, describe_time
from fastapi_logto.testing import LocalIssuer, ManualClock
from tests import captured
from tests.conftest import RunCli
from tests.tenants import API, serve

MANAGEMENT = "https://default.logto.app/api"


@pytest.fixture(scope="module")
def issuer() -> Iterator[LocalIssuer]:
    issuer = LocalIssuer()
    with serve(issuer):
        yield issuer


def look(cli: RunCli, token: str, *arguments: str, **environment: str) -> dict[str, Any]:
    ended = cli("inspect", "--json", *arguments, stdin=token, **environment)
    assert ended.err == ""
    found: dict[str, Any] = json.loads(ended.out)
    assert found["is_verified"] is ("--verify" in arguments and ended.code == 0)
    return found


KINDS: dict[str, Callable[[LocalIssuer], str]] = {
    "access token for a global API resource": lambda one: one.access_token(),
    "access token for an API resource within an organization": lambda one: one.access_token(organization_id="acme"),
    "organization token": lambda one: one.organization_token("acme"),
    "organization token for urn:logto:resource:organizations": lambda one: one.organization_token(
        "acme", by_resource=True
    ),
    "access token for Logto's Management API": lambda one: one.machine_token(audience=MANAGEMENT, scopes=["all"]),
    "ID token": lambda one: one.id_token(),
    "logout token": lambda one: one.sign({"sub": "x"}, header={"typ": "logout+jwt"}),
    "opaque token": lambda one: one.opaque_token(),
    "personal access token": lambda one: f"pat_{one.opaque_token()[:32]}",
    "unreadable": lambda _: "x.y",
}


@pytest.mark.parametrize("kind", KINDS)
def test_the_kind_of_a_token_is_reported(cli: RunCli, issuer: LocalIssuer, kind: str) -> None:
    assert look(cli, KINDS[kind](issuer))["kind"] == kind


@pytest.mark.parametrize("name", [name for name, token in captured.TOKENS.items() if token.kind == "jwt"])
def test_the_claims_of_real_tokens_are_shown_as_they_are(cli: RunCli, name: str) -> None:
    token = captured.TOKENS[name]

    found = look(cli, token.token)

    assert (found["header"], found["claims"]) == (token.header, token.claims)
    assert token.token.rpartition(".")[2] not in json.dumps(found)
    assert ("organization" in found["kind"]) == (
        "organization_id" in token.claims or str(token.claims.get("aud")).startswith("urn:logto:")
    )
    assert (found["kind"] == "ID token") == ("typ" not in token.header)


def test_the_caller_of_a_token_is_reported(cli: RunCli, issuer: LocalIssuer) -> None:
    assert look(cli, issuer.machine_token())["subject"] == (
        "the machine-to-machine application 'local-machine', for itself"
    )
    assert look(cli, issuer.access_token(actor="support"))["subject"] == (
        "the user 'alice0000001', through the application 'local-spa', with 'support' acting on their behalf"
    )
    assert look(cli, issuer.id_token())["subject"] == "the user 'alice0000001'"
    assert look(cli, issuer.sign({"aud": API}))["subject"] == ""


def test_the_routes_that_would_accept_a_token_are_reported(cli: RunCli, issuer: LocalIssuer) -> None:
    def admission(token: str, **environment: str) -> str:
        return " ".join(look(cli, token, **environment)["admission"])

    ours = {"LOGTO_ENDPOINT": issuer.endpoint, "LOGTO_AUDIENCE": API}
    token = issuer.access_token(scopes=["read:user", 'odd"scope'])
    assert f"whose audience is '{API}'. It is your API." in admission(token, **ours)
    assert '"read:user", "odd\\"scope"' in admission(token)
    assert "Set LOGTO_AUDIENCE to see whether it is your API" in admission(token)
    assert f"It is not your API: LOGTO_AUDIENCE is {API}." in admission(issuer.access_token(audience=f"{API}/"), **ours)
    assert f"'{API}' or 'urn:b'. It is your API." in admission(issuer.sign({"aud": [API, "urn:b"]}), **ours)
    assert "No route that requires a scope: the token has none." in admission(issuer.access_token(scopes=[]))
    within = admission(issuer.access_token(organization_id="acme", scopes=["read:user"]))
    assert "routes for the organization 'acme': require_organization(\"read:user\")" in within
    for by_resource in (False, True):
        text = admission(issuer.organization_token("acme", scopes=["read:member"], by_resource=by_resource))
        assert "for the organization 'acme': Depends(auth.require_organization(\"read:member\"))" in text
        assert "the token is not for an API resource" in text
    assert "requests no resource" in admission(issuer.opaque_token())
    personal = f"pat_{issuer.opaque_token()[:32]}"
    assert "and resource=<your API>, or LogtoClient.exchange_token" in admission(personal)
    assert f"and resource={API}, or LogtoClient.exchange_token" in admission(personal, **ours)
    assert "ends a session" in admission(issuer.sign({}, header={"typ": "logout+jwt"}))


@pytest.mark.parametrize(
    ("token", "problem"),
    [
        ("x.y", "expected the three parts of a JWT, found 2"),
        ("x.y.z", "expected JSON objects in base64url as header and payload, found Error"),
        ("e30.W10.x", "expected JSON objects in base64url as header and payload, found StrictJsonError"),
        (f"e30.{'x' * 140_000}.x", "expected at most 131072 characters, found 140006"),
    ],
    ids=["parts", "base64", "list", "large"],
)
def test_what_can_not_be_read_ends_with_1_and_says_why(cli: RunCli, token: str, problem: str) -> None:
    ended = cli("inspect", "--json", stdin=token)
    shown = cli("inspect", stdin=token)

    assert ended.code == shown.code == 1
    assert json.loads(ended.out)["problem"] == problem
    assert problem in shown.out.replace("\n                ", " ")


def test_a_warning_says_that_nothing_is_verified(cli: RunCli, issuer: LocalIssuer) -> None:
    ended = cli("inspect", stdin=issuer.access_token())

    assert ended.code == 0
    assert "NOT VERIFIED: anyone can create such a token." in ended.out.splitlines()[1]


def test_only_a_verified_token_is_reported_as_verified(cli: RunCli, issuer: LocalIssuer) -> None:
    environment = {"LOGTO_ENDPOINT": issuer.endpoint, "LOGTO_AUDIENCE": API}

    good = cli("inspect", "--verify", stdin=issuer.access_token(), **environment)
    forged = cli("inspect", "--verify", stdin=issuer.bad_token("forged"), **environment)
    expired = cli("inspect", "--verify", stdin=issuer.access_token(lifetime_seconds=-60), **environment)

    assert (good.code, forged.code, expired.code) == (0, 1, 1)
    assert " VERIFIED: signature, issuer, audience and times are valid" in good.out.splitlines()[1]
    assert "NOT VERIFIED: a check failed" in forged.out.splitlines()[1]
    assert "NOT VERIFIED: a check failed" in expired.out.splitlines()[1]
    assert "✗  Signature" in forged.out


def test_verifying_needs_the_settings(cli: RunCli) -> None:
    ended = cli("inspect", "--verify", stdin="x.y.z")

    assert (ended.code, ended.out) == (2, "")
    assert ended.err.count("\n") == 2


def test_a_token_can_not_overwrite_its_report(cli: RunCli, issuer: LocalIssuer) -> None:
    claims: dict[str, Any] = {
        "sub": "\x1b[2J\x1b[1;32mVERIFIED",
        "\u202eevil": "[red]\x9b31m[/red]",
        "deep": {"\x07": ["\u2066", None, True, 1.5, ""]},
    }

    ended = cli("inspect", stdin=issuer.sign(claims))

    assert all(one.isprintable() or one == "\n" for one in ended.out)
    assert "\\x1b[2J\\x1b[1;32mVERIFIED" in ended.out
    assert "\\u202eevil" in ended.out
    assert "[red]\\x9b31m[/red]" in ended.out
    assert '{\\x07: [\\u2066, null, true, 1.5, ""]}' in ended.out


def test_times_are_reported_in_words() -> None:
    clock = ManualClock(now=1_000_000_000)
    issuer = LocalIssuer(clock=clock)

    found = inspect_token(issuer.access_token(claims={"nbf": True, "exp": 10**400}), settings=None, clock=clock)

    assert found.times == {"iat": "2001-09-09 01:46:40 UTC, in 0 s", "exp": "after the year 9999"}
    assert describe_time(-1e300, now=0) == "before the year 1"
    assert describe_time(0, now=90) == "1970-01-01 00:00:00 UTC, 1 minute ago"
    assert [describe_span(one) for one in (59.9, 60, 7200, 86_400, 63_115_200)] == [
        "59 s", "1 minute", "2 hours", "1 day", "2 years",
    ]  # fmt: skip


@pytest.mark.parametrize("prefix", ["", "Bearer ", "authorization: bearer   ", "'", "\n Authorization:Bearer "])
def test_a_token_may_be_pasted_with_the_text_around_it(cli: RunCli, issuer: LocalIssuer, prefix: str) -> None:
    assert look(cli, f"{prefix}{issuer.access_token()}{prefix if prefix == chr(39) else ''}\n")["problem"] == ""
