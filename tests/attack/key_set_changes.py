"""Single changes to an entry of a key set."""

import json
from base64 import urlsafe_b64decode
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from fastapi_logto.testing.signing import encode_segment

Members = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Change:
    """A change of an entry's members, or of its text.

    Attributes:
        needs: The member that a key must have for the change.
        members: Returns the changed members.
        text: Returns the changed text.
    """

    needs: str = "kty"
    members: Callable[[Members], Mapping[str, Any]] = field(repr=False, default=lambda members: members)
    text: Callable[[str], str] = field(repr=False, default=lambda text: text)

    def apply(self, members: Members) -> str | None:
        """Return the entry as JSON text; `None` if the change does not fit its key."""
        return self.text(json.dumps(self.members(members))) if self.needs in members else None


def _set(needs: str = "kty", **values: object) -> Change:
    return Change(needs, lambda members: members | values)


def _drop(name: str) -> Change:
    return Change(name, lambda members: {other: value for other, value in members.items() if other != name})


def _edit(name: str, edit: Callable[[str], str]) -> Change:
    return Change(name, lambda members: members | {name: edit(members[name])})


def _add(text: str) -> Change:
    """Return a change that inserts a member as text at the start of the entry."""
    return Change(text=lambda entry: f"{{{text},{entry[1:]}")


def _widen(segment: str) -> str:
    return encode_segment(b"\0" + urlsafe_b64decode(segment + "=" * (-len(segment) % 4)))


def _swap_coordinates(members: Members) -> Members:
    return members | {"x": members["y"], "y": members["x"]}


CHANGES: Final[Mapping[str, Change]] = {
    "no use": _drop("use"),
    "use enc": _set(use="enc"),
    "use null": _set(use=None),
    "use a list": _set(use=["sig"]),
    "use in upper case": _set(use="SIG"),
    "use empty": _set(use=""),
    "key_ops verify": _set(key_ops=["verify"]),
    "key_ops sign": _set(key_ops=["sign"]),
    "key_ops empty": _set(key_ops=[]),
    "key_ops a text": _set(key_ops="verify"),
    "key_ops null": _set(key_ops=None),
    "key_ops twice": _set(key_ops=["verify", "verify"]),
    "key_ops verify and encrypt": _set(key_ops=["verify", "encrypt"]),
    "no alg": _drop("alg"),
    "alg null": _set(alg=None),
    "alg a list": _set(alg=["ES256", "ES384", "ES512", "RS256"]),
    "alg none": _set(alg="none"),
    "alg empty": _set(alg=""),
    "alg HS256": _set(alg="HS256"),
    "alg of another curve": _set("crv", alg="RS256"),
    "alg PS256": _set("n", alg="PS256"),
    "alg RSA-OAEP": _set("n", alg="RSA-OAEP-256"),
    "alg ECDH-ES": _set("crv", alg="ECDH-ES"),
    "alg in lower case": _edit("alg", str.lower),
    "no kid": _drop("kid"),
    "kid null": _set(kid=None),
    "kid a number": _set(kid=1),
    "kid empty": _set(kid=""),
    "kid of 256 characters": _set(kid="k" * 256),
    "kid of 257 characters": _set(kid="k" * 257),
    "kid a path": _set(kid="../../dev/null"),
    "kid with other characters": _set(kid=" \u00e9\u0000\n"),
    "private member": _set(d="AAAA"),
    "private member of another type of key": _set(k="AAAA"),
    "private member null": _set(d=None),
    "certificates": _set(x5c=["AA"], x5t="AA", x5u="https://evil.example.test/"),
    "unknown members": _set(unknown={"a": [1, None]}, iat=1, exp=1, revoked={"revoked_at": 1}),
    "a coordinate with padding": _edit("x", lambda text: f"{text}="),
    "a coordinate one byte longer": _edit("x", _widen),
    "a coordinate cut": _edit("x", lambda text: text[:-4]),
    "a coordinate a number": _set("x", x=1),
    "no coordinate": _drop("y"),
    "coordinates swapped": Change("y", _swap_coordinates),
    "a point off the curve": _edit("y", lambda text: "A" * len(text)),
    "another curve": Change(
        "crv", lambda members: members | {"crv": "P-256" if members["crv"] != "P-256" else "P-384"}
    ),
    "an unknown curve": _set("crv", crv="P-000"),
    "a curve in lower case": _edit("crv", str.lower),
    "a modulus one byte longer": _edit("n", _widen),
    "a modulus with padding": _edit("n", lambda text: f"{text}=="),
    "a modulus of 1024 bits": _edit("n", lambda text: text[:171]),
    "no modulus": _drop("n"),
    "an exponent one byte longer": _edit("e", _widen),
    "an exponent of 1": _set("e", e="AQ"),
    "an exponent of 256 bits": _set("e", e=encode_segment(b"\x01" * 32)),
    "no key type": _drop("kty"),
    "key type in lower case": _edit("kty", str.lower),
    "another key type": Change("kty", lambda members: members | {"kty": "RSA" if "crv" in members else "EC"}),
    "key type null": _set(kty=None),
    "the same member twice": _add('"use":"sig"'),
    "two key ids": _add('"kid":"other"'),
    "a lone surrogate": _add('"unknown":"\\ud800"'),
    "a number out of range": _add('"unknown":1e400'),
    "deep nesting": _add(f'"unknown":{"[" * 20}{"]" * 20}'),
}


def list_odd_entries(public: Sequence[Members]) -> Mapping[str, str]:
    """Return entries that can't be used for access tokens, as JSON text."""
    values: dict[str, object] = {
        "null": None,
        "a number": 1,
        "a text": "key",
        "true": True,
        "a list": [],
        "an empty object": {},
        "an unknown key type": {"kty": "x"},
        "a secret": {"kty": "oct", "k": "A" * 43, "kid": "secret"},
        "a secret with alg": {"kty": "oct", "k": "A" * 43, "kid": "secret", "alg": "HS256", "use": "sig"},
        **{f"a key on {members['crv']}": members for members in public},
    }
    return {name: json.dumps(value) for name, value in values.items()}
