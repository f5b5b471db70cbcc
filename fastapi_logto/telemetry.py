"""Metrics and spans by the API of OpenTelemetry. Until the application sets up an SDK, they do nothing.

Each attribute has few different values, and none comes from a token, a user or a secret. The instruments are created at
import. They record from the time at which the application sets a provider, also in a process that was forked before.
"""

import logging
from collections.abc import Awaitable, Callable, Coroutine, Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import wraps
from time import perf_counter
from typing import Any, Final, Literal, ParamSpec, TypeAlias, TypeVar
from urllib.parse import SplitResult

from opentelemetry import metrics, trace
from opentelemetry.trace import SpanKind, StatusCode

from fastapi_logto.errors import RefusalError
from fastapi_logto.redaction import show_url, split_url

ParamsT = ParamSpec("ParamsT")
ResultT = TypeVar("ResultT")
_Attributes: TypeAlias = dict[str, str | int]

VerificationSource: TypeAlias = Literal["cache", "signature", "introspection"]
"""How a token was verified: from the cache, by its signature, or, if it is opaque, at the provider."""

FetchPurpose: TypeAlias = Literal["discovery", "keys", "introspection", "token", "userinfo", "management", "other"]
"""What a request to the provider is for."""

FetchOutcome: TypeAlias = Literal["success", "failure"]
"""Whether a key fetch returned usable keys."""

IntrospectionOutcome: TypeAlias = Literal["accepted", "rejected", "failure"]
"""What the provider says about an opaque token; `failure` if it says nothing."""

RevocationSource: TypeAlias = Literal["call", "webhook", "log", "logout", "store"]
"""Where a revocation came from: a call of the application, a webhook, the delivery log, a back-channel logout, or
another process through the store."""

_NAME: Final = "fastapi_logto"
_logger: Final = logging.getLogger(_NAME)
_meter: Final = metrics.get_meter(_NAME)
_tracer: Final = trace.get_tracer(_NAME)

# Seconds. An SDK's default boundaries are for milliseconds.
_VERIFICATION_SECONDS: Final = (
    *(0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025),
    *(0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0),
)
_FETCH_SECONDS: Final = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0)

_verifications: Final = _meter.create_counter(
    "fastapi_logto.verifications", "{token}", "Tokens that were verified and are valid."
)
_refusals: Final = _meter.create_counter(
    "fastapi_logto.refusals", "{response}", "Error responses to requests that were refused."
)
_key_fetches: Final = _meter.create_counter("fastapi_logto.key_fetches", "{fetch}", "Fetches of the provider's keys.")
_introspections: Final = _meter.create_counter(
    "fastapi_logto.introspections", "{request}", "Introspection requests for opaque tokens."
)
_revocations: Final = _meter.create_counter(
    "fastapi_logto.revocations", "{revocation}", "Revocations that were applied."
)
_store_failures: Final = _meter.create_counter(
    "fastapi_logto.revocation_store.failures", "{failure}", "Failed operations of the store of revocations."
)
_verification_duration: Final = _meter.create_histogram(
    "fastapi_logto.verification.duration",
    "s",
    "Time to verify a new token by its signature, including the wait for its turn and for keys.",
    explicit_bucket_boundaries_advisory=_VERIFICATION_SECONDS,
)
_fetch_duration: Final = _meter.create_histogram(
    "fastapi_logto.fetch.duration",
    "s",
    "Duration of requests to the provider.",
    explicit_bucket_boundaries_advisory=_FETCH_SECONDS,
)

# Built once: the first one is used for each request.
_SOURCES: Final[Mapping[VerificationSource, _Attributes]] = {
    "cache": {"fastapi_logto.source": "cache"},
    "signature": {"fastapi_logto.source": "signature"},
    "introspection": {"fastapi_logto.source": "introspection"},
}
_PORTS: Final = {"https": 443, "http": 80}
# The paths of Management API URLs contain ids.
_HIDDEN_PATHS: Final[frozenset[FetchPurpose]] = frozenset({"management", "other"})


def count_verification(source: VerificationSource) -> None:
    """Count a token that is valid for the audiences at hand. Scopes are checked later."""
    _verifications.add(1, _SOURCES[source])


def count_refusal(error: RefusalError) -> None:
    """Count an error response."""
    _refusals.add(
        1,
        {
            "fastapi_logto.code": error.code,
            "fastapi_logto.reason": error.reason,
            "http.response.status_code": error.status,
        },
    )


