"""`token --sign-in` and `token --device`: a user's token from a tenant, and every error on the way."""

import asyncio
import json
import socket
import sys
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final
from urllib.parse import parse_qs, urlencode, urlsplit

import httpx
import pytest

from fastapi_logto import LogtoSettings
from fastapi_logto.cli.callback import Callback
from fastapi_logto.cli.device import DeviceCode, sign_in_by_device
from fastapi_logto.cli.minting import mint_by_sign_in
from fastapi_logto.cli.results import CommandError
from fastapi_logto.cli.sign_in import sign_in
from fastapi_logto.cli.token_requests import TokenRequest, UserTokens
from fastapi_logto.provider.transport import Transport
from fastapi_logto.testing import LocalIssuer
from tests.browser import build_command
from tests.captured import DISCOVERY_PATH, Answer, CapturedServer, Fault, serve_captured
from tests.conftest import RunCli
from tests.tenants import API, serve

TOKEN: Final = {"access_token": "a.b.c", "token_type": "Bearer", "scope": "read:user", "refresh_token": "the-refresh"}
CODES: Final = {
    "device_code": "the-device-code",
    "user_code": "ABCD-EFGH",
    "verification_uri": "https://tenant.example/device",
    "expires_in": 600,
}
ENDPOINT: Final = "http://127.0.0.1:3001"


@pytest.fixture
def issuer() -> Iterator[LocalIssuer]:
    issuer = LocalIssuer()
    with serve(issuer):
        yield issuer


@pytest.fixture
def server() -> Iterator[CapturedServer]:
    """A tenant whose sign-in page and token endpoint work."""
    with serve_captured() as running:
        running.replace("/oidc/auth", Answer(body=b"the page to sign in"))
        running.replace("/oidc/token", Answer.json(TOKEN))
        running.replace("/oidc/device/auth", Answer.json(CODES))
        yield running


def build_environment(issuer: LocalIssuer, login: str = "alice") -> dict[str, str]:
    return {
        "LOGTO_ENDPOINT": issuer.endpoint,
        "LOGTO_AUDIENCE": API,
        "LOGTO_NATIVE_ID": "local-spa",
        "BROWSER": build_command(login),
    }


def test_a_user_signs_in_by_the_browser_and_only_the_token_is_printed(cli: RunCli, issuer: LocalIssuer) -> None:
    ended = cli("token", "--sign-in", "--scope", "read:user", **build_environment(issuer))

    claims = issuer.read_access_token(ended.out.removesuffix("\n"))
    assert (ended.code, ended.out.count("\n")) == (0, 1)
    assert claims is not None
    assert (claims["sub"], claims["aud"], claims["scope"]) == ("alice0000001", API, "read:user")
    lines = ended.err.splitlines()
    assert lines[0].startswith("Sign in with your browser.")
    query = parse_qs(urlsplit(lines[1]).query)
    assert query["resource"] == [API]
    assert query["scope"] == ["read:user profile"]
    assert query["redirect_uri"][0].startswith("http://127.0.0.1:")
    assert query["code_challenge_method"] == ["S256"]
    assert query.keys().isdisjoint({"prompt", "code_verifier"})


def test_no_module_of_the_current_directory_is_run_to_open_the_browser(
    cli: RunCli, issuer: LocalIssuer, tmp_path: Path
) -> None:
    (tmp_path / "webbrowser.py").write_text("")

    ended = cli("token", "--sign-in", "--scope", "read:user", "--timeout", "10", **build_environment(issuer))

    assert (ended.code, issuer.read_access_token(ended.out.strip()) is None) == (0, False)


