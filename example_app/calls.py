"""The API as a client: its own calls, calls on behalf of its callers, and opaque tokens that the tenant introspects.

The example needs a machine-to-machine application for these: `EXAMPLE_MACHINE_ID` and `EXAMPLE_MACHINE_SECRET`.
"""

from functools import cache
from typing import Annotated, Any

from fastapi import APIRouter, Depends, HTTPException, Request
from pydantic import BaseModel

from example_app.scheme import auth
from example_app.settings import ExampleSettings
from fastapi_logto import LogtoAuth, TokenClaims
from fastapi_logto.client import GrantError, LogtoClient
from fastapi_logto.introspection import Introspection

_NO_TOKEN: dict[int | str, dict[str, Any]] = {502: {"description": "The tenant issues no token for this call"}}


class Granted(BaseModel):
    """The scopes of a token for another call."""

    scopes: list[str]


def build_router(settings: ExampleSettings) -> APIRouter:
    """Return the routes that need the machine's credentials.

    Args:
        settings: The credentials.
    """
    asks = Introspection(
        client_id=settings.machine_id,
        client_secret=settings.machine_secret,
        # An opaque token has no audience, so the accepted applications must be listed.
        allowed_clients=settings.opaque_clients,
    )
    opaque = LogtoAuth(introspection=asks, scheme_name="Opaque")
    # The lifespan reads the settings of `opaque` at the application's start, too.
    router = APIRouter(tags=["calls"], lifespan=opaque.lifespan)

    @cache
    def get_client() -> LogtoClient:
        # Created on the first call, because the tenant's settings are not known earlier.
        return LogtoClient(
            endpoint=auth.settings.endpoint, client_id=settings.machine_id, client_secret=settings.machine_secret
        )

    @router.get("/calls/machine", responses=_NO_TOKEN)
    async def call_as_machine(_: Annotated[TokenClaims, Depends(auth)]) -> Granted:
        """Get a token for the API's own calls. A scope that is not granted is missing, which is not an error."""
        try:
            issued = await get_client().get_token(auth.settings.audience[0], scopes=["read:user", "delete:user"])
        except GrantError as error:
            raise HTTPException(502, "The tenant issues no token") from error
        return Granted(scopes=sorted(issued.scopes))

    @router.get("/calls/on-behalf", responses=_NO_TOKEN)
    async def call_on_behalf(request: Request, _: Annotated[TokenClaims, Depends(auth.require_user())]) -> Granted:
        """Exchange the caller's token for a token to call another API on their behalf."""
        token = request.headers["authorization"].split(" ")[-1]
        try:
            issued = await get_client().exchange_token(token, auth.settings.audience[0], scopes=["read:user"])
        except GrantError as error:
            raise HTTPException(502, "The tenant does not exchange this token") from error
        return Granted(scopes=sorted(issued.scopes))

    @router.get("/profile")
    async def read_profile(claims: Annotated[TokenClaims, Depends(opaque.require_scopes("openid"))]) -> str:
        """Return the caller's user id. An opaque token is accepted too: the tenant introspects it."""
        return claims.user_id

    return router
