"""Sums and other reductions, and what moves entries without changing them: reshape, transpose, indexing."""

from __future__ import annotations

import math
import operator
from typing import Any

import numpy as np

from fastnn.backends.sums import total
from fastnn.checks import is_whole, number
from fastnn.errors import ArgumentError, ShapeError
from fastnn.ops.arithmetic import Sqrt
from fastnn.ops.common import Dim, axes, axis, floating, sum_to, tensor_of
from fastnn.tensors import Array, Context, Function, Tensor


class Sum(Function):
    """x summed over the dimensions `dim` (all if None). Saves the shape. Attributes: dim, keepdim."""

    @staticmethod
    def forward(ctx: Context, x: Array, *, dim: tuple[int, ...] | None, keepdim: bool) -> Array:
        ctx.save_for_backward(x.shape)
        return total(x, dim, keepdim)

    @staticmethod
    def backward(ctx: Context, grad: Array) -> Array:
        (shape,) = ctx.saved_tensors
        dim = ctx.attributes["dim"]
        if dim is not None and not ctx.attributes["keepdim"]:
            grad = np.expand_dims(grad, dim)
        return np.broadcast_to(grad, shape)


class Deviation(Sqrt):
    """The square root of a variance, whose slope where all values are equal is taken as 0, as in PyTorch."""

    @staticmethod
    def backward(ctx: Context, grad: Array) -> Array:
        (y,) = ctx.saved_tensors
        return np.divide(grad, 2 * y, out=np.zeros_like(y), where=y != 0)


class Extremum(Function):
    """The entry that `pick` (np.argmax, np.argmin) finds along dim, or of all (None): of equal ones the first, which
    takes the gradient. Saves where.

    Attributes: dim, keepdim, pick.
    """

    @staticmethod
    def forward(ctx: Context, x: Array, *, dim: int | None, keepdim: bool, pick: Any) -> Array:
        where = pick(x, axis=dim, keepdims=True)
        if dim is None:
            ctx.save_for_backward(x.shape, where.item())
            return x.flat[where.item()]
        ctx.save_for_backward(x.shape, where)
        y = np.take_along_axis(x, where, dim)
        return y if keepdim else y.squeeze(dim)

    @staticmethod
    def backward(ctx: Context, grad: Array) -> Array:
        shape, where = ctx.saved_tensors
        dim = ctx.attributes["dim"]
        grad_x = np.zeros(shape, grad.dtype)
        if dim is None:
            grad_x.flat[where] = grad
        else:
            np.put_along_axis(grad_x, where, grad if ctx.attributes["keepdim"] else np.expand_dims(grad, dim), dim)
        return grad_x


class Place(Function):
    """The index of the entry that `pick` finds along dim, or in the flattened array (None); int64.

    Attributes: dim, keepdim, pick.
    """

    differentiable = False

    @staticmethod
    def forward(ctx: Context, x: Array, *, dim: int | None, keepdim: bool, pick: Any) -> Array:
        return pick(x, axis=dim, keepdims=keepdim)


class Reshape(Function):
    """The same entries in the same order. Saves the old shape. Attribute: shape."""

    @staticmethod
    def forward(ctx: Context, x: Array, *, shape: tuple[int, ...]) -> Array:
        ctx.save_for_backward(x.shape)
        return x.reshape(shape)

    @staticmethod
    def backward(ctx: Context, grad: Array) -> Array:
        (shape,) = ctx.saved_tensors
        return grad.reshape(shape)


class Permute(Function):
    """The dimensions in another order. Attribute: dims."""

    @staticmethod
    def forward(ctx: Context, x: Array, *, dims: tuple[int, ...]) -> Array:
        return x.transpose(dims)

    @staticmethod
    def backward(ctx: Context, grad: Array) -> Array:
        return grad.transpose(np.argsort(ctx.attributes["dims"]))


class Expand(Function):
    """x stretched to a shape, a view. Saves the old shape. Attribute: shape."""

    @staticmethod
    def forward(ctx: Context, x: Array, *, shape: tuple[int, ...]) -> Array:
        ctx.save_for_backward(x.shape)
        return np.broadcast_to(x, shape)

    @staticmethod
    def backward(ctx: Context, grad: Array) -> Array:
        return sum_to(grad, *ctx.saved_tensors)


class Index(Function):
    """x[index]. Saves the shape. Attribute: index."""

    @staticmethod
    def forward(ctx: Context, x: Array, *, index: Any) -> Array:
        ctx.save_for_backward(x.shape)
        return x[index]

    @staticmethod
    def backward(ctx: Context, grad: Array) -> Array:
        (shape,) = ctx.saved_tensors
        index = ctx.attributes["index"]
        if all(isinstance(i, (int, np.integer, slice, type(None), type(...))) for i in _tuple(index)):
            grad_x = np.zeros(shape, grad.dtype)
            grad_x[index] = grad
            return grad_x
        # An entry picked twice gets both gradients; one picked a million times would lose digits in single precision.
        sums = np.zeros(shape)
        np.add.at(sums, index, grad.astype(np.float64))
        return sums.astype(grad.dtype)


