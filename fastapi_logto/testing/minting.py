"""Tokens of every kind that Logto issues, made on request and really signed."""

import json
import secrets
import time
from base64 import urlsafe_b64decode
from collections.abc import Callable, Collection, Mapping, Sequence
from types import EllipsisType
from typing import Final, TypeVar, cast

from fastapi_logto.testing.bad_tokens import BadToken, build_bad_token
from fastapi_logto.testing.directory import Directory
from fastapi_logto.testing.opaque import RANDOM_BYTES, OpaqueToken, OpaqueTokens
from fastapi_logto.testing.signing import Algorithm, JsonValue, SigningKey

__all__ = ["LIFETIME_SECONDS", "TokenMint"]

LIFETIME_SECONDS: Final = 3600

_Entry = TypeVar("_Entry")


def _first(entries: Sequence[_Entry], what: str) -> _Entry:
    if not entries:
        msg = f"directory: expected at least one of its {what} as a default, found none; name the value in the call"
        raise ValueError(msg)
    return entries[0]


def _merge(standard: Mapping[str, JsonValue], extra: Mapping[str, JsonValue] | None) -> dict[str, JsonValue]:
    """Override in place, put new members first as Logto's custom claims are, drop `None`."""
    changes = extra or {}
    added = {name: value for name, value in changes.items() if name not in standard}
    merged = added | {name: changes.get(name, value) for name, value in standard.items()}
    return {name: value for name, value in merged.items() if value is not None}


