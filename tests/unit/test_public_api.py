"""The public API matches `public_api.txt` and the documentation."""

import sys
from subprocess import run

import griffe
import pytest

from tests.public_api import FILE, MODULES, SOURCE, describe_api


def test_the_public_api_is_what_the_file_says() -> None:
    # A change of the API also needs an entry in CHANGELOG.md; `python -m tests.public_api` writes the file.
    assert describe_api() == FILE.read_text()


@pytest.mark.parametrize("module_name", MODULES)
def test_every_exported_name_is_documented(module_name: str) -> None:
    package = griffe.load("fastapi_logto", search_paths=[SOURCE])
    module = package if module_name == "fastapi_logto" else package[module_name.removeprefix("fastapi_logto.")]

    exports = [str(name) for name in module.exports or ()]
    assert exports
    undocumented = [name for name in exports if module.members[name].docstring is None]
    assert undocumented == []


@pytest.mark.parametrize("module_name", ["fastapi_logto", "fastapi_logto.testing"])
def test_importing_the_package_loads_nothing_optional(module_name: str) -> None:
    code = (
        f"import sys, {module_name}; "
        "print([name for name in ('redis', 'typer', 'rich', 'awscrt', 'uvicorn', 'httpx', 'authlib.jose') "
        "if name in sys.modules])"
    )

    done = run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout.strip() == "[]"
