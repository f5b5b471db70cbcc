"""Check one token step by step, with the functions that check the token of a request."""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Final

from pydantic import SecretStr

from fastapi_logto.cli.doctor.advice import build_advice, build_exchange_advice
from fastapi_logto.cli.results import Check, Section
from fastapi_logto.cli.times import describe_time
from fastapi_logto.clock import Clock
from fastapi_logto.errors import (
    AlgorithmError,
    AudienceError,
    ExpiredTokenError,
    IdTokenError,
    ImmatureTokenError,
    IssuerError,
    OpaqueTokenError,
    RefusalError,
    TokenTypeError,
)
from fastapi_logto.provider.discovery import build_metadata_source
from fastapi_logto.provider.key_source import KeySource, build_key_source
from fastapi_logto.provider.transport import Transport
from fastapi_logto.redaction import quote
from fastapi_logto.settings import LogtoSettings
from fastapi_logto.verification.bearer import parse_authorization
from fastapi_logto.verification.checks import check_claims, check_scopes
from fastapi_logto.verification.claims import TokenClaims, parse_claims
from fastapi_logto.verification.jws import UnverifiedJws, check_size, is_personal, parse_unverified
from fastapi_logto.verification.signatures import verify_with_any

_STEPS: Final = (
    "Characters", "Size", "Shape", "Algorithm", "Type", "Key", "Signature", "Claims", "Issuer", "Audience", "Expiry",
    "Not before", "Scopes",
)  # fmt: skip

