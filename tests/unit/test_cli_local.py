"""The local issuer as a command, the file with its users, and tokens from it."""

import io
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from fastapi_logto.cli.directory_file import read_directory
from fastapi_logto.cli.issuer_listing import fetch_listing
from fastapi_logto.cli.local import describe_issuer, open_issuer
from fastapi_logto.cli.rendering import render_issuer
from fastapi_logto.cli.results import CommandError
from fastapi_logto.settings import LogtoSettings
from fastapi_logto.testing import Directory, LocalIssuer
from fastapi_logto.testing.directory import ORGANIZATIONS
from tests.captured import Answer, Fault, serve_captured
from tests.conftest import Ended, RunCli
from tests.tenants import API, serve
from tests.unit.hook_app import Receiver, is_signed

LOCAL_HINT = "set the scopes of a local issuer's users and machines with fastapi-logto dev --file"
FILE = """
[[resources]]
indicator = "https://api.example.com"
[resources.scopes]
"read:user" = "Read users"
"write:user" = "Change users"

[roles.reader]
"https://api.example.com" = ["read:user"]
organization = ["read:member"]
[roles.writer]
"https://api.example.com" = ["write:user"]

[[users]]
username = "dora"
name = "Dora Example"
roles = ["reader", "writer"]
[[users]]
username = "emil"
id = "emil00000001"

[[machines]]
client_id = "worker"
client_secret = "worker-secret"
roles = ["writer"]

[[applications]]
client_id = "my-spa"
redirect_uris = ["http://localhost:5173/callback"]
post_logout_redirect_uris = ["http://localhost:5173/"]

[[organizations]]
id = "acme"
[organizations.members]
emil = ["reader"]
worker = []
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "people.toml"
    path.write_text(FILE)
    return path


def test_a_file_says_who_holds_what(file: Path) -> None:
    directory = read_directory(file)

    dora, emil = directory.users
    (worker,) = directory.machines
    (acme,) = directory.organizations
    (resource,) = directory.resources
    assert dict(resource.scopes) == {"read:user": "Read users", "write:user": "Change users"}
    assert (dora.id, dora.name, dict(dora.scopes)) == (
        "dora",
        "Dora Example",
        {"https://api.example.com": ("read:user", "write:user")},
    )
    assert (emil.id, emil.name, dict(emil.scopes)) == ("emil00000001", "emil", {})
    assert dict(worker.scopes) == {"https://api.example.com": ("write:user",)}
    assert {who: dict(held) for who, held in acme.members.items()} == {
        "emil00000001": {"https://api.example.com": ("read:user",), ORGANIZATIONS: ("read:member",)},
        "worker": {},
    }
    assert directory.applications[0].redirect_uris == ("http://localhost:5173/callback",)
    assert directory.applications[0].post_logout_redirect_uris == ("http://localhost:5173/",)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("[[resources]]", "[[resources]", "(at line 2"),
        ('username = "dora"', 'user = "dora"', "users.0.username: Field required"),
        ('client_secret = "worker-secret"', "client_secret = 1", "machines.0.client_secret: Input should be a valid"),
        ('roles = ["writer"]', 'roles = ["writr"]', "roles: expected one of reader, writer, found 'writr'"),
        (
            '["write:user"]',
            '["writes:user"]',
            "roles.writer: expected scopes of 'https://api.example.com': read:user, write:user, found ['writes:user']",
        ),
        (
            "[roles.writer]",
            '[roles.nobodys]\n"urn:x" = ["x"]\n[roles.writer]',
            "roles.nobodys: expected scopes of 'urn:x': one of the resources https://api.example.com, found ['x']",
        ),
        ('"write:user" = "Change', '"write user" = "Change', "resources.0.scopes.write user"),
        ("worker = []", "nobody = []", "members: expected a user or machine of this directory, found 'nobody'"),
        ("http://localhost:5173/callback", "javascript:1", "redirect_uris: expected http(s) URIs"),
    ],
)
def test_a_mistake_in_a_file_is_reported_with_its_place(file: Path, old: str, new: str, message: str) -> None:
    assert old in FILE
    file.write_text(FILE.replace(old, new))

    with pytest.raises(CommandError) as caught:
        read_directory(file)

    assert str(caught.value).startswith(f"{file}: ")
    assert message in str(caught.value)
    assert "worker-secret" not in str(caught.value)


_STRINGS = r"""
a = "]\"]" # ]
b = ']]]]'
c = '''
]]]]'''''
"""
DEEP = {
    "arrays": f"x = {'[' * 100_000}",
    "closed arrays": f"x = {'[' * 50_000}{']' * 50_000}",
    "tables": f"x = {'{a = ' * 30_000}1{'}' * 30_000}",
    "arrays and tables": f"x = {'[{a = ' * 30_000}",
    "behind strings": f'{_STRINGS}d = """\n]]\\"""]]"""""\nx = {"[" * 40}',
    "one level too many": f"x = {'[' * 33}{']' * 33}",
}


