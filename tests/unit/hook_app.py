"""An API with a webhook route that records what it receives."""

import hashlib
import hmac
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from fastapi import FastAPI, Request, Response

from fastapi_logto.strict_json import parse_object

KEY = "a-signing-key"


@dataclass(frozen=True, slots=True, kw_only=True)
class Received:
    """A request to the API."""

    path: str
    headers: Mapping[str, str]
    body: bytes

    @property
    def document(self) -> dict[str, Any]:
        return parse_object(self.body)


@dataclass(slots=True)
class Receiver:
    """The API; `status` and `text` are its response."""

    status: int = 200
    text: str = ""
    received: list[Received] = field(default_factory=list[Received])
    app: FastAPI = field(default_factory=FastAPI)

    def __post_init__(self) -> None:
        self.app.post("/{path:path}")(self.receive)

    async def receive(self, request: Request) -> Response:
        path, headers = request.url.path, dict(request.headers)
        self.received.append(Received(path=path, headers=headers, body=await request.body()))
        return Response(self.text, status_code=self.status)

    @property
    def events(self) -> list[str]:
        return [str(one.document["event"]) for one in self.received]


def is_signed(received: Received, key: str) -> bool:
    """Return whether a request has the signature of Logto's documentation."""
    expected = hmac.new(key.encode(), received.body, hashlib.sha256).hexdigest()
    return received.headers["logto-signature-sha-256"] == expected
