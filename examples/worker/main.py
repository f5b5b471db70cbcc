"""An API that a worker calls: only a machine may replace the list of users."""

from fastapi import Depends, FastAPI

from fastapi_logto import auth

app = FastAPI()
auth.install(app)

USERS: list[str] = []


@app.put("/users", dependencies=[Depends(auth.require_machine("write:user"))])
async def replace_users(names: list[str]) -> dict[str, int]:
    USERS[:] = names
    return {"stored": len(names)}
