"""A provider in memory, and the schemes and applications for the attacks."""

import json
import ssl
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import httpx
from fastapi import Depends, FastAPI

from fastapi_logto import LogtoAuth
from fastapi_logto.introspection import Introspection
from fastapi_logto.settings import SettingsArguments
from fastapi_logto.testing import Clock, ManualClock
from tests.vectors.forge import API, ENDPOINT, ISSUER_URL, NOW

# One context for all, because creating one reads the certificate authorities of the machine.
TLS: Final = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """A response of the provider."""

    body: bytes = field(repr=False)
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict[str, str])

    @classmethod
    def of(cls, value: object) -> "Document":
        """Return a value as JSON."""
        return cls(body=json.dumps(value).encode("ascii"))


class Provider:
    """Discovery, key set, introspection and token endpoint in memory. Every other URL is counted and returns 404."""

    def __init__(self, jwks: Mapping[str, Any], *, issuer: str = ISSUER_URL) -> None:
        self.discovery: dict[str, object] = {
            "issuer": issuer,
            "jwks_uri": f"{issuer}/jwks",
            "token_endpoint": f"{issuer}/token",
            "introspection_endpoint": f"{issuer}/token/introspection",
            "userinfo_endpoint": f"{issuer}/me",
        }
        self.documents: dict[str, Document] = {
            f"{issuer}/.well-known/openid-configuration": Document.of(self.discovery),
            f"{issuer}/jwks": Document.of(jwks),
        }
        self.asked: Counter[str] = Counter()

    @property
    def transport(self) -> httpx.MockTransport:
        """The transport that reaches it."""
        return httpx.MockTransport(self._answer)

    def _answer(self, request: httpx.Request) -> httpx.Response:
        url = str(request.url)
        self.asked[url] += 1
        document = self.documents.get(url, Document(body=b"", status=404))
        headers = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in document.headers.items()]
        # A stream, so that httpx decodes nothing of the content while it builds the response.
        return httpx.Response(document.status, headers=headers, stream=httpx.ByteStream(document.body))


def build_auth(
    provider: Provider,
    *,
    changes: SettingsArguments | None = None,
    clock: Clock | None = None,
    opaque: Introspection | None = None,
) -> LogtoAuth:
    """Return a scheme at the time of the forge that reaches the provider."""
    arguments = SettingsArguments(endpoint=ENDPOINT, audience=API)
    arguments.update(changes or {})
    return LogtoAuth(
        clock=clock or ManualClock(now=NOW),
        http_transport=provider.transport,
        ssl_context=TLS,
        introspection=opaque,
        **arguments,
    )


def build_app(auth: LogtoAuth) -> FastAPI:
    """Return an application with one route, `/claims`, which requires any valid token."""
    app = FastAPI()

    @app.get("/claims", dependencies=[Depends(auth)])
    async def show() -> str:
        return "admitted"

    return app
