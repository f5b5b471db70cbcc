"""Token requests: the form, the lane in which it is sent, and the token or error in the response."""

import json
import re
from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass, field
from functools import partial
from typing import Final, Literal, TypeAlias, TypeGuard, TypeVar

from pydantic import SecretStr

from fastapi_logto.client.errors import GrantRefusedError, GrantUnavailableError
from fastapi_logto.provider.endpoints import Client, Endpoints, Form, build_form_request, is_encodable
from fastapi_logto.provider.failures import FetchError
from fastapi_logto.provider.lanes import Lane
from fastapi_logto.provider.transport import Request, Response
from fastapi_logto.redaction import mask, quote
from fastapi_logto.strict_json import JsonObject, JsonValue
from fastapi_logto.verification.cache import build_digest

Kind: TypeAlias = Literal[
    "machine", "access_token", "personal_access_token", "known_exchange", "userinfo", "management"
]
"""The kinds of requests. Each has a separate lane."""

CACHE_BYTES: Final = 32 * 1024 * 1024
"""Memory limit for cached tokens."""

_TOKEN68: Final = re.compile(r"[A-Za-z0-9\-._~+/]++=*+\Z", re.ASCII)
_MARGIN_SECONDS: Final = 60.0
# An API that refuses every token must not cost a request for a new one each time.
_REPLACE_SECONDS: Final = 10.0
_LONGEST_SECONDS: Final = 24 * 3600.0
_DIGITS: Final = re.compile(r"[0-9]{1,12}\Z", re.ASCII)
_ERROR: Final = re.compile(r"[a-z_.]{1,80}\Z", re.ASCII)
_SECRET_FIELDS: Final = frozenset({"subject_token", "actor_token"})
_ADVICE: Final = {
    "invalid_client": "check client_id and client_secret, and that they are of this tenant",
    "invalid_target": "check that the resource is exactly the API resource's indicator in Logto",
    "access_denied": "check that the application or the user is a member of the organization",
    "invalid_grant": "the subject token is expired, used up, of another kind, a machine's, a suspended user's, or of a "
    "third-party application",
    "invalid_request": "check that the application in Logto is a machine-to-machine one, or may exchange tokens",
    "auth.unauthorized": "check that the resource is the indicator of this tenant's Management API",
    "auth.forbidden": "give the machine-to-machine application a role with the permission `all` of the Management API",
    "entity.relation_foreign_key_not_found": "check that the user exists in this tenant",
}
_ACTOR_ADVICE: Final = "; or the actor token is not an opaque access token of a user with the scope openid"
_ResultT = TypeVar("_ResultT")


@dataclass(frozen=True, slots=True, kw_only=True)
class IssuedToken:
    """A token that the provider issued to this API.

    Attributes:
        token: The access token; omitted from the `repr`.
        scopes: The granted scopes. **A requested scope that is not granted is absent, without an error**: Logto issues
            the token without it.
    """

    token: str = field(repr=False)
    scopes: frozenset[str]


@dataclass(frozen=True, slots=True)
class KeptToken:
    """A cached token: the time until which it is used, and the time from which it is replaced if an API rejects it."""

    issued: IssuedToken
    until: float
    replaceable_at: float

    @property
    def weight(self) -> int:
        """Its approximate size in bytes."""
        return 1000 + len(self.issued.token) + sum(map(len, self.issued.scopes)) + 60 * len(self.issued.scopes)


