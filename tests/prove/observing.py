"""Sends requests to applications, and searches in the responses and the exceptions of the package."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Generator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from inspect import iscoroutinefunction
from typing import Any, Final, TypeAlias, TypeVar
from urllib.parse import quote, quote_plus

import httpx
from fastapi import FastAPI
from starlette.types import ASGIApp, Message, Scope

from fastapi_logto.testing import LocalIssuer
from tests.attack.asgi import OBSERVER, build_scope
from tests.prove.canaries import Canaries
from tests.prove.learning import Learner, list_kept_secrets
from tests.prove.outcomes import Outcomes, name_outcome
from tests.prove.sinks import Collector, Sinks, collect
from tests.vectors.forge import API, ENDPOINT, ISSUER_URL

ResultT = TypeVar("ResultT")

PUBLIC: Final = f"{API} {ENDPOINT} {ISSUER_URL}/.well-known/openid-configuration"
"""Texts that may be a part of a token's text, and are not secret."""

_MARK: Final = "is_observed"


@dataclass(slots=True, kw_only=True)
class Run:
    """A run of the proof: the secrets, and the places to search.

    Attributes:
        sinks: The places to search.
        collector: Collects the output during the run.
        name: The scene.
        part: The part of the scene whose outcomes are counted separately; empty for the main one.
        outcomes: The outcomes of each action of the scene.
        failures: A line for each way in which the run proves less than it must.
    """

    sinks: Sinks
    collector: Collector
    name: str = ""
    part: str = ""
    outcomes: Outcomes = field(default_factory=Outcomes)
    failures: list[str] = field(default_factory=list[str])
    # Those that have responded to all their requests.
    _issuers: list[LocalIssuer] = field(default_factory=list[LocalIssuer])

    @property
    def canaries(self) -> Canaries:
        """The secrets."""
        return self.sinks.canaries

    def begin(self, app: ASGIApp, scope: Scope) -> None:
        """Learn the tokens of a request, and observe the exceptions that the application handles."""
        for name, value in scope["headers"]:
            text = value.decode("latin-1")
            if name == b"authorization":
                for part in text.split():
                    self.canaries.add_token("the token", part)
            elif name == b"sec-websocket-protocol":
                for part in text.split(","):
                    self.canaries.add_token("the token", part.strip())
        if isinstance(app, FastAPI) and not hasattr(app.state, _MARK) and app.middleware_stack is None:
            setattr(app.state, _MARK, True)
            handlers: dict[Any, Any] = app.exception_handlers
            for kind, handler in handlers.items():
                handlers[kind] = self._wrap(handler)

    def end(self, scope: Scope, sent: Sequence[Message], error: BaseException | None) -> None:
        """Search in the response, and in the exception of the application."""
        where = f"{self.name}: {scope['type']} {scope['path'][:40]}"
        for message in sent:
            self.sinks.put("responses", where, message)
            for name, value in message.get("headers", ()):
                self.sinks.put("responses", f"{where}, header {name!r}", value.decode("latin-1"))
            body = message.get("body", b"")
            self.sinks.put("responses", where, body.decode("utf-8", "replace"))
        self.sinks.put_error(where, error)
        self.collector.drain(where)

    def _wrap(self, handler: Any) -> Callable[..., Awaitable[object]]:
        async def observed(conn: Any, error: Exception) -> object:
            self.sinks.put_error(f"{self.name}: handled", error)
            if iscoroutinefunction(handler):
                return await handler(conn, error)
            return handler(conn, error)

        return observed

    async def attempt(self, what: str, call: Awaitable[object], *, detail: str = "") -> None:
        """Wait for a call; add its outcome, and search in its result or its exception."""
        self.outcomes.add(what, name_outcome(await self._settle(f"{what} {detail}", call)))

    async def _settle(self, what: str, call: Awaitable[object]) -> BaseException | None:
        """Wait for a call, and return its exception, also if it is a cancellation."""
        where = f"{self.name}: {what}"
        result: object = None
        failure: BaseException | None = None
        try:
            result = await call
        except BaseException as error:
            if isinstance(error, KeyboardInterrupt | SystemExit):
                raise
            failure = error
            self.sinks.put_error(where, error)
        # The profile of a user is the response of the provider.
        if not isinstance(result, dict):
            self.sinks.put("representations", where, repr(result), str(result))
        self.collector.drain(where)
        return failure

    def build(self, what: str, make: Callable[[], ResultT]) -> ResultT | None:
        """Return what a function returns; add the outcome, and search in its exception."""
        where = f"{self.name}: {what}"
        failure: Exception | None = None
        try:
            return make()
        except Exception as error:  # noqa: BLE001 - the finding itself
            failure = error
            self.sinks.put_error(where, error)
            return None
        finally:
            self.outcomes.add(what, name_outcome(failure))
            self.collector.drain(where)

    async def cancel(self, what: str, call: Callable[[], Awaitable[object]], *, turns: int) -> None:
        """Cancel a call after some turns of the loop, from outside and by a timeout.

        A call that ends earlier adds no outcome, because that depends on the machine.
        """

        async def wait() -> object:
            return await call()

        async def wait_with_timeout() -> object:
            async with asyncio.timeout(60) as timeout:
                timeouts.append(timeout)
                return await call()

        timeouts: list[asyncio.Timeout] = []
        for make in (wait, wait_with_timeout):
            task = asyncio.ensure_future(make())
            for _ in range(turns):
                await asyncio.sleep(0)
            if make is wait:
                task.cancel()
            elif not task.done():
                timeouts[0].reschedule(0)
            error = await self._settle(f"{what}, cancelled after {turns} turns", task)
            if isinstance(error, asyncio.CancelledError | TimeoutError):
                self.outcomes.add(f"{what}, cancelled", name_outcome(error))

    async def ask(self, app: ASGIApp, method: str, path: str, **options: Any) -> httpx.Response:
        """Send a request over httpx; search in the response and in the exceptions of the application."""
        transport = httpx.ASGITransport(app=_Observed(self, app), raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="https://api.example.test") as client:
            return await client.request(method, path, **options)

    async def send(
        self,
        app: ASGIApp,
        path: str,
        *,
        kind: str = "http",
        method: str = "GET",
        headers: Sequence[tuple[bytes, bytes]] = (),
        body: bytes = b"",
        end: str | None = None,
        text: str | None = None,
        can_deny: bool = True,
        meanwhile: Callable[[], Awaitable[None]] | None = None,
        waits: bool = False,
    ) -> None:
        """Send a request like a server, whose client may stay, disconnect or fail; see `ask`."""
        waiting: list[Message] = [{"type": "websocket.connect"}]
        if kind == "http":
            waiting = [{"type": "http.request", "body": body, "more_body": end is not None}]
        elif text is not None:
            waiting.append({"type": "websocket.receive", "text": text})
        if end is not None:
            waiting.append({"type": end})

        async def receive() -> Message:
            if waiting:
                message = waiting.pop(0)
                if message["type"] == "a surprise":
                    raise RuntimeError("a surprise of the server")
                return message
            if meanwhile is not None:
                await meanwhile()
            if meanwhile is not None or waits:
                await asyncio.Event().wait()
            return {"type": f"{kind}.disconnect", "code": 1005}

        async def take(message: Message) -> None:
            if meanwhile is not None and message.get("body"):
                await meanwhile()

        scope = build_scope(kind, path, method=method, headers=headers, can_deny=can_deny)
        with suppress(Exception):
            await _Observed(self, app)(scope, receive, take)

    def learn_secret(self, name: str, secret: str) -> None:
        """Add a client's secret, also form-encoded."""
        self.canaries.add(name, secret)
        self.canaries.add(f"{name} in a form", quote_plus(secret))

    def learn_issuer(self, issuer: LocalIssuer) -> None:
        """Add the private keys of an issuer, and every secret that it receives or issues from now on."""
        self.learn_keys(issuer)
        issuers = self._issuers
        issuers.append(issuer)

        def lose() -> None:
            if issuer in issuers:
                issuers.remove(issuer)

        issuer.app.add_middleware(Learner, canaries=self.canaries, lose=lose)

    def learn_keys(self, issuer: LocalIssuer) -> None:
        """Add the private keys of an issuer."""
        # No public attribute has a private key.
        ring: Any = issuer
        for entry in ring._keys._keys:
            self.canaries.add_key("the key of the issuer", entry._key)

    def judge(self, expected: Mapping[str, str]) -> None:
        """Compare the outcomes of the scene, check that every secret of its issuers was learned, and reset."""
        problems = list(self.outcomes.compare(expected))
        for issuer in self._issuers:
            problems += [
                f"{kind} was not learned" for kind, one in list_kept_secrets(issuer) if not self.canaries.find(one)
            ]
        self.failures += [f"{self.name}: {problem}" for problem in dict.fromkeys(problems)]
        self.outcomes, self._issuers, self.part = Outcomes(), [], ""


