"""Detects whether a run of an event loop has ended: a stopped loop runs nothing in the background."""

import sys
import weakref
from typing import Self


class LoopRun:
    """One run of an event loop, from `run_forever` or `run_until_complete` to its end.

    AWS Lambda with Mangum, for example, runs its loop only during requests: each request is one run.
    """

    __slots__ = ("_mark",)

    def __init__(self, mark: "weakref.ref[object] | None") -> None:
        """Store a reference to an object that lives as long as the run; see `current`."""
        self._mark = mark

    @classmethod
    def current(cls) -> Self:
        """Return the run in which this code is executed."""
        # Each run of asyncio and of uvloop sets a new hook object, which is freed when the run ends.
        hook = sys.get_asyncgen_hooks().firstiter
        return cls(None if hook is None else weakref.ref(hook))

    def has_ended(self) -> bool:
        """Return whether the run has ended; always false for a loop that sets no hook."""
        return self._mark is not None and self._mark() is None
