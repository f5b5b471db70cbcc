"""The files of a new application: `.env`, `main.py` and a test. Existing files are never changed."""

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from fastapi_logto.cli.local import describe_issuer
from fastapi_logto.cli.results import CommandError
from fastapi_logto.redaction import quote
from fastapi_logto.settings import LogtoSettings, read_known_variables
from fastapi_logto.testing import LocalIssuer

_PLAIN: Final = re.compile(r"""[^\s'"`#,$\\\[\]]+""")
"""A value that means the same in `.env` without quotes, and is not a list."""

_MAIN: Final = """\
from typing import Annotated

from fastapi import Depends, FastAPI

from fastapi_logto import TokenClaims, auth, require_scopes

app = FastAPI()
auth.install(app)


@app.get("/user/info")
async def user_info(claims: Annotated[TokenClaims, Depends(require_scopes("read:user"))]):
    return {"user_id": claims.user_id, "scopes": sorted(claims.scopes)}
"""
_TEST: Final = """\
from fastapi.testclient import TestClient

from fastapi_logto.testing import assert_protected, claims, override
from main import app, auth


def test_every_route_requires_a_token():
    assert_protected(app)


def test_the_user_needs_the_scope():
    with override(app, auth, claims(scopes=["read:user"])):
        assert TestClient(app).get("/user/info").status_code == 200
    with override(app, auth, claims()):
        assert TestClient(app).get("/user/info").status_code == 403
"""


def check_environment() -> None:
    """Raise `CommandError` if the environment sets a variable, because `.env` would not be read."""
    names = ", ".join(read_known_variables(env_file=None).values)
    if names:
        raise CommandError(
            f"expected no LOGTO_ variable in the environment, found {names}; with it, .env is not read: unset it first"
        )


def list_local_variables() -> Mapping[str, str]:
    """Return the variables that `fastapi-logto dev` prints."""
    return describe_issuer(LocalIssuer(), has_known_secrets=True).environment


def list_variables(*, endpoint: str, audience: str) -> Mapping[str, str]:
    """Return the variables of a tenant; raise if a value is invalid or can't be written into `.env` unchanged."""
    settings = LogtoSettings(endpoint=endpoint, audience=audience)
    variables = {"LOGTO_ENDPOINT": settings.endpoint, "LOGTO_AUDIENCE": settings.audience[0]}
    for name, value in variables.items():
        if not _PLAIN.fullmatch(value):
            raise CommandError(
                f"{name}: expected a value without spaces, quotes, commas and the characters # $ \\ [ ], found "
                f"{quote(value)}; write .env yourself"
            )
    return variables


def write_application(folder: Path, variables: Mapping[str, str]) -> tuple[str, ...]:
    """Write the files and return their names. If one of them exists or can't be written, write none."""
    lines = "".join(f"{name}={value}\n" for name, value in variables.items())
    files = {".env": lines, "main.py": _MAIN, "test_main.py": _TEST}
    found = [name for name in files if os.path.lexists(folder / name)]
    if found:
        raise CommandError(
            f"expected a folder without {', '.join(files)}, found {', '.join(found)}; nothing was written: use an "
            "empty folder, or rename your files"
        )
    written: list[Path] = []
    try:
        for name, text in files.items():
            # "x" fails if another program has just created the file.
            with (folder / name).open("x", encoding="utf-8", newline="\n") as file:
                written.append(folder / name)
                file.write(text)
    except OSError as error:
        for path in written:
            path.unlink(missing_ok=True)
        raise CommandError(
            f"expected to create {', '.join(files)}, found: {error.strerror}; nothing was written"
        ) from None
    return tuple(files)
