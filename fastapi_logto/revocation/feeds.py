"""The revocations that one `Revocations` has in this process."""

from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from threading import Lock
from typing import Final

from fastapi_logto.clock import Clock
from fastapi_logto.revocation.verifiers import Verifiers
from fastapi_logto.verification.revocation_feed import RevocationFeed
from fastapi_logto.verification.revocation_store import RevocationLog, RevocationStore


class Feeds:
    """The revocations of this process, and those of tests that replace them."""

    def __init__(
        self,
        store: RevocationStore | None,
        *,
        build: Callable[..., RevocationFeed],
        build_logs: Callable[[], Sequence[RevocationLog]],
    ) -> None:
        """Store the parts. `build` returns a feed of a store, a clock and the logs that `build_logs` returns."""
        self.verifiers: Final = Verifiers()
        self.store: Final = store
        self._build = build
        self._build_logs = build_logs
        self._lock = Lock()
        self._own: RevocationFeed | None = None
        self._substitutes: list[RevocationFeed] = []

    @property
    def current(self) -> RevocationFeed:
        """The revocations in use."""
        return self._substitutes[-1] if self._substitutes else self.use_clock(Clock())

    def use_clock(self, clock: Clock) -> RevocationFeed:
        """Return the revocations outside tests. Those of the first `LogtoAuth` decide about the clock."""
        with self._lock:
            if self._own is None:
                self._own = self._build(self.store, clock=clock, logs=self._build_logs())
            return self._own

    def check_issuer(self, issuer: str | None) -> None:
        """Raise `SettingsError` if it is known already that it is unclear whose events these are."""
        if not self._substitutes:
            self.verifiers.find_issuer(issuer)

    async def find_issuer(self, issuer: str | None, *, is_required: bool) -> str | None:
        """Return the issuer in the settings of the tenant that is meant; `None` for every tenant. See `Verifiers`.

        With `is_required`, `None` is accepted for one tenant only.
        """
        # In a test, one connected issuer represents every tenant.
        if self._substitutes or (issuer is None and not is_required):
            return None
        # All tenants, also those of settings that nothing has read yet.
        await self.verifiers.load()
        return self.verifiers.find_issuer(issuer)

    @contextmanager
    def replaced(self, *, clock: Clock) -> Generator[RevocationFeed]:
        """Start without revocations, store and logs inside a block; for tests. Blocks may overlap."""
        feed = self._build(None, clock=clock)
        with self._lock:
            self._substitutes.append(feed)
        try:
            yield feed
        finally:
            with self._lock:
                self._substitutes.remove(feed)
