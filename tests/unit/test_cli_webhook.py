"""The webhook of an API, compared and created at the local issuer, which responds like Logto."""

import asyncio
import json
import logging
import os
import signal
from collections.abc import Callable, Iterator
from typing import Any, Final, Literal

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Mount, Route
from typing_extensions import override

from fastapi_logto.cli.following import follow_log
from fastapi_logto.cli.hooks import POLL_ONLY_URL
from fastapi_logto.revocation import Revocations
from fastapi_logto.testing import LocalIssuer, ManualClock
from tests.conftest import Ended, RunCli
from tests.management import serve_management
from tests.tenants import API, serve
from tests.unit.hook_log import NOW, FakeConnection, FakeLog, FakeStore, build_entry

URL: Final = "https://api.example.com/webhooks/logto"
HERE: Final = "http://127.0.0.1:9/webhooks/logto"
NEEDED: Final = [
    "User.SuspensionStatus.Updated",
    "User.Deleted",
    "Organization.Membership.Updated",
    "Organization.Deleted",
]
DEPLOYER: Final = {"LOGTO_MANAGEMENT_CLIENT_ID": "deployer", "LOGTO_MANAGEMENT_CLIENT_SECRET": "deployer-secret"}


@pytest.fixture
def issuer() -> Iterator[LocalIssuer]:
    with serve_management() as (served, _):
        yield served


@pytest.fixture
def push(cli: RunCli, issuer: LocalIssuer) -> RunCli:
    def run(*arguments: str, **more: Any) -> Ended:
        given = {"LOGTO_ENDPOINT": issuer.endpoint, "LOGTO_AUDIENCE": API, **DEPLOYER, **more}
        return cli("webhook", "push", *arguments, **given)

    return run


def test_push_creates_the_webhook_and_shows_its_signing_key_once(push: RunCli, issuer: LocalIssuer) -> None:
    first = push("--url", URL, "--yes")
    second = push("--url", URL, "--yes")

    assert (first.code, second.code) == (0, 0)
    (hook,) = issuer.hooks
    assert (hook.name, hook.url, list(hook.events), hook.is_enabled) == ("fastapi-logto", URL, NEEDED, True)
    assert "✗  Webhook                          missing in Logto" in first.err
    assert "✓  User.Deleted                     delivered" in first.out
    assert f"Put into .env:\nLOGTO_WEBHOOK_ID={hook.id}\nLOGTO_WEBHOOK_SIGNING_KEY={hook.signing_key}" in first.out
    assert "Done. Logto has the webhook." in first.out
    assert f"Put into .env:\nLOGTO_WEBHOOK_ID={hook.id}" in second.out
    assert hook.signing_key not in second.out + second.err + first.err


def test_push_adds_what_is_missing_and_keeps_what_is_there(push: RunCli, issuer: LocalIssuer) -> None:
    hook = issuer.add_hook(HERE, events=["PostSignIn", "User.Deleted"])
    ended = push("--url", HERE, "--event", "Role.Scopes.Updated", "--json", "--yes")

    report = json.loads(ended.out)
    (changed,) = issuer.hooks
    assert set(changed.events) == {"PostSignIn", *NEEDED, "Role.Scopes.Updated"}
    assert (changed.id, changed.signing_key) == (hook.id, hook.signing_key)
    assert report["is_pushed"] is True
    assert report["extra"] == ["PostSignIn"]
    assert report["environment"] == {"LOGTO_WEBHOOK_ID": hook.id}
    assert "PostSignIn                       not needed; left unchanged" in ended.err


def test_push_changes_the_url_of_a_webhook_that_is_named_and_enables_it(push: RunCli, issuer: LocalIssuer) -> None:
    push("--url", URL, "--yes", "--name", "Mine")
    (hook,) = issuer.hooks
    hooks: Any = vars(issuer)["_webhooks"].hooks
    hooks.update(hook.id, {"is_enabled": False, "config": {**hook.config, "headers": {"X-A": "b"}}})
    other = "https://other.example.com/webhooks/logto"

    ended = push("--hook-id", hook.id, "--url", other, "--yes")

    (changed,) = issuer.hooks
    assert (changed.name, changed.url, changed.is_enabled) == ("Mine", other, True)
    assert changed.config["headers"] == {"X-A": "b"}
    assert "✗  Webhook                          disabled" in ended.err
    assert f"✗  URL                              {URL} in Logto, expected" in ended.err
    assert "✓  Webhook                          enabled" in ended.out


