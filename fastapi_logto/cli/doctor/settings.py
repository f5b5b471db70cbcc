"""The settings in use and their source: the environment or one file."""

from dataclasses import dataclass
from pathlib import Path
from typing import cast

from fastapi_logto.cli.results import Check
from fastapi_logto.environment import build_variable_name
from fastapi_logto.redaction import quote
from fastapi_logto.settings import LogtoSettings, read_known_variables


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundSetting:
    """A setting and its source: `environment`, the name of a file, `code`, or `default`."""

    variable: str
    value: str
    source: str


def list_settings(settings: LogtoSettings, *, env_file: Path | None) -> tuple[FoundSetting, ...]:
    """Return every setting with its value and source."""
    variables = read_known_variables(env_file=env_file)
    return tuple(
        FoundSetting(
            variable=build_variable_name(name),
            value=_describe(getattr(settings, name)),
            source=variables.source if build_variable_name(name) in variables.values else "default",
        )
        for name in LogtoSettings.model_fields
    )


def list_given(settings: LogtoSettings) -> tuple[FoundSetting, ...]:
    """Return every setting of a `LogtoAuth` that gets its settings in code."""
    return tuple(
        FoundSetting(
            variable=build_variable_name(name),
            value=_describe(getattr(settings, name)),
            source="code" if name in settings.model_fields_set else "default",
        )
        for name in LogtoSettings.model_fields
    )


def check_source(env_file: Path | None) -> tuple[Check, ...]:
    """Return a row that explains why the file is not read, if there is one, and a row for each misspelt variable."""
    variables = read_known_variables(env_file=env_file)
    explanation = variables.explain_ignored()
    rows: list[Check] = []
    if explanation is not None:
        name, _, text = explanation.partition(": ")
        rows.append(Check(name=name, status="skipped", found=text.partition("; ")[0]))
    rows.extend(
        Check(
            name=found,
            status="warning",
            found=f"unknown, resembles {meant}",
            advice=f"Rename it to {meant}. Ignore this if it is for another program.",
        )
        for found, meant in variables.misspelt.items()
    )
    return tuple(rows)


def _describe(value: object) -> str:
    if value is None or value == ():
        return ""
    if isinstance(value, tuple):
        return ", ".join(map(str, cast("tuple[object, ...]", value)))
    return str(value).lower() if isinstance(value, bool) else str(value)


def check_audience(settings: LogtoSettings) -> tuple[Check, ...]:
    """Check the form of each audience: Logto issues no tokens for some, and others are usually a mistake."""
    return tuple(_check_one(audience, settings) for audience in settings.audience)


def _check_one(audience: str, settings: LogtoSettings) -> Check:
    scheme, colon, rest = audience.partition(":")
    if not (
        colon and rest and scheme.isascii() and scheme.replace("+", "").replace("-", "").replace(".", "").isalnum()
    ):
        return Check(
            name="Audience",
            status="failed",
            found=quote(audience),
            advice="Logto issues tokens only for absolute URIs: name the API resource https://… or urn:… in the "
            "console, and set LOGTO_AUDIENCE to the same value.",
        )
    if "#" in audience:
        return Check(
            name="Audience",
            status="failed",
            found=quote(audience),
            advice="Logto issues no tokens for an identifier with a fragment (#): create an API resource without one.",
        )
    advice = ""
    if audience.endswith(".logto.app/api"):
        advice = (
            "This is Logto's Management API. Create an API resource for your API, and set LOGTO_AUDIENCE to its "
            "identifier."
        )
    elif audience.rstrip("/") in {settings.endpoint, settings.issuer}:
        advice = "This is the tenant itself. Set LOGTO_AUDIENCE to the identifier of the API resource."
    elif audience.endswith("/"):
        advice = "It ends with a slash. This is correct only if the API identifier in the console ends with one too."
    return Check(name="Audience", status="warning" if advice else "ok", found=audience, advice=advice)
