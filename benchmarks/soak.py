"""Run four workers for minutes while everything around them fails: `python -m benchmarks.soak [SECONDS]`.

Keys rotate every 20 seconds, the provider fails at random, Redis is restarted twice (once without its data), users are
suspended and reactivated, and valid, revoked and invalid tokens are sent all the time. Each response is compared with
what the policy allows at that moment. It needs `redis-server`.
"""

import asyncio
import json
import os
import random
import subprocess
import sys
import time
from collections import Counter
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import httpx

from benchmarks.memory import read_memory
from fastapi_logto.testing import BAD_TOKENS, Application, BadToken, Directory, LocalIssuer, Resource, User, bearer
from tests.integration.processes import find_free_ports
from tests.integration.redis_server import RedisServer

AUDIENCE: Final = "https://api.example.test"
KEY: Final = "signing-key-of-the-soak"
WORKERS: Final = 4
CLIENTS: Final = 12
USERS: Final = 2000
ROTATION_SECONDS: Final = 20
RENEWAL_SECONDS: Final = 15
# What the policy allows: how long after a suspension its tokens may still be accepted by any worker; how long after a
# rotation or a fault of the provider a token with a new key may get 503; and how long after a restart of Redis the
# revocations of the time between may be missing.
PROPAGATION_SECONDS: Final = 0.25
KEYS_SECONDS: Final = 8.0
RECOVERY_SECONDS: Final = 4.0
_INVALID: Final[tuple[BadToken, ...]] = tuple(BAD_TOKENS)


@dataclass(slots=True)
class Person:
    """A user, the token that is sent, and when the user was suspended (monotonic)."""

    id: str
    token: str = ""
    issued_at: float = 0.0
    suspended_at: float | None = None
    notified_at: float | None = None
    old_token: str = ""


@dataclass(slots=True)
class Window:
    """A time in which something was unavailable (monotonic)."""

    begin: float
    end: float = field(default=float("inf"))

    def covers(self, moment: float, *, grace: float) -> bool:
        """Return whether a moment is in the window, or shortly after it."""
        return self.begin <= moment <= self.end + grace


