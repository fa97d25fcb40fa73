"""PyTorch's torch.compiler, for programs that mark what it shall leave alone; see `fnn.compile`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fastnn.habits import no_such_name
from fastnn.tape import tracer

__all__ = ["disable", "is_compiling", "is_dynamo_compiling", "is_exporting", "reset"]


def disable(fn: Callable[..., Any] | None = None, recursive: bool = True, *, reason: str | None = None) -> Any:
    """`fn` itself, or a decorator that changes nothing.

    >>> import fastnn as fnn
    >>> @fnn.compiler.disable
    ... def twice(x):
    ...     return 2 * x
    >>> twice(3)
    6
    """
    return (lambda function: function) if fn is None else fn


def is_compiling() -> bool:
    """True while `fnn.compile` traces a model."""
    return tracer() is not None


is_dynamo_compiling = is_compiling


def is_exporting() -> bool:
    """False."""
    return False


def reset() -> None:
    """Nothing: plans go with the step that `fnn.compile` returned."""


def __getattr__(name: str) -> Any:
    raise no_such_name("fastnn.compiler", name)
