"""Which rate a schedule starts from, and what becomes of a rate that is changed by hand."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import fastnn as fnn
from fastnn import nn, optim
from fastnn.errors import ArgumentError, StateError
from fastnn.optim import lr_scheduler
from fastnn.train import fit

GAMMA = 0.5


def sgd(lr: float = 0.1, groups: int = 2) -> optim.SGD:
    return optim.SGD([{"params": [nn.Parameter([0.0])], "lr": lr * (i + 1)} for i in range(groups)], lr=lr)


# each with the rate after t steps from lr0, by the formula of its documentation
SCHEDULES: dict[str, tuple[Callable[[Any], Any], Callable[[float, int], float]]] = {
    "step": (lambda o: lr_scheduler.StepLR(o, 2, GAMMA), lambda lr, t: lr * GAMMA ** (t // 2)),
    "exponential": (lambda o: lr_scheduler.ExponentialLR(o, GAMMA), lambda lr, t: lr * GAMMA**t),
    "cosine": (
        lambda o: lr_scheduler.CosineAnnealingLR(o, 10),
        lambda lr, t: lr * (1 + math.cos(math.pi * t / 10)) / 2,
    ),
    "lambda": (lambda o: lr_scheduler.LambdaLR(o, lambda t: 1 / (1 + t)), lambda lr, t: lr / (1 + t)),
}
every_schedule = pytest.mark.parametrize("name", SCHEDULES)


@every_schedule
@pytest.mark.parametrize("before", ["none", "step", "one cycle", "plateau"])
def test_a_schedule_starts_from_the_rate_that_was_set_last(name: str, before: str) -> None:
    make, rate = SCHEDULES[name]
    opt = sgd()
    if before == "step":
        first = lr_scheduler.StepLR(opt, 1)
        first.step()
    elif before == "one cycle":
        first = lr_scheduler.OneCycleLR(opt, 1.0, total_steps=4, cycle_momentum=False)
        first.step()
    elif before == "plateau":
        plateau = lr_scheduler.ReduceLROnPlateau(opt, patience=0)
        for _ in range(2):
            plateau.step(1.0)
    opt.param_groups[0]["lr"], opt.param_groups[1]["lr"] = 0.5, 0.7
    schedule = make(opt)
    for t in range(5):
        np.testing.assert_allclose(schedule.get_last_lr(), [rate(0.5, t), rate(0.7, t)], rtol=1e-12)
        schedule.step()


@every_schedule
def test_a_rate_changed_under_way_scales_what_follows(name: str) -> None:
    make, rate = SCHEDULES[name]
    opt = sgd()
    schedule = make(opt)
    for _ in range(3):
        schedule.step()
    opt.param_groups[0]["lr"] = 7.0
    if name == "lambda":  # is a formula of the first rate alone, as in PyTorch
        schedule.step()
        np.testing.assert_allclose(schedule.get_last_lr(), [rate(0.1, 4), rate(0.2, 4)], rtol=1e-12)
        return
    for t in range(4, 8):
        schedule.step()
        expected = [7.0 * rate(0.1, t) / rate(0.1, 3), rate(0.2, t)]
        np.testing.assert_allclose(schedule.get_last_lr(), expected, rtol=1e-12)
    opt.param_groups[0]["lr"] = 0.0  # frozen for a while
    schedule.step()
    assert schedule.get_last_lr()[0] == 0
    opt.param_groups[0]["lr"] = 3.0
    schedule.step()
    np.testing.assert_allclose(schedule.get_last_lr()[0], 3.0 * rate(0.1, 9) / rate(0.1, 8), rtol=1e-12)


@pytest.mark.parametrize(
    "kind", ["StepLR", "ExponentialLR", "CosineAnnealingLR", "LambdaLR", "CyclicLR", "CosineAnnealingWarmRestarts"]
)
def test_a_rate_changed_under_way_counts_as_in_torch(kind: str) -> None:
    """PyTorch's schedules that go on from the present rate, and those that set it anew."""
    torch = pytest.importorskip("torch")
    options = {
        "StepLR": {"step_size": 2},
        "ExponentialLR": {"gamma": 0.9},
        "CosineAnnealingLR": {"T_max": 20},
        "LambdaLR": {"lr_lambda": lambda t: 1 / (1 + t)},
        "CyclicLR": {"base_lr": 0.1, "max_lr": 0.3, "step_size_up": 3, "cycle_momentum": False},
        "CosineAnnealingWarmRestarts": {"T_0": 3},
    }[kind]
    own, other = sgd(groups=1), torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.1)
    schedule, twin = (
        getattr(lr_scheduler, kind)(own, **options),
        getattr(torch.optim.lr_scheduler, kind)(other, **options),
    )
    for t in range(10):
        if t == 4:
            own.param_groups[0]["lr"] = other.param_groups[0]["lr"] = 0.5
        other.step()
        schedule.step()
        twin.step()
        np.testing.assert_allclose(schedule.get_last_lr(), twin.get_last_lr(), rtol=1e-9)


