"""Random sequences of events, after each of which the package must agree with the model.

An application with one `LogtoAuth` for two tenants is called on two event loops. Issuers rotate and withdraw keys,
fail, send wrong documents, respond late and recover. Clocks move, also backwards. Tokens of all kinds are sent
repeatedly. Revocations arrive and expire.
"""

from collections import Counter
from collections.abc import Callable, Coroutine, Generator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from inspect import GEN_CREATED, getgeneratorstate
from typing import Any, Final, cast

import httpx
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    initialize,
    invariant,
    multiple,
    precondition,
    rule,
)

from fastapi_logto import LogtoAuth
from fastapi_logto.revocation import Revocations
from fastapi_logto.testing import Clock
from tests.prove.application import (
    ACME,
    ALGORITHMS,
    GLOBEX,
    LIFE_SECONDS,
    ROUTES,
    build_auth,
    build_doors,
)
from tests.prove.issuers import FAULTS, LIES, Issuers, Site
from tests.prove.model import (
    AHEAD,
    COOLDOWN,
    FRESH,
    KEPT,
    LONGEST_FETCH,
    REFRESH,
    STALE,
    Fetch,
    Issuer,
    Model,
    Response,
    Rule,
    is_revoked,
    wait_after,
)
from tests.prove.tokens import ANY_TOKENS, ISSUERS, KEYS, ORDINARY_TOKENS, STRANGER, Choice, Minted, mint
from tests.prove.workers import PATIENCE_SECONDS, Worker
from tests.unit.fakes import finish_fetches
from tests.vectors.forge import NOW

_WORKERS: Final = st.integers(0, 1)
_ALL_PATHS, _ALL_DOORS = ("/any", *ROUTES), ("http", "websocket", "verify")
_PATHS, _DOORS = st.sampled_from(_ALL_PATHS), st.sampled_from(_ALL_DOORS)
_SECONDS: Final = st.sampled_from(
    [0.5, 1, 3, 10, 16, 29, COOLDOWN, 60, 200, 260, FRESH, 900, STALE, FRESH + STALE, 90_000]
)
_SHIFTS: Final = st.sampled_from([1, 5, 30, 59, 61, 600, 3600, 3720, 90_000])


class DisagreementError(AssertionError):
    """The package differs from the model."""


@dataclass(slots=True)
class Log:
    """The statistics of a run: events, requests, late responses, and how often each rule decided."""

    steps: int = 0
    requests: int = 0
    late: int = 0
    rules: Counter[Rule] = field(default_factory=Counter[Rule])


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """A request, or a refresh in the background, for which the issuer's response is delayed."""

    worker: Worker
    minted: Minted
    what: str
    response: Response
    judging: Generator[Fetch, Response, Rule] | None
    refresh: tuple[Issuer, Fetch] | None
    outcome: "Future[str]"
    quiet: "Future[None]"


