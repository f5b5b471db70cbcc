"""Check what revocation needs: the webhook, its route, its delivery log and the store."""

import hmac
import time
from collections.abc import Collection, Iterator, Mapping
from typing import Final

from fastapi_logto.cli.hooks import POLL_ONLY_URL
from fastapi_logto.cli.loops import run_to_end
from fastapi_logto.cli.machines import MANAGEMENT_CLIENT
from fastapi_logto.cli.requests import send
from fastapi_logto.cli.results import Check, Section
from fastapi_logto.description.routes import iter_routes
from fastapi_logto.errors import LogtoError, SettingsError
from fastapi_logto.provider.failures import ExchangeError
from fastapi_logto.provider.transport import Request, Transport
from fastapi_logto.redaction import quote
from fastapi_logto.revocation.delivery_log import DeliveryLog, find_hook_api
from fastapi_logto.revocation.hook_api import Hook, HookApi, Window, find_problem
from fastapi_logto.revocation.revocations import Revocations, find_sources
from fastapi_logto.revocation.webhooks import SIGNATURE_HEADER
from fastapi_logto.schemes import find_state
from fastapi_logto.settings import LogtoSettings
from fastapi_logto.verification.revocation_store import RevocationStore

_DAY_MS: Final = 24 * 3600 * 1000
_SHOWN: Final = 10
_UNAUTHORIZED, _BAD_REQUEST = 401, 400
# A valid signature of a body that is no event: the route verifies it, and nothing takes effect.
_PROBE: Final = "fastapi-logto doctor"


def find_revocations(app: object) -> tuple[Revocations, ...]:
    """Return what the `LogtoAuth`s of an application check tokens against."""
    states = [find_state(scheme) for route in iter_routes(app) for scheme in route.schemes]
    found = {id(state.revocations): state.revocations for state in states if state.revocations is not None}
    return tuple(found.values())


def check_revocation(
    settings: LogtoSettings,
    transport: Transport,
    *,
    variables: Mapping[str, str],
    revocations: Collection[Revocations],
) -> Section | None:
    """Check the logs and stores of an application, or the webhook in the variables; `None` if there are none."""
    checks: list[Check] = []
    sources = [find_sources(one) for one in revocations]
    logs = tuple(log for _, found in sources for log in found)
    if not logs and "LOGTO_WEBHOOK_ID" in variables:
        logs = tuple(_build_log(settings, variables, checks))
    for log in logs:
        checks.extend(_check_log(log, transport, signing_key=variables.get("LOGTO_WEBHOOK_SIGNING_KEY")))
    checks.extend(_check_store(store) for store, _ in sources if store is not None)
    return Section(title="Revocation", checks=tuple(checks)) if checks else None


def _build_log(settings: LogtoSettings, variables: Mapping[str, str], checks: list[Check]) -> Iterator[DeliveryLog]:
    names = [f"{MANAGEMENT_CLIENT}_{part}" for part in ("ID", "SECRET")]
    if not all(name in variables for name in names):
        checks.append(Check(name="Webhook", status="skipped", found=f"to check it, set {' and '.join(names)}"))
        return
    try:
        yield DeliveryLog(
            settings.endpoint,
            client_id=variables[names[0]],
            client_secret=variables[names[1]],
            hook_id=variables["LOGTO_WEBHOOK_ID"],
            fetch_endpoint=settings.fetch_endpoint,
            allow_http=settings.allow_http,
            timeout_seconds=settings.fetch_timeout_seconds,
        )
    except SettingsError as error:
        checks.append(_refuse("Webhook", error))