ALL: dict[str, Callable[[Any], Any]] = {
    **{name: make for name, (make, _) in SCHEDULES.items()},
    "one cycle": lambda o: lr_scheduler.OneCycleLR(o, 1.0, total_steps=30, cycle_momentum=False),
}


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("order", ["optimiser first", "schedule first", "schedule made last"])
@pytest.mark.parametrize("by_hand", [False, True])
def test_a_resumed_schedule_has_the_same_rates_in_every_order(name: str, order: str, by_hand: bool) -> None:
    first, second = sgd(), sgd()
    straight = ALL[name](first)
    for _ in range(7):
        straight.step()
    if by_hand:
        first.param_groups[0]["lr"] = 0.3
    kept = straight.state_dict(), first.state_dict()
    if order == "schedule made last":
        second.load_state_dict(kept[1])
        resumed = ALL[name](second)
        resumed.load_state_dict(kept[0])
    else:
        resumed = ALL[name](second)
        for i in (1, 0) if order == "optimiser first" else (0, 1):
            (resumed, second)[i].load_state_dict(kept[i])
    for _ in range(10):
        assert resumed.get_last_lr() == straight.get_last_lr()
        straight.step()
        resumed.step()


def test_a_state_from_before_hand_set_rates_were_followed_can_be_loaded() -> None:
    opt = sgd()
    schedule = lr_scheduler.ExponentialLR(opt, GAMMA)
    schedule.load_state_dict({"base_lrs": [0.1, 0.2], "last_epoch": 3})
    assert schedule.get_last_lr() == [0.1 * GAMMA**3, 0.2 * GAMMA**3]


def test_groups_that_do_not_fit_are_refused() -> None:
    opt = sgd()
    schedule = lr_scheduler.StepLR(opt, 1)
    opt.add_param_group({"params": [nn.Parameter([0.0])]})
    with pytest.raises(ArgumentError, match="2 groups, as when the schedule was made, got 3"):
        schedule.step()
    with pytest.raises(StateError, match="expected 3 base_lrs, got 2"):
        lr_scheduler.StepLR(opt, 1).load_state_dict({"base_lrs": [1, 1], "last_epoch": 0})


def test_fit_trains_at_the_rate_that_was_set_last() -> None:
    """Two trainings with one optimiser, as one tunes by hand: the second one's history shows the second rate."""
    rng = np.random.default_rng(0)
    data = rng.normal(size=(8, 3)).astype(np.float32), np.arange(8) % 2
    model = nn.Linear(3, 2)
    opt = optim.SGD(model.parameters(), lr=0.1)
    fit(model, data, optimizer=opt, scheduler=lr_scheduler.StepLR(opt, 1), epochs=3, verbose=False)
    opt.param_groups[0]["lr"] = 0.05
    history = fit(model, data, optimizer=opt, scheduler=lr_scheduler.StepLR(opt, 1), epochs=2, verbose=False)
    np.testing.assert_allclose(history["lr"], [0.05, 0.005], rtol=1e-12)


FORMULAS: dict[str, Any] = {
    "StepLR": (2, 0.5), "MultiStepLR": ([1, 4], 0.1), "ExponentialLR": (0.8,), "CosineAnnealingLR": (11, 0.01),
    "LambdaLR": (lambda t: 1 / (1 + t),), "LinearLR": (0.2, 1.0, 5), "ConstantLR": (0.5, 3), "PolynomialLR": (6, 2.0),
    "MultiplicativeLR": (lambda t: 0.9,), "CyclicLR": (0.1, 0.4, 3), "CosineAnnealingWarmRestarts": (3, 2),
    "OneCycleLR": (0.5, 12),
}  # fmt: skip


