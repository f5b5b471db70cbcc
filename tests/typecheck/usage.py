"""Type-checked, never run: what an application writes must pass the strictest settings."""

from __future__ import annotations

from typing import Annotated, assert_type

from fastapi import Depends, FastAPI

from fastapi_logto import (
    AllScopes,
    AnyScope,
    LogtoAuth,
    LogtoSettings,
    OptionalLogtoAuth,
    ProviderHealth,
    TokenClaims,
    auth,
    require_scopes,
)


class MyClaims(TokenClaims):
    """Claims with what a tenant's script adds."""

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
assert_type(configured.require_scopes("a"), AllScopes[MyClaims])
assert_type(custom.require_any_scope("a", "b"), AnyScope[MyClaims])
assert_type(custom.optional, OptionalLogtoAuth[MyClaims])
assert_type(require_scopes("a"), AllScopes[TokenClaims])
assert_type(plain.health(), ProviderHealth)


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
