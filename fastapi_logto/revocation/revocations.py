"""Revoke access tokens before they expire."""

import logging
from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import replace
from datetime import datetime
from functools import partial
from inspect import iscoroutinefunction
from typing import Final, Literal

from fastapi import APIRouter
from pydantic import SecretStr

from fastapi_logto.redaction import quote
from fastapi_logto.revocation.arguments import build_revocation, check_range, check_text, read_time
from fastapi_logto.revocation.delivery_log import DeliveryLog, check_logs
from fastapi_logto.revocation.effects import find_revocations
from fastapi_logto.revocation.events import EVENT_NAMES, Event
from fastapi_logto.revocation.feeds import Feeds
from fastapi_logto.revocation.hook_api import NEEDED_EVENTS
from fastapi_logto.revocation.log_follower import LogFollower
from fastapi_logto.revocation.logout import LogoutReceiver
from fastapi_logto.revocation.webhooks import WebhookReceiver, as_signing_keys
from fastapi_logto.telemetry import RevocationSource
from fastapi_logto.verification.logout_tokens import LogoutToken
from fastapi_logto.verification.revocation_feed import OnOutage, RevocationFeed
from fastapi_logto.verification.revocation_store import RevocationHealth, RevocationStore, RevocationStoreError
from fastapi_logto.verification.revoked import MAX_LATE_SECONDS, Revocation

_logger: Final = logging.getLogger("fastapi_logto")


