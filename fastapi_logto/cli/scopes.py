"""Compare the scopes that an application's routes require with the permissions in Logto.

A scope is a permission of an API resource. A scope of a route that accepts organization tokens may also be an
organization permission, which belongs to the tenant's organization template. The code doesn't say which.
"""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final, Literal, TypeAlias

from fastapi_logto.cli.management import ManagementApi
from fastapi_logto.cli.results import CommandError, ExitCode
from fastapi_logto.description.routes import RouteInfo, iter_routes
from fastapi_logto.redaction import quote
from fastapi_logto.schemes import AnyScheme, find_policy, find_resources, find_state
from fastapi_logto.settings import LogtoSettings

PermissionKind: TypeAlias = Literal["organization", "api"]
"""A permission of the organization template, or of an API resource."""

Routes: TypeAlias = Mapping[str, tuple[str, ...]]
"""Scopes, each with the routes that require it."""

_LONGEST_NAME: Final = 256
_LONGEST_DESCRIPTION: Final = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class RequiredResource:
    """An API resource as the code requires it.

    `scopes` are its permissions. `organization_scopes` are required only by routes that accept organization tokens:
    each is an organization permission, or a permission of this resource too.
    """

    indicator: str
    scopes: Routes
    organization_scopes: Routes = field(default_factory=dict[str, tuple[str, ...]])


@dataclass(frozen=True, slots=True, kw_only=True)
class ResourceDifference:
    """The difference between an API resource in Logto and in the code.

    `missing` scopes are only in the code, `extra` permissions only in Logto. The extra ones are left alone, because a
    role or another program may use them.
    """

    indicator: str
    exists: bool
    missing: tuple[str, ...]
    present: tuple[str, ...]
    extra: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class OrganizationDifference:
    """The difference between the organization permissions in Logto and in the code.

    `undecided` scopes are missing in Logto, as organization permissions and as permissions of the API resource.
    """

    missing: tuple[str, ...]
    present: tuple[str, ...]
    extra: tuple[str, ...]
    undecided: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ScopesReport:
    """The difference between a tenant and the code, before or after a push.

    `organization` is `None` if no route that accepts organization tokens requires a scope.
    """

    tenant: str
    resources: tuple[ResourceDifference, ...]
    organization: OrganizationDifference | None
    is_pushed: bool
    exit_code: int

    @property
    def differs(self) -> bool:
        """Whether an API resource or a scope is missing in Logto."""
        found = self.organization
        return any(not one.exists or one.missing for one in self.resources) or (
            found is not None and bool(found.missing or found.undecided)
        )


def list_required(
    app: object, *, only: Collection[str] = (), without: Collection[str] = ()
) -> tuple[RequiredResource, ...]:
    """Return the API resources of an application's routes, with the scopes that the routes require.

    `only` selects resources, all by default. `without` excludes scopes.
    """
    # Dictionaries are used as ordered sets.
    required: dict[str, dict[str, dict[str, None]]] = {}
    certain: set[tuple[str, str]] = set()
    for route in iter_routes(app):
        name = f"{' '.join(sorted(route.methods)) or 'WEBSOCKET'} {route.path}"
        for scheme, scopes in _find_scopes(route):
            for indicator in find_resources(scheme):
                names = required.setdefault(indicator, {})
                for scope in scopes:
                    _check_name(scope)
                    names.setdefault(scope, {})[name] = None
                    if not _accepts_organizations(scheme):
                        certain.add((indicator, scope))
    unknown = set(only) - required.keys()
    if unknown or not required:
        found = ", ".join(sorted(required)) or "no protected route"
        expected = f"routes of the API resource {', '.join(sorted(unknown))}" if unknown else "protected routes"
        raise CommandError(f"expected {expected}, found {found}")

    def select(indicator: str, *, is_certain: bool) -> Routes:
        names = required[indicator]
        left = sorted(names.keys() - set(without))
        return {scope: tuple(names[scope]) for scope in left if ((indicator, scope) in certain) is is_certain}

    return tuple(
        RequiredResource(
            indicator=indicator,
            scopes=select(indicator, is_certain=True),
            organization_scopes=select(indicator, is_certain=False),
        )
        for indicator in sorted(required)
        if not only or indicator in only
    )


def find_tenant(app: object) -> LogtoSettings:
    """Return the settings of the application's tenant; raise if it has no protected route or several tenants."""
    schemes = [scheme for route in iter_routes(app) for scheme in route.schemes]
    found = {settings.endpoint: settings for scheme in schemes for settings in find_state(scheme).tenants}
    if len(found) != 1:
        raise CommandError(f"expected protected routes of one tenant, found {', '.join(sorted(found)) or 'none'}")
    return next(iter(found.values()))


