"""The documentation builds as a site, and a build with a broken link fails."""

import re
import shutil
import sys
from pathlib import Path
from subprocess import PIPE, STDOUT, run

import pytest

from tests.docs import ROOT

# As in `make docs`.
BUILD = [[str(Path(sys.executable).with_name("zensical")), "build", "--strict"], [sys.executable, "-m", "tests.site"]]
FILES = ["CHANGELOG.md", "README.md", "SECURITY.md", "mkdocs.yml"]
FOLDERS = ["benchmarks", "docs", "example_app", "fastapi_logto", "pytest_fastapi_logto", "tests"]


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the project, in which a test may change files."""
    copy = tmp_path_factory.mktemp("project")
    for name in FILES:
        shutil.copy(ROOT / name, copy / name)
    for name in FOLDERS:
        shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("node_modules", "__pycache__"))
    return copy


def build(root: Path, *additions: tuple[str, str]) -> tuple[bool, str]:
    """Build the site with additional text in some files; return whether that succeeded, and the output."""
    before = {name: (root / name).read_text() for name, _ in additions}
    for name, text in additions:
        if name == "mkdocs.yml":
            (root / name).write_text((root / name).read_text().replace("\nnav:\n", f"\nnav:\n{text}\n"))
        else:
            (root / name).write_text(f"{(root / name).read_text()}\n{text}\n")
    try:
        output = ""
        for command in BUILD:
            done = run(command, cwd=root, stdout=PIPE, stderr=STDOUT, text=True, check=False, timeout=120)
            output += re.sub(r"\x1b\[[\d;]*m", "", done.stdout)
            if done.returncode:
                return False, output
        return True, output
    finally:
        for name, text in before.items():
            (root / name).write_text(text)


def test_the_documentation_builds_without_a_warning(copy: Path) -> None:
    succeeded, output = build(copy)

    assert succeeded, output
    lines = [line for line in output.splitlines() if not line.startswith("Build ")]
    assert lines == ["No issues found"]


def test_a_broken_link_in_markdown_fails_the_build(copy: Path) -> None:
    succeeded, output = build(
        copy,
        ("docs/index.md", "See [the page](how-to/nowhere.md)."),
        ("docs/index.md", "See [the section of a page](how-to/tenant.md#nowhere)."),
        ("docs/index.md", "See [the section](#nowhere)."),
        ("docs/reference/api.md", "See [the class][fastapi_logto.Nowhere]."),
    )

    assert not succeeded
    found = re.findall(r"^Warning: (.*)$", output, re.MULTILINE)
    assert sorted(found) == ["anchor does not exist"] * 2 + ["page does not exist", "unresolved autoref"]


@pytest.mark.parametrize(
    ("page", "text", "expected"),
    [
        ("docs/index.md", '--8<-- "nowhere.md"', "SnippetMissingError"),
        ("docs/reference/api.md", "::: fastapi_logto.nowhere", "fastapi_logto.nowhere could not be found"),
    ],
)
def test_a_page_that_includes_something_unknown_fails_the_build(
    copy: Path, page: str, text: str, expected: str
) -> None:
    succeeded, output = build(copy, (page, text))

    assert not succeeded
    assert expected in output


def test_a_broken_link_in_html_or_navigation_fails_the_build(copy: Path) -> None:
    succeeded, output = build(
        copy,
        ("docs/changelog.md", "See [the page](/how-to/tenant/)."),
        ("docs/changelog.md", "![A picture](images/nowhere.png)"),
        ("docs/changelog.md", '<a href="how-to/nowhere/">the page</a>'),
        ("docs/changelog.md", '<a href="how-to/tenant/#nowhere">the section</a>'),
        ("mkdocs.yml", "  - Nowhere: nowhere.md"),
    )

    assert not succeeded
    broken = re.findall(r"^broken link: changelog/index.html: (\S+)$", output, re.MULTILINE)
    assert {*broken} == {
        "/how-to/tenant/",
        "../images/nowhere.png",
        "../how-to/nowhere/",
        "../how-to/tenant/#nowhere",
        "../nowhere.md",
    }
