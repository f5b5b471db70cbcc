"""Send requests and handshakes to real servers that no ordinary client can send."""

import asyncio
import itertools
import random
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from importlib.metadata import version
from typing import Any, Final

import httpx

from fastapi_logto.testing import LocalIssuer
from tests.attack.report import Tally
from tests.integration.processes import Process, find_free_port, run_module
from tests.prove.fuzz_app import RECORDS, Fault
from tests.prove.fuzz_credentials import TokenPool, Verdict
from tests.prove.fuzz_handshakes import build_handshake
from tests.prove.fuzz_judging import find_echo, find_record_problem, find_reply_problem
from tests.prove.fuzz_requests import Case, Exchange, build_exchange
from tests.prove.fuzz_serve import SERVERS
from tests.prove.fuzz_wire import LONGEST_WAIT_SECONDS, exchange
from tests.vectors.forge import Forge

Build = Callable[[random.Random, TokenPool, int], Exchange]

_SEED: Final = 20_261_126
_REQUESTS: Final = 1500
_HANDSHAKES: Final = 600
_CONNECTIONS: Final = 8
_BATCH: Final = 64
_PATIENCE_SECONDS: Final = 0.5
"""How long to wait for the response to a malformed request. No verdict depends on it."""
_ORGANIZATIONS: Final = ("acme", "beta")
_ADDS_TRAILERS: Final = frozenset({"uvicorn with httptools"})
"""Servers that add the trailer of a request to its headers, which violates RFC 9110 section 6.5.1."""
_PACKAGES: Final = ("uvicorn", "h11", "httptools", "websockets", "hypercorn", "granian")


async def run_requests(
    tally: Tally, forge: Forge, *, count: int = _REQUESTS, servers: Iterable[str] = SERVERS, fault: Fault = ""
) -> None:
    """Send requests with every form of credentials, targets, bodies and pipelines to each server."""
    del forge
    await run_against(tally, build_exchange, seed=_SEED, count=count, servers=servers, fault=fault)


async def run_handshakes(
    tally: Tally, forge: Forge, *, count: int = _HANDSHAKES, servers: Iterable[str] = SERVERS, fault: Fault = ""
) -> None:
    """Open WebSockets with tokens in headers and subprotocols at each server."""
    del forge
    await run_against(tally, build_handshake, seed=_SEED + 1, count=count, servers=servers, fault=fault)


async def run_against(
    tally: Tally,
    build: Build,
    *,
    seed: int,
    count: int,
    servers: Iterable[str] = SERVERS,
    fault: Fault = "",
    organizations: Sequence[str] = _ORGANIZATIONS,
) -> None:
    """Send the same exchanges to each server, and judge the records and the responses."""
    tally.versions.update({name: version(name) for name in _PACKAGES})
    with LocalIssuer().serve() as issuer, _run_servers(issuer.endpoint, servers, fault) as running:
        pool = TokenPool.create(issuer, organizations)
        for target in running:
            # One seed for each, so that the length of a token changes no other case.
            seeds = (random.Random(f"{seed} {number}") for number in range(count))  # noqa: S311
            exchanges = [build(rng, pool, number) for number, rng in enumerate(seeds)]
            await _Run(target=target, tally=tally, pool=pool).send_all(exchanges)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Target:
    """A running server."""

    name: str
    port: int
    process: Process


@contextmanager
def _run_servers(endpoint: str, servers: Iterable[str], fault: Fault) -> Generator[list[_Target]]:
    with ExitStack() as stack:
        running: list[_Target] = []
        for name in servers:
            port = find_free_port()
            arguments = (name, str(port), endpoint, fault)
            process = stack.enter_context(run_module("tests.prove.fuzz_serve", *arguments, environment={}))
            running.append(_Target(name=name, port=port, process=process))
        for target in running:
            target.process.wait_for_url(f"http://127.0.0.1:{target.port}{RECORDS}")
        yield running


