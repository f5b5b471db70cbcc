"""The checks of the wheel and the sdist, and the long description for PyPI."""

import re
import tomllib
from pathlib import Path

import pytest

from hatch_build import rewrite_links
from tests.package import ROOT, check_paths, check_sdist, check_wheel

TRACKED = ["fastapi_logto/__init__.py", "fastapi_logto/py.typed", "pytest_fastapi_logto/py.typed", "tests/docs.py"]
METADATA = "fastapi_logto-0.1.0.dist-info/METADATA"
WHEEL = {
    **dict.fromkeys(TRACKED[:3], b""),
    METADATA: b"Name: fastapi-logto\n\n[Logto](https://logto.io), [more](#more)",
}
SDIST = dict.fromkeys([*TRACKED, "PKG-INFO"], b"")


def test_a_wheel_of_the_tracked_files_is_valid() -> None:
    assert list(check_wheel(WHEEL, tracked=TRACKED)) == []


@pytest.mark.parametrize(
    ("changed", "problem"),
    [
        ({"tests/docs.py": b""}, "wheel: unexpected file tests/docs.py; commit or remove it"),
        ({"fastapi_logto/__init__.py": None}, "wheel: missing file fastapi_logto/__init__.py"),
        ({METADATA: b"Name: fastapi-logto\n"}, "wheel: expected a long description, found none"),
        (
            {METADATA: b"Name: fastapi-logto\n\n[docs](docs/index.md)"},
            "wheel: expected absolute links in the long description, found a relative link",
        ),
    ],
)
def test_a_problem_of_a_wheel_is_named(changed: dict[str, bytes | None], problem: str) -> None:
    files = {name: content for name, content in {**WHEEL, **changed}.items() if content is not None}

    assert list(check_wheel(files, tracked=TRACKED)) == [problem]


def test_a_wheel_without_py_typed_is_invalid_even_if_git_does_not_track_it() -> None:
    name = "fastapi_logto/py.typed"
    files = {other: content for other, content in WHEEL.items() if other != name}

    problems = list(check_wheel(files, tracked=[other for other in TRACKED if other != name]))
    assert problems == [f"wheel: expected {name}, found none"]


def test_an_sdist_contains_exactly_the_tracked_files() -> None:
    assert list(check_sdist(SDIST, tracked=TRACKED)) == []
    assert list(check_sdist({**SDIST, ".git": b""}, tracked=[*TRACKED, "Makefile"])) == [
        "sdist: unexpected file .git; commit or remove it",
        "sdist: missing file Makefile",
    ]


def test_a_path_of_the_machine_is_found() -> None:
    files = {"a.py": b"open('/srv/build/project/data')", "b.py": b"open('/srv/build/projects')"}

    assert list(check_paths(files, folders=[Path("/srv/build/project")])) == [
        "a.py: expected no path of this machine, found one"
    ]


README = """\
![A page](docs/a.png) and [the code](example_app/), [a part](#part), [Logto](https://logto.io)
| [**Authorize** on `/docs`](docs/page.md#sign-in) |
"""


def test_the_long_description_links_to_the_tag_in_the_repository() -> None:
    assert (
        rewrite_links(README, repository="https://forge.example.com/owner/name/", version="1.2.3")
        == """\
![A page](https://forge.example.com/owner/name/raw/v1.2.3/docs/a.png) and \
[the code](https://forge.example.com/owner/name/blob/v1.2.3/example_app/), [a part](#part), [Logto](https://logto.io)
| [**Authorize** on `/docs`](https://forge.example.com/owner/name/blob/v1.2.3/docs/page.md#sign-in) |
"""
    )


def test_the_long_description_has_no_relative_link_if_there_is_no_repository() -> None:
    assert (
        rewrite_links(README, repository=None, version="1.2.3")
        == """\
A page and the code, [a part](#part), [Logto](https://logto.io)
| **Authorize** on `/docs` |
"""
    )


def test_each_supported_python_is_tested_and_declared() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    tested = re.findall(r"^PYTHONS \?= (.+)$", (ROOT / "Makefile").read_text(), re.MULTILINE)

    declared = re.findall(r"Python :: (3\.\d+)$", "\n".join(project["classifiers"]), re.MULTILINE)
    assert tested == [" ".join(declared)]
    assert project["requires-python"] == f">={declared[0]}"
