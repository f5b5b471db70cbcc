"""The scopes that an application's routes ask for, beside the permissions that its API resources have in Logto."""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from fastapi_logto.cli.management import ManagementApi
from fastapi_logto.cli.results import CommandError, ExitCode
from fastapi_logto.errors import quote
from fastapi_logto.routes import FoundRoute, iter_routes
from fastapi_logto.settings import LogtoSettings

__all__ = ["ResourceDifference", "ScopesReport", "WantedResource", "compare", "find_tenant", "list_wanted", "push"]

_LONGEST_NAME: Final = 256
_LONGEST_DESCRIPTION: Final = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class WantedResource:
    """An API resource as the code wants it.

    Attributes:
        indicator: Its indicator.
        scopes: Its scopes, and the routes that ask for each.
    """

    indicator: str
    scopes: Mapping[str, tuple[str, ...]]


@dataclass(frozen=True, slots=True, kw_only=True)
class ResourceDifference:
    """How an API resource differs from what the code wants.

    Attributes:
        indicator: Its indicator.
        exists: Whether Logto has it.
        missing: Scopes that Logto lacks.
        present: Scopes that both have.
        extra: Permissions that no route asks for; left alone, because a role or another program may use them.
    """

    indicator: str
    exists: bool
    missing: tuple[str, ...]
    present: tuple[str, ...]
    extra: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ScopesReport:
    """The difference, and what was done about it.

    Attributes:
        tenant: The tenant's endpoint.
        resources: The API resources.
        is_pushed: Whether what was missing was created.
        exit_code: What the command ends with.
    """

    tenant: str
    resources: tuple[ResourceDifference, ...]
    is_pushed: bool
    exit_code: int

    @property
    def differs(self) -> bool:
        """Whether Logto lacks something."""
        return any(not one.exists or one.missing for one in self.resources)


def list_wanted(
    app: object, *, only: Collection[str] = (), without: Collection[str] = ()
) -> tuple[WantedResource, ...]:
    """Give the API resources that the routes of an application are for, and the scopes that they ask for.

    Args:
        app: The application.
        only: Resource indicators to look at; all when empty.
        without: Scopes to leave out: permissions of organizations, which belong to no API resource.

    Raises:
        CommandError: The application has no protected route, or a scope that Logto can't have.
    """
    # Dictionaries for sets that keep their order.
    wanted: dict[str, dict[str, dict[str, None]]] = {}
    for route in iter_routes(app):
        name = f"{' '.join(sorted(route.methods)) or 'WEBSOCKET'} {route.path}"
        for indicator, scopes in _find_scopes(route):
            names = wanted.setdefault(indicator, {})
            for scope in scopes:
                _check_name(scope)
                names.setdefault(scope, {})[name] = None
    unknown = set(only) - wanted.keys()
    if unknown or not wanted:
        found = ", ".join(sorted(wanted)) or "no protected route"
        expected = f"routes of the API resource {', '.join(sorted(unknown))}" if unknown else "protected routes"
        raise CommandError(f"expected {expected}, found {found}")
    return tuple(
        WantedResource(
            indicator=indicator,
            scopes={scope: tuple(names[scope]) for scope in sorted(names) if scope not in without},
        )
        for indicator, names in sorted(wanted.items())
        if not only or indicator in only
    )


def find_tenant(app: object) -> LogtoSettings:
    """Give the settings of the tenant whose tokens an application's routes admit.

    Args:
        app: The application.

    Raises:
        CommandError: There is no protected route, or they are of several tenants.
        SettingsError: The environment lacks a setting.
    """
    schemes = [scheme for route in iter_routes(app) for scheme in route.schemes]
    found = {settings.endpoint: settings for scheme in schemes for settings in scheme.tenants}
    if len(found) != 1:
        raise CommandError(f"expected protected routes of one tenant, found {', '.join(sorted(found)) or 'none'}")
    return next(iter(found.values()))


def _find_scopes(route: FoundRoute) -> Iterator[tuple[str, tuple[str, ...]]]:
    for node in route.nodes:
        yield from ((indicator, node.scopes) for indicator in node.scheme.resources)
    for requirement in route.requirements:
        yield from ((indicator, requirement.any_scope) for indicator in requirement.scheme.resources)


def _check_name(scope: str) -> None:
    if not scope or scope.split() != [scope] or len(scope) > _LONGEST_NAME:
        raise CommandError(f"expected a scope of 1 to {_LONGEST_NAME} characters without spaces, found {quote(scope)}")


def compare(
    wanted: Collection[WantedResource], api: ManagementApi, *, tenant: str, is_exact: bool = False
) -> ScopesReport:
    """Give how Logto differs from what the code wants. Changes nothing.

    Args:
        wanted: What the code wants.
        api: Logto's Management API.
        tenant: The tenant's endpoint.
        is_exact: Whether permissions that no route asks for are a difference too.

    Raises:
        CommandError: The API can't be reached or refuses.
    """
    resources = tuple(_compare_one(one, api) for one in wanted)
    differs = any(not one.exists or one.missing or (is_exact and one.extra) for one in resources)
    return ScopesReport(
        tenant=tenant,
        resources=resources,
        is_pushed=False,
        exit_code=ExitCode.FAILED if differs else ExitCode.FINE,
    )


def _compare_one(wanted: WantedResource, api: ManagementApi) -> ResourceDifference:
    resource_id = api.find_resource_id(wanted.indicator)
    present: set[str] = set() if resource_id is None else set(api.list_scopes(resource_id))
    return ResourceDifference(
        indicator=wanted.indicator,
        exists=resource_id is not None,
        missing=tuple(scope for scope in wanted.scopes if scope not in present),
        present=tuple(scope for scope in wanted.scopes if scope in present),
        extra=tuple(sorted(present - wanted.scopes.keys())),
    )


def push(wanted: Collection[WantedResource], api: ManagementApi, report: ScopesReport, *, name: str) -> ScopesReport:
    """Create what Logto lacks, and look once more. Changes nothing that is there, and deletes nothing.

    Args:
        wanted: What the code wants.
        api: Logto's Management API.
        report: The difference that was agreed to.
        name: The name for an API resource that is new.

    Raises:
        CommandError: The API can't be reached or refuses; running it again goes on where it stopped.
    """
    by_indicator = {one.indicator: one for one in wanted}
    for difference in report.resources:
        if difference.exists and not difference.missing:
            continue
        indicator = difference.indicator
        resource_id = api.find_resource_id(indicator) or api.create_resource(indicator, name=name)
        for scope in difference.missing:
            api.create_scope(resource_id, scope, description=_describe(by_indicator[indicator].scopes[scope]))
    after = compare(wanted, api, tenant=report.tenant)
    return ScopesReport(
        tenant=report.tenant,
        resources=after.resources,
        is_pushed=True,
        exit_code=after.exit_code,
    )


def _describe(routes: tuple[str, ...]) -> str:
    text = f"For {', '.join(routes)}"
    return text if len(text) <= _LONGEST_DESCRIPTION else f"{text[: _LONGEST_DESCRIPTION - 1]}…"
