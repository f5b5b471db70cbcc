"""The nodes that FastAPI calls for a token: each admits those that were issued for its own audiences.

No `from __future__ import annotations` here: FastAPI reads the annotations of `__call__`, and finds
no module to resolve their texts in when the dependency is an object.
"""

from contextlib import suppress
from typing import Generic

from fastapi.openapi.models import HTTPBearer
from fastapi.openapi.models import SecurityBase as SchemeModel
from fastapi.requests import HTTPConnection
from fastapi.security import SecurityScopes
from fastapi.security.base import SecurityBase
from pydantic import SecretStr
from typing_extensions import override

from fastapi_logto.answers import build_answer
from fastapi_logto.bearer import parse_authorization
from fastapi_logto.checks import check_has_organization, check_scopes
from fastapi_logto.claims import ClaimsT
from fastapi_logto.errors import RefusalError, SettingsError
from fastapi_logto.openapi import UNSET_DESCRIPTION, SchemeNotes, build_scheme, build_sign_in_hint
from fastapi_logto.protected_resource import find_resource
from fastapi_logto.provider import Provider
from fastapi_logto.settings import LogtoSettings
from fastapi_logto.tokens import AudiencePolicy

__all__ = ["OrganizationScheme", "TokenScheme", "find_provider"]


class TokenScheme(SecurityBase, Generic[ClaimsT]):
    """Gives the claims of a request's bearer token. A node of its own for each audience policy."""

    def __init__(self, provider: Provider[ClaimsT], policy: AudiencePolicy, *, scheme_name: str) -> None:
        """Put the parts together. Reads no settings.

        Args:
            provider: What verifies.
            policy: For whom a token may have been issued.
            scheme_name: Name in OpenAPI.
        """
        self.scheme_name: str = scheme_name
        self._provider = provider
        self._policy = policy

    async def __call__(self, conn: HTTPConnection, security_scopes: SecurityScopes) -> ClaimsT:
        """Give the claims of the request's bearer token. FastAPI calls this.

        Args:
            conn: The request, or a WebSocket before it is accepted.
            security_scopes: Scopes that the route and what is above it ask for, all of them.

        Returns:
            The claims.

        Raises:
            HTTPException: 401, 403 or 503, as the documentation's table of answers says; for a
                WebSocket of a server that can't deny otherwise, a `WebSocketException`.
        """
        try:
            verifier = self._provider.verifier
            if verifier is None:
                if self._provider.publishers:
                    # A client that is to find the tenant by the response begins without a token.
                    with suppress(SettingsError):
                        await self._provider.load_beside()
                # A request without a token is told so, even if settings are missing.
                _parse_token(conn)
                verifier = await self._provider.load_beside()
            claims = verifier.recall(verifier.build_digest(_read_header(conn)), self._policy) or await verifier.verify(
                _parse_token(conn), self._policy
            )
            if self._policy.accepts_organizations:
                check_has_organization(claims)
            if security_scopes.scopes:
                check_scopes(claims, security_scopes.scopes)
        except RefusalError as error:
            raise build_answer(error, conn=conn, resource_metadata=self.resource_metadata) from error
        finally:
            # Error trackers show a request's headers, where they find one in a frame.
            del conn
        return claims

    @property
    def tenants(self) -> tuple[LogtoSettings, ...]:
        """The settings of each tenant; read from the environment now if they were not needed before.

        Raises:
            SettingsError: The environment lacks a setting, or has a bad one.
        """
        return self._provider.tenants

    @property
    def resources(self) -> frozenset[str]:
        """The resource indicators whose tokens are admitted; none while there are no good settings."""
        if self._policy.audiences is not None:
            return self._policy.audiences
        try:
            return frozenset(audience for settings in self.tenants for audience in settings.audience)
        except SettingsError:
            return frozenset()

    def check_organization_issuer(self, issuer: str | None) -> None:
        """Check that it is clear whose organizations a requirement means; see `Organization.issuer`.

        Raises:
            SettingsError: There are several tenants and the requirement does not say, or no tenant has this issuer.
        """
        self._provider.check_organization_issuer(issuer)

    def find_organization_issuers(self, issuer: str | None) -> frozenset[str] | None:
        """Return the issuers whose organizations a requirement means; see `Organization.issuer`."""
        return self._provider.find_organization_issuers(issuer)

    @property
    def resource_metadata(self) -> str | None:
        """URL of the metadata of the resource that tokens are asked for here; `None` where there is no such page."""
        return self._provider.find_metadata_url(self._policy.audiences)

    def build_notes(self, *, redirect_path: str | None) -> SchemeNotes:
        """Give what the documentation of an application says of this scheme.

        Args:
            redirect_path: Where Swagger UI waits for the answer of a sign-in; `None` where there is no such page.
        """
        try:
            hint = build_sign_in_hint(self.tenants[0], redirect_path=redirect_path)
        except SettingsError:
            hint = ""
        return SchemeNotes(
            name=self.scheme_name,
            claims_model=self._provider.claims_model,
            takes_opaque_tokens=self._policy.accepts_opaque and self._provider.accepts_opaque_tokens,
            sign_in_hint=hint,
            scope_descriptions=self._provider.scope_descriptions,
        )

    @property
    @override
    def model(self) -> SchemeModel:  # type: ignore[override] # pyright: ignore[reportIncompatibleVariableOverride] - built late, never set
        """The scheme for OpenAPI. Without good settings it says so instead of failing."""
        try:
            settings = self.tenants[0]
        except SettingsError:
            # What was found is for the log of whoever runs this, not for everybody who reads the docs page.
            return HTTPBearer(description=UNSET_DESCRIPTION, bearerFormat="JWT")
        return build_scheme(settings, resource=find_resource(settings, self._policy.audiences))


class OrganizationScheme(TokenScheme[ClaimsT]):
    """The node of requirements that ask for an organization: the only one that admits organization tokens."""

    def __init__(self, provider: Provider[ClaimsT], audiences: frozenset[str] | None, *, scheme_name: str) -> None:
        """Put the parts together. Reads no settings.

        Args:
            provider: What verifies.
            audiences: The resource indicators whose tokens are admitted too; `None` for those of the settings.
            scheme_name: Name in OpenAPI.
        """
        policy = AudiencePolicy(audiences, accepts_organizations=True)
        super().__init__(provider, policy, scheme_name=scheme_name)


def _read_header(conn: HTTPConnection) -> list[bytes]:
    # Never in a local variable of a frame that an error may come through.
    return [value for name, value in conn.scope["headers"] if name == b"authorization"]


def _parse_token(conn: HTTPConnection) -> SecretStr:
    return parse_authorization([value.decode("latin-1") for value in _read_header(conn)])


def find_provider(scheme: TokenScheme[ClaimsT]) -> Provider[ClaimsT]:
    """Give what verifies for a scheme: for the test kit, which replaces its settings."""
    return scheme._provider  # noqa: SLF001 # pyright: ignore[reportPrivateUsage] - of this module
