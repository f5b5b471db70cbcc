"""The events of webhooks: their types, the tokens that they revoke, and invalid bodies."""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, get_args

import pytest
from pydantic import ValidationError

from fastapi_logto.revocation import (
    Event,
    EventError,
    GrantEvent,
    LockoutEvent,
    MembershipEvent,
    OrganizationEvent,
    Revocation,
    RoleEvent,
    ScopeEvent,
    SignInEvent,
    TrustedDeviceEvent,
    UnknownEvent,
    UserEvent,
    parse_event,
)
from fastapi_logto.revocation.effects import find_revocations
from fastapi_logto.revocation.events import EVENT_NAMES
from tests.unit.deliveries import DELIVERIES, HOOK, NOW, Delivery, build_body

# The captured deliveries in their order: the class and the ids.
CAPTURED: list[tuple[type[Event], dict[str, Any]]] = [
    (UserEvent, {"user_id": "zz4tyga3ctan", "is_suspended": False}),
    (UserEvent, {"user_id": "zz4tyga3ctan", "is_suspended": False}),
    (UserEvent, {"user_id": "zz4tyga3ctan", "is_suspended": True}),
    (MembershipEvent, {"organization_id": "aaajcxbl1cz3", "added_user_ids": ("zz4tyga3ctan",), "removed_user_ids": ()}),
    (SignInEvent, {"user_id": "iuvey8ee7hls", "client_id": "gs93i6d6zybsiqx8ezimq"}),
    (OrganizationEvent, {"organization_id": "rtj31juwyklr"}),
    (ScopeEvent, {"scope_id": "2xyz8oi082572o2g8wk38", "resource_id": None}),
    (RoleEvent, {"role_id": "9j0saolarvo30evgq72cf"}),
    (RoleEvent, {"role_id": "9j0saolarvo30evgq72cf"}),
    (UserEvent, {"user_id": "1xv3ndvw2klr", "is_suspended": False}),
    (MembershipEvent, {"organization_id": "rtj31juwyklr", "added_user_ids": ("1xv3ndvw2klr",)}),
    (SignInEvent, {"user_id": "1xv3ndvw2klr", "client_id": "q1dll1267p0tcssqd0krf"}),
    (MembershipEvent, {"organization_id": "rtj31juwyklr", "removed_user_ids": ("1xv3ndvw2klr",), "added_user_ids": ()}),
    (UserEvent, {"user_id": "1xv3ndvw2klr", "is_suspended": False}),
    (UserEvent, {"user_id": "1xv3ndvw2klr", "is_suspended": True}),
    (UserEvent, {"user_id": "1xv3ndvw2klr", "is_suspended": False}),
    (UserEvent, {"user_id": "1xv3ndvw2klr", "is_suspended": False}),
    (RoleEvent, {"role_id": "93svzpfl0gayxg0r1teo6"}),
    (RoleEvent, {"role_id": "93svzpfl0gayxg0r1teo6"}),
    (RoleEvent, {"role_id": "93svzpfl0gayxg0r1teo6"}),
    (RoleEvent, {"role_id": "93svzpfl0gayxg0r1teo6", "data": None}),
    (ScopeEvent, {"scope_id": "djdbavfoql1j7oyau3zqw", "resource_id": "r42iynjeq7hq8vb9gett4"}),
    (ScopeEvent, {"scope_id": "djdbavfoql1j7oyau3zqw", "resource_id": "r42iynjeq7hq8vb9gett4"}),
    (ScopeEvent, {"scope_id": "djdbavfoql1j7oyau3zqw", "resource_id": "r42iynjeq7hq8vb9gett4", "data": None}),
    (OrganizationEvent, {"organization_id": "rtj31juwyklr"}),
    (MembershipEvent, {"organization_id": "rtj31juwyklr", "added_application_ids": ("brhogozli1530y96lmgqw",)}),
    (RoleEvent, {"role_id": "9j0saolarvo30evgq72cf", "data": None}),
    (ScopeEvent, {"scope_id": "2xyz8oi082572o2g8wk38", "resource_id": None, "data": None}),
    (OrganizationEvent, {"organization_id": "rtj31juwyklr", "data": None}),
    (LockoutEvent, {"client_id": "q1dll1267p0tcssqd0krf"}),
    (
        GrantEvent,
        {
            "user_id": "jwqph00k4iwi",
            "client_id": "1g1748ovqmno2bn39r9iy",
            "revoked_grant_ids": ("SrUsKWV8kp_XCo66teQaIgVrQeULXUZV1PDx7t14RoW",),
        },
    ),
    (SignInEvent, {"user_id": "quj1123jmiix", "client_id": "q1dll1267p0tcssqd0krf"}),
]


