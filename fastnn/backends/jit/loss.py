"""Losses and their gradients in one pass."""

from __future__ import annotations

import math

import numpy as np
from numba import prange

from fastnn.backends import shapes
from fastnn.backends.jit.compile import contiguous, flat, inner, kernel, piece, pieces
from fastnn.backends.shapes import FLOAT32, Array

_ZERO = np.float32(0)
_ONE = np.float32(1)
_NS_EXP = 5.0
_NS_COPY = 0.5


def softmax_cross_entropy(
    logits: Array,
    target: Array,
    label_smoothing: float = 0.0,
    scale: float = 1.0,
    *,
    out: tuple[Array | None, Array | None] | None = None,
) -> tuple[Array, Array]:
    loss, grad = shapes.softmax_cross_entropy(logits, target, label_smoothing, out, FLOAT32)
    run = _cross_entropy_of_labels if target.ndim == 1 else _cross_entropy
    run(
        logits.size * 2 * _NS_EXP, contiguous(logits), contiguous(target), 1.0 - label_smoothing,
        label_smoothing / logits.shape[1], float(scale), loss, grad,
    )  # fmt: skip
    return loss, grad


def bce_with_logits(
    logits: Array,
    target: Array,
    scale: float = 1.0,
    *,
    out: tuple[Array | None, Array | None] | None = None,
) -> tuple[Array, Array]:
    loss, grad = shapes.elementwise_loss("bce_with_logits", logits, target, out, FLOAT32)
    _bce(logits.size * 2 * _NS_EXP, flat(logits), flat(target), float(scale), flat(loss), flat(grad))
    return loss, grad


def mse(
    prediction: Array,
    target: Array,
    scale: float = 1.0,
    *,
    out: tuple[Array | None, Array | None] | None = None,
) -> tuple[Array, Array]:
    loss, grad = shapes.elementwise_loss("mse", prediction, target, out, FLOAT32)
    _mse(prediction.size * _NS_COPY, flat(prediction), flat(target), 2.0 * scale, flat(loss), flat(grad))
    return loss, grad


def huber(
    prediction: Array,
    target: Array,
    delta: float = 1.0,
    scale: float = 1.0,
    *,
    out: tuple[Array | None, Array | None] | None = None,
) -> tuple[Array, Array]:
    return _of_two_pieces("huber", prediction, target, delta, delta, scale, out)


def smooth_l1(
    prediction: Array,
    target: Array,
    beta: float = 1.0,
    scale: float = 1.0,
    *,
    out: tuple[Array | None, Array | None] | None = None,
) -> tuple[Array, Array]:
    return _of_two_pieces("smooth_l1", prediction, target, beta, 1.0, scale, out)


def _of_two_pieces(
    op: str,
    prediction: Array,
    target: Array,
    delta: float,
    slope: float,
    scale: float,
    out: tuple[Array | None, Array | None] | None,
) -> tuple[Array, Array]:
    """A parabola up to delta, a line of that slope beyond."""
    loss, grad = shapes.elementwise_loss(op, prediction, target, out, FLOAT32)
    _pieced(
        prediction.size * _NS_COPY, flat(prediction), flat(target), float(delta), float(slope), float(scale),
        flat(loss), flat(grad),
    )  # fmt: skip
    return loss, grad


@inner()
def _exponentials(row: Array, e: Array) -> tuple[np.float32, np.float32]:
    """e = exp(row - maximum); returns the maximum and the sum of e. With a NaN in the row the sum is NaN."""
    top, total = row[0], 0.0
    for j in range(1, row.size):
        if row[j] > top:
            top = row[j]
    for j in range(row.size):
        e[j] = math.exp(row[j] - top)
        total += e[j]
    return top, np.float32(total)