@pytest.mark.parametrize("name", DEEP)
def test_a_file_that_is_nested_too_deeply_is_refused_before_it_is_parsed(
    cli: RunCli, tmp_path: Path, name: str
) -> None:
    path = tmp_path / "people.toml"
    path.write_text(f"{DEEP[name]}\n{FILE}")

    ended = cli("dev", "--file", "people.toml")

    line = DEEP[name].count("\n") + 1
    assert (ended.code, ended.out) == (2, "")
    assert ended.err == (
        "fastapi-logto: people.toml: expected arrays and tables of at most 32 levels, found more "
        f"(at line {line})\n"
    )  # fmt: skip


@pytest.mark.parametrize("part", ["a", '"a b"', "'a'"])
@pytest.mark.parametrize(("parts", "is_refused"), [(32, False), (33, True), (30_000, True)])
def test_a_key_of_too_many_parts_is_refused_before_it_is_parsed(
    cli: RunCli, tmp_path: Path, *, part: str, parts: int, is_refused: bool
) -> None:
    path = tmp_path / "people.toml"
    path.write_text(f"# first\n{' . '.join([part] * parts)} = 1\n")

    ended = cli("dev", "--file", "people.toml")

    assert ended.code == 2
    assert ("expected keys of at most 32 parts, found more (at line 2)" in ended.err) is is_refused


def test_a_nested_file_crashes_no_thread_with_a_small_stack(tmp_path: Path) -> None:
    # As on Alpine, where too deep recursion of a parser ends the process.
    names = [*DEEP, "dotted keys"]
    for name in names:
        (tmp_path / f"{name}.toml").write_text(DEEP.get(name, f"x{'.a' * 2000} = 1\n[b{'.a' * 2000}]\n"))
    code = (
        "import sys, threading\n"
        "from fastapi_logto.cli import main\n"
        "threading.stack_size(262144)\n"
        f"run = lambda: print([main(['dev', '--file', name + '.toml']) for name in {names!r}])\n"
        "thread = threading.Thread(target=run)\n"
        "thread.start()\n"
        "thread.join()\n"
    )

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, check=False)

    assert (done.returncode, done.stdout) == (0, f"{[2] * len(names)}\n")
    assert "Traceback" not in done.stderr
    assert done.stderr.count("expected arrays and tables of at most 32 levels") == len(DEEP)


def test_brackets_in_strings_and_comments_are_no_levels(tmp_path: Path) -> None:
    path = tmp_path / "people.toml"
    deep = "[" * 100
    strings = f'"a\\"{deep}" = \'\'\'{deep}\'\'\'\nb = """{deep}\\""""\nc = "{deep}"\n'
    path.write_text(f"{FILE}# {deep}\n[[resources]]\nindicator = '{deep}'\n[resources.scopes]\n{strings}")

    resource = read_directory(path).resources[-1]

    assert (resource.indicator, dict(resource.scopes)) == (deep, {f'a"{deep}': deep, "b": f'{deep}"', "c": deep})


