"""Schedules made of others: PyTorch's numbers, by hand, state, and errors."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from fastnn import nn, optim
from fastnn.errors import ArgumentError, StateError
from fastnn.optim import lr_scheduler


def _sgd() -> optim.SGD:
    groups = [{"params": [nn.Parameter([0.0])]}, {"params": [nn.Parameter([0.0])], "lr": 0.05}]
    return optim.SGD(groups, lr=0.2, momentum=0.9)


COMBINED: dict[str, Callable[[Any, Any], Any]] = {
    "warm-up": lambda s, opt: s.SequentialLR(
        opt, [s.LinearLR(opt, 0.1, total_iters=20), s.CosineAnnealingLR(opt, 100, 1e-4)], [20]
    ),
    "three": lambda s, opt: s.SequentialLR(
        opt, [s.ConstantLR(opt, 0.1, 5), s.ExponentialLR(opt, 0.98), s.StepLR(opt, 10, 0.5)], milestones=[7, 60]
    ),
    "chained": lambda s, opt: s.ChainedScheduler([s.ConstantLR(opt, 0.1, 25), s.ExponentialLR(opt, 0.97)]),
}


@pytest.mark.parametrize("name", COMBINED)
def test_combined_schedules_are_torchs(name: str) -> None:
    torch = pytest.importorskip("torch")
    own = _sgd()
    other = torch.optim.SGD(
        [{"params": [torch.nn.Parameter(torch.zeros(1))], "lr": group["lr"]} for group in own.param_groups]
    )
    schedule, twin = COMBINED[name](lr_scheduler, own), COMBINED[name](torch.optim.lr_scheduler, other)
    for _ in range(130):
        np.testing.assert_allclose(schedule.get_last_lr(), twin.get_last_lr(), rtol=1e-9, atol=1e-15)
        other.step()
        schedule.step()
        twin.step()
    resumed = COMBINED[name](lr_scheduler, _sgd())
    resumed.load_state_dict(schedule.state_dict())
    schedule.step()
    resumed.step()
    assert resumed.get_last_lr() == schedule.get_last_lr()


@pytest.mark.parametrize("strategy", ["cos", "linear"])
def test_swalr_is_torchs(strategy: str) -> None:
    torch = pytest.importorskip("torch")
    own = optim.SGD([nn.Parameter([0.0])], lr=0.5)
    other = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.5)
    schedule = lr_scheduler.SWALR(own, 0.05, 8, strategy)
    twin = torch.optim.swa_utils.SWALR(other, 0.05, 8, strategy)
    for _ in range(14):
        np.testing.assert_allclose(schedule.get_last_lr(), twin.get_last_lr(), rtol=1e-9)
        other.step()
        schedule.step()
        twin.step()


def test_warm_up_by_hand() -> None:
    opt = optim.SGD([nn.Parameter([0.0])], lr=1.0)
    parts = [lr_scheduler.LinearLR(opt, 0.5, total_iters=2), lr_scheduler.MultiStepLR(opt, [1, 2], 0.1)]
    schedule = lr_scheduler.SequentialLR(opt, parts, [2])
    rates = []
    for _ in range(6):
        rates += schedule.get_last_lr()
        schedule.step()
    assert rates == pytest.approx([0.5, 0.75, 1.0, 0.1, 0.01, 0.01])


def test_restarts_by_fractions_of_epochs() -> None:
    torch = pytest.importorskip("torch")
    own = optim.SGD([nn.Parameter([0.0])], lr=0.5)
    other = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.5)
    schedule = lr_scheduler.CosineAnnealingWarmRestarts(own, 2, 2)
    twin = torch.optim.lr_scheduler.CosineAnnealingWarmRestarts(other, 2, 2)
    for t in np.arange(0, 9, 0.25):
        schedule.step(float(t))
        twin.step(float(t))
        np.testing.assert_allclose(schedule.get_last_lr(), twin.get_last_lr(), rtol=1e-9)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda opt: lr_scheduler.SequentialLR(opt, [lr_scheduler.StepLR(opt, 1)], [3]), "0 rising milestones"),
        (lambda opt: lr_scheduler.SequentialLR(opt, [lr_scheduler.ReduceLROnPlateau(opt)], []), "without a metric"),
        (lambda opt: lr_scheduler.ChainedScheduler([]), "without a metric, got none"),
        (lambda opt: lr_scheduler.SequentialLR(opt, [lr_scheduler.StepLR(_sgd(), 1)], []), "of one optimiser"),
        (lambda opt: lr_scheduler.CyclicLR(opt, 0.1, 1.0, mode="square"), "'triangular'"),
        (lambda opt: lr_scheduler.LinearLR(opt, 0.0), "start_factor above 0"),
        (lambda opt: lr_scheduler.SWALR(opt, 0.1, anneal_strategy="step"), "'cos' or 'linear', got 'step'"),
    ],
)
def test_schedules_that_make_no_sense(make: Callable[[Any], Any], message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        make(_sgd())


def test_a_chain_goes_no_higher_than_its_one_cycle() -> None:
    """The rate of OneCycleLR is its own, whatever the optimiser's was: times the decay, and not 25 times as much."""
    opt = _sgd()
    cycle = lr_scheduler.OneCycleLR(opt, 1.0, total_steps=20, cycle_momentum=False)
    chain = lr_scheduler.ChainedScheduler([cycle, lr_scheduler.ExponentialLR(opt, 0.9)])
    alone = _sgd()
    expected = lr_scheduler.OneCycleLR(alone, 1.0, total_steps=20, cycle_momentum=False)
    for t in range(20):
        np.testing.assert_allclose(chain.get_last_lr(), np.array(expected.get_last_lr()) * 0.9**t, rtol=1e-12)
        chain.step()
        expected.step()


