"""Which tokens a revocation applies to, and how long it is kept."""

import asyncio
import threading
from collections.abc import Callable
from enum import Enum
from functools import partial
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import create_model

from fastapi_logto import TokenClaims
from fastapi_logto.errors import RevokedTokenError
from fastapi_logto.testing import claims as make_claims
from fastapi_logto.verification.revoked import MAX_LATE_SECONDS, Revocation, RevokedTokens
from tests.unit.fakes import wait_until

NOW = 1_800_000_000
DAY = 24 * 3600
ISSUER = "https://tenant.logto.app/oidc"
ALICE = "0b5b54ad-7e07-4a0f-a0a0-6d3a3f0e9a55"
TOKEN: dict[str, Any] = {
    "sub": "user",
    "client_id": "app",
    "jti": "one",
    "organization_id": "acme",
    "iat": NOW - 10,
    "exp": NOW + 3600,
}
ALL = ("user_id", "organization_id", "client_id", "token_id", "issuer")
NONE_OR_ONE = st.none() | st.just("x")
VALUES: dict[str, str] = dict(zip(ALL, ("user", "acme", "app", "one", ISSUER), strict=True))


def build(now: Callable[[], float] = lambda: NOW) -> RevokedTokens:
    return RevokedTokens(now=now, longest_token_seconds=DAY)


def build_claims(**changes: Any) -> TokenClaims:
    return make_claims(extra={**TOKEN, **changes})


def find_watches(tokens: RevokedTokens) -> object:
    return vars(tokens)["_watches"]


def is_revoked(tokens: RevokedTokens, issuer: str | None = ISSUER, **changes: Any) -> bool:
    try:
        tokens.check(build_claims(**changes), issuer=issuer)
    except RevokedTokenError:
        return True
    return False


@given(names=st.sets(st.sampled_from(ALL)), other=st.sampled_from([None, *ALL]))
def test_a_revocation_applies_to_the_tokens_that_match_each_of_its_values(names: set[str], other: str | None) -> None:
    tokens = build()
    values: dict[str, Any] = {name: value for name, value in VALUES.items() if name in names}
    if other in names:
        values[str(other)] = "other"

    tokens.add(Revocation(before=NOW, **values))

    assert is_revoked(tokens) == (other not in names)


@pytest.mark.parametrize(
    ("issued_at", "expected"), [(NOW - 1, True), (NOW, True), (NOW + 1, False), (10**400, False), (None, True)]
)
def test_only_tokens_that_were_issued_at_the_time_or_before_it_are_revoked(
    *, issued_at: int | None, expected: bool
) -> None:
    tokens = build()

    tokens.add(Revocation(before=NOW + 0.9, user_id="user"))

    assert is_revoked(tokens, iat=issued_at) == expected


def test_a_token_without_the_value_of_a_revocation_is_not_concerned() -> None:
    tokens = build()

    tokens.add(Revocation(before=NOW, organization_id="acme"))

    assert not is_revoked(tokens, organization_id=None)
    assert is_revoked(tokens)


def test_a_token_of_an_unknown_tenant_is_concerned_by_revocations_for_every_tenant_only() -> None:
    tokens = build()

    tokens.add(Revocation(before=NOW, user_id="user", issuer=ISSUER))
    assert not is_revoked(tokens, issuer=None)

    tokens.add(Revocation(before=NOW, user_id="user"))
    assert is_revoked(tokens, issuer=None)


@pytest.mark.parametrize(
    ("actor", "expected"),
    [({"sub": "user"}, True), ({"sub": "else"}, False), ({"sub": "else", "act": {"sub": "user"}}, False)],
    ids=["the actor", "another actor", "an earlier actor"],
)
def test_a_revoked_user_can_t_act_on_behalf_of_others(*, actor: dict[str, Any], expected: bool) -> None:
    tokens = build()

    tokens.add(Revocation(before=NOW, user_id="user"))

    assert is_revoked(tokens, sub="somebody", act=actor) == expected


@pytest.mark.parametrize("name", [name for name in ALL if name != "user_id"])
@pytest.mark.parametrize("value", ["the token's", "another"])
def test_a_revocation_of_an_actor_must_match_the_other_values_of_the_token_too(name: str, value: str) -> None:
    tokens = build()
    values: dict[str, Any] = {"user_id": "user", name: VALUES[name] if value == "the token's" else value}

    tokens.add(Revocation(before=NOW, **values))

    assert is_revoked(tokens, sub="somebody", act={"sub": "user"}) == (value == "the token's")


def test_a_claim_that_is_missing_in_an_application_s_model_equals_no_text() -> None:
    class Own(TokenClaims):
        plan: str = "free"

    tokens = build()
    tokens.add(Revocation(before=NOW, organization_id="None"))

    tokens.check(make_claims(claims_model=Own, extra={"iat": NOW}), issuer=ISSUER)
    with pytest.raises(RevokedTokenError):
        tokens.check(make_claims(claims_model=Own, extra={"iat": NOW}, organization_id="None"), issuer=ISSUER)


