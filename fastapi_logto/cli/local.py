"""Start the local issuer, and describe its users and the variables for the API."""

import shlex
import socket
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

from fastapi_logto.cli.directory_file import read_directory
from fastapi_logto.cli.results import CommandError
from fastapi_logto.redaction import quote
from fastapi_logto.testing import Directory, LocalIssuer
from fastapi_logto.testing.directory import EXAMPLE_AUDIENCE, ORGANIZATIONS


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalUser:
    """A user or machine of the local issuer, with the scopes granted by API resource and by organization."""

    username: str
    scopes: Mapping[str, tuple[str, ...]]
    organizations: Mapping[str, tuple[str, ...]]


@dataclass(frozen=True, slots=True, kw_only=True)
class RunningIssuer:
    """A running local issuer: its page, the variables for `.env`, its users, machines and applications' client IDs.

    `next_command` prints a token; empty if there is no user.
    """

    issuer: str
    page: str
    environment: Mapping[str, str]
    users: tuple[LocalUser, ...]
    machines: tuple[LocalUser, ...]
    applications: tuple[str, ...]
    next_command: str


def open_issuer(
    *,
    path: Path | None,
    audience: str | None,
    host: str,
    port: int,
    allow_remote: bool,
    allowed_hosts: Collection[str],
    webhook: str | None = None,
) -> tuple[LocalIssuer, socket.socket]:
    """Return a local issuer and its listening socket.

    Without a file, the issuer has the example users. With the URL of a webhook, it delivers all events there. Raises
    `CommandError` if uvicorn is missing, or if `allow_remote` is not set and others can reach the host or the webhook
    is on another machine.
    """
    if path is not None and audience is not None:
        raise CommandError("expected --file or --audience, found both; the file names its own API resources")
    if audience == "":
        raise CommandError("--audience: expected an API resource, such as https://api.example.com, found nothing")
    directory = read_directory(path) if path is not None else Directory.example(audience or EXAMPLE_AUDIENCE)
    try:
        from fastapi_logto.testing.issuer.serving import build_url, listen  # noqa: PLC0415 - needs uvicorn

        issuer = LocalIssuer(directory=directory, allowed_hosts=allowed_hosts, allow_remote_webhooks=allow_remote)
        if webhook is not None:
            issuer.add_hook(webhook)
        sock = listen(host=host, port=port, allow_remote=allow_remote)
    except (ModuleNotFoundError, ValueError) as error:
        raise CommandError(str(error)) from None
    except OSError as error:
        # `socket.create_server` appends the address in parentheses; the message names it already.
        reason = (error.strerror or str(error)).partition(" (")[0]
        raise CommandError(
            f"cannot listen on {quote(host)} port {port}: {reason}; try another --port or --host"
        ) from None
    issuer.endpoint = build_url(sock)
    return issuer, sock


def describe_issuer(issuer: LocalIssuer, *, has_known_secrets: bool = False) -> RunningIssuer:
    """Return a description of an issuer; with the secret of a machine only if it is a documented one."""
    directory = issuer.directory
    environment = {"LOGTO_ENDPOINT": issuer.endpoint}
    if directory.resources:
        environment["LOGTO_AUDIENCE"] = directory.resources[0].indicator
    if directory.applications:
        environment["LOGTO_SWAGGER_CLIENT_ID"] = directory.applications[0].client_id
    if directory.machines:
        environment["LOGTO_MACHINE_ID"] = directory.machines[0].client_id
        if has_known_secrets:
            environment["LOGTO_MACHINE_SECRET"] = directory.machines[0].client_secret
    if issuer.hooks:
        environment["LOGTO_WEBHOOK_SIGNING_KEY"] = issuer.hooks[0].signing_key
    users = [user.username for user in directory.users if not user.is_suspended]
    return RunningIssuer(
        issuer=issuer.issuer,
        page=f"{issuer.endpoint}/",
        environment=environment,
        users=tuple(_describe_one(directory, user.id, user.username, user.scopes) for user in directory.users),
        machines=tuple(
            _describe_one(directory, machine.client_id, machine.client_id, machine.scopes)
            for machine in directory.machines
        ),
        applications=tuple(application.client_id for application in directory.applications),
        next_command=f"fastapi-logto token --user {shlex.quote(users[0])}" if users else "",
    )


def _describe_one(directory: Directory, member: str, name: str, scopes: Mapping[str, Collection[str]]) -> LocalUser:
    return LocalUser(
        username=name,
        scopes={indicator: tuple(held) for indicator, held in scopes.items()},
        organizations=_list_organizations(directory, member),
    )


def _list_organizations(directory: Directory, member: str) -> Mapping[str, tuple[str, ...]]:
    return {
        one.id: tuple(
            f"{scope} (of the organization)" if name == ORGANIZATIONS else scope
            for name, scopes in one.members[member].items()
            for scope in scopes
        )
        for one in directory.organizations
        if member in one.members
    }