class Machine(RuleBasedStateMachine):
    """The events, and the comparison after each request."""

    tokens = Bundle("tokens")
    build_auth: Callable[..., LogtoAuth] = staticmethod(build_auth)
    build_revocations: Callable[[], Revocations] = staticmethod(lambda: Revocations(longest_token_seconds=LIFE_SECONDS))
    build_model: Callable[..., Model] = Model
    log = Log()

    def __init__(self) -> None:
        super().__init__()
        known = {issuer: Issuer(frozenset(algorithms)) for issuer, algorithms in ALGORITHMS.items()}
        self.model = self.build_model(known, wall_time=NOW)
        self.sites = {issuer: Site(issuer, KEYS[issuer][:1]) for issuer in ALGORITHMS}
        self.issuers = Issuers.of(*self.sites.values())
        self.workers = (Worker(), Worker())
        self.waiting: Waiting | None = None
        self.minted: list[Minted] = []
        self.probes = 0
        self.revocations = self.build_revocations()
        auth = self.build_auth(
            clock=Clock(now=lambda: self.model.wall_time, monotonic=lambda: self.model.age),
            transport=httpx.MockTransport(self.issuers.respond),
            revocations=self.revocations,
        )
        self.doors = build_doors(auth)

    def teardown(self) -> None:
        """End everything."""
        self.issuers.release()
        for worker in self.workers:
            worker.call(finish_fetches())
            worker.close()

    # Issuers

    @rule(issuer=ISSUERS, numbers=st.lists(st.integers(0, 3), max_size=2, unique=True))
    def publish(self, issuer: str, numbers: Sequence[int]) -> None:
        """Rotate: the first of these keys signs. Earlier ones may be published again. An empty list withdraws all."""
        self.log.steps += 1
        self.sites[issuer].published = tuple(KEYS[issuer][number] for number in numbers)

    @rule(
        issuer=ISSUERS,
        faults=st.sampled_from([("", "")] * 8 + [(fault, "") for fault in FAULTS] + [("", lie) for lie in LIES]),
        has_odd_entries=st.booleans(),
    )
    def serve(self, issuer: str, faults: tuple[str, str], *, has_odd_entries: bool) -> None:
        """Fail, send a wrong document, or recover."""
        self.log.steps += 1
        site = self.sites[issuer]
        (site.fault, site.lie), site.has_odd_entries = faults, has_odd_entries

    # Time and event loops

    @rule(seconds=_SECONDS)
    def wait(self, seconds: float) -> None:
        """Let time pass until it is certain what is due: refreshes and retries are randomized by 5 and 10 %."""
        self.log.steps += 1
        self._move(seconds)
        while any(_is_uncertain(issuer, self.model.age) for issuer in self.model.issuers.values()):
            self._move(1)

    def _move(self, seconds: float) -> None:
        self.model.age += seconds
        self.model.wall_time += seconds

    @rule(seconds=_SHIFTS, sign=st.sampled_from([-1, 1]))
    def set_clock(self, seconds: float, sign: int) -> None:
        """Set the wall clock, forwards or back. Ages are measured with another clock."""
        self.log.steps += 1
        self.model.wall_time += sign * seconds

    @precondition(lambda self: self.waiting is None)
    @rule(number=_WORKERS)
    def pause(self, number: int) -> None:
        """Stop an event loop and continue it, like AWS Lambda between two requests."""
        self.log.steps += 1
        self.model.stopped.add(self.workers[number].pause())

    # Tokens and revocations

    @initialize(target=tokens)
    def start(self) -> Any:
        """Start with a token of each tenant."""
        return multiple(*(self._mint(Choice(issuer=issuer)) for issuer in (ACME, GLOBEX)))

    @rule(target=tokens, choice=ORDINARY_TOKENS)
    def sign_in(self, choice: Choice) -> Minted:
        """Issue an ordinary token."""
        self.log.steps += 1
        return self._mint(choice)

    @rule(target=tokens, choice=ANY_TOKENS)
    def mint(self, choice: Choice) -> Minted:
        """Issue or forge a token of any kind."""
        self.log.steps += 1
        return self._mint(choice)

    def _mint(self, choice: Choice) -> Minted:
        published, name = self.sites[choice.issuer].published, f"t{len(self.minted)}"
        self.minted.append(mint(choice, published=published, wall_time=self.model.wall_time, token_id=name))
        return self.minted[-1]

    @rule(
        number=_WORKERS,
        minted=tokens,
        names=st.sampled_from([["user"], ["user", "client"], ["client", "issuer"], ["organization"], ["token"], []]),
        moment=st.sampled_from(["now", "issue", "issue", "before issue", "ahead", "long ago"]),
    )
    def revoke(self, number: int, minted: Minted, names: Sequence[str], moment: str) -> None:
        """Revoke the tokens that have some ids in common with one that exists, or all; then send that one."""
        self.log.steps += 1
        now, ids, issued_at = self.model.wall_time, minted.token.ids, minted.token.issued_at
        chosen = {name: ids[name] for name in names if name in ids}
        if chosen.get("issuer") == STRANGER:
            return
        times = {"issue": issued_at, "before issue": issued_at - 1, "ahead": now + AHEAD, "long ago": now - KEPT}
        before = min(times.get(moment, now), now + AHEAD)
        arguments: dict[str, Any] = {name if name == "issuer" else f"{name}_id": text for name, text in chosen.items()}
        revoke = self.revocations.revoke if chosen else self.revocations.revoke_all
        self.workers[number].call(revoke(before=before, **arguments))
        self.model.revoke((before, chosen))
        self._request_where_possible(number, minted, "/any", "http")

    # Requests

    @rule(number=_WORKERS, minted=tokens, path=_PATHS, door=_DOORS)
    def request(self, number: int, minted: Minted, path: str, door: str) -> None:
        """Send a request to one of the two event loops."""
        self.log.steps += 1
        self._request_where_possible(number, minted, path, door)

    @invariant()
    def package_agrees_with_the_model(self) -> None:
        """Send the newest token and an older one after an event, by every kind of call and to every route in turn."""
        self.probes += 1
        # Not after each event: some have an effect only if others follow before the next request.
        if self.minted and self.probes % 4:
            for number, minted in enumerate((self.minted[-1], self.minted[self.probes * 5 % len(self.minted)])):
                path, door = _ALL_PATHS[self.probes % len(_ALL_PATHS)], _ALL_DOORS[(self.probes + number) % 3]
                self._request_where_possible((self.probes // 2 + number) % 2, minted, path, door)

    def _request_where_possible(self, number: int, minted: Minted, path: str, door: str) -> None:
        worker = self.workers[number]
        if self.waiting is not None and self.waiting.worker is worker:
            worker = self.workers[1 - number]
        self._request(worker, minted, path, door)

    @precondition(lambda self: self.waiting is None)
    @rule(number=_WORKERS, minted=tokens, path=_PATHS, door=_DOORS)
    def request_at_slow_issuer(self, number: int, minted: Minted, path: str, door: str) -> None:
        """Send a request. If keys are fetched, their issuer responds later."""
        self.log.steps += 1
        self._request(self.workers[number], minted, path, door, is_slow=True)

    @precondition(lambda self: self.waiting is None)
    @rule(
        target=tokens,
        number=_WORKERS,
        choice=ORDINARY_TOKENS,
        key=st.integers(0, 3),
        path=_PATHS,
        seconds=st.sampled_from([None, None, 0, LONGEST_FETCH]),
    )
    def rotate_while_slow(self, number: int, choice: Choice, key: int, path: str, seconds: float | None) -> Minted:
        """Rotate, and send a token of the new key. The issuer responds after some seconds, or after other events."""
        self.wait(COOLDOWN)
        self.sites[choice.issuer].published = (KEYS[choice.issuer][key],)
        minted = self._mint(choice)
        self._request(self.workers[number], minted, path, "http", is_slow=True)
        if self.waiting is not None and seconds is not None:
            self.respond(seconds)
        return minted

    @precondition(lambda self: self.waiting is not None)
    @rule(seconds=st.sampled_from([0, 1, LONGEST_FETCH - 1, LONGEST_FETCH, LONGEST_FETCH, 60]))
    def respond(self, seconds: float) -> None:
        """Deliver the delayed response, which may be too late to count."""
        self.wait(seconds)
        waiting, self.waiting = cast("Waiting", self.waiting), None
        self.issuers.responses[:] = [waiting.response]
        self.issuers.release()
        waiting.quiet.result(PATIENCE_SECONDS)
        if waiting.judging is not None:
            decided = self._resume(waiting.judging, waiting.what)
            self._compare(waiting.what, waiting.minted, cast("Rule", decided), waiting.outcome)
        self._settle(waiting.refresh, waiting.what)

    def _request(self, worker: Worker, minted: Minted, path: str, door: str, *, is_slow: bool = False) -> None:
        self.log.requests += 1
        what, late = f"{door} {path}", False
        self.issuers.responses.clear()
        has_arrived = self.issuers.hold(worker.loop) if is_slow else None
        outcome: Future[str] = Future()
        quiet = worker.submit(_call(self.doors[door](path, minted.text), outcome))
        if has_arrived is not None:
            quiet.add_done_callback(lambda _: has_arrived.set())
            assert has_arrived.wait(PATIENCE_SECONDS)
            late = not quiet.done()
        if not late:
            quiet.result(PATIENCE_SECONDS)
            if is_slow:
                self.issuers.release()
        judging = self.model.judge(minted.token, ROUTES[path], worker.run)
        # The last response is the delayed one.
        held = self.issuers.responses.pop() if late else None
        decided = self._resume(judging, what, is_held=late)
        if decided is not None:
            self._compare(what, minted, decided, outcome)
        refresh, self.model.refresh = self.model.refresh, None
        if held is None:
            self._settle(refresh, what)
            return
        self.log.late += 1
        self.waiting = Waiting(
            worker=worker,
            minted=minted,
            what=what,
            response=held,
            judging=judging if decided is None else None,
            refresh=refresh,
            outcome=outcome,
            quiet=quiet,
        )

    def _resume(self, judging: Generator[Fetch, Response, Rule], what: str, *, is_held: bool = False) -> Rule | None:
        """Pass the responses of issuers to the model; return its decision, or `None` if it needs the delayed one."""
        try:
            response = None if getgeneratorstate(judging) == GEN_CREATED else self._take_response(what)
            while True:
                # `None` starts a generator.
                judging.send(cast("Response", response))
                if is_held and not self.issuers.responses:
                    return None
                response = self._take_response(what)
        except StopIteration as stop:
            return cast("Rule", stop.value)

    def _take_response(self, what: str) -> Response:
        if not self.issuers.responses:
            raise DisagreementError(f"{what}: expected a request to the issuer, found none")
        return self.issuers.responses.pop(0)

    def _settle(self, refresh: tuple[Issuer, Fetch] | None, what: str) -> None:
        """Pass the result of a refresh in the background to the model."""
        if refresh is not None:
            self.model.finish(*refresh, self._take_response(what))
        if self.issuers.responses:
            raise DisagreementError(f"{what}: expected no request to the issuer, found one")

    def _compare(self, what: str, minted: Minted, decided: Rule, outcome: "Future[str]") -> None:
        found, (expected, why) = outcome.result(PATIENCE_SECONDS), decided.value
        self.log.rules[decided] += 1
        if found == expected:
            return
        # Once a revocation has expired, the package may delete it or not.
        is_checked = list(Rule).index(decided) > list(Rule).index(Rule.REVOKED)
        if found != Rule.REVOKED.value[0] or not is_checked or not is_revoked(minted.token, self.model.forgotten):
            raise DisagreementError(f"{what} with {minted}: expected {expected} because {why}, found {found}")


async def _call(request: Coroutine[Any, Any, str], outcome: "Future[str]") -> None:
    """Send a request, then wait until nothing runs in the background."""
    try:
        outcome.set_result(await request)
    except Exception as error:  # noqa: BLE001 - a server would turn it into a 500
        outcome.set_result(f"500 {type(error).__name__}")
    await finish_fetches()


def _is_uncertain(issuer: Issuer, now: float) -> bool:
    age, elapsed, wait = now - issuer.fetch.at, now - issuer.failed_at, wait_after(issuer.failures)
    is_refresh = bool(issuer.keys) and 0.95 * REFRESH < age < 1.05 * REFRESH
    return is_refresh or (issuer.failures > 0 and 0.9 * wait < elapsed < 1.1 * wait)
