"""The commands `scopes diff` and `scopes push`."""

from collections.abc import Collection
from pathlib import Path
from typing import Annotated, Final

import typer

from fastapi_logto.cli.applications import load_application
from fastapi_logto.cli.machines import MANAGEMENT_CLIENT, find_credentials
from fastapi_logto.cli.management import ManagementApi, sign_in
from fastapi_logto.cli.options import ClientId, EnvFile, Json, Kind, ManagementResource, Only, Target, Without
from fastapi_logto.cli.rendering import render_scopes
from fastapi_logto.cli.results import CommandError
from fastapi_logto.cli.scopes import (
    PermissionKind,
    RequiredResource,
    ScopesReport,
    compare,
    find_tenant,
    list_required,
    push,
)
from fastapi_logto.cli.terminal import confirm, open_progress, open_terminal, print_result
from fastapi_logto.cli.token_input import can_ask
from fastapi_logto.provider.transport import Transport
from fastapi_logto.urls import find_management_resource

scopes_app: Final = typer.Typer(
    help="Compare the scopes of your routes with the permissions in Logto, and create the missing ones.",
    epilog="Authenticates as a machine-to-machine application. Its client ID comes from --client-id or "
    f"{MANAGEMENT_CLIENT}_ID, its secret from {MANAGEMENT_CLIENT}_SECRET or a prompt. The application needs a machine "
    "role with access to the Management API.",
    no_args_is_help=True,
    rich_markup_mode=None,
)


def _compare(
    target: str,
    *,
    only: Collection[str],
    without: Collection[str],
    client_id: str | None,
    management_resource: str | None,
    env_file: Path,
    kind: PermissionKind | None,
    is_exact: bool = False,
) -> tuple[tuple[RequiredResource, ...], ManagementApi, ScopesReport]:
    """Return the API resources of an application, the Management API, and the difference between the two."""
    application = load_application(target)
    settings = find_tenant(application)
    required = list_required(application, only=only, without=without)
    credentials = find_credentials(settings, client_id=client_id, env_file=env_file, prefix=MANAGEMENT_CLIENT)
    transport = Transport(timeout_seconds=settings.fetch_timeout_seconds)
    resource = management_resource or find_management_resource(settings.endpoint)
    with open_progress() as progress:
        progress(f"Signing in at {settings.fetch_base}")
        api = sign_in(settings, credentials, resource=resource, transport=transport)
        progress("Reading the permissions")
        return required, api, compare(required, api, tenant=settings.endpoint, kind=kind, is_exact=is_exact)


@scopes_app.command("diff", epilog="Example: fastapi-logto scopes diff main:app")
def scopes_diff(
    target: Annotated[str, Target],
    *,
    exact: Annotated[bool, typer.Option("--exact", help="Also count permissions that no route requires.")] = False,
    only: Annotated[list[str] | None, Only] = None,
    without: Annotated[list[str] | None, Without] = None,
    kind: Annotated[PermissionKind | None, Kind] = None,
    client_id: Annotated[str | None, ClientId] = None,
    management_resource: Annotated[str | None, ManagementResource] = None,
    env_file: Annotated[Path, EnvFile] = Path(".env"),
    is_json: Annotated[bool, Json] = False,
) -> None:
    """Show the scopes in your code that are missing in Logto.

    Changes nothing. Exits with 1 if a scope or an API resource is missing, or with --exact, if Logto has a permission
    that no route requires; for CI.
    """
    _, _, report = _compare(
        target,
        only=only or (),
        without=without or (),
        client_id=client_id,
        management_resource=management_resource,
        env_file=env_file,
        kind=kind,
        is_exact=exact,
    )
    advice = "Create them with fastapi-logto scopes push."
    rendered = render_scopes(report, console=open_terminal(), advice=advice)
    print_result(report, is_json=is_json, rendered=rendered)
    raise typer.Exit(report.exit_code)


@scopes_app.command("push", epilog="Example: fastapi-logto scopes push main:app")
def scopes_push(
    target: Annotated[str, Target],
    *,
    yes: Annotated[bool, typer.Option("--yes", help="Do not prompt.")] = False,
    name: Annotated[str, typer.Option(help="Name for a new API resource.")] = "API",
    only: Annotated[list[str] | None, Only] = None,
    without: Annotated[list[str] | None, Without] = None,
    kind: Annotated[PermissionKind | None, Kind] = None,
    client_id: Annotated[str | None, ClientId] = None,
    management_resource: Annotated[str | None, ManagementResource] = None,
    env_file: Annotated[Path, EnvFile] = Path(".env"),
    is_json: Annotated[bool, Json] = False,
) -> None:
    """Create the scopes in your code that are missing in Logto.

    Shows the difference and prompts, then creates API resources, permissions and organization permissions. Existing
    ones stay unchanged and nothing is ever deleted, so it is safe to run again.
    """
    required, api, report = _compare(
        target,
        only=only or (),
        without=without or (),
        client_id=client_id,
        management_resource=management_resource,
        env_file=env_file,
        kind=kind,
    )
    if report.differs:
        terminal = open_terminal(is_error=True)
        terminal.show(render_scopes(report, console=terminal))
        if report.organization is not None and report.organization.undecided:
            raise CommandError(_explain_undecided(report.organization.undecided))
        if not yes:
            if not can_ask():
                raise CommandError(
                    "expected a terminal for the prompt, found none; nothing was changed; pass --yes to skip the prompt"
                )
            confirm("Create them in Logto?")
        with open_progress() as progress:
            progress("Creating API resources and permissions")
            report = push(required, api, report, name=name)
    print_result(report, is_json=is_json, rendered=render_scopes(report, console=open_terminal()))
    raise typer.Exit(report.exit_code)


def _explain_undecided(scopes: Collection[str]) -> str:
    return (
        f"expected --organization-scopes organization or api, found neither; routes that require an organization need "
        f"{', '.join(scopes)}, which can be organization permissions (for organization tokens) or permissions of the "
        "API resource (for its tokens in an organization); nothing was changed"
    )
