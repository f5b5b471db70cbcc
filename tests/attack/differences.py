"""Where verdicts may differ, and why ours is right: one row for each cause."""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any, Final

from tests.attack.facts import Facts, JsonText, is_actor
from tests.vectors.forge import NOW

__all__ = ["DIFFERENCES", "Difference", "explain"]

_BOTH: Final = frozenset({"pyjwt", "jose"})
_JOSE: Final = frozenset({"jose"})
_PYJWT: Final = frozenset({"pyjwt"})
_DEEPEST: Final = 32
_ISSUED_AHEAD_SECONDS: Final = 60
_LEEWAY_SECONDS: Final = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """A cause of differences that are as they must be.

    Attributes:
        id: Name of the row.
        we_accept: Our verdict. Where we accept and a peer refuses, the row needs the better reason.
        peers: Those that may say the contrary.
        fits: Whether a mutant is of this kind.
        why: Why our verdict is right.
        reference: Where that is said.
    """

    id: str
    we_accept: bool = False
    peers: frozenset[str]
    fits: Callable[[Facts], bool]
    why: str
    reference: str


def explain(
    rows: Sequence[Difference], facts: Facts, *, we_accept: bool, contrary: Collection[str]
) -> list[Difference] | None:
    """Return the rows that explain why peers say the contrary of us; `None` unless they explain each of these peers."""
    fitting = [row for row in rows if row.we_accept == we_accept and row.fits(facts)]
    explained = frozenset[str]().union(*(row.peers for row in fitting))
    return fitting if explained.issuperset(contrary) else None


def _in_text(fits: Callable[[JsonText], bool]) -> Callable[[Facts], bool]:
    return lambda facts: any(fits(text) for text in facts.texts)


def _in_claims(fits: Callable[[Any], bool], *names: str) -> Callable[[Facts], bool]:
    def check(facts: Facts) -> bool:
        members = facts.payload.members
        return any(fits(members[name]) for name in names if name in members)

    return check


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _has_fraction(value: object) -> bool:
    return isinstance(value, float) and not value.is_integer()


