"""Read the body of a request, with a size limit."""

from typing import Final

from starlette.requests import ClientDisconnect, Request

from fastapi_logto.testing.issuer.refusals import RefusedError

_MAX_BODY_BYTES: Final = 64 * 1024
_FORM: Final = "application/x-www-form-urlencoded"


async def read_form(request: Request) -> bytes:
    """Return the body of a form; refuse any other content type."""
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != _FORM:
        raise RefusedError("invalid_request", f"only {_FORM} bodies are supported")
    return await read_body(request)


async def read_body(request: Request) -> bytes:
    """Return the body; refuse one that is larger than 64 KiB or incomplete."""
    body = bytearray()
    try:
        async for chunk in request.stream():
            body += chunk
            if len(body) > _MAX_BODY_BYTES:
                raise RefusedError("invalid_request", f"the body is larger than {_MAX_BODY_BYTES} bytes")
    except ClientDisconnect as err:
        raise RefusedError("invalid_request", "the body ended too early") from err
    return bytes(body)
