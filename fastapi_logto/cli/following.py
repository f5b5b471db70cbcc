"""Read a delivery log into a store until a signal ends the command."""

import asyncio
import contextlib
import logging
import signal
from collections.abc import Generator, Mapping
from typing import Final

from typing_extensions import override

from fastapi_logto.cli.results import CommandError
from fastapi_logto.cli.terminal import warn
from fastapi_logto.revocation import RedisStore, Revocations, RevocationStore
from fastapi_logto.revocation.revocations import find_feeds

_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM)


def open_store(url: str | None, variables: Mapping[str, str], *, key: str | None) -> RevocationStore:
    """Return the store at a URL, or at that of the variables. Nothing is connected yet."""
    if url is not None and any(mark in url.lower() for mark in ("@", "password=", "username=")):
        raise CommandError(
            "--redis-url: expected a URL without a user and password, found one with them; the shell history and other "
            "processes can read it; set LOGTO_REDIS_URL"
        )
    url = url or variables.get("LOGTO_REDIS_URL")
    if not url:
        raise CommandError("expected the URL of a Redis server, found none; set LOGTO_REDIS_URL or pass --redis-url")
    try:
        return RedisStore(url) if key is None else RedisStore(url, key=key)
    except (ImportError, ValueError) as error:
        raise CommandError(str(error)) from None


def follow_log(revocations: Revocations, *, name: str) -> None:
    """Read the log of some revocations until Ctrl-C or SIGTERM. The log of the package is printed on standard error."""
    with _print_log():
        asyncio.run(_follow(revocations, name=name))


async def _follow(revocations: Revocations, *, name: str) -> None:
    loop, ended = asyncio.get_running_loop(), asyncio.Event()
    for number in _SIGNALS:
        loop.add_signal_handler(number, ended.set)
    feed = find_feeds(revocations).current
    try:
        warn(f"Following the delivery log of {name}; Ctrl-C stops it")
        # A store that is unavailable is in the log, and so is Logto. Both are tried again.
        warming = asyncio.ensure_future(feed.warm())
        ending = asyncio.ensure_future(ended.wait())
        done, _ = await asyncio.wait([warming, ending], return_when=asyncio.FIRST_COMPLETED)
        if warming in done:
            await warming
            await ending
        else:
            warming.cancel()
    finally:
        await feed.close()
        for number in _SIGNALS:
            # asyncio does this when it closes the loop, uvloop does not.
            loop.remove_signal_handler(number)


class _PrintingHandler(logging.Handler):
    @override
    def emit(self, record: logging.LogRecord) -> None:
        warn(f"{record.levelname}: {record.getMessage()}")


@contextlib.contextmanager
def _print_log() -> Generator[None]:
    logger, handler = logging.getLogger("fastapi_logto"), _PrintingHandler()
    before = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        yield
    finally:
        logger.setLevel(before)
        logger.removeHandler(handler)
