"""Requests that are taken to come from somebody, without any token: the checks behind the verification stay on.

Two things say for which requests: the context of the running code, which FastAPI's and httpx's in-memory
clients carry along to the application; and, where a block was begun outside of any event loop, the thread:
whatever loop runs there runs inside of the block, also one that a fixture started before.

Both are about the running code, and so they are of this module and of no application's.
"""

import asyncio
import threading
from collections.abc import Callable, Iterable, Iterator, MutableMapping
from contextlib import AbstractContextManager
from contextvars import ContextVar
from inspect import Parameter, Signature
from itertools import count
from typing import Any, Final, TypeAlias, cast

from fastapi import Depends
from fastapi.requests import HTTPConnection
from fastapi.security import SecurityScopes
from starlette.types import ASGIApp

from fastapi_logto.answers import build_answer
from fastapi_logto.checks import check_has_organization, check_scopes
from fastapi_logto.claims import ClaimsT, TokenClaims
from fastapi_logto.errors import AudienceError, AuthorizationMissingError, RefusalError
from fastapi_logto.resource_auth import OptionalLogtoAuth, ResourceAuth
from fastapi_logto.routes import find_scheme, iter_routes
from fastapi_logto.schemes import OrganizationScheme, TokenScheme, find_provider

__all__ = ["Entry", "Node", "Override", "find_schemes", "override", "override_schemes"]

Node: TypeAlias = TokenScheme[Any] | OptionalLogtoAuth[Any]
Table: TypeAlias = MutableMapping[Callable[..., Any], Callable[..., Any]]
Override: TypeAlias = Callable[[TokenClaims | RefusalError | None], None]
"""What the fixture `logto_override` gives: a function of what `override` takes last."""


class _OfThread(threading.local):
    def __init__(self) -> None:
        self.blocks: list[_Block] = []


_numbers: Final = count()
_lock: Final = threading.Lock()
_of_context: Final[ContextVar[tuple["_Block", ...]]] = ContextVar("fastapi_logto: overrides", default=())
_of_thread: Final = _OfThread()


def override(
    app: ASGIApp, auth: ResourceAuth[ClaimsT], claims: ClaimsT | RefusalError | None
) -> AbstractContextManager[None]:
    """Have requests to an application be taken for those of a caller with certain claims, without any token.

    ```python
    with override(app, auth, claims(scope="read:user")):
        assert client.get("/user/info").status_code == 200
    ```

    Scopes, organizations and all else that requirements ask for are checked as ever; signature, issuer, times,
    and whether the token was issued for this API are not. All routes of the application and of those mounted in
    it that ask this `auth` are reached. For those of `auth.for_audience(...)`, pass that one.

    Requests of other threads and tasks, begun outside of the block, are verified as ever: tests may run at the
    same time. So are requests over a socket, to a server in a thread of its own, and those of a thread that is
    started inside of the block without its context, which `asyncio.to_thread` hands over and `threading.Thread`
    does not. Blocks may be nested, the inner one counts, and may end in any order. `app.dependency_overrides` is
    afterwards what it was before.

    Args:
        app: The application.
        auth: The scheme that its routes ask.
        claims: What `claims(...)` gives; `None` for a caller who sends no token; or the error to refuse the
            caller with, such as `ProviderUnavailableError()` or `ExpiredTokenError()`.

    Returns:
        A context manager, to be used once.

    Raises:
        TypeError: The claims are of another class than those of `auth`, or none at all.
        ValueError: No route of the application asks this `auth`.
    """
    return override_schemes(app, cast("tuple[Node, ...]", auth.schemes), claims)


def override_schemes(
    app: ASGIApp, schemes: Iterable[Node], given: TokenClaims | RefusalError | None
) -> AbstractContextManager[None]:
    """Do what `override` does, for some nodes.

    Args:
        app: The application.
        schemes: The nodes.
        given: The claims, the refusal, or `None`.

    Raises:
        TypeError: The claims are of another class than those of a node.
        ValueError: No route of the application asks one of the nodes.
    """
    nodes = tuple(schemes)
    value = cast("object", given)
    if not (value is None or isinstance(value, TokenClaims | RefusalError)):
        msg = f"expected what claims(...) gives, None, or an error to refuse with, found {type(value).__name__}"
        raise TypeError(msg)
    for node in nodes:
        model = find_provider(find_scheme(node)).claims_model
        if isinstance(given, TokenClaims) and not isinstance(given, model):
            msg = f"expected claims of {model.__name__}, found {type(given).__name__}; pass claims_model= to claims()"
            raise TypeError(msg)
    return _Block(nodes, list(_find_tables(app, nodes)), given)


def find_schemes(app: ASGIApp) -> tuple[Node, ...]:
    """Give every node that routes of an application ask.

    Args:
        app: The application.
    """
    return tuple(dict.fromkeys(node.call for route in iter_routes(app) for node in route.nodes))


