"""A delivery log of Logto in memory, and a store that several processes share."""

import asyncio
import json
import ssl
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

import httpx

from fastapi_logto.revocation import Batch, DeliveryLog, Revocation, RevocationStoreError
from fastapi_logto.testing import ManualClock
from tests.unit.fakes import ENDPOINT, ISSUER

NOW: Final = 1_800_000_000
HOOK: Final = "ujuxdkv9to1b0g0ts98zj"
CAPTURED: Final[list[dict[str, Any]]] = json.loads(
    (Path(__file__).parents[1] / "data/captured/hook-logs.json").read_text(encoding="utf-8")
)["logs"]
_EVENTS: Final = [
    "User.SuspensionStatus.Updated",
    "User.Deleted",
    "Organization.Membership.Updated",
    "Organization.Deleted",
]
_DAY_MS: Final = 24 * 3600 * 1000


def build_entry(user_id: str, *, seconds_ago: float = 0, now: float = NOW, **members: Any) -> dict[str, Any]:
    """Return a delivery of a suspension that failed."""
    created_at = int((now - seconds_ago) * 1000)
    body = {
        "event": "User.SuspensionStatus.Updated",
        "hookId": HOOK,
        "createdAt": "2027-01-15T08:00:00.000Z",
        "params": {"userId": user_id},
        "data": {"id": user_id, "isSuspended": True},
        **members,
    }
    payload = {"result": "Error", "hookId": HOOK, "hookRequest": {"body": body}}
    return {"id": f"log-{user_id}", "key": "TriggerHook.x", "payload": payload, "createdAt": created_at}


class FakeLog(httpx.AsyncBaseTransport):
    """The token endpoint and the webhook of a tenant, with the log of its deliveries.

    Attributes:
        entries: The log, the newest first.
        hook: The webhook.
        queries: The queries of the requests for the log.
        tokens: The number of tokens that were issued.
        rejected: Tokens that the Management API rejects.
        fault: Responds instead of the tenant, if it returns a response.
        gate: If this event exists, no response is sent until it is set.
        ignores_times: Whether it behaves like an older Logto, which ignores start and end.
    """

    def __init__(self, entries: Sequence[Any] = ()) -> None:
        self.entries: list[Any] = list(entries)
        self.hook: dict[str, Any] = {
            "id": HOOK,
            "events": list(_EVENTS),
            "config": {"url": "https://api.example.com/webhooks/logto"},
            "signingKey": "a-signing-key",
            "enabled": True,
        }
        self.queries: list[dict[str, int]] = []
        self.tokens = 0
        self.rejected: set[str] = set()
        self.fault: Callable[[httpx.Request], httpx.Response | None] = lambda _: None
        self.gate: asyncio.Event | None = None
        self.ignores_times = False

    def build(self, *, clock: ManualClock, **arguments: Any) -> DeliveryLog:
        """Return the log for `Revocations`."""
        given: dict[str, Any] = {"client_id": "machine", "client_secret": "secret", "hook_id": HOOK, **arguments}
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # never used, and created immediately, unlike the default one
        return DeliveryLog(ENDPOINT, clock=clock, http_transport=self, ssl_context=context, **given)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        if self.gate is not None:
            await self.gate.wait()
        response = self.fault(request)
        if response is not None:
            return response
        path = request.url.path
        if path.endswith("/openid-configuration"):
            known = {"issuer": ISSUER, "jwks_uri": f"{ISSUER}/jwks", "token_endpoint": f"{ISSUER}/token"}
            return httpx.Response(200, json=known)
        if path == "/oidc/token":
            self.tokens += 1
            token = {"access_token": f"token-{self.tokens}", "token_type": "Bearer", "expires_in": 3600, "scope": "all"}
            return httpx.Response(200, json=token)
        if request.headers["authorization"].removeprefix("Bearer ") in self.rejected:
            return httpx.Response(401, json={"code": "auth.unauthorized"})
        if path == f"/api/hooks/{HOOK}":
            return httpx.Response(200, json=self.hook)
        assert path == f"/api/hooks/{HOOK}/recent-logs"
        return self._list(request)

    def _list(self, request: httpx.Request) -> httpx.Response:
        query = {name: int(value) for name, value in request.url.params.items()}
        self.queries.append(query)
        start, end = query["start_time"], query.get("end_time", 2**60)

        def find_time(entry: Any) -> Any:
            return start if isinstance(entry, str) else entry.get("createdAt", start)

        found: list[Any] = [one for one in self.entries if self.ignores_times or start <= find_time(one) <= end]
        first = (query["page"] - 1) * query["page_size"]
        return httpx.Response(
            200, json=found[first : first + query["page_size"]], headers={"Total-Number": str(len(found))}
        )


class FakeStore:
    """The data that several processes share."""

    def __init__(self) -> None:
        self.revocations: list[Revocation] = []
        self.texts: dict[str, str] = {}
        self.leader: object = None
        self.lease_seconds = 0.0
        self.is_away = False
        self.save_errors: list[Exception] = []

    def free_lead(self) -> None:
        """Let the lease of the leading process expire."""
        self.leader = None

    def open(self) -> "FakeConnection":
        """Return the store of one process."""
        return FakeConnection(self)


class FakeConnection:
    """The store of one process."""

    def __init__(self, store: FakeStore) -> None:
        self.store = store

    def _check(self) -> None:
        if self.store.is_away:
            raise RevocationStoreError("away")

    async def append(self, revocations: Sequence[Revocation], *, kept_seconds: float = 0) -> None:
        self._check()
        assert kept_seconds >= 0
        self.store.revocations.extend(revocations)

    async def read(self, position: str | None, *, wait_seconds: float) -> Batch:
        self._check()
        start = int(position or 0)
        if start == len(self.store.revocations):
            await asyncio.sleep(min(wait_seconds, 0.01))
        found = self.store.revocations[start:]
        return Batch(revocations=found, position=str(start + len(found)), is_last=True)

    async def try_lead(self, task: str, *, seconds: float) -> bool:
        self._check()
        assert task == f"log {ISSUER} {HOOK}"
        assert seconds > 30
        self.store.lease_seconds = seconds
        self.store.leader = self.store.leader or self
        return self.store.leader is self

    async def load_text(self, name: str) -> str | None:
        self._check()
        return self.store.texts.get(name)

    async def save_text(self, name: str, text: str) -> None:
        self._check()
        if self.store.save_errors:
            raise self.store.save_errors.pop()
        self.store.texts[name] = text

    async def close(self) -> None:
        pass
