"""What to do about a refused token, in Logto's console or in the client: one entry for each reason."""

from typing import Final

from fastapi_logto.errors import Reason, RefusalError
from fastapi_logto.settings import LogtoSettings

__all__ = ["ADVICE", "build_advice"]

ADVICE: Final[dict[Reason, str]] = {
    "header_missing": "Have the client send the header: Authorization: Bearer <access token>.",
    "header_format": "Copy the token alone: without quotes, line breaks or a second header around it.",
    "header_type": "Send the access token as Bearer; this API knows no other scheme.",
    "malformed": "Copy the whole token again, from the answer of Logto's token endpoint; it has three parts with dots.",
    "too_large": "Put fewer custom claims into the token (console: Custom JWT), or raise LOGTO_MAX_TOKEN_BYTES.",
    "algorithm": "Add the algorithm of your tenant's key to LOGTO_ALGORITHMS, if it is one that you chose there.",
    "type": "Send the access token; older versions of Logto need LOGTO_TOKEN_TYPES=at+jwt,JWT.",
    "id_token": "In the client send access_token, not id_token: getAccessToken(resource) in Logto's SDKs.",
    "opaque_token": (
        "In the client ask for the API: resource={audience} in the authorization request and in the token request "
        "(resources: [...] in the configuration of Logto's SDKs, then getAccessToken(resource)). In Swagger UI do not "
        "tick openid."
    ),
    "inactive": "Sign in again: the tenant does not know this token any more.",
    "unknown_key": (
        "Sign in again: the token is of another tenant, or of a key that was rotated out. If it is new, compare its "
        "iss (fastapi-logto inspect) with LOGTO_ENDPOINT."
    ),
    "signature": "Copy the whole token again; if it still fails, it was changed on its way or is a forgery.",
    "issuer": (
        "The client uses another domain of the tenant: add its issuer to LOGTO_ISSUERS, or have the client use "
        "{issuer}."
    ),
    "audience": (
        "In the client ask for resource={audience}, to the letter: a slash more or less is another API. Or set "
        "LOGTO_AUDIENCE to the API identifier that the console shows under API resources."
    ),
    "expired": "Have the client refresh the token, or sign in again; if it is new, correct this machine's clock (NTP).",
    "not_yet_valid": "Correct the clock of this machine or of Logto's (NTP); a custom claim nbf can do it too.",
    "claims": "Send an access token that Logto issued; for another issuer see LOGTO_REQUIRED_CLAIMS.",
    "scope": (
        "In the console give the user or machine a role with the permission (Roles), and have the client ask for the "
        "scope; then sign in again, because a token keeps the scopes that it was issued with."
    ),
    "organization_required": "In the client ask for the organization: organization_id in the token request.",
    "organization_mismatch": "In the client ask for a token of the organization that the request names.",
    "user_required": "Send a token that a user signed in for.",
    "machine_required": "Send a token that a machine-to-machine application got for itself.",
    "client_not_allowed": "Add the application to those that the route admits, or use one of them.",
    "actor_required": "Send a token from a token exchange with an actor_token.",
    "actor_not_allowed": "Sign in as the user itself.",
    "claims_not_allowed": "See what the route's own check of the claims asks for.",
    "provider_unavailable": "First mend what is marked under Tenant: without its keys no token can be checked.",
}


def build_advice(error: RefusalError, settings: LogtoSettings) -> str:
    """Give what to do about a refusal.

    Args:
        error: The refusal.
        settings: The settings, whose audience and issuer are named.
    """
    return ADVICE[error.reason].format(audience=settings.audience[0], issuer=settings.issuer)
