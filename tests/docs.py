"""Run what the documentation shows, and generate its table of settings.

`python -m tests.docs` writes the table into the README.
"""

import re
import shutil
import sys
from pathlib import Path
from subprocess import run
from typing import cast

from fastapi_logto import LogtoSettings

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"


def build_settings_table() -> str:
    """Return the table of settings."""
    lines = ["| variable | default | meaning |", "|---|---|---|"]
    for name, field in sorted(LogtoSettings.model_fields.items(), key=lambda item: not item[1].is_required()):
        shown = "*required*" if field.is_required() else _show_default(field.get_default())
        lines.append(f"| `LOGTO_{name.upper()}` | {shown} | {field.description} |")
    return "\n".join(lines)


def _show_default(value: object) -> str:
    if value is None or value == ():
        return ""
    text = ", ".join(map(str, cast("tuple[object, ...]", value))) if isinstance(value, tuple) else str(value).lower()
    return f"`{text}`"


def write_tables(text: str) -> str:
    """Return a page with an updated table of settings."""
    return re.sub(
        r"(\[start:settings\] -->\n).*?(<!-- --8<-- \[end:settings\])",
        lambda match: f"{match[1]}{build_settings_table()}\n{match[2]}",
        text,
        flags=re.DOTALL,
    )


def copy_project(example: Path, folder: Path) -> Path:
    """Return a copy of an example project. In the repository, pytest would use the repository's configuration."""
    return shutil.copytree(example, folder / "project", ignore=shutil.ignore_patterns("__pycache__", "node_modules"))


def check_tests_pass(folder: Path) -> None:
    """Run the tests of a folder as a user does; raise if one does not pass."""
    # Older versions of uvicorn import a deprecated part of newer versions of websockets.
    warnings = ["-W", "error", "-W", "ignore:websockets:DeprecationWarning"]
    command = [sys.executable, "-m", "pytest", "-q", *warnings, "--strict-markers"]
    # Without schemathesis, which a user does not have and which doubles the start-up time.
    plugins = ["-p", "no:asyncio", "-p", "no:schemathesis"]
    # A test that hangs is ended with its stack in the output, before the timeout of the test that runs it.
    limits = ["-o", "faulthandler_timeout=60", "-o", "faulthandler_exit_on_timeout=true"]
    done = run(
        [*command, *plugins, *limits, "--rootdir", str(folder)], cwd=folder, capture_output=True, text=True, check=False
    )

    assert done.returncode == 0, done.stdout + done.stderr
    assert "passed" in done.stdout
    assert "skipped" not in done.stdout


def main() -> int:
    """Write the table into the README."""
    README.write_text(write_tables(README.read_text()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
