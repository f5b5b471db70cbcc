"""Metrics, spans and log fields of requests to the provider; see `fastapi_logto.telemetry`."""

import logging
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from time import perf_counter
from typing import Final, Literal, TypeAlias
from urllib.parse import SplitResult

from opentelemetry import metrics, trace
from opentelemetry.trace import SpanKind, StatusCode

from fastapi_logto.redaction import show_url, split_url

_Attributes: TypeAlias = dict[str, str | int]

FetchPurpose: TypeAlias = Literal["discovery", "keys", "introspection", "token", "userinfo", "management", "other"]
"""What a request to the provider is for."""

FetchOutcome: TypeAlias = Literal["success", "failure"]
"""Whether a key fetch returned usable keys."""

_NAME: Final = "fastapi_logto"
_logger: Final = logging.getLogger(_NAME)
_meter: Final = metrics.get_meter(_NAME)
_tracer: Final = trace.get_tracer(_NAME)

# Seconds. An SDK's default boundaries are for milliseconds.
_FETCH_SECONDS: Final = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0)

_key_fetches: Final = _meter.create_counter("fastapi_logto.key_fetches", "{fetch}", "Fetches of the provider's keys.")
_fetch_duration: Final = _meter.create_histogram(
    "fastapi_logto.fetch.duration",
    "s",
    "Duration of requests to the provider.",
    explicit_bucket_boundaries_advisory=_FETCH_SECONDS,
)

_PORTS: Final = {"https": 443, "http": 80}
# The paths of Management API URLs contain ids.
_HIDDEN_PATHS: Final[frozenset[FetchPurpose]] = frozenset({"management", "other"})


def count_key_fetch(url: str, outcome: FetchOutcome) -> None:
    """Count an attempt to fetch a provider's keys. `url` is that of its discovery document."""
    _key_fetches.add(1, {"fastapi_logto.outcome": outcome, **_read_server(split_url(url))})


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
