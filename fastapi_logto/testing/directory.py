"""The resources, users, machines, applications and organizations of a local issuer.

All values are frozen, and a `Directory` is checked when it is created: a scope that no resource defines is a
mistake in the test and raises an error.
"""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final, Self

from fastapi_logto.testing.dynamic_apps import DynamicApps
from fastapi_logto.testing.redirects import check_redirect_uris
from fastapi_logto.testing.signing import JsonValue
from fastapi_logto.testing.texts import as_text, as_texts

EXAMPLE_AUDIENCE: Final = "https://api.example.test"
_STANDARD_CLAIMS: Final = frozenset(
    {"act", "aud", "client_id", "exp", "iat", "iss", "jti", "organization_id", "scope", "sub"}
)
ORGANIZATIONS: Final = "urn:logto:resource:organizations"
"""Used instead of a resource indicator for the permissions of organizations, which belong to no API."""


def _freeze_scopes(scopes: Mapping[str, Collection[str]]) -> Mapping[str, Collection[str]]:
    return MappingProxyType({as_text(indicator): as_texts(names, what="scopes") for indicator, names in scopes.items()})


def _freeze_texts(entry: object, *names: str) -> None:
    for name in names:
        object.__setattr__(entry, name, as_text(getattr(entry, name)))


@dataclass(frozen=True, slots=True, kw_only=True)
class Resource:
    """An API resource, as registered in Logto.

    Attributes:
        indicator: The resource indicator, which becomes the `aud` of its tokens. It is
            compared as a plain string.
        scopes: The permissions of the API: name to description.
    """

    indicator: str
    scopes: Mapping[str, str] = field(default_factory=dict[str, str])

    def __post_init__(self) -> None:
        """Store plain texts, and a read-only copy of the scopes."""
        _freeze_texts(self, "indicator")
        scopes = {as_text(name): as_text(description) for name, description in self.scopes.items()}
        object.__setattr__(self, "scopes", MappingProxyType(scopes))


MANAGEMENT_API: Final = Resource(
    indicator="https://default.logto.app/api", scopes={"all": "Everything in the Management API"}
)
"""The resource that every self-hosted Logto has."""


