"""Who and what a local issuer knows: resources, users, machines and applications.

All values are frozen, and a `Directory` is checked when it is made: a scope that no
resource defines is a typing error in a test, never a permission.
"""

import re
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final, Self

__all__ = [
    "EXAMPLE_AUDIENCE",
    "ORGANIZATIONS",
    "Application",
    "Directory",
    "LocalOrganization",
    "Machine",
    "Resource",
    "User",
]

EXAMPLE_AUDIENCE: Final = "https://api.example.test"
ORGANIZATIONS: Final = "urn:logto:resource:organizations"
"""In the place of a resource indicator: the permissions of organizations, which are for no API."""

# One pattern for the whole URI instead of a parser: parsers and browsers disagree over
# backslashes, user names and white space, which is how a code ends up at a stranger's host.
_LOOPBACK_URI: Final = re.compile(
    r"(?P<origin>http://(?:localhost|127\.0\.0\.1|\[::1\])(?::[0-9]{1,5})?)(?:[/?][!\x24-\x5b\x5d-~]*)?",
)
_EXPLICIT_URI: Final = re.compile(r"(?P<origin>https?://[A-Za-z0-9._\-\[\]:]+)(?:[/?][!\x24-\x5b\x5d-~]*)?")


def _freeze_scopes(scopes: Mapping[str, Collection[str]]) -> Mapping[str, Collection[str]]:
    return MappingProxyType({indicator: tuple(names) for indicator, names in scopes.items()})


@dataclass(frozen=True, slots=True, kw_only=True)
class Resource:
    """An API resource, as it is registered in Logto.

    Attributes:
        indicator: The resource indicator, which becomes the `aud` of its tokens. It is
            compared as a plain string.
        scopes: The permissions of the API: name to description.
    """

    indicator: str
    scopes: Mapping[str, str] = field(default_factory=dict[str, str])

    def __post_init__(self) -> None:
        """Keep a copy of the scopes that nobody can change."""
        object.__setattr__(self, "scopes", MappingProxyType(dict(self.scopes)))


@dataclass(frozen=True, slots=True, kw_only=True)
class User:
    """Somebody who can sign in, without a password.

    Attributes:
        id: The user id, which becomes the `sub` of the user's tokens.
        username: The name that `login_hint` and the sign-in page use.
        name: The name to show.
        scopes: What the user holds: resource indicator to scope names.
    """

    id: str
    username: str
    name: str
    scopes: Mapping[str, Collection[str]] = field(default_factory=dict[str, Collection[str]])

    def __post_init__(self) -> None:
        """Keep a copy of the scopes that nobody can change."""
        object.__setattr__(self, "scopes", _freeze_scopes(self.scopes))


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """A machine-to-machine application; its client id is the `sub` of its tokens.

    Attributes:
        client_id: The client id.
        client_secret: The client secret; left out of the `repr`.
        scopes: What the machine holds: resource indicator to scope names.
    """

    client_id: str
    client_secret: str = field(repr=False)
    scopes: Mapping[str, Collection[str]] = field(default_factory=dict[str, Collection[str]])

    def __post_init__(self) -> None:
        """Keep a copy of the scopes that nobody can change."""
        object.__setattr__(self, "scopes", _freeze_scopes(self.scopes))


@dataclass(frozen=True, slots=True, kw_only=True)
class Application:
    """A public single-page application: authorization code with PKCE, no secret.

    Attributes:
        client_id: The client id.
        redirect_uris: The exact redirect URIs allowed. **Left empty, any `http` URI on
            `localhost`, `127.0.0.1` or `[::1]` is allowed**, of any port and path: handy
            on one's own machine, and nothing that Logto itself does.
    """

    client_id: str
    redirect_uris: Collection[str] = ()

    def __post_init__(self) -> None:
        """Refuse redirect URIs which are no plain `http(s)` URI without fragment."""
        object.__setattr__(self, "redirect_uris", tuple(self.redirect_uris))
        for uri in self.redirect_uris:
            if _EXPLICIT_URI.fullmatch(uri) is None:
                msg = f"redirect_uris: expected http(s) URIs without fragment, found {uri[:80]!r}"
                raise ValueError(msg)

    def accepts_redirect(self, uri: str) -> bool:
        """Say whether an authorization answer may be sent to this URI."""
        if self.redirect_uris:
            return uri in self.redirect_uris
        return _LOOPBACK_URI.fullmatch(uri) is not None

    def accepts_origin(self, origin: str) -> bool:
        """Say whether a web page of this origin may call the token endpoint."""
        if self.redirect_uris:
            matches = (_EXPLICIT_URI.fullmatch(uri) for uri in self.redirect_uris)
            return any(match is not None and match["origin"] == origin for match in matches)
        match = _LOOPBACK_URI.fullmatch(origin)
        return match is not None and match["origin"] == origin


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalOrganization:
    """An organization, and what its members hold in it by their organization roles.

    Attributes:
        id: The organization's id.
        members: User id or machine's client id, to what they hold: resource indicator to scope names, and
            under `ORGANIZATIONS` the organization's own permissions. A member without any role holds nothing.
    """

    id: str
    members: Mapping[str, Mapping[str, Collection[str]]] = field(
        default_factory=dict[str, Mapping[str, Collection[str]]]
    )

    def __post_init__(self) -> None:
        """Keep a copy of the members that nobody can change."""
        members = {member: _freeze_scopes(scopes) for member, scopes in self.members.items()}
        object.__setattr__(self, "members", MappingProxyType(members))


