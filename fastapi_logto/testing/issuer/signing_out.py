"""Sign-out requests of an application (OpenID Connect RP-Initiated Logout 1.0)."""

from urllib.parse import urlencode

from fastapi_logto.testing.directory import Application, Directory
from fastapi_logto.testing.issuer.clients import find_or_fetch_client
from fastapi_logto.testing.issuer.forms import Parameters
from fastapi_logto.testing.issuer.refusals import RefusedError
from fastapi_logto.testing.redirects import accepts_redirect


def find_sign_out_target(parameters: Parameters, *, directory: Directory) -> str | None:
    """Return the URL to return to, with `state`; `None` if the request names no URL or no application.

    This issuer has no sessions to end: each sign-in shows the page. `id_token_hint` is not read.
    """
    client_id, uri = parameters.find("client_id"), parameters.find("post_logout_redirect_uri")
    if client_id is None:
        # Like Logto: without an application, nobody has registered the URL.
        return None
    client = find_or_fetch_client(directory, client_id)
    if not isinstance(client, Application):
        raise RefusedError("invalid_client", f"no application has the client id {client_id[:80]!r}")
    if uri is None:
        return None
    if not accepts_redirect(client.post_logout_redirect_uris, uri):
        raise RefusedError("invalid_request", "post_logout_redirect_uri not registered")
    state = parameters.find("state")
    separator = "&" if "?" in uri else "?"
    return uri if state is None else f"{uri}{separator}{urlencode({'state': state})}"
