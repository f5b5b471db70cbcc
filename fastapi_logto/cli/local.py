"""The local issuer as a command: what it knows, and what to tell the API."""

import socket
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

from fastapi_logto.cli.directory_file import read_directory
from fastapi_logto.cli.results import CommandError
from fastapi_logto.testing import Directory, LocalIssuer
from fastapi_logto.testing.directory import EXAMPLE_AUDIENCE, ORGANIZATIONS

__all__ = ["LocalUser", "RunningIssuer", "describe_issuer", "open_issuer"]


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalUser:
    """Somebody who can sign in.

    Attributes:
        username: The name to sign in with; a machine's client id.
        scopes: By API resource what they hold.
        organizations: By organization what they hold in it.
    """

    username: str
    scopes: Mapping[str, tuple[str, ...]]
    organizations: Mapping[str, tuple[str, ...]]


@dataclass(frozen=True, slots=True, kw_only=True)
class RunningIssuer:
    """A local issuer, and what to tell others of it.

    Attributes:
        issuer: The issuer.
        environment: What to put into `.env`.
        users: Who can sign in.
        machines: Machine-to-machine applications. Their secrets are what the file says.
        applications: Client ids of single-page applications.
    """

    issuer: str
    environment: Mapping[str, str]
    users: tuple[LocalUser, ...]
    machines: tuple[LocalUser, ...]
    applications: tuple[str, ...]


def open_issuer(*, path: Path | None, audience: str | None, port: int) -> tuple[LocalIssuer, socket.socket]:
    """Give a local issuer and the socket that it listens on, on this machine alone.

    Args:
        path: A file of users; the example's when left out.
        audience: The API resource of the example.
        port: The port; any free one when 0.

    Raises:
        CommandError: The file or the port is no good, or uvicorn is missing.
    """
    if path is not None and audience is not None:
        raise CommandError("expected --file or --audience, found both: the file names its API resources itself")
    if audience == "":
        raise CommandError("--audience: expected an API resource, such as https://api.example.com, found nothing")
    directory = read_directory(path) if path is not None else Directory.example(audience or EXAMPLE_AUDIENCE)
    try:
        from fastapi_logto.testing.serving import build_url, listen  # noqa: PLC0415 - needs uvicorn

        sock = listen(host="127.0.0.1", port=port, allow_remote=False)
    except ModuleNotFoundError as error:
        raise CommandError(str(error)) from None
    except OSError as error:
        # Without what `socket.create_server` appends in brackets: the address once more.
        reason = (error.strerror or str(error)).partition(" (")[0]
        raise CommandError(f"port {port}: {reason}; try another --port") from None
    return LocalIssuer(endpoint=build_url(sock), directory=directory), sock


def describe_issuer(issuer: LocalIssuer) -> RunningIssuer:
    """Give what to tell others of an issuer.

    Args:
        issuer: The issuer.
    """
    directory = issuer.directory
    environment = {"LOGTO_ENDPOINT": issuer.endpoint}
    if directory.resources:
        environment["LOGTO_AUDIENCE"] = directory.resources[0].indicator
    if directory.applications:
        environment["LOGTO_SWAGGER_CLIENT_ID"] = directory.applications[0].client_id
    return RunningIssuer(
        issuer=issuer.issuer,
        environment=environment,
        users=tuple(_describe_one(directory, user.id, user.username, user.scopes) for user in directory.users),
        machines=tuple(
            _describe_one(directory, machine.client_id, machine.client_id, machine.scopes)
            for machine in directory.machines
        ),
        applications=tuple(application.client_id for application in directory.applications),
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
