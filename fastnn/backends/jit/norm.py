"""Batch normalisation. Inside, x is (N,C,S) with S = H*W, or 1; sums go by runs of images, added in order."""

from __future__ import annotations

import numpy as np
from numba import prange

from fastnn.backends import shapes
from fastnn.backends.jit.compile import REORDERED, contiguous, kernel
from fastnn.backends.shapes import FLOAT32, Array

_NS = 0.5  # what an element costs
_RUNS = 16


def batch_norm_statistics(x: Array, *, out: tuple[Array | None, Array | None] | None = None) -> tuple[Array, Array]:
    mean, var = shapes.batch_norm_statistics(x, out, FLOAT32)
    x3 = _images(x)
    m = x3.shape[0] * x3.shape[2]
    sums = _run_sums(x3)
    _sums(x.size * _NS, x3, sums)
    mean[...] = sums.sum(axis=0) / m
    _squares(x.size * _NS, x3, mean, sums)
    var[...] = sums.sum(axis=0) / m
    return mean, var


def batch_norm_forward(
    x: Array,
    mean: Array,
    var: Array,
    weight: Array | None,
    bias: Array | None,
    eps: float = 1e-5,
    *,
    out: Array | None = None,
) -> Array:
    y = shapes.batch_norm_forward(x, mean, var, weight, bias, out, FLOAT32)
    shift = np.zeros_like(mean) if bias is None else contiguous(bias)
    _affine(x.size * _NS, _images(x), contiguous(mean), _scale(var, weight, eps), shift, _images(y))
    return y


def batch_norm_backward_weight(
    grad: Array,
    x: Array,
    mean: Array,
    var: Array,
    eps: float = 1e-5,
    *,
    out: tuple[Array | None, Array | None] | None = None,
) -> tuple[Array, Array]:
    grad_weight, grad_bias = shapes.batch_norm_backward_weight(grad, x, mean, var, out, FLOAT32)
    grad3 = _images(grad)
    sums = _run_sums(grad3)
    _sums(x.size * _NS, grad3, sums)
    grad_bias[...] = sums.sum(axis=0)
    _products(x.size * _NS, grad3, _images(x), contiguous(mean), sums)
    grad_weight[...] = sums.sum(axis=0) * _scale(var, None, eps)
    return grad_weight, grad_bias


def batch_norm_backward_input(
    grad: Array,
    x: Array,
    mean: Array,
    var: Array,
    weight: Array | None,
    grad_weight: Array | None,
    grad_bias: Array | None,
    eps: float = 1e-5,
    *,
    out: Array | None = None,
) -> Array:
    grad_x = shapes.batch_norm_backward_input(grad, x, mean, var, weight, grad_weight, grad_bias, out, FLOAT32)
    grad3, to, scale = _images(grad), _images(grad_x), _scale(var, weight, eps)
    if grad_weight is None or grad_bias is None:
        zeros = np.zeros_like(scale)
        _affine(x.size * _NS, grad3, zeros, scale, zeros, to)
    else:
        m = max(grad3.shape[0] * grad3.shape[2], 1)
        through_mean, through_var = grad_bias / m, grad_weight / m * _scale(var, None, eps)
        _backward_input(
            x.size * _NS, grad3, _images(x), contiguous(mean), through_mean.astype(np.float32),
            through_var.astype(np.float32), scale, to,
        )  # fmt: skip
    return grad_x


def _images(x: Array) -> Array:
    """x (N,C) or (N,C,H,W) as (N,C,S)."""
    n, c = x.shape[:2]
    return contiguous(x).reshape(n, c, x[0, 0].size if n else 1)


def _run_sums(x: Array) -> Array:
    """Room for the sum of each channel over each run of images of x (N,C,S)."""
    return np.empty((min(x.shape[0], _RUNS), x.shape[1]))


def _scale(var: Array, weight: Array | None, eps: float) -> Array:
    scale: Array = 1 / np.sqrt(var + np.float32(eps))
    return scale if weight is None else scale * weight


# x, grad are (N,C,S); sums is (R,C) in double precision; everything else is (C,)


@kernel(REORDERED)
def _sums(x: Array, sums: Array) -> None:
    """sums[r] = x summed over S and the r-th run of images."""
    n, channels, size = x.shape
    for run in prange(sums.shape[0]):
        sums[run] = 0
        for i in range(run * n // sums.shape[0], (run + 1) * n // sums.shape[0]):
            for c in range(channels):
                total = 0.0
                for j in range(size):
                    total += x[i, c, j]
                sums[run, c] += total


@kernel(REORDERED)
def _squares(x: Array, mean: Array, sums: Array) -> None:
    """As _sums, of (x - mean)^2."""
    n, channels, size = x.shape
    for run in prange(sums.shape[0]):
        sums[run] = 0
        for i in range(run * n // sums.shape[0], (run + 1) * n // sums.shape[0]):
            for c in range(channels):
                total = 0.0
                for j in range(size):
                    total += (x[i, c, j] - mean[c]) * (x[i, c, j] - mean[c])
                sums[run, c] += total


@kernel(REORDERED)
def _products(grad: Array, x: Array, mean: Array, sums: Array) -> None:
    """As _sums, of grad * (x - mean)."""
    n, channels, size = x.shape
    for run in prange(sums.shape[0]):
        sums[run] = 0
        for i in range(run * n // sums.shape[0], (run + 1) * n // sums.shape[0]):
            for c in range(channels):
                total = 0.0
                for j in range(size):
                    total += grad[i, c, j] * (x[i, c, j] - mean[c])
                sums[run, c] += total


@kernel()
def _affine(x: Array, mean: Array, scale: Array, shift: Array, y: Array) -> None:
    """y = (x - mean)*scale + shift."""
    n, channels, size = x.shape
    for i in prange(n):
        for c in range(channels):
            for j in range(size):
                y[i, c, j] = (x[i, c, j] - mean[c]) * scale[c] + shift[c]


@kernel()
def _backward_input(
    grad: Array, x: Array, mean: Array, through_mean: Array, through_var: Array, scale: Array, grad_x: Array
) -> None:
    """grad_x = (grad - through_mean - (x - mean)*through_var)*scale."""
    n, channels, size = x.shape
    for i in prange(n):
        for c in range(channels):
            for j in range(size):
                g = grad[i, c, j] - through_mean[c] - (x[i, c, j] - mean[c]) * through_var[c]
                grad_x[i, c, j] = g * scale[c]
