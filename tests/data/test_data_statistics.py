"""Mean and deviation of a data set's channels, constant ones and huge numbers among them, against exact fractions."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from fastnn import nn
from fastnn.data import Dataset


def statistics(channel: np.ndarray) -> tuple[float, float]:
    images = channel.reshape(len(channel), 1, 1, -1)
    (mean,), (std,) = Dataset(images, np.zeros(len(images), int)).statistics()
    return mean, std


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("value", [0.0, 0.1, -0.3, 1 / 3, 1e-4, 123.456])
@pytest.mark.parametrize("count", [1, 3, 10, 4097])
def test_a_constant_channel_has_deviation_1(dtype: type, value: float, count: int) -> None:
    channel = np.full((count, 7), value, dtype)
    mean, std = statistics(channel)
    assert mean == pytest.approx(float(dtype(value)), rel=1e-15)
    assert std == 1.0


@pytest.mark.parametrize(
    ("dtype", "value"), [(np.float32, 1e30), (np.float32, 3e38), (np.float64, 1e200), (np.float64, 1.7e308)]
)
def test_constants_whose_squares_overflow(dtype: type, value: float) -> None:
    assert statistics(np.full((100, 3), value, dtype)) == (pytest.approx(float(dtype(value)), rel=1e-15), 1.0)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_numbers_that_differ_by_their_rounding_alone_are_constant(dtype: type) -> None:
    """As the same brightness may come out of a conversion."""
    channel = np.full((50, 4), 0.1, dtype)
    channel[::2] = np.nextafter(channel[::2], dtype(1))
    mean, std = statistics(channel)
    assert mean == pytest.approx(0.1, rel=1e-6)
    assert std == 1.0


@pytest.mark.parametrize(
    ("dtype", "offset", "scale"),
    [
        (np.float32, 0, 1), (np.float32, 1000, 1), (np.float64, 1e8, 1), (np.float32, 0, 1e30), (np.float64, 0, 1e250),
        (np.float32, 0, 1e-38),
    ],
)  # fmt: skip
def test_deviations_in_exact_arithmetic(dtype: type, offset: float, scale: float) -> None:
    channel = (offset + scale * np.random.default_rng(0).normal(size=(60, 5))).astype(dtype)
    exact = [Fraction(float(value)) for value in channel.ravel()]
    mean = sum(exact) / len(exact)
    variance = sum((value - mean) ** 2 for value in exact) / len(exact)
    got_mean, got_std = statistics(channel)
    assert abs(Fraction(got_mean) - mean) <= Fraction(1, 10**12) * max(abs(value) for value in exact)
    assert abs(Fraction(got_std) ** 2 / variance - 1) < Fraction(1, 10**9)


def test_a_channel_that_never_changes_passes_normalize_unharmed() -> None:
    images = np.full((10, 2, 3, 3), 0.1)
    images[:, 1] = np.random.default_rng(0).random((10, 3, 3))
    data = Dataset(images, np.zeros(10, int))
    y = nn.Normalize(*data.statistics())(images.astype(np.float32)).numpy()
    assert np.abs(y[:, 0]).max() < 1e-6
    np.testing.assert_allclose(y[:, 1].std(), 1, rtol=1e-5)
