"""Compare the scopes that an application's routes require with the permissions of its API resources in Logto."""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Final

from fastapi_logto.cli.management import ManagementApi
from fastapi_logto.cli.results import CommandError, ExitCode
from fastapi_logto.description.routes import RouteInfo, iter_routes
from fastapi_logto.redaction import quote
from fastapi_logto.schemes import find_resources, find_state
from fastapi_logto.settings import LogtoSettings

__all__ = ["RequiredResource", "ResourceDifference", "ScopesReport", "compare", "find_tenant", "list_required", "push"]

_LONGEST_NAME: Final = 256
_LONGEST_DESCRIPTION: Final = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class RequiredResource:
    """An API resource as the code requires it: its scopes, each with the routes that require it."""

    indicator: str
    scopes: Mapping[str, tuple[str, ...]]


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
class ScopesReport:
    """The difference between a tenant and the code, before or after a push."""

    tenant: str
    resources: tuple[ResourceDifference, ...]
    is_pushed: bool
    exit_code: int

    @property
    def differs(self) -> bool:
        """Whether an API resource or a scope is missing in Logto."""
        return any(not one.exists or one.missing for one in self.resources)


def list_required(
    app: object, *, only: Collection[str] = (), without: Collection[str] = ()
) -> tuple[RequiredResource, ...]:
    """Return the API resources of an application's routes, with the scopes that the routes require.

    `only` selects resources, all by default. `without` excludes scopes, e.g. permissions of organizations, which
    belong to no API resource.
    """
    # Dictionaries are used as ordered sets.
    required: dict[str, dict[str, dict[str, None]]] = {}
    for route in iter_routes(app):
        name = f"{' '.join(sorted(route.methods)) or 'WEBSOCKET'} {route.path}"
        for indicator, scopes in _find_scopes(route):
            names = required.setdefault(indicator, {})
            for scope in scopes:
                _check_name(scope)
                names.setdefault(scope, {})[name] = None
    unknown = set(only) - required.keys()
    if unknown or not required:
        found = ", ".join(sorted(required)) or "no protected route"
        expected = f"routes of the API resource {', '.join(sorted(unknown))}" if unknown else "protected routes"
        raise CommandError(f"expected {expected}, found {found}")
    return tuple(
        RequiredResource(
            indicator=indicator,
            scopes={scope: tuple(names[scope]) for scope in sorted(names) if scope not in without},
        )
        for indicator, names in sorted(required.items())
        if not only or indicator in only
    )


def find_tenant(app: object) -> LogtoSettings:
    """Return the settings of the application's tenant; raise if it has no protected route or several tenants."""
    schemes = [scheme for route in iter_routes(app) for scheme in route.schemes]
    found = {settings.endpoint: settings for scheme in schemes for settings in find_state(scheme).tenants}
    if len(found) != 1:
        raise CommandError(f"expected protected routes of one tenant, found {', '.join(sorted(found)) or 'none'}")
    return next(iter(found.values()))


def _find_scopes(route: RouteInfo) -> Iterator[tuple[str, tuple[str, ...]]]:
    for call in route.calls:
        yield from ((indicator, call.scopes) for indicator in find_resources(call.scheme))
    for requirement in route.requirements:
        yield from ((indicator, requirement.any_scope) for indicator in find_resources(requirement.scheme))


def _check_name(scope: str) -> None:
    if not scope or scope.split() != [scope] or len(scope) > _LONGEST_NAME:
        raise CommandError(f"expected a scope of 1 to {_LONGEST_NAME} characters without spaces, found {quote(scope)}")


def compare(
    required: Collection[RequiredResource], api: ManagementApi, *, tenant: str, is_exact: bool = False
) -> ScopesReport:
    """Compare the code with Logto. Changes nothing. With `is_exact`, extra permissions count as a difference too."""
    resources = tuple(_compare_one(one, api) for one in required)
    differs = any(not one.exists or one.missing or (is_exact and one.extra) for one in resources)
    return ScopesReport(
        tenant=tenant,
        resources=resources,
        is_pushed=False,
        exit_code=ExitCode.FAILED if differs else ExitCode.FINE,
    )


def _compare_one(required: RequiredResource, api: ManagementApi) -> ResourceDifference:
    resource_id = api.find_resource_id(required.indicator)
    present: set[str] = set() if resource_id is None else set(api.list_scopes(resource_id))
    return ResourceDifference(
        indicator=required.indicator,
        exists=resource_id is not None,
        missing=tuple(scope for scope in required.scopes if scope not in present),
        present=tuple(scope for scope in required.scopes if scope in present),
        extra=tuple(sorted(present - required.scopes.keys())),
    )


def push(
    required: Collection[RequiredResource], api: ManagementApi, report: ScopesReport, *, name: str
) -> ScopesReport:
    """Create the missing entries and compare again. Changes no existing entry and deletes nothing.

    After a failure, running it again continues where it stopped.
    """
    by_indicator = {one.indicator: one for one in required}
    for difference in report.resources:
        if difference.exists and not difference.missing:
            continue
        indicator = difference.indicator
        resource_id = api.find_resource_id(indicator) or api.create_resource(indicator, name=name)
        for scope in difference.missing:
            api.create_scope(resource_id, scope, description=_describe(by_indicator[indicator].scopes[scope]))
    return replace(compare(required, api, tenant=report.tenant), is_pushed=True)


def _describe(routes: tuple[str, ...]) -> str:
    text = f"For {', '.join(routes)}"
    return text if len(text) <= _LONGEST_DESCRIPTION else f"{text[: _LONGEST_DESCRIPTION - 1]}…"
