"""The redirect URI of a sign-in, on this machine: receives the response that the browser brings.

References:
    RFC 8252 section 7.3.
"""

import asyncio
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from secrets import compare_digest
from typing import Final, Self
from urllib.parse import parse_qsl

REGISTERED_URI: Final = "http://127.0.0.1/callback"
"""The redirect URI to register. Logto accepts it with any port, for native applications only."""

_HOST: Final = "127.0.0.1"
_PATH: Final = "/callback"
_MOST_FIELDS: Final = 20
_LARGEST_HEAD: Final = 16 * 1024
_REQUEST_SECONDS: Final = 10.0
_PAGES: Final = {
    "200 OK": "Return to the terminal. You can close this window.",
    "400 Bad Request": "This is not the response of the sign-in that the terminal waits for.",
    "404 Not Found": "Not found.",
}


class Callback:
    """Waits for the response of one sign-in, which has the same `state`."""

    def __init__(self, *, state: str) -> None:
        """Store the `state`, in a running event loop. `listen` opens the port."""
        self.redirect_uri: str = ""
        self.has_refused: bool = False
        self._state = state
        self._response = asyncio.get_running_loop().create_future()

    @classmethod
    @asynccontextmanager
    async def listen(cls, *, state: str) -> AsyncGenerator[Self]:
        """Listen on a free port of 127.0.0.1 until the end of the block."""
        callback = cls(state=state)
        tasks: list[asyncio.Task[None]] = []

        def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            # Not a task of the server, which logs an error if it is cancelled (Python 3.11).
            tasks.append(asyncio.create_task(callback._respond(reader, writer)))

        server = await asyncio.start_server(accept, _HOST, 0, limit=_LARGEST_HEAD)
        callback.redirect_uri = f"http://{_HOST}:{server.sockets[0].getsockname()[1]}{_PATH}"
        try:
            yield callback
        finally:
            # Not `wait_closed`, which waits for connections that browsers open in advance and leave idle.
            server.close()
            for task in tasks:
                task.cancel()

    async def receive(self, *, timeout_seconds: float) -> Mapping[str, str]:
        """Return the parameters of the response; `TimeoutError` if it does not come."""
        async with asyncio.timeout(timeout_seconds):
            response: Mapping[str, str] = await self._response
            return response

    async def _respond(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Respond to one request. Requests other than the awaited response change nothing."""
        found: Mapping[str, str] | None = None
        try:
            async with asyncio.timeout(_REQUEST_SECONDS):
                target = _parse_target(await reader.readuntil(b"\r\n\r\n"))
                found = self._read(target)
                is_ours = target.partition("?")[0] == _PATH
                self.has_refused = self.has_refused or (is_ours and found is None)
                writer.write(
                    _build_page("404 Not Found" if not is_ours else "400 Bad Request" if found is None else "200 OK")
                )
                await writer.drain()
        except (OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            # `TimeoutError` is an `OSError`: the client sends nothing, too slowly, or has gone.
            pass
        finally:
            writer.close()
            # The browser gets its page before the command ends.
            if found is not None and not self._response.done():
                self._response.set_result(found)

    def _read(self, target: str) -> Mapping[str, str] | None:
        """Return the parameters of the response; `None` if it is not the awaited one.

        Parameters must not be repeated (RFC 6749 section 3.1). Another `state` is of another sign-in, or of a page that
        sends its own code to this port (RFC 6749 section 10.12).
        """
        path, _, query = target.partition("?")
        try:
            pairs = parse_qsl(query, keep_blank_values=True, max_num_fields=_MOST_FIELDS)
        except ValueError:
            return None
        fields = dict(pairs)
        is_awaited = path == _PATH and len(fields) == len(pairs)
        return fields if is_awaited and compare_digest(fields.get("state", "").encode(), self._state.encode()) else None


def _parse_target(head: bytes) -> str:
    """Return the target of a GET request; empty for any other one."""
    method, _, rest = head.decode("latin-1").partition("\r\n")[0].partition(" ")
    return rest.partition(" ")[0] if method == "GET" else ""


def _build_page(status: str) -> bytes:
    body = (
        '<!doctype html>\n<html lang="en">\n<meta charset="utf-8">\n'
        f"<title>fastapi-logto</title>\n<p>{_PAGES[status]}</p>\n"
    )
    headers = (
        f"HTTP/1.1 {status}",
        "Content-Type: text/html; charset=utf-8",
        f"Content-Length: {len(body)}",
        "Cache-Control: no-store",
        # The address of the page has the code.
        "Referrer-Policy: no-referrer",
        "Content-Security-Policy: default-src 'none'",
        "Connection: close",
    )
    return "\r\n".join((*headers, "", body)).encode()
