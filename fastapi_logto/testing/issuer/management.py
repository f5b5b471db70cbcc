"""Logto's Management API: the checks of every request, and subject tokens for impersonation."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from fastapi_logto.strict_json import JsonObject, parse_object
from fastapi_logto.testing.directory import MANAGEMENT_API
from fastapi_logto.testing.minting import SUBJECT_TOKEN_SECONDS, TokenMint
from fastapi_logto.testing.signing import JsonValue

_MESSAGES: Final = {
    "auth.authorization_header_missing": "Authorization header is missing.",
    "auth.authorization_token_type_not_supported": "Authorization type is not supported.",
    "auth.unauthorized": "Unauthorized. Please check credentials and its scope.",
    "auth.forbidden": "Forbidden. Please check your user roles and permissions.",
    "entity.invalid_input": "Invalid input. Value list must not be empty.",
    "entity.not_exists": "The {name} does not exist.",
    "entity.not_exists_with_id": "The {name} with ID `{id}` does not exist.",
    "entity.not_found": "The resource does not exist.",
    "entity.relation_foreign_key_not_found": (
        "Cannot find one or more foreign keys. Please check the input and ensure that all referenced entities exist."
    ),
    "guard.invalid_input": "The request {type} is invalid.",
    "guard.invalid_pagination": "The request pagination value is invalid.",
    "hook.missing_events": "You need to provide at least one event.",
    "log.invalid_time_window": "`end_time` must be after `start_time`.",
}


class ManagementError(Exception):
    """A request that the Management API rejects, with Logto's code and message."""

    def __init__(self, code: str, *, status: int, details: Mapping[str, str] = MappingProxyType({})) -> None:
        """Store the parts of the response. `details` are the variable parts of the message."""
        super().__init__(code)
        self.status: Final = status
        self.body: Final = {"code": code, "message": _MESSAGES[code].format_map(details)}


def create_subject_token(mint: TokenMint, *, authorization: str | None, body: bytes) -> Mapping[str, JsonValue]:
    """Return the response to `POST /api/subject-tokens`, or refuse the request."""
    check_authorization(mint, authorization)
    user_id = parse_body(body).get("userId")
    if not isinstance(user_id, str):
        raise invalid_body()
    # A token for a suspended user is created, and its exchange is refused.
    if all(user.id != user_id for user in mint.directory.users):
        raise ManagementError("entity.relation_foreign_key_not_found", status=404)
    return {"subjectToken": mint.subject_token(subject=user_id), "expiresIn": SUBJECT_TOKEN_SECONDS}


def invalid_body() -> ManagementError:
    """Return the error for a body with another content than expected."""
    return ManagementError("guard.invalid_input", status=400, details={"type": "body"})


def parse_body(body: bytes) -> JsonObject:
    """Return the JSON object in a body, or refuse the request."""
    try:
        return parse_object(body)
    except ValueError:
        raise invalid_body() from None


def check_authorization(mint: TokenMint, authorization: str | None) -> None:
    """Refuse a request without a valid token for the Management API with the scope `all`."""
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
