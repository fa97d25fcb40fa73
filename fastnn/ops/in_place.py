"""Writes into tensors themselves, ``x.exp_()`` and ``x[0] = 1``: one rule for all of them.

Off the tape the numbers are written into x's own data. On it, and in a compiled plan, x goes on as what an operator
makes of it: operators that ran before keep the tensor as it was, later ones see the new one, and gradients go through.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from typing import Any

import numpy as np

from fastnn.checks import flag
from fastnn.errors import ArgumentError, DTypeError, GraphError, ShapeError
from fastnn.ops.arithmetic import add, mul, operand, sub, true_divide
from fastnn.ops.picking import Put
from fastnn.ops.shaping import View
from fastnn.tape import Write, no_grad, recording, tracer
from fastnn.tensors import Tensor
from fastnn.versions import owner, wrote
from fastnn.views import as_it_is, made_apart, renew, source_of

__all__ = ["overwriting", "recorded", "taken_over", "writable", "write", "written"]


def written(name: str, function: Any) -> Any:
    """The method `name` that computes ``function(x, ...)`` and writes the result into x's own data; returns x.

    GraphError for parameters, which are written to under no_grad alone.
    """

    @functools.wraps(function)
    def method(x: Tensor, *args: Any, **options: Any) -> Tensor:
        if recorded(x, *args, *options.values()):
            taken_over(name, x, lambda old: function(old, *args, **options))
        else:
            writable(name, x)
            with no_grad():
                result = function(x, *args, **options)
            write(name, x, result._data)
        return x

    method.__name__ = method.__qualname__ = name
    method.__doc__ = f"`{name[:-1]}` in place: the result is written into the tensor's own data, off the tape alone."
    return method


def recorded(x: Tensor, *others: Any) -> bool:
    """Whether a write to x is an operator: in a plan, and on the tape where x or what is written needs a gradient."""
    if tracer() is not None:
        return True
    if not recording():
        return False
    if any(isinstance(each, Tensor) and each.requires_grad for each in (x, *others)):
        return True
    while x._view:  # made under no_grad
        x = x._view[0]
        if x.requires_grad:
            return True
    return False


def taken_over(name: str, x: Tensor, make: Callable[[Tensor], Tensor]) -> None:
    """Let x go on as what `make` makes of it as it was; of its shape and type. The numbers are written into its memory.

    What x is a view of goes on as that with the result in it, and so does every view of it when it is used next.
    GraphError for a leaf that requires a gradient, or a view of one.
    """

    def fitting(old: Tensor) -> Tensor:
        result = make(old)
        if result.shape != x.shape:
            raise ShapeError(f"{name}: expected a result of shape {x.shape}, got {result.shape}")
        if not np.can_cast(result.dtype, x.dtype, "same_kind"):
            raise DTypeError(f"{name}: the result does not fit into a tensor of {x.dtype}")
        result = result.astype(x.dtype)
        node = result.node
        if node is None or not node.inputs or node.inputs[0] is not old:
            result = Put.apply(old, result, key=(...,))
        return result

    if (recorder := tracer()) is not None:
        recorder.take_over(x, fitting)
        return
    renew(x)
    _check_leaf(name, x)
    writable(name, x)
    alone = _has_alone(x)
    old = as_it_is(x, x._data if alone else x._data.copy())
    result = fitting(old)
    if alone:
        kept = sys.getrefcount(result._data) > 2  # by its operator, for backward: a later write must not reach that
        x._data = result._data.copy() if kept else result._data
    else:
        np.copyto(x._data, result._data)
    wrote(x._data)
    if result.node is None:
        return
    while (view := source_of(x)) is not None:
        x, function, attributes, _ = view
        old = as_it_is(x, x._data)
        result = function.put_back(old, result, **attributes)
    assert result.node is not None
    x.node, x._requires_grad = Write(result.node, x, old), True


def _updated(ufunc: np.ufunc, operator: Any, sign: str) -> Any:
    """The method ``x += y``: off the tape NumPy writes into x's data."""
    name = f"{sign}="

    def update(a: Tensor, b: Any) -> Tensor:
        if recorded(a, b):
            if a.dtype.kind in "iu" and isinstance(b, Tensor) and b.dtype.kind == "f" and a._view is None:
                return operator(a, b)  # loss = fnn.Tensor([0]), which PyTorch makes a float: loss += ... names the sum
            taken_over(name, a, lambda old: operator(old, b))
            return a
        writable(name, a)
        other = operand(b, a)
        try:
            ufunc(a._data, other._data if isinstance(other, Tensor) else other, out=a._data, casting="same_kind")
        except ValueError:
            raise ShapeError(f"{name}: expected a shape that broadcasts to {a.shape}, got {other.shape}") from None
        except TypeError:
            raise DTypeError(f"{name}: the result does not fit into a tensor of {a.dtype}") from None
        wrote(a._data)
        return a

    return update


