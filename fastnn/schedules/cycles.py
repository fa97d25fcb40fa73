"""Schedules that rise and fall, once or again and again, and take momentum along."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from fastnn.checks import choice, flag, number, whole
from fastnn.errors import ArgumentError

from .base import HasGroups, LRScheduler, checked, each_group

__all__ = ["CosineAnnealingWarmRestarts", "CyclicLR", "OneCycleLR"]


class OneCycleLR(LRScheduler):
    """Up from max_lr/div_factor to max_lr, then down to max_lr/(div_factor·final_div_factor) (Smith and Topin 2018).

    To be stepped after every batch, total_steps (or epochs·steps_per_epoch) times in all. `pct_start` is the rise's
    share of it, `anneal_strategy` "cos" or "linear"; with `three_phase` the way down to max_lr/div_factor is as long as
    the rise, and what is left goes to the end. Momentum (Adam's first beta) mirrors it between max_momentum and
    base_momentum, unless `cycle_momentum=False`. Raises ArgumentError for a step too many.
    """

    follows_user = False

    per = "batch"

    def __init__(
        self,
        optimizer: HasGroups,
        max_lr: float | Sequence[float],
        total_steps: int | None = None,
        epochs: int | None = None,
        steps_per_epoch: int | None = None,
        pct_start: float = 0.3,
        anneal_strategy: str = "cos",
        cycle_momentum: bool = True,
        base_momentum: float = 0.85,
        max_momentum: float = 0.95,
        div_factor: float = 25.0,
        final_div_factor: float = 1e4,
        three_phase: bool = False,
        last_epoch: int = -1,
    ) -> None:
        self.three_phase = flag("OneCycleLR", "three_phase", three_phase)
        if total_steps is None:
            if epochs is None or steps_per_epoch is None:
                raise ArgumentError("OneCycleLR: expected total_steps, or epochs and steps_per_epoch")
            total_steps = whole("OneCycleLR", "epochs", epochs, 1) * whole(
                "OneCycleLR", "steps_per_epoch", steps_per_epoch, 1
            )
        self.total_steps = whole("OneCycleLR", "total_steps", total_steps, 1)
        self.pct_start = number("OneCycleLR", "pct_start", pct_start, 0, 1)
        if not isinstance(anneal_strategy, str) or anneal_strategy not in ("cos", "linear"):
            raise ArgumentError(f"OneCycleLR: expected anneal_strategy 'cos' or 'linear', got {anneal_strategy!r}")
        groups = checked("OneCycleLR", optimizer).param_groups
        self.max_lrs = each_group("OneCycleLR", "rates", max_lr, len(groups))
        _check_momentum("OneCycleLR", cycle_momentum, groups)
        self.anneal_strategy, self.cycle_momentum = anneal_strategy, cycle_momentum
        self.base_momentum = number("OneCycleLR", "base_momentum", base_momentum, 0, 1)
        self.max_momentum = number("OneCycleLR", "max_momentum", max_momentum, 0, 1)
        self.final_div_factor = number("OneCycleLR", "final_div_factor", final_div_factor, above=0)
        div_factor = number("OneCycleLR", "div_factor", div_factor, above=0)
        super().__init__(optimizer, last_epoch, base_lrs=[peak / div_factor for peak in self.max_lrs])

    def also(self) -> None:
        if self.cycle_momentum:
            momentum = self._at(self.max_momentum, self.base_momentum, self.max_momentum)
            for group in self.optimizer.param_groups:
                _set_momentum(group, momentum)

    def rate(self, base_lr: float, i: int) -> float:
        if self.last_epoch > self.total_steps:  # looked at here, so that schedules made of this one raise, too
            raise ArgumentError(f"OneCycleLR: expected at most {self.total_steps} steps, got one more")
        return self._at(base_lr, self.max_lrs[i], base_lr / self.final_div_factor)

    def _at(self, start: float, peak: float, end: float) -> float:
        """The present value of what goes from start to peak to end."""
        top, last = self.pct_start * self.total_steps - 1, self.total_steps - 1
        if self.three_phase and self.last_epoch > top:
            foot = 2 * self.pct_start * self.total_steps - 2
            if self.last_epoch <= foot:
                return self._between(peak, start, (self.last_epoch - top) / (foot - top))
            return self._between(start, end, (self.last_epoch - foot) / (last - foot) if last > foot else 1.0)
        if self.last_epoch <= top:
            return self._between(start, peak, self.last_epoch / top if top else 1.0)
        return self._between(peak, end, (self.last_epoch - top) / (last - top) if last > top else 1.0)

    def _between(self, start: float, end: float, share: float) -> float:
        if self.anneal_strategy == "cos":
            return end + (start - end) / 2 * (1 + math.cos(math.pi * share))
        return start + (end - start) * share


class CosineAnnealingWarmRestarts(LRScheduler):
    """CosineAnnealingLR that starts over: after T_0 steps, then T_0 · T_mult, and so on (Loshchilov and Hutter 2017).

    `step(epoch)` goes to any t, a fraction too: ``schedule.step(epoch + batch / batches)`` after every batch.
    """

    follows_user = False

    def __init__(
        self, optimizer: HasGroups, T_0: int, T_mult: int = 1, eta_min: float = 0.0, last_epoch: int = -1
    ) -> None:
        self.T_0 = whole("CosineAnnealingWarmRestarts", "T_0", T_0, 1)
        self.T_mult = whole("CosineAnnealingWarmRestarts", "T_mult", T_mult, 1)
        self.eta_min = number("CosineAnnealingWarmRestarts", "eta_min", eta_min, 0)
        super().__init__(optimizer, last_epoch)

    def rate(self, base_lr: float, i: int) -> float:
        at, period = self.last_epoch, self.T_0
        if self.T_mult == 1:
            at %= period
        while at >= period:
            at, period = at - period, period * self.T_mult
        return self.eta_min + (base_lr - self.eta_min) * (1 + math.cos(math.pi * at / period)) / 2


class CyclicLR(LRScheduler):
    """Up from base_lr to max_lr in `step_size_up` steps, down in `step_size_down`, again and again (Smith 2017).

    The height of cycle c = 1, 2, ... is scaled: by 1 ("triangular"), 2^(1 - c) ("triangular2"), gamma^t ("exp_range"),
    or `scale_fn` of c (scale_mode "cycle") or of t ("iterations"). Momentum mirrors it, unless `cycle_momentum=False`.
    """

    follows_user = False

    per = "batch"

    def __init__(
        self,
        optimizer: HasGroups,
        base_lr: float | Sequence[float],
        max_lr: float | Sequence[float],
        step_size_up: int = 2000,
        step_size_down: int | None = None,
        mode: str = "triangular",
        gamma: float = 1.0,
        scale_fn: Callable[[float], float] | None = None,
        scale_mode: str = "cycle",
        cycle_momentum: bool = True,
        base_momentum: float | Sequence[float] = 0.8,
        max_momentum: float | Sequence[float] = 0.9,
        last_epoch: int = -1,
    ) -> None:
        groups = checked("CyclicLR", optimizer).param_groups
        choice("CyclicLR", "mode", mode, ("triangular", "triangular2", "exp_range"))
        choice("CyclicLR", "scale_mode", scale_mode, ("cycle", "iterations"))
        cycle_momentum = flag("CyclicLR", "cycle_momentum", cycle_momentum)
        _check_momentum("CyclicLR", cycle_momentum, groups)
        self.max_lrs = each_group("CyclicLR", "rates", max_lr, len(groups))
        self.step_size_up = whole("CyclicLR", "step_size_up", step_size_up, 1)
        down = step_size_up if step_size_down is None else step_size_down
        self.step_size_down = whole("CyclicLR", "step_size_down", down, 1)
        self.gamma = number("CyclicLR", "gamma", gamma, 0)
        by_mode: dict[str, Callable[[float], float]] = {
            "triangular": lambda c: 1.0, "triangular2": lambda c: 0.5 ** (c - 1), "exp_range": lambda t: self.gamma**t,
        }  # fmt: skip
        self.scale_fn = by_mode[mode] if scale_fn is None else scale_fn
        self.by_step = mode == "exp_range" if scale_fn is None else scale_mode == "iterations"
        self.cycle_momentum = cycle_momentum
        self.base_momenta = each_group("CyclicLR", "base_momentum", base_momentum, len(groups))
        self.max_momenta = each_group("CyclicLR", "max_momentum", max_momentum, len(groups))
        super().__init__(optimizer, last_epoch, base_lrs=each_group("CyclicLR", "rates", base_lr, len(groups)))

    def rate(self, base_lr: float, i: int) -> float:
        return base_lr + (self.max_lrs[i] - base_lr) * self._height()

    def also(self) -> None:
        if self.cycle_momentum:
            for group, least, most in zip(
                self.optimizer.param_groups, self.base_momenta, self.max_momenta, strict=True
            ):
                _set_momentum(group, most - (most - least) * self._height())

    def _height(self) -> float:
        """From 0 to 1, at the present t, scaled."""
        cycle, at = divmod(self.last_epoch, self.step_size_up + self.step_size_down)
        up = at <= self.step_size_up
        share = at / self.step_size_up if up else 1 - (at - self.step_size_up) / self.step_size_down
        return share * self.scale_fn(self.last_epoch if self.by_step else cycle + 1)


def _check_momentum(schedule: str, cycle_momentum: bool, groups: list[dict[str, Any]]) -> None:
    if cycle_momentum and not all("momentum" in group or "betas" in group for group in groups):
        raise ArgumentError(f"{schedule}: cycle_momentum expects an optimiser with momentum or betas")


def _set_momentum(group: dict[str, Any], momentum: float) -> None:
    if "betas" in group:
        group["betas"] = (momentum, *group["betas"][1:])
    else:
        group["momentum"] = momentum
