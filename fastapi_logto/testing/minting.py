"""Mint and sign tokens of every kind that Logto issues."""

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
        msg = f"directory: expected at least one of its {what} as a default, found none; pass the value in the call"
        raise ValueError(msg)
    return entries[0]


def _merge(standard: Mapping[str, JsonValue], extra: Mapping[str, JsonValue] | None) -> dict[str, JsonValue]:
    """Override claims in place, put new ones first like Logto's custom claims, and drop `None`."""
    changes = extra or {}
    added = {name: value for name, value in changes.items() if name not in standard}
    merged = added | {name: changes.get(name, value) for name, value in standard.items()}
    return {name: value for name, value in merged.items() if value is not None}


class TokenMint:
    """Keys, and the tokens signed with them.

    Tokens are minted as requested, without checking any permission. Omitted arguments default to the
    first entries of the directory, so a test can start from a valid token and change one thing.

    Attributes:
        endpoint: The URL of the local Logto, without a trailing slash.
        directory: The users, clients and resources.
        now: The clock, in seconds since the epoch.
    """

    def __init__(
        self,
        *,
        endpoint: str = "http://127.0.0.1:3001",
        directory: Directory | None = None,
        now: Callable[[], float] = time.time,
    ) -> None:
        """Create a mint with a new P-384 key.

        Args:
            endpoint: The URL of the local Logto; the issuer identifier is this URL followed by `/oidc`.
            directory: The users, clients and resources; `Directory.example()` by default.
            now: The clock, in seconds since the epoch.
        """
        self.endpoint: str = endpoint.rstrip("/")
        self.directory: Directory = Directory.example() if directory is None else directory
        self.now: Callable[[], float] = now
        self._audiences: list[str] = []
        self._keys: tuple[SigningKey, ...] = (SigningKey.generate("ES384"),)
        self._opaque = OpaqueTokens(lambda: self.now())  # noqa: PLW0108 - looked up on each call: the clock may be replaced

    @property
    def issuer(self) -> str:
        """The issuer identifier, the `iss` of every token."""
        return f"{self.endpoint}/oidc"

    @property
    def audience(self) -> str:
        """The default audience of tokens: that of the connected application, otherwise the first resource.

        Raises:
            ValueError: The directory has no resource.
        """
        return self._audiences[-1] if self._audiences else _first(self.directory.resources, "resources").indicator

    @property
    def algorithms(self) -> Collection[Algorithm]:
        """The algorithms of the published keys."""
        return {key.algorithm for key in self._keys}

    def jwks(self) -> dict[str, list[dict[str, str]]]:
        """Return the key set: the current key, then the previous one if there is one."""
        return {"keys": [key.jwk() for key in self._keys]}

    def rotate(self, *, algorithm: Algorithm = "ES384", keep_previous: bool = True) -> str:
        """Sign with a new key from now on.

        The key set contains the new key and the previous one. A second rotation drops the
        oldest key, as in a self-hosted Logto.

        Args:
            algorithm: The algorithm of the new key.
            keep_previous: Whether the previous key stays in the set; `False` rotates without a
                grace period.

        Returns:
            The `kid` of the new key.
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
        """Sign any claims with the current key.

        Header and claims are not checked, so this can create tokens that must be
        rejected. The signature is always made with the current key, even if the header names another `alg`.

        Args:
            claims: The claims; bytes are used as the payload unchanged.
            header: Members to override or add to `alg`, `typ` and `kid`; a member set to `None`
                is omitted.
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
        """Return a user's access token for an API resource.

        Args:
            subject: The user ID; by default the first user's.
            client_id: The application; by default the first one.
            scope: Scopes separated by spaces; by default the scopes of the first user for this
                issuer's `audience`. `None` omits the claim.
            audience: The resource indicator; by default this issuer's `audience`.
            organization_id: The organization, for an organization-level token of the API.
            actor: The actor who acts for the user: the `sub` of the `act` claim.
            lifetime_seconds: Seconds from now to `exp`; may be zero or negative.
            claims: Claims to add or override; a claim set to `None` is omitted.
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
        """Return an access token signed with a key that was never published.

        The header names the current key, so only the signature is wrong. The arguments are
        those of `access_token`.
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
        """Return a machine's access token, whose `sub` is its client ID.

        Args:
            client_id: The machine; by default the first one.
            scope: Scopes separated by spaces; by default the scopes of the first machine for this
                issuer's `audience`. `None` omits the claim, as Logto does for a machine
                without scopes.
            audience: The resource indicator; by default this issuer's `audience`.
            organization_id: The organization, for an organization-level token of the API.
            lifetime_seconds: Seconds from now to `exp`; may be zero or negative.
            claims: Claims to add or override; a claim set to `None` is omitted.
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
        """Return an organization token: it is for no API and has permissions inside the organization.

        Args:
            organization_id: The organization, which becomes the audience.
            subject: The user ID; by default the first user's.
            client_id: The application; by default the first one.
            scope: Organization permissions separated by spaces; by default none, as for a member without a
                role. `None` omits the claim, as Logto does for a machine without permissions.
            by_resource: Whether to use the form for a request with `urn:logto:resource:organizations`: this is
                then the audience, and the organization is a claim.
            lifetime_seconds: Seconds from now to `exp`; may be zero or negative.
            claims: Claims to add or override; a claim set to `None` is omitted.
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
        """Return a token that must be rejected for exactly one reason.

        `BAD_TOKENS` lists every kind with the `reason` of its error response.

        Args:
            kind: The kind of invalid token.
            scope: As in `access_token`.
            audience: As in `access_token`.
            organization_id: As in `access_token`.
        """
        valid = self.access_token(scope=scope, audience=audience, organization_id=organization_id)
        return build_bad_token(self, kind, good=valid, key=self._keys[0])

    def id_token(
        self,
        *,
        subject: str | None = None,
        client_id: str | None = None,
        lifetime_seconds: int = LIFETIME_SECONDS,
        claims: Mapping[str, JsonValue] | None = None,
    ) -> str:
        """Return an ID token, which is for the application and never for an API.

        Args:
            subject: The user ID; by default the first user's.
            client_id: The application, which becomes the `aud`; by default the first one.
            lifetime_seconds: Seconds from now to `exp`; may be zero or negative.
            claims: Claims to add or override; a claim set to `None` is omitted.
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
        """Return an opaque access token, as Logto issues if no resource is requested.

        Args:
            subject: The user ID; by default the first user's.
            client_id: The application; by default the first one.
            scope: Scopes separated by spaces; `openid` allows access to the userinfo endpoint.
            lifetime_seconds: Seconds from now until it expires.
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
        """Return the claims of a valid access token of this issuer, with any audience; otherwise `None`."""
        if token.count(".") != 2 or not any(key.has_signed(token) for key in self._keys):
            return None
        header, claims = (json.loads(urlsafe_b64decode(part + "==")) for part in token.split(".")[:2])
        if header.get("typ") != "at+jwt" or claims.get("iss") != self.issuer or self.now() >= claims.get("exp", 0):
            return None
        return cast("dict[str, JsonValue]", claims)

    def find_opaque_token(self, token: str) -> OpaqueToken | None:
        """Return the contents of an opaque token; `None` if it is unknown or expired."""
        return self._opaque.find(token)

    def _subject(self, subject: str | None) -> str:
        return _first(self.directory.users, "users").id if subject is None else subject

    def _application(self, client_id: str | None) -> str:
        return _first(self.directory.applications, "applications").client_id if client_id is None else client_id

    def _audience(self, audience: str | None) -> str:
        return self.audience if audience is None else audience

    def _held(self, scopes: Mapping[str, Collection[str]]) -> str:
        return " ".join(scopes.get(self.audience, ()))
