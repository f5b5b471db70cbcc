"""Hostile documents of single endpoints: discovery, introspection and the token endpoint."""

import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import quote

from fastapi_logto.client import GrantRefusedError, GrantUnavailableError, IssuedToken
from tests.attack.provider import Document
from tests.vectors.forge import ABSENT, API, ISSUER_URL, NOW, each

# Random, so that a proof can search for them.
OPAQUE_TOKEN: Final = secrets.token_urlsafe(32)
SECRET: Final = f"secret+of/the=api+{secrets.token_urlsafe(16)}"
_EVIL: Final = "https://evil.example.test"
_ODD: Final[Mapping[str, Any]] = {
    "null": None,
    "true": True,
    "a number": 1,
    "a list": [[]],
    "an object": {},
    "empty": "",
}

_URLS: Final = (
    f"{_EVIL}/jwks",
    "http://tenant.example.test/oidc/jwks",
    "https://tenant.example.test:8443/oidc/jwks",
    "https://tenant.example.test.evil.example.test/jwks",
    "https://tenant.example.test@evil.example.test/jwks",
    "https://user:password@tenant.example.test/oidc/jwks",
    "//evil.example.test/jwks",
    "/oidc/jwks",
    "file:///etc/passwd",
    "data:application/json,{}",
    "https://tenant.example.test\\@evil.example.test/",
    "https://tenant.example.test/\r\nHost: evil",
    "https://[::1",
    "https://tenant.example.test:99999/",
    "\ud800",
)
_ENDPOINTS: Final = ("jwks_uri", "token_endpoint", "introspection_endpoint", "userinfo_endpoint")
DISCOVERY_ROWS: Final[Mapping[str, Mapping[str, object]]] = {
    **{f"issuer {name}": {"issuer": value} for name, value in _ODD.items()},
    **{
        f"issuer {issuer!r}": {"issuer": issuer}
        for issuer in (f"{ISSUER_URL}/", ISSUER_URL.upper(), ISSUER_URL[:-1], f"{_EVIL}/oidc", f" {ISSUER_URL}")
    },
    "issuer a list of ours": {"issuer": [ISSUER_URL]},
    **{f"every endpoint {name}": dict.fromkeys(_ENDPOINTS, value) for name, value in _ODD.items()},
    **{f"every endpoint {url!r}": dict.fromkeys(_ENDPOINTS, url) for url in _URLS},
    "no endpoint": dict.fromkeys(_ENDPOINTS, ABSENT),
}
"""Changes to the valid document that make it unusable."""
ELSEWHERE_ROWS: Final[Mapping[str, Mapping[str, object]]] = {
    f"all but the key set at {url!r}": dict.fromkeys(_ENDPOINTS[1:], url) for url in _URLS if url.isprintable()
}
"""Changes that leave the key set usable, and name other hosts for endpoints that receive a secret."""


@dataclass(frozen=True, slots=True, kw_only=True)
class IntrospectionRow:
    """An introspection response, and the status of a request with the introspected token."""

    document: Document
    status: int


def build_introspection(**changes: object) -> dict[str, object]:
    """Return the response about an active token, with changes."""
    members: dict[str, object] = {
        "active": True,
        "token_type": "Bearer",
        "sub": "alice",
        "client_id": "spa",
        "iss": ISSUER_URL,
        "iat": NOW - 100,
        "exp": NOW + 3500,
        "scope": "openid",
    }
    return {name: value for name, value in (members | changes).items() if value is not ABSENT}


def _introspect(status: int, **changes: object) -> IntrospectionRow:
    return IntrospectionRow(document=Document.of(build_introspection(**changes)), status=status)


