"""Responses of a real Logto 1.42 (`tests/data/captured/`), and a server that repeats them or misbehaves."""

import base64
import gzip
import hashlib
import json
import socket
import struct
import sys
import threading
import zlib
from collections import Counter
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import Enum, auto
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from socketserver import TCPServer
from typing import Any, Final, Literal, TypedDict

ISSUER: Final = "http://127.0.0.1:3001/oidc"
API: Final = "https://api.example.test"
DISCOVERY_PATH: Final = "/oidc/.well-known/openid-configuration"
JWKS_PATH: Final = "/oidc/jwks"
NOW: Final = 1_795_452_000
"""A time at which every captured token but `user_api_expired` is valid."""

_CAPTURED_ORIGIN: Final = "http://127.0.0.1:3001"
DIRECTORY: Final = Path(__file__).parent / "data/captured"
_COMPRESSED_FROM_BYTES: Final = 1024


class Jwks(TypedDict):
    """A JSON Web Key Set."""

    keys: list[dict[str, str]]


@dataclass(frozen=True, slots=True, kw_only=True)
class CapturedToken:
    """A token and its decoded parts; `header` and `claims` of an opaque token are empty."""

    name: str
    note: str
    kind: Literal["jwt", "opaque"]
    token: str = field(repr=False)
    header: Mapping[str, str]
    claims: Mapping[str, object]


@dataclass(frozen=True, slots=True, kw_only=True)
class RotationStage:
    """The key set at one stage of a rotation, and a token signed at that stage."""

    name: str
    jwks: Jwks
    token: CapturedToken


@dataclass(frozen=True, slots=True, kw_only=True)
class IntrospectionAnswer:
    """A response of the introspection or the revocation endpoint; `body` is None if it was empty."""

    name: str
    status: int
    body: Mapping[str, object] | None


def _read(name: str) -> Any:
    return json.loads((DIRECTORY / name).read_text(encoding="utf-8"))


def _token(name: str, raw: Mapping[str, Any]) -> CapturedToken:
    return CapturedToken(
        name=name,
        note=raw["note"],
        kind=raw["kind"],
        token=raw["token"],
        header=raw.get("header") or {},
        claims=raw.get("claims") or {},
    )


def _stage(name: str, raw: Mapping[str, Any]) -> RotationStage:
    signed = raw["token"]
    token = _token(name, {"note": name, "kind": "jwt", "token": signed["token"], **signed["decoded"]})
    return RotationStage(name=name, jwks=raw["jwks"], token=token)


TOKENS: Final[Mapping[str, CapturedToken]] = {name: _token(name, raw) for name, raw in _read("tokens.json").items()}
JWKS: Final[Jwks] = _read("jwks.json")
ADMIN_TENANT_JWKS: Final[Jwks] = _read("jwks.admin-tenant.json")
DISCOVERY: Final[Mapping[str, object]] = _read("openid-configuration.json")
ROTATION: Final[tuple[RotationStage, ...]] = tuple(_stage(name, raw) for name, raw in _read("rotation.json").items())
INTROSPECTION: Final[Mapping[str, IntrospectionAnswer]] = {
    raw["name"]: IntrospectionAnswer(name=raw["name"], status=raw["status"], body=raw["body"] or None)
    for raw in _read("introspection.json")
}


