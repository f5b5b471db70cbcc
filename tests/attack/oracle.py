"""Rules for which caller is accepted where: a table and a few comparisons that share no code with the package.

A request is accepted if, and only if, every dependency of the route accepts it. The first one that refuses, in
FastAPI's order, decides the status.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

NAMED_ORGANIZATION: Final = "acme"
"""The organization that each request names, in its path and in a header."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """The credentials of a request.

    Attributes:
        id: Name of the row.
        credentials: No token, an invalid token or a valid one.
        audience: The audience: the API, the other API, or an organization.
        scopes: The granted scopes.
        organization: The organization of the token.
        is_machine: Whether the token is a machine's own.
        client: The client id.
        actor: The actor on the user's behalf.
        plan: The custom claim `plan`.
    """

    id: str
    credentials: Literal["none", "invalid", "valid"] = "valid"
    audience: Literal["api", "other", "organization"] = "api"
    scopes: frozenset[str] = frozenset()
    organization: str | None = None
    is_machine: bool = False
    client: str = "spa"
    actor: str | None = None
    plan: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """The requirements of one dependency.

    Attributes:
        audience: The API whose tokens it accepts.
        is_optional: Whether a request without a token passes.
        is_open: Whether every request passes because the dependency is overridden.
        scopes: Scopes that must all be granted.
        any_scope: Scopes of which one must be granted.
        organization: Whether the token must be for the named organization, for any organization, or neither.
        caller: The required kind of caller.
        clients: Client ids that may call.
        actor: `True` and `False` as in `auth.require`; a name for one actor alone.
        plan: The required custom claim.
    """

    audience: Literal["api", "other"] = "api"
    is_optional: bool = False
    is_open: bool = False
    scopes: frozenset[str] = frozenset()
    any_scope: frozenset[str] = frozenset()
    organization: Literal["named", "any"] | None = None
    caller: Literal["user", "machine"] | None = None
    clients: frozenset[str] = frozenset()
    actor: bool | str | None = None
    plan: str | None = None


_BOTH: Final = frozenset({"read", "write"})

CALLERS: Final = (
    Caller(id="no token", credentials="none"),
    Caller(id="forged token", credentials="invalid", scopes=_BOTH),
    Caller(id="user", scopes=_BOTH, plan="pro"),
    Caller(id="user without scopes"),
    Caller(id="user with one scope", scopes=frozenset({"read"}), client="other-spa"),
    Caller(id="machine", scopes=_BOTH, is_machine=True, client="machine", plan="free"),
    Caller(id="machine in the organization", scopes=_BOTH, is_machine=True, client="machine", organization="acme"),
    Caller(id="member", scopes=_BOTH, organization="acme", plan="pro"),
    Caller(id="member without scopes", organization="acme"),
    Caller(id="member of another organization", scopes=_BOTH, organization="globex", plan="pro"),
    Caller(id="organization token", audience="organization", scopes=_BOTH, organization="acme", plan="pro"),
    Caller(id="organization token of another", audience="organization", scopes=_BOTH, organization="globex"),
    Caller(id="user behind support", scopes=_BOTH, actor="support", plan="pro"),
    Caller(id="member behind somebody", scopes=_BOTH, actor="somebody", organization="acme"),
    Caller(id="user of the other API", audience="other", scopes=_BOTH, plan="pro"),
    Caller(id="member at the other API", audience="other", scopes=_BOTH, organization="acme"),
)


def judge(rule: Rule, caller: Caller) -> int:
    """Return the status of one dependency: 200 if it accepts the caller."""
    if rule.is_open:
        return 200
    if caller.credentials == "none":
        return 200 if rule.is_optional and not rule.scopes else 401
    if caller.credentials == "invalid":
        return 401
    if caller.audience == "organization":
        if rule.organization is None:
            return 401
    elif caller.audience != rule.audience:
        return 401
    return 200 if _has_what_is_required(rule, caller) else 403


def _has_what_is_required(rule: Rule, caller: Caller) -> bool:
    return all(
        (
            rule.scopes <= caller.scopes,
            not rule.any_scope or bool(rule.any_scope & caller.scopes),
            rule.organization is None or caller.organization is not None,
            rule.organization != "named" or caller.organization == NAMED_ORGANIZATION,
            rule.caller is None or (rule.caller == "machine") == caller.is_machine,
            not rule.clients or caller.client in rule.clients,
            rule.actor is not True or caller.actor is not None,
            rule.actor is not False or caller.actor is None,
            not isinstance(rule.actor, str) or caller.actor == rule.actor,
            rule.plan is None or caller.plan == rule.plan,
        )
    )


def judge_all(rules: Sequence[Rule], caller: Caller) -> int:
    """Return the status of several dependencies in FastAPI's order."""
    return next((status for rule in rules if (status := judge(rule, caller)) != 200), 200)
