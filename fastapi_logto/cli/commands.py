"""The commands. Each command computes a result and shows it."""

import io
import logging
import sys
from collections.abc import Collection, Sequence
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from fastapi_logto.cli.applications import load_application
from fastapi_logto.cli.doctor.diagnosis import diagnose
from fastapi_logto.cli.faults import explain_fault, explain_usage
from fastapi_logto.cli.inspection import inspect_token
from fastapi_logto.cli.local import describe_issuer, open_issuer
from fastapi_logto.cli.machines import MACHINE, MANAGEMENT_CLIENT, find_credentials
from fastapi_logto.cli.management import ManagementApi, find_management_resource, sign_in
from fastapi_logto.cli.minting import mint_for_machine, mint_for_user
from fastapi_logto.cli.options import (
    ClientId,
    EnvFile,
    Json,
    ManagementResource,
    Only,
    Target,
    Without,
    check_docs_url,
)
from fastapi_logto.cli.rendering import (
    render_diagnosis,
    render_inspection,
    render_issuer,
    render_markdown,
    render_routes,
    render_scopes,
)
from fastapi_logto.cli.results import CommandError, ExitCode, to_json
from fastapi_logto.cli.route_table import list_routes
from fastapi_logto.cli.scopes import RequiredResource, ScopesReport, compare, find_tenant, list_required, push
from fastapi_logto.cli.terminal import confirm, open_progress, open_terminal, show, warn, write
from fastapi_logto.cli.token_input import can_ask, check_arguments, prompt_token, read_token
from fastapi_logto.errors import SettingsError
from fastapi_logto.provider.transport import Transport
from fastapi_logto.settings import LogtoSettings

__all__ = ["app", "run"]

