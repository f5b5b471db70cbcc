"""The application of `benchmarks.soak`: one route, revocations over Redis, and the route for webhooks."""

import os
from typing import Annotated

from fastapi import Depends, FastAPI

from fastapi_logto import LogtoAuth, TokenClaims
from fastapi_logto.revocation import RedisStore, Revocations

revocations = Revocations(RedisStore(os.environ["SOAK_REDIS_URL"]))
auth = LogtoAuth(
    endpoint=os.environ["SOAK_ENDPOINT"],
    audience=os.environ["SOAK_AUDIENCE"],
    # Short, so that rotations and faults of the provider are met often.
    keys_ttl_seconds=10,
    keys_cooldown_seconds=1,
    revocations=revocations,
)
app = FastAPI()
auth.install(app)
app.include_router(revocations.webhooks(signing_key=os.environ["SOAK_SIGNING_KEY"]))


@app.get("/read")
async def read(claims: Annotated[TokenClaims, Depends(auth.require_scopes("read:user"))]) -> str:
    """Return the user id."""
    return claims.user_id
