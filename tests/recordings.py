"""Recordings of `doctor` for the documentation: `python -m tests.recordings` writes them from real runs.

Each is the output of the command in a situation of `tests.tenants`. Only values that differ between runs are
replaced: ports, key IDs, sizes and times.
"""

import html
import re
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from rich.console import Console
from rich.text import Text

from tests.integration.processes import run_command
from tests.tenants import FAULTS, run_situation

IMAGES: Final = Path(__file__).parents[1] / "docs/images"
WIDTH: Final = 100
_LETTER_WIDTH: Final = 12.2
_VARYING: Final = (
    (re.compile(r"127\.0\.0\.1:(?!8000\b)\d+"), "127.0.0.1:33001"),
    (re.compile(r"kid ('?)[\w-]{12,}"), r"kid \1Kd3xQf9pB_2w"),
    (re.compile(r"\b5\d\d of at most 16384"), "550 of at most 16384"),
    (re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC"), "2026-11-25 12:00:00 UTC"),
    (re.compile(r"\b\d{1,2} s ago"), "1 s ago"),
    (re.compile(r"\b17\d{8}\b"), "1795608000"),
)


def find_file(name: str) -> Path:
    """Return the file of a recording."""
    return IMAGES / f"doctor-{name}.svg"


def record(name: str, *, colours: bool) -> str:
    """Run the command in a situation and return its output, with varying values replaced and lines right-stripped."""
    # In an empty folder, because a `.env` file in the current one would add a line to the output.
    with run_situation(name) as situation, TemporaryDirectory() as folder:
        own = {"COLUMNS": str(WIDTH), **({"FORCE_COLOR": "1", "TERM": "xterm-256color"} if colours else {})}
        environment = {**situation.environment, **own}
        done = run_command("doctor", "--token-stdin", stdin=situation.token, environment=environment, cwd=Path(folder))
    assert done.stderr == ""
    text = done.stdout
    for pattern, replacement in _VARYING:
        text = pattern.sub(replacement, text)
    return "\n".join(line.rstrip() for line in text.rstrip().splitlines())


def read_recording(svg: str) -> str:
    """Return the text of a recording, line by line."""
    found = re.findall(r'<text class="[^"]*-r\d+" x="([\d.]+)"[^>]*#[\w-]+-line-(\d+)\)">(.*?)</text>', svg)
    lines: dict[int, str] = {}
    for x, number, content in found:
        before = lines.get(int(number), "").ljust(round(float(x) / _LETTER_WIDTH))
        lines[int(number)] = before + html.unescape(content).replace("\xa0", " ")
    return "\n".join(lines.get(number, "").rstrip() for number in range(max(lines) + 1)).rstrip()


def main() -> int:
    """Write all recordings."""
    for name in FAULTS:
        with Path("/dev/null").open("w") as nowhere:
            console = Console(record=True, width=WIDTH, file=nowhere, force_terminal=True, color_system="truecolor")
            console.print(Text.from_ansi(record(name, colours=True)))
        svg = console.export_svg(title="fastapi-logto doctor --token-stdin", unique_id=f"doctor-{name}")
        # Readers of the documentation must not send requests to a font server.
        svg = re.sub(r"@font-face \{.*?\}\s*", "", svg, flags=re.DOTALL)
        find_file(name).write_text("\n".join(line.rstrip() for line in svg.splitlines()) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