@pytest.mark.parametrize("name", FORMULAS)
def test_schedules_go_on_and_step_to_an_epoch_as_pytorchs(name: str) -> None:
    """last_epoch= with an optimiser that was loaded, or whose groups say initial_lr; step(epoch)."""
    torch = pytest.importorskip("torch")
    rates: dict[Any, list[float]] = {}
    for library in (torch, fnn):
        schedules, found = library.optim.lr_scheduler, rates.setdefault(library, [])

        def made(groups: Any, library: Any = library) -> Any:
            return library.optim.SGD(groups, lr=0.3, momentum=0.9)

        def parameter(library: Any = library) -> Any:
            return library.nn.Parameter(library.zeros(1))

        def walk(schedule: Any, *epochs: float, found: list[float] = found) -> None:
            for at in epochs:
                schedule.optimizer.step()
                schedule.step(*([at] if at else []))
                found += schedule.get_last_lr()

        first = made([parameter()])
        schedule = getattr(schedules, name)(first, *FORMULAS[name])
        walk(schedule, 0, 0, 0)
        again = made([parameter()])
        again.load_state_dict(first.state_dict())
        schedule = getattr(schedules, name)(again, *FORMULAS[name], last_epoch=3)
        found += [*schedule.get_last_lr(), schedule.last_epoch]
        walk(schedule, 0, 0)
        again.param_groups[0]["lr"] *= 0.7
        walk(schedule, 0, 0)
        if name != "MultiplicativeLR":  # which has no formula there
            walk(schedule, 9, 4)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # PyTorch calls step(epoch) old
            fresh = made([{"params": [parameter()], "initial_lr": 0.2, "lr": 0.1, "max_lr": 0.5, "min_lr": 0.1,
                           "base_momentum": 0.85, "max_momentum": 0.95}])  # fmt: skip
            if name != "OneCycleLR":  # which reads more of the group there
                walk(getattr(schedules, name)(fresh, *FORMULAS[name], last_epoch=1), 0, 0)
        with pytest.raises((KeyError, ArgumentError), match="initial_lr"):
            getattr(schedules, name)(made([parameter()]), *FORMULAS[name], last_epoch=1)
    assert rates[fnn] == pytest.approx(rates[torch], rel=1e-9)


PARTNERS: dict[str, Any] = {
    **{name: given for name, given in FORMULAS.items() if name not in ("CyclicLR", "OneCycleLR")},  # who bring rates
    "SWALR": (0.05, 4), "ReduceLROnPlateau": ("min", 0.5, 1), "PolynomialLR": (9, 2.0),
}  # fmt: skip


@pytest.mark.parametrize("second", PARTNERS)
@pytest.mark.parametrize("first", PARTNERS)
@pytest.mark.parametrize("later", [0, 3])
def test_schedules_of_one_optimiser_multiply_as_pytorchs(first: str, second: str, later: int) -> None:
    """Stepped in turn, as PyTorch's documentation shows it; the second may be made when the first has gone on."""
    torch = pytest.importorskip("torch")
    rates: dict[Any, list[float]] = {}
    for library in (torch, fnn):
        found = rates.setdefault(library, [])
        opt = library.optim.SGD([library.nn.Parameter(library.zeros(1))], lr=0.3, momentum=0.9)
        places = library.optim.lr_scheduler, library.optim.swa_utils
        schedules: list[Any] = []
        for t in range(8):
            for name in [first] * (t == 0) + [second] * (t == later):
                kind = getattr(places[name == "SWALR"], name)
                schedules.append(kind(opt, *PARTNERS[name]))
            found.append(opt.param_groups[0]["lr"])
            opt.step()
            for schedule in schedules:
                schedule.step(*([1.0] if type(schedule).__name__ == "ReduceLROnPlateau" else []))
                found += [opt.param_groups[0]["lr"], *schedule.get_last_lr(), *schedule._last_lr]
    assert rates[fnn] == pytest.approx(rates[torch], rel=1e-9, abs=1e-15)


def test_warm_restarts_resume_between_two_epochs() -> None:
    """After step(epoch + batch / batches)."""
    first, second = sgd(), sgd()
    straight, resumed = (lr_scheduler.CosineAnnealingWarmRestarts(opt, 3) for opt in (first, second))
    straight.step(1.75)
    resumed.load_state_dict(straight.state_dict())
    for schedule in (straight, resumed):
        np.testing.assert_allclose(schedule.get_last_lr()[0], 0.1 * (1 + math.cos(math.pi * 1.75 / 3)) / 2, rtol=1e-12)
        schedule.step(2.5)
    assert straight.get_last_lr() == resumed.get_last_lr()
