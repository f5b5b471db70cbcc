"""The model: plain rules, in order, for which requests are accepted. It shares no code with the package.

`judge` returns the rule that decides a request. At each `yield`, keys are requested from an issuer, and the caller
sends in its response: keys, or "failure". Time and all other state may have changed by then. The model does not know
what issuers publish.
"""

from collections.abc import Generator, Mapping
from dataclasses import dataclass, field
from enum import Enum
from math import inf
from typing import NamedTuple, TypeAlias

FRESH, REFRESH, STALE, COOLDOWN, LONGEST_FETCH = 300, 240, 3600, 30, 16  # of keys, in seconds
LEEWAY, AHEAD, KEPT = 10, 60, 3720  # of times in tokens, and how long a revocation is kept


class Rule(Enum):
    ALGORITHM = "401 algorithm", "its algorithm is not accepted from its issuer"
    ISSUER = "401 issuer", "its issuer is not one of ours"
    NO_KEYS = "503 provider_unavailable", "no keys: the issuer has withdrawn them, or has never returned any"
    TOO_OLD = "503 provider_unavailable", "the keys are too old, and the issuer returns no others"
    NOT_FETCHED = "503 provider_unavailable", "its key is unknown, and the last fetch failed"
    MAYBE_NEW = "503 provider_unavailable", "its key is unknown, may be new, and the next fetch is not due"
    TOO_EARLY = "401 unknown_key", "its key is unknown, and it is older than the last fetch"
    UNKNOWN = "401 unknown_key", "its key is unknown, also after a fetch for it"
    KEY_ALGORITHM = "401 algorithm", "its key is for another algorithm"
    SIGNATURE = "401 signature", "another key signed it"
    AUDIENCE = "401 audience", "it is for another API, or for one of another tenant"
    EXPIRED = "401 expired", "it has expired"
    IMMATURE = "401 not_yet_valid", "it is not valid yet, or was issued in the future"
    REVOKED = "401 revoked", "it was revoked"
    NO_ORGANIZATION = "403 organization_required", "the route is for an organization, and it is for none"
    ORGANIZATION = "403 organization_mismatch", "it is for another organization, or for one of another tenant"
    SCOPE = "403 scope", "it lacks a scope"
    OLD_KEYS = "200", "the keys are past their age, and not too old"
    FRESH_KEYS = "200", "the keys are fresh"


class Key(NamedTuple):
    id: str
    algorithm: str


class Fetch(NamedTuple):
    number: int
    at: float
    at_wall_time: float
    run: object


Response: TypeAlias = frozenset[Key] | str
Revocation: TypeAlias = tuple[float, Mapping[str, str]]  # tokens with these ids that were issued until then are refused


@dataclass(frozen=True)
class Token:
    issuer: str
    algorithm: str
    key_id: str
    signed_by: Key
    audience: str  # an API, or `urn:logto:organization:…` for an organization token
    scopes: frozenset[str]
    ids: Mapping[str, str]  # of user, client, token, issuer, and of an organization if it is for one
    issued_at: float
    valid_from: float
    expires_at: float


@dataclass(frozen=True)
class Route:
    audiences: Mapping[str, frozenset[str]]  # the accepted ones, by issuer
    organization: tuple[str, str] | None = None  # the required one, and its issuer
    scopes: frozenset[str] = frozenset()


@dataclass
class Issuer:
    algorithms: frozenset[str]
    keys: Mapping[str, Key] = field(default_factory=dict[str, Key])
    fetch: Fetch = field(default=Fetch(0, -inf, -inf, None))  # the one that returned the keys
    latest: int = 0  # the number of the latest fetch that counted
    failures: int = 0  # in a row
    failed_at: float = -inf
    forced_at: float = -inf  # the last fetch for an unknown key