@kernel()
def _cross_entropy_of_labels(
    logits: Array, target: Array, kept: float, spread: float, scale: float, loss: Array, grad: Array
) -> None:
    """loss (N,), grad (N,C) from logits (N,C), target (N,): t is kept + spread at the label, spread elsewhere."""
    keep, rest, factor = np.float32(kept), np.float32(spread), np.float32(scale)
    for n in prange(logits.shape[0]):
        z, g, label = logits[n], grad[n], target[n]
        top, total = _exponentials(z, g)
        log_total = math.log(total)
        sum_loss = 0.0
        if keep != _ZERO:  # 0 times minus infinity is 0 here
            sum_loss -= keep * (z[label] - top - log_total)
        if rest != _ZERO:
            for j in range(z.size):
                sum_loss -= rest * (z[j] - top - log_total)
        loss[n] = sum_loss
        for j in range(z.size):
            g[j] = factor * (g[j] / total - rest)
        g[label] -= factor * keep


@kernel()
def _cross_entropy(
    logits: Array, target: Array, kept: float, spread: float, scale: float, loss: Array, grad: Array
) -> None:
    """loss (N,), grad (N,C) from logits (N,C), target (N,C): t is kept*target + spread."""
    keep, rest, factor = np.float32(kept), np.float32(spread), np.float32(scale)
    for n in prange(logits.shape[0]):
        z, g, u = logits[n], grad[n], target[n]
        top, total = _exponentials(z, g)
        log_total = math.log(total)
        sum_loss, sum_t = 0.0, 0.0
        for j in range(z.size):
            t = keep * u[j] + rest
            if t != _ZERO or z[j] > -math.inf:
                sum_loss -= t * (z[j] - top - log_total)
            sum_t += t
        loss[n] = sum_loss
        all_t = np.float32(sum_t)
        for j in range(z.size):
            g[j] = factor * (g[j] / total * all_t - (keep * u[j] + rest))


@kernel()
def _bce(logits: Array, target: Array, scale: float, loss: Array, grad: Array) -> None:
    """All arrays are (size,)."""
    factor = np.float32(scale)
    for k in prange(pieces(logits.size)):
        z, t, u, g = piece(logits, k), piece(target, k), piece(loss, k), piece(grad, k)
        for i in range(z.size):
            e = math.exp(-abs(z[i]))
            weight = _ONE - t[i] if z[i] >= 0 else t[i]
            linear = _ZERO if weight == _ZERO else abs(z[i]) * weight  # 0 times infinity is 0 here
            u[i] = linear + math.log1p(e)
            g[i] = factor * ((_ONE if z[i] >= 0 else e) / (_ONE + e) - t[i])


@kernel()
def _mse(prediction: Array, target: Array, twice_scale: float, loss: Array, grad: Array) -> None:
    """All arrays are (size,)."""
    factor = np.float32(twice_scale)
    for k in prange(pieces(prediction.size)):
        z, t, u, g = piece(prediction, k), piece(target, k), piece(loss, k), piece(grad, k)
        for i in range(z.size):
            difference = z[i] - t[i]
            u[i] = difference * difference
            g[i] = factor * difference


@kernel()
def _pieced(
    prediction: Array, target: Array, delta: float, slope: float, scale: float, loss: Array, grad: Array
) -> None:
    """All arrays are (size,): slope * d * d / (2 delta) where d < delta, else slope * (d - delta / 2)."""
    edge, steep, half = np.float32(delta), np.float32(slope / delta if delta else 0.0), np.float32(0.5 * delta)
    far, factor = np.float32(slope), np.float32(scale)
    for k in prange(pieces(prediction.size)):
        z, t, u, g = piece(prediction, k), piece(target, k), piece(loss, k), piece(grad, k)
        for i in range(z.size):
            difference = z[i] - t[i]
            d = abs(difference)
            if d >= edge:
                u[i] = far * (d - half)
                g[i] = factor * (far if difference > _ZERO else -far if difference < _ZERO else _ZERO)
            else:
                u[i] = np.float32(0.5) * steep * difference * difference
                g[i] = factor * steep * difference
