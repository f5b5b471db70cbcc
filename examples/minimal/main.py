"""An API with one protected route. The settings come from the environment or from `.env`."""

from typing import Annotated

from fastapi import Depends, FastAPI

from fastapi_logto import TokenClaims, auth, require_scopes

app = FastAPI()
auth.install(app)

Reader = Annotated[TokenClaims, Depends(require_scopes("read:user"))]


@app.get("/user/info")
async def user_info(claims: Reader) -> dict[str, str]:
    return {"user_id": claims.user_id}
