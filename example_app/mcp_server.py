"""The same users, asked for by language models: an MCP server whose tools know who calls.

Run it with `uvicorn example_app.mcp_server:app`, with the package `mcp` and, besides `LOGTO_ENDPOINT` and
`LOGTO_AUDIENCE`, `LOGTO_PUBLIC_URL=http://127.0.0.1:8000`: clients find the tenant by it.
"""

from collections import defaultdict
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI, Request
from mcp.server import MCPServer
from mcp.server.mcpserver import Context
from mcp.server.mcpserver.exceptions import ToolError
from mcp.server.transport_security import TransportSecuritySettings

from fastapi_logto import TokenClaims, auth, claims_of, mount_protected, require_scopes

mcp = MCPServer("Notes")
# What a real application has in its database.
_notes: defaultdict[str, list[str]] = defaultdict(list)


def find_caller(ctx: Context[Any, Request]) -> TokenClaims:
    """Give the claims of the request that a tool is called by."""
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
    """Add a note of the caller's. Needs `write:user` too."""
    claims = find_caller(ctx)
    if "write:user" not in claims.scopes:
        raise ToolError("The access token lacks the scope write:user")
    _notes[claims.user_id].append(text)
    return f"Noted for {claims.user_id}"


# Without sessions each request stands for itself, with its own token: no session of one user is another's to continue.
# The SDK would admit requests to this machine's own names alone, against pages that reach for a server without any
# sign-in. A page can't send a token that it does not have, and an API has other names.
mcp_app = mcp.streamable_http_app(
    streamable_http_path="/",
    stateless_http=True,
    transport_security=TransportSecuritySettings(enable_dns_rebinding_protection=False),
)


@asynccontextmanager
async def lifespan(_app: FastAPI) -> AsyncGenerator[None]:
    """Run what the MCP server needs; nobody runs the lifespan of what is mounted."""
    async with mcp.session_manager.run():
        yield


app = FastAPI(title="Notes", lifespan=lifespan)
# The scope of a tool is seen by nobody but the tool: said here, clients learn to ask for it.
auth.install(app, scopes={"write:user": "Add notes"})
mount_protected(app, path="/mcp", mounted=mcp_app, requires=require_scopes("read:user"))
