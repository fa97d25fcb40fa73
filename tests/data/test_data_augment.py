"""Stretching, slanting and the sampling of bytes; shifts, rotations and reflections are in test_data_batches."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from fastnn.data import Augment
from fastnn.errors import ArgumentError

Y, X = np.mgrid[-10:11, -10:11].astype(np.float64)
INSIDE = (abs(Y) < 6) & (abs(X) < 6)


class Fixed:
    """Stands for a generator whose uniform numbers are given, one for each call; it shifts and mirrors nothing."""

    def __init__(self, *values: float) -> None:
        self.values = list(values)

    def uniform(self, low: float, high: float, size: tuple[int, ...]) -> np.ndarray:
        value = self.values.pop(0)
        assert low <= value <= high
        return np.full(size, value)

    def integers(self, low: int, high: int, size: tuple[int, ...], endpoint: bool) -> np.ndarray:
        return np.zeros(size, np.int64)

    def random(self, size: tuple[int, ...]) -> np.ndarray:
        return np.ones(size)


def moved(ramp: np.ndarray, generator: Any, **options: float) -> np.ndarray:
    """One float32 image (H, W), moved."""
    image: np.ndarray = Augment(**options)(ramp.astype(np.float32)[None, None], generator)[0, 0]  # type: ignore[arg-type]
    return image


@pytest.mark.parametrize("factor", [0.8, 1.25])
def test_scale_stretches_about_the_centre(factor: float) -> None:
    found = moved(3 * Y + X + 50, Fixed(0.0, factor - 1), scale=0.5)
    np.testing.assert_allclose(found[INSIDE], (3 * Y + X)[INSIDE] / factor + 50, atol=1e-4)


def test_shear_moves_rows_aside_by_their_height() -> None:
    """What was at x comes to lie at x - 0.2 y: a target pixel shows what was 0.2 y further right."""
    found = moved(3 * Y + X + 50, Fixed(0.0, 0.2), shear=0.3)
    np.testing.assert_allclose(found[INSIDE], (3 * Y + X + 0.2 * Y + 50)[INSIDE], atol=1e-4)


def test_height_and_width_are_stretched_each_by_its_own() -> None:
    images = np.zeros((200, 1, 21, 21), np.float32)
    images[:] = X + 50
    across = Augment(scale=0.3)(images, np.random.default_rng(0))[:, 0, 10, 15] - 50  # 5 / factor
    images[:] = Y + 50
    down = Augment(scale=0.3)(images, np.random.default_rng(0))[:, 0, 15, 10] - 50
    for found in (across, down):
        assert (found > 5 / 1.3 - 1e-4).all()
        assert (found < 5 / 0.7 + 1e-4).all()
        assert np.std(found) > 0.5
    assert abs(np.corrcoef(across, down)[0, 1]) < 0.3


@pytest.mark.parametrize("shape", [(70, 1, 28, 28), (33, 3, 9, 14), (1, 2, 1, 5)], ids=str)
def test_bytes_are_sampled_like_floats(shape: tuple[int, ...]) -> None:
    """To 1/512 pixel and a rounding: between neighbours at most 255 apart, twice."""
    images = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    augment = Augment(shift=2, rotate=30, flip=True, scale=0.3, shear=0.2)
    as_bytes = augment(images, np.random.default_rng(1))
    as_floats = augment(images.astype(np.float32), np.random.default_rng(1))
    assert as_bytes.dtype == np.uint8
    assert abs(as_bytes - as_floats).max() <= 255 * 2 / 512 + 0.5 + 0.01
    assert abs((as_bytes - as_floats).mean()) < 0.1


def test_what_is_not_asked_for_draws_no_random_numbers() -> None:
    """So that a run with fewer movements stays what it was."""
    generator, other = np.random.default_rng(0), np.random.default_rng(0)
    images = np.zeros((4, 1, 8, 8), np.uint8)
    Augment(shift=1, rotate=10)(images, generator)
    Augment(shift=1, rotate=10, scale=0.1)(images, other)
    other_generator = np.random.default_rng(0)
    other_generator.integers(-1, 1, (2, 4, 1), endpoint=True)
    other_generator.uniform(-10, 10, (4, 1))
    other_generator.random((4, 1))
    assert generator.random() == other_generator.random() != other.random()


@pytest.mark.parametrize(
    "options", [{"scale": -0.1}, {"scale": 1.0}, {"scale": float("nan")}, {"shear": -1.0}, {"shear": float("inf")}]
)
def test_scale_and_shear_out_of_range_are_refused(options: dict[str, float]) -> None:
    with pytest.raises(ArgumentError, match="expected a scale from 0 to below 1 and a shear of at least 0, got"):
        Augment(**options)  # type: ignore[arg-type]