class _Block(AbstractContextManager[None]):
    """The length of an override, and what it gives."""

    def __init__(
        self, nodes: tuple[Node, ...], holders: list[object], given: TokenClaims | RefusalError | None
    ) -> None:
        self.given: Final = given
        self.number = 0
        self.entries: tuple[Entry, ...] = ()
        self.has_ended = False
        self._nodes = nodes
        self._holders = holders
        self._of_thread: list[_Block] | None = None

    def __enter__(self) -> None:
        if self.entries or self.has_ended:
            raise RuntimeError("an override is used once; make another one")
        with _lock:
            self.entries = tuple(_hold(holder, node) for holder in self._holders for node in self._nodes)
        self.number = next(_numbers)
        # No token of the variable: a block may end in another context than it began in, and in any order.
        _of_context.set((*(block for block in _of_context.get() if not block.has_ended), self))
        if not _is_in_loop():
            self._of_thread = _of_thread.blocks
            self._of_thread.append(self)

    def __exit__(self, *_error: object) -> None:
        self.has_ended = True
        with _lock:
            for entry in self.entries:
                entry.release()
        _of_context.set(tuple(block for block in _of_context.get() if not block.has_ended))
        if self._of_thread is not None:
            self._of_thread.remove(self)


class Entry:
    """What stands in an application's `dependency_overrides` in the place of a node.

    FastAPI asks for the signature anew with each request, and so a request outside of every block gets
    that of whatever stood here before.

    Attributes:
        users: How many blocks need it.
        before: What stood in the same place before, and is called for requests outside of every block.
    """

    def __init__(self, node: Node, *, holder: object, before: Callable[..., Any] | None) -> None:
        """Stand nowhere yet.

        Args:
            node: The node.
            holder: The application.
            before: What stood in its place.
        """
        self.users: int = 0
        self._node = node
        self._holder = holder
        self._table = _find_table(holder)
        self.before: Callable[..., Any] | None = before

    @property
    def __signature__(self) -> Signature:
        """What FastAPI reads the parameters from."""
        parameters = [
            Parameter("conn", Parameter.KEYWORD_ONLY, annotation=HTTPConnection),
            Parameter("security_scopes", Parameter.KEYWORD_ONLY, annotation=SecurityScopes),
        ]
        if self.before is not None and self._find_block() is None:
            found: Any = Depends(self.before)
            parameters.append(Parameter("found", Parameter.KEYWORD_ONLY, default=found, annotation=Any))
        return Signature(parameters)

    async def __call__(self, *, conn: HTTPConnection, security_scopes: SecurityScopes, **found: object) -> object:
        """Give what the node would give. FastAPI calls this."""
        block = self._find_block()
        if block is None:
            # Without `found`, the block ended while the request was on its way here.
            return found["found"] if found else await self._node(conn, security_scopes)
        try:
            return self._admit(block.given, security_scopes.scopes)
        except RefusalError as error:
            raise build_answer(error, conn=conn, resource_metadata=find_scheme(self._node).resource_metadata) from error

    def release(self) -> None:
        """Put back what stood here, unless a block is left or somebody else put something here."""
        self.users -= 1
        if self.users:
            return
        # The application may have got another table meanwhile, perhaps a copy of the first.
        for table in (self._table, _find_table(self._holder)):
            found: object = table.get(self._node)
            if found is not self:
                continue
            if self.before is None:
                del table[self._node]
            else:
                table[self._node] = self.before

    def _find_block(self) -> _Block | None:
        blocks: Iterable[_Block] = (*_of_context.get(), *_of_thread.blocks)
        visible = (block for block in blocks if not block.has_ended and self in block.entries)
        return max(visible, key=lambda block: block.number, default=None)

    def _admit(self, given: TokenClaims | RefusalError | None, scopes: list[str]) -> TokenClaims | None:
        if isinstance(given, RefusalError):
            raise given.with_traceback(None)
        if given is None:
            if isinstance(self._node, OptionalLogtoAuth) and not scopes:
                return None
            raise AuthorizationMissingError
        if isinstance(self._node, OrganizationScheme):
            check_has_organization(given)
        elif given.is_organization_token:
            raise AudienceError(claim="aud", expected="an API", found="an organization")
        if scopes:
            check_scopes(given, scopes)
        # Of the request's own, as from a token: a model of the application's may have lists.
        return given.model_copy(deep=True)


def _hold(holder: object, node: Node) -> Entry:
    table = _find_table(holder)
    entry = table.get(node)
    if not isinstance(entry, Entry):
        entry = table[node] = Entry(node, holder=holder, before=entry)
    entry.users += 1
    return entry


def _find_tables(app: ASGIApp, nodes: tuple[Node, ...]) -> Iterator[object]:
    """Give what holds the overrides of the routes that ask one of the nodes, each once."""
    holders: dict[int, object] = {}
    wanted = set(nodes)
    for route in iter_routes(app):
        if wanted.isdisjoint(node.call for node in route.nodes):
            continue
        holder = route.owner
        if not hasattr(holder, "dependency_overrides"):
            # A router by itself may belong to an application.
            holder = getattr(holder, "dependency_overrides_provider", None)
        if holder is None:
            raise ValueError(
                f"{route.path}: expected a FastAPI application above it, found a router of no application, whose "
                "dependencies can't be overridden"
            )
        holders[id(holder)] = holder
    if not holders:
        raise ValueError("expected an application of which some route asks this auth, found none; is it another one?")
    yield from holders.values()


def _find_table(holder: object) -> Table:
    return cast("Any", holder).dependency_overrides  # type: ignore[no-any-return]


def _is_in_loop() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True
