"""Adam and AdamW."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import numpy as np

from .fused import FusedOptimizer
from .optimizer import Array, Group

__all__ = ["Adam", "AdamW"]


class _Adaptive(FusedOptimizer):
    """The two moments that Adam and AdamW keep."""

    def __init__(
        self,
        params: Iterable[Any],
        lr: float,
        betas: tuple[float, float],
        eps: float,
        weight_decay: float,
        amsgrad: bool,
        **options: Any,
    ) -> None:
        defaults = {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay, "amsgrad": amsgrad}
        super().__init__(params, defaults, **options)

    def initial(self, group: Group) -> dict[str, float | None]:
        more: dict[str, float | None] = {"max_exp_avg_sq": 0.0} if group["amsgrad"] else {}
        return {"exp_avg": 0.0, "exp_avg_sq": 0.0, **more}

    def has_kernel(self, group: Group) -> bool:
        return not group["amsgrad"]

    def _update(self, param: Array, grad: Array, state: dict[str, Any], group: Group) -> None:
        if not group["amsgrad"]:
            super()._update(param, grad, state, group)
            return
        arrays, coming = self._made[id(state)]
        step, (beta1, beta2) = coming.step, group["betas"]
        m, v, most = arrays.values()
        if self.kernel == "adamw_update":
            param *= 1 - group["lr"] * group["weight_decay"]
        elif group["weight_decay"]:
            grad = grad + group["weight_decay"] * param
        m += (1 - beta1) * (grad - m)
        v *= beta2
        v += (1 - beta2) * grad * grad
        np.maximum(most, v, out=most)
        param -= group["lr"] / (1 - beta1**step) * m / (np.sqrt(most) / math.sqrt(1 - beta2**step) + group["eps"])
        state.update(arrays, step=step)

    def numbers(self, group: Group, step: int) -> dict[str, Any]:
        beta1, beta2 = group["betas"]
        lr, eps, weight_decay = group["lr"], group["eps"], group["weight_decay"]
        return {"step": step, "beta1": beta1, "beta2": beta2, "lr": lr, "eps": eps, "weight_decay": weight_decay}


class Adam(_Adaptive):
    """Kingma and Ba 2015, https://arxiv.org/abs/1412.6980; weight decay is added to the gradient.

    g ← g + λθ;  m ← β₁m + (1 - β₁)g;  v ← β₂v + (1 - β₂)g²;  θ ← θ - γ·m̂ / (sqrt(v̂) + ε),
    with m̂ = m / (1 - β₁ᵗ) and v̂ = v / (1 - β₂ᵗ). With `amsgrad` (Reddi et al. 2018) the largest v so far stands for v;
    that is done in NumPy, in compiled plans between two programs.
    """

    kernel = "adam_update"

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        amsgrad: bool = False,
        **options: Any,
    ) -> None:
        super().__init__(params, lr, betas, eps, weight_decay, amsgrad, **options)


class AdamW(_Adaptive):
    """Loshchilov and Hutter 2019, https://arxiv.org/abs/1711.05101: Adam, but the weights decay by themselves.

    θ ← θ - γλθ, then Adam's step on g alone.
    """

    kernel = "adamw_update"

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 1e-2,
        amsgrad: bool = False,
        **options: Any,
    ) -> None:
        super().__init__(params, lr, betas, eps, weight_decay, amsgrad, **options)
