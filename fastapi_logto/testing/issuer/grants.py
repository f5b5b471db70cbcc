"""The rules of the token endpoint."""

import hashlib
import secrets
import threading
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from typing import Final

from fastapi_logto.testing.directory import ORGANIZATIONS, Application, Machine, Organization, User
from fastapi_logto.testing.issuer.authorization import IDENTITY_SCOPES, AuthorizationRequest, Grant
from fastapi_logto.testing.issuer.exchanges import TOKEN_EXCHANGE, ExchangeParties
from fastapi_logto.testing.issuer.forms import Parameters
from fastapi_logto.testing.issuer.lookup import find_active_user, find_membership, find_resource, list_held
from fastapi_logto.testing.issuer.refusals import NO_GRANT, NO_TARGET, RefusedError
from fastapi_logto.testing.minting import LIFETIME_SECONDS, TokenMint
from fastapi_logto.testing.opaque import IssuedTokens
from fastapi_logto.testing.signing import JsonValue, encode_segment

CODE_SECONDS: Final = 60
REFRESH_SECONDS: Final = 14 * 24 * 3600
# A client that lost a response may repeat the request within this time. Later, a used token counts as stolen.
REUSE_GRACE_SECONDS: Final = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class _Code:
    grant: Grant
    redirect_uri: str
    code_challenge: str
    expires_at: float
    is_used: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class _RefreshToken:
    grant: Grant
    expires_at: float
    reusable_until: float | None = None


def build_profile(user: User, *, scopes: Collection[str]) -> dict[str, JsonValue]:
    """Return the claims about a user that the scope `profile` allows."""
    return {"name": user.name, "username": user.username} if "profile" in scopes else {}


