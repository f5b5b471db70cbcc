"""The package agrees with the model for every sequence of events, and each planted fault is found."""

import asyncio
import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any, Final, TypeAlias

import pytest
from typing_extensions import override

from fastapi_logto import LogtoAuth, TokenClaims
from fastapi_logto.errors import ExpiredTokenError
from fastapi_logto.provider.failures import FetchError
from fastapi_logto.provider.key_set import KeySet
from fastapi_logto.provider.key_source import KeySource
from fastapi_logto.revocation import Revocations
from fastapi_logto.settings import SettingsArguments
from fastapi_logto.testing import Clock
from fastapi_logto.verification import checks
from fastapi_logto.verification.revocation_feed import RevocationFeed
from fastapi_logto.verification.tenants import AudiencePolicy, Tenant
from fastapi_logto.verification.verifier import TokenVerifier
from tests.attack.report import Tally
from tests.prove.application import ADMIN, build_auth
from tests.prove.model import Fetch, Issuer, Model, Response, Revocation, Rule
from tests.prove.state_machine import DisagreementError, Machine
from tests.prove.state_machine_runs import run_machine, run_state_machine
from tests.vectors.forge import API, Forge

RUNS, STEPS = 40, 40


def test_the_package_does_what_the_model_says() -> None:
    class Unchanged(Machine):
        pass

    log = run_machine(Unchanged, runs=RUNS, steps=STEPS)

    assert log.requests > 1000
    assert log.late > 0
    assert log.rules[Rule.FRESH_KEYS] > 100


WEAK_SETTINGS: Final[Mapping[str, SettingsArguments]] = {
    "a longer leeway": SettingsArguments(leeway_seconds=60),
    "old keys for a week": SettingsArguments(keys_max_stale_seconds=604_800),
    "keys that are fresh for an hour": SettingsArguments(keys_ttl_seconds=3600),
    "a fetch for each unknown key": SettingsArguments(keys_cooldown_seconds=1),
    "the audience of another tenant": SettingsArguments(audience=[API, ADMIN]),
    "an algorithm that a tenant does not accept": SettingsArguments(algorithms=["ES256", "ES384", "ES512", "RS256"]),
}


@pytest.mark.parametrize("changes", WEAK_SETTINGS.values(), ids=WEAK_SETTINGS)
def test_weaker_settings_are_found(changes: SettingsArguments) -> None:
    class Weak(Machine):
        build_auth = staticmethod(partial(build_auth, changes=changes))

    with pytest.raises(DisagreementError):
        run_machine(Weak, runs=10 * RUNS, steps=STEPS)


def test_revocations_that_are_forgotten_too_early_are_found() -> None:
    class Weak(Machine):
        build_revocations = staticmethod(partial(Revocations, longest_token_seconds=60))

    with pytest.raises(DisagreementError):
        run_machine(Weak, runs=10 * RUNS, steps=STEPS)


def test_ages_by_a_clock_that_is_set_back_are_found() -> None:
    class Weak(Machine):
        @staticmethod
        def build_auth(*, clock: Clock, **parts: Any) -> LogtoAuth:
            return build_auth(clock=Clock(now=clock.now, monotonic=clock.now), **parts)

    with pytest.raises(DisagreementError):
        run_machine(Weak, runs=10 * RUNS, steps=STEPS)


def _return(*, value: bool) -> Callable[..., bool]:
    def method(*_arguments: object, **_options: object) -> bool:
        return value

    return method


Weaken: TypeAlias = Callable[[pytest.MonkeyPatch], None]


def keep_withdrawn_keys(patch: pytest.MonkeyPatch) -> None:
    original: Any = vars(KeySource)["_apply"]

    def apply(self: KeySource, outcome: KeySet | Exception, started: Any) -> None:
        is_withdrawal = isinstance(outcome, KeySet) and not outcome.keys
        original(self, FetchError("no keys") if is_withdrawal else outcome, started)

    patch.setattr(KeySource, "_apply", apply)


def drop_keys_in_an_outage(patch: pytest.MonkeyPatch) -> None:
    original: Any = vars(KeySource)["_note_failure"]

    def note_failure(self: KeySource, raised: Exception) -> None:
        self._held = None  # pyright: ignore[reportPrivateUsage] - a weaker method of the same class
        original(self, raised)

    patch.setattr(KeySource, "_note_failure", note_failure)


