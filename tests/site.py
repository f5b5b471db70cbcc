"""Check the built site and add its pages as Markdown, as a step of `make docs`: `python -m tests.site`."""

import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import griffe

from tests.docs import ROOT

FRONT_MATTER = re.compile(r'\A---\ndescription: "?(.*?)"?\n.*?^---\n+', re.MULTILINE | re.DOTALL)
NAVIGATION = re.compile(r"^( +)- ([^:\n]+):(?: (\S+\.md))?$", re.MULTILINE)
SNIPPET = re.compile(r'^--8<-- "([\w./-]+?)(?::(\w+))?"$', re.MULTILINE)
REFERENCE = re.compile(r"^::: (\S+)\n(?:    .*\n)*", re.MULTILINE)

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


@cache
def load(package: str) -> griffe.Object | griffe.Alias:
    """Return a package, with its signatures and docstrings."""
    return griffe.load(package, search_paths=[ROOT])


def describe(name: str) -> str:
    """Return signatures and docstrings of an object and of its public members, as Markdown."""
    package, _, path = name.partition(".")
    found = load(package)[path]
    documented = found.final_target if isinstance(found, griffe.Alias) else found
    members = [member for key, member in documented.members.items() if not key.startswith("_") and not member.is_alias]
    parts: list[str] = []
    for one in [documented, *(member for member in members if member.docstring)]:
        title = name if one is documented else f"{name}.{one.name}"
        text = one.docstring.value if one.docstring else ""
        signature = f"\n\n```python\n{one.signature()}\n```" if isinstance(one, griffe.Function) else ""
        parts.append(f"### `{title}`{signature}\n\n{text}\n")
    return "\n".join(parts)


def expand(text: str, root: Path) -> str:
    """Return a page without front matter, with its snippets and the reference that it includes."""

    def include(match: re.Match[str]) -> str:
        path, section = match.groups()
        included = (root / path).read_text()
        if section:
            marks = rf"\[start:{section}\][^\n]*\n(.*?)^[^\n]*\[end:{section}\]"
            (included,) = re.findall(marks, included, re.MULTILINE | re.DOTALL)
        return str(included).rstrip("\n")

    text = SNIPPET.sub(include, FRONT_MATTER.sub("", text))
    return REFERENCE.sub(lambda match: describe(match[1]), text)


def write_markdown(root: Path) -> None:
    """Write each page as Markdown beside its HTML, `how-to/tenant.md` for `how-to/tenant/`, and the list `llms.txt`.

    Language models read these instead of HTML. Links between pages stay as they are.
    """
    site, configuration = root / "site", (root / "mkdocs.yml").read_text()
    (description,) = re.findall(r"^site_description: (.*)$", configuration, re.MULTILINE)
    lines, sections, shown = ["# fastapi-logto", "", f"> {description}."], list[str](), ""
    for indent, title, path in NAVIGATION.findall(configuration):
        if not path:
            sections[len(indent) // 4 :] = [title]
            continue
        heading = ": ".join(sections[: len(indent) // 4]) or "Overview"
        if heading != shown:
            lines += ["", f"## {heading}", ""]
            shown = heading
        text = (root / "docs" / path).read_text()
        (site / path).write_text(expand(text, root))
        found = FRONT_MATTER.match(text)
        lines.append(f"- [{title}]({path}): {found[1] if found else ''}")
    (site / "llms.txt").write_text("\n".join(lines) + "\n")


def main(root: Path = ROOT) -> int:
    """Print broken links; add the Markdown if there are none."""
    broken = list(find_broken_links(root / "site"))
    for line in broken:
        sys.stderr.write(f"broken link: {line}\n")
    if not broken:
        write_markdown(root)
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