def find_given_tenant(app: object) -> LogtoSettings | None:
    """Return the settings that an application passes in code; `None` if it reads the environment."""
    states = [find_state(scheme) for route in iter_routes(app) for scheme in route.schemes]
    return None if states and not any(state.given for state in states) else find_tenant(app)


def _find_scopes(route: RouteInfo) -> Iterator[tuple[AnyScheme[Any], tuple[str, ...]]]:
    yield from ((call.scheme, call.scopes) for call in route.calls)
    yield from ((requirement.scheme, requirement.any_scope) for requirement in route.requirements)


def _accepts_organizations(scheme: AnyScheme[Any]) -> bool:
    accepts = any(settings.accept_organization_tokens for settings in find_state(scheme).tenants)
    return find_policy(scheme).accepts_organizations and accepts


def _check_name(scope: str) -> None:
    if not scope or scope.split() != [scope] or len(scope) > _LONGEST_NAME:
        raise CommandError(f"expected a scope of 1 to {_LONGEST_NAME} characters without spaces, found {quote(scope)}")


def compare(
    required: Collection[RequiredResource],
    api: ManagementApi,
    *,
    tenant: str,
    kind: PermissionKind | None = None,
    is_exact: bool = False,
) -> ScopesReport:
    """Compare the code with Logto. Changes nothing.

    `kind` is the kind of permission for missing scopes that can be of either kind. With `is_exact`, permissions of an
    API resource that no route requires count as a difference too. Organization permissions belong to the whole tenant,
    so extra ones never count.
    """
    has_organization = any(one.organization_scopes for one in required)
    held = set(api.list_organization_scopes()) if has_organization else set[str]()
    resources = tuple(_compare_one(one, api, held=held, kind=kind) for one in required)
    names = {scope for one in required for scope in one.organization_scopes}
    rest = [
        one.organization_scopes.keys() - held - {*found.present, *found.missing}
        for one, found in zip(required, resources, strict=True)
    ]
    missing = tuple(sorted(set[str]().union(*rest)))
    organization = OrganizationDifference(
        missing=missing if kind == "organization" else (),
        present=tuple(sorted(names & held)),
        extra=tuple(sorted(held - names)),
        undecided=() if kind == "organization" else missing,
    )
    report = ScopesReport(
        tenant=tenant,
        resources=resources,
        organization=organization if has_organization else None,
        is_pushed=False,
        exit_code=ExitCode.FINE,
    )
    differs = report.differs or (is_exact and any(one.extra for one in resources))
    return replace(report, exit_code=ExitCode.FAILED if differs else ExitCode.FINE)


def _compare_one(
    required: RequiredResource, api: ManagementApi, *, held: Collection[str], kind: PermissionKind | None
) -> ResourceDifference:
    """Compare an API resource; `held` are the organization permissions in Logto."""
    resource_id = api.find_resource_id(required.indicator)
    present: set[str] = set() if resource_id is None else set(api.list_scopes(resource_id))
    others = [scope for scope in required.organization_scopes if scope not in held]
    wanted = sorted([*required.scopes, *(scope for scope in others if scope in present or kind == "api")])
    return ResourceDifference(
        indicator=required.indicator,
        exists=resource_id is not None,
        missing=tuple(scope for scope in wanted if scope not in present),
        present=tuple(scope for scope in wanted if scope in present),
        extra=tuple(sorted(present - required.scopes.keys() - required.organization_scopes.keys())),
    )


def push(
    required: Collection[RequiredResource], api: ManagementApi, report: ScopesReport, *, name: str
) -> ScopesReport:
    """Create the missing entries and compare again. Changes no existing entry and deletes nothing.

    After a failure, running it again continues where it stopped.
    """
    routes = {one.indicator: {**one.organization_scopes, **one.scopes} for one in required}
    for difference in report.resources:
        if difference.exists and not difference.missing:
            continue
        indicator = difference.indicator
        resource_id = api.find_resource_id(indicator) or api.create_resource(indicator, name=name)
        for scope in difference.missing:
            api.create_scope(resource_id, scope, description=_describe(routes[indicator][scope]))
    for scope in () if report.organization is None else report.organization.missing:
        names = dict.fromkeys(route for found in routes.values() for route in found.get(scope, ()))
        api.create_organization_scope(scope, description=_describe(tuple(names)))
    return replace(compare(required, api, tenant=report.tenant), is_pushed=True)


def _describe(routes: tuple[str, ...]) -> str:
    text = f"For {', '.join(routes)}"
    return text if len(text) <= _LONGEST_DESCRIPTION else f"{text[: _LONGEST_DESCRIPTION - 1]}…"
