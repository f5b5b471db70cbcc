"""Options of several commands, and the checks of their values."""

from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import typer

from fastapi_logto.cli.results import CommandError
from fastapi_logto.environment import is_file_or_pipe
from fastapi_logto.redaction import quote
from fastapi_logto.settings import read_known_variables


def _check_env_file(ctx: typer.Context, param: typer.CallbackParam, value: Path) -> Path:
    source = ctx.get_parameter_source(param.name or "")
    # Without the option, `.env` may be absent and the environment replaces it. With the option, both are errors:
    # otherwise the command would check, or send the secret to, a tenant other than the one that was named.
    if source is not None and source.name == "COMMANDLINE":
        if not is_file_or_pipe(value):
            raise CommandError(f"--env-file: expected a file of variables, found none at {value}; correct the path")
        names = ", ".join(read_known_variables(env_file=None).values)
        if names:
            raise CommandError(
                f"--env-file: expected no LOGTO_ variable in the environment, found {names}; variables are read from "
                "one source only: unset these, or omit --env-file"
            )
    return value


def check_docs_url(value: str) -> str:
    """Return the URL; `CommandError` if it is invalid."""
    try:
        parts = urlsplit(value)
        is_valid = parts.scheme in {"http", "https"} and parts.hostname is not None and parts.port != 0
    except ValueError:
        is_valid = False
    if not is_valid:
        raise CommandError(f"--docs-url: expected a URL such as http://127.0.0.1:8000/docs, found {quote(value)}")
    return value


DOCS_URL: Final = "http://127.0.0.1:8000/docs"
"""Where `fastapi dev` and uvicorn serve the docs page."""

Json: Final = typer.Option("--json", help="Print JSON instead of tables.")
EnvFile: Final = typer.Option(
    "--env-file",
    callback=_check_env_file,
    help="File of variables; read only if the environment sets none of them.",
)
Only: Final = typer.Option("--resource", help="Compare only this API resource; repeatable.")
Without: Final = typer.Option("--except", help="Scope to ignore; repeatable.")
Kind: Final = typer.Option(
    "--organization-scopes",
    help="What to create for missing scopes of routes that require an organization: organization permissions, or "
    "permissions of the API resource.",
)
ClientId: Final = typer.Option("--client-id", help="Client ID of the machine-to-machine application.")
ManagementResource: Final = typer.Option(
    "--management-resource", help="Indicator of the Management API, for a Logto Cloud tenant with a custom domain."
)
App: Final = typer.Option(
    "--app", metavar="MODULE:APP", help="Check the settings that this application passes in code, if it does."
)
Target: Final = typer.Argument(metavar="MODULE:APP", help="The application, e.g. example_app.main:app.")