def test_a_file_of_the_deepest_level_is_parsed(tmp_path: Path) -> None:
    path = tmp_path / "people.toml"
    path.write_text(f"x = {'[' * 32}{']' * 32}\n")

    with pytest.raises(CommandError, match="resources: Field required"):
        read_directory(path)


def test_dev_starts_nothing_with_a_mistake(cli: RunCli, file: Path) -> None:
    missing = cli("dev", "--file", "missing.toml")
    both = cli("dev", "--file", str(file), "--audience", "urn:x")
    nothing = cli("dev", "--audience", "")
    with serve_captured() as other:
        taken = cli("dev", "--port", str(other.port))

    assert missing.code == both.code == nothing.code == taken.code == 2
    assert "--audience: expected an API resource, such as https://api.example.com, found nothing" in nothing.err
    assert (
        missing.err
        == "fastapi-logto: missing.toml: expected a file that can be read, found: No such file or directory\n"
    )
    assert "expected --file or --audience, found both" in both.err
    assert taken.err == (
        f"fastapi-logto: cannot listen on '127.0.0.1' port {other.port}: Address already in use; "
        "try another --port or --host\n"
    )


def test_the_next_command_is_printed_only_if_there_is_a_user() -> None:
    console = Console(record=True, width=100, file=io.StringIO())
    console.print(render_issuer(describe_issuer(LocalIssuer(directory=Directory()))))

    assert console.export_text().splitlines()[-2:] == ["Put into .env:", "LOGTO_ENDPOINT=http://127.0.0.1:3001"]


