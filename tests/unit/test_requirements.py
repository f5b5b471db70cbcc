"""Requirements in a module with postponed annotations, where many a dependency stops working."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, FastAPI
from starlette.testclient import TestClient

from fastapi_logto import AllScopes, AnyScope, LogtoAuth, TokenClaims
from fastapi_logto.testing import LocalIssuer
from tests.unit.apps import bearer, build_auth, detail

issuer = LocalIssuer()
logto: LogtoAuth = build_auth(issuer)
app = FastAPI()


@app.get("/all")
async def read_all(claims: Annotated[TokenClaims, Depends(logto.require_scopes("a", "b"))]) -> str:
    return claims.user_id


@app.get("/any")
async def read_any(claims: Annotated[TokenClaims, Depends(logto.require_any_scope("a", "b"))]) -> str:
    return claims.user_id


def test_requirements_work_with_postponed_annotations() -> None:
    client = TestClient(app)

    assert client.get("/all", headers=bearer(issuer.access_token(subject="me", scope="a b"))).json() == "me"
    assert detail(client, "/all", bearer(issuer.access_token(scope="a"))) == (403, "insufficient_scope", "scope")
    assert client.get("/any", headers=bearer(issuer.access_token(subject="me", scope="b"))).json() == "me"
    assert detail(client, "/any", bearer(issuer.access_token(scope="c"))) == (403, "insufficient_scope", "scope")


class Stricter(AllScopes):
    """Asks for a claim too."""

    def __init__(self, value: str) -> None:
        super().__init__(logto, ("a",))
        self.value = value


def test_requirements_that_ask_for_something_else_are_not_equal() -> None:
    assert Stricter("x") == Stricter("x")
    assert Stricter("x") != Stricter("y")
    assert Stricter("x") != AllScopes(logto, ("a",))
    assert AllScopes(logto, ("a", "b")) == AllScopes(logto, ("b", "a"))
    assert AllScopes(logto, ("a",)) != AnyScope(logto, ("a",))
    assert AllScopes(logto, ("a",)) != AllScopes(build_auth(issuer), ("a",))
    assert hash(AllScopes(logto, ("a", "b"))) == hash(AllScopes(logto, ("b", "a")))


def test_requirements_declare_no_parameters_that_would_answer_422_before_401() -> None:
    for path in ("/all", "/any"):
        operation = app.openapi()["paths"][path]["get"]
        assert "parameters" not in operation
        assert "requestBody" not in operation


def test_all_scopes_are_shown_in_openapi_and_any_of_is_not_shown_as_all() -> None:
    paths = app.openapi()["paths"]

    assert paths["/all"]["get"]["security"] == [{"Logto": ["a", "b"]}]
    assert paths["/any"]["get"]["security"] == [{"Logto": []}]
