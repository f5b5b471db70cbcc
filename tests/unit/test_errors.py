"""The error tree: the message of each class for the client and for the log, and that neither can be abused."""

import re
from typing import Final, get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastapi_logto import errors
from fastapi_logto.errors import (
    AuthorizationHeaderError,
    ClaimError,
    ErrorCode,
    ForbiddenError,
    InsufficientScopeError,
    InvalidTokenError,
    LogtoError,
    OpaqueTokenError,
    ProviderUnavailableError,
    Reason,
    RefusalError,
    SettingsError,
    SignatureError,
)
from fastapi_logto.provider.failures import FetchError
from fastapi_logto.redaction import quote

# name: parent, code, reason, status
TREE: Final = {
    "AuthorizationMissingError": (
        AuthorizationHeaderError,
        "auth.authorization_header_missing",
        "header_missing",
        401,
    ),
    "AuthorizationFormatError": (
        AuthorizationHeaderError,
        "auth.authorization_token_invalid_format",
        "header_format",
        401,
    ),
    "AuthorizationTypeError": (
        AuthorizationHeaderError,
        "auth.authorization_token_type_not_supported",
        "header_type",
        401,
    ),
    "MalformedTokenError": (InvalidTokenError, "invalid_token", "malformed", 401),
    "TokenTooLargeError": (InvalidTokenError, "invalid_token", "too_large", 401),
    "AlgorithmError": (InvalidTokenError, "invalid_token", "algorithm", 401),
    "TokenTypeError": (InvalidTokenError, "invalid_token", "type", 401),
    "IdTokenError": (InvalidTokenError, "invalid_token", "id_token", 401),
    "OpaqueTokenError": (InvalidTokenError, "invalid_token", "opaque_token", 401),
    "UnknownKeyError": (InvalidTokenError, "invalid_token", "unknown_key", 401),
    "InactiveTokenError": (InvalidTokenError, "invalid_token", "inactive", 401),
    "SignatureError": (InvalidTokenError, "invalid_token", "signature", 401),
    "IssuerError": (InvalidTokenError, "invalid_token", "issuer", 401),
    "AudienceError": (InvalidTokenError, "invalid_token", "audience", 401),
    "ExpiredTokenError": (InvalidTokenError, "invalid_token", "expired", 401),
    "ImmatureTokenError": (InvalidTokenError, "invalid_token", "not_yet_valid", 401),
    "RevokedTokenError": (InvalidTokenError, "invalid_token", "revoked", 401),
    "ClaimError": (InvalidTokenError, "invalid_token", "claims", 401),
    "InsufficientScopeError": (ForbiddenError, "insufficient_scope", "scope", 403),
    "OrganizationRequiredError": (ForbiddenError, "organization_required", "organization_required", 403),
    "OrganizationMismatchError": (ForbiddenError, "organization_mismatch", "organization_mismatch", 403),
    "UserRequiredError": (ForbiddenError, "user_required", "user_required", 403),
    "MachineRequiredError": (ForbiddenError, "machine_required", "machine_required", 403),
    "ClientNotAllowedError": (ForbiddenError, "client_not_allowed", "client_not_allowed", 403),
    "ActorRequiredError": (ForbiddenError, "actor_required", "actor_required", 403),
    "ActorNotAllowedError": (ForbiddenError, "actor_not_allowed", "actor_not_allowed", 403),
    "ClaimsNotAllowedError": (ForbiddenError, "claims_not_allowed", "claims_not_allowed", 403),
    "ProviderUnavailableError": (RefusalError, "provider_unavailable", "provider_unavailable", 503),
}
ABSTRACT: Final = {"LogtoError", "RefusalError", "AuthorizationHeaderError", "InvalidTokenError", "ForbiddenError"}
ON_THEIR_OWN: Final = {"SettingsError"}
REFUSALS: Final = [error for name in TREE if issubclass(error := getattr(errors, name), RefusalError)]


@pytest.mark.parametrize("name", TREE)
def test_a_refusal_has_the_code_reason_and_status_that_clients_rely_on(name: str) -> None:
    error = getattr(errors, name)
    parent, code, reason, status = TREE[name]

    assert (error.__bases__, error.code, error.reason, error.status) == ((parent,), code, reason, status)


def test_the_table_above_has_every_error_of_the_module() -> None:
    declared = {
        name for name, value in vars(errors).items() if isinstance(value, type) and issubclass(value, Exception)
    }

    assert declared == set(TREE) | ABSTRACT | ON_THEIR_OWN
    assert declared <= set(errors.__all__)