class TokenEndpoint:
    """The issued codes and refresh tokens, and the token responses for them. Thread-safe."""

    def __init__(self, mint: TokenMint, *, issued: IssuedTokens) -> None:
        """Start without codes and refresh tokens."""
        self._mint = mint
        self._opaque = issued.opaque
        self._parties = ExchangeParties(mint, issued=issued)
        self._lock = threading.Lock()
        self._codes: dict[str, _Code] = {}
        self._refresh_tokens: dict[str, _RefreshToken] = {}

    def issue_code(self, request: AuthorizationRequest, *, grant: Grant) -> str:
        """Return a code for a grant; it can be used once, within a minute."""
        now = self._mint.clock.now()
        code = secrets.token_urlsafe(32)
        with self._lock:
            self._codes = {key: value for key, value in self._codes.items() if now < value.expires_at}
            self._codes[code] = _Code(
                grant=grant,
                redirect_uri=request.address.redirect_uri,
                code_challenge=request.code_challenge,
                expires_at=now + CODE_SECONDS,
            )
        return code

    def respond(self, form: Parameters, *, client: Application | Machine) -> Mapping[str, JsonValue]:
        """Return the response to a token request of an authenticated client, or refuse it."""
        grant_type = form.require("grant_type")
        resources = form.find_all("resource")
        if grant_type not in {"authorization_code", "refresh_token", "client_credentials", TOKEN_EXCHANGE}:
            raise RefusedError("unsupported_grant_type", "unsupported grant_type requested")
        if (grant_type in {"client_credentials", TOKEN_EXCHANGE}) != isinstance(client, Machine):
            raise RefusedError("invalid_request", "requested grant type is not allowed for this client")
        if len(resources) > 1:
            description = "only a single resource indicator value is supported for this grant type"
            raise RefusedError("invalid_target", description)
        resource = resources[0] if resources else None
        if isinstance(client, Machine):
            if grant_type == TOKEN_EXCHANGE:
                return self._respond_to_exchange(form, machine=client, resource=resource)
            return self._respond_to_machine(form, machine=client, resource=resource)
        if grant_type == "authorization_code":
            return self._respond_to_code(form, client=client, resource=resource)
        return self._respond_to_refresh(form, client=client, resource=resource)

    def introspect(self, token: str) -> Mapping[str, JsonValue]:
        """Return the introspection response for an opaque access token or a refresh token.

        Any client may introspect the tokens of any other, as with Logto. A token with the three parts of a JWT is
        refused.
        """
        _check_unstructured(token, "introspected via the introspection_endpoint")
        opaque = self._opaque.find(token)
        if opaque is not None:
            return {
                "active": True,
                "sub": opaque.subject,
                "client_id": opaque.client_id,
                "exp": opaque.expires_at,
                "iat": opaque.issued_at,
                "iss": self._mint.issuer,
                "scope": opaque.scope,
                "token_type": "Bearer",
            }
        with self._lock:
            entry = self._refresh_tokens.get(token)
        if entry is None or self._mint.clock.now() >= entry.expires_at:
            return {"active": False}
        # As in Logto, a refresh token is active like an access token, and the response has no token type.
        return {
            "active": True,
            "sub": entry.grant.user.id,
            "client_id": entry.grant.client_id,
            "exp": int(entry.expires_at),
            "iss": self._mint.issuer,
            "scope": " ".join(entry.grant.identity_scopes),
        }

    def revoke(self, token: str, *, client: Application | Machine) -> None:
        """Revoke a refresh token with the others of its sign-in, or an opaque access token. JWTs are refused.

        An unknown token, or one of another client, is ignored (RFC 7009 section 2.2). Logto also revokes the opaque
        tokens of the sign-in.
        """
        _check_unstructured(token, "revoked via the revocation_endpoint")
        opaque = self._opaque.find(token)
        if opaque is not None and opaque.client_id == client.client_id:
            self._opaque.use_up(token)
        with self._lock:
            entry = self._refresh_tokens.get(token)
            if entry is not None and entry.grant.client_id == client.client_id:
                self._revoke(entry.grant)

    def revoke_all(self, user_id: str) -> None:
        """Revoke the opaque tokens and the refresh tokens of a user."""
        self._opaque.drop_of(user_id)
        with self._lock:
            kept = {key: value for key, value in self._refresh_tokens.items() if value.grant.user.id != user_id}
            self._refresh_tokens = kept

    def _respond_to_machine(
        self, form: Parameters, *, machine: Machine, resource: str | None
    ) -> Mapping[str, JsonValue]:
        organization_id = form.find("organization_id") or ""
        organization = find_membership(self._mint.directory, organization_id, member=machine.client_id)
        if organization_id and organization is None:
            raise RefusedError("access_denied", "app has not associated with the organization", status=403)
        if not resource and not organization:
            raise RefusedError("invalid_target", "both `resource` and `organization_id` are not provided")
        self._check_target(resource, is_in_organization=bool(organization))
        requested = dict.fromkeys((form.find("scope") or "").split())
        all_held = organization.members[machine.client_id] if organization else machine.scopes
        held = all_held.get(resource or ORGANIZATIONS, ())
        granted = [name for name in requested if name in held]
        token = self._mint_for(
            machine.client_id,
            client_id=machine.client_id,
            # Logto omits the claim for a machine without scopes.
            scopes=granted or None,
            resource=resource,
            organization=organization,
        )
        response = _build_response(token, scopes=granted)
        if not granted:
            del response["scope"]
        return response

    def _respond_to_exchange(
        self, form: Parameters, *, machine: Machine, resource: str | None
    ) -> Mapping[str, JsonValue]:
        # In Logto's order: it decides which error a request with several mistakes gets.
        user = self._parties.find_subject(form)
        organization = self._find_membership(user, form.find("organization_id") or None)
        self._check_target(resource, is_in_organization=organization is not None)
        actor = self._parties.find_actor(form)
        self._parties.use_up(form)
        requested = tuple((form.find("scope") or "").split())
        if resource is None and organization is None:
            granted = [name for name in requested if name in IDENTITY_SCOPES]
            token = self._mint.opaque_token(subject=user.id, client_id=machine.client_id, scopes=granted)
        else:
            granted = self._grant_scopes(user, requested, resource=resource, organization=organization)
            token = self._mint_for(
                user.id,
                client_id=machine.client_id,
                scopes=granted,
                resource=resource,
                organization=organization,
                claims={} if actor is None else {"act": {"sub": actor}},
            )
        return _build_response(token, scopes=granted)

    def _find_membership(self, user: User, organization_id: str | None) -> Organization | None:
        if organization_id is None:
            return None
        organization = find_membership(self._mint.directory, organization_id, member=user.id)
        if organization is None:
            raise RefusedError("access_denied", "user is not a member of the organization", status=403)
        return organization

    def _check_target(self, resource: str | None, *, is_in_organization: bool) -> None:
        is_known = not resource or find_resource(self._mint.directory, resource) is not None
        if not is_known or (resource == ORGANIZATIONS and not is_in_organization):
            raise RefusedError("invalid_target", NO_TARGET)

    def _grant_scopes(
        self,
        user: User,
        requested: Collection[str],
        *,
        resource: str | None,
        organization: Organization | None,
    ) -> list[str]:
        if organization is not None:
            held = organization.members[user.id].get(resource or ORGANIZATIONS, ())
        else:
            held = list_held(self._mint.directory, user, resource or "")
        return [name for name in requested if name in held]

    def _mint_for(
        self,
        subject: str,
        *,
        client_id: str,
        scopes: Collection[str] | None,
        resource: str | None,
        organization: Organization | None,
        claims: Mapping[str, JsonValue] | None = None,
    ) -> str:
        """Return a token for a resource, for a resource within an organization, or for an organization."""
        user = next((user for user in self._mint.directory.users if user.id == subject), None)
        claims = {**({} if user is None else user.custom_claims), **(claims or {})}
        if organization and (not resource or resource == ORGANIZATIONS):
            return self._mint.organization_token(
                organization.id,
                subject=subject,
                client_id=client_id,
                scopes=scopes,
                by_resource=resource == ORGANIZATIONS,
                claims=claims,
            )
        return self._mint.access_token(
            subject=subject,
            client_id=client_id,
            scopes=scopes,
            audience=resource,
            organization_id=organization.id if organization else None,
            claims=claims,
        )

    def _respond_to_code(
        self, form: Parameters, *, client: Application, resource: str | None
    ) -> Mapping[str, JsonValue]:
        code, redirect_uri = form.require("code"), form.require("redirect_uri")
        verifier = form.find("code_verifier") or ""
        with self._lock:
            entry = self._codes.get(code)
            if entry is None or entry.grant.client_id != client.client_id or self._mint.clock.now() >= entry.expires_at:
                raise RefusedError("invalid_grant", NO_GRANT)
            if entry.is_used:
                # RFC 6749 section 4.1.2: a code used twice may be stolen, and so may the tokens issued for it.
                self._revoke(entry.grant)
                raise RefusedError("invalid_grant", NO_GRANT)
            challenge = encode_segment(hashlib.sha256(verifier.encode()).digest())
            if entry.redirect_uri != redirect_uri or not secrets.compare_digest(challenge, entry.code_challenge):
                raise RefusedError("invalid_grant", NO_GRANT)
            self._check_active(entry.grant)
            target = entry.grant.choose_resource(resource)
            self._codes[code] = replace(entry, is_used=True)
            refresh_token = self._issue_refresh_token(entry.grant)
        grant = entry.grant
        return self._respond_for_grant(grant, resource=target, refresh_token=refresh_token, only=grant.scopes)

    def _respond_to_refresh(
        self, form: Parameters, *, client: Application, resource: str | None
    ) -> Mapping[str, JsonValue]:
        token, scope = form.require("refresh_token"), form.find("scope")
        now = self._mint.clock.now()
        with self._lock:
            entry = self._refresh_tokens.get(token)
            if entry is None or entry.grant.client_id != client.client_id or now >= entry.expires_at:
                raise RefusedError("invalid_grant", NO_GRANT)
            if entry.reusable_until is not None and now >= entry.reusable_until:
                self._revoke(entry.grant)
                raise RefusedError("invalid_grant", NO_GRANT)
            self._check_active(entry.grant)
            # In Logto's order: it decides which error a request with several mistakes gets.
            only = entry.grant.scopes if scope is None else entry.grant.check_subset(scope)
            organization = self._find_membership(entry.grant.user, form.find("organization_id") or None)
            if organization is not None:
                entry.grant.check_organizations()
            is_organization_token = organization is not None and resource is None
            target = None if is_organization_token else entry.grant.choose_resource(resource)
            if entry.reusable_until is None:
                self._refresh_tokens[token] = replace(entry, reusable_until=now + REUSE_GRACE_SECONDS)
            refresh_token = self._issue_refresh_token(entry.grant)
        if organization is None:
            return self._respond_for_grant(entry.grant, resource=target, refresh_token=refresh_token, only=only)
        held = organization.members[entry.grant.user.id].get(target or ORGANIZATIONS, ())
        granted = [name for name in held if name in only]
        token = self._mint_for(
            entry.grant.user.id,
            client_id=client.client_id,
            scopes=granted,
            resource=target,
            organization=organization,
        )
        response = _build_response(token, scopes=granted)
        return response if refresh_token is None else response | {"refresh_token": refresh_token}

    def _check_active(self, grant: Grant) -> None:
        """Refuse a user who was suspended or deleted after the sign-in."""
        if find_active_user(self._mint.directory, grant.user.id) is None:
            raise RefusedError("invalid_grant", NO_GRANT)

    def _issue_refresh_token(self, grant: Grant) -> str | None:
        if "offline_access" not in grant.identity_scopes:
            return None
        now = self._mint.clock.now()
        kept = {key: value for key, value in self._refresh_tokens.items() if now < value.expires_at}
        token = secrets.token_urlsafe(32)
        self._refresh_tokens = kept | {token: _RefreshToken(grant=grant, expires_at=now + REFRESH_SECONDS)}
        return token

    def _revoke(self, grant: Grant) -> None:
        # Compared by identity: two sign-ins of one user to one application are two grants.
        kept = {key: value for key, value in self._refresh_tokens.items() if value.grant is not grant}
        self._refresh_tokens = kept

    def _respond_for_grant(
        self, grant: Grant, *, resource: str | None, refresh_token: str | None, only: frozenset[str]
    ) -> Mapping[str, JsonValue]:
        granted = grant.identity_scopes if resource is None else grant.resource_scopes[resource]
        scopes = [name for name in granted if name in only]
        subject, client_id = grant.user.id, grant.client_id
        if resource is None:
            token = self._mint.opaque_token(subject=subject, client_id=client_id, scopes=scopes)
        else:
            token = self._mint_for(subject, client_id=client_id, scopes=scopes, resource=resource, organization=None)
        response = _build_response(token, scopes=scopes)
        if "openid" in grant.identity_scopes:
            claims = build_profile(grant.user, scopes=grant.identity_scopes) | {"nonce": grant.nonce}
            response["id_token"] = self._mint.id_token(subject=subject, client_id=client_id, claims=claims)
        return response if refresh_token is None else response | {"refresh_token": refresh_token}


def _build_response(token: str, *, scopes: Collection[str]) -> dict[str, JsonValue]:
    return {
        "access_token": token,
        "expires_in": LIFETIME_SECONDS,
        "scope": " ".join(scopes),
        "token_type": "Bearer",
    }


def _check_unstructured(token: str, what: str) -> None:
    if token.count(".") == 2:
        raise RefusedError("unsupported_token_type", f"Structured JWT Tokens cannot be {what}")
