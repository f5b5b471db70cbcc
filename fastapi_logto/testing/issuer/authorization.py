"""Parse authorization requests, and decide what a user grants."""

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Final, Self
from urllib.parse import urlencode

from fastapi_logto.testing.directory import Application, Directory, User
from fastapi_logto.testing.issuer.clients import find_or_fetch_client
from fastapi_logto.testing.issuer.forms import Parameters
from fastapi_logto.testing.issuer.lookup import find_resource, list_held
from fastapi_logto.testing.issuer.refusals import NO_TARGET, RefusedError
from fastapi_logto.testing.redirects import accepts_redirect

_ORGANIZATIONS_SCOPE: Final = "urn:logto:scope:organizations"
IDENTITY_SCOPES: Final = (
    "openid",
    "offline_access",
    "profile",
    "email",
    "phone",
    "address",
    "custom_data",
    "identities",
    "roles",
    _ORGANIZATIONS_SCOPE,
    "urn:logto:scope:organization_roles",
    "urn:logto:scope:sessions",
    "urn:logto:scope:trusted_devices",
)
_ALWAYS_ALLOWED: Final = frozenset({"openid", "offline_access"})
_S256_CHALLENGE: Final = re.compile(r"[A-Za-z0-9_-]{43}")


@dataclass(frozen=True, slots=True, kw_only=True)
class ReturnAddress:
    """The redirect target of an authorization response: a redirect URI that the application may use."""

    client: Application
    redirect_uri: str
    state: str | None

    @classmethod
    def parse(cls, parameters: Parameters, *, directory: Directory) -> Self:
        """Read the client and the redirect URI.

        If one is missing or unknown, the error must never be sent as a redirect (RFC 6749 section 4.1.2.1).
        """
        client_id = parameters.require("client_id")
        client = find_or_fetch_client(directory, client_id)
        if not isinstance(client, Application):
            raise RefusedError("invalid_client", f"no application has the client id {client_id[:80]!r}")
        redirect_uri = parameters.require("redirect_uri")
        if not accepts_redirect(client.redirect_uris, redirect_uri):
            raise RefusedError("invalid_request", "redirect_uri is not one of the redirect URIs of this application")
        return cls(client=client, redirect_uri=redirect_uri, state=parameters.find("state"))

    def build_url(self, response: Mapping[str, str], *, issuer: str) -> str:
        """Return the redirect URL with the response, `state` and `iss` (RFC 9207)."""
        members = {**response, **({} if self.state is None else {"state": self.state}), "iss": issuer}
        separator = "&" if "?" in self.redirect_uri else "?"
        return f"{self.redirect_uri}{separator}{urlencode(members)}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Grant:
    """The scopes that a user granted to an application.

    `identity_scopes` are those of OpenID Connect and of Logto itself; `resource_scopes` has an entry for each
    requested resource.
    """

    user: User
    client_id: str
    identity_scopes: tuple[str, ...]
    resource_scopes: Mapping[str, tuple[str, ...]]
    nonce: str | None

    @property
    def scopes(self) -> frozenset[str]:
        """All granted scopes."""
        return frozenset(self.identity_scopes).union(*self.resource_scopes.values())

    def check_subset(self, scope: str) -> frozenset[str]:
        """Return the scopes that a refresh request names; refuse one that was not granted."""
        requested = frozenset(scope.split())
        missing = " ".join(sorted(requested - self.scopes))
        if missing:
            raise RefusedError("invalid_scope", "refresh token missing requested scope", scope=missing)
        return requested

    def check_organizations(self) -> None:
        """Refuse a grant whose refresh tokens can't be exchanged for tokens of an organization."""
        if _ORGANIZATIONS_SCOPE not in self.identity_scopes:
            description = "refresh token missing required scope"
            raise RefusedError("insufficient_scope", description, status=403, scope=_ORGANIZATIONS_SCOPE)

    def choose_resource(self, resource: str | None) -> str | None:
        """Return the resource of the access token; `None` for an opaque token.

        If `openid` was granted, only the `resource` of the token request counts. Users of Swagger UI who tick `openid`
        therefore get an opaque token.
        """
        if resource is not None:
            if resource not in self.resource_scopes:
                raise RefusedError("invalid_target", NO_TARGET)
            return resource
        if "openid" in self.identity_scopes or not self.resource_scopes:
            return None
        if len(self.resource_scopes) > 1:
            raise RefusedError("invalid_target", "only a single resource indicator value must be requested")
        return next(iter(self.resource_scopes))


