"""Sums of float32 arrays that keep their digits however many terms they have.

NumPy adds along the axis that is contiguous in memory pairwise, but along any other one term after the other: the mean
of four million rows of 0.1 is then 4 % off. Here single precision adds short runs, whose sums are joined in double
precision.
"""

from __future__ import annotations

import math

import numpy as np

from fastnn import backends
from fastnn.backends.checks import Array

__all__ = ["product", "squares", "total"]

_SHORT = 128  # up to so many terms NumPy's sums are as good
_RUN = 16  # terms that are added in single precision
# Terms that NumPy adds pairwise; before version 2, sums of its buffer's size are then added one after the other.
_PAIRWISE = 8192 if np.__version__.startswith("1.") else 2**62
_DEPTH = 1024  # terms that BLAS adds in single precision
_LARGE = 1 << 15  # entries from which the kernel's own time counts more than its call
_DIMENSIONS = 8  # that the kernel takes
_BLOCK = 1 << 15  # entries that are read as float64 at a time, so that they stay in the cache


def total(x: Array, axis: int | tuple[int, ...] | None = None, keepdims: bool = False) -> Array:
    """x.sum(axis, keepdims=keepdims); of float32 with an error of at most about 1e-6 of the sum of |x|.

    >>> total(np.full((1_000_000, 2), 0.1, np.float32), 0).round()
    array([100000., 100000.], dtype=float32)
    """
    if x.size <= _SHORT or x.dtype != np.float32:
        plain: Array = x.sum(axis=axis, keepdims=keepdims)
        return plain
    axes = tuple(range(x.ndim)) if axis is None else axis if isinstance(axis, tuple) else (axis,)
    if axes and x.size >= _LARGE and x.ndim <= _DIMENSIONS and x.flags.aligned and backends.name() == "native":
        return _by_kernel(x, {a % x.ndim for a in axes}, keepdims)
    terms = math.prod([x.shape[a] for a in axes])
    together = x.flags.c_contiguous and (axis is None or axes in ((-1,), (x.ndim - 1,)))
    if terms <= (_PAIRWISE if together else _SHORT):
        return x.sum(axis=axis, keepdims=keepdims)
    axes = tuple(a % x.ndim for a in axes)
    kept = tuple(1 if a in axes else size for a, size in enumerate(x.shape) if keepdims or a not in axes)
    sums = x
    for a in sorted(range(x.ndim), reverse=True):
        if a in axes and a + 1 in axes and x.strides[a] == x.strides[a + 1] * x.shape[a + 1]:  # one run in memory
            sums = sums.reshape(*sums.shape[:a], sums.shape[a] * sums.shape[a + 1], 1, *sums.shape[a + 2 :])
    for a in sorted(axes, key=lambda a: abs(x.strides[a])):
        sums = _along(sums, a)
    return sums.reshape(kept)


def squares(x: Array) -> float:
    """The sum of the squares of all entries, to 1e-8 of it in float32.

    >>> squares(np.full((3, 2), 2.0))
    24.0
    """
    if backends.name() == "native" and x.dtype == np.float32 and x.flags.c_contiguous and x.flags.aligned:
        from fastnn._kernels import sum_of_squares

        return float(sum_of_squares(x))
    values, found = x.reshape(-1), 0.0
    for start in range(0, values.size, _BLOCK):
        block = values[start : start + _BLOCK].astype(np.float64)
        found += float(block @ block)
    return found


def product(a: Array, b: Array, out: Array) -> Array:
    """np.matmul(a, b, out=out); float32 loses no digits over a long inner dimension."""
    depth = a.shape[-1]
    if a.dtype != np.float32 or depth <= _DEPTH:
        return np.matmul(a, b, out=out)
    sums = np.zeros(out.shape)
    for k in range(0, depth, _DEPTH):
        part = slice(k, k + _DEPTH)
        sums += np.matmul(a[..., part].astype(np.float64), b[..., part, :].astype(np.float64))
    out[...] = sums
    return out


def _by_kernel(x: Array, axes: set[int], keepdims: bool) -> Array:
    from fastnn._kernels import operate

    kept = [a for a in range(x.ndim) if a not in axes]
    straight = not kept and x.flags.c_contiguous
    view = x if straight else x.transpose(*kept, *sorted(axes, key=lambda a: -abs(x.strides[a])))
    sums = np.empty(view.shape[: len(kept)], np.float32)
    operate("sum", (sums, view), shape=view.shape, kept=len(kept))
    return sums.reshape([1 if a in axes else size for a, size in enumerate(x.shape)]) if keepdims else sums


def _along(x: Array, axis: int) -> Array:
    """The sum along one axis, which stays with size 1."""
    n = x.shape[axis]
    if n == 1:
        return x
    if n <= _RUN or _is_pairwise(x, axis):
        return np.add.reduce(x, axis=axis, keepdims=True)
    runs = n // _RUN
    before, after = x.shape[:axis], x.shape[axis + 1 :]
    # Of each run one term after the other, for all runs side by side: long loops over neighbours in memory.
    terms = x[(slice(None),) * axis + (slice(runs * _RUN),)].reshape(*before, _RUN, runs, *after)
    rest = x[(slice(None),) * axis + (slice(runs * _RUN, None),)]
    sums = np.add.reduce(terms, axis=axis)
    wide = np.float32 if runs <= _RUN else np.float64
    joined = np.add.reduce(sums, axis=axis, keepdims=True, dtype=wide)
    if n > runs * _RUN:
        joined += np.add.reduce(rest, axis=axis, keepdims=True)
    return joined.astype(np.float32, copy=False)


def _is_pairwise(x: Array, axis: int) -> bool:
    """Whether NumPy's innermost loop, which adds pairwise, runs along this axis: no other one has as small a stride."""
    step = x.strides[axis]
    return (
        step == x.itemsize
        and x.shape[axis] <= _PAIRWISE
        and all(
            abs(stride) > step
            for a, (stride, size) in enumerate(zip(x.strides, x.shape, strict=True))
            if a != axis and size > 1
        )
    )