@dataclass(frozen=True, slots=True, kw_only=True)
class Directory:
    """All that a local issuer knows.

    The first user, application, machine and resource are the defaults of the tokens
    that the issuer mints directly.

    Attributes:
        resources: API resources.
        users: Users.
        machines: Machine-to-machine applications.
        applications: Single-page applications.
        organizations: Organizations.
    """

    resources: Sequence[Resource] = ()
    users: Sequence[User] = ()
    machines: Sequence[Machine] = ()
    applications: Sequence[Application] = ()
    organizations: Sequence[LocalOrganization] = ()

    def __post_init__(self) -> None:
        """Refuse what contradicts itself.

        Raises:
            ValueError: An id is there twice, a held scope belongs to no resource, or a member is not known.
        """
        for name in ("resources", "users", "machines", "applications", "organizations"):
            object.__setattr__(self, name, tuple(getattr(self, name)))
        _check_unique("resource indicator", (resource.indicator for resource in self.resources))
        _check_unique("user id", (user.id for user in self.users))
        _check_unique("username", (user.username for user in self.users))
        _check_unique("client id", (client.client_id for client in self.clients))
        for held in (*(user.scopes for user in self.users), *(machine.scopes for machine in self.machines)):
            self._check_held(held)
        _check_unique("organization id", (organization.id for organization in self.organizations))
        known = {*(user.id for user in self.users), *(machine.client_id for machine in self.machines)}
        for organization in self.organizations:
            for member, scopes in organization.members.items():
                if member not in known:
                    msg = f"members: expected a user or machine of this directory, found {member[:80]!r}"
                    raise ValueError(msg)
                self._check_held({name: names for name, names in scopes.items() if name != ORGANIZATIONS})

    @classmethod
    def example(cls, audience: str = EXAMPLE_AUDIENCE, *, redirect_uris: Collection[str] = ()) -> Self:
        """Give the directory of the examples and the demo.

        One resource with `read:user` and `write:user`; the users alice (both), bob
        (`read:user`) and carol (neither); the application `local-spa`; the machines
        `local-machine` (both) and `local-machine-without-roles` (neither), whose secrets
        are their client ids followed by `-secret`. In the organization `acme` alice holds
        `read:user`, `write:user` and the organization's `read:member`, and `local-machine`
        the first and the last; bob is a member of `acme` and `globex` without any role.

        Args:
            audience: The resource indicator.
            redirect_uris: Redirect URIs of `local-spa`; left empty, any `http` URI on
                the loopback addresses.
        """
        read, write = "read:user", "write:user"
        spare, full = "local-machine-without-roles", "local-machine"
        return cls(
            resources=[Resource(indicator=audience, scopes={read: "Read users", write: "Change users"})],
            users=[
                User(id="alice0000001", username="alice", name="Alice Example", scopes={audience: [read, write]}),
                User(id="bob000000001", username="bob", name="Bob Example", scopes={audience: [read]}),
                User(id="carol0000001", username="carol", name="Carol Example"),
            ],
            machines=[
                Machine(client_id=full, client_secret=f"{full}-secret", scopes={audience: [read, write]}),
                Machine(client_id=spare, client_secret=f"{spare}-secret"),
            ],
            applications=[Application(client_id="local-spa", redirect_uris=redirect_uris)],
            organizations=[
                LocalOrganization(
                    id="acme",
                    members={
                        "alice0000001": {audience: [read, write], ORGANIZATIONS: ["read:member"]},
                        "bob000000001": {},
                        full: {audience: [read], ORGANIZATIONS: ["read:member"]},
                    },
                ),
                LocalOrganization(id="globex", members={"bob000000001": {}}),
            ],
        )

    @property
    def clients(self) -> Sequence[Application | Machine]:
        """The applications, then the machines."""
        return [*self.applications, *self.machines]

    def find_resource(self, indicator: str) -> Resource | None:
        """Give the resource of this indicator, compared as a plain string."""
        return next((resource for resource in self.resources if resource.indicator == indicator), None)

    def find_user(self, username: str) -> User | None:
        """Give the user of this username."""
        return next((user for user in self.users if user.username == username), None)

    def find_client(self, client_id: str) -> Application | Machine | None:
        """Give the application or machine of this client id."""
        return next((client for client in self.clients if client.client_id == client_id), None)

    def find_organization(self, organization_id: str, *, member: str) -> LocalOrganization | None:
        """Give the organization of this id, where somebody is a member of it."""
        found = next((one for one in self.organizations if one.id == organization_id), None)
        return found if found is not None and member in found.members else None

    def list_held(self, user: User, resource: str) -> Sequence[str]:
        """Give the scopes of a resource that a user's plain token carries: also those of all organization roles.

        Logto does that, and an API of several tenants must not take such a token for one of a tenant.
        """
        roles = [one.members[user.id].get(resource, ()) for one in self.organizations if user.id in one.members]
        return tuple(dict.fromkeys([*user.scopes.get(resource, ()), *(name for names in roles for name in names)]))

    def _check_held(self, scopes: Mapping[str, Collection[str]]) -> None:
        for indicator, names in scopes.items():
            resource = self.find_resource(indicator)
            if resource is None:
                msg = f"scopes: expected a resource of this directory, found {indicator[:80]!r}"
                raise ValueError(msg)
            for name in names:
                if name not in resource.scopes:
                    msg = f"scopes: expected scopes of {indicator[:80]!r}, found {name[:80]!r}"
                    raise ValueError(msg)


def _check_unique(what: str, values: Iterable[str]) -> None:
    for value, count in Counter(values).items():
        if count > 1:
            msg = f"{what}: expected each once, found {value[:80]!r} {count} times"
            raise ValueError(msg)
