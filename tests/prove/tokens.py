"""Tokens of all kinds and ages, as values of the model and as sent texts."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from random import Random
from typing import Any, Final

from hypothesis import strategies as st

from fastapi_logto.testing.signing import Algorithm, JsonValue, SigningKey
from tests.prove.application import ACME, ADMIN, GLOBEX, LIFE_SECONDS
from tests.prove.model import Key, Token
from tests.vectors.forge import API

STRANGER: Final = "https://stranger.example.test/oidc"


def _generate(*algorithms: Algorithm) -> tuple[SigningKey, ...]:
    return tuple(SigningKey.generate(algorithm) for algorithm in algorithms)


# GLOBEX does not accept ES384, so a list with only that key has no usable key.
KEYS: Final[Mapping[str, tuple[SigningKey, ...]]] = {
    ACME: _generate("ES256", "ES384", "ES256", "RS256"),
    GLOBEX: _generate("ES256", "RS256", "ES256", "ES384"),
    STRANGER: _generate("ES256"),
}
"""The keys that an issuer may publish."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """The properties of a token. The defaults are those of an ordinary one."""

    issuer: str = ACME
    claimed_issuer: str | None = None
    signer: str = "current"
    number: int = 0
    header: str = "own"
    audience: str = API
    organization: str | None = None
    is_reader: bool = True
    user: str = "u1"
    client: str = "c1"
    issued_ago: int = 0
    life: int = LIFE_SECONDS
    valid_in: int = 0
    is_long: bool = False


@dataclass(frozen=True, slots=True)
class Minted:
    """A token, as a value of the model and as the sent text."""

    token: Token
    text: str = field(repr=False)


ISSUERS: Final = st.sampled_from([ACME, GLOBEX])
_USERS, _CLIENTS = st.sampled_from(["u1", "u2"]), st.sampled_from(["c1", "c2"])
_ORGANIZATIONS: Final = st.sampled_from([None, "o1", "o2"])

ORDINARY_TOKENS: Final = st.builds(
    Choice,
    issuer=ISSUERS,
    audience=st.sampled_from([API] * 4 + [ADMIN, "organization"]),
    organization=_ORGANIZATIONS,
    user=_USERS,
    client=_CLIENTS,
    issued_ago=st.sampled_from([0, 0, 600]),
    is_long=st.booleans(),
)
"""Tokens that are signed with the current key, and are valid now. GLOBEX has no audience ADMIN."""

_PECULIARITIES: Final[Sequence[Mapping[str, Any]]] = (
    *({"signer": "any", "number": number} for number in range(4)),
    *({"signer": "other tenant", "number": number} for number in range(2)),
    *({"signer": signer, "header": "borrowed", "number": 1} for signer in ("stranger", "stranger", "any")),
    *({"header": header} for header in ("invented", "HS256", "ES384")),
    {"claimed_issuer": STRANGER},
    *({"audience": audience} for audience in (ADMIN, "https://other.example.test", "organization")),
    *({"is_reader": False} for _ in range(3)),
    # Values at the limits: leeway, how far ahead a token may be issued, and the border between two refusals.
    *({"issued_ago": seconds} for seconds in (10, 11, 1000, 3000, -60, -61)),
    *({"life": seconds} for seconds in (600, 60, -9, -10)),
    *({"valid_in": seconds} for seconds in (10, 11)),
)


def _change(choice: Choice, seed: int) -> Choice:
    # Hypothesis would draw a few of these often, and the others never.
    chance = Random(seed)  # noqa: S311 - no secret
    for one in chance.sample(_PECULIARITIES, chance.choice((1, 1, 1, 2))):
        choice = replace(choice, **one)
    return choice


ANY_TOKENS: Final = st.builds(_change, ORDINARY_TOKENS, st.integers(0, 2**32 - 1))
"""Tokens of any kind: of an unknown key or another issuer, expired, not yet valid, for other APIs, and so on."""


def mint(choice: Choice, *, published: Sequence[SigningKey], wall_time: float, token_id: str) -> Minted:
    """Issue or forge a token now. `published` are the keys of its issuer, the current one first."""
    pool = KEYS[choice.issuer]
    current = (*published, pool[0])[0]
    key = {
        "current": current,
        "any": pool[choice.number],
        "other tenant": KEYS[GLOBEX if choice.issuer == ACME else ACME][choice.number],
        "stranger": KEYS[STRANGER][0],
    }[choice.signer]
    issued_at = int(wall_time) - choice.issued_ago
    is_organization_token = choice.audience == "organization"
    organization = choice.organization or ("o1" if is_organization_token else None)
    issuer = choice.claimed_issuer or choice.issuer
    ids = {"user": choice.user, "client": choice.client, "token": token_id, "issuer": issuer}
    token = Token(
        issuer=issuer,
        algorithm=choice.header if choice.header in {"HS256", "ES384"} else key.algorithm,
        key_id={"invented": f"key of {token_id}", "borrowed": current.kid}.get(choice.header, key.kid),
        signed_by=Key(key.kid, key.algorithm),
        audience=f"urn:logto:organization:{organization}" if is_organization_token else choice.audience,
        scopes=frozenset({"read", "write"} if choice.is_reader else {"write"}),
        ids=ids if organization is None else {**ids, "organization": organization},
        issued_at=issued_at,
        valid_from=min(issued_at, int(wall_time)) + choice.valid_in,
        expires_at=issued_at + choice.life,
    )
    return Minted(token, _sign(token, key, is_long=choice.is_long))


def _sign(token: Token, key: SigningKey, *, is_long: bool) -> str:
    """Return the text of a token. The issuer in a long payload is read in a later turn of the event loop."""
    claims: dict[str, JsonValue] = {
        "iss": token.issuer,
        "aud": token.audience,
        "sub": token.ids["user"],
        "client_id": token.ids["client"],
        "jti": token.ids["token"],
        "iat": token.issued_at,
        "nbf": token.valid_from,
        "exp": token.expires_at,
        "scope": " ".join(sorted(token.scopes)),
    }
    if "organization" in token.ids and not token.audience.startswith("urn:logto:organization:"):
        claims["organization_id"] = token.ids["organization"]
    if is_long:
        claims["filler"] = "x" * 600
    return key.sign({"alg": token.algorithm, "typ": "at+jwt", "kid": token.key_id}, json.dumps(claims).encode())
