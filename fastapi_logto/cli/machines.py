"""The client IDs and secrets of applications, and tokens for machine-to-machine applications."""

from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from fastapi_logto.cli.loops import run_to_end
from fastapi_logto.cli.results import CommandError
from fastapi_logto.cli.terminal import ask_secret
from fastapi_logto.cli.token_input import can_ask
from fastapi_logto.client import IssuedToken, LogtoClient
from fastapi_logto.environment import Variables
from fastapi_logto.settings import LogtoSettings, read_known_variables

MACHINE: Final = "LOGTO_MACHINE"
"""Prefix of the variables with a machine's credentials."""

MANAGEMENT_CLIENT: Final = "LOGTO_MANAGEMENT_CLIENT"
"""Prefix of the variables with the credentials for the Management API."""

NATIVE: Final = "LOGTO_NATIVE"
"""Prefix of the variable with the client ID of the native application for `token --sign-in`."""

NATIVE_DEVICE: Final = "LOGTO_NATIVE_DEVICE"
"""Prefix of the variable with the client ID of the native application with device flow, for `token --device`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Credentials:
    """Credentials of a machine-to-machine application. The `repr` omits the secret."""

    client_id: str
    client_secret: str = field(repr=False)


def find_credentials(settings: LogtoSettings, *, client_id: str | None, env_file: Path, prefix: str) -> Credentials:
    """Return the credentials from the same source as the tenant's variables; the secret may come from a prompt.

    The prompt names the tenant, because the secret is sent there.
    """
    variables = read_known_variables(env_file=env_file)
    secret_name = f"{prefix}_SECRET"
    client_id = find_client_id(variables, client_id=client_id, prefix=prefix, kind="machine-to-machine application")
    secret = variables.values.get(secret_name)
    if not secret and not can_ask():
        raise _build_error(variables, f"expected the secret of {client_id}, found none; set {secret_name}")
    secret = secret or ask_secret(f"Secret of {client_id} at {settings.fetch_base} (not shown)")
    return Credentials(client_id=client_id, client_secret=secret)


def find_client_id(variables: Variables, *, client_id: str | None, prefix: str, kind: str) -> str:
    """Return the client ID of an application: that of the option, or of the variable. `kind` is for the error."""
    found = client_id or variables.values.get(f"{prefix}_ID")
    if not found:
        raise _build_error(
            variables, f"expected the client ID of a {kind}, found none; set {prefix}_ID or pass --client-id"
        )
    return found


def _build_error(variables: Variables, message: str) -> CommandError:
    explanation = variables.explain_ignored()
    return CommandError(message if explanation is None else f"{explanation}\n{message}")


def get_token(
    settings: LogtoSettings,
    credentials: Credentials,
    *,
    resource: str | None,
    scopes: Collection[str] = (),
    organization_id: str | None = None,
) -> IssuedToken:
    """Return a token for an API resource, in an organization if one is named, or an organization token without one."""
    client = LogtoClient(
        endpoint=settings.endpoint,
        fetch_endpoint=settings.fetch_endpoint,
        allow_http=settings.allow_http,
        timeout_seconds=settings.fetch_timeout_seconds,
        client_id=credentials.client_id,
        client_secret=credentials.client_secret,
    )
    if resource is None:
        return run_to_end(client.get_organization_token(organization_id or "", scopes=scopes))
    return run_to_end(client.get_token(resource, scopes=scopes, organization_id=organization_id))
