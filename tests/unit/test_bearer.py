"""Parsing of the `Authorization` header, and the challenge in the response."""

import re
from collections.abc import Sequence
from typing import Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import SecretStr

from fastapi_logto.errors import AuthorizationFormatError, AuthorizationHeaderError, RefusalError
from fastapi_logto.responses import build_challenge
from fastapi_logto.verification.bearer import parse_authorization
from tests.vectors.authorization import AUTHORIZATION_ROWS, LONGEST_READ
from tests.vectors.rows import AuthorizationRow

PARAMETER: Final = re.compile(r'([a-z_]+)="([^"\\]*)"')


def parse(values: Sequence[str]) -> SecretStr:
    """Parse headers that are passed as `str`."""
    return parse_authorization([value.encode("utf-8", "surrogatepass") for value in values])


def outcome(values: Sequence[str]) -> str | RefusalError:
    """Return the token or the refusal. Any other exception fails the test."""
    try:
        return parse(values).get_secret_value()
    except RefusalError as error:
        return error


@pytest.mark.parametrize("row", AUTHORIZATION_ROWS, ids=lambda row: row.id)
def test_each_row_returns_its_token_or_its_refusal(row: AuthorizationRow) -> None:
    if row.refused is None:
        assert parse(row.values).get_secret_value() == row.token
        return
    with pytest.raises(RefusalError) as caught:
        parse(row.values)

    assert row.refused.fits(caught.value), repr(caught.value)
    assert caught.value.claim == row.claim


@pytest.mark.parametrize("row", [row for row in AUTHORIZATION_ROWS if row.refused is not None], ids=lambda row: row.id)
def test_a_refused_header_is_echoed_nowhere(row: AuthorizationRow) -> None:
    with pytest.raises(RefusalError) as caught:
        parse(row.values)

    said = f"{caught.value} {caught.value!r} {caught.value.message} {caught.value.found}"
    for value in row.values:
        assert not [part for part in value.split(" ") if len(part) > 8 and part in said]


def test_the_table_begins_with_the_valid_header_and_names_every_row_once() -> None:
    assert (AUTHORIZATION_ROWS[0].id, AUTHORIZATION_ROWS[0].refused) == ("good", None)
    assert len({row.id for row in AUTHORIZATION_ROWS}) == len(AUTHORIZATION_ROWS)


def test_the_refusals_say_what_was_expected() -> None:
    with pytest.raises(AuthorizationFormatError) as several:
        parse(["Bearer a", "Bearer b", "Bearer c"])
    with pytest.raises(AuthorizationFormatError) as parts:
        parse(["Bearer"])
    with pytest.raises(AuthorizationFormatError) as alphabet:
        parse(["Bearer \u00e9"])

    with pytest.raises(AuthorizationFormatError) as words:
        parse(["Bearer a b"])

    code = "auth.authorization_token_invalid_format"
    assert str(words.value) == f"{code}: header_format, expected Bearer and a token"
    assert str(several.value) == f"{code}: header_format, found 3 Authorization headers"
    assert str(parts.value) == f"{code}: header_format, expected Bearer and a token"
    assert str(alphabet.value) == f"{code}: header_format, expected characters of a token68"


def test_the_characters_of_a_header_are_checked_up_to_128_kib() -> None:
    assert LONGEST_READ == 128 * 1024
    assert parse(["Bearer " + "a" * LONGEST_READ]).get_secret_value() == "a" * LONGEST_READ


@settings(max_examples=200, deadline=None)
@given(
    st.lists(
        st.one_of(
            st.text(max_size=60),
            st.builds(
                "{}{}{}".format,
                st.sampled_from(["Bearer", "bearer", "Basic", ""]),
                st.text(" \t", max_size=3),
                st.text(max_size=40),
            ),
            st.from_regex(r"\A[Bb]earer +[A-Za-z0-9\-._~+/]{1,40}={0,2}\Z"),
        ),
        max_size=2,
    )
)
def test_any_headers_end_in_a_token68_or_a_refusal(values: list[str]) -> None:
    token = outcome(values)
    if isinstance(token, RefusalError):
        assert isinstance(token, AuthorizationHeaderError)
        assert (token.status, token.claim) == (401, None)
        return
    assert re.fullmatch(r"[A-Za-z0-9\-._~+/]+=*", token)
    assert values[0].rstrip(" \t").endswith(token)
    assert values[0].strip(" \t")[:6].lower() == "bearer"


