"""Share revocations between processes over Redis: one stream, which each process reads from the last entry it saw."""

import asyncio
import logging
import math
import os
import secrets
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from typing import Final, TypeAlias, cast

from pydantic import SecretStr

from fastapi_logto.provider.endpoints import as_secret
from fastapi_logto.revocation.redis_connection import Argument, Connector, Link, explain_redis_error
from fastapi_logto.single_flight import running_loop
from fastapi_logto.verification.revocation_store import Batch, RevocationStoreError
from fastapi_logto.verification.revoked import Revocation

_logger: Final = logging.getLogger("fastapi_logto")

# They are parsed and applied in a quarter of a millisecond.
_BATCH_ENTRIES: Final = 32
_START: Final = "0-0"
_NAMES: Final = ("user_id", "organization_id", "client_id", "token_id", "issuer")
_FIELDS: Final = {name.encode(): name for name in ("before", *_NAMES)}
_MOST_CHARACTERS: Final = 2048
_LONGEST_NUMBER: Final = 32

# The age of entries is that of the server's clock, which also makes their ids. With the entries that are removed, a
# process that has not read for a long time must know that they were removed because of their age, and are not lost.
# Of several APIs with this key, that with the longest tokens decides.
_APPEND: Final = """
local kept = math.max(tonumber(ARGV[1]), tonumber(redis.call('GET', KEYS[3]) or '0'))
redis.call('SET', KEYS[3], string.format('%.0f', kept))
local oldest = string.format('%.0f', (redis.call('TIME')[1] - kept) * 1000)
local first = 2
while first <= #ARGV do
  local last = first + ARGV[first]
  redis.call('XADD', KEYS[1], 'MINID', '~', oldest, '*', unpack(ARGV, first + 1, last))
  first = last + 1
end
redis.call('SET', KEYS[2], oldest)
"""

# The process that holds the lease renews it.
_LEAD: Final = """
local holder = redis.call('GET', KEYS[1])
if holder and holder ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return 1
"""

_Entry: TypeAlias = tuple[bytes, Sequence[bytes]]
_Place: TypeAlias = tuple[int, asyncio.AbstractEventLoop]


