"""Run servers as processes and put load on them with wrk, for seconds and only on the loopback address."""

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

__all__ = ["Load", "Running", "Server", "measure", "serve", "start"]

_SCRIPT = Path(__file__).with_name("wrk.lua")


@dataclass(frozen=True, slots=True)
class Load:
    """The measurements of wrk and of the server. Times are in microseconds.

    Attributes:
        rate: Requests per second.
        cpu: CPU time of the server per request, with all its threads.
        p50: Median response time.
        p99: 99th percentile of the response time.
        longest: The longest response time.
        refused: Responses with a status other than 2xx or 3xx.
    """

    rate: float
    cpu: float
    p50: float
    p99: float
    longest: float
    refused: int


@dataclass(frozen=True, slots=True)
class Server:
    """A running application."""

    url: str
    pid: int
    seconds_to_first_answer: float


@dataclass(frozen=True, slots=True)
class Running:
    """A load in progress."""

    process: "subprocess.Popen[str]"
    server: Server
    cpu_before: float


@contextmanager
def serve(factory: str, environment: dict[str, str], *, token: str | None = None) -> Generator[Server]:
    """Run an application under uvicorn with uvloop and httptools, in one worker.

    Args:
        factory: `module:function`.
        environment: Its environment variables.
        token: The token of the first request to `/protected`; by default none is sent.

    Yields:
        The server, after it accepted the first request.
    """
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "uvicorn", "--factory", factory, "--port", str(port)]
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
                    if process.poll() is not None or time.perf_counter() - start > 30:
                        raise
                    time.sleep(0.005)
                    continue
                if response.status_code != 200:
                    raise RuntimeError(f"{factory} {environment}: {response.status_code} {response.text[:200]}")
                break
        yield Server(url, process.pid, time.perf_counter() - start)
    finally:
        process.terminate()
        process.wait(timeout=10)


def start(
    server: Server,
    *,
    path: str = "/protected",
    tokens: Path | None = None,
    once: bool = False,
    clients: int = 16,
    seconds: int = 2,
) -> Running:
    """Start a load; `measure` returns its results.

    Args:
        server: The server.
        path: The path to request.
        tokens: A file with one token per line.
        once: Whether to send each token once and stop after the last.
        clients: The number of connections.
        seconds: The duration.
    """
    arguments: Sequence[str] = [path] if tokens is None else [path, str(tokens), "once" if once else "again"]
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
    fields = Path(f"/proc/{server.pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) * 1e6 / os.sysconf("SC_CLK_TCK")


def measure(load: Running, *, is_admitted: bool = True) -> Load:
    """Wait for a load to end and return its results.

    `is_admitted` states whether every response must have status 200, or none.
    """
    output, _ = load.process.communicate(timeout=60)
    cpu = _read_cpu(load.server) - load.cpu_before
    found = json.loads(output.strip().splitlines()[-1])
    if found["failed"] or (found["refused"] if is_admitted else found["refused"] != found["requests"]):
        raise RuntimeError(f"expected {'only' if is_admitted else 'no'} accepted requests, found {found}")
    rate = found["requests"] / found["duration"] * 1e6
    return Load(rate, cpu / found["requests"], found["p50"], found["p99"], found["max"], found["refused"])