def test_dev_without_uvicorn_says_what_to_install(cli: RunCli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    monkeypatch.delitem(sys.modules, "fastapi_logto.testing.issuer.serving", raising=False)

    ended = cli("dev")

    assert ended.code == 2
    assert 'pip install "fastapi-logto[testing]"' in ended.err


def test_what_to_put_into_a_file_of_variables_is_reported(file: Path) -> None:
    issuer, sock = open_issuer(path=file, audience=None, host="127.0.0.1", port=0, allow_remote=False, allowed_hosts=())
    with sock:
        running = describe_issuer(issuer)

    assert running.environment == {
        "LOGTO_ENDPOINT": issuer.endpoint,
        "LOGTO_AUDIENCE": "https://api.example.com",
        "LOGTO_SWAGGER_CLIENT_ID": "my-spa",
        # A secret of the file is not printed.
        "LOGTO_MACHINE_ID": "worker",
    }
    assert running.next_command == "fastapi-logto token --user dora"
    assert {user.username: user.organizations for user in (*running.users, *running.machines)} == {
        "dora": {},
        "emil": {"acme": ("read:user", "read:member (of the organization)")},
        "worker": {"acme": ()},
    }
    empty = describe_issuer(LocalIssuer(directory=Directory()))
    assert empty.environment == {"LOGTO_ENDPOINT": "http://127.0.0.1:3001"}
    assert (empty.page, empty.next_command) == ("http://127.0.0.1:3001/", "")


def test_a_webhook_of_dev_gets_signed_events() -> None:
    receiver = Receiver()
    with LocalIssuer().serve() as api:
        # Any server on this machine; here one of the test kit.
        api.app.mount("/api", receiver.app)
        url = f"{api.endpoint}/api/webhooks/logto"
        issuer, sock = open_issuer(
            path=None,
            audience=None,
            host="127.0.0.1",
            port=0,
            allow_remote=False,
            allowed_hosts=(),
            webhook=url,
        )
        with sock:
            key = describe_issuer(issuer).environment["LOGTO_WEBHOOK_SIGNING_KEY"]
            issuer.suspend("alice")

    assert is_signed(receiver.received[0], key)
    assert [hook.url for hook in issuer.hooks] == [url]


def test_a_webhook_on_another_machine_needs_a_second_option(cli: RunCli) -> None:
    ended = cli("dev", "--webhook", "http://api:8000/webhooks/logto")

    assert (ended.code, ended.out) == (2, "")
    assert ended.err.startswith("fastapi-logto: url: expected a loopback host, found 'api'; ")
    assert "(--allow-remote)" in ended.err


@pytest.fixture
def mint(cli: RunCli) -> Iterator[tuple[LocalIssuer, RunCli]]:
    """An issuer with the example's users, and `token` against it."""
    issuer = LocalIssuer()

    def run(*arguments: str, **more: Any) -> Ended:
        return cli("token", *arguments, **{"LOGTO_ENDPOINT": issuer.endpoint, "LOGTO_AUDIENCE": API, **more})

    with serve(issuer):
        yield issuer, run


def test_only_the_token_of_a_user_is_printed(mint: tuple[LocalIssuer, RunCli]) -> None:
    issuer, run = mint

    ended = run("--user", "alice", "--scope", "read:user")

    claims = issuer.read_access_token(ended.out.strip())
    assert (ended.code, ended.err, ended.out.count("\n")) == (0, "", 1)
    assert claims is not None
    assert (claims["sub"], claims["aud"], claims["scope"]) == ("alice0000001", API, "read:user")


def test_a_scope_that_was_not_granted_is_reported(mint: tuple[LocalIssuer, RunCli]) -> None:
    ended = mint[1]("--user", "bob", "--scope", "read:user", "--scope", "write:user", "--json")

    document = json.loads(ended.out)
    assert (document["scopes"], document["missing"]) == (["read:user"], ["write:user"])
    assert ended.err == f"not granted and not in the token: write:user; {LOCAL_HINT}\n"


def test_a_token_of_a_user_may_be_for_an_organization(mint: tuple[LocalIssuer, RunCli]) -> None:
    issuer, run = mint

    ended = run("--user", "alice", "--organization", "acme", "--scope", "read:user", "--resource", API)
    stranger = run("--user", "carol", "--organization", "acme")

    claims = issuer.read_access_token(ended.out.strip())
    assert claims is not None
    assert (claims["organization_id"], claims["aud"]) == ("acme", API)
    assert stranger.code == 2
    assert "expected a token, found 'user is not a member of the organization' (status 403)" in stranger.err


def test_without_scopes_all_that_the_local_issuer_grants_are_requested(mint: tuple[LocalIssuer, RunCli]) -> None:
    issuer, run = mint
    machine = {"LOGTO_MACHINE_ID": "local-machine", "LOGTO_MACHINE_SECRET": "local-machine-secret"}

    ended = {
        "read:user write:user": run("--user", "alice"),
        "read:user": run("--user", "bob"),
        "none": run("--user", "carol"),
        "read:user write:user ": run("--machine", **machine),
    }

    for scopes, one in ended.items():
        claims = issuer.read_access_token(one.out.strip())
        assert claims is not None
        assert claims["scope"] == scopes.strip().removeprefix("none")
        assert one.err == (
            f"scopes: {scopes.strip()}; to choose others, pass --scope, or --app with your application\n"
        )  # fmt: skip


def test_custom_claims_of_the_file_are_in_the_tokens_of_the_user(cli: RunCli, file: Path) -> None:
    file.write_text(FILE.replace('name = "Dora Example"', 'custom_claims = { plan = "pro", teams = ["a"] }'))
    issuer = LocalIssuer(directory=read_directory(file))
    arguments = ("--client-id", "my-spa", "--redirect-uri", "http://localhost:5173/callback")

    with serve(issuer):
        environment = {"LOGTO_ENDPOINT": issuer.endpoint, "LOGTO_AUDIENCE": "https://api.example.com"}
        dora, emil, member = (
            issuer.read_access_token(cli("token", "--user", *user, *arguments, **environment).out.strip())
            for user in (("dora",), ("emil",), ("emil", "--organization", "acme"))
        )

    assert dora is not None
    assert (dora["plan"], dora["teams"]) == ("pro", ["a"])
    assert "plan" not in (emil or {"plan": ""})
    assert "plan" not in (member or {"plan": ""})


@pytest.mark.parametrize("line", ['sub = "x"', 'iss = "x"'])
def test_a_custom_claim_replaces_no_claim_of_logto(file: Path, line: str) -> None:
    file.write_text(FILE.replace('name = "Dora Example"', f"custom_claims = {{ {line} }}"))

    with pytest.raises(CommandError, match=r"custom_claims: expected no claim that Logto sets, found (sub|iss)$"):
        read_directory(file)


def test_an_organization_token_has_organization_permissions_and_names_no_api(mint: tuple[LocalIssuer, RunCli]) -> None:
    issuer, run = mint
    machine = {"LOGTO_MACHINE_ID": "local-machine", "LOGTO_MACHINE_SECRET": "local-machine-secret"}
    arguments = ("--organization", "acme", "--organization-token")

    users = run("--user", "alice", *arguments)
    chosen = run("--user", "alice", *arguments, "--scope", "read:user", "--scope", "read:member")
    machines = run("--machine", *arguments, **machine)

    for ended in (users, chosen, machines):
        claims = issuer.read_access_token(ended.out.strip())
        assert claims is not None
        assert (claims["aud"], claims["scope"]) == ("urn:logto:organization:acme", "read:member")
    assert users.err.startswith("scopes: read:member; ")
    assert chosen.err == f"not granted and not in the token: read:user; {LOCAL_HINT}\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--sign-in",), "expected --organization alone, found no --organization"),
        (("--machine",), "expected --organization alone, found no --organization"),
        (("--user", "x", "--organization", "acme", "--resource", "urn:x"), "alone, found --resource; an organization"),
    ],
)
def test_an_organization_token_needs_an_organization_alone(
    cli: RunCli, arguments: tuple[str, ...], message: str
) -> None:
    ended = cli("token", "--organization-token", *arguments)

    assert (ended.code, ended.out) == (2, "")
    assert message in ended.err


