"""Type-checked, never run: what an application writes must pass the strictest settings."""

from __future__ import annotations

from typing import Annotated, assert_type

from fastapi import Depends, FastAPI
from pydantic import SecretStr

from fastapi_logto import (
    LogtoAuth,
    LogtoSettings,
    OrganizationSource,
    ProviderHealth,
    Requirement,
    TokenClaims,
    auth,
    require_scopes,
)
from fastapi_logto.client import IssuedToken, LogtoClient
from fastapi_logto.errors import ProviderUnavailableError
from fastapi_logto.schemes import OptionalScheme
from fastapi_logto.testing import LocalIssuer, ManualClock, assert_protected, claims, override, routes


class MyClaims(TokenClaims):
    """Claims with those that a tenant's script adds."""

    roles: tuple[str, ...] = ()


plain = LogtoAuth(endpoint="https://tenant-id.logto.app", audience="https://api.example.com", leeway_seconds=5)
custom = LogtoAuth(claims_model=MyClaims)
configured = LogtoAuth(
    settings=LogtoSettings(endpoint="https://tenant-id.logto.app", audience=["a", "b"], algorithms="ES384"),
    claims_model=MyClaims,
)
app = FastAPI()
plain.install(app)

assert_type(plain, LogtoAuth[TokenClaims])
assert_type(auth, LogtoAuth[TokenClaims])
assert_type(custom, LogtoAuth[MyClaims])
assert_type(configured.require_scopes("a"), Requirement[MyClaims])
assert_type(custom.require_any_scope("a", "b"), Requirement[MyClaims])
assert_type(custom.optional, OptionalScheme[MyClaims])
assert_type(require_scopes("a"), Requirement[TokenClaims])
assert_type(plain.health(), ProviderHealth)
assert_type(custom.for_audience("https://billing.example.com"), LogtoAuth[MyClaims])
assert_type(auth.require_organization("a", organization=OrganizationSource.from_token()), Requirement[TokenClaims])
assert_type(custom.require(claims=lambda claims: "admin" in claims.roles), Requirement[MyClaims])
assert_type(
    custom.require(scopes=["a"], organization=OrganizationSource.from_path("id"), caller="user", actor=False),
    Requirement[MyClaims],
)


@app.get("/plain")
async def read_plain(claims: Annotated[TokenClaims, Depends(plain.require_scopes("read:user"))]) -> str:
    """Use plain claims."""
    assert_type(claims.scopes, frozenset[str])
    return claims.user_id


@app.get("/custom")
async def read_custom(claims: Annotated[MyClaims, Depends(custom.require_scopes("read:user"))]) -> tuple[str, ...]:
    """Use custom claims."""
    assert_type(await custom.verify("token"), MyClaims)
    return claims.roles


@app.get("/optional")
async def read_optional(claims: Annotated[TokenClaims | None, Depends(auth.optional)]) -> str:
    """Use claims that may be missing."""
    return "nobody" if claims is None else claims.user_id


async def call_another_api(client: LogtoClient) -> None:
    """Exchange tokens."""
    token = await client.create_subject_token("user-id", resource="https://tenant-id.logto.app/api")
    assert_type(await client.exchange_token(token, "https://billing.example.com"), IssuedToken)
    assert_type(await client.exchange_token(token, organization_id="acme"), IssuedToken)
    assert_type(await client.exchange_token(token, "https://billing.example.com", organization_id="acme"), IssuedToken)
    await client.exchange_token(token)  # type: ignore[call-overload] # pyright: ignore[reportCallIssue] - no target


LogtoClient(endpoint="https://tenant-id.logto.app", client_id="id", client_secret=SecretStr("secret"))
issuer = LocalIssuer(clock=ManualClock())
assert_type(claims(scopes=["a"]), TokenClaims)
assert_type(claims(claims_model=MyClaims, extra={"roles": ["admin"]}), MyClaims)
assert_type(issuer.auth(), LogtoAuth[TokenClaims])
assert_type(issuer.auth(claims_model=MyClaims, audience="https://api.example.com"), LogtoAuth[MyClaims])


# One error each, in both checkers.
claims(scope="a")  # type: ignore[call-arg] # pyright: ignore[reportCallIssue] - it is `scopes`
claims(claims_model=int)  # type: ignore[type-var] # pyright: ignore[reportArgumentType] - no claims
issuer.auth(claims_model=int)  # type: ignore[type-var] # pyright: ignore[reportArgumentType] - no claims
issuer.auth(audiense="a")  # type: ignore[call-arg] # pyright: ignore[reportCallIssue] - a typo


def test_what_an_application_writes() -> None:
    """Use the test kit."""
    with override(app, plain, claims(scopes=["read:user"])), override(app, custom, claims(claims_model=MyClaims)):
        pass
    with override(app, plain, None), override(app, custom, ProviderUnavailableError()):
        pass
    with override(app, custom.for_audience("https://billing.example.com"), claims(claims_model=MyClaims)):
        pass
    # A subclass has all claims that the routes of `plain` use.
    with override(app, plain, claims(claims_model=MyClaims)):
        pass
    with override(app, custom, claims()):  # type: ignore[misc] # pyright: ignore[reportArgumentType] - not MyClaims
        pass
    with issuer.connect(auth) as connected, issuer.connect(app), issuer.outage():
        assert_type(connected, LocalIssuer)
    assert_protected(app, except_=["/optional"])
    assert_type(routes(app)[0].requirements[0].scopes, tuple[str, ...])
