"""`Authorization` headers, with and without a bearer token."""

from typing import Final

from tests.vectors.rows import HEADER_FORMAT, HEADER_MISSING, HEADER_TYPE, AuthorizationRow, Refusal

LONGEST_READ: Final = 131_072
_TOKEN: Final = "eyJhbGciOiJFUzM4NCJ9.e30.c2ln"
_PARTS: Final = "RFC 6750 section 2.1"
_SCHEME: Final = "RFC 9110 section 11.1"
_TOKEN68: Final = "RFC 9110 section 11.2"
_FIELD: Final = "RFC 9110 section 5.5"


def _admitted(name: str, value: str, *, token: str = _TOKEN, reference: str = _PARTS) -> AuthorizationRow:
    return AuthorizationRow(id=name, values=(value,), token=token, refused=None, reference=reference)


def _refused(name: str, refusal: Refusal, *values: str, reference: str = _PARTS) -> AuthorizationRow:
    return AuthorizationRow(id=name, values=values, refused=refusal, reference=reference)


AUTHORIZATION_ROWS: Final = (
    _admitted("good", f"Bearer {_TOKEN}"),
    _admitted("scheme in lower case", f"bearer {_TOKEN}", reference=_SCHEME),
    _admitted("scheme in upper case", f"BEARER {_TOKEN}", reference=_SCHEME),
    _admitted("scheme in mixed case", f"bEaReR {_TOKEN}", reference=_SCHEME),
    _admitted("several spaces between", f"Bearer   {_TOKEN}", reference="RFC 9110 section 11.4"),
    _admitted("white space around", f" \tBearer {_TOKEN}\t ", reference=_FIELD),
    _admitted("every character of a token68", "Bearer aZ09-._~+/==", token="aZ09-._~+/==", reference=_TOKEN68),
    _admitted("a scheme's name as token", "Bearer Basic", token="Basic"),
    _admitted("one megabyte is left to the size check", "Bearer " + "a" * 2**20, token="a" * 2**20),
    _admitted(
        "past the length that is read the alphabet is left to the size check",
        "Bearer " + "!" * (LONGEST_READ + 1),
        token="!" * (LONGEST_READ + 1),
    ),
    _refused("no header", HEADER_MISSING),
    _refused("empty header", HEADER_MISSING, ""),
    _refused("only spaces", HEADER_MISSING, "   "),
    _refused("only tabs", HEADER_MISSING, "\t\t"),
    _refused("one megabyte of spaces", HEADER_MISSING, " " * 2**20),
    _refused("several headers", HEADER_FORMAT, f"Bearer {_TOKEN}", "Bearer x", reference="RFC 9110 section 5.3"),
    _refused("the same header twice", HEADER_FORMAT, f"Bearer {_TOKEN}", f"Bearer {_TOKEN}"),
    _refused("an empty header beside a good one", HEADER_FORMAT, "", f"Bearer {_TOKEN}"),
    _refused("two schemes in two headers", HEADER_FORMAT, "Basic dXNlcjpwYXNz", f"Bearer {_TOKEN}"),
    _refused("two schemes in one header", HEADER_FORMAT, f"Bearer {_TOKEN}, Basic dXNlcjpwYXNz"),
    _refused("two schemes without a space", HEADER_FORMAT, f"Bearer {_TOKEN},Basic"),
    _refused("scheme alone", HEADER_FORMAT, "Bearer"),
    _refused("scheme and a space", HEADER_FORMAT, "Bearer "),
    _refused("token alone", HEADER_FORMAT, _TOKEN),
    _refused("scheme twice", HEADER_FORMAT, f"Bearer Bearer {_TOKEN}"),
    _refused("three parts", HEADER_FORMAT, f"Bearer {_TOKEN} x"),
    _refused("one word that is longer than a scheme's name", HEADER_FORMAT, "a" * 33),
    _refused("opaque token alone", HEADER_FORMAT, "Ab3" * 14 + "_"),
    _refused("tab between", HEADER_FORMAT, f"Bearer\t{_TOKEN}", reference="RFC 9110 section 11.4"),
    _refused("tab after the space", HEADER_FORMAT, f"Bearer \t{_TOKEN}"),
    _refused("colon between", HEADER_FORMAT, f"Bearer:{_TOKEN}"),
    _refused("non-breaking space between", HEADER_FORMAT, f"Bearer\xa0{_TOKEN}"),
    _refused("auth-param instead of a token", HEADER_FORMAT, f'Bearer token="{_TOKEN}"', reference=_TOKEN68),
    _refused("quoted token", HEADER_FORMAT, f'Bearer "{_TOKEN}"', reference=_TOKEN68),
    _refused("only padding", HEADER_FORMAT, "Bearer ==", reference=_TOKEN68),
    _refused("padding in the middle", HEADER_FORMAT, "Bearer ab=cd", reference=_TOKEN68),
    _refused("a letter after the padding", HEADER_FORMAT, "Bearer ab=X", reference=_TOKEN68),
    _refused("line feed at the end", HEADER_FORMAT, f"Bearer {_TOKEN}\n", reference=_FIELD),
    _refused("carriage return at the end", HEADER_FORMAT, f"Bearer {_TOKEN}\r", reference=_FIELD),
    _refused("a header smuggled in", HEADER_FORMAT, f"Bearer {_TOKEN}\r\nX-User:admin", reference="OWASP ASVS V9"),
    _refused("NUL at the end", HEADER_FORMAT, f"Bearer {_TOKEN}\x00", reference=_FIELD),
    _refused("vertical tab inside", HEADER_FORMAT, f"Bearer a\x0b{_TOKEN}", reference=_FIELD),
    _refused("delete character", HEADER_FORMAT, f"Bearer {_TOKEN}\x7f", reference=_FIELD),
    _refused("latin-1 letter", HEADER_FORMAT, f"Bearer {_TOKEN}\xe9", reference=_FIELD),
    _refused("full-width digit", HEADER_FORMAT, f"Bearer {_TOKEN}\uff11", reference=_FIELD),
    _refused("Arabic digit", HEADER_FORMAT, f"Bearer {_TOKEN}\u0661", reference=_FIELD),
    _refused("lone surrogate", HEADER_FORMAT, f"Bearer {_TOKEN}\udcff", reference=_FIELD),
    _refused("a bad character at the very length that is read", HEADER_FORMAT, "Bearer " + "a" * 131_071 + "!"),
    _refused("Basic", HEADER_TYPE, "Basic dXNlcjpwYXNz", reference=_SCHEME),
    _refused("another scheme alone", HEADER_TYPE, "Negotiate", reference=_SCHEME),
    _refused("three parts of another scheme", HEADER_TYPE, "Negotiate a b", reference=_SCHEME),
    _refused("parameters of another scheme", HEADER_TYPE, 'Digest username="a", realm="b"', reference=_SCHEME),
    _refused("the longest name of a scheme alone", HEADER_TYPE, "a" * 32, reference=_SCHEME),
    _refused("DPoP", HEADER_TYPE, f"DPoP {_TOKEN}", reference="RFC 9449 section 7.1"),
    _refused("Token", HEADER_TYPE, f"Token {_TOKEN}", reference=_SCHEME),
    _refused("scheme cut short", HEADER_TYPE, f"Beare {_TOKEN}", reference=_SCHEME),
    _refused("scheme with more behind", HEADER_TYPE, f"Bearers {_TOKEN}", reference=_SCHEME),
    _refused("scheme with a comma", HEADER_TYPE, f"Bearer, {_TOKEN}", reference=_SCHEME),
    _refused("scheme with an accent", HEADER_TYPE, f"Bear\xe9r {_TOKEN}", reference=_SCHEME),
    _refused("scheme in Cyrillic", HEADER_TYPE, f"B\u0435arer {_TOKEN}", reference=_SCHEME),
    _refused("another scheme of one megabyte", HEADER_TYPE, "x" * 2**20 + f" {_TOKEN}", reference=_SCHEME),
)
