"""The HTTP endpoints of a local issuer. The rules are in other modules."""

import asyncio
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Final, TypeAlias, cast

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from fastapi_logto.testing.directory import Application, Directory, Machine, User
from fastapi_logto.testing.issuer.administration import Administration
from fastapi_logto.testing.issuer.authorization import AuthorizationRequest, ReturnAddress
from fastapi_logto.testing.issuer.bodies import read_body, read_form
from fastapi_logto.testing.issuer.clients import authenticate_client
from fastapi_logto.testing.issuer.forms import Parameters
from fastapi_logto.testing.issuer.grants import TokenEndpoint, build_profile
from fastapi_logto.testing.issuer.hosts import HostGuard, check_same_origin, parse_hosts
from fastapi_logto.testing.issuer.lookup import find_user
from fastapi_logto.testing.issuer.management import ManagementError, create_subject_token
from fastapi_logto.testing.issuer.management_hooks import build_hook_routes
from fastapi_logto.testing.issuer.metadata import build_listing, build_metadata
from fastapi_logto.testing.issuer.page_changes import apply_change
from fastapi_logto.testing.issuer.pages import (
    build_error_page,
    build_index_page,
    build_sign_in_page,
    build_signed_out_page,
)
from fastapi_logto.testing.issuer.refusals import NO_GRANT, RefusedError
from fastapi_logto.testing.issuer.signing_out import find_sign_out_target
from fastapi_logto.testing.issuer.webhooks import Webhooks
from fastapi_logto.testing.opaque import IssuedTokens
from fastapi_logto.testing.redirects import accepts_origin
from fastapi_logto.testing.signing import KeyRing

