"""Advice for each reason of a refusal: what to change in Logto's console or in the client."""

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Final

from fastapi_logto.cli.results import Check, Section, Status
from fastapi_logto.environment import build_variable_name
from fastapi_logto.errors import Reason, RefusalError
from fastapi_logto.settings import LogtoSettings

ADVICE: Final[dict[Reason, str]] = {
    "header_missing": "The client must send the header: Authorization: Bearer <access token>.",
    "header_format": "Copy only the token, without quotes, line breaks or a second header.",
    "header_type": "Send the access token with the Bearer scheme; this API supports no other scheme.",
    "malformed": "Copy the whole token again from the response of Logto's token endpoint; its three parts are "
    "separated by dots.",
    "too_large": "Reduce the custom claims in the token (console: Custom JWT), or raise LOGTO_MAX_TOKEN_BYTES.",
    "algorithm": "If you chose this algorithm for the tenant's signing key, add it to LOGTO_ALGORITHMS.",
    "type": "Send the access token. Older versions of Logto need at+jwt and JWT in LOGTO_TOKEN_TYPES.",
    "id_token": "The client must send access_token, not id_token: getAccessToken(resource) in Logto's SDKs.",
    "opaque_token": (
        "In the client, request this API: resource={audience} in the authorization request and in the token request "
        "(in Logto's SDKs, resources: [...] in the configuration, then getAccessToken(resource)). In Swagger UI, do "
        "not tick openid."
    ),
    "inactive": "Sign in again: the tenant reports that this token is not active.",
    "unknown_key": (
        "Sign in again: the token is from another tenant, or its key was rotated out. If the token is new, compare "
        "its iss (fastapi-logto inspect) with LOGTO_ENDPOINT."
    ),
    "signature": "Copy the whole token again. If it still fails, it was changed in transit or is forged.",
    "issuer": (
        "The client uses another domain of the tenant: add its issuer to LOGTO_ISSUERS, or configure the client to "
        "use {issuer}."
    ),
    "audience": (
        "In the client, request resource={audience}. It must match exactly; an extra slash makes it a different API. "
        "Or set LOGTO_AUDIENCE to the API identifier that the console shows under API resources."
    ),
    "expired": "Refresh the token in the client, or sign in again. If it is new, correct this machine's clock (NTP).",
    "not_yet_valid": "Correct the clock of this machine or of Logto (NTP). A custom claim nbf can also cause this.",
    "revoked": "Sign in again: the token was revoked, e.g. because its user was suspended.",
    "claims": "Send an access token issued by Logto. For another issuer, see LOGTO_REQUIRED_CLAIMS.",
    "scope": (
        "In the console, give the user or machine a role with the permission (Roles), and request the scope in the "
        "client. Then sign in again, because a token keeps the scopes it was issued with."
    ),
    "organization_required": "In the client, request an organization: organization_id in the token request.",
    "organization_mismatch": "In the client, request a token for the organization that the request names.",
    "user_required": "Send a token from a user's sign-in.",
    "machine_required": "Send a token that a machine-to-machine application requested for itself.",
    "client_not_allowed": "Allow the application on the route, or use an application that the route allows.",
    "actor_required": "Send a token from a token exchange with an actor_token.",
    "actor_not_allowed": "Sign in as the user, without a token exchange.",
    "claims_not_allowed": "Check what the route's own claims check requires.",
    "provider_unavailable": "First fix the failed checks under Tenant: no token can be verified without its keys.",
}


def build_exchange_advice(resource: str) -> str:
    """Return what to do with a personal access token. It can't be requested for an API."""
    return (
        "Exchange the personal access token for an access token: a token request with "
        "grant_type=urn:ietf:params:oauth:grant-type:token-exchange, "
        f"subject_token_type=urn:logto:token-type:personal_access_token and resource={resource}, or "
        'LogtoClient.exchange_token(..., subject_token_type="personal_access_token").'
    )


def build_advice(error: RefusalError, settings: LogtoSettings) -> str:
    """Return the advice for a refusal, with the audience and issuer of the settings filled in."""
    return ADVICE[error.reason].format(audience=settings.audience[0], issuer=settings.issuer)