def build_refusal_fields(error: RefusalError) -> dict[str, str | int]:
    """Return the additional fields of the log record of a refusal."""
    claim = {} if error.claim is None else {"logto_claim": error.claim}
    return {"logto_code": error.code, "logto_reason": error.reason, "logto_status": error.status, **claim}


def count_key_fetch(url: str, outcome: FetchOutcome) -> None:
    """Count an attempt to fetch a provider's keys. `url` is that of its discovery document."""
    _key_fetches.add(1, {"fastapi_logto.outcome": outcome, **_read_server(split_url(url))})


def count_introspection(outcome: IntrospectionOutcome) -> None:
    """Count an introspection request that was sent."""
    _introspections.add(1, {"fastapi_logto.outcome": outcome})


def count_revocations(*, source: RevocationSource, count: int = 1) -> None:
    """Count revocations that were applied."""
    if count:
        _revocations.add(count, {"fastapi_logto.source": source})


def count_store_failure() -> None:
    """Count a failed operation of the store of revocations."""
    _store_failures.add(1)


def measure_verification(
    verify: Callable[ParamsT, Awaitable[ResultT]],
) -> Callable[ParamsT, Coroutine[Any, Any, ResultT]]:
    """Return a function that also records how long it takes to verify or refuse a token."""

    @wraps(verify)
    async def measured(*args: ParamsT.args, **kwargs: ParamsT.kwargs) -> ResultT:
        started = perf_counter()
        try:
            verified = await verify(*args, **kwargs)
        except RefusalError as error:
            _verification_duration.record(perf_counter() - started, {"error.type": error.reason})
            raise
        _verification_duration.record(perf_counter() - started)
        return verified

    return measured


@dataclass(slots=True, kw_only=True)
class Fetch:
    """The result of a request, to be set by the code that sends it.

    Attributes:
        status: The HTTP status of the response.
        error_type: Why there is no response; by default the request was cancelled.
    """

    status: int | None = None
    error_type: str = "cancelled"

    def build_attributes(self) -> _Attributes:
        """Return the attributes of the result. A status from 400 is an error, as for any HTTP client."""
        if self.status is None:
            return {"error.type": self.error_type}
        error: _Attributes = {"error.type": str(self.status)} if self.status >= 400 else {}
        return {"http.response.status_code": self.status, **error}


@contextmanager
def measure_fetch(method: str, url: str, *, purpose: FetchPurpose) -> Generator[Fetch]:
    """Record a request to the provider as a span, in the histogram of fetches, and in the log at DEBUG.

    References:
        OpenTelemetry semantic conventions, HTTP client spans.
    """
    parts, result = split_url(url), Fetch()
    if purpose in _HIDDEN_PATHS:
        parts = parts._replace(path="")
    shared: _Attributes = {
        "fastapi_logto.purpose": purpose,
        "http.request.method": method,
        **_read_server(parts),
    }
    # Only URLs whose path is the same for every request are complete.
    full: _Attributes = {"url.full": show_url(parts), "url.template": parts.path} if parts.path else {}
    with _tracer.start_as_current_span(
        f"{method} {parts.path}".rstrip(),
        kind=SpanKind.CLIENT,
        attributes={**shared, **full},
        # A traceback says nothing here that the type of the error does not.
        record_exception=False,
        set_status_on_exception=False,
    ) as span:
        started = perf_counter()
        try:
            yield result
        finally:
            seconds, found = perf_counter() - started, result.build_attributes()
            _fetch_duration.record(seconds, {**shared, **found})
            span.set_attributes(found)
            if "error.type" in found:
                span.set_status(StatusCode.ERROR)
            _logger.debug(
                *("fetch: %s %s: %s after %.3f s", method, show_url(parts)),
                *(result.status or result.error_type, seconds),
                extra={
                    **build_fetch_fields(show_url(parts), result.status),
                    "logto_purpose": purpose,
                    "logto_error": found.get("error.type"),
                    "logto_seconds": seconds,
                },
            )


def build_fetch_fields(
    url: str | None, status: int | None, *, next_try_seconds: float | None = None
) -> dict[str, str | float | None]:
    """Return the additional fields of the log record of a request to the provider."""
    next_try = {} if next_try_seconds is None else {"logto_next_try_seconds": next_try_seconds}
    shown = None if url is None else show_url(split_url(url))
    return {"logto_url": shown, "logto_status": status, **next_try}


def _read_server(parts: SplitResult) -> _Attributes:
    port = parts.port or _PORTS.get(parts.scheme)
    return {"server.address": parts.hostname or "", **({} if port is None else {"server.port": port})}
