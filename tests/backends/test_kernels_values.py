"""Particular values on every backend: kinks, ties, infinities, large arguments, small results, random numbers."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from kernel_checks import EPS
from targets import Target

from fastnn.backends import reference
from fastnn.backends.reference.philox import uniform24

INF, NAN = math.inf, math.nan


def f32(*values: float) -> np.ndarray:
    return np.array(values, np.float32)


def test_relu_at_its_kink(target: Target) -> None:
    x = f32(-1, -0.0, 0, 1e-45, INF, -INF, NAN)
    np.testing.assert_array_equal(target.kernels.relu_forward(x), f32(0, 0, 0, 1e-45, INF, 0, NAN))
    grad = f32(1, 2, 3, 4, 5, 6, 7)
    np.testing.assert_array_equal(target.kernels.relu_backward_input(grad, x), f32(0, 0, 0, 4, 5, 0, 0))
    for backward in (target.kernels.relu_backward_input, target.kernels.leaky_relu_backward_input):
        np.testing.assert_array_equal(backward(f32(2, NAN), f32(1, 1)), f32(2, NAN))
    np.testing.assert_array_equal(target.kernels.relu_backward_input(f32(INF, NAN), f32(-1, 0)), f32(0, 0))


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("sigmoid", [0, 0, 1, 1]),
        ("tanh", [-1, -1, 1, 1]),
        ("elu", [-1, -1, 1000, INF]),
        ("leaky_relu", [-INF, -10, 1000, INF]),
    ],
)
def test_large_arguments(target: Target, name: str, expected: list[float]) -> None:
    got = getattr(target.kernels, f"{name}_forward")(f32(-INF, -1000, 1000, INF))
    np.testing.assert_allclose(got, expected, rtol=2 * EPS, atol=1e-37)


@pytest.mark.parametrize("name", ["gelu", "silu"])
def test_large_finite_arguments(target: Target, name: str) -> None:
    np.testing.assert_array_equal(getattr(target.kernels, f"{name}_forward")(f32(-1000, 0, 1000)), f32(-0.0, 0, 1000))
    slope = getattr(target.kernels, f"{name}_backward_input")(f32(1, 1, 1), f32(-1000, 0, 1000))
    np.testing.assert_array_equal(slope, f32(0, 0.5, 1))


def test_the_slope_of_mish_does_not_grow_with_its_input(target: Target) -> None:
    """It was 1e-17 · x beside 1: 1.7e21 at 1e38, without a word."""
    slope = target.kernels.activation_backward_input(f32(1, 1, 1, 1, 1), f32(-1e30, 30, 1e18, 3e38, INF), 11)
    np.testing.assert_allclose(slope, f32(0, 1, 1, 1, 1), rtol=2 * EPS)


@pytest.mark.parametrize("name", ["sigmoid", "tanh", "elu", "silu", "softmax"])
def test_small_results_are_relatively_exact(target: Target, name: str) -> None:
    """Over the whole range without underflow, near 0 (where tanh and elu are x) and far from it."""
    x = np.concatenate([np.linspace(-60, 20, 4001), np.logspace(-30, -1, 300), -np.logspace(-30, -1, 300)])
    x = x.astype(np.float32).reshape(1, -1)
    forward = f"{name}_forward"
    expected = getattr(reference, forward)(x.astype(np.float64))
    np.testing.assert_allclose(
        getattr(target.kernels, forward)(x), expected, rtol=80 * EPS if name == "softmax" else 8 * EPS
    )


@pytest.mark.parametrize("x", [[[1e4, 0, -1e4]], [[-1e30, 0, 1]], [[1e38, 1e38, -1e38]]])
def test_softmax_of_large_logits(target: Target, x: list[list[float]]) -> None:
    logits = np.array(x, np.float32)
    expected = reference.softmax_forward(logits.astype(np.float64))
    np.testing.assert_allclose(target.kernels.softmax_forward(logits), expected, rtol=4 * EPS)
    log = reference.log_softmax_forward(logits.astype(np.float64))
    np.testing.assert_allclose(target.kernels.log_softmax_forward(logits), log, rtol=4 * EPS)
    loss, grad = target.kernels.softmax_cross_entropy(logits, np.array([1]))
    np.testing.assert_allclose(loss, -log[:, 1], rtol=4 * EPS)
    np.testing.assert_allclose(grad, expected - [[0, 1, 0]], rtol=4 * EPS)


def test_minus_infinity_is_a_masked_class(target: Target) -> None:
    logits = np.array([[-INF, 1, 1]], np.float32)
    np.testing.assert_allclose(target.kernels.softmax_forward(logits), [[0, 0.5, 0.5]], rtol=2 * EPS)
    loss, grad = target.kernels.softmax_cross_entropy(logits, np.array([2]))
    np.testing.assert_allclose(loss, [math.log(2)], rtol=2 * EPS)
    np.testing.assert_allclose(grad, [[0, 0.5, -0.5]], rtol=2 * EPS)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_infinite_logits_give_nan(target: Target) -> None:
    logits = np.array([[INF, 1, 1], [1, 2, 3]], np.float32)
    loss, grad = target.kernels.softmax_cross_entropy(logits, np.array([0, 1]))
    assert np.isnan(loss[0])
    assert np.isnan(grad[0, 0])
    assert np.all(np.isfinite(loss[1]))
    assert np.all(np.isfinite(grad[1]))


def test_bce_of_large_logits(target: Target) -> None:
    loss, grad = target.kernels.bce_with_logits(f32(1e4, -1e4, 1e4, -1e4), f32(0, 0, 1, 1))
    np.testing.assert_array_equal(loss, f32(1e4, 0, 0, 1e4))
    np.testing.assert_array_equal(grad, f32(1, 0, 0, -1))


def test_statistics_far_from_zero(target: Target) -> None:
    """A variance that a difference of squares would lose."""
    x = (1000 + np.random.default_rng(4).standard_normal((32, 3, 24, 24))).astype(np.float32)
    mean, var = target.kernels.batch_norm_statistics(x)
    exact = x.astype(np.float64)
    np.testing.assert_allclose(mean, exact.mean(axis=(0, 2, 3)), rtol=2 * EPS)
    np.testing.assert_allclose(var, exact.var(axis=(0, 2, 3)), rtol=1e-5)


def test_bce_of_sure_and_right_predictions(target: Target) -> None:
    """log(1 + exp(-|z|)) is nearly exp(-|z|), and not lost beside the 1."""
    z = np.linspace(-80, -1, 500).astype(np.float32)
    loss, grad = target.kernels.bce_with_logits(z, np.zeros_like(z))
    np.testing.assert_allclose(loss, np.log1p(np.exp(z.astype(np.float64))), rtol=8 * EPS)
    np.testing.assert_allclose(grad, 1 / (1 + np.exp(-z.astype(np.float64))), rtol=8 * EPS)


# ---- max-pooling -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kernel_size", "stride", "padding"),
    [((2, 2), (2, 2), (0, 0)), ((3, 3), (2, 2), (1, 1)), ((3, 2), (1, 2), (1, 1)), ((5, 5), (1, 3), (2, 0))],
)
@pytest.mark.parametrize("special", [0.0, NAN, -INF])
def test_max_pool_ties_and_nan(
    target: Target, kernel_size: tuple[int, int], stride: tuple[int, int], padding: tuple[int, int], special: float
) -> None:
    """Few different values, so that most windows have ties: the first maximum in scan order, or the first NaN."""
    x = np.random.default_rng(1).integers(-1, 2, (2, 5, 12, 19)).astype(np.float32)
    x[np.random.default_rng(2).random(x.shape) < 0.2] = special
    x[0, 0] = special
    y, argmax = target.kernels.max_pool2d_forward(x, kernel_size, stride, padding)
    for n, c, i, j in np.ndindex(y.shape):
        best, place = None, -1
        for u in range(max(i * stride[0] - padding[0], 0), min(i * stride[0] - padding[0] + kernel_size[0], 12)):
            for v in range(max(j * stride[1] - padding[1], 0), min(j * stride[1] - padding[1] + kernel_size[1], 19)):
                value = float(x[n, c, u, v])
                if best is None or value > best or (math.isnan(value) and not math.isnan(best)):
                    best, place = value, u * 19 + v
        assert argmax[n, c, i, j] == place
        np.testing.assert_equal(float(y[n, c, i, j]), best)


# ---- dropout ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("p", [0.0, 0.1, 0.5, 1 / 3, 1.0, 2.0**-24, 1 - 2.0**-25])
@pytest.mark.parametrize(("seed", "stream"), [(0, 0), (2**64 - 1, 2**64 - 1), (2**32, 1), (5, 2**32)])
def test_dropout_keeps_the_same_everywhere(target: Target, p: float, seed: int, stream: int) -> None:
    """Bit for bit what the docstring says, in exact arithmetic."""
    size = 4099
    u = [Fraction(float(value)) for value in uniform24(size, seed, stream)]
    kept = np.array([value >= Fraction(p) for value in u])
    x = np.random.default_rng(0).standard_normal(size, np.float32)
    scale = np.float32(1 / (1 - p)) if p < 1 else np.float32(0)
    got = target.kernels.dropout_forward(x, p, seed, stream)
    np.testing.assert_array_equal(got, np.where(kept, x * scale, np.float32(0)))


@pytest.mark.parametrize("above", [0.0, 2.0**-30, -(2.0**-30)])
def test_only_numbers_below_p_are_dropped(target: Target, above: float) -> None:
    """p is one of the numbers drawn, or beside it by less than their spacing."""
    u = uniform24(16, 3, 4)
    p = float(u[6]) + above
    got = target.kernels.dropout_forward(np.ones(16, np.float32), p, 3, 4)
    np.testing.assert_array_equal(got != 0, u >= p)


def test_dropped_values_are_zero_even_if_not_finite(target: Target) -> None:
    x = np.full(64, NAN, np.float32)
    kept = uniform24(64, 1, 2) >= 0.5
    got = target.kernels.dropout_forward(x, 0.5, 1, 2)
    np.testing.assert_array_equal(np.isnan(got), kept)
    np.testing.assert_array_equal(got[~kept], 0)
