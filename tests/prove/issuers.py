"""Issuers in memory that rotate and withdraw keys, fail, send wrong documents, and respond late."""

import asyncio
import json
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import urlsplit

import httpx

from fastapi_logto.testing.signing import JsonValue, SigningKey
from tests.prove.model import Key, Response

FAULTS: Final = (
    *("404", "410", "500", "503", "timeout", "refused", "not JSON", "no list", "redirect", "encoded", "too large"),
)
"""The faults of a response with keys."""

LIES: Final = ("another issuer", "another host", "500", "timeout", "not JSON")
"""The faults of a discovery document."""

_ELSEWHERE: Final = "https://elsewhere.example.test/oidc"
_ODD_ENTRIES: Final[Sequence[JsonValue]] = (
    None,
    {"kty": "oct", "k": "AQ", "kid": "x"},
    {"kty": "EC", "crv": "P-256", "x": "AQ", "y": "AQ", "kid": "y", "use": "sig"},
    {"kty": "EC", "kid": None},
)


@dataclass(slots=True)
class Site:
    """The server of one issuer.

    Attributes:
        issuer: The issuer.
        published: The keys that it publishes.
        has_odd_entries: Whether its list also has entries that are not keys.
        fault: The fault of the response with keys.
        lie: The fault of the discovery document.
    """

    issuer: str
    published: tuple[SigningKey, ...]
    has_odd_entries: bool = False
    fault: str = ""
    lie: str = ""


@dataclass(slots=True)
class Issuers:
    """All servers.

    Attributes:
        sites: The servers, by host.
        responses: What each fetch of keys has returned, as values of the model.
        held: The event loop that gets keys late, if there is one.
        has_arrived: Set when a response is delayed.
    """

    sites: Mapping[str, Site]
    responses: list[Response] = field(default_factory=list[Response])
    held: asyncio.AbstractEventLoop | None = None
    has_arrived: threading.Event = field(default_factory=threading.Event)
    _release: asyncio.Event | None = None

    @classmethod
    def of(cls, *sites: Site) -> "Issuers":
        """Return servers at the hosts of their issuers."""
        return cls({urlsplit(site.issuer).netloc: site for site in sites})

    async def respond(self, request: httpx.Request) -> httpx.Response:
        """Respond to a request of the package. A redirect or a wrong document names a host without a server."""
        site = self.sites.get(request.url.host)
        if site is None:
            self.responses.append("failure")
            raise httpx.ConnectError("no such host")
        if not request.url.path.endswith("/jwks"):
            if site.lie:
                self.responses.append("failure")
            issuer = _ELSEWHERE if site.lie == "another issuer" else site.issuer
            host = _ELSEWHERE if site.lie == "another host" else site.issuer
            return _build_response(site.lie, {"issuer": issuer, "jwks_uri": f"{host}/jwks"})
        keys = [*(_ODD_ENTRIES if site.has_odd_entries else ()), *(key.jwk() for key in site.published)]
        fault, known = site.fault, frozenset(Key(key.kid, key.algorithm) for key in site.published)
        self.responses.append("failure" if fault else known)
        if asyncio.get_running_loop() is self.held:
            self._release = asyncio.Event()
            self.has_arrived.set()
            await self._release.wait()
        return _build_response(fault, {"keys": keys})

    def hold(self, loop: asyncio.AbstractEventLoop) -> threading.Event:
        """Delay the next response with keys to a loop. Return the event that is set when there is one."""
        self.held, self._release, self.has_arrived = loop, None, threading.Event()
        return self.has_arrived

    def release(self) -> None:
        """Deliver the delayed response."""
        loop, self.held = self.held, None
        if loop is not None and self._release is not None:
            loop.call_soon_threadsafe(self._release.set)


def _build_response(fault: str, document: Mapping[str, object]) -> httpx.Response:
    if fault == "timeout":
        raise httpx.ReadTimeout("no response in time")
    if fault == "refused":
        raise httpx.ConnectError("connection refused")
    bodies = {"not JSON": b'{"keys": [', "no list": b'{"keys": 1}', "too large": b" " * (256 * 1024 + 1)}
    headers = {"encoded": {"Content-Encoding": "gzip"}, "redirect": {"Location": f"{_ELSEWHERE}/jwks"}}
    status = 302 if fault == "redirect" else int(fault) if fault.isdigit() else 200
    # A stream, so that httpx decodes nothing while it builds the response.
    content = httpx.ByteStream(bodies.get(fault, json.dumps(document).encode()))
    return httpx.Response(status, headers=headers.get(fault, {}), stream=content)
