"""The checks of `doctor`, and its report of each fault."""

import json
import logging
import re
import ssl
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Final, cast, get_args

import pytest

from fastapi_logto import LogtoSettings
from fastapi_logto.cli.doctor.advice import ADVICE
from fastapi_logto.cli.doctor.settings import check_audience, list_settings
from fastapi_logto.cli.doctor.tenant import check_tenant
from fastapi_logto.cli.requests import send
from fastapi_logto.errors import Reason
from fastapi_logto.provider.failures import ExchangeError
from fastapi_logto.provider.transport import Request, Transport
from fastapi_logto.testing import Directory, LocalIssuer
from tests import captured
from tests.captured import DISCOVERY_PATH, JWKS_PATH, Answer, Fault, serve_captured
from tests.conftest import RunCli
from tests.tenants import API, Tenant, make_certificate, run_situation, serve

EXCHANGES: Final = {
    one["name"]: one["response"]
    for one in json.loads((captured.DIRECTORY / "token-endpoint-errors.json").read_text(encoding="utf-8"))["exchanges"]
}
"""Responses of Logto's token endpoint."""


@contextmanager
def serve_issuer(**arguments: Any) -> Generator[LocalIssuer]:
    issuer = LocalIssuer(**arguments)
    with serve(issuer):
        yield issuer


def run_doctor(cli: RunCli, *arguments: str, stdin: str = "", **environment: str) -> tuple[int, dict[str, Any]]:
    ended = cli("doctor", "--json", *arguments, stdin=stdin, **environment)
    assert ended.err == ""
    return ended.code, json.loads(ended.out)


def find(diagnosis: dict[str, Any], name: str) -> dict[str, Any]:
    """Return the first check with a name, from the last section that has one: the token's section, if there is one."""
    checks = [one for section in reversed(diagnosis["sections"]) for one in section["checks"] if one["name"] == name]
    assert checks, f"no check {name}"
    found: dict[str, Any] = checks[0]
    return found


def look(server: captured.CapturedServer, **settings: Any) -> dict[str, tuple[str, str, str]]:
    """Check a captured server, and return status, finding and advice of each check by its name."""
    arguments: Any = {"endpoint": captured.ISSUER, "audience": API, "fetch_endpoint": server.endpoint, **settings}
    report = check_tenant(
        LogtoSettings(**arguments), Transport(timeout_seconds=settings.get("fetch_timeout_seconds", 5))
    )
    return {check.name: (check.status, check.found, check.advice) for check in report.section.checks}


def test_every_reason_has_its_advice() -> None:
    assert set(ADVICE) == set(get_args(Reason))
    assert all(text.endswith((".", "}.")) for text in ADVICE.values())


def test_settings_are_shown_with_their_source(cli: RunCli, tmp_path: Path) -> None:
    with serve_issuer() as issuer:
        values = {"LOGTO_ENDPOINT": issuer.endpoint, "LOGTO_AUDIENCE": API, "LOGTO_ISSUERS": "https://b.example/oidc"}
        code, by_environment = run_doctor(cli, **values)
        shown_by_environment = cli("doctor", **values).out
        (tmp_path / ".env").write_text("".join(f"{name}={value}\n" for name, value in values.items()) + "A=hidden\n")
        _, by_file = run_doctor(cli)
        shown_by_file = cli("doctor").out

    assert code == 0
    for diagnosis, source in ((by_environment, "environment"), (by_file, ".env")):
        settings = {one["variable"]: (one["value"], one["source"]) for one in diagnosis["settings"]}
        assert {name: settings[name] for name in values} == {name: (value, source) for name, value in values.items()}
        assert settings["LOGTO_ALLOW_HTTP"] == ("false", "default")
        assert settings["LOGTO_SWAGGER_CLIENT_ID"] == ("", "default")
        assert len(settings) == len(LogtoSettings.model_fields)
    assert f"{issuer.endpoint} (from the environment)" in shown_by_environment
    assert f"{API} (from .env)" in shown_by_file
    assert "hidden" not in shown_by_file + json.dumps(by_file)


def test_the_list_of_settings_agrees_with_what_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOGTO_ENDPOINT", "https://tenant.logto.app/oidc/")
    monkeypatch.setenv("LOGTO_AUDIENCE", "https://a.example")
    settings = LogtoSettings.from_environment()

    found = {one.variable: one for one in list_settings(settings, env_file=None)}

    assert found["LOGTO_ENDPOINT"].value == settings.endpoint == "https://tenant.logto.app"
    assert found["LOGTO_LEEWAY_SECONDS"].source == "default"


def write_app(folder: Path, name: str, *, arguments: str) -> None:
    (folder / f"{name}.py").write_text(
        "from fastapi import Depends, FastAPI\n"
        "from fastapi_logto import LogtoAuth\n"
        f"auth = LogtoAuth({arguments})\n"
        "app = FastAPI(dependencies=[Depends(auth)])\n"
        "@app.get('/')\n"
        "async def root() -> None: ...\n"
    )


