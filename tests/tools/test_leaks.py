"""No output of the package contains a secret, and the search finds planted secrets in every place and encoding."""

import asyncio
import html
import json
import logging
import pickle
import warnings
from base64 import b64encode, urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable, Mapping
from typing import Annotated, Any, Final
from urllib.parse import quote, quote_plus

import pytest
from fastapi import FastAPI, Header, HTTPException
from hypothesis import given
from hypothesis import strategies as st
from joserfc.jwk import ECKey, RSAKey
from opentelemetry import metrics, trace

from fastapi_logto.testing import LocalIssuer
from tests.prove.canaries import RUN_LENGTH, Canaries
from tests.prove.object_scenes import OBJECT_SCENES
from tests.prove.observing import Act, Run, Scene, run_in_asyncio, run_scenes
from tests.prove.scenes import SCENES
from tests.prove.sinks import Sink, Sinks, show

SECRET: Final = "kQ7x/Zr+w2~Lm9-Tb4_Vc8"
SHORT_SCENES: Final = {**SCENES, **OBJECT_SCENES}


@pytest.fixture(autouse=True)
def loop_guard() -> None:
    """The loops of the proof serve nobody, and asyncio reads source files in its debug mode."""


@pytest.mark.parametrize("name", SHORT_SCENES)
def test_nothing_leaks(name: str) -> None:
    run = run_in_asyncio(run_scenes({name: SHORT_SCENES[name]}))

    assert (run.sinks.leaks, run.failures) == ([], [])
    assert sum(count.records for count in run.sinks.counts.values()) > 100


def encode_at(start: int, encode: Callable[[bytes], bytes]) -> str:
    return encode(b"x" * start + SECRET.encode() + b"yz").decode()


ENCODED: Final[Mapping[str, str]] = {
    "plain": SECRET,
    "base64": encode_at(0, b64encode),
    "base64, shifted by one": encode_at(1, b64encode),
    "base64, shifted by two": encode_at(2, b64encode),
    "base64url": encode_at(0, urlsafe_b64encode),
    "base64 inside of more base64 characters": f"eyJhbGciOi{encode_at(1, b64encode)}",
    "base64 twice": b64encode(encode_at(2, b64encode).encode()).decode(),
    "percent-encoded": quote(SECRET, safe=""),
    "form-encoded twice": quote_plus(quote_plus(SECRET)),
    "every character percent-encoded": "".join(f"%{ord(letter):02X}" for letter in SECRET),
    "HTTP Basic with form encoding": b64encode(f"id:{quote_plus(SECRET)}".encode()).decode(),
    "in JSON": json.dumps({"a": SECRET}).replace("/", "\\/"),
    "in JSON, every character escaped": "".join(f"\\u{ord(letter):04x}" for letter in SECRET),
    "bytes": repr(SECRET.encode()),
    "bytes, every character escaped": "".join(f"\\x{ord(letter):02x}" for letter in SECRET),
    "hexadecimal": SECRET.encode().hex(),
    "hexadecimal in upper case, shifted": f"f{SECRET.encode().hex().upper()}",
    "character references": html.escape(f"<{SECRET}>").replace("k", "&#107;"),
}


@pytest.mark.parametrize("name", ENCODED)
def test_a_secret_is_found_in_each_encoding(name: str) -> None:
    canaries = Canaries()
    canaries.add("the secret", SECRET)

    assert [found.partition(",")[0] for found in canaries.find(f"before {ENCODED[name]} after")] == ["the secret"]


@given(
    text=st.text(max_size=30),
    secret=st.permutations("abcdefghijklmnopqrstuvwxyzABCDEFGHIJ0123456789-_").map("".join),
    start=st.integers(min_value=0, max_value=36),
)
def test_any_twelve_characters_of_a_secret_are_found_anywhere(text: str, secret: str, start: int) -> None:
    canaries = Canaries()
    canaries.add("the secret", secret)
    run = secret[start : start + RUN_LENGTH]

    assert canaries.find(text + run + text) == ["the secret, plain"]


def test_eleven_characters_and_public_texts_are_no_leak() -> None:
    canaries = Canaries(public="the public part")
    canaries.add("the secret", SECRET)
    canaries.add("a URL", "the public part")
    canaries.add("a short one", "only eleven"[:11])
    canaries.add("zeros", "A" * 40)

    assert len(canaries) == 3
    for text in (SECRET[:11], SECRET[-11:], SECRET.swapcase(), "the public part", "only eleven", "A" * 40, ""):
        assert canaries.find(text) == []