class RedisStore:
    """Revocations in Redis, for `Revocations(store=RedisStore(...))`. It needs the extra `redis`.

    All processes with the same URL and key share their revocations. Each of them keeps a connection open on which it
    waits for the next revocation, and opens one for each other command. An interruption loses nothing: a process reads
    on from the last entry that it saw. If the data of the server are lost, the processes append what they know again.

    Supported are Redis 6.2 or later, and compatible servers such as Valkey, at one address: over TCP, TLS or a Unix
    socket. The keys are in one hash slot, so a proxy in front of a cluster can be used. The protocols of Redis Sentinel
    and Redis Cluster are not supported: use an address that always leads to the primary server. Its `maxmemory-policy`
    should not evict keys without an expiration.

    A failover of the server may lose what it accepted in the last moments (asynchronous replication). The processes
    that have already read such an entry append it again.

    Args:
        url: The server, e.g. `redis://user:password@host:6379/0`, `rediss://...` for TLS or
            `unix:///run/redis.sock?db=0`. The options of redis-py in the query are accepted, such as
            `ssl_ca_certs=/path`, except for timeouts and retries. No message contains it.
        key: The prefix of all keys. Anyone who can write to them can revoke tokens.
        timeout_seconds: How long a command may take, including the connection.

    Raises:
        ImportError: The extra `redis` is not installed.
        ValueError: The URL or another value is invalid.
    """

    def __init__(
        self, url: str | SecretStr, *, key: str = "fastapi-logto:revocations", timeout_seconds: float = 2
    ) -> None:
        secret = as_secret(url)
        # What records local variables must not find the password here.
        del url
        if not key.strip():
            raise ValueError("key: expected a text that is not empty, found none; pass a prefix for the keys in Redis")
        if isinstance(timeout_seconds, bool) or not 0 < timeout_seconds <= 60:
            raise ValueError(
                f"timeout_seconds: expected more than 0 and at most 60 seconds, found {timeout_seconds!r}; pass 2"
            )
        self._connector = Connector(secret)
        self._key: Final = key if "{" in key else f"{{{key}}}"
        self._oldest_key: Final = f"{self._key}:oldest"
        self._timeout_seconds = timeout_seconds
        # Of this object, because the process may fork: see `try_lead`.
        self._token: Final = secrets.token_hex(8)
        # A connection of one loop can't be used by another one, nor by the child of a process.
        self._idle: dict[_Place, Link] = {}
        self._has_warned = False

    async def append(self, revocations: Sequence[Revocation], *, kept_seconds: float) -> None:
        """Append revocations, for all processes, and remove those that were appended too long ago."""
        arguments: list[Argument] = [math.ceil(kept_seconds)]
        for revocation in revocations:
            fields = _build_fields(revocation)
            arguments += [len(fields), *fields]
        await self._run_script(_APPEND, [self._key, self._oldest_key, f"{self._key}:kept"], arguments)

    async def read(self, position: str | None, *, wait_seconds: float) -> Batch:
        """Return the revocations after a position; `None` reads from the start.

        If there are none, wait for the next one for up to `wait_seconds`.
        """
        place = (os.getpid(), running_loop())
        idle = self._idle.pop(place, None)
        async with self._guard(self._timeout_seconds + wait_seconds):
            if idle is not None:
                try:
                    return await self._read(idle, position or _START, wait_seconds=wait_seconds, place=place)
                except Exception as error:  # noqa: BLE001 - most often, the server has closed it while it was not used
                    _logger.debug("Redis: a new connection is opened after: %s", explain_redis_error(error))
            self._forget_closed_loops()
            link = await self._connector.open()
            return await self._read(link, position or _START, wait_seconds=wait_seconds, place=place)

    async def try_lead(self, task: str, *, seconds: float) -> bool:
        """Let this process do a task for the next seconds, and return true, unless another process does it now."""
        holder = f"{self._token}-{os.getpid()}"
        reply = await self._run_script(_LEAD, [f"{self._key}:lead:{task}"], [holder, _as_milliseconds(seconds)])
        return bool(reply)

    async def load_text(self, name: str) -> str | None:
        """Return the text that a process has saved under a name, or `None`."""
        reply = cast("bytes | None", await self._run("GET", self._name_text(name)))
        # Another program may have written it.
        return None if reply is None else reply.decode("utf-8", "replace")

    async def save_text(self, name: str, text: str) -> None:
        """Save a short text for all processes."""
        await self._run("SET", self._name_text(name), text)

    async def close(self) -> None:
        """Close the connection of the running event loop."""
        link = self._idle.pop((os.getpid(), running_loop()), None)
        if link is not None:
            await link.close()

    async def _read(self, link: Link, position: str, *, wait_seconds: float, place: _Place) -> Batch:
        """Read on a connection, and keep it for the next read if that follows at once."""
        is_kept = False
        try:
            batch = await self._read_now(link, position)
            if wait_seconds > 0 and batch.position == position and not batch.is_restarted:
                # This only wakes the process: meanwhile, the stream may have been lost and created anew.
                milliseconds = _as_milliseconds(wait_seconds)
                await link.ask("XREAD", "COUNT", 1, "BLOCK", milliseconds, "STREAMS", self._key, position)
                batch = await self._read_now(link, position)
            # Otherwise, it would be left open if the loop ends without `close`.
            is_followed = wait_seconds > 0 or not batch.is_last
            is_kept = is_followed and self._idle.setdefault(place, link) is link
            return batch
        finally:
            if not is_kept:
                await link.close()

    async def _read_now(self, link: Link, position: str) -> Batch:
        # The range begins with the entry that was read last. If it is not there, the server has lost its data, also if
        # there are newer entries: it was restarted without them, or replaced by a replica that had not got them yet.
        entries = await self._list(link, position)
        is_restarted = False
        if position != _START:
            if entries and entries[0][0] == position.encode():
                entries = entries[1:]
            elif not _is_older(position, await link.ask("GET", self._oldest_key)):
                is_restarted, position = True, _START
                entries = await self._list(link, position)
        return Batch(
            revocations=[found for _, fields in entries if (found := self._parse(fields)) is not None],
            position=entries[-1][0].decode() if entries else position,
            is_last=len(entries) < _BATCH_ENTRIES,
            is_restarted=is_restarted,
        )

    async def _list(self, link: Link, position: str) -> list[_Entry]:
        """Return the entries from a position on, including the one at this position."""
        reply = await link.ask("XRANGE", self._key, position, "+", "COUNT", _BATCH_ENTRIES + 1)
        return cast("list[_Entry]", reply)

    def _parse(self, fields: Sequence[bytes]) -> Revocation | None:
        revocation = parse_entry(fields)
        if revocation is None and not self._has_warned:
            self._has_warned = True
            _logger.warning(
                "Redis: expected only entries of this package under the key of RedisStore, found another one, which is "
                "skipped; let no other program write there"
            )
        return revocation

    async def _run_script(self, script: str, keys: Sequence[str], arguments: Sequence[Argument]) -> object:
        return await self._run("EVAL", script, len(keys), *keys, *arguments)

    async def _run(self, *command: Argument) -> object:
        """Run a command on a new connection: the server may have closed one that was not used for a while."""
        async with self._guard(self._timeout_seconds):
            link = await self._connector.open()
            try:
                return await link.ask(*command)
            finally:
                await link.close()

    @asynccontextmanager
    async def _guard(self, seconds: float) -> AsyncGenerator[None]:
        """Turn whatever fails in a block into a `RevocationStoreError`, also if it takes too long."""
        try:
            async with asyncio.timeout(seconds):
                yield
        except TimeoutError:
            found = f"expected a response within {seconds:g} s, found none; check that the server runs and is reachable"
            raise RevocationStoreError(f"Redis: {found}") from None
        except Exception as error:  # noqa: BLE001 - redis-py's edge: its messages and frames contain URL and password
            raise RevocationStoreError(f"Redis: {explain_redis_error(error)}") from None

    def _forget_closed_loops(self) -> None:
        for place in [place for place in self._idle if place[1].is_closed()]:
            del self._idle[place]

    def _name_text(self, name: str) -> str:
        return f"{self._key}:text:{name}"


