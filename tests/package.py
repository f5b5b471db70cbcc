"""Check the files of the wheel and the sdist: `python -m tests.package dist other-dist`, both built from one tree."""

import re
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[1]
PACKAGES: Final = ("fastapi_logto", "pytest_fastapi_logto")
_RELATIVE_LINK: Final = re.compile(r"\]\((?!https?://|#)")


def read_wheel(path: Path) -> dict[str, bytes]:
    """Return the contents of the files of a wheel by name."""
    with zipfile.ZipFile(path) as wheel:
        return {name: wheel.read(name) for name in wheel.namelist()}


def read_sdist(path: Path) -> dict[str, bytes]:
    """Return the contents of the files of an sdist by name, without the top folder."""
    with tarfile.open(path) as sdist:
        opened = ((member.name.partition("/")[2], sdist.extractfile(member)) for member in sdist.getmembers())
        return {name: file.read() for name, file in opened if file is not None}


def check_wheel(files: Mapping[str, bytes], *, tracked: Iterable[str]) -> Iterator[str]:
    """Yield what is wrong with a wheel: it contains the tracked files of the packages and its metadata."""
    expected = {name for name in tracked if name.startswith(tuple(f"{package}/" for package in PACKAGES))}
    yield from _compare("wheel", {name for name in files if ".dist-info/" not in name}, expected)
    yield from (f"wheel: expected {name}/py.typed, found none" for name in PACKAGES if f"{name}/py.typed" not in files)
    metadata = next((text.decode() for name, text in files.items() if name.endswith(".dist-info/METADATA")), "")
    _, _, description = metadata.partition("\n\n")
    if not description:
        yield "wheel: expected a long description, found none"
    if _RELATIVE_LINK.search(description):
        yield "wheel: expected absolute links in the long description, found a relative link"


def check_sdist(files: Mapping[str, bytes], *, tracked: Iterable[str]) -> Iterator[str]:
    """Yield what is wrong with an sdist: it contains the tracked files and `PKG-INFO`."""
    yield from _compare("sdist", files, {*tracked, "PKG-INFO"})


def check_paths(files: Mapping[str, bytes], *, folders: Iterable[Path]) -> Iterator[str]:
    """Yield the files that contain a path of the machine that built them."""
    texts = [f"{folder}/".encode() for folder in folders]
    for name, content in files.items():
        if any(text in content for text in texts):
            yield f"{name}: expected no path of this machine, found one"


def _compare(kind: str, found: Iterable[str], expected: Iterable[str]) -> Iterator[str]:
    yield from (f"{kind}: unexpected file {name}; commit or remove it" for name in sorted({*found} - {*expected}))
    yield from (f"{kind}: missing file {name}" for name in sorted({*expected} - {*found}))


def _list_tracked() -> list[str]:
    done = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True)
    return done.stdout.splitlines()


def main(folder: str, other: str) -> int:
    """Print what is wrong with the wheel and the sdist in a folder, or that they differ from those in the other."""
    (wheel,) = Path(folder).glob("*.whl")
    (sdist,) = Path(folder).glob("*.tar.gz")
    tracked = _list_tracked()
    problems = [
        *check_wheel(read_wheel(wheel), tracked=tracked),
        *check_sdist(read_sdist(sdist), tracked=tracked),
        *check_paths({**read_sdist(sdist), **read_wheel(wheel)}, folders=[ROOT, Path.home()]),
        *(
            f"{path.name}: expected the same bytes from a second build, found others"
            for path in (wheel, sdist)
            if path.read_bytes() != (Path(other) / path.name).read_bytes()
        ),
    ]
    for problem in problems:
        sys.stderr.write(f"{problem}\n")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
