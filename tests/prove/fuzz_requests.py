"""Requests as raw bytes, each with the allowed outcomes."""

import hashlib
import hmac
import itertools
import random
from dataclasses import dataclass, field, replace
from typing import Final

from tests.prove.fuzz_app import SIGNING_KEY
from tests.prove.fuzz_credentials import (
    Credentials,
    Token,
    TokenPool,
    Verdict,
    build_credentials,
    has_access,
    mutate,
    pick_clean,
    replace_case,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One request, and the allowed outcomes.

    Attributes:
        id: Its number, which is in its query.
        what: How it was made, for the report.
        verdict: Whether the handler may or must run.
        token: The only token that may be accepted.
        is_anonymous: Whether the handler of an optional route may run without a caller.
        route: The route whose handler must run, if one must.
        can_be_unavailable: Whether the key of its token is unknown, so that a 503 is expected.
        trailing: The token in the trailer, which only counts with a server that adds trailers to the headers.
    """

    id: str
    what: str
    verdict: Verdict
    token: Token | None = None
    is_anonymous: bool = False
    route: str = ""
    can_be_unavailable: bool = False
    trailing: Token | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Exchange:
    """The requests on one connection.

    Attributes:
        cases: The requests, in their order.
        pieces: The bytes, in the pieces in which they are written.
        secrets: The secrets that no response may repeat.
    """

    cases: tuple[Case, ...]
    pieces: tuple[bytes, ...] = field(repr=False)
    secrets: tuple[bytes, ...] = field(default=(), repr=False)

    @property
    def is_certain(self) -> bool:
        """Whether each response is awaited, because every request is well formed."""
        return all(case.verdict is Verdict.MUST for case in self.cases)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Frame:
    """The parts of a request around its credentials."""

    what: str = "plain"
    method: bytes = b"GET"
    target: bytes = b"/any"
    route: str = "any"
    version: bytes = b"HTTP/1.1"
    host: bytes = b"Host: api.example.test\r\n"
    lines: bytes = b""
    body: bytes = b""
    verdict: Verdict = Verdict.MUST


_ROUTES: Final = (
    (b"/any", "any"), (b"/scoped", "scoped"), (b"/optional", "optional"), (b"/mounted", "mounted"),
    (b"/mounted/a/b", "mounted"), (b"/any", "any"), (b"/scoped", "scoped"),
)  # fmt: skip
_OPEN: Final = (b"/openapi.json", b"/docs", b"/.well-known/oauth-protected-resource", b"/nothing", b"/webhooks/logto")
_LENGTHS: Final = (b"-1", b"+5", b"0x10", b"5,5", b"9" * 30, b"\x00")
_ENCODINGS: Final = (b"xchunked", b"chunked, identity", b"gzip", b"\x0bchunked", b"chunked\r\nTransfer-Encoding: x")
_SIZES: Final = (b"-1", b"0x5", b"g", b"f" * 17, b"", b"5 ", b"1\n")
_FORWARDED: Final = (
    b"X-Forwarded-For: 127.0.0.1\r\nX-Forwarded-User: admin\r\nX-Original-URL: /any\r\nX-Rewrite-URL: /any\r\n"
    b"X-HTTP-Method-Override: GET\r\n"
)
_TRICKS: Final = (
    b"/{}", b"//{}", b"/./{}", b"/%2e/{}", b"/x/../{}", b"/x/%2e%2e/{}", b"/{}/", b"/{};x", b"/{};/../any", b"/%2f{}",
    b"/{}%00", b"/{}%2f", b"/{}%20", b"/{}%0a", b"\\{}", b"/{}#x", b"/{}?x#y", b"/{}%3f", b"/mounted/../{}",
    b"/mounted/..%2f{}", b"/mounted//{}", b"/mounted;{}", b"/docs/../{}", b"/%C0%AE/{}", b"/{}%ff", b"/-/../{}", b"*",
    b"", b"{}", b"///", b"/mounted%2f{}", b"/mounted\xff/{}", b"/{}\xe9", b"/webhooks/logto/../../{}", b"/{}/../{}",
    b"/{}%", b"http://api.example.test/{}", b"HTTP://API.EXAMPLE.TEST/{}", b"https://other.example/{}", b"http:/{}",
    b"http://{}", b"http://a@b/{}", b"//other.example/{}", b"/{}?organization_id=acme",
)  # fmt: skip


def build_exchange(rng: random.Random, pool: TokenPool, number: int) -> Exchange:
    """Return one or a few requests on one connection; the same for the same state of `rng`."""
    kind = rng.random()
    if kind < 0.1:
        return _build_pipeline(rng, pool, number)
    if kind < 0.15:
        return _build_webhook(rng, str(number))
    frame = _build_frame(rng, number)
    credentials = build_credentials(rng, pool, rng.choice([*pool.valid, *pool.members]))
    if credentials.trailer:
        trailer = b"5\r\nhello\r\n0\r\n" + credentials.trailer + b"\r\n"
        frame = replace(frame, method=b"POST", lines=b"Transfer-Encoding: chunked\r\n", body=trailer)
    return _finish(rng, str(number), frame, credentials)


def _finish(rng: random.Random, number: str, frame: _Frame, credentials: Credentials) -> Exchange:
    data = build_head(number, frame.method, frame.target, frame.version, query=credentials.query)
    parts = [frame.host, frame.lines, credentials.lines]
    rng.shuffle(parts)
    data += b"Connection: close\r\n" + b"".join(parts) + b"\r\n" + frame.body
    tokens = [*credentials.others, *([credentials.token] if credentials.token else [])]
    return Exchange(
        cases=(_build_case(number, frame, credentials),),
        pieces=cut(rng, data),
        secrets=tuple(secret for token in tokens for secret in token.secrets),
    )


def build_head(number: str, method: bytes, target: bytes, version: bytes, *, query: bytes = b"") -> bytes:
    """Return a request line with the number of the case in its query."""
    path, mark, fragment = target.partition(b"#")
    joiner = b"&" if b"?" in path else b"?"
    target = path + joiner + b"case=" + number.encode() + query + mark + fragment
    return method + b" " + target + (b" " + version if version else b"") + b"\r\n"


def cut(rng: random.Random, data: bytes) -> tuple[bytes, ...]:
    """Return the data in a few pieces."""
    if rng.random() < 0.7:
        return (data,)
    places = sorted({0, len(data), *(rng.randrange(len(data)) for _ in range(3))})
    return tuple(data[start:end] for start, end in itertools.pairwise(places))


def _build_case(number: str, frame: _Frame, credentials: Credentials) -> Case:
    verdict = min(frame.verdict, credentials.verdict)
    token = credentials.token
    if verdict is Verdict.MUST and not (token and has_access(token, frame.route)):
        # The request is well formed, and refused by the application.
        verdict = Verdict.MAY
    return Case(
        id=number,
        what=f"{frame.what}, {credentials.kind} at {frame.target[:60]!r}",
        verdict=verdict,
        token=token,
        is_anonymous=credentials.is_anonymous,
        route=frame.route,
        can_be_unavailable=credentials.kind == "invalid",
        trailing=credentials.others[0] if credentials.kind == "trailer" else None,
    )


def _build_frame(rng: random.Random, number: int) -> _Frame:
    target, route = rng.choice(_ROUTES)
    frame = _Frame(target=target, route=route, method=rng.choice([b"GET", b"GET", b"POST"]))
    change = rng.choice([_keep, _keep, _keep, _change_target, _change_target, _change_line, _add_lines, _add_body])
    return change(rng, frame, number)


def _keep(_rng: random.Random, frame: _Frame, _number: int) -> _Frame:
    return frame


def _change_target(rng: random.Random, frame: _Frame, _number: int) -> _Frame:
    name = rng.choice([b"any", b"scoped", b"optional", b"mounted", b"organizations/acme/items", b"mounted/x"])
    if rng.random() < 0.3:
        name = rng.choice(
            [replace_case(rng, name), b"%%%02x" % name[0] + name[1:], name.upper(), name.replace(b"a", b"%61")]
        )
    trick = mutate(rng, b"/{}") if rng.random() < 0.2 else rng.choice(_TRICKS)
    target = rng.choice([trick.replace(b"{}", name)] * 5 + [rng.choice(_OPEN)])
    target = target.replace(b"\r", b"").replace(b"\n", b"")
    return replace(frame, what="target", target=target, verdict=Verdict.MAY)


def _change_line(rng: random.Random, frame: _Frame, _number: int) -> _Frame:
    kind = rng.choice(["version", "method", "host"])
    if kind == "version":
        version = rng.choice(
            [b"HTTP/1.0", b"HTTP/1.0", b"HTTP/0.9", b"HTTP/1.2", b"HTTP/2.0", b"", b"http/1.1", b"HTTP/1.1 "]
        )
        is_certain = version == b"HTTP/1.0"
        return replace(frame, what=kind, version=version, verdict=Verdict.MUST if is_certain else Verdict.MAY)
    if kind == "method":
        method = rng.choice(
            [
                b"HEAD",
                b"PUT",
                b"DELETE",
                b"OPTIONS",
                b"TRACE",
                b"CONNECT",
                b"get",
                b"PRI",
                b"G\x00T",
                b" GET",
                b"X" * 90,
            ]
        )
        return replace(frame, what=kind, method=method, verdict=Verdict.MAY)
    host = rng.choice(
        [b"", b"Host:\r\n", b"Host: a\r\nHost: b\r\n", b"Host: a b\r\n", b"Host: \xff\r\n", b"Host: [::1\r\n"]
    )
    return replace(frame, what=kind, host=host, verdict=Verdict.MAY)


def _add_lines(rng: random.Random, frame: _Frame, _number: int) -> _Frame:
    size, count = (
        rng.choice([2_000, 4_000, 20_000, 60_000, 64_000, 66_000, 200_000, 500_000]),
        rng.choice([20, 60, 99, 101, 260]),
    )
    what, lines, verdict = rng.choice(
        [
            ("a long header", b"X-Long: " + b"a" * size + b"\r\n", Verdict.MUST if size <= 4_000 else Verdict.MAY),
            ("many headers", b"X-Many: 1\r\n" * count, Verdict.MUST if count <= 60 else Verdict.MAY),
            ("hop by hop", b"Connection: authorization\r\n", Verdict.MAY),
            ("upgrade", b"Upgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n", Verdict.MAY),
            ("expect", b"Expect: " + rng.choice([b"100-continue", b"x"]) + b"\r\n", Verdict.MAY),
            ("control characters", b"X-Odd: " + bytes(rng.randrange(256) for _ in range(9)) + b"\r\n", Verdict.MAY),
            ("a line without a colon", b"nothing\r\n", Verdict.MAY),
            ("an empty name", b": x\r\n", Verdict.MAY),
            ("forwarded", _FORWARDED, Verdict.MUST),
        ]
    )  # fmt: skip
    return replace(frame, what=what, lines=lines, verdict=verdict)


def _add_body(rng: random.Random, frame: _Frame, number: int) -> _Frame:
    # A second request inside the body. It has no token, so no handler may run for it.
    inner = b"GET /any?case=%d-inner HTTP/1.1\r\nHost: a\r\n\r\n" % number
    chunk = b"%x\r\n" % len(inner) + inner + b"\r\n"
    length = b"Content-Length: %d\r\n" % len(inner)
    chunked = b"Transfer-Encoding: chunked\r\n"
    encoding = b"Transfer-Encoding: " + rng.choice(_ENCODINGS) + b"\r\n"
    what, lines, body, verdict = rng.choice(
        [
            ("length", length, inner, Verdict.MUST),
            ("chunks", chunked, chunk + b"0\r\n\r\n", Verdict.MUST),
            ("chunk extensions", chunked, chunk.replace(b"\r\n", b";a=b\r\n", 1) + b"0\r\n\r\n", Verdict.MAY),
            ("length too small", b"Content-Length: 3\r\n", inner, Verdict.MAY),
            ("length too large", b"Content-Length: 9999\r\n", inner, Verdict.MAY),
            ("no length", b"", inner, Verdict.MAY),
            ("length and chunks", length + chunked, chunk + b"0\r\n\r\n", Verdict.MAY),
            ("length of zero and chunks", b"Content-Length: 0\r\n" + chunked, chunk + b"0\r\n\r\n", Verdict.MAY),
            ("two lengths", length + b"Content-Length: 0\r\n", inner, Verdict.MAY),
            ("an odd length", b"Content-Length: " + rng.choice(_LENGTHS) + b"\r\n", inner, Verdict.MAY),
            ("an odd encoding", encoding, chunk + b"0\r\n\r\n" + inner, Verdict.MAY),
            ("an odd chunk", chunked, rng.choice(_SIZES) + b"\r\n" + inner, Verdict.MAY),
        ]
    )  # fmt: skip
    return replace(frame, what=f"body: {what}", method=b"POST", lines=lines, body=body, verdict=verdict)


def _build_pipeline(rng: random.Random, pool: TokenPool, number: int) -> Exchange:
    """Return well-formed requests of different callers on one connection; each must get its own response."""
    count = rng.randrange(2, 7)
    cases: list[Case] = []
    data = b""
    tokens: list[Token] = []
    is_certain = is_well_formed = True
    for place in range(count):
        target, route = rng.choice(_ROUTES)
        token = rng.choice(pool.valid)
        credentials = pick_clean(rng, pool, token) if rng.random() < 0.7 else build_credentials(rng, pool, token)
        if credentials.trailer:
            credentials = Credentials(kind="none", is_anonymous=True)
        identifier = f"{number}-{place}"
        has_body = rng.random() < 0.3
        inner = b"GET /any?case=%d-inner HTTP/1.1\r\nHost: a\r\n\r\n" % number if has_body else b""
        lines = b"Content-Length: %d\r\n" % len(inner) if has_body else b""
        frame = _Frame(what="pipeline", target=target, route=route, method=b"POST" if has_body else b"GET")
        last = b"Connection: close\r\n" if place == count - 1 else b""
        data += build_head(identifier, frame.method, target, frame.version, query=credentials.query) + frame.host + last
        data += lines + credentials.lines + b"\r\n" + inner
        case = _build_case(identifier, frame, credentials)
        cases.append(case if is_certain else _weaken(case))
        tokens += [*credentials.others, *([credentials.token] if credentials.token else [])]
        # A response that is sent before the body was read may end the connection.
        is_certain = is_certain and not has_body
        is_well_formed = is_well_formed and (
            credentials.verdict is Verdict.MUST or credentials.kind in {"none", "invalid"}
        )
    if not is_well_formed:
        # A server may parse all of it before it sends a response.
        cases = list(map(_weaken, cases))
    secrets = tuple(secret for token in tokens for secret in token.secrets)
    return Exchange(cases=tuple(cases), pieces=cut(rng, data), secrets=secrets)


def _weaken(case: Case) -> Case:
    return replace(case, verdict=min(case.verdict, Verdict.MAY))


_SIGNATURE: Final = b"logto-signature-sha-256"


def _build_webhook(rng: random.Random, number: str) -> Exchange:
    """Return a delivery of a webhook. Its handler may run if it has exactly one valid signature."""
    body = b'{"event":"PostSignIn","createdAt":"2026-11-26T00:00:00Z","hookId":"%s"}' % number.encode()
    good = hmac.new(SIGNING_KEY.encode(), body, hashlib.sha256).hexdigest().encode()
    name = replace_case(rng, _SIGNATURE)
    changed = mutate(rng, good)
    is_same = changed.strip(b" \t") == good
    line, verdict = rng.choice(
        [
            (name + b": " + good, Verdict.MUST),
            # Some servers keep the white space at the end.
            (name + b":" + good + b" \t", Verdict.MAY),
            (b"X: y", Verdict.NEVER),
            (name + b": " + good.upper(), Verdict.NEVER),
            (name + b": " + good + b"\r\n" + name + b": " + good, Verdict.NEVER),
            (name + b": " + good + b", " + good, Verdict.NEVER),
            (name + b": sha256=" + good, Verdict.NEVER),
            (name + b": " + b"0" * 64, Verdict.NEVER),
            (name + b": " + good[:-1], Verdict.NEVER),
            (name + b" : " + good, Verdict.MAY),
            (name + b": " + changed, Verdict.MAY if is_same or set(changed) & {0, 10, 13} else Verdict.NEVER),
            (b"logto_signature_sha_256: " + good, Verdict.NEVER),
        ]
    )
    changed_body = mutate(rng, body) if rng.random() < 0.3 else body
    # A change of white space is a change too, because the signature covers each byte.
    verdict = Verdict.NEVER if changed_body != body else verdict
    data = build_head(number, b"POST", b"/webhooks/logto", b"HTTP/1.1") + b"Host: a\r\nConnection: close\r\n"
    data += line + b"\r\nContent-Length: %d\r\n\r\n" % len(changed_body) + changed_body
    token = Token(text=good.decode())
    case = Case(id=number, what="webhook", verdict=verdict, token=token, route="webhook")
    return Exchange(cases=(case,), pieces=cut(rng, data), secrets=(good[:40],))
