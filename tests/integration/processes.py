"""Run the programs under test in separate processes."""

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager

import httpx

_START_SECONDS = 60.0


def find_free_port() -> int:
    """Return a free port."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


def find_free_ports(count: int) -> int:
    """Return the first of this many consecutive free ports."""
    while True:
        first = find_free_port()
        try:
            for port in range(first, first + count):
                with socket.socket() as sock:
                    sock.bind(("127.0.0.1", port))
        except OSError:
            continue
        return first


class Process:
    """A running program whose output is collected."""

    def __init__(self, popen: "subprocess.Popen[str]") -> None:
        """Collect the output of a process."""
        self._popen = popen
        self._lines: list[str] = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self._popen.stdout is not None
        self._lines.extend(iter(self._popen.stdout.readline, ""))

    @property
    def output(self) -> str:
        """The output so far."""
        return "".join(self._lines)

    def wait_for_text(self, text: str) -> str:
        """Wait until it has printed a text, and return the output so far."""
        self._wait(lambda: text in self.output)
        return self.output

    def wait_for_url(self, url: str) -> None:
        """Wait until it responds to a request for a URL."""

        def answers() -> bool:
            try:
                return httpx.get(url, trust_env=False).status_code == 200
            except httpx.TransportError:
                return False

        self._wait(answers)

    def interrupt(self) -> int:
        """Send the signal of Ctrl-C, and return the exit code."""
        self._popen.send_signal(signal.SIGINT)
        return self.wait()

    def wait(self) -> int:
        """Wait for its end, and return the exit code."""
        code = self._popen.wait(timeout=_START_SECONDS)
        self._reader.join(timeout=5)
        return code

    def kill(self) -> None:
        """Kill it if it still runs."""
        self._popen.kill()
        self._popen.wait()
        self._reader.join(timeout=5)
        assert self._popen.stdout is not None
        self._popen.stdout.close()

    def _wait(self, condition: object) -> None:
        assert callable(condition)
        deadline = time.monotonic() + _START_SECONDS
        tick = threading.Event()
        while not condition():
            if self._popen.poll() is not None or time.monotonic() > deadline:
                raise AssertionError(f"the program did not get ready:\n{self.output}")
            tick.wait(0.05)


def run_command(
    *arguments: str,
    stdin: str = "",
    environment: Mapping[str, str] | None = None,
    cwd: "os.PathLike[str] | None" = None,
) -> "subprocess.CompletedProcess[str]":
    """Run `python -m fastapi_logto` to its end, with warnings as errors, and return its output.

    Args:
        *arguments: Its command line.
        stdin: Its standard input.
        environment: Variables on top of this process's own, without its `LOGTO_…` ones.
        cwd: Where it runs.
    """
    own = {name: value for name, value in os.environ.items() if not name.startswith("LOGTO_")}
    return subprocess.run(
        [sys.executable, "-W", "error", "-m", "fastapi_logto", *arguments],
        input=stdin,
        capture_output=True,
        encoding="utf-8",
        env={**own, "PYTHONIOENCODING": "utf-8", **(environment or {})},
        cwd=cwd,
        timeout=_START_SECONDS,
        check=False,
    )


def accept_interrupts() -> None:
    """Accept Ctrl-C in the child again: a shell without job control makes background jobs ignore it."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@contextmanager
def run_module(
    module: str, *arguments: str, environment: Mapping[str, str], cwd: "os.PathLike[str] | None" = None
) -> Generator[Process]:
    """Run `python -m module`, and kill it at the end if it still runs.

    Args:
        module: The module.
        *arguments: Its command line.
        environment: Variables on top of this process's own, without its `LOGTO_…` ones.
        cwd: Where it runs.
    """
    own = {name: value for name, value in os.environ.items() if not name.startswith("LOGTO_")}
    command: Sequence[str] = [sys.executable, "-m", module, *arguments]
    popen = subprocess.Popen(
        command,
        env={**own, "PYTHONUNBUFFERED": "1", **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        cwd=cwd,
        preexec_fn=accept_interrupts,  # noqa: PLW1509 - one system call
    )
    process = Process(popen)
    try:
        yield process
    finally:
        process.kill()
