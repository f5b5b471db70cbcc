"""Run requests as a caller without a token. The checks after the verification stay active.

An override applies to the context of the running code, which the in-memory clients of FastAPI and httpx pass on to
the application. If a block starts outside an event loop, it also applies to the thread: to every loop that runs there
inside the block, including one that a fixture started before.

Both belong to the running code, so they are stored in this module and not in an application.
"""

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

from fastapi_logto.auth import LogtoAuth
from fastapi_logto.caller import remember_caller
from fastapi_logto.description.routes import TestOverride, iter_routes
from fastapi_logto.errors import AudienceError, AuthorizationMissingError, RefusalError
from fastapi_logto.responses import build_http_error
from fastapi_logto.schemes import (
    AnyScheme,
    OptionalScheme,
    OrganizationScheme,
    check_route,
    find_metadata_url,
    find_scheme,
    find_state,
)
from fastapi_logto.single_flight import is_on_loop
from fastapi_logto.state import AuthState
from fastapi_logto.verification.claims import ClaimsT, TokenClaims

Node: TypeAlias = AnyScheme[Any]
Table: TypeAlias = MutableMapping[Callable[..., Any], Callable[..., Any]]
Override: TypeAlias = Callable[[TokenClaims | RefusalError | None], None]
"""The function that the fixture `logto_override` returns. It takes the last argument of `override`."""


class _OfThread(threading.local):
    def __init__(self) -> None:
        self.blocks: list[_Block] = []


_numbers: Final = count()
_lock: Final = threading.Lock()
_of_context: Final[ContextVar[tuple["_Block", ...]]] = ContextVar("fastapi_logto: overrides", default=())
_of_thread: Final = _OfThread()


def override(
    app: ASGIApp, auth: LogtoAuth[ClaimsT], claims: ClaimsT | RefusalError | None
) -> AbstractContextManager[None]:
    """Make requests to the app run as a caller with these claims, without a token.

    ```python
    with override(app, auth, claims(scopes=["read:user"])):
        assert client.get("/user/info").status_code == 200
    ```

    Scopes, organizations and all other requirements are checked. Signature, issuer, times and audience are **not**
    checked. The override applies to all routes of the application and its mounted apps that depend on this `auth`.
    For routes that use `auth.for_audience(...)`, pass that object.

    Requests of threads and tasks that started outside the block are verified as usual, so tests can run concurrently.
    Requests over a socket to a server in another thread are also verified as usual. So are requests of a thread that
    is started inside the block without its context: `asyncio.to_thread` passes the context on, `threading.Thread` does
    not. Blocks can be nested, and can end in any order; the innermost block applies. At the end,
    `app.dependency_overrides` is restored.

    Args:
        app: The application.
        auth: The `LogtoAuth` that its routes depend on.
        claims: The result of `claims(...)`; `None` for a caller without a token; or an error to reject the caller
            with, e.g. `ProviderUnavailableError()` or `ExpiredTokenError()`.

    Returns:
        A context manager that can be used once.

    Raises:
        TypeError: The claims are not of the class of `auth`, or are not claims at all.
        ValueError: No route of the application depends on this `auth`.
    """
    return override_schemes(app, cast("tuple[Node, ...]", auth.schemes), claims)


def override_schemes(
    app: ASGIApp, schemes: Iterable[Node], given: TokenClaims | RefusalError | None
) -> AbstractContextManager[None]:
    """Do the same as `override` for the given nodes."""
    nodes = tuple(schemes)
    value = cast("object", given)
    if not (value is None or isinstance(value, TokenClaims | RefusalError)):
        msg = f"expected the result of claims(...), None, or a RefusalError, found {type(value).__name__}"
        raise TypeError(msg)
    for node in nodes:
        model = find_state(node).claims_model
        if isinstance(given, TokenClaims) and not isinstance(given, model):
            msg = f"expected claims of {model.__name__}, found {type(given).__name__}; pass claims_model= to claims()"
            raise TypeError(msg)
    return _Block(nodes, list(_find_tables(app, nodes)), given)


def find_schemes(app: ASGIApp) -> tuple[Node, ...]:
    """Return every node that the routes of an application depend on."""
    return tuple(dict.fromkeys(scheme for route in iter_routes(app) for scheme in route.schemes))


