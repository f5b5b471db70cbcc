"""The expected outcomes of each action of the scenes, separated by spaces.

`succeeded` is a call that returned, `200` a response, `500,OSError` a response and an exception of the application.
The proof fails if a scene does not reach all of these outcomes, because it then searches less than it claims to. It
also fails for any other outcome, such as a `TypeError` in place of a refusal.
"""

from collections.abc import Iterable, Mapping
from typing import Final, TypeAlias

Expected: TypeAlias = Mapping[str, str]

_CANCELLED: Final = "CancelledError TimeoutError"

_CALLS: Final[Expected] = {
    "verify": "succeeded",
    "verify, several tenants": "succeeded",
    "verify for scopes": "InsufficientScopeError",
    "verify for an organization": "OrganizationRequiredError",
    "verify an opaque token": "succeeded",
    "a machine token": "succeeded",
    "an organization token": "succeeded",
    "an organization token of a stranger": "GrantRefusedError",
    "an exchange": "succeeded",
    "an exchange of an opaque token": "succeeded",
    "an exchange of a personal access token": "succeeded",
    # The actor's second exchange of a one-time token is refused.
    "an exchange with an actor": "succeeded GrantRefusedError",
    "a subject token": "succeeded",
    "a subject token of nobody": "GrantRefusedError",
    "userinfo": "succeeded",
    "userinfo of a signed token": "GrantRefusedError",
}
# They send no request, so they can't be cancelled.
_REFUSED_AT_ONCE: Final[Expected] = {
    "verify a personal access token": "OpaqueTokenError",
    "an exchange for nothing": "ValueError",
    "an exchange of an odd token": "GrantRefusedError",
    "an exchange of a surrogate": "GrantRefusedError",
    "userinfo of an odd token": "GrantRefusedError",
}
# With the keys of the provider, tokens are verified, even if its other responses are wrong.
_WITH_KEYS: Final = "succeeded InsufficientScopeError OrganizationRequiredError"
_WITHOUT: Final = "OpaqueTokenError ValueError GrantRefusedError"
_UNAVAILABLE: Final = f"{_WITH_KEYS} {_WITHOUT} GrantUnavailableError ProviderUnavailableError"
_REFUSING: Final = f"{_WITH_KEYS} {_WITHOUT} ProviderUnavailableError"
_INVALID: Final = f"{_WITH_KEYS} {_WITHOUT} GrantUnavailableError InactiveTokenError"

CALLS: Final[Expected] = {
    **_CALLS,
    **_REFUSED_AT_ONCE,
    "a provider unreachable": f"{_WITHOUT} GrantUnavailableError ProviderUnavailableError",
    "a provider that resets": _UNAVAILABLE,
    "a provider surprising": _UNAVAILABLE,
    "a provider garbled": _UNAVAILABLE,
    "a provider too large": _UNAVAILABLE,
    "a provider that fails": _UNAVAILABLE,
    "a provider that repeats": _REFUSING,
    "a provider that repeats in the description": _REFUSING,
    "a provider that repeats in headers": _UNAVAILABLE,
    "a provider that repeats as text": _UNAVAILABLE,
    "a provider that repeats in JSON": _UNAVAILABLE,
    "a provider that issues a token of another type": _INVALID,
    "a provider that issues a token without a type": _INVALID,
    "a provider that issues a token with wrong scopes": _INVALID,
    "a provider that issues a token with an error": _REFUSING,
    "a provider that issues a token with another status": _UNAVAILABLE,
}
CANCELLED_CALLS: Final[Expected] = {
    **{f"{name}, cancelled": _CANCELLED for name in _CALLS},
    **{f"{name}, afterwards": outcome for name, outcome in (*_CALLS.items(), *_REFUSED_AT_ONCE.items())},
    # The cancelled exchange has used the one-time token.
    "an exchange with an actor, afterwards": "GrantRefusedError",
}

_INVALID_TOKENS: Final = (
    "AlgorithmError AudienceError ClaimError ExpiredTokenError IdTokenError ImmatureTokenError IssuerError "
    "MalformedTokenError OpaqueTokenError ProviderUnavailableError SignatureError TokenTooLargeError TokenTypeError"
)
TOKENS: Final[Expected] = {
    "verify": f"succeeded {_INVALID_TOKENS} UnknownKeyError",
    # The first call has just fetched for the unknown key.
    "verify for scopes": f"InsufficientScopeError {_INVALID_TOKENS}",
}
_REQUESTS: Final[Expected] = {
    "GET /me": "200 401",
    "GET /maybe": "200 401",
    "GET /machine": "403 401",
    "GET /failing": "500,OSError 401",
    "GET /own": "200 401",
    "GET /files/x": "500,OSError 401",
    "GET /files/found": "200 401",
    "GET /files/x%0A": "404 401",
}
REQUESTS: Final[Expected] = {
    **_REQUESTS,
    **{f"{what}, at other providers": f"{outcomes} 503" for what, outcomes in _REQUESTS.items()},
    **dict.fromkeys(("GET /nowhere", "GET /nowhere, at other providers"), "404"),
}
CONNECTIONS: Final[Expected] = {
    "WebSocket /socket": "1008 401 accepted,1008 accepted,CancelledError accepted,OSError",
    "WebSocket /files/socket": "1008 401 OSError",
    "/socket, cancelled": _CANCELLED,
    "GET /events": "200 200,CancelledError 401",
    "/events, cancelled": _CANCELLED,
}
WEBHOOKS: Final[Expected] = {
    "POST /webhooks/logto": "204 400 401 500,OSError 500,RuntimeError",
    "an event whose handler fails": "OSError",
    "routes with a wrong key": "ValueError",
}
LOGOUT: Final[Expected] = {
    "POST /webhooks/logto/logout": "200 400 413 500,RuntimeError",
    "POST /webhooks/logto/logout, at other providers": "200 400 413 500,RuntimeError 503",
}
MACHINE_AUTH: Final[Expected] = {
    "the authentication": "succeeded",
    "the authentication of a wrong origin": "SettingsError",
    "a request": "succeeded ReadError OriginError",
}