@dataclass(frozen=True, slots=True, kw_only=True)
class User:
    """A user who can sign in without a password.

    Attributes:
        id: The user id, which becomes the `sub` of the user's tokens.
        username: The name for `login_hint` and the sign-in page.
        name: The display name.
        scopes: The user's scopes: resource indicator to scope names.
        is_suspended: Whether the user is suspended. Logto then rejects sign-in, refresh tokens, token exchange and
            userinfo. Issued JWTs stay valid.
        personal_access_tokens: Personal access tokens of the user, each starting with `pat_`; omitted from the `repr`.
            `LocalIssuer.personal_access_token()` creates more of them.
        custom_claims: Claims that the issuer's endpoints add to the user's access tokens, like a custom JWT script of
            Logto. They can't replace the claims that Logto sets.
    """

    id: str
    username: str
    name: str
    scopes: Mapping[str, Collection[str]] = field(default_factory=dict[str, Collection[str]])
    is_suspended: bool = False
    personal_access_tokens: Collection[str] = field(default=(), repr=False)
    custom_claims: Mapping[str, JsonValue] = field(default_factory=dict[str, JsonValue])

    def __post_init__(self) -> None:
        """Store plain texts and read-only copies; reject other personal access tokens, and claims that Logto sets."""
        _freeze_texts(self, "id", "username", "name")
        object.__setattr__(self, "scopes", _freeze_scopes(self.scopes))
        tokens = as_texts(self.personal_access_tokens, what="personal_access_tokens")
        object.__setattr__(self, "personal_access_tokens", tokens)
        if not all(token.startswith("pat_") for token in tokens):
            raise ValueError("personal_access_tokens: expected texts that start with 'pat_', found another")
        object.__setattr__(self, "custom_claims", MappingProxyType(dict(self.custom_claims)))
        if taken := _STANDARD_CLAIMS & self.custom_claims.keys():
            raise ValueError(f"custom_claims: expected no claim that Logto sets, found {', '.join(sorted(taken))}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """A machine-to-machine application; its client id is the `sub` of its tokens.

    Attributes:
        client_id: The client id.
        client_secret: The client secret; omitted from the `repr`.
        scopes: The machine's scopes: resource indicator to scope names. `{"https://default.logto.app/api": ["all"]}`
            allows the Management API.
    """

    client_id: str
    client_secret: str = field(repr=False)
    scopes: Mapping[str, Collection[str]] = field(default_factory=dict[str, Collection[str]])

    def __post_init__(self) -> None:
        """Store plain texts, and a read-only copy of the scopes."""
        _freeze_texts(self, "client_id", "client_secret")
        object.__setattr__(self, "scopes", _freeze_scopes(self.scopes))


@dataclass(frozen=True, slots=True, kw_only=True)
class Application:
    """A public single-page application: authorization code with PKCE, no secret.

    Attributes:
        client_id: The client id.
        redirect_uris: The allowed redirect URIs, compared exactly. **If empty, any `http` URI on
            `localhost`, `127.0.0.1` or `[::1]` is allowed**, with any port and path. This is
            convenient for development; Logto itself does not allow it.
        post_logout_redirect_uris: The URIs to which a sign-out may return, with the same rules.
        is_third_party: Whether it is a third-party application. Logto does not exchange its tokens.
        backchannel_logout_uri: Where `LocalIssuer.end_session()` sends logout tokens; `None` sends none.
    """

    client_id: str
    redirect_uris: Collection[str] = ()
    post_logout_redirect_uris: Collection[str] = ()
    is_third_party: bool = False
    backchannel_logout_uri: str | None = None

    def __post_init__(self) -> None:
        """Store plain texts, and reject URIs that are not plain `http(s)` URIs without a fragment."""
        _freeze_texts(self, "client_id")
        for name in ("redirect_uris", "post_logout_redirect_uris"):
            uris = as_texts(getattr(self, name), what=name)
            object.__setattr__(self, name, uris)
            check_redirect_uris(uris, what=name)
        if self.backchannel_logout_uri is not None:
            _freeze_texts(self, "backchannel_logout_uri")
            check_redirect_uris([self.backchannel_logout_uri], what="backchannel_logout_uri")


@dataclass(frozen=True, slots=True, kw_only=True)
class Organization:
    """An organization of the local issuer, and the scopes of its members by their organization roles.

    Attributes:
        id: The organization id.
        members: The members: user id, or client id of a machine, to scopes in the organization. The scopes map a
            resource indicator to scope names, and `urn:logto:resource:organizations` to organization permissions. A
            member without a role has no scopes.
    """

    id: str
    members: Mapping[str, Mapping[str, Collection[str]]] = field(
        default_factory=dict[str, Mapping[str, Collection[str]]]
    )

    def __post_init__(self) -> None:
        """Store plain texts, and a read-only copy of the members."""
        _freeze_texts(self, "id")
        members = {as_text(member): _freeze_scopes(scopes) for member, scopes in self.members.items()}
        object.__setattr__(self, "members", MappingProxyType(members))


@dataclass(frozen=True, slots=True, kw_only=True)
class Directory:
    """The resources, users and clients of a local issuer.

    The first user, application, machine and resource are the defaults for tokens that the issuer mints directly.

    Attributes:
        resources: API resources. The Management API, `https://default.logto.app/api`, always exists.
        users: Users.
        machines: Machine-to-machine applications.
        applications: Single-page applications.
        organizations: Organizations.
        dynamic_apps: The settings for applications that are not registered; `None` rejects such applications.
    """

    resources: Sequence[Resource] = ()
    users: Sequence[User] = ()
    machines: Sequence[Machine] = ()
    applications: Sequence[Application] = ()
    organizations: Sequence[Organization] = ()
    dynamic_apps: DynamicApps | None = None

    def __post_init__(self) -> None:
        """Reject contradictory entries.

        Raises:
            ValueError: An id or token is not unique, a scope belongs to no resource, or a member is unknown.
        """
        for name in ("resources", "users", "machines", "applications", "organizations"):
            object.__setattr__(self, name, tuple(getattr(self, name)))
        _check_unique("resource indicator", (resource.indicator for resource in self.resources))
        _check_unique("user id", (user.id for user in self.users))
        _check_unique("username", (user.username for user in self.users))
        tokens = [token for user in self.users for token in user.personal_access_tokens]
        if len(set(tokens)) < len(tokens):
            raise ValueError("personal_access_tokens: expected unique tokens, found one twice")
        client_ids = [application.client_id for application in self.applications]
        client_ids.extend(machine.client_id for machine in self.machines)
        _check_unique("client id", client_ids)
        for user in self.users:
            self._check_held(user.scopes)
        for machine in self.machines:
            self._check_held(machine.scopes, MANAGEMENT_API)
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
        """Return the directory of the examples and the demo.

        It has one resource with `read:user` and `write:user`; the users alice (both scopes), bob
        (`read:user`) and carol (none); the application `local-spa`; and the machines
        `local-machine` (both scopes, and the Management API) and `local-machine-without-roles`
        (none). A machine's secret is its client id followed by `-secret`. In the organization
        `acme`, alice has `read:user`, `write:user` and the organization permission `read:member`,
        and `local-machine` has `read:user` and `read:member`. bob is a member of `acme` and
        `globex` without a role.

        Args:
            audience: The resource indicator.
            redirect_uris: Redirect URIs of `local-spa`; if empty, any `http` URI on the loopback
                addresses is allowed.
        """
        audience = as_text(audience)
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
                Machine(
                    client_id=full,
                    client_secret=f"{full}-secret",
                    scopes={MANAGEMENT_API.indicator: ["all"], audience: [read, write]},
                ),
                Machine(client_id=spare, client_secret=f"{spare}-secret"),
            ],
            applications=[Application(client_id="local-spa", redirect_uris=redirect_uris)],
            organizations=[
                Organization(
                    id="acme",
                    members={
                        "alice0000001": {audience: [read, write], ORGANIZATIONS: ["read:member"]},
                        "bob000000001": {},
                        full: {audience: [read], ORGANIZATIONS: ["read:member"]},
                    },
                ),
                Organization(id="globex", members={"bob000000001": {}}),
            ],
        )

    def _check_held(self, scopes: Mapping[str, Collection[str]], *built_in: Resource) -> None:
        resources = {resource.indicator: resource for resource in (*built_in, *self.resources)}
        for indicator, names in scopes.items():
            resource = resources.get(indicator)
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
            msg = f"{what}: expected unique values, found {value[:80]!r} {count} times"
            raise ValueError(msg)