def _check_log(log: DeliveryLog, transport: Transport, *, signing_key: str | None) -> Iterator[Check]:
    api, _ = find_hook_api(log)
    try:
        hook = run_to_end(api.fetch_hook())
    except LogtoError as error:
        yield _refuse("Webhook", error)
        return
    problem = find_problem(hook)
    if problem is None:
        yield Check(name="Webhook", status="ok", found=f"{hook.id} is enabled and has the events that revoke tokens")
    else:
        found, _, advice = problem.partition("; ")
        yield Check(name="Webhook", status="failed", found=found, advice=f"{advice[:1].upper()}{advice[1:]}.")
    if hook.url == POLL_ONLY_URL:
        yield Check(name="Webhook route", status="skipped", found="the API reads only the delivery log")
    else:
        yield from _check_route(hook, transport, signing_key=signing_key)
    yield _check_deliveries(api, hook)


def _check_route(hook: Hook, transport: Transport, *, signing_key: str | None) -> Iterator[Check]:
    url = quote(hook.url)
    try:
        unsigned = send(transport, hook.url, Request(method="POST", body=_PROBE))
        is_ours = unsigned.headers.get("www-authenticate") == SIGNATURE_HEADER
        if unsigned.status != _UNAUTHORIZED or not is_ours:
            yield Check(
                name="Webhook route",
                status="failed",
                found=f"{url}: expected status 401 for a request without a signature, found {unsigned.status}"
                f"{'' if is_ours else ' of something else'}",
                advice="Add the route with app.include_router(revocations.webhooks(...)), and correct the URL with "
                "fastapi-logto webhook push --hook-id.",
            )
            return
        yield Check(name="Webhook route", status="ok", found=f"{url} refuses requests without a signature")
        if signing_key is not None:
            signature = hmac.digest(signing_key.encode(), _PROBE.encode(), "sha256").hex()
            signed = send(
                transport, hook.url, Request(method="POST", headers={SIGNATURE_HEADER: signature}, body=_PROBE)
            )
            yield _check_signed(signed.status)
    except ExchangeError as error:
        yield Check(
            name="Webhook route",
            status="warning",
            found=f"{url}: {error}",
            advice="Ignore this if Logto can reach the URL and this machine can't.",
        )


def _check_signed(status: int) -> Check:
    if status == _BAD_REQUEST:
        return Check(name="Signing key", status="ok", found="the route accepts LOGTO_WEBHOOK_SIGNING_KEY")
    return Check(
        name="Signing key",
        status="failed",
        found=f"expected status 400 for a signed request whose body is no event, found {status}",
        advice="Start the API with the same LOGTO_WEBHOOK_SIGNING_KEY, that of this webhook in Logto.",
    )


def _check_deliveries(api: HookApi, hook: Hook) -> Check:
    try:
        page = run_to_end(api.fetch_page(Window(since=int(time.time() * 1000) - _DAY_MS), size=_SHOWN))
    except LogtoError as error:
        return _refuse("Delivery log", error)
    count, failed = len(page.deliveries), sum(not one.is_success for one in page.deliveries)
    if not count:
        return Check(name="Delivery log", status="ok", found="readable; no delivery in the last 24 h")
    if failed and hook.url != POLL_ONLY_URL:
        return Check(
            name="Delivery log",
            status="warning",
            found=f"readable; {failed} of the last {count} deliveries failed",
            advice="Look at them in the console, under Webhooks. Events of failed deliveries take effect only if the "
            "API reads the log: Revocations(log=DeliveryLog(...)) or fastapi-logto webhook follow.",
        )
    return Check(name="Delivery log", status="ok", found=f"readable; last {count} deliveries as expected")


def _check_store(store: RevocationStore) -> Check:
    async def ask() -> None:
        try:
            await store.load_text("doctor")
        finally:
            await store.close()

    try:
        run_to_end(ask())
    except LogtoError as error:
        return _refuse("Store", error)
    return Check(name="Store", status="ok", found="reachable")


def _refuse(name: str, error: LogtoError) -> Check:
    # The package's own messages: expected and found, then how to fix it.
    found, _, advice = str(error).rpartition("; ")
    return Check(name=name, status="failed", found=found or advice, advice=f"{advice[:1].upper()}{advice[1:]}.")