class _Observed:
    """An application whose requests are observed."""

    def __init__(self, run: Run, app: ASGIApp) -> None:
        self._run = run
        self._app = app

    async def __call__(self, scope: Scope, receive: Any, send: Any) -> None:
        sent: list[Message] = []

        async def collect(message: Message) -> None:
            sent.append(message)
            await send(message)

        self._run.begin(self._app, scope)
        error: BaseException | None = None
        try:
            await self._app(scope, receive, collect)
        except BaseException as raised:
            error = raised
            raise
        finally:
            self._run.end(scope, sent, error)
            what, outcome = _describe(scope, sent, error)
            self._run.outcomes.add(f"{what}{self._run.part}", outcome)


def _describe(scope: Scope, sent: Sequence[Message], error: BaseException | None) -> tuple[str, str]:
    """Return what was requested, and the outcome as one word, e.g. `200`, `accepted,1008` or `500,OSError`."""
    words = [str(message["status"]) for message in sent if message["type"].endswith("response.start")]
    words += ["accepted" for message in sent if message["type"] == "websocket.accept"]
    words += [str(message["code"]) for message in sent if message["type"] == "websocket.close"]
    words += [] if error is None else [type(error).__name__]
    return f"{scope.get('method', 'WebSocket')} {quote(scope['path'], safe='/:')}", ",".join(words) or "nothing"


