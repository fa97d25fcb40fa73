"""Optimisers that step in NumPy: relatives of Adam and Adagrad. In compiled plans they step between two programs."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import numpy as np

from fastnn.checks import number

from .optimizer import Array, Group, Optimizer

__all__ = ["ASGD", "Adadelta", "Adamax", "NAdam", "RAdam"]


class _Moments(Optimizer):
    """Weight decay, the count of steps, and arrays of state; a subclass defines `_move`, in place."""

    def _update(self, param: Array, grad: Array, state: dict[str, Any], group: Group) -> None:
        state["step"] = state.get("step", 0) + 1
        if group["weight_decay"]:
            if group.get("decoupled_weight_decay"):
                param *= 1 - group["lr"] * group["weight_decay"]
            else:
                grad = grad + group["weight_decay"] * param
        self._move(param, grad, state, group)

    def _move(self, param: Array, grad: Array, state: dict[str, Any], group: Group) -> None:
        raise NotImplementedError

    @staticmethod
    def _kept(state: dict[str, Any], name: str, param: Array) -> Array:
        """An array of state, zeros at first, of the parameter's type."""
        kept = state.get(name)
        if kept is None or kept.dtype != param.dtype:
            state[name] = kept = np.zeros_like(param) if kept is None else kept.astype(param.dtype)
        array: Array = kept
        return array

    def _both(self, param: Array, grad: Array, state: dict[str, Any], group: Group) -> tuple[Array, Array]:
        """Adam's moments m and v after this gradient."""
        beta1, beta2 = group["betas"]
        m, v = self._kept(state, "exp_avg", param), self._kept(state, "exp_avg_sq", param)
        m += (1 - beta1) * (grad - m)
        v *= beta2
        v += (1 - beta2) * grad * grad
        return m, v


