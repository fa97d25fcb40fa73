"""Losses: a kernel gives loss and gradient in one pass, so that forward saves the gradient and backward scales it.

`reduction` is "mean" (the default), "sum" or "none", as in PyTorch, whose order of arguments this is. What no kernel
does (weights, ignored labels, a gradient of the target) is composed of other operators, which compiled plans know, too.
Losses of pairs of entries are in loss_entries.py, those with margins in loss_margins.py.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from fastnn.backends.sums import total
from fastnn.checks import flag, number, warn, whole
from fastnn.errors import ArgumentError, DTypeError, LabelError, ShapeError
from fastnn.ops.activations import log_softmax
from fastnn.ops.arithmetic import Compare
from fastnn.ops.common import floating, loss_target
from fastnn.ops.joining import where
from fastnn.tape import recording, tracer
from fastnn.tensors import Array, Context, Function, Tensor

__all__ = [
    "binary_cross_entropy",
    "binary_cross_entropy_with_logits",
    "cross_entropy",
    "nll_loss",
]


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
        return saved if grad.item() == 1 else saved * grad
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
            raise LabelError(f"nll_loss: expected labels from 0 to {classes - 1}, got {least} to {most}")
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


class Huber(Function):
    """As MSE, by the kernel huber. Attributes: delta, reduction."""

    @staticmethod
    def forward(ctx: Context, prediction: Array, target: Array, *, delta: float, reduction: str) -> Array:
        losses, grad = ctx.kernels.huber(prediction, target, delta, _scale(reduction, prediction.size))
        ctx.save_for_backward(grad)
        return _reduce(losses, reduction)

    backward = staticmethod(MSE.backward)


class SmoothL1(Function):
    """As MSE, by the kernel smooth_l1. Attributes: beta, reduction."""

    @staticmethod
    def forward(ctx: Context, prediction: Array, target: Array, *, beta: float, reduction: str) -> Array:
        losses, grad = ctx.kernels.smooth_l1(prediction, target, beta, _scale(reduction, prediction.size))
        ctx.save_for_backward(grad)
        return _reduce(losses, reduction)

    backward = staticmethod(MSE.backward)


def check_reduction(op: str, reduction: str, allowed: tuple[str, ...] = ("mean", "sum", "none")) -> None:
    if not isinstance(reduction, str) or reduction not in allowed:
        *most, last = map(repr, allowed)
        raise ArgumentError(f"{op}: expected reduction {', '.join(most)} or {last}, got {reduction!r}")


def check_loss(op: str, reduction: str, size_average: Any = None, reduce: Any = None, *more: str) -> str:
    """The reduction that is meant: one of three, or of `more`, or what PyTorch before 0.4.1 said by two flags."""
    check_reduction(op, reduction, (*more, "mean", "sum", "none"))
    if size_average is reduce is None:
        return reduction
    average = size_average is None or flag(op, "size_average", size_average)
    meant = "none" if not (reduce is None or flag(op, "reduce", reduce)) else "mean" if average else "sum"
    warn(f"{op}: size_average and reduce are PyTorch's of old: say reduction={meant!r}")
    return meant


def reduced(losses: Tensor, reduction: str, weight: Tensor | None = None) -> Tensor:
    """The losses as the reduction wants them; the mean of weighted ones is by the sum of the weights.

    Where all weights are 0 the mean is NaN, and its gradient 0, as PyTorch's is where all labels are ignored.
    """
    if reduction == "none":
        return losses
    if reduction == "sum" or weight is not None:
        summed = losses.sum()
        if reduction == "sum" or weight is None:
            return summed
        total = weight.sum()
        nothing = Compare.apply(total, 0.0, ufunc=np.equal)
        return summed / where(nothing, 1.0, total) + where(nothing, np.nan, 0.0)
    return losses.mean()


def on_tape(x: Tensor) -> bool:
    """Whether gradients flow into it."""
    return x.requires_grad and recording()


def given_weight(op: str, weight: Any, like: Tensor, size: int | None = None) -> Tensor | None:
    """Weights as a tensor of the type of `like`: one for each class, or (`size` None) what broadcasts to `like`."""
    if weight is None:
        return None
    found = loss_target(op, weight, "weights")
    shape = like.shape if size is None else (size,)
    try:
        fits = found.shape == shape if size is not None else np.broadcast_shapes(found.shape, shape) == shape
    except ValueError:
        fits = False
    if not fits:
        raise ShapeError(f"{op}: expected weights of shape {shape}, got {found.shape}")
    return found.astype(like.dtype)


# ---- one class of several --------------------------------------------------------------------------------------------


def cross_entropy(
    input: Any,
    target: Any,
    weight: Any = None,
    size_average: bool | None = None,
    ignore_index: int = -100,
    reduce: bool | None = None,
    reduction: str = "mean",
    label_smoothing: float = 0.0,
) -> Tensor:
    """-sum_c w_c · q_c · log softmax(input)_c for each row; "mean" divides by N, or by the sum of the labels' weights.

    input: logits (N, C), (N, C, d1, ...) or (C,); target: labels (N,), (N, d1, ...) or () of any integer type, or
    probabilities in the input's shape: one-hot or soft. q is the target, mixed with the uniform distribution by
    label_smoothing; `weight` (C,) is 1 by default. Labels equal to `ignore_index` count nowhere. Raises LabelError for
    other labels outside 0 .. C-1, ShapeError.

    >>> import fastnn as fnn
    >>> fnn.ops.cross_entropy([[2.0, 0.0], [0.0, 2.0]], [0, 1]).item()  # log(1 + exp(-2))
    0.126928...
    """
    reduction = check_loss("cross_entropy", reduction, size_average, reduce)
    smoothing = number("cross_entropy", "label_smoothing", label_smoothing, 0, 1)
    logits, target = floating(input), loss_target("cross_entropy", target)
    rows, places = _rows("cross_entropy", logits, target)
    classes = rows.shape[1]
    weight = given_weight("cross_entropy", weight, rows, classes)
    if target.shape == logits.shape:
        q = _rows("cross_entropy", target.astype(logits.dtype), target)[0]
        if weight is None and not on_tape(q):
            losses = CrossEntropy.apply(rows, q, label_smoothing=smoothing, reduction=reduction)
        else:
            q = q * (1 - smoothing) + smoothing / classes
            terms = log_softmax(rows, 1) * (q if weight is None else q * weight)
            losses = reduced(-terms.sum(1), reduction)
        return losses.reshape(places) if reduction == "none" else losses
    labels, valid = _labels("cross_entropy", target, ignore_index)
    if weight is None and valid is None:
        losses = CrossEntropy.apply(rows, labels, label_smoothing=smoothing, reduction=reduction)
        return losses.reshape(places) if reduction == "none" else losses
    share = _shares(labels, valid, weight, rows)
    if valid is not None:  # what the model says where nothing counts may be anything, infinite or NaN
        rows = where(valid.reshape(labels.numel(), 1), rows, 0.0)
    plain = 0.0 if weight is not None else smoothing
    losses = CrossEntropy.apply(rows, labels, label_smoothing=plain, reduction="none") * share
    if smoothing > plain:
        uniform = -(log_softmax(rows, 1) * weight).sum(1) / classes
        uniform = uniform if valid is None else uniform * valid.astype(rows.dtype)
        losses = losses * (1 - smoothing) + uniform * smoothing
    losses = reduced(losses, reduction, share)
    return losses.reshape(places) if reduction == "none" else losses


def nll_loss(
    input: Any,
    target: Any,
    weight: Any = None,
    size_average: bool | None = None,
    ignore_index: int = -100,
    reduce: bool | None = None,
    reduction: str = "mean",
) -> Tensor:
    """-weight[target[n]] · input[n, target[n]] for each row of log-probabilities, as log_softmax gives them.

    Shapes, `weight`, `ignore_index` and "mean" as for `cross_entropy`; the target holds labels.
    """
    reduction = check_loss("nll_loss", reduction, size_average, reduce)
    log_probs, target = floating(input), loss_target("nll_loss", target)
    if target.ndim >= log_probs.ndim:
        raise ShapeError(f"nll_loss: expected input (N, C) and target (N,), got {log_probs.shape} and {target.shape}")
    rows, places = _rows("nll_loss", log_probs, target)
    weight = given_weight("nll_loss", weight, rows, rows.shape[1])
    labels, valid = _labels("nll_loss", target, ignore_index)
    if weight is None and valid is None:
        losses = NLL.apply(rows, labels, reduction=reduction)
    else:
        share = _shares(labels, valid, weight, rows)
        if valid is not None:
            rows = where(valid.reshape(labels.numel(), 1), rows, 0.0)
        losses = reduced(NLL.apply(rows, labels, reduction="none") * share, reduction, share)
    return losses.reshape(places) if reduction == "none" else losses


def _rows(op: str, x: Tensor, target: Tensor) -> tuple[Tensor, tuple[int, ...]]:
    """x (N, C, d1, ...) or (C,) with the classes last, as a matrix; and the shape of as many losses."""
    places = x.shape[:1] + x.shape[2:] if x.ndim > 1 else ()
    if x.ndim < 1 or target.shape not in (places, x.shape):
        raise ShapeError(
            f"{op}: expected logits (N, C) or (N, C, d1, ...) and as target labels (N,) or (N, d1, ...), or "
            f"probabilities of the logits' shape, got {x.shape} and {target.shape}"
        )
    if x.ndim != 2:
        moved = x if x.ndim == 1 else x.permute(0, *range(2, x.ndim), 1)
        x = moved.reshape(math.prod(places), moved.shape[-1])
    return x, places


def _labels(op: str, target: Tensor, ignore_index: int) -> tuple[Tensor, Tensor | None]:
    """Labels (N,) as int64, with 0 in the place of those to ignore; where the others stand, None where all count.

    What a plan will be given is not known: of -100, PyTorch's default, it is told, once such a label has come. Labels
    that are constants of the model are known.
    """
    if target.dtype.kind not in "iu":
        raise DTypeError(f"{op}: expected labels to be integers, got {target.dtype}")
    ignore_index = whole(op, "ignore_index", ignore_index)
    labels = target.astype(np.int64)
    labels = labels if labels.ndim == 1 else labels.reshape(target.numel())
    plan = tracer()
    if plan is None or type(target) is Tensor:  # of a plan's inputs only the shapes are known
        found = target._data
        may_ignore = ignore_index >= 0 or (found.size > 0 and np.minimum.reduce(found, axis=None) < 0)
        ignores = bool(may_ignore and (found == ignore_index).any())
    else:
        ignores = ignore_index != -100 or plan.ignores
    if not ignores:
        return labels, None
    numbers = labels.float()  # in which compiled plans compare; exact for 16 million classes
    valid = Compare.apply(numbers, float(ignore_index), ufunc=np.not_equal)
    return (numbers * valid.float()).astype(np.int64), valid


def _shares(labels: Tensor, valid: Tensor | None, weight: Tensor | None, rows: Tensor) -> Tensor:
    """What each label counts for: the weight of its class, 0 where it is ignored; (N,)."""
    counts = None if valid is None else valid.astype(rows.dtype)
    if weight is None:
        assert counts is not None
        return counts
    picked = where(is_class(labels, rows.shape[1]), weight, 0.0).sum(1)
    return picked if counts is None else picked * counts


def is_class(labels: Tensor, classes: int) -> Tensor:
    """Whether class c is the label of row n: booleans (N, C)."""
    numbers = np.arange(classes, dtype=np.float32)[np.newaxis]
    return Compare.apply(labels.float().reshape(labels.numel(), 1), numbers, ufunc=np.equal)


# ---- yes or no -------------------------------------------------------------------------------------------------------


def same_shape(op: str, x: Any, target: Any) -> tuple[Tensor, Tensor]:
    """Prediction and target of one shape and type."""
    x, target = floating(x), loss_target(op, target)
    if x.shape != target.shape:
        raise ShapeError(f"{op}: expected target of shape {x.shape}, as the input, got {target.shape}{hint(x, target)}")
    return x, target.astype(x.dtype)


def hint(x: Tensor, target: Tensor) -> str:
    """What to write where the shapes of a prediction and its target differ."""
    if x.shape[:1] == target.shape[:1] and x.numel() == target.numel():
        return f": write target.reshape({', '.join(map(str, (-1, *x.shape[1:])))})"
    if x.shape[:1] == target.shape and target.dtype.kind in "iu":
        return ": class labels are for CrossEntropyLoss"
    return ""


def binary_cross_entropy_with_logits(
    input: Any,
    target: Any,
    weight: Any = None,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
    pos_weight: Any = None,
) -> Tensor:
    """-w · (p·t·log σ(z) + (1 - t)·log(1 - σ(z))) for each entry; logits z and target t of one shape, t from 0 to 1.

    The weights w (`weight`) and p (`pos_weight`, of entries that are true) broadcast to that shape; 1 by default.
    """
    op = "binary_cross_entropy_with_logits"
    reduction = check_loss(op, reduction, size_average, reduce)
    z, t = same_shape(op, input, target)
    weight, positive = given_weight(op, weight, z), given_weight(op, pos_weight, z)
    if weight is positive is None and not on_tape(t):
        return BCEWithLogits.apply(z, t, reduction=reduction)
    softplus = log1p_exp(-z)
    log_weight = softplus if positive is None else ((positive - 1) * t + 1) * softplus
    losses = (1 - t) * z + log_weight
    return reduced(losses if weight is None else losses * weight, reduction)


def log1p_exp(x: Tensor) -> Tensor:
    """log(1 + exp(x)), which does not overflow: the binary cross-entropy of logits where nothing is true."""
    return BCEWithLogits.apply(x, np.zeros(x.shape, x.dtype), reduction="none")


def binary_cross_entropy(
    input: Any,
    target: Any,
    weight: Any = None,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
) -> Tensor:
    """-w · (t·log p + (1 - t)·log(1 - p)) for each entry; p and t of one shape, p from 0 to 1, else ArgumentError."""
    reduction = check_loss("binary_cross_entropy", reduction, size_average, reduce)
    p, t = same_shape("binary_cross_entropy", input, target)
    weight = given_weight("binary_cross_entropy", weight, p)
    if weight is None and not on_tape(t):
        return BCE.apply(p, t, reduction=reduction)
    losses = BCE.apply(p, t.detach(), reduction="none")
    if on_tape(t):  # adds 0, with the gradient log(1 - p) - log p
        losses = losses + (t - t.detach()) * (_log(1 - p) - _log(p))
    return reduced(losses if weight is None else losses * weight, reduction)


def _log(p: Tensor) -> Tensor:
    """log(p), and -100 in the place of less."""
    return where(p > 0, p.clamp(min=1e-37).log(), -100.0)
