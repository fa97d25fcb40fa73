"""What schedules share, and how they set rates."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar, Protocol

from fastnn.checks import is_number, is_whole, number, plain, whole
from fastnn.errors import ArgumentError, StateError

__all__ = ["HasGroups", "LRScheduler", "checked", "described", "each_group", "load", "own_rate", "set_rate"]


class HasGroups(Protocol):
    param_groups: list[dict[str, Any]]


class LRScheduler:
    """What the schedules by formula share. A subclass defines `rate(base_lr, i)`, group i's rate at last_epoch, or, as
    in PyTorch, `get_lr()`, the rates of all groups; a rate that is changed by hand then counts where get_lr reads it.

    A rate that was changed since the last step, by hand or by another schedule, scales what follows: schedules of one
    optimiser that are stepped in turn multiply, as in PyTorch. `base_lrs` are the rates to start from; None: those that
    the user set last, times what another schedule has made of them. With `last_epoch` of 0 or more a schedule goes on
    after that epoch, for an optimiser whose groups know the rates that they began with, "initial_lr".
    """

    follows_user: ClassVar[bool] = True  # False: a rate changed since lasts until the next step, as in PyTorch
    keeps_rate: ClassVar[bool] = False  # True: the rate of an optimiser that was loaded is that after last_epoch
    floor: float = 0.0  # what a rate that is changed by hand is the distance from
    per: ClassVar[str] = "epoch"  # step() is called after each "batch" or "epoch"; "metric": with a metric, each epoch
    _get_lr_called_within_step = False  # which get_lr of programs asks for

    def __init__(self, optimizer: HasGroups, last_epoch: int = -1, *, base_lrs: Sequence[float] | None = None) -> None:
        name = type(self).__name__
        self.optimizer, self.last_epoch = checked(name, optimizer), whole(name, "last_epoch", last_epoch, -1)
        groups = optimizer.param_groups
        if last_epoch >= 0 and not all("initial_lr" in group for group in groups):
            raise ArgumentError(
                f"{name}: expected initial_lr in all groups with last_epoch={last_epoch}: load the state of the "
                "optimiser that had a schedule first, or leave last_epoch out and load the schedule's state"
            )
        own = [float(group["initial_lr"]) if last_epoch >= 0 else own_rate(group) for group in groups]
        self.base_lrs = own if base_lrs is None else each_group(name, "base_lrs", base_lrs, len(own))
        self.factors = [1.0] * len(own)  # by which the rates have been changed since
        self._step_count, self._last_lr = 0, [float(group["lr"]) for group in groups]
        self._followed = list(self.base_lrs)
        if self._has_factors and last_epoch >= 0:
            self.last_epoch += self.keeps_rate
            self.factors = [self._factor_of(group["lr"], i) for i, group in enumerate(groups)]
        elif self._has_factors and base_lrs is None:
            self.factors = [
                (lr - self.floor) / (base - self.floor) if base != self.floor else 1.0
                for lr, base in zip(self._last_lr, own, strict=True)
            ]
        self.last_epoch = last_epoch
        self.step()  # which schedules of one's own may define, too

    def rate(self, base_lr: float, i: int) -> float:
        if type(self).get_lr is LRScheduler.get_lr:
            raise NotImplementedError(f"{type(self).__name__}: expected a get_lr(), the rates of all groups")
        return self.get_lr()[i]

    def get_lr(self) -> list[float]:
        """The groups' rates at last_epoch."""
        rates = [self.rate(base_lr, i) for i, base_lr in enumerate(self.base_lrs)]
        return [
            rate if factor == 1 else self.floor + factor * (rate - self.floor)
            for factor, rate in zip(self.factors, rates, strict=True)
        ]

    def step(self, epoch: float | None = None) -> None:
        """Go on to the next t, after `optimizer.step()`; or to t = `epoch`, at the rates of the formula alone."""
        self._step_count += 1
        if epoch is None:
            if self._step_count > 1:
                self._follow()
            self.last_epoch += 1
        else:
            self.last_epoch = number(type(self).__name__, "epoch", epoch, 0)  # type: ignore[assignment]
            self.factors = [1.0] * len(self.factors)
        self._apply()

    def _groups(self) -> list[dict[str, Any]]:
        groups = self.optimizer.param_groups
        if len(groups) != len(self.base_lrs):
            raise ArgumentError(
                f"{type(self).__name__}: expected an optimiser of {len(self.base_lrs)} groups, as when the schedule "
                f"was made, got {len(groups)}: make the schedule after the last add_param_group"
            )
        return groups

    @property
    def _has_factors(self) -> bool:
        return self.follows_user and type(self).get_lr is LRScheduler.get_lr

    def _factor_of(self, lr: float, i: int) -> float:
        """By what group i's rate has been changed, if it is `lr` now."""
        planned = self.rate(self.base_lrs[i], i) - self.floor
        return (lr - self.floor) / planned if planned else self.factors[i]

    def _follow(self) -> None:
        """Multiply what follows by the change where a rate is no longer the one that this schedule has set.

        It goes on from the present rate, too, where somebody has changed base_lrs, as gradual warm-ups do.
        """
        for i, group in enumerate(self._groups() if self._has_factors else ()):
            if group["lr"] != self._last_lr[i] or self.base_lrs[i] != self._followed[i]:
                self.factors[i] = self._factor_of(group["lr"], i)
                if group["lr"] != group.get("scheduled_lr"):
                    set_rate(group, own_rate(group))
                self._last_lr[i], self._followed[i] = group["lr"], self.base_lrs[i]

    def _apply(self) -> None:
        """Set the optimiser to the present t."""
        self._get_lr_called_within_step = True
        try:
            rates = self.get_lr()
        finally:
            self._get_lr_called_within_step = False
        for group, lr in zip(self._groups(), rates, strict=True):
            set_rate(group, lr)
        self._last_lr = list(rates)
        self.also()

    def also(self) -> None:
        """Set what else than the rates follows the schedule."""

    def get_last_lr(self) -> list[float]:
        """The rates that the last step has set."""
        return list(self._last_lr)

    def __repr__(self) -> str:
        return described(self)

    def state_dict(self) -> dict[str, Any]:
        """Where the schedule stands, as plain values; functions are not in it."""
        self._follow()
        return self._attributes() | {
            "base_lrs": list(self.base_lrs),
            "last_epoch": self.last_epoch,
            "factors": list(self.factors),
            "last_lr": [group["lr"] for group in self.optimizer.param_groups],
            "_last_lr": list(self._last_lr),
            "_step_count": self._step_count,
        }

    def _attributes(self) -> dict[str, Any]:
        """The plain values that a schedule of one's own keeps in attributes, all of which PyTorch's state has, too."""
        if type(self).get_lr is LRScheduler.get_lr and type(self).step is LRScheduler.step:
            return {}
        return {name: value for name, value in vars(self).items() if _is_plain(value)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from there, at the rates of that time, whether the optimiser's own state is loaded before or after.

        Raises StateError for the state of another schedule, or of an optimiser with another number of groups.
        """
        given = state_dict.get("base_lrs", ()) if isinstance(state_dict, Mapping) else ()
        if given and len(given) != len(self.base_lrs):
            raise StateError(f"{type(self).__name__}: expected {len(self.base_lrs)} base_lrs, got {len(given)}")
        load(self, state_dict, ("base_lrs", "last_epoch"))
        self.factors = list(state_dict.get("factors", [1.0] * len(self.base_lrs)))  # older states have none
        if "last_lr" not in state_dict:
            self._apply()
        for group, lr in zip(self._groups(), state_dict.get("last_lr", self._last_lr), strict=True):
            set_rate(group, lr)
        self._last_lr = [group["lr"] for group in self._groups()]
        self._followed = list(self.base_lrs)
        kept = {"_last_lr", "_step_count", *self._attributes()} - {"base_lrs", "last_epoch", "factors"}
        for name in kept & state_dict.keys():
            setattr(self, name, plain(state_dict[name]))


def checked(schedule: str, optimizer: HasGroups) -> HasGroups:
    if not hasattr(optimizer, "param_groups"):
        raise ArgumentError(f"{schedule}: expected an optimiser, got {type(optimizer).__name__}")
    return optimizer


def own_rate(group: dict[str, Any]) -> float:
    """The rate that the user set last: the present one, unless a schedule has set that."""
    if group["lr"] != group.get("scheduled_lr"):
        group["initial_lr"] = group["lr"]
    return float(group.get("initial_lr", group["lr"]))


def set_rate(group: dict[str, Any], lr: float) -> None:
    group["lr"] = group["scheduled_lr"] = lr


def described(schedule: Any) -> str:
    rates = ", ".join(f"{rate:g}" for rate in schedule.get_last_lr())
    return f"{type(schedule).__name__}(last_epoch={schedule.last_epoch}, lr=[{rates}])"


def each_group(schedule: str, what: str, value: float | Sequence[float], groups: int) -> list[float]:
    """One number for each group, or the one for all of them."""
    many = isinstance(value, Iterable) and not isinstance(value, str) and not is_number(value)
    values = list(value) if many else [value] * groups  # type: ignore[arg-type]
    if len(values) != groups:
        raise ArgumentError(f"{schedule}: expected {groups} {what} for {groups} groups, got {value!r}")
    return [number(schedule, what, each, 0) for each in values]


def load(schedule: Any, state_dict: dict[str, Any], names: Sequence[str]) -> None:
    if not isinstance(state_dict, Mapping):
        expected = f"{type(schedule).__name__}: expected what state_dict() returned"
        raise StateError(f"{expected}, got {type(state_dict).__name__}")
    missing = [name for name in names if name not in state_dict]
    if missing:
        raise StateError(f"{type(schedule).__name__}: expected {list(names)}, missing {missing}")
    # last_epoch may be between two epochs, after step(epoch + batch / batches)
    like = {name: 0.0 if name == "last_epoch" else getattr(schedule, name) for name in names}
    wrong = [name for name in names if not _is_alike(state_dict[name], like[name])]
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


def _is_plain(value: Any) -> bool:
    """Whether it is a number, a text, None, or a list or tuple of these."""
    if isinstance(value, (list, tuple)):
        return all(map(_is_plain, value))
    return value is None or isinstance(value, (bool, int, float, str))