class NAdam(_Moments):
    """Dozat 2016, https://openreview.net/forum?id=OM0jvwB8jIp57ZJjtNEZ: Adam with Nesterov's momentum.

    m and v as of Adam;  µₜ = β₁(1 - 0.96^(tψ) / 2), with ψ = momentum_decay and Πµ = µ₁ ... µₜ;
    θ ← θ - γ((1 - µₜ)g / (1 - Πµ) + µₜ₊₁m / (1 - Πµ·µₜ₊₁)) / (√v̂ + ε).
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 2e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        momentum_decay: float = 4e-3,
        decoupled_weight_decay: bool = False,
        **options: Any,
    ) -> None:
        number("NAdam", "momentum_decay", momentum_decay, 0)
        defaults = {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay}
        defaults.update(momentum_decay=momentum_decay, decoupled_weight_decay=decoupled_weight_decay)
        super().__init__(params, defaults, **options)

    def _move(self, param: Array, grad: Array, state: dict[str, Any], group: Group) -> None:
        beta1, beta2 = group["betas"]
        m, v = self._both(param, grad, state, group)
        now, coming = (
            beta1 * (1 - 0.5 * 0.96 ** (step * group["momentum_decay"])) for step in (state["step"], state["step"] + 1)
        )
        product = state["mu_product"] = now * state.get("mu_product", 1.0)
        denominator = np.sqrt(v / (1 - beta2 ** state["step"])) + group["eps"]
        param -= group["lr"] * (1 - now) / (1 - product) * grad / denominator
        param -= group["lr"] * coming / (1 - product * coming) * m / denominator


class RAdam(_Moments):
    """Liu et al. 2020, https://arxiv.org/abs/1908.03265: Adam whose steps wait until v can be trusted.

    ρ = 2 / (1 - β₂) - 1 - 2tβ₂ᵗ / (1 - β₂ᵗ);  θ ← θ - γm̂ where ρ ≤ 5, else θ - γm̂·r / (√v̂ + ε / √(1 - β₂ᵗ)), with r² =
    (ρ - 4)(ρ - 2)ρ∞ / ((ρ∞ - 4)(ρ∞ - 2)ρ).
    """

    own_state = "exp_avg_sq"

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        decoupled_weight_decay: bool = False,
        **options: Any,
    ) -> None:
        defaults = {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay}
        super().__init__(params, {**defaults, "decoupled_weight_decay": decoupled_weight_decay}, **options)

    def _move(self, param: Array, grad: Array, state: dict[str, Any], group: Group) -> None:
        (beta1, beta2), step = group["betas"], state["step"]
        m, v = self._both(param, grad, state, group)
        most = 2 / (1 - beta2) - 1
        correction = 1 - beta2**step
        rho = most - 2 * step * beta2**step / correction
        move = group["lr"] / (1 - beta1**step) * m
        if rho > 5:
            rectified = math.sqrt((rho - 4) * (rho - 2) * most / ((most - 4) * (most - 2) * rho))
            move = move * rectified * (math.sqrt(correction) / (np.sqrt(v) + group["eps"]))
        param -= move


class Adamax(_Moments):
    """Kingma and Ba 2015, https://arxiv.org/abs/1412.6980, section 7: Adam by the largest gradient of late.

    u ← max(β₂u, |g| + ε);  θ ← θ - γm̂ / u.
    """

    own_state = "exp_inf"

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 2e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        foreach: bool | None = None,
        **options: Any,
    ) -> None:
        defaults = {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay}
        super().__init__(params, defaults, foreach=foreach, **options)

    def _move(self, param: Array, grad: Array, state: dict[str, Any], group: Group) -> None:
        beta1, beta2 = group["betas"]
        m, largest = self._kept(state, "exp_avg", param), self._kept(state, "exp_inf", param)
        m += (1 - beta1) * (grad - m)
        np.maximum(beta2 * largest, np.abs(grad) + group["eps"], out=largest)
        param -= group["lr"] / (1 - beta1 ** state["step"]) * m / largest


class Adadelta(_Moments):
    """Zeiler 2012, https://arxiv.org/abs/1212.5701: steps in the units of the parameters, without a rate to choose.

    v ← ρv + (1 - ρ)g²;  Δ = √(u + ε) / √(v + ε) · g;  u ← ρu + (1 - ρ)Δ²;  θ ← θ - γΔ.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1.0,
        rho: float = 0.9,
        eps: float = 1e-6,
        weight_decay: float = 0.0,
        foreach: bool | None = None,
        **options: Any,
    ) -> None:
        number("Adadelta", "rho", rho, 0, 1)
        defaults = {"lr": lr, "rho": rho, "eps": eps, "weight_decay": weight_decay}
        super().__init__(params, defaults, foreach=foreach, **options)

    def _move(self, param: Array, grad: Array, state: dict[str, Any], group: Group) -> None:
        rho, eps = group["rho"], group["eps"]
        squares, moves = self._kept(state, "square_avg", param), self._kept(state, "acc_delta", param)
        squares *= rho
        squares += (1 - rho) * grad * grad
        move = np.sqrt(moves + eps) / np.sqrt(squares + eps) * grad
        moves *= rho
        moves += (1 - rho) * move * move
        param -= group["lr"] * move


class ASGD(_Moments):
    """Polyak and Juditsky 1992: gradient descent whose state "ax" is the mean of the parameters since step t0.

    θ ← (1 - λη)θ - ηg;  then η ← γ / (1 + λγt)^α, which is γ at first; λ = lambd.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-2,
        lambd: float = 1e-4,
        alpha: float = 0.75,
        t0: float = 1e6,
        weight_decay: float = 0.0,
        foreach: bool | None = None,
        maximize: bool = False,
        differentiable: bool = False,
        capturable: bool = False,
        **options: Any,
    ) -> None:
        defaults = {"lr": lr, "lambd": lambd, "alpha": alpha, "t0": t0, "weight_decay": weight_decay}
        unused: dict[str, Any] = {"foreach": foreach, "differentiable": differentiable, "capturable": capturable}
        super().__init__(params, defaults, maximize=maximize, **unused, **options)

    def _move(self, param: Array, grad: Array, state: dict[str, Any], group: Group) -> None:
        lr, decay = group["lr"], group["lambd"]
        eta = state.get("eta", lr)
        param *= 1 - decay * eta
        param -= eta * grad
        mean = self._kept(state, "ax", param)
        mean += (param - mean) * state.get("mu", 1.0)
        state["eta"] = lr / (1 + decay * lr * state["step"]) ** group["alpha"]
        state["mu"] = 1 / max(1, state["step"] - group["t0"])
