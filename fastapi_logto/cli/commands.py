"""The commands. Each command computes a result and shows it."""

import io
import logging
import sys
from collections.abc import Sequence
from enum import StrEnum
from importlib import metadata
from pathlib import Path
from typing import Annotated, Final

import typer

from fastapi_logto.cli.applications import load_application
from fastapi_logto.cli.doctor.diagnosis import diagnose
from fastapi_logto.cli.doctor.revocation import find_revocations
from fastapi_logto.cli.faults import explain_fault, explain_usage
from fastapi_logto.cli.inspection import inspect_token
from fastapi_logto.cli.local import describe_issuer, open_issuer
from fastapi_logto.cli.options import DOCS_URL, App, EnvFile, Json, Target, check_docs_url
from fastapi_logto.cli.rendering import (
    render_diagnosis,
    render_inspection,
    render_issuer,
    render_markdown,
    render_routes,
)
from fastapi_logto.cli.results import CommandError, ExitCode
from fastapi_logto.cli.route_table import list_routes
from fastapi_logto.cli.scaffold import check_environment, list_local_variables, list_variables, write_application
from fastapi_logto.cli.scope_commands import scopes_app
from fastapi_logto.cli.scopes import find_given_tenant
from fastapi_logto.cli.terminal import ask, open_progress, open_terminal, print_result, warn, write
from fastapi_logto.cli.token_command import token
from fastapi_logto.cli.token_input import can_ask, check_arguments, prompt_token, read_token
from fastapi_logto.cli.webhook_commands import webhook_app
from fastapi_logto.errors import SettingsError
from fastapi_logto.settings import LogtoSettings