def parse_entry(fields: Sequence[bytes]) -> Revocation | None:
    """Return the revocation in the fields of an entry; `None` if it is none."""
    try:
        # An unknown field may narrow the revocation.
        values = {_FIELDS[name]: value.decode() for name, value in zip(fields[::2], fields[1::2], strict=True)}
        time = values.pop("before")
        before = float(time) if len(time) <= _LONGEST_NUMBER else math.inf
    except (ValueError, KeyError):
        return None
    if not math.isfinite(before) or 2 * len(values) + 2 != len(fields):
        return None
    for value in values.values():
        if not value or value.isspace() or len(value) > _MOST_CHARACTERS:
            return None
    return Revocation(before=before, **values)


def _build_fields(revocation: Revocation) -> list[Argument]:
    fields: list[Argument] = ["before", repr(float(revocation.before))]
    for name in _NAMES:
        value: str | None = getattr(revocation, name)
        if value is not None:
            fields += [name, value]
    return fields


def _is_older(position: str, oldest: object) -> bool:
    """Return whether an entry was removed because of its age."""
    return isinstance(oldest, bytes) and oldest.isdigit() and int(position.partition("-")[0]) < int(oldest)


def _as_milliseconds(seconds: float) -> int:
    # 0 would mean without end.
    return max(1, round(seconds * 1000))