def test_settings_in_code_are_checked_instead_of_the_environment(cli: RunCli, tmp_path: Path) -> None:
    with serve_issuer() as issuer:
        write_app(tmp_path, "doctor_given", arguments=f"endpoint={issuer.endpoint!r}, audience={API!r}")
        write_app(tmp_path, "doctor_read", arguments="")
        other = {"LOGTO_ENDPOINT": issuer.endpoint, "LOGTO_AUDIENCE": "urn:other"}

        code, given = run_doctor(cli, "--app", "doctor_given:app", **other)
        ended = cli("doctor", "--app", "doctor_given:app", **other)
        _, read = run_doctor(cli, "--app", "doctor_read", **other)
        missing = cli("doctor", "--app", "doctor_read")

    sources = {one["variable"]: (one["value"], one["source"]) for one in given["settings"]}
    assert code == 0
    assert sources["LOGTO_AUDIENCE"] == (API, "code")
    assert sources["LOGTO_LEEWAY_SECONDS"] == ("10", "default")
    assert f"{API} (from the code)" in ended.out
    found = {one["variable"]: (one["value"], one["source"]) for one in read["settings"]}
    assert found["LOGTO_AUDIENCE"] == ("urn:other", "environment")
    assert missing.code == 2
    assert "audience is required" in missing.out


def test_advice_for_settings_in_code_names_their_arguments(cli: RunCli, tmp_path: Path) -> None:
    with serve_issuer() as issuer:
        write_app(tmp_path, "doctor_named", arguments=f"endpoint={issuer.endpoint!r}, audience={API!r}")

        _, shown = run_doctor(
            cli, "--app", "doctor_named:app", "--token-stdin", stdin=issuer.access_token(audience="urn:other")
        )

    assert find(shown, "Audience")["advice"].endswith(
        "Or set the argument audience to a resource of the local issuer: fastapi-logto dev --audience, or its --file."
    )
    assert find(shown, "Application")["found"] == "the argument swagger_client_id is not set"
    assert "LOGTO_" not in json.dumps(shown["sections"])


def test_an_application_without_protected_routes_has_no_settings_to_check(cli: RunCli, tmp_path: Path) -> None:
    (tmp_path / "doctor_open.py").write_text("from fastapi import FastAPI\napp = FastAPI()\n")

    ended = cli("doctor", "--app", "doctor_open")

    assert (ended.code, ended.out) == (2, "")
    assert ended.err == "fastapi-logto: expected protected routes of one tenant, found none\n"


def test_wrong_settings_end_with_2_and_are_all_reported(cli: RunCli) -> None:
    code, diagnosis = run_doctor(cli, LOGTO_ENDPOINT="ftp://x")

    assert code == 2
    assert [check["name"] for check in diagnosis["sections"][0]["checks"]] == ["LOGTO_ENDPOINT", "LOGTO_AUDIENCE"]
    assert diagnosis["next_step"] == "Set it: LOGTO_ENDPOINT=https://tenant-id.logto.app"


def test_a_file_of_variables_that_can_not_be_read_ends_with_2(cli: RunCli, tmp_path: Path) -> None:
    (tmp_path / "bad.env").write_bytes(b"\xff\xfe")

    code, diagnosis = run_doctor(cli, "--env-file", "bad.env")

    assert code == 2
    assert find(diagnosis, "bad.env")["found"] == "expected UTF-8 text, found other bytes"
    assert diagnosis["next_step"] == "Save the file as UTF-8"


@pytest.mark.parametrize(
    ("audience", "status", "advice"),
    [
        ("https://api.example.com", "ok", ""),
        ("urn:example:api", "ok", ""),
        ("my api", "failed", "absolute URIs"),
        ("https://api.example.com/#x", "failed", "fragment"),
        ("https://default.logto.app/api", "warning", "Management API"),
        ("https://tenant.logto.app", "warning", "the tenant itself"),
        ("https://tenant.logto.app/oidc/", "warning", "the tenant itself"),
        ("https://api.example.com/", "warning", "ends with a slash"),
    ],
)
def test_the_form_of_an_audience_is_checked(audience: str, status: str, advice: str) -> None:
    (check,) = check_audience(LogtoSettings(endpoint="https://tenant.logto.app", audience=audience))

    assert check.status == status
    assert advice in check.advice
    assert audience in check.found


def test_a_healthy_tenant_has_no_fault_and_says_so(cli: RunCli) -> None:
    with serve_issuer() as issuer:
        ended = cli("doctor", LOGTO_ENDPOINT=issuer.endpoint, LOGTO_AUDIENCE=API)

    assert ended.code == 0
    assert ended.out.rstrip().endswith("All checks passed.")
    assert "✗" not in ended.out