def test_only_the_list_of_a_local_issuer_is_read(mint: tuple[LocalIssuer, RunCli]) -> None:
    listing = fetch_listing(LogtoSettings(endpoint=mint[0].endpoint, audience=API))
    assert listing is not None
    assert (listing.users, listing.scopes[API]) == (["alice", "bob", "carol"], ["read:user", "write:user"])

    with serve_captured() as server:
        settings = LogtoSettings(endpoint=server.endpoint, audience=API)
        for answer in (Answer(body=b"<html>"), Answer.json({"users": 1}), Answer.json({}, status=404), Fault.RESET):
            server.replace("/", answer)
            assert fetch_listing(settings) is None
    assert fetch_listing(LogtoSettings(endpoint="https://tenant.logto.app", audience=API)) is None


def test_a_machine_gets_a_token_with_its_secret(mint: tuple[LocalIssuer, RunCli]) -> None:
    issuer, run = mint
    secret = {"LOGTO_MACHINE_ID": "local-machine", "LOGTO_MACHINE_SECRET": "local-machine-secret"}

    ended = run("--machine", "--scope", "read:user", **secret)
    inside = run("--machine", "--organization", "acme", **secret)
    wrong = run("--machine", "--client-id", "local-machine", LOGTO_MACHINE_SECRET="wrong-secret")

    claims = issuer.read_access_token(ended.out.strip())
    assert claims is not None
    assert (claims["sub"], claims["scope"]) == ("local-machine", "read:user")
    assert (issuer.read_access_token(inside.out.strip()) or {})["organization_id"] == "acme"
    assert wrong.code == 2
    assert "invalid_client" in wrong.err
    assert "wrong-secret" not in wrong.err


