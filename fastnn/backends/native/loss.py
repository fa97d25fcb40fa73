"""Losses with their gradients on the compiled kernels (kernels/ops/loss.h)."""

from __future__ import annotations

from fastnn import _kernels
from fastnn._kernels import contiguous
from fastnn.backends import shapes
from fastnn.backends.shapes import FLOAT32, Array


def softmax_cross_entropy(
    logits: Array,
    target: Array,
    label_smoothing: float = 0.0,
    scale: float = 1.0,
    *,
    out: tuple[Array | None, Array | None] | None = None,
) -> tuple[Array, Array]:
    loss, grad = shapes.softmax_cross_entropy(logits, target, label_smoothing, out, FLOAT32)
    _kernels.softmax_cross_entropy(contiguous(logits), contiguous(target), label_smoothing, scale, loss, grad)
    return loss, grad


def bce_with_logits(
    logits: Array,
    target: Array,
    scale: float = 1.0,
    *,
    out: tuple[Array | None, Array | None] | None = None,
) -> tuple[Array, Array]:
    loss, grad = shapes.elementwise_loss("bce_with_logits", logits, target, out, FLOAT32)
    _kernels.bce_with_logits(contiguous(logits), contiguous(target), scale, loss, grad)
    return loss, grad


def mse(
    prediction: Array,
    target: Array,
    scale: float = 1.0,
    *,
    out: tuple[Array | None, Array | None] | None = None,
) -> tuple[Array, Array]:
    loss, grad = shapes.elementwise_loss("mse", prediction, target, out, FLOAT32)
    _kernels.mse(contiguous(prediction), contiguous(target), scale, loss, grad)
    return loss, grad


def huber(
    prediction: Array,
    target: Array,
    delta: float = 1.0,
    scale: float = 1.0,
    *,
    out: tuple[Array | None, Array | None] | None = None,
) -> tuple[Array, Array]:
    loss, grad = shapes.elementwise_loss("huber", prediction, target, out, FLOAT32)
    _kernels.huber(contiguous(prediction), contiguous(target), delta, scale, loss, grad)
    return loss, grad


def smooth_l1(
    prediction: Array,
    target: Array,
    beta: float = 1.0,
    scale: float = 1.0,
    *,
    out: tuple[Array | None, Array | None] | None = None,
) -> tuple[Array, Array]:
    loss, grad = shapes.elementwise_loss("smooth_l1", prediction, target, out, FLOAT32)
    _kernels.smooth_l1(contiguous(prediction), contiguous(target), beta, scale, loss, grad)
    return loss, grad
