"""Release a version: `python -m tests.release check 0.1.0`, then build, then `python -m tests.release tag 0.1.0`."""

import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[1]
_VERSION: Final = re.compile(r"\d+\.\d+\.\d+(?:(?:a|b|rc)\d+)?")


def check_release(root: Path, version: str, *, today: date) -> Iterator[str]:
    """Yield what prevents a release of the version from the repository in a folder."""
    if not _VERSION.fullmatch(version):
        yield f"VERSION: expected e.g. 0.1.0 or 0.2.0rc1, found {version!r}"
        return
    declared = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
    if declared != version:
        yield f"pyproject.toml: expected the version {version}, found {declared}; change it"
    heading = f"## {version} — {today.isoformat()}"
    newest = re.search(r"^## .*", (root / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE)
    if newest is None or newest[0] != heading:
        found = newest[0] if newest else "none"
        yield f"CHANGELOG.md: expected {heading!r} as the first heading, found {found!r}; set the date (UTC)"
    branch = _git(root, "branch", "--show-current")
    if branch != "main":
        yield f"branch: expected main, found {branch or 'no branch'}; run git switch main"
    if changed := _git(root, "status", "--porcelain"):
        yield f"working tree: expected no changes, found {len(changed.splitlines())}; commit or remove them"
    if _git(root, "tag", "--list", f"v{version}"):
        yield f"tag: expected no tag v{version}, found one; a released version never changes, so increase it"


def tag_release(root: Path, version: str) -> None:
    """Tag the current commit."""
    _git(root, "tag", "--annotate", f"v{version}", "--message", f"fastapi-logto {version}")


def _git(root: Path, *arguments: str) -> str:
    done = subprocess.run(["git", *arguments], cwd=root, stdout=subprocess.PIPE, text=True, check=True)
    return done.stdout.strip()


def main(step: str, version: str = "") -> int:
    """Check whether a version can be released; the step `tag` also tags it."""
    problems = list(check_release(ROOT, version, today=datetime.now(UTC).date()))
    for problem in problems:
        sys.stderr.write(f"release: {problem}\n")
    if problems:
        return 1
    if step == "tag":
        tag_release(ROOT, version)
        sys.stdout.write(f"release: tagged v{version}. To publish it: git push origin main v{version}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
