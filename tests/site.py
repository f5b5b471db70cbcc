"""Check the links of the built site, a step of `make docs`: `python -m tests.site`."""

import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

from tests.docs import ROOT

# Served below the root of the site only.
NOT_FOUND_PAGE = "404.html"


@dataclass(slots=True)
class Targets:
    """The links of an HTML page, and the anchors that it has."""

    links: list[str] = field(default_factory=list[str])
    anchors: set[str] = field(default_factory=set[str])


class _Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.targets = Targets()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:  # noqa: ARG002 - the base's name
        for name, value in attrs:
            if value is not None and name in ("href", "src"):
                self.targets.links.append(value)
            elif value is not None and name in ("id", "name"):
                self.targets.anchors.add(value)


def read_targets(page: Path) -> Targets:
    """Return the links and anchors of a page."""
    reader = _Reader()
    reader.feed(page.read_text())
    return reader.targets


def find_broken_links(site: Path) -> Iterator[str]:
    """Find links, images and scripts that the site does not contain. Links to other sites are not checked.

    Zensical checks links and anchors in Markdown, but no images, navigation or HTML.
    """
    pages = {page: read_targets(page) for page in sorted(site.rglob("*.html")) if page.name != NOT_FOUND_PAGE}
    for page, targets in pages.items():
        for link in dict.fromkeys(targets.links):
            url = urlsplit(link)
            if url.scheme or url.netloc:
                continue
            target = (page.parent / unquote(url.path)).resolve() if url.path else page
            target = target / "index.html" if target.is_dir() else target
            has_anchor = not url.fragment or target not in pages or unquote(url.fragment) in pages[target].anchors
            if link.startswith("/") or not target.is_file() or not has_anchor:
                yield f"{page.relative_to(site)}: {link}"


def main(site: Path = ROOT / "site") -> int:
    """Print the broken links of the built site."""
    broken = list(find_broken_links(site))
    for line in broken:
        sys.stderr.write(f"broken link: {line}\n")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
