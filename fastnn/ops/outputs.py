"""The argument ``out=`` of functions: a tensor, or several, for the result to be written to; one rule for all."""

from __future__ import annotations

import functools
import warnings
from typing import Any

import numpy as np

from fastnn.errors import ArgumentError, DTypeError, GraphError, ShapeError
from fastnn.ops.in_place import taken_over, writable
from fastnn.tape import recording, tracer
from fastnn.tensors import Tensor
from fastnn.versions import wrote

__all__ = ["with_out"]

_RANKS = {"b": 0, "i": 1, "u": 1, "f": 2}  # booleans fit into whole numbers, these into floats; no other way round


@functools.cache
def with_out(function: Any) -> Any:
    """`function`, which takes ``out=``, too: the tensor that gets the result and is returned, or a tuple of tensors.

    One of another shape is given the result's, with a warning unless it was empty; the result is cast to its type,
    and computed in it where the function has a `dtype`. Raises GraphError where a gradient would be lost, DTypeError
    for a type that does not hold the result.

    >>> import fastnn as fnn
    >>> y = fnn.empty(0)
    >>> fnn.add(fnn.ones(2), 1, out=y) is y, y
    (True, Tensor([2., 2.]))
    """
    code = getattr(getattr(function, "__wrapped__", function), "__code__", None)
    typed = code is not None and "dtype" in code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]

    @functools.wraps(function)
    def called(*args: Any, **options: Any) -> Any:
        if not options or (out := options.pop("out", None)) is None:
            return function(*args, **options)
        if typed and options.get("dtype") is None and isinstance(out, (Tensor, np.ndarray)):
            options["dtype"] = out.dtype
        return _written(function.__name__, function(*args, **options), out)

    return called


def _written(name: str, result: Any, out: Any) -> Any:
    if not isinstance(result, tuple):
        _write(name, result, out)
        return out
    if not isinstance(out, (tuple, list)) or len(out) != len(result):
        raise ArgumentError(f"{name}: expected out to be {len(result)} tensors, got {_shown(out)}")
    for part, to in zip(result, out, strict=True):
        _write(name, part, to)
    return type(result)(*out) if hasattr(result, "_fields") else tuple(out)


def _shown(out: Any) -> str:
    return f"{len(out)} of them" if isinstance(out, (tuple, list)) else type(out).__name__


def _write(name: str, result: Tensor, out: Any) -> None:
    if not isinstance(out, (Tensor, np.ndarray)):
        raise ArgumentError(f"{name}: expected out to be a tensor, got {_shown(out)}")
    to = out if isinstance(out, Tensor) else Tensor(out)  # .data and .grad are arrays
    if result.requires_grad or (recording() and to.requires_grad):
        raise GraphError(
            f"{name}: out= has no gradient, and one of the tensors needs one: leave it out, or call under fnn.no_grad()"
        )
    if _RANKS[result.dtype.kind] > _RANKS[to.dtype.kind]:
        raise DTypeError(f"{name}: expected out to hold {result.dtype}, got {to.dtype}")
    if tracer() is not None:
        taken_over(name, to, lambda _: result.astype(to.dtype))
        return
    if result.shape == to.shape:
        writable(name, to)
        np.copyto(to._data, result._data, casting="unsafe")
    elif to is not out:
        raise ShapeError(f"{name}: expected out to have the shape {result.shape}, got {to.shape}")
    else:
        if to._data.size:
            warnings.warn(
                f"{name}: out was resized, from shape {to.shape} to the result's, {result.shape}; give a tensor of "
                "that shape, or an empty one",
                stacklevel=4,
            )
        to._data = result._data.astype(to.dtype)
    wrote(to._data)
