"""Every public error can be pickled, e.g. by a process pool or a task queue, and copied."""

import copy
import pickle
from typing import Any, Final

import pytest

from fastapi_logto import client, errors
from fastapi_logto.errors import ForbiddenError, InvalidTokenError, LogtoError, RefusalError

ABSTRACT: Final = {RefusalError, errors.AuthorizationHeaderError, InvalidTokenError, ForbiddenError}
CLASSES: Final[list[type[LogtoError]]] = [
    error
    for module in (errors, client)
    for name in module.__all__
    if isinstance(error := getattr(module, name), type) and issubclass(error, LogtoError) and error not in ABSTRACT
]
DETAILS: Final[dict[type[LogtoError], dict[str, Any]]] = {
    errors.InsufficientScopeError: {"scopes": ["read", "write"], "missing": ["write"], "found": "'read'"},
    errors.ProviderUnavailableError: {"retry_after_seconds": 17, "found": "status 500"},
    client.GrantRefusedError: {"status": 400, "error": "invalid_grant", "description": "'no'"},
    client.GrantUnavailableError: {"retry_after_seconds": 17},
    client.OriginError: {"expected": "https://a.example", "found": "'https://b.example'"},
}


def build(error: type[LogtoError]) -> LogtoError:
    if error is errors.OpaqueTokenError:
        return errors.OpaqueTokenError(resources=["https://api.example.test"])
    usual = {"claim": "exp", "expected": "a number", "found": "'soon'"} if issubclass(error, RefusalError) else {}
    return error("The message", **DETAILS.get(error, usual))


@pytest.mark.parametrize("error", CLASSES, ids=lambda error: error.__name__)
def test_an_error_is_the_same_after_a_copy(error: type[LogtoError]) -> None:
    first = build(error)
    first.add_note("while the token was refreshed")
    pickled = [pickle.dumps(first, protocol) for protocol in range(pickle.HIGHEST_PROTOCOL + 1)]
    copies = [copy.copy(first), copy.deepcopy(first), *(pickle.loads(one) for one in pickled)]  # noqa: S301 - our own

    for second in copies:
        assert type(second) is error
        assert second is not first
        assert (str(second), repr(second), second.args) == (str(first), repr(first), first.args)
        assert vars(second) == vars(first)
        assert second.__notes__ == ["while the token was refreshed"]


def test_an_attribute_of_a_subclass_is_copied() -> None:
    class OwnError(errors.ClaimError):
        def __init__(self, *, tenant: str) -> None:
            super().__init__(claim="iss")
            self.tenant = tenant

    second = copy.copy(OwnError(tenant="acme"))

    assert (second.tenant, second.claim, str(second)) == ("acme", "iss", "invalid_token: claims, claim iss")
