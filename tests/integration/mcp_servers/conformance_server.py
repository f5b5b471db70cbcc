"""The example server of the MCP SDK behind a requirement, for clients that send no token."""

import os
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from fastapi import FastAPI
from starlette.types import ASGIApp, Receive, Scope, Send

from fastapi_logto import auth, mount_protected, require_scopes
from tests.integration.mcp_servers.vendored.everything_server import event_store, mcp


class TokenSender:
    """Adds an access token to requests without one, like a client that can sign in."""

    def __init__(self, app: ASGIApp, *, token: str) -> None:
        self._app = app
        self._header = (b"authorization", f"Bearer {token}".encode())

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and all(name != b"authorization" for name, _ in scope["headers"]):
            scope["headers"] = [*scope["headers"], self._header]
        await self._app(scope, receive, send)


mcp_app = mcp.streamable_http_app(streamable_http_path="/", event_store=event_store, retry_interval=100)


@asynccontextmanager
async def lifespan(_app: FastAPI) -> AsyncGenerator[None]:
    """Run the MCP server's session manager."""
    async with mcp.session_manager.run():
        yield


protected = FastAPI(lifespan=lifespan)
auth.install(protected)
mount_protected(protected, path="/mcp", mounted=mcp_app, requires=require_scopes("read:user"))
app = TokenSender(protected, token=os.environ["MCP_TOKEN"])
