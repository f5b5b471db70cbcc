"""Hostile documents of the provider: each leads to a documented status or error, and never admits a token."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Final
from urllib.parse import quote, quote_plus

from fastapi import FastAPI

from fastapi_logto.client import GrantRefusedError, GrantUnavailableError, IssuedToken, LogtoClient
from fastapi_logto.introspection import Introspection
from fastapi_logto.testing import ManualClock
from tests.attack.asgi import Reply, send
from tests.attack.bodies import list_broken
from tests.attack.endpoints import (
    DISCOVERY_ROWS,
    ELSEWHERE_ROWS,
    GRANT_ROWS,
    INTROSPECTION_ROWS,
    OPAQUE_TOKEN,
    SECRET,
    build_grant,
    build_introspection,
)
from tests.attack.key_sets import KEY_SET_ROWS, KeySetRow, list_attacks
from tests.attack.provider import TLS, Document, Provider, build_app, build_auth
from tests.attack.report import Tally
from tests.vectors.forge import ABSENT, API, ENDPOINT, ISSUER_URL, NOW, Forge

_DISCOVERY: Final = f"{ISSUER_URL}/.well-known/openid-configuration"
_JWKS: Final = f"{ISSUER_URL}/jwks"
_TOKEN: Final = f"{ISSUER_URL}/token"
_INTROSPECTION: Final = f"{ISSUER_URL}/token/introspection"
_OWN_URLS: Final = frozenset({_DISCOVERY, _JWKS, _TOKEN, _INTROSPECTION})
_PAST_THE_AGE_SECONDS: Final = 301.0
_LONGEST_WAIT_SECONDS: Final = 1.0
_TURNS_AFTER_THE_FETCH: Final = 5
_TURN_SECONDS: Final = 0.002
_GRANT_ERRORS: Final = (GrantRefusedError, GrantUnavailableError)
_OPAQUE: Final = Introspection(client_id="api", client_secret=SECRET, allowed_clients=["spa"])

Ask = Callable[[], Awaitable[Reply]]


def _ask(app: FastAPI, token: str) -> Ask:
    return lambda: send(app, "/claims", authorization=[f"Bearer {token}".encode()])


def _find_problem(reply: Reply, status: int, reason: str | None = None) -> str | None:
    found = (reply.status, reply.detail.get("reason"))
    if reply.status != status or (reason is not None and found[1] != reason):
        return f"expected {status} {reason or ''}, found {found}, raised {reply.raised}"
    if status == 503 and not reply.headers.get("retry-after", "").isdigit():
        return "a 503 without Retry-After"
    return None


def _find_leak(provider: Provider) -> str | None:
    others = set(provider.asked) - _OWN_URLS
    return f"{len(others)} requests went to a URL that only the document names" if others else None


async def run_documents(tally: Tally, forge: Forge) -> None:
    """Send requests while each document is served, with nothing cached and with the valid documents cached."""
    await run_key_sets(tally, forge, KEY_SET_ROWS)
    broken = [_build_broken(name, document) for name, document in list_broken({"keys": [_publish(forge)]})]
    await run_key_sets(tally, forge, broken)
    await _run_discovery(tally, forge)
    await _run_elsewhere(tally, forge)
    await _run_introspection(tally, forge)
    await _run_grants(tally)


def _publish(forge: Forge) -> dict[str, Any]:
    return dict(forge.ec.as_dict(private=False)) | {"kid": forge.ec.thumbprint(), "use": "sig", "alg": "ES384"}


async def run_key_sets(tally: Tally, forge: Forge, rows: Sequence[KeySetRow]) -> None:
    """Send a valid token and attacks while each key set is served. Then cache a valid key set and send it again."""
    good = _publish(forge)
    for row in rows:
        document = row.build(good, forge)
        provider = Provider({"keys": [good]})
        provider.documents[_JWKS] = document
        app = build_app(build_auth(provider))
        reply = await _ask(app, forge.good())()
        tally.count(f"key set: {row.id}", _find_problem(reply, row.status, row.reason) or _find_leak(provider))
        for number, token in enumerate(list_attacks(forge, row)):
            reply = await _ask(app, token)()
            problem = None if reply.status in {401, 503} else f"found {reply.status}, raised {reply.raised}"
            tally.count(f"key set: {row.id}, attack {number}", problem)
        tally.count(f"key set: {row.id}, after good ones", await _find_warm_problem(row, document, good, forge))


def _build_broken(name: str, document: Document) -> KeySetRow:
    return KeySetRow(
        id=name,
        build=lambda _good, _forge: document,
        status=503,
        reason="provider_unavailable",
        reference="RFC 7517 section 5",
    )


async def _find_warm_problem(row: KeySetRow, document: Document, good: dict[str, Any], forge: Forge) -> str | None:
    """Serve the valid key set, then the one of the row, and wait for the refresh that the next request starts."""
    clock = ManualClock(now=NOW)
    provider = Provider({"keys": [good]})
    app = build_app(build_auth(provider, clock=clock))
    ask = _ask(app, forge.good())
    if problem := _find_problem(await ask(), 200):
        return f"before: {problem}"
    provider.documents[_JWKS] = document
    clock.advance(_PAST_THE_AGE_SECONDS)
    reply = await ask()
    deadline = asyncio.get_running_loop().time() + _LONGEST_WAIT_SECONDS
    turns = 0
    while turns < _TURNS_AFTER_THE_FETCH and asyncio.get_running_loop().time() < deadline:
        await asyncio.sleep(_TURN_SECONDS)
        reply = await ask()
        turns += provider.asked[_JWKS] > 1 and reply.status == row.warm_status
    return _find_problem(reply, row.warm_status) or _find_leak(provider)


def _change(document: Mapping[str, object], changes: Mapping[str, object]) -> dict[str, object]:
    return {name: value for name, value in {**document, **changes}.items() if value is not ABSENT}


async def _run_discovery(tally: Tally, forge: Forge) -> None:
    good = _publish(forge)
    discovery = Provider({}).discovery
    documents = {
        **{name: Document.of(_change(discovery, changes)) for name, changes in DISCOVERY_ROWS.items()},
        **dict(list_broken(discovery)),
    }
    for name, document in documents.items():
        provider = Provider({"keys": [good]})
        provider.documents[_DISCOVERY] = document
        reply = await _ask(build_app(build_auth(provider)), forge.good())()
        tally.count(f"discovery: {name}", _find_problem(reply, 503, "provider_unavailable") or _find_leak(provider))
        tally.count(
            f"discovery: {name}, for a client", await _find_grant_problem(provider, expected=GrantUnavailableError)
        )


async def _run_elsewhere(tally: Tally, forge: Forge) -> None:
    """Serve endpoints at other hosts. The key set is used, and no secret and no token is sent to these hosts."""
    for name, changes in ELSEWHERE_ROWS.items():
        provider = Provider({"keys": [_publish(forge)]})
        provider.documents[_DISCOVERY] = Document.of(_change(provider.discovery, changes))
        app = build_app(build_auth(provider, opaque=_OPAQUE))
        tally.count(f"discovery: {name}", _find_problem(await _ask(app, forge.good())(), 200))
        reply = await _ask(app, OPAQUE_TOKEN)()
        tally.count(f"discovery: {name}, opaque token", _find_problem(reply, 503) or _find_leak(provider))
        problem = await _find_grant_problem(provider, expected=GrantUnavailableError)
        tally.count(f"discovery: {name}, for a client", problem)


async def _run_introspection(tally: Tally, forge: Forge) -> None:
    good = _publish(forge)
    broken = dict(list_broken(build_introspection()))
    # JSON without `active` is a valid response: the token is not active.
    rows: dict[str, tuple[Document, int]] = {
        name: (one, 401 if name == "JSON {}" else 503) for name, one in broken.items()
    }
    rows |= {name: (row.document, row.status) for name, row in INTROSPECTION_ROWS.items()}
    for name, (document, status) in rows.items():
        provider = Provider({"keys": [good]})
        provider.documents[_INTROSPECTION] = document
        app = build_app(build_auth(provider, opaque=_OPAQUE))
        reply = await _ask(app, OPAQUE_TOKEN)()
        tally.count(f"introspection: {name}", _find_problem(reply, status) or _find_leak(provider))


async def _run_grants(tally: Tally) -> None:
    for name, document in list_broken(build_grant()):
        provider = Provider({})
        provider.documents[_TOKEN] = document
        tally.count(f"token endpoint: {name}", await _find_grant_problem(provider, expected=None))
    for name, row in GRANT_ROWS.items():
        provider = Provider({})
        provider.documents[_TOKEN] = row.document
        tally.count(f"token endpoint: {name}", await _find_grant_problem(provider, expected=row.expected))


async def _find_grant_problem(provider: Provider, *, expected: type[Exception | IssuedToken] | None) -> str | None:
    """Request a token; `expected` is the class of the outcome, and `None` means either documented error."""
    client = LogtoClient(
        endpoint=ENDPOINT,
        client_id="api",
        client_secret=SECRET,
        clock=ManualClock(now=NOW),
        http_transport=provider.transport,
        ssl_context=TLS,
    )
    try:
        found: object = await client.get_token(API)
    except Exception as error:  # noqa: BLE001 - the finding itself
        found = error
    if leak := _find_leak(provider):
        return leak
    if isinstance(found, Exception) and _repeats_secret(f"{found} {found!r}"):
        return "the error repeats the secret"
    allowed = _GRANT_ERRORS if expected is None else (expected,)
    return None if isinstance(found, allowed) else f"found {type(found).__name__}"


def _repeats_secret(text: str) -> bool:
    return any(form in text for form in (SECRET, quote(SECRET, safe=""), quote_plus(SECRET)))