class Soak:
    """The load, the faults, and the model of what is allowed."""

    def __init__(self, issuer: LocalIssuer, redis: RedisServer, urls: list[str], *, seconds: float) -> None:
        """Store the parts. Nothing is sent."""
        self.outcomes: Counter[str] = Counter()
        self.wrongs: list[str] = []
        self._issuer = issuer
        self._redis = redis
        self._urls = urls
        self._end = time.monotonic() + seconds
        self._seconds = seconds
        self._people = [Person(user.id) for user in issuer.directory.users]
        self._key_faults: list[Window] = []
        self._redis_faults: list[Window] = []

    async def run(self) -> None:
        """Run everything until the end."""
        async with httpx.AsyncClient(trust_env=False, timeout=20) as client, asyncio.TaskGroup() as tasks:
            for work in (self._rotate, self._fail_provider, self._restart_redis, self._suspend):
                tasks.create_task(work())
            for _ in range(CLIENTS):
                tasks.create_task(self._send(client))

    def _is_over(self) -> bool:
        return time.monotonic() >= self._end

    async def _sleep(self, seconds: float) -> None:
        await asyncio.sleep(max(0.0, min(seconds, self._end - time.monotonic())))

    async def _rotate(self) -> None:
        while not self._is_over():
            await self._sleep(ROTATION_SECONDS)
            now = time.monotonic()
            self._issuer.rotate()
            self._key_faults.append(Window(now, now))

    async def _fail_provider(self) -> None:
        while not self._is_over():
            await self._sleep(random.uniform(10, 30))
            window = Window(time.monotonic())
            self._key_faults.append(window)
            with self._issuer.outage():
                await self._sleep(random.uniform(0.5, 3))
            window.end = time.monotonic()

    async def _restart_redis(self) -> None:
        for keeps_data in (True, False):
            await self._sleep(self._seconds / 3)
            window = Window(time.monotonic())
            self._redis_faults.append(window)
            await asyncio.to_thread(self._redis.kill)
            if not keeps_data:
                await asyncio.to_thread(self._redis.wipe)
            await asyncio.sleep(2)
            await asyncio.to_thread(self._redis.start)
            window.end = time.monotonic()

    async def _suspend(self) -> None:
        suspended: list[Person] = []
        while not self._is_over():
            await self._sleep(random.uniform(0.1, 0.6))
            person = random.choice(self._people[: USERS // 4])
            if person.suspended_at is None and person.token:
                person.old_token, person.suspended_at = person.token, time.monotonic()
                await asyncio.to_thread(self._issuer.suspend, person.id)
                person.notified_at = time.monotonic()
                suspended.append(person)
            if len(suspended) > 200:
                # Reactivated a while later: a new sign-in gets in, the old token does not.
                back = suspended.pop(0)
                await asyncio.to_thread(self._issuer.unsuspend, back.id)
                await asyncio.sleep(1.1)
                back.token, back.suspended_at, back.notified_at = "", None, None

    async def _send(self, client: httpx.AsyncClient) -> None:
        while not self._is_over():
            kind = random.random()
            person = random.choice(self._people[: USERS // 4])
            if kind < 0.15:
                await self._send_invalid(client)
            elif person.old_token and person.notified_at is not None and kind < 0.5:
                await self._send_revoked(client, person)
            elif person.suspended_at is None:
                await self._send_valid(client, person)

    async def _ask(self, client: httpx.AsyncClient, token: str) -> tuple[float, int, str]:
        started = time.monotonic()
        response = await client.get(f"{random.choice(self._urls)}/read", headers=bearer(token))
        reason = "" if response.status_code == 200 else str(response.json()["detail"]["reason"])
        return started, response.status_code, reason

    async def _send_valid(self, client: httpx.AsyncClient, person: Person) -> None:
        if time.monotonic() - person.issued_at > RENEWAL_SECONDS or not person.token:
            person.token = self._issuer.access_token(subject=person.id, scopes=["read:user"])
            person.issued_at = time.monotonic()
        started, status, reason = await self._ask(client, person.token)
        is_allowed = status == 200 or person.suspended_at is not None
        if status == 503:
            is_allowed = any(fault.covers(started, grace=KEYS_SECONDS) for fault in self._key_faults)
        self._note("valid", status, reason, is_allowed=is_allowed)

    async def _send_revoked(self, client: httpx.AsyncClient, person: Person) -> None:
        notified_at = person.notified_at or 0.0
        started, status, reason = await self._ask(client, person.old_token)
        is_allowed = reason in {"revoked", "unknown_key"} or status == 503
        if status == 200:
            is_fresh = started - notified_at < PROPAGATION_SECONDS
            is_outage = any(fault.covers(started, grace=RECOVERY_SECONDS) for fault in self._redis_faults)
            is_allowed = is_fresh or (
                is_outage and any(fault.covers(notified_at, grace=0) for fault in self._redis_faults)
            )
        self._note("revoked", status, reason, is_allowed=is_allowed)

    async def _send_invalid(self, client: httpx.AsyncClient) -> None:
        kind = random.choice(_INVALID)
        token = self._issuer.bad_token(kind, scopes=["read:user"])
        started, status, reason = await self._ask(client, token)
        # Some of them claim to be old. They are signed with an unknown key, so they can't be tokens of this issuer.
        is_allowed = status == 401 and reason in {BAD_TOKENS[kind], "unknown_key"}
        if status == 503:
            # An unknown key may be a new one while the next fetch is not due.
            is_fault = any(fault.covers(started, grace=KEYS_SECONDS) for fault in self._key_faults)
            is_allowed = is_fault or kind == "unknown_key"
        self._note(f"invalid ({kind})", status, reason, is_allowed=is_allowed)

    def _note(self, kind: str, status: int, reason: str, *, is_allowed: bool) -> None:
        self.outcomes[f"{kind.partition(' ')[0]}: {status} {reason}".rstrip()] += 1
        if not is_allowed:
            self.wrongs.append(f"{kind}: {status} {reason} after {self._seconds - self._end + time.monotonic():.1f} s")


async def _observe(processes: list["subprocess.Popen[bytes]"], samples: list[list[float]]) -> None:
    while True:
        samples.append(read_memory([process.pid for process in processes]))
        await asyncio.sleep(5)


def start_workers(stack: ExitStack, urls: list[str], environment: dict[str, str]) -> list["subprocess.Popen[bytes]"]:
    """Start a process for each URL, which ends with the stack."""
    processes: list[subprocess.Popen[bytes]] = []
    for url in urls:
        options = ("--port", url.rpartition(":")[2], "--log-level", "error")
        command = [sys.executable, "-m", "uvicorn", "benchmarks.soak_app:app", *options]
        processes.append(subprocess.Popen(command, env={**os.environ, **environment}))
        stack.callback(processes[-1].wait)
        stack.callback(processes[-1].terminate)
    return processes


def run_soak(seconds: float) -> dict[str, Any]:
    """Run the workers and the load, and return what was found."""
    users = [User(id=f"user{i:08d}", username=f"user{i}", name=f"User {i}") for i in range(USERS)]
    directory = Directory(
        resources=[Resource(indicator=AUDIENCE, scopes={"read:user": "Read"})],
        users=users,
        applications=[Application(client_id="soak")],
    )
    first = find_free_ports(WORKERS)
    urls = [f"http://127.0.0.1:{port}" for port in range(first, first + WORKERS)]
    with ExitStack() as stack:
        issuer = stack.enter_context(LocalIssuer(directory=directory).serve())
        redis = RedisServer(Path(stack.enter_context(TemporaryDirectory())))
        redis.start()
        stack.callback(redis.kill)
        issuer.add_hook(f"{urls[0]}/webhooks/logto", signing_key=KEY)
        environment = {
            "SOAK_ENDPOINT": issuer.endpoint,
            "SOAK_AUDIENCE": AUDIENCE,
            "SOAK_REDIS_URL": redis.url,
            "SOAK_SIGNING_KEY": KEY,
        }
        processes = start_workers(stack, urls, environment)
        soak, samples = asyncio.run(_run(issuer, redis, urls, processes=processes, seconds=seconds))
    return {
        "seconds": seconds,
        "requests": soak.outcomes.total(),
        "outcomes": dict(sorted(soak.outcomes.items())),
        "wrong": soak.wrongs[:20],
        "wrong_count": len(soak.wrongs),
        "memory_mib_after_a_third": samples[len(samples) // 3],
        "memory_mib_at_the_end": samples[-1],
    }


async def _run(
    issuer: LocalIssuer,
    redis: RedisServer,
    urls: list[str],
    *,
    processes: list["subprocess.Popen[bytes]"],
    seconds: float,
) -> tuple[Soak, list[list[float]]]:
    await _wait_until_ready(urls)
    soak, samples = Soak(issuer, redis, urls, seconds=seconds), list[list[float]]()
    observer = asyncio.create_task(_observe(processes, samples))
    await soak.run()
    observer.cancel()
    return soak, samples


async def _wait_until_ready(urls: list[str]) -> None:
    async with httpx.AsyncClient(trust_env=False) as client:
        for url in urls:
            while True:
                try:
                    await client.get(f"{url}/read")
                    break
                except httpx.TransportError:
                    await asyncio.sleep(0.1)


def main() -> int:
    """Run it and print the result; the exit code is 1 if a response was wrong."""
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 300.0
    found = run_soak(seconds)
    sys.stdout.write(json.dumps(found, indent=1) + "\n")
    return 1 if found["wrong_count"] else 0


if __name__ == "__main__":
    sys.exit(main())
