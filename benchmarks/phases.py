"""The phases of the scenario `load`: the kinds of requests in each, and the statuses that are allowed."""

import asyncio
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from benchmarks.load import Load
from benchmarks.provider import BenchProvider
from fastapi_logto.revocation import RedisStore, Revocation
from tests.integration.redis_server import RedisServer

CLIENTS: Final = 16
_REVOKED: Final = "revoked-user"
_PROVIDER_DELAY_SECONDS: Final = 2.0


class World:
    """The provider, Redis and the tokens of each kind."""

    def __init__(self, provider: BenchProvider, redis: RedisServer, folder: Path) -> None:
        """Store the parts, which run already, and make the tokens that can be sent again and again."""
        self.provider = provider
        self.redis = redis
        self._folder = folder
        self._counts: dict[str, int] = {}
        self._write("known", (provider.mint() for _ in range(100)))
        self._write("forged", (provider.forge() for _ in range(500)))
        self._write("revoked", [provider.mint(sub=_REVOKED)])
        asyncio.run(self._revoke())

    async def _revoke(self) -> None:
        store = RedisStore(self.redis.url)
        await store.append([Revocation(before=time.time() + 1, user_id=_REVOKED)], kept_seconds=3600)
        await store.close()

    def renew(self, *, new_tokens: int) -> None:
        """Make the tokens that must be new in each cycle."""
        mint, invent, mint_opaque = self.provider.mint, self.provider.invent, self.provider.mint_opaque
        self._write("new", (mint() for _ in range(new_tokens)))
        self._write("new in the mix", (mint() for _ in range(new_tokens // 2)))
        self._write("unknown key, old", (invent(age_seconds=1800) for _ in range(500)))
        # Newer than the key set will be when they are sent.
        self._write("unknown key, recent", (invent(age_seconds=-300) for _ in range(500)))
        self._write("opaque", (mint_opaque() for _ in range(500)))
        self._write("opaque in the mix", (mint_opaque() for _ in range(2000)))
        self._write("opaque, inactive", (mint_opaque(is_active=False) for _ in range(500)))

    def find(self, kind: str) -> Path:
        """Return the file with the tokens of a kind."""
        return self._folder / kind

    def count(self, kind: str) -> int:
        """Return how many tokens of a kind there are."""
        return self._counts[kind]

    def _write(self, kind: str, tokens: Iterable[str]) -> None:
        lines = list(tokens)
        self._counts[kind] = len(lines)
        self.find(kind).write_text("\n".join(lines) + "\n", encoding="ascii")


@dataclass(frozen=True, slots=True, kw_only=True)
class Stream:
    """Requests of one kind.

    Attributes:
        name: Its name in the results.
        clients: The number of connections.
        tokens: The kind of tokens; `None` for none.
        path: The path.
        allowed: The statuses that are allowed.
        is_once: Whether no token may be sent twice.
    """

    name: str
    clients: int = CLIENTS
    tokens: str | None
    path: str = "/protected"
    allowed: frozenset[int] = frozenset({200})
    is_once: bool = False


def _do_nothing(_: World) -> None:
    pass


@dataclass(frozen=True, slots=True, kw_only=True)
class Phase:
    """Requests that are sent at the same time, and what happens meanwhile.

    Attributes:
        name: Its name in the results.
        streams: The requests.
        before: Called before them.
        during: Called shortly after they have begun.
        after: Called after them.
    """

    name: str
    streams: tuple[Stream, ...]
    before: Callable[[World], None] = _do_nothing
    during: Callable[[World], None] = _do_nothing
    after: Callable[[World], None] = _do_nothing


def find_wrong(stream: Stream, load: Load) -> list[str]:
    """Return what is wrong with the responses to a stream."""
    found = [
        f"{stream.name}: expected {' or '.join(map(str, sorted(stream.allowed)))}, found {status} {count} times"
        for status, count in sorted(load.statuses.items())
        if status not in stream.allowed
    ]
    if load.failed:
        found.append(f"{stream.name}: expected a response to each request, found none to {load.failed}")
    if not load.requests:
        found.append(f"{stream.name}: expected responses, found none")
    return found


def _slow_down_keys(world: World) -> None:
    world.provider.jwks_delay_seconds = _PROVIDER_DELAY_SECONDS


def _slow_down_introspection(world: World) -> None:
    world.provider.introspection_delay_seconds = _PROVIDER_DELAY_SECONDS


def _speed_up(world: World) -> None:
    world.provider.jwks_delay_seconds = world.provider.introspection_delay_seconds = 0.0


BASELINE: Final = Stream(name="unprotected route", tokens=None, path="/open")
_OK, _REFUSED, _AWAY = frozenset({200}), frozenset({401}), frozenset({503})


def _alone(name: str, tokens: str, *, allowed: frozenset[int] = _OK, is_once: bool = False) -> Phase:
    return Phase(name=name, streams=(Stream(name=name, tokens=tokens, allowed=allowed, is_once=is_once),))


def _with_redis(
    name: str, path: str, *, known: frozenset[int], revoked: frozenset[int], during: Callable[[World], None]
) -> Phase:
    streams = (
        Stream(name="known tokens", tokens="known", path=path, clients=14, allowed=known),
        Stream(name="a revoked token", tokens="revoked", path=path, clients=2, allowed=revoked),
    )
    return Phase(name=name, streams=streams, during=during)


PHASES: Final = (
    _alone("known tokens", "known"),
    _alone("new tokens", "new", is_once=True),
    _alone("forged tokens", "forged", allowed=_REFUSED),
    _alone("unknown keys, tokens older than the key set", "unknown key, old", allowed=_REFUSED),
    # Such a key may be new: until the next fetch is due, the client must try again and keep its token.
    _alone("unknown keys, tokens newer than the key set", "unknown key, recent", allowed=_REFUSED | _AWAY),
    Phase(
        name="the key set takes 2 s",
        streams=(
            Stream(name="known tokens", tokens="known", clients=12),
            Stream(name="unknown keys", tokens="unknown key, recent", clients=4, allowed=_REFUSED | _AWAY),
        ),
        before=_slow_down_keys,
        after=_speed_up,
    ),
    Phase(
        name="introspection takes 2 s",
        streams=(
            Stream(name="known tokens", tokens="known", clients=8),
            Stream(name="opaque tokens", tokens="opaque", clients=4),
            Stream(name="inactive opaque tokens", tokens="opaque, inactive", clients=4, allowed=_REFUSED),
        ),
        before=_slow_down_introspection,
        after=_speed_up,
    ),
    _with_redis(
        "Redis is killed, `on_outage=open`",
        "/redis-open",
        known=_OK,
        revoked=_REFUSED,
        during=lambda world: world.redis.kill(),
    ),
    _with_redis(
        "Redis is unavailable, `on_outage=closed`", "/redis-closed", known=_AWAY, revoked=_AWAY, during=_do_nothing
    ),
    _with_redis(
        "Redis is started, `on_outage=closed`",
        "/redis-closed",
        known=_OK | _AWAY,
        revoked=_REFUSED | _AWAY,
        during=lambda world: world.redis.start(),
    ),
    _with_redis(
        "Redis is available again, `on_outage=closed`",
        "/redis-closed",
        known=_OK,
        revoked=_REFUSED,
        during=_do_nothing,
    ),
    Phase(
        name="all at the same time",
        streams=(
            Stream(name="unprotected route", tokens=None, path="/open", clients=1),
            Stream(name="known tokens", tokens="known", clients=6),
            Stream(name="new tokens", tokens="new in the mix", clients=3, is_once=True),
            Stream(name="forged tokens", tokens="forged", clients=3, allowed=_REFUSED),
            Stream(name="unknown keys", tokens="unknown key, recent", clients=1, allowed=_REFUSED | _AWAY),
            Stream(name="opaque tokens", tokens="opaque in the mix", clients=1),
            Stream(name="a revoked token", tokens="revoked", path="/redis-closed", clients=1, allowed=_REFUSED),
        ),
    ),
)
