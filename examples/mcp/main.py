"""An MCP server for language models whose tools know the caller."""

from collections import defaultdict
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI, Request
from mcp.server import MCPServer
from mcp.server.mcpserver import Context
from mcp.server.mcpserver.exceptions import ToolError
from mcp.server.transport_security import TransportSecuritySettings

from fastapi_logto import TokenClaims, auth, claims_of, mount_protected

mcp = MCPServer("Notes")
# A real application uses a database.
_notes: defaultdict[str, list[str]] = defaultdict(list)


def find_caller(ctx: Context[Any, Request]) -> TokenClaims:
    """Return the claims of the request that called a tool."""
    return claims_of(ctx.request_context.request)


@mcp.tool()
async def say_hello(ctx: Context[Any, Request]) -> str:
    """Greet the caller."""
    return f"Hello, {find_caller(ctx).user_id}"


@mcp.tool()
async def list_notes(ctx: Context[Any, Request]) -> list[str]:
    """List the caller's notes."""
    return _notes[find_caller(ctx).user_id]


@mcp.tool()
async def add_note(text: str, ctx: Context[Any, Request]) -> str:
    """Add a note for the caller. Also requires `write:user`."""
    claims = find_caller(ctx)
    if "write:user" not in claims.scopes:
        raise ToolError("The access token lacks the scope write:user")
    _notes[claims.user_id].append(text)
    return f"Noted for {claims.user_id}"


# Without sessions, any process can serve any request.
# The SDK's rebinding protection accepts only the names of this machine, to protect servers without sign-in
# from web pages. Here a page would need a token, and the API has other names.
mcp_app = mcp.streamable_http_app(
    streamable_http_path="/",
    stateless_http=True,
    transport_security=TransportSecuritySettings(enable_dns_rebinding_protection=False),
)


@asynccontextmanager
async def lifespan(_app: FastAPI) -> AsyncGenerator[None]:
    """Run the MCP server's session manager: the lifespan of a mounted app is not run automatically."""
    async with mcp.session_manager.run():
        yield


app = FastAPI(title="Notes", lifespan=lifespan)
# A scope that is checked inside a tool can't be discovered, so it is listed here for clients.
auth.install(app, scopes={"write:user": "Add notes"})
# Clients request exactly the scopes that a challenge names. If one of several is enough, it names none, and
# clients request all scopes in the metadata.
mount_protected(app, path="/mcp", mounted=mcp_app, requires=auth.require_any_scope("read:user", "write:user"))
