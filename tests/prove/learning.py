"""Learns each secret that a provider receives or issues, before the package can output it."""

import json
from base64 import b64decode
from binascii import Error
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from typing import Any, Final, cast
from urllib.parse import parse_qsl, unquote_plus

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from fastapi_logto.testing import LocalIssuer
from tests.prove.canaries import Canaries

SECRET_FIELDS: Final[Mapping[str, str]] = {
    "actor_token": "the actor token",
    "client_secret": "the client secret",
    "code": "the authorization code",
    "code_verifier": "the code verifier",
    "id_token_hint": "the ID token",
    "refresh_token": "the refresh token",
    "subject_token": "the subject token",
    "token": "the token",
}
"""The fields of forms and queries that are secrets, with the name of each secret."""
SECRET_MEMBERS: Final[Mapping[str, str]] = {
    "access_token": "the access token",
    "id_token": "the ID token",
    "refresh_token": "the refresh token",
    "signingKey": "the signing key",
    "subjectToken": "the subject token",
}
"""The same for the members of JSON documents, in which `code` is an error code."""


class Learner:
    """A middleware in front of a provider."""

    def __init__(self, app: ASGIApp, *, canaries: Canaries, lose: Callable[[], None]) -> None:
        """Put the middleware in front of an application; `lose` is called for each request without a response."""
        self._app = app
        self._canaries = canaries
        self._lose = lose

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Learn from the request before its last part is received, and from the response before it is sent."""
        asked = bytearray()
        held: list[Message] = []

        async def listen() -> Message:
            message = await receive()
            asked.extend(message.get("body", b""))
            if not message.get("more_body"):
                learn_fields(self._canaries, asked.decode("latin-1"))
            return message

        async def hold(message: Message) -> None:
            held.append(message)
            if message["type"] == "http.response.start" or message.get("more_body"):
                return
            learn_fields(self._canaries, asked.decode("latin-1"))
            learn_document(self._canaries, b"".join(one.get("body", b"") for one in held).decode("utf-8", "replace"))
            self._learn_headers(held[0])
            for one in held:
                await send(one)
            held.clear()

        self._learn_headers(scope)
        learn_fields(self._canaries, scope["query_string"].decode("latin-1"))
        try:
            await self._app(scope, listen, hold)
        except BaseException:
            # What a thread of the provider issues for it later is not sent.
            self._lose()
            raise

    def _learn_headers(self, message: Mapping[str, Any]) -> None:
        for name, value in message.get("headers", ()):
            text = value.decode("latin-1")
            if name == b"location":
                learn_fields(self._canaries, text.partition("?")[2])
            elif name == b"authorization":
                scheme, _, credentials = text.partition(" ")
                if scheme.lower() == "basic":
                    self._canaries.add("the client secret", _read_password(credentials))
                else:
                    self._canaries.add_token("the access token", credentials)


def _read_password(credentials: str) -> str:
    try:
        return unquote_plus(b64decode(credentials).decode("latin-1").partition(":")[2])
    except Error:
        return credentials


def learn_fields(canaries: Canaries, text: str) -> None:
    """Learn the secrets of a form or a query."""
    _learn(canaries, parse_qsl(text), names=SECRET_FIELDS)


def learn_document(canaries: Canaries, text: str) -> None:
    """Learn the secrets of a JSON document."""
    with suppress(ValueError):
        _learn(canaries, _walk(json.loads(text)), names=SECRET_MEMBERS)


def _learn(canaries: Canaries, fields: Iterable[tuple[str, str]], *, names: Mapping[str, str]) -> None:
    for name, value in fields:
        if name == "client_secret":
            canaries.add(names[name], value)
        elif name in names:
            canaries.add_token(names[name], value)


def _walk(value: object) -> Iterator[tuple[str, str]]:
    if isinstance(value, list):
        for one in cast("list[object]", value):
            yield from _walk(one)
    elif isinstance(value, dict):
        for name, one in cast("dict[str, object]", value).items():
            if isinstance(one, str):
                yield name, one
            else:
                yield from _walk(one)


def list_kept_secrets(issuer: LocalIssuer) -> Iterator[tuple[str, str]]:
    """Yield what a local issuer can still accept or sign with: the kind and the secret."""
    # No public attribute has them.
    hidden: Any = issuer
    for kind in ("opaque", "personal", "impersonation"):
        for token in getattr(hidden._issued, kind)._entries:
            yield f"the {kind} token", token
    for code in hidden._tokens._codes:
        yield "the authorization code", code
    for token in hidden._tokens._refresh_tokens:
        yield "the refresh token", token
    for hook in issuer.hooks:
        yield "the signing key", hook.signing_key
    for machine in issuer.directory.machines:
        yield "the client secret", machine.client_secret
