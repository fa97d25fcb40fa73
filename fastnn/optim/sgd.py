"""Stochastic gradient descent."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from fastnn.errors import ArgumentError

from .fused import FusedOptimizer
from .optimizer import Group

__all__ = ["SGD"]


class SGD(FusedOptimizer):
    """Stochastic gradient descent, with momentum µ, dampening τ and Nesterov's look-ahead (Sutskever et al. 2013).

    g ← g + λθ;  v ← µv + (1 - τ)g  (v = g at first);  θ ← θ - γv, or with Nesterov θ ← θ - γ(g + µv).

    >>> import numpy as np
    >>> from fastnn import nn, optim
    >>> w = nn.Parameter(np.array([1.0, 2.0], np.float32))
    >>> w.grad = np.array([1.0, 1.0], np.float32)
    >>> optim.SGD([w], lr=0.5).step()
    >>> w.numpy()
    array([0.5, 1.5], dtype=float32)
    """

    kernel = "sgd_update"
    counts = False

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-3,
        momentum: float = 0.0,
        dampening: float = 0.0,
        weight_decay: float = 0.0,
        nesterov: bool = False,
        **options: Any,
    ) -> None:
        defaults = {"lr": lr, "momentum": momentum, "dampening": dampening}
        super().__init__(params, {**defaults, "weight_decay": weight_decay, "nesterov": nesterov}, **options)

    def _check(self, options: Mapping[str, Any]) -> None:
        super()._check(options)
        if options["nesterov"] and (options["momentum"] <= 0 or options["dampening"] != 0):
            raise ArgumentError("SGD: Nesterov expects a momentum above 0 and no dampening")

    def initial(self, group: Group) -> dict[str, float | None]:
        return {"momentum_buffer": 0.0 if group["momentum"] else None}

    def numbers(self, group: Group, step: int) -> dict[str, Any]:
        options = {key: group[key] for key in ("lr", "momentum", "dampening", "weight_decay", "nesterov")}
        return options if step > 1 else {**options, "dampening": 0.0}  # v = g at first
