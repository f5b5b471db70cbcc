"""Detect mistakes in the requirements of a route: a method that was not called, a condition that is none."""

from collections.abc import Callable, Collection
from inspect import Parameter, Signature, iscoroutinefunction, signature
from typing import Annotated, Any, TypeVar, cast

from fastapi import Depends

from fastapi_logto.verification.checks import Caller
from fastapi_logto.verification.claims import ClaimsT

FunctionT = TypeVar("FunctionT", bound=Callable[..., Any])


def must_be_called(advice: str) -> Callable[[FunctionT], FunctionT]:
    """Make FastAPI raise an error with this advice if a route depends on the decorated method itself.

    Without it, FastAPI would read the parameters of such a method from the query.
    """

    def mark(method: FunctionT) -> FunctionT:
        actual = signature(method)
        parameters = [_refuse(parameter, advice) for parameter in actual.parameters.values()]
        cast("Any", method).__signature__ = actual.replace(parameters=parameters)
        return method

    return mark


def _refuse(parameter: Parameter, advice: str) -> Parameter:
    return parameter.replace(annotation=Annotated[parameter.annotation, Depends(_NotADependency(advice))])


class _NotADependency:
    """Fails when FastAPI reads its signature."""

    def __init__(self, advice: str) -> None:
        self._advice = advice

    def __call__(self) -> str:  # pragma: no cover - only makes it callable: FastAPI fails at the signature
        raise TypeError(self._advice)

    @property
    def __signature__(self) -> Signature:
        raise TypeError(self._advice)


def check_texts(values: Collection[str] | None, what: str) -> tuple[str, ...]:
    """Return scopes, client ids or subjects, each once; `ValueError` if there is none, or an invalid one."""
    if values is None:
        return ()
    # A list in place of several arguments gets the error below, and not that it can't be hashed.
    texts: list[object] = [values] if isinstance(values, str) else list(values)
    if not texts:
        # A list that happens to be empty must not disable the check.
        raise ValueError(f"expected at least one {what}, found none; to accept any valid token, use Depends(auth)")
    checked: dict[str, None] = {}
    for text in texts:
        if not isinstance(text, str) or text.split() != [text]:
            raise ValueError(f"expected one {what} without spaces, found {text!r}; pass each one separately")
        # Not `str(text)`, which is the name of the member for `class Scope(str, Enum)`.
        checked[str.__str__(text)] = None
    return tuple(checked)


def check_caller_argument(caller: Caller | None) -> Caller | None:
    """Return a kind of caller; `ValueError` if it is unknown."""
    if caller not in {None, "user", "machine"}:
        raise ValueError(f"caller: expected 'user' or 'machine', found {caller!r}; pass one of them")
    return caller


def check_claims_argument(predicate: Callable[[ClaimsT], bool] | None) -> Callable[[ClaimsT], bool] | None:
    """Return the function that checks the claims; `ValueError` if it is none, or a coroutine function."""
    if predicate is not None and (_is_coroutine(predicate) or not callable(predicate)):
        raise ValueError(
            f"claims: expected a function, not a coroutine function, that takes the claims and returns a bool, found "
            f"{predicate!r}; pass such a function"
        )
    return predicate


def _is_coroutine(function: object) -> bool:
    return iscoroutinefunction(function) or iscoroutinefunction(getattr(function, "__call__", None))  # noqa: B004
