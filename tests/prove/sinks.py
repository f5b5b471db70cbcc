"""The sinks: all output of the package, in any form, is collected and searched."""

import asyncio
import gc
import logging
import re
import sys
import threading
import warnings
from collections.abc import Callable, Collection, Generator, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from traceback import walk_tb
from types import FrameType, TracebackType
from typing import Any, Final, Literal, TypeAlias, cast, get_args

from typing_extensions import override

from tests.prove.canaries import Canaries
from tests.unit.recording import Recording, start_recording

Sink: TypeAlias = Literal[
    "log messages",
    "log records",
    "asyncio",
    "warnings",
    "spans",
    "metrics",
    "exceptions",
    "local variables",
    "responses",
    "documents",
    "command line",
    "representations",
    "copies and pickles",
]
SINKS: Final[Sequence[Sink]] = get_args(Sink)

NOT_SHOWN: Final[Mapping[str, str]] = {
    "tests.": "the caller's own code, which holds the token that it passes",
    "starlette": "the framework, which holds the request",
    "fastapi.": "the framework, which holds the request",
    "mcp.": "the SDK, which holds the request",
    "uvicorn": "the server, which holds the request",
}
"""Modules whose frames are not searched, with the reason. SECURITY.md lists them as out of scope."""

_LIBRARIES: Final = (
    "asyncio",
    "anyio",
    "contextlib",
    "h11",
    "httpcore",
    "httpx",
    "redis",
    "threading",
    "concurrent",
    "copy",
)
# Their frames are searched if the package called them. Otherwise they belong to the application or the framework.

NOT_SHOWN_CALLS: Final[Mapping[str, str]] = {
    "tests.": "the caller's own code, which holds what it passes",
    "fastapi_logto.testing": "the local issuer, which protects nothing; its threads get the forms that it receives",
    "fastapi_logto.provider.key_set": "a key set is public, also one that contains private keys by mistake",
}
"""Modules whose functions may get secrets as arguments in a thread, with the reason."""

NOT_SHOWN_RECORDS: Final[Mapping[str, str]] = {
    "httpcore": "its debug log shows where a response redirects to, with the authorization code of the local issuer",
}
"""Loggers whose records may contain a secret, with the reason. Only this secret is not searched for."""
_NOT_SHOWN_CODE: Final = re.compile(r"(?<=[?&]code=)[A-Za-z0-9_-]+")

_DEEPEST: Final = 6
_MOST_ITEMS: Final = 200


@dataclass(slots=True)
class _Count:
    records: int = 0
    characters: int = 0
    found: int = 0


@dataclass(slots=True, kw_only=True)
class Sinks:
    """The places to search for secrets.

    Attributes:
        canaries: The secrets.
        counts: The number of searches by sink.
        leaks: A line for each leak, which names the secret and the place, and quotes nothing.
    """

    canaries: Canaries
    counts: dict[Sink, _Count] = field(default_factory=lambda: {sink: _Count() for sink in SINKS})
    leaks: list[str] = field(default_factory=list[str])
    _searched: dict[tuple[int, int], Sequence[str]] = field(default_factory=dict[tuple[int, int], Sequence[str]])

    def put(self, sink: Sink, where: str, *texts: object) -> None:
        """Search in texts. A value that is not a `str` is shown like in an error tracker."""
        count = self.counts[sink]
        for value in texts:
            text = value if isinstance(value, str) else show(value)
            count.records += 1
            count.characters += len(text)
            # Most texts are repeated, but new secrets must be searched for in each of them.
            known = hash(text), len(self.canaries)
            if known not in self._searched:
                self._searched[known] = self.canaries.find(text)
            for name in self._searched[known]:
                count.found += 1
                line = f"{sink}: {where}: {name}"
                if line not in self.leaks:
                    self.leaks.append(line)

    def put_error(self, where: str, error: BaseException | None, *, seen: Collection[int] = ()) -> None:
        """Search in an error and all that it refers to: its texts, notes, arguments, causes and frames."""
        if error is None or id(error) in seen:
            return
        seen = {*seen, id(error)}
        name = type(error).__name__
        notes: Sequence[str] = getattr(error, "__notes__", ())
        self.put("exceptions", f"{where}: {name}", str(error), repr(error), error.args, vars(error), *notes)
        for frame_name, local, value in iter_locals(error.__traceback__):
            self.put("local variables", f"{where}: {name}: {local} in {frame_name}", represent(value), value)
        # Error trackers and tracebacks omit a context that `from None` suppresses.
        context = None if error.__suppress_context__ else error.__context__
        for inner in (error.__cause__, context, *getattr(error, "exceptions", ())):
            self.put_error(where, inner, seen=seen)


