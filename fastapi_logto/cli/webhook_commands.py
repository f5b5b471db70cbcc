"""The commands `webhook push` and `webhook follow`."""

from pathlib import Path
from typing import Annotated, Final

import typer

from fastapi_logto.cli.applications import load_application
from fastapi_logto.cli.following import follow_log, open_store
from fastapi_logto.cli.hooks import POLL_ONLY_URL, HookReport, compare_hook, list_events, push_hook
from fastapi_logto.cli.machines import MANAGEMENT_CLIENT, find_credentials
from fastapi_logto.cli.management import ManagementApi, sign_in
from fastapi_logto.cli.options import App, ClientId, EnvFile, Json, ManagementResource
from fastapi_logto.cli.rendering import render_hook
from fastapi_logto.cli.results import CommandError
from fastapi_logto.cli.scopes import find_given_tenant
from fastapi_logto.cli.terminal import confirm, open_progress, open_terminal, print_result
from fastapi_logto.cli.token_input import can_ask
from fastapi_logto.provider.transport import Transport
from fastapi_logto.redaction import quote
from fastapi_logto.revocation import DeliveryLog, Revocations
from fastapi_logto.settings import LogtoSettings, read_known_variables
from fastapi_logto.urls import find_management_resource

webhook_app: Final = typer.Typer(
    help="Set up the webhook that tells an API which tokens to revoke.",
    epilog="Authenticates as a machine-to-machine application. Its client ID comes from --client-id or "
    f"{MANAGEMENT_CLIENT}_ID, its secret from {MANAGEMENT_CLIENT}_SECRET or a prompt. The application needs a machine "
    "role with access to the Management API.",
    no_args_is_help=True,
    rich_markup_mode=None,
)


