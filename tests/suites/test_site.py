"""The documentation builds as a site, and a build with a broken link fails."""

import os
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
FOLDERS = ["benchmarks", "docs", "example_app", "examples", "fastapi_logto", "pytest_fastapi_logto", "tests"]


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the project, in which a test may change files."""
    copy = tmp_path_factory.mktemp("project")
    for name in FILES:
        shutil.copy(ROOT / name, copy / name)
    for name in FOLDERS:
        shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("node_modules", "__pycache__"))
    return copy


def build(root: Path, *additions: tuple[str, str], **environment: str) -> tuple[bool, str]:
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
            settings = {**os.environ, **environment}
            done = run(command, cwd=root, env=settings, stdout=PIPE, stderr=STDOUT, text=True, check=False, timeout=120)
            output += re.sub(r"\x1b\[[\d;]*m", "", done.stdout)
            if done.returncode:
                return False, output
        return True, output
    finally:
        for name, text in before.items():
            (root / name).write_text(text)


@pytest.fixture(scope="module")
def site(copy: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built site, built without a warning."""
    succeeded, output = build(copy)
    assert succeeded, output
    lines = [line for line in output.splitlines() if not line.startswith("Build ")]
    assert lines == ["No issues found"]
    # Later builds change the copy's own.
    return shutil.copytree(copy / "site", tmp_path_factory.mktemp("built") / "site")


def test_every_page_of_the_site_is_there_as_markdown(copy: Path, site: Path) -> None:
    listed = re.findall(r"^- \[.+\]\((\S+\.md)\): .+[.。]$", (site / "llms.txt").read_text(), re.MULTILINE)
    pages = {page: (site / page).read_text() for page in listed}
    assert sorted(pages) == sorted(str(page.relative_to(copy / "docs")) for page in (copy / "docs").rglob("*.md"))
    for page, text in pages.items():
        address = site / page.removesuffix(".md") / "index.html"
        assert address.is_file() or page == "index.md"
        assert re.search(r"^# ", text, re.MULTILINE), page
        assert not re.search(r"^(--8<--|:::|description:)", text, re.MULTILINE), page


def test_a_published_site_links_to_its_address_its_picture_and_its_repository(copy: Path, site: Path) -> None:
    published = {"SITE_URL": "https://docs.test/logto/", "REPO_URL": "https://github.com/owner/fastapi-logto"}
    succeeded, output = build(copy, **published)

    assert succeeded, output
    html = (copy / "site/how-to/tenant/index.html").read_text()
    assert 'rel="canonical" href="https://docs.test/logto/how-to/tenant/"' in html
    assert 'property="og:image" content="https://docs.test/logto/images/card.png"' in html
    assert (copy / "site/images/card.png").is_file()
    assert 'href="https://github.com/owner/fastapi-logto/edit/main/docs/how-to/tenant.md"' in html
    local = (site / "how-to/tenant/index.html").read_text()
    assert 'property="og:description" content="Set up an API resource' in local
    assert not re.search(r'canonical|og:image|github\.com/owner|"edit/', local)


def test_the_markdown_contains_what_a_page_includes(site: Path) -> None:
    texts = {name: (site / f"reference/{name}.md").read_text() for name in ("api", "errors", "settings")}
    assert "| `LOGTO_ENDPOINT` | *required* | URL of the tenant." in texts["settings"]
    assert "### `fastapi_logto.LogtoAuth.require_scopes`\n\n```python\nrequire_scopes(*scopes: str)" in texts["api"]
    assert "\n    audience: Resource indicators of the API in Logto; one or more." in texts["api"]
    assert "### `fastapi_logto.errors.ExpiredTokenError`" in texts["errors"]


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
