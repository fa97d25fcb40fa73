"""Losses that want distances, or scores, to differ by a margin; and the distances. All are arithmetic.

`reduction` is "mean" (the default), "sum" or "none".
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fastnn.checks import flag, number, whole
from fastnn.errors import DTypeError, ShapeError
from fastnn.ops.common import floating, loss_target
from fastnn.ops.elementwise import minimum
from fastnn.ops.joining import where
from fastnn.ops.loss import binary_cross_entropy_with_logits as _bce_with_logits
from fastnn.ops.loss import check_loss, given_weight, is_class, log1p_exp, reduced, same_shape
from fastnn.ops.similarity import pairwise_distance
from fastnn.tensors import Tensor

__all__ = [
    "cosine_embedding_loss",
    "hinge_embedding_loss",
    "margin_ranking_loss",
    "multi_margin_loss",
    "multilabel_margin_loss",
    "multilabel_soft_margin_loss",
    "soft_margin_loss",
    "triplet_margin_loss",
    "triplet_margin_with_distance_loss",
]


def triplet_margin_loss(
    anchor: Any,
    positive: Any,
    negative: Any,
    margin: float = 1.0,
    p: float = 2.0,
    eps: float = 1e-6,
    swap: bool = False,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
) -> Tensor:
    """max(0, d(anchor, positive) - d(anchor, negative) + margin), d = `pairwise_distance` (Schroff et al. 2015).

    All (N, D) or (D,). With `swap` the negative's distance is that to the anchor or to the positive, if that is less.
    """
    reduction = check_loss("triplet_margin_loss", reduction, size_average, reduce)
    margin = number("triplet_margin_loss", "margin", margin, above=0)
    near, far = pairwise_distance(anchor, positive, p, eps), pairwise_distance(anchor, negative, p, eps)
    if flag("triplet_margin_loss", "swap", swap):
        other = pairwise_distance(positive, negative, p, eps)
        far = where(other < far, other, far)
    return reduced((near - far + margin).clamp(min=0), reduction)


def triplet_margin_with_distance_loss(
    anchor: Any,
    positive: Any,
    negative: Any,
    *,
    distance_function: Callable[[Any, Any], Any] | None = None,
    margin: float = 1.0,
    swap: bool = False,
    reduction: str = "mean",
) -> Tensor:
    """triplet_margin_loss of a distance of one's own; None is `pairwise_distance`."""
    op = "triplet_margin_with_distance_loss"
    check_loss(op, reduction)
    distance, margin = distance_function or pairwise_distance, number(op, "margin", margin, above=0)
    near, far = distance(anchor, positive), distance(anchor, negative)
    if flag(op, "swap", swap):
        far = minimum(far, distance(positive, negative))
    return reduced((near - far + margin).clamp(min=0), reduction)


def margin_ranking_loss(
    input1: Any,
    input2: Any,
    target: Any,
    margin: float = 0.0,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
) -> Tensor:
    """max(0, margin - target·(input1 - input2)): the target is 1 where input1 should rank higher, -1 where input2."""
    reduction = check_loss("margin_ranking_loss", reduction, size_average, reduce)
    a, b = same_shape("margin_ranking_loss", input1, input2)
    t = loss_target("margin_ranking_loss", target).astype(a.dtype)
    return reduced((number("margin_ranking_loss", "margin", margin) - t * (a - b)).clamp(min=0), reduction)


def cosine_embedding_loss(
    input1: Any,
    input2: Any,
    target: Any,
    margin: float = 0.0,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
) -> Tensor:
    """1 - cos where the target is 1, max(0, cos - margin) where it is -1; inputs (N, D), target (N,); or (D,), ()."""
    reduction = check_loss("cosine_embedding_loss", reduction, size_average, reduce)
    a, b = same_shape("cosine_embedding_loss", input1, input2)
    t = loss_target("cosine_embedding_loss", target).astype(a.dtype)
    if a.ndim not in (1, 2) or t.shape != a.shape[:-1]:
        raise ShapeError(f"cosine_embedding_loss: expected inputs (N, D) and target (N,), got {a.shape} and {t.shape}")
    cos = (a * b).sum(-1) / (((a * a).sum(-1) + 1e-12) * ((b * b).sum(-1) + 1e-12)).sqrt()
    losses = where(t == 1, 1 - cos, 0.0) + where(t == -1, (cos - margin).clamp(min=0), 0.0)
    return reduced(losses, reduction)


