"""Run a local issuer: `python -m fastapi_logto.testing`."""

# ruff: noqa: T201 - a command prints
import argparse
import sys
from collections.abc import Sequence
from typing import Final

from fastapi_logto.testing.directory import EXAMPLE_AUDIENCE, Directory
from fastapi_logto.testing.issuer import LocalIssuer

__all__ = ["main"]

_MAX_PORT: Final = 65535


def _parse_port(text: str) -> int:
    if not (text.isascii() and text.isdigit() and int(text) <= _MAX_PORT):
        msg = f"expected a port from 0 to {_MAX_PORT}, found {text[:80]!r}"
        raise argparse.ArgumentTypeError(msg)
    return int(text)


def _build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m fastapi_logto.testing",
        description="Run a local issuer that behaves like Logto, for development only: it requires no password.",
    )
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    parser.add_argument(
        "--port", default=3001, type=_parse_port, help="port, 0 for any free port (default: %(default)s)"
    )
    parser.add_argument("--audience", default=EXAMPLE_AUDIENCE, help="the API resource (default: %(default)s)")
    parser.add_argument("--allow-remote", action="store_true", help="allow a host that others can reach")
    parser.add_argument(
        "--allowed-host",
        action="append",
        default=[],
        metavar="HOST",
        help="also accept requests to this host, e.g. issuer or issuer:3001 in a container network (repeatable)",
    )
    return parser


def _describe(issuer: LocalIssuer, *, audience: str) -> str:
    directory = issuer.directory
    users = (
        f"  {user.username:<6} {' '.join(name for names in user.scopes.values() for name in names) or '(no scopes)'}"
        for user in directory.users
    )
    return "\n".join(
        (
            f"Local issuer {issuer.issuer} (development only; Ctrl-C stops it)",
            "Users, without passwords:",
            *users,
            f"Clients: {', '.join(client.client_id for client in directory.clients)}",
            "Environment of the API:",
            f"  LOGTO_ENDPOINT={issuer.endpoint}",
            f"  LOGTO_AUDIENCE={audience}",
        )
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code: 0 after Ctrl-C, 1 if it can't listen or an argument is invalid."""
    arguments = _build_parser().parse_args(argv)
    try:
        issuer = LocalIssuer(directory=Directory.example(arguments.audience), allowed_hosts=arguments.allowed_host)
        from fastapi_logto.testing.issuer.serving import build_url, listen, run_until_signal  # noqa: PLC0415 - needs uvicorn

        sock = listen(host=arguments.host, port=arguments.port, allow_remote=arguments.allow_remote)
    except (ModuleNotFoundError, ValueError) as err:
        print(err, file=sys.stderr)
        return 1
    except OSError as err:
        # `socket.create_server` appends the address in parentheses; the message names the port already.
        reason = (err.strerror or str(err)).partition(" (")[0]
        print(f"cannot listen on {arguments.host} port {arguments.port}: {reason}; try another --port", file=sys.stderr)
        return 1
    issuer.endpoint = build_url(sock)
    print(_describe(issuer, audience=arguments.audience), flush=True)
    run_until_signal(issuer.app, sock=sock)
    return 0


if __name__ == "__main__":
    sys.exit(main())
