"""Learning-rate schedules, by PyTorch's names; users find them as `optim.lr_scheduler`.

A schedule sets `group["lr"]` of each of the optimiser's groups: once when it is made (t = 0) and again at every
`step()`, by a formula of the step t and the rate lr₀ that you set last. What an earlier schedule made of that rate does
not count: each group remembers, as "initial_lr" and "scheduled_lr", the rate that you set and the one that a schedule
set last.

A rate that you change while a schedule runs counts, too: from then on, all rates of the schedule are multiplied by the
ratio of the new rate to the scheduled one. (Where the scheduled rate is 0 there is no ratio: the next step overwrites.)
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, ClassVar, Protocol

from fastnn.checks import is_number, is_whole, number, plain, whole
from fastnn.errors import ArgumentError, StateError
from fastnn.habits import check_options

__all__ = [
    "CosineAnnealingLR",
    "ExponentialLR",
    "LRScheduler",
    "LambdaLR",
    "OneCycleLR",
    "ReduceLROnPlateau",
    "StepLR",
]


class _Optimizer(Protocol):
    param_groups: list[dict[str, Any]]


class LRScheduler:
    """What the schedules by formula share. A subclass defines `rate(base_lr, i)`, group i's rate at last_epoch.

    `base_lrs` are the rates to start from; None: those that the user set last.
    """

    per: ClassVar[str] = "epoch"  # step() is called after each "batch" or "epoch"; "metric": with a metric, each epoch

    def __init__(self, optimizer: _Optimizer, last_epoch: int = -1, *, base_lrs: Sequence[float] | None = None) -> None:
        if last_epoch != -1:
            raise ArgumentError(
                f"{type(self).__name__}: expected last_epoch=-1, got {last_epoch!r}: to go on where a schedule "
                "stood, use load_state_dict()"
            )
        self.optimizer = _checked(type(self).__name__, optimizer)
        own = [_own_rate(group) for group in optimizer.param_groups]
        self.base_lrs = own if base_lrs is None else list(base_lrs)
        self.factors = [1.0] * len(own)  # by which the user has changed the rates since
        self.last_epoch = 0
        self._apply()

    def rate(self, base_lr: float, i: int) -> float:
        raise NotImplementedError

    def step(self) -> None:
        """Go on to the next t; after `optimizer.step()`."""
        self._follow_user()
        self.last_epoch += 1
        self._apply()

    def _groups(self) -> list[dict[str, Any]]:
        groups = self.optimizer.param_groups
        if len(groups) != len(self.base_lrs):
            raise ArgumentError(
                f"{type(self).__name__}: expected an optimiser of {len(self.base_lrs)} groups, as when the schedule "
                f"was made, got {len(groups)}: make the schedule after the last add_param_group"
            )
        return groups

    def _follow_user(self) -> None:
        """Multiply what follows by the change where a rate is no longer the one that was scheduled."""
        for i, group in enumerate(self._groups()):
            if group["lr"] != group.get("scheduled_lr", group["lr"]):
                planned = self.rate(self.base_lrs[i], i)
                if planned:
                    self.factors[i] = group["lr"] / planned
                _schedule(group, _own_rate(group))

    def _apply(self) -> None:
        """Set the optimiser to the present t."""
        for i, group in enumerate(self._groups()):
            _schedule(group, self.factors[i] * self.rate(self.base_lrs[i], i))

    def get_last_lr(self) -> list[float]:
        """The groups' present rates."""
        return [group["lr"] for group in self.optimizer.param_groups]

    def __repr__(self) -> str:
        return _described(self)

    def state_dict(self) -> dict[str, Any]:
        """Where the schedule stands, as plain values; functions are not in it."""
        self._follow_user()
        return {
            "base_lrs": list(self.base_lrs),
            "last_epoch": self.last_epoch,
            "factors": list(self.factors),
            "last_lr": self.get_last_lr(),
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from there, at the rates of that time, whether the optimiser's own state is loaded before or after.

        Raises StateError for the state of another schedule, or of an optimiser with another number of groups.
        """
        given = state_dict.get("base_lrs", ()) if isinstance(state_dict, Mapping) else ()
        if given and len(given) != len(self.base_lrs):
            raise StateError(f"{type(self).__name__}: expected {len(self.base_lrs)} base_lrs, got {len(given)}")
        _load(self, state_dict, ("base_lrs", "last_epoch"))
        self.factors = list(state_dict.get("factors", [1.0] * len(self.base_lrs)))  # older states have none
        self._apply()
        for group, lr in zip(self._groups(), state_dict.get("last_lr", self.get_last_lr()), strict=True):
            _schedule(group, lr)


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

    def __init__(self, optimizer: _Optimizer, step_size: int, gamma: float = 0.1, last_epoch: int = -1) -> None:
        self.step_size = whole("StepLR", "step_size", step_size, 1)
        self.gamma = number("StepLR", "gamma", gamma, 0)
        super().__init__(optimizer, last_epoch)

    def rate(self, base_lr: float, i: int) -> float:
        return base_lr * self.gamma ** (self.last_epoch // self.step_size)


class ExponentialLR(LRScheduler):
    """lr₀ · gamma^t."""

    def __init__(self, optimizer: _Optimizer, gamma: float, last_epoch: int = -1) -> None:
        self.gamma = number("ExponentialLR", "gamma", gamma, 0)
        super().__init__(optimizer, last_epoch)

    def rate(self, base_lr: float, i: int) -> float:
        return base_lr * self.gamma**self.last_epoch


class CosineAnnealingLR(LRScheduler):
    """eta_min + (lr₀ - eta_min)·(1 + cos(π·t / T_max)) / 2 (Loshchilov and Hutter 2017, without the restarts)."""

    def __init__(self, optimizer: _Optimizer, T_max: int, eta_min: float = 0.0, last_epoch: int = -1) -> None:
        self.T_max = whole("CosineAnnealingLR", "T_max", T_max, 1)
        self.eta_min = number("CosineAnnealingLR", "eta_min", eta_min, 0)
        super().__init__(optimizer, last_epoch)

    def rate(self, base_lr: float, i: int) -> float:
        return self.eta_min + (base_lr - self.eta_min) * (1 + math.cos(math.pi * self.last_epoch / self.T_max)) / 2


class LambdaLR(LRScheduler):
    """lr₀ · lr_lambda(t); one function, or one for each group."""

    def __init__(
        self,
        optimizer: _Optimizer,
        lr_lambda: Callable[[int], float] | Sequence[Callable[[int], float]],
        last_epoch: int = -1,
    ) -> None:
        groups = len(_checked("LambdaLR", optimizer).param_groups)
        given = [lr_lambda] * groups if callable(lr_lambda) else lr_lambda
        self.lr_lambdas = list(given) if isinstance(given, Sequence) else []
        if len(self.lr_lambdas) != groups or not all(map(callable, self.lr_lambdas)):
            raise ArgumentError(f"LambdaLR: expected a function, or {groups} for {groups} groups, got {lr_lambda!r}")
        super().__init__(optimizer, last_epoch)

    def rate(self, base_lr: float, i: int) -> float:
        return base_lr * self.lr_lambdas[i](self.last_epoch)


class OneCycleLR(LRScheduler):
    """Up from max_lr/div_factor to max_lr, then down to max_lr/(div_factor·final_div_factor) (Smith and Topin 2018).

    To be stepped after every batch, total_steps (or epochs·steps_per_epoch) times in all. `pct_start` is the rise's
    share of it, `anneal_strategy` "cos" or "linear". Momentum (Adam's first beta) mirrors it between max_momentum and
    base_momentum, unless `cycle_momentum=False`. Raises ArgumentError for a step too many.
    """

    per = "batch"

    def __init__(
        self,
        optimizer: _Optimizer,
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
        check_options("OneCycleLR", three_phase=three_phase)
        if total_steps is None:
            if epochs is None or steps_per_epoch is None:
                raise ArgumentError("OneCycleLR: expected total_steps, or epochs and steps_per_epoch")
            total_steps = whole("OneCycleLR", "epochs", epochs, 1) * whole(
                "OneCycleLR", "steps_per_epoch", steps_per_epoch, 1
            )
        self.total_steps = whole("OneCycleLR", "total_steps", total_steps, 1)
        self.pct_start = number("OneCycleLR", "pct_start", pct_start, 0, 1)
        if anneal_strategy not in ("cos", "linear"):
            raise ArgumentError(f"OneCycleLR: expected anneal_strategy 'cos' or 'linear', got {anneal_strategy!r}")
        groups = _checked("OneCycleLR", optimizer).param_groups
        self.max_lrs = _each("OneCycleLR", "rates", max_lr, len(groups))
        if cycle_momentum and not all("momentum" in group or "betas" in group for group in groups):
            raise ArgumentError("OneCycleLR: cycle_momentum expects an optimiser with momentum or betas")
        self.anneal_strategy, self.cycle_momentum = anneal_strategy, cycle_momentum
        self.base_momentum = number("OneCycleLR", "base_momentum", base_momentum, 0, 1)
        self.max_momentum = number("OneCycleLR", "max_momentum", max_momentum, 0, 1)
        self.final_div_factor = number("OneCycleLR", "final_div_factor", final_div_factor, above=0)
        div_factor = number("OneCycleLR", "div_factor", div_factor, above=0)
        super().__init__(optimizer, last_epoch, base_lrs=[peak / div_factor for peak in self.max_lrs])

    def step(self) -> None:
        if self.last_epoch >= self.total_steps:
            raise ArgumentError(f"OneCycleLR: expected at most {self.total_steps} steps, got one more")
        super().step()

    def _apply(self) -> None:
        super()._apply()
        if self.cycle_momentum:
            momentum = self._at(self.max_momentum, self.base_momentum, self.max_momentum)
            for group in self.optimizer.param_groups:
                if "betas" in group:
                    group["betas"] = (momentum, *group["betas"][1:])
                else:
                    group["momentum"] = momentum

    def rate(self, base_lr: float, i: int) -> float:
        return self._at(base_lr, self.max_lrs[i], base_lr / self.final_div_factor)

    def _at(self, start: float, peak: float, end: float) -> float:
        """The present value of what goes from start to peak to end."""
        top, last = self.pct_start * self.total_steps - 1, self.total_steps - 1
        if self.last_epoch <= top:
            return self._between(start, peak, self.last_epoch / top if top else 1.0)
        return self._between(peak, end, (self.last_epoch - top) / (last - top) if last > top else 1.0)

    def _between(self, start: float, end: float, share: float) -> float:
        if self.anneal_strategy == "cos":
            return end + (start - end) / 2 * (1 + math.cos(math.pi * share))
        return start + (end - start) * share


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
        optimizer: _Optimizer,
        mode: str = "min",
        factor: float = 0.1,
        patience: int = 10,
        threshold: float = 1e-4,
        threshold_mode: str = "rel",
        cooldown: int = 0,
        min_lr: float | Sequence[float] = 0.0,
        eps: float = 1e-8,
    ) -> None:
        if mode not in ("min", "max") or threshold_mode not in ("rel", "abs"):
            raise ArgumentError(
                "ReduceLROnPlateau: expected mode 'min' or 'max' and threshold_mode 'rel' or 'abs', "
                f"got {mode!r} and {threshold_mode!r}"
            )
        self.optimizer = _checked("ReduceLROnPlateau", optimizer)
        self.min_lrs = _each("ReduceLROnPlateau", "values", min_lr, len(optimizer.param_groups))
        self.mode, self.threshold_mode = mode, threshold_mode
        self.factor = number("ReduceLROnPlateau", "factor", factor, 0, below=1, expected="factor below 1, not below 0")
        self.patience = whole("ReduceLROnPlateau", "patience", patience, 0)
        self.cooldown = whole("ReduceLROnPlateau", "cooldown", cooldown, 0)
        self.threshold = number("ReduceLROnPlateau", "threshold", threshold, 0)
        self.eps = number("ReduceLROnPlateau", "eps", eps, 0)
        self.best = math.inf if mode == "min" else -math.inf
        self.num_bad_epochs = self.cooldown_counter = self.last_epoch = 0

    def step(self, metrics: Any) -> None:
        """Look at the metric, a number, and reduce the rates if it is time."""
        metric = float(metrics)
        self.last_epoch += 1
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
                    _own_rate(group)
                    _schedule(group, lr)
            self.cooldown_counter, self.num_bad_epochs = self.cooldown, 0

    def _better(self, metric: float) -> bool:
        sign = 1 if self.mode == "min" else -1
        if self.threshold_mode == "rel":
            return sign * metric < sign * self.best * (1 - sign * self.threshold)
        return sign * metric < sign * self.best - self.threshold

    def get_last_lr(self) -> list[float]:
        """The groups' present rates."""
        return [group["lr"] for group in self.optimizer.param_groups]

    def __repr__(self) -> str:
        return _described(self)

    def state_dict(self) -> dict[str, Any]:
        """Where the schedule stands, as plain values."""
        return {name: getattr(self, name) for name in self.STATE}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from there; the optimiser's own state_dict holds the rates."""
        _load(self, state_dict, self.STATE)


def _checked(schedule: str, optimizer: _Optimizer) -> _Optimizer:
    if not hasattr(optimizer, "param_groups"):
        raise ArgumentError(f"{schedule}: expected an optimiser, got {type(optimizer).__name__}")
    return optimizer


def _own_rate(group: dict[str, Any]) -> float:
    """The rate that the user set last: the present one, unless a schedule has set that."""
    if group["lr"] != group.get("scheduled_lr"):
        group["initial_lr"] = group["lr"]
    return float(group.get("initial_lr", group["lr"]))


def _schedule(group: dict[str, Any], lr: float) -> None:
    group["lr"] = group["scheduled_lr"] = lr


def _described(schedule: Any) -> str:
    rates = ", ".join(f"{rate:g}" for rate in schedule.get_last_lr())
    return f"{type(schedule).__name__}(last_epoch={schedule.last_epoch}, lr=[{rates}])"


def _each(schedule: str, what: str, value: float | Sequence[float], groups: int) -> list[float]:
    """One number for each group, or the one for all of them."""
    many = isinstance(value, Iterable) and not isinstance(value, str) and not is_number(value)
    values = list(value) if many else [value] * groups  # type: ignore[arg-type]
    if len(values) != groups:
        raise ArgumentError(f"{schedule}: expected {groups} {what} for {groups} groups, got {value!r}")
    return [number(schedule, what, each, 0) for each in values]


def _load(schedule: Any, state_dict: dict[str, Any], names: Sequence[str]) -> None:
    if not isinstance(state_dict, Mapping):
        expected = f"{type(schedule).__name__}: expected what state_dict() returned"
        raise StateError(f"{expected}, got {type(state_dict).__name__}")
    missing = [name for name in names if name not in state_dict]
    if missing:
        raise StateError(f"{type(schedule).__name__}: expected {list(names)}, missing {missing}")
    wrong = [name for name in names if not _is_alike(state_dict[name], getattr(schedule, name))]
    if wrong:
        got = ", ".join(f"{name}={state_dict[name]!r:.50}" for name in wrong)
        raise StateError(f"{type(schedule).__name__}: expected what state_dict() returned, got {got}")
    for name in names:
        setattr(schedule, name, plain(state_dict[name]))


def _is_alike(value: Any, present: Any) -> bool:
    """Whether it can take the place of a number, or of one number for each group."""
    if isinstance(present, list):
        return isinstance(value, (list, tuple)) and len(value) == len(present) and all(map(is_number, value))
    return is_whole(value, -1) if isinstance(present, int) else is_number(value)