def test_push_replaces_the_signing_key_on_request_only(push: RunCli, issuer: LocalIssuer) -> None:
    push("--url", URL, "--yes")
    before = issuer.hooks[0].signing_key

    ended = push("--url", URL, "--rotate-key", "--yes")

    after = issuer.hooks[0].signing_key
    assert after != before
    assert f"LOGTO_WEBHOOK_SIGNING_KEY={after}" in ended.out


def test_a_webhook_for_an_api_that_only_reads_the_log_is_never_connected_to(push: RunCli, issuer: LocalIssuer) -> None:
    ended = push("--poll-only", "--yes")

    assert ended.code == 0
    assert issuer.hooks[0].url == POLL_ONLY_URL
    assert push("--poll-only", "--yes").code == 0
    assert len(issuer.hooks) == 1


@pytest.mark.parametrize(
    ("replies", "question"),
    [
        ("n\n", "Create the webhook in Logto?"),
        ("y\n", "Create the webhook in Logto?"),
    ],
)
def test_push_asks_first(push: RunCli, issuer: LocalIssuer, replies: str, question: str) -> None:
    ended = push("--url", URL, stdin=replies, is_terminal=True)

    assert question in ended.err
    assert ended.code == (1 if replies.startswith("n") else 0)
    assert len(issuer.hooks) == (0 if replies.startswith("n") else 1)


def test_the_question_names_each_change(push: RunCli, issuer: LocalIssuer) -> None:
    issuer.add_hook(HERE, events=["User.Deleted"])

    both = push("--url", HERE, "--rotate-key", stdin="y\n", is_terminal=True)
    key = push("--url", HERE, "--rotate-key", stdin="n\n", is_terminal=True)

    assert "Change the webhook and replace its signing key in Logto?" in both.err
    assert "Replace its signing key in Logto?" in key.err


def test_nothing_is_changed_without_a_terminal(push: RunCli, issuer: LocalIssuer) -> None:
    ended = push("--url", URL)

    assert (ended.code, ended.out, issuer.hooks) == (2, "", ())
    assert "expected a terminal for the prompt, found none; nothing was changed" in ended.err


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ([], "expected --url or --poll-only, found neither; pass one of them"),
        (["--url", URL, "--poll-only"], "expected --url or --poll-only, found both; pass one of them"),
        (["--url", "api.example.com"], "--url: expected a URL that begins with https://, found 'api.example.com'"),
        (["--url", URL, "--event", "a b"], "--event: expected an event such as Role.Scopes.Updated, found 'a b'"),
        (["--url", URL, "--hook-id", "x"], "--hook-id: expected the id of a webhook of this tenant, found 'x'"),
        (["--url", URL, "--event", "No.Such.Event", "--yes"], "creating the webhook: status 400 guard.invalid_input"),
    ],
)
def test_invalid_usage_is_explained(push: RunCli, issuer: LocalIssuer, arguments: list[str], expected: str) -> None:
    ended = push(*arguments)

    assert ended.code == 2
    assert expected in ended.err
    assert issuer.hooks == ()


def test_two_webhooks_with_one_url_are_not_guessed_between(push: RunCli, issuer: LocalIssuer) -> None:
    for _ in range(2):
        issuer.add_hook(HERE, events=["User.Deleted"])

    ended = push("--url", HERE, "--yes")

    assert ended.code == 2
    assert f"expected one webhook with the URL '{HERE}', found 2; pass --hook-id" in ended.err


def test_a_machine_without_access_is_told_what_it_lacks(push: RunCli) -> None:
    ended = push("--url", URL, LOGTO_MANAGEMENT_CLIENT_ID="stranger", LOGTO_MANAGEMENT_CLIENT_SECRET="stranger-secret")

    assert ended.code == 2
    assert "give it a machine role with the permission `all`" in ended.err