def test_the_scopes_of_an_applications_routes_are_requested(
    cli: RunCli, issuer: LocalIssuer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    (tmp_path / "signed.py").write_text(
        "from fastapi import Depends, FastAPI\nfrom fastapi_logto import LogtoAuth\n"
        f"auth, app = LogtoAuth(endpoint='{issuer.endpoint}', audience='{API}'), FastAPI()\n"
        "app.get('/', dependencies=[Depends(auth.require_any_scope('read:user', 'write:user'))])(print)\n"
        "app.get('/members', dependencies=[Depends(auth.require_organization('read:member'))])(print)\n"
    )

    by_application = cli("token", "--sign-in", "--app", "signed:app", "--json", **build_environment(issuer, "bob"))
    by_name = cli("token", "--sign-in", "--app", "signed:app", "--scope", "read:user", **build_environment(issuer))

    inside = cli("token", "--sign-in", "--app", "signed:app", "--organization", "acme", **build_environment(issuer))

    document = json.loads(by_application.out)
    assert (document["scopes"], document["missing"]) == (["read:user"], ["write:user"])
    assert "\nnot granted and not in the token: write:user; " in by_application.err
    assert (issuer.read_access_token(by_name.out.strip()) or {})["scope"] == "read:user"
    assert "read:member" not in by_application.err
    assert "\nnot granted and not in the token: read:member; " in inside.err


def test_a_user_signs_in_to_an_organization(cli: RunCli, issuer: LocalIssuer) -> None:
    ended = cli("token", "--sign-in", "--organization", "acme", "--scope", "read:user", **build_environment(issuer))

    claims = issuer.read_access_token(ended.out.strip())
    assert claims is not None
    assert (claims["organization_id"], claims["aud"]) == ("acme", API)
    query = parse_qs(urlsplit(ended.err.splitlines()[1]).query)
    assert query["scope"] == ["read:user profile offline_access urn:logto:scope:organizations"]
    assert query["prompt"] == ["consent"]


def test_a_user_signs_in_for_an_organization_token(cli: RunCli, issuer: LocalIssuer) -> None:
    ended = cli(
        "token", "--sign-in", "--organization", "acme", "--organization-token", "--scope", "read:member",
        **build_environment(issuer),
    )  # fmt: skip

    claims = issuer.read_access_token(ended.out.strip())
    assert claims is not None
    assert (claims["aud"], claims["scope"]) == ("urn:logto:organization:acme", "read:member")
    query = parse_qs(urlsplit(ended.err.splitlines()[1]).query)
    assert query["resource"] == ["urn:logto:resource:organizations"]
    assert query["scope"] == ["read:member profile offline_access urn:logto:scope:organizations"]


def test_a_user_who_cancels_is_reported(cli: RunCli, issuer: LocalIssuer) -> None:
    ended = cli("token", "--sign-in", **build_environment(issuer, "nobody"))

    assert (ended.code, ended.out) == (2, "")
    assert "expected a code, found 'access_denied' 'End-User aborted interaction'; sign in again" in ended.err


@pytest.mark.parametrize(("mode", "name"), [("--sign-in", "LOGTO_NATIVE_ID"), ("--device", "LOGTO_NATIVE_DEVICE_ID")])
def test_a_sign_in_needs_an_application(cli: RunCli, mode: str, name: str) -> None:
    ended = cli("token", mode, LOGTO_ENDPOINT=ENDPOINT, LOGTO_AUDIENCE=API)

    assert ended.code == 2
    assert f"found none; set {name} or pass --client-id" in ended.err


def test_a_tenant_that_is_unreachable_is_reported(cli: RunCli, server: CapturedServer) -> None:
    environment = {
        "LOGTO_ENDPOINT": ENDPOINT, "LOGTO_FETCH_ENDPOINT": server.endpoint, "LOGTO_AUDIENCE": API,
        "LOGTO_NATIVE_ID": "native", "LOGTO_NATIVE_DEVICE_ID": "device",
    }  # fmt: skip
    for path in ("/oidc/auth", "/oidc/device/auth"):
        server.replace(path, Fault.RESET)
    ended = [cli("token", mode, **environment) for mode in ("--sign-in", "--device")]
    server.replace(DISCOVERY_PATH, Fault.RESET)
    ended += [cli("token", mode, **environment) for mode in ("--sign-in", "--device")]

    assert {one.code for one in ended} == {2}
    assert all("ReadError; run fastapi-logto doctor to find the cause" in one.err for one in ended)


Visit = Callable[[str, str], Awaitable[object]]
"""The action of a browser with the redirect URI and the state of a sign-in."""


def build_settings(server: CapturedServer) -> LogtoSettings:
    return LogtoSettings(endpoint=ENDPOINT, fetch_endpoint=server.endpoint, audience=API)


async def run_sign_in(server: CapturedServer, visit: Visit, *, timeout_seconds: float = 20) -> UserTokens:
    visits: list[asyncio.Future[object]] = []

    def announce(url: str) -> None:
        query = parse_qs(urlsplit(url).query)
        visits.append(asyncio.ensure_future(visit(query["redirect_uri"][0], query["state"][0])))

    try:
        return await sign_in(
            build_settings(server),
            Transport(timeout_seconds=5),
            TokenRequest(resource=API, scopes=("read:user",)),
            client_id="native",
            timeout_seconds=timeout_seconds,
            announce=announce,
        )
    finally:
        for one in visits:
            await one


async def get(url: str, fields: Mapping[str, str]) -> httpx.Response:
    async with httpx.AsyncClient(trust_env=False) as http:
        return await http.get(f"{url}?{urlencode(fields)}")


async def send_code(redirect_uri: str, state: str) -> httpx.Response:
    return await get(redirect_uri, {"code": "the-code", "state": state, "iss": f"{ENDPOINT}/oidc"})


async def test_the_page_after_a_sign_in_repeats_nothing(server: CapturedServer) -> None:
    pages: list[httpx.Response] = []

    async def visit(redirect_uri: str, state: str) -> None:
        pages.append(await send_code(redirect_uri, state))

    tokens = await run_sign_in(server, visit)

    assert (tokens.access_token, tokens.scopes) == ("a.b.c", ("read:user",))
    assert "the-refresh" not in repr(tokens)
    assert "a.b.c" not in repr(tokens)
    assert pages[0].status_code == 200
    assert "Return to the terminal" in pages[0].text
    assert "the-code" not in pages[0].text
    assert pages[0].headers["Cache-Control"] == "no-store"
    assert pages[0].headers["Referrer-Policy"] == "no-referrer"


async def test_requests_that_are_not_the_response_change_nothing(server: CapturedServer) -> None:
    statuses: list[int] = []

    async def visit(redirect_uri: str, state: str) -> None:
        issuer, base = f"{ENDPOINT}/oidc", redirect_uri.removesuffix("/callback")
        async with httpx.AsyncClient(trust_env=False) as http:
            urls = (
                f"{redirect_uri}?code=stolen&state=another&iss={issuer}",
                f"{redirect_uri}?code=stolen&iss={issuer}",
                f"{redirect_uri}?code=a&code=b&state={state}&iss={issuer}",
                f"{redirect_uri}?error=access_denied&state=another",
                f"{redirect_uri}?state={state}{'&a=b' * 50}",
                f"{base}/favicon.ico",
                f"{base}/?code=stolen&state={state}",
            )
            statuses.extend([(await http.get(url)).status_code for url in urls])
            statuses.append((await http.post(f"{redirect_uri}?code=stolen&state={state}")).status_code)
        statuses.append((await send_code(redirect_uri, state)).status_code)

    tokens = await run_sign_in(server, visit)

    assert tokens.access_token == "a.b.c"
    assert statuses == [400, 400, 400, 400, 400, 404, 404, 404, 200]


async def test_a_second_code_is_ignored(server: CapturedServer) -> None:
    addresses: list[tuple[str, str]] = []

    async def visit(redirect_uri: str, state: str) -> None:
        addresses.append((redirect_uri, state))
        await asyncio.gather(*(send_code(redirect_uri, state) for _ in range(3)))

    await run_sign_in(server, visit)

    assert server.counts["/oidc/token"] == 1
    with pytest.raises(httpx.ConnectError):
        await send_code(*addresses[0])


@asynccontextmanager
async def connect(redirect_uri: str) -> AsyncGenerator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    reader, writer = await asyncio.open_connection("127.0.0.1", urlsplit(redirect_uri).port)
    try:
        yield reader, writer
    finally:
        writer.close()


async def test_idle_connections_do_not_block_the_response(server: CapturedServer) -> None:
    async def visit(redirect_uri: str, state: str) -> None:
        # Like browsers, which open connections in advance.
        async with (
            connect(redirect_uri),
            connect(redirect_uri) as (reader, writer),
            connect(redirect_uri) as (_, early),
        ):
            early.close()
            writer.write(b"G" * 20_000)
            assert await reader.read() == b""
            await send_code(redirect_uri, state)

    assert (await run_sign_in(server, visit)).access_token == "a.b.c"


def test_an_idle_connection_leaves_no_error_behind(caplog: pytest.LogCaptureFixture) -> None:
    async def receive_code(idle: socket.socket) -> Mapping[str, str]:
        async with Callback.listen(state="the-state") as callback:
            await asyncio.to_thread(idle.connect, ("127.0.0.1", urlsplit(callback.redirect_uri).port))
            await send_code(callback.redirect_uri, "the-state")
            return await callback.receive(timeout_seconds=10)

    with socket.socket() as idle:
        received = asyncio.run(receive_code(idle))

    assert received["state"] == "the-state"
    assert caplog.records == []


async def test_a_sign_in_that_nobody_finishes_ends(server: CapturedServer) -> None:
    async def leave(_redirect_uri: str, _state: str) -> None:
        pass

    async def forge(redirect_uri: str, _state: str) -> None:
        await send_code(redirect_uri, "another")

    with pytest.raises(CommandError, match=r"expected a response within 0\.5 s, found none; sign in at the URL above"):
        await run_sign_in(server, leave, timeout_seconds=0.5)
    with pytest.raises(CommandError, match=r"within 0\.5 s, found a response with another state"):
        await run_sign_in(server, forge, timeout_seconds=0.5)
    assert server.counts["/oidc/token"] == 0


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"code": "c", "iss": "https://evil.example/oidc"}, "found one of 'https://evil.example/oidc'; sign in again"),
        ({"code": "c"}, "found one of None"),
        ({"error": "access_denied"}, "found one of None"),
        ({"code": "", "iss": f"{ENDPOINT}/oidc"}, "expected a code, found none"),
        (
            {"error": "access_denied", "error_description": "no\x1b[2J", "iss": f"{ENDPOINT}/oidc"},
            r"expected a code, found 'access_denied' 'no\\x1b\[2J'; sign in again and allow",
        ),
        ({"error": "server_error", "iss": f"{ENDPOINT}/oidc"}, "found 'server_error' ''; run fastapi-logto doctor"),
    ],
)
async def test_a_response_without_a_code_of_this_tenant_is_refused(
    server: CapturedServer, fields: dict[str, str], message: str
) -> None:
    with pytest.raises(CommandError, match=message):
        await run_sign_in(server, lambda redirect_uri, state: get(redirect_uri, {**fields, "state": state}))

    assert server.counts["/oidc/token"] == 0


