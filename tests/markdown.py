"""Tables in Markdown, and pages with prose written by hand and generated tables between markers."""

from collections.abc import Mapping, Sequence


def replace_marked(text: str, blocks: Mapping[str, str]) -> str:
    """Return the text with other contents between its markers.

    Raises:
        ValueError: A pair of markers does not occur exactly once.
    """
    for name, block in blocks.items():
        opening, closing = f"<!-- {name} -->\n", f"<!-- /{name} -->"
        before, found, rest = text.partition(opening)
        _, ended, after = rest.partition(closing)
        if not found or not ended or opening in after:
            raise ValueError(f"expected the markers of {name!r} once")
        text = f"{before}{opening}\n{block}\n\n{closing}{after}"
    return text


def build_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table in Markdown. A bar in a cell is escaped."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(cell.replace('|', '&#124;') for cell in line)} |" for line in lines)
