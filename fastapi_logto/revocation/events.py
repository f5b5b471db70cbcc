"""The events of Logto's webhooks as typed values, and their parser."""

from collections.abc import Iterator
from contextlib import suppress
from datetime import datetime
from typing import Annotated, Any, ClassVar, Final, Literal, TypeAlias, get_args

from pydantic import (
    AliasChoices,
    AliasPath,
    BaseModel,
    ConfigDict,
    Field,
    JsonValue,
    SkipValidation,
    ValidationError,
    field_validator,
)
from typing_extensions import override

from fastapi_logto.strict_json import JsonObject, StrictJsonError, cut_deep_parts, parse_object


class EventError(ValueError):
    """The body of a webhook is not an event. The message never quotes it, because it is personal data."""


_IDS: Final = frozenset(
    {"hook_id", "user_id", "organization_id", "role_id", "scope_id", "resource_id", "client_id", "device_id"}
)


def _found_at(*places: str) -> Any:  # noqa: ANN401 - as `Field` of Pydantic
    """Return a field that is read from the first of these members that the event has: `data.id` is one of `data`."""
    return Field(default=None, validation_alias=AliasChoices(*(AliasPath(*place.split(".")) for place in places)))


class _Event(BaseModel):
    """What all events have. Members that are not listed are in `model_extra`, under the names that Logto gives them."""

    # Built at the first event: most applications receive none.
    model_config: ClassVar[ConfigDict] = ConfigDict(
        frozen=True, extra="allow", hide_input_in_errors=True, defer_build=True
    )

    created_at: datetime = Field(validation_alias="createdAt")
    hook_id: str = Field(validation_alias="hookId")
    # Validated already, as JSON.
    data: Annotated[JsonValue, SkipValidation] = None

    @field_validator("created_at", mode="before")
    @classmethod
    def _parse_time(cls, value: object) -> datetime:
        # The error of `fromisoformat` quotes the value.
        with suppress(ValueError):
            time = datetime.fromisoformat(value) if isinstance(value, str) else None
            if time is not None and time.utcoffset() is not None:
                return time
        raise ValueError("not a time with a time zone")

    # A null must not pass for absence, and revoke nothing.
    @field_validator(*_IDS, mode="before", check_fields=False)
    @classmethod
    def _check_id(cls, value: object) -> object:
        if value is None or value == "":
            raise ValueError("not an id")
        return value

    @field_validator("is_suspended", mode="before", check_fields=False)
    @classmethod
    def _check_flag(cls, value: object) -> object:
        if value is not True and value is not False:
            raise ValueError("not a boolean")
        return value

    @override
    def __repr_args__(self) -> Iterator[tuple[str | None, Any]]:
        # The rest is personal data.
        for name in ("event", "created_at", "hook_id"):
            yield name, getattr(self, name)


class UserEvent(_Event):
    """A user was created, deleted, changed, suspended or reactivated.

    Attributes:
        event: The name of the event.
        created_at: When it happened, by the clock of Logto.
        hook_id: The webhook.
        data: The user, as Logto shows it in the Management API.
        user_id: The user; `None` in a test delivery from the Logto Console.
        is_suspended: Whether the user is suspended now.
    """

    event: Literal["User.Created", "User.Deleted", "User.Data.Updated", "User.SuspensionStatus.Updated"]
    user_id: str | None = _found_at("params.userId", "data.id")
    is_suspended: bool | None = _found_at("data.isSuspended")


class MembershipEvent(_Event):
    """Members were added to an organization, or removed. Logto lists at most 5000 ids of each kind.

    Attributes:
        event: The name of the event.
        created_at: When it happened, by the clock of Logto.
        hook_id: The webhook.
        data: Empty.
        organization_id: The organization; `None` in a test delivery from the Logto Console.
        added_user_ids: Users who were added.
        removed_user_ids: Users who were removed.
        added_application_ids: Machines that were added.
        removed_application_ids: Machines that were removed.
    """

    event: Literal["Organization.Membership.Updated"]
    organization_id: str | None = _found_at("organizationId")
    added_user_ids: tuple[str, ...] = Field(default=(), validation_alias="addedUserIds")
    removed_user_ids: tuple[str, ...] = Field(default=(), validation_alias="removedUserIds")
    added_application_ids: tuple[str, ...] = Field(default=(), validation_alias="addedApplicationIds")
    removed_application_ids: tuple[str, ...] = Field(default=(), validation_alias="removedApplicationIds")


class OrganizationEvent(_Event):
    """An organization was created, deleted or changed.

    Attributes:
        event: The name of the event.
        created_at: When it happened, by the clock of Logto.
        hook_id: The webhook.
        data: The organization; empty if it was deleted.
        organization_id: The organization.
    """

    event: Literal["Organization.Created", "Organization.Deleted", "Organization.Data.Updated"]
    organization_id: str | None = _found_at("params.id", "data.id")


class RoleEvent(_Event):
    """A role or an organization role was created, deleted or changed, or its permissions were changed.

    Logto sends no event when a role is assigned to a user or removed.

    Attributes:
        event: The name of the event.
        created_at: When it happened, by the clock of Logto.
        hook_id: The webhook.
        data: The role, or its permissions; empty if it was deleted.
        role_id: The role or organization role.
    """

    event: Literal[
        "Role.Created",
        "Role.Deleted",
        "Role.Data.Updated",
        "Role.Scopes.Updated",
        "OrganizationRole.Created",
        "OrganizationRole.Deleted",
        "OrganizationRole.Data.Updated",
        "OrganizationRole.Scopes.Updated",
    ]
    role_id: str | None = _found_at("organizationRoleId", "params.id", "data.id")


