"""The dependencies that FastAPI calls to verify a token. Each accepts tokens for its own audiences.

No `from __future__ import annotations` here: FastAPI reads the annotations of `__call__`, and if the dependency is an
object it finds no module in which to resolve string annotations.
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

from fastapi_logto.description.openapi import UNSET_DESCRIPTION, SchemeNotes, build_scheme, build_sign_in_hint
from fastapi_logto.errors import RefusalError, SettingsError
from fastapi_logto.protected_resource import find_resource
from fastapi_logto.responses import build_http_error
from fastapi_logto.settings import LogtoSettings
from fastapi_logto.state import Provider
from fastapi_logto.verification.bearer import parse_authorization
from fastapi_logto.verification.checks import check_has_organization, check_scopes
from fastapi_logto.verification.claims import ClaimsT
from fastapi_logto.verification.verifier import AudiencePolicy

__all__ = ["OrganizationScheme", "TokenScheme", "find_provider"]


class TokenScheme(SecurityBase, Generic[ClaimsT]):
    """Returns the claims of a request's bearer token. There is one for each audience policy."""

    def __init__(self, provider: Provider[ClaimsT], policy: AudiencePolicy, *, scheme_name: str) -> None:
        """Store the parts. No settings are read."""
        self.scheme_name: str = scheme_name
        self._provider = provider
        self._policy = policy

    async def __call__(self, conn: HTTPConnection, security_scopes: SecurityScopes) -> ClaimsT:
        """Return the claims of the request's bearer token. FastAPI calls this.

        Args:
            conn: The request, or a WebSocket before it is accepted.
            security_scopes: All scopes that the route and its dependencies require.

        Returns:
            The claims.

        Raises:
            HTTPException: 401, 403 or 503; see the table of error responses in the documentation. For a WebSocket whose
                server does not support denial responses, a `WebSocketException`.
        """
        try:
            verifier = self._provider.verifier
            if verifier is None:
                if self._provider.publishers:
                    # A client that discovers the tenant from the response sends its first request without a token.
                    with suppress(SettingsError):
                        await self._provider.load_in_thread()
                # A request without a token gets this error even if settings are missing.
                _parse_token(conn)
                verifier = await self._provider.load_in_thread()
            claims = verifier.recall(verifier.build_digest(_read_header(conn)), self._policy) or await verifier.verify(
                _parse_token(conn), self._policy
            )
            if self._policy.accepts_organizations:
                check_has_organization(claims)
            if security_scopes.scopes:
                check_scopes(claims, security_scopes.scopes)
        except RefusalError as error:
            raise build_http_error(error, conn=conn, resource_metadata=self.resource_metadata) from error
        finally:
            # Error trackers show a request's headers, where they find one in a frame.
            del conn
        return claims

    @property
    def tenants(self) -> tuple[LogtoSettings, ...]:
        """The settings of each tenant. They are read from the environment if that has not happened yet.

        Raises:
            SettingsError: A setting in the environment is missing or invalid.
        """
        return self._provider.tenants

    @property
    def resources(self) -> frozenset[str]:
        """The resource indicators that are accepted as audience; empty while there are no valid settings."""
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
        """URL of the metadata of the resource; `None` if there is no such page."""
        return self._provider.find_metadata_url(self._policy.audiences)

    def build_notes(self, *, redirect_path: str | None) -> SchemeNotes:
        """Return what the OpenAPI document says about this scheme.

        `redirect_path` is the redirect path of Swagger UI; `None` if there is no docs page.
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
        """The OpenAPI model. Without valid settings, its description says so, and no error is raised."""
        try:
            settings = self.tenants[0]
        except SettingsError:
            # The details belong in the log of the operator, not on a docs page that anyone may read.
            return HTTPBearer(description=UNSET_DESCRIPTION, bearerFormat="JWT")
        return build_scheme(settings, resource=find_resource(settings, self._policy.audiences))


class OrganizationScheme(TokenScheme[ClaimsT]):
    """The scheme for requirements with an organization: the only one that accepts organization tokens."""

    def __init__(self, provider: Provider[ClaimsT], audiences: frozenset[str] | None, *, scheme_name: str) -> None:
        """Store the parts. No settings are read.

        Tokens for `audiences` are accepted too; `None` means those of the settings.
        """
        policy = AudiencePolicy(audiences, accepts_organizations=True)
        super().__init__(provider, policy, scheme_name=scheme_name)


def _read_header(conn: HTTPConnection) -> list[bytes]:
    # Never stored in a local variable of a frame that may be part of a traceback.
    return [value for name, value in conn.scope["headers"] if name == b"authorization"]


def _parse_token(conn: HTTPConnection) -> SecretStr:
    return parse_authorization([value.decode("latin-1") for value in _read_header(conn)])


def find_provider(scheme: TokenScheme[ClaimsT]) -> Provider[ClaimsT]:
    """Return the provider of a scheme, for the test kit, which replaces its settings."""
    return scheme._provider  # noqa: SLF001 # pyright: ignore[reportPrivateUsage] - of this module