async def test_a_tenant_that_sends_no_issuer_needs_none(server: CapturedServer) -> None:
    base = f"{server.endpoint}/oidc"
    document = {
        "issuer": f"{ENDPOINT}/oidc", "jwks_uri": f"{base}/jwks",
        "token_endpoint": f"{base}/token", "authorization_endpoint": f"{base}/auth",
    }  # fmt: skip
    server.replace(DISCOVERY_PATH, Answer.json(document))

    tokens = await run_sign_in(server, lambda uri, state: get(uri, {"code": "c", "state": state}))
    with pytest.raises(CommandError, match="found one of 'x'"):
        await run_sign_in(server, lambda uri, state: get(uri, {"code": "c", "state": state, "iss": "x"}))

    assert tokens.access_token == "a.b.c"


async def test_a_tenant_without_the_endpoint_at_its_own_origin_is_refused(server: CapturedServer) -> None:
    base = f"{server.endpoint}/oidc"
    document = {
        "issuer": f"{ENDPOINT}/oidc", "jwks_uri": f"{base}/jwks", "token_endpoint": f"{base}/token",
        "authorization_endpoint": "https://evil.example/auth", "device_authorization_endpoint": "file:///etc/passwd",
    }  # fmt: skip
    server.replace(DISCOVERY_PATH, Answer.json(document))

    with pytest.raises(CommandError, match="expected authorization_endpoint at the origin"):
        await run_sign_in(server, send_code)
    with pytest.raises(CommandError, match="expected device_authorization_endpoint at the origin"):
        await run_device(server)