@dataclass
class Model:
    issuers: Mapping[str, Issuer]
    wall_time: float  # may be set back
    age: float = 0.0  # never runs backwards
    stopped: set[object] = field(default_factory=set[object])  # runs of event loops
    fetches: int = 0
    refresh: tuple[Issuer, Fetch] | None = None  # in the background
    revocations: list[Revocation] = field(default_factory=list[Revocation])
    forgotten: list[Revocation] = field(default_factory=list[Revocation])  # perhaps

    def judge(self, token: Token, route: Route, run: object) -> Generator[Fetch, Response, Rule]:
        issuer = self.issuers.get(token.issuer)
        if all(token.algorithm not in one.algorithms for one in ([issuer] if issuer else self.issuers.values())):
            return Rule.ALGORITHM
        if issuer is None:
            return Rule.ISSUER
        key = yield from self.find_key(token, issuer, run)
        if isinstance(key, Rule):
            return key
        now, own, organization = self.wall_time, route.audiences[token.issuer], token.ids.get("organization")
        is_member_token = token.audience.startswith("urn:logto:organization:")
        rules = {
            Rule.KEY_ALGORITHM: token.algorithm != key.algorithm,
            Rule.SIGNATURE: token.signed_by != key,
            Rule.AUDIENCE: token.audience not in own and not (is_member_token and own and route.organization),
            Rule.EXPIRED: now >= token.expires_at + LEEWAY,
            Rule.IMMATURE: token.valid_from > now + LEEWAY or token.issued_at > now + AHEAD,
            Rule.REVOKED: is_revoked(token, self.revocations),
            Rule.NO_ORGANIZATION: route.organization and organization is None,
            Rule.ORGANIZATION: route.organization not in (None, (organization, token.issuer)),
            Rule.SCOPE: not route.scopes <= token.scopes,
            Rule.OLD_KEYS: self.age - issuer.fetch.at >= FRESH,
            Rule.FRESH_KEYS: True,
        }
        return next(rule for rule, applies in rules.items() if applies)

    def find_key(self, token: Token, issuer: Issuer, run: object) -> Generator[Fetch, Response, Key | Rule]:
        fetch, is_fetched, age = None, False, self.age - issuer.fetch.at
        # Nothing happens in the background of an event loop that was stopped.
        if not self.has_keys(issuer) or (age >= FRESH and issuer.fetch.run in self.stopped):
            if self.may_try(issuer):  # the request waits
                fetch = self.start(run)
                is_fetched = self.finish(issuer, fetch, (yield fetch))
                fetch = None
            if not self.has_keys(issuer):
                return Rule.TOO_OLD if issuer.keys else Rule.NO_KEYS
        elif age >= REFRESH and self.may_try(issuer):
            fetch = self.start(run)
            self.refresh = issuer, fetch
        if token.key_id not in issuer.keys and not is_fetched:
            # Strangers invent key ids, so such fetches are limited. But after a failed one, the next may be needed.
            is_cool = self.age - issuer.forced_at >= COOLDOWN
            is_forced = fetch is None and (is_cool or (issuer.failures > 0 and self.may_try(issuer)))
            if is_forced:
                fetch, issuer.forced_at = self.start(run), self.age
            if fetch:
                self.refresh = None  # it is waited for
                is_fetched = self.finish(issuer, fetch, (yield fetch)) and is_forced
            if issuer.failures or not self.has_keys(issuer):
                return Rule.NOT_FETCHED
        if token.key_id in issuer.keys:
            return issuer.keys[token.key_id]
        may_be_new = token.issued_at >= issuer.fetch.at_wall_time - LEEWAY
        return Rule.UNKNOWN if is_fetched else Rule.MAYBE_NEW if may_be_new else Rule.TOO_EARLY

    def has_keys(self, issuer: Issuer) -> bool:
        return bool(issuer.keys) and self.age - issuer.fetch.at < FRESH + STALE

    def may_try(self, issuer: Issuer) -> bool:
        return not issuer.failures or self.age - issuer.failed_at >= wait_after(issuer.failures)

    def start(self, run: object) -> Fetch:
        self.fetches += 1
        return Fetch(self.fetches, self.age, self.wall_time, run)

    def finish(self, issuer: Issuer, fetch: Fetch, response: Response) -> bool:
        """Record a response, unless it comes too late or after a newer one; return whether the keys are that new."""
        if self.age - fetch.at < LONGEST_FETCH and fetch.number > issuer.latest:
            issuer.latest = fetch.number
            keys = {} if isinstance(response, str) else {key.id: key for key in response if key[1] in issuer.algorithms}
            if keys:
                issuer.keys, issuer.fetch, issuer.failures = keys, fetch, 0
            else:  # a list without a usable key withdraws all keys, an outage withdraws none
                issuer.keys = issuer.keys if response == "failure" else {}
                issuer.failures, issuer.failed_at = issuer.failures + 1, self.age
        return issuer.latest >= fetch.number and not issuer.failures

    def revoke(self, revocation: Revocation) -> None:
        known = [*self.revocations, revocation]
        self.forgotten += [one for one in known if one[0] <= self.wall_time - KEPT]
        self.revocations = [one for one in known if one[0] > self.wall_time - KEPT]


def is_revoked(token: Token, revocations: list[Revocation]) -> bool:
    return any(token.issued_at <= before and ids.items() <= token.ids.items() for before, ids in revocations)


def wait_after(failures: int) -> float:
    return min(2.0 ** (failures - 1), 30)