class ScopeEvent(_Event):
    """A permission of an API or of the organizations was created, deleted or changed.

    Attributes:
        event: The name of the event.
        created_at: When it happened, by the clock of Logto.
        hook_id: The webhook.
        data: The permission; empty if it was deleted.
        scope_id: The permission.
        resource_id: The API resource to which it belongs; `None` for a permission of the organizations.
    """

    event: Literal[
        "Scope.Created",
        "Scope.Deleted",
        "Scope.Data.Updated",
        "OrganizationScope.Created",
        "OrganizationScope.Deleted",
        "OrganizationScope.Data.Updated",
    ]
    scope_id: str | None = _found_at("params.scopeId", "params.id", "data.id")
    resource_id: str | None = _found_at("params.resourceId", "data.resourceId")


class SignInEvent(_Event):
    """A user registered, signed in or chose a new password.

    Attributes:
        event: The name of the event.
        created_at: When it happened, by the clock of Logto.
        hook_id: The webhook.
        data: Empty; the user is in `model_extra["user"]`.
        user_id: The user.
        client_id: The application in which the user signed in.
    """

    event: Literal["PostRegister", "PostSignIn", "PostSignInAdaptiveMfaTriggered", "PostResetPassword"]
    user_id: str | None = _found_at("userId")
    client_id: str | None = _found_at("application.id", "cimdClientId")


class GrantEvent(_Event):
    """A user signed in on too many devices, so Logto ended the oldest grants.

    Attributes:
        event: The name of the event.
        created_at: When it happened, by the clock of Logto.
        hook_id: The webhook.
        data: Empty.
        user_id: The user; `None` in a test delivery from the Logto Console.
        client_id: The application.
        revoked_grant_ids: The grants that were ended. Access tokens do not name their grant.
    """

    event: Literal["Grant.LimitExceeded"]
    user_id: str | None = _found_at("userId")
    client_id: str | None = _found_at("applicationId", "cimdClientId")
    revoked_grant_ids: tuple[str, ...] = Field(default=(), validation_alias="revokedGrantIds")


class LockoutEvent(_Event):
    """A sign-in was locked after too many attempts, or too many messages were requested.

    Attributes:
        event: The name of the event.
        created_at: When it happened, by the clock of Logto.
        hook_id: The webhook.
        data: Empty; the identifier is in `model_extra`.
        client_id: The application.
    """

    event: Literal["Identifier.Lockout", "Message.RateLimited"]
    client_id: str | None = _found_at("applicationId", "application.id", "cimdClientId")


class TrustedDeviceEvent(_Event):
    """A device of a user became trusted for multi-factor authentication, or is no longer trusted.

    Attributes:
        event: The name of the event.
        created_at: When it happened, by the clock of Logto.
        hook_id: The webhook.
        data: The device.
        user_id: The user.
        device_id: The device.
    """

    event: Literal["TrustedDevice.Created", "TrustedDevice.Deleted"]
    user_id: str | None = _found_at("data.userId")
    device_id: str | None = _found_at("data.id")


class UnknownEvent(_Event):
    """An event that this version of the package does not know.

    Attributes:
        event: The name of the event.
        created_at: When it happened, by the clock of Logto.
        hook_id: The webhook.
        data: What Logto sent as `data`. All other members are in `model_extra`.
    """

    event: str = Field(min_length=1)


Event: TypeAlias = (
    UserEvent
    | MembershipEvent
    | OrganizationEvent
    | RoleEvent
    | ScopeEvent
    | SignInEvent
    | GrantEvent
    | LockoutEvent
    | TrustedDeviceEvent
    | UnknownEvent
)
"""An event of a webhook: `event` is its name."""

_CLASSES: Final[dict[str, type[Event]]] = {
    name: kind for kind in get_args(Event) for name in get_args(kind.__annotations__["event"])
}

EVENT_NAMES: Final = frozenset(_CLASSES)
"""The names of all known events, those of Logto 1.43."""


def parse_event(body: bytes) -> Event:
    """Return the event in the body of a webhook. The signature is **not** checked: verify it first.

    References:
        Logto's documentation, "Webhooks request body".
    """
    try:
        # Users may be able to write custom data at any depth, which must not keep their suspension from being read.
        members = parse_object(cut_deep_parts(body))
    except StrictJsonError as error:
        raise EventError(f"expected a JSON object, found {error}") from None
    finally:
        # Error trackers show what they find in a frame.
        del body
    try:
        return build_event(members)
    finally:
        del members


def build_event(members: JsonObject) -> Event:
    """Return the event with these members, which come from strict JSON, or raise `EventError`."""
    try:
        return _find_class(members.get("event")).model_validate(members)
    except ValidationError as error:
        raise EventError(_explain(error)) from None
    finally:
        # Error trackers show what they find in a frame.
        del members


def _find_class(name: object) -> type[Event]:
    return _CLASSES.get(name, UnknownEvent) if isinstance(name, str) else UnknownEvent


def _explain(error: ValidationError) -> str:
    problem = error.errors()[0]
    return f"{'.'.join(map(str, problem['loc']))}: expected a valid value, found {problem['type']}"