INTROSPECTION_ROWS: Final[Mapping[str, IntrospectionRow]] = {
    "good": _introspect(200),
    **{
        f"active {value!r}": _introspect(401, active=value)
        for value in each([False, None, "true", 1, [True], {}, ABSENT])
    },
    **{
        f"token_type {value!r}": _introspect(401, token_type=value)
        for value in each([None, "", "mac", "DPoP", "refresh_token", 1, ["Bearer"], {}, ABSENT])
    },
    **{
        f"client_id {value!r}": _introspect(401, client_id=value)
        for value in each([None, "", "other", "SPA", "spa ", 1, ["spa"], {"spa": 1}, ABSENT])
    },
    **{
        f"iss {value!r}": _introspect(401, iss=value)
        for value in each([None, "", f"{ISSUER_URL}/", _EVIL, 1, [ISSUER_URL], {}, ABSENT])
    },
    **{
        f"exp {value!r:.20}": _introspect(401, exp=value)
        for value in each([None, "", str(NOW + 100), True, NOW - 100, -(10**400), [], {}, ABSENT])
    },
    **{f"sub {value!r}": _introspect(401, sub=value) for value in each([None, "", 1, [], {}, ABSENT])},
    **{f"scope {value!r}": _introspect(401, scope=value) for value in each([1, [], {}, True])},
    **{f"iat {value!r}": _introspect(401, iat=value) for value in each(["1", True, [], NOW + 3600])},
    "nbf ahead": _introspect(401, nbf=NOW + 3600),
    "nbf null": _introspect(401, nbf=None),
    "a sender-constrained token": _introspect(401, cnf={"jkt": "x"}),
    "a blank actor": _introspect(401, act={"sub": " "}),
    "exp of hundreds of digits": _introspect(200, exp=10**400),
    "unknown members": _introspect(200, unknown={"a": [1]}),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class GrantRow:
    """A response of the token endpoint, and what the client raises or returns."""

    document: Document
    expected: type[GrantRefusedError | GrantUnavailableError | IssuedToken]


def build_grant(**changes: object) -> dict[str, object]:
    """Return the response with a token, with changes."""
    members: dict[str, object] = {
        "access_token": "a.b.c",
        "token_type": "Bearer",
        "expires_in": 3600,
        "scope": f"read:user {API}",
    }
    return {name: value for name, value in (members | changes).items() if value is not ABSENT}


def _grant(expected: type[GrantUnavailableError | IssuedToken], **changes: object) -> GrantRow:
    return GrantRow(document=Document.of(build_grant(**changes)), expected=expected)


def _refuse(
    expected: type[GrantRefusedError | GrantUnavailableError], *, status: int = 400, **members: object
) -> GrantRow:
    document = Document.of(members)
    return GrantRow(document=Document(body=document.body, status=status), expected=expected)


GRANT_ROWS: Final[Mapping[str, GrantRow]] = {
    "good": _grant(IssuedToken),
    **{
        f"access_token {value!r:.20}": _grant(GrantUnavailableError, access_token=value)
        for value in each([None, "", " ", "a b", "a\nb", "a\x00", "\u00e9", "\ud800", 1, ["a"], {}, ABSENT])
    },
    **{
        f"token_type {value!r}": _grant(GrantUnavailableError, token_type=value)
        for value in each([None, "", "mac", "DPoP", "N_A", 1, ["Bearer"], ABSENT])
    },
    **{f"scope {value!r}": _grant(GrantUnavailableError, scope=value) for value in each([1, ["a"], {}, None])},
    "scope absent": _grant(IssuedToken, scope=ABSENT),
    **{
        f"expires_in {value!r:.20}": _grant(IssuedToken, expires_in=value)
        for value in each([None, "3600", True, 0, -1, 0.5, 1e300, 10**400, -(10**400), [], {}, ABSENT])
    },
    "an OAuth error": _refuse(GrantRefusedError, error="invalid_client"),
    "a description that repeats the secret": _refuse(
        GrantRefusedError, error="invalid_client", error_description=f"found {SECRET}"
    ),
    "a description that repeats the secret percent-encoded": _refuse(
        GrantRefusedError, error="invalid_client", error_description=f"found {quote(SECRET, safe='')}"
    ),
    "an error that repeats the secret": _refuse(GrantRefusedError, error=SECRET),
    "an error of many lines": _refuse(GrantRefusedError, error="a\r\nb\x1b[31m", error_description="c\nd"),
    **{f"error {value!r}": _refuse(GrantUnavailableError, error=value) for value in each([None, 1, ["a"], {}, True])},
    **{
        f"error_description {value!r}": _refuse(GrantRefusedError, error="invalid_grant", error_description=value)
        for value in each([None, 1, ["a"], {}, "x" * 100_000])
    },
}
