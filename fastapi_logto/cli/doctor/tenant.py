"""Check the tenant: connection, discovery document, clock, issuer and keys."""

import math
import ssl
import time
from collections.abc import Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from ipaddress import ip_address
from typing import Final
from urllib.parse import urlsplit

from fastapi_logto.cli.doctor.dns import find_proxy, resolve
from fastapi_logto.cli.doctor.keys import check_keys
from fastapi_logto.cli.requests import send
from fastapi_logto.cli.results import Check, Section
from fastapi_logto.cli.times import describe_span
from fastapi_logto.loopback import is_loopback
from fastapi_logto.provider.discovery import build_discovery_url, check_issuer, parse_metadata
from fastapi_logto.provider.failures import ExchangeError, FailedLayer, FetchError
from fastapi_logto.provider.key_set import MAX_KEYS
from fastapi_logto.provider.transport import RawResponse, Request, Transport
from fastapi_logto.settings import LogtoSettings
from fastapi_logto.strict_json import JsonObject, StrictJsonError, parse_object

_OK: Final = 200
_DAY: Final = 24 * 3600
_WARN_DAYS: Final = 14
_NAMES: Final = ("DNS", "TLS", "Discovery", "Clock", "Issuer", "Key set URL", "Key set")
_ADVICE: Final[Mapping[FailedLayer, str]] = {
    "dns": "Correct the host in LOGTO_ENDPOINT (or LOGTO_FETCH_ENDPOINT), or this machine's DNS.",
    "tls": "Fix the certificate, or make this machine trust its authority: SSL_CERT_FILE for this command, "
    "ssl_context= for LogtoAuth.",
    "no_tls": "The certificate is not the cause. Correct scheme and port in LOGTO_ENDPOINT (or LOGTO_FETCH_ENDPOINT): "
    "http:// on this machine; elsewhere, the port of the proxy that terminates TLS.",
    "connection": "Start Logto or correct LOGTO_ENDPOINT. In a container network, set LOGTO_FETCH_ENDPOINT to the URL "
    "that reaches Logto from here. Proxies are set with HTTPS_PROXY and NO_PROXY, for https only.",
    "http": "This URL is not served by Logto: correct LOGTO_ENDPOINT.",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class TenantReport:
    """The checks of the tenant, and whether it has keys that tokens can be verified with."""

    section: Section
    has_keys: bool


class _CheckFailedError(Exception):
    def __init__(self, name: str, *, found: str, advice: str) -> None:
        super().__init__(name)
        self.check: Check = Check(name=name, status="failed", found=found, advice=advice)


def check_tenant(settings: LogtoSettings, transport: Transport) -> TenantReport:
    """Check the tenant, each step only if the step before it passed."""
    checks: list[Check] = []
    try:
        _check_steps(settings, transport, checks)
    except _CheckFailedError as failed:
        checks.append(failed.check)
    done = {check.name for check in checks}
    rows = (*checks, *(Check(name=name, status="skipped") for name in _NAMES if name not in done))
    has_keys = any(check.name == "Key set" and check.status == "ok" for check in rows)
    return TenantReport(section=Section(title="Tenant", checks=rows), has_keys=has_keys)


def _check_steps(settings: LogtoSettings, transport: Transport, checks: list[Check]) -> None:
    url = build_discovery_url(settings.fetch_base)
    checks.append(_check_dns(url, settings))
    response = _fetch("Discovery", url, transport)
    now = time.time()
    checks.append(_check_tls(response, url, now=now))
    document = _read("Discovery", response, url)
    checks.append(Check(name="Discovery", status="ok", found=url))
    checks.append(_check_clock(response, settings, now=now))
    try:
        issuer = check_issuer(document, url=url, issuers=settings.accepted_issuers)
    except FetchError as error:
        raise _refuse("Issuer", error, url) from None
    checks.append(Check(name="Issuer", status="ok", found=issuer))
    try:
        metadata = parse_metadata(
            document,
            url=url,
            issuers=settings.accepted_issuers,
            allowed_jwks_origins=settings.allowed_jwks_origins,
        )
    except FetchError as error:
        raise _refuse("Key set URL", error, url) from None
    checks.append(Check(name="Key set URL", status="ok", found=metadata.jwks_uri))
    response = _fetch("Key set", metadata.jwks_uri, transport)
    entries = _read("Key set", response, metadata.jwks_uri).get("keys")
    if not isinstance(entries, list):
        raise _CheckFailedError("Key set", found="has no list named keys", advice=_ADVICE["http"])
    checks.extend(check_keys(entries[:MAX_KEYS], settings))


def _check_dns(url: str, settings: LogtoSettings) -> Check:
    host = urlsplit(url).hostname or ""
    try:
        return Check(name="DNS", status="skipped", found=f"{ip_address(host)} is an address")
    except ValueError:
        pass
    proxy = find_proxy(url)
    if proxy is not None:
        return Check(name="DNS", status="skipped", found=f"resolved by the proxy {proxy}")
    try:
        addresses = resolve(host, timeout_seconds=settings.fetch_timeout_seconds)
    except ExchangeError as error:
        raise _CheckFailedError("DNS", found=str(error), advice=_ADVICE["dns"]) from None
    return Check(name="DNS", status="ok", found=f"{host}: {', '.join(addresses[:4])}")


def _fetch(name: str, url: str, transport: Transport) -> RawResponse:
    try:
        return send(transport, url, Request())
    except ExchangeError as error:
        name = "TLS" if error.layer in {"tls", "no_tls"} else name
        raise _CheckFailedError(name, found=f"{url}: {error}", advice=_ADVICE[error.layer]) from None


def _read(name: str, response: RawResponse, url: str) -> JsonObject:
    if response.status != _OK:
        found = f"{url}: expected status 200, found {response.status}"
        raise _CheckFailedError(name, found=found, advice=_ADVICE["http"])
    try:
        return parse_object(response.body)
    except StrictJsonError as error:
        raise _CheckFailedError(name, found=f"{url}: {error}", advice=_ADVICE["http"]) from None


def _refuse(name: str, error: FetchError, url: str) -> _CheckFailedError:
    # The package's own message: expected and found, then how to fix it.
    found, _, advice = str(error).removeprefix(f"{url}: ").partition("; ")
    return _CheckFailedError(name, found=found, advice=f"{advice[:1].upper()}{advice[1:]}.")


def _check_tls(response: RawResponse, url: str, *, now: float) -> Check:
    if response.tls is None:
        if is_loopback(urlsplit(url).hostname or ""):
            return Check(name="TLS", status="skipped", found="plain http, only on this machine")
        return Check(
            name="TLS",
            status="warning",
            found="plain http, allowed by LOGTO_ALLOW_HTTP",
            advice="Anyone on the network path can replace the keys: allow plain http only inside a closed network.",
        )
    expires_at = ssl.cert_time_to_seconds(str(response.tls.certificate["notAfter"]))
    days = math.floor((expires_at - now) / _DAY)
    found = f"{response.tls.version}, certificate valid for {days} more days"
    if days < _WARN_DAYS:
        return Check(name="TLS", status="warning", found=found, advice="Renew the certificate.")
    return Check(name="TLS", status="ok", found=found)


def _check_clock(response: RawResponse, settings: LogtoSettings, *, now: float) -> Check:
    try:
        theirs = parsedate_to_datetime(response.headers.get("date", "")).timestamp()
    except (ValueError, OverflowError):
        return Check(name="Clock", status="skipped", found="the response has no Date header to compare with")
    # The header has whole seconds and the response took time, so a difference of one second means nothing.
    ahead = round(now - theirs)
    if abs(ahead) <= settings.leeway_seconds + 1:
        return Check(name="Clock", status="ok", found=f"within {settings.leeway_seconds:g} s of the tenant's")
    word = "ahead of" if ahead > 0 else "behind"
    return Check(
        name="Clock",
        status="failed",
        found=f"this machine is {describe_span(abs(ahead))} {word} the tenant",
        advice="Synchronize this clock or the tenant's with NTP: "
        + (
            "tokens are rejected as expired too early."
            if ahead > 0
            else "new tokens are rejected as not yet valid, and expired ones are accepted for too long."
        ),
    )
