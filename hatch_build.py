"""Build hook: the README as the long description, with links that also work on PyPI."""

import re
from pathlib import Path
from typing import Any

from hatchling.metadata.plugin.interface import MetadataHookInterface

# An image, or the end of a link, to a file of the repository.
_IMAGE = re.compile(r"!\[([^]]*)\]\((?!https?://)([^)]+)\)")
_LINK = re.compile(r"\[([^]]*)\]\((?!https?://|#)([^)]+)\)")


def rewrite_links(text: str, *, repository: str | None, version: str) -> str:
    """Return Markdown whose relative links and images point to the tag of a version in the repository.

    Without a repository, each becomes its text, because PyPI can't resolve it.
    """
    if repository is None:
        return _LINK.sub(r"\1", _IMAGE.sub(r"\1", text))
    base = repository.rstrip("/")
    text = _IMAGE.sub(rf"![\1]({base}/raw/v{version}/\2)", text)
    return _LINK.sub(rf"[\1]({base}/blob/v{version}/\2)", text)


class LongDescription(MetadataHookInterface):
    """Set the long description."""

    def update(self, metadata: dict[str, Any]) -> None:
        """Add `readme` to the metadata of the project."""
        readme = (Path(self.root) / "README.md").read_text(encoding="utf-8")
        repository = metadata.get("urls", {}).get("Repository")
        text = rewrite_links(readme, repository=repository, version=metadata["version"])
        metadata["readme"] = {"content-type": "text/markdown", "text": text}
