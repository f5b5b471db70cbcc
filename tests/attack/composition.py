"""The composition matrix: each pair of dependencies at each place, for each caller, against the oracle."""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any, Final

from fastapi import APIRouter, Depends, FastAPI, Security, WebSocket
from starlette.types import Receive, Scope, Send

from fastapi_logto import LogtoAuth, mount_protected
from fastapi_logto.testing import claims as build_claims
from fastapi_logto.testing import override
from tests.attack.asgi import ACCEPTED, Reply, connect, send
from tests.attack.nodes import RULES, Node, build_nodes
from tests.attack.oracle import CALLERS, NAMED_ORGANIZATION, Caller, Rule, judge_all
from tests.attack.provider import Provider, build_auth
from tests.attack.report import Tally
from tests.vectors.forge import API, Forge, build_claims_set, dump

_HEADERS: Final = ((b"x-organization", NAMED_ORGANIZATION.encode()),)
_AUDIENCES: Final = {
    "api": API,
    "other": "https://other.example.test",
    "organization": "urn:logto:organization:",
}
_ABOVE: Final = "write"
"""The scope of a `Security` of the application that contains both dependencies."""

Judge = Callable[[Sequence[Rule], Caller], int]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Place:
    """A place for two dependencies: how its route is added, and which rules apply there."""

    name: str
    add: Callable[[FastAPI, str, Node, Node], None]
    adapt: Callable[[Rule], Rule] = lambda rule: rule
    is_websocket: bool = False
    is_mount: bool = False
    is_ascending: bool = True
    """Which of two dependencies comes first. The plain route is tested with both orders, each other place with one."""


async def _show() -> str:
    return "admitted"


async def _answer(scope: Scope, _receive: Receive, send: Send) -> None:
    """Accept every request that reaches it."""
    if scope["type"] == "websocket":
        await send({"type": "websocket.accept"})
    else:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"admitted"})


def _build_endpoint(node: Node) -> Callable[..., Any]:
    async def endpoint(_claims: Annotated[Any, node.marker]) -> str:
        return "admitted"

    return endpoint


def _build_both(first: Node, second: Node) -> Callable[..., Any]:
    """Return a dependency that depends on one dependency directly, and on another one a level deeper."""

    async def inner(_claims: Annotated[Any, second.marker]) -> None:
        return None

    async def outer(_claims: Annotated[Any, first.marker], _inner: Annotated[None, Depends(inner)]) -> None:
        return None

    return outer


def _add_to_route(app: FastAPI, path: str, first: Node, second: Node) -> None:
    app.add_api_route(path, _build_endpoint(second), dependencies=[first.marker])


def _add_to_application(app: FastAPI, path: str, _first: Node, second: Node) -> None:
    app.add_api_route(path, _build_endpoint(second))


def _add_to_router(app: FastAPI, path: str, first: Node, second: Node) -> None:
    router = APIRouter(dependencies=[first.marker])
    router.add_api_route(path, _build_endpoint(second))
    app.include_router(router)


def _add_to_include(app: FastAPI, path: str, first: Node, second: Node) -> None:
    router = APIRouter(dependencies=[second.marker])
    router.add_api_route(path, _show)
    app.include_router(router, dependencies=[first.marker])


def _add_nested(app: FastAPI, path: str, first: Node, second: Node) -> None:
    app.add_api_route(path, _show, dependencies=[Depends(_build_both(first, second))])


def _add_below_security(app: FastAPI, path: str, first: Node, second: Node) -> None:
    app.add_api_route(path, _show, dependencies=[Security(_build_both(first, second), scopes=[_ABOVE])])


def _add_websocket(app: FastAPI, path: str, first: Node, second: Node) -> None:
    async def endpoint(websocket: WebSocket, _claims: Annotated[Any, second.marker]) -> None:
        await websocket.accept()

    app.add_api_websocket_route(path, endpoint, dependencies=[first.marker])


def _add_mount(app: FastAPI, path: str, first: Node, second: Node) -> None:
    assert second.requirement is not None
    router = APIRouter(dependencies=[first.marker])
    mount_protected(router, path=path, mounted=_answer, requires=second.requirement)
    app.include_router(router)


def _adapt_below_security(rule: Rule) -> Rule:
    # FastAPI hands the scope down, and a scheme that requires a scope admits no anonymous caller.
    return replace(rule, scopes=rule.scopes | {_ABOVE})


_ROUTE: Final = _Place(name="route", add=_add_to_route)
_APPLICATION: Final = _Place(name="application", add=_add_to_application, is_ascending=False)
_PLACES: Final = (
    _ROUTE,
    _Place(name="router", add=_add_to_router),
    _Place(name="included router", add=_add_to_include, is_ascending=False),
    _APPLICATION,
    _Place(name="nested", add=_add_nested),
    _Place(name="below Security", add=_add_below_security, adapt=_adapt_below_security, is_ascending=False),
    _Place(name="websocket", add=_add_websocket, is_websocket=True),
    _Place(name="mount", add=_add_mount, is_mount=True, is_ascending=False),
    _Place(name="websocket of a mount", add=_add_mount, is_websocket=True, is_mount=True),
)
_OVERRIDDEN: Final = _Place(name="testing.override", add=_add_to_route)
_OPENED: Final = _Place(name="dependency_overrides", add=_add_to_route)
# They are that requirement, or depend on it alone.
_EQUAL_TO_THE_OVERRIDDEN: Final = frozenset(
    {"require_scopes", "the application's dependency", "Security of the application's dependency"}
)


