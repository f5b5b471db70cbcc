"""How the CPU time of a request grows with the size of the application: `python -m benchmarks growth`.

Each dimension grows tenfold several times. The application is called as ASGI in this process, as in `in_process`. The
rounds of all sizes are interleaved, and the ratio to the smallest size is computed within each round. The smallest
size is built twice: the ratio between the two is the noise.
"""

import asyncio
import random
import statistics
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, Final

from fastapi import Depends, FastAPI, Security
from fastapi.security import SecurityScopes

from benchmarks.common import AUDIENCE
from benchmarks.in_process import call
from benchmarks.provider import BenchProvider
from fastapi_logto import LogtoAuth
from fastapi_logto.revocation import Revocations
from fastapi_logto.settings import Algorithm, LogtoSettings, SettingsOptions

_ALGORITHM: Final[Algorithm] = "ES256"
_CALLS: Final = 40


@dataclass(frozen=True, slots=True, kw_only=True)
class _Subject:
    """An application of one size, and the tokens that are sent to it."""

    app: FastAPI
    tokens: Sequence[str]
    path: str = "/protected"
    status: int = 200

    async def request(self, token: str) -> None:
        """Send one request."""
        await call(self.app, token, path=self.path, status=self.status)


_Build = Callable[[int, ExitStack], Awaitable[_Subject]]


def _add_route(app: FastAPI, dependency: Any, path: str = "/protected") -> None:
    @app.get(path, dependencies=[] if dependency is None else [Depends(dependency)])
    async def route() -> dict[str, str]:
        return {"hello": "world"}


def _build_app(dependency: Any) -> FastAPI:
    app = FastAPI()
    _add_route(app, dependency)
    return app


def _serve(stack: ExitStack, *, keys: int = 1) -> BenchProvider:
    return stack.enter_context(BenchProvider(_ALGORITHM, keys=keys))


def _options(*, is_cached: bool) -> SettingsOptions:
    # Without a cache, each token is verified as a new one.
    return {"algorithms": [_ALGORITHM], "token_cache_size": 100_000 if is_cached else 0, "token_cache_bytes": 2**30}


def _build_auth(
    provider: BenchProvider, *, is_cached: bool = True, revocations: Revocations | None = None
) -> LogtoAuth:
    return LogtoAuth(
        endpoint=provider.endpoint, audience=AUDIENCE, revocations=revocations, **_options(is_cached=is_cached)
    )


async def _hold_tokens(size: int, stack: ExitStack) -> _Subject:
    provider = _serve(stack)
    return _Subject(app=_build_app(_build_auth(provider)), tokens=[provider.mint() for _ in range(size)])


def _hold_keys(*, is_cached: bool) -> _Build:
    async def build(size: int, stack: ExitStack) -> _Subject:
        provider = _serve(stack, keys=size)
        return _Subject(app=_build_app(_build_auth(provider, is_cached=is_cached)), tokens=[provider.mint()])

    return build


def _name_scopes(count: int) -> list[str]:
    # Short, because a token with a thousand must not be longer than the limit.
    return [f"r:{number:04d}" for number in range(count)]


def _grant_scopes(*, is_cached: bool) -> _Build:
    async def build(size: int, stack: ExitStack) -> _Subject:
        provider, scopes = _serve(stack), _name_scopes(size)
        auth = _build_auth(provider, is_cached=is_cached)
        return _Subject(app=_build_app(auth.require_scopes(scopes[-1])), tokens=[provider.mint(scope=" ".join(scopes))])

    return build


async def _require_scopes(size: int, stack: ExitStack) -> _Subject:
    provider = _serve(stack)
    requirement = _build_auth(provider).require_scopes(*_name_scopes(size))
    return _Subject(app=_build_app(requirement), tokens=[provider.mint(scope=" ".join(_name_scopes(1000)))])


async def _require_scopes_of_nobody(size: int, stack: ExitStack) -> _Subject:
    async def collect(security_scopes: SecurityScopes) -> None:
        pass

    app = FastAPI(dependencies=[Security(collect, scopes=_name_scopes(size))])
    _add_route(app, None)
    return _Subject(app=app, tokens=[_serve(stack).mint()])


def _add_routes(*, is_first: bool = False, is_protected: bool = True) -> _Build:
    async def build(size: int, stack: ExitStack) -> _Subject:
        provider = _serve(stack)
        auth = _build_auth(provider) if is_protected else None
        app, paths = FastAPI(), [f"/route{number}" for number in range(size)]
        for path in paths:
            _add_route(app, auth, path)
        return _Subject(app=app, tokens=[provider.mint()], path=paths[0 if is_first else -1])

    return build


