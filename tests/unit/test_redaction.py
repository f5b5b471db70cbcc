"""Text of a provider that repeats a secret in any encoding is not shown; other text is."""

from typing import Final
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastapi_logto.redaction import build_basic_secrets, mask, quote_setting, quote_url, show_url, split_url

SECRET: Final = "aB3-dE5_fG7~hJ9"

REPEATED: Final = {
    "whole": (SECRET, SECRET),
    "in a text": (f"the token {SECRET} is unknown", SECRET),
    "in upper case": (SECRET.upper(), SECRET),
    "eight letters of it": ("xx B3-dE5_fG7 xx", SECRET),
    "eight letters of it, spread": ("B 3 d E 5 f G 7", SECRET),
    "short": ("the pin is s3c", "s3c"),
    "short, all of the text": ("s3c", "s3c"),
    "no letters": ("the secret is +/+/", "+/+/"),
    "no letters, encoded": (quote("+/+/", safe=""), "+/+/"),
    "not ASCII": ("geheim: schlüßel", "Schlüßel"),
    "not ASCII, encoded": (quote_plus("schlüßel"), "schlüßel"),
    "every character encoded": ("".join(f"%{ord(letter):02x}" for letter in SECRET), SECRET),
    "encoded three times": (quote(quote(quote("a+b/c=d%e&f#g", safe=""), safe=""), safe=""), "a+b/c=d%e&f#g"),
    "lone surrogates around": (f"\ud800{SECRET}\udfff", SECRET),
    "the second of several": ("xx second-secret xx", "first-secret"),
}


@pytest.mark.parametrize("name", REPEATED)
def test_a_text_that_repeats_a_secret_is_replaced(name: str) -> None:
    text, secret = REPEATED[name]

    assert mask(text, secrets=[secret, "second-secret"]) == "***"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "invalid_grant",
        "client authentication failed",
        "grant request is invalid",
        "100 % of 50 %zz",
        "aB3-dE5_f",
        "\ud800",
    ],
    ids=ascii,
)
def test_another_text_is_left_as_it_is(text: str) -> None:
    assert mask(text, secrets=[SECRET, "0123456789"]) == text
    assert mask(text, secrets=[]) == text


def test_a_text_without_letters_is_no_piece_of_every_secret_without_letters() -> None:
    assert mask("a text", secrets=["+/+/", ""]) == "***"
    assert mask("a text", secrets=["+/+/"]) == "a text"


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("https://tenant.logto.app", "'https://tenant.logto.app'"),
        (7, "7"),
        ("https://user:hunter2@a", "a string of 22 characters, not shown because it may contain credentials"),
        ("https://a?key=hunter2", "a string of 21 characters, not shown because it may contain credentials"),
        ("https://a#hunter2", "a string of 17 characters, not shown because it may contain credentials"),
        (["https://a@b"], "a value, not shown because it may contain credentials"),
        ("X" * 78, f"'{'X' * 78}'"),
        ("X" * 79, f"'{'X' * 79}..."),
    ],
    ids=str,
)
def test_a_setting_is_quoted_unless_it_may_contain_credentials(value: object, shown: str) -> None:
    assert quote_setting(value) == shown


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://tenant.logto.app/oidc", "https://tenant.logto.app/oidc"),
        ("https://a/\n", "'https://a/\\n'"),
        ("https://\xe9", "'https://\\xe9'"),
        ("x" * 200, "x" * 200),
        ("x" * 201, f"'{'x' * 79}..."),
    ],
    ids=["usual", "another line", "not ASCII", "long", "too long"],
)
def test_a_url_is_shown_as_it_is_unless_it_could_change_the_log(url: str, shown: str) -> None:
    assert quote_url(url) == shown


def test_a_url_is_shown_without_what_may_be_secret() -> None:
    assert (
        show_url(split_url("https://user:hunter2@a.example:8443/b?key=hunter2#hunter2")) == "https://a.example:8443/b"
    )


@pytest.mark.parametrize("url", ["http://[", "http://a:x/b", "http://a:65536/"])
def test_of_an_invalid_url_nothing_is_shown(url: str) -> None:
    assert show_url(split_url(url)) == "://"


def test_the_credentials_of_http_basic_are_secret_with_and_without_form_encoding() -> None:
    # RFC 6749 section 2.3.1 has "a%3Ab:c+d"; others forget it.
    assert build_basic_secrets("a:b", "c d") == ("c d", "YSUzQWI6Yytk", "YTpiOmMgZA==")


@given(
    before=st.text(st.characters(exclude_characters="%"), max_size=20),
    secret=st.text(min_size=8, max_size=40),
    after=st.text(max_size=20),
)
def test_any_secret_is_found_in_any_text_in_each_encoding(before: str, secret: str, after: str) -> None:
    raw = secret.encode("utf-8", "replace").decode()
    for form in (raw, quote(raw, safe=""), quote_plus(raw), quote_plus(quote_plus(raw))):
        assert mask(f"{before}{form}{after}", secrets=[raw]) == "***"
