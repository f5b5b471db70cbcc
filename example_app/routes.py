"""The routes: one of each kind of protection."""

import asyncio
from collections.abc import AsyncGenerator
from typing import Annotated, Literal, TypeAlias

from fastapi import APIRouter, Depends, Query, WebSocket
from fastapi.responses import PlainTextResponse, StreamingResponse
from pydantic import BaseModel, Field

from fastapi_logto import (
    Organization,
    TokenClaims,
    auth,
    require_any_scope,
    require_machine,
    require_organization,
    require_scopes,
)

__all__ = ["router"]

# An alias gives a permission a name that reads well in every route that needs it.
CanRead: TypeAlias = Annotated[TokenClaims, Depends(require_scopes("read:user"))]
CanWrite: TypeAlias = Annotated[TokenClaims, Depends(require_scopes("write:user"))]
Caller: TypeAlias = Annotated[TokenClaims, Depends(auth)]

# Another API resource of the same tenant: its tokens open nothing else here, and other tokens don't open it.
billing = auth.for_audience("https://billing.example.test", scheme_name="Billing")

router = APIRouter()
# Protected as a whole: a route that is added to it later can't be forgotten.
account = APIRouter(prefix="/account", tags=["account"], dependencies=[Depends(auth)])


def is_pro(claims: TokenClaims) -> bool:
    """A token with the plan `pro`."""
    return getattr(claims, "plan", None) == "pro"


class UserInfo(BaseModel):
    """Who calls, and what they may do."""

    user_id: str
    scopes: list[str]
    nickname: str | None = None


class UserPatch(BaseModel):
    """What a user may change."""

    nickname: str = Field(min_length=1, max_length=80)


class Members(BaseModel):
    """Who belongs to an organization."""

    organization_id: str
    members: list[str]


class Projects(BaseModel):
    """What an organization works on."""

    organization_id: str
    projects: list[str]


class Synchronised(BaseModel):
    """What a machine has done."""

    by: str


class Keys(BaseModel):
    """What is held of the provider's keys."""

    is_ready: bool
    is_stale: bool
    count: int
    age_seconds: float | None


class Health(BaseModel):
    """Whether this API can verify tokens now."""

    status: Literal["ok", "waiting for keys"]
    keys: Keys


class Greeting(BaseModel):
    """A greeting for whoever comes."""

    message: str


# What a real application has in its database.
_nicknames: dict[str, str] = {}


@router.get("/user/info", tags=["user"])
async def read_user(claims: CanRead) -> UserInfo:
    """Tell the caller who they are. Needs `read:user`."""
    return UserInfo(user_id=claims.user_id, scopes=sorted(claims.scopes), nickname=_nicknames.get(claims.user_id))


@router.patch("/user/info", tags=["user"], responses={400: {"description": "The body is no text in UTF-8"}})
async def change_user(patch: UserPatch, claims: CanWrite) -> UserInfo:
    """Change the caller's nickname. Needs `write:user`."""
    _nicknames[claims.user_id] = patch.nickname
    return UserInfo(user_id=claims.user_id, scopes=sorted(claims.scopes), nickname=patch.nickname)


@router.get("/greeting", tags=["public"])
async def greet(claims: Annotated[TokenClaims | None, Depends(auth.optional)]) -> Greeting:
    """Greet anybody; by name whoever brings a good token."""
    return Greeting(message="Hello, stranger" if claims is None else f"Hello, {claims.user_id}")


@router.get("/health", tags=["public"])
async def read_health() -> Health:
    """Tell whether tokens can be verified now. Open to anybody, fetches nothing."""
    health = auth.health()
    return Health(
        status="ok" if health.is_ready else "waiting for keys",
        keys=Keys(
            is_ready=health.is_ready,
            is_stale=health.is_stale,
            count=health.key_count,
            age_seconds=health.age_seconds,
        ),
    )


@account.get("/claims")
async def read_claims(claims: Caller) -> TokenClaims:
    """Show the claims of the caller's own token. Needs a good token, no scope."""
    return claims


@account.get("/permissions", dependencies=[Depends(require_any_scope("read:user", "write:user"))])
async def read_permissions(claims: Caller) -> list[str]:
    """List the caller's scopes. Needs `read:user` or `write:user`."""
    return sorted(claims.scopes)


@router.get("/organizations/{organization_id}/members", tags=["organizations"])
async def list_members(
    organization_id: str, claims: Annotated[TokenClaims, Depends(require_organization("read:user"))]
) -> Members:
    """List an organization's members. Needs `read:user` in this very organization."""
    return Members(organization_id=organization_id, members=[claims.user_id])


@router.get("/projects", tags=["organizations"])
async def list_projects(
    claims: Annotated[TokenClaims, Depends(require_organization(organization=Organization.from_token()))],
) -> Projects:
    """List the projects of the token's organization. Needs a token of any organization, and no scope."""
    return Projects(organization_id=str(claims.organization_id), projects=[])


@router.post("/sync", tags=["machines"])
async def synchronise(claims: Annotated[TokenClaims, Depends(require_machine("write:user"))]) -> Synchronised:
    """Run a nightly job. Needs a machine as the caller, with `write:user`."""
    return Synchronised(by=str(claims.client_id))


@router.get("/inbox", tags=["user"])
async def read_inbox(claims: Annotated[TokenClaims, Depends(auth.require_no_actor("read:user"))]) -> list[str]:
    """Read the caller's own letters. Nobody may on their behalf."""
    return [f"Welcome, {claims.user_id}"]


@router.get("/support/notes", tags=["user"])
async def read_notes(claims: Annotated[TokenClaims, Depends(auth.require_actor())]) -> list[str]:
    """Read what support wrote down about a user. Only for somebody who acts on the user's behalf."""
    return [f"{claims.act.sub if claims.act else ''} looks after {claims.user_id}"]


@router.get("/beta", tags=["user"])
async def try_beta(claims: Annotated[TokenClaims, Depends(auth.require_client("local-spa", "beta-app"))]) -> str:
    """Try what is new. Only from some applications."""
    return f"Welcome to the beta from {claims.client_id}"


@router.get("/pro", tags=["user"])
async def use_pro(claims: Annotated[TokenClaims, Depends(auth.require_claims(is_pro))]) -> str:
    """Use what costs money. Needs the plan `pro`, which the tenant's script puts into the token."""
    return f"Thank you, {claims.user_id}"


@router.get("/ticks", tags=["user"], response_class=PlainTextResponse)
async def read_ticks(claims: CanRead, count: Annotated[int, Query(ge=1, le=20)] = 3) -> StreamingResponse:
    """Stream a tick each tenth of a second; the stream ends with the token. Needs `read:user`."""
    return StreamingResponse(auth.until_expiry(_tick(count), claims), media_type="text/plain")


async def _tick(count: int) -> AsyncGenerator[str]:
    for number in range(count):
        yield f"tick {number}\n"
        await asyncio.sleep(0.1)


@router.get("/invoices", tags=["billing"])
async def list_invoices(claims: Annotated[TokenClaims, Depends(billing.require_user())]) -> list[str]:
    """List the caller's invoices. Needs a user's token for the billing API, which is another resource."""
    return [f"No invoice for {claims.user_id}"]


@router.websocket("/echo")
async def echo(websocket: WebSocket, claims: CanRead) -> None:
    """Echo each text, with who sent it, until the token expires. Needs `read:user`."""
    await websocket.accept()
    async with auth.closing_at_expiry(websocket, claims):
        async for text in websocket.iter_text():
            await websocket.send_text(f"{claims.user_id}: {text}")


router.include_router(account)
