"""Describe times in words."""

import time
from typing import Final

_UNITS: Final = ((365.25 * 86_400, "year"), (86_400, "day"), (3600, "hour"), (60, "minute"))
_FIRST, _LAST = -62_135_596_800, 253_402_300_799
"""The years 1 to 9999, which the standard library's calendar functions support."""


def describe_time(seconds: float, *, now: float) -> str:
    """Return date, time and distance from now. Both arguments are seconds since the epoch.

    An integer may be too large for a float.
    """
    if not _FIRST <= seconds <= _LAST:
        return "after the year 9999" if seconds > 0 else "before the year 1"
    moment = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(seconds))
    span = describe_span(abs(seconds - now))
    return f"{moment}, {f'in {span}' if seconds >= now else f'{span} ago'}"


def describe_span(seconds: float) -> str:
    """Return a non-negative number of seconds in its largest unit, rounded down."""
    for size, unit in _UNITS:
        if seconds >= size:
            count = int(seconds / size)
            return f"{count} {unit}{'' if count == 1 else 's'}"
    return f"{int(seconds)} s"
