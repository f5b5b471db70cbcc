"""Where processes share revocations, other sources of revocations, and the state of both."""

from collections.abc import Awaitable, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

from fastapi_logto.errors import LogtoError
from fastapi_logto.verification.revoked import Revocation

ResultT = TypeVar("ResultT")


class RevocationStoreError(LogtoError):
    """The store of revocations is unavailable, or rejects the request."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """Revocations that a store returned.

    Attributes:
        revocations: The revocations, in the order in which they were appended.
        position: Where the next read continues.
        is_last: Whether there are no more revocations now.
        is_restarted: Whether the store has lost what was before the requested position, e.g. because it was restarted
            without its data. This batch is then the first one of those that it has now.
    """

    revocations: Sequence[Revocation]
    position: str
    is_last: bool
    is_restarted: bool = False


class RevocationStore(Protocol):
    """Where several processes share revocations. Each method raises `RevocationStoreError` if the store fails.

    A method must end within a few seconds, also if the store does not respond, and it may be called on any event loop.
    """

    async def append(self, revocations: Sequence[Revocation], *, kept_seconds: float) -> None:
        """Append revocations, for all processes. They may be removed after `kept_seconds`."""
        ...

    async def read(self, position: str | None, *, wait_seconds: float) -> Batch:
        """Return the revocations after a position; `None` reads from the start.

        If there are none, wait for the next one for up to `wait_seconds`.
        """
        ...

    async def try_lead(self, task: str, *, seconds: float) -> bool:
        """Let this process do a task for the next seconds, and return true, unless another process does it now.

        Called again before the seconds are over, it extends them for the process that does the task.
        """
        ...

    async def load_text(self, name: str) -> str | None:
        """Return the text that a process has saved under a name, or `None`."""
        ...

    async def save_text(self, name: str, text: str) -> None:
        """Save a short text for all processes."""
        ...

    async def close(self) -> None:
        """Close the connections of the running event loop."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class LogHealth:
    """The state of a delivery log.

    Attributes:
        name: The issuer of the tenant and the id of the webhook.
        age_seconds: Time since the log was last read to its end, by this process or, with a store, by another one;
            `None` before that.
        skipped_count: Number of deliveries that this process could not read or understand.
        last_error: Why the log can't be read, or what is wrong with the webhook; `None` if it works.
    """

    name: str
    age_seconds: float | None
    skipped_count: int
    last_error: str | None


class RevocationLog(Protocol):
    """Another source of revocations: what Logto has delivered, or could not deliver, to a webhook."""

    @property
    def is_current(self) -> bool:
        """Whether it is read in the background, and was read, or tried, recently."""
        ...

    async def catch_up(self) -> None:
        """Read what is new, for a bounded time, and keep reading in the background. Failures are not raised."""
        ...

    async def close(self) -> None:
        """Stop reading."""
        ...

    def health(self) -> LogHealth:
        """Return the state. Nothing is read."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class RevocationHealth:
    """The state of the revocations, for a readiness route. Ages are in seconds.

    Attributes:
        is_ready: Whether requests are admitted. If `on_outage` is `"closed"`, false before the first contact with the
            store, and after `outage_seconds` without contact.
        is_stale: Whether revocations of other processes may be missing because the store is unavailable.
        count: Number of revocations that are known to this process.
        age_seconds: Time since the last contact with the store; `None` before the first one, and without a store.
        waiting_count: Number of revocations of this process that are not in the store yet.
        last_error: Why the store failed; `None` if it works.
        logs: The state of each delivery log. Requests are admitted while a log can't be read.
    """

    is_ready: bool
    is_stale: bool
    count: int
    age_seconds: float | None
    waiting_count: int
    last_error: str | None
    logs: tuple[LogHealth, ...] = ()


async def call_store(call: Awaitable[ResultT]) -> ResultT:
    """Await a call of the store. Whatever an application's own store raises is a failure of the store."""
    try:
        return await call
    except RevocationStoreError:
        raise
    except Exception as error:
        # Only the type: the text may contain the address or a password.
        raise RevocationStoreError(f"unexpected {type(error).__name__}") from error