_KEY: Final = "a-secret-that-is-never-shown"
_HOOK: Final = {"id": "a", "config": {"url": URL}, "events": NEEDED, "enabled": True}


@pytest.mark.parametrize(
    ("listed", "created", "expected"),
    [
        ([{"config": 1}], {}, "expected the id of the webhook, found none"),
        ([{"config": {"url": URL}, "signingKey": _KEY}], {}, "expected webhooks, found something else"),
        ([], [], "expected the id of the webhook, found none"),
        ([], {"id": "../x", "signingKey": _KEY}, "expected the id of the webhook, found none"),
        ([], {"id": "unknown", "signingKey": _KEY}, "--hook-id: expected the id of a webhook of this tenant"),
        ([], {"id": "a", "after": _HOOK}, "expected the signing key of the webhook, found none; copy it from Logto"),
        ([], {"id": "a", "after": {**_HOOK, "events": []}, "signingKey": "k"}, "expected a webhook with all events"),
    ],
)
def test_odd_answers_of_the_management_api_are_one_line(cli: RunCli, listed: Any, created: Any, expected: str) -> None:
    issuer = LocalIssuer()
    hooks: Any = listed

    async def respond(request: Request) -> Response:
        nonlocal hooks
        if request.method != "POST":
            return JSONResponse(hooks)
        if "after" in created:
            hooks = [created["after"]]
        return JSONResponse(created, status_code=201)

    with serve_hooks(issuer, respond):
        ended = cli(
            "webhook", "push", "--url", URL, "--yes",
            LOGTO_ENDPOINT=issuer.endpoint, LOGTO_AUDIENCE=API,
            LOGTO_MANAGEMENT_CLIENT_ID="local-machine", LOGTO_MANAGEMENT_CLIENT_SECRET="local-machine-secret",
        )  # fmt: skip

    assert ended.code == 2
    assert expected in ended.err
    assert _KEY not in ended.err


def serve_hooks(issuer: LocalIssuer, respond: Callable[[Request], Any]) -> Any:
    """Serve an issuer with another response for its webhooks."""
    routes = [
        Route("/api/hooks", respond, methods=["GET", "POST"]),
        Route("/api/hooks/{path:path}", respond, methods=["PATCH"]),
        Mount("/", issuer.app),
    ]
    return serve(issuer, app=Starlette(routes=routes))


@pytest.fixture
def follow(cli: RunCli, issuer: LocalIssuer) -> RunCli:
    def run(*arguments: str, **more: Any) -> Ended:
        given = {"LOGTO_ENDPOINT": issuer.endpoint, "LOGTO_AUDIENCE": API, "LOGTO_WEBHOOK_ID": "a", **DEPLOYER, **more}
        return cli("webhook", "follow", *arguments, **given)

    return run


_REDIS: Final = "redis://127.0.0.1:9/0"


@pytest.mark.parametrize(
    ("arguments", "environment", "expected"),
    [
        ([], {"LOGTO_WEBHOOK_ID": ""}, "expected the ID of the webhook, found none; set LOGTO_WEBHOOK_ID or pass"),
        (["--hook-id", "../x", "--redis-url", _REDIS], {}, "hook_id: expected the id of a webhook, found '../x'"),
        ([], {}, "expected the URL of a Redis server, found none; set LOGTO_REDIS_URL or pass --redis-url"),
        (
            ["--redis-url", "redis://user:hidden@host/0"],
            {},
            "--redis-url: expected a URL without a user and password, found one with them",
        ),
        (
            ["--redis-url", "redis://host/0?Password=hidden"],
            {},
            "--redis-url: expected a URL without a user and password, found one with them",
        ),
        (
            ["--issuer", "https://other.test/oidc", "--redis-url", _REDIS],
            {},
            "--issuer: expected an issuer of the settings",
        ),
        ([], {"LOGTO_REDIS_URL": "hidden"}, "url: expected the URL of a Redis server, found another text"),
        (["--redis-key", " "], {"LOGTO_REDIS_URL": _REDIS}, "key: expected a text that is not empty, found none"),
        (["--event", "No.Event"], {"LOGTO_REDIS_URL": _REDIS}, "revoke_all_on: "),
        (
            ["--redis-url", _REDIS],
            {"LOGTO_MANAGEMENT_CLIENT_SECRET": ""},
            "expected the secret of deployer, found none",
        ),
    ],
)
def test_following_explains_what_it_needs(
    follow: RunCli, arguments: list[str], environment: dict[str, str], expected: str
) -> None:
    ended = follow(*arguments, **environment)

    assert (ended.code, ended.out) == (2, "")
    assert expected in ended.err
    assert "hidden" not in ended.err


