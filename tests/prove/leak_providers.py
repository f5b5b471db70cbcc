"""Providers for the proof that nothing leaks: unreachable, slow, garbled, and ones that repeat the request."""

import asyncio
from collections.abc import Callable, Mapping
from typing import Any, Final
from urllib.parse import quote

import httpx

from fastapi_logto.testing import LocalIssuer
from fastapi_logto.testing.issuer.connecting import build_transport
from tests.vectors.forge import ENDPOINT

Maker = Callable[[LocalIssuer, str], httpx.AsyncBaseTransport]
"""Returns the transport of a provider, from an issuer and a token that the provider issues."""

_DISCOVERY: Final = {
    "issuer": f"{ENDPOINT}/oidc",
    "jwks_uri": f"{ENDPOINT}/oidc/jwks",
    "token_endpoint": f"{ENDPOINT}/oidc/token",
    "introspection_endpoint": f"{ENDPOINT}/oidc/token/introspection",
    "userinfo_endpoint": f"{ENDPOINT}/oidc/me",
}
_Respond = Callable[[httpx.Request], httpx.Response]


def _build(respond: _Respond) -> Maker:
    """Return a provider with a valid discovery document and key set."""

    def make(issuer: LocalIssuer, _issued: str) -> httpx.MockTransport:
        def answer(request: httpx.Request) -> httpx.Response:
            if request.url.path.endswith("/openid-configuration"):
                return httpx.Response(200, json=_DISCOVERY)
            if request.url.path.endswith("/jwks"):
                return httpx.Response(200, json=issuer.jwks())
            return respond(request)

        return httpx.MockTransport(answer)

    return make


def _issue(status: int = 200, **changes: Any) -> Maker:
    """Return a provider that issues a token in an invalid response."""

    def make(issuer: LocalIssuer, issued: str) -> httpx.AsyncBaseTransport:
        names = ("access_token", "subjectToken", "token")
        document = {**dict.fromkeys(names, issued), "token_type": "Bearer", "expires_in": 3600, **changes}
        return _build(lambda _: httpx.Response(status, json=document))(issuer, issued)

    return make


def _fail(error: Exception) -> _Respond:
    def respond(_request: httpx.Request) -> httpx.Response:
        raise error

    return respond


def _echo(request: httpx.Request) -> str:
    return f"{request.content.decode()} {request.headers.get('authorization', '')}"


def _repeat(request: httpx.Request) -> httpx.Response:
    said = _echo(request)
    return httpx.Response(400, json={"error": said, "error_description": said, "code": said, "message": said})


def _repeat_in_description(request: httpx.Request) -> httpx.Response:
    said = quote(_echo(request))
    return httpx.Response(401, json={"error": "invalid_client", "error_description": said, "message": said})


def _repeat_in_headers(request: httpx.Request) -> httpx.Response:
    said = quote(_echo(request))
    headers = {"location": f"https://evil.example.test/?{said}", "retry-after": said, "content-encoding": said}
    return httpx.Response(302, headers=headers, text=said)


def _repeat_as_text(request: httpx.Request) -> httpx.Response:
    return httpx.Response(200, text=_echo(request))


def _repeat_in_json(request: httpx.Request) -> httpx.Response:
    said = _echo(request)
    return httpx.Response(200, text=f'{{"active": true, "{said}": 1, "{said}": 2}}')


class _Stuck(httpx.AsyncBaseTransport):
    """Never responds to a request that contains a secret."""

    def __init__(self, inner: httpx.AsyncBaseTransport) -> None:
        self._inner = inner

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        if request.method == "POST" or "authorization" in request.headers or request.url.path.endswith("/jwks"):
            await asyncio.Event().wait()
        return await self._inner.handle_async_request(request)


def _work(issuer: LocalIssuer, _issued: str) -> httpx.AsyncBaseTransport:
    return build_transport(issuer.app)


MAKERS: Final[Mapping[str, Maker]] = {
    "that works": _work,
    "unreachable": lambda _issuer, _issued: httpx.MockTransport(_fail(httpx.ConnectError("down"))),
    "that resets": _build(_fail(httpx.ReadError("reset"))),
    "surprising": _build(_fail(RuntimeError("a surprise of the transport"))),
    "garbled": _build(lambda _: httpx.Response(200, content=b"[" * 10_000)),
    "too large": _build(lambda _: httpx.Response(200, content=b" " * (256 * 1024 + 1))),
    "that fails": _build(lambda _: httpx.Response(500, text="failed")),
    "that repeats": _build(_repeat),
    "that repeats in the description": _build(_repeat_in_description),
    "that repeats in headers": _build(_repeat_in_headers),
    "that repeats as text": _build(_repeat_as_text),
    "that repeats in JSON": _build(_repeat_in_json),
    "that issues a token of another type": _issue(token_type="N_A"),
    "that issues a token without a type": _issue(token_type=None),
    "that issues a token with wrong scopes": _issue(scope=[1]),
    "that issues a token with an error": _issue(status=400, error="invalid_grant"),
    "that issues a token with another status": _issue(status=202),
    "that is stuck": lambda issuer, _issued: _Stuck(build_transport(issuer.app)),
}
