"""Schedules of people's own, as they stand in many repositories, beside PyTorch's: same rates, also when resumed."""

from __future__ import annotations

import math
from typing import Any

import pytest

import fastnn as fnn


def classes(lib: Any) -> dict[str, Any]:
    """The same source under either package."""
    schedules = lib.optim.lr_scheduler

    class WarmupRestarts(schedules._LRScheduler):
        """With a step of its own, which counts what get_lr looks at."""

        def __init__(
            self, optimizer: Any, first: int, low: float, high: float, warmup: int, last_epoch: int = -1
        ) -> None:
            self.cycle_steps, self.low, self.high, self.warmup = first, low, high, warmup
            self.cycle, self.step_in_cycle = 0, last_epoch
            super().__init__(optimizer, last_epoch)
            self.base_lrs = []
            for group in self.optimizer.param_groups:
                group["lr"] = self.low
                self.base_lrs.append(self.low)

        def get_lr(self) -> list[float]:
            t, rise = self.step_in_cycle, self.high * 0.5**self.cycle - self.low
            if t == -1:
                return self.base_lrs
            if t < self.warmup:
                return [rise * t / self.warmup + lr for lr in self.base_lrs]
            share = math.pi * (t - self.warmup) / (self.cycle_steps - self.warmup)
            return [lr + rise * (1 + math.cos(share)) / 2 for lr in self.base_lrs]

        def step(self, epoch: Any = None) -> None:
            self.step_in_cycle += 1
            if self.step_in_cycle >= self.cycle_steps:
                self.cycle += 1
                self.step_in_cycle -= self.cycle_steps
            self.last_epoch = self.last_epoch + 1
            for group, lr in zip(self.optimizer.param_groups, self.get_lr(), strict=True):
                group["lr"] = lr

    class Noam(schedules.LRScheduler):
        def __init__(self, optimizer: Any, warmup: int) -> None:
            self.warmup = warmup
            super().__init__(optimizer)

        def get_lr(self) -> list[float]:
            t = self._step_count
            return [lr * min(t**-0.5, t * self.warmup**-1.5) for lr in self.base_lrs]

    class FromThePresent(schedules.LRScheduler):
        """That goes on from the rates as they are."""

        def get_lr(self) -> list[float]:
            assert self._get_lr_called_within_step
            if self.last_epoch == 0:
                return self.base_lrs
            return [group["lr"] * 0.9 + 0.001 for group in self.optimizer.param_groups]

    def sequence(optimizer: Any) -> Any:
        parts = [Noam(optimizer, 3), schedules.ExponentialLR(optimizer, 0.5)]
        return schedules.SequentialLR(optimizer, parts, [4])

    return {
        "step": lambda o: WarmupRestarts(o, 5, 0.001, 0.1, 2),
        "noam": lambda o: Noam(o, 3),
        "present": lambda o: FromThePresent(o),
        "sequence": sequence,
        "plateau": lambda o: schedules.ReduceLROnPlateau(o, patience=1),
    }


def made(lib: Any, name: str) -> tuple[Any, Any]:
    p, q = (lib.nn.Parameter(lib.zeros(1)) for _ in range(2))
    optimizer = lib.optim.SGD([{"params": [p]}, {"params": [q], "lr": 0.05}], lr=0.1)
    return optimizer, classes(lib)[name](optimizer)


def rates(optimizer: Any, schedule: Any, steps: int) -> list[list[float]]:
    found = []
    for _ in range(steps):
        optimizer.step()
        schedule.step(*[1.0] * ("Plateau" in type(schedule).__name__))
        found.append([group["lr"] for group in optimizer.param_groups])
    return found


@pytest.mark.parametrize("name", classes(fnn))
def test_rates_are_pytorchs(name: str) -> None:
    torch = pytest.importorskip("torch")
    (ours, schedule), (theirs, twin) = made(fnn, name), made(torch, name)
    assert [group["lr"] for group in ours.param_groups] == pytest.approx([g["lr"] for g in theirs.param_groups])
    for mine, yours in zip(rates(ours, schedule, 9), rates(theirs, twin, 9), strict=True):
        assert mine == pytest.approx(yours)
    if name != "step":  # whose step says nothing of it
        assert schedule._last_lr == pytest.approx(twin._last_lr)
    assert getattr(schedule, "_step_count", None) == getattr(twin, "_step_count", None) or name == "sequence"


@pytest.mark.parametrize("name", ["step", "noam", "present"])
def test_training_goes_on_where_it_stood(name: str) -> None:
    optimizer, schedule = made(fnn, name)
    rates(optimizer, schedule, 7)
    kept = optimizer.state_dict(), schedule.state_dict()
    resumed, again = made(fnn, name)
    resumed.load_state_dict(kept[0])
    again.load_state_dict(kept[1])
    assert rates(resumed, again, 6) == rates(optimizer, schedule, 6)


def test_a_schedule_without_rates_says_so() -> None:
    optimizer = fnn.optim.SGD([fnn.nn.Parameter(fnn.zeros(1))], lr=0.1)
    with pytest.raises(NotImplementedError, match=r"expected a get_lr\(\)"):
        fnn.optim.lr_scheduler.LRScheduler(optimizer)
