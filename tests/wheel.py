"""Run with only the installed wheel: it has all it needs, and loads nothing that it should not."""

import asyncio
import importlib.metadata
import importlib.resources
import sys
from pathlib import Path

import fastapi_logto
from fastapi_logto.testing import LocalIssuer

# Checked before the import of httpx, which imports rich if that is installed.
unwanted = {"redis", "typer", "rich", "awscrt", "pytest", "httpx"} & set(sys.modules)
assert not unwanted, unwanted

import httpx  # noqa: E402


async def verify_one() -> str:
    """Verify a token of a local issuer."""
    issuer = LocalIssuer()
    claims = await issuer.auth().verify(issuer.access_token(subject="from the wheel", scopes=["read:user"]))
    assert claims.scopes == {"read:user"}
    return claims.user_id


assert "site-packages" in str(fastapi_logto.__file__), fastapi_logto.__file__
assert importlib.resources.files("fastapi_logto").joinpath("py.typed").is_file()
assert "pytest_fastapi_logto" in {plugin.value for plugin in importlib.metadata.entry_points(group="pytest11")}
assert Path(fastapi_logto.__file__).parents[1].joinpath("pytest_fastapi_logto/py.typed").is_file()
assert asyncio.run(verify_one()) == "from the wheel"
with LocalIssuer().serve() as served:
    assert httpx.get(f"{served.issuer}/jwks").status_code == 200
sys.stdout.write(f"wheel: fastapi-logto {importlib.metadata.version('fastapi-logto')} works on its own\n")
