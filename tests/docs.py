"""Write the table of settings, generated from the code, into the README: `python -m tests.docs`."""

import re
import sys
from pathlib import Path
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


def main() -> int:
    """Write the table into the README."""
    README.write_text(write_tables(README.read_text()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
