"""Webhook deliveries of a real Logto, and others with the same kind of signature."""

import hmac
import json
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

from tests.captured import DIRECTORY

NOW: Final = 1_800_000_000
HOOK: Final = "hook00000001"
SIGNATURE: Final = "logto-signature-sha-256"
SIGNING_KEY: Final = "signing-key-of-the-tests-0123456"


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """A delivery of a real Logto."""

    id: str
    event: str
    body: bytes = field(repr=False)
    signature: str = field(repr=False)
    signing_key: str = field(repr=False)


def _read(name: str) -> list[Delivery]:
    document = json.loads((DIRECTORY / name).read_text(encoding="utf-8"))
    return [
        Delivery(
            id=f"{name}-{number}",
            event=json.loads(raw["body"])["event"],
            body=raw["body"].encode(),
            signature=raw["headers"][SIGNATURE],
            signing_key=raw.get("signing_key") or document["signing_key"],
        )
        for number, raw in enumerate(document["deliveries"])
    ]


DELIVERIES: Final = tuple(_read("webhooks.json") + _read("webhooks-1.43.json"))


def build_body(event: str, *, at: float = NOW, **members: Any) -> bytes:
    """Return the body of an event. A member set to `...` is omitted."""
    created_at = datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    document = {"event": event, "createdAt": created_at, "hookId": HOOK, **members}
    return json.dumps({name: value for name, value in document.items() if value is not ...}).encode()


def sign(body: bytes, key: str = SIGNING_KEY) -> str:
    """Return the signature that Logto sends."""
    return hmac.digest(key.encode(), body, "sha256").hex()


def sign_headers(body: bytes, key: str = SIGNING_KEY) -> dict[str, str]:
    """Return the headers that Logto sends."""
    return {SIGNATURE: sign(body, key), "content-type": "application/json"}
