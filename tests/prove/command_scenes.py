"""Scenes of the command line: secrets on standard input and in the environment, and commands that issue some."""

import asyncio
import io
import os
import re
import secrets
import sys
from collections.abc import Mapping, Sequence
from contextlib import redirect_stderr, redirect_stdout
from typing import Final

from fastapi_logto.cli import main
from tests.browser import build_command
from tests.captured import Answer, serve_captured
from tests.prove import expected
from tests.prove.observing import Run, Scene
from tests.prove.served import Served
from tests.vectors.forge import API

HANDED_OVER: Final[Mapping[str, str]] = {
    "/oidc/token of the local issuer": "the endpoint issues the tokens",
    "fastapi-logto token": "the command prints the token that was requested, on standard output",
    "fastapi-logto webhook push": "the command prints the new signing key of a webhook, once, on standard output",
}
"""Commands that output a secret on purpose, with the reason. Only this secret is not searched for."""
_HANDED_OVER: Final = re.compile(
    r"^eyJ[\w.-]+$"
    r'|(?<="access_token": ")[\w.-]+'
    r"|(?<=^LOGTO_WEBHOOK_SIGNING_KEY=)\w+$"
    r'|(?<="LOGTO_WEBHOOK_SIGNING_KEY": ")\w+',
    re.MULTILINE,
)


async def _run_command_line(run: Run) -> None:
    """Run commands with tokens on standard input and secrets in the environment."""
    served = Served(run)
    issuer, password, key = served.issuer, secrets.token_urlsafe(24), secrets.token_hex(16)
    run.canaries.add("the password of Redis", password)
    run.canaries.add("the signing key", key)
    with issuer.serve():
        environment = {
            "LOGTO_ENDPOINT": issuer.endpoint,
            "LOGTO_AUDIENCE": API,
            "LOGTO_REDIS_URL": f"redis://user:{password}@127.0.0.1:9/0",
            "LOGTO_WEBHOOK_ID": issuer.add_hook("http://127.0.0.1:9/", signing_key=key).id,
            "LOGTO_WEBHOOK_SIGNING_KEY": key,
            "NO_COLOR": "1",
        }
        for name in ("LOGTO_MACHINE", "LOGTO_MANAGEMENT_CLIENT"):
            environment |= {f"{name}_ID": "api-machine", f"{name}_SECRET": served.secret}
        tokens = [issuer.access_token(), issuer.bad_token("forged"), issuer.opaque_token(), issuer.id_token()]
        tokens += [issuer.personal_access_token(), f"{tokens[0]}\x1b[31m", f"Bearer {tokens[0]}", tokens[0] * 3]
        for token in tokens:
            run.canaries.add_token("the token", token)
            for command in (
                ["doctor", "--token-stdin"],
                ["doctor", "--json", "--token-stdin"],
                ["inspect", "--verify"],
            ):
                await _run_command(run, command, stdin=token, environment=environment)
        for command in (
            ["doctor", tokens[0]],
            ["doctor", "--token", tokens[0]],
            ["inspect", tokens[0]],
            ["--secret", served.secret],
            ["webhook", "follow", "--redis-url", environment["LOGTO_REDIS_URL"]],
            ["token", "--machine", "--resource", "https://unknown.example.test"],
        ):
            await _run_command(run, command, environment=environment)
        wrong = environment | {"LOGTO_MACHINE_SECRET": f"{served.secret}x"}
        await _run_command(run, ["token", "--machine"], environment=wrong)
        wrong = environment | {"LOGTO_ENDPOINT": f"https://user:{password}@tenant.example.test"}
        await _run_command(run, ["doctor"], environment=wrong)


async def _run_issuing_commands(run: Run) -> None:
    """Run commands that print a secret on purpose. All other output is searched."""
    served = Served(run)
    with served.issuer.serve():
        environment = {
            "LOGTO_ENDPOINT": served.issuer.endpoint,
            "LOGTO_AUDIENCE": API,
            "LOGTO_NATIVE_ID": "local-spa",
            "BROWSER": build_command("alice"),
            "NO_COLOR": "1",
        }
        for name in ("LOGTO_MACHINE", "LOGTO_MANAGEMENT_CLIENT"):
            environment |= {f"{name}_ID": "api-machine", f"{name}_SECRET": served.secret}
        for command in (
            ["token", "--machine", "--scope", "read:user"],
            ["token", "--machine", "--organization", "acme", "--scope", "read:user"],
            ["token", "--user", "alice", "--scope", "read:user"],
            ["token", "--sign-in", "--scope", "read:user", "--timeout", "10"],
            ["token", "--sign-in", "--scope", "read:user", "--json", "--timeout", "10"],
            ["webhook", "push", "--poll-only", "--yes"],
            ["webhook", "push", "--poll-only", "--yes", "--rotate-key", "--json"],
        ):
            await _run_command(run, command, environment=environment, hands_over=True)
    issued = {"access_token": served.issuer.access_token()}
    issued |= {name: secrets.token_urlsafe(32) for name in ("refresh_token", "device_code")}
    for name, one in issued.items():
        run.canaries.add_token(f"the {name.replace('_', ' ')}", one)
    codes = {"user_code": "ABCD-EFGH", "verification_uri": "https://tenant.example/device", "interval": 1}
    with serve_captured() as tenant:
        environment |= {"LOGTO_ENDPOINT": "http://127.0.0.1:3001", "LOGTO_FETCH_ENDPOINT": tenant.endpoint}
        environment["LOGTO_NATIVE_DEVICE_ID"] = "device"
        tenant.replace("/oidc/device/auth", Answer.json({**issued, **codes}))
        refusal = {"error": issued["device_code"], "error_description": f"no {issued['device_code']}"}
        for answer in (Answer.json({**issued, "token_type": "Bearer"}), Answer.json(refusal, status=400)):
            tenant.replace("/oidc/token", answer)
            await _run_command(run, ["token", "--device"], environment=environment, hands_over=True)


async def _run_command(
    run: Run, command: Sequence[str], *, environment: Mapping[str, str], stdin: str = "", hands_over: bool = False
) -> None:
    """Run a command, and search in its output, except for the place that may contain one secret."""
    out, err, before, stdin_before = io.StringIO(), io.StringIO(), dict(os.environ), sys.stdin
    os.environ.update(environment)
    sys.stdin = io.TextIOWrapper(io.BytesIO(stdin.encode()))
    try:
        with redirect_stdout(out), redirect_stderr(err):
            # In a thread, because a command starts another loop.
            code = await asyncio.to_thread(_call_main, command)
    finally:
        sys.stdin = stdin_before
        os.environ.clear()
        os.environ.update(before)
    # Without the values, which may be secrets.
    words = [word for word in command if word.isalpha() or word.startswith("--")]
    run.outcomes.add(" ".join(words), f"exit-{code}")
    run.sinks.put("command line", command[0], err.getvalue())
    printed = out.getvalue()
    if hands_over:
        handed = [one for one in _HANDED_OVER.findall(printed) if run.canaries.find(one)]
        run.outcomes.add(" ".join(words), f"prints-{len(handed)}")
        printed = _HANDED_OVER.sub("", printed, count=1)
    run.sinks.put("command line", command[0], printed)
    run.collector.drain(f"the command {command[0]}")


def _call_main(command: Sequence[str]) -> int:
    return main(list(command))


COMMAND_SCENES: Final[Mapping[str, Scene]] = {
    "command line": Scene(act=_run_command_line, outcomes=expected.COMMAND_LINE),
    "commands that issue": Scene(act=_run_issuing_commands, outcomes=expected.ISSUING_COMMANDS),
}