class Fault(Enum):
    """A fault of the connection instead of a response."""

    HANG = auto()
    """Send nothing until the server closes."""
    RESET = auto()
    """Send a TCP reset."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """A response with exactly these headers, and a `Content-Length` unless the body is chunked.

    `content_length` above the size of `body` makes a truncated body. With `seconds_per_byte`, the headers are sent at
    once and the body slowly, byte by byte.
    """

    status: int = 200
    body: bytes = field(default=b"", repr=False)
    headers: Mapping[str, str] = field(default_factory=dict[str, str])
    content_length: int | None = None
    seconds_per_byte: float = 0.0

    @classmethod
    def json(cls, document: object, *, status: int = 200) -> "Answer":
        return cls(status=status, body=_compact(document), headers={"Content-Type": "application/json; charset=utf-8"})

    @classmethod
    def redirect(cls, location: str, *, status: int = 302) -> "Answer":
        return cls(status=status, headers={"Location": location})

    @classmethod
    def gzip_bomb(cls, mebibytes: int = 64) -> "Answer":
        """Return a small body that decompresses to an empty key set, padded with spaces to this size."""
        compressor = zlib.compressobj(9, wbits=31)
        parts = [compressor.compress(b'{"keys": [')]
        parts += [compressor.compress(b" " * 2**20) for _ in range(mebibytes)]
        parts += [compressor.compress(b"]}"), compressor.flush()]
        return cls(body=b"".join(parts), headers={"Content-Type": "application/json", "Content-Encoding": "gzip"})


@dataclass(frozen=True, slots=True, kw_only=True)
class CapturedRequest:
    """A request to the server; the names of `headers` are in lower case."""

    method: str
    path: str
    headers: Mapping[str, str]


class CapturedServer:
    """Responds like Logto on a loopback port; the issuer in its discovery document stays `ISSUER`."""

    def __init__(self, *, port: int, jwks: Jwks) -> None:
        self._jwks = jwks
        self._replaced: dict[str, Answer | Fault] = {}
        self._requests: list[CapturedRequest] = []
        self._server = _Server(port, self)

    @property
    def port(self) -> int:
        return self._server.server_address[1]

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def requests(self) -> tuple[CapturedRequest, ...]:
        return tuple(self._requests)

    @property
    def counts(self) -> Counter[str]:
        """The number of requests by path; 0 for a path without requests."""
        return Counter(request.path for request in self.requests)

    def publish(self, jwks: Jwks) -> None:
        """Serve another key set from now on, as after a rotation."""
        self._jwks = jwks

    def replace(self, path: str, answer: Answer | Fault) -> None:
        """Send this response for each request to `path` from now on."""
        self._replaced[path] = answer

    def restore(self, path: str) -> None:
        """Respond to `path` like Logto again."""
        self._replaced.pop(path, None)

    def answer(self, request: CapturedRequest) -> Answer | Fault:
        """Record a request and return the response; called by the server's threads."""
        self._requests.append(request)
        replaced = self._replaced.get(request.path)
        if replaced is not None:
            return replaced
        if (request.method, request.path) == ("GET", DISCOVERY_PATH):
            document = _discovery(request.headers["host"])
            return _conditional(request, document, "application/json; charset=utf-8", {})
        if (request.method, request.path) == ("GET", JWKS_PATH):
            cache_control = {"Cache-Control": "no-cache, max-age=0, must-revalidate"}
            return _conditional(request, self._jwks, "application/jwk-set+json; charset=utf-8", cache_control)
        return _not_found(request)

    def run(self) -> None:
        """Serve until `close`; the target of the server's thread."""
        self._server.serve_forever(poll_interval=0.01)

    def close(self) -> None:
        """Close every connection and wait for the threads."""
        self._server.shutdown()
        self._server.end_connections()
        self._server.server_close()


