"""Tokens for trying an API out: a user's from a local issuer, a machine's from any tenant."""

import re
import secrets
from base64 import urlsafe_b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Final
from urllib.parse import urlsplit

from fastapi_logto.cli.machines import Credentials, get_token
from fastapi_logto.cli.network import Network, Reply, UnreachableError, parse_location
from fastapi_logto.cli.results import CommandError
from fastapi_logto.errors import GrantError, GrantUnavailableError, quote
from fastapi_logto.loopback import is_loopback
from fastapi_logto.redaction import mask
from fastapi_logto.settings import LogtoSettings
from fastapi_logto.strict_json import StrictJsonError, parse_object

__all__ = ["MintedToken", "mint_for_machine", "mint_for_user"]

_OK: Final = 200
_SEE_OTHER: Final = 303
_SECRET_FIELDS: Final = frozenset({"code", "code_verifier", "refresh_token"})
_TOKEN: Final = re.compile(r"[A-Za-z0-9\-._~+/]+=*\Z", re.ASCII)
"""What a bearer token consists of (RFC 6750 section 2.1)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MintedToken:
    """A token, which was asked for to be shown.

    Attributes:
        access_token: The token.
        scopes: The scopes that it has.
        missing: Those that were asked for and not granted.
    """

    access_token: str = field(repr=False)
    scopes: tuple[str, ...]
    missing: tuple[str, ...]


def mint_for_machine(
    settings: LogtoSettings,
    credentials: Credentials,
    *,
    resource: str,
    scopes: Sequence[str] = (),
    organization_id: str | None = None,
) -> MintedToken:
    """Give a token of a machine-to-machine application, by its credentials.

    Args:
        settings: The tenant.
        credentials: The application's.
        resource: The API resource.
        scopes: Scopes to ask for.
        organization_id: For the permissions inside an organization.

    Raises:
        CommandError: The tenant refuses or can't be reached.
    """
    try:
        issued = get_token(settings, credentials, resource=resource, scopes=scopes, organization_id=organization_id)
    except GrantUnavailableError as error:
        raise CommandError(f"{error}; fastapi-logto doctor looks why") from None
    except GrantError as error:
        raise CommandError(str(error)) from None
    return _build(issued.token, granted=issued.scopes, asked=scopes)


def mint_for_user(
    settings: LogtoSettings,
    network: Network,
    *,
    username: str,
    client_id: str,
    redirect_uri: str,
    resource: str,
    scopes: Sequence[str] = (),
    organization_id: str | None = None,
) -> MintedToken:
    """Give a token of a user of a local issuer, by its own sign-in page, which asks for no password.

    Args:
        settings: The issuer.
        network: What sends.
        username: Who signs in.
        client_id: The application that they sign in to.
        redirect_uri: One of its redirect URIs. Nothing is sent there.
        resource: The API resource.
        scopes: Scopes to ask for.
        organization_id: For the permissions inside an organization.

    Raises:
        CommandError: It is no local issuer, it refuses, or it can't be reached.
    """
    if not is_loopback(urlsplit(settings.fetch_base).hostname or ""):
        raise CommandError(
            f"expected a local issuer for --user, found {settings.fetch_base}; at a tenant people sign in themselves, "
            "in Swagger UI say, and a machine gets its token with --machine"
        )
    issuer = _LocalSignIn(f"{settings.fetch_base}/oidc", network, client_id=client_id, redirect_uri=redirect_uri)
    answer = issuer.sign_in(username, resource=resource, scopes=scopes)
    if organization_id is not None:
        answer = issuer.refresh(answer, resource=resource, organization_id=organization_id)
    return _build(answer["access_token"], granted=answer.get("scope", "").split(" "), asked=scopes)


def _build(token: str, *, granted: Sequence[str] | frozenset[str], asked: Sequence[str]) -> MintedToken:
    own = tuple(sorted(filter(None, granted)))
    return MintedToken(access_token=token, scopes=own, missing=tuple(scope for scope in asked if scope not in own))


class _LocalSignIn:
    """The authorization code flow, with nobody at the browser."""

    def __init__(self, issuer: str, network: Network, *, client_id: str, redirect_uri: str) -> None:
        self._issuer = issuer
        self._network = network
        self._client = {"client_id": client_id, "redirect_uri": redirect_uri}

    def sign_in(self, username: str, *, resource: str, scopes: Sequence[str]) -> Mapping[str, str]:
        verifier = secrets.token_urlsafe(32)
        challenge = urlsafe_b64encode(sha256(verifier.encode()).digest()).rstrip(b"=").decode()
        form: dict[str, str | Sequence[str]] = {
            **self._client,
            "response_type": "code",
            "resource": resource,
            "scope": " ".join([*scopes, "offline_access"]),
            "prompt": "consent",
            "code_challenge": challenge,
            "code_challenge_method": "S256",
            "action": "allow",
            "user": username,
            "grant": tuple(scopes),
        }
        reply = self._post("auth", form)
        answer = parse_location(reply)
        if reply.status != _SEE_OTHER or "code" not in answer:
            found = answer.get("error_description", f"status {reply.status}")
            raise CommandError(
                f"{self._issuer}: expected a code for the user {quote(username)} by the application "
                f"{quote(self._client['client_id'])} with the redirect URI {quote(self._client['redirect_uri'])}, "
                f"found {quote(found)}; the issuer's own page lists its users and applications, and --client-id or "
                "LOGTO_SWAGGER_CLIENT_ID chooses one"
            )
        return self._exchange(
            {
                **self._client,
                "grant_type": "authorization_code",
                "code": answer["code"],
                "code_verifier": verifier,
                "resource": resource,
            }
        )

    def refresh(self, answer: Mapping[str, str], *, resource: str, organization_id: str) -> Mapping[str, str]:
        if "refresh_token" not in answer:
            raise CommandError(f"{self._issuer}: expected a refresh token for --organization, found none")
        return self._exchange(
            {
                "client_id": self._client["client_id"],
                "grant_type": "refresh_token",
                "refresh_token": answer["refresh_token"],
                "resource": resource,
                "organization_id": organization_id,
            }
        )

    def _exchange(self, form: Mapping[str, str]) -> Mapping[str, str]:
        reply = self._post("token", form)
        try:
            document = parse_object(reply.body)
        except StrictJsonError:
            document = {}
        token = document.get("access_token")
        if reply.status != _OK or not isinstance(token, str):
            found = document.get("error_description")
            if isinstance(found, str):
                found = mask(found, secrets=[form[name] for name in _SECRET_FIELDS & form.keys()])
            raise CommandError(f"{self._issuer}: expected a token, found {quote(found)} (status {reply.status})")
        if not _TOKEN.match(token):
            raise CommandError(f"{self._issuer}: expected a token, found a text with other characters")
        return {name: value for name, value in document.items() if isinstance(value, str)}

    def _post(self, path: str, form: Mapping[str, str | Sequence[str]]) -> Reply:
        try:
            return self._network.send("POST", f"{self._issuer}/{path}", form=form)
        except UnreachableError as error:
            raise CommandError(f"{self._issuer}/{path}: {error}; start it with: fastapi-logto dev") from None