def _tuple(index: Any) -> tuple[Any, ...]:
    return index if isinstance(index, tuple) else (index,)


def sum(input: Tensor, dim: Dim = None, keepdim: bool = False) -> Tensor:
    """The sum over one dimension, several, or all.

    >>> import fastnn as fnn
    >>> fnn.Tensor([[1.0, 2.0], [3.0, 4.0]]).sum(0)
    Tensor([4., 6.])
    """
    return Sum.apply(input, dim=axes("sum", dim, input.ndim), keepdim=keepdim)


def mean(input: Tensor, dim: Dim = None, keepdim: bool = False) -> Tensor:
    """The mean over one dimension, several, or all."""
    x = floating(input)
    dims = axes("mean", dim, x.ndim)
    count = x.numel() if dims is None else math.prod(x.shape[d] for d in dims)
    return Sum.apply(x, dim=dims, keepdim=keepdim) / count


def max(input: Tensor, dim: int | None = None, keepdim: bool = False) -> Any:
    """The largest entry; with `dim`, as in PyTorch, a pair: the largest along it, and their indices.

    >>> import fastnn as fnn
    >>> values, indices = fnn.Tensor([[1.0, 5.0], [4.0, 3.0]]).max(1)
    >>> values, indices.numpy()
    (Tensor([5., 4.]), array([1, 0]))
    """
    return _extremum("max", input, dim, keepdim, np.argmax)


def min(input: Tensor, dim: int | None = None, keepdim: bool = False) -> Any:
    """The smallest entry; with `dim` a pair: the smallest along it, and their indices."""
    return _extremum("min", input, dim, keepdim, np.argmin)


def _extremum(op: str, x: Tensor, dim: int | None, keepdim: bool, pick: Any) -> Any:
    if isinstance(dim, (Tensor, np.ndarray)) and not is_whole(dim):
        sign = ">" if op == "max" else "<"
        raise ArgumentError(f"{op}: expected a dimension, got a tensor: of two, fnn.where(a {sign} b, a, b)")
    if x.numel() == 0:
        raise ShapeError(f"{op}: expected at least one entry, got shape {x.shape}")
    if dim is None:
        return Extremum.apply(x, dim=None, keepdim=False, pick=pick)
    dim = axis(op, dim, x.ndim)
    values = Extremum.apply(x, dim=dim, keepdim=keepdim, pick=pick)
    return values, Place.apply(x, dim=dim, keepdim=keepdim, pick=pick)


def var(
    input: Tensor, dim: Dim = None, unbiased: bool = True, keepdim: bool = False, *, correction: float | None = None
) -> Tensor:
    """The variance over one dimension, several, or all: squared deviations summed, divided by count - correction.

    `unbiased` is PyTorch's older name: True for a correction of 1, which is the default, False for 0; ``x.var(False)``
    says it of all entries.
    """
    x = floating(input)
    dim, correction = _correction("var", dim, unbiased, correction)
    dims = axes("var", dim, x.ndim)
    count = x.numel() if dims is None else math.prod(x.shape[d] for d in dims)
    if count <= correction:
        raise ShapeError(f"var: expected more than {correction:g} entries, got {count} (input is {x.shape})")
    away = x - mean(x, tuple(range(x.ndim)) if dims is None else dims, True)
    return sum(away * away, dims, keepdim) / (count - correction)


def std(
    input: Tensor, dim: Dim = None, unbiased: bool = True, keepdim: bool = False, *, correction: float | None = None
) -> Tensor:
    """The square root of the variance, by the same arguments; its gradient where all values are equal is 0."""
    dim, correction = _correction("std", dim, unbiased, correction)
    return Deviation.apply(var(input, dim, keepdim=keepdim, correction=correction))


def _correction(op: str, dim: Any, unbiased: Any, correction: float | None) -> tuple[Dim, float]:
    """`dim` and the correction: a flag in the place of dim is `unbiased`, as in PyTorch."""
    if isinstance(dim, (bool, np.bool_)):
        dim, unbiased = None, dim
    if not isinstance(unbiased, (bool, np.bool_)):
        raise ArgumentError(f"{op}: expected unbiased=True or False, got {unbiased!r}: correction= is given by name")
    return dim, float(unbiased) if correction is None else number(op, "correction", correction, 0)