def test_the_parts_of_tokens_and_keys_are_secrets() -> None:
    canaries, issuer = Canaries(), LocalIssuer()
    token = issuer.access_token()
    head, payload, signature = token.split(".")
    canaries.add_token("the token", token)
    canaries.add_token("the opaque token", f"pat {SECRET[:2]} {'zyxwvutsrqponmlk'}")
    key, rsa = ECKey.generate_key("P-384"), RSAKey.generate_key(2048)
    canaries.add_key("the key", key)
    canaries.add_key("the RSA key", rsa)

    assert canaries.find(head) == []
    assert canaries.find(payload[30:60]) == ["the payload of the token, plain"]
    assert "the signature of the token, plain" in canaries.find(signature[10:30])
    assert canaries.find("zyxwvutsrqponmlk") == ["the opaque token, plain"]
    assert canaries.find(json.dumps(key.as_dict(private=False))) == []
    for private, name in ((key, "the key"), (rsa, "the RSA key")):
        member = str(private.as_dict(private=True)["d"])
        number = int.from_bytes(urlsafe_b64decode(member + "=="), "big")
        for text in (member, private.as_pem(private=True).decode(), str(number), f"{number:x}"):
            assert [found for found in canaries.find(text) if f"d of {name}" in found], text


class _Spoken:
    """Shows a secret as its `repr`."""

    def __repr__(self) -> str:
        return f"_Spoken({SECRET})"


# A function of a module that counts as one of the package.
PACKAGE: Final[dict[str, Any]] = {"__name__": "fastapi_logto.planted", "SECRET": SECRET}
exec("def fail():\n    secret = SECRET\n    raise OSError('disk full')", PACKAGE)  # noqa: S102 - our own text


def fail_with_local() -> None:
    PACKAGE["fail"]()


async def log_argument(_run: Run) -> None:
    logging.getLogger("any").debug("%s", SECRET)


async def log_argument_that_is_not_shown(_run: Run) -> None:
    logging.getLogger("any").debug("%.0s", SECRET)


async def log_field(_run: Run) -> None:
    logging.getLogger("fastapi_logto").info("x", extra={"logto_url": SECRET})


async def log_exception(_run: Run) -> None:
    try:
        fail_with_local()
    except OSError:
        logging.getLogger("uvicorn.error").exception("failed")


async def set_span_attribute(_run: Run) -> None:
    with trace.get_tracer("fastapi_logto").start_as_current_span("x") as span:
        span.set_attribute("url.full", SECRET)


async def record_span_exception(_run: Run) -> None:
    with trace.get_tracer("fastapi_logto").start_as_current_span("x") as span:
        span.record_exception(OSError(SECRET))


async def set_metric_attribute(_run: Run) -> None:
    metrics.get_meter("fastapi_logto").create_counter("planted").add(1, {"a": SECRET})


async def raise_text(run: Run) -> None:
    await run.attempt("x", fail(OSError(SECRET)))


async def raise_note(run: Run) -> None:
    error = OSError("x")
    error.add_note(SECRET)
    await run.attempt("x", fail(error))


async def raise_cause(run: Run) -> None:
    error = OSError("x")
    error.__cause__ = OSError(SECRET)
    await run.attempt("x", fail(error))


async def raise_group(run: Run) -> None:
    await run.attempt("x", fail(ExceptionGroup("x", [OSError(SECRET)])))


async def raise_local(run: Run) -> None:
    run.build("x", fail_with_local)


async def fail(error: Exception) -> None:
    raise error


def build_app(respond: Callable[..., Any]) -> FastAPI:
    app = FastAPI()
    app.get("/")(respond)
    return app


async def respond_with_body(run: Run) -> None:
    await run.ask(build_app(lambda: SECRET), "GET", "/")


async def respond_with_header(run: Run) -> None:
    async def refuse() -> None:
        raise HTTPException(401, headers={"WWW-Authenticate": f'Bearer x="{quote(SECRET)}"'})

    await run.ask(build_app(refuse), "GET", "/")


async def repeat_authorization(run: Run) -> None:
    def respond(authorization: Annotated[str, Header()]) -> str:
        return authorization

    token = LocalIssuer().access_token()
    await run.ask(build_app(respond), "GET", "/", headers={"Authorization": f"Bearer {token}"})


