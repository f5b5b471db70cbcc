"""README and documentation say what the code does, and their examples run."""

import importlib
import re
import tomllib
from pathlib import Path

import pytest

from fastapi_logto import LogtoSettings, errors
from fastapi_logto.errors import RefusalError
from tests.docs import README, ROOT, build_settings_table

PAGES = [README, *sorted((ROOT / "docs").rglob("*.md"))]
PYTHON = re.compile(r"^```python.*?\n(.*?)^```", re.MULTILINE | re.DOTALL)
SYMBOL = re.compile(r"`(fastapi_logto(?:\.\w+)+)(?:\(\))?`")


def page_name(page: Path) -> str:
    return str(page.relative_to(ROOT))


WITH_EXAMPLES = [page for page in PAGES if PYTHON.search(page.read_text())]


def test_there_are_examples() -> None:
    assert {"README.md", "docs/tutorial/first-steps.md", "docs/how-to/local-issuer.md"} <= set(
        map(page_name, WITH_EXAMPLES)
    )


@pytest.mark.parametrize("page", WITH_EXAMPLES, ids=page_name)
def test_the_examples_of_a_page_run(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {"__name__": "example"}
    for block in PYTHON.findall(page.read_text()):
        exec(compile(block, page_name(page), "exec"), names)  # noqa: S102 - our own documentation

    for name, value in list(names.items()):
        if name.startswith("test_"):
            assert callable(value)
            value()


def resolve(symbol: str) -> object:
    """Give what a dotted name means."""
    parts = symbol.split(".")
    for length in range(len(parts), 0, -1):
        try:
            value: object = importlib.import_module(".".join(parts[:length]))
        except ModuleNotFoundError:
            continue
        for part in parts[length:]:
            value = getattr(value, part)
        return value
    raise AssertionError(symbol)


@pytest.mark.parametrize("page", [*PAGES, ROOT / "CHANGELOG.md", ROOT / "SECURITY.md"], ids=page_name)
def test_every_symbol_that_a_page_names_exists(page: Path) -> None:
    for symbol in SYMBOL.findall(page.read_text()):
        resolve(symbol)


def test_the_walk_of_a_request_names_its_stations() -> None:
    named = set(SYMBOL.findall((ROOT / "docs/explanation/request.md").read_text()))

    assert {
        "fastapi_logto.schemes.TokenScheme.__call__",
        "fastapi_logto.bearer.parse_authorization",
        "fastapi_logto.tokens.TokenVerifier.recall",
        "fastapi_logto.jws.parse_unverified",
        "fastapi_logto.keys.KeySource.find",
        "fastapi_logto.jws.verify_signature",
        "fastapi_logto.claims.parse_claims",
        "fastapi_logto.checks.check_claims",
        "fastapi_logto.checks.check_scopes",
    } <= named


def test_the_readme_has_every_setting() -> None:
    # `python -m tests.docs` writes the table.
    assert build_settings_table() in README.read_text()


def test_every_setting_of_the_example_file_exists() -> None:
    variables = re.findall(r"^#? ?(LOGTO_\w+)=", (ROOT / "example_app/.env.example").read_text(), re.MULTILINE)

    assert variables[:2] == ["LOGTO_ENDPOINT", "LOGTO_AUDIENCE"]
    assert {name.removeprefix("LOGTO_").lower() for name in variables} <= set(LogtoSettings.model_fields)


def test_the_table_of_answers_is_the_tree_of_errors() -> None:
    rows = re.findall(r"^\| (\d{3}) \| `([\w.]+)` \| `(\w+)` \|", README.read_text(), re.MULTILINE)
    classes = [getattr(errors, name) for name in errors.__all__]
    leaves = {
        (str(one.status), one.code, one.reason)
        for one in classes
        if isinstance(one, type) and issubclass(one, RefusalError) and not one.__subclasses__()
    }

    assert len(rows) == len(set(rows)) == len(leaves)
    assert set(rows) == leaves


def test_the_newest_change_is_of_this_version() -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]

    newest = re.search(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert newest is not None
    assert newest[1] == version


def test_the_commands_of_the_readme_are_targets() -> None:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))

    assert {"demo", "test"} <= targets
    assert set(re.findall(r"^\$ make (\w+)$", README.read_text(), re.MULTILINE)) <= targets
