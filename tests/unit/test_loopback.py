"""Only the literal loopback addresses and exactly `localhost` are this machine, in every place that decides it."""

import pytest

from fastapi_logto.errors import SettingsError
from fastapi_logto.loopback import is_loopback
from fastapi_logto.settings import LogtoSettings
from fastapi_logto.testing.issuer.serving import listen
from tests.conftest import RunCli
from tests.tenants import API

LOOPBACK = ("127.0.0.1", "127.8.9.10", "127.255.255.255", "::1", "0:0:0:0:0:0:0:1", "localhost", "LocalHost")
OTHER = (
    "",
    "x.localhost",
    "localhost.",
    ".localhost",
    "localhost.localdomain",
    "localhost.example.com",
    "notlocalhost",
    "localhos\u0442",
    "ip6-localhost",
    "127.0.0.1.",
    "127.0.0.1.example.com",
    "127.1",
    "2130706433",
    "0x7f000001",
    "0177.0.0.1",
    "127.0.0.01",
    "\uff11\uff12\uff17.0.0.1",
    "0.0.0.0",  # noqa: S104 - a host to refuse
    "0",
    "128.0.0.1",
    "10.0.0.1",
    "::",
    "::2",
    "::1%lo",
    "[::1]",
    "::ffff:127.0.0.1",
    "::ffff:7f00:1",
    "::127.0.0.1",
    "fe80::1",
    "127.0.0.1/8",
)


@pytest.mark.parametrize("host", LOOPBACK)
def test_a_literal_loopback_address_and_localhost_are_this_machine(host: str) -> None:
    assert is_loopback(host) is True


@pytest.mark.parametrize("host", OTHER)
def test_no_other_name_and_no_other_spelling_is_this_machine(host: str) -> None:
    assert is_loopback(host) is False


# Those that a URL can have; the others are refused as invalid URLs.
IN_URLS = (
    "x.localhost",
    "localhost.",
    "localhost.example.com",
    "127.1",
    "2130706433",
    "0177.0.0.1",
    "0.0.0.0",  # noqa: S104 - a host to refuse
    "[::ffff:127.0.0.1]",
    "[::2]",
)


@pytest.mark.parametrize("field", ["endpoint", "fetch_endpoint", "allowed_jwks_origins", "public_url"])
@pytest.mark.parametrize("host", IN_URLS)
def test_plain_http_to_a_name_that_dns_may_resolve_is_refused(host: str, field: str) -> None:
    arguments = {"endpoint": "https://tenant.logto.app", "audience": API, field: f"http://{host}:3001"}

    with pytest.raises(SettingsError, match=rf"\ALOGTO_{field.upper()} .*: expected https, or http on a loopback"):
        LogtoSettings(**arguments)  # type: ignore[arg-type] # pyright: ignore[reportArgumentType] - one field of several


@pytest.mark.parametrize("host", OTHER)
def test_a_local_issuer_listens_on_this_machine_alone(host: str) -> None:
    with pytest.raises(ValueError, match=r"\Ahost: expected a loopback address"):
        listen(host=host, port=0, allow_remote=False)


def test_the_sign_in_without_a_password_is_tried_on_this_machine_alone(cli: RunCli) -> None:
    ended = cli(
        "token", "--user", "alice",
        LOGTO_ENDPOINT="http://logto.localhost:3001", LOGTO_AUDIENCE=API, LOGTO_ALLOW_HTTP="true",
    )  # fmt: skip

    assert (ended.code, ended.out) == (2, "")
    assert "expected a local issuer for --user, found http://logto.localhost:3001" in ended.err