def accept_cached_tokens_of_withdrawn_keys(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(KeySet, "holds", _return(value=True))


def accept_cached_tokens_that_have_expired(patch: pytest.MonkeyPatch) -> None:
    original: Any = vars(TokenVerifier)["_recall"]
    accepted: dict[bytes, TokenClaims] = {}

    def recall(self: TokenVerifier[TokenClaims], digest: bytes, policy: AudiencePolicy) -> TokenClaims | None:
        try:
            claims: TokenClaims | None = original(self, digest, policy)
        except ExpiredTokenError:
            return accepted[digest]
        if claims is not None:
            accepted[digest] = claims
        return claims

    patch.setattr(TokenVerifier, "_recall", recall)


def accept_cached_tokens_that_were_revoked(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(RevocationFeed, "admits_now", _return(value=True))


def accept_tokens_from_the_future(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(checks, "MAX_ISSUED_AHEAD_SECONDS", math.inf)


def accept_organization_tokens_everywhere(patch: pytest.MonkeyPatch) -> None:
    original: Any = Tenant.check

    def check(self: Tenant, claims: TokenClaims, policy: AudiencePolicy, *, now: float) -> None:
        original(self, claims, replace(policy, accepts_organizations=True), now=now)

    patch.setattr(Tenant, "check", check)


def use_responses_that_came_too_late(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(KeySource, "_is_past_deadline", _return(value=False))


def call_keys_unknown_after_a_discarded_fetch(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(KeySource, "_counts", _return(value=True))


def rely_on_a_loop_that_has_stopped(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(KeySource, "_is_reliable", _return(value=True))


@pytest.mark.parametrize(
    "weaken",
    [
        keep_withdrawn_keys,
        drop_keys_in_an_outage,
        accept_cached_tokens_of_withdrawn_keys,
        accept_cached_tokens_that_have_expired,
        accept_cached_tokens_that_were_revoked,
        accept_tokens_from_the_future,
        accept_organization_tokens_everywhere,
        use_responses_that_came_too_late,
        call_keys_unknown_after_a_discarded_fetch,
        rely_on_a_loop_that_has_stopped,
    ],
)
def test_a_weaker_package_is_found(weaken: Weaken, monkeypatch: pytest.MonkeyPatch) -> None:
    class Weak(Machine):
        pass

    weaken(monkeypatch)

    with pytest.raises(DisagreementError):
        run_machine(Weak, runs=10 * RUNS, steps=STEPS)


class WithoutRevocations(Model):
    @override
    def revoke(self, revocation: Revocation) -> None:
        pass


class WithoutWithdrawals(Model):
    @override
    def finish(self, issuer: Issuer, fetch: Fetch, response: Response) -> bool:
        return super().finish(issuer, fetch, response or "failure")


class WithoutCooldown(Model):
    @override
    def start(self, run: object) -> Fetch:
        for issuer in self.issuers.values():
            issuer.forced_at = -math.inf
        return super().start(run)


@pytest.mark.parametrize("model", [WithoutRevocations, WithoutWithdrawals, WithoutCooldown])
def test_a_wrong_model_is_found(model: type[Model]) -> None:
    class Wrong(Machine):
        build_model = model

    with pytest.raises(DisagreementError):
        run_machine(Wrong, runs=10 * RUNS, steps=STEPS)


def test_the_report_lists_each_rule_and_those_that_were_never_needed() -> None:
    class Short(Machine):
        pass

    tally = Tally(name="state machine")
    asyncio.run(run_state_machine(tally, Forge.create(), machine=Short, runs=1, steps=1))

    assert tally.tables["model"].count("\n") == 1 + len(Rule) + 3
    assert "expected requests that end with 401 revoked because it was revoked, found none" in tally.failures


def test_the_report_has_the_sequence_of_a_difference() -> None:
    class Wrong(Machine):
        build_model = WithoutRevocations

    tally = Tally(name="state machine")
    asyncio.run(run_state_machine(tally, Forge.create(), machine=Wrong, runs=10 * RUNS, steps=STEPS, shrinks=False))

    assert "state.revoke(" in tally.failures[0]