def hinge_embedding_loss(
    input: Any,
    target: Any,
    margin: float = 1.0,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
) -> Tensor:
    """input where the target is 1, max(0, margin - input) where it is -1."""
    reduction = check_loss("hinge_embedding_loss", reduction, size_average, reduce)
    x, t = same_shape("hinge_embedding_loss", input, target)
    return reduced(where(t == 1, 0.0, (margin - x).clamp(min=0)) + where(t == -1, 0.0, x), reduction)


def soft_margin_loss(
    input: Any, target: Any, size_average: bool | None = None, reduce: bool | None = None, reduction: str = "mean"
) -> Tensor:
    """log(1 + exp(-target·input)) for each entry; the target is 1 or -1. It does not overflow."""
    reduction = check_loss("soft_margin_loss", reduction, size_average, reduce)
    x, t = same_shape("soft_margin_loss", input, target)
    return reduced(log1p_exp(-(t * x)), reduction)


def multilabel_soft_margin_loss(
    input: Any,
    target: Any,
    weight: Any = None,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
) -> Tensor:
    """The mean over the C classes, weighted by `weight`, of binary_cross_entropy_with_logits: one loss a row (N, C)."""
    reduction = check_loss("multilabel_soft_margin_loss", reduction, size_average, reduce)
    return reduced(_bce_with_logits(input, target, weight, reduction="none").mean(-1), reduction)


def multi_margin_loss(
    input: Any,
    target: Any,
    p: int = 1,
    margin: float = 1.0,
    weight: Any = None,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
) -> Tensor:
    """sum over the other classes c of weight[y]·max(0, margin - x_y + x_c)^p / C: scores (N, C), labels y (N,)."""
    reduction = check_loss("multi_margin_loss", reduction, size_average, reduce)
    margin = number("multi_margin_loss", "margin", margin)
    p = whole("multi_margin_loss", "p", p, 1, 2, "p of 1 or 2")
    x, labels = floating(input), loss_target("multi_margin_loss", target)
    if x.ndim != 2 or labels.shape != x.shape[:1]:
        raise ShapeError(f"multi_margin_loss: expected scores (N, C), labels (N,), got {x.shape}, {labels.shape}")
    if labels.dtype.kind not in "iu":
        raise DTypeError(f"multi_margin_loss: expected labels to be integers, got {labels.dtype}")
    weight = given_weight("multi_margin_loss", weight, x, x.shape[1])
    right = is_class(labels, x.shape[1])
    short = where(right, 0.0, (margin - where(right, x, 0.0).sum(1, True) + x).clamp(min=0))
    short = short if p == 1 else short * short
    losses = short.sum(1) / x.shape[1]
    return reduced(losses if weight is None else losses * where(right, weight, 0.0).sum(1), reduction)


def multilabel_margin_loss(
    input: Any, target: Any, size_average: bool | None = None, reduce: bool | None = None, reduction: str = "mean"
) -> Tensor:
    """sum over the row's classes y and all others c of max(0, 1 - x_y + x_c) / C: scores (N, C), or (C,), and targets
    of that shape: the row's classes, as many as there are, then -1."""
    reduction = check_loss("multilabel_margin_loss", reduction, size_average, reduce)
    x, labels = floating(input), loss_target("multilabel_margin_loss", target)
    if x.ndim not in (1, 2) or labels.shape != x.shape:
        raise ShapeError(
            f"multilabel_margin_loss: expected scores (N, C) and targets of that shape, got {x.shape}, {labels.shape}"
        )
    if labels.dtype.kind not in "iu":
        raise DTypeError(f"multilabel_margin_loss: expected targets to be integers, got {labels.dtype}")
    there = (labels >= 0).astype(x.dtype).cumprod(-1)  # all before the first -1
    right = is_class(where(there > 0, labels, -1), x.shape[-1]).reshape(*x.shape, -1)  # of each place and class
    scores = where(right, x.unsqueeze(-2), 0.0).sum(-1, keepdim=True)
    short = (1 - scores + x.unsqueeze(-2)).clamp(min=0) * there.unsqueeze(-1)
    others = 1 - right.any(-2, keepdim=True).astype(x.dtype)
    return reduced((short * others).sum((-2, -1)) / x.shape[-1], reduction)
