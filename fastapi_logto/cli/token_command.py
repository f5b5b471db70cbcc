"""The command `token`."""

from collections.abc import Coroutine
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from fastapi_logto.cli.applications import load_application
from fastapi_logto.cli.device import DeviceCode, sign_in_by_device
from fastapi_logto.cli.issuer_listing import fetch_listing
from fastapi_logto.cli.machines import MACHINE, NATIVE, NATIVE_DEVICE, find_client_id, find_credentials
from fastapi_logto.cli.minting import MintedToken, mint_by_sign_in, mint_for_machine, mint_for_user
from fastapi_logto.cli.options import EnvFile, Json
from fastapi_logto.cli.results import CommandError, to_json
from fastapi_logto.cli.scopes import find_tenant, list_required
from fastapi_logto.cli.sign_in import open_browser, sign_in
from fastapi_logto.cli.terminal import warn, write
from fastapi_logto.cli.token_requests import TokenRequest, UserTokens
from fastapi_logto.provider.transport import Transport
from fastapi_logto.settings import LogtoSettings, read_known_variables
from fastapi_logto.testing.directory import ORGANIZATIONS

_LOCAL: Final = "; set the scopes of a local issuer's users and machines with fastapi-logto dev --file"


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
    organization_token: Annotated[
        bool,
        typer.Option("--organization-token", help="Request an organization token, which names no API."),
    ] = False,
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
    machine's token comes from any tenant (--machine); its secret is read from LOGTO_MACHINE_SECRET or a prompt. Without
    --scope and --app, all scopes of a local issuer are requested, and none of another tenant. Only the token is printed
    on standard output.
    """
    modes = {"--sign-in": browser, "--device": device, "--machine": machine, "--user": user is not None}
    chosen = [name for name, is_chosen in modes.items() if is_chosen]
    if len(chosen) != 1:
        raise CommandError(f"expected one of {', '.join(modes)}, found {' and '.join(chosen) or 'none'}")
    if organization_token:
        _check_organization_token(organization=organization, resource=resource)
    loaded = None if application is None else load_application(application)
    settings = LogtoSettings.from_environment(env_file=env_file) if loaded is None else find_tenant(loaded)
    request = TokenRequest(
        resource=resource or settings.audience[0],
        scopes=tuple(scope or ()),
        organization_id=organization,
        is_organization_token=organization_token,
    )
    if not scope:
        request = replace(request, scopes=_choose_scopes(settings, request, application=loaded))
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
    _explain_scopes(minted, settings, is_default=not scope and loaded is None)
    write(to_json(minted) if is_json else minted.access_token)


def _check_organization_token(*, organization: str | None, resource: str | None) -> None:
    if organization is None or resource is not None:
        found = "--resource" if resource is not None else "no --organization"
        raise CommandError(
            f"--organization-token: expected --organization alone, found {found}; an organization token names no API"
        )


def _choose_scopes(settings: LogtoSettings, request: TokenRequest, *, application: object) -> tuple[str, ...]:
    """Return the scopes of the application's routes, or without an application those of a local issuer."""
    if application is not None:
        (required,) = list_required(application, only=[request.resource])
        own = () if request.is_organization_token else required.scopes
        more = () if request.organization_id is None else required.organization_scopes
        return (*own, *more)
    listing = fetch_listing(settings)
    if listing is None:
        return ()
    return tuple(listing.scopes.get(ORGANIZATIONS if request.is_organization_token else request.resource, ()))


def _explain_scopes(minted: MintedToken, settings: LogtoSettings, *, is_default: bool) -> None:
    scopes = " ".join(minted.scopes) or "none"
    if is_default:
        warn(f"scopes: {scopes}; to choose others, pass --scope, or --app with your application")
    elif minted.missing:
        hint = "" if fetch_listing(settings) is None else _LOCAL
        warn(f"not granted and not in the token: {' '.join(minted.missing)}{hint}")


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
