"""README and documentation say what the code does, and their examples run."""

import importlib
import inspect
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from typer.main import get_command

from example_app.calls import build_router
from example_app.routes import router
from example_app.settings import ExampleSettings
from fastapi_logto import LogtoSettings, errors, telemetry, testing
from fastapi_logto.cli.commands import app
from fastapi_logto.cli.directory_file import read_directory
from fastapi_logto.cli.results import ExitCode
from fastapi_logto.environment import CREDENTIALS, build_variable_name
from fastapi_logto.errors import RefusalError
from fastapi_logto.provider import telemetry as provider_telemetry
from tests.docs import README, ROOT, build_settings_table, check_tests_pass, copy_project
from tests.tenants import FAULTS

TRANSLATED_README = ROOT / "README.zh-TW.md"
READMES = [README, TRANSLATED_README]
SITE_PAGES = sorted((ROOT / "docs").rglob("*.md"))
PAGES = [*READMES, *SITE_PAGES]
PROJECTS = sorted(path.parent for path in (ROOT / "examples").glob("*/README.md"))
PYTHON = re.compile(r"^```python.*?\n(.*?)^```", re.MULTILINE | re.DOTALL)
# E.g. because it needs another package.
OTHER_PYTHON = re.compile(r"^```py\b.*?\n(.*?)^```", re.MULTILINE | re.DOTALL)
BLOCK = re.compile(r"^```(\w.*)\n((?s:.*?))^```$", re.MULTILINE)
FILE = re.compile(r'^```python title="(\w+\.py)"\n(.*?)^```', re.MULTILINE | re.DOTALL)
SYMBOL = re.compile(r"`(fastapi_logto(?:\.\w+)+)(?:\(\))?`")
# Names of metrics and of their attributes, which are no symbols.
MEASURED = {
    name
    for module in (telemetry, provider_telemetry)
    for name in re.findall(r'"(fastapi_logto\.[\w.]+)"', inspect.getsource(module))
}


def page_name(page: Path) -> str:
    return str(page.relative_to(ROOT))


WITH_EXAMPLES = [page for page in PAGES if PYTHON.search(page.read_text())]


def test_there_are_examples() -> None:
    assert {"README.md", "docs/tutorial/first-steps.md", "docs/how-to/local-issuer.md"} <= set(
        map(page_name, WITH_EXAMPLES)
    )
    assert [page.stem for page in WITH_TESTS] == [
        "from-zero-to-production",
        "move-from-azure-auth",
        "move-from-flask",
        "move-from-pyjwt",
        "test-a-handler",
        "test-end-to-end",
        "test-permissions",
    ]


# Pages whose examples are files that pytest runs.
WITH_TESTS = [page for page in WITH_EXAMPLES if '```python title="test_' in page.read_text()]


def test_the_navigation_has_every_page_once() -> None:
    paths = re.findall(r"^ +- .+: (\S+\.md)$", (ROOT / "mkdocs.yml").read_text(), re.MULTILINE)

    assert sorted(paths) == sorted(str(page.relative_to(ROOT / "docs")) for page in SITE_PAGES)


def test_every_page_has_its_own_description() -> None:
    pattern = re.compile(r'---\ndescription: "?(.{30,140}?[.。])"?\n')
    described = {page: pattern.match(page.read_text()) for page in SITE_PAGES}

    assert [page_name(page) for page, found in described.items() if found is None] == []
    assert len({found[1] for found in described.values() if found is not None}) == len(described)


@pytest.mark.parametrize("page", WITH_TESTS, ids=page_name)
def test_the_tests_of_a_page_pass(page: Path, tmp_path: Path) -> None:
    files = dict(FILE.findall(page.read_text()))
    assert len(files) == len(PYTHON.findall(page.read_text()))
    for name, text in files.items():
        (tmp_path / name).write_text(text)

    check_tests_pass(tmp_path)


