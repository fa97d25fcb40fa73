"""Adagrad."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from .fused import FusedOptimizer
from .optimizer import Group

__all__ = ["Adagrad"]


class Adagrad(FusedOptimizer):
    """Duchi, Hazan and Singer 2011, https://jmlr.org/papers/v12/duchi11a.html: rates fall by the gradients seen so far.

    g ← g + λθ;  s ← s + g²;  θ ← θ - γ / (1 + (t - 1)η) · g / (sqrt(s) + ε), with the rate's decay η = lr_decay and
    s = initial_accumulator_value at first. As in PyTorch, the state is there before the first step.

    >>> import numpy as np
    >>> from fastnn import nn, optim
    >>> w = nn.Parameter(np.array([1.0, 1.0], np.float32))
    >>> opt = optim.Adagrad([w], lr=0.5)
    >>> w.grad = np.array([100.0, 0.01], np.float32)
    >>> opt.step()
    >>> w.numpy()
    array([0.5, 0.5], dtype=float32)
    """

    kernel = "adagrad_update"

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-2,
        lr_decay: float = 0.0,
        weight_decay: float = 0.0,
        initial_accumulator_value: float = 0.0,
        eps: float = 1e-10,
        foreach: bool | None = None,
        **options: Any,
    ) -> None:
        defaults = {"lr": lr, "lr_decay": lr_decay, "eps": eps, "weight_decay": weight_decay}
        defaults["initial_accumulator_value"] = initial_accumulator_value
        super().__init__(params, defaults, foreach=foreach, **options)

    def add_param_group(self, param_group: Mapping[str, Any]) -> None:
        super().add_param_group(param_group)
        added = self.param_groups[-1]
        for p in added["params"]:
            total = np.full(p.data.shape, added["initial_accumulator_value"], p.data.dtype)
            self.state[p] = {"step": 0, "sum": total}

    def initial(self, group: Group) -> dict[str, float | None]:
        return {"sum": group["initial_accumulator_value"]}

    def numbers(self, group: Group, step: int) -> dict[str, Any]:
        return {"step": step, **{key: group[key] for key in ("lr", "lr_decay", "eps", "weight_decay")}}
