"""Changes of a directory: each returns a new directory."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import replace

from fastapi_logto.testing.directory import Directory, Organization, User


def find_one(directory: Directory, user: str) -> User:
    """Return the user with this username, or with this user id; `ValueError` if there is none."""
    by_name = [one for one in directory.users if one.username == user]
    found = by_name or [one for one in directory.users if one.id == user]
    if not found:
        raise ValueError(f"user: expected a username or user id of this directory, found {user[:80]!r}")
    return found[0]


def find_member(directory: Directory, member: str) -> str:
    """Return the id of a user, or the client id of a machine; `ValueError` if there is neither."""
    is_machine = any(machine.client_id == member for machine in directory.machines)
    return member if is_machine else find_one(directory, member).id


def set_suspended(directory: Directory, user: User, *, is_suspended: bool) -> Directory:
    """Suspend a user, or end the suspension."""
    changed = replace(user, is_suspended=is_suspended)
    return replace(directory, users=[changed if one.id == user.id else one for one in directory.users])


def delete_user(directory: Directory, user: User) -> Directory:
    """Delete a user, also from the members of organizations."""
    return replace(
        directory,
        users=[one for one in directory.users if one.id != user.id],
        organizations=[_without(one, user.id) for one in directory.organizations],
    )


def add_member(
    directory: Directory, organization_id: str, member: str, *, scopes: Mapping[str, Collection[str]]
) -> Directory:
    """Add a member to an organization, or replace the scopes of one."""
    return _change(directory, organization_id, lambda one: replace(one, members={**one.members, member: scopes}))


def remove_member(directory: Directory, organization_id: str, member: str) -> Directory:
    """Remove a member from an organization; `ValueError` for another than a member."""

    def remove(organization: Organization) -> Organization:
        if member not in organization.members:
            raise ValueError(f"member: expected a member of {organization_id[:80]!r}, found {member[:80]!r}")
        return _without(organization, member)

    return _change(directory, organization_id, remove)


def delete_organization(directory: Directory, organization_id: str) -> Directory:
    """Delete an organization; `ValueError` if there is none with this id."""
    _check_organization(directory, organization_id)
    return replace(directory, organizations=[one for one in directory.organizations if one.id != organization_id])


def _change(directory: Directory, organization_id: str, change: Callable[[Organization], Organization]) -> Directory:
    _check_organization(directory, organization_id)
    changed = [change(one) if one.id == organization_id else one for one in directory.organizations]
    return replace(directory, organizations=changed)


def _check_organization(directory: Directory, organization_id: str) -> None:
    if all(one.id != organization_id for one in directory.organizations):
        raise ValueError(f"organization_id: expected one of this directory, found {organization_id[:80]!r}")


def _without(organization: Organization, member: str) -> Organization:
    members = {name: scopes for name, scopes in organization.members.items() if name != member}
    return replace(organization, members=members)