def test_an_issuer_that_is_unreachable_is_reported_to_a_machine(cli: RunCli) -> None:
    environment = {"LOGTO_ENDPOINT": "http://127.0.0.1:1", "LOGTO_AUDIENCE": API, "LOGTO_MACHINE_SECRET": "the-secret"}

    ended = cli("token", "--machine", "--client-id", "worker", **environment)

    assert ended.code == 2
    assert ended.err.endswith("run fastapi-logto doctor to find the cause\n")
    assert "the-secret" not in ended.err


def test_a_user_or_an_application_that_is_not_known_is_reported(mint: tuple[LocalIssuer, RunCli]) -> None:
    nobody = mint[1]("--user", "nobody")
    stranger = mint[1]("--user", "alice", "--client-id", "nobody")
    resource = mint[1]("--user", "alice", "--resource", "urn:unknown")

    assert nobody.code == stranger.code == resource.code == 2
    assert nobody.err == (
        "fastapi-logto: expected one of the users alice, bob, carol, found 'nobody'; correct --user\n"
    )  # fmt: skip
    assert "a code for the user 'alice' by the application 'nobody' with the redirect URI 'http://" in stranger.err
    assert "found 'status 400'; the issuer's page lists its users and applications" in stranger.err
    assert "found 'resource indicator is missing, or unknown'" in resource.err


def test_only_a_local_issuer_has_users_to_choose(cli: RunCli) -> None:
    ended = cli("token", "--user", "alice", LOGTO_ENDPOINT="https://tenant.logto.app", LOGTO_AUDIENCE=API)

    assert ended.code == 2
    assert (
        "expected a local issuer for --user, found https://tenant.logto.app; for a tenant, use --sign-in" in ended.err
    )


def test_a_tenant_on_this_machine_is_distinguished_from_a_local_issuer(cli: RunCli) -> None:
    with serve_captured() as server:
        server.replace("/oidc/auth", Answer.redirect("/sign-in?app_id=x", status=303))
        ended = cli("token", "--user", "alice", LOGTO_ENDPOINT=server.endpoint, LOGTO_AUDIENCE=API)

    assert ended.code == 2
    assert "found a tenant that requires a sign-in; for a tenant, use --sign-in" in ended.err


@pytest.mark.parametrize(
    ("arguments", "found"),
    [
        ((), "none"),
        (("--user", "x", "--machine"), "--machine and --user"),
        (("--sign-in", "--device"), "--sign-in and --device"),
    ],
)
def test_exactly_one_way_to_get_a_token_is_required(cli: RunCli, arguments: tuple[str, ...], found: str) -> None:
    ended = cli("token", *arguments)

    expected = "expected one of --sign-in, --device, --machine, --user"
    assert (ended.code, ended.err) == (2, f"fastapi-logto: {expected}, found {found}\n")


def test_an_issuer_that_does_not_run_or_sends_odd_responses_is_reported(cli: RunCli) -> None:
    with serve_captured() as server:
        environment = {"LOGTO_ENDPOINT": server.endpoint, "LOGTO_AUDIENCE": API}
        server.replace("/oidc/auth", Fault.RESET)
        away = cli("token", "--user", "alice", **environment)
        server.replace("/oidc/auth", Answer.redirect("http://127.0.0.1:8000/?code=x", status=303))
        server.replace("/oidc/token", Answer(body=b"<html>"))
        odd = cli("token", "--user", "alice", **environment)
        server.replace("/oidc/token", Answer.json({"access_token": "a.b.c"}))
        no_refresh_token = cli("token", "--user", "alice", "--organization", "acme", **environment)

    assert no_refresh_token.code == 2
    assert "expected a refresh token for --organization, found none" in no_refresh_token.err
    assert "ReadError; start it with: fastapi-logto dev" in away.err
    assert "expected a token, found None (status 200)" in odd.err
