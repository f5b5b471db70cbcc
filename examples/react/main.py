"""An API that a page of another origin calls."""

import os
from collections import Counter
from typing import Annotated

from fastapi import Depends, FastAPI
from fastapi.middleware.cors import CORSMiddleware

from fastapi_logto import TokenClaims, auth

app = FastAPI()
auth.install(app)
app.add_middleware(
    CORSMiddleware,
    allow_origins=[os.environ.get("WEB_ORIGIN", "http://127.0.0.1:5173")],
    allow_methods=["GET", "POST"],
    allow_headers=["Authorization"],
    expose_headers=["WWW-Authenticate", "Retry-After"],
)

Reader = Annotated[TokenClaims, Depends(auth.require_scopes("read:user"))]
Writer = Annotated[TokenClaims, Depends(auth.require_scopes("write:user"))]

VISITS = Counter[str]()


@app.get("/user/info")
async def user_info(claims: Reader) -> dict[str, str]:
    return {"user_id": claims.user_id}


@app.post("/visits")
async def count_visit(claims: Writer) -> dict[str, int]:
    VISITS[claims.user_id] += 1
    return {"visits": VISITS[claims.user_id]}
