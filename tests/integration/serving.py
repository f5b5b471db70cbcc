"""Applications under test on real sockets of this process."""

import threading
from collections.abc import Generator
from contextlib import contextmanager

import httpx
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp
from uvicorn.config import WSProtocolType


@contextmanager
def serve(app: ASGIApp | str, *, port: int, root_path: str = "", ws: WSProtocolType = "auto") -> Generator[str]:
    """Serve an application from a thread, from its start to its end; yield its URL."""
    config = uvicorn.Config(app, host="127.0.0.1", port=port, root_path=root_path, ws=ws, log_level="warning")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    try:
        while not server.started:
            assert thread.is_alive(), "the application did not start"
            thread.join(timeout=0.05)
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        thread.join(timeout=10)
        assert not thread.is_alive()


def build_stripping_proxy(target: str, *, prefix: str) -> Starlette:
    """Return a reverse proxy that serves an application below a path, and strips the path from requests."""

    async def forward(request: Request) -> Response:
        async with httpx.AsyncClient(trust_env=False) as client:
            answer = await client.request(
                request.method,
                f"{target}/{request.path_params['path']}",
                params=request.query_params,
                headers=request.headers,
                content=await request.body(),
            )
        kept = {name: answer.headers[name] for name in ("content-type", "www-authenticate") if name in answer.headers}
        return Response(answer.content, status_code=answer.status_code, headers=kept)

    return Starlette(routes=[Route(f"{prefix}/{{path:path}}", forward, methods=["GET", "PATCH"])])
