"""Schedules made of others, and the one of averaged weights."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from typing import Any

from fastnn.checks import choice, entries, whole
from fastnn.errors import ArgumentError, StateError

from .base import HasGroups, LRScheduler, each_group, load, own_rate

__all__ = ["SWALR", "ChainedScheduler", "SequentialLR"]


class _Combined(LRScheduler):
    """A schedule made of others, which start from rates of their own: these are part of its state."""

    schedulers: list[LRScheduler]

    def state_dict(self) -> dict[str, Any]:
        return {**super().state_dict(), "schedulers": _starts(self)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        known = state_dict.get("schedulers") if isinstance(state_dict, Mapping) else None
        if known is not None:  # older states have none
            _start_from(self, known)
        super().load_state_dict(state_dict)


class SequentialLR(_Combined):
    """One schedule after the other: from each milestone on the next one, which then begins with its t = 0.

    >>> import numpy as np
    >>> from fastnn import nn, optim
    >>> from fastnn.optim.lr_scheduler import ConstantLR, ExponentialLR, SequentialLR
    >>> opt = optim.SGD([nn.Parameter(np.zeros(1, np.float32))], lr=1.0)
    >>> parts = [ConstantLR(opt, 0.5, total_iters=9), ExponentialLR(opt, 0.5)]
    >>> schedule = SequentialLR(opt, parts, milestones=[2])
    >>> rates = []
    >>> for epoch in range(5):
    ...     rates += schedule.get_last_lr()
    ...     schedule.step()
    >>> rates
    [0.5, 0.5, 1.0, 0.5, 0.25]
    """

    def __init__(
        self,
        optimizer: HasGroups,
        schedulers: Sequence[LRScheduler],
        milestones: Sequence[int],
        last_epoch: int = -1,
    ) -> None:
        self.schedulers = _parts("SequentialLR", schedulers, optimizer)
        self.milestones = [
            whole("SequentialLR", "milestone", each, 1) for each in entries("SequentialLR", "milestones", milestones)
        ]
        if len(self.milestones) != len(self.schedulers) - 1 or self.milestones != sorted(set(self.milestones)):
            raise ArgumentError(
                f"SequentialLR: expected {len(self.schedulers) - 1} rising milestones between {len(self.schedulers)} "
                f"schedules, got {milestones!r}"
            )
        own = None if last_epoch >= 0 else [own_rate(group) for group in optimizer.param_groups]
        super().__init__(optimizer, last_epoch, base_lrs=own)

    def _present(self) -> LRScheduler:
        """The schedule whose turn it is, at its own t."""
        place = bisect_right(self.milestones, self.last_epoch)
        present = self.schedulers[place]
        present.last_epoch = self.last_epoch - (self.milestones[place - 1] if place else 0)
        present._step_count = present.last_epoch + 1
        return present

    def rate(self, base_lr: float, i: int) -> float:
        present = self._present()
        return present.rate(present.base_lrs[i], i)

    def also(self) -> None:
        self._present().also()


class ChainedScheduler(_Combined):
    """Several schedules at once: lr₀ times the product of what each makes of it, relative to its own lr₀.

    Where one of them has rates of its own, as OneCycleLR, lr₀ is the rate that it starts from.
    """

    def __init__(self, schedulers: Sequence[LRScheduler], optimizer: HasGroups | None = None) -> None:
        schedulers = entries("ChainedScheduler", "schedulers", schedulers)
        of_first = next((getattr(each, "optimizer", None) for each in schedulers), None)
        self.schedulers = _parts("ChainedScheduler", schedulers, of_first if optimizer is None else optimizer)
        first = self.schedulers[0].optimizer
        own = [own_rate(group) for group in first.param_groups]
        apart = [each.base_lrs for each in self.schedulers if each.base_lrs != own]
        super().__init__(first, base_lrs=apart[-1] if apart else own)

    def rate(self, base_lr: float, i: int) -> float:
        for each in self.schedulers:
            each.last_epoch, each._step_count = self.last_epoch, self.last_epoch + 1
        return base_lr * math.prod(s.rate(s.base_lrs[i], i) / s.base_lrs[i] for s in self.schedulers if s.base_lrs[i])

    def also(self) -> None:
        for each in self.schedulers:
            each.also()


def _starts(schedule: Any) -> list[dict[str, Any]]:
    """The rates that a schedule's parts start from, and the parts of these."""
    return [{"base_lrs": list(each.base_lrs), "schedulers": _starts(each)} for each in _parts_of(schedule)]


def _start_from(schedule: Any, known: Any) -> None:
    parts = _parts_of(schedule)
    if not isinstance(known, (list, tuple)) or len(known) != len(parts):
        raise StateError(f"{type(schedule).__name__}: expected the state of {len(parts)} schedules, got {known!r:.50}")
    for each, state in zip(parts, known, strict=True):
        load(each, state, ("base_lrs",))
        _start_from(each, state.get("schedulers", []))


def _parts_of(schedule: Any) -> list[LRScheduler]:
    return schedule.schedulers if isinstance(schedule, _Combined) else []


def _parts(name: str, schedulers: Sequence[Any], optimizer: Any) -> list[LRScheduler]:
    found = entries(name, "schedulers", schedulers)
    if not found or not all(isinstance(each, LRScheduler) for each in found):
        got = ", ".join(type(each).__name__ for each in found) or "none"
        raise ArgumentError(f"{name}: expected schedules that are stepped without a metric, got {got}")
    if any(each.optimizer is not optimizer for each in found):
        raise ArgumentError(f"{name}: expected schedules of one optimiser, got several")
    return found


class SWALR(LRScheduler):
    """From the present rate to `swa_lr` in `anneal_epochs` steps, by "cos" or "linear"; constant then.

    Made for averaged weights (Izmailov et al. 2018), when averaging begins.
    """

    follows_user = False  # `rate` itself goes on from the present one

    def __init__(
        self,
        optimizer: HasGroups,
        swa_lr: float | Sequence[float],
        anneal_epochs: int = 10,
        anneal_strategy: str = "cos",
        last_epoch: int = -1,
    ) -> None:
        choice("SWALR", "anneal_strategy", anneal_strategy, ("cos", "linear"))
        self.anneal_epochs = whole("SWALR", "anneal_epochs", anneal_epochs, 0)
        self.anneal_strategy = anneal_strategy
        groups = getattr(optimizer, "param_groups", [])
        self.swa_lrs = each_group("SWALR", "rates", swa_lr, len(groups))
        super().__init__(optimizer, last_epoch, base_lrs=[group["lr"] for group in groups])

    def rate(self, base_lr: float, i: int) -> float:
        # from the present rate, which other schedules may have changed
        present, before, share = self.optimizer.param_groups[i]["lr"], self._share(-1), self._share(0)
        start = present if before == 1 else (present - before * self.swa_lrs[i]) / (1 - before)
        return self.swa_lrs[i] * share + start * (1 - share)

    def _share(self, later: int) -> float:
        """How far the rate has come, `later` steps from now."""
        if not self.anneal_epochs:
            return float(later == 0)
        share = min(1.0, max(0.0, (self.last_epoch + later) / self.anneal_epochs))
        return (1 - math.cos(math.pi * share)) / 2 if self.anneal_strategy == "cos" else share
