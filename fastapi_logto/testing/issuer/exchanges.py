"""Token exchange: whose subject token it is, and who acts for that user."""

from typing import Final

from fastapi_logto.testing.directory import Application, User
from fastapi_logto.testing.issuer.forms import Parameters
from fastapi_logto.testing.issuer.lookup import find_active_user, find_client
from fastapi_logto.testing.issuer.refusals import NO_GRANT, RefusedError
from fastapi_logto.testing.minting import TokenMint
from fastapi_logto.testing.opaque import IssuedTokens

TOKEN_EXCHANGE: Final = "urn:ietf:params:oauth:grant-type:token-exchange"  # noqa: S105 - a name
_ACCESS_TOKEN: Final = "urn:ietf:params:oauth:token-type:access_token"  # noqa: S105 - a name
_PERSONAL_ACCESS_TOKEN: Final = "urn:logto:token-type:personal_access_token"  # noqa: S105 - a name
_IMPERSONATION_TOKEN: Final = "urn:logto:token-type:impersonation_token"  # noqa: S105 - a name


class ExchangeParties:
    """Finds the subject and the actor of a token exchange by the rules of Logto 1.43."""

    def __init__(self, mint: TokenMint, *, issued: IssuedTokens) -> None:
        """Store the parts."""
        self._mint = mint
        self._issued = issued

    def find_subject(self, form: Parameters) -> User:
        """Return the user of the subject token. A subject token for impersonation is not used up yet."""
        token, kind = form.require("subject_token"), form.require("subject_token_type")
        if self._is_one_time(token, kind):
            user_id = self._find_impersonated(token)
        elif kind == _ACCESS_TOKEN:
            user_id = self._find_signed_in(token)
        else:
            user_id = self._find_owner(token) if kind == _PERSONAL_ACCESS_TOKEN else None
        # The subject of a machine's token is not a user.
        user = None if user_id is None else find_active_user(self._mint.directory, user_id)
        if user is None:
            raise RefusedError("invalid_grant", NO_GRANT)
        return user

    def find_actor(self, form: Parameters) -> str | None:
        """Return the user id of the actor; `None` without an `actor_token`.

        The actor token must be opaque and have the scope `openid`.
        """
        token = form.find("actor_token")
        if token is None:
            return None
        opaque = self._issued.opaque.find(token) if form.find("actor_token_type") == _ACCESS_TOKEN else None
        is_user = opaque is not None and find_active_user(self._mint.directory, opaque.subject) is not None
        if opaque is None or not is_user or "openid" not in opaque.scope.split():
            raise RefusedError("invalid_grant", NO_GRANT)
        return opaque.subject

    def use_up(self, form: Parameters) -> None:
        """Use up a subject token for impersonation, after everything else was checked."""
        token = form.require("subject_token")
        is_one_time = self._is_one_time(token, form.require("subject_token_type"))
        if is_one_time and not self._issued.impersonation.use_up(token):
            raise RefusedError("invalid_grant", NO_GRANT)

    def _is_one_time(self, token: str, kind: str) -> bool:
        return kind == _IMPERSONATION_TOKEN or (kind == _ACCESS_TOKEN and token.startswith("sub_"))

    def _find_impersonated(self, token: str) -> str | None:
        entry = self._issued.impersonation.find(token)
        return None if entry is None else entry.subject

    def _find_owner(self, token: str) -> str | None:
        entry = self._issued.personal.find(token)
        if entry is not None:
            return entry.subject
        return next((user.id for user in self._mint.directory.users if token in user.personal_access_tokens), None)

    def _find_signed_in(self, token: str) -> str | None:
        """Return the subject of an access token, unless it was issued to a third-party or an unknown application."""
        opaque, claims = self._issued.opaque.find(token), self._mint.read_access_token(token) or {}
        client_id, subject = claims.get("client_id"), claims.get("sub")
        if opaque is not None:
            client_id, subject = opaque.client_id, opaque.subject
        client = find_client(self._mint.directory, client_id) if isinstance(client_id, str) else None
        if client is None or (isinstance(client, Application) and client.is_third_party):
            return None
        return subject if isinstance(subject, str) else None
