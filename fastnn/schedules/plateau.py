"""The schedule that looks at a metric."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, ClassVar

from fastnn.checks import choice, number, shown, whole
from fastnn.errors import ArgumentError

from .base import HasGroups, checked, described, each_group, load

__all__ = ["ReduceLROnPlateau"]


class ReduceLROnPlateau:
    """The rate times `factor` once the metric has not improved for more than `patience` steps.

    `step(metric)` after each epoch. Better is lower (mode "min") or higher ("max"), by more than `threshold`, relative
    ("rel") or absolute ("abs"). After a reduction `cooldown` steps do not count; no rate falls below `min_lr`, and
    changes of `eps` or less are left out.
    """

    per: ClassVar[str] = "metric"
    STATE = ("best", "num_bad_epochs", "cooldown_counter", "last_epoch")

    def __init__(
        self,
        optimizer: HasGroups,
        mode: str = "min",
        factor: float = 0.1,
        patience: int = 10,
        threshold: float = 1e-4,
        threshold_mode: str = "rel",
        cooldown: int = 0,
        min_lr: float | Sequence[float] = 0.0,
        eps: float = 1e-8,
    ) -> None:
        choice("ReduceLROnPlateau", "mode", mode, ("min", "max"))
        choice("ReduceLROnPlateau", "threshold_mode", threshold_mode, ("rel", "abs"))
        self.optimizer = checked("ReduceLROnPlateau", optimizer)
        self.min_lrs = each_group("ReduceLROnPlateau", "values", min_lr, len(optimizer.param_groups))
        self.mode, self.threshold_mode = mode, threshold_mode
        self.factor = number("ReduceLROnPlateau", "factor", factor, 0, below=1, expected="factor below 1, not below 0")
        self.patience = whole("ReduceLROnPlateau", "patience", patience, 0)
        self.cooldown = whole("ReduceLROnPlateau", "cooldown", cooldown, 0)
        self.threshold = number("ReduceLROnPlateau", "threshold", threshold, 0)
        self.eps = number("ReduceLROnPlateau", "eps", eps, 0)
        self.best = math.inf if mode == "min" else -math.inf
        self.num_bad_epochs = self.cooldown_counter = self.last_epoch = 0
        self._last_lr = self.get_last_lr()  # which PyTorch's has, too

    def step(self, metrics: Any, epoch: int | None = None) -> None:
        """Look at the metric, a number, and reduce the rates if it is time. `epoch` says the number of the epoch."""
        try:
            metric = float(metrics)
        except (TypeError, ValueError):
            raise ArgumentError(f"ReduceLROnPlateau.step: expected a number, got {shown(metrics)}") from None
        self.last_epoch = self.last_epoch + 1 if epoch is None else whole("ReduceLROnPlateau", "epoch", epoch, 0)
        if self._better(metric):
            self.best, self.num_bad_epochs = metric, 0
        else:
            self.num_bad_epochs += 1
        if self.cooldown_counter > 0:
            self.cooldown_counter -= 1
            self.num_bad_epochs = 0
        if self.num_bad_epochs > self.patience:
            for group, least in zip(self.optimizer.param_groups, self.min_lrs, strict=True):
                lr = max(group["lr"] * self.factor, least)
                if group["lr"] - lr > self.eps:
                    group["lr"] = lr
            self.cooldown_counter, self.num_bad_epochs = self.cooldown, 0
        self._last_lr = self.get_last_lr()

    def _better(self, metric: float) -> bool:
        sign = 1 if self.mode == "min" else -1
        if self.threshold_mode == "rel":
            return sign * metric < sign * self.best * (1 - sign * self.threshold)
        return sign * metric < sign * self.best - self.threshold

    def get_last_lr(self) -> list[float]:
        """The groups' present rates."""
        return [group["lr"] for group in self.optimizer.param_groups]

    def __repr__(self) -> str:
        return described(self)

    def state_dict(self) -> dict[str, Any]:
        """Where the schedule stands, as plain values."""
        return {name: getattr(self, name) for name in self.STATE}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from there; the optimiser's own state_dict holds the rates."""
        load(self, state_dict, self.STATE)
