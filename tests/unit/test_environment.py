"""The variables of a tenant come from one source, the environment or one `.env` file, and the log names it."""

import logging
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from fastapi_logto.environment import CREDENTIALS, build_variable_name, is_file_or_pipe
from fastapi_logto.errors import SettingsError
from fastapi_logto.settings import LogtoSettings, read_known_variables
from fastapi_logto.testing import LocalIssuer
from tests.captured import Answer, CapturedServer, serve_captured
from tests.conftest import RunCli
from tests.tenants import API, serve

ENDPOINT = "https://tenant.logto.app"
SECRET = "hunter2"
FILE: Mapping[str, str] = {"LOGTO_ENDPOINT": "https://file.logto.app", "LOGTO_AUDIENCE": "https://file.example"}
ENVIRONMENT: Mapping[str, str] = {"LOGTO_ENDPOINT": ENDPOINT, "LOGTO_AUDIENCE": API}


@pytest.fixture(autouse=True)
def folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write_file(variables: Mapping[str, str], name: str = ".env") -> None:
    Path(name).write_text("".join(f"{one}={value}\n" for one, value in variables.items()), encoding="utf-8")


def set_environment(monkeypatch: pytest.MonkeyPatch, variables: Mapping[str, str]) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)


def read_log(caplog: pytest.LogCaptureFixture) -> list[tuple[str, int, str]]:
    return [(one.name, one.levelno, one.getMessage()) for one in caplog.records if one.name.startswith("fastapi_logto")]


KNOWN = (*map(build_variable_name, LogtoSettings.model_fields), *CREDENTIALS)


