"""Responses that are broken for every endpoint, made from a valid document of that endpoint."""

import gzip
import json
import zlib
from collections.abc import Iterator, Mapping
from typing import Any, Final

from tests.attack.provider import Document

_JSON: Final = {"content-type": "application/json"}
_MOST_BYTES: Final = 256 * 1024
_EVIL: Final = "https://evil.example.test/oidc"
_ERROR_STATUSES: Final = (400, 401, 403, 404, 410, 418, 429, 500, 502, 503, 504, 599)
_RETRY_AFTER: Final = ("0", "-1", "3600", "9" * 400, "soon", "1.5", "Wed, 21 Oct 2037 07:28:00 GMT", "\xff", "", "1, 2")


def list_broken(good: Mapping[str, Any]) -> Iterator[tuple[str, Document]]:
    """Return a name and a response for each fault."""
    text = json.dumps(good)
    for name, body in _list_bodies(text):
        yield name, Document(body=body, headers=_JSON)
    yield from _list_encoded(text.encode())
    for status in (301, 302, 303, 307, 308):
        for place in (
            _EVIL,
            "//evil.example.test/",
            "/oidc/jwks?again",
            "https://tenant.example.test/oidc/elsewhere",
            "",
        ):
            yield f"{status} to {place!r}", Document(body=text.encode(), status=status, headers={"location": place})
    for status in (201, 202, 203, 204, 205, 206, 226, 300, 304):
        yield f"status {status} with the document", Document(body=text.encode(), status=status, headers=_JSON)
    for status in _ERROR_STATUSES:
        yield f"status {status} with the document", Document(body=text.encode(), status=status, headers=_JSON)
        yield f"status {status} with HTML", Document(body=b"<html>error</html>", status=status)
    for value in _RETRY_AFTER:
        yield f"429 with Retry-After {value[:20]!r}", Document(body=b"", status=429, headers={"retry-after": value})


def _list_bodies(text: str) -> Iterator[tuple[str, bytes]]:
    data, inner = text.encode(), text[1:-1]
    yield "empty", b""
    yield "white space", b" \n"
    yield "HTML", b"<!doctype html><title>Sign in</title>"
    yield "plain text", b"ok"
    yield "truncated", data[:-1]
    yield "truncated in the middle", data[: len(data) // 2]
    yield "trailing text", data + b"x"
    yield "two documents", data + data
    yield "a list", f"[{text}]".encode()
    yield "a text", json.dumps(text).encode()
    for value in ("null", "true", "1", '""', "[]", "{}", "NaN"):
        yield f"JSON {value}", value.encode()
    yield "duplicate members", f"{{{inner},{inner}}}".encode()
    yield "NaN inside", f'{{{inner},"a":NaN}}'.encode()
    yield "number out of range", f'{{{inner},"a":1e400}}'.encode()
    yield "integer of thousands of digits", f'{{{inner},"a":{"9" * 5000}}}'.encode()
    yield "lone surrogate", f'{{{inner},"a":"\\ud800"}}'.encode()
    yield "lone surrogate as a name", f'{{{inner},"\\ud800":1}}'.encode()
    yield "invalid UTF-8", f'{{{inner},"a":"'.encode() + b'\xff"}'
    yield "byte order mark", b"\xef\xbb\xbf" + data
    yield "UTF-16", text.encode("utf-16")
    yield "UTF-32", text.encode("utf-32")
    yield "control character", f'{{{inner},"a":"\x01"}}'.encode()
    yield "comment", f"{text}//".encode()
    for depth in (1_000, 100_000):
        yield f"{depth} nested lists", f'{{{inner},"a":{"[" * depth}{"]" * depth}}}'.encode()
        yield f"{depth} open lists", b"[" * depth
        opening, closing = '{"a":' * (depth // 5), "}" * (depth // 5)
        yield f"{depth // 5} nested objects", f'{{{inner},"a":{opening}1{closing}}}'.encode()
    yield "one byte too many", data + b" " * (_MOST_BYTES + 1 - len(data))
    yield "megabytes", b'{"a":"' + b"x" * 5 * 2**20 + b'"}'


def _list_encoded(data: bytes) -> Iterator[tuple[str, Document]]:
    bomb = gzip.compress(b"[" * 2**22)
    encodings = {"gzip": gzip.compress(data), "deflate": zlib.compress(data), "br": b"\x8b\x00", "identity, gzip": data}
    for name, body in encodings.items():
        yield f"content encoding {name}", Document(body=body, headers=_JSON | {"content-encoding": name})
    yield "gzip bomb", Document(body=bomb, headers=_JSON | {"content-encoding": "gzip"})
    yield "gzip that is not announced", Document(body=gzip.compress(data), headers=_JSON)
    yield "announced gzip that is none", Document(body=data, headers=_JSON | {"content-encoding": "gzip"})