@webhook_app.command(
    epilog="Examples: fastapi-logto webhook push --url https://api.example.com/webhooks/logto, "
    "fastapi-logto webhook push --poll-only"
)
def push(
    *,
    url: Annotated[str | None, typer.Option(help="Public URL of the webhook route of your API.")] = None,
    poll_only: Annotated[
        bool,
        typer.Option(
            "--poll-only",
            help="For an API that Logto can't reach and that reads the delivery log: the webhook gets a URL that is "
            "never connected to, so that each delivery fails at once and only its log entry remains.",
        ),
    ] = False,
    event: Annotated[list[str] | None, typer.Option(help="Another event to deliver; repeatable.")] = None,
    hook_id: Annotated[
        str | None, typer.Option(help="ID of an existing webhook, e.g. to change its URL; otherwise found by its URL.")
    ] = None,
    name: Annotated[str | None, typer.Option(help="Name for a new webhook.")] = None,
    rotate_key: Annotated[
        bool,
        typer.Option(
            "--rotate-key", help="Replace the signing key. Deliveries are refused until your API has the new one."
        ),
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not prompt.")] = False,
    application: Annotated[str | None, App] = None,
    client_id: Annotated[str | None, ClientId] = None,
    management_resource: Annotated[str | None, ManagementResource] = None,
    env_file: Annotated[Path, EnvFile] = Path(".env"),
    is_json: Annotated[bool, Json] = False,
) -> None:
    """Create the webhook in Logto, or add to it what is missing.

    Shows the difference and prompts. Adds missing events and enables the webhook; its other events and headers are
    kept, so the command can be run again. Prints the webhook's ID for .env, and a new signing key, which is not shown
    again.
    """
    if (url is None) is not poll_only:
        raise CommandError(
            f"expected --url or --poll-only, found {'both' if poll_only else 'neither'}; pass one of them"
        )
    events = list_events(event or ())
    given = None if application is None else find_given_tenant(load_application(application))
    settings = given or LogtoSettings.from_environment(env_file=env_file)
    api = _sign_in(settings, client_id=client_id, management_resource=management_resource, env_file=env_file)
    report = compare_hook(api, tenant=settings.endpoint, url=url or POLL_ONLY_URL, hook_id=hook_id, events=events)
    if report.differs or rotate_key:
        _ask(report, yes=yes, rotates_key=rotate_key)
        with open_progress() as progress:
            progress("Writing the webhook")
            report = push_hook(api, report, name=name, rotates_key=rotate_key)
    print_result(report, is_json=is_json, rendered=render_hook(report, console=open_terminal()))
    raise typer.Exit(report.exit_code)


@webhook_app.command(epilog="Example: fastapi-logto webhook follow --redis-url redis://redis:6379/0")
def follow(
    *,
    hook_id: Annotated[str | None, typer.Option(help="ID of the webhook; otherwise LOGTO_WEBHOOK_ID.")] = None,
    redis_url: Annotated[
        str | None,
        typer.Option(help="URL of the Redis server without a password; otherwise LOGTO_REDIS_URL, which may have one."),
    ] = None,
    redis_key: Annotated[str | None, typer.Option(help="Prefix of the keys in Redis, if your API sets one.")] = None,
    interval: Annotated[float, typer.Option(min=1, max=3600, help="How often the log is read, in seconds.")] = 60,
    longest_token_seconds: Annotated[
        float, typer.Option(min=1, help="The longest token expiration in Logto, in seconds, as in your API.")
    ] = 24 * 3600,
    event: Annotated[
        list[str] | None,
        typer.Option(help="Event that revokes all tokens, as revoke_all_on of your API; repeatable."),
    ] = None,
    issuer: Annotated[
        str | None, typer.Option(help="Issuer of the tenant, if your API accepts several: ENDPOINT/oidc.")
    ] = None,
    client_id: Annotated[str | None, ClientId] = None,
    management_resource: Annotated[str | None, ManagementResource] = None,
    env_file: Annotated[Path, EnvFile] = Path(".env"),
) -> None:
    """Read the delivery log of the webhook into Redis, for an API without Management API credentials.

    Runs until Ctrl-C or SIGTERM. Your API reads the revocations from the same Redis:
    Revocations(RedisStore(...)). Prints how many revocations took effect, without IDs, and what is unavailable. Several
    of these processes may run: one reads, and another takes over if it stops.
    """
    settings = LogtoSettings.from_environment(env_file=env_file)
    variables = read_known_variables(env_file=env_file).values
    hook_id = hook_id or variables.get("LOGTO_WEBHOOK_ID")
    if not hook_id:
        raise CommandError("expected the ID of the webhook, found none; set LOGTO_WEBHOOK_ID or pass --hook-id")
    if issuer is not None and issuer not in settings.accepted_issuers:
        # Revocations of another issuer would concern no token.
        raise CommandError(
            f"--issuer: expected an issuer of the settings, found {quote(issuer)}; pass {settings.issuer}, or add it "
            "to LOGTO_ISSUERS"
        )
    store = open_store(redis_url, variables, key=redis_key)
    credentials = find_credentials(settings, client_id=client_id, env_file=env_file, prefix=MANAGEMENT_CLIENT)
    log = DeliveryLog(
        settings.endpoint,
        client_id=credentials.client_id,
        client_secret=credentials.client_secret,
        hook_id=hook_id,
        interval_seconds=interval,
        # That of the endpoint, also for a custom domain.
        issuer=None if issuer is None else settings.issuer,
        management_resource=management_resource,
        fetch_endpoint=settings.fetch_endpoint,
        allow_http=settings.allow_http,
        timeout_seconds=settings.fetch_timeout_seconds,
    )
    try:
        revocations = Revocations(
            store, log=log, longest_token_seconds=longest_token_seconds, revoke_all_on=event or ()
        )
    except ValueError as error:
        raise CommandError(str(error)) from None
    follow_log(revocations, name=log.label)


def _sign_in(
    settings: LogtoSettings, *, client_id: str | None, management_resource: str | None, env_file: Path
) -> ManagementApi:
    credentials = find_credentials(settings, client_id=client_id, env_file=env_file, prefix=MANAGEMENT_CLIENT)
    transport = Transport(timeout_seconds=settings.fetch_timeout_seconds)
    resource = management_resource or find_management_resource(settings.endpoint)
    with open_progress() as progress:
        progress(f"Signing in at {settings.fetch_base}")
        return sign_in(settings, credentials, resource=resource, transport=transport)


def _ask(report: HookReport, *, yes: bool, rotates_key: bool) -> None:
    terminal = open_terminal(is_error=True)
    terminal.show(render_hook(report, console=terminal))
    if yes:
        return
    if not can_ask():
        raise CommandError(
            "expected a terminal for the prompt, found none; nothing was changed; pass --yes to skip the prompt"
        )
    changes = ["create the webhook"] if report.hook_id is None else ["change the webhook"] if report.differs else []
    if rotates_key and report.hook_id is not None:
        changes.append("replace its signing key")
    confirm(f"{' and '.join(changes).capitalize()} in Logto?")