def _add_tenants(*, is_cached: bool = True, is_known: bool = True) -> _Build:
    async def build(size: int, stack: ExitStack) -> _Subject:
        provider = _serve(stack)
        endpoints = [f"{provider.endpoint}/tenant{number}" for number in range(size)]
        options = _options(is_cached=is_cached)
        auth = LogtoAuth(settings=[LogtoSettings(endpoint=one, audience=AUDIENCE, **options) for one in endpoints])
        token = provider.mint(iss=f"{endpoints[-1] if is_known else 'https://unknown.test'}/oidc")
        return _Subject(app=_build_app(auth), tokens=[token], status=200 if is_known else 401)

    return build


async def _revoke(size: int, stack: ExitStack) -> _Subject:
    provider, revocations = _serve(stack), Revocations()
    auth = _build_auth(provider, revocations=revocations)
    for number in range(size):
        await revocations.revoke(user_id=f"user{number:08d}")
    return _Subject(app=_build_app(auth), tokens=[provider.mint()])


_DIMENSIONS: Final[dict[str, tuple[Sequence[int], _Build]]] = {
    "cached tokens": ((10, 100, 1000, 10_000), _hold_tokens),
    "keys in the key set, cached token": ((1, 10, 100), _hold_keys(is_cached=True)),
    "keys in the key set, new token": ((1, 10, 100), _hold_keys(is_cached=False)),
    "scopes in the token, cached token": ((1, 10, 100, 1000), _grant_scopes(is_cached=True)),
    "scopes in the token, new token": ((1, 10, 100, 1000), _grant_scopes(is_cached=False)),
    "scopes required, of a token with 1000": ((1, 10, 100, 1000), _require_scopes),
    "scopes required by FastAPI's `Security`, unprotected": ((1, 10, 100, 1000), _require_scopes_of_nobody),
    "routes, request of the first": ((10, 100, 1000), _add_routes(is_first=True)),
    "routes, request of the last": ((10, 100, 1000), _add_routes()),
    "unprotected routes, request of the last": ((10, 100, 1000), _add_routes(is_protected=False)),
    "tenants, cached token of the last": ((1, 10, 100, 1000), _add_tenants()),
    "tenants, new token of the last": ((1, 10, 100, 1000), _add_tenants(is_cached=False)),
    "tenants, token of an unknown one": ((10, 100, 1000), _add_tenants(is_known=False)),
    "revocations, cached token": ((100, 1000, 10_000, 100_000), _revoke),
}


async def _time(subject: _Subject) -> float:
    """Return the CPU time of a request in microseconds."""
    tokens = random.choices(subject.tokens, k=_CALLS)
    start = time.process_time()
    for token in tokens:
        await subject.request(token)
    return (time.process_time() - start) / _CALLS * 1e6


async def _measure(sizes: Sequence[int], build: _Build, *, rounds: int) -> dict[str, Any]:
    with ExitStack() as stack:
        # The first one twice.
        subjects = [await build(size, stack) for size in (sizes[0], *sizes)]
        for subject in subjects:
            for token in subject.tokens:
                await subject.request(token)
            await _time(subject)
        samples: list[list[float]] = []
        for _ in range(rounds):
            found = dict.fromkeys(range(len(subjects)), 0.0)
            for number in random.sample(list(found), len(found)):
                found[number] = await _time(subjects[number])
            samples.append(list(found.values()))
    again, *costs = zip(*samples, strict=True)
    smallest = costs[0]
    return {
        "sizes": list(sizes),
        "ratios": [_find_ratio(cost, smallest) for cost in costs],
        "microseconds": [statistics.median(cost) for cost in costs],
        "noise": _find_ratio(again, smallest),
    }


def _find_ratio(cost: Sequence[float], smallest: Sequence[float]) -> float:
    return statistics.median(one / other for one, other in zip(cost, smallest, strict=True))


def measure_growth(*, rounds: int = 60) -> dict[str, Any]:
    """Measure each dimension.

    Returns:
        By dimension: its sizes; the CPU time of a request over that with the smallest size; the CPU time in
        microseconds; and the ratio between two applications of the smallest size.
    """
    return {name: asyncio.run(_measure(sizes, build, rounds=rounds)) for name, (sizes, build) in _DIMENSIONS.items()}
