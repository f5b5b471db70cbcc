"""Find the entries of a directory, and the scopes that a user has."""

from collections.abc import Sequence

from fastapi_logto.testing.directory import (
    MANAGEMENT_API,
    ORGANIZATIONS,
    Application,
    Directory,
    Machine,
    Organization,
    Resource,
    User,
)


def find_resource(directory: Directory, indicator: str) -> Resource | None:
    """Return the resource with this indicator, compared as a plain string; `None` if there is none.

    The permissions of organizations have a resource too, which Logto reserves.
    """
    if indicator == ORGANIZATIONS:
        scopes = dict.fromkeys(list_permissions(directory), "Permission in an organization")
        return Resource(indicator=ORGANIZATIONS, scopes=scopes)
    known = (*directory.resources, MANAGEMENT_API)
    return next((resource for resource in known if resource.indicator == indicator), None)


def list_permissions(directory: Directory) -> list[str]:
    """Return the permissions that members have in any organization."""
    members = [scopes for organization in directory.organizations for scopes in organization.members.values()]
    return list(dict.fromkeys(name for scopes in members for name in scopes.get(ORGANIZATIONS, ())))


def find_user(directory: Directory, username: str) -> User | None:
    """Return the user with this username; `None` if there is none."""
    return next((user for user in directory.users if user.username == username), None)


def find_active_user(directory: Directory, user_id: str) -> User | None:
    """Return the user with this id; `None` if there is none, or if the user is suspended."""
    return next((user for user in directory.users if user.id == user_id and not user.is_suspended), None)


def find_client(directory: Directory, client_id: str) -> Application | Machine | None:
    """Return the application or machine with this client ID; `None` if there is none."""
    clients: tuple[Application | Machine, ...] = (*directory.applications, *directory.machines)
    return next((client for client in clients if client.client_id == client_id), None)


def find_membership(directory: Directory, organization_id: str, *, member: str) -> Organization | None:
    """Return the organization with this ID if `member` is a member of it; otherwise `None`."""
    found = next((one for one in directory.organizations if one.id == organization_id), None)
    return found if found is not None and member in found.members else None


def list_held(directory: Directory, user: User, resource: str) -> Sequence[str]:
    """Return the scopes in a user's plain token for a resource, including those of all organization roles.

    Logto issues such tokens, and an API with several organizations must not accept one as a token for an
    organization.
    """
    roles = [one.members[user.id].get(resource, ()) for one in directory.organizations if user.id in one.members]
    return tuple(dict.fromkeys([*user.scopes.get(resource, ()), *(name for names in roles for name in names)]))
