"""Invalid settings stop the application at its start, with an error that names the variable to correct."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import pytest
from pydantic import ValidationError

from fastapi_logto import LogtoAuth
from fastapi_logto.errors import LogtoError, SettingsError
from fastapi_logto.settings import LogtoSettings, SettingsArguments

ENDPOINT = "https://tenant.logto.app"
AUDIENCE = "https://api.example.com"
GOOD: Mapping[str, object] = {"endpoint": ENDPOINT, "audience": AUDIENCE}
PLAIN_HTTP = (
    "expected https, or http on a loopback address only; with plain http, anyone on the network path can replace the "
    "keys (the setting allow_http allows it inside a closed network)"
)
ALGORITHMS = (
    "Input should be 'ES256', 'ES384', 'ES512', 'RS256', 'RS384', 'RS512', 'PS256', 'PS384', 'PS512', 'EdDSA' or "
    "'Ed25519'"
)
NO_CREDENTIALS = "expected a URL without credentials, query, fragment or special characters"
NO_ENTRY = "expected at least one entry, none of them empty"
NOT_SHOWN = "a string of {} characters, not shown because it may contain credentials"


def build(**changes: object) -> LogtoSettings:
    return LogtoSettings(**cast("SettingsArguments", {**GOOD, **changes}))


def set_environment(monkeypatch: pytest.MonkeyPatch, **values: str) -> None:
    for name, text in {"endpoint": ENDPOINT, "audience": AUDIENCE, **values}.items():
        monkeypatch.setenv(f"LOGTO_{name.upper()}", text)


def example_of(name: str) -> str:
    return str((LogtoSettings.model_fields[name].examples or [""])[0])


def error_line(name: str, *, expected: str, found: str) -> str:
    variable = f"LOGTO_{name.upper()}"
    return f"{variable} (argument {name}): {expected}; found {found}; for example {variable}={example_of(name)}"


def missing_line(name: str) -> str:
    return f'argument {name}: {name} is required; found nothing; for example {name}="{example_of(name)}"'


@dataclass(frozen=True, slots=True, kw_only=True)
class Accepted:
    """A value that a field accepts, as an argument and as the text of its variable."""

    field: str
    argument: object
    text: str
    value: object


ACCEPTED = (
    Accepted(field="endpoint", argument=ENDPOINT, text=ENDPOINT, value=ENDPOINT),
    Accepted(field="audience", argument=AUDIENCE, text=AUDIENCE, value=(AUDIENCE,)),
    Accepted(field="audience", argument=["a", "b"], text="a, b,", value=("a", "b")),
    Accepted(field="audience", argument=("a", "b"), text='["a", "b"]', value=("a", "b")),
    Accepted(field="audience", argument={"a"}, text=" a ", value=("a",)),
    Accepted(field="audience", argument=("a,b",), text='["a,b"]', value=("a,b",)),
    Accepted(
        field="issuers",
        argument="https://auth.example.com/oidc",
        text="https://auth.example.com/oidc",
        value=("https://auth.example.com/oidc",),
    ),
    Accepted(
        field="issuers",
        argument=["https://a.example/oidc", "http://b.example/oidc"],
        text="https://a.example/oidc,http://b.example/oidc",
        value=("https://a.example/oidc", "http://b.example/oidc"),
    ),
    Accepted(field="issuers", argument=(), text="[]", value=()),
    Accepted(
        field="fetch_endpoint",
        argument="https://inside.example/oidc/",
        text="https://inside.example/oidc/",
        value="https://inside.example",
    ),
    Accepted(field="allow_http", argument=True, text="true", value=True),
    Accepted(field="allow_http", argument=False, text="0", value=False),
    Accepted(
        field="allowed_jwks_origins",
        argument="https://keys.example.com",
        text="https://keys.example.com",
        value=("https://keys.example.com",),
    ),
    Accepted(field="algorithms", argument="ES256", text="ES256", value=("ES256",)),
    Accepted(field="algorithms", argument=["EdDSA", "PS512"], text="EdDSA,PS512", value=("EdDSA", "PS512")),
    Accepted(field="token_types", argument="JWT", text="JWT", value=("JWT",)),
    Accepted(
        field="token_types", argument=["at+jwt", "absent"], text='["at+jwt","absent"]', value=("at+jwt", "absent")
    ),
    Accepted(field="required_claims", argument=(), text="[]", value=()),
    Accepted(field="required_claims", argument="jti", text="jti", value=("jti",)),
    Accepted(field="leeway_seconds", argument=0, text="0", value=0.0),
    Accepted(field="leeway_seconds", argument=60, text="60", value=60.0),
    Accepted(field="leeway_seconds", argument=2.5, text="2.5", value=2.5),
    Accepted(field="max_token_bytes", argument=1024, text="1024", value=1024),
    Accepted(field="max_token_bytes", argument=131_072, text="131072", value=131_072),
    Accepted(field="keys_ttl_seconds", argument=1, text="1", value=1.0),
    Accepted(field="keys_ttl_seconds", argument=86_400, text="86400", value=86_400.0),
    Accepted(field="keys_cooldown_seconds", argument=1, text="1", value=1.0),
    Accepted(field="keys_cooldown_seconds", argument=3600, text="3600", value=3600.0),
    Accepted(field="keys_max_stale_seconds", argument=0, text="0", value=0.0),
    Accepted(field="keys_max_stale_seconds", argument=604_800, text="604800", value=604_800.0),
    Accepted(field="fetch_timeout_seconds", argument=0.1, text="0.1", value=0.1),
    Accepted(field="fetch_timeout_seconds", argument=60, text="60", value=60.0),
    Accepted(field="token_cache_size", argument=0, text="0", value=0),
    Accepted(field="token_cache_size", argument=10_000_000, text="10000000", value=10_000_000),
    Accepted(field="token_cache_bytes", argument=0, text="0", value=0),
    Accepted(field="token_cache_bytes", argument=2**40, text="1099511627776", value=2**40),
    Accepted(field="accept_organization_tokens", argument=False, text="false", value=False),
    Accepted(field="accept_organization_tokens", argument=True, text="true", value=True),
    Accepted(field="accept_subprotocol_tokens", argument=True, text="true", value=True),
    Accepted(field="max_waiting_verifications", argument=1, text="1", value=1),
    Accepted(field="max_waiting_verifications", argument=100_000, text="100000", value=100_000),
    Accepted(field="swagger_client_id", argument="spa,1", text="spa,1", value="spa,1"),
    Accepted(
        field="public_url", argument="https://a.example/v1/", text="https://a.example/v1/", value="https://a.example/v1"
    ),
    Accepted(
        field="public_url", argument="https://a.example/X//", text="https://a.example/X//", value="https://a.example/X"
    ),
    Accepted(
        field="public_url",
        argument="http://127.0.0.1:8000",
        text="http://127.0.0.1:8000",
        value="http://127.0.0.1:8000",
    ),
    Accepted(
        field="documentation_url",
        argument="https://a.example/d/",
        text="https://a.example/d/",
        value="https://a.example/d/",
    ),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused:
    """A value that a field refuses; `text` is `None` if a variable can't have this value."""

    field: str
    argument: object
    text: str | None
    expected: str
    found: str