def iter_locals(trace: TracebackType | None) -> Iterator[tuple[str, str, object]]:
    """Yield the local variables of the frames of a traceback, except for frames in `NOT_SHOWN`."""
    is_ours = False
    for frame, _ in walk_tb(trace):
        module = _find_module(frame)
        if not module.startswith(_LIBRARIES):
            is_ours = not module.startswith(tuple(NOT_SHOWN))
        if is_ours:
            for name, value in frame.f_locals.items():
                yield f"{module}.{frame.f_code.co_qualname}", name, value


def _find_module(frame: FrameType) -> str:
    # Error trackers name a frame by its module, also if its code was generated and has no file.
    return str(frame.f_globals.get("__name__"))


def show(value: object, depth: int = _DEEPEST) -> str:
    """Return a value as error trackers show it: containers by their items, even if their `repr` hides the items."""
    if depth and isinstance(value, Mapping):
        items = list(_list_items(value))[:_MOST_ITEMS]
        return f"{{{', '.join(f'{show(key, depth - 1)}: {show(one, depth - 1)}' for key, one in items)}}}"
    if depth and isinstance(value, list | tuple | set | frozenset):
        values = list(cast("Collection[object]", value))[:_MOST_ITEMS]
        return f"[{', '.join(show(one, depth - 1) for one in values)}]"
    return represent(value)


def _list_items(mapping: Any) -> Iterator[tuple[object, object]]:
    return iter(mapping.items())


def represent(value: object) -> str:
    """Return the `repr` of a value, which may be incomplete in a frame of its constructor."""
    try:
        return repr(value)
    except Exception as error:  # noqa: BLE001 - as error trackers do
        return f"<{type(error).__name__} while it was shown>"


class _Handler(logging.Handler):
    """Searches in each record: its formatted text, its arguments, and all its fields."""

    def __init__(self, sinks: Sinks) -> None:
        super().__init__(logging.NOTSET)
        self._sinks = sinks
        self.setFormatter(
            logging.Formatter("%(asctime)s %(levelname)s %(name)s %(threadName)s %(taskName)s %(message)s")
        )

    @override
    def emit(self, record: logging.LogRecord) -> None:
        record.__dict__.setdefault("taskName", None)
        message = self.format(record)
        fields = show({name: value for name, value in record.__dict__.items() if name not in {"exc_info", "message"}})
        if record.name.startswith("httpcore"):
            message, fields = (_NOT_SHOWN_CODE.sub("", text) for text in (message, fields))
        self._sinks.put("log messages", f"logger {record.name}", message)
        self._sinks.put("log records", f"logger {record.name}", fields)
        if record.name == "asyncio":
            self._sinks.put("asyncio", "log", record.getMessage())
        if record.exc_info:
            self._sinks.put_error(f"logger {record.name}", record.exc_info[1])


class _Executor(ThreadPoolExecutor):
    """Searches in each call in a thread and in its result, as asyncio shows them while a task waits for them."""

    def __init__(self) -> None:
        super().__init__()
        self.sinks: Sinks | None = None

    @override
    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> "Future[Any]":
        # `asyncio.to_thread` calls the function of the caller in a context.
        called = next(iter(getattr(fn, "args", ())), fn)
        is_searched = not str(getattr(called, "__module__", None)).startswith(tuple(NOT_SHOWN_CALLS))
        shown = represent((fn, args, kwargs))
        future = super().submit(fn, *args, **kwargs)
        if (sinks := self.sinks) is not None:
            if is_searched:
                sinks.put("asyncio", "the call in a thread", shown)
            future.add_done_callback(lambda done: sinks.put("asyncio", "the result of a thread", _show_outcome(done)))
        return future