@dataclass(frozen=True, slots=True, kw_only=True)
class AuthorizationRequest:
    """An authorization request with valid parameters. `login_hint` is the username that the page selects first."""

    address: ReturnAddress
    resources: tuple[str, ...]
    scopes: tuple[str, ...]
    code_challenge: str
    nonce: str | None
    login_hint: str | None
    is_offline_allowed: bool
    directory: Directory = field(repr=False)

    @classmethod
    def parse(cls, parameters: Parameters, *, address: ReturnAddress, directory: Directory) -> Self:
        """Read all other parameters. Errors are sent to the application as a redirect."""
        if parameters.require("response_type") != "code":
            raise RefusedError("unsupported_response_type", "unsupported response_type requested")
        if parameters.find("response_mode") not in {None, "query"}:
            raise RefusedError("unsupported_response_mode", "unsupported response_mode requested")
        if parameters.find("code_challenge_method") != "S256":
            raise RefusedError("invalid_request", "PKCE with code_challenge_method S256 is required")
        code_challenge = parameters.require("code_challenge")
        if _S256_CHALLENGE.fullmatch(code_challenge) is None:
            raise RefusedError("invalid_request", "code_challenge must be 43 characters of base64url")
        resources = parameters.find_all("resource")
        if any(find_resource(directory, resource) is None for resource in resources):
            raise RefusedError("invalid_target", NO_TARGET)
        prompts = (parameters.find("prompt") or "").split()
        if "none" in prompts:
            raise RefusedError("login_required", "End-User authentication is required")
        return cls(
            address=address,
            resources=resources,
            scopes=_limit_scopes((parameters.find("scope") or "").split(), client=address.client, directory=directory),
            code_challenge=code_challenge,
            nonce=parameters.find("nonce"),
            login_hint=parameters.find("login_hint"),
            is_offline_allowed="consent" in prompts,
            directory=directory,
        )

    @property
    def api_scopes(self) -> tuple[str, ...]:
        """The requested scopes that belong to API resources."""
        return tuple(scope for scope in self.scopes if scope not in IDENTITY_SCOPES)

    def list_held(self, user: User) -> frozenset[str]:
        """Return the requested API scopes that a user has for the requested resources."""
        held = {scope for resource in self.resources for scope in list_held(self.directory, user, resource)}
        return frozenset(held.intersection(self.api_scopes))

    def build_grant(self, user: User, *, ticked: Collection[str]) -> Grant:
        """Return the scopes that are requested, ticked and held by the user.

        An empty result is refused with `access_denied`.
        """
        granted = self.list_held(user).intersection(ticked)
        identity_scopes = tuple(
            scope
            for scope in self.scopes
            if scope in IDENTITY_SCOPES and (scope != "offline_access" or self.is_offline_allowed)
        )
        if not granted and not identity_scopes:
            raise RefusedError("access_denied", "none of the requested scopes is granted")
        return Grant(
            user=user,
            client_id=self.address.client.client_id,
            identity_scopes=identity_scopes,
            resource_scopes={
                resource: tuple(
                    s for s in self.api_scopes if s in granted and s in list_held(self.directory, user, resource)
                )
                for resource in self.resources
            },
            nonce=self.nonce,
        )


def _limit_scopes(scopes: Collection[str], *, client: Application, directory: Directory) -> tuple[str, ...]:
    """Return the requested scopes without duplicates, and without those that a dynamic application can't get."""
    dynamic = directory.dynamic_apps
    if dynamic is not None and client not in directory.applications:
        scopes = [scope for scope in scopes if scope in dynamic.scopes or scope in _ALWAYS_ALLOWED]
    return tuple(dict.fromkeys(scopes))