def _refused_url(field: str, url: str, expected: str, *, found: str | None = None) -> Refused:
    return Refused(field=field, argument=url, text=url, expected=expected, found=found or f"'{url}'")


def _refused_number(field: str, number: float, expected: str) -> Refused:
    return Refused(field=field, argument=number, text=str(number), expected=expected, found=str(number))


REFUSED = (
    _refused_url("endpoint", "tenant.logto.app", "expected a URL that begins with https://"),
    _refused_url("endpoint", "ftp://tenant.logto.app", "expected a URL that begins with https://"),
    _refused_url("endpoint", "https://", "expected a URL that begins with https://"),
    _refused_url("endpoint", "https://tenant.logto.app:0", "expected a URL that begins with https://"),
    _refused_url("endpoint", "https://tenant.logto.app:99999", "expected a URL"),
    _refused_url("endpoint", "https://[::1", "expected a URL"),
    _refused_url(
        "endpoint", "https://tenant.logto.app/a b", "expected a URL without spaces, quotes, brackets or backslashes"
    ),
    _refused_url("endpoint", "https://m\xfcller.example", NO_CREDENTIALS, found=r"'https://m\xfcller.example'"),
    _refused_url("endpoint", "https://a.example/\x7f", NO_CREDENTIALS, found=r"'https://a.example/\x7f'"),
    _refused_url("endpoint", "https://a.exam\nple", NO_CREDENTIALS, found=r"'https://a.exam\nple'"),
    _refused_url("endpoint", "https://me:hunter2@a.example", NO_CREDENTIALS, found=NOT_SHOWN.format(28)),
    _refused_url("endpoint", "https://:hunter2@a.example", NO_CREDENTIALS, found=NOT_SHOWN.format(26)),
    _refused_url("endpoint", "https://a.example?key=hunter2", NO_CREDENTIALS, found=NOT_SHOWN.format(29)),
    _refused_url("endpoint", "https://a.example#hunter2", NO_CREDENTIALS, found=NOT_SHOWN.format(25)),
    _refused_url("fetch_endpoint", "logto:3001", "expected a URL that begins with https://"),
    _refused_url("fetch_endpoint", "http://me:hunter2@logto:3001", NO_CREDENTIALS, found=NOT_SHOWN.format(28)),
    _refused_url(
        "endpoint",
        "https://tenant.logto.app/oidc/.well-known/openid-configuration",
        "expected the URL of the tenant, not that of its discovery document",
    ),
    _refused_url("issuers", "auth.example.com/oidc", "expected a URL that begins with https://"),
    _refused_url("issuers", "https://me:hunter2@a.example/oidc", NO_CREDENTIALS, found=NOT_SHOWN.format(33)),
    _refused_url("allowed_jwks_origins", "keys.example.com", "expected a URL that begins with https://"),
    _refused_url("allowed_jwks_origins", "https://a.example?hunter2", NO_CREDENTIALS, found=NOT_SHOWN.format(25)),
    Refused(field="endpoint", argument=7, text=None, expected="Input should be a valid string", found="7"),
    Refused(field="endpoint", argument=None, text=None, expected="Input should be a valid string", found="nothing"),
    Refused(field="audience", argument=[], text=None, expected=NO_ENTRY, found="[]"),
    Refused(field="audience", argument="", text=None, expected=NO_ENTRY, found="''"),
    *(
        Refused(
            field="audience",
            argument=["a", name],
            text=f"a,{name}",
            expected="expected the resource indicator of the API; organization tokens are accepted by routes with "
            "auth.require_organization(...)",
            found=f"['a', '{name}']",
        )
        for name in ("urn:logto:organization:a", "urn:logto:resource:organizations")
    ),
    Refused(field="audience", argument=["a", " "], text='["a", " "]', expected=NO_ENTRY, found="['a', ' ']"),
    Refused(field="audience", argument=["a", 7], text='["a", 7]', expected="Input should be a valid string", found="7"),
    Refused(field="algorithms", argument="none", text="none", expected=ALGORITHMS, found="'none'"),
    Refused(field="algorithms", argument=["ES384", "HS256"], text="ES384,HS256", expected=ALGORITHMS, found="'HS256'"),
    Refused(field="algorithms", argument="es384", text="es384", expected=ALGORITHMS, found="'es384'"),
    Refused(
        field="algorithms",
        argument=[],
        text="[]",
        expected="expected at least one entry, none of them empty",
        found="[]",
    ),
    Refused(
        field="token_types",
        argument="logout+jwt",
        text="logout+jwt",
        expected="Input should be 'at+jwt', 'JWT' or 'absent'",
        found="'logout+jwt'",
    ),
    Refused(
        field="token_types",
        argument=[],
        text="[]",
        expected="expected at least one entry, none of them empty",
        found="[]",
    ),
    Refused(field="required_claims", argument=[1], text="[1]", expected="Input should be a valid string", found="1"),
    Refused(
        field="allow_http",
        argument="perhaps",
        text="perhaps",
        expected="Input should be a valid boolean, unable to interpret input",
        found="'perhaps'",
    ),
    _refused_number("leeway_seconds", -1, "Input should be greater than or equal to 0"),
    _refused_number("leeway_seconds", 60.5, "Input should be less than or equal to 60"),
    _refused_number("leeway_seconds", float("nan"), "Input should be a finite number"),
    _refused_number("keys_max_stale_seconds", float("inf"), "Input should be a finite number"),
    _refused_number("max_token_bytes", 1023, "Input should be greater than or equal to 1024"),
    _refused_number("max_token_bytes", 131_073, "Input should be less than or equal to 131072"),
    _refused_number("keys_ttl_seconds", 0.5, "Input should be greater than or equal to 1"),
    _refused_number("keys_ttl_seconds", 86_401, "Input should be less than or equal to 86400"),
    _refused_number("keys_cooldown_seconds", 0, "Input should be greater than or equal to 1"),
    _refused_number("keys_cooldown_seconds", 3601, "Input should be less than or equal to 3600"),
    _refused_number("keys_max_stale_seconds", -1, "Input should be greater than or equal to 0"),
    _refused_number("keys_max_stale_seconds", 604_801, "Input should be less than or equal to 604800"),
    _refused_number("fetch_timeout_seconds", 0, "Input should be greater than 0"),
    _refused_number("fetch_timeout_seconds", 61, "Input should be less than or equal to 60"),
    _refused_number("token_cache_size", -1, "Input should be greater than or equal to 0"),
    _refused_number("token_cache_size", 10_000_001, "Input should be less than or equal to 10000000"),
    _refused_number("token_cache_bytes", -1, "Input should be greater than or equal to 0"),
    _refused_number("token_cache_bytes", 2**40 + 1, "Input should be less than or equal to 1099511627776"),
    _refused_number("max_waiting_verifications", 0, "Input should be greater than or equal to 1"),
    _refused_number("max_waiting_verifications", 100_001, "Input should be less than or equal to 100000"),
    Refused(
        field="leeway_seconds",
        argument="soon",
        text="soon",
        expected="Input should be a valid number, unable to parse string as a number",
        found="'soon'",
    ),
    Refused(
        field="swagger_client_id",
        argument="",
        text=None,
        expected="String should have at least 1 character",
        found="''",
    ),
    Refused(
        field="public_url",
        argument="http://api.example.com",
        text="http://api.example.com",
        expected="expected https, or http on a loopback address only; with plain http, anyone on the network path can "
        "send clients to another issuer (the setting allow_http allows it inside a closed network)",
        found="'http://api.example.com'",
    ),
    Refused(
        field="public_url",
        argument="https://api.example.com/?a=1",
        text="https://api.example.com/?a=1",
        expected="expected a URL without credentials, query, fragment or special characters",
        found=NOT_SHOWN.format(28),
    ),
    Refused(
        field="documentation_url",
        argument="docs",
        text="docs",
        expected="expected a URL that begins with https://",
        found="'docs'",
    ),
)


