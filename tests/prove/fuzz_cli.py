"""The command line against a hostile tenant: no traceback, no control character, no secret, and an exit code."""

import asyncio
import io
import os
import random
import sys
import tempfile
import threading
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from fastapi_logto.cli import main
from fastapi_logto.testing.signing import encode_segment
from tests.attack.report import Tally
from tests.captured import JWKS
from tests.prove.fuzz_answers import HostileServer, build_answer, build_valid, run_hostile_server
from tests.vectors.forge import API, Forge, build_claims_set, dump

Run = Callable[[tuple[str, ...]], int]

_SEED: Final = 20_261_130
_COUNT: Final = 250
_SECRET: Final = "hunter2-of-the-machine"
_HEADER: Final = encode_segment(dump({"alg": "ES384", "typ": "at+jwt", "kid": JWKS["keys"][0]["kid"]}))
_SIGNATURE: Final = encode_segment(b"signature-of-the-token" * 4 + b"12345678")
_TOKEN: Final = f"{_HEADER}.{encode_segment(dump(build_claims_set()))}.{_SIGNATURE}"
_HOOK: Final = "hook00000001"
_URL: Final = "https://api.example.test/webhooks/logto"
_MOST_PRINTED: Final = 200_000
_CODES: Final = frozenset({0, 1, 2})
_DISCOVERY: Final = "/oidc/.well-known/openid-configuration"
_APPLICATION: Final = (
    "from fastapi import Depends, FastAPI\nfrom fastapi_logto import LogtoAuth\nauth, app = LogtoAuth(), FastAPI()\n"
    "app.get('/x', dependencies=[Depends(auth.require_scopes('read', 'write'))])(print)\n"
)
_COMMANDS: Final[Mapping[tuple[str, ...], tuple[str, ...]]] = {
    ("doctor",): (_DISCOVERY, "/oidc/jwks", "/oidc/auth"),
    ("doctor", "--json"): (_DISCOVERY, "/oidc/jwks", "/oidc/auth"),
    ("doctor", "--token-stdin"): (_DISCOVERY, "/oidc/jwks"),
    ("inspect", "--verify"): (_DISCOVERY, "/oidc/jwks"),
    ("token", "--machine"): (_DISCOVERY, "/oidc/token"),
    ("token", "--machine", "--json"): (_DISCOVERY, "/oidc/token"),
    ("token", "--device"): (_DISCOVERY, "/oidc/device/auth"),
    ("scopes", "diff", "fuzzed:app"): (_DISCOVERY, "/oidc/token", "/api/resources", "/api/resources/r1/scopes"),
    ("scopes", "push", "fuzzed:app", "--yes"): ("/oidc/token", "/api/resources", "/api/resources/r1/scopes"),
    ("webhook", "push", "--url", _URL, "--yes"): ("/oidc/token", "/api/hooks", f"/api/hooks/{_HOOK}"),
    ("webhook", "push", "--url", _URL, "--hook-id", _HOOK, "--yes", "--json"): ("/api/hooks", f"/api/hooks/{_HOOK}"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Ended:
    """The result of a command."""

    code: int
    printed: str = field(repr=False)


async def run_cli(tally: Tally, forge: Forge, *, count: int = _COUNT, run: Run = main) -> None:
    """Run commands while one response of the tenant is hostile. The token on standard input is invalid."""
    del forge
    await asyncio.to_thread(_run_cases, tally, count, run)


def _run_cases(tally: Tally, count: int, run: Run) -> None:
    codes: set[int] = set()
    with _serve() as server, _serve() as elsewhere, tempfile.TemporaryDirectory() as directory:
        Path(directory, "fuzzed.py").write_text(_APPLICATION, encoding="utf-8")
        for number in range(count):
            rng = random.Random(f"{_SEED} {number}")  # noqa: S311 - the same cases in each run
            command = rng.choice(list(_COMMANDS))
            path = rng.choice(_COMMANDS[command])
            server.answers = {place: build_valid(value) for place, value in _build_documents(server.endpoint).items()}
            answer = build_answer(rng, _build_documents(server.endpoint)[path], elsewhere.endpoint)
            server.answers[path] = answer
            with _environment(server.endpoint, directory, seconds=0.2 if answer.is_slow else 20):
                ended = _run(run, command)
            codes.add(ended.code)
            tally.count(f"{number}: {' '.join(command[:3])} with {path}: {answer.what}", _find_problem(ended))
        if elsewhere.most_sent:
            tally.fail("a request went to a host that only a document names")
    if len(codes) == 1:
        tally.fail(f"expected commands that end in different ways, found only {codes}")


def _find_problem(ended: _Ended) -> str | None:
    odd = {one for one in ended.printed if not one.isprintable()} - {"\n"}
    if odd:
        return f"printed {sorted(map(ord, odd))[:5]}"
    if "Traceback" in ended.printed:
        return "printed a traceback"
    if _SECRET in ended.printed or _SIGNATURE in ended.printed:
        return "printed a secret"
    if len(ended.printed) > _MOST_PRINTED:
        return f"printed {len(ended.printed)} characters"
    return None if ended.code in _CODES else f"exit code {ended.code}"


def _run(run: Run, command: tuple[str, ...]) -> _Ended:
    out = io.TextIOWrapper(io.BytesIO(), encoding="utf-8", write_through=True)
    before, sys.stdin = sys.stdin, io.TextIOWrapper(io.BytesIO(_TOKEN.encode()))
    sys.modules.pop("fuzzed", None)
    try:
        with redirect_stdout(out), redirect_stderr(out):
            code = run(command)
    except BaseException as error:  # noqa: BLE001 - the finding itself
        return _Ended(code=-1, printed=f"Traceback: {type(error).__name__}")
    finally:
        sys.stdin = before
    out.buffer.seek(0)
    return _Ended(code=code, printed=out.buffer.read().decode("utf-8"))


@contextmanager
def _environment(endpoint: str, directory: str, *, seconds: float) -> Generator[None]:
    """Set the variables of a command, and change to a directory with an application."""
    given = {
        "LOGTO_ENDPOINT": endpoint,
        "LOGTO_AUDIENCE": API,
        "LOGTO_FETCH_TIMEOUT_SECONDS": str(seconds),
        "LOGTO_SWAGGER_CLIENT_ID": "spa",
        "LOGTO_MACHINE_ID": "machine",
        "LOGTO_MACHINE_SECRET": _SECRET,
        "LOGTO_NATIVE_DEVICE_ID": "device",
        "LOGTO_MANAGEMENT_CLIENT_ID": "machine",
        "LOGTO_MANAGEMENT_CLIENT_SECRET": _SECRET,
        "COLUMNS": "100",
    }
    before, place, path = dict(os.environ), Path.cwd(), list(sys.path)
    os.environ.update(given)
    os.chdir(directory)
    sys.path.insert(0, directory)
    try:
        yield
    finally:
        sys.path[:] = path
        os.chdir(place)
        os.environ.clear()
        os.environ.update(before)


@contextmanager
def _serve() -> Generator[HostileServer]:
    """Serve from the loop of a thread, because a command runs its own loop."""
    ready, ended, found = threading.Event(), threading.Event(), list[HostileServer]()

    async def serve() -> None:
        async with run_hostile_server() as server:
            found.append(server)
            ready.set()
            await asyncio.to_thread(ended.wait)

    thread = threading.Thread(target=asyncio.run, args=(serve(),), daemon=True)
    thread.start()
    ready.wait()
    try:
        yield found[0]
    finally:
        ended.set()
        thread.join()


def _build_documents(endpoint: str) -> dict[str, object]:
    base = f"{endpoint}/oidc"
    hook = {
        "id": _HOOK,
        "name": "Mine",
        "config": {"url": _URL},
        "events": ["User.Deleted", "User.SuspensionStatus.Updated"],
        "enabled": True,
        "signingKey": "signing-key-of-the-hook",
    }
    return {
        _DISCOVERY: {
            "issuer": base,
            "jwks_uri": f"{base}/jwks",
            "token_endpoint": f"{base}/token",
            "authorization_endpoint": f"{base}/auth",
            "device_authorization_endpoint": f"{base}/device/auth",
        },
        "/oidc/jwks": JWKS,
        "/oidc/auth": {"code": "x", "message": "y"},
        "/oidc/token": {"access_token": "a.b.c", "token_type": "Bearer", "scope": "all", "expires_in": 60},
        "/oidc/device/auth": {"error": "invalid_request", "error_description": "none"},
        "/api/resources": [{"id": "r1", "indicator": API, "name": "Mine"}],
        "/api/resources/r1/scopes": [{"id": "s1", "name": "read", "description": "Read"}],
        "/api/hooks": [hook],
        f"/api/hooks/{_HOOK}": hook,
    }
