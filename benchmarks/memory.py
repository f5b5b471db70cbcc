"""The resident memory of processes over time, and whether it levels off."""

import statistics
from collections.abc import Sequence
from pathlib import Path
from threading import Event, Thread
from typing import Any, Final, Self

_INTERVAL_SECONDS: Final = 1.0
_GROWTH_LIMIT: Final = 1.05


def read_memory(pids: Sequence[int]) -> list[float]:
    """Return the resident memory of each process in MiB (proc(5))."""
    found: list[float] = []
    for pid in pids:
        status = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
        found.append(int(status.partition("VmRSS:")[2].split()[0]) / 1024)
    return found


class MemorySampler:
    """Samples the memory of processes in a thread, inside its context.

    Attributes:
        samples: The memory of each process, once a second.
        has_ended: Whether a process has ended meanwhile; nothing is sampled after that.
    """

    def __init__(self, pids: Sequence[int]) -> None:
        """Store the processes."""
        self.samples: list[list[float]] = []
        self.has_ended = False
        self._pids = pids
        self._stop = Event()
        self._thread = Thread(target=self._run, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stop.wait(_INTERVAL_SECONDS):
            try:
                self.samples.append(read_memory(self._pids))
            except (OSError, IndexError):  # it has no file any more, or no memory
                self.has_ended = True
                return


def summarize_memory(samples: Sequence[Sequence[float]]) -> list[dict[str, float]]:
    """Return the median memory of each process in the second fifth and in the last fifth of all samples."""
    size = len(samples) // 5
    if size == 0:
        raise RuntimeError(f"expected at least five samples of the memory, found {len(samples)}")
    second, last = samples[size : 2 * size], samples[-size:]
    return [
        {"second": statistics.median(before), "last": statistics.median(after)}
        for before, after in zip(zip(*second, strict=True), zip(*last, strict=True), strict=True)
    ]


def find_growth(summary: Sequence[dict[str, Any]]) -> list[str]:
    """Return a line for each process whose memory does not level off."""
    return [
        f"memory of worker {number}: expected at most {_GROWTH_LIMIT:g} times {one['second']:.1f} MiB, "
        f"found {one['last']:.1f} MiB"
        for number, one in enumerate(summary, 1)
        if one["last"] > one["second"] * _GROWTH_LIMIT
    ]