app: Final = typer.Typer(
    name="fastapi-logto",
    epilog="Exit codes: 0 success, 1 a check failed, 2 invalid usage or settings, 70 internal error. Tokens are read "
    "from standard input or a prompt, and sent only where the help of a command says so.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

app.add_typer(scopes_app, name="scopes", short_help="Compare scopes with Logto, and create the missing ones.")
app.add_typer(webhook_app, name="webhook", short_help="Set up the webhook that tells an API which tokens to revoke.")


def _show_version(value: bool) -> None:  # noqa: FBT001 - the form of a callback
    if value:
        write(metadata.version("fastapi-logto"))
        raise typer.Exit


@app.callback()
def describe(
    *,
    _version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Diagnose rejected tokens, list route requirements, sync scopes with Logto."""


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


@app.command(
    epilog="Examples: fastapi-logto doctor, fastapi-logto doctor --token --scope read:user, "
    "fastapi-logto doctor --app main:app"
)
def doctor(
    *,
    token: Annotated[bool, typer.Option("--token", help="Prompt for a token and check it too.")] = False,
    token_stdin: Annotated[bool, typer.Option("--token-stdin", help="Check a token from standard input too.")] = False,
    scope: Annotated[list[str] | None, typer.Option(help="Scope that the route requires; repeatable.")] = None,
    application: Annotated[str | None, App] = None,
    docs_url: Annotated[
        str, typer.Option(callback=check_docs_url, help="URL of your docs page; its sign-in is checked.")
    ] = DOCS_URL,
    env_file: Annotated[Path, EnvFile] = Path(".env"),
    is_json: Annotated[bool, Json] = False,
) -> None:
    """Check settings, tenant and token, and suggest fixes.

    Checks the settings and their source; the tenant's DNS name, TLS, discovery document, clock, issuer and keys; the
    sign-in of Swagger UI; if configured, the webhook, its delivery log and the revocation store; and with --token, the
    signature, claims and scopes of a token. The token is checked on this machine and not sent anywhere.
    """
    if token and token_stdin:
        raise CommandError("expected --token or --token-stdin, found both; omit one")
    loaded = None if application is None else load_application(application)
    given = None if application is None else find_given_tenant(loaded)
    revocations = () if application is None else find_revocations(loaded)
    found = read_token() if token_stdin else prompt_token() if token else None
    with open_progress() as progress:
        diagnosis = diagnose(
            env_file=env_file,
            given=given,
            revocations=revocations,
            docs_url=docs_url,
            token=found,
            scopes=scope or (),
            progress=progress,
        )
    print_result(diagnosis, is_json=is_json, rendered=render_diagnosis(diagnosis, console=open_terminal()))
    raise typer.Exit(diagnosis.exit_code)


@app.command(epilog="Examples: fastapi-logto inspect --verify, fastapi-logto inspect < token.txt")
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
    print_result(inspection, is_json=is_json, rendered=render_inspection(inspection, console=open_terminal()))
    is_failed = inspection.kind == "unreadable" or (verify and not inspection.is_verified)
    raise typer.Exit(ExitCode.FAILED if is_failed else ExitCode.FINE)


@app.command(
    epilog="Examples: fastapi-logto routes main:app, fastapi-logto routes main:app --fail-unprotected --allow /health"
)
def routes(
    target: Annotated[str, Target],
    *,
    fail_unprotected: Annotated[
        bool,
        typer.Option(
            "--fail-unprotected",
            help="Exit with 1 if a route reads no token, for CI; with auth.optional, it does.",
        ),
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
        print_result(table, is_json=is_json or form is Format.JSON, rendered=rendered)
    raise typer.Exit(table.exit_code)


@app.command(epilog="Examples: fastapi-logto dev, fastapi-logto dev --file people.toml --port 3002")
def dev(
    *,
    file: Annotated[Path | None, typer.Option(help="TOML file of users, roles and organizations.")] = None,
    audience: Annotated[str | None, typer.Option(help="API resource of the example users.")] = None,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port; 0 for any free port.")] = 3001,
    allow_remote: Annotated[
        bool,
        typer.Option(
            "--allow-remote", help="Allow a --host that other machines can reach, and webhooks to other machines."
        ),
    ] = False,
    allowed_host: Annotated[
        list[str] | None,
        typer.Option(help="Accept requests to this host too, e.g. issuer:3001 in a container network; repeatable."),
    ] = None,
    webhook: Annotated[
        str | None, typer.Option(help="URL of your webhook route; it receives all events, with a signature.")
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
        webhook=webhook,
    )
    from fastapi_logto.testing.issuer.serving import run_until_signal  # noqa: PLC0415 - needs uvicorn

    running = describe_issuer(issuer, has_known_secrets=file is None)
    print_result(running, is_json=is_json, rendered=render_issuer(running))
    run_until_signal(issuer.app, sock=sock)


@app.command(epilog="Examples: fastapi-logto init, fastapi-logto init --local")
def init(
    *,
    local: Annotated[bool, typer.Option("--local", help="Use the local issuer of fastapi-logto dev.")] = False,
    endpoint: Annotated[str | None, typer.Option(help="URL of the tenant; otherwise you are prompted.")] = None,
    audience: Annotated[str | None, typer.Option(help="API identifier in Logto; otherwise you are prompted.")] = None,
) -> None:
    """Write a small protected application into the current folder.

    Writes .env, main.py and test_main.py. Never changes a file: if one of them exists, nothing is written. Without
    --local, then checks the tenant like doctor.
    """
    check_environment()
    if not local:
        endpoint = endpoint or _ask("--endpoint", "Endpoint of the tenant, e.g. https://tenant-id.logto.app")
        audience = audience or _ask("--audience", "API identifier in Logto, e.g. https://api.example.com")
        variables = list_variables(endpoint=endpoint, audience=audience)
    elif endpoint or audience:
        raise CommandError("expected --local or --endpoint and --audience, found both; omit one")
    else:
        variables = list_local_variables()
    *names, last = write_application(Path(), variables)
    write(f"Created {', '.join(names)} and {last}.")
    code = ExitCode.FINE
    if not local:
        with open_progress() as progress:
            diagnosis = diagnose(env_file=Path(".env"), docs_url=DOCS_URL, progress=progress)
        print_result(diagnosis, is_json=False, rendered=render_diagnosis(diagnosis, console=open_terminal()))
        code = diagnosis.exit_code
    write(
        "\nNext, each in its own terminal:"
        + ("\nfastapi-logto dev" if local else "")
        + "\nfastapi dev\npytest    # after: pip install pytest"
    )
    raise typer.Exit(code)


def _ask(option: str, question: str) -> str:
    if not can_ask():
        raise CommandError(f"expected a terminal for the prompt, found none; pass {option}")
    return ask(question)


app.command(
    epilog="Examples: fastapi-logto token --user alice, fastapi-logto token --sign-in --app main:app, "
    'curl -H "Authorization: Bearer $(fastapi-logto token --user alice)" http://127.0.0.1:8000/user/info'
)(token)