_ClientOperation: TypeAlias = Callable[[Parameters, Application | Machine], Response]
_NO_STORE: Final = {"Cache-Control": "no-store"}
_OPEN: Final = {"Access-Control-Allow-Origin": "*"}
_PAGE_HEADERS: Final = {
    # No form-action: Chromium also applies it to the redirect after the form post, which goes to the application.
    "Content-Security-Policy": (
        "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "X-Frame-Options": "DENY",
    "X-Content-Type-Options": "nosniff",
    # Not no-referrer: browsers would send `Origin: null` with the form, as for a page whose origin is hidden.
    "Referrer-Policy": "same-origin",
    **_NO_STORE,
}


def build_app(
    mint: Administration,
    *,
    keys: KeyRing,
    issued: IssuedTokens,
    tokens: TokenEndpoint,
    webhooks: Webhooks,
    is_away: Callable[[], bool],
    allowed_hosts: Collection[str],
) -> Starlette:
    """Return the ASGI application with all endpoints of an issuer.

    While `is_away` returns true, every response is 503. `allowed_hosts` are accepted in addition to the host of the
    mint's endpoint and the loopback names; a malformed one raises `ValueError`.
    """
    endpoints = _Endpoints(mint=mint, keys=keys, issued=issued, tokens=tokens)
    readable, callable_from_pages = ["GET", "OPTIONS"], ["GET", "POST", "OPTIONS"]
    app = Starlette(
        routes=[
            Route("/", endpoints.show_index),
            # Terminals make a link of the issuer identifier, so it is a page.
            Route("/oidc", endpoints.show_index),
            Route("/oidc/.well-known/openid-configuration", endpoints.show_metadata, methods=readable),
            Route("/oidc/.well-known/oauth-authorization-server", endpoints.show_metadata, methods=readable),
            Route("/oidc/jwks", endpoints.show_keys, methods=readable),
            Route("/oidc/auth", endpoints.authorize, methods=["GET", "POST"]),
            Route("/oidc/token", endpoints.exchange, methods=["POST", "OPTIONS"]),
            Route("/oidc/token/introspection", endpoints.introspect, methods=["POST"]),
            Route("/oidc/token/revocation", endpoints.revoke, methods=["POST", "OPTIONS"]),
            Route("/oidc/session/end", endpoints.sign_out, methods=["GET", "POST"]),
            Route("/oidc/me", endpoints.show_profile, methods=callable_from_pages),
            Route("/changes", endpoints.change, methods=["POST"]),
            Route("/api/subject-tokens", endpoints.create_subject_token, methods=["POST"]),
            *build_hook_routes(mint, webhooks=webhooks),
        ],
        middleware=[
            Middleware(HostGuard, find_endpoint=lambda: mint.endpoint, allowed=parse_hosts(allowed_hosts)),
            Middleware(_Outage, is_away=is_away),
        ],
        exception_handlers={
            RefusedError: _handle_refusal,
            ManagementError: _handle_management_error,
            HTTPException: _handle_unknown_route,
        },
    )
    # The redirect would use the `Host` header unchecked.
    app.router.redirect_slashes = False
    return app


class _Outage:
    """Simulates an outage in front of all endpoints."""

    def __init__(self, app: ASGIApp, *, is_away: Callable[[], bool]) -> None:
        self._app = app
        self._is_away = is_away

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        app = PlainTextResponse("Service Unavailable", status_code=503) if self._is_away() else self._app
        await app(scope, receive, send)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Endpoints:
    """One method per route.

    Parsing, signing and rendering run in a thread, because the endpoints share a test's event loop if the application
    is called directly.
    """

    mint: Administration
    keys: KeyRing
    issued: IssuedTokens
    tokens: TokenEndpoint

    async def show_index(self, request: Request) -> Response:
        if request.headers.get("accept") == "application/json":
            return JSONResponse(build_listing(self.mint.directory), headers=_NO_STORE)
        page = await asyncio.to_thread(
            build_index_page,
            self.mint.directory,
            issuer=self.mint.issuer,
            base_url=_find_base_url(request),
            deliveries=self.mint.deliveries,
        )
        return HTMLResponse(page, headers=_PAGE_HEADERS)

    async def change(self, request: Request) -> Response:
        try:
            check_same_origin(request.headers)
            await asyncio.to_thread(apply_change, self.mint, Parameters.parse(await read_form(request)))
        except RefusedError as refusal:
            return _show_error(refusal)
        return Response(status_code=303, headers=_PAGE_HEADERS | {"Location": "/"})

    async def show_metadata(self, request: Request) -> Response:
        if request.method == "OPTIONS":
            return _build_preflight(request)
        metadata = build_metadata(
            issuer=self.mint.issuer,
            base_url=_find_base_url(request),
            algorithms=self.keys.algorithms,
            accepts_dynamic_apps=self.mint.directory.dynamic_apps is not None,
        )
        return JSONResponse(metadata, headers=_OPEN)

    async def show_keys(self, request: Request) -> Response:
        if request.method == "OPTIONS":
            return _build_preflight(request)
        headers = _OPEN | {"Cache-Control": "no-cache, max-age=0, must-revalidate"}
        return JSONResponse(self.keys.jwks(), headers=headers, media_type="application/jwk-set+json; charset=utf-8")

    async def authorize(self, request: Request) -> Response:
        is_form = request.method == "POST"
        if is_form:
            try:
                check_same_origin(request.headers)
            except RefusedError as refusal:
                return _show_error(refusal)
        raw = await read_form(request) if is_form else _read_query(request)
        return await asyncio.to_thread(self._authorize, raw, is_form=is_form)

    async def exchange(self, request: Request) -> Response:
        return await self._serve_client(request, self._exchange)

    async def revoke(self, request: Request) -> Response:
        return await self._serve_client(request, self._revoke)

    async def sign_out(self, request: Request) -> Response:
        raw = await read_form(request) if request.method == "POST" else _read_query(request)
        return await asyncio.to_thread(self._sign_out, raw)

    async def introspect(self, request: Request) -> Response:
        body, authorization = await read_form(request), request.headers.get("authorization")
        return await asyncio.to_thread(self._introspect, body, authorization=authorization)

    async def show_profile(self, request: Request) -> Response:
        if request.method == "OPTIONS":
            return _build_preflight(request)
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        opaque = self.issued.opaque.find(token) if scheme.lower() == "bearer" else None
        if opaque is None or "openid" not in opaque.scope.split():
            description = "invalid token provided"
            challenge = f'Bearer realm="{self.mint.issuer}", error="invalid_token", error_description="{description}"'
            raise RefusedError("invalid_token", description, status=401, challenge=challenge)
        user = next((user for user in self.mint.directory.users if user.id == opaque.subject), None)
        if user is not None and user.is_suspended:
            raise RefusedError("invalid_grant", NO_GRANT)
        profile = {} if user is None else build_profile(user, scopes=opaque.scope.split())
        return JSONResponse({"sub": opaque.subject} | profile, headers=_OPEN | _NO_STORE)

    async def create_subject_token(self, request: Request) -> Response:
        body, authorization = await read_body(request), request.headers.get("authorization")
        created = await asyncio.to_thread(create_subject_token, self.mint, authorization=authorization, body=body)
        return JSONResponse(created, status_code=201, headers=_NO_STORE)

    def _sign_out(self, raw: bytes) -> Response:
        try:
            target = find_sign_out_target(Parameters.parse(raw), directory=self.mint.directory)
        except RefusedError as refusal:
            return _show_error(refusal)
        if target is None:
            return HTMLResponse(build_signed_out_page(), headers=_PAGE_HEADERS)
        return Response(status_code=303, headers=_PAGE_HEADERS | {"Location": target})

    def _authorize(self, raw: bytes, *, is_form: bool) -> Response:
        directory = self.mint.directory
        try:
            parameters = Parameters.parse(raw)
            address = ReturnAddress.parse(parameters, directory=directory)
            user = _find_choice(parameters, directory=directory) if is_form else None
        except RefusedError as refusal:
            return _show_error(refusal)
        try:
            request = AuthorizationRequest.parse(parameters, address=address, directory=directory)
            if not is_form:
                page = build_sign_in_page(request, parameters=parameters, directory=directory)
                return HTMLResponse(page, headers=_PAGE_HEADERS)
            response = {"code": self._issue_code(request, user=user, ticked=parameters.find_all("grant"))}
        except RefusedError as refusal:
            response = {"error": refusal.error, "error_description": refusal.description}
        location = address.build_url(response, issuer=self.mint.issuer)
        return Response(status_code=303, headers=_PAGE_HEADERS | {"Location": location})

    def _issue_code(self, request: AuthorizationRequest, *, user: User | None, ticked: Collection[str]) -> str:
        if user is None:
            raise RefusedError("access_denied", "End-User aborted interaction")
        return self.tokens.issue_code(request, grant=request.build_grant(user, ticked=ticked))

    async def _serve_client(self, request: Request, operation: _ClientOperation) -> Response:
        if request.method == "OPTIONS":
            return _build_preflight(request)
        body, headers = await read_form(request), request.headers
        return await asyncio.to_thread(
            self._call, operation, body, authorization=headers.get("authorization"), origin=headers.get("origin")
        )

    def _call(
        self, operation: _ClientOperation, body: bytes, *, authorization: str | None, origin: str | None
    ) -> Response:
        """Authenticate a client, and respond to a page only if its origin may use the application."""
        form = Parameters.parse(body)
        client = authenticate_client(
            form, authorization=authorization, directory=self.mint.directory, issuer=self.mint.issuer
        )
        if origin is not None and not (
            isinstance(client, Application) and accepts_origin(client.redirect_uris, origin)
        ):
            description = f"origin {origin[:80]} not allowed for client: {client.client_id}"
            # Without Access-Control-Allow-Origin, so that the page can't read the response.
            return _build_refusal(RefusedError("invalid_request", description), headers=_NO_STORE)
        return operation(form, client)

    def _exchange(self, form: Parameters, client: Application | Machine) -> Response:
        return JSONResponse(self.tokens.respond(form, client=client), headers=_NO_STORE | _OPEN)

    def _revoke(self, form: Parameters, client: Application | Machine) -> Response:
        self.tokens.revoke(form.require("token"), client=client)
        return Response(headers=_NO_STORE | _OPEN)

    def _introspect(self, body: bytes, *, authorization: str | None) -> Response:
        form = Parameters.parse(body)
        authenticate_client(form, authorization=authorization, directory=self.mint.directory, issuer=self.mint.issuer)
        return JSONResponse(self.tokens.introspect(form.require("token")), headers=_NO_STORE)


def _find_choice(parameters: Parameters, *, directory: Directory) -> User | None:
    """Return the user selected on the sign-in page; `None` for its cancel button."""
    action = parameters.require("action")
    if action == "cancel":
        return None
    user = find_user(directory, parameters.require("user"))
    if action != "allow" or user is None:
        raise RefusedError("invalid_request", "the form does not come from this page")
    if user.is_suspended:
        raise RefusedError("access_denied", "this user is suspended", status=403)
    return user


def _find_base_url(request: Request) -> str:
    # `HostGuard` has checked the host.
    return f"{request.scope['scheme']}://{request.headers['host'].lower()}"


def _show_error(refusal: RefusedError) -> Response:
    return HTMLResponse(build_error_page(refusal), status_code=refusal.status, headers=_PAGE_HEADERS)


def _read_query(request: Request) -> bytes:
    return bytes(request.scope["query_string"])


def _build_preflight(request: Request) -> Response:
    headers = _OPEN | {
        "Access-Control-Allow-Methods": "GET, POST",
        "Access-Control-Allow-Headers": request.headers.get("access-control-request-headers", "authorization"),
        "Access-Control-Max-Age": "3600",
    }
    return Response(status_code=204, headers=headers)


def _build_refusal(refusal: RefusedError, *, headers: Mapping[str, str]) -> Response:
    challenge = {} if refusal.challenge is None else {"WWW-Authenticate": refusal.challenge}
    exposed = {"Access-Control-Expose-Headers": "WWW-Authenticate"}
    return JSONResponse(refusal.body, status_code=refusal.status, headers={**headers, **exposed, **challenge})


async def _handle_refusal(_: Request, error: Exception) -> Response:
    return _build_refusal(cast("RefusedError", error), headers=_NO_STORE | _OPEN)


async def _handle_management_error(_: Request, error: Exception) -> Response:
    refusal = cast("ManagementError", error)
    return JSONResponse(refusal.body, status_code=refusal.status, headers=_NO_STORE)


async def _handle_unknown_route(request: Request, _: Exception) -> Response:
    """Respond with 404 to a wrong method too, as Logto does."""
    path = request.scope["path"]
    if not path.startswith("/oidc"):
        return PlainTextResponse("Not Found", status_code=404)
    description = f"unrecognized route or not allowed method ({request.method} on {path[5:85]})"
    return JSONResponse(RefusedError("invalid_request", description).body, status_code=404)
