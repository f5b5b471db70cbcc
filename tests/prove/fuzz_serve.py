"""Serve the fuzzer's application with one of the servers, in one process: `python -m tests.prove.fuzz_serve`."""

import asyncio
import logging
import sys
from collections.abc import Callable, Mapping
from typing import Any, Final, cast

import hypercorn.asyncio
import hypercorn.config
import uvicorn
from fastapi import FastAPI
from granian.constants import Interfaces
from granian.server.embed import Server

from tests.prove.fuzz_app import Fault, build_app

_Serve = Callable[[FastAPI, int], None]


def _serve_with_h11(app: FastAPI, port: int) -> None:
    uvicorn.run(app, port=port, http="h11", ws="websockets-sansio", access_log=False)


def _serve_with_httptools(app: FastAPI, port: int) -> None:
    uvicorn.run(app, port=port, http="httptools", ws="websockets", access_log=False)


def _serve_with_hypercorn(app: FastAPI, port: int) -> None:
    config = hypercorn.config.Config()
    config.bind = [f"127.0.0.1:{port}"]
    # Untyped on purpose: the types of this function are incomplete.
    serve: Any = vars(hypercorn.asyncio)["serve"]
    asyncio.run(serve(app, config))


def _serve_with_granian(app: FastAPI, port: int) -> None:
    asyncio.run(Server(app, port=port, interface=Interfaces.ASGI).serve())


SERVERS: Final[Mapping[str, _Serve]] = {
    "uvicorn with h11": _serve_with_h11,
    "uvicorn with httptools": _serve_with_httptools,
    "hypercorn": _serve_with_hypercorn,
    "granian": _serve_with_granian,
}


def main(server: str, port: str, endpoint: str, fault: Fault) -> None:
    """Serve until the process ends."""
    # The log of the package must not repeat a token either.
    logging.basicConfig(level=logging.INFO)
    SERVERS[server](build_app(endpoint, fault=fault), int(port))


if __name__ == "__main__":
    main(*cast("tuple[str, str, str, Fault]", tuple(sys.argv[1:5])))
