"""Methods that write their result into the tensor itself, such as ``x.exp_()``: one rule for all of them."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np

from fastnn.errors import ArgumentError, DTypeError, GraphError, ShapeError
from fastnn.tape import no_grad, recording, tracer
from fastnn.tensors import Tensor
from fastnn.versions import wrote

__all__ = ["writable", "write", "written"]


def written(name: str, function: Any) -> Any:
    """The method `name` that computes ``function(x, ...)`` and writes the result into x's own data; returns x.

    Off the tape alone, because the gradient needs what stood there: GraphError where x or an argument requires one.
    """

    @functools.wraps(function)
    def method(x: Tensor, *args: Any, **options: Any) -> Tensor:
        writable(name, x, *args, *options.values())
        with no_grad():
            result = function(x, *args, **options)
        write(name, x, result.data)
        return x

    method.__name__ = method.__qualname__ = name
    method.__doc__ = f"`{name[:-1]}` in place: the result is written into the tensor's own data, off the tape alone."
    return method


def writable(name: str, x: Tensor, *others: Any) -> None:
    """Raise GraphError where the tape, or a plan, would need what stands in `x`; ArgumentError for read-only data."""
    if recording() and any(isinstance(each, Tensor) and each.requires_grad for each in (x, *others)):
        raise GraphError(
            f"{name}: tensors are changed in place off the tape alone, under fnn.no_grad() or where no gradient is "
            f"needed: without the underscore, x.{name.rstrip('_')}(...) makes a new tensor on it"
        )
    if (recorder := tracer()) is not None:
        recorder.refuse_writing()
    if not x.data.flags.writeable:
        raise ArgumentError(f"{name}: expected a tensor that can be written to, got read-only data")


def write(name: str, x: Tensor, result: Any) -> None:
    """Copy `result`, an array, into x's data. ShapeError and DTypeError for what does not fit."""
    if result.shape != x.shape:
        raise ShapeError(f"{name}: expected a result of shape {x.shape}, got {result.shape}")
    if not np.can_cast(result.dtype, x.dtype, "same_kind"):
        raise DTypeError(f"{name}: the result does not fit into a tensor of {x.dtype}")
    np.copyto(x.data, result, casting="same_kind")
    wrote(x.data)
