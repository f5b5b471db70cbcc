"""The commands and their options; each does nothing but ask for a result and have it shown."""

import io
import logging
import sys
from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Final
from urllib.parse import urlsplit

import typer

from fastapi_logto.cli.applications import load_application
from fastapi_logto.cli.doctor import diagnose
from fastapi_logto.cli.faults import explain_fault, explain_usage
from fastapi_logto.cli.inspection import inspect_token
from fastapi_logto.cli.local import describe_issuer, open_issuer
from fastapi_logto.cli.machines import MACHINE, MANAGEMENT_CLIENT, find_credentials
from fastapi_logto.cli.management import ManagementApi, find_management_resource, sign_in
from fastapi_logto.cli.minting import mint_for_machine, mint_for_user
from fastapi_logto.cli.network import Network
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
from fastapi_logto.cli.scopes import compare, find_tenant, list_wanted, push
from fastapi_logto.cli.terminal import confirm, open_progress, open_terminal, show, warn, write
from fastapi_logto.cli.token_input import can_ask, check_arguments, prompt_token, read_token
from fastapi_logto.environment import is_file_or_pipe
from fastapi_logto.errors import SettingsError, quote
from fastapi_logto.settings import LogtoSettings, read_known_variables

__all__ = ["app", "run"]

app: Final = typer.Typer(
    name="fastapi-logto",
    help="Why is my token refused? What do my routes ask for? And what must Logto know of them?",
    epilog="Exit codes: 0 fine, 1 a check failed, 2 a wrong usage or setting, 70 a fault of the command. Tokens come "
    "from standard input or a prompt, and are never sent anywhere but where --help says so.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)

Json: Final = typer.Option("--json", help="Print JSON instead of tables.")


def _check_env_file(ctx: typer.Context, param: typer.CallbackParam, value: Path) -> Path:
    source = ctx.get_parameter_source(param.name or "")
    # Without the option `.env` does not have to exist, and the environment replaces it. With the option both would be
    # mistakes: another tenant would be checked, or be sent the secret, than the one that was named.
    if source is not None and source.name == "COMMANDLINE":
        if not is_file_or_pipe(value):
            raise CommandError(f"--env-file: expected a file of variables, found none at {value}")
        names = ", ".join(read_known_variables(env_file=None).values)
        if names:
            raise CommandError(
                f"--env-file: expected no LOGTO_ variable in the environment, found {names}; variables of two sources "
                "never mix: unset these, or omit --env-file"
            )
    return value


EnvFile: Final = typer.Option(
    "--env-file",
    callback=_check_env_file,
    help="A file of variables; read only if the environment sets none of them.",
)
Only: Final = typer.Option("--resource", help="Look at this API resource alone; several times.")
Without: Final = typer.Option("--except", help="A scope to leave out, an organization's permission say; several times.")
ClientId: Final = typer.Option("--client-id", help="The machine-to-machine application's id.")
ManagementResource: Final = typer.Option(
    "--management-resource", help="The Management API's indicator, where the endpoint is a custom domain."
)
Target: Final = typer.Argument(metavar="MODULE:APP", help="The application, such as example_app.main:app.")


scopes_app: Final = typer.Typer(
    help="Compare the scopes of your routes with the permissions in Logto, and create those that it lacks.",
    epilog=f"Signs in at the tenant as a machine-to-machine application: {MANAGEMENT_CLIENT}_ID, or --client-id; "
    f"{MANAGEMENT_CLIENT}_SECRET, or a prompt. It needs a machine role with access to the Management API.",
    no_args_is_help=True,
    rich_markup_mode=None,
)
app.add_typer(scopes_app, name="scopes", short_help="Compare scopes with Logto, and create what it lacks.")


class Format(StrEnum):
    """How routes are printed."""

    TABLE = "table"
    MARKDOWN = "markdown"
    JSON = "json"


def run(arguments: Sequence[str] | None) -> int:
    """Run the command line.

    Args:
        arguments: The arguments; those of the process when omitted.

    Returns:
        The exit code.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # A terminal that lacks a letter shows another one, instead of a traceback.
            stream.reconfigure(errors="replace")
    # What the package logs of a fetch that failed is in the result, and would be on the terminal twice.
    logging.getLogger("fastapi_logto").addHandler(logging.NullHandler())
    arguments = sys.argv[1:] if arguments is None else arguments
    code: object = ExitCode.FINE
    try:
        check_arguments(arguments)
        # Typer itself prints nothing: its messages repeat the arguments.
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


def _open_management(
    settings: LogtoSettings, *, client_id: str | None, resource: str | None, env_file: Path
) -> ManagementApi:
    credentials = find_credentials(settings, client_id=client_id, env_file=env_file, prefix=MANAGEMENT_CLIENT)
    network = Network(timeout_seconds=settings.fetch_timeout_seconds)
    with open_progress() as progress:
        progress(f"Signing in at {settings.fetch_base}")
        return sign_in(settings, credentials, resource=resource or find_management_resource(settings), network=network)


def _print(value: Any, *, is_json: bool, rendered: Any) -> None:  # noqa: ANN401 - any result, and its rendering
    if is_json:
        write(to_json(value))
    else:
        show(rendered)


def _check_url(value: str) -> str:
    try:
        parts = urlsplit(value)
        is_valid = parts.scheme in {"http", "https"} and parts.hostname is not None and parts.port != 0
    except ValueError:
        is_valid = False
    if not is_valid:
        raise CommandError(f"--docs-url: expected a URL such as http://127.0.0.1:8000/docs, found {quote(value)}")
    return value


@app.command()
def doctor(
    *,
    token: Annotated[bool, typer.Option("--token", help="Ask for a token, and check it too.")] = False,
    token_stdin: Annotated[bool, typer.Option("--token-stdin", help="Read that token from standard input.")] = False,
    scope: Annotated[list[str] | None, typer.Option(help="A scope that the route asks for; several times.")] = None,
    docs_url: Annotated[
        str, typer.Option(callback=_check_url, help="URL of your docs page, whose sign-in is tried.")
    ] = "http://127.0.0.1:8000/docs",
    env_file: Annotated[Path, EnvFile] = Path(".env"),
    is_json: Annotated[bool, Json] = False,
) -> None:
    """Check settings, tenant and token: what is wrong, and what to do.

    Checks in order: the settings and where each was found; name, TLS, discovery document, issuer, keys and clock of
    the tenant; the sign-in of Swagger UI; and a token, through every check of a request. The token is checked on this
    machine and sent nowhere.
    """
    if token and token_stdin:
        raise CommandError("expected --token or --token-stdin, one of them, found both")
    found = read_token() if token_stdin else prompt_token() if token else None
    with open_progress() as progress:
        diagnosis = diagnose(env_file=env_file, docs_url=docs_url, token=found, scopes=scope or (), progress=progress)
    _print(diagnosis, is_json=is_json, rendered=render_diagnosis(diagnosis, console=open_terminal()))
    raise typer.Exit(diagnosis.exit_code)


@app.command()
def inspect(
    *,
    verify: Annotated[bool, typer.Option("--verify", help="Fetch the tenant's keys and check it too.")] = False,
    env_file: Annotated[Path, EnvFile] = Path(".env"),
    is_json: Annotated[bool, Json] = False,
) -> None:
    """Show what a token says, and what it would open.

    Its kind, whom it speaks for, its times in words, and what it would be admitted to. The token comes from standard
    input or a prompt. Nothing of it is checked unless you ask for it: anybody can write a token that says anything.
    It is sent nowhere, and its signature is not shown.
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
        bool, typer.Option("--fail-unprotected", help="End with 1 where a route needs no token, for CI.")
    ] = False,
    allow: Annotated[
        list[str] | None, typer.Option(help="A path that may be unprotected, such as /health; several times.")
    ] = None,
    form: Annotated[Format, typer.Option("--format", help="How to print it.")] = Format.TABLE,
    is_json: Annotated[bool, Json] = False,
) -> None:
    """List an application's routes with what they ask for.

    Those that need no token are marked. Imports the application, from the current directory, and starts nothing.
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
    file: Annotated[Path | None, typer.Option(help="A TOML file of users, roles and organizations.")] = None,
    audience: Annotated[str | None, typer.Option(help="The API resource of the example's users.")] = None,
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port; 0 for any.")] = 3001,
    is_json: Annotated[bool, Json] = False,
) -> None:
    """Run a local issuer, for development only.

    It is shaped like Logto, with real signatures and no password: whoever reaches it signs in as anyone, so it listens
    on this machine alone. Prints what to put into .env; Ctrl-C ends it.
    """
    issuer, sock = open_issuer(path=file, audience=audience, port=port)
    from fastapi_logto.testing.serving import run_until_signal  # noqa: PLC0415 - needs uvicorn

    running = describe_issuer(issuer)
    _print(running, is_json=is_json, rendered=render_issuer(running))
    run_until_signal(issuer.app, sock=sock)


@app.command()
def token(
    *,
    user: Annotated[str | None, typer.Option(help="A user of the local issuer that runs.")] = None,
    machine: Annotated[bool, typer.Option("--machine", help="A machine-to-machine application instead.")] = False,
    scope: Annotated[list[str] | None, typer.Option(help="A scope to ask for; several times.")] = None,
    resource: Annotated[str | None, typer.Option(help="The API resource; LOGTO_AUDIENCE when left out.")] = None,
    organization: Annotated[str | None, typer.Option(help="For the permissions inside this organization.")] = None,
    client_id: Annotated[
        str | None,
        typer.Option(help="The user's application, LOGTO_SWAGGER_CLIENT_ID when left out; with --machine its id."),
    ] = None,
    redirect_uri: Annotated[
        str, typer.Option(help="A redirect URI of the user's application.")
    ] = "http://127.0.0.1:8000/docs/oauth2-redirect",
    env_file: Annotated[Path, EnvFile] = Path(".env"),
    is_json: Annotated[bool, Json] = False,
) -> None:
    """Print an access token to try an API out with.

    A user's comes from a local issuer (fastapi-logto dev), a machine's from any tenant, by its secret in
    LOGTO_MACHINE_SECRET or a prompt. The token is printed on standard output, alone: TOKEN=$(fastapi-logto token ...).
    """
    if (user is None) is not machine:
        raise CommandError("expected --user or --machine, one of them, found " + ("both" if machine else "none"))
    settings = LogtoSettings.from_environment(env_file=env_file)
    asked, target = scope or [], resource or settings.audience[0]
    if user is not None:
        minted = mint_for_user(
            settings,
            Network(timeout_seconds=settings.fetch_timeout_seconds),
            username=user,
            client_id=client_id or settings.swagger_client_id or "local-spa",
            redirect_uri=redirect_uri,
            resource=target,
            scopes=asked,
            organization_id=organization,
        )
    else:
        credentials = find_credentials(settings, client_id=client_id, env_file=env_file, prefix=MACHINE)
        minted = mint_for_machine(settings, credentials, resource=target, scopes=asked, organization_id=organization)
    if minted.missing:
        warn(f"not granted, and absent from the token: {' '.join(minted.missing)}")
    write(to_json(minted) if is_json else minted.access_token)


@scopes_app.command("diff")
def scopes_diff(
    target: Annotated[str, Target],
    *,
    exact: Annotated[
        bool, typer.Option("--exact", help="Permissions that no route asks for are a difference too.")
    ] = False,
    only: Annotated[list[str] | None, Only] = None,
    without: Annotated[list[str] | None, Without] = None,
    client_id: Annotated[str | None, ClientId] = None,
    management_resource: Annotated[str | None, ManagementResource] = None,
    env_file: Annotated[Path, EnvFile] = Path(".env"),
    is_json: Annotated[bool, Json] = False,
) -> None:
    """Show what Logto lacks of the scopes in your code.

    Changes nothing. Ends with 1 where Logto lacks something, for CI.
    """
    application = load_application(target)
    settings = find_tenant(application)
    wanted = list_wanted(application, only=only or (), without=without or ())
    api = _open_management(settings, client_id=client_id, resource=management_resource, env_file=env_file)
    with open_progress() as progress:
        progress("Reading the permissions")
        report = compare(wanted, api, tenant=settings.endpoint, is_exact=exact)
    _print(report, is_json=is_json, rendered=render_scopes(report, console=open_terminal()))
    raise typer.Exit(report.exit_code)


@scopes_app.command("push")
def scopes_push(
    target: Annotated[str, Target],
    *,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    name: Annotated[str, typer.Option(help="Name for an API resource that is new.")] = "API",
    only: Annotated[list[str] | None, Only] = None,
    without: Annotated[list[str] | None, Without] = None,
    client_id: Annotated[str | None, ClientId] = None,
    management_resource: Annotated[str | None, ManagementResource] = None,
    env_file: Annotated[Path, EnvFile] = Path(".env"),
    is_json: Annotated[bool, Json] = False,
) -> None:
    """Create in Logto what it lacks of the scopes in your code.

    Shows the difference, and asks. Creates API resources and permissions; what is there stays as it is, and nothing is
    ever deleted, so that it may run twice.
    """
    application = load_application(target)
    settings = find_tenant(application)
    wanted = list_wanted(application, only=only or (), without=without or ())
    api = _open_management(settings, client_id=client_id, resource=management_resource, env_file=env_file)
    with open_progress() as progress:
        progress("Reading the permissions")
        report = compare(wanted, api, tenant=settings.endpoint)
    if report.differs:
        terminal = open_terminal(is_error=True)
        terminal.print(render_scopes(report, console=terminal))
        if not yes:
            if not can_ask():
                raise CommandError("expected --yes where nobody can be asked, found none; nothing was changed")
            confirm("Create what is missing?")
        with open_progress() as progress:
            progress("Creating what is missing")
            report = push(wanted, api, report, name=name)
    _print(report, is_json=is_json, rendered=render_scopes(report, console=open_terminal()))
    raise typer.Exit(report.exit_code)