def test_a_cycle_within_others_ends_where_it_ends() -> None:
    """As by itself: its formula goes up again after its last step, where PyTorch raises an error."""
    opt = _sgd()
    cycle = lr_scheduler.OneCycleLR(opt, 1.0, total_steps=4, cycle_momentum=False)
    schedule = lr_scheduler.SequentialLR(opt, [lr_scheduler.ConstantLR(opt, 0.5), cycle], [2])
    for _ in range(6):
        schedule.step()
    with pytest.raises(ArgumentError, match="at most 4 steps"):
        schedule.step()


def _within(L: Any, opt: Any) -> Any:
    """A schedule of schedules, one of which is of others, too."""
    chain = L.ChainedScheduler([L.ConstantLR(opt, 0.5, 2), L.CosineAnnealingLR(opt, 6, 1e-3)])
    return L.SequentialLR(opt, [L.LinearLR(opt, 0.1, total_iters=2), chain, L.StepLR(opt, 2, 0.5)], [2, 5])


@pytest.mark.parametrize("at", [1, 3, 6])
@pytest.mark.parametrize("make", [_within, lambda L, opt: L.ChainedScheduler([L.CosineAnnealingLR(opt, 5, 1e-3)])])
def test_a_resumed_schedule_of_others_starts_from_the_rates_of_then(make: Callable[..., Any], at: int) -> None:
    """Whatever rate the optimiser is made with: the parts, too, go on from the one that the state knows."""
    unbroken = make(lr_scheduler, _sgd())
    for _ in range(at):
        unbroken.step()
    opt = _sgd()
    opt.param_groups[0]["lr"] = 7.0
    resumed = make(lr_scheduler, opt)
    resumed.load_state_dict(unbroken.state_dict())
    for _ in range(6):
        assert resumed.get_last_lr() == unbroken.get_last_lr()
        unbroken.step()
        resumed.step()


def test_the_state_of_other_parts_is_refused() -> None:
    one, two = (lr_scheduler.ChainedScheduler([lr_scheduler.StepLR(_o, 1)] * n) for n, _o in ((1, _sgd()), (2, _sgd())))
    with pytest.raises(StateError, match="expected the state of 2 schedules"):
        two.load_state_dict(one.state_dict())
    older = {key: value for key, value in two.state_dict().items() if key != "schedulers"}
    two.load_state_dict(older)
