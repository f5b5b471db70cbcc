"""An MCP server made with FastMCP, as the documentation shows it."""

from fastapi import FastAPI
from fastmcp import FastMCP
from fastmcp.server.dependencies import get_http_request

from fastapi_logto import auth, claims_of, mount_protected, require_scopes

mcp = FastMCP("Greeter")


@mcp.tool
async def say_hello() -> str:
    """Greet the caller."""
    return f"Hello, {claims_of(get_http_request()).user_id}"


mcp_app = mcp.http_app(path="/", stateless_http=True)
app = FastAPI(lifespan=mcp_app.lifespan)
auth.install(app)
mount_protected(app, path="/mcp", mounted=mcp_app, requires=require_scopes("read:user"))
