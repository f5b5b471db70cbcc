"""The routes, one for each kind of protection."""

import asyncio
from collections.abc import AsyncGenerator
from typing import Annotated, Literal, TypeAlias

from fastapi import APIRouter, Depends, Query, WebSocket
from fastapi.responses import PlainTextResponse, StreamingResponse
from pydantic import BaseModel, Field

from example_app.scheme import auth, require_scopes
from fastapi_logto import OrganizationSource, TokenClaims

# An alias gives a permission a readable name for all routes that require it.
CanRead: TypeAlias = Annotated[TokenClaims, Depends(require_scopes("read:user"))]
CanWrite: TypeAlias = Annotated[TokenClaims, Depends(require_scopes("write:user"))]
Caller: TypeAlias = Annotated[TokenClaims, Depends(auth)]

# Another API resource of the same tenant: its tokens are valid only for these routes, and these accept no others.
billing = auth.for_audience("https://billing.example.test", scheme_name="Billing")

router = APIRouter()
# The whole router is protected, so a route that is added later is protected too.
account = APIRouter(prefix="/account", tags=["account"], dependencies=[Depends(auth)])


def is_pro(claims: TokenClaims) -> bool:
    """A token with the plan `pro`."""
    return getattr(claims, "plan", None) == "pro"


class UserInfo(BaseModel):
    """The caller and their scopes."""

    user_id: str
    scopes: list[str]
    nickname: str | None = None


class UserPatch(BaseModel):
    """The fields that a user may change."""

    nickname: str = Field(min_length=1, max_length=80)


class Members(BaseModel):
    """The members of an organization."""

    organization_id: str
    members: list[str]


class Projects(BaseModel):
    """The projects of an organization."""

    organization_id: str
    projects: list[str]


class Synchronised(BaseModel):
    """The result of a machine's job."""

    by: str


class Keys(BaseModel):
    """The state of the cached provider keys."""

    is_ready: bool
    is_stale: bool
    count: int
    age_seconds: float | None


class Health(BaseModel):
    """Whether this API can verify tokens now."""

    status: Literal["ok", "waiting for keys"]
    keys: Keys


class Greeting(BaseModel):
    """A greeting for anyone."""

    message: str


# A real application uses a database.
_nicknames: dict[str, str] = {}


@router.get("/user/info", tags=["user"])
async def read_user(claims: CanRead) -> UserInfo:
    """Return the caller and their scopes. Requires `read:user`."""
    return UserInfo(user_id=claims.user_id, scopes=sorted(claims.scopes), nickname=_nicknames.get(claims.user_id))


@router.patch("/user/info", tags=["user"], responses={400: {"description": "The body is not UTF-8"}})
async def change_user(patch: UserPatch, claims: CanWrite) -> UserInfo:
    """Change the caller's nickname. Requires `write:user`."""
    _nicknames[claims.user_id] = patch.nickname
    return UserInfo(user_id=claims.user_id, scopes=sorted(claims.scopes), nickname=patch.nickname)


@router.get("/greeting", tags=["public"])
async def greet(claims: Annotated[TokenClaims | None, Depends(auth.optional)]) -> Greeting:
    """Greet anyone, by user id if the token is valid."""
    return Greeting(message="Hello, stranger" if claims is None else f"Hello, {claims.user_id}")


@router.get("/", include_in_schema=False)
async def show_index() -> PlainTextResponse:
    """Explain the example to a browser. Requires no token."""
    return PlainTextResponse(
        "Example API, protected with Logto access tokens.\n\n"
        "/docs       all routes; Authorize signs in at the issuer\n"
        "/greeting   needs no token\n"
        "/user/info  requires a token with the scope read:user\n"
    )


@router.get("/health", tags=["public"])
async def read_health() -> Health:
    """Report whether tokens can be verified now. Requires no token and fetches nothing."""
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
    """Return the claims of the caller's token. Requires a valid token, but no scope."""
    return claims


@account.get("/permissions", dependencies=[Depends(auth.require_any_scope("read:user", "write:user"))])
async def read_permissions(claims: Caller) -> list[str]:
    """List the caller's scopes. Requires `read:user` or `write:user`."""
    return sorted(claims.scopes)


@router.get("/organizations/{organization_id}/members", tags=["organizations"])
async def list_members(
    organization_id: str, claims: Annotated[TokenClaims, Depends(auth.require_organization("read:user"))]
) -> Members:
    """List an organization's members. Requires `read:user` in this organization."""
    return Members(organization_id=organization_id, members=[claims.user_id])


@router.get("/projects", tags=["organizations"])
async def list_projects(
    claims: Annotated[TokenClaims, Depends(auth.require_organization(organization=OrganizationSource.from_token()))],
) -> Projects:
    """List the projects of the token's organization. Requires a token for any organization, but no scope."""
    return Projects(organization_id=str(claims.organization_id), projects=[])


@router.post("/sync", tags=["machines"])
async def synchronise(claims: Annotated[TokenClaims, Depends(auth.require_machine("write:user"))]) -> Synchronised:
    """Run a nightly job. Requires a machine as the caller, with `write:user`."""
    return Synchronised(by=str(claims.client_id))


@router.get("/inbox", tags=["user"])
async def read_inbox(
    claims: Annotated[TokenClaims, Depends(auth.require(scopes=["read:user"], actor=False))],
) -> list[str]:
    """Read the caller's messages. Actors who act on a user's behalf are rejected."""
    return [f"Welcome, {claims.user_id}"]


@router.get("/support/notes", tags=["user"])
async def read_notes(claims: Annotated[TokenClaims, Depends(auth.require(actor=True))]) -> list[str]:
    """Read support's notes about a user. Requires an actor who acts on the user's behalf."""
    return [f"{claims.act.sub if claims.act else ''} looks after {claims.user_id}"]


@router.get("/beta", tags=["user"])
async def try_beta(claims: Annotated[TokenClaims, Depends(auth.require(clients=["local-spa", "beta-app"]))]) -> str:
    """Try beta features. Requires one of the listed applications."""
    return f"Welcome to the beta from {claims.client_id}"


@router.get("/pro", tags=["user"])
async def use_pro(claims: Annotated[TokenClaims, Depends(auth.require(claims=is_pro))]) -> str:
    """Use a paid feature. Requires the plan `pro`, which the tenant's script adds to the token."""
    return f"Thank you, {claims.user_id}"


@router.get("/ticks", tags=["user"], response_class=PlainTextResponse)
async def read_ticks(claims: CanRead, count: Annotated[int, Query(ge=1, le=20)] = 3) -> StreamingResponse:
    """Send a tick every tenth of a second; the stream ends when the token expires. Requires `read:user`."""
    return StreamingResponse(auth.until_expiry(_tick(count), claims), media_type="text/plain")


async def _tick(count: int) -> AsyncGenerator[str]:
    for number in range(count):
        yield f"tick {number}\n"
        await asyncio.sleep(0.1)


@router.get("/invoices", tags=["billing"])
async def list_invoices(claims: Annotated[TokenClaims, Depends(billing.require_user())]) -> list[str]:
    """List the caller's invoices. Requires a user's token for the billing API, a separate API resource."""
    return [f"No invoice for {claims.user_id}"]


@router.websocket("/echo")
async def echo(websocket: WebSocket, claims: CanRead) -> None:
    """Echo each text with the sender's user id until the token expires. Requires `read:user`."""
    await websocket.accept()
    async with auth.closing_at_expiry(websocket, claims):
        async for text in websocket.iter_text():
            await websocket.send_text(f"{claims.user_id}: {text}")


router.include_router(account)
