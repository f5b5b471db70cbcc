"""Revoke tokens in a test, without a store and without a webhook."""

from datetime import datetime
from typing import Any

from starlette.types import ASGIApp

from fastapi_logto.auth import LogtoAuth
from fastapi_logto.revocation.arguments import build_revocation
from fastapi_logto.revocation.revocations import find_feeds
from fastapi_logto.testing.overriding import find_providers


def revoke(
    target: LogtoAuth[Any] | ASGIApp,
    *,
    user_id: str | None = None,
    organization_id: str | None = None,
    client_id: str | None = None,
    token_id: str | None = None,
    before: datetime | float | None = None,
) -> None:
    """Revoke tokens of an application's own `auth`, like `Revocations.revoke`, but at once and without `await`.

    Inside `LocalIssuer.connect`, the revocation ends with the block.

    ```python
    with issuer.connect(app):
        revoke(app, user_id="alice0000001")
        assert client.get("/me", headers=bearer(token)).json()["detail"]["reason"] == "revoked"
    ```

    Args:
        target: The `LogtoAuth`, or an application, for all schemes that its routes use.
        user_id: As for `Revocations.revoke`; at least one of these four is required.
        organization_id: As for `Revocations.revoke`.
        client_id: As for `Revocations.revoke`.
        token_id: As for `Revocations.revoke`.
        before: As for `Revocations.revoke`; by default now, by the clock of the connected issuer.

    Raises:
        ValueError: A `LogtoAuth` was created without `revocations`, or an argument is invalid.
    """
    for state in find_providers(target):
        if state.revocations is None:
            raise ValueError(
                "expected a LogtoAuth with revocations, found one without; create it with revocations=Revocations(...)"
            )
        feed = find_feeds(state.revocations).current
        revocation = build_revocation(
            user_id=user_id,
            organization_id=organization_id,
            client_id=client_id,
            token_id=token_id,
            issuer=None,
            before=before,
            now=feed.now(),
        )
        feed.tokens.add(revocation)
