"""Matrices and rows put together of vectors and matrices, and areas under curves; all made of other operators."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np

from fastnn.checks import entries, flag, is_whole, whole
from fastnn.errors import ArgumentError, ShapeError
from fastnn.ops.common import axes, axis, floating, tensor_of
from fastnn.ops.elementwise import floor_divide
from fastnn.ops.joining import cat
from fastnn.ops.moving import diag, narrow, tensor_split
from fastnn.ops.padding import pad
from fastnn.ops.places import index
from fastnn.ops.sorting import cumsum, diff
from fastnn.tensors import Size, Tensor

__all__ = [
    "block_diag", "broadcast_shapes", "combinations", "cumulative_trapezoid", "diagflat", "dsplit", "gradient",
    "hsplit", "trapezoid", "unravel_index", "vander", "vsplit",
]  # fmt: skip


def block_diag(*tensors: Any) -> Tensor:
    """The matrices along the diagonal of one that is 0 elsewhere; vectors are rows, numbers single entries.

    >>> import fastnn as fnn
    >>> fnn.block_diag(fnn.ones(1, 2), fnn.tensor([[3.0]]))
    Tensor([[1., 1., 0.],
            [0., 0., 3.]])
    """
    found = [tensor_of(each) for each in tensors]
    if any(x.ndim > 2 for x in found):
        raise ShapeError(f"block_diag: expected matrices, got shapes {', '.join(str(x.shape) for x in found)}")
    blocks = [x if x.ndim == 2 else x.reshape(1, -1) for x in found]
    if not blocks:
        return Tensor(np.zeros((1, 0), np.float32))
    width, left = sum(x.shape[1] for x in blocks), 0
    rows = []
    for x in blocks:
        rows.append(pad(x, (left, width - left - x.shape[1])))
        left += x.shape[1]
    return cat(rows, 0)


def diagflat(input: Any, offset: int = 0) -> Tensor:
    """A square matrix with all entries of the input on a diagonal."""
    return diag(tensor_of(input).reshape(-1), offset)


def combinations(input: Any, r: int = 2, with_replacement: bool = False) -> Tensor:
    """All choices of r entries of a vector, in their order, as rows; `with_replacement` each may come again.

    >>> import fastnn as fnn
    >>> fnn.combinations(fnn.tensor([1, 2, 3]))
    Tensor([[1, 2],
            [1, 3],
            [2, 3]], dtype=int64)
    """
    x = tensor_of(input)
    if x.ndim != 1:
        raise ShapeError(f"combinations: expected a vector, got {x.shape}")
    if not (r := whole("combinations", "r", r, 0)):
        return x[:0]
    again = flag("combinations", "with_replacement", with_replacement)
    choose = itertools.combinations_with_replacement if again else itertools.combinations
    places = np.array(list(choose(range(len(x)), r)), np.int64).reshape(-1, r)
    return index(x, places)


def vander(x: Any, N: int | None = None, increasing: bool = False) -> Tensor:
    """The powers of a vector's entries in N columns, as many as there are entries by default, falling from N - 1 to 0.

    >>> import fastnn as fnn
    >>> fnn.vander(fnn.tensor([2.0, 3.0]), 3)
    Tensor([[4., 2., 1.],
            [9., 3., 1.]])
    """
    x = tensor_of(x)
    if x.ndim != 1:
        raise ShapeError(f"vander: expected a vector, got {x.shape}")
    count = len(x) if N is None else whole("vander", "N", N, 0)
    powers = [(x * 0 + 1).unsqueeze(1)] if count else []
    for _ in range(count - 1):
        powers.append(powers[-1] * x.unsqueeze(1))
    rising = flag("vander", "increasing", increasing)
    return cat(powers if rising else powers[::-1], 1) if powers else x.unsqueeze(1)[:, :0]


def _split(op: str, input: Any, given: Any, dim: int, least: int) -> tuple[Tensor, ...]:
    x = tensor_of(input)
    if x.ndim < least:
        raise ShapeError(f"{op}: expected at least {least} dimensions, got {x.shape}")
    if is_whole(given) and (given < 1 or x.shape[dim] % given):
        raise ShapeError(f"{op}: expected a number of parts that divides {x.shape[dim]}, got {given}")
    return tensor_split(x, given, dim)


def hsplit(input: Any, indices_or_sections: Any) -> tuple[Tensor, ...]:
    """Equal parts, or parts between indices, along the second dimension; of a vector along its only one."""
    return _split("hsplit", input, indices_or_sections, min(tensor_of(input).ndim, 2) - 1, 1)


def vsplit(input: Any, indices_or_sections: Any) -> tuple[Tensor, ...]:
    """Equal parts, or parts between indices, along the first dimension of two at least."""
    return _split("vsplit", input, indices_or_sections, 0, 2)


def dsplit(input: Any, indices_or_sections: Any) -> tuple[Tensor, ...]:
    """Equal parts, or parts between indices, along the third dimension."""
    return _split("dsplit", input, indices_or_sections, 2, 3)


def broadcast_shapes(*shapes: Any) -> Size:
    """The shape that tensors of these shapes broadcast to; ShapeError where they do not.

    >>> import fastnn as fnn
    >>> fnn.broadcast_shapes((2, 1), (3,))
    (2, 3)
    """
    rows = [[shape] if is_whole(shape) else entries("broadcast_shapes", "a shape", shape) for shape in shapes]
    each = [tuple(whole("broadcast_shapes", "sizes", size, 0) for size in row) for row in rows]
    try:
        return Size(np.broadcast_shapes(*each))
    except ValueError:
        raise ShapeError(f"broadcast_shapes: expected shapes that broadcast, got {each}") from None


def unravel_index(indices: Any, shape: Any) -> tuple[Tensor, ...]:
    """The places, one tensor for each dimension, that whole numbers have in an array of that shape, row by row.

    >>> import fastnn as fnn
    >>> fnn.unravel_index(fnn.tensor(5), (2, 3))
    (Tensor(1, dtype=int64), Tensor(2, dtype=int64))
    """
    flat = tensor_of(indices).astype(np.int64)
    sizes = [whole("unravel_index", "sizes", n, 0) for n in ((shape,) if is_whole(shape) else shape)]
    places = []
    for size in reversed(sizes):
        places.append(flat % size)
        flat = floor_divide(flat, size)
    return tuple(reversed(places))


def gradient(input: Any, *, spacing: Any = 1, dim: Any = None, edge_order: int = 1) -> tuple[Tensor, ...]:
    """The derivatives along each dimension, or along `dim`, by central differences of second order, one-sided at the
    edges, of the first order or the second (`edge_order`; Fornberg 1988).

    Args:
        spacing: the distance of neighbours, a number for all dimensions or a list of one for each; or a list of
            vectors, the places along each.

    >>> import fastnn as fnn
    >>> fnn.gradient(fnn.tensor([0.0, 1.0, 4.0, 9.0]))
    (Tensor([1., 2., 4., 5.]),)
    """
    x = floating(input)
    dims = axes("gradient", dim, x.ndim)
    dims = tuple(range(x.ndim)) if dims is None else dims
    order = whole("gradient", "edge_order", edge_order, 1, 2)
    given = list(spacing) if isinstance(spacing, (list, tuple)) else [spacing] * len(dims)
    if len(given) != len(dims) or any(x.shape[d] <= order for d in dims):
        raise ShapeError(
            f"gradient: expected a spacing for each of {len(dims)} dimensions of more than {order} entries"
        )
    return tuple(_slope(x.transpose(d, -1), each, order).transpose(d, -1) for d, each in zip(dims, given, strict=True))


def _slope(y: Tensor, spacing: Any, order: int) -> Tensor:
    """The derivative along the last dimension."""
    if np.ndim(spacing) and np.shape(spacing) != y.shape[-1:]:
        raise ShapeError(f"gradient: expected {y.shape[-1]} coordinates, got {np.shape(spacing)}")
    steps = diff(floating(spacing, y.dtype)) if np.ndim(spacing) else Tensor(np.full(y.shape[-1] - 1, spacing, y.dtype))
    slopes = diff(y) / steps
    left, right = steps[:-1], steps[1:]
    inner = (right * slopes[..., :-1] + left * slopes[..., 1:]) / (left + right)
    first, last = slopes[..., :1], slopes[..., -1:]
    if order == 2:  # of the parabola through three places
        bends = (slopes[..., 1:] - slopes[..., :-1]) / (left + right)
        first, last = first - bends[..., :1] * steps[:1], last + bends[..., -1:] * steps[-1:]
    return cat((first, inner, last), -1)


def trapezoid(y: Any, x: Any = None, *, dx: Any = None, dim: int = -1) -> Tensor:
    """The area under y along `dim` by trapezoids, at the places x, or at distances dx (1).

    >>> import fastnn as fnn
    >>> fnn.trapezoid(fnn.tensor([1.0, 2.0, 4.0]))
    Tensor(4.5)
    """
    areas, dim = _trapezoids("trapezoid", y, x, dx, dim)
    return areas.sum(dim)


def cumulative_trapezoid(y: Any, x: Any = None, *, dx: Any = None, dim: int = -1) -> Tensor:
    """The areas of `trapezoid` up to each place but the first."""
    areas, dim = _trapezoids("cumulative_trapezoid", y, x, dx, dim)
    return cumsum(areas, dim)


def _trapezoids(op: str, y: Any, x: Any, dx: Any, dim: int) -> tuple[Tensor, int]:
    y = floating(y)
    dim = axis(op, dim, y.ndim)
    count = max(y.shape[dim] - 1, 0)
    if x is not None and dx is not None:
        raise ArgumentError(f"{op}: expected x or dx, got both")
    steps: Any = 1.0 if dx is None else dx
    if x is not None:
        places = floating(x, y.dtype)
        if places.ndim == 1:
            places = places.reshape(-1, *(1,) * (y.ndim - 1 - dim))
        along = places.ndim - (y.ndim - dim)
        steps = narrow(places, along, 1, count) - narrow(places, along, 0, count)
    return (narrow(y, dim, 0, count) + narrow(y, dim, 1, count)) * steps / 2, dim
