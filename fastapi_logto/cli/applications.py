"""Load the application that the command line names as `module:app`."""

import contextlib
import importlib
import re
import sys
import traceback
from pathlib import Path
from typing import Any

from fastapi import FastAPI

from fastapi_logto.cli.results import CommandError


def load_application(target: str) -> object:
    """Import and return the application that `module:name` names; the current directory comes first.

    The name is `app` by default. `module:name()` calls a function that returns the application.
    """
    module_name, _, name = target.partition(":")
    name = name or "app"
    attribute = name.removesuffix("()")
    if not all(part.isidentifier() for part in (*module_name.split("."), *attribute.split("."))):
        raise CommandError(f"expected module:app, found {target!r}; did you mean {_suggest(target)}?")
    if "" not in sys.path and str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))
    # Output that an application prints on import must not end up in a JSON document on standard output.
    with contextlib.redirect_stdout(sys.stderr):
        try:
            value: Any = importlib.import_module(module_name)
            for part in attribute.split("."):
                value = getattr(value, part)
            if name.endswith("()"):
                value = value()
        except (Exception, SystemExit) as error:  # noqa: BLE001 - an application can raise anything
            raise _explain(error, target=target, module_name=module_name, name=attribute) from None
    found: object = value
    return found


def _suggest(target: str) -> str:
    """Return the form of a target that names a file, such as `app/main.py`; otherwise an example."""
    path, _, name = target.partition(":")
    found = f"{path.removeprefix('./').removesuffix('.py').replace('/', '.')}:{name or 'app'}"
    return found if all(part.isidentifier() for part in re.split(r"[.:]", found)) else "main:app"


def _suggest_module(target: str) -> str:
    """Return a question if a target is written with a dot before the application, such as `main.app`; empty if not."""
    parent, _, name = target.rpartition(".")
    return f"did you mean {parent}:{name}? Otherwise, " if ":" not in target and parent in sys.modules else ""


def _suggest_application(module_name: str) -> str:
    """Return a question that names the applications of an imported module; empty if it has none."""
    members = vars(sys.modules[module_name]) if module_name in sys.modules else {}
    names = [f"{module_name}:{name}" for name, value in members.items() if isinstance(value, FastAPI)]
    return f"; did you mean {' or '.join(names)}?" if names else ""


def _explain(error: BaseException, *, target: str, module_name: str, name: str) -> CommandError:
    if isinstance(error, ModuleNotFoundError) and error.name and f"{module_name}.".startswith(f"{error.name}."):
        return CommandError(
            f"expected a module {module_name}, found none in {Path.cwd()} or the installed packages; "
            f"{_suggest_module(target)}run the command in the directory that your application is started from"
        )
    last = traceback.format_exception_only(error)[-1].strip()
    frames = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if frame.filename != __file__ and "importlib" not in frame.filename
    ]
    if isinstance(error, SyntaxError):
        place = f"{error.filename}:{error.lineno}"
    elif frames:
        place = f"{frames[-1].filename}:{frames[-1].lineno}"
    else:
        return CommandError(f"expected {name} in the module {module_name}; {last}{_suggest_application(module_name)}")
    return CommandError(f"{module_name} can't be imported: {last} ({place})")