def _show_outcome(done: "Future[Any]") -> str:
    return "cancelled" if done.cancelled() else represent(done.exception() or done.result())


@contextmanager
def collect(sinks: Sinks) -> Generator["Collector"]:
    """Search in all logs, traces, warnings and reports of the event loop inside this context."""
    handler, root = _Handler(sinks), logging.getLogger()
    loggers = [root, *(one for one in root.manager.loggerDict.values() if isinstance(one, logging.Logger))]
    before = [(one, one.level, one.propagate, one.disabled) for one in loggers]
    loop = asyncio.get_running_loop()
    debug, slow, report = loop.get_debug(), loop.slow_callback_duration, loop.get_exception_handler()
    executor = _Executor()
    executor.sinks = sinks
    loop.set_default_executor(executor)
    unraisable, thread = sys.unraisablehook, threading.excepthook
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        collector = Collector(sinks=sinks, recording=start_recording(), warned=caught, loop=loop)
        for one in loggers:
            one.setLevel(logging.DEBUG)
            one.propagate, one.disabled = True, False
        root.addHandler(handler)
        loop.set_debug(True)
        # Each callback is reported, with its arguments.
        loop.slow_callback_duration = 0
        loop.set_exception_handler(collector.report)
        sys.unraisablehook = lambda found: sinks.put_error("unraisable", found.exc_value)
        threading.excepthook = lambda found: sinks.put_error("thread", found.exc_value)
        try:
            yield collector
            gc.collect()
            collector.drain("the end")
        finally:
            # The loop keeps it.
            executor.sinks = None
            sys.unraisablehook, threading.excepthook = unraisable, thread
            loop.set_exception_handler(report)
            loop.slow_callback_duration = slow
            loop.set_debug(debug)
            root.removeHandler(handler)
            for one, level, propagate, disabled in before:
                one.setLevel(level)
                one.propagate, one.disabled = propagate, disabled


@dataclass(frozen=True, slots=True, kw_only=True)
class Collector:
    """Collects output while the scenes run.

    Attributes:
        sinks: The places to search.
        recording: The spans and metrics.
        warned: The warnings since the last search.
        loop: The event loop of the scenes.
        reported: The exceptions that the event loop reported since the last search.
    """

    sinks: Sinks
    recording: Recording
    warned: list[warnings.WarningMessage]
    loop: asyncio.AbstractEventLoop
    reported: list[BaseException] = field(default_factory=list[BaseException])

    def report(self, _loop: asyncio.AbstractEventLoop, context: Mapping[str, Any]) -> None:
        """Search in a report of the event loop: the message, the futures and handles, and the exception."""
        self.sinks.put("asyncio", "exception handler", context)
        error: BaseException | None = context.get("exception")
        self.sinks.put_error("asyncio", error)
        if error is not None:
            self.reported.append(error)

    def drain(self, where: str) -> None:
        """Search in the records since the last call, and in the tasks and handles of the loop."""
        for warned in self.warned:
            self.sinks.put("warnings", where, str(warned), repr(warned.source))
            self.sinks.put_error(f"a warning, {where}", warned.message if isinstance(warned.message, Warning) else None)
        self.warned.clear()
        self.reported.clear()
        for span in self.recording.read_spans():
            events = [(event.name, dict(event.attributes or {})) for event in span.events]
            links = [dict(link.attributes or {}) for link in span.links]
            status = (str(span.status.status_code), span.status.description)
            self.sinks.put(
                "spans", where, [span.name, dict(span.attributes or {}), events, links, status], span.to_json()
            )
        for name, points in self.recording.read().items():
            self.sinks.put("metrics", where, name, *(point.attributes for point in points))
        self.sinks.put("asyncio", where, *(repr(task) for task in asyncio.all_tasks(self.loop)))
        handles = [*getattr(self.loop, "_ready", ()), *getattr(self.loop, "_scheduled", ())]
        self.sinks.put("asyncio", where, *(repr(handle) for handle in handles))
