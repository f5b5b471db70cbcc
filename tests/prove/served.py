"""A local issuer on a socket, whose secrets are learned, and a browser that signs in."""

import html
import re
import secrets
from base64 import urlsafe_b64encode
from hashlib import sha256
from typing import Any, Final
from urllib.parse import parse_qs, urlencode, urlsplit

import httpx

from fastapi_logto import LogtoAuth
from fastapi_logto.client import LogtoClient
from fastapi_logto.introspection import Introspection
from fastapi_logto.testing import LocalIssuer
from tests.prove.bench import build_directory
from tests.prove.observing import Run
from tests.vectors.forge import API

_CALLBACK: Final = "http://127.0.0.1:9/callback"


class Served:
    """An issuer on a socket, with new secrets."""

    def __init__(self, run: Run) -> None:
        """Build the issuer, and learn its secrets. It is not served yet."""
        self.secret = f"{secrets.token_urlsafe(24)}+/&="
        self.issuer = LocalIssuer(directory=build_directory(self.secret))
        run.learn_secret("the client secret", self.secret)
        run.learn_issuer(self.issuer)

    def build_auth(self, **more: Any) -> LogtoAuth:
        """Return a `LogtoAuth` that sends the secret for introspection."""
        opaque = Introspection(client_id="api-machine", client_secret=self.secret, allowed_clients=["local-spa"])
        return LogtoAuth(endpoint=self.issuer.endpoint, audience=API, introspection=opaque, **more)

    def build_client(self) -> LogtoClient:
        """Return a client with the secret."""
        return LogtoClient(endpoint=self.issuer.endpoint, client_id="api-machine", client_secret=self.secret)


async def sign_in(run: Run, issuer: LocalIssuer) -> dict[str, str]:
    """Sign a user in like a browser, and return the last tokens. The code and the tokens have been learned."""
    verifier = secrets.token_urlsafe(32)
    challenge = urlsafe_b64encode(sha256(verifier.encode()).digest()).rstrip(b"=").decode()
    query = {
        "client_id": "local-spa",
        "redirect_uri": _CALLBACK,
        "response_type": "code",
        "scope": "openid offline_access read:user",
        "resource": API,
        "login_hint": "alice",
        "prompt": "consent",
        "code_challenge": challenge,
        "code_challenge_method": "S256",
    }
    async with httpx.AsyncClient(trust_env=False) as browser:
        page = await browser.get(f"{issuer.issuer}/auth", params=query)
        fields = re.findall(r'<input type="hidden" name="([^"]*)" value="([^"]*)">', page.text)
        fields += [("grant", name) for name in re.findall(r'name="grant" value="([^"]*)"', page.text)]
        filled = [(html.unescape(name), html.unescape(value)) for name, value in fields]
        form_body = urlencode([*filled, ("user", "alice"), ("action", "allow")])
        response = await browser.post(
            f"{issuer.issuer}/auth",
            content=form_body,
            headers={"content-type": "application/x-www-form-urlencoded", "origin": issuer.endpoint},
        )
        (code,) = parse_qs(urlsplit(response.headers["location"]).query)["code"]
        form = {"client_id": "local-spa", "redirect_uri": _CALLBACK, "code": code, "code_verifier": verifier}
        redemption = form | {"grant_type": "authorization_code", "resource": API}
        issued: dict[str, str] = (await browser.post(f"{issuer.issuer}/token", data=redemption)).json()
        refresh = {"client_id": "local-spa", "grant_type": "refresh_token", "resource": API}
        refresh["refresh_token"] = issued["refresh_token"]
        issued |= (await browser.post(f"{issuer.issuer}/token", data=refresh)).json()
        # The code was used already, and is not a refresh token.
        for refused in (redemption, refresh | {"refresh_token": code}):
            response = await browser.post(f"{issuer.issuer}/token", data=refused)
            assert response.status_code == 400
            run.sinks.put("responses", "the local issuer", response.text, str(response.headers.raw))
    return issued
