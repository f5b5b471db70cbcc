"""Each secret that the provider of the leak proof receives or issues is searched for."""

import asyncio
import logging
from base64 import b64encode
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final
from urllib.parse import urlencode

import httpx
import pytest
from starlette.responses import JSONResponse, RedirectResponse
from starlette.types import Receive, Scope, Send

from fastapi_logto.testing.directory import MANAGEMENT_API
from tests.prove.bench import Bench
from tests.prove.canaries import Canaries
from tests.prove.learning import SECRET_FIELDS, SECRET_MEMBERS, Learner
from tests.prove.observing import Run, Scene, run_in_asyncio, run_scenes
from tests.vectors.forge import API

SECRET: Final = "kQ7x_Zr-w2_Lm9-Tb4_Vc8"
ALICE: Final = "alice0000001"
FORM: Final = {"content-type": "application/x-www-form-urlencoded"}


@pytest.fixture(autouse=True)
def loop_guard() -> None:
    """The loops of the proof serve nobody, and asyncio reads source files in its debug mode."""


async def create_subject_token(bench: Bench) -> str:
    token = await bench.client.create_subject_token(ALICE, resource=MANAGEMENT_API.indicator)
    return token.get_secret_value()


async def get_token(bench: Bench) -> str:
    return (await bench.client.get_token(API)).token


async def get_management_token(bench: Bench) -> str:
    return (await bench.client.get_token(MANAGEMENT_API.indicator, scopes=["all"])).token


async def get_organization_token(bench: Bench) -> str:
    return (await bench.client.get_organization_token("acme")).token


async def exchange(bench: Bench) -> str:
    return (await bench.client.exchange_token(bench.token, API)).token


async def exchange_personal(bench: Bench) -> str:
    kind: Any = "personal_access_token"
    issued = await bench.client.exchange_token(bench.personal, API, subject_token_type=kind)
    return issued.token


async def exchange_for_actor(bench: Bench) -> str:
    issued = await bench.client.exchange_token(bench.one_time, API, actor_token=bench.opaque)
    return issued.token


ISSUED: Final[Mapping[str, Callable[[Bench], Awaitable[str]]]] = {
    "a subject token": create_subject_token,
    "a machine token": get_token,
    "a machine token of the Management API": get_management_token,
    "an organization token": get_organization_token,
    "an exchanged token": exchange,
    "a token exchanged for a personal access token": exchange_personal,
    "a token with an actor": exchange_for_actor,
}


@pytest.mark.parametrize("name", ISSUED)
def test_a_token_that_the_working_provider_issues_is_found(name: str) -> None:
    async def act(run: Run) -> None:
        logging.getLogger("any").debug("%s", await ISSUED[name](Bench.create(run)))

    run = run_in_asyncio(run_scenes({"planted": Scene(act=act, outcomes={})}))

    assert [leak for leak in run.sinks.leaks if leak.startswith("log messages: logger any: ")]


HELD: Final = ("secret", "signing_key", "token", "opaque", "personal", "one_time")


@pytest.mark.parametrize("name", HELD)
def test_a_secret_of_the_bench_is_found(name: str) -> None:
    async def act(run: Run) -> None:
        logging.getLogger("any").debug("%s", getattr(Bench.create(run), name))

    run = run_in_asyncio(run_scenes({"planted": Scene(act=act, outcomes={})}))

    assert [leak for leak in run.sinks.leaks if leak.startswith("log messages: logger any: ")]


def test_a_secret_of_the_provider_that_was_not_learned_fails() -> None:
    async def act(run: Run) -> None:
        issuer = Bench.create(run).issuer
        issuer.opaque_token()
        issuer.add_hook("http://127.0.0.1:9/")

    run = run_in_asyncio(run_scenes({"planted": Scene(act=act, outcomes={})}))

    assert {"planted: the opaque token was not learned", "planted: the signing key was not learned"} <= {*run.failures}


def learn(
    body: object = None,
    *,
    location: str = "",
    url: str = "/",
    content: str = "",
    headers: Mapping[str, str] | None = None,
) -> tuple[Canaries, bool]:
    """Return what is learned of a request and its response, and whether the request ended without one."""
    canaries = Canaries()
    lost: list[bool] = []

    async def respond(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        if body is ...:
            raise OSError
        response = RedirectResponse(location) if location else JSONResponse(body)
        await response(scope, receive, send)

    async def run() -> None:
        app = Learner(respond, canaries=canaries, lose=lambda: lost.append(True))
        transport = httpx.ASGITransport(app=app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://provider.test") as http:
            await http.post(url, content=content, headers=headers)

    asyncio.run(run())
    return canaries, bool(lost)


@pytest.mark.parametrize("name", SECRET_FIELDS)
def test_each_secret_field_of_a_form_a_query_and_a_redirect_is_learned(name: str) -> None:
    text = urlencode({"x": "y", name: SECRET})

    for canaries, _ in (learn(content=text, headers=FORM), learn(url=f"/?{text}"), learn(location=f"http://a/?{text}")):
        assert canaries.find(SECRET) == [f"{SECRET_FIELDS[name]}, plain"]


@pytest.mark.parametrize("name", SECRET_MEMBERS)
def test_each_secret_member_of_a_response_is_learned(name: str) -> None:
    canaries, is_lost = learn([{"x": 1, "inner": {name: SECRET}}])

    assert canaries.find(SECRET) == [f"{SECRET_MEMBERS[name]}, plain"]
    assert not is_lost


def test_the_credentials_of_a_request_are_learned() -> None:
    basic = b64encode(f"id:{SECRET}".encode()).decode()

    for authorization in (f"Bearer {SECRET}", f"Basic {basic}"):
        canaries, _ = learn(headers={"Authorization": authorization})
        assert canaries.find(SECRET)


def test_what_is_no_secret_is_not_learned_and_a_request_without_a_response_is_reported() -> None:
    found = [learn({"code": SECRET, "error": SECRET}), learn(SECRET)]
    found.append(learn(..., content=urlencode({"state": SECRET}), headers=FORM))

    assert [(len(canaries), is_lost) for canaries, is_lost in found] == [(0, False), (0, False), (0, True)]