async def handle_locals(run: Run) -> None:
    async def refuse() -> None:
        try:
            fail_with_local()
        except OSError as error:
            raise HTTPException(503) from error

    await run.ask(build_app(refuse), "GET", "/")


async def represent(run: Run) -> None:
    async def build() -> _Spoken:
        return _Spoken()

    await run.attempt("x", build())


async def call_soon(_run: Run) -> None:
    asyncio.get_running_loop().call_soon(str, SECRET)
    await asyncio.sleep(0)


async def schedule(_run: Run) -> None:
    asyncio.get_running_loop().call_later(3600, str, SECRET)


async def lose_exception(_run: Run) -> None:
    task = asyncio.ensure_future(fail(OSError(SECRET)))
    await asyncio.wait([task])
    del task


async def report(_run: Run) -> None:
    asyncio.get_running_loop().call_exception_handler({"message": "x", "future": _Spoken()})


async def use_thread_with_argument(_run: Run) -> None:
    await asyncio.to_thread(str, SECRET)


async def use_thread_with_result(_run: Run) -> None:
    await asyncio.to_thread(lambda: SECRET)


async def warn(_run: Run) -> None:
    warnings.warn(SECRET, ResourceWarning, stacklevel=1)


async def fail_in_finalizer(_run: Run) -> None:
    class Finalized:
        def __del__(self) -> None:
            raise OSError(SECRET)

    Finalized()


PLANTED: Final[Mapping[str, tuple[Sink, Act]]] = {
    "the argument of a log record": ("log messages", log_argument),
    "an argument that is not shown": ("log records", log_argument_that_is_not_shown),
    "a field of a log record": ("log records", log_field),
    "the frame of a logged exception": ("local variables", log_exception),
    "the attribute of a span": ("spans", set_span_attribute),
    "an exception of a span": ("spans", record_span_exception),
    "the attribute of a metric": ("metrics", set_metric_attribute),
    "the text of an exception": ("exceptions", raise_text),
    "the note of an exception": ("exceptions", raise_note),
    "the cause of an exception": ("exceptions", raise_cause),
    "an exception of a group": ("exceptions", raise_group),
    "the frame of an exception": ("local variables", raise_local),
    "the frame of an exception that is handled": ("local variables", handle_locals),
    "the body of a response": ("responses", respond_with_body),
    "the header of a response": ("responses", respond_with_header),
    "a response that repeats the token": ("responses", repeat_authorization),
    "the representation of a result": ("representations", represent),
    "the callback of a loop": ("asyncio", call_soon),
    "the timer of a loop": ("asyncio", schedule),
    "an exception that nobody retrieves": ("exceptions", lose_exception),
    "the context of an exception handler": ("asyncio", report),
    "the argument of a thread": ("asyncio", use_thread_with_argument),
    "the result of a thread": ("asyncio", use_thread_with_result),
    "a warning": ("warnings", warn),
    "an exception in a finalizer": ("exceptions", fail_in_finalizer),
}


@pytest.mark.parametrize("name", PLANTED)
def test_a_planted_secret_is_found(name: str) -> None:
    sink, plant = PLANTED[name]

    async def act(run: Run) -> None:
        run.canaries.add("the planted secret", SECRET)
        await plant(run)

    sinks = run_in_asyncio(run_scenes({"planted": Scene(act=act, outcomes={})})).sinks

    assert sinks.counts[sink].found > 0
    assert [leak for leak in sinks.leaks if leak.startswith(f"{sink}: ")]
    assert SECRET not in str(sinks.leaks)


def test_a_text_that_comes_again_is_a_leak_again() -> None:
    sinks = Sinks(canaries=Canaries())
    sinks.canaries.add("the secret", SECRET)
    for where in ("here", "there"):
        sinks.put("documents", where, SECRET)
        sinks.put("copies and pickles", where, pickle.dumps(SECRET, 0).decode())
        sinks.put("command line", where, [SECRET])

    assert len(sinks.leaks) == 6
    assert [sinks.counts[sink].found for sink in ("documents", "copies and pickles", "command line")] == [2, 2, 2]


def test_the_items_of_what_hides_them_are_shown() -> None:
    class Headers(dict[str, str]):
        def __repr__(self) -> str:
            return "Headers()"

    class Broken:
        def __repr__(self) -> str:
            raise AttributeError("half built")

    assert show([Headers(a="b"), (1, {2}), Broken()]) == "[{'a': 'b'}, [1, [2]], <AttributeError while it was shown>]"