async def test_nobody_signs_in_at_a_tenant_whose_tokens_are_elsewhere(server: CapturedServer) -> None:
    base = f"{server.endpoint}/oidc"
    document = {
        "issuer": f"{ENDPOINT}/oidc", "jwks_uri": f"{base}/jwks", "token_endpoint": "https://evil.example/token",
        "authorization_endpoint": f"{base}/auth", "device_authorization_endpoint": f"{base}/device/auth",
    }  # fmt: skip
    server.replace(DISCOVERY_PATH, Answer.json(document))

    for run in (run_sign_in(server, send_code), run_device(server)):
        with pytest.raises(CommandError, match="expected token_endpoint at the origin"):
            await run
    assert (server.counts["/oidc/auth"], server.counts["/oidc/device/auth"]) == (0, 0)


UNKNOWN: Final = "the tenant has no application native: in the console, under Applications, copy the App ID"
UNREGISTERED: Final = "open the native application native, and add exactly http://127.0.0.1/callback to its redirect"


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (Answer.json({"code": "oidc.invalid_client", "error": "invalid_client"}, status=400), f"status 400; {UNKNOWN}"),
        (Answer.json({"error": "invalid_redirect_uri"}, status=400), f"status 400; in the console, .*{UNREGISTERED}"),
        (
            Answer.json({"code": "\x1b[2J", "error": 1}, status=400),
            f"{UNREGISTERED}.*; if the tenant has no such application",
        ),
        (Answer(status=500, body=b"<html>"), f"status 500; .*{UNREGISTERED}"),
        (Answer.redirect("http://127.0.0.1/?error=invalid_target"), "compare LOGTO_AUDIENCE, or --resource, with"),
    ],
)
async def test_a_page_that_shows_an_error_opens_no_browser(
    server: CapturedServer, answer: Answer, message: str
) -> None:
    server.replace("/oidc/auth", answer)

    with pytest.raises(CommandError, match=message):
        await run_sign_in(server, send_code)