@pytest.mark.parametrize("row", ACCEPTED, ids=lambda row: f"{row.field}={row.text}")
def test_a_field_takes_its_argument(row: Accepted) -> None:
    assert getattr(build(**{row.field: row.argument}), row.field) == row.value


@pytest.mark.parametrize("row", ACCEPTED, ids=lambda row: f"{row.field}={row.text}")
def test_a_field_takes_its_variable(row: Accepted, monkeypatch: pytest.MonkeyPatch) -> None:
    set_environment(monkeypatch, **{row.field: row.text})

    assert getattr(LogtoSettings.from_environment(), row.field) == row.value


@pytest.mark.parametrize("row", REFUSED, ids=lambda row: f"{row.field}-{row.found}")
def test_a_field_refuses_an_invalid_argument_and_says_how_to_correct_it(row: Refused) -> None:
    with pytest.raises(SettingsError) as caught:
        build(**{row.field: row.argument})

    assert str(caught.value) == error_line(row.field, expected=row.expected, found=row.found)


@pytest.mark.parametrize(
    "row", [row for row in REFUSED if row.text is not None], ids=lambda row: f"{row.field}={row.text}"
)
def test_a_field_refuses_an_invalid_variable_and_says_how_to_correct_it(
    row: Refused, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert row.text is not None
    set_environment(monkeypatch, **{row.field: row.text})
    is_number_or_one_text = isinstance(row.argument, int | float) and not isinstance(row.argument, bool)
    found = f"'{row.found}'" if is_number_or_one_text else row.found

    with pytest.raises(SettingsError) as caught:
        LogtoSettings.from_environment()

    assert str(caught.value) == error_line(row.field, expected=row.expected, found=found)


def test_an_omitted_field_has_the_documented_default() -> None:
    assert build().model_dump() == {
        "endpoint": ENDPOINT,
        "audience": (AUDIENCE,),
        "issuers": (),
        "fetch_endpoint": None,
        "allow_http": False,
        "allowed_jwks_origins": (),
        "algorithms": ("ES256", "ES384", "ES512", "RS256"),
        "token_types": ("at+jwt",),
        "required_claims": ("client_id", "iat", "jti"),
        "leeway_seconds": 10,
        "max_token_bytes": 16_384,
        "keys_ttl_seconds": 300,
        "keys_cooldown_seconds": 30,
        "keys_max_stale_seconds": 3600,
        "fetch_timeout_seconds": 5,
        "token_cache_size": 10_000,
        "token_cache_bytes": 64 * 1024 * 1024,
        "accept_organization_tokens": True,
        "accept_subprotocol_tokens": False,
        "max_waiting_verifications": 400,
        "swagger_client_id": None,
        "public_url": None,
        "documentation_url": None,
    }


@pytest.mark.parametrize(
    ("spelling", "endpoint"),
    [
        ("https://tenant.logto.app", "https://tenant.logto.app"),
        ("https://tenant.logto.app/", "https://tenant.logto.app"),
        ("https://tenant.logto.app//", "https://tenant.logto.app"),
        ("https://tenant.logto.app/oidc", "https://tenant.logto.app"),
        ("https://tenant.logto.app/oidc/", "https://tenant.logto.app"),
        (" https://tenant.logto.app ", "https://tenant.logto.app"),
        ("https://auth.example.com/tenant", "https://auth.example.com/tenant"),
        ("https://auth.example.com/tenant/", "https://auth.example.com/tenant"),
        ("https://auth.example.com/tenant/oidc", "https://auth.example.com/tenant"),
        ("https://auth.example.com/tenant/oidc/", "https://auth.example.com/tenant"),
        ("https://auth.example.com/myoidc", "https://auth.example.com/myoidc"),
        ("https://auth.example.com:8443/oidc", "https://auth.example.com:8443"),
    ],
)
def test_spellings_of_one_endpoint_mean_the_same(spelling: str, endpoint: str, monkeypatch: pytest.MonkeyPatch) -> None:
    set_environment(monkeypatch, endpoint=spelling)

    for settings in (build(endpoint=spelling), LogtoSettings.from_environment()):
        assert settings.endpoint == endpoint
        assert settings.issuer == f"{endpoint}/oidc"
        assert settings.accepted_issuers == {f"{endpoint}/oidc"}
        assert settings.fetch_base == endpoint


def test_further_issuers_are_accepted_besides_the_tenants_own_exactly() -> None:
    settings = build(issuers=["https://auth.example.com/oidc", "https://other.example.com/oidc/"])

    assert settings.issuer == f"{ENDPOINT}/oidc"
    assert settings.accepted_issuers == {
        f"{ENDPOINT}/oidc",
        "https://auth.example.com/oidc",
        "https://other.example.com/oidc/",
    }


def test_keys_are_fetched_from_the_fetch_endpoint_and_the_issuer_stays() -> None:
    settings = build(fetch_endpoint="https://inside.example/")

    assert settings.fetch_base == "https://inside.example"
    assert settings.accepted_issuers == {f"{ENDPOINT}/oidc"}


def test_a_comma_in_an_argument_is_part_of_the_text() -> None:
    assert build(audience="a,b").audience == ("a,b",)


def test_the_commas_of_a_variable_separate_its_entries(monkeypatch: pytest.MonkeyPatch) -> None:
    set_environment(monkeypatch, audience=f"{AUDIENCE} , https://other.example.com,,")

    assert LogtoSettings.from_environment().audience == (AUDIENCE, "https://other.example.com")


@pytest.mark.parametrize("text", ['["https://api.example.com",', "[https://api.example.com]"])
def test_a_variable_that_begins_like_a_json_list_and_is_not_one_is_refused(
    text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # As one audience it would refuse every token, without an error at the start.
    set_environment(monkeypatch, audience=text)

    with pytest.raises(SettingsError, match=r"\ALOGTO_AUDIENCE \(argument audience\): "):
        LogtoSettings.from_environment()


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1:3001",
        "http://127.8.9.10",
        "http://[::1]:3001",
        "http://localhost:3001",
        "https://tenant.logto.app",
    ],
)
def test_keys_may_be_fetched_over_https_or_from_this_host(url: str) -> None:
    assert build(endpoint=url).fetch_base == url
    assert build(fetch_endpoint=url).fetch_base == url
    assert build(allowed_jwks_origins=url).allowed_jwks_origins == (url,)


