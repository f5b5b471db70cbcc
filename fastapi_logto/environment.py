"""The `LOGTO_…` variables of one tenant: all from the process environment, or all from one `.env` file.

Variables of two sources never mix. Otherwise a `.env` file in the current folder could send a secret of the environment
to its own endpoint, or replace the keys of the environment's tenant with a `LOGTO_FETCH_ENDPOINT`.
"""

import os
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Final

from fastapi_logto.errors import SettingsError
from fastapi_logto.strict_json import StrictJsonError, parse_object

_PREFIX: Final = "LOGTO_"

_QUOTES: Final = "\"'"
_SIMILARITY: Final = 0.8

CREDENTIALS: Final = (
    "LOGTO_MACHINE_ID",
    "LOGTO_MACHINE_SECRET",
    "LOGTO_MANAGEMENT_CLIENT_ID",
    "LOGTO_MANAGEMENT_CLIENT_SECRET",
    "LOGTO_NATIVE_ID",
    "LOGTO_NATIVE_DEVICE_ID",
    "LOGTO_REDIS_URL",
    "LOGTO_WEBHOOK_ID",
    "LOGTO_WEBHOOK_SIGNING_KEY",
)
"""Other variables, e.g. of the command line. They are not settings, but belong to the same tenant."""


class BrokenList(str):
    """A list without entries, or one that starts like a JSON list but is not valid JSON."""

    __slots__ = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Variables:
    """The variables of one source.

    Attributes:
        values: The variables that are set, by name; omitted from the `repr`, which would show secrets.
        source: `environment`, or the name of the file.
        ignored_file: The name of a file that exists and was not read, because the environment sets a variable.
        misspelt: Unknown names in this source, each with the variable that it resembles.
    """

    values: Mapping[str, str] = field(repr=False)
    source: str
    ignored_file: str | None
    misspelt: Mapping[str, str]

    def read_fields(self, fields: Mapping[str, bool]) -> dict[str, Any]:
        """Return the values of those fields that are set; `True` marks one that holds a list."""
        texts = {name: self.values.get(build_variable_name(name)) for name in fields}
        return {name: _parse_list(text) if fields[name] else text for name, text in texts.items() if text is not None}

    def explain_ignored(self) -> str | None:
        """Return why the file was not read; `None` if there was no file to ignore."""
        if self.ignored_file is None:
            return None
        return (
            f"{self.ignored_file}: not read, because the environment sets {', '.join(self.values)}; "
            "set all LOGTO_ variables in one place, the environment or the file"
        )

    def explain_misspelt(self) -> tuple[str, ...]:
        """Return a line for each name that may be misspelt."""
        return tuple(
            f"{found}: expected {meant}, found this name; correct it, or ignore this if it is for another program"
            for found, meant in self.misspelt.items()
        )

    def describe_source(self) -> str:
        """Return where the variables are from, for the log."""
        if self.source != "environment":
            return self.source
        return "the environment" if self.ignored_file is None else f"the environment, {self.ignored_file} is not read"


def read_variables(known: Collection[str], *, env_file: str | Path | None) -> Variables:
    """Return the variables of the environment if it sets one of them, otherwise those of the file, which may not exist.

    Only known names count: Kubernetes, for example, sets `LOGTO_PORT` for a service named `logto`. An empty variable
    counts as not set. `SettingsError` if the file can't be read, or a variable is not UTF-8 or in quotes.
    """
    document: Mapping[str, str | None] = os.environ
    try:
        values = _pick(document, known)
        if values or env_file is None:
            is_ignored = env_file is not None and is_file_or_pipe(env_file)
            return Variables(
                values=values,
                source="environment",
                ignored_file=str(env_file) if is_ignored else None,
                misspelt=_find_misspelt(document, known),
            )
        document = _read_file(env_file)
        values = _pick(document, known)
        return Variables(
            values=values,
            source=str(env_file),
            ignored_file=None,
            misspelt=_find_misspelt(document, known),
        )
    finally:
        # Error trackers show what they find in a frame.
        del document


def build_variable_name(field: str) -> str:
    """Return the name of a setting's environment variable."""
    return _PREFIX + field.upper()


def is_file_or_pipe(path: str | Path) -> bool:
    """Return whether a path can be read as a file; it may be a pipe."""
    # `Path` raises for a name that is too long or a folder without access; these functions return `False`.
    return os.path.exists(path) and not os.path.isdir(path)  # noqa: PTH110, PTH112


def _parse_list(text: str) -> object:
    """Return the entries of a variable, separated by commas or written as a JSON list; a `BrokenList` if it is neither.

    The entries of a JSON list are not checked.
    """
    if not text.startswith("["):
        # Only `[]` is an empty list: a template with empty variables must not switch a check off.
        return [part.strip() for part in text.split(",") if part.strip()] or BrokenList(text)
    try:
        document = parse_object(f'{{"list": {text}}}'.encode())
    except StrictJsonError:
        return BrokenList(text)
    return document["list"] if len(document) == 1 else BrokenList(text)


def _pick(source: Mapping[str, str | None], known: Collection[str]) -> dict[str, str]:
    texts = {name: text for name, text in ((name, (source.get(name) or "").strip()) for name in known) if text}
    problem = next(filter(None, map(_find_problem, texts, texts.values())), None)
    # What records local variables must find no secret in the frame of an error.
    del source
    if problem is not None:
        del texts
        raise SettingsError(problem)
    return texts


def _find_problem(name: str, text: str) -> str | None:
    try:
        text.encode()
    except UnicodeEncodeError:
        return f"{name}: expected UTF-8 text, found other bytes; set the variable again"
    if len(text) > 1 and text[0] == text[-1] and text[0] in _QUOTES:
        # From the file of `docker run --env-file`, for example. Quotes would become a part of the audience.
        return f"{name}: expected a value without quotes, found one in quotes; remove the quotes"
    return None


def _find_misspelt(source: Mapping[str, str | None], known: Collection[str]) -> dict[str, str]:
    """Return the unknown names of a source that resemble a known one. `LOGTO_PORT` of Kubernetes resembles none."""
    own = [name.removeprefix(_PREFIX) for name in known]
    found: dict[str, str] = {}
    for name in sorted(source):
        # Other names could change what a log shows.
        if name.startswith(_PREFIX) and name not in known and name.isascii() and name.isidentifier():
            meant = get_close_matches(name.removeprefix(_PREFIX), own, n=1, cutoff=_SIMILARITY)
            if meant:
                found[name] = f"{_PREFIX}{meant[0]}"
    return found


def _read_file(env_file: str | Path) -> Mapping[str, str | None]:
    from dotenv import dotenv_values  # noqa: PLC0415 - only if there is a file to read

    try:
        return dotenv_values(env_file, interpolate=False)
    except UnicodeDecodeError:
        raise SettingsError(f"{env_file}: expected UTF-8 text, found other bytes; save the file as UTF-8") from None
    except OSError as error:
        raise SettingsError(f"{env_file}: expected a readable file, found {type(error).__name__}") from None
