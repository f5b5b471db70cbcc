"""The outcomes of each action of a scene, compared with the expected ones."""

from collections.abc import Iterator, Mapping

SUCCEEDED = "succeeded"


def name_outcome(error: BaseException | None) -> str:
    """Return the outcome of a call: `succeeded`, or the class of its error."""
    return SUCCEEDED if error is None else type(error).__name__


class Outcomes:
    """The outcomes of a scene. Without them, a scene whose calls all fail would find no leak and prove nothing."""

    def __init__(self) -> None:
        """Start without outcomes."""
        self._reached: dict[str, set[str]] = {}

    def add(self, what: str, outcome: str) -> None:
        """Add one outcome, a word without spaces, of an action."""
        self._reached.setdefault(what, set()).add(outcome)

    def compare(self, expected: Mapping[str, str]) -> Iterator[str]:
        """Yield a line for each outcome that was not reached, and for each unexpected one.

        Args:
            expected: Each action of a scene, and all its outcomes, separated by spaces.
        """
        if not any(expected.values()):
            yield "no outcome is expected of this scene"
        for what in dict.fromkeys((*expected, *self._reached)):
            wanted, reached = set(expected.get(what, "").split()), self._reached.get(what, set())
            for outcome in sorted(wanted - reached):
                yield f"{what}: not reached: {outcome}"
            for outcome in sorted(reached - wanted):
                yield f"{what}: not expected: {outcome}"
