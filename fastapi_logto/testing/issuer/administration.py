"""What an administrator does in Logto: suspend, delete, remove. Each change is delivered to the webhooks."""

import threading
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace

from starlette.types import ASGIApp

from fastapi_logto.clock import Clock
from fastapi_logto.testing.directory import Directory, User
from fastapi_logto.testing.issuer import changes, events
from fastapi_logto.testing.issuer.deliveries import Delivery
from fastapi_logto.testing.issuer.grants import TokenEndpoint
from fastapi_logto.testing.issuer.hooks import HOOK_EVENTS, Hook, check_events
from fastapi_logto.testing.issuer.webhooks import Webhooks
from fastapi_logto.testing.minting import TokenMint
from fastapi_logto.testing.signing import JsonValue
from fastapi_logto.testing.texts import as_text


class Administration(TokenMint):
    """Users and organizations that change, and the webhooks. The public methods are those of `LocalIssuer`.

    The methods are thread-safe. They return after the last webhook has responded.
    """

    directory: Directory

    def __init__(
        self, *, endpoint: str, directory: Directory | None, clock: Clock | None, allow_remote_webhooks: bool
    ) -> None:
        """Start without hooks."""
        super().__init__(endpoint=endpoint, directory=directory, clock=clock)
        self._created_at = self.clock.now()
        self._changing = threading.Lock()
        self._webhooks = Webhooks(self.clock, allow_remote=allow_remote_webhooks)
        self._tokens = TokenEndpoint(self, issued=self._issued)

    def suspend(self, user: str) -> None:
        """Suspend a user. As in Logto, opaque tokens and refresh tokens become invalid, and issued JWTs stay valid.

        Delivers `User.SuspensionStatus.Updated`.

        Args:
            user: The username or the user id.

        Raises:
            ValueError: There is no such user.
        """
        self._set_suspended(user, is_suspended=True)

    def unsuspend(self, user: str) -> None:
        """End the suspension of a user. Tokens that became invalid because of it stay invalid.

        Delivers `User.SuspensionStatus.Updated`.

        Args:
            user: The username or the user id.

        Raises:
            ValueError: There is no such user.
        """
        self._set_suspended(user, is_suspended=False)

    def delete_user(self, user: str) -> None:
        """Delete a user. As in Logto, opaque tokens and refresh tokens become invalid, and issued JWTs stay valid.

        Delivers `User.Deleted`. The memberships of the user end without an event.

        Args:
            user: The username or the user id.

        Raises:
            ValueError: There is no such user.
        """
        with self._changing:
            found = changes.find_one(self.directory, user)
            self.directory = changes.delete_user(self.directory, found)
        self._tokens.revoke_all(found.id)
        self.emit("User.Deleted", params={"userId": found.id}, members={"data": self._describe(found)})

    def add_to_organization(
        self, member: str, *, organization_id: str, scopes: Mapping[str, Collection[str]] | None = None
    ) -> None:
        """Add a user or a machine to an organization. Delivers `Organization.Membership.Updated`.

        Args:
            member: The username or the user id; the client id of a machine.
            organization_id: The organization.
            scopes: The scopes in the organization, as in `Organization.members`; none by default.

        Raises:
            ValueError: There is no such member, organization or scope.
        """
        id_ = self._change_member(
            member, lambda directory, id_: changes.add_member(directory, organization_id, id_, scopes=scopes or {})
        )
        is_user, params = self._is_user(id_), {"id": organization_id}
        cause = events.ADDED_USER if is_user else events.ADDED_APPLICATION
        self._emit_membership(cause, params, {"addedUserIds" if is_user else "addedApplicationIds": [id_]})

    def remove_from_organization(self, member: str, *, organization_id: str) -> None:
        """Remove a user or a machine from an organization. Delivers `Organization.Membership.Updated`.

        Args:
            member: The username or the user id; the client id of a machine.
            organization_id: The organization.

        Raises:
            ValueError: There is no such member or organization.
        """
        id_ = self._change_member(member, lambda directory, id_: changes.remove_member(directory, organization_id, id_))
        is_user = self._is_user(id_)
        cause = events.REMOVED_USER if is_user else events.REMOVED_APPLICATION
        params = {"id": organization_id, "userId" if is_user else "applicationId": id_}
        self._emit_membership(cause, params, {"removedUserIds" if is_user else "removedApplicationIds": [id_]})

    def delete_organization(self, organization_id: str) -> None:
        """Delete an organization. Delivers `Organization.Deleted`.

        Args:
            organization_id: The organization.

        Raises:
            ValueError: There is no such organization.
        """
        with self._changing:
            self.directory = changes.delete_organization(self.directory, organization_id)
        self.emit("Organization.Deleted", params={"id": organization_id})

    def emit(
        self,
        event: str,
        *,
        params: Mapping[str, str] | None = None,
        members: Mapping[str, JsonValue] | None = None,
    ) -> None:
        """Deliver any event, without a change: `issuer.emit("Role.Scopes.Updated", params={"id": "some-role"})`.

        The body has the members of Logto's request for this event (`path`, `method`, `status`, ...).

        Args:
            event: The event. It is delivered to the hooks that subscribe to it.
            params: The ids in the path of that request: `userId` for users, otherwise `id`.
            members: Members to add or replace, such as `data`.

        Raises:
            ValueError: Logto has no such event, or an id in the path is missing.
        """
        check_events([event])
        self._emit(event, params=params or {}, members=members or {}, cause=None)

    def add_hook(self, url: str, *, events: Collection[str] = HOOK_EVENTS, signing_key: str | None = None) -> Hook:
        """Create a webhook, and return it with its id and its signing key.

        Each event is sent once, without a retry, with the signature in `logto-signature-sha-256`. The URL must be on
        this machine or be that of an application in `deliver_to`, unless the issuer was created with
        `allow_remote_webhooks`.

        Args:
            url: The URL of the API's webhook route.
            events: The events to deliver; by default all.
            signing_key: The key that signs the deliveries; by default a new random one.

        Raises:
            ValueError: The URL or an event is not allowed.
        """
        self._webhooks.check_target(as_text(url))
        key = None if signing_key is None else as_text(signing_key)
        return self._webhooks.hooks.create(config={"url": as_text(url)}, events=check_events(events), signing_key=key)

    def deliver_to(self, app: ASGIApp, *, base_url: str = "http://testserver") -> None:
        """Deliver webhooks and logout tokens to an application in memory, without a network.

        The application runs on another event loop, in another thread. In an async test, use
        `await asyncio.to_thread(issuer.suspend, "alice")`, so that the test's loop keeps running.

        Args:
            app: The ASGI application. Its lifespan is not run.
            base_url: The origin of the URLs that are delivered in this way, e.g. that of
                `add_hook("http://testserver/webhooks/logto")`.

        Raises:
            ValueError: `base_url` is not an http or https URL.
        """
        self._webhooks.deliver_to(app, base_url=as_text(base_url))

    @property
    def hooks(self) -> tuple[Hook, ...]:
        """The webhooks, newest first, also those that were created with the Management API."""
        return self._webhooks.hooks.list_all()

    @property
    def deliveries(self) -> tuple[Delivery, ...]:
        """The last ten thousand deliveries, newest first, also those that failed."""
        return self._webhooks.log.list_all()

    def end_session(self, user: str) -> Mapping[str, int | None]:
        """End the browser session of a user, like a sign-out: applications get a back-channel logout token.

        Issued tokens stay valid. Logto sends no logout token if a user is suspended or deleted, and does not retry.

        Args:
            user: The username or the user id.

        Returns:
            The status of each response, by client id, for all applications with a `backchannel_logout_uri`; `None` if
            there was no response.

        Raises:
            ValueError: There is no such user.
        """
        subject = changes.find_one(self.directory, user).id
        uris = {one.client_id: one.backchannel_logout_uri for one in self.directory.applications}
        targets = {client_id: uri for client_id, uri in uris.items() if uri is not None}
        tokens = [(uri, self.logout_token(subject=subject, client_id=client_id)) for client_id, uri in targets.items()]
        return dict(zip(targets, self._webhooks.send_logout_tokens(tokens), strict=True))

    def _set_suspended(self, user: str, *, is_suspended: bool) -> None:
        with self._changing:
            found = changes.find_one(self.directory, user)
            self.directory = changes.set_suspended(self.directory, found, is_suspended=is_suspended)
        if is_suspended:
            self._tokens.revoke_all(found.id)
        changed = replace(found, is_suspended=is_suspended)
        data = {**self._describe(changed), "hasPassword": True}
        self.emit("User.SuspensionStatus.Updated", params={"userId": found.id}, members={"data": data})

    def _change_member(self, member: str, change: Callable[[Directory, str], Directory]) -> str:
        with self._changing:
            id_ = changes.find_member(self.directory, member)
            self.directory = change(self.directory, id_)
        return id_

    def _is_user(self, member: str) -> bool:
        return all(machine.client_id != member for machine in self.directory.machines)

    def _emit_membership(
        self, cause: events.Cause, params: Mapping[str, str], members: Mapping[str, JsonValue]
    ) -> None:
        members = {"organizationId": params["id"], **members}
        self._emit("Organization.Membership.Updated", params=params, members=members, cause=cause)

    def _emit(
        self,
        event: str,
        *,
        params: Mapping[str, str],
        members: Mapping[str, JsonValue],
        cause: events.Cause | None,
    ) -> None:
        body = events.build_event(as_text(event), now=self.clock.now(), params=params, members=members, cause=cause)
        self._webhooks.deliver(body)

    def _describe(self, user: User) -> Mapping[str, JsonValue]:
        return events.describe_user(user, created_at=self._created_at, updated_at=self.clock.now())
