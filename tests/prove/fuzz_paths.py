"""Organizations in paths and headers of real servers: the checked one is the one that the handler gets."""

import random
from collections.abc import Iterable
from typing import Final
from urllib.parse import quote

from tests.attack.report import Tally
from tests.prove.fuzz_app import ORGANIZATION_HEADER, Fault
from tests.prove.fuzz_credentials import Token, TokenPool, Verdict, mutate, pick_clean, replace_case
from tests.prove.fuzz_requests import Case, Exchange, build_head, cut
from tests.prove.fuzz_serve import SERVERS
from tests.prove.fuzz_servers import run_against
from tests.vectors.forge import Forge

_SEED: Final = 20_261_128
_COUNT: Final = 1000
_ORGANIZATIONS: Final = (
    "acme", "beta", "ACME", "acme.", ".", "..", "a b", "acme/beta", "acme%2Fbeta", "acme;x", "%61cme", "acme\xe9",
    "a+b", "../beta", "beta/../acme", "acme/", "acme?x", "acme#x", "acme\n",
)  # fmt: skip
_AFTER: Final = (b"%00", b"%20", b"%0a", b"%0d%0a", b"%2f", b";", b";a=b", b"%ff", b".")
_BEFORE: Final = (b"%00", b"%20", b"./", b"%2e%2f", b"/", b"x/../", b"beta/%2e%2e/", b"%2f")
_NAME: Final = ORGANIZATION_HEADER.encode()


async def run_paths(
    tally: Tally, forge: Forge, *, count: int = _COUNT, servers: Iterable[str] = SERVERS, fault: Fault = ""
) -> None:
    """Send tokens of members of organizations with unusual ids, to paths and headers with unusual spellings."""
    del forge
    await run_against(
        tally, _build_exchange, seed=_SEED, count=count, servers=servers, fault=fault, organizations=_ORGANIZATIONS
    )


def _build_exchange(rng: random.Random, pool: TokenPool, number: int) -> Exchange:
    plain = [token for token in pool.members if (token.organization or "") in {"acme", "beta"}]
    token = rng.choice([rng.choice(plain), rng.choice(pool.members)])
    named = token.organization if rng.random() < 0.6 else rng.choice(_ORGANIZATIONS)
    assert named is not None
    is_header = rng.random() < 0.25
    lines, target, is_plain = _name_in_header(rng, named) if is_header else _name_in_path(rng, named)
    # For all other requests, it depends on the server what the application reads.
    is_certain = is_plain and named == token.organization and named.isalpha() and named.isascii()
    credentials = pick_clean(rng, pool, token)
    data = build_head(str(number), b"GET", target, b"HTTP/1.1") + b"Host: a\r\nConnection: close\r\n"
    data += lines + credentials.lines + b"\r\n"
    case = Case(
        id=str(number),
        what=f"{named!r} as {(lines or target)[:70]!r}",
        verdict=Verdict.MUST if is_certain else Verdict.MAY,
        token=token,
        route="organization",
    )
    if not is_certain and rng.random() < 0.2:
        # For every path, no handler runs without a token, or with a token signed by a stranger.
        return _refuse(rng, pool, case, data.replace(credentials.lines, b""), token)
    return Exchange(cases=(case,), pieces=cut(rng, data), secrets=token.secrets)


def _refuse(rng: random.Random, pool: TokenPool, case: Case, data: bytes, token: Token) -> Exchange:
    bad = rng.choice(pool.invalid)
    line = rng.choice([b"", b"Authorization: Bearer " + bad.value + b"\r\n"])
    case = Case(id=case.id, what=f"{case.what}, without a valid token", verdict=Verdict.NEVER, can_be_unavailable=True)
    start, _, _ = data.partition(b"\r\n\r\n")
    return Exchange(cases=(case,), pieces=(start + b"\r\n" + line + b"\r\n",), secrets=(*token.secrets, *bad.secrets))


def _name_in_path(rng: random.Random, named: str) -> tuple[bytes, bytes, bool]:
    """Return no header, the target, and whether the path is plain."""
    shape = rng.choice(["/organizations/{}/items", "/tenants/{}/a/b", "/tenants/{}", "/deep/{}/items"]).encode()
    raw = named.encode()
    spelling, is_plain = rng.choice(
        [
            (quote(named, safe="").encode(), True),
            (quote(quote(named, safe=""), safe="").encode(), False),
            (b"".join(b"%%%02x" % one for one in raw), True),
            (b"".join(b"%%%02X" % one if rng.random() < 0.5 else bytes([one]) for one in raw), False),
            (raw.replace(b"\n", b"%0a"), False),
            (raw.replace(b"/", b"%2f").replace(b"\n", b"%0A"), False),
            (raw.upper().replace(b"\n", b"%0a"), False),
            (quote(named, safe="").encode() + rng.choice(_AFTER), False),
            (rng.choice(_BEFORE) + quote(named, safe="").encode(), False),
            (mutate(rng, quote(named, safe="").encode() or b"x").replace(b"\r", b"").replace(b"\n", b""), False),
            (quote(named, safe="").encode() + b"/" + rng.choice([b"beta", b"..", b"acme", b"%2e%2e"]), False),
        ]
    )  # fmt: skip
    extra, changes = rng.choice(
        [
            (b"", True),
            (b"", True),
            (b"?organization_id=beta", True),
            (b"?organization_id=acme&organization_id=beta", True),
            (b"/", False),
            (b"//", False),
            (b"/..", False),
            (b"/../../beta/items", False),
            (b"#/organizations/beta/items", False),
        ]
    )
    prefix = rng.choice([b"", b"", b"", b"", b"/", b"/.", b"/%2e", b"http://a", b"/organizations/acme/../.."])
    return b"", prefix + shape.replace(b"{}", spelling) + extra, is_plain and changes and not prefix


def _name_in_header(rng: random.Random, named: str) -> tuple[bytes, bytes, bool]:
    """Return the lines, the target, and whether there is exactly one plain header."""
    value, name = named.encode().replace(b"\n", b""), replace_case(rng, _NAME)
    other = rng.choice(_ORGANIZATIONS).encode().replace(b"\n", b"")
    lines, is_plain = rng.choice(
        [
            (name + b": " + value, True),
            (name + b":" + value, True),
            (name + b":  " + value + b"\t ", False),
            (name + b": " + value + b"\r\n" + name + b": " + other, False),
            (name + b": " + value + b"\r\n" + name + b": " + value, False),
            (name + b": " + value + b", " + other, False),
            (name + b": " + value + b"\r\n " + other, False),
            (name + b":\r\n " + value, False),
            (name + b" : " + value, False),
            (name.replace(b"-", b"_") + b": " + value, False),
            (name + b": " + named.encode("latin-1").replace(b"\n", b""), False),
            (name + b": " + (mutate(rng, value) if value else b""), False),
            (name + b": \r\n" + name + b": " + value, False),
            (b"X: y", False),
        ]
    )
    return lines + b"\r\n", b"/by-header" + rng.choice([b"", b"?x-organization=beta"]), is_plain