def _list_claims(caller: Caller) -> dict[str, object]:
    audience = _AUDIENCES[caller.audience]
    is_own = caller.audience == "organization"
    changes: dict[str, object] = {
        "aud": f"{audience}{caller.organization}" if is_own else audience,
        "scope": " ".join(sorted(caller.scopes)),
        "client_id": caller.client,
        "sub": caller.client if caller.is_machine else "alice",
    }
    if caller.organization is not None and not is_own:
        changes["organization_id"] = caller.organization
    if caller.actor is not None:
        changes["act"] = {"sub": caller.actor}
    if caller.plan is not None:
        changes["plan"] = caller.plan
    return build_claims_set(**changes)


def _build_authorization(caller: Caller, forge: Forge) -> list[bytes]:
    if caller.credentials == "none":
        return []
    token = forge.with_payload(dump(_list_claims(caller)))
    if caller.credentials == "invalid":
        # The same claims, with a signature of another token.
        token = f"{token.rpartition('.')[0]}.{forge.good().rpartition('.')[2]}"
    return [f"Bearer {token}".encode()]


class _Matrix:
    """One run: the callers' headers, and the oracle that returns the expected status."""

    def __init__(self, tally: Tally, forge: Forge, *, judge: Judge, auth: LogtoAuth, only: Collection[str]) -> None:
        self._tally = tally
        self._judge = judge
        self._headers = {caller.id: _build_authorization(caller, forge) for caller in CALLERS}
        self.auth = auth
        self.nodes = tuple(node for node in build_nodes(auth) if node.id in only)

    async def ask(self, app: FastAPI, path: str, place: _Place, pair: tuple[Node, Node], rules: Sequence[Rule]) -> None:
        """Send each caller's request and compare."""
        for caller in CALLERS:
            await self.ask_one(app, path, place, pair, rules, caller, self._headers[caller.id])

    async def ask_one(
        self,
        app: FastAPI,
        path: str,
        place: _Place,
        pair: tuple[Node, Node],
        rules: Sequence[Rule],
        caller: Caller,
        authorization: Sequence[bytes],
    ) -> None:
        """Send one request and compare its status with that of the oracle."""
        call = connect if place.is_websocket else send
        reply = await call(app, path, authorization=authorization, headers=_HEADERS)
        expected = self._judge(rules, caller)
        row = f"{caller.id} at {place.name}: {pair[0].id} + {pair[1].id}"
        self._tally.count(row, _find_problem(reply, expected, is_websocket=place.is_websocket))


def _find_problem(reply: Reply, expected: int, *, is_websocket: bool) -> str | None:
    status = 200 if is_websocket and reply.status == ACCEPTED else reply.status
    return None if status == expected else f"expected {expected}, found {status}, raised {reply.raised}"


def _build_path(place: _Place, number: int) -> tuple[str, str]:
    """Return a route's path and the path of a request to it."""
    prefix = f"/{place.name.replace(' ', '-')}/{number}"
    end = "/inside" if place.is_mount else ""
    return f"{prefix}/{{organization_id}}", f"{prefix}/{NAMED_ORGANIZATION}{end}"


async def run_composition(
    tally: Tally,
    forge: Forge,
    *,
    judge: Judge = judge_all,
    auth: LogtoAuth | None = None,
    only: Collection[str] = RULES,
) -> None:
    """Compare each pair of dependencies at each place, for each caller, with the oracle."""
    matrix = _Matrix(tally, forge, judge=judge, auth=auth or build_auth(Provider(forge.jwks())), only=only)
    for one, first in enumerate(matrix.nodes):
        for place in _PLACES:
            # Few routes in each application, because FastAPI searches all of them one after the other.
            app = FastAPI(openapi_url=None, dependencies=[first.marker] if place is _APPLICATION else None)
            matrix.auth.install(app, lifespan=False)
            for number, second in enumerate(matrix.nodes):
                is_other_order = number < one if place.is_ascending else number > one
                if (place.is_mount and second.requirement is None) or (place is not _ROUTE and is_other_order):
                    continue
                path, asked = _build_path(place, number)
                place.add(app, path, first, second)
                rules = [place.adapt(first.rule), place.adapt(second.rule)]
                await matrix.ask(app, asked, place, (first, second), rules)
            if place is _ROUTE:
                await _run_overrides(matrix, app, first)


async def _run_overrides(matrix: _Matrix, app: FastAPI, first: Node) -> None:
    """Run the same routes with overridden dependencies. Only the overridden dependency becomes open."""
    paths = [(second, _build_path(_ROUTE, number)[1]) for number, second in enumerate(matrix.nodes)]
    for caller in CALLERS:
        if caller.credentials != "valid" or caller.audience == "other":
            continue
        with override(app, matrix.auth, build_claims(extra=_list_claims(caller))):
            for second, asked in paths:
                rules = [_take_away_token(first.rule), _take_away_token(second.rule)]
                await matrix.ask_one(app, asked, _OVERRIDDEN, (first, second), rules, caller, [])
    app.dependency_overrides[matrix.auth.require_scopes("read")] = _show
    for second, asked in paths:
        await matrix.ask(app, asked, _OPENED, (first, second), [_open(first), _open(second)])
    app.dependency_overrides.clear()


def _take_away_token(rule: Rule) -> Rule:
    """Return the rule while only `auth` is overridden with claims. The scheme of the other API finds no token."""
    if rule.audience == "api":
        return rule
    # No caller of this place has a token for the other API.
    return Rule(is_open=True) if rule.is_optional and not rule.scopes else Rule(audience="other")


def _open(node: Node) -> Rule:
    return Rule(is_open=True) if node.id in _EQUAL_TO_THE_OVERRIDDEN else node.rule
