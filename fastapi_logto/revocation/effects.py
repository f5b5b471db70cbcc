"""What an event of Logto revokes."""

from collections.abc import Collection
from typing import Final

from fastapi_logto.revocation.events import Event, MembershipEvent, OrganizationEvent, UserEvent
from fastapi_logto.verification.checks import MAX_ISSUED_AHEAD_SECONDS
from fastapi_logto.verification.revoked import Revocation

# Logto lists no more ids in an event, and does not say whether there were more.
_MOST_LISTED: Final = 5000


def clamp_time(time: float, *, now: float) -> float:
    """Return a time of Logto's clock, or the latest one at which a token may have been issued that is accepted now.

    Without this, an event of the far future would refuse all tokens until then.
    """
    return min(time, now + MAX_ISSUED_AHEAD_SECONDS)


def find_revocations(
    event: Event, *, issuer: str | None, revoke_all_on: Collection[str], now: float
) -> list[Revocation]:
    """Return what an event revokes: tokens that were issued up to the time of the event, so that a replay adds nothing.

    `issuer` is the tenant that sent the event; `None` if it is the only one. `now` is wall time in seconds.
    """
    before = clamp_time(event.created_at.timestamp(), now=now)
    if event.event in revoke_all_on:
        return [Revocation(before=before, issuer=issuer)]
    if isinstance(event, UserEvent) and event.user_id and (event.is_suspended or event.event == "User.Deleted"):
        return [Revocation(before=before, issuer=issuer, user_id=event.user_id)]
    if isinstance(event, OrganizationEvent) and event.organization_id and event.event == "Organization.Deleted":
        return [Revocation(before=before, issuer=issuer, organization_id=event.organization_id)]
    if isinstance(event, MembershipEvent):
        return _find_removed(event, issuer=issuer, before=before)
    return []


def _find_removed(event: MembershipEvent, *, issuer: str | None, before: float) -> list[Revocation]:
    users, machines = event.removed_user_ids, event.removed_application_ids
    if max(len(users), len(machines)) >= _MOST_LISTED:
        return [Revocation(before=before, issuer=issuer)]
    return [
        # All tokens of these users: those of an API have the scopes of their organization roles, but no organization.
        *(Revocation(before=before, issuer=issuer, user_id=one) for one in users),
        *(
            Revocation(before=before, issuer=issuer, client_id=one, organization_id=event.organization_id)
            for one in machines
        ),
    ]
