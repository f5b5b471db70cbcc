"""Read the body of a request that anyone may send."""

from fastapi import Request
from starlette.requests import ClientDisconnect

__all__ = ["BodyError", "read_body"]


class BodyError(Exception):
    """The body of a request is too large, incomplete or malformed.

    Attributes:
        status: The HTTP status of the response.
    """

    def __init__(self, message: str, *, status: int = 400) -> None:
        super().__init__(message)
        self.status: int = status


async def read_body(request: Request, *, max_bytes: int) -> bytes:
    """Return the body exactly as it was sent; `BodyError` if it is too large or incomplete.

    The bytes are counted while they arrive: a header may state any length.
    """
    body = bytearray()
    try:
        async for chunk in request.stream():
            body += chunk
            if len(body) > max_bytes:
                raise BodyError(f"expected a body of at most {max_bytes} bytes, found more", status=413)
    except ClientDisconnect:
        # Nobody reads the response.
        raise BodyError("expected a complete body, found a part of it") from None
    return bytes(body)
