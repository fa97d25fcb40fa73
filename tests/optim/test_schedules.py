"""Learning-rate schedules: their formulas, PyTorch's numbers, state, and errors."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from fastnn import nn, optim
from fastnn.errors import ArgumentError, StateError
from fastnn.optim import lr_scheduler


def _sgd(**options: Any) -> optim.SGD:
    groups = [{"params": [nn.Parameter([0.0])]}, {"params": [nn.Parameter([0.0])], "lr": 0.05}]
    return optim.SGD(groups, **{"lr": 0.2, "momentum": 0.9, **options})


def _adam() -> optim.Adam:
    return optim.Adam([nn.Parameter([0.0])], lr=0.01)


SCHEDULES: dict[str, tuple[str, dict[str, Any]]] = {
    "step": ("StepLR", {"step_size": 30, "gamma": 0.5}),
    "exponential": ("ExponentialLR", {"gamma": 0.97}),
    "cosine": ("CosineAnnealingLR", {"T_max": 120, "eta_min": 0.001}),
    "cosine-beyond": ("CosineAnnealingLR", {"T_max": 40}),
    "lambda": ("LambdaLR", {"lr_lambda": lambda epoch: 0.95**epoch}),
    "multi-step": ("MultiStepLR", {"milestones": [20, 50, 50, 120], "gamma": 0.3}),
    "constant": ("ConstantLR", {"factor": 0.25, "total_iters": 30}),
    "linear": ("LinearLR", {"start_factor": 0.1, "end_factor": 0.8, "total_iters": 60}),
    "polynomial": ("PolynomialLR", {"total_iters": 150, "power": 2.0}),
    "multiplicative": ("MultiplicativeLR", {"lr_lambda": lambda t: 1 - 1 / (t + 9)}),
    "restarts": ("CosineAnnealingWarmRestarts", {"T_0": 15, "T_mult": 2, "eta_min": 1e-3}),
    "restarts-equal": ("CosineAnnealingWarmRestarts", {"T_0": 30}),
    "cyclic": ("CyclicLR", {"base_lr": 0.01, "max_lr": [0.3, 0.1], "step_size_up": 20}),
    "cyclic-2": (
        "CyclicLR",
        {
            "base_lr": 0.01,
            "max_lr": 0.3,
            "step_size_up": 13,
            "step_size_down": 20,
            "mode": "triangular2",
            "base_momentum": 0.7,
        },
    ),
    "cyclic-exp": (
        "CyclicLR",
        {"base_lr": 0.01, "max_lr": 0.3, "step_size_up": 13, "mode": "exp_range", "gamma": 0.98},
    ),
    "cyclic-own": (
        "CyclicLR",
        {
            "base_lr": 0.01,
            "max_lr": 0.3,
            "step_size_up": 13,
            "cycle_momentum": False,
            "scale_fn": lambda t: 1 / (1 + t),
            "scale_mode": "iterations",
        },
    ),
    "one-cycle": ("OneCycleLR", {"max_lr": 0.4, "total_steps": 200}),
    "one-cycle-linear": (
        "OneCycleLR",
        {"max_lr": 0.4, "epochs": 10, "steps_per_epoch": 20, "anneal_strategy": "linear"},
    ),
    "one-cycle-options": (
        "OneCycleLR",
        {"max_lr": [0.4, 0.1], "total_steps": 200, "pct_start": 0.1, "div_factor": 10.0, "final_div_factor": 100.0},
    ),
    "one-cycle-no-rise": ("OneCycleLR", {"max_lr": 0.4, "total_steps": 200, "pct_start": 0.0}),
    "one-cycle-lr-only": ("OneCycleLR", {"max_lr": 0.4, "total_steps": 200, "cycle_momentum": False}),
}


@pytest.mark.parametrize("name", SCHEDULES)
def test_rates_are_torchs_for_200_steps(name: str) -> None:
    """Rates and momentum of both groups at every step."""
    torch = pytest.importorskip("torch")
    kind, options = SCHEDULES[name]
    own = _sgd()
    other = torch.optim.SGD(
        [{"params": [torch.nn.Parameter(torch.zeros(1))], **{k: v for k, v in group.items() if k != "params"}}
         for group in own.param_groups]
    )  # fmt: skip
    schedule = getattr(lr_scheduler, kind)(own, **options)
    twin = getattr(torch.optim.lr_scheduler, kind)(other, **options)
    for _ in range(200):
        np.testing.assert_allclose(schedule.get_last_lr(), twin.get_last_lr(), rtol=1e-9, atol=1e-15)
        ours = [group["momentum"] for group in own.param_groups]
        np.testing.assert_allclose(ours, [group["momentum"] for group in other.param_groups], rtol=1e-12)
        other.step()
        schedule.step()
        twin.step()


@pytest.mark.parametrize(
    "options",
    [
        {"patience": 3},
        {"mode": "max", "patience": 2, "threshold": 0.05},
        {"patience": 1, "cooldown": 4, "factor": 0.3, "min_lr": [1e-3, 2e-3]},
        {"threshold_mode": "abs", "threshold": 0.3, "patience": 0},
        {"mode": "max", "threshold_mode": "abs", "threshold": 0.3, "patience": 2, "eps": 1e-2},
    ],
    ids=str,
)
def test_plateau_is_torchs_for_300_steps(options: dict[str, Any]) -> None:
    """On a metric that falls, wavers and stands still, with a NaN on the way."""
    torch = pytest.importorskip("torch")
    own = _sgd()
    other = torch.optim.SGD([{"params": [torch.nn.Parameter(torch.zeros(1))], "lr": lr} for lr in (0.2, 0.05)])
    schedule = lr_scheduler.ReduceLROnPlateau(own, **options)
    twin = torch.optim.lr_scheduler.ReduceLROnPlateau(other, **options)
    metrics = np.exp(-np.arange(300) / 60) + 0.05 * np.random.default_rng(0).normal(size=300)
    metrics[40] = math.nan
    for metric in metrics:
        schedule.step(metric)
        twin.step(metric)
        np.testing.assert_allclose(schedule.get_last_lr(), [g["lr"] for g in other.param_groups], rtol=1e-12)
    assert schedule.get_last_lr()[0] < 0.2


def test_one_cycle_turns_adams_first_beta() -> None:
    opt = _adam()
    schedule = lr_scheduler.OneCycleLR(opt, max_lr=0.1, total_steps=10, base_momentum=0.8, max_momentum=0.9)
    assert opt.param_groups[0]["betas"] == (0.9, 0.999)
    for _ in range(2):
        schedule.step()
    assert opt.param_groups[0]["betas"][0] == pytest.approx(0.8)
    assert schedule.get_last_lr() == [pytest.approx(0.1)]


@pytest.mark.parametrize("name", SCHEDULES)
def test_state_dict_resumes(name: str) -> None:
    """A schedule stopped at step 17 and loaded elsewhere goes on as if nothing had been."""
    kind, options = SCHEDULES[name]
    first, second = _sgd(), _sgd()
    straight, resumed = getattr(lr_scheduler, kind)(first, **options), getattr(lr_scheduler, kind)(second, **options)
    for _ in range(17):
        straight.step()
    resumed.load_state_dict(straight.state_dict())
    second.load_state_dict(first.state_dict())
    for _ in range(10):
        straight.step()
        resumed.step()
        assert resumed.get_last_lr() == straight.get_last_lr()
        assert second.param_groups[0]["momentum"] == first.param_groups[0]["momentum"]


def test_plateau_state_dict_resumes() -> None:
    first, second = _sgd(), _sgd()
    straight, resumed = (lr_scheduler.ReduceLROnPlateau(opt, patience=4) for opt in (first, second))
    for _ in range(3):
        straight.step(1.0)
    resumed.load_state_dict(straight.state_dict())
    for _ in range(3):
        straight.step(1.0)
        resumed.step(1.0)
    assert resumed.get_last_lr() == straight.get_last_lr() == [pytest.approx(0.02), pytest.approx(0.005)]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: lr_scheduler.StepLR(_sgd(), step_size=0), "step_size"),
        (lambda: lr_scheduler.StepLR("sgd", step_size=1), "expected an optimiser, got str"),
        (lambda: lr_scheduler.CosineAnnealingLR(_sgd(), T_max=-1), "T_max"),
        (lambda: lr_scheduler.LambdaLR(_sgd(), [lambda t: 1.0]), "2 for 2 groups"),
        (lambda: lr_scheduler.OneCycleLR(_sgd(), max_lr=1.0), "total_steps"),
        (lambda: lr_scheduler.OneCycleLR(_sgd(), max_lr=[1.0], total_steps=5), "2 rates for 2 groups"),
        (lambda: lr_scheduler.OneCycleLR(_sgd(), max_lr=1.0, total_steps=5, pct_start=2), "pct_start"),
        (lambda: lr_scheduler.OneCycleLR(_sgd(), max_lr=1.0, total_steps=5, anneal_strategy="sin"), "anneal_strategy"),
        (lambda: lr_scheduler.ReduceLROnPlateau(_sgd(), mode="least"), "'min' or 'max'"),
        (lambda: lr_scheduler.ReduceLROnPlateau(_sgd(), factor=1.5), "factor below 1"),
        (lambda: lr_scheduler.ReduceLROnPlateau(_sgd(), min_lr=[0.1]), "2 values for 2 groups"),
    ],
)
def test_bad_options_give_one_clear_error(make: Callable[[], Any], message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        make()


def test_one_cycle_ends() -> None:
    schedule = lr_scheduler.OneCycleLR(_sgd(), max_lr=1.0, total_steps=3)
    for _ in range(3):
        schedule.step()
    with pytest.raises(ArgumentError, match="at most 3 steps"):
        schedule.step()


def test_foreign_state_is_refused() -> None:
    with pytest.raises(StateError, match="missing"):
        lr_scheduler.StepLR(_sgd(), 3).load_state_dict({"last_epoch": 2})