def test_warnings_do_not_fail_and_are_not_reported_as_healthy(cli: RunCli) -> None:
    with serve_issuer() as issuer:
        ended = cli("doctor", LOGTO_ENDPOINT=issuer.endpoint, LOGTO_AUDIENCE=f"{API}/")

    assert ended.code == 0
    assert ended.out.rstrip().endswith("No check failed; see the warnings.")


def test_an_unknown_name_is_a_fault_of_dns() -> None:
    settings = LogtoSettings(endpoint="https://tenant.invalid", audience=API)

    checks = check_tenant(settings, Transport(timeout_seconds=10)).section.checks

    assert (checks[0].name, checks[0].status) == ("DNS", "failed")
    assert checks[0].found.startswith("tenant.invalid: ")
    assert "LOGTO_ENDPOINT" in checks[0].advice
    assert {check.status for check in checks[1:]} == {"skipped"}


def test_a_name_that_no_resolver_accepts_is_a_fault_of_dns(capsys: pytest.CaptureFixture[str]) -> None:
    settings = LogtoSettings(endpoint=f"https://{'a' * 64}.example", audience=API)

    checks = check_tenant(settings, Transport(timeout_seconds=10)).section.checks

    assert (checks[0].name, checks[0].status) == ("DNS", "failed")
    assert re.search(r": Unicode\w*Error\Z", checks[0].found)
    assert capsys.readouterr().err == ""


def test_a_name_is_reported_with_its_addresses() -> None:
    with serve_captured() as server:
        checks = look(server, fetch_endpoint=f"http://localhost:{server.port}")

    assert checks["DNS"][0] == "ok"
    assert checks["DNS"][1].startswith("localhost: ")
    assert "127.0.0.1" in checks["DNS"][1]
    assert checks["TLS"][:2] == ("skipped", "plain http, only on this machine")


def test_a_proxy_resolves_the_name_and_its_password_is_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("https_proxy", "http://someone:secret@127.0.0.1:9")
    monkeypatch.setenv("no_proxy", "")
    settings = LogtoSettings(endpoint="https://tenant.invalid", audience=API)

    checks = {check.name: check for check in check_tenant(settings, Transport(timeout_seconds=5)).section.checks}

    assert checks["DNS"].found == "resolved by the proxy 127.0.0.1"
    assert checks["Discovery"].status == "failed"
    assert "secret" not in str(checks)


def test_a_certificate_that_ends_soon_is_a_warning_and_an_unknown_one_a_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    issuer = LocalIssuer()
    with make_certificate(days=3) as (authority, certificate), serve(issuer, certificate=certificate):
        settings = LogtoSettings(endpoint=issuer.endpoint, audience=API)
        unknown = {check.name: check for check in check_tenant(settings, Transport(timeout_seconds=5)).section.checks}
        monkeypatch.setenv("SSL_CERT_FILE", str(authority))
        known = {check.name: check for check in check_tenant(settings, Transport(timeout_seconds=5)).section.checks}

    assert unknown["TLS"].status == "failed"
    assert "invalid certificate: unable to get local issuer certificate" in unknown["TLS"].found
    assert "SSL_CERT_FILE" in unknown["TLS"].advice
    assert (known["TLS"].status, known["TLS"].found) == ("warning", "TLSv1.3, certificate valid for 3 more days")
    assert known["Key set"].status == "ok"


def test_a_certificate_with_time_left_is_reported_with_its_days(monkeypatch: pytest.MonkeyPatch) -> None:
    issuer = LocalIssuer()
    with make_certificate() as (authority, certificate), serve(issuer, certificate=certificate, scheme="http"):
        monkeypatch.setenv("SSL_CERT_FILE", str(authority))
        settings = LogtoSettings(endpoint=issuer.endpoint, audience=API)
        checks = {check.name: check for check in check_tenant(settings, Transport(timeout_seconds=5)).section.checks}

    assert (checks["TLS"].status, checks["TLS"].found) == ("ok", "TLSv1.3, certificate valid for 90 more days")
    # Behind a proxy that terminates TLS, and without TRUST_PROXY_HEADER, Logto's key set URL has http.
    assert checks["Key set URL"].status == "failed"
    assert checks["Key set URL"].advice.startswith(
        "Behind a proxy that terminates TLS, set TRUST_PROXY_HEADER=1 in Logto"
    )


def test_without_a_tenant_the_form_of_a_token_is_still_checked(cli: RunCli) -> None:
    with run_situation("unreachable") as situation:
        code, diagnosis = run_doctor(cli, "--token-stdin", stdin=situation.token, **situation.environment)

    assert code == 1
    assert [section["title"] for section in diagnosis["sections"]] == ["Settings", "Tenant", "Token"]
    assert [find(diagnosis, name)["status"] for name in ("Type", "Key", "Signature")] == ["ok", "skipped", "skipped"]


