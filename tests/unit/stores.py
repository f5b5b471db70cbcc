"""A store of revocations in memory that several feeds share and that tests can make fail."""

import asyncio
from collections.abc import Sequence

from fastapi_logto.revocation import Batch, Revocation, RevocationStoreError


class SharedStore:
    """Behaves like a store on a server. Positions are `<life>-<index>`; a restart begins another life."""

    def __init__(self, *, batch_size: int = 2) -> None:
        self.entries: list[Revocation] = []
        self.texts: dict[str, str] = {}
        self.error: str | None = None
        self.append_error: str | None = None
        # Until it is set, appends wait, and `waiting` counts them.
        self.blocked: asyncio.Event | None = None
        self.waiting = 0
        self.is_stuck = False
        self.reads: list[str | None] = []
        self.appends: list[int] = []
        self.closed = 0
        self.is_leader_free = True
        self._life = 1
        self._batch_size = batch_size

    def restart_empty(self) -> None:
        self.entries.clear()
        self._life += 1

    async def append(self, revocations: Sequence[Revocation], *, kept_seconds: float) -> None:
        assert kept_seconds == 24 * 3600 + 120
        if self.blocked is not None:
            self.waiting += 1
            await self.blocked.wait()
        if self.append_error is not None:
            raise RevocationStoreError(self.append_error)
        self._check()
        self.appends.append(len(revocations))
        self.entries.extend(revocations)

    async def read(self, position: str | None, *, wait_seconds: float) -> Batch:
        self.reads.append(position)
        self._check()
        life, _, index = (position or f"{self._life}-0").partition("-")
        is_restarted = int(life) != self._life
        start = 0 if is_restarted else int(index)
        while self.is_stuck or (wait_seconds and len(self.entries) <= start and not is_restarted):
            await asyncio.sleep(0)
            self._check()
        found = self.entries[start : start + self._batch_size]
        return Batch(
            revocations=found,
            position=f"{self._life}-{start + len(found)}",
            is_last=start + len(found) == len(self.entries),
            is_restarted=is_restarted,
        )

    async def try_lead(self, task: str, *, seconds: float) -> bool:
        assert (task, seconds) == ("restore", 5.0)
        self._check()
        return self.is_leader_free

    async def load_text(self, name: str) -> str | None:
        return self.texts.get(name)

    async def save_text(self, name: str, text: str) -> None:
        self.texts[name] = text

    async def close(self) -> None:
        self.closed += 1

    def _check(self) -> None:
        if self.error is not None:
            raise RevocationStoreError(self.error)
