"""The fuzzer finds no fault in the package, on each server, and finds each planted fault of an application."""

import asyncio
import os
import sys
from typing import Any

import httpx
import pytest
from typing_extensions import override

from fastapi_logto import LogtoAuth
from tests.attack.provider import Provider
from tests.attack.report import Tally
from tests.prove.fuzz_cli import Run, run_cli
from tests.prove.fuzz_paths import run_paths
from tests.prove.fuzz_provider import run_provider
from tests.prove.fuzz_servers import run_handshakes, run_requests
from tests.prove.fuzz_wire import parse_replies
from tests.vectors.forge import Forge

FORGE = Forge.create()
ONE_SERVER = ("uvicorn with httptools",)


@pytest.fixture(autouse=True)
def loop_guard() -> None:
    """Disable the guard: the fuzzer waits for its processes on the loop, which serves nothing else."""


def run(attack: Any, **options: Any) -> Tally:
    tally = Tally(name="fuzz")
    asyncio.run(attack(tally, FORGE, **options))
    return tally


@pytest.mark.parametrize("attack", [run_requests, run_handshakes, run_paths])
def test_a_handler_runs_only_for_exactly_one_valid_token_on_every_server(attack: Any) -> None:
    tally = run(attack, count=120)

    assert tally.failures == []
    assert tally.rows >= 4 * 120


def test_each_weakness_of_an_application_is_found() -> None:
    failures = run(run_requests, count=150, servers=ONE_SERVER, fault="weak").failures

    for found in (
        "any ran without a caller",
        "optional ran without a caller",
        "scoped ran for the caller of another request",
        "a token is repeated",
        "status 500",
    ):
        assert [line for line in failures if line.endswith(found)], found


def test_a_handler_that_sees_another_organization_is_found() -> None:
    failures = run(run_paths, count=60, servers=ONE_SERVER, fault="weak").failures

    assert [line for line in failures if line.endswith("and 'acme' was checked")]


def test_an_application_that_stops_is_found() -> None:
    failures = run(run_requests, count=150, servers=ONE_SERVER, fault="stops").failures

    assert [line for line in failures if line.endswith("a valid request got 404")]


def test_a_response_to_another_request_is_reported() -> None:
    first = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"
    chunked = b"HTTP/1.1 401 Unauthorized\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"
    interim = b"HTTP/1.1 100 Continue\r\n\r\n"
    accepted = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n\x88\x02\x03\xe8"

    replies = parse_replies(interim + first + chunked + accepted)

    assert [(reply.status, reply.body) for reply in replies] == [
        (200, b"{}"),
        (401, b"abc"),
        (101, b"\x88\x02\x03\xe8"),
    ]
    assert parse_replies(first[:-1]) == parse_replies(chunked[:-2]) == parse_replies(accepted[:-4]) == []


def test_with_a_hostile_provider_no_forged_token_is_accepted_and_nothing_hangs() -> None:
    tally = run(run_provider, count=150)

    assert tally.failures == []
    assert tally.rows == 150


def test_an_application_that_accepts_a_key_of_a_stranger_is_found() -> None:
    key = dict(FORGE.stranger.as_dict(private=False)) | {"kid": FORGE.ec.thumbprint()}
    transport = Provider({"keys": [key]}).transport

    def build_weak_auth(**arguments: Any) -> LogtoAuth:
        del arguments["fetch_endpoint"]
        return LogtoAuth(**arguments, http_transport=transport)

    assert [line for line in run(run_provider, count=20, build_auth=build_weak_auth).failures if "found 200" in line]


class FollowingTransport(httpx.AsyncHTTPTransport):
    """A transport that follows redirects."""

    @override
    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        response = await super().handle_async_request(request)
        location = response.headers.get("location", "") if response.is_redirect else ""
        if not location:
            return response
        await response.aclose()
        return await super().handle_async_request(httpx.Request("GET", location))


def test_an_application_that_follows_a_redirect_is_found() -> None:
    def build_weak_auth(**arguments: Any) -> LogtoAuth:
        return LogtoAuth(**arguments, http_transport=FollowingTransport())

    failures = run(run_provider, count=150, build_auth=build_weak_auth).failures

    assert "a request went to a host that only a document names" in failures


def test_the_command_line_shows_nothing_of_a_hostile_tenant_that_it_must_not() -> None:
    tally = run(run_cli, count=40)

    assert tally.failures == []
    assert tally.rows == 40


def print_and_return(text: str, code: int) -> Run:
    def run_command(_arguments: tuple[str, ...]) -> int:
        sys.stdout.write(text)
        return code

    return run_command


def raise_error(_arguments: tuple[str, ...]) -> int:
    raise RecursionError


def print_secret(_arguments: tuple[str, ...]) -> int:
    sys.stdout.write(os.environ["LOGTO_MACHINE_SECRET"])
    return 1


@pytest.mark.parametrize(
    ("command", "found"),
    [
        (raise_error, "printed a traceback"),
        (print_secret, "printed a secret"),
        (print_and_return("\x1b[2J", 0), "printed [27]"),
        (print_and_return("x" * 300_000, 0), "printed 300000 characters"),
        (print_and_return("", 70), "exit code 70"),
    ],
    ids=["traceback", "secret", "control character", "length", "exit code"],
)
def test_a_command_that_shows_too_much_is_found(command: Run, found: str) -> None:
    failures = run(run_cli, count=3, run=command).failures

    assert sum(line.endswith(found) for line in failures) == 3
    assert failures[-1].startswith("expected commands that end in different ways")