_APPLICATION: Final = (
    "Set LOGTO_SWAGGER_CLIENT_ID to an application that the page of the local issuer lists, {endpoint}/, or add "
    "[[applications]] to the file of fastapi-logto dev --file."
)
_REDIRECT: Final = (
    "Compare it and LOGTO_AUDIENCE with the page of the local issuer, {endpoint}/. The file of fastapi-logto dev "
    "--file sets the redirect_uris of each application, and the resources. If your docs page has another URL, pass it "
    "with --docs-url."
)
_CORS: Final = (
    "Add a redirect URI with this origin to the redirect_uris of the application, in the file of fastapi-logto dev "
    "--file."
)
_NO_SCOPE: Final = (
    "Sufficient only for Depends(auth). To get scopes, give the user or machine a role with scopes of this API in the "
    "file of fastapi-logto dev --file, and request the scopes in the client."
)
_SCOPE: Final = (
    "Give the user or machine a role with the scope in the file of fastapi-logto dev --file, and request the scope in "
    "the client. Then sign in again, because a token keeps the scopes it was issued with."
)
_AUDIENCE: Final = (
    "In the client, request resource={audience}. It must match exactly; an extra slash makes it a different API. Or "
    "set LOGTO_AUDIENCE to a resource of the local issuer: fastapi-logto dev --audience, or its --file."
)

_FORM: Final = (
    "Logto issues tokens only for absolute URIs: give the local issuer a resource https://… or urn:…, with "
    "fastapi-logto dev --audience or its --file, and set LOGTO_AUDIENCE to the same value."
)
_COMPARE: Final = "Compare it with the resources on the page of the local issuer, {endpoint}/. It must match exactly."
_SIZE: Final = (
    "Reduce the custom claims of the user in the file of fastapi-logto dev --file, or raise LOGTO_MAX_TOKEN_BYTES."
)
_DELIVERIES: Final = (
    "Look at them on the page of the local issuer, {endpoint}/. Events of failed deliveries take effect only if the "
    "API reads the log: Revocations(log=DeliveryLog(...)) or fastapi-logto webhook follow."
)

_ARGUMENTS: Final = {build_variable_name(name): f"the argument {name}" for name in LogtoSettings.model_fields}

_LOCAL: Final[Mapping[tuple[str, str, Status], str]] = {
    ("Settings", "Audience", "failed"): _FORM,
    ("Settings", "Audience", "warning"): _COMPARE,
    ("Swagger UI", "Application", "failed"): _APPLICATION,
    ("Swagger UI", "Redirect URI", "failed"): _REDIRECT,
    ("Swagger UI", "CORS", "failed"): _CORS,
    ("Revocation", "Delivery log", "warning"): _DELIVERIES,
    ("Token", "Size", "failed"): _SIZE,
    ("Token", "Audience", "failed"): _AUDIENCE,
    ("Token", "Scopes", "failed"): _SCOPE,
    ("Token", "Scopes", "warning"): _NO_SCOPE,
}
"""Advice for a local issuer, which has no console, by section, check and status."""


def explain_locally(section: Section, settings: LogtoSettings) -> Section:
    """Return the section of a local issuer, with advice that names its file instead of Logto's console."""

    def explain(check: Check) -> Check:
        advice = _LOCAL.get((section.title, check.name, check.status))
        if advice is None:
            return check
        return replace(check, advice=advice.format(audience=settings.audience[0], endpoint=settings.fetch_base))

    return replace(section, checks=tuple(map(explain, section.checks)))


def name_arguments(section: Section) -> Section:
    """Return the section with the arguments of `LogtoAuth` in place of the variables for the same settings."""
    checks = (
        replace(check, found=_name_arguments(check.found), advice=_name_arguments(check.advice))
        for check in section.checks
    )
    return replace(section, checks=tuple(checks))


def _name_arguments(text: str) -> str:
    return re.sub("LOGTO_[A-Z_]+", lambda found: _ARGUMENTS.get(found[0], found[0]), text)
