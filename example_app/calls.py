"""The API as a client: calls of its own, calls on behalf of its callers, and opaque tokens, which the tenant knows.

For these the example needs a machine-to-machine application: `EXAMPLE_MACHINE_ID` and `EXAMPLE_MACHINE_SECRET`.
"""

from functools import cache
from typing import Annotated, Any

from fastapi import APIRouter, Depends, HTTPException, Request
from pydantic import BaseModel

from example_app.settings import ExampleSettings
from fastapi_logto import LogtoAuth, TokenClaims, auth, require_user
from fastapi_logto.client import LogtoClient
from fastapi_logto.errors import GrantError
from fastapi_logto.introspection import Introspection

__all__ = ["build_router"]


_NO_TOKEN: dict[int | str, dict[str, Any]] = {502: {"description": "The tenant gives out no token for this call"}}


class Granted(BaseModel):
    """What a token for a further call may do."""

    scopes: list[str]


def build_router(settings: ExampleSettings) -> APIRouter:
    """Give the routes, for an application that has the credentials.

    Args:
        settings: The credentials.
    """
    asks = Introspection(
        client_id=settings.machine_id,
        client_secret=settings.machine_secret,
        # An opaque token has no audience: whose tokens are accepted must be said.
        allowed_clients=settings.opaque_clients,
    )
    opaque = LogtoAuth(opaque=asks, scheme_name="Opaque")
    # Its settings are read at the application's start too.
    router = APIRouter(tags=["calls"], lifespan=opaque.lifespan)

    @cache
    def get_client() -> LogtoClient:
        # At the first call: only then are the settings of the tenant known.
        return LogtoClient(
            endpoint=auth.settings.endpoint, client_id=settings.machine_id, client_secret=settings.machine_secret
        )

    @router.get("/calls/machine", responses=_NO_TOKEN)
    async def call_as_machine(_: Annotated[TokenClaims, Depends(auth)]) -> Granted:
        """Get a token for a call of the API's own. A scope that is not granted is absent, and no error."""
        try:
            issued = await get_client().get_token(auth.settings.audience[0], scopes=["read:user", "delete:user"])
        except GrantError as error:
            raise HTTPException(502, "The tenant gives out no token") from error
        return Granted(scopes=sorted(issued.scopes))

    @router.get("/calls/on-behalf", responses=_NO_TOKEN)
    async def call_on_behalf(request: Request, _: Annotated[TokenClaims, Depends(require_user())]) -> Granted:
        """Exchange the caller's token for one that calls another API in their name."""
        token = request.headers["authorization"].split(" ")[-1]
        try:
            issued = await get_client().exchange(token, auth.settings.audience[0], scopes=["read:user"])
        except GrantError as error:
            raise HTTPException(502, "The tenant does not exchange this token") from error
        return Granted(scopes=sorted(issued.scopes))

    @router.get("/profile")
    async def read_profile(claims: Annotated[TokenClaims, Depends(opaque.require_scopes("openid"))]) -> str:
        """Tell the caller who they are, by an opaque token too: the tenant is asked about it."""
        return claims.user_id

    return router