class _Run:
    """The exchanges with one server."""

    def __init__(self, *, target: _Target, tally: Tally, pool: TokenPool) -> None:
        self._target = target
        self._tally = tally
        self._secrets = {secret for token in (*pool.valid, *pool.members, *pool.invalid) for secret in token.secrets}
        self._probe = pool.valid[0]
        self._cases: dict[str, Case] = {}
        self._records: dict[str, list[Mapping[str, Any]]] = {}
        self._problems: dict[str, str] = {}
        self._free = asyncio.Semaphore(_CONNECTIONS)
        self._probes: Iterator[int] = itertools.count()

    async def send_all(self, exchanges: Sequence[Exchange]) -> None:
        """Send batches, each followed by a valid request, and judge all of them at the end."""
        if problem := await self._find_outage():
            self._tally.fail(f"{self._target.name}: before the first request: {problem}")
            return
        for start in range(0, len(exchanges), _BATCH):
            batch = exchanges[start : start + _BATCH]
            await asyncio.gather(*map(self._send, batch))
            if problem := await self._find_outage():
                self._tally.fail(f"{self._target.name}: after request {start + len(batch)}: {problem}")
                break
        self._judge()

    async def _send(self, sent: Exchange) -> None:
        self._cases.update({case.id: case for case in sent.cases})
        patience = LONGEST_WAIT_SECONDS if sent.is_certain else _PATIENCE_SECONDS
        async with self._free:
            replies, data = await exchange(
                self._target.port, sent.pieces, count=len(sent.cases), patience_seconds=patience
            )
        if problem := find_reply_problem(sent, replies, data):
            self._problems[sent.cases[0].id] = problem

    async def _find_outage(self) -> str | None:
        """Send a valid request, and collect what the handlers recorded."""
        probe = f"probe-{next(self._probes)}"
        try:
            async with httpx.AsyncClient(
                base_url=f"http://127.0.0.1:{self._target.port}", timeout=LONGEST_WAIT_SECONDS, trust_env=False
            ) as client:
                headers = {"Authorization": f"Bearer {self._probe.text}"}
                response = await client.get("/mounted", params={"case": probe}, headers=headers)
                if response.status_code != 200:
                    return f"a valid request got {response.status_code}"
                records: list[dict[str, Any]] = (await client.get(RECORDS)).json()
        except httpx.HTTPError as error:
            return f"a valid request ended with {type(error).__name__}"
        for record in records:
            self._records.setdefault(str(record["case"]), []).append(record)
        found = [one["subject"] for one in self._records.pop(probe, [])]
        return None if found == [self._probe.subject] else f"a valid request was recorded for {found}"

    def _judge(self) -> None:
        name = self._target.name
        for identifier, case in self._cases.items():
            records = self._records.pop(identifier, [])
            if case.trailing is not None and name in _ADDS_TRAILERS:
                case = replace(case, verdict=Verdict.MAY, token=case.trailing)  # noqa: PLW2901 - what counts here
            problem = self._problems.get(identifier) or find_record_problem(case, records)
            self._tally.count(f"{name}: {identifier}: {case.what}", problem)
        for identifier, records in self._records.items():
            # Requests inside a body, and those with a changed query. No handler may run for one of them.
            for record in records:
                if record["subject"] is not None or record["route"] != "optional":
                    self._tally.fail(
                        f"{name}: {record['route']} ran for {identifier[:40]!r}, which was not sent as a request"
                    )
        # Servers log requests that they can't parse.
        own = "".join(line for line in self._target.process.output.splitlines() if ":fastapi_logto:" in line)
        if not own or find_echo(tuple(self._secrets), own.encode()):
            self._tally.fail(f"{name}: the log of the package is empty or repeats a token")
        counts = Counter(case.verdict.name for case in self._cases.values())
        if len(counts) < 3:
            self._tally.fail(f"{name}: expected requests of every verdict, found {sorted(counts)}")
