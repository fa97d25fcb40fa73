"""Losses as modules; `reduction` is "mean", "sum" or "none" (one loss per row, or per entry).

The order of arguments is PyTorch's; those that fastnn does not have raise ArgumentError unless they ask for nothing.
"""

from __future__ import annotations

from typing import Any

from fastnn import ops
from fastnn.checks import number
from fastnn.habits import check_options
from fastnn.nn.module import Module
from fastnn.ops.loss import check_reduction
from fastnn.tensor import Tensor


class _Loss(Module):
    def __init__(self, reduction: str, **options: Any) -> None:
        super().__init__()
        check_options(type(self).__name__, **options)
        check_reduction(type(self).__name__, reduction)
        self.reduction = reduction


class CrossEntropyLoss(_Loss):
    """Softmax and negative log-likelihood in one: logits (N, C); target labels (N,) or probabilities (N, C).

    `label_smoothing` mixes the target with the uniform distribution (Szegedy et al. 2016). "mean" divides by N.

    >>> from fastnn import nn
    >>> nn.CrossEntropyLoss()([[2.0, 0.0], [0.0, 2.0]], [0, 1]).item()  # log(1 + exp(-2))
    0.126928...
    """

    def __init__(
        self,
        weight: None = None,
        size_average: None = None,
        ignore_index: int = -100,
        reduce: None = None,
        reduction: str = "mean",
        label_smoothing: float = 0.0,
    ) -> None:
        super().__init__(reduction, weight=weight, size_average=size_average, ignore_index=ignore_index, reduce=reduce)
        self.label_smoothing = number("CrossEntropyLoss", "label_smoothing", label_smoothing, 0, 1)

    def forward(self, input: Any, target: Any) -> Tensor:
        return ops.cross_entropy(input, target, reduction=self.reduction, label_smoothing=self.label_smoothing)


class NLLLoss(_Loss):
    """-input[n, target[n]]: input (N, C) are log-probabilities, as LogSoftmax gives them; target labels (N,)."""

    def __init__(
        self,
        weight: None = None,
        size_average: None = None,
        ignore_index: int = -100,
        reduce: None = None,
        reduction: str = "mean",
    ) -> None:
        super().__init__(reduction, weight=weight, size_average=size_average, ignore_index=ignore_index, reduce=reduce)

    def forward(self, input: Any, target: Any) -> Tensor:
        return ops.nll_loss(input, target, reduction=self.reduction)


class BCEWithLogitsLoss(_Loss):
    """Sigmoid and binary cross-entropy in one: logits and target (from 0 to 1) of one shape."""

    def __init__(
        self,
        weight: None = None,
        size_average: None = None,
        reduce: None = None,
        reduction: str = "mean",
        pos_weight: None = None,
    ) -> None:
        super().__init__(reduction, weight=weight, size_average=size_average, reduce=reduce, pos_weight=pos_weight)

    def forward(self, input: Any, target: Any) -> Tensor:
        return ops.binary_cross_entropy_with_logits(input, target, reduction=self.reduction)


class BCELoss(_Loss):
    """Binary cross-entropy -(t·log p + (1 - t)·log(1 - p)): probabilities p and target t of one shape, from 0 to 1."""

    def __init__(
        self, weight: None = None, size_average: None = None, reduce: None = None, reduction: str = "mean"
    ) -> None:
        super().__init__(reduction, weight=weight, size_average=size_average, reduce=reduce)

    def forward(self, input: Any, target: Any) -> Tensor:
        return ops.binary_cross_entropy(input, target, reduction=self.reduction)


class MSELoss(_Loss):
    """The squared error (input - target)², of one shape.

    >>> from fastnn import nn
    >>> nn.MSELoss()([1.0, 2.0], [0.0, 0.0]).item()
    2.5
    """

    def __init__(self, size_average: None = None, reduce: None = None, reduction: str = "mean") -> None:
        super().__init__(reduction, size_average=size_average, reduce=reduce)

    def forward(self, input: Any, target: Any) -> Tensor:
        return ops.mse_loss(input, target, reduction=self.reduction)