class Revocations:
    """Access tokens that are rejected before they expire, for `LogtoAuth(revocations=...)`.

    A JWT stays valid until it expires, even if its user is suspended. With this, such a token is rejected with 401
    `invalid_token`, reason `revoked`, and WebSockets and streams under `auth.closing_at_expiry` and `auth.until_expiry`
    end at once. Tokens that are issued later are not affected.

    Without a store, each process knows only its own revocations.

    Args:
        store: Where several processes share revocations, such as `RedisStore`.
        log: The delivery log of a webhook, so that no event is missed; several for several tenants.
        on_outage: What happens while the store is unavailable for longer than `outage_seconds`: `"closed"` responds
            with 503, `"open"` continues with the revocations that are known. Both are reported by `health()` and in the
            log.
        outage_seconds: How long the store may be unavailable before `"closed"` takes effect. A process that has never
            reached the store responds with 503 at once.
        longest_token_seconds: The longest token expiration in Logto, in seconds. Revocations are kept that long, so a
            revoked token that lives longer is accepted again afterwards. The first such token is reported in the log.
        revoke_all_on: Names of events that revoke all tokens of the tenant, e.g. `["Role.Scopes.Updated"]`. Such an
            event does not say whose permissions have changed.
        on_event: An `async` function that is called with each event, after what the event revokes is in effect. If it
            raises an error, the delivery fails with that error and its revocations stay. It may be called more than
            once with the same event. Logto waits for ten seconds.

    Raises:
        ValueError: A value is out of range, or a name in `revoke_all_on` is not that of an event.
        TypeError: `on_event` is not an `async` function, or `log` not a `DeliveryLog`.
    """

    def __init__(
        self,
        store: RevocationStore | None = None,
        *,
        log: DeliveryLog | Sequence[DeliveryLog] | None = None,
        on_outage: OnOutage = "closed",
        outage_seconds: float = 30,
        longest_token_seconds: float = 24 * 3600,
        revoke_all_on: Collection[str] = (),
        on_event: Callable[[Event], Awaitable[None]] | None = None,
    ) -> None:
        if on_outage not in {"closed", "open"}:
            raise ValueError(f"on_outage: expected 'closed' or 'open', found {quote(on_outage)}; pass one of them")
        if isinstance(store, str):
            raise TypeError("store: expected a store, found a text; pass RedisStore(url)")
        check_range("outage_seconds", outage_seconds, least=1)
        check_range("longest_token_seconds", longest_token_seconds, least=1)
        build = partial(
            RevocationFeed,
            on_outage=on_outage,
            outage_seconds=outage_seconds,
            longest_token_seconds=longest_token_seconds,
        )
        self._logs = check_logs(log)
        self._revoke_all_on = _check_names(revoke_all_on)
        self._on_event = _check_on_event(on_event)
        follow = partial(self._follow, longest_seconds=longest_token_seconds + MAX_LATE_SECONDS)
        self._feeds = Feeds(store, build=build, build_logs=lambda: [follow(one) for one in self._logs])

    async def revoke(
        self,
        *,
        user_id: str | None = None,
        organization_id: str | None = None,
        client_id: str | None = None,
        token_id: str | None = None,
        issuer: str | None = None,
        before: datetime | float | None = None,
    ) -> None:
        """Refuse the tokens that match all given values and were issued at or before a time.

        Args:
            user_id: The subject, or the actor who acts on behalf of the subject.
            organization_id: The organization that the tokens are for.
            client_id: The application to which the tokens were issued.
            token_id: The `jti` of one token.
            issuer: The issuer of the tenant, `<endpoint>/oidc`, if the API accepts several; by default every tenant.
            before: The time, in seconds since the epoch or as a `datetime` with a time zone; by default now, by the
                clock of this machine.

        Raises:
            ValueError: No value is given, or an invalid one, such as a time in the future.
            SettingsError: `issuer` is not an issuer of the settings, or settings are missing.
            RevocationStoreError: The store is unavailable. The revocation is in effect in this process, and the store
                gets it when it works again, if this process still runs then.
        """
        revocation = build_revocation(
            user_id=user_id,
            organization_id=organization_id,
            client_id=client_id,
            token_id=token_id,
            issuer=issuer,
            before=before,
            now=self._now(),
        )
        found = await self._feeds.find_issuer(issuer, is_required=False)
        await self._add([replace(revocation, issuer=found)], source="call")

    async def revoke_all(self, *, issuer: str | None = None, before: datetime | float | None = None) -> None:
        """Refuse all tokens that were issued at or before a time, so that every client needs a new one.

        Args:
            issuer: As for `revoke`.
            before: As for `revoke`.

        Raises:
            ValueError: As for `revoke`.
            SettingsError: As for `revoke`.
            RevocationStoreError: As for `revoke`.
        """
        check_text("issuer", issuer)
        moment = read_time(before, now=self._now())
        found = await self._feeds.find_issuer(issuer, is_required=False)
        await self._add([Revocation(before=moment, issuer=found)], source="call")

    def webhooks(
        self,
        *,
        signing_key: str | SecretStr | Collection[str | SecretStr],
        path: str = "/webhooks/logto",
        issuer: str | None = None,
    ) -> APIRouter:
        """Return a router with a route that receives the webhooks of a tenant: `app.include_router(...)`.

        The signature of each request is verified. The route needs no token, so dependencies of the application and of
        `include_router` do not apply to it. It is not in the OpenAPI document.

        | response | meaning |
        |---|---|
        | 204 | the event is in effect, in this process and in the store |
        | 400 | the body has a valid signature, but is no event |
        | 401 | the signature is missing or invalid |
        | 408, 413 | the body does not arrive within 10 s; it is larger than 4 MiB |
        | 503 | the store is unavailable: the event is in effect in this process, and the store gets it later |
        | 503 | too many large bodies arrive concurrently |

        An error of `on_event` is handled like one of any other route. Logto does not repeat failed deliveries, but
        keeps them in its delivery log.

        Args:
            signing_key: The signing key of the webhook, which the Logto Console shows; several during a rotation.
            path: The path of the route.
            issuer: The issuer of the tenant, `<endpoint>/oidc`. Required if the API accepts several tenants, each of
                which then needs its own route.

        Raises:
            ValueError: A signing key is empty, or has spaces around it; or `issuer` is empty.
        """
        try:
            keys = as_signing_keys(signing_key)
        finally:
            # Error trackers show what they find in a frame.
            del signing_key
        check_text("issuer", issuer)
        receiver = WebhookReceiver(
            partial(self.handle, issuer=issuer), signing_keys=keys, check=partial(self._check_tenant, issuer)
        )
        return receiver.build_router(path)

    def logout(self, *, client_ids: Collection[str], path: str = "/webhooks/logto/logout") -> APIRouter:
        """Return a router with a route that receives back-channel logouts: `app.include_router(...)`.

        Logto sends a logout token to each application of a session when its user signs out. Access tokens do not name
        their session, so **all** access tokens of the user that were issued until then are revoked, also those of other
        devices. The signature is verified with the keys of the `LogtoAuth` that uses these revocations, so the route
        needs no access token.

        The response is 200, 400 if the request is invalid or repeats a logout token, 408 or 413 if it is too slow or
        too large, or 503 if the keys or the store are unavailable. Each process accepts a logout token once.

        Args:
            client_ids: Client ids of the applications whose backchannel logout URI in Logto is this route.
            path: The path of the route.

        Raises:
            ValueError: There is no client id, or an empty one.

        References:
            OpenID Connect Back-Channel Logout 1.0.
        """
        clients = frozenset((client_ids,) if isinstance(client_ids, str) else client_ids)
        for client_id in clients or {""}:
            check_text("client_ids", client_id)
        receiver = LogoutReceiver(
            partial(self._verify_logout, clients),
            apply=self._apply_logout,
            check=self._feeds.verifiers.check_attached,
            now=self._now,
        )
        return receiver.build_router(path)

    async def handle(
        self, event: Event, *, issuer: str | None = None, source: Literal["webhook", "log"] = "webhook"
    ) -> None:
        """Apply an event, as the route of `webhooks` does, and call `on_event`. Its signature is not checked here.

        Tokens that were issued after the event are not affected, so an event that comes late or again changes nothing.

        Args:
            event: The event.
            issuer: As for `webhooks`.
            source: Where the event comes from, for the log.

        Raises:
            RevocationStoreError: As for `revoke`. `on_event` was called.
            SettingsError: The API accepts several tenants, and `issuer` is not that of one of them.
        """
        revocations = find_revocations(
            event,
            issuer=await self._feeds.find_issuer(issuer, is_required=True),
            revoke_all_on=self._revoke_all_on,
            now=self._now(),
        )
        try:
            await self._add(revocations, source=source)
        except RevocationStoreError:
            await self._pass_on(event)
            raise
        await self._pass_on(event)

    def health(self) -> RevocationHealth:
        """Return the state of the revocations. Nothing is read."""
        return self._feeds.current.health()

    async def _pass_on(self, event: Event) -> None:
        if self._on_event is not None:
            await self._on_event(event)

    def _check_tenant(self, issuer: str | None) -> None:
        self._feeds.verifiers.check_attached()
        self._feeds.check_issuer(issuer)

    async def _verify_logout(self, client_ids: Collection[str], token: SecretStr) -> LogoutToken:
        return await self._feeds.verifiers.verify_logout(token, client_ids=client_ids, now=self._now())

    async def _apply_logout(self, token: LogoutToken) -> None:
        revocation = Revocation(before=token.issued_at, user_id=token.subject, issuer=token.issuer)
        await self._add([revocation], source="logout")

    def _follow(self, log: DeliveryLog, *, longest_seconds: float) -> LogFollower:
        return LogFollower(
            log,
            store=self._feeds.store,
            handle=partial(self.handle, issuer=log.issuer, source="log"),
            has_stored=lambda: self.health().waiting_count == 0,
            events=(*NEEDED_EVENTS, *self._revoke_all_on),
            longest_seconds=longest_seconds,
        )

    async def _add(self, revocations: Sequence[Revocation], *, source: RevocationSource) -> None:
        try:
            count = await self._feeds.current.add(revocations, source=source)
        except RevocationStoreError:
            _logger.warning("revocations of the source %s are in effect in this process only", source)
            raise
        if count:
            # Without ids, which are personal data.
            _logger.info("%d revocations of the source %s are in effect", count, source)

    def _now(self) -> float:
        # Of the clock in use: a test may replace it.
        return self._feeds.current.now()