class TokenMint:
    """Keys, and the tokens signed with them.

    Tokens are minted as asked: no permission is looked up, and what a call leaves out
    comes from the first entries of the directory. So a test can start from a good
    token and change one thing.

    Attributes:
        endpoint: Where the issuer lives, without a trailing slash.
        directory: The users, clients and resources known.
        now: The clock, in seconds since the epoch.
    """

    def __init__(
        self,
        *,
        endpoint: str = "http://127.0.0.1:3001",
        directory: Directory | None = None,
        now: Callable[[], float] = time.time,
    ) -> None:
        """Make a mint with a new P-384 key.

        Args:
            endpoint: Where the issuer lives; the issuer is this and `/oidc`.
            directory: What is known; the example's directory when left out.
            now: The clock, in seconds since the epoch.
        """
        self.endpoint: str = endpoint.rstrip("/")
        self.directory: Directory = Directory.example() if directory is None else directory
        self.now: Callable[[], float] = now
        self._audiences: list[str] = []
        self._keys: tuple[SigningKey, ...] = (SigningKey.generate("ES384"),)
        self._opaque = OpaqueTokens(lambda: self.now())  # noqa: PLW0108 - looked up late: the clock may be replaced

    @property
    def issuer(self) -> str:
        """The issuer identifier, the `iss` of every token."""
        return f"{self.endpoint}/oidc"

    @property
    def audience(self) -> str:
        """For which API tokens are where a call names none: the first resource, or that of what is connected.

        Raises:
            ValueError: The directory has no resource.
        """
        return self._audiences[-1] if self._audiences else _first(self.directory.resources, "resources").indicator

    @property
    def algorithms(self) -> Collection[Algorithm]:
        """The algorithms of the published keys."""
        return {key.algorithm for key in self._keys}

    def jwks(self) -> dict[str, list[dict[str, str]]]:
        """Give the key set: the current key, then the previous one if there is one."""
        return {"keys": [key.jwk() for key in self._keys]}

    def rotate(self, *, algorithm: Algorithm = "ES384", keep_previous: bool = True) -> str:
        """Sign with a new key from now on.

        The set holds the new key and the one before, so a second rotation drops the
        oldest, as a self-hosted Logto does.

        Args:
            algorithm: Of the new key.
            keep_previous: Whether the key before stays in the set; `False` is a rotation
                without any grace.

        Returns:
            The new key's `kid`.
        """
        new = SigningKey.generate(algorithm)
        self._keys = (new, self._keys[0]) if keep_previous else (new,)
        return new.kid

    def sign(
        self,
        claims: Mapping[str, JsonValue] | bytes,
        *,
        header: Mapping[str, JsonValue] | None = None,
    ) -> str:
        """Sign any claims at all with the current key.

        Neither header nor claims are checked: this also makes the tokens that must be
        refused. The signature is always real, even if the header names another `alg`.

        Args:
            claims: The claims; bytes are taken as the payload just as they are.
            header: Members to override or add to `alg`, `typ` and `kid`; one of `None`
                is left out.
        """
        key = self._keys[0]
        members = {"alg": key.algorithm, "typ": "at+jwt", "kid": key.kid} | dict(header or {})
        payload = claims if isinstance(claims, bytes) else json.dumps(claims, separators=(",", ":")).encode("ascii")
        return key.sign({name: value for name, value in members.items() if value is not None}, payload)

    def access_token(
        self,
        *,
        subject: str | None = None,
        client_id: str | None = None,
        scope: str | EllipsisType | None = ...,
        audience: str | None = None,
        organization_id: str | None = None,
        actor: str | None = None,
        lifetime_seconds: int = LIFETIME_SECONDS,
        claims: Mapping[str, JsonValue] | None = None,
    ) -> str:
        """Give a user's access token for an API resource.

        Args:
            subject: The user id; the first user's when left out.
            client_id: The first application's when left out.
            scope: Scopes parted by spaces; what the first user holds of the first
                resource when left out, no claim at all when `None`.
            audience: The first resource's indicator when left out.
            organization_id: Makes it a token for that organization's part of the API.
            actor: Who acts for the user: the `sub` of the `act` claim.
            lifetime_seconds: From now to `exp`; may be zero or negative.
            claims: Claims to add or override; one of `None` is left out.
        """
        if isinstance(scope, EllipsisType):
            scope = self._held(_first(self.directory.users, "users").scopes)
        issued_at = int(self.now())
        standard: dict[str, JsonValue] = {
            "organization_id": organization_id,
            "act": None if actor is None else {"sub": actor},
            "jti": secrets.token_urlsafe(RANDOM_BYTES),
            "sub": self._subject(subject),
            "iat": issued_at,
            "exp": issued_at + lifetime_seconds,
            "scope": scope,
            "client_id": self._application(client_id),
            "iss": self.issuer,
            "aud": self._audience(audience),
        }
        return self.sign(_merge(standard, claims))

    def forged_token(
        self,
        *,
        subject: str | None = None,
        client_id: str | None = None,
        scope: str | EllipsisType | None = ...,
        audience: str | None = None,
        organization_id: str | None = None,
        actor: str | None = None,
        lifetime_seconds: int = LIFETIME_SECONDS,
        claims: Mapping[str, JsonValue] | None = None,
    ) -> str:
        """Give what `access_token` gives, signed by a key that was never published.

        The header names the current key, so only the signature tells the difference.
        The arguments are those of `access_token`.
        """
        token = self.access_token(
            subject=subject,
            client_id=client_id,
            scope=scope,
            audience=audience,
            organization_id=organization_id,
            actor=actor,
            lifetime_seconds=lifetime_seconds,
            claims=claims,
        )
        stranger = SigningKey.generate(self._keys[0].algorithm)
        return stranger.sign_input(token.rpartition(".")[0])

    def machine_token(
        self,
        *,
        client_id: str | None = None,
        scope: str | EllipsisType | None = ...,
        audience: str | None = None,
        organization_id: str | None = None,
        lifetime_seconds: int = LIFETIME_SECONDS,
        claims: Mapping[str, JsonValue] | None = None,
    ) -> str:
        """Give a machine's access token, whose `sub` is its client id.

        Args:
            client_id: The first machine's when left out.
            scope: Scopes parted by spaces; what the first machine holds of the first
                resource when left out. `None` gives no claim, as Logto does for a
                machine that holds nothing.
            audience: The first resource's indicator when left out.
            organization_id: Makes it a token for that organization's part of the API.
            lifetime_seconds: From now to `exp`; may be zero or negative.
            claims: Claims to add or override; one of `None` is left out.
        """
        machines = self.directory.machines
        if isinstance(scope, EllipsisType):
            scope = self._held(_first(machines, "machines").scopes) or None
        client_id = _first(machines, "machines").client_id if client_id is None else client_id
        return self.access_token(
            subject=client_id,
            client_id=client_id,
            scope=scope,
            audience=audience,
            organization_id=organization_id,
            lifetime_seconds=lifetime_seconds,
            claims=claims,
        )

    def organization_token(
        self,
        organization_id: str,
        *,
        subject: str | None = None,
        client_id: str | None = None,
        scope: str | None = "",
        by_resource: bool = False,
        lifetime_seconds: int = LIFETIME_SECONDS,
        claims: Mapping[str, JsonValue] | None = None,
    ) -> str:
        """Give an organization token: for no API, with permissions inside the organization.

        Args:
            organization_id: The organization, which becomes the audience.
            subject: The user id; the first user's when left out.
            client_id: The first application's when left out.
            scope: Organization permissions, parted by spaces; none when left out, as for a member without
                any role. `None` gives no claim, as Logto does for a machine that holds nothing.
            by_resource: Give it the shape that Logto does where `urn:logto:resource:organizations` was asked
                for: this is the audience then, and the organization a claim.
            lifetime_seconds: From now to `exp`; may be zero or negative.
            claims: Claims to add or override; one of `None` is left out.
        """
        return self.access_token(
            subject=subject,
            client_id=client_id,
            scope=scope,
            audience="urn:logto:resource:organizations" if by_resource else f"urn:logto:organization:{organization_id}",
            organization_id=organization_id if by_resource else None,
            lifetime_seconds=lifetime_seconds,
            claims=claims,
        )

    def bad_token(
        self,
        kind: BadToken,
        *,
        scope: str | EllipsisType | None = ...,
        audience: str | None = None,
        organization_id: str | None = None,
    ) -> str:
        """Give a token that must be refused, for one reason alone.

        `BAD_TOKENS` has every kind, with the `reason` of the answer that it gets.

        Args:
            kind: What is wrong with it.
            scope: As for `access_token`.
            audience: As for `access_token`.
            organization_id: As for `access_token`.
        """
        good = self.access_token(scope=scope, audience=audience, organization_id=organization_id)
        return build_bad_token(self, kind, good=good, key=self._keys[0])

    def id_token(
        self,
        *,
        subject: str | None = None,
        client_id: str | None = None,
        lifetime_seconds: int = LIFETIME_SECONDS,
        claims: Mapping[str, JsonValue] | None = None,
    ) -> str:
        """Give an ID token: for the application to read, never for an API.

        Args:
            subject: The user id; the first user's when left out.
            client_id: Becomes the `aud`; the first application's when left out.
            lifetime_seconds: From now to `exp`; may be zero or negative.
            claims: Claims to add or override; one of `None` is left out.
        """
        issued_at = int(self.now())
        standard: dict[str, JsonValue] = {
            "sub": self._subject(subject),
            "aud": self._application(client_id),
            "exp": issued_at + lifetime_seconds,
            "iat": issued_at,
            "iss": self.issuer,
        }
        return self.sign(_merge(standard, claims), header={"typ": None})

    def opaque_token(
        self,
        *,
        subject: str | None = None,
        client_id: str | None = None,
        scope: str = "openid",
        lifetime_seconds: int = LIFETIME_SECONDS,
    ) -> str:
        """Give an opaque access token, as Logto does when no resource was asked for.

        Args:
            subject: The user id; the first user's when left out.
            client_id: The first application's when left out.
            scope: Scopes parted by spaces; `openid` opens the userinfo endpoint.
            lifetime_seconds: How long it is good from now.
        """
        entry = OpaqueToken(
            subject=self._subject(subject),
            client_id=self._application(client_id),
            scope=scope,
            issued_at=int(self.now()),
            expires_at=int(self.now()) + lifetime_seconds,
        )
        return self._opaque.issue(entry)

    def read_access_token(self, token: str) -> dict[str, JsonValue] | None:
        """Give the claims of an access token of this issuer that is good now, whoever it is for; else `None`."""
        if token.count(".") != 2 or not any(key.has_signed(token) for key in self._keys):
            return None
        header, claims = (json.loads(urlsafe_b64decode(part + "==")) for part in token.split(".")[:2])
        if header.get("typ") != "at+jwt" or claims.get("iss") != self.issuer or self.now() >= claims.get("exp", 0):
            return None
        return cast("dict[str, JsonValue]", claims)

    def find_opaque_token(self, token: str) -> OpaqueToken | None:
        """Give what an opaque token was issued for, unless it is unknown or expired."""
        return self._opaque.find(token)

    def _subject(self, subject: str | None) -> str:
        return _first(self.directory.users, "users").id if subject is None else subject

    def _application(self, client_id: str | None) -> str:
        return _first(self.directory.applications, "applications").client_id if client_id is None else client_id

    def _audience(self, audience: str | None) -> str:
        return self.audience if audience is None else audience

    def _held(self, scopes: Mapping[str, Collection[str]]) -> str:
        return " ".join(scopes.get(self.audience, ()))