def test_a_name_that_disappears_between_two_lookups_is_a_fault_of_dns() -> None:
    with pytest.raises(ExchangeError, match="no address: ") as caught:
        send(Transport(timeout_seconds=10), "http://tenant.invalid", Request())

    assert caught.value.layer == "dns"


def test_https_where_only_http_is_served_is_a_fault_of_tls() -> None:
    with serve_captured() as server:
        checks = look(server, fetch_endpoint=f"https://127.0.0.1:{server.port}")

    assert checks["TLS"][0] == "failed"
    assert "no TLS: the server speaks another protocol, such as plain http" in checks["TLS"][1]
    assert checks["TLS"][2].startswith("The certificate is not the cause. Correct scheme and port in LOGTO_ENDPOINT")


def test_a_server_without_a_common_tls_version_is_distinguished_from_one_without_tls() -> None:
    issuer = LocalIssuer()
    with make_certificate() as (authority, certificate), serve(issuer, certificate=certificate):
        context = ssl.create_default_context(cafile=str(authority))
        context.maximum_version = ssl.TLSVersion.TLSv1_2
        context.set_ciphers("PSK")
        with pytest.raises(ExchangeError, match="TLS failed: ") as caught:
            send(Transport(timeout_seconds=5, ssl_context=context), issuer.endpoint, Request())

    assert caught.value.layer == "tls"


def test_plain_http_to_another_machine_is_a_warning() -> None:
    with serve_captured() as server:
        # For the resolver this is 127.0.0.1. For the package it is another host: only the literal address is loopback.
        checks = look(server, fetch_endpoint=f"http://127.1:{server.port}", allow_http=True)

    assert checks["TLS"][0] == "warning"
    assert "closed network" in checks["TLS"][2]


@pytest.mark.parametrize(
    ("answer", "found"),
    [
        (Answer(status=404), "expected status 200, found 404"),
        (Answer.redirect("https://elsewhere.example"), "expected status 200, found 302"),
        (Answer(body=b"<html>"), "not strict JSON"),
        (Answer.gzip_bomb(1), "expected an unencoded body, found Content-Encoding gzip"),
        (Answer(body=b" " * 300_000), "expected at most 262144 bytes"),
        (Answer(body=b"{", content_length=10), "RemoteProtocolError"),
        (Answer(body=b"{}" * 50, seconds_per_byte=0.05), "no complete response within 0.5 s"),
        (Fault.HANG, "no response in time"),
        (Fault.RESET, "ReadError"),
    ],
    ids=["404", "redirect", "html", "encoded", "large", "cut", "drip", "hang", "reset"],
)
def test_an_unavailable_discovery_document_is_a_fault(answer: Answer | Fault, found: str) -> None:
    with serve_captured() as server:
        server.replace(DISCOVERY_PATH, answer)
        checks = look(server, fetch_timeout_seconds=0.5)

    assert checks["Discovery"][0] == "failed"
    assert found in checks["Discovery"][1]
    assert checks["Discovery"][2]
    assert checks["Key set"] == ("skipped", "", "")


def test_another_issuer_is_reported_as_expected_and_found() -> None:
    with serve_captured() as server:
        checks = look(server, endpoint="http://127.0.0.1:3002")

    assert checks["Issuer"][0] == "failed"
    assert checks["Issuer"][1] == ("expected the issuer http://127.0.0.1:3002/oidc, found 'http://127.0.0.1:3001/oidc'")
    assert checks["Issuer"][2].startswith("Correct LOGTO_ENDPOINT, or add this issuer to LOGTO_ISSUERS")


@pytest.mark.parametrize(
    ("answer", "found"),
    [(Answer(status=500), "found 500"), (Answer.json({"keys": 1}), "no list named keys"), (Fault.RESET, "ReadError")],
    ids=["500", "no list", "reset"],
)
def test_an_unavailable_key_set_is_a_fault(answer: Answer | Fault, found: str) -> None:
    with serve_captured() as server:
        server.replace(JWKS_PATH, answer)
        checks = look(server)

    assert checks["Key set URL"][0] == "ok"
    assert checks["Key set"][0] == "failed"
    assert found in checks["Key set"][1]
    assert "Signatures" not in checks