DIFFERENCES: Final = (
    Difference(
        id="the signature is written in another text",
        peers=_BOTH,
        fits=lambda facts: facts.has_signature_in_another_text,
        why="Padding, white space, the other alphabet and unused bits give one signature many texts, so a token has "
        "more than one digest. The peers drop them.",
        reference="RFC 7515 section 2; RFC 4648 sections 3.2, 3.3 and 3.5",
    ),
    Difference(
        id="b64 in the header",
        peers=_BOTH,
        fits=lambda facts: "b64" in facts.header.members,
        why="An unencoded payload is no JWT, and we understand no extension: a header that names it is refused, "
        "whatever its value. The peers ignore it unless crit lists it.",
        reference="RFC 7797 sections 6 and 7",
    ),
    Difference(
        id="another encoding than UTF-8",
        peers=_BOTH,
        fits=_in_text(lambda text: text.encoding == "other"),
        why="JSON between systems is UTF-8 without a byte order mark. Python's parser guesses the encoding, and "
        "JavaScript's decoder drops the mark.",
        reference="RFC 8259 section 8.1; RFC 7515 section 5.2",
    ),
    Difference(
        id="invalid UTF-8",
        peers=_BOTH,
        fits=_in_text(lambda text: text.encoding == "invalid"),
        why="JavaScript's decoder replaces what is invalid and PyJWT passes surrogates on, so that several payloads "
        "mean the same.",
        reference="RFC 7519 section 7.2; RFC 8259 section 8.1",
    ),
    Difference(
        id="duplicate members",
        peers=_BOTH,
        fits=_in_text(lambda text: text.has_duplicates),
        why="Two readers may each take another one. The peers take the last.",
        reference="RFC 7515 section 4; RFC 7519 section 4",
    ),
    Difference(
        id="NaN and Infinity",
        peers=_PYJWT,
        fits=_in_text(lambda text: text.has_constants),
        why="They are no JSON. Python's parser accepts them.",
        reference="RFC 8259 section 6",
    ),
    Difference(
        id="a number that no double holds",
        peers=_BOTH,
        fits=_in_text(lambda text: text.has_overflow),
        why="The peers read infinity, which a comparison of times then takes for far ahead.",
        reference="RFC 8259 section 6",
    ),
    Difference(
        id="an integer of thousands of digits",
        peers=_JOSE,
        fits=_in_text(lambda text: text.has_long_integer),
        why="Python does not convert it; JavaScript reads infinity.",
        reference="RFC 8259 section 6",
    ),
    Difference(
        id="a lone surrogate",
        peers=_BOTH,
        fits=_in_text(lambda text: text.has_surrogate),
        why="It is no character, and writing it into a response or a log fails later.",
        reference="RFC 7493 section 2.1",
    ),
    Difference(
        id="deep nesting",
        peers=_BOTH,
        fits=_in_text(lambda text: text.depth > _DEEPEST),
        why="Readers recurse. Ours refuses before it does.",
        reference="RFC 8259 section 9",
    ),
    Difference(
        id="a text claim of another type",
        peers=_BOTH,
        fits=_in_claims(
            lambda value: not isinstance(value, str), "sub", "jti", "client_id", "scope", "organization_id"
        ),
        why="Handlers compare these claims with texts. The peers look at the types of few.",
        reference="RFC 7519 sections 4.1.2 and 4.1.7; RFC 8693 section 4.2",
    ),
    Difference(
        id="an empty required claim",
        peers=_BOTH,
        fits=_in_claims(lambda value: value == "", "sub", "jti", "client_id"),
        why="An empty subject, client or token id identifies nobody. The peers check only that the claim exists.",
        reference="RFC 9068 section 2.2",
    ),
    Difference(
        id="a blank subject",
        peers=_BOTH,
        fits=_in_claims(lambda value: isinstance(value, str) and value.isspace(), "sub"),
        why="White space identifies nobody. The peers check only that the claim exists.",
        reference="RFC 9068 section 2.2; RFC 7519 section 4.1.2",
    ),
    Difference(
        id="an actor that is none",
        peers=_BOTH,
        fits=_in_claims(lambda value: not is_actor(value), "act"),
        why="A route that refuses actors must not overlook one that it cannot read.",
        reference="RFC 8693 section 4.1",
    ),
    Difference(
        id="an audience list with other values than texts",
        peers=_JOSE,
        fits=_in_claims(
            lambda value: isinstance(value, list) and any(not isinstance(one, str) for one in value),  # pyright: ignore[reportUnknownVariableType] - any JSON
            "aud",
        ),
        why="The list is of texts; jose looks for one that fits.",
        reference="RFC 7519 section 4.1.3",
    ),
    Difference(
        id="a time that is no number",
        peers=_PYJWT,
        fits=_in_claims(lambda value: not _is_number(value), "exp", "iat", "nbf"),
        why="PyJWT converts texts and booleans.",
        reference="RFC 7519 section 2",
    ),
    Difference(
        id="a time with a fraction, refused",
        peers=_PYJWT,
        fits=_in_claims(_has_fraction, "nbf", "iat"),
        why="PyJWT drops the fraction, so that a token is valid up to a second early.",
        reference="RFC 7519 section 2",
    ),
    Difference(
        id="a time with a fraction, accepted",
        we_accept=True,
        peers=_PYJWT,
        fits=_in_claims(_has_fraction, "exp"),
        why="The token has not expired: PyJWT drops the fraction of exp.",
        reference="RFC 7519 sections 2 and 4.1.4",
    ),
    Difference(
        id="issued far ahead",
        peers=_JOSE,
        fits=_in_claims(lambda value: _is_number(value) and value > NOW + _ISSUED_AHEAD_SECONDS, "iat"),
        why="A token of the future is a mistake or a forgery. jose looks at iat only if an age is limited.",
        reference="RFC 7519 section 4.1.6",
    ),
    Difference(
        id="issued within a minute ahead",
        we_accept=True,
        peers=_PYJWT,
        fits=_in_claims(
            lambda value: _is_number(value) and NOW + _LEEWAY_SECONDS < value <= NOW + _ISSUED_AHEAD_SECONDS, "iat"
        ),
        why="iat says when a token was issued and not from when it is valid: that is nbf. Clocks of hosts differ by "
        "more than the leeway for exp without harm. PyJWT applies that leeway.",
        reference="RFC 7519 sections 4.1.5 and 4.1.6",
    ),
    Difference(
        id="a sender-constrained token",
        peers=_BOTH,
        fits=lambda facts: "cnf" in facts.payload.members,
        why="Its proof of possession is not checked here, so it must not pass as a bearer token.",
        reference="RFC 7800 section 3; RFC 9449 section 7; RFC 8705 section 3",
    ),
    Difference(
        id="a registered claim of null",
        peers=_BOTH,
        fits=_in_claims(lambda value: value is None, "scope", "act", "organization_id", "auth_time", "acr", "amr"),
        why="A present claim has a value of its type. The peers take null for an absent claim.",
        reference="RFC 7519 section 4.1",
    ),
)
