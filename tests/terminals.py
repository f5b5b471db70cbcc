"""Run commands on a pseudo-terminal with typed input."""

import contextlib
import os
import pty
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """The result of a command.

    Attributes:
        code: Its exit code.
        seen: The bytes sent to the terminal.
        out: The bytes on standard output, if that is a pipe.
    """

    code: int
    seen: bytes
    out: bytes


def run_on_terminal(
    *arguments: str,
    environment: Mapping[str, str],
    cwd: Path,
    typed: str = "",
    after: str = "(not shown): ",
    is_output_piped: bool = False,
) -> Session:
    """Run the command line on a terminal.

    Args:
        *arguments: Its arguments.
        environment: Variables in addition to those of this process, without its `LOGTO_…` ones.
        cwd: The working directory.
        typed: A line to type.
        after: The text after which the line is typed. A prompt prints its last character after it disabled echo; input
            typed earlier is discarded.
        is_output_piped: Whether standard output is a pipe.
    """
    master, slave = pty.openpty()
    own = {name: value for name, value in os.environ.items() if not name.startswith("LOGTO_")}
    with subprocess.Popen(
        [sys.executable, "-m", "fastapi_logto", *arguments],
        stdin=slave,
        stderr=slave,
        stdout=subprocess.PIPE if is_output_piped else slave,
        env={**own, "TERM": "xterm-256color", **environment},
        cwd=cwd,
        start_new_session=True,
    ) as process:
        os.close(slave)
        seen = b""
        with contextlib.suppress(OSError):  # reading fails at the end
            while typed and after.encode() not in seen:
                seen += os.read(master, 1024)
            if typed:
                os.write(master, f"{typed}\n".encode())
            while chunk := os.read(master, 1024):
                seen += chunk
        out = b"" if process.stdout is None else process.stdout.read()
        process.wait(timeout=30)
    os.close(master)
    return Session(code=process.returncode, seen=seen, out=out)