def test_a_member_of_an_application_s_enumeration_is_compared_by_its_value() -> None:
    class Client(str, Enum):  # noqa: UP042 - as applications may do; its text is `Client.APP`
        APP = "app"

    class Own(TokenClaims):
        client_id: Client  # pyright: ignore[reportIncompatibleVariableOverride, reportGeneralTypeIssues] - as applications may do

    tokens = build()
    tokens.add(Revocation(before=NOW, client_id="app"))

    with pytest.raises(RevokedTokenError):
        tokens.check(make_claims(claims_model=Own, extra=TOKEN), issuer=ISSUER)


def test_a_revocation_that_is_added_again_or_late_changes_nothing() -> None:
    tokens = build()

    assert tokens.add(Revocation(before=NOW, user_id="user"))
    assert not tokens.add(Revocation(before=NOW, user_id="user"))
    assert not tokens.add(Revocation(before=NOW - 5, user_id="user"))
    assert len(tokens) == 1
    assert is_revoked(tokens, iat=NOW)

    assert tokens.add(Revocation(before=NOW + 5, user_id="user"))
    assert len(tokens) == 1
    assert is_revoked(tokens, iat=NOW + 5)


def test_revocations_are_kept_until_all_their_tokens_have_expired() -> None:
    clock = [NOW]
    tokens = build(lambda: clock[0])
    for i in range(6):
        tokens.add(Revocation(before=NOW + i, user_id=f"user{i}"))

    clock[0] = NOW + DAY + MAX_LATE_SECONDS
    tokens.add(Revocation(before=clock[0], user_id="new"))
    assert len(tokens) == 6

    clock[0] += 5
    tokens.add(Revocation(before=clock[0], user_id="newer"))
    assert len(tokens) == 5
    tokens.add(Revocation(before=clock[0], user_id="newest"))
    assert len(tokens) == 4
    tokens.add(Revocation(before=clock[0], user_id="last"))
    assert len(tokens) == 4
    assert {one.user_id for one in tokens.list_all()} == {"new", "newer", "newest", "last"}


def test_expired_revocations_are_removed_although_the_first_ones_were_renewed() -> None:
    clock = [NOW]
    tokens = build(lambda: clock[0])
    for i in range(4):
        tokens.add(Revocation(before=NOW + i, user_id=f"user{i}"))
    clock[0] = NOW + DAY
    for i in range(2):
        tokens.add(Revocation(before=clock[0], user_id=f"user{i}"))

    clock[0] += DAY
    tokens.add(Revocation(before=clock[0], user_id="new"))

    assert {one.user_id for one in tokens.list_all()} == {"user0", "user1", "new"}
    assert len(tokens) == 3


def test_revocations_that_have_expired_are_not_listed_even_if_they_are_still_kept() -> None:
    clock = [NOW]
    tokens = build(lambda: clock[0])
    tokens.add(Revocation(before=NOW, user_id="old"))
    tokens.add(Revocation(before=NOW + 1, user_id="new"))

    clock[0] = NOW + DAY + MAX_LATE_SECONDS
    assert len(tokens) == 2
    assert [one.user_id for one in tokens.list_all()] == ["new"]


def test_a_revocation_whose_tokens_have_expired_is_not_added() -> None:
    tokens = build()

    assert not tokens.add(Revocation(before=NOW - DAY - MAX_LATE_SECONDS, user_id="user"))
    assert tokens.add(Revocation(before=NOW - DAY, user_id="user"))


@pytest.mark.parametrize(("seconds_after_its_end", "expected"), [(-1, True), (0, False), (1, False)])
def test_an_expired_revocation_does_not_replace_an_earlier_one(*, seconds_after_its_end: int, expected: bool) -> None:
    clock = [NOW]
    tokens = build(lambda: clock[0])
    tokens.add(Revocation(before=NOW, user_id="user"))

    clock[0] = NOW + 5 + DAY + MAX_LATE_SECONDS + seconds_after_its_end

    assert tokens.add(Revocation(before=NOW + 5, user_id="user")) == expected


@given(
    st.lists(
        st.builds(Revocation, before=st.floats(NOW - DAY, NOW), **{name: st.none() | st.just("x") for name in ALL})
    )
)
def test_all_revocations_are_listed_with_their_latest_time(revocations: list[Revocation]) -> None:
    tokens = build()
    latest: dict[tuple[object, ...], float] = {}

    for one in revocations:
        tokens.add(one)
        values = tuple(getattr(one, name) for name in ALL)
        latest[values] = max(one.before, latest.get(values, 0))

    listed = {tuple(getattr(one, name) for name in ALL): one.before for one in tokens.list_all()}
    assert listed == latest
    assert len(tokens) == len(latest)