@pytest.mark.parametrize(
    ("delivery", "kind", "values"),
    [(one, *said) for one, said in zip(DELIVERIES, CAPTURED, strict=True)],
    ids=[one.id for one in DELIVERIES],
)
def test_a_captured_event_is_typed(delivery: Delivery, kind: type[Event], values: dict[str, Any]) -> None:
    event = parse_event(delivery.body)

    assert type(event) is kind
    assert event.event == delivery.event
    assert event.created_at.date() in {
        datetime(2026, 11, 23, tzinfo=UTC).date(),
        datetime(2026, 11, 25, tzinfo=UTC).date(),
    }
    assert {name: getattr(event, name) for name in values} == values
    for text in (repr(event), str(event)):
        assert event.hook_id in text
        assert "127.0.0.1" not in text
        assert not any(isinstance(value, str) and value in text for value in values.values())


def test_every_event_of_logto_is_known() -> None:
    assert {delivery.event for delivery in DELIVERIES} <= EVENT_NAMES
    assert len(EVENT_NAMES) == 31
    assert {kind for kind in get_args(Event) if kind is not UnknownEvent} >= {kind for kind, _ in CAPTURED}


def test_other_members_stay_available() -> None:
    event = parse_event(build_body("User.Created", data={"id": "u", "name": "Ann"}, ip="::1"))

    assert isinstance(event, UserEvent)
    assert event.data == {"id": "u", "name": "Ann"}
    assert event.model_extra == {"ip": "::1"}
    with pytest.raises(ValidationError, match="frozen"):
        event.user_id = "another"


def test_a_trusted_device_names_its_user() -> None:
    event = parse_event(build_body("TrustedDevice.Deleted", data={"id": "d", "userId": "u", "expiresAt": 1}))

    assert isinstance(event, TrustedDeviceEvent)
    assert (event.user_id, event.device_id) == ("u", "d")


PLACES: list[tuple[str, dict[str, Any], str]] = [
    ("User.Created", {"data": {"id": "x"}}, "user_id"),
    ("User.Created", {"params": {"userId": "x"}, "data": {"id": "y"}}, "user_id"),
    ("Organization.Membership.Updated", {"organizationId": "x"}, "organization_id"),
    ("Organization.Created", {"data": {"id": "x"}}, "organization_id"),
    ("Organization.Deleted", {"params": {"id": "x"}}, "organization_id"),
    ("Role.Created", {"data": {"id": "x"}}, "role_id"),
    ("Role.Deleted", {"params": {"id": "x"}}, "role_id"),
    ("OrganizationRole.Scopes.Updated", {"organizationRoleId": "x"}, "role_id"),
    ("Scope.Created", {"data": {"id": "x"}}, "scope_id"),
    ("Scope.Created", {"data": {"resourceId": "x"}}, "resource_id"),
    ("Scope.Deleted", {"params": {"scopeId": "x"}}, "scope_id"),
    ("Scope.Deleted", {"params": {"resourceId": "x"}}, "resource_id"),
    ("OrganizationScope.Deleted", {"params": {"id": "x"}}, "scope_id"),
    ("PostSignIn", {"userId": "x"}, "user_id"),
    ("PostSignIn", {"application": {"id": "x"}}, "client_id"),
    ("PostSignIn", {"cimdClientId": "x"}, "client_id"),
    ("Grant.LimitExceeded", {"userId": "x"}, "user_id"),
    ("Grant.LimitExceeded", {"applicationId": "x"}, "client_id"),
    ("Grant.LimitExceeded", {"cimdClientId": "x"}, "client_id"),
    ("Identifier.Lockout", {"applicationId": "x"}, "client_id"),
    ("Identifier.Lockout", {"application": {"id": "x"}}, "client_id"),
    ("Message.RateLimited", {"cimdClientId": "x"}, "client_id"),
    ("TrustedDevice.Created", {"data": {"userId": "x"}}, "user_id"),
    ("TrustedDevice.Created", {"data": {"id": "x"}}, "device_id"),
]