def test_reasons_and_codes_of_the_types_are_those_of_the_errors() -> None:
    assert {code for _, code, _, _ in TREE.values()} == set(get_args(ErrorCode))
    assert {reason for _, _, reason, _ in TREE.values()} == set(get_args(Reason))


def test_the_module_s_drawing_of_the_tree_names_every_error_once() -> None:
    drawn = re.findall(r"\w+Error\b", (errors.__doc__ or "").partition("\n\n    ")[2].partition("\n\nWhat")[0])

    assert sorted(drawn) == sorted({*TREE, *ABSTRACT, *ON_THEIR_OWN})


def test_what_a_user_catches_is_a_logto_error() -> None:
    assert issubclass(RefusalError, LogtoError)
    assert issubclass(FetchError, LogtoError)
    assert issubclass(SettingsError, LogtoError)
    assert issubclass(SettingsError, ValueError)


@pytest.mark.parametrize("error", REFUSALS, ids=lambda error: error.__name__)
def test_a_default_message_fits_into_a_challenge(error: type[RefusalError]) -> None:
    assert re.fullmatch(r"[\x20\x21\x23-\x5b\x5d-\x7e]{20,}", error.default_message)


def test_a_refusal_without_details_has_its_default_message_and_a_short_log_line() -> None:
    error = SignatureError()

    assert error.message == "Invalid token signature. Send the token exactly as Logto issued it."
    assert (error.claim, error.expected, error.found) == (None, None, None)
    assert str(error) == "invalid_token: signature"
    assert error.args == (error.message,)


def test_the_log_line_has_claim_expected_and_found_and_the_message_has_none_of_them() -> None:
    error = ClaimError("Ask for it", claim="exp", expected="a number", found="'soon'")

    assert error.message == "Ask for it"
    assert str(error) == "invalid_token: claims, claim exp, expected a number, found 'soon'"
    assert repr(error) == "ClaimError('Ask for it')"


def test_a_missing_scope_is_reported_with_all_that_were_required() -> None:
    error = InsufficientScopeError("No", scopes=["read", "write"], missing=["write"], found="'read'")

    assert (error.scopes, error.missing, error.claim) == (("read", "write"), ("write",), "scope")
    assert str(error) == "insufficient_scope: scope, claim scope, expected 'read write', found 'read'"


def test_an_unreachable_provider_says_when_to_come_back() -> None:
    default = ProviderUnavailableError()
    later = ProviderUnavailableError("Later", retry_after_seconds=17, found="status 500")

    assert default.retry_after_seconds == 1
    assert default.message == (
        "The identity provider is unavailable, so the token can't be verified now; try again later"
    )
    assert (later.message, later.retry_after_seconds) == ("Later", 17)
    assert str(later) == "provider_unavailable: provider_unavailable, found status 500"


def test_a_failed_fetch_keeps_the_status_that_came() -> None:
    assert FetchError("gone").status is None
    assert FetchError("gone", status=410).status == 410
    assert str(FetchError("gone", status=410)) == "gone"


@pytest.mark.parametrize(
    ("value", "quoted"),
    [
        ("kid", "'kid'"),
        (None, "None"),
        (["a", 1], "['a', 1]"),
        ("\u00e9\u202e", r"'\xe9\u202e'"),
        ("\ud800", r"'\ud800'"),
        ("a\r\nb\x00\x1b[2J", r"'a\r\nb\x00\x1b[2J'"),
        ("x" * 78, "'" + "x" * 78 + "'"),
        ("x" * 79, "'" + "x" * 79 + "..."),
        ("x" * 100_000, "'" + "x" * 79 + "..."),
        ("\u00e9" * 100, ("'" + r"\xe9" * 20)[:80] + "..."),
    ],
)
def test_a_value_from_outside_is_quoted_in_ascii_and_cut_at_80(value: object, quoted: str) -> None:
    assert quote(value) == quoted


@settings(max_examples=150, deadline=None)
@given(st.one_of(st.text(), st.binary(), st.recursive(st.none() | st.text(), st.lists)))
def test_any_quoted_value_is_one_line_of_printable_ascii(value: object) -> None:
    assert re.fullmatch(r"[\x20-\x7e]{2,83}", quote(value))


def test_an_opaque_token_is_neither_personal_nor_of_an_organization_by_default() -> None:
    assert OpaqueTokenError().message == OpaqueTokenError.default_message
    assert OpaqueTokenError(resources=["b", "a"]).message.endswith("; request the token with resource=a or b")
