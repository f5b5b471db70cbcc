"""The part of Logto's Management API that impersonation needs: subject tokens."""

from collections.abc import Mapping
from typing import Final

from fastapi_logto.strict_json import JsonObject, parse_object
from fastapi_logto.testing.directory import MANAGEMENT_API
from fastapi_logto.testing.minting import SUBJECT_TOKEN_SECONDS, TokenMint
from fastapi_logto.testing.signing import JsonValue

__all__ = ["ManagementError", "create_subject_token"]

_MESSAGES: Final = {
    "auth.authorization_header_missing": "Authorization header is missing.",
    "auth.authorization_token_type_not_supported": "Authorization type is not supported.",
    "auth.unauthorized": "Unauthorized. Please check credentials and its scope.",
    "auth.forbidden": "Forbidden. Please check your user roles and permissions.",
    "guard.invalid_input": "The request input is invalid.",
    "entity.relation_foreign_key_not_found": (
        "Cannot find one or more foreign keys. Please check the input and ensure that all referenced entities exist."
    ),
}


class ManagementError(Exception):
    """A request that the Management API rejects, with Logto's code and message."""

    def __init__(self, code: str, *, status: int) -> None:
        """Store the parts of the response."""
        super().__init__(code)
        self.status: Final = status
        self.body: Final = {"code": code, "message": _MESSAGES[code]}


def create_subject_token(mint: TokenMint, *, authorization: str | None, body: bytes) -> Mapping[str, JsonValue]:
    """Return the response to `POST /api/subject-tokens`, or refuse the request."""
    _check_authorization(mint, authorization)
    user_id = _parse(body).get("userId")
    if not isinstance(user_id, str):
        raise ManagementError("guard.invalid_input", status=400)
    # A token for a suspended user is created, and its exchange is refused.
    if all(user.id != user_id for user in mint.directory.users):
        raise ManagementError("entity.relation_foreign_key_not_found", status=404)
    return {"subjectToken": mint.subject_token(subject=user_id), "expiresIn": SUBJECT_TOKEN_SECONDS}


def _parse(body: bytes) -> JsonObject:
    try:
        return parse_object(body)
    except ValueError:
        raise ManagementError("guard.invalid_input", status=400) from None


def _check_authorization(mint: TokenMint, authorization: str | None) -> None:
    if authorization is None:
        raise ManagementError("auth.authorization_header_missing", status=401)
    scheme, _, token = authorization.partition(" ")
    if scheme.lower() != "bearer":
        raise ManagementError("auth.authorization_token_type_not_supported", status=401)
    claims = mint.read_access_token(token)
    if claims is None or claims.get("aud") != MANAGEMENT_API.indicator:
        raise ManagementError("auth.unauthorized", status=401)
    if "all" not in str(claims.get("scope", "")).split():
        raise ManagementError("auth.forbidden", status=403)
