"""The dependencies of the composition matrix, each with its rule for the oracle."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Annotated, Any, Final

from fastapi import Depends, Security

from fastapi_logto import LogtoAuth, OrganizationSource, TokenClaims
from tests.attack.oracle import Rule

OTHER_API: Final = "https://other.example.test"
_READ: Final = frozenset({"read"})
_WRITE: Final = frozenset({"write"})
_SUPPORT: Final = "support"

RULES: Final[dict[str, Rule]] = {
    "auth": Rule(),
    "auth.optional": Rule(is_optional=True),
    "require_scopes": Rule(scopes=_READ),
    "require_scopes of two": Rule(scopes=_READ | _WRITE),
    "require_any_scope": Rule(any_scope=frozenset({"write", "admin"})),
    "require_organization": Rule(organization="named"),
    "require_organization with a scope": Rule(organization="named", scopes=_WRITE),
    "require_organization from a header": Rule(organization="named"),
    "require_organization from a dependency": Rule(organization="named"),
    "require_organization from the token": Rule(organization="any"),
    "require_user": Rule(caller="user"),
    "require_user with a scope": Rule(caller="user", scopes=_READ),
    "require_machine": Rule(caller="machine"),
    "require_client": Rule(clients=frozenset({"spa"})),
    "require_actor": Rule(actor=True),
    "require_actor of one": Rule(actor=_SUPPORT),
    "require_no_actor": Rule(actor=False),
    "require_claims": Rule(plan="pro"),
    "require of several": Rule(scopes=_READ, caller="user", actor=False, plan="pro"),
    "require of several in an organization": Rule(
        organization="named", any_scope=_WRITE, clients=frozenset({"spa", "machine"})
    ),
    "Security(auth)": Rule(scopes=_READ),
    "Security(auth.optional)": Rule(is_optional=True, scopes=_WRITE),
    "other": Rule(audience="other"),
    "other.optional": Rule(audience="other", is_optional=True),
    "other.require_scopes": Rule(audience="other", scopes=_READ),
    "other.require_organization": Rule(audience="other", organization="named"),
    "Security(other)": Rule(audience="other", scopes=_WRITE),
    "the application's dependency": Rule(scopes=_READ),
    "Security of the application's dependency": Rule(scopes=_READ | _WRITE),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """A dependency.

    Attributes:
        id: Name of the row.
        rule: The rule for the oracle.
        marker: The dependency for a route, as a default or in its list of dependencies.
        requirement: The argument for `mount_protected`, if it can be one.
    """

    id: str
    rule: Rule
    marker: Any = field(repr=False)
    requirement: Callable[..., Any] | None = field(repr=False, default=None)


def find_organization(organization_id: str) -> str:
    """Return the organization of the path, as a dependency of the application does."""
    return organization_id


def _is_pro(claims: TokenClaims) -> bool:
    """Accept callers of the plan `pro`."""
    return bool((claims.model_extra or {})["plan"] == "pro")


def build_other(auth: LogtoAuth) -> LogtoAuth:
    """Return the scheme of the other API."""
    return auth.for_audience(OTHER_API, scheme_name="Other")


def build_nodes(auth: LogtoAuth) -> tuple[Node, ...]:
    """Return every dependency of the matrix."""
    other = build_other(auth)

    async def own(claims: Annotated[TokenClaims, Depends(auth.require_scopes("read"))]) -> TokenClaims:
        return claims

    callables: dict[str, Callable[..., Any]] = {
        "auth": auth,
        "require_scopes": auth.require_scopes("read"),
        "require_scopes of two": auth.require_scopes("read", "write"),
        "require_any_scope": auth.require_any_scope("write", "admin"),
        "require_organization": auth.require_organization(),
        "require_organization with a scope": auth.require_organization("write"),
        "require_organization from a header": auth.require_organization(
            organization=OrganizationSource.from_header("X-Organization")
        ),
        "require_organization from a dependency": auth.require_organization(
            organization=OrganizationSource.from_dependency(find_organization)
        ),
        "require_organization from the token": auth.require_organization(organization=OrganizationSource.from_token()),
        "require_user": auth.require_user(),
        "require_user with a scope": auth.require_user("read"),
        "require_machine": auth.require_machine(),
        "require_client": auth.require(clients=["spa"]),
        "require_actor": auth.require(actor=True),
        "require_actor of one": auth.require(actor=[_SUPPORT]),
        "require_no_actor": auth.require(actor=False),
        "require_claims": auth.require(claims=_is_pro),
        "require of several": auth.require(scopes=["read"], caller="user", actor=False, claims=_is_pro),
        "require of several in an organization": auth.require(
            organization=OrganizationSource.from_path(), any_scope=["write"], clients=["spa", "machine"]
        ),
        "other": other,
        "other.require_scopes": other.require_scopes("read"),
        "other.require_organization": other.require_organization(),
    }
    markers: dict[str, Any] = {
        "auth.optional": Depends(auth.optional),
        "Security(auth)": Security(auth, scopes=["read"]),
        "Security(auth.optional)": Security(auth.optional, scopes=["write"]),
        "other.optional": Depends(other.optional),
        "Security(other)": Security(other, scopes=["write"]),
        "the application's dependency": Depends(own),
        "Security of the application's dependency": Security(own, scopes=["write"]),
    }
    return tuple(
        Node(id=name, rule=rule, marker=markers.get(name) or Depends(callables[name]), requirement=callables.get(name))
        for name, rule in RULES.items()
    )
