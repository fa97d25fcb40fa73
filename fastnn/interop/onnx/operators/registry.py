"""The table of ONNX's operators, and what their functions ask about nodes and values."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple, TypeVar

import numpy as np

from fastnn.errors import ArgumentError, ShapeError
from fastnn.ops import names
from fastnn.ops.common import tensor_of
from fastnn.tensors import Array, Tensor

__all__ = ["OPERATORS", "Call", "along", "bounded", "ints", "known", "op", "reads", "tensor"]

F = TypeVar("F", bound=Callable[..., Any])

MOST_ENTRIES = 1 << 28  # of what a node makes by its numbers alone, such as ConstantOfShape and Expand

OPERATORS: dict[str, Callable[..., Any]] = {}


class Call(NamedTuple):
    """One node as its operator's function sees it."""

    operator: str
    attributes: dict[str, Any]
    version: int
    training: bool
    outputs: int  # how many are asked for, counted up to the last one
    batch: tuple[int, int] | None  # the fixed batch that the file was written for, and that of the present input
    written: tuple[int, ...] | None  # the shape of the first input at the former

    def get(self, name: str, default: Any = None) -> Any:
        """An attribute, of the default's kind (ArgumentError)."""
        value = self.attributes.get(name, default)
        kind = (int, float) if isinstance(default, float) else type(default)
        if default is not None and not isinstance(value, kind):
            raise ArgumentError(f"expected {name} of the kind {type(default).__name__}, got {value!r}")
        return value

    def refuse(self, what: str) -> ArgumentError:
        """The error for an option that fastnn does not have."""
        return ArgumentError(f"fastnn has no {self.operator} with {what}")


def reads(*names: str) -> Callable[[F], F]:
    """Decorator: the function is that of these operators."""

    def entered(function: F) -> F:
        OPERATORS.update(dict.fromkeys(names, function))
        return function

    return entered


def op(name: str) -> Callable[..., Tensor]:
    """fastnn's operator of this name."""
    found: Callable[..., Tensor] = names.find(name)
    return found


def tensor(x: Any) -> Tensor:
    """A value as a tensor."""
    return tensor_of(x)


def known(value: Any) -> Array:
    """The numbers of a value that says how something is done, such as a shape; of an input's only outside of plans."""
    return value.detach().numpy() if isinstance(value, Tensor) else np.asarray(value)


def ints(value: Any) -> list[int]:
    """Such a value as a list of integers; None stays None by the caller's choice."""
    found = known(value)
    if found.dtype.kind not in "iub" or found.ndim > 1:
        raise ArgumentError(f"expected integers, got {found.dtype} of shape {found.shape}")
    return [int(each) for each in found.reshape(-1)]


def axes_of(call: Call, given: Any = None) -> list[int] | None:
    """The dimensions that a node names, in its attribute `axes` or as an input."""
    return ints(given) if given is not None else call.get("axes")


def bounded(shape: Iterable[int]) -> tuple[int, ...]:
    """The shape, unless a tensor of it would be absurdly large (ShapeError)."""
    shape = tuple(int(size) for size in shape)
    if any(size < 0 for size in shape) or math.prod(shape) > MOST_ENTRIES:
        raise ShapeError(f"expected a tensor of at most {MOST_ENTRIES:,} entries, got shape {shape}")
    return shape


def along(axis: int, part: Any) -> tuple[Any, ...]:
    """The key of a part along one dimension."""
    return (*[slice(None)] * axis, part)


def axis_of(axis: int, ndim: int) -> int:
    """Counted from the front; ShapeError for one out of range."""
    if not isinstance(axis, int) or not -ndim <= axis < max(ndim, 1):
        raise ShapeError(f"expected an axis from {-ndim} to {ndim - 1}, got {axis}")
    return axis % ndim if ndim else 0
