"""Matrix product and the fully connected layer: no BLAS, which Numba would take from SciPy."""

from __future__ import annotations

import numpy as np
from numba import prange

from fastnn.backends import shapes
from fastnn.backends.jit.compile import REORDERED, contiguous, flat, kernel
from fastnn.backends.jit.tiles import TILE, TILE_ROWS, accumulate, dots, runs
from fastnn.backends.shapes import FLOAT32, Array

_DOT_LENGTH = 512  # elements of a row in one sweep of dots
_DOT_COLUMNS = 24
_SHORT, _RUN = 128, 64  # terms added in single precision: all, or a run of a longer sum
_NS_PER_PRODUCT = 1 / 30


def matmul(
    a: Array, b: Array, *, transpose_a: bool = False, transpose_b: bool = False, out: Array | None = None
) -> Array:
    c = shapes.matmul(a, b, transpose_a, transpose_b, out, FLOAT32)
    if transpose_b:
        _times_transposed(c, a.T if transpose_a else a, b, np.zeros(c.shape[1], np.float32))
    else:
        _times(c, a, b, transpose_a)
    return c


def linear_forward(x: Array, weight: Array, bias: Array | None, *, out: Array | None = None) -> Array:
    y = shapes.linear_forward(x, weight, bias, out, FLOAT32)
    _times_transposed(y, x, weight, np.zeros(y.shape[1], np.float32) if bias is None else bias)
    return y


def linear_backward_input(grad: Array, weight: Array, *, out: Array | None = None) -> Array:
    grad_x = shapes.linear_backward_input(grad, weight, out, FLOAT32)
    _times(grad_x, grad, weight, False)
    return grad_x


def linear_backward_weight(
    grad: Array, x: Array, *, out: tuple[Array | None, Array | None] | None = None
) -> tuple[Array, Array]:
    grad_weight, grad_bias = shapes.linear_backward_weight(grad, x, out, FLOAT32)
    _times(grad_weight, grad, x, True)
    channel_sums(float(grad.size), contiguous(grad)[:, :, None], grad_bias)
    return grad_weight, grad_bias


def _times(c: Array, a: Array, b: Array, transpose_a: bool) -> None:
    """c (M,N) = a (M,K) b (K,N), a being (K,M) with transpose_a."""
    (k, n), m = b.shape, c.shape[0]
    row, step = (1, m) if transpose_a else (k, 1)
    _matmul_rows(m * n * k * _NS_PER_PRODUCT, flat(c), flat(a), flat(b), m, n, k, row, step)


def _times_transposed(c: Array, a: Array, b: Array, bias: Array) -> None:
    """c (M,N) = a (M,K) b (N,K)^T + bias (N,)."""
    (n, k), m = b.shape, c.shape[0]
    _matmul_columns(m * n * k * _NS_PER_PRODUCT, flat(c), flat(a), flat(b), flat(bias), m, n, k)


@kernel()
def _matmul_rows(c: Array, a: Array, b: Array, m: int, n: int, k: int, a_row: int, a_step: int) -> None:
    """c (M,N) = A (M,K) b (K,N), where A[i, k] is a[i*a_row + k*a_step]."""
    starts = runs(k, n)
    across = (n + TILE - 1) // TILE
    for task in prange((m + TILE_ROWS - 1) // TILE_ROWS * across):
        i0, j0 = task // across * TILE_ROWS, task % across * TILE
        rows, width = min(TILE_ROWS, m - i0), min(TILE, n - j0)
        tile = np.zeros(TILE_ROWS * TILE, np.float32)
        if k <= _SHORT:
            accumulate(tile, rows, width, a, i0 * a_row, a_row, a_step, k, b, starts, j0)
            for r in range(rows):
                c[(i0 + r) * n + j0 :][:width] = tile[r * TILE :][:width]
        else:  # single precision for a run of k at a time
            total = np.zeros(TILE_ROWS * TILE)
            for k0 in range(0, k, _RUN):
                k1 = min(k, k0 + _RUN)
                tile[:] = 0
                first = i0 * a_row + k0 * a_step
                accumulate(tile, rows, width, a, first, a_row, a_step, k1 - k0, b, starts[k0:k1], j0)
                for r in range(rows):
                    u, v = total[r * TILE :][:width], tile[r * TILE :][:width]
                    for j in range(width):
                        u[j] += v[j]
            for r in range(rows):
                u, to = total[r * TILE :][:width], c[(i0 + r) * n + j0 :][:width]
                for j in range(width):
                    to[j] = u[j]


@kernel()
def _matmul_columns(c: Array, a: Array, b: Array, bias: Array, m: int, n: int, k: int) -> None:
    """c (M,N) = a (M,K) b (N,K)^T + bias (N,)."""
    starts = runs(n, k)
    across = (n + _DOT_COLUMNS - 1) // _DOT_COLUMNS
    for task in prange((m + TILE_ROWS - 1) // TILE_ROWS * across):
        i0, j0 = task // across * TILE_ROWS, task % across * _DOT_COLUMNS
        i1, j1 = min(i0 + TILE_ROWS, m), min(j0 + _DOT_COLUMNS, n)
        total = np.zeros((i1 - i0) * _DOT_COLUMNS)
        for k0 in range(0, k, _DOT_LENGTH):
            dots(total, _DOT_COLUMNS, a[i0 * k + k0 :], k, i1 - i0, b, starts[j0:j1], k0, min(_DOT_LENGTH, k - k0))
        for i in range(i0, i1):
            for j in range(j0, j1):
                c[i * n + j] = total[(i - i0) * _DOT_COLUMNS + j - j0] + bias[j]


@kernel(REORDERED)
def channel_sums(x: Array, y: Array) -> None:
    """y (C,) = x (N,C,S) summed over N and S."""
    n, channels, size = x.shape
    for block in prange((channels + 15) // 16):
        first, last = block * 16, min(block * 16 + 16, channels)
        totals = np.zeros(16)
        for i in range(n):
            for c in range(first, last):
                s = 0.0
                for j in range(size):
                    s += x[i, c, j]
                totals[c - first] += s
        for c in range(first, last):
            y[c] = totals[c - first]
