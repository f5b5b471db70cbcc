"""`token --sign-in` and `token --device` at the real server that Logto is built on."""

import asyncio
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from fastapi_logto import LogtoAuth, LogtoSettings
from fastapi_logto.cli.device import DeviceCode, sign_in_by_device
from fastapi_logto.cli.results import CommandError
from fastapi_logto.cli.token_requests import TokenRequest
from fastapi_logto.provider.transport import Transport
from fastapi_logto.verification.claims import TokenClaims
from tests.browser import browse, build_command
from tests.integration.processes import run_command
from tests.integration.provider import API, Provider


def verify(provider: Provider, token: str) -> TokenClaims:
    return asyncio.run(LogtoAuth(endpoint=provider.endpoint, audience=API).verify(token))


def build_environment(provider: Provider, login: str) -> dict[str, str]:
    return {
        "LOGTO_ENDPOINT": provider.endpoint,
        "LOGTO_AUDIENCE": API,
        "LOGTO_NATIVE_ID": "native",
        "LOGTO_NATIVE_DEVICE_ID": "device",
        "BROWSER": build_command(login),
    }


def test_a_user_signs_in_and_only_the_token_is_on_standard_output(provider: Provider, tmp_path: Path) -> None:
    done = run_command(
        "token", "--sign-in", "--scope", "read:user", "--scope", "write:user",
        environment=build_environment(provider, "bob"), cwd=tmp_path,
    )  # fmt: skip

    assert done.returncode == 0, done.stderr
    claims = verify(provider, done.stdout.removesuffix("\n"))
    assert (claims.user_id, claims.client_id, claims.scopes) == ("bob", "native", frozenset({"read:user"}))
    assert "not granted and not in the token: write:user" in done.stderr


def test_a_user_without_a_scope_signs_in_too(provider: Provider, tmp_path: Path) -> None:
    done = run_command(
        "token", "--sign-in", "--scope", "read:user", environment=build_environment(provider, "carol"), cwd=tmp_path
    )

    assert done.returncode == 0, done.stderr
    assert verify(provider, done.stdout.strip()).scopes == set()


def test_a_redirect_uri_that_is_not_registered_is_reported_before_a_browser_opens(
    provider: Provider, tmp_path: Path
) -> None:
    for client_id, advice in (
        ("spa", "add exactly http://127.0.0.1/callback to its redirect URIs"),
        ("none", "no app"),
    ):
        done = run_command(
            "token", "--sign-in", "--client-id", client_id,
            environment=build_environment(provider, "alice"), cwd=tmp_path,
        )  # fmt: skip

        assert (done.returncode, done.stdout) == (2, "")
        assert advice in done.stderr


async def sign_in_on_device(provider: Provider, *, login: str) -> tuple[str, list[float]]:
    """Return the access token, and the waits before each request for it."""
    waits: list[float] = []
    codes: list[DeviceCode] = []

    async def sleep(seconds: float) -> None:
        waits.append(seconds)
        if len(waits) == 2:
            await asyncio.to_thread(browse, codes[0].verification_uri_complete or "", login=login)

    tokens = await sign_in_by_device(
        LogtoSettings(endpoint=provider.endpoint, audience=API),
        Transport(timeout_seconds=10),
        TokenRequest(resource=API, scopes=("read:user",)),
        client_id="device",
        announce=codes.append,
        sleep=sleep,
    )
    assert codes[0].verification_uri.startswith(provider.endpoint)
    return tokens.access_token, waits


async def test_a_user_signs_in_on_another_device(provider: Provider) -> None:
    token, waits = await sign_in_on_device(provider, login="bob")

    claims = await LogtoAuth(endpoint=provider.endpoint, audience=API).verify(token)
    assert (claims.user_id, claims.client_id, claims.scopes) == ("bob", "device", frozenset({"read:user"}))
    assert waits == [5.0, 5.0]


async def test_a_sign_in_that_is_refused_on_the_other_device_ends(provider: Provider) -> None:
    with pytest.raises(CommandError, match="the sign-in was cancelled"):
        await sign_in_on_device(provider, login="nobody")


def test_the_command_for_another_device_shows_url_and_code(provider: Provider, tmp_path: Path) -> None:
    environment = {**os.environ, **build_environment(provider, "alice")}
    command = [sys.executable, "-m", "fastapi_logto", "token", "--device", "--scope", "read:user"]
    with (
        subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment, cwd=tmp_path
        ) as process,
        ThreadPoolExecutor() as executor,
    ):
        assert process.stderr is not None
        shown = process.stderr.readline()
        urls = [process.stderr.readline(), process.stderr.readline()]
        executor.submit(browse, urls[1].strip(), login="alice").result()
        out, rest = process.communicate(timeout=60)

    assert shown.startswith(f"Sign in on any device: open {provider.issuer}/device and enter the code ")
    assert (process.returncode, rest) == (0, "")
    assert verify(provider, out.strip()).user_id == "alice"
