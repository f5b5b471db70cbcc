"""The store in Redis, without a server: its arguments, the entries of the stream, and errors without secrets."""

import sys
from dataclasses import dataclass

import pytest
import redis.exceptions
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from fastapi_logto.revocation import RedisStore, Revocation, RevocationStoreError
from fastapi_logto.revocation.redis_connection import explain_redis_error
from fastapi_logto.revocation.redis_store import parse_entry

PASSWORD = "pass-word-of-redis"
URL = f"redis://name-of-user:{PASSWORD}@redis.example.test:1/0"
GOOD = (b"before", b"1800000000.5", b"user_id", b"alice")


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """Fields of an entry, and the revocation in them."""

    id: str
    fields: tuple[bytes, ...]
    found: Revocation | None = None


ROWS = (
    Row(id="good", fields=GOOD, found=Revocation(before=1_800_000_000.5, user_id="alice")),
    Row(id="everything is revoked", fields=GOOD[:2], found=Revocation(before=1_800_000_000.5)),
    Row(
        id="all values",
        fields=(*GOOD, b"organization_id", b"o", b"client_id", b"c", b"token_id", b"t", b"issuer", b"i"),
        found=Revocation(
            before=1_800_000_000.5, user_id="alice", organization_id="o", client_id="c", token_id="t", issuer="i"
        ),
    ),
    Row(id="not ASCII", fields=(*GOOD[:3], "é".encode()), found=Revocation(before=1_800_000_000.5, user_id="é")),
    Row(
        id="longest value",
        fields=(*GOOD[:3], b"a" * 2048),
        found=Revocation(before=1_800_000_000.5, user_id="a" * 2048),
    ),
    Row(id="too long", fields=(*GOOD[:3], b"a" * 2049)),
    Row(id="empty value", fields=(*GOOD[:3], b"")),
    Row(id="blank value", fields=(*GOOD[:3], b" \t")),
    Row(id="not UTF-8", fields=(*GOOD[:3], b"\xff")),
    Row(id="no fields", fields=()),
    Row(id="no time", fields=GOOD[2:]),
    Row(id="not a number", fields=(b"before", b"soon", *GOOD[2:])),
    Row(id="NaN", fields=(b"before", b"nan", *GOOD[2:])),
    Row(id="infinite", fields=(b"before", b"inf", *GOOD[2:])),
    Row(id="too many digits", fields=(b"before", b"1" * 33, *GOOD[2:])),
    Row(id="unknown field", fields=(*GOOD, b"scope", b"read")),
    Row(id="field twice", fields=(*GOOD, b"user_id", b"bob")),
    Row(id="odd number", fields=GOOD[:3]),
)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.id)
def test_an_entry_is_parsed_strictly(row: Row) -> None:
    assert parse_entry(row.fields) == row.found


@given(st.lists(st.sampled_from([*GOOD, b"", b"issuer", b"\xc3"]) | st.binary(max_size=40), max_size=8))
def test_any_entry_is_a_revocation_or_none(fields: list[bytes]) -> None:
    revocation = parse_entry(fields)

    assert revocation is None or b"before" in fields


ERRORS = (
    (redis.exceptions.AuthenticationError("WRONGPASS"), "expected a valid user and password, found others"),
    (redis.exceptions.AuthenticationWrongNumberOfArgsError("ERR"), "expected a valid user and password, found others"),
    (redis.exceptions.NoPermissionError("User name-of-user has no"), "found one without permission"),
    (redis.exceptions.OutOfMemoryError("command not allowed"), "found the error OutOfMemoryError;"),
    (redis.exceptions.BusyLoadingError("Redis is loading"), "found the error BusyLoadingError;"),
    (redis.exceptions.ResponseError("MISCONF name-of-user may not"), "found the error MISCONF;"),
    # A proxy may repeat what it was sent, in any form.
    (redis.exceptions.ResponseError("EXAMPLESECRET name-of-user"), "found the error of another kind;"),
    (redis.exceptions.ResponseError("exampleSecretError"), "found the error of another kind;"),
    (redis.exceptions.ConnectionError("Error connecting to redis.example.test"), "found none (ConnectionError)"),
)


@pytest.mark.parametrize(("error", "text"), ERRORS, ids=lambda value: type(value).__name__)
def test_an_error_of_redis_is_explained_without_its_text(error: Exception, text: str) -> None:
    explained = explain_redis_error(error)

    assert text in explained
    assert "name-of-user" not in explained
    assert "example" not in explained.lower()


@pytest.mark.parametrize(
    "code",
    [
        *("BUSY", "CLUSTERDOWN", "CROSSSLOT", "ERR", "EXECABORT", "LOADING", "MASTERDOWN", "MISCONF", "MOVED"),
        *("NOREPLICAS", "OOM", "READONLY", "TRYAGAIN", "UNBLOCKED", "WRONGTYPE"),
    ],
)
def test_a_known_code_of_redis_is_named(code: str) -> None:
    explained = explain_redis_error(redis.exceptions.ResponseError(f"{code} name-of-user"))

    assert explained == f"expected a successful command, found the error {code}; see the log of the server"


@pytest.mark.parametrize(
    "url", ["", "https://redis.example.test", f"redis://u:{PASSWORD}@host:port", f"redis://h?x={PASSWORD}", "host:1"]
)
def test_an_invalid_url_is_rejected_without_being_shown(url: str) -> None:
    with pytest.raises(ValueError, match=r"^url: expected the URL of a Redis server") as caught:
        RedisStore(url)

    assert PASSWORD not in str(caught.value)
    assert caught.value.__suppress_context__


@pytest.mark.parametrize("timeout_seconds", [0, -1, 61, True, float("nan")])
def test_the_timeout_has_limits(timeout_seconds: float) -> None:
    with pytest.raises(ValueError, match=r"^timeout_seconds: expected more than 0 and at most 60 seconds, found "):
        RedisStore(URL, timeout_seconds=timeout_seconds)


def test_the_key_must_not_be_empty() -> None:
    with pytest.raises(ValueError, match=r"^key: expected a text that is not empty, found none"):
        RedisStore(URL, key=" ")


@pytest.mark.parametrize(("missing", "named"), [("redis.asyncio.connection", "redis"), ("hiredis", "hiredis")])
def test_without_the_extra_the_error_names_it(missing: str, named: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, missing, None)

    with pytest.raises(ImportError, match=rf"found no {named}.*; install fastapi-logto\[redis\]$"):
        RedisStore(URL)


@pytest.mark.parametrize("url", [URL, SecretStr(URL)], ids=["text", "secret"])
async def test_an_unreachable_server_is_an_error_without_the_url(url: str | SecretStr) -> None:
    store = RedisStore(url)

    with pytest.raises(RevocationStoreError) as caught:
        await store.load_text("name")

    shown = f"{caught.value} {caught.value!r} {store!r} {vars(store)}"
    assert str(caught.value).startswith("Redis: expected a connection, found none (no address: ")
    assert PASSWORD not in shown
    assert "example" not in shown
    await store.close()