def test_keys_are_reported_with_their_strength_and_why_one_can_not_be_used() -> None:
    issuer = LocalIssuer()
    issuer.rotate(algorithm="RS256")
    rsa, ec = issuer.jwks()["keys"]
    weak = {**rsa, "n": rsa["n"][:171], "kid": "weak"}
    other = {**ec, "alg": "EdDSA", "kid": "other"}
    keys: list[Any] = [ec, rsa, weak, other, "text", {"kty": 1}]
    with serve_captured() as server:
        server.publish({"keys": keys})
        settings = LogtoSettings(endpoint="http://127.0.0.1:3001", audience=API, fetch_endpoint=server.endpoint)
        checks = check_tenant(settings, Transport(timeout_seconds=5)).section.checks

    rows = [(check.status, check.found, check.advice) for check in checks if check.name == "Key"]
    (summary,) = (check for check in checks if check.name == "Key set")
    assert (summary.status, summary.found) == ("ok", "2 of 6 keys usable with ES256, ES384, ES512, RS256")
    assert rows[0][:2] == ("ok", f"EC P-384, kid {ec['kid'][:12]}, for ES384")
    assert rows[1][:2] == ("ok", f"RSA, about 2048 bits, kid {rsa['kid'][:12]}, for RS256")
    assert rows[2][:2] == ("warning", "RSA, about 1024 bits, kid weak: its modulus is not one of 2048 to 8192 bits")
    assert "Rotate the key" in rows[2][2]
    assert rows[3][0] == "warning"
    assert rows[3][2] == "If the tenant signs with it, add EdDSA to LOGTO_ALGORITHMS."
    assert rows[4][1] == "unknown key: not an object"
    assert rows[5][1] == "? ?, kid absent: its kty is not EC, RSA or OKP"


def test_a_key_set_of_another_algorithm_than_ours_is_a_fault() -> None:
    with serve_captured() as server:
        checks = look(server, algorithms="RS256")

    assert checks["Key set"][:2] == ("failed", "0 of 1 keys usable with RS256")
    assert checks["Key set"][2] == "Add the algorithm of the tenant's key to LOGTO_ALGORITHMS, which is RS256."


@pytest.mark.parametrize(
    ("ahead", "status", "found"),
    [
        (0, "ok", "within 10 s of the tenant's"),
        (-45, "failed", "this machine is 45 s ahead of the tenant"),
        (7200 + 30, "failed", "this machine is 2 hours behind the tenant"),
    ],
)
def test_the_clock_is_compared_with_the_tenants(ahead: int, status: str, found: str) -> None:
    issuer = LocalIssuer()
    with serve(issuer, seconds_ahead=ahead):
        settings = LogtoSettings(endpoint=issuer.endpoint, audience=API)
        checks = {check.name: check for check in check_tenant(settings, Transport(timeout_seconds=5)).section.checks}

    assert checks["Clock"].status == status
    assert abs(ahead) > 100 or checks["Clock"].found.replace("44", "45").replace("46", "45") == found
    assert abs(ahead) < 100 or checks["Clock"].found == found


def test_a_response_without_a_date_says_nothing_of_the_clock() -> None:
    with serve_captured() as server:
        assert look(server)["Clock"][0] == "skipped"


def test_the_library_that_verifies_signatures_is_reported(backend: str) -> None:
    with serve_captured() as server:
        checks = look(server)

    assert checks["Signatures"][1].startswith("AWS-LC for P-384" if backend == "aws-lc" else "OpenSSL")


@pytest.mark.usefixtures("openssl")
def test_without_aws_lc_the_faster_way_is_named() -> None:
    with serve_captured() as server:
        assert "fastapi-logto[aws-lc]" in look(server)["Signatures"][1]


def test_for_a_tenant_with_rsa_keys_no_package_is_recommended() -> None:
    issuer = LocalIssuer()
    issuer.rotate(algorithm="RS256", keep_previous=False)
    with serve_captured(jwks=cast("Any", issuer.jwks())) as server:
        assert look(server)["Signatures"] == ("ok", "OpenSSL", "")


SWAGGER = {"LOGTO_AUDIENCE": API, "LOGTO_SWAGGER_CLIENT_ID": "local-spa"}


def test_the_sign_in_of_swagger_is_tried(cli: RunCli) -> None:
    issuer = LocalIssuer(directory=Directory.example(redirect_uris=["http://127.0.0.1:9000/docs/oauth2-redirect"]))
    with serve(issuer, app=Tenant(issuer.app)):
        environment = {"LOGTO_ENDPOINT": issuer.endpoint, **SWAGGER}
        good = run_doctor(cli, "--docs-url", "http://127.0.0.1:9000/docs/", **environment)
        bad = run_doctor(cli, **environment)
        unknown = run_doctor(cli, **{**environment, "LOGTO_SWAGGER_CLIENT_ID": "nobody"})
        no_api = run_doctor(
            cli, "--docs-url", "http://127.0.0.1:9000/docs", **{**environment, "LOGTO_AUDIENCE": "urn:other"}
        )

    assert good[0] == 0
    assert find(good[1], "Redirect URI")["found"] == "http://127.0.0.1:9000/docs/oauth2-redirect"
    assert find(good[1], "CORS")["found"] == "http://127.0.0.1:9000 may call the token endpoint"
    assert find(good[1], "Application")["found"] == "local-spa needs no secret"
    assert bad[0] == unknown[0] == no_api[0] == 1
    assert "add exactly http://127.0.0.1:8000/docs/oauth2-redirect" in find(bad[1], "Redirect URI")["advice"]
    assert find(bad[1], "CORS")["status"] == "failed"
    assert find(unknown[1], "Application")["found"] == "the tenant has no application nobody"
    assert "LOGTO_SWAGGER_CLIENT_ID" in find(unknown[1], "Application")["advice"]
    assert [find(unknown[1], name)["status"] for name in ("Redirect URI", "CORS")] == ["skipped", "skipped"]
    assert "the tenant has no API resource urn:other" in find(no_api[1], "Redirect URI")["found"]