app: Final = typer.Typer(
    name="fastapi-logto",
    help="Diagnose rejected tokens, list route requirements, sync scopes with Logto.",
    epilog="Exit codes: 0 success, 1 a check failed, 2 invalid usage or settings, 70 internal error. Tokens are read "
    "from standard input or a prompt, and sent only where the help of a command says so.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)

scopes_app: Final = typer.Typer(
    help="Compare the scopes of your routes with the permissions in Logto, and create the missing ones.",
    epilog="Authenticates as a machine-to-machine application. Its client ID comes from --client-id or "
    f"{MANAGEMENT_CLIENT}_ID, its secret from {MANAGEMENT_CLIENT}_SECRET or a prompt. The application needs a machine "
    "role with access to the Management API.",
    no_args_is_help=True,
    rich_markup_mode=None,
)
app.add_typer(scopes_app, name="scopes", short_help="Compare scopes with Logto, and create the missing ones.")


class Format(StrEnum):
    """Output format of `routes`."""

    TABLE = "table"
    MARKDOWN = "markdown"
    JSON = "json"


def run(arguments: Sequence[str] | None) -> int:
    """Run the command line and return the exit code."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # Characters that the terminal's encoding lacks are replaced; otherwise they cause a traceback.
            stream.reconfigure(errors="replace")
    # The result already contains failed fetches; the log would print them a second time.
    logging.getLogger("fastapi_logto").addHandler(logging.NullHandler())
    arguments = sys.argv[1:] if arguments is None else arguments
    code: object = ExitCode.FINE
    try:
        check_arguments(arguments)
        # Typer must not print its own messages: they repeat the arguments.
        code = app(args=list(arguments), prog_name="fastapi-logto", standalone_mode=False)
    except (CommandError, SettingsError) as error:
        warn(f"fastapi-logto: {error}")
        code = ExitCode.USAGE
    except typer.Abort:
        warn("Aborted!")
        code = ExitCode.FAILED
    except Exception as error:  # noqa: BLE001 - the top of the command line: no traceback, which may show a secret
        usage = explain_usage(error)
        warn(explain_fault(error) if usage is None else usage)
        code = ExitCode.FAULT if usage is None else ExitCode.USAGE
    return code if isinstance(code, int) else ExitCode.FINE


def _print(value: Any, *, is_json: bool, rendered: Any) -> None:  # noqa: ANN401 - any result, and its rendering
    if is_json:
        write(to_json(value))
    else:
        show(rendered)


@app.command()
def doctor(
    *,
    token: Annotated[bool, typer.Option("--token", help="Prompt for a token and check it too.")] = False,
    token_stdin: Annotated[bool, typer.Option("--token-stdin", help="Check a token from standard input too.")] = False,
    scope: Annotated[list[str] | None, typer.Option(help="Scope that the route requires; repeatable.")] = None,
    docs_url: Annotated[
        str, typer.Option(callback=check_docs_url, help="URL of your docs page; its sign-in is checked.")
    ] = "http://127.0.0.1:8000/docs",
    env_file: Annotated[Path, EnvFile] = Path(".env"),
    is_json: Annotated[bool, Json] = False,
) -> None:
    """Check settings, tenant and token, and suggest fixes.

    Checks the settings and their source, then the tenant's DNS name, TLS, discovery document, clock, issuer and keys,
    then the sign-in of Swagger UI, and then a token, with every check of a request. The token is checked on this
    machine and not sent anywhere.
    """
    if token and token_stdin:
        raise CommandError("expected --token or --token-stdin, found both; omit one")
    found = read_token() if token_stdin else prompt_token() if token else None
    with open_progress() as progress:
        diagnosis = diagnose(env_file=env_file, docs_url=docs_url, token=found, scopes=scope or (), progress=progress)
    _print(diagnosis, is_json=is_json, rendered=render_diagnosis(diagnosis, console=open_terminal()))
    raise typer.Exit(diagnosis.exit_code)


@app.command()
def inspect(
    *,
    verify: Annotated[bool, typer.Option("--verify", help="Fetch the tenant's keys and verify the token.")] = False,
    env_file: Annotated[Path, EnvFile] = Path(".env"),
    is_json: Annotated[bool, Json] = False,
) -> None:
    """Show what a token contains and which routes would accept it.

    Shows the kind of the token, its subject, claims and times, and the routes that would accept it. The token is read
    from standard input or a prompt. Nothing is verified without --verify: anyone can create a token with any contents.
    The token is not sent anywhere, and its signature is not shown.
    """
    settings = None
    try:
        settings = LogtoSettings.from_environment(env_file=env_file)
    except SettingsError:
        if verify:
            raise
    token = prompt_token()
    with open_progress():
        inspection = inspect_token(token, settings=settings, is_to_be_verified=verify)
    _print(inspection, is_json=is_json, rendered=render_inspection(inspection, console=open_terminal()))
    is_failed = inspection.kind == "unreadable" or (verify and not inspection.is_verified)
    raise typer.Exit(ExitCode.FAILED if is_failed else ExitCode.FINE)


@app.command()
def routes(
    target: Annotated[str, Target],
    *,
    fail_unprotected: Annotated[
        bool, typer.Option("--fail-unprotected", help="Exit with 1 if a route is not protected; for CI.")
    ] = False,
    allow: Annotated[
        list[str] | None, typer.Option(help="Path that may be unprotected, e.g. /health; repeatable.")
    ] = None,
    form: Annotated[Format, typer.Option("--format", help="Output format.")] = Format.TABLE,
    is_json: Annotated[bool, Json] = False,
) -> None:
    """List an application's routes and what they require.

    Marks routes that need no token. Imports the application, from the current directory first, and does not start it.
    """
    table = list_routes(load_application(target), allowed=allow or (), fails_unprotected=fail_unprotected)
    if form is Format.MARKDOWN and not is_json:
        write(render_markdown(table))
    else:
        rendered = render_routes(table, console=open_terminal())
        _print(table, is_json=is_json or form is Format.JSON, rendered=rendered)
    raise typer.Exit(table.exit_code)


@app.command()
def dev(
    *,
    file: Annotated[Path | None, typer.Option(help="TOML file of users, roles and organizations.")] = None,
    audience: Annotated[str | None, typer.Option(help="API resource of the example users.")] = None,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port; 0 for any free port.")] = 3001,
    allow_remote: Annotated[bool, typer.Option("--allow-remote", help="Allow a --host that others can reach.")] = False,
    allowed_host: Annotated[
        list[str] | None,
        typer.Option(help="Accept requests to this host too, e.g. issuer:3001 in a container network; repeatable."),
    ] = None,
    is_json: Annotated[bool, Json] = False,
) -> None:
    """Run a local issuer, for development only.

    Behaves like Logto and signs real tokens, but needs no password: anyone who can connect can sign in as any user.
    By default it therefore listens only on this machine. Prints the variables for .env; Ctrl-C stops it.
    """
    issuer, sock = open_issuer(
        path=file,
        audience=audience,
        host=host,
        port=port,
        allow_remote=allow_remote,
        allowed_hosts=allowed_host or (),
    )
    from fastapi_logto.testing.issuer.serving import run_until_signal  # noqa: PLC0415 - needs uvicorn

    running = describe_issuer(issuer)
    _print(running, is_json=is_json, rendered=render_issuer(running))
    run_until_signal(issuer.app, sock=sock)


@app.command()
def token(
    *,
    user: Annotated[str | None, typer.Option(help="User of the running local issuer.")] = None,
    machine: Annotated[bool, typer.Option("--machine", help="Use a machine-to-machine application instead.")] = False,
    scope: Annotated[list[str] | None, typer.Option(help="Scope to request; repeatable.")] = None,
    resource: Annotated[str | None, typer.Option(help="API resource; LOGTO_AUDIENCE by default.")] = None,
    organization: Annotated[str | None, typer.Option(help="Organization ID, for permissions inside it.")] = None,
    client_id: Annotated[
        str | None,
        typer.Option(
            help="Client ID of the user's application (LOGTO_SWAGGER_CLIENT_ID by default) or of the machine."
        ),
    ] = None,
    redirect_uri: Annotated[
        str, typer.Option(help="Redirect URI of the user's application.")
    ] = "http://127.0.0.1:8000/docs/oauth2-redirect",
    env_file: Annotated[Path, EnvFile] = Path(".env"),
    is_json: Annotated[bool, Json] = False,
) -> None:
    """Print an access token to try out an API.

    A user's token comes from a local issuer (fastapi-logto dev). A machine's token comes from any tenant; its secret
    is read from LOGTO_MACHINE_SECRET or a prompt. Only the token is printed on standard output:
    TOKEN=$(fastapi-logto token ...).
    """
    if (user is None) is not machine:
        raise CommandError(f"expected either --user or --machine, found {'both' if machine else 'neither'}")
    settings = LogtoSettings.from_environment(env_file=env_file)
    scopes, target = scope or [], resource or settings.audience[0]
    if user is not None:
        minted = mint_for_user(
            settings,
            Transport(timeout_seconds=settings.fetch_timeout_seconds),
            username=user,
            client_id=client_id or settings.swagger_client_id or "local-spa",
            redirect_uri=redirect_uri,
            resource=target,
            scopes=scopes,
            organization_id=organization,
        )
    else:
        credentials = find_credentials(settings, client_id=client_id, env_file=env_file, prefix=MACHINE)
        minted = mint_for_machine(settings, credentials, resource=target, scopes=scopes, organization_id=organization)
    if minted.missing:
        warn(f"not granted and not in the token: {' '.join(minted.missing)}")
    write(to_json(minted) if is_json else minted.access_token)


def _compare(
    target: str,
    *,
    only: Collection[str],
    without: Collection[str],
    client_id: str | None,
    management_resource: str | None,
    env_file: Path,
    is_exact: bool = False,
) -> tuple[tuple[RequiredResource, ...], ManagementApi, ScopesReport]:
    """Return the API resources of an application, the Management API, and the difference between the two."""
    application = load_application(target)
    settings = find_tenant(application)
    required = list_required(application, only=only, without=without)
    credentials = find_credentials(settings, client_id=client_id, env_file=env_file, prefix=MANAGEMENT_CLIENT)
    transport = Transport(timeout_seconds=settings.fetch_timeout_seconds)
    resource = management_resource or find_management_resource(settings)
    with open_progress() as progress:
        progress(f"Signing in at {settings.fetch_base}")
        api = sign_in(settings, credentials, resource=resource, transport=transport)
        progress("Reading the permissions")
        return required, api, compare(required, api, tenant=settings.endpoint, is_exact=is_exact)


@scopes_app.command("diff")
def scopes_diff(
    target: Annotated[str, Target],
    *,
    exact: Annotated[bool, typer.Option("--exact", help="Also count permissions that no route requires.")] = False,
    only: Annotated[list[str] | None, Only] = None,
    without: Annotated[list[str] | None, Without] = None,
    client_id: Annotated[str | None, ClientId] = None,
    management_resource: Annotated[str | None, ManagementResource] = None,
    env_file: Annotated[Path, EnvFile] = Path(".env"),
    is_json: Annotated[bool, Json] = False,
) -> None:
    """Show the scopes in your code that are missing in Logto.

    Changes nothing. Exits with 1 if a scope or an API resource is missing; for CI.
    """
    _, _, report = _compare(
        target,
        only=only or (),
        without=without or (),
        client_id=client_id,
        management_resource=management_resource,
        env_file=env_file,
        is_exact=exact,
    )
    _print(report, is_json=is_json, rendered=render_scopes(report, console=open_terminal()))
    raise typer.Exit(report.exit_code)


@scopes_app.command("push")
def scopes_push(
    target: Annotated[str, Target],
    *,
    yes: Annotated[bool, typer.Option("--yes", help="Do not prompt.")] = False,
    name: Annotated[str, typer.Option(help="Name for a new API resource.")] = "API",
    only: Annotated[list[str] | None, Only] = None,
    without: Annotated[list[str] | None, Without] = None,
    client_id: Annotated[str | None, ClientId] = None,
    management_resource: Annotated[str | None, ManagementResource] = None,
    env_file: Annotated[Path, EnvFile] = Path(".env"),
    is_json: Annotated[bool, Json] = False,
) -> None:
    """Create the scopes in your code that are missing in Logto.

    Shows the difference and prompts, then creates API resources and permissions. Existing ones stay unchanged and
    nothing is ever deleted, so it is safe to run again.
    """
    required, api, report = _compare(
        target,
        only=only or (),
        without=without or (),
        client_id=client_id,
        management_resource=management_resource,
        env_file=env_file,
    )
    if report.differs:
        terminal = open_terminal(is_error=True)
        terminal.print(render_scopes(report, console=terminal))
        if not yes:
            if not can_ask():
                raise CommandError(
                    "expected a terminal for the prompt, found none; nothing was changed; pass --yes to skip the prompt"
                )
            confirm("Create them in Logto?")
        with open_progress() as progress:
            progress("Creating API resources and permissions")
            report = push(required, api, report, name=name)
    _print(report, is_json=is_json, rendered=render_scopes(report, console=open_terminal()))
    raise typer.Exit(report.exit_code)
