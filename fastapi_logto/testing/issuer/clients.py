"""Client authentication at the token endpoint, as Logto does it."""

import secrets
from base64 import b64decode
from typing import Final
from urllib.parse import unquote_plus

from fastapi_logto.testing.directory import Application, Directory, Machine
from fastapi_logto.testing.issuer.forms import Parameters
from fastapi_logto.testing.issuer.lookup import find_client
from fastapi_logto.testing.issuer.refusals import RefusedError

_FAILED: Final = "client authentication failed"
_MALFORMED: Final = "invalid authorization header value format"


def authenticate_client(
    form: Parameters, *, authorization: str | None, directory: Directory, issuer: str
) -> Application | Machine:
    """Return the client that sent a form, by its body or its `Authorization` header.

    A wrong secret is refused with 401; an unknown client, no client or two ways of authentication with 400.
    """
    client_id: str | None
    secret: str | None
    challenge: str | None = None
    if authorization is not None:
        if form.find("client_secret") is not None:
            raise RefusedError("invalid_request", "client authentication must only be provided using one mechanism")
        client_id, secret = _parse_basic(authorization)
        if form.find("client_id") not in {None, client_id}:
            raise RefusedError("invalid_request", "mismatch in body and authorization client ids")
        challenge = f'Basic realm="{issuer}", error="invalid_client", error_description="{_FAILED}"'
    else:
        client_id, secret = form.find("client_id"), form.find("client_secret")
        if client_id is None:
            raise RefusedError("invalid_request", "no client authentication mechanism provided")
    client = find_or_fetch_client(directory, client_id)
    if client is None:
        raise RefusedError("invalid_client", f"invalid client {client_id[:80]}")
    if not _is_secret_right(client, secret):
        raise RefusedError("invalid_client", _FAILED, status=401, challenge=challenge)
    return client


def find_or_fetch_client(directory: Directory, client_id: str) -> Application | Machine | None:
    """Return the client with this client id; `None` if there is none.

    If dynamic applications are accepted, a client id that is a URL is fetched; `RefusedError` if that fails.
    """
    found = find_client(directory, client_id)
    if found is not None or directory.dynamic_apps is None or "://" not in client_id:
        return found
    from fastapi_logto.testing.issuer.client_documents import fetch_application  # noqa: PLC0415 - only this needs httpx

    return fetch_application(client_id, allow_loopback=directory.dynamic_apps.allow_loopback)


def _is_secret_right(client: Application | Machine, secret: str | None) -> bool:
    if isinstance(client, Application):
        return secret is None
    return secret is not None and secrets.compare_digest(secret.encode(), client.client_secret.encode())


def _parse_basic(authorization: str) -> tuple[str, str]:
    """Parse a `client_secret_basic` header, whose parts are form-encoded (RFC 6749 section 2.3.1)."""
    scheme, _, credentials = authorization.partition(" ")
    try:
        text = b64decode(credentials, validate=True).decode("utf-8")
        client_id, colon, secret = text.partition(":")
        client_id, secret = unquote_plus(client_id, errors="strict"), unquote_plus(secret, errors="strict")
    except ValueError as err:
        raise RefusedError("invalid_request", _MALFORMED) from err
    if scheme.lower() != "basic" or not client_id or not colon:
        raise RefusedError("invalid_request", _MALFORMED)
    if not secret:
        raise RefusedError("invalid_request", "client_secret must be provided in the Authorization header")
    return client_id, secret
