"""`make revocation`: four workers of this example, a local issuer, and a token whose user you can suspend.

It needs `redis-server`, through which the workers share revocations. `PORT` selects the first of four ports, and
`ISSUER_PORT` that of the issuer.
"""

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Generator, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from tempfile import TemporaryDirectory

import httpx

from example_app.demo import provide_local_issuer, read_port
from fastapi_logto.testing import LocalIssuer, bearer

WORKERS = 4
INTERVAL_SECONDS = 0.05
START_SECONDS = 60
TOKEN_LIFETIME_SECONDS = 12 * 3600


def describe(issuer: LocalIssuer) -> str:
    """Return the text that says what to do."""
    return f"""
  Each line shows how the four workers respond to a valid token of alice.

  1. Open {issuer.endpoint} and suspend alice.
  2. The issuer sends a webhook to one worker, and all of them refuse the token.

Ctrl-C stops everything.
"""


@contextmanager
def run(*command: str) -> Generator[None]:
    """Run a program until the end of a block."""
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:  # noqa: S603 - fixed programs
        try:
            yield
        finally:
            process.terminate()


@contextmanager
def run_redis() -> Generator[str]:
    """Run a Redis server without data on a free port, and yield its URL."""
    program = shutil.which("redis-server")
    if program is None:
        raise OSError("expected redis-server, found none; install it, e.g. with apt-get install redis-server")
    with socket.create_server(("127.0.0.1", 0)) as sock:
        port: int = sock.getsockname()[1]
    with (
        TemporaryDirectory() as folder,
        run(program, "--port", str(port), "--bind", "127.0.0.1", "--dir", folder, "--save", ""),
    ):
        yield f"redis://127.0.0.1:{port}/0"


@contextmanager
def run_workers(ports: Sequence[int]) -> Generator[None]:
    """Run a process of the example on each port."""
    with ExitStack() as stack:
        for port in ports:
            arguments = ("-m", "uvicorn", "example_app.main:app", "--port", str(port), "--log-level", "error")
            stack.enter_context(run(sys.executable, *arguments))
        yield


def ask(client: httpx.Client, port: int, token: str) -> str:
    """Return how a worker responds to a token: the status, and the reason of a refusal."""
    try:
        response = client.get(f"http://127.0.0.1:{port}/account/claims", headers=bearer(token))
    except httpx.TransportError:
        return "starting"
    if response.status_code == 200:
        return "200"
    return f"{response.status_code} {response.json()['detail']['reason']}"


def watch(ports: Sequence[int], token: str) -> Iterator[str]:
    """Yield a line each time that a worker responds in another way than before."""
    before: list[str] = []
    with httpx.Client(trust_env=False) as client:
        while True:
            now = [ask(client, port, token) for port in ports]
            if now != before and "starting" not in now:
                columns = (f"{port}: {text}".ljust(18) for port, text in zip(ports, now, strict=True))
                yield f"{time.strftime('%H:%M:%S')}  {'  '.join(columns).rstrip()}\n"
                before = now
            time.sleep(INTERVAL_SECONDS)


def main() -> int:
    """Run the demo and return the exit code."""
    # Otherwise the programs that it has started would continue.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        first = read_port("PORT", 8000)
        ports = range(first, first + WORKERS)
        with provide_local_issuer(read_port("ISSUER_PORT", 3001)) as issuer, run_redis() as redis_url:
            hook = issuer.add_hook(f"http://127.0.0.1:{first}/webhooks/logto")
            os.environ["LOGTO_REDIS_URL"] = redis_url
            os.environ["LOGTO_WEBHOOK_SIGNING_KEY"] = hook.signing_key
            token = issuer.access_token(lifetime_seconds=TOKEN_LIFETIME_SECONDS)
            with run_workers(ports):
                sys.stdout.write(describe(issuer))
                for line in watch(ports, token):
                    sys.stdout.write(line)
                    sys.stdout.flush()
    except KeyboardInterrupt:
        return 0
    except (ValueError, OSError) as error:
        sys.stderr.write(f"{error}\n")
    return 1


if __name__ == "__main__":
    sys.exit(main())
