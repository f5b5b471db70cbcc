"""Compare the records of the handlers and the responses with the verdict on each request."""

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final, cast

from tests.prove.fuzz_credentials import Verdict, has_access
from tests.prove.fuzz_requests import Case, Exchange
from tests.prove.fuzz_wire import Reply

_SWITCHING: Final = 101
# The library `websockets` ends a handshake that it can't parse before the application is called: with 500 for a header
# that is not ASCII, and with the header in the body.
_OF_THE_SERVER: Final = b"Failed to open a WebSocket connection"
_ACCEPTED: Final = frozenset({200, 204, _SWITCHING})
# The statuses that a server sends for a request that it can't parse.
_SERVER_ERRORS: Final = frozenset({501, 505})


def find_record_problem(case: Case, records: Sequence[Mapping[str, Any]]) -> str | None:
    """Return what is wrong with the records of a request."""
    if not records and case.verdict is Verdict.MUST:
        return f"{case.route} did not run"
    if len(records) > 1:
        return f"{len(records)} handlers ran"
    for record in records:
        route, subject, named = str(record["route"]), record["subject"], cast("list[str]", record["named"])
        if subject is None:
            if route == "optional" and case.is_anonymous:
                continue
            return f"{route} ran without a caller"
        if case.verdict is Verdict.NEVER or case.token is None:
            return f"{route} ran, and there is not exactly one valid token"
        if subject != case.token.subject:
            return f"{route} ran for the caller of another request"
        if route == "webhook":
            continue
        if not has_access(case.token, route, record["checked"]):
            return f"{route} ran, which the token does not open"
        if route == "organization" and (not named or set(named) != {record["checked"]}):
            return f"the handler sees the organization {named!r}, and {record['checked']!r} was checked"
    return None


def find_reply_problem(exchange: Exchange, replies: Sequence[Reply], data: bytes) -> str | None:
    """Return what is wrong with the responses on a connection."""
    if any(reply.body.startswith(_OF_THE_SERVER) for reply in replies):
        return None
    allowed = {503} if any(case.can_be_unavailable for case in exchange.cases) else set[int]()
    for place, reply in enumerate(replies):
        if reply.status >= 500 and reply.status not in _SERVER_ERRORS | allowed:
            return f"status {reply.status}"
        identifier = _find_case(reply)
        if identifier is not None and (place >= len(exchange.cases) or identifier != exchange.cases[place].id):
            return f"response {place} is that of another request"
    for place, case in enumerate(exchange.cases):
        if case.verdict is Verdict.MUST:
            found = replies[place].status if place < len(replies) else None
            if found not in _ACCEPTED:
                return f"expected that {case.route} runs, found {found}"
    return find_echo(exchange.secrets, data)


def find_echo(secrets: Sequence[bytes], data: bytes) -> str | None:
    """Return whether bytes repeat a token. The framework puts the query into the location of a redirect."""
    lines = b"\n".join(line for line in data.split(b"\n") if not line.lower().startswith(b"location:"))
    return "a token is repeated" if any(secret in lines for secret in secrets) else None


def _find_case(reply: Reply) -> str | None:
    if reply.status == _SWITCHING:
        return None
    try:
        document: Any = json.loads(reply.body)
    except ValueError:
        return None
    return cast("dict[str, Any]", document).get("case") if isinstance(document, dict) else None