@pytest.mark.parametrize(("event", "members", "name"), PLACES)
def test_an_id_is_found_wherever_logto_puts_it(event: str, members: dict[str, Any], name: str) -> None:
    assert getattr(parse_event(build_body(event, **members)), name) == "x"


@pytest.mark.parametrize("value", [None, ""], ids=repr)
@pytest.mark.parametrize(
    ("event", "members", "place"),
    [
        ("User.Deleted", {"params": {"userId": ...}}, "params.userId"),
        ("Organization.Deleted", {"params": {"id": ...}}, "params.id"),
        ("Role.Deleted", {"params": {"id": ...}}, "params.id"),
        ("Scope.Deleted", {"params": {"scopeId": ...}}, "params.scopeId"),
        ("Scope.Deleted", {"params": {"resourceId": ...}}, "params.resourceId"),
        ("PostSignIn", {"application": {"id": ...}}, "application.id"),
        ("TrustedDevice.Deleted", {"data": {"id": ...}}, "data.id"),
    ],
)
def test_an_id_that_is_null_or_empty_is_an_error_and_not_absent(
    event: str, members: dict[str, dict[str, Any]], place: str, value: str | None
) -> None:
    filled: dict[str, Any] = {name: dict.fromkeys(parts, value) for name, parts in members.items()}

    with pytest.raises(EventError, match=f"^{place}: expected a valid value, found value_error$"):
        parse_event(build_body(event, **filled))


def test_an_error_of_a_model_does_not_quote_the_event() -> None:
    with pytest.raises(ValidationError) as caught:
        UserEvent.model_validate({"event": "User.Created", "data": {"id": ["Ann"]}})

    assert "data.id" in str(caught.value)
    assert "Ann" not in str(caught.value)


@pytest.mark.parametrize("name", ["User.Archived", "X"])
def test_an_unknown_event_is_kept_as_one_and_revokes_nothing(name: str) -> None:
    event = parse_event(build_body(name, data={"id": "u", "isSuspended": True}, revokedGrantIds=["g"]))

    assert type(event) is UnknownEvent
    assert (event.event, event.hook_id, event.model_extra) == (name, HOOK, {"revokedGrantIds": ["g"]})
    assert revoke(event) == []