class EndingStore(FakeConnection):
    """A store that sends a signal to this process when the position in the log is saved."""

    def __init__(self, number: signal.Signals) -> None:
        super().__init__(FakeStore())
        self.number = number

    async def save_text(self, name: str, text: str) -> None:
        await super().save_text(name, text)
        signal.raise_signal(self.number)


@pytest.fixture
def interrupts() -> Iterator[None]:
    """Interrupts raise, although a shell's background jobs ignore them."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("interrupts")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_following_ends_with_a_signal_and_says_how_much_takes_effect(
    number: signal.Signals, capsys: pytest.CaptureFixture[str]
) -> None:
    logger = logging.getLogger("fastapi_logto")
    before = (logger.level, list(logger.handlers), signal.getsignal(number))
    store = EndingStore(number)
    log = FakeLog([build_entry("a-user")]).build(clock=ManualClock(now=NOW))

    follow_log(Revocations(store, log=log), name="a tenant")

    printed = capsys.readouterr().err
    assert [one.user_id for one in store.store.revocations] == ["a-user"]
    assert printed.splitlines() == [
        "Following the delivery log of a tenant; Ctrl-C stops it",
        "INFO: 1 revocations of the source log are in effect",
    ]
    assert (logger.level, list(logger.handlers), signal.getsignal(number)) == before


def test_following_continues_while_logto_is_unavailable(capsys: pytest.CaptureFixture[str]) -> None:
    log = FakeLog()
    log.fault = lambda _: httpx.Response(500)

    follow_log(Revocations(EndingStore(signal.SIGTERM), log=log.build(clock=ManualClock(now=NOW))), name="a tenant")

    assert "WARNING: the delivery log of " in capsys.readouterr().err


class _Silence(asyncio.Event):
    """A response that never arrives, and a signal while the command waits for it."""

    @override
    async def wait(self) -> Literal[True]:
        signal.raise_signal(signal.SIGTERM)
        await asyncio.Future()
        return True


def test_following_ends_with_a_signal_while_it_waits_for_logto(capsys: pytest.CaptureFixture[str]) -> None:
    log = FakeLog()

    log.gate = _Silence()
    follow_log(Revocations(FakeConnection(FakeStore()), log=log.build(clock=ManualClock(now=NOW))), name="a tenant")

    assert capsys.readouterr().err.splitlines() == ["Following the delivery log of a tenant; Ctrl-C stops it"]


def test_the_command_follows_until_it_gets_a_signal_even_if_redis_is_unavailable(cli: RunCli) -> None:
    with serve_management() as (issuer, management):
        hook = issuer.add_hook(HERE)

        async def end(_: Request) -> Response:
            os.kill(os.getpid(), signal.SIGTERM)
            return JSONResponse([])

        app = Starlette(routes=[Route("/api/hooks/{id}/recent-logs", end), Mount("/", management.app)])
        with serve(issuer, app=app):
            own = {"LOGTO_ENDPOINT": issuer.endpoint, "LOGTO_AUDIENCE": API, "LOGTO_WEBHOOK_ID": hook.id, **DEPLOYER}
            ended = cli("webhook", "follow", LOGTO_REDIS_URL=_REDIS, **own)

    assert ended.code == 0
    assert f"Following the delivery log of {issuer.endpoint}/oidc {hook.id}; Ctrl-C stops it" in ended.err
    assert "deployer-secret" not in ended.err
