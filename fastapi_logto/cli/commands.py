"""The commands. Each command computes a result and shows it."""

import io
import logging
import sys
from collections.abc import Coroutine, Sequence
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from fastapi_logto.cli.applications import load_application
from fastapi_logto.cli.device import DeviceCode, sign_in_by_device
from fastapi_logto.cli.doctor.diagnosis import diagnose
from fastapi_logto.cli.faults import explain_fault, explain_usage
from fastapi_logto.cli.inspection import inspect_token
from fastapi_logto.cli.local import describe_issuer, open_issuer
from fastapi_logto.cli.machines import MACHINE, NATIVE, NATIVE_DEVICE, find_client_id, find_credentials
from fastapi_logto.cli.minting import MintedToken, mint_by_sign_in, mint_for_machine, mint_for_user
from fastapi_logto.cli.options import EnvFile, Json, Target, check_docs_url
from fastapi_logto.cli.rendering import (
    render_diagnosis,
    render_inspection,
    render_issuer,
    render_markdown,
    render_routes,
)
from fastapi_logto.cli.results import CommandError, ExitCode, to_json
from fastapi_logto.cli.route_table import list_routes
from fastapi_logto.cli.scope_commands import scopes_app
from fastapi_logto.cli.scopes import find_tenant, list_required
from fastapi_logto.cli.sign_in import open_browser, sign_in
from fastapi_logto.cli.terminal import open_progress, open_terminal, print_result, warn, write
from fastapi_logto.cli.token_input import check_arguments, prompt_token, read_token
from fastapi_logto.cli.token_requests import TokenRequest, UserTokens
from fastapi_logto.errors import SettingsError
from fastapi_logto.provider.transport import Transport
from fastapi_logto.settings import LogtoSettings, read_known_variables

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
    print_result(diagnosis, is_json=is_json, rendered=render_diagnosis(diagnosis, console=open_terminal()))
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
    print_result(inspection, is_json=is_json, rendered=render_inspection(inspection, console=open_terminal()))
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
        print_result(table, is_json=is_json or form is Format.JSON, rendered=rendered)
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
    print_result(running, is_json=is_json, rendered=render_issuer(running))
    run_until_signal(issuer.app, sock=sock)


@app.command()
def token(
    *,
    browser: Annotated[bool, typer.Option("--sign-in", help="Sign in at the tenant, in the browser.")] = False,
    device: Annotated[
        bool, typer.Option("--device", help="Sign in at the tenant on another device, e.g. over SSH.")
    ] = False,
    machine: Annotated[bool, typer.Option("--machine", help="Use a machine-to-machine application.")] = False,
    user: Annotated[str | None, typer.Option(help="User of the running local issuer.")] = None,
    application: Annotated[
        str | None,
        typer.Option("--app", metavar="MODULE:APP", help="Request the scopes that this application's routes require."),
    ] = None,
    scope: Annotated[list[str] | None, typer.Option(help="Scope to request; repeatable.")] = None,
    resource: Annotated[str | None, typer.Option(help="API resource; LOGTO_AUDIENCE by default.")] = None,
    organization: Annotated[str | None, typer.Option(help="Organization ID, for permissions inside it.")] = None,
    client_id: Annotated[
        str | None,
        typer.Option(
            help="Client ID of the application, instead of LOGTO_NATIVE_ID (--sign-in), LOGTO_NATIVE_DEVICE_ID "
            "(--device), LOGTO_MACHINE_ID (--machine) or LOGTO_SWAGGER_CLIENT_ID (--user)."
        ),
    ] = None,
    redirect_uri: Annotated[
        str, typer.Option(help="Redirect URI of the application, for --user.")
    ] = "http://127.0.0.1:8000/docs/oauth2-redirect",
    timeout: Annotated[float, typer.Option(min=1, help="Seconds to wait for --sign-in.")] = 300,
    env_file: Annotated[Path, EnvFile] = Path(".env"),
    is_json: Annotated[bool, Json] = False,
) -> None:
    """Print an access token to try out an API.

    A user's token comes from any tenant (--sign-in, or --device without a browser) or from a local issuer (--user). A
    machine's token comes from any tenant (--machine); its secret is read from LOGTO_MACHINE_SECRET or a prompt. Only
    the token is printed on standard output: curl -H "Authorization: Bearer $(fastapi-logto token --sign-in)" ...
    """
    modes = {"--sign-in": browser, "--device": device, "--machine": machine, "--user": user is not None}
    chosen = [name for name, is_chosen in modes.items() if is_chosen]
    if len(chosen) != 1:
        raise CommandError(f"expected one of {', '.join(modes)}, found {' and '.join(chosen) or 'none'}")
    loaded = None if application is None else load_application(application)
    settings = LogtoSettings.from_environment(env_file=env_file) if loaded is None else find_tenant(loaded)
    target = resource or settings.audience[0]
    scopes = scope or (
        [] if loaded is None else _list_scopes(loaded, target, is_in_organization=organization is not None)
    )
    request = TokenRequest(resource=target, scopes=tuple(scopes), organization_id=organization)
    if user is not None:
        minted = mint_for_user(
            settings,
            request,
            username=user,
            client_id=client_id or settings.swagger_client_id or "local-spa",
            redirect_uri=redirect_uri,
        )
    elif machine:
        credentials = find_credentials(settings, client_id=client_id, env_file=env_file, prefix=MACHINE)
        minted = mint_for_machine(settings, credentials, request)
    else:
        minted = _sign_in(
            settings, request, is_device=device, client_id=client_id, env_file=env_file, timeout_seconds=timeout
        )
    if minted.missing:
        warn(f"not granted and not in the token: {' '.join(minted.missing)}")
    write(to_json(minted) if is_json else minted.access_token)


def _list_scopes(application: object, resource: str, *, is_in_organization: bool) -> list[str]:
    (required,) = list_required(application, only=[resource])
    return [*required.scopes, *(required.organization_scopes if is_in_organization else ())]


def _sign_in(
    settings: LogtoSettings,
    request: TokenRequest,
    *,
    is_device: bool,
    client_id: str | None,
    env_file: Path,
    timeout_seconds: float,
) -> MintedToken:
    variables = read_known_variables(env_file=env_file)
    transport = Transport(timeout_seconds=settings.fetch_timeout_seconds)
    tokens: Coroutine[Any, Any, UserTokens]
    if is_device:
        found = find_client_id(
            variables, client_id=client_id, prefix=NATIVE_DEVICE, kind="native application with device flow"
        )
        tokens = sign_in_by_device(settings, transport, request, client_id=found, announce=_announce_code)
    else:
        found = find_client_id(variables, client_id=client_id, prefix=NATIVE, kind="native application")
        tokens = sign_in(
            settings, transport, request, client_id=found, timeout_seconds=timeout_seconds, announce=_announce_page
        )
    return mint_by_sign_in(settings, request, tokens)


def _announce_page(url: str) -> None:
    warn(f"Sign in with your browser. If no window opens, open this URL on this machine:\n{url}")
    open_browser(url)


def _announce_code(code: DeviceCode) -> None:
    warn(f"Sign in on any device: open {code.verification_uri} and enter the code {code.user_code}")
    if code.verification_uri_complete is not None:
        warn(f"Or open this URL, and compare the code:\n{code.verification_uri_complete}")
