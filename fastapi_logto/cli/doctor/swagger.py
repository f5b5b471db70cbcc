"""Check the sign-in of Swagger UI: the application, its redirect URI, and CORS for the token endpoint."""

from collections.abc import Iterator
from typing import Final
from urllib.parse import urlencode, urlsplit

from fastapi_logto.cli.authorization import explain_error_page, find_error
from fastapi_logto.cli.requests import build_form, parse_location, send
from fastapi_logto.cli.results import Check, Section
from fastapi_logto.provider.failures import ExchangeError
from fastapi_logto.provider.transport import RawResponse, Request, Transport
from fastapi_logto.redaction import quote
from fastapi_logto.settings import LogtoSettings

_CLIENT_ERROR: Final = 400
_UNAUTHORIZED: Final = 401
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
    parts = urlsplit(redirect_uri)
    origin = f"{parts.scheme}://{parts.netloc}"
    try:
        response = _request_token(settings, transport, client_id, redirect_uri, origin=origin)
        if find_error(response) == "invalid_client":
            yield _refuse_application(response, client_id)
            yield from (Check(name=name, status="skipped") for name in ("Redirect URI", "CORS"))
            return
        yield Check(name="Application", status="ok", found=f"{client_id} needs no secret")
        yield _check_redirect(settings, transport, client_id, redirect_uri)
        yield _check_origin(response, client_id, origin=origin)
    except ExchangeError as error:
        yield Check(name="Sign-in", status="failed", found=str(error), advice="Fix the failed checks under Tenant.")


def _request_token(
    settings: LogtoSettings, transport: Transport, client_id: str, redirect_uri: str, *, origin: str
) -> RawResponse:
    """Send the token request of the page. The code is invented, so the response is always an error."""
    form = {
        "grant_type": "authorization_code",
        "client_id": client_id,
        "code": "none",
        "redirect_uri": redirect_uri,
        "code_verifier": "v" * 43,
    }
    return send(transport, f"{settings.fetch_base}/oidc/token", build_form(form, headers={"Origin": origin}))


def _refuse_application(response: RawResponse, client_id: str) -> Check:
    if response.status == _UNAUTHORIZED:
        # Its redirect URI and its origin can be correct, and the sign-in fails at the end.
        found = f"{client_id} requires a secret, which a page can't keep: it is not a single-page application"
        advice = (
            "In the console, under Applications, create a single-page application for the docs page, and set "
            "LOGTO_SWAGGER_CLIENT_ID to its App ID. An application's type can't be changed."
        )
    else:
        found = f"the tenant has no application {client_id}"
        advice = (
            "Set LOGTO_SWAGGER_CLIENT_ID to the App ID of the single-page application (console: Applications), and "
            "check that LOGTO_ENDPOINT is its tenant."
        )
    return Check(name="Application", status="failed", found=found, advice=advice)


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
        error = find_error(response)
        advice = explain_error_page(
            error, client_id=client_id, kind="single-page application", redirect_uri=redirect_uri
        )
        return Check(
            name="Redirect URI",
            status="failed",
            found=f"{redirect_uri}: status {response.status}{f' {error}' if error else ''}",
            advice=f"{advice[:1].upper()}{advice[1:]}. If your docs page has another URL, pass it with --docs-url.",
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


def _check_origin(response: RawResponse, client_id: str, *, origin: str) -> Check:
    # Only an allowed origin gets the CORS header. A preflight request can't tell: it is granted to every origin.
    if response.headers.get("access-control-allow-origin") in {"*", origin}:
        return Check(name="CORS", status="ok", found=f"{origin} may call the token endpoint")
    return Check(
        name="CORS",
        status="failed",
        found=f"{origin} may not call the token endpoint",
        advice=f"In the console, under Applications, {client_id}: add a redirect URI with this origin, or add the "
        "origin to CORS allowed origins.",
    )