class Grants:
    """Sends token and userinfo requests, each kind in its own lane."""

    def __init__(
        self,
        *,
        client: Client,
        endpoints: Endpoints,
        monotonic: Callable[[], float],
        max_waiting: int,
    ) -> None:
        """Store the parts. `max_waiting` limits the requests of each kind in flight, except for the machine's own."""
        self._client = client
        self._endpoints = endpoints
        self._monotonic = monotonic

        def build(name: str, max_in_flight: int | None = max_waiting) -> Lane:
            return Lane(name, monotonic=monotonic, max_in_flight=max_in_flight)

        # Callers control how many exchanges there are, and how many of them fail with which response.
        self._lanes: dict[Kind, Lane] = {
            "machine": build("machine token", None),
            "access_token": build("exchange of an access token"),
            "personal_access_token": build("exchange of a personal access token"),
            "known_exchange": build("exchange of a token that was exchanged before"),
            "userinfo": build("userinfo"),
            "management": build("Management API"),
        }

    async def request_token(self, form: Form, *, kind: Kind, longest_seconds: float = _LONGEST_SECONDS) -> KeptToken:
        """Request a token, which may be used for `longest_seconds` at most."""
        build = partial(build_form_request, form=form, client=self._client)
        url, response = await self._send(kind, partial(self._endpoints.send, "token_endpoint", build))
        # Not a local variable, because error trackers show what they find in the frame of an error.
        found = _read_grant(self._read(response, url=url, form=form))
        if isinstance(found, str):
            raise GrantUnavailableError(f"{url}: {found}")
        issued, use_seconds = found
        now = self._monotonic()
        return KeptToken(issued, until=now + min(use_seconds, longest_seconds), replaceable_at=now + _REPLACE_SECONDS)

    async def fetch_userinfo(self, token: SecretStr) -> JsonObject:
        """Fetch the claims of the user of an opaque token."""
        request = Request(headers={"Authorization": f"Bearer {token.get_secret_value()}"})
        send = partial(self._endpoints.send, "userinfo_endpoint", lambda _: request)
        url, response = await self._send("userinfo", send)
        return self._read(response, url=url, form=Form((("subject_token", token.get_secret_value()),)))

    async def create_subject_token(self, user_id: str, *, url: str, issued: IssuedToken) -> SecretStr:
        """Create a subject token for impersonation with a token for the Management API, at the URL for it."""
        request = Request(
            method="POST",
            headers={"Authorization": f"Bearer {issued.token}", "Content-Type": "application/json"},
            body=json.dumps({"userId": user_id}),
        )
        response = await self._send("management", partial(self._endpoints.send_to, url, request, expected=201))
        form = Form((("subject_token", issued.token),))
        # Only the code and the message are read: a 401 response repeats the claims of the token.
        names = ("code", "message")
        created = _find_token(self._read(response, url=url, form=form, expected=201, names=names), "subjectToken")
        if created is None:
            raise GrantUnavailableError(f"{url}: a response without a subject token")
        return SecretStr(created)

    async def _send(self, kind: Kind, send: Callable[[], Awaitable[_ResultT]]) -> _ResultT:
        lane = self._lanes[kind]
        try:
            with lane.enter():
                return await send()
        except FetchError as error:
            raise GrantUnavailableError(str(error), retry_after_seconds=lane.retry_after_seconds) from None

    def _read(
        self,
        response: Response,
        *,
        url: str,
        form: Form,
        expected: int = 200,
        names: tuple[str, str] = ("error", "error_description"),
    ) -> JsonObject:
        """Return the document of a response; `names` are the members of an error and its description."""
        if response.status == expected:
            return response.document
        if not isinstance(response.document.get(names[0]), str):
            raise GrantUnavailableError(f"{url}: status {response.status}, and no {names[0]} in the response")
        # A provider may repeat what it was sent, but a secret must not get into the log.
        shown, told = (self._mask(response.document.get(name), form) for name in names)
        advice = _ADVICE.get(shown, "see the error and its description")
        if shown == "invalid_grant" and any(name == "actor_token" for name, _ in form.fields):
            advice += _ACTOR_ADVICE
        raise GrantRefusedError(
            f"{url}: {quote(shown)}, {quote(told)}; {advice}",
            status=response.status,
            error=shown if _ERROR.match(shown) else quote(shown),
            description=quote(told),
        )

    def _mask(self, text: JsonValue, form: Form) -> str:
        if not isinstance(text, str):
            return ""
        tokens = [value for name, value in form.fields if name in _SECRET_FIELDS]
        return mask(text, secrets=[*self._client.secrets, *tokens])


def build_form(grant_type: str, *, resource: str | None, scopes: Collection[str], organization_id: str | None) -> Form:
    """Return the form with the fields that all token requests share.

    `ValueError` if a value is empty or can't be encoded.
    """
    names = [scopes] if isinstance(scopes, str) else sorted(set(scopes))
    scope = " ".join(str.__str__(name) for name in names)
    values = {
        "grant_type": grant_type,
        "resource": resource,
        "organization_id": organization_id,
        "scope": scope or None,
    }
    return Form(tuple((name, check_text(name, value)) for name, value in values.items() if value is not None))


def build_key(form: Form) -> bytes:
    """Return the cache key of a token request: a digest, because the fields contain tokens."""
    return build_digest(json.dumps(sorted(form.fields)).encode("ascii"))


def check_text(name: str, value: str) -> str:
    """Return a value as a plain `str`; `ValueError` if it is empty or has a lone surrogate. It is never quoted.

    A subclass of `str` could show another text, and would be cached under that text.
    """
    if not value:
        # Logto ignores an empty value, and issues another kind of token.
        raise ValueError(f"expected a value for {name}, found an empty string")
    if not is_encodable(value):
        raise ValueError(f"expected a value for {name} that can be encoded as UTF-8, found a lone surrogate")
    return str.__str__(value)


def is_token(value: object) -> TypeGuard[str]:
    """Return whether a value is a text of only characters of a bearer token (RFC 6750 section 2.1)."""
    return isinstance(value, str) and _TOKEN68.match(value) is not None


def _find_token(document: JsonObject, name: str) -> str | None:
    token = document.get(name)
    return token if is_token(token) else None


def _read_grant(document: JsonObject) -> tuple[IssuedToken, float] | str:
    """Return the token in a response and for how long it is used, or what is wrong with the response."""
    token, token_type, scope = (
        _find_token(document, "access_token"),
        document.get("token_type"),
        document.get("scope", ""),
    )
    if token is None or not isinstance(scope, str):
        return "a response without a bearer token"
    if not isinstance(token_type, str) or token_type.lower() != "bearer":
        return "a token of another type than Bearer"
    issued = IssuedToken(token=token, scopes=frozenset(filter(None, scope.split(" "))))
    return issued, _find_use_seconds(document.get("expires_in"))


def _find_use_seconds(lifetime: object) -> float:
    """Return how long a token is used: its lifetime minus a minute or a tenth; 0 if the lifetime is unknown.

    Some proxies turn the number into a string of digits.
    """
    if isinstance(lifetime, str) and _DIGITS.match(lifetime):
        lifetime = int(lifetime)
    if isinstance(lifetime, bool) or not isinstance(lifetime, int | float) or not lifetime > 0:
        return 0.0
    seconds = float(min(lifetime, _LONGEST_SECONDS))
    return seconds - min(_MARGIN_SECONDS, seconds / 10)
