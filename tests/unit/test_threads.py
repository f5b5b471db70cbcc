"""State that several threads share is used by one thread at a time, and built once."""

import asyncio
from collections.abc import Callable, Sequence
from threading import Event, Thread
from typing import Any, Final

import pytest
from blockbuster import BlockBuster
from fastapi import FastAPI
from starlette.routing import BaseRoute
from starlette.testclient import TestClient

from fastapi_logto import LogtoAuth
from fastapi_logto.provider.failures import FetchError
from fastapi_logto.provider.lanes import Lane, LaneClosedError
from fastapi_logto.revocation.feeds import Feeds
from fastapi_logto.settings import LogtoSettings
from fastapi_logto.testing import Clock, ManualClock
from fastapi_logto.testing import claims as make_claims
from fastapi_logto.verification.cache import TokenCache
from fastapi_logto.verification.revocation_feed import RevocationFeed
from fastapi_logto.verification.revocation_store import RevocationLog
from fastapi_logto.verification.revoked import Revocation, RevokedTokens
from tests.captured import NOW
from tests.unit.apps import API

# A thread that is locked out does not end within this time; one that is not locked out ends immediately.
KEPT_OUT_SECONDS: Final = 0.2
LONGEST_SECONDS: Final = 30


class Intruder:
    """Makes a call in another thread while this thread is inside a call."""

    def __init__(self, call: Callable[[], object]) -> None:
        self._call = call
        self._ended = Event()
        self._thread = Thread(target=self._run)
        self._was_kept_out = False

    def come(self) -> None:
        """Start the call, the first time only. The current thread is inside its own call."""
        if self._thread.ident is None:
            self._thread.start()
            self._was_kept_out = not self._ended.wait(KEPT_OUT_SECONDS)

    def waited(self) -> bool:
        """Return whether the call ended only after the call of this thread."""
        self._thread.join(LONGEST_SECONDS)
        return self._was_kept_out and self._ended.is_set()

    def _run(self) -> None:
        self._call()
        self._ended.set()


class Digest(bytes):
    """A digest that starts the intruder when a cache looks it up."""

    intruder: Intruder

    def __hash__(self) -> int:
        self.intruder.come()
        return super().__hash__()


class UserId(str):
    """A user id that starts the intruder when a table looks it up."""

    __slots__ = ("intruder",)
    intruder: Intruder

    def __hash__(self) -> int:
        self.intruder.come()
        return super().__hash__()


USES: dict[str, Callable[[TokenCache[str], bytes], object]] = {
    "keep": lambda cache, digest: cache.keep(digest, "value", weight=1),
    "find": lambda cache, digest: cache.find(digest),
    "drop": lambda cache, digest: cache.drop(digest),
}


@pytest.mark.parametrize("use", USES)
def test_no_thread_changes_a_cache_while_another_one_uses_it(use: str) -> None:
    cache: TokenCache[str] = TokenCache(size=3, max_bytes=1000)
    digest = Digest(b"digest")
    digest.intruder = Intruder(lambda: cache.keep(b"other", "other", weight=1))

    USES[use](cache, digest)

    assert digest.intruder.waited()
    assert cache.find(b"other") == "other"


def test_no_thread_changes_the_revocations_while_another_one_does() -> None:
    tokens = RevokedTokens(now=lambda: NOW, longest_token_seconds=3600)
    user_id = UserId("alice")
    user_id.intruder = Intruder(lambda: tokens.add(Revocation(before=NOW, user_id="bob")))

    tokens.add(Revocation(before=NOW, user_id=user_id))

    assert user_id.intruder.waited()
    assert len(tokens) == 2


class WatchedLoop(asyncio.SelectorEventLoop):
    """An event loop that is looked up while an intruder comes."""

    intruder: Intruder | None = None

    def __hash__(self) -> int:
        if self.intruder is not None:
            self.intruder.come()
        return super().__hash__()