# The integration tests run `examples/mcp`, which needs the MCP SDK, and the page of `examples/vue`.
@pytest.mark.parametrize("example", [path for path in PROJECTS if path.name not in {"mcp", "vue"}], ids=page_name)
def test_the_tests_of_an_example_project_pass(example: Path, tmp_path: Path) -> None:
    check_tests_pass(copy_project(example, tmp_path))


def test_the_readme_lists_every_example_project() -> None:
    listed = re.findall(r"^\| \[`(examples/\w+)`\]\(\1/\) \|", README.read_text(), re.MULTILINE)

    assert listed == [page_name(example) for example in PROJECTS]


def test_the_readme_of_the_example_application_lists_every_route() -> None:
    listed = re.findall(r"^\| `(\w+) (/\S*)` \|", (ROOT / "example_app/README.md").read_text(), re.MULTILINE)
    application = FastAPI(openapi_url=None)  # without the pages that document it
    application.include_router(router)
    application.include_router(build_router(ExampleSettings(machine_id="a-machine", machine_secret="a-secret")))

    found = [(method, route.path) for route in testing.routes(application) for method in (route.methods or {"WS"})]
    assert sorted(listed) == sorted(found)


def test_an_application_of_twenty_lines_is_tested_in_ten() -> None:
    files = dict(FILE.findall((ROOT / "docs/how-to/test-a-handler.md").read_text()))

    def count(name: str) -> int:
        return len([line for line in files[name].splitlines() if line.strip()])

    assert count("main.py") <= 20
    assert count("test_main.py") <= 10
    assert files["main.py"].count("@app.") == files["main.py"].count("Depends(") == 3
    assert files["conftest.py"].endswith("\n\n@pytest.fixture\ndef logto_app():\n    return app\n")


def test_the_reference_has_every_name_of_the_test_kit() -> None:
    text = (ROOT / "docs/reference/testing.md").read_text()

    names = re.findall(r"^::: (\S+)$", text, re.MULTILINE)
    assert {name.rpartition(".")[2] for name in names if name.startswith("fastapi_logto.testing.")} == set(
        testing.__all__
    )
    assert {name.rpartition(".")[2] for name in names if name.startswith("pytest_")} == set(
        importlib.import_module("pytest_fastapi_logto").__all__
    )


@pytest.mark.parametrize("page", [page for page in PAGES if OTHER_PYTHON.search(page.read_text())], ids=page_name)
def test_python_that_does_not_run_here_is_valid(page: Path) -> None:
    for block in OTHER_PYTHON.findall(page.read_text()):
        compile(block, page_name(page), "exec")