@contextmanager
def serve_captured(*, port: int = 0, jwks: Jwks = JWKS) -> Generator[CapturedServer]:
    """Run a server on the given port of 127.0.0.1, by default a free one."""
    server = CapturedServer(port=port, jwks=jwks)
    thread = threading.Thread(target=server.run, name="captured-server", daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.close()
        thread.join()


def _compact(document: object) -> bytes:
    return json.dumps(document, separators=(",", ":"), ensure_ascii=False).encode()


def _discovery(host: str) -> dict[str, object]:
    # Every URL except the issuer is built from the host of the request.
    return {
        name: value.replace(_CAPTURED_ORIGIN, f"http://{host}", 1)
        if isinstance(value, str) and name != "issuer"
        else value
        for name, value in DISCOVERY.items()
    }


def _conditional(
    request: CapturedRequest, document: object, content_type: str, cache_control: Mapping[str, str]
) -> Answer:
    body = _compact(document)
    etag = f'"{len(body):x}-{base64.b64encode(hashlib.sha1(body, usedforsecurity=False).digest()).decode()[:27]}"'
    headers = {"Vary": "Accept-Encoding, Origin", "Access-Control-Allow-Origin": "*", **cache_control, "ETag": etag}
    known = [tag.strip().removeprefix("W/") for tag in request.headers.get("if-none-match", "").split(",")]
    if ("*" in known or etag in known) and "no-cache" not in request.headers.get("cache-control", ""):
        return Answer(status=304, headers=headers)
    headers["Content-Type"] = content_type
    if len(body) >= _COMPRESSED_FROM_BYTES and "gzip" in request.headers.get("accept-encoding", ""):
        headers |= {"Content-Encoding": "gzip", "Transfer-Encoding": "chunked"}
        body = gzip.compress(body)
    return Answer(body=body, headers=headers)


def _not_found(request: CapturedRequest) -> Answer:
    route = request.path.removeprefix("/oidc")
    description = f"unrecognized route or not allowed method ({request.method} on {route})"
    document = {
        "code": "oidc.invalid_request",
        "message": "Request is invalid.",
        "error": "invalid_request",
        "error_description": description,
    }
    return Answer.json(document, status=404)


class _Server(ThreadingHTTPServer):
    # Closing joins every thread, so that none outlives its test.
    daemon_threads = False
    request_queue_size = 128

    def __init__(self, port: int, captured: CapturedServer) -> None:
        self.captured = captured
        self.closing = threading.Event()
        self._connections: set[socket.socket] = set()
        super().__init__(("127.0.0.1", port), _Handler)

    def server_bind(self) -> None:
        # `HTTPServer.server_bind` also looks up the host name.
        TCPServer.server_bind(self)

    def process_request(self, request: Any, client_address: Any) -> None:
        self._connections.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        super().shutdown_request(request)
        self._connections.discard(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        # Clients that disconnect early, and connections closed by `end_connections`, are part of the tests.
        if not isinstance(sys.exception(), OSError):
            super().handle_error(request, client_address)

    def end_connections(self) -> None:
        self.closing.set()
        for connection in tuple(self._connections):
            try:
                connection.shutdown(socket.SHUT_RDWR)
            except OSError:
                continue


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server  # pyright: ignore[reportIncompatibleVariableOverride] - the only server that makes it

    def do_GET(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", "0")))
        headers = {name.lower(): value for name, value in self.headers.items()}
        request = CapturedRequest(method=self.command, path=self.path.partition("?")[0], headers=headers)
        answer = self.server.captured.answer(request)
        if answer is Fault.HANG:
            self.server.closing.wait()
            self.close_connection = True
        elif answer is Fault.RESET:
            self._reset()
        else:
            self._send(answer)

    def do_POST(self) -> None:
        self.do_GET()

    def _reset(self) -> None:
        # With a linger time of zero, closing sends RST. An open `rfile` would keep the socket open.
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.rfile.close()
        self.connection.close()
        self.close_connection = True

    def _send(self, answer: Answer) -> None:
        self.send_response_only(answer.status)
        for name, value in answer.headers.items():
            self.send_header(name, value)
        chunked = answer.headers.get("Transfer-Encoding") == "chunked"
        length = len(answer.body) if answer.content_length is None else answer.content_length
        if not chunked and answer.status != HTTPStatus.NOT_MODIFIED:
            self.send_header("Content-Length", str(length))
        self.end_headers()
        body = b"%x\r\n%s\r\n0\r\n\r\n" % (len(answer.body), answer.body) if chunked else answer.body
        if answer.seconds_per_byte:
            self._drip(body, answer.seconds_per_byte)
        else:
            self.wfile.write(body)
        if length != len(answer.body):
            self.close_connection = True

    def _drip(self, body: bytes, seconds_per_byte: float) -> None:
        for byte in body:
            if self.server.closing.wait(seconds_per_byte):
                return
            self.wfile.write(bytes([byte]))
