"""lgamma, digamma and their derivatives beside factorials, closed forms of Abramowitz and Stegun, and PyTorch."""

from __future__ import annotations

import math

import numpy as np
import pytest

import fastnn as fnn
from fastnn import nn
from fastnn.backends.reference import gamma_draws
from fastnn.backends.reference.gamma import lgamma, polygamma

RNG = np.random.default_rng(6)
POSITIVE = np.concatenate([RNG.uniform(0, 3, 200), RNG.uniform(2, 30, 200), 10 ** RNG.uniform(-8, 8, 100)])
EULER = 0.57721566490153286


def test_lgamma_of_integers_and_halves() -> None:
    n = np.arange(1, 30)
    np.testing.assert_allclose(lgamma(n), [math.log(math.factorial(k - 1)) for k in n], rtol=1e-14, atol=1e-15)
    halves = [math.log(math.sqrt(math.pi) * factor) for factor in (1, 1 / 2, 3 / 4, 2)]
    np.testing.assert_allclose(lgamma(np.array([0.5, 1.5, 2.5, -0.5])), halves, rtol=1e-14)


def test_lgamma_keeps_its_digits_around_its_zeros() -> None:
    """log Γ(1 + z) = -γz + π²z²/12 - ..., log Γ(2 + z) = (1 - γ)z + ..."""
    z = np.array([1e-9, -1e-7])
    away = (1 + z) - 1  # what is left of z
    np.testing.assert_allclose(lgamma(1 + z), -EULER * away + math.pi**2 / 12 * away**2, rtol=1e-13)
    away = (2 + z) - 2
    np.testing.assert_allclose(lgamma(2 + z), (1 - EULER) * away + (math.pi**2 / 12 - 0.5) * away**2, rtol=1e-13)


def test_polygamma_by_closed_forms() -> None:
    """A&S 6.3.2-3, 6.4.2, 6.4.4, and the recurrence 6.4.6."""
    one, half = np.array(1.0), np.array(0.5)
    np.testing.assert_allclose(polygamma(0, one), -EULER, rtol=1e-14)
    np.testing.assert_allclose(polygamma(0, half), -EULER - 2 * math.log(2), rtol=1e-14)
    np.testing.assert_allclose(polygamma(1, one), math.pi**2 / 6, rtol=1e-14)
    np.testing.assert_allclose(polygamma(1, half), math.pi**2 / 2, rtol=1e-14)
    np.testing.assert_allclose(polygamma(3, one), math.pi**4 / 15, rtol=1e-14)
    for n in range(6):
        x = RNG.uniform(0.5, 20, 50)
        step = (-1) ** n * math.factorial(n) * x ** (-n - 1.0)
        np.testing.assert_allclose(polygamma(n, x) + step, polygamma(n, x + 1), rtol=0, atol=1e-12 * np.abs(step).max())


def test_values_are_torchs() -> None:
    torch = pytest.importorskip("torch")
    x = np.concatenate([POSITIVE, -RNG.uniform(0, 20, 100), [0.0, -0.0, -1.0, -2.0, math.inf, math.nan]])
    np.testing.assert_allclose(fnn.lgamma(x).numpy(), torch.lgamma(torch.tensor(x)).numpy(), rtol=1e-12, atol=1e-13)
    np.testing.assert_allclose(fnn.digamma(x).numpy(), torch.digamma(torch.tensor(x)).numpy(), rtol=1e-12, atol=1e-13)
    x = x[np.isfinite(x) & (x != np.rint(x))]  # torch's trigamma is good to 5e-10
    np.testing.assert_allclose(polygamma(1, x), torch.polygamma(1, torch.tensor(x)).numpy(), rtol=1e-9)


def test_derivatives_of_any_order() -> None:
    x = fnn.tensor([0.3, 1.5, 4.0], dtype=fnn.float64, requires_grad=True)
    assert fnn.gradgradcheck(lambda x: x.lgamma().sum(), (x,))
    assert fnn.gradgradcheck(lambda x: x.digamma().sum(), (x,))


def test_in_a_compiled_step() -> None:
    fnn.manual_seed(0)
    model, x = nn.Sequential(nn.Linear(3, 2), nn.Softplus()), RNG.normal(size=(4, 3)).astype(np.float32)

    def loss_of(y: fnn.Tensor, _: object) -> fnn.Tensor:
        return (y.lgamma() - y.digamma() + (y / (y + 1)).erfinv()).mean()

    found = fnn.compile(model, loss_of)(x, x)
    gradient = np.array(model[0].weight.grad)
    model.zero_grad()
    loss = loss_of(model(x), x)
    loss.backward()
    assert found == pytest.approx(loss.item(), rel=1e-5)
    np.testing.assert_allclose(gradient, model[0].weight.grad, rtol=1e-4, atol=1e-6)


def test_erfinv() -> None:
    """Back from erf, at the ends, PyTorch's, and by mpmath erfinv(1/2) and erfinv(1 - 2⁻⁴⁰)."""
    torch = pytest.importorskip("torch")
    x = np.concatenate([np.linspace(-0.9999, 0.9999, 101), [1e-12, -1e-300, 0.0]])
    np.testing.assert_allclose(fnn.erfinv(x).numpy(), torch.erfinv(torch.tensor(x)).numpy(), rtol=1e-12)
    np.testing.assert_allclose(fnn.erf(fnn.erfinv(x)).numpy(), x, rtol=1e-14)
    assert fnn.erfinv(fnn.tensor(0.5, dtype=fnn.float64)).item() == pytest.approx(0.4769362762044699, rel=1e-15)
    assert fnn.erfinv(fnn.tensor(1 - 2.0**-40, dtype=fnn.float64)).item() == pytest.approx(5.05125408524939, rel=1e-14)
    assert fnn.erfinv([1.0, -1.0]).tolist() == [math.inf, -math.inf]
    assert np.isnan(fnn.erfinv([1.5, math.nan]).numpy()).all()
    assert fnn.gradgradcheck(lambda x: x.erfinv().sum(), (fnn.tensor([-0.5, 0.1], dtype=fnn.float64),))


def test_three_ways_to_a_draws_slope_meet() -> None:
    """Series, continued fraction and quantile expansion where each hands over to the next."""
    z = 1e4 + 100 * np.array([-4.0, -1.0, 0.0, 1.0, 4.0])
    alpha, logs = np.full(5, 1e4), np.log(z)
    expected = gamma_draws.log_slope(alpha, logs)  # by series below the mean and by fraction above it
    np.testing.assert_allclose(gamma_draws._by_quantile(alpha, z, logs), expected, rtol=2e-10)
    alpha = np.array([0.3, 2.0, 50.0])
    z = alpha + 3
    both = [rule(alpha, z, np.log(z)) for rule in (gamma_draws._by_series, gamma_draws._by_fraction)]
    np.testing.assert_allclose(*both, rtol=1e-12)