@pytest.mark.parametrize(
    ("document", "found"),
    [
        ({"error": "invalid_grant", "error_description": "the-code was used twice"}, r"'\*\*\*'"),
        ({"error": "the-code"}, r"'\*\*\*'"),
        ({"error": ["the-code"], "error_description": {"the-code": 1}}, "None"),
    ],
)
async def test_an_error_of_the_token_endpoint_repeats_no_code(
    server: CapturedServer, document: Mapping[str, object], found: str
) -> None:
    server.replace("/oidc/token", Answer.json(document, status=400))

    with pytest.raises(CommandError, match=rf"expected a token, found {found} \(status 400\)") as caught:
        await run_sign_in(server, send_code)
    assert "the-code" not in str(caught.value)


def mint(server: CapturedServer, tokens: Awaitable[UserTokens]) -> None:
    mint_by_sign_in(build_settings(server), TokenRequest(resource=API), _as_coroutine(tokens))


async def _as_coroutine(tokens: Awaitable[UserTokens]) -> UserTokens:
    return await tokens


def test_an_opaque_token_is_not_printed(server: CapturedServer) -> None:
    opaque = UserTokens(access_token="o" * 43, refresh_token=None, scopes=())

    async def respond() -> UserTokens:
        return opaque

    with pytest.raises(CommandError, match=f"expected a token for {API}, found an opaque one"):
        mint(server, respond())


async def run_device(
    server: CapturedServer, *answers: Answer, waits: list[float] | None = None, codes: list[DeviceCode] | None = None
) -> UserTokens:
    """Sign in on another device. The token endpoint returns one response after each wait, and the last one again."""
    left = list(answers)

    async def sleep(seconds: float) -> None:
        await asyncio.sleep(0)
        if waits is not None:
            waits.append(seconds)
        if left:
            server.replace("/oidc/token", left.pop(0))

    return await sign_in_by_device(
        build_settings(server),
        Transport(timeout_seconds=5),
        TokenRequest(resource=API, scopes=("read:user",)),
        client_id="device",
        announce=(codes if codes is not None else []).append,
        sleep=sleep,
    )


def fail(error: object) -> Answer:
    return Answer.json({"error": error, "error_description": "the-device-code and more"}, status=400)


async def test_the_command_waits_for_the_interval_of_the_tenant(server: CapturedServer) -> None:
    waits: list[float] = []
    codes: list[DeviceCode] = []

    tokens = await run_device(
        server, fail("authorization_pending"), fail("slow_down"), fail("authorization_pending"), Answer.json(TOKEN),
        waits=waits, codes=codes,
    )  # fmt: skip

    assert tokens.access_token == "a.b.c"
    assert waits == [5, 5, 10, 10]
    # The last request exchanges the refresh token.
    assert server.counts["/oidc/token"] == 5
    assert (codes[0].verification_uri, codes[0].user_code) == ("https://tenant.example/device", "ABCD-EFGH")
    assert "the-device-code" not in repr(codes)


