"""Authorization requests of public clients, and errors that are shown as a page, not sent to the application."""

import re
from typing import Any, Final

from authlib.oauth2 import rfc7636
from authlib.oauth2.rfc6749 import parameters

from fastapi_logto.provider.transport import RawResponse
from fastapi_logto.strict_json import StrictJsonError, parse_object

# Authlib has no types.
_rfc7636: Any = rfc7636
_parameters: Any = parameters

_ERROR: Final = re.compile(r"[a-z_]{1,80}\Z", re.ASCII)


def build_challenge(verifier: str) -> str:
    """Return the PKCE challenge of a verifier, by the method S256."""
    challenge: str = _rfc7636.create_s256_code_challenge(verifier)
    return challenge


def build_authorization_url(
    endpoint: str, *, client_id: str, redirect_uri: str, resource: str, scope: str, state: str, verifier: str
) -> str:
    """Return the URL at which a user signs in for an API resource, with a PKCE challenge."""
    url: str = _parameters.prepare_grant_uri(
        endpoint,
        client_id,
        "code",
        redirect_uri=redirect_uri,
        scope=scope,
        state=state,
        resource=resource,
        code_challenge=build_challenge(verifier),
        code_challenge_method="S256",
        # Required for `offline_access`.
        prompt="consent" if "offline_access" in scope.split(" ") else None,
    )
    return url


def find_error(response: RawResponse) -> str:
    """Return the OAuth error in the body of a response; empty without one.

    Logto's body has its own code too, such as `oidc.invalid_client`, which can be more precise than `error`.
    """
    try:
        document = parse_object(response.body)
    except StrictJsonError:
        return ""
    found = [document.get("code"), document.get("error")]
    errors = [one.removeprefix("oidc.") for one in found if isinstance(one, str)]
    return next(filter(_ERROR.match, errors), "")


def explain_error_page(error: str, *, client_id: str, kind: str, redirect_uri: str) -> str:
    """Return how to fix the error of a page. `kind` is the kind of application that is needed."""
    unknown = (
        f"the tenant has no application {client_id}: in the console, under Applications, copy the App ID of a {kind}"
    )
    unregistered = (
        f"in the console, under Applications, open the {kind} {client_id}, and add exactly {redirect_uri} to its "
        "redirect URIs"
    )
    if error == "invalid_client":
        return unknown
    if error == "invalid_redirect_uri":
        return unregistered
    return f"{unregistered}; if the tenant has no such application, copy the App ID of a {kind}"
