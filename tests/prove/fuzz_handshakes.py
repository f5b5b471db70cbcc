"""Handshakes of WebSockets as raw bytes, each with the allowed outcomes."""

import random
from dataclasses import replace
from typing import Final

from tests.prove.fuzz_credentials import Credentials, Token, TokenPool, Verdict, build_credentials, has_access, mutate
from tests.prove.fuzz_requests import Case, Exchange, build_head, cut

_UPGRADE: Final = (
    b"Host: api.example.test\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
)
_ROUTES: Final = (
    (b"/any", "any"), (b"/any", "any"), (b"/scoped", "scoped"), (b"/optional", "optional"),
    (b"/organizations/acme/items", "organization"),
)  # fmt: skip
_CHANGES: Final = (
    (b"Upgrade: websocket", b"Upgrade: WebSocket"), (b"Upgrade: websocket\r\n", b""),
    (b"Upgrade: websocket", b"Upgrade: h2c"),
    (b"Connection: Upgrade", b"Connection: keep-alive, Upgrade"), (b"Connection: Upgrade", b"Connection: close"),
    (b"Version: 13", b"Version: 12"), (b"Version: 13", b"Version: 13, 8"), (b"Key: dGhl", b"Key: !!!!"),
    (b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n", b""), (b"Host: api.example.test\r\n", b""),
    (b"Host: ", b"Origin: https://evil.example\r\nHost: "), (b"Host: ", b"Content-Length: 5\r\nHost: "),
    (b"Host: ", b"Sec-WebSocket-Extensions: permessage-deflate; x\r\nHost: "),
)  # fmt: skip
_NAME: Final = b"Sec-WebSocket-Protocol: "


def build_handshake(rng: random.Random, pool: TokenPool, number: int) -> Exchange:
    """Return a handshake; the same for the same state of `rng`."""
    token = rng.choice([*pool.valid, *pool.members])
    in_header = rng.random() < 0.4
    header = build_credentials(rng, pool, token) if in_header else Credentials(kind="none", is_anonymous=True)
    if header.trailer:
        header = Credentials(kind="none", is_anonymous=True)
    offer = Credentials(kind="no subprotocol", is_anonymous=True)
    if not in_header or rng.random() < 0.5:
        offer = _build_offer(rng, pool, token)
    both = _combine(header, offer)
    upgrade, verdict, method = _UPGRADE, Verdict.MUST, b"GET"
    if rng.random() < 0.2:
        upgrade, verdict = upgrade.replace(*rng.choice(_CHANGES)), Verdict.MAY
    if rng.random() < 0.05:
        method, verdict = rng.choice([b"POST", b"get", b"HEAD", b"CONNECT"]), Verdict.MAY
    is_changed = (upgrade, method) != (_UPGRADE, b"GET")
    if is_changed and header.verdict:
        # Without an upgrade it is an ordinary request, and subprotocols are ignored.
        both = replace(both, token=header.token, verdict=Verdict.MAY)
    target, route = rng.choice(_ROUTES)
    parts = [upgrade, header.lines, offer.lines]
    rng.shuffle(parts)
    data = build_head(str(number), method, target, b"HTTP/1.1", query=header.query) + b"".join(parts) + b"\r\n"
    verdict = min(verdict, both.verdict)
    if verdict is Verdict.MUST and not (both.token and _opens(both.token, route)):
        verdict = Verdict.MAY
    case = Case(
        id=str(number),
        what=f"handshake, {both.kind} at {target!r}",
        verdict=verdict,
        token=both.token,
        is_anonymous=both.is_anonymous or (header.is_anonymous and is_changed),
        route=route,
        can_be_unavailable="invalid" in both.kind,
    )
    tokens = [*both.others, *([both.token] if both.token else [])]
    secrets = tuple(secret for one in tokens for secret in one.secrets)
    return Exchange(cases=(case,), pieces=cut(rng, data), secrets=secrets)


def _opens(token: Token, route: str) -> bool:
    return has_access(token, route, "acme")


def _combine(header: Credentials, offer: Credentials) -> Credentials:
    """Return the verdict on both together. A token in each of them is one too many."""
    kind, others = f"{header.kind} and {offer.kind}", (*header.others, *offer.others)
    if offer.kind == "no subprotocol":
        return replace(header, kind=kind)
    if header.kind == "none":
        return replace(offer, kind=kind)
    is_anonymous = header.is_anonymous and offer.is_anonymous
    token = header.token or offer.token
    if token is None or not ((header.token and offer.is_anonymous) or (offer.token and header.is_anonymous)):
        others = (*others, token) if token else others
        return Credentials(kind=kind, others=others, is_anonymous=is_anonymous)
    # A server may drop one of them or repair it.
    return Credentials(kind=kind, others=others, token=token, verdict=Verdict.MAY, is_anonymous=is_anonymous)


def _build_offer(rng: random.Random, pool: TokenPool, token: Token) -> Credentials:
    """Return a list of subprotocols, with or without a token."""
    one, other = token.value, rng.choice(pool.valid).value
    bad = rng.choice(pool.invalid)
    kind, value, verdict, is_anonymous = rng.choice(
        [
            ("token", b"bearer, " + one, Verdict.MUST, False),
            ("token", b"bearer," + one, Verdict.MUST, False),
            ("token", b"chat, bearer, " + one, Verdict.MUST, False),
            ("token", b"bearer, " + one + b", chat", Verdict.MUST, False),
            ("white space", b"bearer\t,\t" + one + b" ", Verdict.MAY, True),
            ("other subprotocols", b"chat, superchat", Verdict.NEVER, True),
            ("another case", b"Bearer, " + one, Verdict.NEVER, True),
            ("no bearer", one, Verdict.NEVER, True),
            ("bearer alone", b"bearer", Verdict.NEVER, False),
            ("bearer at the end", one + b", bearer", Verdict.NEVER, False),
            ("one word", b"bearer " + one, Verdict.NEVER, True),
            ("a header's value", b"bearer, Bearer " + one, Verdict.NEVER, False),
            ("quoted", b'bearer, "' + one + b'"', Verdict.NEVER, False),
            ("two tokens", b"bearer, " + one + b", bearer, " + other, Verdict.NEVER, False),
            ("invalid and valid", b"bearer, " + bad.value + b", bearer, " + one, Verdict.NEVER, False),
            ("valid and invalid", b"bearer, " + one + b", bearer, " + bad.value, Verdict.NEVER, False),
            ("bearer twice", b"bearer, bearer, " + one, Verdict.NEVER, False),
            ("empty elements", b",, bearer,, " + one, Verdict.MAY, True),
            ("two lines", b"bearer\r\n" + _NAME + one, Verdict.MAY, True),
            ("two lines in reverse", one + b"\r\n" + _NAME + b"bearer", Verdict.MAY, True),
            ("folded", b"bearer,\r\n " + one, Verdict.MAY, True),
            ("invalid", b"bearer, " + bad.value, Verdict.NEVER, False),
            ("non-ASCII", b"bearer, " + one + b"\xc3\xa9", Verdict.NEVER, True),
            ("NUL", b"bearer, " + one + b"\x00", Verdict.NEVER, True),
            ("overlong", b"bearer, " + one + b"A" * rng.choice([9_000, 70_000]), Verdict.NEVER, True),
            ("mutated", b"", Verdict.NEVER, True),
        ]
    )  # fmt: skip
    if kind == "mutated":
        value = mutate(rng, b"bearer, " + one)
        # The whole token is in one element, however the server parses the rest.
        verdict = (
            Verdict.MAY
            if any(part.strip(b" \t\r\n\x00\x0b\x0c\x85\xa0") == one for part in value.split(b","))
            else Verdict.NEVER
        )
    return Credentials(
        kind=f"subprotocol {kind}",
        lines=_NAME + value + b"\r\n",
        verdict=verdict,
        token=token if verdict else None,
        is_anonymous=is_anonymous,
        others=(token, bad),
    )
