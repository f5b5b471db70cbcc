"""Metrics by the API of OpenTelemetry. Until the application sets up an SDK, they do nothing.

Each attribute has few different values, and none comes from a token, a user or a secret. The instruments are created at
import. They record from the time at which the application sets a provider, also in a process that was forked before.
What concerns requests to the provider is in `provider.telemetry`.
"""

from collections.abc import Awaitable, Callable, Coroutine, Mapping
from functools import wraps
from time import perf_counter
from typing import Any, Final, Literal, ParamSpec, TypeAlias, TypeVar

from opentelemetry import metrics

from fastapi_logto.errors import RefusalError

ParamsT = ParamSpec("ParamsT")
ResultT = TypeVar("ResultT")
_Attributes: TypeAlias = dict[str, str | int]

VerificationSource: TypeAlias = Literal["cache", "signature", "introspection"]
"""How a token was verified: from the cache, by its signature, or, if it is opaque, at the provider."""

IntrospectionOutcome: TypeAlias = Literal["accepted", "rejected", "failure"]
"""What the provider says about an opaque token; `failure` if it says nothing."""

RevocationSource: TypeAlias = Literal["call", "webhook", "log", "logout", "store"]
"""Where a revocation came from: a call of the application, a webhook, the delivery log, a back-channel logout, or
another process through the store."""

_meter: Final = metrics.get_meter("fastapi_logto")

# Seconds. An SDK's default boundaries are for milliseconds.
_VERIFICATION_SECONDS: Final = (
    *(0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025),
    *(0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0),
)

_verifications: Final = _meter.create_counter(
    "fastapi_logto.verifications", "{token}", "Tokens that were verified and are valid."
)
_refusals: Final = _meter.create_counter(
    "fastapi_logto.refusals", "{response}", "Error responses to requests that were refused."
)
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

# Built once: the first one is used for each request.
_SOURCES: Final[Mapping[VerificationSource, _Attributes]] = {
    "cache": {"fastapi_logto.source": "cache"},
    "signature": {"fastapi_logto.source": "signature"},
    "introspection": {"fastapi_logto.source": "introspection"},
}


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