def test_scheme_and_host_of_an_endpoint_mean_the_same_in_any_case() -> None:
    settings = build(endpoint="HTTP://LocalHost:3001/Tenant", issuers="https://Auth.example.com/oidc")

    assert settings.accepted_issuers == {"http://localhost:3001/Tenant/oidc", "https://Auth.example.com/oidc"}


@pytest.mark.parametrize(
    "endpoint", ["https://a\\b", "https://a/{b}", 'https://a/"b"', "https://a/<b>", "https://a/b|c"]
)
def test_an_endpoint_with_characters_that_no_url_has_is_refused(endpoint: str) -> None:
    with pytest.raises(SettingsError, match="without spaces, quotes, brackets or backslashes"):
        build(endpoint=endpoint)


def test_a_list_with_a_hundred_thousand_brackets_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOGTO_ENDPOINT", "https://a.logto.app")
    monkeypatch.setenv("LOGTO_AUDIENCE", "[" * 100_000)

    with pytest.raises(SettingsError, match=r"LOGTO_AUDIENCE .argument audience.: expected a JSON list"):
        LogtoSettings.from_environment()


PLAIN_HTTP_URLS = [
    "http://tenant.logto.app",
    "http://10.0.0.1",
    "http://0.0.0.0:3001",
    "http://127.0.0.1.example.com",
    "http://localhost.example.com",
    "http://notlocalhost",
    "http://[2001:db8::1]",
]


