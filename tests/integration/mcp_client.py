"""The official MCP client, which only gets the URL of a server and discovers where to sign in."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import parse_qs, urlsplit

import httpx2
from mcp.client import Client
from mcp.client.auth import AuthorizationCodeResult, OAuthClientProvider
from mcp.client.streamable_http import streamable_http_client
from mcp.shared.auth import OAuthClientInformationFull, OAuthClientMetadata, OAuthToken
from pydantic import AnyUrl

REDIRECT_URI: Final = "http://127.0.0.1:8765/callback"


@dataclass
class Storage:
    """The storage of a client: its tokens, and the application that was registered for it, if there is one."""

    client: OAuthClientInformationFull | None
    tokens: OAuthToken | None = None

    async def get_tokens(self) -> OAuthToken | None:
        return self.tokens

    async def set_tokens(self, tokens: OAuthToken) -> None:
        self.tokens = tokens

    async def get_client_info(self) -> OAuthClientInformationFull | None:
        return self.client

    async def set_client_info(self, client_info: OAuthClientInformationFull) -> None:
        if self.client is not None:
            raise AssertionError(f"Logto registers no application itself, and yet there is {client_info.client_id}")
        self.client = client_info


@dataclass
class SignIn:
    """The browser of a user of a local issuer, who grants all requested scopes.

    Attributes:
        username: The user who signs in.
        asked: The parameters of each authorization request.
    """

    username: str
    asked: list[dict[str, list[str]]] = field(default_factory=list[dict[str, list[str]]])
    answer: dict[str, str] = field(default_factory=dict[str, str])

    async def open(self, url: str) -> None:
        asked = parse_qs(urlsplit(url).query)
        self.asked.append(asked)
        form = {**asked, "action": "allow", "user": self.username, "grant": asked["scope"][0].split()}
        async with httpx2.AsyncClient(trust_env=False) as browser:
            answered = await browser.post(url.partition("?")[0], data=form)
        location = urlsplit(answered.headers["location"])
        self.answer = {name: values[0] for name, values in parse_qs(location.query).items()}

    async def wait(self) -> AuthorizationCodeResult:
        return AuthorizationCodeResult(
            code=self.answer.get("code", ""), state=self.answer.get("state"), iss=self.answer.get("iss")
        )


@asynccontextmanager
async def connect(
    url: str, *, sign_in: SignIn, client_id: str = "local-spa", metadata_url: str | None = None
) -> AsyncGenerator[Client]:
    """Yield a client of an MCP server, which signs in when the server requires it.

    With `metadata_url`, no application is registered for it, and this URL is its client id.
    """
    redirect_uris = [AnyUrl(REDIRECT_URI)]
    registered = OAuthClientInformationFull(
        client_id=client_id, redirect_uris=redirect_uris, token_endpoint_auth_method="none"
    )
    provider = OAuthClientProvider(
        server_url=url,
        client_metadata=OAuthClientMetadata(redirect_uris=redirect_uris, token_endpoint_auth_method="none"),
        storage=Storage(None if metadata_url else registered),
        client_metadata_url=metadata_url,
        redirect_handler=sign_in.open,
        callback_handler=sign_in.wait,
    )
    async with (
        httpx2.AsyncClient(auth=provider, trust_env=False) as http,
        Client(streamable_http_client(url, http_client=http)) as client,
    ):
        yield client
