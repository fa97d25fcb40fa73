"""Adam and AdamW."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from .fused import FusedOptimizer
from .optimizer import Group

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
        **options: Any,
    ) -> None:
        defaults = {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay}
        super().__init__(params, defaults, **options)

    def initial(self, group: Group) -> dict[str, float | None]:
        return {"exp_avg": 0.0, "exp_avg_sq": 0.0}

    def numbers(self, group: Group, step: int) -> dict[str, Any]:
        beta1, beta2 = group["betas"]
        options = {key: group[key] for key in ("lr", "eps", "weight_decay")}
        return {"step": step, "beta1": beta1, "beta2": beta2, **options}


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
        amsgrad: bool = False,
        **options: Any,
    ) -> None:
        super().__init__(params, lr, betas, eps, weight_decay, amsgrad=amsgrad, **options)


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
        super().__init__(params, lr, betas, eps, weight_decay, amsgrad=amsgrad, **options)