@contextmanager
def observe(run: Run) -> Generator[None]:
    """Observe the requests of `tests.attack.asgi` in this context."""
    token = OBSERVER.set(run)
    try:
        yield
    finally:
        OBSERVER.reset(token)


Act: TypeAlias = Callable[[Run], Awaitable[None]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """Uses secrets while all output is searched.

    Attributes:
        act: Uses them.
        outcomes: Each action, and all its expected outcomes, separated by spaces.
    """

    act: Act
    outcomes: Mapping[str, str]


def run_in_asyncio(scenes: Coroutine[Any, Any, ResultT]) -> ResultT:
    """Run scenes on asyncio's own loop, whose callbacks can be read. The default may be uvloop, which can't do that."""
    with asyncio.Runner(loop_factory=asyncio.SelectorEventLoop) as runner:
        return runner.run(scenes)


async def run_scenes(scenes: Mapping[str, Scene]) -> Run:
    """Run the scenes one after the other, and return the searches, the leaks and the missing outcomes."""
    sinks = Sinks(canaries=Canaries(public=PUBLIC))
    with collect(sinks) as collector:
        run = Run(sinks=sinks, collector=collector)
        for name, scene in scenes.items():
            run.name = name
            await scene.act(run)
            run.judge(scene.outcomes)
    return run
