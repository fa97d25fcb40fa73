"""Losses of a prediction and a target, entry by entry: regression, counts, divergences. Gradients flow into both.

Squared and absolute errors have kernels (loss.MSE, Huber, SmoothL1), the others are arithmetic. `reduction` is "mean",
"sum" or "none".
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from fastnn.checks import flag, number, warn
from fastnn.errors import ArgumentError, ShapeError
from fastnn.ops.common import floating, loss_target
from fastnn.ops.joining import where
from fastnn.ops.loss import MSE, Huber, SmoothL1, check_loss, check_reduction, given_weight, hint, on_tape, reduced
from fastnn.tape import tracer
from fastnn.tensors import Tensor

__all__ = [
    "gaussian_nll_loss",
    "huber_loss",
    "kl_div",
    "l1_loss",
    "mse_loss",
    "poisson_nll_loss",
    "smooth_l1_loss",
]


def _pair(op: str, input: Any, target: Any) -> tuple[Tensor, Tensor]:
    """Prediction and target of one type, in shapes that broadcast: other ones than equal are warned of."""
    x, t = floating(input), loss_target(op, target)
    if x.shape != t.shape:
        try:
            shape = np.broadcast_shapes(x.shape, t.shape)
        except ValueError:
            expected = f"{op}: expected target of shape {x.shape}, as the input"
            raise ShapeError(f"{expected}, got {t.shape}{hint(x, t)}") from None
        warn(
            f"{op}: input {x.shape} and target {t.shape} broadcast to {shape}, which pairs entries that do not belong "
            f"together unless you mean it{hint(x, t)}"
        )
    return x, t.astype(x.dtype)


def _weighted(op: str, losses: Tensor, weight: Any, reduction: str) -> Tensor:
    weight = given_weight(op, weight, losses)
    return reduced(losses, reduction) if weight is None else reduced(losses * weight, reduction, weight)


def _has_kernel(x: Tensor, t: Tensor, weight: Any = None) -> bool:
    return weight is None and x.shape == t.shape and not on_tape(t)


def mse_loss(
    input: Any,
    target: Any,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
    weight: Any = None,
) -> Tensor:
    """(input - target)² for each entry; with `weight`, times that, and "mean" divides by the weights' sum.

    Where shapes differ and broadcast, a warning says so. Raises ShapeError for shapes that do not.
    """
    reduction = check_loss("mse_loss", reduction, size_average, reduce)
    x, t = _pair("mse_loss", input, target)
    if _has_kernel(x, t, weight):
        return MSE.apply(x, t, reduction=reduction)
    away = x - t
    return _weighted("mse_loss", away * away, weight, reduction)


def l1_loss(
    input: Any,
    target: Any,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
    weight: Any = None,
) -> Tensor:
    """|input - target| for each entry, with slope 0 where they are equal; shapes and `weight` as of `mse_loss`.

    >>> import fastnn as fnn
    >>> fnn.ops.l1_loss([1.0, 4.0], [2.0, 2.0]).item()
    1.5
    """
    reduction = check_loss("l1_loss", reduction, size_average, reduce)
    x, t = _pair("l1_loss", input, target)
    if _has_kernel(x, t, weight):
        return SmoothL1.apply(x, t, beta=0.0, reduction=reduction)
    return _weighted("l1_loss", (x - t).abs(), weight, reduction)


def smooth_l1_loss(
    input: Any,
    target: Any,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
    beta: float = 1.0,
) -> Tensor:
    """d²/(2·beta) where d = |input - target| is below `beta`, else d - beta/2 (Girshick 2015); 0: `l1_loss`."""
    reduction = check_loss("smooth_l1_loss", reduction, size_average, reduce)
    beta = number("smooth_l1_loss", "beta", beta, 0)
    x, t = _pair("smooth_l1_loss", input, target)
    if _has_kernel(x, t):
        return SmoothL1.apply(x, t, beta=beta, reduction=reduction)
    away = x - t
    d = away.abs()
    return reduced(where(d < beta, away * away * (0.5 / beta), d - 0.5 * beta) if beta else d, reduction)


def huber_loss(input: Any, target: Any, reduction: str = "mean", delta: float = 1.0, weight: Any = None) -> Tensor:
    """d²/2 where d = |input - target| is below `delta`, else delta·(d - delta/2) (Huber 1964)."""
    check_loss("huber_loss", reduction)
    delta = number("huber_loss", "delta", delta, above=0)
    x, t = _pair("huber_loss", input, target)
    if _has_kernel(x, t, weight):
        return Huber.apply(x, t, delta=delta, reduction=reduction)
    away = x - t
    d = away.abs()
    return _weighted("huber_loss", where(d < delta, away * away * 0.5, (d - 0.5 * delta) * delta), weight, reduction)


def kl_div(
    input: Any,
    target: Any,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
    log_target: bool = False,
) -> Tensor:
    """t·(log t - input) for each entry, 0 where t is 0: input holds log-probabilities, the target t probabilities.

    With `log_target`, the target holds log t. "batchmean" divides the sum by the first dimension: that is the
    Kullback-Leibler divergence; "mean" divides by all entries, as in PyTorch.
    """
    reduction = check_loss("kl_div", reduction, size_average, reduce, "batchmean")
    x, t = _pair("kl_div", input, target)
    if flag("kl_div", "log_target", log_target):
        losses = t.exp() * (t - x)
    else:
        losses = where(t == 0, 0.0, t * where(t == 0, 1.0, t).log()) - t * x
    return losses.sum() / len(x) if reduction == "batchmean" else reduced(losses, reduction)


def poisson_nll_loss(
    input: Any,
    target: Any,
    log_input: bool = True,
    full: bool = False,
    size_average: bool | None = None,
    eps: float = 1e-8,
    reduce: bool | None = None,
    reduction: str = "mean",
) -> Tensor:
    """exp(input) - target·input for each entry, or, if the input is no logarithm, input - target·log(input + eps).

    `full` adds Stirling's approximation of log(target!) where the target is above 1.
    """
    reduction = check_loss("poisson_nll_loss", reduction, size_average, reduce)
    x, t = _pair("poisson_nll_loss", input, target)
    log_input, full = flag("poisson_nll_loss", "log_input", log_input), flag("poisson_nll_loss", "full", full)
    losses = x.exp() - t * x if log_input else x - t * (x + eps).log()
    if full:
        many = where(t > 1, t, 1.0)
        losses = losses + where(t > 1, many * many.log() - many + 0.5 * (2 * math.pi * many).log(), 0.0)
    return reduced(losses, reduction)


def gaussian_nll_loss(
    input: Any, target: Any, var: Any, full: bool = False, eps: float = 1e-6, reduction: str = "mean"
) -> Tensor:
    """(log var + (input - target)²/var)/2 for each entry; `var` is a number, or of the input's shape, whose last
    dimension may be 1 or absent. Values below `eps` count as eps, with the gradient of 1. ArgumentError below 0.

    `full` adds log(2π)/2.
    """
    check_reduction("gaussian_nll_loss", reduction)
    eps = number("gaussian_nll_loss", "eps", eps, above=0)
    x, t = _pair("gaussian_nll_loss", input, target)
    v = loss_target("gaussian_nll_loss", var).astype(x.dtype)
    if v.ndim and v.shape == x.shape[:-1] and v.shape != x.shape:
        v = v.unsqueeze(-1)
    if v.ndim and (v.ndim != x.ndim or sum(a for a, b in zip(v.shape, x.shape, strict=True) if a != b) > 1):
        raise ShapeError(f"gaussian_nll_loss: expected var of shape {x.shape} or {x.shape[:-1]}, got {v.shape}")
    if tracer() is None and (v._data < 0).any():
        raise ArgumentError(f"gaussian_nll_loss: expected var of at least 0, got {v._data.min()}")
    v = v + (v.clamp(min=eps) - v).detach()
    losses = 0.5 * (v.log() + (x - t) * (x - t) / v)
    return reduced(losses + 0.5 * math.log(2 * math.pi) if full else losses, reduction)
