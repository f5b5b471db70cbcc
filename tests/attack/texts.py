"""JSON values and JSON texts for mutations of tokens."""

from collections.abc import Callable, Sequence
from typing import Any, Final

from tests.vectors.forge import NOW

JSON_VALUES: Final[Sequence[Any]] = (
    None, True, False, 0, 1, -1, 1.5, 1e300, float("inf"), float("-inf"), float("nan"), 2**53, 10**400, NOW, float(NOW),
    "", " ", "a", "0", str(NOW), "null", "\x00", "\ud800", "\u00e9", "a" * 300, "<script>", "a\r\nb",
    [], {}, [None], [[]], ["a"], [1], {"a": None}, {"": ""}, {"value": None}, {"values": []}, [{"a": 1}],
)  # fmt: skip

Change = Callable[[str], bytes]

_COMMON: Final[Sequence[tuple[str, Change]]] = (
    ("byte order mark", lambda text: b"\xef\xbb\xbf" + text.encode()),
    ("UTF-16", lambda text: text.encode("utf-16")),
    ("UTF-16 without a mark", lambda text: text.encode("utf-16-be")),
    ("UTF-32", lambda text: text.encode("utf-32-le")),
    ("white space around", lambda text: f" \t\r\n{text}\n ".encode()),
    ("white space of Unicode around", lambda text: f"\u00a0{text}".encode()),
    ("vertical tab around", lambda text: f"\v{text}".encode()),
    ("NUL at the end", lambda text: f"{text}\0".encode()),
    ("two objects", lambda text: f"{text}{text}".encode()),
    ("trailing comma", lambda text: f"{text[:-1]},}}".encode()),
    ("comment", lambda text: f"{text[:-1]}/**/}}".encode()),
    ("single quotes", lambda text: text.replace('"', "'").encode()),
    ("cut short", lambda text: text[:-1].encode()),
    ("a list around", lambda text: f"[{text}]".encode()),
    ("a text", lambda text: f'"{len(text)}"'.encode()),
    ("null", lambda _: b"null"),
    ("a number", lambda _: b"1"),
    ("empty object", lambda _: b"{}"),
    ("invalid UTF-8", lambda text: text.encode().replace(b'"', b'"\xff', 1)),
    ("overlong UTF-8", lambda text: text.encode()[:-1] + b',"a":"\xc0\x80"}'),
    ("encoded surrogate", lambda text: text.encode()[:-1] + b',"a":"\xed\xa0\x80"}'),
    ("lone surrogate", lambda text: f'{text[:-1]},"a":"\\ud800"}}'.encode()),
    ("lone surrogate as a name", lambda text: f'{text[:-1]},"\\udfff":1}}'.encode()),
    ("pair of surrogates", lambda text: f'{text[:-1]},"a":"\\ud83d\\ude00"}}'.encode()),
    ("escaped name", lambda text: text.replace('"a', '"\\u0061', 1).encode()),
    ("control character", lambda text: f'{text[:-1]},"a":"\t"}}'.encode()),
    ("NaN", lambda text: f'{text[:-1]},"a":NaN}}'.encode()),
    ("Infinity", lambda text: f'{text[:-1]},"a":-Infinity}}'.encode()),
    ("number out of range", lambda text: f'{text[:-1]},"a":1e400}}'.encode()),
    ("long integer", lambda text: f'{text[:-1]},"a":{"9" * 5000}}}'.encode()),
    ("leading zero", lambda text: f'{text[:-1]},"a":01}}'.encode()),
    ("plus sign", lambda text: f'{text[:-1]},"a":+1}}'.encode()),
    ("unknown member", lambda text: f'{text[:-1]},"a":{{"b":[1,2,null]}}}}'.encode()),
    ("empty name", lambda text: f'{text[:-1]},"":1}}'.encode()),
    ("__proto__", lambda text: f'{text[:-1]},"__proto__":{{"sub":"admin"}}}}'.encode()),
    ("depth 10", lambda text: f'{text[:-1]},"a":{"[" * 10}{"]" * 10}}}'.encode()),
    ("depth 100", lambda text: f'{text[:-1]},"a":{"[" * 100}{"]" * 100}}}'.encode()),
    ("depth 1500", lambda text: f'{text[:-1]},"a":{"[" * 1500}{"]" * 1500}}}'.encode()),
    ("duplicate of an unknown member", lambda text: f'{text[:-1]},"a":1,"a":2}}'.encode()),
)


def _append(text: str, member: str) -> bytes:
    return f"{text[:-1]},{member}}}".encode()


def _prepend(text: str, member: str) -> bytes:
    return f"{{{member},{text[1:]}".encode()


HEADER_TEXTS: Final[Sequence[tuple[str, Change]]] = (
    *_COMMON,
    ("duplicate alg", lambda text: _append(text, '"alg":"none"')),
    ("duplicate alg before", lambda text: _prepend(text, '"alg":"none"')),
    ("duplicate kid before", lambda text: _prepend(text, '"kid":"another"')),
    ("duplicate typ before", lambda text: _prepend(text, '"typ":"JWT"')),
    ("duplicate with an escaped name", lambda text: _prepend(text, '"\\u0061lg":"none"')),
)

PAYLOAD_TEXTS: Final[Sequence[tuple[str, Change]]] = (
    *_COMMON,
    ("duplicate sub", lambda text: _append(text, '"sub":"admin"')),
    ("duplicate exp before", lambda text: _prepend(text, '"exp":1')),
    ("duplicate aud before", lambda text: _prepend(text, '"aud":"https://other.example.test"')),
    ("duplicate scope with an escaped name", lambda text: _append(text, '"sc\\u006fpe":"admin"')),
    ("duplicate inside a claim", lambda text: _append(text, '"act":{"sub":"a","sub":"b"}')),
    ("empty", lambda _: b""),
)
