"""Describe the contents of a token and what would accept it. Nothing is trusted unless it was verified."""

import json
from base64 import urlsafe_b64decode
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

from pydantic import SecretStr

from fastapi_logto.cli.doctor.advice import build_exchange_advice
from fastapi_logto.cli.doctor.token import check_token
from fastapi_logto.cli.loops import run_to_end
from fastapi_logto.cli.results import Section
from fastapi_logto.cli.times import describe_time
from fastapi_logto.clock import Clock
from fastapi_logto.redaction import quote
from fastapi_logto.settings import LogtoSettings
from fastapi_logto.strict_json import JsonObject, JsonValue, StrictJsonError, parse_object
from fastapi_logto.verification.claims import ORGANIZATION_AUDIENCE, ORGANIZATIONS_AUDIENCE
from fastapi_logto.verification.jws import is_opaque, is_personal

TokenKind: TypeAlias = Literal[
    "opaque token",
    "personal access token",
    "ID token",
    "logout token",
    "access token for a global API resource",
    "access token for an API resource within an organization",
    "organization token",
    "organization token for urn:logto:resource:organizations",
    "access token for Logto's Management API",
    "unreadable",
]
"""The kinds of tokens that Logto issues."""

_TIMES: Final = ("iat", "nbf", "exp")
_LARGEST: Final = 128 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Inspection:
    """The contents of a token. **Nothing is known to be true** unless `is_verified`: signature and claims are valid.

    `subject`, `times` and `admission` are in words. `problem` is empty if the token can be read.
    """

    is_verified: bool
    kind: TokenKind
    subject: str
    header: JsonObject
    claims: JsonObject
    times: Mapping[str, str]
    admission: tuple[str, ...]
    problem: str
    verification: Section | None


def inspect_token(
    token: str, *, settings: LogtoSettings | None, is_to_be_verified: bool = False, clock: Clock | None = None
) -> Inspection:
    """Read a token, and verify it with the tenant's keys on request.

    Verification needs the settings. Without settings, nothing is said about whether the audience is this API's.
    """
    clock = clock or Clock()
    header, claims, problem = _read(token)
    kind: TokenKind = _find_kind_of_opaque(token) if problem else _find_kind(header, claims)
    report = None
    if is_to_be_verified and settings is not None:
        report = run_to_end(check_token(token, settings=settings, has_keys=True, clock=clock))
    return Inspection(
        is_verified=report is not None and report.is_verified and report.is_admitted,
        kind=kind,
        subject=_describe_subject(claims),
        header=header,
        claims=claims,
        times={
            name: describe_time(value, now=clock.now())
            for name, value in claims.items()
            if name in _TIMES and isinstance(value, int | float) and not isinstance(value, bool)
        },
        admission=tuple(_list_admission(kind, claims, settings)),
        problem=problem if kind == "unreadable" else "",
        verification=None if report is None else report.section,
    )


def _read(token: str) -> tuple[JsonObject, JsonObject, str]:
    """Return header, claims and an empty text, or a text that says why they can't be read.

    The signature is never decoded.
    """
    if len(token) > _LARGEST:
        return {}, {}, f"expected at most {_LARGEST} characters, found {len(token)}"
    parts = token.split(".")
    if len(parts) != 3:
        return {}, {}, f"expected the three parts of a JWT, found {len(parts)}"
    try:
        return _decode(parts[0]), _decode(parts[1]), ""
    except (StrictJsonError, ValueError) as error:
        return {}, {}, f"expected JSON objects in base64url as header and payload, found {type(error).__name__}"


def _decode(part: str) -> JsonObject:
    return parse_object(urlsafe_b64decode(part + "=" * (-len(part) % 4)))


def _find_kind_of_opaque(token: str) -> TokenKind:
    secret = SecretStr(token)
    if not is_opaque(secret):
        return "unreadable"
    return "personal access token" if is_personal(secret) else "opaque token"


def _find_kind(header: JsonObject, claims: JsonObject) -> TokenKind:
    typ = str(header.get("typ", "")).lower().removeprefix("application/")
    audience = claims.get("aud")
    if typ == "logout+jwt":
        return "logout token"
    if "typ" not in header and "scope" not in claims and "client_id" not in claims:
        return "ID token"
    if isinstance(audience, str):
        if audience == ORGANIZATIONS_AUDIENCE:
            return "organization token for urn:logto:resource:organizations"
        if audience.startswith(ORGANIZATION_AUDIENCE):
            return "organization token"
        if audience.endswith(".logto.app/api"):
            return "access token for Logto's Management API"
    if claims.get("organization_id"):
        return "access token for an API resource within an organization"
    return "access token for a global API resource"


def _describe_subject(claims: JsonObject) -> str:
    subject, client, actor = claims.get("sub"), claims.get("client_id"), claims.get("act")
    if not isinstance(subject, str):
        return ""
    if subject == client:
        return f"the machine-to-machine application {quote(subject)}, for itself"
    text = f"the user {quote(subject)}"
    if isinstance(client, str):
        text += f", through the application {quote(client)}"
    if isinstance(actor, dict):
        text += f", with {quote(actor.get('sub'))} acting on their behalf"
    return text


def _list_admission(kind: TokenKind, claims: JsonObject, settings: LogtoSettings | None) -> list[str]:
    if kind == "unreadable":
        return ["No API: Logto does not issue such tokens."]
    if kind == "personal access token":
        resource = "<your API>" if settings is None else settings.audience[0]
        return ["No API: a personal access token is not an access token.", build_exchange_advice(resource)]
    if kind == "opaque token":
        return [
            "No API by default: Logto issues opaque tokens if the client requests no resource.",
            "APIs that accept opaque tokens by introspection: LogtoAuth(introspection=Introspection(...)).",
        ]
    if kind in {"ID token", "logout token"}:
        return [
            "No API: an ID token is for the client." if kind == "ID token" else "No API: a logout token ends a session."
        ]
    scopes = str(claims.get("scope") or "").split(" ")
    shown = ", ".join(json.dumps(scope) for scope in scopes if scope)
    lines: list[str] = []
    if kind.startswith("organization token"):
        organization = claims.get("organization_id") or str(claims.get("aud")).removeprefix(ORGANIZATION_AUDIENCE)
        lines.append(f"Routes for the organization {quote(organization)}: Depends(auth.require_organization({shown})).")
        lines.append("No other routes: the token is not for an API resource.")
    else:
        lines.append(_describe_audience(claims.get("aud"), settings))
        if kind == "access token for an API resource within an organization":
            organization = quote(claims.get("organization_id"))
            lines.append(f"Also its routes for the organization {organization}: require_organization({shown}).")
    if shown and not kind.startswith("organization token"):
        lines.append(f"Routes that require scopes among {shown}: Depends(auth.require_scopes(...)).")
    elif not shown:
        lines.append("No route that requires a scope: the token has none.")
    return lines


def _describe_audience(audience: JsonValue, settings: LogtoSettings | None) -> str:
    audiences = audience if isinstance(audience, list) else [audience]
    text = f"Routes with Depends(auth) of an API whose audience is {' or '.join(map(quote, audiences))}"
    if settings is None:
        return f"{text}. Set LOGTO_AUDIENCE to see whether it is your API."
    if set(settings.audience).isdisjoint(one for one in audiences if isinstance(one, str)):
        return f"{text}. It is not your API: LOGTO_AUDIENCE is {', '.join(settings.audience)}."
    return f"{text}. It is your API."
