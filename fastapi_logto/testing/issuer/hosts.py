"""Accept only requests to the issuer's own hosts, and form posts only from its own pages."""

import re
from collections.abc import Callable, Collection
from typing import Final
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from fastapi_logto.loopback import is_loopback
from fastapi_logto.testing.issuer.refusals import RefusedError
from fastapi_logto.testing.texts import as_texts

_HOST: Final = re.compile(r"(?P<name>[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(?::(?P<port>[0-9]{1,5}))?")
_DEFAULT_PORTS: Final = {"http": 80, "https": 443}
# `none` is a request that the user started, e.g. a reload.
_OWN_SITES: Final = frozenset({"same-origin", "none"})


def parse_hosts(hosts: Collection[str]) -> frozenset[str]:
    """Return hosts in lower case, or raise `ValueError` for a malformed one."""
    hosts = as_texts(hosts, what="allowed_hosts")
    for host in hosts:
        if _HOST.fullmatch(host) is None:
            msg = f"allowed_hosts: expected a host such as 'issuer' or 'issuer:3001', found {host[:80]!r}"
            raise ValueError(msg)
    return frozenset(host.lower() for host in hosts)


class HostGuard:
    """ASGI middleware that rejects every `Host` header except the issuer's own.

    Without it, a website whose name is rebound to this machine's loopback address (DNS rebinding) has the same
    origin as the issuer and can read its users and tokens.
    """

    def __init__(self, app: ASGIApp, *, find_endpoint: Callable[[], str], allowed: frozenset[str]) -> None:
        """Store the allowed hosts, in lower case; one without a port is allowed with every port.

        The host of the endpoint and the loopback names with its port are always allowed. The endpoint is looked up
        for each request, because it changes while the issuer is served.
        """
        self._app = app
        self._find_endpoint = find_endpoint
        self._allowed = allowed

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or respond with 400 or 421."""
        app = self._app
        if scope["type"] == "http":
            try:
                self._check(Headers(scope=scope).getlist("host"))
            except RefusedError as refusal:
                app = JSONResponse(refusal.body, status_code=refusal.status, headers={"Cache-Control": "no-store"})
        await app(scope, receive, send)

    def _check(self, hosts: Collection[str]) -> None:
        host = "".join(hosts).lower()
        match = _HOST.fullmatch(host)
        if len(hosts) != 1 or match is None:
            raise RefusedError("invalid_request", "the Host header is missing or malformed")
        endpoint = urlsplit(self._find_endpoint())
        default = _DEFAULT_PORTS.get(endpoint.scheme)
        name, port = match["name"].strip("[]"), int(match["port"] or default or 0)
        is_own_name = name == endpoint.hostname or is_loopback(name)
        if (is_own_name and port == (endpoint.port or default)) or not self._allowed.isdisjoint({host, match["name"]}):
            return
        description = (
            f"expected the host {endpoint.netloc}, found {host[:80]}; if others reach this issuer by that name, "
            "allow it with allowed_hosts (--allowed-host)"
        )
        raise RefusedError("invalid_request", description, status=421)


def check_same_origin(headers: Headers) -> None:
    """Refuse a form post from a page of another origin, or one whose origin is hidden (`null`).

    A request with neither `Origin` nor `Sec-Fetch-Site` does not come from a browser's page and is accepted. The
    scheme is not compared, because a proxy may end TLS. See the Fetch standard, "append a request Origin header", and
    Fetch Metadata Request Headers.
    """
    origin, site = headers.get("origin"), headers.get("sec-fetch-site")
    is_own_origin = origin is None or origin.partition("://")[2].lower() == headers["host"].lower()
    if not is_own_origin or (site is not None and site not in _OWN_SITES):
        raise RefusedError("invalid_request", "the form was sent by a page of another origin", status=403)