@pytest.mark.parametrize("step", ["begins", "ends"])
def test_no_thread_revokes_while_a_connection_begins_or_ends(step: str, loop_guard: BlockBuster) -> None:
    loop_guard.functions["threading.Lock.acquire"].can_block_in("test_threads.py", "come")
    tokens = RevokedTokens(now=lambda: NOW, longest_token_seconds=3600)
    intruder = Intruder(lambda: tokens.add(Revocation(before=NOW, user_id="bob")))

    async def connect() -> None:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, WatchedLoop)
        loop.intruder = intruder if step == "begins" else None
        stop = tokens.watch(make_claims(), issuer=None, end=lambda: None)
        loop.intruder = intruder
        stop()

    with asyncio.Runner(loop_factory=WatchedLoop) as runner:
        runner.run(connect())

    assert intruder.waited()
    assert len(tokens) == 1


class WatchedTime:
    """A clock that starts the intruder when it is read."""

    def __init__(self) -> None:
        self.clock = ManualClock(now=NOW)
        self.intruder: Intruder | None = None

    def monotonic(self) -> float:
        if self.intruder is not None:
            self.intruder.come()
        return self.clock.monotonic()


def send(lane: Lane, outcomes: list[str]) -> None:
    try:
        with lane.enter():
            outcomes.append("sent")
    except LaneClosedError:
        outcomes.append("closed")


def fail(lane: Lane, watched: WatchedTime, intruder: Intruder) -> None:
    def send_in_vain() -> None:
        with lane.enter():
            watched.intruder = intruder
            raise FetchError("fault")

    with pytest.raises(FetchError, match="fault"):
        send_in_vain()


def test_a_request_waits_until_the_failure_of_another_thread_is_counted() -> None:
    watched, outcomes = WatchedTime(), list[str]()
    lane = Lane("test", monotonic=watched.monotonic)
    intruder = Intruder(lambda: send(lane, outcomes))

    fail(lane, watched, intruder)

    assert intruder.waited()
    assert outcomes == ["closed"]


def test_only_one_of_two_threads_makes_the_next_try() -> None:
    watched, outcomes = WatchedTime(), list[str]()
    lane = Lane("test", monotonic=watched.monotonic)
    first = Intruder(lambda: None)
    fail(lane, watched, first)
    watched.clock.advance(60)
    watched.intruder = intruder = Intruder(lambda: send(lane, outcomes))

    with lane.enter():
        assert intruder.waited()

    assert outcomes == ["closed"]


def test_the_feed_of_revocations_is_built_once_for_all_threads() -> None:
    built: list[Clock] = []

    def build(_store: object, *, clock: Clock, logs: Sequence[RevocationLog]) -> RevocationFeed:
        intruder.come()
        built.append(clock)
        return RevocationFeed(
            None, clock=clock, on_outage="open", outage_seconds=30, longest_token_seconds=3600, logs=logs
        )

    feeds = Feeds(None, build=build, build_logs=list)
    intruder = Intruder(lambda: feeds.use_clock(Clock()))

    feeds.use_clock(Clock())

    assert intruder.waited()
    assert len(built) == 1


def test_the_environment_is_read_once_for_all_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOGTO_ENDPOINT", "https://tenant.logto.app")
    monkeypatch.setenv("LOGTO_AUDIENCE", API)
    found: list[LogtoSettings] = []
    intruder = Intruder(lambda: found.append(auth.settings))

    class WatchedClock(Clock):
        def __getattribute__(self, name: str) -> Any:
            if name == "monotonic":
                intruder.come()
            return super().__getattribute__(name)

    auth = LogtoAuth(clock=WatchedClock())

    settings = auth.settings

    assert intruder.waited()
    assert found[0] is settings


def test_the_metadata_pages_are_built_once_for_all_threads() -> None:
    pages: list[int] = []

    class WatchedApp(FastAPI):
        @property
        def routes(self) -> list[BaseRoute]:
            intruder.come()
            return super().routes

    def request() -> int:
        return TestClient(app).get("/.well-known/oauth-protected-resource").status_code

    intruder = Intruder(lambda: None)
    app = WatchedApp()
    LogtoAuth(endpoint="https://tenant.logto.app", audience=API).install(app)
    intruder = Intruder(lambda: pages.append(request()))

    assert request() == 200
    assert intruder.waited()
    assert pages == [200]