@pytest.mark.parametrize("name", KNOWN)
def test_one_variable_of_the_environment_is_enough_for_the_file_not_to_be_read(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_file(dict.fromkeys(KNOWN, "of the file"))
    monkeypatch.setenv(name, "of the environment")

    variables = read_known_variables(env_file=".env")

    assert variables.values == {name: "of the environment"}
    assert (variables.source, variables.ignored_file) == ("environment", ".env")


def test_all_variables_come_from_the_file_if_the_environment_sets_none(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    Path(".env").write_text(
        "LOGTO_ENDPOINT=https://file.logto.app\n"
        'export LOGTO_AUDIENCE=\'["https://file.example", "b"]\'\n'
        "LOGTO_LEEWAY_SECONDS=33\n"
        "LOGTO_TOKEN_CACHE_SIZE\n"
        f"DATABASE_PASSWORD={SECRET}\n",
        encoding="utf-8",
    )
    # Kubernetes sets such variables for a service that is named logto, and an empty variable counts as not set.
    set_environment(monkeypatch, {"LOGTO_PORT": "tcp://10.0.0.1:3001", "LOGTO_AUDIENCE": " ", "LOGTO_APP_SECRET": "x"})
    caplog.set_level(logging.INFO)

    settings = LogtoSettings.from_environment(env_file=".env")

    assert (settings.endpoint, settings.audience) == ("https://file.logto.app", ("https://file.example", "b"))
    assert (settings.leeway_seconds, settings.token_cache_size) == (33, 10_000)
    assert read_log(caplog) == [("fastapi_logto", logging.INFO, "settings are read from .env")]


def test_a_file_adds_nothing_to_the_tenant_of_the_environment(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    # A file that someone left or wrote in the folder of a deployment could replace the keys.
    write_file({"LOGTO_FETCH_ENDPOINT": "http://127.0.0.1:1", "LOGTO_TOKEN_TYPES": "at+jwt,JWT,absent"})
    set_environment(monkeypatch, ENVIRONMENT)
    caplog.set_level(logging.INFO)

    settings = LogtoSettings.from_environment(env_file=".env")

    assert settings == LogtoSettings(endpoint=ENDPOINT, audience=API)
    assert read_log(caplog) == [
        ("fastapi_logto", logging.INFO, "settings are read from the environment, .env is not read")
    ]


def test_the_log_names_the_environment_where_there_is_no_file(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    set_environment(monkeypatch, ENVIRONMENT)
    caplog.set_level(logging.INFO)

    for env_file in (None, "missing", "x" * 10_000, Path()):
        assert LogtoSettings.from_environment(env_file=env_file).endpoint == ENDPOINT

    assert {message for _, _, message in read_log(caplog)} == {"settings are read from the environment"}


def test_without_any_variable_nothing_is_logged_and_the_required_ones_are_named(
    caplog: pytest.LogCaptureFixture,
) -> None:
    write_file({"DATABASE_PASSWORD": SECRET})
    caplog.set_level(logging.INFO)

    with pytest.raises(SettingsError) as caught:
        LogtoSettings.from_environment(env_file=".env")

    assert re.findall(r"^(\S+) ", str(caught.value), re.MULTILINE) == ["LOGTO_ENDPOINT", "LOGTO_AUDIENCE"]
    assert read_log(caplog) == []


def test_an_error_says_that_the_file_was_not_read_and_which_variables_are_why(monkeypatch: pytest.MonkeyPatch) -> None:
    write_file({**FILE, "LOGTO_MACHINE_SECRET": SECRET})
    set_environment(monkeypatch, {"LOGTO_SWAGGER_CLIENT_ID": "spa", "LOGTO_MACHINE_SECRET": SECRET})

    with pytest.raises(SettingsError) as caught:
        LogtoSettings.from_environment(env_file=".env")

    lines = str(caught.value).splitlines()
    assert lines[0] == (
        ".env: not read, because the environment sets LOGTO_SWAGGER_CLIENT_ID, LOGTO_MACHINE_SECRET; "
        "set all LOGTO_ variables in one place, the environment or the file"
    )
    assert [line.partition(" ")[0] for line in lines[1:]] == ["LOGTO_ENDPOINT", "LOGTO_AUDIENCE"]
    assert SECRET not in f"{caught.value}{caught.value!r}"


@pytest.mark.parametrize("is_frozen", [False, True], ids=["usual", "frozen"])
def test_the_environment_does_not_read_a_file_unasked(monkeypatch: pytest.MonkeyPatch, *, is_frozen: bool) -> None:
    write_file({**FILE, "LOGTO_LEEWAY_SECONDS": "33"})
    # In a program of PyInstaller, python-dotenv looks for a file in the current folder if it gets none.
    monkeypatch.setattr(sys, "frozen", is_frozen, raising=False)

    with pytest.raises(SettingsError, match="LOGTO_ENDPOINT"):
        LogtoSettings.from_environment()
    set_environment(monkeypatch, ENVIRONMENT)
    assert LogtoSettings.from_environment().leeway_seconds == 10


def test_the_variables_are_not_in_a_repr() -> None:
    write_file({"LOGTO_MACHINE_SECRET": SECRET})

    assert SECRET not in repr(read_known_variables(env_file=".env"))


def test_the_neighbours_in_a_file_are_neither_used_nor_shown() -> None:
    write_file(
        {
            "DATABASE_URL": f"postgres://app:{SECRET}@db/app",
            "LOGTO_APP_SECRET": SECRET,
            "LOGTO_ENDPOINT": "tenant-${LOGTO_APP_SECRET}",
            "LOGTO_LEEWAY_SECONDS": "61",
        }
    )

    with pytest.raises(SettingsError) as caught:
        LogtoSettings.from_environment(env_file=".env")

    named = [line.partition(" ")[0] for line in str(caught.value).splitlines()]
    assert named == ["LOGTO_ENDPOINT", "LOGTO_AUDIENCE", "LOGTO_LEEWAY_SECONDS"]
    assert "found 'tenant-${LOGTO_APP_SECRET}'" in str(caught.value)
    assert SECRET not in f"{caught.value}{caught.value!r}"


def test_a_file_that_is_not_text_is_an_error_that_names_it() -> None:
    Path(".env").write_bytes(b"LOGTO_ENDPOINT=https://a.logto.app\nOTHER=\xff\xfe\n")

    with pytest.raises(
        SettingsError, match=r"\A\.env: expected UTF-8 text, found other bytes; save the file as UTF-8\Z"
    ):
        LogtoSettings.from_environment(env_file=".env")


def test_a_file_that_can_not_be_read_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError

    monkeypatch.setattr("dotenv.dotenv_values", refuse)

    with pytest.raises(SettingsError, match=r"\A\.env: expected a readable file, found PermissionError\Z"):
        LogtoSettings.from_environment(env_file=".env")


@pytest.mark.parametrize("name", ["LOGTO_AUDIENCE", "LOGTO_MACHINE_SECRET"])
def test_a_variable_that_is_not_text_is_named_and_not_shown(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    set_environment(monkeypatch, {**ENVIRONMENT, name: f"{SECRET}\udcff"})

    with pytest.raises(SettingsError) as caught:
        LogtoSettings.from_environment()

    assert str(caught.value) == f"{name}: expected UTF-8 text, found other bytes; set the variable again"


@pytest.mark.parametrize(
    "text",
    ['["a",', "[a]", '["a"], "b": ["c"]', '["a"], "list": ["b"]', '["a"]}', '["a"] ["b"]', "[" * 100_000, "[1e999]"],
    ids=lambda text: text[:20],
)
def test_a_variable_that_begins_like_a_json_list_and_is_not_one_is_refused(
    text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # As one audience it would refuse every token, without an error at the start.
    set_environment(monkeypatch, {**ENVIRONMENT, "LOGTO_AUDIENCE": text})

    with pytest.raises(SettingsError, match=r"\ALOGTO_AUDIENCE \(argument audience\): expected a JSON list such as"):
        LogtoSettings.from_environment()


def test_a_file_may_be_a_pipe_and_no_folder() -> None:
    assert is_file_or_pipe("/dev/null")
    assert not is_file_or_pipe(".")


# The command line: which endpoint gets the secret.


@dataclass(frozen=True, slots=True, kw_only=True)
class Mixture:
    """The variables of a shell and of a stranger's `.env` file, and the output of a command with both."""

    id: str
    environment: Mapping[str, str]
    file: tuple[str, ...]
    says: str


MIXTURES = (
    Mixture(
        id="the shell has the secret",
        environment={"LOGTO_MACHINE_ID": "machine", "LOGTO_MACHINE_SECRET": SECRET},
        file=("LOGTO_ENDPOINT", "LOGTO_AUDIENCE"),
        says=".env: not read, because the environment sets LOGTO_MACHINE_ID, LOGTO_MACHINE_SECRET; set all",
    ),
    Mixture(
        id="the shell has a secret of another kind",
        environment={"LOGTO_MANAGEMENT_CLIENT_SECRET": SECRET},
        file=("LOGTO_ENDPOINT", "LOGTO_AUDIENCE", "LOGTO_MACHINE_ID"),
        says=".env: not read, because the environment sets LOGTO_MANAGEMENT_CLIENT_SECRET; set all",
    ),
    Mixture(
        id="the file replaces where to fetch from",
        environment={**ENVIRONMENT, "LOGTO_MACHINE_SECRET": SECRET},
        file=("LOGTO_FETCH_ENDPOINT", "LOGTO_MACHINE_ID"),
        says="expected the client ID of a machine-to-machine application, found none; set LOGTO_MACHINE_ID",
    ),
    Mixture(
        id="the shell has the tenant and the file the secret",
        environment={**ENVIRONMENT, "LOGTO_MACHINE_ID": "machine"},
        file=("LOGTO_MACHINE_SECRET",),
        says="expected the secret of machine, found none; set LOGTO_MACHINE_SECRET",
    ),
)


def write_stranger_file(server: CapturedServer, names: tuple[str, ...]) -> None:
    values = {"LOGTO_AUDIENCE": API, "LOGTO_MACHINE_ID": "machine", "LOGTO_MACHINE_SECRET": "of the file"}
    write_file({name: values.get(name, server.endpoint) for name in names})


@pytest.mark.parametrize("row", MIXTURES, ids=lambda row: row.id)
def test_a_secret_is_sent_to_no_endpoint_of_another_source(row: Mixture, cli: RunCli) -> None:
    with serve_captured() as server:
        write_stranger_file(server, row.file)
        ended = cli("token", "--machine", **row.environment)

    assert (ended.code, ended.out) == (2, "")
    assert row.says in ended.err
    assert ended.err.startswith("fastapi-logto: .env: not read, because the environment sets ")
    assert SECRET not in ended.err
    assert server.requests == ()


@pytest.mark.parametrize("source", ["environment", "file"])
def test_a_machine_gets_its_token_by_the_variables_of_one_source(source: str, cli: RunCli) -> None:
    issuer = LocalIssuer()
    with serve(issuer):
        variables = {
            "LOGTO_ENDPOINT": issuer.endpoint,
            "LOGTO_AUDIENCE": API,
            "LOGTO_MACHINE_ID": "local-machine",
            "LOGTO_MACHINE_SECRET": "local-machine-secret",
        }
        if source == "file":
            write_file(variables)
            ended = cli("token", "--machine", "--scope", "read:user")
        else:
            ended = cli("token", "--machine", "--scope", "read:user", **variables)

    assert (ended.code, ended.err) == (0, "")
    assert issuer.read_access_token(ended.out.strip()) is not None


@pytest.mark.parametrize("command", [["doctor"], ["inspect"], ["token", "--machine"], ["scopes", "diff", "web:app"]])
def test_a_file_that_is_named_is_not_ignored_in_silence(command: list[str], cli: RunCli) -> None:
    write_file(FILE, "prod.env")

    ended = cli(*command, "--env-file", "prod.env", **ENVIRONMENT)

    assert (ended.code, ended.out) == (2, "")
    assert ended.err == (
        "fastapi-logto: --env-file: expected no LOGTO_ variable in the environment, found LOGTO_ENDPOINT, "
        "LOGTO_AUDIENCE; variables are read from one source only: unset these, or omit --env-file\n"
    )


def test_doctor_says_that_a_file_is_not_read(cli: RunCli) -> None:
    write_file(FILE)
    with serve_captured() as server:
        server.replace("/oidc/.well-known/openid-configuration", Answer(status=404))
        found = cli("doctor", LOGTO_ENDPOINT=server.endpoint, LOGTO_AUDIENCE=API)
    wrong = cli("doctor", LOGTO_SWAGGER_CLIENT_ID="spa")

    assert re.search(r"\.env +not read, because the environment sets LOGTO_ENDPOINT, LOGTO_AUDIENCE\n", found.out)
    assert wrong.code == 2
    assert re.search(r"✗ +\.env +not read, because the environment sets LOGTO_SWAGGER_CLIENT_ID\n", wrong.out)
    assert "Set all LOGTO_ variables in one place, the environment or the file" in wrong.out


def test_doctor_names_the_file_that_is_read(cli: RunCli) -> None:
    with serve_captured() as server:
        write_file({"LOGTO_ENDPOINT": server.endpoint, "LOGTO_AUDIENCE": API})
        found = cli("doctor")

    assert f"{server.endpoint} (from .env)" in found.out


@pytest.mark.parametrize("text", [f'"{API}"', f"'{API}'", '"' * 2, f' "{API}" '])
def test_a_variable_in_quotes_is_refused_and_not_shown(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    # Docker does not remove the quotes in the file of `--env-file`.
    set_environment(monkeypatch, {"LOGTO_ENDPOINT": ENDPOINT, "LOGTO_AUDIENCE": text})

    with pytest.raises(SettingsError) as caught:
        LogtoSettings.from_environment()

    assert str(caught.value) == (
        "LOGTO_AUDIENCE: expected a value without quotes, found one in quotes; remove the quotes"
    )


def test_one_quote_alone_is_a_part_of_a_value(monkeypatch: pytest.MonkeyPatch) -> None:
    set_environment(monkeypatch, {**ENVIRONMENT, "LOGTO_MACHINE_SECRET": '"', "LOGTO_MACHINE_ID": "\"a'"})

    values = read_known_variables(env_file=None).values

    assert (values["LOGTO_MACHINE_SECRET"], values["LOGTO_MACHINE_ID"]) == ('"', "\"a'")


def test_a_value_may_begin_and_end_with_the_same_letter(monkeypatch: pytest.MonkeyPatch) -> None:
    set_environment(monkeypatch, {**ENVIRONMENT, "LOGTO_MACHINE_ID": "XaX"})

    assert read_known_variables(env_file=None).values["LOGTO_MACHINE_ID"] == "XaX"


def test_the_credentials_have_their_documented_names() -> None:
    names = "MACHINE_ID MACHINE_SECRET MANAGEMENT_CLIENT_ID MANAGEMENT_CLIENT_SECRET NATIVE_ID NATIVE_DEVICE_ID"

    assert {f"LOGTO_{name}" for name in f"{names} REDIS_URL WEBHOOK_ID WEBHOOK_SIGNING_KEY".split()} == {*CREDENTIALS}


def test_a_misspelt_variable_is_named_in_the_error_and_in_the_log(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    set_environment(monkeypatch, {"LOGTO_ENDPOINT": ENDPOINT, "LOGTO_AUDIANCE": API})
    hint = "LOGTO_AUDIANCE: expected LOGTO_AUDIENCE, found this name; correct it"
    with pytest.raises(SettingsError) as caught:
        LogtoSettings.from_environment()
    set_environment(monkeypatch, ENVIRONMENT)
    LogtoSettings.from_environment()

    assert str(caught.value).splitlines()[0].startswith("LOGTO_AUDIENCE (argument audience): audience is required")
    assert str(caught.value).splitlines()[1].startswith(hint)
    ((name, level, message),) = read_log(caplog)
    assert (name, level) == ("fastapi_logto", logging.WARNING)
    assert message.startswith(hint)
    assert API not in message


def test_a_misspelt_variable_of_the_file_is_named_too(cli: RunCli) -> None:
    with serve_captured() as server:
        write_file(
            {"LOGTO_ENDPOINT": "http://127.0.0.1:3001", "LOGTO_AUDIENCE": API, "LOGTO_FETCH_ENDPOINT": server.endpoint,
             "LOGTO_ACCEPT_ORGANISATION_TOKENS": "false"}
        )  # fmt: skip
        ended = cli("doctor")

    assert ended.code == 0
    assert "!  LOGTO_ACCEPT_ORGANISATION_TOKENS  unknown, resembles LOGTO_ACCEPT_ORGANIZATION_TOKENS" in ended.out


@pytest.mark.parametrize(
    "name",
    [
        *("LOGTO_PORT", "LOGTO_SERVICE_HOST", "LOGTO_PORT_3001_TCP_ADDR", "LOGTO_APP_SECRET", "AUDIANCE"),
        *("LOGTO_AUDIANC\n", "LOGTO_AUDIENC\nE", "LOGTO_AUDIENC\u00c9"),
    ],
)
def test_variables_of_other_programs_are_not_called_misspelt(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    set_environment(monkeypatch, {**ENVIRONMENT, name: "x"})

    assert read_known_variables(env_file=None).misspelt == {}
