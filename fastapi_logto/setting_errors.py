"""What is wrong with settings, for the person who passes them as arguments or sets them as variables."""

from collections.abc import Collection, Iterator, Mapping
from typing import Any, TypeAlias

from pydantic import ValidationError
from pydantic.fields import FieldInfo

from fastapi_logto.environment import build_variable_name
from fastapi_logto.redaction import quote_setting

_Fields: TypeAlias = Mapping[str, FieldInfo]


def explain_arguments(error: ValidationError, fields: _Fields, *, given: Collection[str]) -> Iterator[str]:
    """Yield a line for each problem of the arguments. If one is missing, the last line says why no variable is read."""
    missing: list[str] = []
    for problem in error.errors():
        if problem["type"] == "missing":
            name = str(problem["loc"][0])
            missing.append(name)
            example = _find_example(fields[name])
            yield f'argument {name}: {name} is required; found nothing; for example {name}="{example}"'
        else:
            yield _explain_one(problem, fields)
    if not missing:
        return
    if not given:
        yield (
            f"LOGTO_ variables: not read by LogtoSettings(); pass {' and '.join(missing)}, or call "
            "LogtoSettings.from_environment(), which reads them"
        )
        return
    variables = [build_variable_name(name) for name in given if name in fields]
    instead = f"set {', '.join(variables)} and " if variables else ""
    yield (
        f"LOGTO_ variables: not read, because settings are passed as arguments ({', '.join(given)}); pass "
        f"{' and '.join(missing)} too, or {instead}pass no settings: "
        "LogtoAuth() and LogtoSettings.from_environment() read the variables"
    )


def explain_variables(error: ValidationError, fields: _Fields) -> Iterator[str]:
    """Yield a line for each problem of the variables."""
    for problem in error.errors():
        yield _explain_one(problem, fields)


def _explain_one(problem: Mapping[str, Any], fields: _Fields) -> str:
    name = str(problem["loc"][0])
    if name not in fields:
        return f"unknown setting: {name}"
    is_missing = problem["type"] == "missing"
    expected = f"{name} is required" if is_missing else problem["msg"].removeprefix("Value error, ")
    found = "nothing" if is_missing or problem["input"] is None else quote_setting(problem["input"])
    variable, example = build_variable_name(name), _find_example(fields[name])
    return f"{variable} (argument {name}): {expected}; found {found}; for example {variable}={example}"


def _find_example(field: FieldInfo) -> str:
    return str((field.examples or [""])[0])
