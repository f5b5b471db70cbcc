"""The expected differences between verdicts, and why ours is right: one row for each cause."""

from collections.abc import Callable
from typing import Any, Final

from tests.attack.comparison import ALL, LOGTO, NODE, PYJWT_ONLY, Difference
from tests.attack.facts import Facts, JsonText, is_actor
from tests.attack.peers import GUIDE
from tests.vectors.forge import NOW

_TYPES: Final = frozenset({"at+jwt", "application/at+jwt"})
_DEEPEST: Final = 32
_ISSUED_AHEAD_SECONDS: Final = 60
_LEEWAY_SECONDS: Final = 10


def _in_text(fits: Callable[[JsonText], bool]) -> Callable[[Facts], bool]:
    return lambda facts: any(fits(text) for text in facts.texts)


def _in_claims(fits: Callable[[Any], bool], *names: str) -> Callable[[Facts], bool]:
    def check(facts: Facts) -> bool:
        members = facts.payload.members
        return any(fits(members[name]) for name in names if name in members)

    return check


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_access_token_type(value: object) -> bool:
    return isinstance(value, str) and value.lower() in _TYPES


def _has_fraction(value: object) -> bool:
    return isinstance(value, float) and not value.is_integer()


DIFFERENCES: Final[tuple[Difference[Facts], ...]] = (
    Difference(
        id="the signature is written in another text",
        peers=ALL,
        fits=lambda facts: facts.has_signature_in_another_text,
        why="Padding, white space, the other alphabet and unused bits give one signature many texts, so a token has "
        "more than one digest. The peers drop them.",
        reference="RFC 7515 section 2; RFC 4648 sections 3.2, 3.3 and 3.5",
    ),
    Difference(
        id="b64 in the header",
        peers=ALL,
        fits=lambda facts: "b64" in facts.header.members,
        why="A JWT has no unencoded payload, and no extension is supported here: a header with b64 is refused, "
        "whatever its value. The peers ignore it unless crit lists it.",
        reference="RFC 7797 sections 6 and 7",
    ),
    Difference(
        id="another encoding than UTF-8",
        peers=ALL,
        fits=_in_text(lambda text: text.encoding == "other"),
        why="JSON between systems is UTF-8 without a byte order mark. Python's parser guesses the encoding, and "
        "JavaScript's decoder drops the mark.",
        reference="RFC 8259 section 8.1; RFC 7515 section 5.2",
    ),
    Difference(
        id="invalid UTF-8",
        peers=PYJWT_ONLY,
        fits=_in_text(lambda text: text.encoding == "invalid"),
        why="Python's parser passes surrogates that are encoded like characters.",
        reference="RFC 7519 section 7.2; RFC 8259 section 8.1",
    ),
    Difference(
        id="duplicate members",
        peers=ALL,
        fits=_in_text(lambda text: text.has_duplicates),
        why="Two readers can read two different values. The peers take the last one.",
        reference="RFC 7515 section 4; RFC 7519 section 4",
    ),
    Difference(
        id="NaN and Infinity",
        peers=PYJWT_ONLY,
        fits=_in_text(lambda text: text.has_constants),
        why="They are not JSON. Python's parser accepts them.",
        reference="RFC 8259 section 6",
    ),
    Difference(
        id="a number out of range",
        peers=ALL,
        fits=_in_text(lambda text: text.has_overflow),
        why="The peers read infinity, which a comparison of times then takes for far ahead.",
        reference="RFC 8259 section 6",
    ),
    Difference(
        id="an integer of thousands of digits",
        peers=NODE,
        fits=_in_text(lambda text: text.has_long_integer),
        why="Python cannot convert it, and JavaScript reads infinity.",
        reference="RFC 8259 section 6",
    ),
    Difference(
        id="a lone surrogate",
        peers=ALL,
        fits=_in_text(lambda text: text.has_surrogate),
        why="It is not a character, and a response or a log that contains it cannot be encoded.",
        reference="RFC 7493 section 2.1",
    ),
    Difference(
        id="deep nesting",
        peers=ALL,
        fits=_in_text(lambda text: text.depth > _DEEPEST),
        why="A parser that recurses can exhaust the stack. Ours checks the depth before it parses.",
        reference="RFC 8259 section 9",
    ),
    Difference(
        id="a text claim of another type",
        peers=ALL,
        fits=_in_claims(
            lambda value: not isinstance(value, str), "sub", "jti", "client_id", "scope", "organization_id"
        ),
        why="Handlers compare these claims with texts. The peers check the types of few claims.",
        reference="RFC 7519 sections 4.1.2 and 4.1.7; RFC 8693 section 4.2",
    ),
    Difference(
        id="an empty required claim",
        peers=ALL,
        fits=_in_claims(lambda value: value == "", "sub", "jti", "client_id"),
        why="An empty subject, client or token id identifies nobody. The peers check only that the claim exists.",
        reference="RFC 9068 section 2.2",
    ),
    Difference(
        id="a blank subject",
        peers=ALL,
        fits=_in_claims(lambda value: isinstance(value, str) and value.isspace(), "sub"),
        why="White space identifies nobody. The peers check only that the claim exists.",
        reference="RFC 9068 section 2.2; RFC 7519 section 4.1.2",
    ),
    Difference(
        id="an invalid actor",
        peers=ALL,
        fits=_in_claims(lambda value: not is_actor(value), "act"),
        why="A route that refuses actors must not overlook one that it cannot read.",
        reference="RFC 8693 section 4.1",
    ),
    Difference(
        id="an audience list with other values than texts",
        peers=NODE,
        fits=_in_claims(
            lambda value: isinstance(value, list) and any(not isinstance(one, str) for one in value),  # pyright: ignore[reportUnknownVariableType] - any JSON
            "aud",
        ),
        why="Every entry must be a text. jose looks for one that matches.",
        reference="RFC 7519 section 4.1.3",
    ),
    Difference(
        id="a time that is not a number",
        peers=PYJWT_ONLY,
        fits=_in_claims(lambda value: not _is_number(value), "exp", "iat", "nbf"),
        why="PyJWT converts texts and booleans.",
        reference="RFC 7519 section 2",
    ),
    Difference(
        id="a time with a fraction, refused",
        peers=PYJWT_ONLY,
        fits=_in_claims(_has_fraction, "nbf", "iat"),
        why="PyJWT drops the fraction, so that a token is valid up to a second early.",
        reference="RFC 7519 section 2",
    ),
    Difference(
        id="a time with a fraction, accepted",
        we_accept=True,
        peers=PYJWT_ONLY,
        fits=_in_claims(_has_fraction, "exp"),
        why="The token has not expired: PyJWT drops the fraction of exp.",
        reference="RFC 7519 sections 2 and 4.1.4",
    ),
    Difference(
        id="issued far ahead",
        peers=NODE,
        fits=_in_claims(lambda value: _is_number(value) and value > NOW + _ISSUED_AHEAD_SECONDS, "iat"),
        why="A token of the future is a mistake or a forgery. jose looks at iat only if an age is limited.",
        reference="RFC 7519 section 4.1.6",
    ),
    Difference(
        id="issued within a minute ahead",
        we_accept=True,
        peers=PYJWT_ONLY,
        fits=_in_claims(
            lambda value: _is_number(value) and NOW + _LEEWAY_SECONDS < value <= NOW + _ISSUED_AHEAD_SECONDS, "iat"
        ),
        why="iat says when a token was issued and not from when it is valid: that is nbf. Clocks of hosts differ by "
        "more than the leeway for exp without harm. PyJWT applies that leeway.",
        reference="RFC 7519 sections 4.1.5 and 4.1.6",
    ),
    Difference(
        id="a sender-constrained token",
        peers=ALL,
        fits=lambda facts: "cnf" in facts.payload.members,
        why="Its proof of possession is not checked here, so it must not pass as a bearer token.",
        reference="RFC 7800 section 3; RFC 9449 section 7; RFC 8705 section 3",
    ),
    Difference(
        id="a registered claim of null",
        peers=ALL,
        fits=_in_claims(lambda value: value is None, "scope", "act", "organization_id", "auth_time", "acr", "amr"),
        why="A present claim has a value of its type. The peers take null for an absent claim.",
        reference="RFC 7519 section 4.1",
    ),
    Difference(
        id="another type of token",
        peers=LOGTO,
        fits=lambda facts: not _is_access_token_type(facts.header.members.get("typ")),
        why="An ID token or a logout token of the same issuer must not open an API. Neither the guide nor mcp-auth "
        "looks at typ.",
        reference="RFC 9068 section 4; RFC 8725 section 3.11",
    ),
    Difference(
        id="no expiry",
        peers=LOGTO,
        fits=lambda facts: "exp" not in facts.payload.members,
        why="Such a token is valid for ever. By default jose accepts a token without the claim.",
        reference="RFC 9068 section 2.2",
    ),
    Difference(
        id="no subject",
        peers=frozenset({GUIDE}),
        fits=lambda facts: "sub" not in facts.payload.members,
        why="Nobody is identified. mcp-auth requires the claim too.",
        reference="RFC 9068 section 2.2",
    ),
    Difference(
        id="another required claim is absent",
        peers=LOGTO,
        fits=lambda facts: not {"iat", "jti", "client_id"} <= facts.payload.members.keys(),
        why="An access token has them: revocation needs the time and the id, and rules for clients the client.",
        reference="RFC 9068 section 2.2",
    ),
    Difference(
        id="expired within the leeway",
        we_accept=True,
        peers=LOGTO,
        fits=_in_claims(lambda value: _is_number(value) and NOW - _LEEWAY_SECONDS < value <= NOW, "exp"),
        why="The clocks of two hosts differ. The leeway is a setting of ours, and by default jose has none.",
        reference="RFC 7519 section 4.1.4",
    ),
    Difference(
        id="valid within the leeway",
        we_accept=True,
        peers=LOGTO,
        fits=_in_claims(lambda value: _is_number(value) and NOW < value <= NOW + _LEEWAY_SECONDS, "nbf"),
        why="The same for the time from which a token is valid.",
        reference="RFC 7519 section 4.1.5",
    ),
)