_VALUES: Final = (
    "AlgorithmError AudienceError ClaimError Client ExpiredTokenError Form GrantRefusedError Hook IdTokenError "
    "ImmatureTokenError Introspection IssuedToken IssuerError LogtoSettings MalformedTokenError ManualClock "
    "ProviderHealth RawResponse Request Response Revocation RevocationHealth SignatureError TokenClaims "
    "TokenTypeError UnknownKeyError UnverifiedJws"
)
_SHOWN: Final = (
    f"{_VALUES} AlternativeScheme AuthState DeliveryLog Directory KeyRing LocalIssuer LogtoAuth LogtoClient Machine "
    "MachineAuth OptionalScheme RedisStore Requirement Revocations User"
)
OBJECTS: Final[Expected] = {
    "GET /me": "200",
    "shown": _SHOWN,
    "copied": _SHOWN,
    "copied deeply": f"{_VALUES} KeyRing",
    "pickled": _VALUES,
}
_WRONG: Final = "SettingsError TypeError"
SETTINGS: Final[Expected] = {
    "as it should be": "succeeded",
    # The constructors without this argument raise `TypeError`.
    **dict.fromkeys(
        (
            *("client_id", "client_secret", "allowed_clients", "cache_seconds", "max_waiting", "fetch_endpoint"),
            *("issuers", "public_url", "audience", "hook_id", "interval_seconds", "settings"),
        ),
        _WRONG,
    ),
    "endpoint": f"{_WRONG} succeeded",
    "url": f"{_WRONG} ValueError",
    "key": f"{_WRONG} ValueError",
    "timeout_seconds": f"{_WRONG} ValueError",
    "the URL of Redis": "succeeded ValueError",
    "the environment": "SettingsError",
}
DOCUMENTS: Final[Expected] = {
    **dict.fromkeys(("GET /me", "GET /openapi.json", "GET /docs", "GET /redoc", "GET /docs/oauth2-redirect"), "200"),
    "GET /.well-known/oauth-protected-resource": "200",
    "GET /.well-known/oauth-protected-resource/https://api.example.test": "404",
}

_VERIFICATIONS: Final[Expected] = {
    "verify": "succeeded",
    "verify an opaque token": "succeeded",
    "verify an unknown token": "InactiveTokenError",
}
_GRANTS: Final = (
    *("a machine token", "an organization token", "an exchange", "an exchange of a personal access token"),
    *("a subject token", "userinfo"),
)
_NOT_REACHED: Final[Expected] = {
    **dict.fromkeys(_VERIFICATIONS, "ProviderUnavailableError"),
    **dict.fromkeys(_GRANTS, "GrantUnavailableError"),
}
SOCKETS: Final[Expected] = {
    **_VERIFICATIONS,
    **dict.fromkeys(_GRANTS, "succeeded"),
    **{f"{name}, cancelled": _CANCELLED for name in _NOT_REACHED},
    **{f"{name}, in an outage": outcome for name, outcome in _NOT_REACHED.items()},
    **{f"{name}, after the end": outcome for name, outcome in _NOT_REACHED.items()},
}
DELIVERY_LOG: Final[Expected] = {"the log": "succeeded", "the log, cancelled": _CANCELLED}
MCP: Final[Expected] = {
    "GET /mcp": "200 401 403",
    "GET /mcp/failing": "500,OSError 401 403",
    "GET /mcp/x%0A": "404 401 403",
    "GET /claims": "200 401",
}
WARNINGS: Final[Expected] = {
    "calls that are never awaited": "RuntimeWarning",
    "calls whose result is never retrieved": "GrantRefusedError",
}


def build_redis(names: Iterable[str]) -> Expected:
    """Return the outcomes of a store for each server that is not Redis. One accepts everything, without TLS."""
    servers = ["unreachable", *(f"{name}{tls}" for name in names for tls in ("", ", with TLS"))]
    unavailable = "RevocationStoreError ProviderUnavailableError"
    return {
        **dict.fromkeys(servers, unavailable),
        **{f"{name}, cancelled": _CANCELLED for name in servers},
        "accepts anything": f"succeeded {unavailable}",
    }


COMMAND_LINE: Final[Expected] = {
    "doctor --token-stdin": "exit-0 exit-1",
    "doctor --json --token-stdin": "exit-0 exit-1",
    "inspect --verify": "exit-0 exit-1",
    # Secrets as arguments, settings with a wrong secret, and a Redis server that is unreachable.
    **dict.fromkeys(("doctor", "doctor --token", "inspect", "--secret", "webhook follow --redis-url"), "exit-2"),
    **dict.fromkeys(("token --machine --resource", "token --machine"), "exit-2"),
}
# The secret that they output on purpose.
_PRINTED: Final = "exit-0 prints-1"
ISSUING_COMMANDS: Final[Expected] = {
    **dict.fromkeys(("token --machine --scope", "token --machine --organization acme --scope"), _PRINTED),
    "token --user alice --scope": _PRINTED,
    **dict.fromkeys(("token --sign-in --scope --timeout", "token --sign-in --scope --json --timeout"), _PRINTED),
    **dict.fromkeys(("webhook push --poll-only --yes", "webhook push --poll-only --yes --rotate-key --json"), _PRINTED),
    "token --device": f"{_PRINTED} exit-2 prints-0",
}
