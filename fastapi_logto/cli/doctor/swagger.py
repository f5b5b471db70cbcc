"""Check the sign-in of Swagger UI: the application's redirect URI, and CORS for the token endpoint."""

from collections.abc import Iterator
from typing import Final
from urllib.parse import urlencode, urlsplit

from fastapi_logto.cli.requests import build_form, parse_location, send
from fastapi_logto.cli.results import Check, Section
from fastapi_logto.provider.failures import ExchangeError
from fastapi_logto.provider.transport import Request, Transport
from fastapi_logto.redaction import quote
from fastapi_logto.settings import LogtoSettings

__all__ = ["check_swagger"]

_CLIENT_ERROR: Final = 400
_CHALLENGE: Final = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM"
"""The example of RFC 7636: the check never sends the verifier."""


def check_swagger(settings: LogtoSettings, transport: Transport, *, docs_url: str) -> Section:
    """Check the application of Swagger UI with the requests that its page sends. Nobody is signed in.

    `docs_url` must not end with a slash.
    """
    return Section(title="Swagger UI", checks=tuple(_check(settings, transport, docs_url)))


def _check(settings: LogtoSettings, transport: Transport, docs_url: str) -> Iterator[Check]:
    client_id = settings.swagger_client_id
    if client_id is None:
        yield Check(name="Application", status="skipped", found="LOGTO_SWAGGER_CLIENT_ID is not set")
        return
    redirect_uri = f"{docs_url}/oauth2-redirect"
    try:
        yield _check_redirect(settings, transport, client_id, redirect_uri)
        yield _check_origin(settings, transport, client_id, redirect_uri)
    except ExchangeError as error:
        yield Check(name="Sign-in", status="failed", found=str(error), advice="Fix the failed checks under Tenant.")


def _check_redirect(settings: LogtoSettings, transport: Transport, client_id: str, redirect_uri: str) -> Check:
    query = {
        "response_type": "code",
        "client_id": client_id,
        "redirect_uri": redirect_uri,
        "resource": settings.audience[0],
        "code_challenge": _CHALLENGE,
        "code_challenge_method": "S256",
    }
    # The endpoint returns a page or a redirect, not JSON.
    page = Request(headers={"Accept": "*/*"})
    response = send(transport, f"{settings.fetch_base}/oidc/auth?{urlencode(query)}", page)
    if response.status >= _CLIENT_ERROR:
        return Check(
            name="Redirect URI",
            status="failed",
            found=f"{redirect_uri}: status {response.status}",
            advice=f"In the console, under Applications, open the single-page application {client_id} (or correct "
            f"LOGTO_SWAGGER_CLIENT_ID), and add exactly {redirect_uri} to its redirect URIs. "
            "If your docs page has another URL, pass it with --docs-url.",
        )
    error = parse_location(response).get("error", "")
    if error == "invalid_target":
        return Check(
            name="Redirect URI",
            status="failed",
            found=f"{redirect_uri} is registered, but the tenant has no API resource {settings.audience[0]}",
            advice="In the console, under API resources, compare the API identifier with LOGTO_AUDIENCE; they must "
            "match exactly.",
        )
    if error:
        return Check(
            name="Redirect URI",
            status="failed",
            found=f"{redirect_uri} is registered, but Logto returns {quote(error)}",
            advice="In the console, check that the application is a single-page application.",
        )
    return Check(name="Redirect URI", status="ok", found=redirect_uri)


def _check_origin(settings: LogtoSettings, transport: Transport, client_id: str, redirect_uri: str) -> Check:
    parts = urlsplit(redirect_uri)
    origin = f"{parts.scheme}://{parts.netloc}"
    # The code is invalid, so the response is always an error, but only an allowed origin gets the CORS header. A
    # preflight request can't tell: it is granted to every origin.
    form = {
        "grant_type": "authorization_code",
        "client_id": client_id,
        "code": "none",
        "redirect_uri": redirect_uri,
        "code_verifier": "v" * 43,
    }
    response = send(transport, f"{settings.fetch_base}/oidc/token", build_form(form, headers={"Origin": origin}))
    if response.headers.get("access-control-allow-origin") in {"*", origin}:
        return Check(name="CORS", status="ok", found=f"{origin} may call the token endpoint")
    return Check(
        name="CORS",
        status="failed",
        found=f"{origin} may not call the token endpoint",
        advice=f"In the console, under Applications, {client_id}: add a redirect URI with this origin, or add the "
        "origin to CORS allowed origins.",
    )
