"""Search for secrets in any text, in every usual encoding.

The secrets are indexed unchanged. The texts are decoded: percent-encoding, backslashes, character references, base64
and hexadecimal digits, also nested. So the time of a search does not depend on the number of secrets.
"""

import html
import re
from base64 import b64decode, urlsafe_b64decode
from collections.abc import Iterator
from functools import lru_cache
from threading import Lock
from typing import Final
from urllib.parse import unquote_to_bytes

from joserfc.jwk import ECKey, OctKey, OKPKey, RSAKey

RUN_LENGTH: Final = 12
"""This many consecutive characters of a secret are a leak."""

_GRAM: Final = 8
# Of each run of twelve characters, one of every five starts of eight is looked up.
_STEP: Final = RUN_LENGTH - _GRAM + 1
# A run of fewer different characters is not a secret: `AAAAAAAAAAAA` is in many texts.
_FEWEST_DISTINCT: Final = 6
_DEEPEST: Final = 3
_BASE64: Final = re.compile(r"[A-Za-z0-9+/_-]{16,}")
_HEX: Final = re.compile(r"[0-9A-Fa-f]{24,}")
_ESCAPE: Final = re.compile(r"\\(?:x([0-9a-fA-F]{2})|u([0-9a-fA-F]{4})|([0-7]{3})|(.))", re.DOTALL)
_CONTROLS: Final = {"n": "\n", "r": "\r", "t": "\t", "b": "\b", "f": "\f", "0": "\0"}
_TOKEN_PART: Final = re.compile(r"[A-Za-z0-9_-]{16,}")
_PRIVATE_MEMBERS: Final = ("d", "p", "q", "dp", "dq", "qi", "k")


class Canaries:
    """The secrets of a run. Public texts, such as URLs that are part of a token's text, are not secrets."""

    def __init__(self, *, public: str = "") -> None:
        """Start without secrets."""
        self._names: dict[str, str] = {}
        self._grams: set[str] = set()
        self._public = public
        self._blob: str | None = None
        # A provider that is served in a thread also adds secrets.
        self._lock = Lock()

    def __len__(self) -> int:
        """Return the number of secrets."""
        return len(self._names)

    def add(self, name: str, secret: str | bytes) -> None:
        """Add a secret. Secrets that are shorter than a run are omitted."""
        text = secret.decode("latin-1") if isinstance(secret, bytes) else secret
        with self._lock:
            if len(text) < RUN_LENGTH or text in self._names:
                return
            self._names[text] = name
            self._grams.update(text[start : start + _GRAM] for start in range(len(text) - _GRAM + 1))
            self._blob = None

    def add_token(self, name: str, token: str) -> None:
        """Add the payload and the signature of a token, also as bytes; the whole token if it has no such parts."""
        head, dot, rest = token.partition(".")
        payload, _, signature = rest.partition(".")
        if not dot or not _TOKEN_PART.fullmatch(head):
            for part in _TOKEN_PART.findall(token):
                self.add(name, part)
            return
        for part_name, part in (("payload", payload), ("signature", signature)):
            for run in _TOKEN_PART.findall(part):
                self.add(f"the {part_name} of {name}", run)
        if _TOKEN_PART.fullmatch(signature):
            self.add(f"the bytes of the signature of {name}", _decode_base64(signature, 0))

    def add_key(self, name: str, key: ECKey | RSAKey | OKPKey | OctKey) -> None:
        """Add the private parts of a key, in base64, as bytes and as numbers."""
        for member, value in key.as_dict(private=True).items():
            if member in _PRIVATE_MEMBERS and isinstance(value, str):
                data = urlsafe_b64decode(value + "==")
                self.add(f"{member} of {name}", value)
                self.add(f"the bytes of {member} of {name}", data)
                self.add(f"the number {member} of {name}", str(int.from_bytes(data, "big")))

    def find(self, text: str) -> list[str]:
        """Return the secrets of which a text contains a run, each with the first encoding in which it was found."""
        found: dict[str, str] = {}
        for encoding, view in _decode(text, _DEEPEST):
            for name in self._find_plain(view):
                found.setdefault(name, f"{name}, {encoding}")
        return list(found.values())

    def _find_plain(self, text: str) -> Iterator[str]:
        grams = self._grams
        for start in range(0, len(text) - _GRAM + 1, _STEP):
            if text[start : start + _GRAM] in grams:
                for first in range(max(0, start - _STEP + 1), start + 1):
                    if (name := self._find_run(text[first : first + RUN_LENGTH])) is not None:
                        yield name
                        break

    def _find_run(self, run: str) -> str | None:
        if len(run) < RUN_LENGTH or len(set(run)) < _FEWEST_DISTINCT or run in self._public:
            return None
        with self._lock:
            if self._blob is None:
                # A character that no secret contains.
                self._blob = "\U0010ffff".join(self._names)
            if run not in self._blob:
                return None
            return next(name for secret, name in self._names.items() if run in secret)


def _decode(text: str, depth: int) -> Iterator[tuple[str, str]]:
    """Yield a text and all decoded forms of it."""
    yield "plain", text
    if not depth:
        return
    for encoding, view in _list_decoded(text):
        for inner, found in _decode(view, depth - 1):
            yield encoding if inner == "plain" else f"{inner} in {encoding}", found


def _list_decoded(text: str) -> Iterator[tuple[str, str]]:
    if "%" in text:
        view = unquote_to_bytes(text.encode("utf-8", "replace")).decode("latin-1")
        if view != text:
            yield "percent-encoded", view
    if "\\" in text:
        yield "escaped", _ESCAPE.sub(_unescape, text)
    if "&" in text and ";" in text:
        yield "as character references", html.unescape(text)
    for run in _BASE64.findall(text):
        yield "base64", _decode_run(run)
    for run in _HEX.findall(text):
        yield "hexadecimal", _decode_digits(run)


def _unescape(match: re.Match[str]) -> str:
    for group, base in ((1, 16), (2, 16), (3, 8)):
        if digits := match.group(group):
            return chr(int(digits, base))
    return _CONTROLS.get(match.group(4), match.group(4))


@lru_cache(maxsize=100_000)
def _decode_run(run: str) -> str:
    # The text around it may have the same characters, so it may start at any of four places.
    return "\n".join(_decode_base64(run, start).decode("latin-1") for start in range(4))


def _decode_base64(run: str, start: int) -> bytes:
    text = run[start:].translate(_STANDARD)
    return b64decode(text[: len(text) // 4 * 4] + _pad(text[len(text) // 4 * 4 :]))


def _pad(rest: str) -> str:
    return "" if len(rest) < 2 else rest + "=" * (4 - len(rest))


_STANDARD: Final = str.maketrans("-_", "+/")


def _decode_digits(run: str) -> str:
    ends = (run[start : start + (len(run) - start) // 2 * 2] for start in range(2))
    return "\n".join(bytes.fromhex(digits).decode("latin-1") for digits in ends)