@pytest.mark.parametrize("name", sorted(EVENT_NAMES))
def test_a_test_delivery_of_the_console_is_an_event_that_revokes_no_user(name: str) -> None:
    body = build_body(
        name, path="/fake-path/:id", method="POST", status=200, params={"id": "fake-id"}, data={"result": "success"}
    )

    # Nothing of a user, and not all tokens either.
    assert [one for one in revoke(parse_event(body)) if one.user_id or one.organization_id != "fake-id"] == []


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A body that is not an event: one change to a valid one."""

    id: str
    body: bytes
    message: str


def row(id: str, message: str, **changes: Any) -> Row:  # noqa: A002 - the name in the table
    members: dict[str, Any] = {"data": {"id": "u", "isSuspended": True}, **changes}
    name = members.pop("event", "User.SuspensionStatus.Updated")
    return Row(id=id, body=build_body(name, **members), message=message)


INVALID = [
    Row(id="not JSON", body=b"no", message="expected a JSON object, found not strict JSON: JSONDecodeError"),
    Row(id="empty", body=b"", message="expected a JSON object, found not strict JSON: JSONDecodeError"),
    Row(id="a list", body=b"[]", message="expected a JSON object, found not a JSON object"),
    Row(id="too deep", body=b"[" * 40, message="expected a JSON object, found not strict JSON: JSONDecodeError"),
    Row(
        id="a lone surrogate",
        body=build_body("User.Deleted", data={"id": "u", "name": "\ud800"}),
        message="expected a JSON object, found a lone surrogate",
    ),
    Row(
        id="two names",
        body=build_body("User.Deleted").replace(b'"event"', b'"event": "User.Created", "event"'),
        message="expected a JSON object, found duplicate member",
    ),
    Row(
        id="not UTF-8",
        body=build_body("User.Deleted", ip="#").replace(b"#", b"\xff"),
        message="expected a JSON object, found not strict JSON: UnicodeDecodeError",
    ),
    row("no name", "event: expected a valid value, found missing", event=...),
    row("a name that is no text", "event: expected a valid value, found string_type", event=["User.Deleted"]),
    row("an empty name", "event: expected a valid value, found string_too_short", event=""),
    row("no time", "createdAt: expected a valid value, found missing", createdAt=...),
    row("a time that is a number", "createdAt: expected a valid value, found value_error", createdAt=1_800_000_000_000),
    row(
        "a time without a zone", "createdAt: expected a valid value, found value_error", createdAt="2026-11-23T16:05:29"
    ),
    row("a time that is no time", "createdAt: expected a valid value, found value_error", createdAt="yesterday"),
    row("no webhook", "hookId: expected a valid value, found missing", hookId=...),
    row("an empty webhook", "hookId: expected a valid value, found value_error", hookId=""),
    row("a user that is null", "data.id: expected a valid value, found value_error", data={"id": None}),
    row("a user that is a number", "data.id: expected a valid value, found string_type", data={"id": 1}),
    row(
        "a suspension that is a text",
        "data.isSuspended: expected a valid value, found value_error",
        data={"id": "u", "isSuspended": "true"},
    ),
    row(
        "a suspension that is null",
        "data.isSuspended: expected a valid value, found value_error",
        data={"id": "u", "isSuspended": None},
    ),
    row(
        "members that are a text",
        "removedUserIds: expected a valid value, found tuple_type",
        event="Organization.Membership.Updated",
        removedUserIds="abc",
    ),
    row(
        "a member that is a number",
        "removedUserIds.1: expected a valid value, found string_type",
        event="Organization.Membership.Updated",
        removedUserIds=["u", 7],
    ),
]


@pytest.mark.parametrize("invalid", INVALID, ids=lambda one: one.id)
def test_a_body_that_is_not_an_event_is_an_error_that_shows_nothing_of_it(invalid: Row) -> None:
    with pytest.raises(EventError) as caught:
        parse_event(invalid.body)

    assert str(caught.value) == invalid.message


def test_a_model_that_is_built_directly_does_not_quote_an_invalid_time() -> None:
    with pytest.raises(ValidationError) as caught:
        UserEvent.model_validate({"event": "User.Deleted", "createdAt": "s3cret", "hookId": "h"})

    assert "not a time with a time zone" in str(caught.value)
    assert "s3cret" not in str(caught.value)


def test_custom_data_of_any_depth_does_not_hide_a_suspension() -> None:
    deep: object = "end"
    for number in range(500):
        deep = [deep] if number % 2 else {"a": deep}
    body = build_body("User.SuspensionStatus.Updated", data={"id": "u", "customData": deep, "isSuspended": True})

    assert revoke(parse_event(body)) == [Revocation(before=NOW, user_id="u")]


def revoke(
    event: Event, *, issuer: str | None = None, revoke_all_on: Collection[str] = (), now: float = NOW
) -> list[Revocation]:
    return find_revocations(event, issuer=issuer, revoke_all_on=revoke_all_on, now=now)


REMOVED = [
    Revocation(before=NOW, user_id="u1"),
    Revocation(before=NOW, user_id="u2"),
    Revocation(before=NOW, client_id="m", organization_id="o"),
]
EFFECTS: dict[str, tuple[bytes, list[Revocation]]] = {
    "suspended": (
        build_body("User.SuspensionStatus.Updated", params={"userId": "u"}, data={"id": "u", "isSuspended": True}),
        [Revocation(before=NOW, user_id="u")],
    ),
    "reactivated": (build_body("User.SuspensionStatus.Updated", data={"id": "u", "isSuspended": False}), []),
    "deleted": (
        build_body("User.Deleted", params={"userId": "u"}, data={"id": "u", "isSuspended": False}),
        [Revocation(before=NOW, user_id="u")],
    ),
    "deleted, without the user's data": (
        build_body("User.Deleted", params={"userId": "u"}),
        [Revocation(before=NOW, user_id="u")],
    ),
    "changed while suspended": (
        build_body("User.Data.Updated", data={"id": "u", "isSuspended": True}),
        [Revocation(before=NOW, user_id="u")],
    ),
    "changed": (build_body("User.Data.Updated", data={"id": "u", "isSuspended": False}), []),
    "removed from an organization": (
        build_body(
            "Organization.Membership.Updated",
            organizationId="o",
            removedUserIds=["u1", "u2"],
            removedApplicationIds=["m"],
            addedUserIds=["u3"],
        ),
        REMOVED,
    ),
    "added to an organization": (
        build_body("Organization.Membership.Updated", organizationId="o", addedUserIds=["u"]),
        [],
    ),
    "organization deleted": (
        build_body("Organization.Deleted", params={"id": "o"}),
        [Revocation(before=NOW, organization_id="o")],
    ),
    "organization changed": (build_body("Organization.Data.Updated", params={"id": "o"}, data={"id": "o"}), []),
    "role changed": (build_body("Role.Scopes.Updated", params={"id": "r"}, data=[{"id": "s"}]), []),
    "more were removed than are listed": (
        build_body(
            "Organization.Membership.Updated", organizationId="o", removedUserIds=[f"u{n}" for n in range(5000)]
        ),
        [Revocation(before=NOW)],
    ),
    "more machines were removed than are listed": (
        build_body(
            "Organization.Membership.Updated", organizationId="o", removedApplicationIds=[f"m{n}" for n in range(5000)]
        ),
        [Revocation(before=NOW)],
    ),
}


@pytest.mark.parametrize("name", EFFECTS)
def test_an_event_revokes_exactly_what_it_is_about(name: str) -> None:
    body, expected = EFFECTS[name]

    assert revoke(parse_event(body)) == expected


def test_the_tenant_is_that_of_the_event() -> None:
    suspended, removed, left = (
        EFFECTS[name][0] for name in ("suspended", "removed from an organization", "organization deleted")
    )

    many = build_body("Organization.Membership.Updated", organizationId="o", removedUserIds=["u"] * 5000)
    for body in (suspended, removed, left, many):
        assert {one.issuer for one in revoke(parse_event(body), issuer="https://a/oidc")} == {"https://a/oidc"}


@pytest.mark.parametrize("name", ["User.Deleted", "Organization.Deleted"])
def test_an_event_that_does_not_say_what_was_deleted_revokes_nothing(name: str) -> None:
    assert revoke(parse_event(build_body(name, data={}))) == []


def test_the_time_is_that_of_the_event_to_the_millisecond() -> None:
    (revocation,) = revoke(parse_event(build_body("User.Deleted", at=NOW - 3600.25, data={"id": "u"})))

    assert revocation.before == NOW - 3600.25


@pytest.mark.parametrize("ahead", [61, 10_000_000])
def test_a_time_in_the_far_future_counts_as_a_minute_from_now(ahead: float) -> None:
    (revocation,) = revoke(parse_event(build_body("User.Deleted", at=NOW + ahead, data={"id": "u"})))

    assert revocation.before == NOW + 60


@pytest.mark.parametrize("time", ["0001-01-01T00:00:00+23:59", "9999-12-31T23:59:59-23:59"])
def test_no_time_overflows(time: str) -> None:
    (revocation,) = revoke(parse_event(build_body("User.Deleted", createdAt=time, data={"id": "u"})))

    assert revocation.before <= NOW + 60


@pytest.mark.parametrize("name", ["Role.Scopes.Updated", "OrganizationRole.Deleted", "Scope.Deleted"])
def test_an_event_revokes_all_tokens_by_choice(name: str) -> None:
    event = parse_event(build_body(name, params={"id": "x"}))

    assert revoke(event) == []
    assert revoke(event, issuer="https://a/oidc", revoke_all_on=[name]) == [
        Revocation(before=NOW, issuer="https://a/oidc")
    ]