def _has_alone(x: Tensor) -> bool:
    """Whether nobody else refers to x's array, as a view, an operator that saved it or a user would: then x may get
    another one, and nothing has to be copied."""
    return sys.getrefcount(x._data) == 2 and x._data.base is None


def overwriting(name: str, x: Any, inplace: Any, function: Callable[[Any], Tensor]) -> Tensor:
    """``function(x)``; with PyTorch's `inplace` x itself, which goes on as the result, whoever else uses it.

    A leaf that requires a gradient stays as it is, and so does an array that x was made of where x has no views.
    """
    if not flag(name, "inplace", inplace) or not isinstance(x, Tensor):
        return function(x)
    if tracer() is not None or x.node is not None:
        taken_over(name, x, function)
        return x
    result = function(x)
    if x.requires_grad or result.dtype != x.dtype:
        return result
    if x._view is None:
        x._data = result._data
    else:
        write(name, x, result._data)
    return x


def _check_leaf(name: str, x: Tensor) -> None:
    """GraphError for a leaf that requires a gradient, or a view of one: it has no operator to go back to."""
    source = x
    while (view := source_of(source)) is not None:
        if source.node is None and view[3] is not None:
            raise made_apart(source)
        source = view[0]
    if source.node is None and source._requires_grad:
        what = "a tensor that requires a gradient" if source is x else "a view of a tensor that requires a gradient"
        raise GraphError(
            f"{name}: {what} is changed in place under fnn.no_grad() only: on the tape write to "
            "x.clone(), or use fnn.where, fnn.cat or x.masked_fill, which make a new tensor"
        )
    node = source.node
    if node is not None and not isinstance(node, Write) and not issubclass(node.function, View):
        memory = owner(source._data)
        if any(isinstance(each, Tensor) and owner(each._data) is memory for each in node.inputs):
            raise GraphError(
                f"{name}: a tensor of shape {x.shape} is changed in place, and {node.function.__name__}, which made "
                "it, returned its own input, or a view of it: let its forward return a copy"
            )


def writable(name: str, x: Tensor) -> None:
    """Raise ArgumentError for read-only data."""
    if not x._data.flags.writeable:
        raise ArgumentError(f"{name}: expected a tensor that can be written to, got read-only data")


def write(name: str, x: Tensor, result: Any) -> None:
    """Copy `result`, an array, into x's data. ShapeError and DTypeError for what does not fit."""
    if result.shape != x.shape:
        raise ShapeError(f"{name}: expected a result of shape {x.shape}, got {result.shape}")
    if not np.can_cast(result.dtype, x.dtype, "same_kind"):
        raise DTypeError(f"{name}: the result does not fit into a tensor of {x.dtype}")
    np.copyto(x._data, result, casting="same_kind")
    wrote(x._data)


SPECIAL: dict[str, Any] = {
    "__iadd__": _updated(np.add, add, "+"),
    "__isub__": _updated(np.subtract, sub, "-"),
    "__imul__": _updated(np.multiply, mul, "*"),
    "__itruediv__": _updated(np.true_divide, true_divide, "/"),
}
