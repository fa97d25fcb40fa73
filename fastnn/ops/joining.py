"""What makes one tensor of several: one after the other, in a new dimension, or entry by entry."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from fastnn.backends.checks import empty
from fastnn.errors import ArgumentError, DTypeError, ShapeError
from fastnn.ops.arithmetic import common_type
from fastnn.ops.common import axis, number_as, sum_to, tensor_of
from fastnn.tensors import Array, Context, Function, Tensor


class Cat(Function):
    """Arrays one after the other along `dim`. Saves their lengths; in NumPy. Attribute: dim."""

    @staticmethod
    def forward(ctx: Context, *arrays: Array, dim: int) -> Array:
        ctx.save_for_backward([array.shape[dim] for array in arrays])
        shape = list(arrays[0].shape)
        shape[dim] = sum(array.shape[dim] for array in arrays)
        return np.concatenate(arrays, axis=dim, out=empty(tuple(shape), np.result_type(*arrays)))

    @staticmethod
    def backward(ctx: Context, grad: Array) -> tuple[Array, ...]:
        (lengths,) = ctx.saved_tensors
        return tuple(np.split(grad, np.cumsum(lengths)[:-1], axis=ctx.attributes["dim"]))


class Where(Function):
    """a where condition (booleans) holds, b elsewhere, with broadcasting. Saves condition and the shapes; in NumPy."""

    @staticmethod
    def forward(ctx: Context, condition: Array, a: Array, b: Array) -> Array:
        ctx.save_for_backward(condition, a.shape, b.shape)
        return np.where(condition, a, b)

    @staticmethod
    def backward(ctx: Context, grad: Array) -> tuple[None, Array, Array]:
        condition, a_shape, b_shape = ctx.saved_tensors
        return None, sum_to(np.where(condition, grad, 0), a_shape), sum_to(np.where(condition, 0, grad), b_shape)


def cat(tensors: Sequence[Any], dim: int = 0) -> Tensor:
    """Tensors, or arrays, one after the other along `dim`; their other dimensions are equal, but that an empty vector
    goes with all.

    Raises ArgumentError for no tensors, ShapeError for shapes that do not fit.

    >>> import fastnn as fnn
    >>> fnn.cat([fnn.Tensor([1.0, 2.0]), [3.0]])
    Tensor([1., 2., 3.])
    """
    parts = _parts("cat", tensors)
    filled = [part for part in parts if part.shape != (0,)]  # PyTorch's old empty tensor, with which a list begins
    parts = filled if any(part.ndim != 1 for part in filled) else parts
    shapes = [part.shape for part in parts]
    if parts[0].ndim == 0:
        raise ShapeError("cat: expected at least one dimension, got numbers: fnn.stack makes a vector of them")
    dim = axis("cat", dim, parts[0].ndim)
    if len({(len(shape), *shape[:dim], *shape[dim + 1 :]) for shape in shapes}) > 1:
        got = ", ".join(map(str, shapes))
        raise ShapeError(f"cat: expected shapes that differ in dimension {dim} alone, got {got}")
    return Cat.apply(*parts, dim=dim)


def stack(tensors: Sequence[Any], dim: int = 0) -> Tensor:
    """Tensors, or arrays, of one shape along a new dimension at place `dim`, counted in the result.

    Raises ArgumentError for no tensors, ShapeError for different shapes.

    >>> import fastnn as fnn
    >>> fnn.stack([fnn.Tensor([1.0, 2.0]), [3.0, 4.0]], 1)
    Tensor([[1., 3.],
            [2., 4.]])
    """
    parts = _parts("stack", tensors)
    shapes = [part.shape for part in parts]
    if len(set(shapes)) > 1:
        raise ShapeError(f"stack: expected tensors of one shape, got {', '.join(map(str, shapes))}")
    dim = axis("stack", dim, parts[0].ndim + 1)
    return Cat.apply(*(part.unsqueeze(dim) for part in parts), dim=dim)


def where(condition: Any, input: Any = None, other: Any = None) -> Any:
    """`input` where `condition` holds, `other` elsewhere; the three broadcast. Each gets the gradient of its entries.
    Of a condition alone the places where it holds, as ``nonzero(as_tuple=True)``.

    Raises DTypeError for a condition that is not of booleans, ShapeError for shapes that do not broadcast.

    >>> import fastnn as fnn
    >>> x = fnn.Tensor([-1.0, 2.0])
    >>> fnn.where(x > 0, x, 0.0)
    Tensor([0., 2.])
    """
    condition = tensor_of(condition)
    if input is None and other is None:
        return condition.nonzero(as_tuple=True)
    if condition.dtype != np.bool_:
        raise DTypeError(f"where: expected a condition of booleans, such as x > 0, got {condition.dtype}")
    for number, beside in ((input, other), (other, input)):
        if isinstance(beside, Tensor) and isinstance(number, (int, np.integer)):
            number_as("where", number, beside.dtype)
    a, b = common_type((input, other))
    try:
        np.broadcast_shapes(condition.shape, a.shape, b.shape)
    except ValueError:
        raise ShapeError(
            f"where: expected shapes that broadcast, got {condition.shape}, {a.shape} and {b.shape}"
        ) from None
    return Where.apply(condition, a, b)


def _parts(op: str, tensors: Any) -> list[Tensor]:
    if isinstance(tensors, Tensor) or not isinstance(tensors, Sequence) or not len(tensors):
        got = "none" if isinstance(tensors, Sequence) else f"a {type(tensors).__name__}"
        raise ArgumentError(f"{op}: expected a list of tensors, got {got}")
    return common_type(tensors)


# ---- stacks of one dimension or another ------------------------------------------------------------------------------


def _at_least(dims: int, tensors: Any) -> Any:
    """Tensors with dimensions of size 1 put where NumPy and PyTorch put them; one tensor alone, a list, or a tuple."""
    if len(tensors) == 1 and isinstance(tensors[0], (tuple, list)):
        return tuple(_at_least(dims, (x,)) for x in tensors[0])
    if len(tensors) != 1:
        return tuple(_at_least(dims, (x,)) for x in tensors)
    x = tensor_of(tensors[0])
    shapes = {0: ((1,), (1, 1), (1, 1, 1)), 1: (None, (1, -1), (1, -1, 1)), 2: (None, None, (*x.shape, 1))}
    shape = None if x.ndim >= dims else shapes[x.ndim][dims - 1]
    return x if shape is None else x.reshape(shape)


def atleast_1d(*tensors: Any) -> Any:
    """Tensors with at least one dimension."""
    return _at_least(1, tensors)


def atleast_2d(*tensors: Any) -> Any:
    """Tensors with at least two dimensions; a vector becomes a row."""
    return _at_least(2, tensors)


def atleast_3d(*tensors: Any) -> Any:
    """Tensors with at least three dimensions; a matrix gets a last one."""
    return _at_least(3, tensors)


def hstack(tensors: Sequence[Any]) -> Tensor:
    """One after the other along the second dimension, vectors along the first."""
    parts = atleast_1d(_parts("hstack", tensors))
    return cat(parts, 0 if parts[0].ndim == 1 else 1)


def vstack(tensors: Sequence[Any]) -> Tensor:
    """One under the other along the first dimension; vectors become rows."""
    return cat(atleast_2d(_parts("vstack", tensors)), 0)


def dstack(tensors: Sequence[Any]) -> Tensor:
    """One behind the other along the third dimension."""
    return cat(atleast_3d(_parts("dstack", tensors)), 2)


def column_stack(tensors: Sequence[Any]) -> Tensor:
    """As hstack, but that vectors become columns."""
    parts = _parts("column_stack", tensors)
    return hstack([part if part.ndim > 1 else part.reshape(-1, 1) for part in parts])
