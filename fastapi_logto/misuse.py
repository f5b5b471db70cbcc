"""Detect a method that a route uses as a dependency, although it should have called it."""

from collections.abc import Callable
from inspect import Parameter, Signature, signature
from typing import Annotated, Any, TypeVar, cast

from fastapi import Depends

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