def test_an_application_with_a_secret_is_reported(cli: RunCli) -> None:
    # A traditional web application: redirect URI and CORS are correct.
    refusal = EXCHANGES["client_id only (confidential client)"]
    with serve_captured() as server:
        server.replace("/oidc/auth", Answer.redirect("/sign-in"))
        answer = Answer.json(refusal["body"], status=refusal["status"])
        server.replace("/oidc/token", replace(answer, headers={"Access-Control-Allow-Origin": "http://127.0.0.1:8000"}))
        code, diagnosis = run_doctor(
            cli, LOGTO_ENDPOINT="http://127.0.0.1:3001", LOGTO_FETCH_ENDPOINT=server.endpoint, **SWAGGER
        )

    assert code == 1
    assert "local-spa requires a secret" in find(diagnosis, "Application")["found"]
    assert diagnosis["next_step"].startswith("In the console, under Applications, create a single-page application")


def test_an_unknown_redirect_uri_is_distinguished_from_an_unknown_application(cli: RunCli) -> None:
    with serve_captured() as server:
        server.replace("/oidc/token", Answer.json(EXCHANGES["code: unknown"]["body"], status=400))
        document = {"code": "oidc.invalid_redirect_uri", "error": "invalid_redirect_uri"}
        server.replace("/oidc/auth", Answer.json(document, status=400))
        _, diagnosis = run_doctor(
            cli, LOGTO_ENDPOINT="http://127.0.0.1:3001", LOGTO_FETCH_ENDPOINT=server.endpoint, **SWAGGER
        )

    check = find(diagnosis, "Redirect URI")
    assert check["found"] == "http://127.0.0.1:8000/docs/oauth2-redirect: status 400 invalid_redirect_uri"
    assert check["advice"].startswith("In the console, under Applications, open the single-page application local-spa")
    assert "App ID" not in check["advice"]


def test_a_sign_in_that_fails_with_another_error_is_reported(cli: RunCli) -> None:
    with serve_captured() as server:
        server.replace("/oidc/auth", Answer.redirect("http://127.0.0.1:8000/docs/oauth2-redirect?error=invalid_scope"))
        server.replace("/oidc/token", Answer.json({"error": "invalid_grant"}, status=400))
        code, diagnosis = run_doctor(
            cli, LOGTO_ENDPOINT="http://127.0.0.1:3001", LOGTO_FETCH_ENDPOINT=server.endpoint, **SWAGGER
        )

    assert code == 1
    assert "Logto returns 'invalid_scope'" in find(diagnosis, "Redirect URI")["found"]
    assert find(diagnosis, "CORS")["status"] == "failed"


def test_a_token_endpoint_that_does_not_respond_is_reported(cli: RunCli) -> None:
    with serve_captured() as server:
        server.replace("/oidc/token", Fault.RESET)
        code, diagnosis = run_doctor(
            cli, LOGTO_ENDPOINT="http://127.0.0.1:3001", LOGTO_FETCH_ENDPOINT=server.endpoint, **SWAGGER
        )

    assert (code, find(diagnosis, "Sign-in")["found"]) == (1, "ReadError")


def run_walk(cli: RunCli, issuer: LocalIssuer, token: str, *arguments: str) -> tuple[int, dict[str, Any]]:
    return run_doctor(cli, "--token-stdin", *arguments, stdin=token, LOGTO_ENDPOINT=issuer.endpoint, LOGTO_AUDIENCE=API)


@pytest.fixture(scope="module")
def issuer() -> Iterator[LocalIssuer]:
    with serve_issuer() as issuer:
        yield issuer


