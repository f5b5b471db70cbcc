"""Servers as processes, and load on them by wrk: only on the loopback address, for seconds."""

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
    """What wrk saw, and what the server took. Times are microseconds.

    Attributes:
        rate: Requests in a second.
        cpu: CPU of the server for one request, with all its threads.
        p50: Half of the answers took no longer.
        p99: All but a hundredth.
        longest: The longest of them.
        refused: Answers of another status than 2xx or 3xx.
    """

    rate: float
    cpu: float
    p50: float
    p99: float
    longest: float
    refused: int


@dataclass(frozen=True, slots=True)
class Server:
    """An application that runs."""

    url: str
    pid: int
    seconds_to_first_answer: float


@dataclass(frozen=True, slots=True)
class Running:
    """A load under way."""

    process: "subprocess.Popen[str]"
    server: Server
    cpu_before: float


@contextmanager
def serve(factory: str, environment: dict[str, str], *, token: str | None = None) -> Generator[Server]:
    """Run an application under uvicorn with uvloop and httptools, in one worker.

    Args:
        factory: `module:function`.
        environment: Variables for it.
        token: For the first request at `/protected`; none is sent without.

    Yields:
        The server, which has admitted the token.
    """
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "uvicorn", "--factory", factory, "--port", str(port)]
    command += ["--loop", "uvloop", "--http", "httptools", "--no-access-log", "--log-level", "warning"]
    start = time.perf_counter()
    # Some peers write a traceback for each refused token.
    process = subprocess.Popen(command, env={**os.environ, **environment}, stderr=subprocess.DEVNULL)
    url = f"http://127.0.0.1:{port}"
    headers = {} if token is None else {"Authorization": f"Bearer {token}"}
    try:
        with httpx.Client() as client:
            while True:
                try:
                    answer = client.get(f"{url}/protected", headers=headers)
                except httpx.ConnectError:
                    if process.poll() is not None or time.perf_counter() - start > 30:
                        raise
                    time.sleep(0.005)
                    continue
                if answer.status_code != 200:
                    raise RuntimeError(f"{factory} {environment}: {answer.status_code} {answer.text[:200]}")
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
    """Start a load; `measure` reads what it saw.

    Args:
        server: Where.
        path: What to ask for.
        tokens: A file with one token in each line.
        once: Send each token a single time and end after the last.
        clients: Connections.
        seconds: For how long.

    Returns:
        The load under way.
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
    """Give the microseconds of CPU that a server took since its start, in user and system mode (proc(5))."""
    fields = Path(f"/proc/{server.pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) * 1e6 / os.sysconf("SC_CLK_TCK")


def measure(load: Running, *, is_admitted: bool = True) -> Load:
    """Wait for a load to end.

    Args:
        load: What `start` gave.
        is_admitted: Whether every answer must be a 200, or none.

    Returns:
        What it saw.
    """
    output, _ = load.process.communicate(timeout=60)
    cpu = _read_cpu(load.server) - load.cpu_before
    found = json.loads(output.strip().splitlines()[-1])
    if found["failed"] or (found["refused"] if is_admitted else found["refused"] != found["requests"]):
        raise RuntimeError(f"answers that were not expected: {found}")
    rate = found["requests"] / found["duration"] * 1e6
    return Load(rate, cpu / found["requests"], found["p50"], found["p99"], found["max"], found["refused"])