def find_feeds(revocations: Revocations) -> Feeds:
    """Return the revocations of this process. For this package: users have no need of it."""
    return revocations._feeds  # noqa: SLF001 # pyright: ignore[reportPrivateUsage] - of this module


def find_sources(revocations: Revocations) -> tuple[RevocationStore | None, tuple[DeliveryLog, ...]]:
    """Return the store and the delivery logs. For this package: users have no need of it."""
    return revocations._feeds.store, revocations._logs  # noqa: SLF001 # pyright: ignore[reportPrivateUsage] - of this module


def _check_names(names: Collection[str]) -> frozenset[str]:
    given = frozenset((names,) if isinstance(names, str) else names)
    unknown = sorted(map(quote, given - EVENT_NAMES))
    if unknown:
        known = ", ".join(sorted(EVENT_NAMES))
        raise ValueError(f"revoke_all_on: expected names of events, found {', '.join(unknown)}; choose from {known}")
    return given


def _check_on_event(on_event: Callable[[Event], Awaitable[None]] | None) -> Callable[[Event], Awaitable[None]] | None:
    if on_event is None or iscoroutinefunction(on_event) or iscoroutinefunction(type(on_event).__call__):
        return on_event
    # A function that blocks would stop all requests.
    raise TypeError("on_event: expected an async function, found another object; define it with `async def`")


def check_revocations(revocations: object) -> Revocations | None:
    """Return the argument; `TypeError` if it is neither `None` nor a `Revocations`."""
    if revocations is not None and not isinstance(revocations, Revocations):
        found = type(revocations).__name__
        raise TypeError(f"revocations: expected a Revocations, found a {found}; pass Revocations(...)")
    return revocations
