"""If a claims model of the application raises any exception, the token is refused and the log names the validator."""

import logging
import operator
from collections.abc import Mapping
from threading import Lock
from typing import Annotated, Any

import pytest
from fastapi import Depends, FastAPI
from pydantic import BeforeValidator, PrivateAttr, ValidationInfo, field_validator, model_validator
from starlette.testclient import TestClient

from fastapi_logto import TokenClaims
from fastapi_logto.testing import LocalIssuer, bearer


class Looks(TokenClaims):
    """Uses a claim that may be absent."""

    @model_validator(mode="before")
    @classmethod
    def read_plan(cls, data: Any) -> Any:
        return {**data, "tier": data["plan"]["tier"]}


class Edits(TokenClaims):
    """Edits the frozen input."""

    @model_validator(mode="before")
    @classmethod
    def add_roles(cls, data: dict[str, Any]) -> dict[str, Any]:
        data["roles"] = ()
        return data


class Divides(TokenClaims):
    """Computes with a claim."""

    quota: float = 0

    @field_validator("quota")
    @classmethod
    def invert(cls, value: float, _info: ValidationInfo) -> float:
        return 1 / value


class Fails(TokenClaims):
    """Fails after it was built."""

    def model_post_init(self, _context: Any) -> None:
        raise RuntimeError("a secret of the application")


class CanNotBeCopied(TokenClaims):
    """Contains an object that can't be copied."""

    _lock: Any = PrivateAttr(default_factory=Lock)


class Asserts(TokenClaims):
    """Refuses with an assertion, which Pydantic handles."""

    @field_validator("sub")
    @classmethod
    def check(cls, _value: str) -> str:
        raise ValueError("no such user")


ROWS: Mapping[str, tuple[type[TokenClaims], dict[str, Any], str]] = {
    "an absent claim": (Looks, {}, "found KeyError in Looks.read_plan"),
    "a claim of another type": (Looks, {"plan": 1}, "found TypeError in Looks.read_plan"),
    "an edit of the input": (Edits, {}, "found TypeError in Edits.add_roles"),
    "an arithmetic error": (Divides, {"quota": 0}, "found ZeroDivisionError in Divides.invert"),
    "a model that can't be copied": (CanNotBeCopied, {}, "found TypeError in deepcopy"),
    "an error once it is made": (Fails, {}, "found RuntimeError in Fails.model_post_init"),
}


def call(model: type[TokenClaims], claims: dict[str, Any]) -> Any:
    issuer = LocalIssuer()
    app = FastAPI()
    app.get("/", dependencies=[Depends(issuer.auth(claims_model=model))])(lambda: None)
    return TestClient(app).get("/", headers=bearer(issuer.access_token(claims=claims)))


@pytest.mark.parametrize(("model", "claims", "says"), ROWS.values(), ids=ROWS)
def test_any_exception_of_a_validator_is_a_401(
    model: type[TokenClaims], claims: dict[str, Any], says: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "fastapi_logto")

    response = call(model, claims)

    assert response.status_code == 401
    assert response.json()["detail"] == {
        "code": "invalid_token",
        "reason": "claims",
        "message": "A claim of the token is missing or malformed",
    }
    assert caplog.messages == [f"refused: invalid_token: claims, expected claims that {model.__name__} accepts, {says}"]


def test_a_validator_that_refuses_as_pydantic_has_it_is_a_401_that_names_the_claim() -> None:
    response = call(Asserts, {})

    assert (response.status_code, response.json()["detail"]["reason"]) == (401, "claims")


def test_a_model_that_refuses_as_a_whole_is_a_401_that_names_no_claim(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "fastapi_logto")

    class Agrees(TokenClaims):
        @model_validator(mode="after")
        def compare(self) -> "Agrees":
            raise ValueError("a secret of the application")

    response = call(Agrees, {})

    assert (response.status_code, response.json()["detail"]["reason"]) == (401, "claims")
    (line,) = caplog.messages
    assert "a secret of the application" not in line


def test_an_error_without_a_frame_of_the_application_is_a_401_too(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "fastapi_logto")

    class Converts(TokenClaims):
        quota: Annotated[int, BeforeValidator(operator.index)] = 0

    response = call(Converts, {"quota": "many"})

    assert response.status_code == 401
    assert caplog.messages[0].endswith("found TypeError in a validator")