@pytest.mark.parametrize(
    ("challenge", "value"),
    [
        (build_challenge(), "Bearer"),
        (build_challenge(realm="Logto"), 'Bearer realm="Logto"'),
        (build_challenge(realm="Logto", scopes=["a"]), 'Bearer realm="Logto", scope="a"'),
        (build_challenge(error="invalid_token"), 'Bearer error="invalid_token"'),
        (
            build_challenge(error="invalid_token", description="The token has expired"),
            'Bearer error="invalid_token", error_description="The token has expired"',
        ),
        (
            build_challenge(error="insufficient_scope", scopes=["read:user", "write:user"]),
            'Bearer error="insufficient_scope", scope="read:user write:user"',
        ),
        (build_challenge(scopes=("a",)), 'Bearer scope="a"'),
        (build_challenge(resource_metadata="https://a.example/b"), 'Bearer resource_metadata="https://a.example/b"'),
        (
            build_challenge(error="invalid_token", resource_metadata="https://a.example/b"),
            'Bearer error="invalid_token", resource_metadata="https://a.example/b"',
        ),
        (build_challenge(description="!#[]~ 'x', y=z;"), "Bearer error_description=\"!#[]~ 'x', y=z;\""),
        (build_challenge(error="invalid_token", scopes=[]), 'Bearer error="invalid_token"'),
        (
            build_challenge(error="insufficient_scope", description="none", scopes=["!#$[]^~"]),
            'Bearer error="insufficient_scope", error_description="none", scope="!#$[]^~"',
        ),
    ],
)
def test_a_challenge_contains_its_arguments(challenge: str, value: str) -> None:
    assert challenge == value


@pytest.mark.parametrize(
    "text",
    [
        'say "x"',
        "back\\slash",
        "caf\u00e9",
        "\u0447\u0438\u0442\u0430\u0442\u044c",
        "a\r\nX: y",
        "a\n",
        "\x00",
        "\x7f",
        "tab\there",
        "\u2028",
        "\ud800",
    ],
)
def test_a_text_with_characters_that_a_challenge_can_not_have_is_omitted(text: str) -> None:
    assert build_challenge(error="invalid_token", description=text) == 'Bearer error="invalid_token"'
    assert build_challenge(error="insufficient_scope", scopes=["read", text]) == 'Bearer error="insufficient_scope"'
    assert build_challenge(resource_metadata=f"https://a.example/{text}") == "Bearer"


@pytest.mark.parametrize("scope", ["", "two words", " "])
def test_one_invalid_scope_omits_all_scopes(scope: str) -> None:
    assert build_challenge(error="insufficient_scope", scopes=["read", scope]) == 'Bearer error="insufficient_scope"'


@settings(max_examples=200, deadline=None)
@given(
    st.sampled_from([None, "invalid_request", "invalid_token", "insufficient_scope"]),
    st.none() | st.text(max_size=40) | st.text(alphabet='ab ,="\\\r\n\x00\u00e9', max_size=20),
    st.lists(st.text(max_size=10) | st.text(alphabet='ab:"\\ \n', max_size=6), max_size=3),
)
def test_any_challenge_is_one_line_of_ascii_with_closed_quotes_around_the_exact_texts(
    error: str | None, description: str | None, scopes: list[str]
) -> None:
    challenge = build_challenge(error=error, description=description, scopes=scopes)

    assert challenge.encode("ascii") == challenge.encode("latin-1")
    assert not set(challenge) & set("\r\n\x00\\")
    parameters = dict(PARAMETER.findall(challenge))
    rebuilt = ", ".join(f'{name}="{value}"' for name, value in parameters.items())
    assert challenge == (f"Bearer {rebuilt}" if rebuilt else "Bearer")
    assert set(parameters) <= {"error", "error_description", "scope"}
    assert parameters.get("error") == error
    assert parameters.get("error_description", description) == description
    assert parameters.get("scope", " ".join(scopes)) == " ".join(scopes)