@pytest.mark.parametrize("url", PLAIN_HTTP_URLS)
@pytest.mark.parametrize("field", ["endpoint", "fetch_endpoint", "allowed_jwks_origins"])
def test_plain_http_to_another_host_is_refused(field: str, url: str) -> None:
    with pytest.raises(SettingsError, match=re.escape(PLAIN_HTTP)):
        build(**{field: url})


@pytest.mark.parametrize("field", ["endpoint", "fetch_endpoint", "allowed_jwks_origins"])
def test_the_refusal_of_plain_http_names_the_setting_that_has_it(field: str) -> None:
    with pytest.raises(SettingsError) as caught:
        build(**{field: "http://logto:3001"})

    assert re.findall(r"^(\w+) \(argument", str(caught.value), re.MULTILINE) == [f"LOGTO_{field.upper()}"]


@pytest.mark.parametrize("url", PLAIN_HTTP_URLS)
def test_plain_http_to_another_host_can_be_allowed(url: str) -> None:
    settings = build(endpoint=url, allowed_jwks_origins=[url], allow_http=True)

    assert (settings.fetch_base, settings.allowed_jwks_origins) == (url, (url,))


def test_an_issuer_over_plain_http_is_a_name_and_may_be_fetched_from_elsewhere() -> None:
    settings = build(endpoint="http://logto.internal", fetch_endpoint="https://inside.example")

    assert settings.issuer == "http://logto.internal/oidc"