def find_providers(target: LogtoAuth[Any] | ASGIApp) -> tuple[AuthState[Any], ...]:
    """Return the provider of a scheme, or the providers of all schemes that an application's routes use."""
    if isinstance(target, LogtoAuth):
        return (find_state(target),)
    found = tuple(dict.fromkeys(find_state(node) for node in find_schemes(target)))
    if not found:
        raise ValueError("expected a LogtoAuth, or an application with a route that depends on one, found neither")
    return found


class _Block(AbstractContextManager[None]):
    """One use of `override` and its value."""

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
            raise RuntimeError("expected an override that was not used yet, found a used one; call override() again")
        with _lock:
            self.entries = tuple(_hold(holder, node) for holder in self._holders for node in self._nodes)
        self.number = next(_numbers)
        # `ContextVar.reset` can't be used: blocks may end in any order and in another context.
        _of_context.set((*(block for block in _of_context.get() if not block.has_ended), self))
        if not is_on_loop():
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


class Entry(TestOverride):
    """The replacement of a node in an application's `dependency_overrides`.

    FastAPI reads the signature for each request. A request outside every block gets that of `before`, the previous
    entry. `users` is the number of blocks that use this one.
    """

    def __init__(self, node: Node, *, holder: object, before: Callable[..., Any] | None) -> None:
        """Create an entry that is not registered yet."""
        self.users: int = 0
        self._node = node
        self._holder = holder
        self._table = _find_table(holder)
        self.before = before

    @property
    def __signature__(self) -> Signature:
        """The parameters that FastAPI injects."""
        parameters = [
            Parameter("conn", Parameter.KEYWORD_ONLY, annotation=HTTPConnection),
            Parameter("security_scopes", Parameter.KEYWORD_ONLY, annotation=SecurityScopes),
        ]
        if self.before is not None and self._find_block() is None:
            found: Any = Depends(self.before)
            parameters.append(Parameter("found", Parameter.KEYWORD_ONLY, default=found, annotation=Any))
        return Signature(parameters)

    async def __call__(self, *, conn: HTTPConnection, security_scopes: SecurityScopes, **found: object) -> object:
        """Return the value for the node. FastAPI calls this."""
        block = self._find_block()
        if block is None:
            # `found` is missing if the block ended after FastAPI read the signature.
            return found["found"] if found else await self._node(conn, security_scopes)
        try:
            claims = self._admit(block.given, security_scopes.scopes)
        except RefusalError as error:
            raise build_http_error(
                error, conn=conn, scopes=security_scopes.scopes, resource_metadata=find_metadata_url(self._node, conn)
            ) from error
        if claims is not None:
            remember_caller(conn, claims)
        return claims

    def release(self) -> None:
        """Restore the previous entry, unless a block still uses this one or it was replaced."""
        self.users -= 1
        if self.users:
            return
        # The application's table may have been replaced since, e.g. with a copy.
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
            if isinstance(self._node, OptionalScheme) and not scopes:
                return None
            raise AuthorizationMissingError
        scheme = find_scheme(self._node)
        if given.is_organization_token and not isinstance(scheme, OrganizationScheme):
            raise AudienceError(claim="aud", expected="an API", found="an organization")
        check_route(scheme, given, scopes)
        # Each request gets a copy, as from a token: a model may contain lists that a handler changes.
        return given.model_copy(deep=True)


def _hold(holder: object, node: Node) -> Entry:
    table = _find_table(holder)
    entry = table.get(node)
    if not isinstance(entry, Entry):
        entry = table[node] = Entry(node, holder=holder, before=entry)
    entry.users += 1
    return entry


def _find_tables(app: ASGIApp, nodes: tuple[Node, ...]) -> Iterator[object]:
    """Yield the applications that hold the overrides for routes with one of the nodes, each once."""
    holders: dict[int, object] = {}
    wanted = set(nodes)
    for route in iter_routes(app):
        if wanted.isdisjoint(route.schemes):
            continue
        holder = route.owner
        if not hasattr(holder, "dependency_overrides"):
            # A router may belong to an application.
            holder = getattr(holder, "dependency_overrides_provider", None)
        if holder is None:
            raise ValueError(
                f"{route.path}: expected a route of a FastAPI application, found a router without one, whose "
                "dependencies can't be overridden; include the router in an application"
            )
        holders[id(holder)] = holder
    if not holders:
        raise ValueError(
            "expected an application with a route that depends on this auth, found none; pass the auth of its routes"
        )
    yield from holders.values()


def _find_table(holder: object) -> Table:
    return cast("Any", holder).dependency_overrides  # type: ignore[no-any-return]
