"""The state of a provider's keys, for a readiness route."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class ProviderHealth:
    """The state of the provider's keys, for a readiness route. Ages are in seconds.

    Attributes:
        is_ready: Whether usable keys are cached.
        is_stale: Whether the cached keys are older than `keys_ttl_seconds`. Without newer ones, they are used for up to
            `keys_max_stale_seconds` more.
        key_count: Number of cached keys, also of those that are too old to be used.
        age_seconds: Age of the key set; `None` before the first one.
        last_error: Why the last fetch failed; `None` if it succeeded.
        next_try_seconds: Time until the next fetch may start; `None` if the last fetch succeeded.
    """

    is_ready: bool
    is_stale: bool
    key_count: int
    age_seconds: float | None
    last_error: str | None
    next_try_seconds: float | None


def combine_health(parts: Sequence[ProviderHealth]) -> ProviderHealth:
    """Return the state of several providers (at least one) as one state, which is the worst of them."""
    ages = [part.age_seconds for part in parts]
    tries = [part.next_try_seconds for part in parts if part.next_try_seconds is not None]
    return ProviderHealth(
        is_ready=all(part.is_ready for part in parts),
        is_stale=any(part.is_stale for part in parts),
        key_count=sum(part.key_count for part in parts),
        age_seconds=None if None in ages else max(age for age in ages if age is not None),
        last_error=next((part.last_error for part in parts if part.last_error is not None), None),
        next_try_seconds=min(tries, default=None),
    )