def test_one_error_names_every_invalid_field() -> None:
    arguments = {
        "endpoint": "tenant",
        "algorithms": ["none", "RS256", "HS256"],
        "leeway_seconds": 61,
        "audiences": "typing error",
    }

    with pytest.raises(SettingsError) as caught:
        LogtoSettings(**cast("SettingsArguments", arguments))

    assert str(caught.value).splitlines() == [
        error_line("endpoint", expected="expected a URL that begins with https://", found="'tenant'"),
        missing_line("audience"),
        error_line("algorithms", expected=ALGORITHMS, found="'none'"),
        error_line("algorithms", expected=ALGORITHMS, found="'HS256'"),
        error_line("leeway_seconds", expected="Input should be less than or equal to 60", found="61"),
        "unknown setting: audiences",
        (
            "LOGTO_ variables: not read, because settings are passed as arguments (endpoint, algorithms, "
            "leeway_seconds, audiences); pass audience too, or set LOGTO_ENDPOINT, LOGTO_ALGORITHMS, "
            "LOGTO_LEEWAY_SECONDS and pass no settings: LogtoAuth() and LogtoSettings.from_environment() read the "
            "variables"
        ),
    ]


def test_one_error_names_plain_http_and_the_missing_audience() -> None:
    with pytest.raises(SettingsError) as caught:
        LogtoSettings(endpoint="http://tenant.logto.app")

    assert re.findall(r"^(?:LOGTO_\w+ \()?argument (\w+)", str(caught.value), re.MULTILINE) == ["endpoint", "audience"]


