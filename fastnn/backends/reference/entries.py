"""Functions of single entries that NumPy computes one by one, products and sums along a dimension, the first in order,
the gradient of a table's rows, and products of many matrices.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from fastnn.backends.checks import Array, empty
from fastnn.backends.reference.erf import erf
from fastnn.backends.sums import product, total
from fastnn.errors import OutOfRangeError

FUNCTIONS: dict[str, Any] = {
    "add": np.add,
    "atan": np.arctan,
    "div": np.divide,
    "erf": erf,
    "exp": np.exp,
    "exp2": np.exp2,
    "expm1": np.expm1,
    "log1p": np.log1p,
    "mul": np.multiply,
    "sub": np.subtract,
    "tan": np.tan,
}
_FEW = 16  # terms that are added one by one, for all rows at once


def function_forward(name: str, *arrays: Array) -> Array:
    """One of FUNCTIONS of the entries of arrays of one shape."""
    function = FUNCTIONS[name]
    if isinstance(function, np.ufunc):
        return np.asarray(function(*arrays, out=empty(arrays[0].shape, arrays[0].dtype)))
    return np.asarray(function(*arrays))


def cumsum(x: Array, dim: int, reverse: bool = False) -> Array:
    """Sums of the entries along dim up to each, or with `reverse` from each on.

    >>> cumsum(np.array([1.0, 2.0, 3.0]), 0, reverse=True)
    array([6., 5., 3.])
    """
    if reverse:
        return np.flip(cumsum(np.flip(x, dim), dim), dim)
    return np.cumsum(x, axis=dim)


def prod_forward(x: Array, dim: int) -> Array:
    """The product along dim, which is left out."""
    return np.prod(x, axis=dim)


def prod_backward_input(grad: Array, x: Array, y: Array, dim: int) -> Array:
    """grad times the product of the other entries; y is the product.

    >>> prod_backward_input(np.array(1.0), np.array([2.0, 0.0, 3.0]), np.array(0.0), 0)
    array([0., 6., 0.])
    """
    grad, y = np.expand_dims(grad, dim), np.expand_dims(y, dim)
    if (y != 0).all() and np.isfinite(y).all():
        return grad * (y / x)
    rows = np.moveaxis(x, dim, -1)
    ones = np.ones((*rows.shape[:-1], 1), x.dtype)
    before = np.cumprod(np.concatenate([ones, rows[..., :-1]], -1), axis=-1)
    behind = np.flip(np.cumprod(np.concatenate([ones, np.flip(rows[..., 1:], -1)], -1), axis=-1), -1)
    return grad * np.moveaxis(before * behind, -1, dim)


def topk(x: Array, count: int, smallest: bool = False) -> Array:
    """x (rows, size) -> the places (rows, count) of the largest entries, or the smallest, in order, of equal ones the
    first first; NaN is larger than all. int64.

    >>> topk(np.array([[1.0, 5.0, 3.0, 5.0]]), 3)
    array([[1, 3, 2]])
    """
    if smallest:
        return np.argsort(x, axis=1, kind="stable")[:, :count]
    order = np.argsort(x[:, ::-1], axis=1, kind="stable")[:, ::-1]  # from behind, so that the first comes first
    return x.shape[1] - 1 - order[:, :count]


def embedding_backward_weight(grad: Array, index: Array, rows: int, padding_idx: int = -1) -> Array:
    """(rows, D): the rows of grad (N, D) added where index (N,) says; row padding_idx stays 0.

    >>> embedding_backward_weight(np.array([[1.0], [2.0], [4.0]]), np.array([2, 0, 2]), 3)
    array([[2.],
           [0.],
           [5.]])
    """
    order = np.argsort(index, kind="stable")
    found, terms = index[order], grad[order]
    starts = np.flatnonzero(np.diff(found, prepend=-1))
    counts = np.diff(starts, append=len(found))
    grad_weight = np.zeros((rows, grad.shape[1]), grad.dtype)
    for k in range(min(_FEW, counts.max(initial=0))):  # of each row that was taken a few times the next term
        at = starts[(counts > k) & (counts <= _FEW)]
        grad_weight[found[at]] += terms[at + k]
    for start, count in zip(starts[counts > _FEW], counts[counts > _FEW], strict=True):
        grad_weight[found[start]] = total(terms[start : start + count], 0)
    if padding_idx >= 0:
        grad_weight[padding_idx] = 0
    return grad_weight


def pick_rows(x: Array, places: Array) -> Array:
    """x (rows, size), places (rows, count) -> (rows, count): of each row the entries at its places.

    IndexError for places out of range, also below 0.

    >>> pick_rows(np.array([[1.0, 2.0], [3.0, 4.0]]), np.array([[1], [0]]))
    array([[2.],
           [3.]])
    """
    _check_places("pick_rows", places, x.shape[1])
    return np.take_along_axis(x, places, 1)


def spread_rows(values: Array, places: Array, size: int) -> Array:
    """(rows, size): zeros, with each row's values (rows, count) added at its places.

    They are summed in double precision: a place may come a million times.

    >>> spread_rows(np.array([[1.0, 2.0, 4.0]]), np.array([[2, 0, 2]]), 4)
    array([[2., 0., 5., 0.]])
    """
    _check_places("spread_rows", places, size)
    rows = len(places)
    found = places + size * np.arange(rows)[:, np.newaxis]
    sums = np.bincount(found.ravel(), values.ravel(), minlength=rows * size)
    return sums.reshape(rows, size).astype(values.dtype, copy=False)


def _check_places(op: str, places: Array, size: int) -> None:
    if places.size and (places.min() < 0 or places.max() >= size):
        raise OutOfRangeError(f"{op}: expected places from 0 to {size - 1}")


def stacked_matmul(a: Array, b: Array) -> Array:
    """a (..., M, K) @ b (..., K, N), the dimensions before broadcast."""
    stack = np.broadcast_shapes(a.shape[:-2], b.shape[:-2])
    return product(a, b, out=np.empty((*stack, a.shape[-2], b.shape[-1]), a.dtype))