@pytest.mark.parametrize(
    ("error", "message"),
    [
        ("expired_token", "the code has expired; run the command again"),
        ("access_denied", "the sign-in was cancelled, or the user has none of the scopes"),
        ("invalid_grant", "run the command again"),
        (1, "run the command again"),
    ],
)
async def test_a_sign_in_on_another_device_that_fails_ends(server: CapturedServer, error: object, message: str) -> None:
    with pytest.raises(CommandError, match=rf"expected a token, found '\*\*\*' \(status 400\); {message}"):
        await run_device(server, fail(error))


async def test_a_code_expires_even_if_the_tenant_never_reports_it(server: CapturedServer) -> None:
    server.replace("/oidc/device/auth", Answer.json({**CODES, "expires_in": 60, "interval": 20}))
    waits: list[float] = []

    with pytest.raises(CommandError, match="expected a sign-in within 60 s, found none"):
        await run_device(server, fail("authorization_pending"), waits=waits)
    assert waits == [20, 20, 20]


@pytest.mark.parametrize(
    ("interval", "expected"), [(0, 1), (-5, 1), (10**400, 1800), (None, 5), ("1", 5), (True, 5), (2.5, 2.5)]
)
async def test_the_interval_of_the_tenant_has_bounds(server: CapturedServer, interval: object, expected: float) -> None:
    server.replace("/oidc/device/auth", Answer.json({**CODES, "interval": interval}))
    waits: list[float] = []

    await run_device(server, Answer.json(TOKEN), waits=waits)

    assert waits == [expected]


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (
            Answer.json({"error": "unauthorized_client"}, status=400),
            r"found 'unauthorized_client' \(status 400\); use the",
        ),
        (Answer(status=404), r"found '' \(status 404\); use the App ID of a native application with device flow"),
        (Answer(body=b"<html>"), "expected a URL and two codes, found none or an invalid one"),
        (Answer.json({**CODES, "verification_uri": "javascript:alert(1)"}), "expected a URL and two codes"),
        (Answer.json({**CODES, "verification_uri": "http://["}), "expected a URL and two codes"),
        (Answer.json({**CODES, "verification_uri": "https://a.example/\x1b[2J"}), "expected a URL and two codes"),
        (Answer.json({**CODES, "user_code": 1}), "expected a URL and two codes"),
        (Answer.json({**CODES, "device_code": None}), "expected a URL and two codes"),
    ],
)
async def test_a_tenant_that_issues_no_codes_is_reported(server: CapturedServer, answer: Answer, message: str) -> None:
    server.replace("/oidc/device/auth", answer)

    with pytest.raises(CommandError, match=message):
        await run_device(server)


async def test_a_sign_in_on_another_device_needs_a_refresh_token(server: CapturedServer) -> None:
    document = {name: value for name, value in TOKEN.items() if name != "refresh_token"}

    with pytest.raises(CommandError, match="expected a refresh token for this sign-in, found none"):
        await run_device(server, Answer.json(document))


@pytest.mark.parametrize("complete", ["https://tenant.example/device?user_code=ABCD-EFGH", None])
def test_the_command_for_another_device_prints_only_the_token(
    cli: RunCli, server: CapturedServer, complete: str | None
) -> None:
    server.replace("/oidc/device/auth", Answer.json({**CODES, "interval": 1, "verification_uri_complete": complete}))
    ended = cli(
        "token", "--device", "--client-id", "device",
        LOGTO_ENDPOINT=ENDPOINT, LOGTO_FETCH_ENDPOINT=server.endpoint, LOGTO_AUDIENCE=API,
    )  # fmt: skip

    assert (ended.code, ended.out) == (0, "a.b.c\n")
    assert ended.err.startswith(
        "Sign in on any device: open https://tenant.example/device and enter the code ABCD-EFGH"
    )
    assert ("user_code=ABCD-EFGH" in ended.err) is (complete is not None)
