"""A member of a string enum counts as its text, wherever the test kit accepts a text."""

import re
from enum import Enum, StrEnum
from typing import Any, Protocol

import pytest
from starlette.testclient import TestClient

from fastapi_logto import TokenClaims
from fastapi_logto.testing import (
    Application,
    Directory,
    LocalIssuer,
    Machine,
    Organization,
    Resource,
    User,
    bearer,
    claims,
)


class Texts(Protocol):
    """The members of both kinds of enum."""

    API: str
    READ: str
    WRITE: str
    NAME: str


class Mixed(str, Enum):  # noqa: UP042 - the difference is the test
    """An enum whose `str()` is the name of the member."""

    API = "https://api.example.com"
    READ = "read:report"
    WRITE = "write:report"
    NAME = "dora"


class Modern(StrEnum):
    """An enum whose `str()` is the text."""

    API = "https://api.example.com"
    READ = "read:report"
    WRITE = "write:report"
    NAME = "dora"


MEMBER = re.compile("Mixed|Modern")
KINDS = pytest.mark.parametrize("texts", [Mixed, Modern])


@KINDS
def test_claims_hold_plain_texts(texts: Texts) -> None:
    made = claims(
        subject=texts.NAME,
        scopes=[texts.READ, texts.WRITE],
        organization_id=texts.NAME,
        client_id=texts.NAME,
        actor=texts.NAME,
        audience=[texts.API],
        issuer=texts.API,
        extra={texts.READ: {"nested": [texts.WRITE]}},
    )

    found = made.model_dump()
    assert (found["sub"], found["scope"], found["aud"]) == (
        "dora",
        "read:report write:report",
        ("https://api.example.com",),
    )
    assert found["read:report"] == {"nested": ("write:report",)}
    assert not MEMBER.search(repr(found))
    assert claims(audience=texts.API).aud == "https://api.example.com"
    assert made.scopes == {"read:report", "write:report"}


def build_directory(texts: Texts) -> Directory:
    scopes = {texts.API: [texts.READ]}
    return Directory(
        resources=[Resource(indicator=texts.API, scopes={texts.READ: texts.NAME})],
        users=[User(id=texts.NAME, username=texts.NAME, name=texts.NAME, scopes=scopes)],
        machines=[Machine(client_id=texts.READ, client_secret=texts.WRITE, scopes=scopes)],
        applications=[Application(client_id=texts.WRITE, redirect_uris=[texts.API])],
        organizations=[Organization(id=texts.NAME, members={texts.NAME: scopes})],
    )


@KINDS
def test_a_directory_holds_plain_texts(texts: Texts) -> None:
    directory = build_directory(texts)

    fields: list[Any] = [
        *directory.resources, *directory.users, *directory.machines, *directory.applications, *directory.organizations,
    ]  # fmt: skip
    assert not MEMBER.search(repr(fields))
    assert repr(fields).count("'read:report'") == 5
    assert type(directory.machines[0].client_secret) is str
    assert Directory.example(texts.API).resources[0].indicator == "https://api.example.com"


@KINDS
async def test_tokens_hold_plain_texts(texts: Texts) -> None:
    issuer = LocalIssuer(endpoint=texts.API, directory=build_directory(texts))
    auth = issuer.auth()

    async def read(token: str) -> TokenClaims:
        return await auth.verify(token)

    token = issuer.access_token(
        subject=texts.NAME,
        client_id=texts.NAME,
        scopes=[texts.READ, texts.WRITE],
        audience=texts.API,
        organization_id=texts.NAME,
        actor=texts.NAME,
        claims={texts.WRITE: texts.READ},
    )
    found = (await read(token)).model_dump()
    assert (found["iss"], found["scope"]) == ("https://api.example.com/oidc", "read:report write:report")
    assert (found["sub"], found["organization_id"], found["act"]["sub"]) == ("dora", "dora", "dora")
    assert found["write:report"] == "read:report"
    assert (await read(issuer.machine_token(client_id=texts.NAME))).sub == "dora"
    inside = issuer.read_access_token(issuer.organization_token(texts.NAME, scopes=[texts.READ])) or {}
    assert (inside["aud"], inside["scope"]) == ("urn:logto:organization:dora", "read:report")


@KINDS
def test_requests_of_an_issuer_compare_plain_texts(texts: Texts) -> None:
    issuer = LocalIssuer(directory=build_directory(texts), allowed_hosts=[texts.NAME])
    client = TestClient(issuer.app, base_url=f"http://{Mixed.NAME.value}:9")
    form = {"grant_type": "client_credentials", "resource": Mixed.API.value, "scope": "read:report"}

    answer = client.post("/oidc/token", data=form, auth=("read:report".replace(":", "%3A"), "write:report"))
    opaque = issuer.opaque_token(subject=texts.NAME, scopes=[texts.READ, "openid", "profile"])
    profile = client.get("/oidc/me", headers=bearer(opaque))

    assert (answer.status_code, answer.json()["scope"]) == (200, "read:report")
    assert profile.json() == {"sub": "dora", "name": "dora", "username": "dora"}
