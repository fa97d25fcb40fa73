"""Schedules that are a formula of the step t."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Callable, Iterable, Sequence

from fastnn.checks import entries, number, whole
from fastnn.errors import ArgumentError

from .base import HasGroups, LRScheduler, checked

__all__ = [
    "ConstantLR",
    "CosineAnnealingLR",
    "ExponentialLR",
    "LambdaLR",
    "LinearLR",
    "MultiStepLR",
    "MultiplicativeLR",
    "PolynomialLR",
    "StepLR",
]


class StepLR(LRScheduler):
    """lr₀ · gamma^floor(t / step_size).

    >>> import numpy as np
    >>> from fastnn import nn, optim
    >>> opt = optim.SGD([nn.Parameter(np.zeros(1, np.float32))], lr=1.0)
    >>> schedule = optim.lr_scheduler.StepLR(opt, step_size=2, gamma=0.5)
    >>> rates = []
    >>> for epoch in range(5):
    ...     rates += schedule.get_last_lr()
    ...     opt.step()
    ...     schedule.step()
    >>> rates
    [1.0, 1.0, 0.5, 0.5, 0.25]
    """

    def __init__(self, optimizer: HasGroups, step_size: int, gamma: float = 0.1, last_epoch: int = -1) -> None:
        self.step_size = whole("StepLR", "step_size", step_size, 1)
        self.gamma = number("StepLR", "gamma", gamma, 0)
        super().__init__(optimizer, last_epoch)

    def rate(self, base_lr: float, i: int) -> float:
        return base_lr * self.gamma ** (self.last_epoch // self.step_size)


class MultiStepLR(LRScheduler):
    """lr₀ · gamma^(the number of milestones that t has reached)."""

    def __init__(
        self, optimizer: HasGroups, milestones: Iterable[int], gamma: float = 0.1, last_epoch: int = -1
    ) -> None:
        self.milestones = sorted(
            whole("MultiStepLR", "milestone", each, 0) for each in entries("MultiStepLR", "milestones", milestones)
        )
        self.gamma = number("MultiStepLR", "gamma", gamma, 0)
        super().__init__(optimizer, last_epoch)

    def rate(self, base_lr: float, i: int) -> float:
        return base_lr * self.gamma ** bisect_right(self.milestones, self.last_epoch)


class ConstantLR(LRScheduler):
    """lr₀ · factor for the first `total_iters` steps, lr₀ then."""

    def __init__(
        self, optimizer: HasGroups, factor: float = 1.0 / 3, total_iters: int = 5, last_epoch: int = -1
    ) -> None:
        self.factor = number("ConstantLR", "factor", factor, 0, 1)
        self.total_iters = whole("ConstantLR", "total_iters", total_iters, 0)
        super().__init__(optimizer, last_epoch)

    def rate(self, base_lr: float, i: int) -> float:
        return base_lr * self.factor if self.last_epoch < self.total_iters else base_lr


class LinearLR(LRScheduler):
    """lr₀ times what goes from `start_factor` to `end_factor` in `total_iters` steps: a warm-up."""

    keeps_rate = True

    def __init__(
        self,
        optimizer: HasGroups,
        start_factor: float = 1.0 / 3,
        end_factor: float = 1.0,
        total_iters: int = 5,
        last_epoch: int = -1,
    ) -> None:
        self.start_factor = number("LinearLR", "start_factor", start_factor, most=1, above=0)
        self.end_factor = number("LinearLR", "end_factor", end_factor, 0, 1)
        self.total_iters = whole("LinearLR", "total_iters", total_iters, 1)
        super().__init__(optimizer, last_epoch)

    def rate(self, base_lr: float, i: int) -> float:
        share = min(self.last_epoch, self.total_iters) / self.total_iters
        return base_lr * (self.start_factor + (self.end_factor - self.start_factor) * share)


class PolynomialLR(LRScheduler):
    """lr₀ · (1 - t / total_iters)^power, 0 from total_iters on."""

    keeps_rate = True

    def __init__(self, optimizer: HasGroups, total_iters: int = 5, power: float = 1.0, last_epoch: int = -1) -> None:
        self.total_iters = whole("PolynomialLR", "total_iters", total_iters, 1)
        self.power = number("PolynomialLR", "power", power, 0)
        super().__init__(optimizer, last_epoch)

    def rate(self, base_lr: float, i: int) -> float:
        return base_lr * float(1 - min(self.last_epoch, self.total_iters) / self.total_iters) ** self.power


class ExponentialLR(LRScheduler):
    """lr₀ · gamma^t."""

    keeps_rate = True

    def __init__(self, optimizer: HasGroups, gamma: float, last_epoch: int = -1) -> None:
        self.gamma = number("ExponentialLR", "gamma", gamma, 0)
        super().__init__(optimizer, last_epoch)

    def rate(self, base_lr: float, i: int) -> float:
        return base_lr * self.gamma**self.last_epoch


class CosineAnnealingLR(LRScheduler):
    """eta_min + (lr₀ - eta_min)·(1 + cos(π·t / T_max)) / 2 (Loshchilov and Hutter 2017, without the restarts)."""

    keeps_rate = True

    def __init__(self, optimizer: HasGroups, T_max: int, eta_min: float = 0.0, last_epoch: int = -1) -> None:
        self.T_max = whole("CosineAnnealingLR", "T_max", T_max, 1)
        self.eta_min = self.floor = number("CosineAnnealingLR", "eta_min", eta_min, 0)
        super().__init__(optimizer, last_epoch)

    def rate(self, base_lr: float, i: int) -> float:
        return self.eta_min + (base_lr - self.eta_min) * (1 + math.cos(math.pi * self.last_epoch / self.T_max)) / 2


class LambdaLR(LRScheduler):
    """lr₀ · lr_lambda(t); one function, or one for each group."""

    follows_user = False

    def __init__(
        self,
        optimizer: HasGroups,
        lr_lambda: Callable[[int], float] | Sequence[Callable[[int], float]],
        last_epoch: int = -1,
    ) -> None:
        groups = len(checked(type(self).__name__, optimizer).param_groups)
        given = [lr_lambda] * groups if callable(lr_lambda) else lr_lambda
        self.lr_lambdas = list(given) if isinstance(given, Sequence) else []
        if len(self.lr_lambdas) != groups or not all(map(callable, self.lr_lambdas)):
            raise ArgumentError(
                f"{type(self).__name__}: expected a function, or {groups} for {groups} groups, got {lr_lambda!r}"
            )
        super().__init__(optimizer, last_epoch)

    def rate(self, base_lr: float, i: int) -> float:
        return base_lr * self._factor(i, self.last_epoch)

    def _factor(self, i: int, t: int) -> float:
        """What group i's function gives. Raises ArgumentError where that is no number."""
        return number(type(self).__name__, "what lr_lambda gives", self.lr_lambdas[i](t))


class MultiplicativeLR(LambdaLR):
    """lr₀ · lr_lambda(1) · lr_lambda(2) · ... · lr_lambda(t); one function, or one for each group."""

    keeps_rate = follows_user = True

    def rate(self, base_lr: float, i: int) -> float:
        return base_lr * math.prod(self._factor(i, t) for t in range(1, self.last_epoch + 1))
