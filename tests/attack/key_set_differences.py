"""The expected differences between verdicts for a key set, and why ours is right: one row for each cause."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from tests.attack.comparison import ALL, LOGTO, NODE, PYJWT_ONLY, Difference
from tests.attack.generated_sets import PRIVATE, WEAK, Entry, GeneratedSet, SetToken
from tests.attack.peers import ALGORITHMS

_MOST_KEYS: Final = 100


@dataclass(frozen=True, slots=True)
class SetFacts:
    """A token, and the key set for its verification."""

    key_set: GeneratedSet
    token: SetToken

    @property
    def positions(self) -> tuple[int, ...]:
        """The positions of the signing key in the key set, with the token's key id if it has one."""
        return tuple(
            position
            for position, entry in enumerate(self.key_set.entries)
            if entry.key is not None and entry.key is self.token.key and self._has_kid(entry)
        )

    @property
    def rivals(self) -> int:
        """How many entries have the key id of the token."""
        return sum(self._has_kid(entry) for entry in self.key_set.entries)

    def _has_kid(self, entry: Entry) -> bool:
        return self.token.kid is None or entry.members.get("kid") == self.token.kid


def _is_changed(*changes: str) -> Callable[[SetFacts], bool]:
    """Return a function that checks whether the signing key is published with one of these changes."""
    return lambda facts: any(facts.key_set.entries[position].change in changes for position in facts.positions)


def _has_entry(*changes: str) -> Callable[[SetFacts], bool]:
    """Return a function that checks whether any entry of the key set has one of these changes."""
    return lambda facts: any(entry.change in changes for entry in facts.key_set.entries)


def _has_other_values(facts: SetFacts) -> bool:
    return any(not isinstance(json.loads(entry.text), dict) for entry in facts.key_set.entries)


KEY_SET_DIFFERENCES: Final[tuple[Difference[SetFacts], ...]] = (
    Difference(
        id="a published private key",
        peers=PYJWT_ONLY,
        fits=_is_changed(PRIVATE),
        why="Everyone can sign with it.",
        reference="RFC 7517 section 9.2",
    ),
    Difference(
        id="an RSA key of 1024 bits",
        peers=PYJWT_ONLY,
        fits=_is_changed(WEAK),
        why="Such a key can be broken. PyJWT only warns.",
        reference="RFC 7518 section 3.3; RFC 8725 section 3.5",
    ),
    Difference(
        id="a private member that does not belong to the key's type",
        peers=ALL,
        fits=_is_changed("private member of another type of key"),
        why="A member that must be secret is published. Such a key is not used.",
        reference="RFC 7517 section 9.2; RFC 7518 section 6.4.1",
    ),
    Difference(
        id="a member of the key twice",
        peers=ALL,
        fits=_is_changed("the same member twice", "two key ids"),
        why="Two readers can read two different values, for example two key ids. The peers take the last one.",
        reference="RFC 7517 section 4",
    ),
    Difference(
        id="a lone surrogate or a number out of range in the key",
        peers=ALL,
        fits=_is_changed("a lone surrogate", "a number out of range"),
        why="The entry has no single meaning, so it is not used. Other keys of the set stay usable.",
        reference="RFC 7493 sections 2.1 and 2.2",
    ),
    Difference(
        id="padding in the key",
        peers=ALL,
        fits=_is_changed("a coordinate with padding", "a modulus with padding"),
        why="The base64url of a key has no padding.",
        reference="RFC 7515 section 2; RFC 7518 sections 6.2 and 6.3",
    ),
    Difference(
        id="use that is null",
        peers=PYJWT_ONLY,
        fits=_is_changed("use null"),
        why="It is not known what the key is for. PyJWT takes null for an absent member.",
        reference="RFC 7517 section 4.2",
    ),
    Difference(
        id="key_ops without verify, twice or of another type",
        peers=PYJWT_ONLY,
        fits=_is_changed("key_ops sign", "key_ops empty", "key_ops a text", "key_ops null", "key_ops twice"),
        why="The key is not meant to verify, or the list is invalid. PyJWT ignores key_ops.",
        reference="RFC 7517 section 4.3",
    ),
    Difference(
        id="alg of the key that is null or empty",
        peers=PYJWT_ONLY,
        fits=_is_changed("alg null", "alg empty"),
        why="A key with alg is only for that algorithm, and this is none. PyJWT then chooses one by the type of key.",
        reference="RFC 7517 section 4.4",
    ),
    Difference(
        id="a key id that is empty, too long or not a text",
        peers=ALL,
        fits=_is_changed("kid null", "kid a number", "kid empty", "kid of 257 characters"),
        why="A key id is a text. The limit of 256 characters bounds what is stored.",
        reference="RFC 7517 section 4.5",
    ),
    Difference(
        id="the hundred and first entry",
        peers=ALL,
        fits=lambda facts: bool(facts.positions) and min(facts.positions) >= _MOST_KEYS,
        why="The work for one document has a limit. Logto publishes at most three keys.",
        reference="RFC 7517 section 5 sets no limit",
    ),
    Difference(
        id="an algorithm that the API does not list",
        peers=LOGTO,
        fits=lambda facts: facts.token.alg not in ALGORITHMS,
        why="The algorithms are a setting of the API. The guide and mcp-auth accept every one that fits the key.",
        reference="RFC 8725 section 3.1",
    ),
    Difference(
        id="a key id that several entries have",
        we_accept=True,
        peers=ALL,
        fits=lambda facts: facts.token.kid is not None and facts.rivals > 1,
        why="The token is signed by a published key with its key id. Key ids should differ but need not, so ours tries "
        "up to four keys. PyJWT tries the first one and jose none.",
        reference="RFC 7517 section 4.5",
    ),
    Difference(
        id="no key id, and one usable key for the algorithm",
        we_accept=True,
        peers=ALL,
        fits=lambda facts: facts.token.kid is None and len(facts.key_set.entries) > 1,
        why="The key id is optional, and one key can be meant. The peers count entries that cannot be used too.",
        reference="RFC 7515 section 4.1.4",
    ),
    Difference(
        id="an entry that is not an object",
        we_accept=True,
        peers=NODE,
        fits=_has_other_values,
        why="One invalid entry must not make the other keys unusable. jose refuses the whole document.",
        reference="RFC 7517 section 5",
    ),
    Difference(
        id="another entry that stops PyJWT",
        we_accept=True,
        peers=PYJWT_ONLY,
        fits=_has_entry("alg none", "alg a list"),
        why="One invalid entry must not make the other keys unusable. For such an entry PyJWT raises an exception that "
        "it does not document.",
        reference="RFC 7517 section 5",
    ),
    Difference(
        id="a coordinate with a leading zero",
        we_accept=True,
        peers=PYJWT_ONLY,
        fits=_is_changed("a coordinate one byte longer"),
        why="It is the same point, and it is on the curve. Encoders that add or drop zeros exist, and refusing such a "
        "key would refuse every token of the provider.",
        reference="RFC 7518 section 6.2.1.2, a rule for providers",
    ),
    Difference(
        id="key_ops with verify and an unrelated operation",
        we_accept=True,
        peers=NODE,
        fits=_is_changed("key_ops verify and encrypt"),
        why="The key may verify. Unrelated operations should not be combined, which is no reason to reject every "
        "token.",
        reference="RFC 7517 section 4.3",
    ),
)
