"""Losses and their gradients in one pass.

Each returns (loss, gradient of the loss with respect to the first argument, times `scale`): scale is what the reduction
makes of the upstream gradient, 1/N for a mean. The loss itself is not scaled. Both of `out` are overwritten and must
not overlap an input.
"""

from __future__ import annotations

import numpy as np

from fastnn.backends import shapes
from fastnn.backends.reference.activations import log_softmax
from fastnn.backends.shapes import FLOATING, Array
from fastnn.backends.sums import total


def softmax_cross_entropy(
    logits: Array,
    target: Array,
    label_smoothing: float = 0.0,
    scale: float = 1.0,
    *,
    out: tuple[Array | None, Array | None] | None = None,
) -> tuple[Array, Array]:
    """Cross-entropy between softmax(logits) and target.

    logits is (N, C); target is int64 labels (N,), or class probabilities (N, C) of the dtype of logits, which need not
    sum to 1. Label smoothing s turns the target t, one-hot for labels, into (1 - s) * t + s / C (Szegedy et al. 2015,
    https://arxiv.org/abs/1512.00567, as PyTorch has it). Returns (loss (N,), grad (N, C)):

        loss = -sum(t * log_softmax(logits)),   grad = scale * (softmax(logits) * sum(t) - t)

    A term with t = 0 is 0, also where its logit is minus infinity, as 0 log 0 is.

    >>> loss, grad = softmax_cross_entropy(np.zeros((1, 2)), np.array([1]), scale=0.5)
    >>> loss, grad
    (array([0.69314718]), array([[ 0.25, -0.25]]))

    Raises LabelError for labels outside 0 .. C-1, ArgumentError for label_smoothing outside 0 .. 1, ShapeError,
    DTypeError.
    """
    loss, grad = shapes.softmax_cross_entropy(logits, target, label_smoothing, out, FLOATING)
    n, c = logits.shape
    log_probabilities = log_softmax(logits)
    kept, spread = 1 - label_smoothing, label_smoothing / c
    if target.ndim == 1:
        rows = np.arange(n)
        loss[...] = -_times(kept, log_probabilities[rows, target])
        if spread:
            loss -= spread * total(log_probabilities, 1)
        grad[...] = np.exp(log_probabilities) - spread
        grad[rows, target] -= kept
    else:
        smooth = kept * target + spread
        loss[...] = -total(_times(smooth, log_probabilities), 1)
        grad[...] = np.exp(log_probabilities) * total(smooth, 1, keepdims=True) - smooth
    grad *= scale
    return loss, grad


def bce_with_logits(
    logits: Array,
    target: Array,
    scale: float = 1.0,
    *,
    out: tuple[Array | None, Array | None] | None = None,
) -> tuple[Array, Array]:
    """Binary cross-entropy of sigmoid(logits), elementwise.

    logits and target (probabilities) have the same shape, any. Returns, both of that shape, z being the logits and t
    the target: loss = max(z, 0) - z*t + log(1 + exp(-|z|)), grad = scale * (sigmoid(z) - t). Where z is
    infinite and t says the same, 0 or 1, the loss is 0.

    >>> loss, grad = bce_with_logits(np.array([0.0, 1000.0]), np.array([1.0, 0.0]))
    >>> loss, grad
    (array([6.93147181e-01, 1.00000000e+03]), array([-0.5,  1. ]))
    """
    loss, grad = shapes.elementwise_loss("bce_with_logits", logits, target, out, FLOATING)
    e = np.exp(-np.abs(logits))
    loss[...] = _times(np.where(logits > 0, 1 - target, target), np.abs(logits)) + np.log1p(e)
    grad[...] = scale * (np.where(logits >= 0, 1, e) / (1 + e) - target)
    return loss, grad


def mse(
    prediction: Array,
    target: Array,
    scale: float = 1.0,
    *,
    out: tuple[Array | None, Array | None] | None = None,
) -> tuple[Array, Array]:
    """Squared error, elementwise: loss = (prediction - target)^2, grad = 2 * scale * (prediction - target).

    prediction and target have the same shape, any; loss and grad have it too.
    """
    loss, grad = shapes.elementwise_loss("mse", prediction, target, out, FLOATING)
    difference = prediction - target
    loss[...] = difference * difference
    grad[...] = 2 * scale * difference
    return loss, grad


def huber(
    prediction: Array,
    target: Array,
    delta: float = 1.0,
    scale: float = 1.0,
    *,
    out: tuple[Array | None, Array | None] | None = None,
) -> tuple[Array, Array]:
    """Huber's loss (1964), elementwise: d^2 / 2 where d = |prediction - target| < delta, else delta * (d - delta / 2).

    prediction and target have the same shape, any; loss and grad, by the prediction and times scale, have it too.
    """
    loss, grad = shapes.elementwise_loss("huber", prediction, target, out, FLOATING)
    loss[...], grad[...] = _pieced(prediction - target, delta, delta, scale)
    return loss, grad


def smooth_l1(
    prediction: Array,
    target: Array,
    beta: float = 1.0,
    scale: float = 1.0,
    *,
    out: tuple[Array | None, Array | None] | None = None,
) -> tuple[Array, Array]:
    """huber with delta = beta, divided by beta (Girshick 2015); of beta = 0 it is d, whose slope at 0 is 0.

    >>> loss, grad = smooth_l1(np.array([3.0, 0.5, 1.0]), np.ones(3), beta=2.0)
    >>> loss, grad
    (array([1.    , 0.0625, 0.    ]), array([ 1.  , -0.25,  0.  ]))
    """
    loss, grad = shapes.elementwise_loss("smooth_l1", prediction, target, out, FLOATING)
    loss[...], grad[...] = _pieced(prediction - target, beta, 1.0, scale)
    return loss, grad


def _pieced(difference: Array, delta: float, slope: float, scale: float) -> tuple[Array, Array]:
    d = np.abs(difference)
    steep = slope / delta if delta else 0
    beyond = d >= delta
    loss = np.where(beyond, slope * (d - 0.5 * delta), difference * difference * (0.5 * steep))
    return loss, scale * np.where(beyond, slope * np.sign(difference), steep * difference)


def _times(weight: Array | float, value: Array) -> Array:
    """weight * value, 0 where the weight is 0 and the value infinite."""
    none = (np.asarray(weight) == 0) & np.isinf(value)
    return np.where(none, 0, weight * np.where(none, 0, value))