@pytest.mark.parametrize("variables", [dict(GOOD), {}], ids=["set", "not set"])
@pytest.mark.parametrize("build_one", [LogtoAuth, LogtoSettings])
def test_missing_arguments_are_not_reported_as_missing_variables(
    build_one: Callable[..., object], variables: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, text in variables.items():
        monkeypatch.setenv(f"LOGTO_{name.upper()}", text)

    with pytest.raises(SettingsError) as caught:
        build_one(leeway_seconds=5)

    assert str(caught.value).splitlines() == [
        missing_line("endpoint"),
        missing_line("audience"),
        (
            "LOGTO_ variables: not read, because settings are passed as arguments (leeway_seconds); pass endpoint and "
            "audience too, or set LOGTO_LEEWAY_SECONDS and pass no settings: LogtoAuth() and "
            "LogtoSettings.from_environment() read the variables"
        ),
    ]


def test_settings_without_arguments_say_how_the_variables_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    set_environment(monkeypatch)

    with pytest.raises(SettingsError) as caught:
        LogtoSettings()

    assert str(caught.value).splitlines() == [
        missing_line("endpoint"),
        missing_line("audience"),
        (
            "LOGTO_ variables: not read by LogtoSettings(); pass endpoint and audience, or call "
            "LogtoSettings.from_environment(), which reads them"
        ),
    ]


def test_an_error_of_a_misspelt_argument_names_no_variable() -> None:
    with pytest.raises(SettingsError) as caught:
        LogtoSettings(**cast("SettingsArguments", {"audiences": AUDIENCE}))

    assert str(caught.value).splitlines()[-1] == (
        "LOGTO_ variables: not read, because settings are passed as arguments (audiences); pass endpoint and audience "
        "too, or pass no settings: LogtoAuth() and LogtoSettings.from_environment() read the variables"
    )


def test_one_error_names_a_broken_list_and_the_missing_endpoint(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOGTO_AUDIENCE", '["a",')

    with pytest.raises(SettingsError) as caught:
        LogtoSettings.from_environment()

    named = re.findall(r"^(\w+) \(argument", str(caught.value), re.MULTILINE)
    assert sorted(named) == ["LOGTO_AUDIENCE", "LOGTO_ENDPOINT"]


def test_without_endpoint_and_audience_there_are_no_settings() -> None:
    with pytest.raises(SettingsError) as caught:
        LogtoSettings.from_environment()

    assert str(caught.value) == (
        "LOGTO_ENDPOINT (argument endpoint): endpoint is required; found nothing; "
        "for example LOGTO_ENDPOINT=https://tenant-id.logto.app\n"
        "LOGTO_AUDIENCE (argument audience): audience is required; found nothing; "
        "for example LOGTO_AUDIENCE=https://api.example.com"
    )


def test_a_settings_error_is_a_logto_error_and_a_value_error() -> None:
    assert issubclass(SettingsError, LogtoError)
    assert issubclass(SettingsError, ValueError)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("endpoint", "https://me:hunter2@a.example"),
        ("issuers", ["https://a.example/oidc", "https://b.example/oidc?key=hunter2"]),
        ("audience", ["https://me:hunter2@api.example.com", ""]),
        ("issuers", {"https://me:hunter2@a.example/oidc": True}),
        ("endpoint", ["https://me:hunter2@a.example"]),
        ("endpoint", b"https://me:hunter2@a.example/\xff"),
    ],
)
def test_credentials_in_a_url_are_never_shown(field: str, value: object) -> None:
    with pytest.raises(SettingsError, match=f"LOGTO_{field.upper()}") as caught:
        build(**{field: value})

    assert "hunter2" not in f"{caught.value} {caught.value!r} {caught.value.__cause__}"


def test_an_empty_variable_counts_as_not_set(monkeypatch: pytest.MonkeyPatch) -> None:
    set_environment(monkeypatch, leeway_seconds="", issuers="  ", fetch_endpoint="", swagger_client_id="")

    settings = LogtoSettings.from_environment()

    assert settings == build()
    assert settings.model_fields_set == {"endpoint", "audience"}


