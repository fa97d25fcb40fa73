"""Initialisers: distributions by their moments, gains and fans by hand and by PyTorch, seeds."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import fastnn as fnn
from fastnn import init, nn
from fastnn.errors import ArgumentError, ShapeError

SHAPE = (60, 40, 3, 5)  # fan_in 600, fan_out 900


def filled(function: Any, *args: Any, **options: Any) -> np.ndarray:
    fnn.manual_seed(11)
    weight = nn.Parameter(np.empty(SHAPE, np.float32))
    assert function(weight, *args, **options) is weight
    return weight.data


@pytest.mark.parametrize(
    ("values", "bound"),
    [
        (lambda: filled(init.uniform_, -2, 2), 2),
        (lambda: filled(init.xavier_uniform_), (6 / 1500) ** 0.5),
        (lambda: filled(init.xavier_uniform_, gain=3), 3 * (6 / 1500) ** 0.5),
        (lambda: filled(init.kaiming_uniform_), (6 / 600) ** 0.5),
        (lambda: filled(init.kaiming_uniform_, mode="fan_out", nonlinearity="relu"), (6 / 900) ** 0.5),
        (lambda: filled(init.kaiming_uniform_, a=5**0.5), (1 / 600) ** 0.5),
    ],
)
def test_uniform(values: Any, bound: float) -> None:
    """Within the bound, up to the bound, with the uniform distribution's mean and deviation."""
    w = values()
    assert np.abs(w).max() <= bound * (1 + 1e-6)
    assert np.abs(w).max() > 0.999 * bound
    assert w.mean() == pytest.approx(0, abs=0.01 * bound)
    assert w.std() == pytest.approx(bound / 3**0.5, rel=0.01)


@pytest.mark.parametrize(
    ("values", "mean", "std"),
    [
        (lambda: filled(init.normal_, 1, 0.5), 1, 0.5),
        (lambda: filled(init.xavier_normal_), 0, (2 / 1500) ** 0.5),
        (lambda: filled(init.kaiming_normal_, nonlinearity="relu"), 0, (2 / 600) ** 0.5),
        (lambda: filled(init.kaiming_normal_, a=1.0, mode="fan_out"), 0, (1 / 900) ** 0.5),
    ],
)
def test_normal(values: Any, mean: float, std: float) -> None:
    """Mean, deviation, and the share within one deviation."""
    w = values()
    assert w.mean() == pytest.approx(mean, abs=0.02 * std)
    assert w.std() == pytest.approx(std, rel=0.01)
    assert (np.abs(w - mean) < std).mean() == pytest.approx(0.6827, abs=0.01)


def test_constants() -> None:
    assert (filled(init.constant_, 2.5) == 2.5).all()
    assert not filled(init.zeros_).any()
    assert (filled(init.ones_) == 1).all()


def test_filled_in_place_in_any_type() -> None:
    array = np.empty((3, 4))
    assert init.xavier_uniform_(array) is array
    weight = nn.Linear(4, 3).double().weight
    kept = weight.numpy()
    init.kaiming_normal_(weight)
    assert weight.numpy() is kept
    assert kept.dtype == np.float64


@pytest.mark.parametrize("name", ["linear", "conv2d", "sigmoid", "tanh", "relu", "leaky_relu", "selu"])
def test_gains_are_torchs(name: str) -> None:
    torch = pytest.importorskip("torch")
    assert init.calculate_gain(name) == pytest.approx(torch.nn.init.calculate_gain(name), rel=1e-12)
    assert init.calculate_gain("leaky_relu", 0.3) == pytest.approx(torch.nn.init.calculate_gain("leaky_relu", 0.3))


def test_errors() -> None:
    with pytest.raises(ArgumentError, match=r"calculate_gain: expected nonlinearity 'linear', .* got 'softplus'"):
        init.calculate_gain("softplus")
    with pytest.raises(ArgumentError, match="'fan_in' or 'fan_out', got 'fan'"):
        init.kaiming_uniform_(np.empty((2, 2)), mode="fan")
    with pytest.raises(ShapeError, match=r"at least two dimensions, got \(3,\)"):
        init.xavier_normal_(np.empty(3))