@pytest.mark.parametrize("page", [page for page in WITH_EXAMPLES if page not in WITH_TESTS], ids=page_name)
def test_the_examples_of_a_page_run(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in re.findall(r'os\.environ\["(\w+)"\]', page.read_text()):
        monkeypatch.setenv(name, "redis://127.0.0.1:1/0" if name.endswith("_URL") else "value")
    names: dict[str, object] = {"__name__": "example"}
    for block in PYTHON.findall(page.read_text()):
        exec(compile(block, page_name(page), "exec"), names)  # noqa: S102 - our own documentation

    for name, value in list(names.items()):
        if name.startswith("test_"):
            assert callable(value)
            value()


def resolve(symbol: str) -> object:
    """Return the object of a dotted name."""
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
        if symbol not in MEASURED:
            resolve(symbol)


def test_the_walk_of_a_request_names_its_stations() -> None:
    named = set(SYMBOL.findall((ROOT / "docs/explanation/request.md").read_text()))

    assert {
        "fastapi_logto.schemes.TokenScheme.__call__",
        "fastapi_logto.verification.bearer.parse_authorization",
        "fastapi_logto.verification.verifier.TokenVerifier.verify_header",
        "fastapi_logto.verification.jws.parse_unverified",
        "fastapi_logto.provider.key_source.KeySource.find",
        "fastapi_logto.verification.signatures.verify_signature",
        "fastapi_logto.verification.claims.parse_claims",
        "fastapi_logto.verification.checks.check_claims",
        "fastapi_logto.verification.checks.check_scopes",
    } <= named


def test_the_readme_has_every_setting() -> None:
    # `python -m tests.docs` writes the table.
    assert build_settings_table() in README.read_text()


def test_every_setting_of_the_example_file_exists() -> None:
    variables = re.findall(r"^#? ?(LOGTO_\w+)=", (ROOT / "example_app/.env.example").read_text(), re.MULTILINE)

    assert variables[:2] == ["LOGTO_ENDPOINT", "LOGTO_AUDIENCE"]
    assert set(variables) <= {*map(build_variable_name, LogtoSettings.model_fields), *CREDENTIALS}


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


# Each section of the translated README, and the section of the README that it translates.
TRANSLATED_SECTIONS = {
    "快速開始": "Quickstart",
    "加進你的應用程式": "Add it to your application",
    "測試你的應用程式": "Test your application",
    "接下來": "More",
}


def read_sections(page: Path) -> dict[str, str]:
    return dict(re.findall(r"^## (.+)\n((?:(?!## ).*\n)*)", page.read_text(), re.MULTILINE))


# The integration tests run the quickstart in English only: a second installation would run the same blocks.
def test_the_translated_readme_has_the_code_blocks_of_each_section() -> None:
    english, translated = read_sections(README), read_sections(TRANSLATED_README)

    assert list(translated) == list(TRANSLATED_SECTIONS)
    for heading, text in translated.items():
        assert BLOCK.findall(text) == BLOCK.findall(english[TRANSLATED_SECTIONS[heading]]), heading
    assert len(BLOCK.findall(translated["快速開始"])) == 10
    assert len(BLOCK.findall(TRANSLATED_README.read_text())) == sum(
        len(BLOCK.findall(text)) for text in translated.values()
    )


def test_the_translated_tutorial_has_the_code_blocks_of_the_tutorial() -> None:
    english, translated = (ROOT / "docs/tutorial" / name for name in ("first-steps.md", "first-steps.zh-TW.md"))

    assert BLOCK.findall(translated.read_text()) == BLOCK.findall(english.read_text()) != []


@pytest.mark.parametrize("page", READMES, ids=page_name)
def test_every_relative_link_of_a_readme_has_a_target(page: Path) -> None:
    links = re.findall(r"\]\((?!https?://)([^)#]*)#?([^)]*)\)", page.read_text())

    assert len(links) > 5
    for path, anchor in links:
        target = ROOT / path if path else page
        assert target.exists(), path
        if anchor:
            headings = re.findall(r"^#+ (.+)$", target.read_text(), re.MULTILINE)
            assert anchor in {heading.lower().replace(" ", "-") for heading in headings}, anchor


def list_commands(group: Any, name: str = "") -> dict[str, set[str]]:
    """Return the options of each command, as declared with Typer."""
    if hasattr(group, "commands"):
        parts = [list_commands(command, f"{name} {key}".strip()) for key, command in group.commands.items()]
        return {key: options for part in parts for key, options in part.items()}
    options = {option for one in group.params for option in one.opts if option.startswith("--")}
    return {name: options - {"--help"}}


def test_the_reference_has_every_command_and_every_option() -> None:
    page = (ROOT / "docs/reference/command-line.md").read_text()
    sections = dict(re.findall(r"^## (.+)\n((?:(?!^## ).*\n)*)", page, re.MULTILINE))

    documented = {name: set(re.findall(r"^\| `(--[\w-]+)` \|", text, re.MULTILINE)) for name, text in sections.items()}
    assert documented == list_commands(get_command(app))


def test_the_reference_has_every_exit_code() -> None:
    page = (ROOT / "docs/reference/command-line.md").read_text()

    codes = [ExitCode.FINE, ExitCode.FAILED, ExitCode.USAGE, ExitCode.FAULT, ExitCode.INTERRUPTED]
    assert re.findall(r"^\| (\d+) \|", page, re.MULTILINE) == [str(code) for code in codes]


def test_every_recording_is_shown() -> None:
    page = (ROOT / "docs/how-to/rejected-tokens.md").read_text()

    assert set(re.findall(r"\.\./images/doctor-(\w+)\.svg", page)) == FAULTS.keys()


def test_the_newest_change_is_of_this_version() -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]

    newest = re.search(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert newest is not None
    assert newest[1] == version


def test_the_commands_of_the_readme_are_targets() -> None:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))

    named = set(re.findall(r"^make (\w+)$", README.read_text(), re.MULTILINE))
    assert {"demo", "test"} == named
    assert named <= targets


