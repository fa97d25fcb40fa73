"""Adam and AdamW."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from fastnn import backends

from .optimizer import Array, Group, Optimizer

__all__ = ["Adam", "AdamW"]


class _Adaptive(Optimizer):
    """The two moments that Adam and AdamW keep."""

    kernel: str

    def __init__(
        self,
        params: Iterable[Any],
        lr: float,
        betas: tuple[float, float],
        eps: float,
        weight_decay: float,
    ) -> None:
        super().__init__(params, {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay})

    def _update(self, param: Array, grad: Array, state: dict[str, Any], group: Group) -> None:
        if not state:
            state.update(step=0, exp_avg=np.zeros_like(param, order="C"), exp_avg_sq=np.zeros_like(param, order="C"))
        state["step"] += 1
        beta1, beta2 = group["betas"]
        update = getattr(backends.kernels(param.dtype), self.kernel)
        update(
            param,
            grad,
            state["exp_avg"],
            state["exp_avg_sq"],
            step=state["step"],
            lr=group["lr"],
            beta1=beta1,
            beta2=beta2,
            eps=group["eps"],
            weight_decay=group["weight_decay"],
        )


class Adam(_Adaptive):
    """Kingma and Ba 2015, https://arxiv.org/abs/1412.6980; weight decay is added to the gradient.

    g ← g + λθ;  m ← β₁m + (1 - β₁)g;  v ← β₂v + (1 - β₂)g²;  θ ← θ - γ·m̂ / (sqrt(v̂) + ε),
    with m̂ = m / (1 - β₁ᵗ) and v̂ = v / (1 - β₂ᵗ).
    """

    kernel = "adam_update"

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
    ) -> None:
        super().__init__(params, lr, betas, eps, weight_decay)


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
    ) -> None:
        super().__init__(params, lr, betas, eps, weight_decay)