async def test_a_connection_ends_when_its_token_is_revoked_and_no_other_one_does() -> None:
    tokens, ended = build(), list[str]()
    for name in ("user", "other"):
        tokens.watch(build_claims(sub=name), issuer=ISSUER, end=partial(ended.append, name))
    tokens.watch(build_claims(sub="x", act={"sub": "user"}), issuer=ISSUER, end=lambda: ended.append("on behalf of x"))
    tokens.watch(build_claims(iat=NOW + 1), issuer=ISSUER, end=lambda: ended.append("issued later"))

    tokens.add(Revocation(before=NOW, user_id="user"))
    assert ended == []
    await wait_until(lambda: len(ended) == 2)

    assert sorted(ended) == ["on behalf of x", "user"]


@pytest.mark.parametrize("kind", [UUID, Enum("UserId", {"ALICE": ALICE}, type=str)], ids=["UUID", "enumeration"])
async def test_a_connection_of_a_user_whose_id_an_application_s_model_has_converted_ends_too(kind: type[Any]) -> None:
    model = create_model("Own", __base__=TokenClaims, sub=(kind, ...))
    tokens, ended = build(), list[str]()
    claims = make_claims(claims_model=model, extra={**TOKEN, "sub": ALICE})
    assert type(claims.sub) is kind
    tokens.watch(claims, issuer=ISSUER, end=lambda: ended.append("alice"))

    tokens.add(Revocation(before=NOW, user_id=ALICE))
    await wait_until(lambda: bool(ended))

    assert ended == ["alice"]


async def test_a_revocation_without_a_user_ends_all_connections_that_it_concerns_in_several_turns() -> None:
    tokens, ended = build(), list[int]()
    for i in range(450):
        tokens.watch(
            build_claims(sub=f"user{i}", organization_id="acme" if i % 2 else "globex"),
            issuer=ISSUER,
            end=partial(ended.append, i),
        )

    tokens.add(Revocation(before=NOW, organization_id="acme"))
    turns = list[int]()
    while len(ended) < 225:
        await asyncio.sleep(0)
        turns.append(len(ended))

    assert sorted(ended) == list(range(1, 450, 2))
    assert len({count for count in turns if count}) > 2


@pytest.mark.parametrize("values", [{"user_id": "user"}, {"organization_id": "acme"}, {"user_id": "nobody"}], ids=repr)
async def test_the_loop_has_nothing_more_to_do_when_the_connections_of_a_revocation_have_ended(
    values: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    tokens, loop = build(), asyncio.get_running_loop()
    scheduled, schedule = list[object](), loop.call_soon

    def call_soon(callback: Callable[..., object], *args: Any, **options: Any) -> asyncio.Handle:
        scheduled.append(getattr(callback, "__self__", None))
        return schedule(callback, *args, **options)

    monkeypatch.setattr(loop, "call_soon", call_soon)
    for _ in range(150):
        tokens.watch(build_claims(), issuer=ISSUER, end=lambda: None)

    tokens.add(Revocation(before=NOW, **values))
    for _ in range(10):
        await asyncio.sleep(0)
    scheduled.clear()
    for _ in range(10):
        await asyncio.sleep(0)

    assert tokens not in scheduled


async def test_a_connection_whose_token_was_revoked_meanwhile_ends_at_once() -> None:
    tokens, ended = build(), list[bool]()
    tokens.add(Revocation(before=NOW, user_id="user"))

    stop = tokens.watch(build_claims(), issuer=ISSUER, end=lambda: ended.append(True))
    assert ended == [True]
    stop()


async def test_a_connection_that_has_ended_is_forgotten() -> None:
    tokens, ended = build(), list[str]()
    stops = [
        tokens.watch(build_claims(sub=name), issuer=ISSUER, end=partial(ended.append, name))
        for name in ("user", "user", "other")
    ]
    stops[0]()

    tokens.add(Revocation(before=NOW, user_id="user"))
    await wait_until(lambda: ended == ["user"])
    for stop in stops[1:]:
        stop()

    assert find_watches(tokens) == {}


async def test_a_connection_of_another_thread_ends_on_its_own_loop() -> None:
    tokens, ended = build(), list[int]()
    ready = threading.Event()

    async def serve() -> None:
        done = asyncio.Event()

        def end() -> None:
            ended.append(threading.get_ident())
            done.set()

        tokens.watch(build_claims(), issuer=ISSUER, end=end)
        ready.set()
        await done.wait()

    thread = threading.Thread(target=asyncio.run, args=[serve()])
    thread.start()
    assert await asyncio.to_thread(ready.wait, 20)
    tokens.add(Revocation(before=NOW, user_id="user"))
    await asyncio.to_thread(thread.join)

    assert ended == [thread.ident]


def test_a_connection_whose_loop_was_closed_does_not_prevent_a_revocation() -> None:
    tokens = build()

    async def connect() -> None:
        tokens.watch(build_claims(), issuer=ISSUER, end=lambda: None)

    asyncio.run(connect())

    assert tokens.add(Revocation(before=NOW, user_id="user"))
    assert is_revoked(tokens)
