"""RMSprop."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from .fused import FusedOptimizer
from .optimizer import Group

__all__ = ["RMSprop"]


class RMSprop(FusedOptimizer):
    """Tieleman and Hinton 2012 (lecture 6.5 of Neural Networks for Machine Learning): gradients by their recent size.

    g ← g + λθ;  s ← αs + (1 - α)g²;  b ← µb + g / (sqrt(s) + ε);  θ ← θ - γb.  With `centered`, the gradient's variance
    s - ḡ² stands for s, ḡ ← αḡ + (1 - α)g (Graves 2013, https://arxiv.org/abs/1308.0850).

    >>> import numpy as np
    >>> from fastnn import nn, optim
    >>> w = nn.Parameter(np.array([1.0, 1.0], np.float32))
    >>> w.grad = np.array([100.0, -0.01], np.float32)
    >>> optim.RMSprop([w], lr=0.01).step()  # 0.01 / sqrt(1 - 0.99), whatever the size of g
    >>> w.numpy().round(3)
    array([0.9, 1.1], dtype=float32)
    """

    kernel = "rmsprop_update"

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-2,
        alpha: float = 0.99,
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        momentum: float = 0.0,
        centered: bool = False,
        capturable: bool = False,
        foreach: bool | None = None,
        maximize: bool = False,
        differentiable: bool = False,
        **options: Any,
    ) -> None:
        defaults = {"lr": lr, "momentum": momentum, "alpha": alpha, "eps": eps}
        defaults.update(centered=centered, weight_decay=weight_decay)
        unused: dict[str, Any] = {
            "capturable": capturable,
            "foreach": foreach,
            "differentiable": differentiable,
        }
        super().__init__(params, defaults, maximize=maximize, **unused, **options)

    def initial(self, group: Group) -> dict[str, float | None]:
        momentum, centered = group["momentum"], group["centered"]
        return {
            "square_avg": 0.0,
            "momentum_buffer": 0.0 if momentum else None,
            "grad_avg": 0.0 if centered else None,
        }

    def numbers(self, group: Group, step: int) -> dict[str, Any]:
        return {key: group[key] for key in ("lr", "alpha", "eps", "weight_decay", "momentum")}