@pytest.mark.parametrize(
    "page",
    [
        *PAGES,
        ROOT / "CONTRIBUTING.md",
        ROOT / "example_app/README.md",
        *(example / "README.md" for example in PROJECTS),
    ],
    ids=page_name,
)
def test_commands_are_copied_without_a_prompt(page: Path) -> None:
    assert re.findall(r"^(?:\$ .*|```console)$", page.read_text(), re.MULTILINE) == []


def test_the_file_of_users_in_the_reference_is_one(tmp_path: Path) -> None:
    (example,) = re.findall(r"^```toml\n(.*?)^```", (ROOT / "docs/reference/command-line.md").read_text(), re.M | re.S)
    (tmp_path / "people.toml").write_text(example)

    directory = read_directory(tmp_path / "people.toml")

    assert directory.users[0].scopes["https://api.example.com"] == ("read:user",)


def test_the_file_of_users_in_the_guide_has_the_scopes_of_the_application_that_names_it(tmp_path: Path) -> None:
    files = dict(re.findall(r'^```toml title="(.+?)"\n(.*?)^```', read_page("local-issuer"), re.M | re.S))
    (tmp_path / "people.toml").write_text(files["people.toml"])

    directory = read_directory(tmp_path / "people.toml")

    (resource,) = directory.resources
    required = re.findall(
        r'require_\w+\("(.+?)"\)', dict(FILE.findall(read_page("from-zero-to-production")))["main.py"]
    )
    assert set(required) == set(resource.scopes) == {"read:report", "write:report"}
    granted = [directory.users[0].scopes, directory.machines[0].scopes]
    assert [scopes[resource.indicator] for scopes in granted] == [("read:report",), ("write:report",)]
    assert [list(one.members) for one in directory.organizations] == [["dora"], ["erik"]]


def read_page(name: str) -> str:
    return (ROOT / f"docs/how-to/{name}.md").read_text()


def test_what_a_page_takes_over_from_a_file_is_there() -> None:
    lines = [line for page in PAGES for line in page.read_text().splitlines() if re.match(r"\s*-*8?\s*-*8\s*<", line)]

    assert len(lines) > 5
    for line in lines:
        # A formatter of code blocks once turned the line into an expression, and the page showed that.
        taken = re.fullmatch(r'--8<-- "([\w./-]+?)(?::(\w+))?"', line)
        assert taken is not None, line
        assert f"[start:{taken[2]}]" in (ROOT / taken[1]).read_text() if taken[2] else (ROOT / taken[1]).is_file()


PROOF = re.compile(r"`(tests/[\w/]+\.py)::(\w+)`")


def test_each_promise_of_the_threat_model_names_tests_that_exist() -> None:
    text = (ROOT / "SECURITY.md").read_text()
    rows = [line for line in text.splitlines() if line.startswith("| ") and "promise | proved by" not in line]

    assert len(rows) > 20
    for row in rows:
        proofs = PROOF.findall(row)
        assert proofs, f"no test is named: {row}"
        for path, name in proofs:
            assert f"def {name}(" in (ROOT / path).read_text(), f"{path}::{name} does not exist"
