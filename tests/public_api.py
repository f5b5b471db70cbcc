"""The public API as text, one line per name: `python -m tests.public_api` writes `public_api.txt`.

It is read from the source and not from the running code, so that it is the same with every Python. A class also lists
the members that it inherits from a class of this package that is not exported, and so has no lines of its own.
"""

import sys
from collections.abc import Set
from pathlib import Path

import griffe

import fastapi_logto

MODULES = (
    "fastapi_logto",
    "fastapi_logto.client",
    "fastapi_logto.errors",
    "fastapi_logto.introspection",
    "fastapi_logto.revocation",
    "fastapi_logto.testing",
)
FILE = Path(__file__).with_name("public_api.txt")
# Of the tree, or of the installed wheel.
SOURCE = Path(fastapi_logto.__file__).parents[1]
_SHOWN_DUNDERS = {"__init__", "__call__"}


def describe_api() -> str:
    """Return the public names with their signatures."""
    package = griffe.load("fastapi_logto", search_paths=[SOURCE])
    lines: list[str] = []
    exported = {value.path for name in MODULES for value in _list_exports(package, name).values()}
    for name in MODULES:
        lines.append(f"# {name}")
        for export, value in sorted(_list_exports(package, name).items()):
            lines.extend(_describe(export, value, exported=exported))
        lines.append("")
    return "\n".join(lines)


def _list_exports(package: griffe.Object | griffe.Alias, name: str) -> dict[str, griffe.Object]:
    module = package if name == "fastapi_logto" else package[name.removeprefix("fastapi_logto.")]
    exports: dict[str, griffe.Object] = {}
    for export in map(str, module.exports or ()):
        # By its import, because a module may have the same name, as `auth` has.
        path = module.imports.get(export, f"{module.path}.{export}")
        value = package[path.removeprefix("fastapi_logto.")]
        exports[export] = value.final_target if isinstance(value, griffe.Alias) else value
    return exports


def _describe(name: str, value: griffe.Object, *, exported: Set[str]) -> list[str]:
    if not isinstance(value, griffe.Class):
        return [_line(name, value)]
    members = {key: member for key, member in value.members.items() if isinstance(member, griffe.Object)}
    for base in value.mro():
        if base.path not in exported:
            inherited = {key: member for key, member in base.members.items() if isinstance(member, griffe.Object)}
            members = inherited | members
    shown = {key: member for key, member in members.items() if not key.startswith("_") or key in _SHOWN_DUNDERS}
    lines = [f"class {name}({', '.join(map(str, value.bases))})"]
    return lines + [f"    {_line(key, member)}" for key, member in sorted(shown.items())]


def _line(name: str, value: griffe.Object) -> str:
    if isinstance(value, griffe.Function):
        parameters = ", ".join(_parameter(parameter) for parameter in value.parameters)
        return f"{name}({parameters}) -> {value.returns}"
    if isinstance(value, griffe.Attribute) and value.annotation is not None:
        kind = " (property)" if "property" in value.labels else ""
        return f"{name}: {value.annotation}{kind}"
    return f"{name} = {value.value if isinstance(value, griffe.Attribute) else value.kind.value}"


def _parameter(parameter: griffe.Parameter) -> str:
    stars = {griffe.ParameterKind.var_positional: "*", griffe.ParameterKind.var_keyword: "**"}
    keyword = "" if parameter.kind is not griffe.ParameterKind.keyword_only else "(keyword) "
    star = stars.get(parameter.kind, "") if parameter.kind else ""
    annotation = f": {parameter.annotation}" if parameter.annotation is not None else ""
    default = f" = {parameter.default}" if parameter.default is not None and not star else ""
    return f"{keyword}{star}{parameter.name}{annotation}{default}"


if __name__ == "__main__":
    FILE.write_text(describe_api())
    sys.exit(0)