@pytest.mark.parametrize(
    ("kind", "check", "reason"),
    [
        ("characters", "Characters", "header_format"),
        ("large", "Size", "too_large"),
        ("two parts", "Shape", "malformed"),
        ("opaque", "Shape", "opaque_token"),
        ("algorithm", "Algorithm", "algorithm"),
        ("ID token", "Type", "id_token"),
        ("logout token", "Type", "type"),
        ("stranger", "Key", "unknown_key"),
        ("key's other algorithm", "Key", "algorithm"),
        ("forged", "Signature", "signature"),
        ("claims", "Claims", "claims"),
        ("issuer", "Issuer", "issuer"),
        ("audience", "Audience", "audience"),
        ("expired", "Expiry", "expired"),
        ("early", "Not before", "not_yet_valid"),
        ("scope", "Scopes", "scope"),
    ],
)
def test_a_token_is_refused_at_the_check_that_refuses_it(
    cli: RunCli, issuer: LocalIssuer, kind: str, check: str, reason: str
) -> None:
    good = issuer.access_token(scopes=["write:user"])
    token = {
        "characters": "a b",
        "large": "x" * 20_000,
        "two parts": "x.y",
        "opaque": issuer.opaque_token(),
        "algorithm": issuer.sign(b"{}", header={"alg": "HS256"}),
        "ID token": issuer.id_token(),
        "logout token": issuer.sign(b"{}", header={"typ": "logout+jwt"}),
        "stranger": LocalIssuer().access_token(),
        "key's other algorithm": issuer.sign(b"{}", header={"alg": "RS256"}),
        "forged": issuer.bad_token("forged"),
        "claims": issuer.access_token(claims={"jti": None}),
        "issuer": issuer.access_token(claims={"iss": "https://other.example/oidc"}),
        "audience": issuer.access_token(audience=f"{API}/"),
        "expired": issuer.access_token(lifetime_seconds=-120),
        "early": issuer.access_token(claims={"nbf": 4_000_000_000}),
        "scope": good,
    }[kind]

    code, diagnosis = run_walk(cli, issuer, token, "--scope", "write:user", "--scope", "read:user")

    checks = diagnosis["sections"][-1]["checks"]
    failed = [one for one in checks if one["status"] == "failed"]
    assert code == 1
    assert (failed[0]["name"], failed[0]["reason"]) == (check, reason)
    assert diagnosis["next_step"] == failed[0]["advice"]
    before = [one["status"] for one in checks[: checks.index(failed[0])]]
    assert set(before) <= {"ok"}
    assert token not in json.dumps(diagnosis)


def test_a_personal_access_token_has_to_be_exchanged(cli: RunCli, issuer: LocalIssuer) -> None:
    code, diagnosis = run_walk(cli, issuer, f"pat_{issuer.opaque_token()[:32]}")

    check = find(diagnosis, "Shape")
    assert (code, check["found"], check["reason"]) == (
        1, "a personal access token, not an access token", "opaque_token",
    )  # fmt: skip
    assert check["advice"].startswith("Exchange the personal access token for an access token")
    assert f"and resource={API}" in check["advice"]


def test_invalid_times_are_reported_in_words(cli: RunCli, issuer: LocalIssuer) -> None:
    _, diagnosis = run_walk(cli, issuer, issuer.access_token(lifetime_seconds=-120))

    assert find(diagnosis, "Expiry")["found"].startswith("exp is 20")
    assert find(diagnosis, "Expiry")["found"].endswith("UTC, 2 minutes ago")


def test_one_claim_that_fails_hides_no_other(cli: RunCli, issuer: LocalIssuer) -> None:
    token = issuer.access_token(audience="urn:other", lifetime_seconds=-120, claims={"iss": "https://x.example/oidc"})

    _, diagnosis = run_walk(cli, issuer, token)

    assert [find(diagnosis, name)["status"] for name in ("Issuer", "Audience", "Expiry")] == ["failed"] * 3


def test_a_token_without_an_issue_time_is_accepted_if_none_is_required(cli: RunCli, issuer: LocalIssuer) -> None:
    ended = cli(
        "doctor", "--json", "--token-stdin", stdin=issuer.access_token(claims={"iat": None}),
        LOGTO_ENDPOINT=issuer.endpoint, LOGTO_AUDIENCE=API, LOGTO_REQUIRED_CLAIMS="jti",
    )  # fmt: skip

    assert ended.code == 0
    assert find(json.loads(ended.out), "Not before")["found"] == ""


def test_an_organization_token_is_a_warning_that_says_where_it_is_accepted(cli: RunCli, issuer: LocalIssuer) -> None:
    code, diagnosis = run_walk(cli, issuer, issuer.organization_token("acme"))

    assert code == 0
    assert find(diagnosis, "Audience")["status"] == "warning"
    assert "require_organization" in find(diagnosis, "Audience")["advice"]
    assert find(diagnosis, "Scopes")["status"] == "warning"
    assert "role" in find(diagnosis, "Scopes")["advice"]