_NO_SCOPE: Final = (
    "Sufficient only for Depends(auth). To get scopes, give the user or machine a role with permissions of this API in "
    "the console, and request the scopes in the client."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenReport:
    """The checks of a token. Warnings count as passed: `is_admitted` only means that no check failed or was skipped."""

    section: Section
    is_verified: bool
    is_admitted: bool


class _Rows:
    """The rows of the checks; a row is skipped until its check runs."""

    def __init__(self, settings: LogtoSettings) -> None:
        self._settings = settings
        self._rows = {name: Check(name=name, status="skipped") for name in _STEPS}

    def __getitem__(self, name: str) -> Check:
        return self._rows[name]

    def passed(self, name: str, found: str) -> None:
        self._rows[name] = Check(name=name, status="ok", found=found)

    def warn(self, name: str, found: str, advice: str) -> None:
        self._rows[name] = Check(name=name, status="warning", found=found, advice=advice)

    def failed(self, name: str, error: RefusalError, found: str = "", advice: str = "") -> None:
        parts = [text for text in (error.expected and f"expected {error.expected}", _found(error)) if text]
        self._rows[name] = Check(
            name=name,
            status="failed",
            found=found or ", ".join(parts) or error.message,
            advice=advice or build_advice(error, self._settings),
            reason=error.reason,
        )

    def build(self) -> tuple[Check, ...]:
        return tuple(self._rows.values())


def _found(error: RefusalError) -> str:
    return "" if error.found is None else f"found {error.found}"


async def check_token(
    token: str, *, settings: LogtoSettings, has_keys: bool, scopes: Collection[str] = (), clock: Clock | None = None
) -> TokenReport:
    """Run every check of a request on a token. The token is not sent anywhere; only the keys are fetched.

    Without `has_keys`, the keys of the tenant are known to be unavailable and are not fetched again. All `scopes` are
    required.
    """
    clock = clock or Clock()
    rows = _Rows(settings)
    claims = None
    unverified = _check_outside(token, settings, rows)
    if unverified is not None and has_keys:
        claims = await _check_signature(unverified, settings, rows, clock=clock)
    if claims is not None:
        _check_inside(claims, settings, rows, now=clock.now())
        _check_scopes(claims, scopes, rows)
    checks = rows.build()
    return TokenReport(
        section=Section(title="Token", checks=checks),
        is_verified=rows["Signature"].status == "ok",
        is_admitted=all(check.status in {"ok", "warning"} for check in checks),
    )


def _check_outside(token: str, settings: LogtoSettings, rows: _Rows) -> UnverifiedJws | None:
    """Run the checks that need no key."""
    step = "Characters"
    try:
        secret = parse_authorization([f"Bearer {token}".encode("utf-8", "replace")])
        rows.passed(step, "valid for a bearer token")
        step = "Size"
        check_size(secret, max_bytes=settings.max_token_bytes)
        rows.passed(step, f"{len(token)} of at most {settings.max_token_bytes} bytes")
        step = "Shape"
        types = [one.lower() for one in settings.token_types]
        unverified = parse_unverified(secret, algorithms=settings.algorithms, token_types=types)
    except OpaqueTokenError:
        exchanges = is_personal(SecretStr(token))
        error = OpaqueTokenError(resources=settings.audience, is_personal=exchanges)
        if exchanges:
            advice = build_exchange_advice(settings.audience[0])
            rows.failed(step, error, found="a personal access token, not an access token", advice=advice)
        else:
            rows.failed(step, error)
    except AlgorithmError as error:
        rows.passed("Shape", "three parts, valid header")
        rows.failed("Algorithm", error)
    except (IdTokenError, TokenTypeError) as error:
        rows.passed("Shape", "three parts, valid header")
        rows.passed("Algorithm", f"one of {', '.join(settings.algorithms)}")
        rows.failed("Type", error)
    except RefusalError as error:
        rows.failed(step, error)
    else:
        rows.passed("Shape", "three parts, valid header")
        rows.passed("Algorithm", unverified.alg)
        rows.passed("Type", unverified.typ or "absent")
        return unverified
    return None


async def _check_signature(
    unverified: UnverifiedJws, settings: LogtoSettings, rows: _Rows, *, clock: Clock
) -> TokenClaims | None:
    step = "Key"
    try:
        keys = await _build_keys(settings, clock).find(kid=unverified.kid, alg=unverified.alg)
        rows.passed(step, f"kid {quote(unverified.kid)}")
        step = "Signature"
        payload, key = verify_with_any(unverified, keys)
        rows.passed(step, f"valid, checked with {'OpenSSL' if key.aws_lc is None else 'AWS-LC'}")
        step = "Claims"
        claims = parse_claims(payload, model=TokenClaims, required=settings.required_claims)
    except RefusalError as error:
        rows.failed(step, error)
        return None
    rows.passed(step, "all required claims are present")
    return claims


def _build_keys(settings: LogtoSettings, clock: Clock) -> KeySource:
    transport = Transport(timeout_seconds=settings.fetch_timeout_seconds)
    metadata = build_metadata_source(settings, transport=transport, clock=clock)
    return build_key_source(settings, metadata=metadata, transport=transport, clock=clock)


def _check_inside(claims: TokenClaims, settings: LogtoSettings, rows: _Rows, *, now: float) -> None:
    """Check each claim separately, so that one failure does not hide another."""

    def check(
        kind: type[RefusalError], *, issuers: Collection[str] = (claims.iss,), audiences: frozenset[str] | None = None
    ) -> RefusalError | None:
        leeway = settings.leeway_seconds
        try:
            check_claims(claims, issuers=issuers, audiences=audiences, now=now, leeway_seconds=leeway)
        except RefusalError as error:
            return error if isinstance(error, kind) else None
        return None

    found = {
        "Issuer": check(IssuerError, issuers=settings.accepted_issuers),
        "Audience": check(AudienceError, audiences=frozenset(settings.audience)),
        "Expiry": check(ExpiredTokenError),
        "Not before": check(ImmatureTokenError),
    }
    valid = {
        "Issuer": claims.iss,
        "Audience": ", ".join(sorted(claims.audiences)),
        "Expiry": describe_time(claims.exp, now=now),
        "Not before": "" if claims.iat is None else f"issued {describe_time(claims.iat, now=now)}",
    }
    for name, error in found.items():
        if error is not None and name == "Audience" and claims.is_organization_token:
            rows.warn(
                name,
                f"{valid[name]}: an organization token",
                "Only routes that require an organization accept it: Depends(auth.require_organization(...)). "
                "For other routes, request an API resource in the client.",
            )
        elif isinstance(error, ExpiredTokenError | ImmatureTokenError):
            # Seconds since the epoch are hard to read.
            moment = describe_time(getattr(claims, error.claim or "exp"), now=now)
            rows.failed(name, error, found=f"{error.claim} is {moment}")
        elif error is not None:
            rows.failed(name, error)
        else:
            rows.passed(name, quote(valid[name])[1:-1])


def _check_scopes(claims: TokenClaims, scopes: Collection[str], rows: _Rows) -> None:
    granted = quote(" ".join(sorted(claims.scopes)))[1:-1]
    try:
        check_scopes(claims, scopes)
    except RefusalError as error:
        rows.failed("Scopes", error)
        return
    if not claims.scopes:
        rows.warn("Scopes", "none", _NO_SCOPE)
        return
    rows.passed("Scopes", granted)
