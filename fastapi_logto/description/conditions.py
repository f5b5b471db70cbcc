"""The conditions of a requirement, in words and as example errors."""

from typing import Any

from fastapi_logto.errors import (
    ActorNotAllowedError,
    ActorRequiredError,
    ClientNotAllowedError,
    ForbiddenError,
    MachineRequiredError,
    OrganizationMismatchError,
    OrganizationRequiredError,
    UserRequiredError,
)
from fastapi_logto.organizations import OrganizationSource
from fastapi_logto.requirements import Requirement
from fastapi_logto.verification.check_errors import build_any_scope_error, build_predicate_error


def describe_conditions(requirement: Requirement[Any]) -> list[str]:
    """Return the conditions of a requirement other than `scopes`, one per line."""
    lines: list[str] = []
    if requirement.any_scope:
        lines.append(f"one of the scopes {', '.join(f'`{scope}`' for scope in requirement.any_scope)}")
    if requirement.organization is not None:
        lines.append(f"a token for {_describe_source(requirement.organization)}")
    if requirement.caller is not None:
        lines.append(f"a {requirement.caller} as the caller")
    if requirement.clients:
        lines.append("a token that was issued to an allowed application")
    if requirement.actor is not None:
        lines.append(_describe_actor(requirement.actor))
    if requirement.claims is not None:
        lines.append(requirement.description)
    return lines


def _describe_actor(actor: bool | tuple[str, ...]) -> str:  # noqa: FBT001 - as in `Requirement`
    if actor is False:
        return "a token without an actor"
    return f"an {'' if actor is True else 'allowed '}actor who acts on behalf of a user"


def _describe_source(source: OrganizationSource) -> str:
    if source.kind == "path":
        return f"the organization in the path, `{{{source.name}}}`"
    if source.kind == "header":
        return f"the organization in the header `{source.name}`"
    return "the organization of the requested data" if source.kind == "dependency" else "any organization"


def build_refusals(requirement: Requirement[Any]) -> list[ForbiddenError]:
    """Return example errors for conditions other than `scopes`, one of each kind."""
    refusals: list[ForbiddenError] = []
    if requirement.organization is not None:
        refusals.append(OrganizationRequiredError())
        if requirement.organization.kind != "token":
            refusals.append(OrganizationMismatchError())
    if requirement.any_scope:
        refusals.append(build_any_scope_error(requirement.any_scope, granted="another"))
    if requirement.caller is not None:
        refusals.append(UserRequiredError() if requirement.caller == "user" else MachineRequiredError())
    if requirement.clients:
        refusals.append(ClientNotAllowedError())
    if requirement.actor is not None:
        refusals.append(ActorNotAllowedError() if requirement.actor is False else ActorRequiredError())
    if requirement.claims is not None:
        refusals.append(build_predicate_error(requirement.description))
    return refusals