def test_an_empty_variable_leaves_a_required_field_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    set_environment(monkeypatch, audience="")

    with pytest.raises(SettingsError) as caught:
        LogtoSettings.from_environment()

    assert str(caught.value) == error_line("audience", expected="audience is required", found="nothing")


def test_arguments_never_read_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    set_environment(monkeypatch, issuers="https://stranger.example/oidc", leeway_seconds="60", allow_http="true")
    (tmp_path / ".env").write_text("LOGTO_ALGORITHMS=RS256\n", encoding="utf-8")
    monkeypatch.chdir(tmp_path)

    settings = LogtoSettings(endpoint="https://other.logto.app", audience="https://other.example.com")

    assert settings.model_fields_set == {"endpoint", "audience"}
    assert settings.accepted_issuers == {"https://other.logto.app/oidc"}
    assert (settings.leeway_seconds, settings.allow_http, settings.algorithms) == (
        10,
        False,
        ("ES256", "ES384", "ES512", "RS256"),
    )


@pytest.mark.parametrize(
    "field",
    sorted(set(LogtoSettings.model_fields) - {"allow_http", "accept_organization_tokens", "accept_subprotocol_tokens"}),
)
def test_a_boolean_is_no_number_and_no_text(field: str) -> None:
    with pytest.raises(SettingsError, match="found True"):
        build(**{field: True})


def test_unknown_variables_of_the_environment_are_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    set_environment(monkeypatch, app_secret="hunter2", issuer="https://stranger.example/oidc")

    assert LogtoSettings.from_environment() == build()


def test_settings_can_not_be_changed() -> None:
    settings = build()

    with pytest.raises(ValidationError) as caught:
        settings.allow_http = True

    assert [problem["type"] for problem in caught.value.errors()] == ["frozen_instance"]
    assert settings.allow_http is False
    assert hash(settings) == hash(build())


def test_the_keyword_arguments_are_the_models_fields() -> None:
    assert set(SettingsArguments.__annotations__) == set(LogtoSettings.model_fields)


@pytest.mark.parametrize("name", LogtoSettings.model_fields)
def test_every_field_says_what_it_is(name: str) -> None:
    description = LogtoSettings.model_fields[name].description or ""

    assert description.endswith(".")
    assert len(description) > 20


@pytest.mark.parametrize("name", LogtoSettings.model_fields)
def test_the_example_of_a_field_is_itself_accepted(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    # Each error ends with the example, and a user who copies it must not get another error.
    set_environment(monkeypatch, **{name: example_of(name)})

    assert LogtoSettings.from_environment().model_fields_set == {"endpoint", "audience", name}


@pytest.mark.parametrize("field", ["audience", "algorithms", "token_types", "required_claims", "issuers"])
@pytest.mark.parametrize("text", [",", " , ,"])
def test_a_list_of_empty_entries_is_no_empty_list(field: str, text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A template such as `${A},${B}` with empty variables must not disable a check."""
    for name, value in {"endpoint": "https://a.logto.app", "audience": "a", field: text}.items():
        monkeypatch.setenv(f"LOGTO_{name.upper()}", value)

    with pytest.raises(
        SettingsError, match=rf"argument {field}\): expected at least one entry, none of them empty; found"
    ):
        LogtoSettings.from_environment()


def test_an_error_of_pydantic_itself_shows_no_value() -> None:
    with pytest.raises(ValidationError) as caught:
        # Short, because Pydantic shows the beginning and the end of a longer input only.
        LogtoSettings.model_validate({"endpoint": "a:hunter2@b", "audience": "a"})

    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    "arguments", [{"public_url": "http://a.example"}, {"allowed_jwks_origins": "http://a.example"}]
)
def test_a_fetch_endpoint_allows_plain_http_for_the_endpoint_alone(arguments: dict[str, str]) -> None:
    given: dict[str, object] = {
        "endpoint": "http://a.example",
        "fetch_endpoint": "https://logto.internal",
        "audience": "a",
    }

    assert LogtoSettings.model_validate(given).endpoint == "http://a.example"
    with pytest.raises(ValidationError, match="expected https, or http on a loopback address only"):
        LogtoSettings.model_validate({**given, **arguments})
