"""No input can overflow the stack of a thread with a small stack. Each program below runs in a separate process."""

import subprocess
import sys

import pytest

# By default, threads have 1 MiB on Alpine; this is a quarter of it.
PROGRAM = """
import asyncio, json, logging, sys, threading
threading.stack_size(256 * 1024)
logging.disable()
import httpx

from fastapi_logto import LogtoAuth, LogtoSettings
from fastapi_logto.errors import MalformedTokenError, RefusalError
from fastapi_logto.strict_json import StrictJsonError, parse_object, parse_object_of_entries
from fastapi_logto.testing import LocalIssuer

SHAPES = {
    "lists": lambda size: b"[" * (size // 2) + b"]" * (size // 2),
    "unclosed lists": lambda size: b"[" * size,
    "objects": lambda size: b'{"":' * (size // 6) + b"1" + b"}" * (size // 6),
    "both": lambda size: b'[{"":' * (size // 7) + b"1" + b"}]" * (size // 7),
    "behind a text with brackets": lambda size: b'{"a": "]]]]\\\\"]]", "b": ' + b"[" * size,
    "behind escapes": lambda size: b'{"\\\\\\\\": "' + b"\\\\\\\\" * 100 + b'", "b": ' + b"[" * size,
    "in a member": lambda size: b'{"keys": ' + b"[" * (size // 2) + b"]" * (size // 2) + b"}",
}

def parsers():
    for parse in (parse_object, parse_object_of_entries):
        for name, shape in SHAPES.items():
            for size in (2_000, 5_500, 11_000, 97_000, 256 * 1024):
                try:
                    parse(shape(size))
                except StrictJsonError:
                    continue
                raise SystemExit(f"{parse.__name__} accepted {name} of {size} bytes")

def tokens():
    issuer = LocalIssuer(endpoint="https://a.example.com")
    endpoints = ("https://a.example.com", "https://b.example.com")
    settings = [LogtoSettings(endpoint=endpoint, audience="x", max_token_bytes=131_072) for endpoint in endpoints]
    transport = httpx.ASGITransport(app=issuer.app)
    several = LogtoAuth(settings=settings, http_transport=transport)
    one = LogtoAuth(settings=settings[0], http_transport=transport)
    async def refuse(auth, token):
        try:
            await auth.verify(token)
        except MalformedTokenError:
            return
        raise SystemExit("a nested token was not refused")
    async def main():
        for shape in SHAPES.values():
            for size in (5_500, 11_000, 95_000):
                token = issuer.sign(shape(size))
                if len(token) <= 131_072:
                    await refuse(several, token)
                    await refuse(one, token)
                    head, _, rest = token.partition(".")
                    await refuse(several, head + "." + rest.partition(".")[0] + ".AAAA")
    asyncio.run(main())

def actors():
    issuer = LocalIssuer(endpoint="https://a.example.com")
    auth = LogtoAuth(
        endpoint="https://a.example.com", audience="https://api.example.test",
        http_transport=httpx.ASGITransport(app=issuer.app),
    )
    async def outcome(count):
        act = {"sub": "x"}
        for _ in range(count - 1):
            act = {"sub": "x", "act": act}
        try:
            return (await auth.verify(issuer.access_token(claims={"act": act}))).act.sub
        except RefusalError as error:
            return error.reason
    async def main():
        return [await outcome(count) for count in (1, 8, 9, 31, 32, 40)]
    found = asyncio.run(main())
    if found != ["x", "x", "claims", "claims", "malformed", "malformed"]:
        raise SystemExit(f"found {found}")

def documents():
    for shape in SHAPES.values():
        for path in ("openid-configuration", "jwks"):
            def answer(request, shape=shape, path=path):
                good = {"issuer": "https://a.example.com/oidc", "jwks_uri": "https://a.example.com/oidc/jwks"}
                is_hostile = request.url.path.endswith(path)
                return httpx.Response(200, content=shape(250_000) if is_hostile else json.dumps(good).encode())
            auth = LogtoAuth(endpoint="https://a.example.com", audience="x", http_transport=httpx.MockTransport(answer))
            try:
                asyncio.run(auth.verify(LocalIssuer(endpoint="https://a.example.com").access_token()))
            except RefusalError as error:
                if error.status == 503:
                    continue
            raise SystemExit("a nested document was not refused")

def run(work, outcome):
    work()
    outcome.append("done")

outcome = []
thread = threading.Thread(target=run, args=(globals()[sys.argv[1]], outcome))
thread.start()
thread.join()
sys.exit(0 if outcome else 1)
"""


@pytest.mark.parametrize("part", ["parsers", "tokens", "actors", "documents"])
def test_nesting_as_deep_as_the_size_limits_allow_is_refused_and_ends_no_process(part: str) -> None:
    ended = subprocess.run(
        [sys.executable, "-c", PROGRAM, part], capture_output=True, text=True, timeout=120, check=False
    )

    assert (ended.returncode, ended.stderr) == (0, "")