@pytest.mark.parametrize(
    ("check", "advice"),
    [
        ("Application", "add [[applications]] to the file of fastapi-logto dev --file"),
        ("Redirect URI", "The file of fastapi-logto dev --file sets the redirect_uris"),
        ("CORS", "in the file of fastapi-logto dev --file"),
        ("Audience", "or its --file"),
        ("Scopes", "a role with the scope in the file of fastapi-logto dev --file"),
        ("No scopes", "a role with scopes of this API in the file of fastapi-logto dev --file"),
        ("Size", "custom claims of the user in the file of fastapi-logto dev --file"),
    ],
)
def test_the_advice_for_a_local_issuer_names_its_file_and_no_console(cli: RunCli, check: str, advice: str) -> None:
    scopes = () if check == "No scopes" else ("--scope", "read:user")
    directory = Directory.example(redirect_uris=["http://127.0.0.1:9000/docs/oauth2-redirect"])
    with serve_issuer(directory=directory) as issuer:
        code, shown = run_doctor(
            cli, "--token-stdin", *scopes,
            stdin=issuer.access_token(
                audience=f"{API}/" if check == "Audience" else API, scopes=[],
                claims={"note": "x" * 20_000} if check == "Size" else None,
            ),
            LOGTO_ENDPOINT=issuer.endpoint, LOGTO_AUDIENCE=API,
            LOGTO_SWAGGER_CLIENT_ID="stranger" if check == "Application" else "local-spa",
        )  # fmt: skip

    found = next(
        one["advice"]
        for section in shown["sections"]
        for one in section["checks"]
        if one["name"] == check.replace("No scopes", "Scopes") and section["title"] != "Settings"
    )

    assert code == 1
    assert advice in found
    assert "console" not in json.dumps(shown)


@pytest.mark.parametrize(
    ("audience", "status", "advice"),
    [
        ("my-api", "failed", "give the local issuer a resource https://… or urn:…, with fastapi-logto dev --audience"),
        (f"{API}/", "warning", "Compare it with the resources on the page of the local issuer, "),
    ],
)
def test_an_audience_that_may_be_a_mistake_is_explained_for_a_local_issuer(
    cli: RunCli, audience: str, status: str, advice: str
) -> None:
    with serve_issuer() as issuer:
        _, shown = run_doctor(cli, LOGTO_ENDPOINT=issuer.endpoint, LOGTO_AUDIENCE=audience)

    (check,) = [one for section in shown["sections"] if section["title"] == "Settings" for one in section["checks"]]
    assert check["status"] == status
    assert advice in check["advice"]
    assert "console" not in json.dumps(shown["sections"])


def test_the_token_is_sent_nowhere(cli: RunCli) -> None:
    with serve_captured() as server:
        cli(
            "doctor", "--token-stdin", stdin=captured.TOKENS["user_reader_api"].token,
            LOGTO_ENDPOINT="http://127.0.0.1:3001", LOGTO_FETCH_ENDPOINT=server.endpoint, LOGTO_AUDIENCE=API,
        )  # fmt: skip

    assert {request.method for request in server.requests} == {"GET"}
    assert all("authorization" not in request.headers for request in server.requests)
    # A local issuer lists its users at "/".
    assert server.counts.keys() == {DISCOVERY_PATH, JWKS_PATH, "/"}


def test_a_real_token_of_logto_is_accepted(cli: RunCli) -> None:
    with serve_captured() as server:
        ended = cli(
            "doctor", "--token", stdin=f"  Bearer {captured.TOKENS['user_reader_api'].token}\n",
            LOGTO_ENDPOINT="http://127.0.0.1:3001", LOGTO_FETCH_ENDPOINT=server.endpoint, LOGTO_AUDIENCE=API,
        )  # fmt: skip

    assert ended.code == 0
    assert "valid, checked with AWS-LC" in ended.out


def test_no_token_is_a_wrong_usage(cli: RunCli) -> None:
    ended = cli("doctor", "--token-stdin", stdin="  \n", LOGTO_ENDPOINT="https://x.example", LOGTO_AUDIENCE=API)

    assert (ended.code, ended.out) == (2, "")
    assert ended.err == "fastapi-logto: standard input: expected an access token, found nothing\n"


def test_an_input_longer_than_any_token_is_a_wrong_usage(cli: RunCli) -> None:
    ended = cli("doctor", "--token-stdin", stdin="x" * 300_000)

    assert ended.code == 2
    assert "found more than 262144 bytes" in ended.err


@pytest.mark.parametrize("url", ["ftp://127.0.0.1/docs", "/docs", "http://", "http://[", "http://127.0.0.1:0/docs"])
def test_the_url_of_the_docs_page_is_a_url(cli: RunCli, url: str) -> None:
    ended = cli("doctor", "--docs-url", url)

    expected = f"--docs-url: expected a URL such as http://127.0.0.1:8000/docs, found '{url}'"
    assert (ended.code, ended.out, ended.err) == (2, "", f"fastapi-logto: {expected}\n")


def test_a_failed_fetch_is_reported_and_not_logged(cli: RunCli) -> None:
    assert cli("doctor").code == 2
    assert any(isinstance(one, logging.NullHandler) for one in logging.getLogger("fastapi_logto").handlers)
