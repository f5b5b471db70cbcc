"""An API in a container: one protected route, and a route that says whether tokens can be verified."""

from typing import Annotated

from fastapi import Depends, FastAPI, Response

from fastapi_logto import TokenClaims, auth, require_scopes

app = FastAPI()
auth.install(app)


@app.get("/user/info")
async def user_info(claims: Annotated[TokenClaims, Depends(require_scopes("read:user"))]) -> dict[str, str]:
    return {"user_id": claims.user_id}


@app.get("/health", status_code=204)
async def health(response: Response) -> None:
    if not auth.health().is_ready:
        response.status_code = 503
