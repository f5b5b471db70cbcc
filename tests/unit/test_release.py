"""The checks before a release tags a commit."""

import subprocess
from collections.abc import Callable
from datetime import date
from pathlib import Path

import pytest

from tests.release import check_release, tag_release

TODAY = date(2030, 1, 2)


def git(root: Path, *arguments: str) -> str:
    done = subprocess.run(["git", *arguments], cwd=root, capture_output=True, text=True, check=True)
    return done.stdout.strip()


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a repository that is ready for the release 1.2.0."""
    for name in ("AUTHOR", "COMMITTER"):
        monkeypatch.setenv(f"GIT_{name}_NAME", "A")
        monkeypatch.setenv(f"GIT_{name}_EMAIL", "a@example.com")
    for name in ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", "/dev/null")
    (tmp_path / "pyproject.toml").write_text('[project]\nversion = "1.2.0"\n')
    (tmp_path / "CHANGELOG.md").write_text("# Changelog\n\n## 1.2.0 — 2030-01-02\n\n## 1.1.0 — 2029-01-02\n")
    git(tmp_path, "init", "--quiet", "--initial-branch", "main")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "--quiet", "--message", "first")
    return tmp_path


def test_a_release_that_is_ready_is_tagged(repository: Path) -> None:
    assert list(check_release(repository, "1.2.0", today=TODAY)) == []

    tag_release(repository, "1.2.0")

    assert git(repository, "rev-parse", "v1.2.0^{commit}") == git(repository, "rev-parse", "HEAD")
    assert git(repository, "cat-file", "-t", "v1.2.0") == "tag"


def change_the_tree(root: Path) -> None:
    (root / "new.py").write_text("")


def leave_main(root: Path) -> None:
    git(root, "switch", "--quiet", "--create", "other")


def detach(root: Path) -> None:
    git(root, "switch", "--quiet", "--detach")


def tag(root: Path) -> None:
    git(root, "tag", "v1.2.0")


def date_the_changelog(text: str) -> Callable[[Path], None]:
    def change(root: Path) -> None:
        file = root / "CHANGELOG.md"
        file.write_text(file.read_text().replace("## 1.2.0 — 2030-01-02", text))
        git(root, "commit", "--quiet", "--all", "--message", "changelog")

    return change


HEADING = "CHANGELOG.md: expected '## 1.2.0 — 2030-01-02' as the first heading, found {}; set the date (UTC)"


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (change_the_tree, "working tree: expected no changes, found 1; commit or remove them"),
        (leave_main, "branch: expected main, found other; run git switch main"),
        (detach, "branch: expected main, found no branch; run git switch main"),
        (tag, "tag: expected no tag v1.2.0, found one; a released version never changes, so increase it"),
        (date_the_changelog("## 1.2.0 — unreleased"), HEADING.format("'## 1.2.0 — unreleased'")),
        (date_the_changelog("## 1.2.0 — 2030-01-01"), HEADING.format("'## 1.2.0 — 2030-01-01'")),
        (date_the_changelog("## 1.3.0 — 2030-01-02"), HEADING.format("'## 1.3.0 — 2030-01-02'")),
    ],
)
def test_a_release_that_is_not_ready_is_refused(repository: Path, change: Callable[[Path], None], problem: str) -> None:
    change(repository)

    assert list(check_release(repository, "1.2.0", today=TODAY)) == [problem]


def test_a_version_that_pyproject_does_not_declare_is_refused(repository: Path) -> None:
    assert list(check_release(repository, "1.3.0", today=TODAY)) == [
        "pyproject.toml: expected the version 1.3.0, found 1.2.0; change it",
        HEADING.replace("1.2.0", "1.3.0").format("'## 1.2.0 — 2030-01-02'"),
    ]


@pytest.mark.parametrize("version", ["", "1.2", "v1.2.0", "1.2.0.dev1", "1.2.0; ls"])
def test_a_text_that_is_not_a_version_is_refused(repository: Path, version: str) -> None:
    assert list(check_release(repository, version, today=TODAY)) == [
        f"VERSION: expected e.g. 0.1.0 or 0.2.0rc1, found {version!r}"
    ]
