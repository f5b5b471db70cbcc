"""Run servers as processes and put load on them with wrk, for seconds and only on the loopback address."""

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx

_SCRIPT = Path(__file__).with_name("wrk.lua")


@dataclass(frozen=True, slots=True)
class Load:
    """The measurements of wrk and of the server. Times are in microseconds.

    Attributes:
        requests: Requests with a response.
        rate: Requests per second.
        cpu: CPU time of the server per request, with all its threads.
        p50: Median response time.
        p99: 99th percentile of the response time.
        longest: The longest response time.
        refused: Responses with a status other than 2xx or 3xx.
        failed: Requests without a response.
        statuses: Responses by status, if they were counted.
    """

    requests: int
    rate: float
    cpu: float
    p50: float
    p99: float
    longest: float
    refused: int
    failed: int = 0
    statuses: dict[int, int] = field(default_factory=dict[int, int])


@dataclass(frozen=True, slots=True)
class Server:
    """A running application. `workers` are the processes that respond."""

    url: str
    workers: tuple[int, ...]
    seconds_to_first_answer: float


@dataclass(frozen=True, slots=True)
class Running:
    """A load in progress."""

    process: "subprocess.Popen[str]"
    server: Server
    cpu_before: float


@contextmanager
def serve(
    factory: str,
    environment: dict[str, str],
    *,
    token: str | None = None,
    workers: int = 1,
    python: str = sys.executable,
) -> Generator[Server]:
    """Run an application under uvicorn with uvloop and httptools.

    Args:
        factory: `module:function`.
        environment: Its environment variables.
        token: The token of the first request to `/protected`; by default none is sent.
        workers: The number of workers.
        python: The Python that runs it.

    Yields:
        The server, after it accepted the first request.
    """
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [python, "-m", "uvicorn", "--factory", factory, "--port", str(port), "--workers", str(workers)]
    command += ["--loop", "uvloop", "--http", "httptools", "--no-access-log", "--log-level", "warning"]
    start = time.perf_counter()
    # Some peers write a traceback for each rejected token.
    process = subprocess.Popen(command, env={**os.environ, **environment}, stderr=subprocess.DEVNULL)
    url = f"http://127.0.0.1:{port}"
    headers = {} if token is None else {"Authorization": f"Bearer {token}"}
    try:
        with httpx.Client() as client:
            while True:
                try:
                    response = client.get(f"{url}/protected", headers=headers)
                except httpx.ConnectError:
                    if process.poll() is not None or time.perf_counter() - start > 90:
                        raise
                    time.sleep(0.005)
                    continue
                if response.status_code != 200:
                    raise RuntimeError(f"{factory} {environment}: {response.status_code} {response.text[:200]}")
                break
        seconds = time.perf_counter() - start
        yield Server(url, (process.pid,) if workers == 1 else _find_workers(process.pid, workers), seconds)
    finally:
        process.terminate()
        process.wait(timeout=30)


def _find_workers(pid: int, count: int) -> tuple[int, ...]:
    """Wait for the workers of uvicorn's supervisor, which also has a child that tracks resources (proc(5))."""
    deadline = time.monotonic() + 90
    while True:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii").split()
        workers = tuple(int(one) for one in children if b"spawn_main" in Path(f"/proc/{one}/cmdline").read_bytes())
        if len(workers) == count:
            return workers
        if time.monotonic() > deadline:
            raise RuntimeError(f"expected {count} workers, found {len(workers)}")
        time.sleep(0.05)


def start(
    server: Server,
    *,
    path: str = "/protected",
    tokens: Path | None = None,
    once: bool = False,
    clients: int = 16,
    seconds: int = 2,
    counts_statuses: bool = False,
) -> Running:
    """Start a load; `measure` returns its results.

    Args:
        server: The server.
        path: The path to request.
        tokens: A file with one token per line.
        once: Whether to send each token once and stop after the last.
        clients: The number of connections.
        seconds: The duration.
        counts_statuses: Whether responses are counted by status, which takes time in the client.
    """
    arguments: Sequence[str] = [path, "counted" if counts_statuses else "plain"]
    if tokens is not None:
        arguments = [*arguments, str(tokens), "once" if once else "again"]
    command = [
        "wrk",
        "-t1",
        "--timeout",
        "10s",
        f"-c{clients}",
        f"-d{seconds}s",
        "-s",
        str(_SCRIPT),
        server.url,
        "--",
        *arguments,
    ]
    cpu = _read_cpu(server)
    return Running(subprocess.Popen(command, stdout=subprocess.PIPE, text=True), server, cpu)


def _read_cpu(server: Server) -> float:
    """Return the CPU time of a server since its start, in microseconds of user and system mode (proc(5))."""
    ticks = 0
    for pid in server.workers:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
        ticks += int(fields[11]) + int(fields[12])
    return ticks * 1e6 / os.sysconf("SC_CLK_TCK")


def finish(load: Running) -> Load:
    """Wait for a load to end and return its results, whatever the responses were."""
    output, _ = load.process.communicate(timeout=60)
    return parse_load(output, cpu=_read_cpu(load.server) - load.cpu_before)


def parse_load(output: str, *, cpu: float) -> Load:
    """Return the results that wrk printed; `cpu` is the CPU time of the server for all requests."""
    found = json.loads(output.strip().splitlines()[-1])
    return Load(
        requests=found["requests"],
        rate=found["requests"] / found["duration"] * 1e6,
        cpu=cpu / max(1, found["requests"]),
        p50=found["p50"],
        p99=found["p99"],
        longest=found["max"],
        refused=found["refused"],
        failed=found["failed"],
        statuses={int(status): count for status, count in found["statuses"].items()},
    )


def measure(load: Running, *, is_admitted: bool = True) -> Load:
    """Wait for a load to end and return its results.

    `is_admitted` states whether every response must have status 200, or none.
    """
    found = finish(load)
    if found.failed or (found.refused if is_admitted else found.requests - found.refused):
        raise RuntimeError(f"expected {'only' if is_admitted else 'no'} accepted requests, found {found}")
    return found
