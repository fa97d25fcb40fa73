"""Losses: a kernel gives loss and gradient in one pass, so that forward saves the gradient and backward scales it.

`reduction` is "mean" (the default), "sum" or "none", as in PyTorch, whose order of arguments this is. Those of them
that fastnn does not have, such as weight and ignore_index, raise ArgumentError unless they ask for nothing.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from fastnn.backends.checks import ignored
from fastnn.backends.sums import total
from fastnn.errors import ArgumentError, DTypeError, LabelError, ShapeError
from fastnn.habits import check_options
from fastnn.ops.common import constant, floating
from fastnn.tensor import Array, Context, Function, Tensor


def _scale(reduction: str, count: int) -> float:
    """What each gradient is multiplied by."""
    return 1.0 / count if reduction == "mean" and count else 1.0


def _reduce(losses: Array, reduction: str) -> Array:
    if reduction == "none":
        return losses
    summed = total(losses)
    if reduction == "sum":
        return summed
    if not losses.size:
        return losses.dtype.type(np.nan)  # as in PyTorch
    return np.true_divide(summed, losses.dtype.type(losses.size))


def _scaled(saved: Array, grad: Array) -> Array:
    """saved * grad, entry by entry of the batch; a gradient of exactly 1 costs nothing."""
    if grad.ndim == 0:
        return saved if grad == 1 else saved * grad
    return saved * grad.reshape(grad.shape + (1,) * (saved.ndim - grad.ndim))


class CrossEntropy(Function):
    """logits (N, C), target int64 (N,) or floating (N, C) -> scalar or (N,).

    Saves the gradient; kernel softmax_cross_entropy. Attributes: label_smoothing, reduction.
    """

    @staticmethod
    def forward(ctx: Context, logits: Array, target: Array, *, label_smoothing: float, reduction: str) -> Array:
        scale = _scale(reduction, len(target))
        losses, grad = ctx.kernels.softmax_cross_entropy(logits, target, label_smoothing, scale)
        ctx.save_for_backward(grad)
        return _reduce(losses, reduction)

    @staticmethod
    def backward(ctx: Context, grad: Array) -> tuple[Array, None]:
        (saved,) = ctx.saved_tensors
        return _scaled(saved, grad), None


class NLL(Function):
    """log_probs (N, C), target int64 (N,) -> scalar or (N,). Saves the target; in NumPy. Attribute: reduction."""

    @staticmethod
    def forward(ctx: Context, log_probs: Array, target: Array, *, reduction: str) -> Array:
        classes = log_probs.shape[1]
        if target.size and not (target.min() >= 0 and target.max() < classes):
            least, most = target.min(), target.max()
            raise LabelError(
                f"nll_loss: expected labels from 0 to {classes - 1}, got {least} to {most}{ignored(least)}"
            )
        ctx.save_for_backward(target, log_probs.shape)
        return _reduce(-log_probs[np.arange(len(target)), target], reduction)

    @staticmethod
    def backward(ctx: Context, grad: Array) -> tuple[Array, None]:
        target, shape = ctx.saved_tensors
        grad_x = np.zeros(shape, grad.dtype)
        grad_x[np.arange(len(target)), target] = -_scale(ctx.attributes["reduction"], len(target)) * grad
        return grad_x, None


class BCEWithLogits(Function):
    """logits and target of one shape -> scalar or that shape.

    Saves the gradient; kernel bce_with_logits. Attribute: reduction.
    """

    @staticmethod
    def forward(ctx: Context, logits: Array, target: Array, *, reduction: str) -> Array:
        losses, grad = ctx.kernels.bce_with_logits(logits, target, _scale(reduction, logits.size))
        ctx.save_for_backward(grad)
        return _reduce(losses, reduction)

    @staticmethod
    def backward(ctx: Context, grad: Array) -> tuple[Array, None]:
        (saved,) = ctx.saved_tensors
        return _scaled(saved, grad), None


class BCE(Function):
    """probabilities and target of one shape -> scalar or that shape. Saves both; in NumPy. Attribute: reduction.

    As PyTorch does, logarithms stop at -100 and the divisor of the gradient at 1e-12.
    """

    @staticmethod
    def forward(ctx: Context, p: Array, target: Array, *, reduction: str) -> Array:
        if p.size and not (p.min() >= 0 and p.max() <= 1) and not np.isnan(p).any():
            raise ArgumentError(
                f"binary_cross_entropy: expected probabilities from 0 to 1, got {p.min():.6g} to {p.max():.6g}: "
                "apply a sigmoid, or use binary_cross_entropy_with_logits (BCEWithLogitsLoss)"
            )
        ctx.save_for_backward(p, target)
        with np.errstate(divide="ignore"):
            log_p, log_q = np.maximum(np.log(p), -100), np.maximum(np.log1p(-p), -100)
        return _reduce((target - 1) * log_q - target * log_p, reduction)

    @staticmethod
    def backward(ctx: Context, grad: Array) -> tuple[Array, None]:
        p, target = ctx.saved_tensors
        slope = (p - target) / np.maximum((1 - p) * p, 1e-12)
        return slope * (grad * _scale(ctx.attributes["reduction"], p.size)), None


class MSE(Function):
    """prediction and target of one shape -> scalar or that shape.

    Saves the gradient; kernel mse. Attribute: reduction.
    """

    @staticmethod
    def forward(ctx: Context, prediction: Array, target: Array, *, reduction: str) -> Array:
        losses, grad = ctx.kernels.mse(prediction, target, _scale(reduction, prediction.size))
        ctx.save_for_backward(grad)
        return _reduce(losses, reduction)

    @staticmethod
    def backward(ctx: Context, grad: Array) -> tuple[Array, None]:
        (saved,) = ctx.saved_tensors
        return _scaled(saved, grad), None


def check_reduction(op: str, reduction: str) -> None:
    if reduction not in ("mean", "sum", "none"):
        raise ArgumentError(f"{op}: expected reduction 'mean', 'sum' or 'none', got {reduction!r}")


def _check(
    op: str,
    reduction: str,
    weight: Any,
    size_average: Any,
    reduce: Any,
    ignore_index: int = -100,
    pos_weight: Any = None,
) -> None:
    """ArgumentError for another reduction, and for options that ask for what fastnn does not have."""
    check_reduction(op, reduction)
    if not (weight is size_average is reduce is pos_weight is None and ignore_index == -100):
        check_options(op, weight=weight, size_average=size_average, reduce=reduce)
        check_options(op, ignore_index=ignore_index, pos_weight=pos_weight)


def _same_shape(op: str, x: Any, target: Any) -> tuple[Tensor, Tensor]:
    """Prediction and target of one shape and type."""
    x, target = floating(x), constant(op, x, target)
    if x.shape != target.shape:
        hint = ""
        if x.shape[:1] == target.shape[:1] and x.numel() == target.numel():
            hint = f": write target.reshape({', '.join(map(str, (-1, *x.shape[1:])))})"
        elif x.shape[:1] == target.shape and target.dtype.kind in "iu":
            hint = ": class labels are for CrossEntropyLoss"
        raise ShapeError(f"{op}: expected target of shape {x.shape}, as the input, got {target.shape}{hint}")
    return x, target.astype(x.dtype)


def cross_entropy(
    input: Any,
    target: Any,
    weight: None = None,
    size_average: None = None,
    ignore_index: int = -100,
    reduce: None = None,
    reduction: str = "mean",
    label_smoothing: float = 0.0,
) -> Tensor:
    """-sum_c q_c · log softmax(input)_c for each row; "mean" divides by N.

    input: logits (N, C); target: labels (N,) of any integer type, or probabilities (N, C): one-hot or soft. q is the
    target, mixed with the uniform distribution by label_smoothing. Raises LabelError for labels outside 0 .. C-1,
    ShapeError.

    >>> import fastnn as fnn
    >>> fnn.ops.cross_entropy([[2.0, 0.0], [0.0, 2.0]], [0, 1]).item()  # log(1 + exp(-2))
    0.126928...
    """
    _check("cross_entropy", reduction, weight, size_average, reduce, ignore_index)
    logits, target = floating(input), constant("cross_entropy", input, target)
    if logits.ndim != 2 or target.shape not in (logits.shape[:1], logits.shape):
        raise ShapeError(
            "cross_entropy: expected logits (N, C) and as target labels (N,) or probabilities (N, C), "
            f"got {logits.shape} and {target.shape}"
        )
    if target.ndim == 1 and target.dtype.kind not in "iu":
        raise DTypeError(f"cross_entropy: expected labels to be integers, got {target.dtype}")
    target = target.astype(np.int64 if target.ndim == 1 else logits.dtype)
    return CrossEntropy.apply(logits, target, label_smoothing=label_smoothing, reduction=reduction)


def nll_loss(
    input: Any,
    target: Any,
    weight: None = None,
    size_average: None = None,
    ignore_index: int = -100,
    reduce: None = None,
    reduction: str = "mean",
) -> Tensor:
    """-input[n, target[n]] for each row of input (N, C): log-probabilities, as log_softmax gives them; target: (N,)."""
    _check("nll_loss", reduction, weight, size_average, reduce, ignore_index)
    log_probs, target = floating(input), constant("nll_loss", input, target)
    if log_probs.ndim != 2 or target.shape != log_probs.shape[:1]:
        raise ShapeError(f"nll_loss: expected input (N, C) and target (N,), got {log_probs.shape} and {target.shape}")
    if target.dtype.kind not in "iu":
        raise DTypeError(f"nll_loss: expected integer labels, got {target.dtype}")
    return NLL.apply(log_probs, target, reduction=reduction)


def binary_cross_entropy_with_logits(
    input: Any,
    target: Any,
    weight: None = None,
    size_average: None = None,
    reduce: None = None,
    reduction: str = "mean",
    pos_weight: None = None,
) -> Tensor:
    """-(t·log σ(z) + (1 - t)·log(1 - σ(z))) for each entry; logits z and target t of one shape, t from 0 to 1."""
    op = "binary_cross_entropy_with_logits"
    _check(op, reduction, weight, size_average, reduce, pos_weight=pos_weight)
    return BCEWithLogits.apply(*_same_shape(op, input, target), reduction=reduction)


def binary_cross_entropy(
    input: Any,
    target: Any,
    weight: None = None,
    size_average: None = None,
    reduce: None = None,
    reduction: str = "mean",
) -> Tensor:
    """-(t·log p + (1 - t)·log(1 - p)) for each entry; p and t of one shape, from 0 to 1, else ArgumentError."""
    _check("binary_cross_entropy", reduction, weight, size_average, reduce)
    return BCE.apply(*_same_shape("binary_cross_entropy", input, target), reduction=reduction)


def mse_loss(
    input: Any,
    target: Any,
    size_average: None = None,
    reduce: None = None,
    reduction: str = "mean",
    weight: None = None,
) -> Tensor:
    """(input - target)² for each entry, of one shape."""
    _check("mse_loss", reduction, weight, size_average, reduce)
    return MSE.apply(*_same_shape("mse_loss", input, target), reduction=reduction)
