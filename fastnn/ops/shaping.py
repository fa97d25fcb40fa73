"""Sums and other reductions, and what moves entries without changing them: reshape, transpose, indexing."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from fastnn.checks import whole
from fastnn.errors import ShapeError
from fastnn.ops.common import axis, floating
from fastnn.tensor import Array, Context, Function, Tensor

Dim = int | tuple[int, ...] | None


class Sum(Function):
    """x summed over the dimensions `dim` (all if None). Saves the shape. Attributes: dim, keepdim."""

    @staticmethod
    def forward(ctx: Context, x: Array, *, dim: Dim, keepdim: bool) -> Array:
        ctx.save_for_backward(x.shape)
        return x.sum(axis=dim, keepdims=keepdim)

    @staticmethod
    def backward(ctx: Context, grad: Array) -> Array:
        (shape,) = ctx.saved_tensors
        dim = ctx.attributes["dim"]
        if dim is not None and not ctx.attributes["keepdim"]:
            grad = np.expand_dims(grad, dim)
        return np.broadcast_to(grad, shape)


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


class Index(Function):
    """x[index]. Saves the shape. Attribute: index."""

    @staticmethod
    def forward(ctx: Context, x: Array, *, index: Any) -> Array:
        ctx.save_for_backward(x.shape)
        return x[index]

    @staticmethod
    def backward(ctx: Context, grad: Array) -> Array:
        (shape,) = ctx.saved_tensors
        grad_x = np.zeros(shape, grad.dtype)
        np.add.at(grad_x, ctx.attributes["index"], grad)  # an entry picked twice gets both gradients
        return grad_x


def sum(x: Tensor, dim: Dim = None, keepdim: bool = False) -> Tensor:
    """The sum over one dimension, several, or all.

    >>> import fastnn as fnn
    >>> fnn.Tensor([[1.0, 2.0], [3.0, 4.0]]).sum(0)
    Tensor([4., 6.])
    """
    return Sum.apply(x, dim=_dims("sum", x, dim), keepdim=keepdim)


def mean(x: Tensor, dim: Dim = None, keepdim: bool = False) -> Tensor:
    """The mean over one dimension, several, or all."""
    x = floating(x)
    dims = _dims("mean", x, dim)
    count = x.numel() if dims is None else math.prod(x.shape[d] for d in dims)
    return Sum.apply(x, dim=dims, keepdim=keepdim) / count


def max(x: Tensor, dim: int | None = None, keepdim: bool = False) -> Any:
    """The largest entry; with `dim`, as in PyTorch, a pair: the largest along it, and their indices.

    >>> import fastnn as fnn
    >>> values, indices = fnn.Tensor([[1.0, 5.0], [4.0, 3.0]]).max(1)
    >>> values, indices.numpy()
    (Tensor([5., 4.]), array([1, 0]))
    """
    return _extremum("max", x, dim, keepdim, np.argmax)


def min(x: Tensor, dim: int | None = None, keepdim: bool = False) -> Any:
    """The smallest entry; with `dim` a pair: the smallest along it, and their indices."""
    return _extremum("min", x, dim, keepdim, np.argmin)


def _extremum(op: str, x: Tensor, dim: int | None, keepdim: bool, pick: Any) -> Any:
    if x.numel() == 0:
        raise ShapeError(f"{op}: expected at least one entry, got shape {x.shape}")
    if dim is None:
        return Extremum.apply(x, dim=None, keepdim=False, pick=pick)
    dim = axis(op, dim, x.ndim)
    values = Extremum.apply(x, dim=dim, keepdim=keepdim, pick=pick)
    return values, Place.apply(x, dim=dim, keepdim=keepdim, pick=pick)


def var(x: Tensor, dim: Dim = None, correction: int = 1, keepdim: bool = False) -> Tensor:
    """The variance over one dimension, several, or all: squared deviations summed, divided by count - correction."""
    x = floating(x)
    dims = _dims("var", x, dim)
    count = x.numel() if dims is None else math.prod(x.shape[d] for d in dims)
    if count <= correction:
        raise ShapeError(f"var: expected more than {correction} entries, got {count} (input is {x.shape})")
    away = x - mean(x, tuple(range(x.ndim)) if dims is None else dims, True)
    return sum(away * away, dims, keepdim) / (count - correction)


def std(x: Tensor, dim: Dim = None, correction: int = 1, keepdim: bool = False) -> Tensor:
    """The square root of the variance."""
    return var(x, dim, correction, keepdim).sqrt()


def argmax(x: Tensor, dim: int | None = None, keepdim: bool = False) -> Tensor:
    """The index of the largest entry along `dim`, or in the flattened tensor; int64, off the tape."""
    if x.numel() == 0:
        raise ShapeError(f"argmax: expected at least one entry, got shape {x.shape}")
    if dim is None:
        return Place.apply(x, dim=None, keepdim=False, pick=np.argmax)
    return Place.apply(x, dim=axis("argmax", dim, x.ndim), keepdim=keepdim, pick=np.argmax)


def reshape(x: Tensor, *shape: Any) -> Tensor:
    """The same entries in another shape; one -1 stands for what is left. A view where NumPy can give one."""
    given = shape[0] if len(shape) == 1 and np.ndim(shape[0]) else shape
    wanted = tuple(whole("reshape", "shape", size) for size in given)
    known = math.prod(s for s in wanted if s != -1)
    fits = x.numel() % known == 0 if known and wanted.count(-1) == 1 else -1 not in wanted and known == x.numel()
    if not fits or any(s < -1 for s in wanted):
        raise ShapeError(f"reshape: expected a shape for {x.numel()} entries (input is {x.shape}), got {wanted}")
    return Reshape.apply(x, shape=wanted)


def flatten(x: Any, start_dim: int = 0, end_dim: int = -1) -> Tensor:
    """Dimensions start_dim to end_dim made one."""
    x = x if isinstance(x, Tensor) else Tensor(x)
    if x.ndim == 0:
        return x.reshape(1)
    first, last = axis("flatten", start_dim, x.ndim), axis("flatten", end_dim, x.ndim)
    if first > last:
        raise ShapeError(f"flatten: expected start_dim <= end_dim, got {start_dim} and {end_dim} for shape {x.shape}")
    return x.reshape(*x.shape[:first], math.prod(x.shape[first : last + 1]), *x.shape[last + 1 :])


def squeeze(x: Tensor, dim: int | None = None) -> Tensor:
    """Without the dimensions of size 1; with `dim`, without that one, if its size is 1."""
    dims = range(x.ndim) if dim is None else (axis("squeeze", dim, x.ndim),)
    return reshape(x, tuple(size for d, size in enumerate(x.shape) if size != 1 or d not in dims))


def unsqueeze(x: Tensor, dim: int) -> Tensor:
    """A new dimension of size 1 at place `dim`, counted in the result."""
    dim = axis("unsqueeze", dim, x.ndim + 1)
    return reshape(x, (*x.shape[:dim], 1, *x.shape[dim:]))


def t(x: Tensor) -> Tensor:
    """A matrix transposed."""
    if x.ndim > 2:
        raise ShapeError(f"t: expected a vector or a matrix, got {x.shape}: use .transpose(dim0, dim1)")
    return permute(x, *reversed(range(x.ndim)))


def transpose(x: Tensor, dim0: int, dim1: int) -> Tensor:
    """Two dimensions exchanged."""
    dims = list(range(x.ndim))
    dim0, dim1 = axis("transpose", dim0, x.ndim), axis("transpose", dim1, x.ndim)
    dims[dim0], dims[dim1] = dim1, dim0
    return Permute.apply(x, dims=tuple(dims))


def permute(x: Tensor, *dims: Any) -> Tensor:
    """The dimensions in the given order."""
    order = tuple(dims[0] if len(dims) == 1 and np.ndim(dims[0]) else dims)
    order = tuple(axis("permute", d, x.ndim) for d in order)
    if sorted(order) != list(range(x.ndim)):
        raise ShapeError(f"permute: expected an order of {x.ndim} dimensions, got {order}")
    return Permute.apply(x, dims=order)


def index(x: Tensor, key: Any) -> Tensor:
    """x[key]: integers, slices, None, boolean and integer arrays, as NumPy."""
    parts = key if isinstance(key, tuple) else (key,)
    parts = tuple(p.data if isinstance(p, Tensor) else np.asarray(p) if isinstance(p, list) else p for p in parts)
    try:
        return Index.apply(x, index=parts)
    except IndexError as error:
        raise ShapeError(f"index: {error} (input is {x.shape})") from None


def _dims(op: str, x: Tensor, dim: Dim) -> tuple[int, ...] | None:
    if dim is None:
        return None
    return tuple(axis(op, d, x.ndim) for d in (dim if isinstance(dim, tuple) else (dim,)))


METHODS: dict[str, Any] = {
    "__getitem__": index,
    "__iter__": lambda x: (index(x, i) for i in range(len(x))),
    "sum": sum,
    "mean": mean,
    "var": var,
    "std": std,
    "max": max,
    "min": min,
    "argmax": argmax,
    "reshape": reshape,
    "view": reshape,
    "squeeze": squeeze,
    "unsqueeze": unsqueeze,
    "flatten": flatten,
    "transpose": transpose,
    "permute": permute,
    "t": t,
    "T": property(lambda x: permute(x, *reversed(range(x.ndim)))),
}