def argmax(input: Tensor, dim: int | None = None, keepdim: bool = False) -> Tensor:
    """The index of the largest entry along `dim`, or in the flattened tensor; int64, off the tape."""
    if input.numel() == 0:
        raise ShapeError(f"argmax: expected at least one entry, got shape {input.shape}")
    if dim is None:
        return Place.apply(input, dim=None, keepdim=False, pick=np.argmax)
    return Place.apply(input, dim=axis("argmax", dim, input.ndim), keepdim=keepdim, pick=np.argmax)


def reshape(input: Tensor, *shape: Any) -> Tensor:
    """The same entries in another shape; one -1 stands for what is left. A view where NumPy can give one."""
    x, wanted = input, _ints("reshape", shape)
    known = math.prod(s for s in wanted if s != -1)
    fits = x.numel() % known == 0 if known and wanted.count(-1) == 1 else -1 not in wanted and known == x.numel()
    if not fits or any(s < -1 for s in wanted):
        raise ShapeError(f"reshape: expected a shape for {x.numel()} entries (input is {x.shape}), got {wanted}")
    return Reshape.apply(x, shape=wanted)


def flatten(input: Any, start_dim: int = 0, end_dim: int = -1) -> Tensor:
    """Dimensions start_dim to end_dim made one."""
    x = input if isinstance(input, Tensor) else Tensor(input)
    if x.ndim == 0:
        return x.reshape(1)
    first, last = axis("flatten", start_dim, x.ndim), axis("flatten", end_dim, x.ndim)
    if first > last:
        raise ShapeError(f"flatten: expected start_dim <= end_dim, got {start_dim} and {end_dim} for shape {x.shape}")
    return x.reshape(*x.shape[:first], math.prod(x.shape[first : last + 1]), *x.shape[last + 1 :])


def squeeze(input: Tensor, dim: Dim = None) -> Tensor:
    """Without the dimensions of size 1; with `dim`, without that one, or those, where the size is 1."""
    dims = range(input.ndim) if dim is None else axes("squeeze", dim, input.ndim) or ()
    return reshape(input, tuple(size for d, size in enumerate(input.shape) if size != 1 or d not in dims))


def unsqueeze(input: Tensor, dim: int) -> Tensor:
    """A new dimension of size 1 at place `dim`, counted in the result."""
    dim = axis("unsqueeze", dim, input.ndim + 1)
    return reshape(input, (*input.shape[:dim], 1, *input.shape[dim:]))


def t(input: Tensor) -> Tensor:
    """A matrix transposed."""
    if input.ndim > 2:
        raise ShapeError(f"t: expected a vector or a matrix, got {input.shape}: use .transpose(dim0, dim1)")
    return permute(input, *reversed(range(input.ndim)))


def transpose(input: Tensor, dim0: int, dim1: int) -> Tensor:
    """Two dimensions exchanged."""
    dims = list(range(input.ndim))
    dim0, dim1 = axis("transpose", dim0, input.ndim), axis("transpose", dim1, input.ndim)
    dims[dim0], dims[dim1] = dim1, dim0
    return Permute.apply(input, dims=tuple(dims))


def permute(input: Tensor, *dims: Any) -> Tensor:
    """The dimensions in the given order."""
    order = tuple(axis("permute", d, input.ndim) for d in _ints("permute", dims))
    if sorted(order) != list(range(input.ndim)):
        raise ShapeError(f"permute: expected an order of {input.ndim} dimensions, got {order}")
    return Permute.apply(input, dims=order)


def _ints(op: str, given: tuple[Any, ...]) -> tuple[int, ...]:
    """Integers, given one by one or as one tuple."""
    values = given[0] if len(given) == 1 and not is_whole(given[0]) else given
    if not np.iterable(values) or not all(map(is_whole, values)):
        raise ArgumentError(f"{op}: expected integers, got {', '.join(map(repr, given))}")
    return tuple(map(operator.index, values))


def expand(input: Any, *sizes: Any) -> Tensor:
    """A view in which dimensions of size 1 are stretched, and new ones put before; -1 leaves a size as it is. The
    gradient is summed over what was stretched.

    >>> import fastnn as fnn
    >>> fnn.tensor([[1.0], [2.0]]).expand(-1, 3)
    Tensor([[1., 1., 1.],
            [2., 2., 2.]])
    """
    x = tensor_of(input)
    wanted = _ints("expand", sizes)
    added = len(wanted) - x.ndim
    shape = tuple(x.shape[d - added] if size == -1 and d >= added else size for d, size in enumerate(wanted))
    stretched = zip(shape[max(added, 0) :], x.shape, strict=False)
    if added < 0 or -1 in shape or any(have not in (1, size) for size, have in stretched):
        raise ShapeError(f"expand: expected sizes to which {x.shape} can be stretched, got {wanted}")
    return x if shape == x.shape else Expand.apply(x, shape=shape)


view = reshape  # a view where NumPy can give one

SPECIAL: dict[str, Any] = {
    "T": property(lambda x: permute(x, *reversed(range(x.ndim)))),
}
