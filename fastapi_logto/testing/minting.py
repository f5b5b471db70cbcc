"""Mint and sign tokens of every kind that Logto issues."""

import json
import math
import secrets
from base64 import urlsafe_b64decode
from collections.abc import Collection, Mapping, Sequence
from types import EllipsisType
from typing import Final, TypeVar, cast

from fastapi_logto.clock import Clock
from fastapi_logto.testing.directory import ORGANIZATIONS, Directory
from fastapi_logto.testing.opaque import RANDOM_BYTES, IssuedTokens, OpaqueToken, UserToken
from fastapi_logto.testing.signing import Algorithm, JsonValue, KeyRing
from fastapi_logto.testing.texts import as_text, join_scopes

LIFETIME_SECONDS: Final = 3600
LOGOUT_TOKEN_SECONDS: Final = 120
SUBJECT_TOKEN_SECONDS: Final = 600

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
    """Keys, and the tokens signed with them. The public methods are those of `LocalIssuer`."""

    def __init__(self, *, endpoint: str, directory: Directory | None, clock: Clock | None) -> None:
        """Create a mint with a new P-384 key."""
        self.endpoint: str = as_text(endpoint).rstrip("/")
        self.directory: Directory = Directory.example() if directory is None else directory
        self.clock: Final[Clock] = Clock() if clock is None else clock
        self._audiences: list[str] = []
        self._keys = KeyRing()
        self._issued = IssuedTokens(self.clock.now)

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

    def jwks(self) -> dict[str, list[dict[str, str]]]:
        """Return the key set: the current key, then the previous one if there is one."""
        return self._keys.jwks()

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
        return self._keys.rotate(algorithm=algorithm, keep_previous=keep_previous)

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
        key = self._keys.current
        members = {"alg": key.algorithm, "typ": "at+jwt", "kid": key.kid} | dict(header or {})
        payload = claims if isinstance(claims, bytes) else json.dumps(claims, separators=(",", ":")).encode("ascii")
        return key.sign({name: value for name, value in members.items() if value is not None}, payload)

    def access_token(
        self,
        *,
        subject: str | None = None,
        client_id: str | None = None,
        scopes: Collection[str] | EllipsisType | None = ...,
        audience: str | None = None,
        organization_id: str | None = None,
        actor: str | None = None,
        lifetime_seconds: int = LIFETIME_SECONDS,
        claims: Mapping[str, JsonValue] | None = None,
    ) -> str:
        """Return a user's access token for an API resource.

        Args:
            subject: The user id; by default the first user's.
            client_id: The application; by default the first one.
            scopes: The scopes; by default those of the first user for this issuer's `audience`.
                `None` omits the claim.
            audience: The resource indicator; by default this issuer's `audience`.
            organization_id: The organization, for an organization-level token of the API.
            actor: The actor who acts for the user: the `sub` of the `act` claim.
            lifetime_seconds: Seconds from now to `exp`; may be zero or negative.
            claims: Claims to add or override; a claim set to `None` is omitted.
        """
        if isinstance(scopes, EllipsisType):
            scopes = self._held(_first(self.directory.users, "users").scopes)
        issued_at = int(self.clock.now())
        standard: dict[str, JsonValue] = {
            "organization_id": organization_id,
            "act": None if actor is None else {"sub": actor},
            "jti": secrets.token_urlsafe(RANDOM_BYTES),
            "sub": self._subject(subject),
            "iat": issued_at,
            "exp": issued_at + lifetime_seconds,
            "scope": None if scopes is None else join_scopes(scopes),
            "client_id": self._application(client_id),
            "iss": self.issuer,
            "aud": self._audience(audience),
        }
        return self.sign(_merge(standard, claims))

    def machine_token(
        self,
        *,
        client_id: str | None = None,
        scopes: Collection[str] | EllipsisType | None = ...,
        audience: str | None = None,
        organization_id: str | None = None,
        lifetime_seconds: int = LIFETIME_SECONDS,
        claims: Mapping[str, JsonValue] | None = None,
    ) -> str:
        """Return a machine's access token, whose `sub` is its client id.

        Args:
            client_id: The machine; by default the first one.
            scopes: The scopes; by default those of the first machine for this issuer's `audience`.
                `None` omits the claim, as Logto does for a machine without scopes.
            audience: The resource indicator; by default this issuer's `audience`.
            organization_id: The organization, for an organization-level token of the API.
            lifetime_seconds: Seconds from now to `exp`; may be zero or negative.
            claims: Claims to add or override; a claim set to `None` is omitted.
        """
        machines = self.directory.machines
        if isinstance(scopes, EllipsisType):
            scopes = self._held(_first(machines, "machines").scopes) or None
        client_id = _first(machines, "machines").client_id if client_id is None else client_id
        return self.access_token(
            subject=client_id,
            client_id=client_id,
            scopes=scopes,
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
        scopes: Collection[str] | None = (),
        by_resource: bool = False,
        lifetime_seconds: int = LIFETIME_SECONDS,
        claims: Mapping[str, JsonValue] | None = None,
    ) -> str:
        """Return an organization token. It names no API; its scopes are organization permissions.

        Args:
            organization_id: The organization, which becomes the audience.
            subject: The user id; by default the first user's.
            client_id: The application; by default the first one.
            scopes: The permissions inside the organization; by default none, as for a member without a role.
                `None` omits the claim, as Logto does for a machine without permissions.
            by_resource: Whether the client requested `urn:logto:resource:organizations`. This is then the audience, and
                the organization is a claim.
            lifetime_seconds: Seconds from now to `exp`; may be zero or negative.
            claims: Claims to add or override; a claim set to `None` is omitted.
        """
        return self.access_token(
            subject=subject,
            client_id=client_id,
            scopes=scopes,
            audience=ORGANIZATIONS if by_resource else f"urn:logto:organization:{as_text(organization_id)}",
            organization_id=organization_id if by_resource else None,
            lifetime_seconds=lifetime_seconds,
            claims=claims,
        )

    def id_token(
        self,
        *,
        subject: str | None = None,
        client_id: str | None = None,
        lifetime_seconds: int = LIFETIME_SECONDS,
        claims: Mapping[str, JsonValue] | None = None,
    ) -> str:
        """Return an ID token, which is meant for the application and never for an API.

        Args:
            subject: The user id; by default the first user's.
            client_id: The application, which becomes the `aud`; by default the first one.
            lifetime_seconds: Seconds from now to `exp`; may be zero or negative.
            claims: Claims to add or override; a claim set to `None` is omitted.
        """
        issued_at = int(self.clock.now())
        standard: dict[str, JsonValue] = {
            "sub": self._subject(subject),
            "aud": self._application(client_id),
            "exp": issued_at + lifetime_seconds,
            "iat": issued_at,
            "iss": self.issuer,
        }
        return self.sign(_merge(standard, claims), header={"typ": None})

    def logout_token(
        self,
        *,
        subject: str | None = None,
        client_id: str | None = None,
        session_id: str | None = None,
        typ: str | None = "logout+jwt",
        lifetime_seconds: int = LOGOUT_TOKEN_SECONDS,
        claims: Mapping[str, JsonValue] | None = None,
    ) -> str:
        """Return a logout token, which Logto posts to the back-channel logout URI of an application.

        Args:
            subject: The user id; by default the first user's.
            client_id: The application, which becomes the audience; by default the first one.
            session_id: The session, which becomes `sid`; by default a random one.
            typ: The type in the header; `None` omits it.
            lifetime_seconds: Seconds from now to `exp`; may be zero or negative.
            claims: Claims to add or override, for a token that must be rejected: `{"nonce": "n"}`, `{"events": {}}` or
                `{"aud": "another"}`. A claim set to `None` is omitted.

        References:
            OpenID Connect Back-Channel Logout 1.0 section 2.4.
        """
        issued_at = int(self.clock.now())
        standard: dict[str, JsonValue] = {
            "sub": self._subject(subject),
            "events": {"http://schemas.openid.net/event/backchannel-logout": {}},
            "jti": secrets.token_urlsafe(RANDOM_BYTES),
            "sid": secrets.token_urlsafe(RANDOM_BYTES) if session_id is None else session_id,
            "aud": self._application(client_id),
            "exp": issued_at + lifetime_seconds,
            "iat": issued_at,
            "iss": self.issuer,
        }
        return self.sign(_merge(standard, claims), header={"typ": typ})

    def opaque_token(
        self,
        *,
        subject: str | None = None,
        client_id: str | None = None,
        scopes: Collection[str] = ("openid",),
        lifetime_seconds: int = LIFETIME_SECONDS,
    ) -> str:
        """Return an opaque access token, as Logto issues it if no resource is requested.

        Args:
            subject: The user id; by default the first user's.
            client_id: The application; by default the first one.
            scopes: The scopes. With `openid`, the token can be used at the userinfo endpoint and as an `actor_token`.
            lifetime_seconds: Seconds from now until it expires.
        """
        entry = OpaqueToken(
            subject=self._subject(subject),
            client_id=self._application(client_id),
            scope=join_scopes(scopes),
            issued_at=int(self.clock.now()),
            expires_at=int(self.clock.now()) + lifetime_seconds,
        )
        return self._issued.opaque.issue(entry)

    def personal_access_token(self, *, subject: str | None = None, lifetime_seconds: float = math.inf) -> str:
        """Return a new personal access token of a user, `pat_…`. It must be exchanged, and can be used many times.

        Args:
            subject: The user id; by default the first user's.
            lifetime_seconds: Seconds from now until it expires; by default it never does.
        """
        return self._issued.personal.issue(self._user_token(subject, lifetime_seconds))

    def subject_token(self, *, subject: str | None = None, lifetime_seconds: float = SUBJECT_TOKEN_SECONDS) -> str:
        """Return a subject token for impersonation, `sub_…`, as from `POST /api/subject-tokens`.

        It can be exchanged once.

        Args:
            subject: The user id; by default the first user's.
            lifetime_seconds: Seconds from now until it expires.
        """
        return self._issued.impersonation.issue(self._user_token(subject, lifetime_seconds))

    def read_access_token(self, token: str) -> dict[str, JsonValue] | None:
        """Return the claims of a valid access token of this issuer, with any audience; otherwise `None`."""
        if token.count(".") != 2 or not self._keys.has_signed(token):
            return None
        header, claims = (json.loads(urlsafe_b64decode(part + "==")) for part in token.split(".")[:2])
        if (
            header.get("typ") != "at+jwt"
            or claims.get("iss") != self.issuer
            or self.clock.now() >= claims.get("exp", 0)
        ):
            return None
        return cast("dict[str, JsonValue]", claims)

    def _user_token(self, subject: str | None, lifetime_seconds: float) -> UserToken:
        return UserToken(subject=self._subject(subject), expires_at=self.clock.now() + lifetime_seconds)

    def _subject(self, subject: str | None) -> str:
        return _first(self.directory.users, "users").id if subject is None else subject

    def _application(self, client_id: str | None) -> str:
        return _first(self.directory.applications, "applications").client_id if client_id is None else client_id

    def _audience(self, audience: str | None) -> str:
        return self.audience if audience is None else audience

    def _held(self, scopes: Mapping[str, Collection[str]]) -> Collection[str]:
        return scopes.get(self.audience, ())
