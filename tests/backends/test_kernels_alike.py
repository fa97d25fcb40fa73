"""Gradients that are one number, as a sum's are, and sums whose terms lie side by side: quicker paths, same bits."""

from __future__ import annotations

import numpy as np
import pytest
from targets import Target

from fastnn import backends
from fastnn.backends.checks import alike, first_of, is_alike
from fastnn.backends.sums import total

RNG = np.random.default_rng(3)
ACTIVATIONS = ["relu", "leaky_relu", "elu", "sigmoid", "tanh", "gelu", "silu"]
SHAPES = [(), (1,), (1, 1), (3,), (19,), (5, 7), (1 << 14,), (3, 11003)]  # below, at and beyond a task's


def gradients(shape: tuple[int, ...]) -> list[tuple[np.ndarray, np.ndarray]]:
    """The same numbers, broadcast and written out."""
    found = [np.broadcast_to(number, shape) for number in np.float32([1, -0.37, 0, np.inf, np.nan])]
    found.append(np.broadcast_to(RNG.normal(size=shape[-1:]).astype(np.float32), shape))  # rows, but no single number
    return [(each, each.copy()) for each in found]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activations_take_one_number_as_gradient(target: Target, name: str, shape: tuple[int, ...]) -> None:
    backward = getattr(target.kernels, f"{name}_backward_input")
    kept = RNG.uniform(-0.9, 0.9, shape).astype(np.float32)
    with np.errstate(invalid="ignore"):
        for broadcast, whole in gradients(shape):
            assert backward(broadcast, kept).tobytes() == backward(whole, kept).tobytes()


@pytest.mark.parametrize("kind", [8, 9, 10, 11])
def test_activations_by_kind_take_one_number_as_gradient(target: Target, kind: int) -> None:
    for shape in SHAPES:
        x = RNG.uniform(-8, 8, shape).astype(np.float32)
        with np.errstate(invalid="ignore"):
            for broadcast, whole in gradients(shape):
                found = target.kernels.activation_backward_input(broadcast, x, kind)
                assert found.tobytes() == target.kernels.activation_backward_input(whole, x, kind).tobytes()


@pytest.mark.parametrize(
    ("shape", "axis"),
    [((131072,), 0), ((40001,), 0), ((257, 513), 1), ((513, 257), 0), ((3, 50003), 1), ((70000, 3), 0),
     ((66, 1024), 0), ((7, 9, 700), 2), ((1030, 64), 0), ((2, 17000), 1)],
)  # fmt: skip
def test_sums_of_neighbours_are_those_of_any_strides(target: Target, shape: tuple[int, ...], axis: int) -> None:
    """Terms that lie apart take the kernel's general path; columns that lie apart do, too."""
    x = (RNG.normal(size=shape) * RNG.choice([1, 1e3], size=shape)).astype(np.float32)
    for threads in (1, 2):
        backends.set_num_threads(threads)
        apart = np.zeros((*shape, 2), np.float32)[..., 0]
        apart[...] = x
        if axis == len(shape) - 1:
            assert total(x, axis).tobytes() == total(apart, axis).tobytes()
        np.testing.assert_allclose(total(x, axis), x.sum(axis, dtype=np.float64), rtol=0, atol=1e-6 * np.abs(x).sum())


def test_columns_by_whole_tiles_are_those_by_parts(target: Target) -> None:
    """Of 64 columns tiles are whole on every CPU; of 63 the last one never is."""
    for rows in (1, 63, 64, 65, 1000):
        x = RNG.normal(size=(rows, 640)).astype(np.float32)
        whole = total(x, 0)
        for first in range(0, 640, 64):
            part = total(np.ascontiguousarray(np.tile(x[:, first : first + 63], (1, 11)))[:, : 63 * 11], 0)[:63]
            assert rows * 640 < 1 << 15 or whole[first : first + 63].tobytes() == part.tobytes()


@pytest.mark.parametrize("size", [1, 5, 2048, 2049])
@pytest.mark.parametrize(("rows", "count"), [(3, 0), (1, 1), (7, 70), (300, 3)])
def test_rows_by_their_places(target: Target, rows: int, count: int, size: int) -> None:
    places, x = RNG.integers(0, size, (rows, count)), RNG.normal(size=(rows, size)).astype(np.float32)
    picked = target.kernels.pick_rows(x, places)
    assert picked.dtype == np.float32
    np.testing.assert_array_equal(picked, [[x[r, place] for place in row] for r, row in enumerate(places)])
    for values in (RNG.normal(size=places.shape).astype(np.float32), alike(np.float32(0.1)[...], places.shape)):
        expected = np.zeros((rows, size))
        for r, j in np.ndindex(*places.shape):
            expected[r, places[r, j]] += values[r, j]
        found = target.kernels.spread_rows(values, places, size)
        assert found.dtype == np.float32
        np.testing.assert_array_equal(found, expected.astype(np.float32))


@pytest.mark.parametrize("place", [-1, 4, 1 << 40])
def test_places_out_of_range_are_refused(target: Target, place: int) -> None:
    places = np.array([[0, 1], [3, place]])
    with pytest.raises(IndexError, match="from 0 to 3"):
        target.kernels.spread_rows(np.ones((2, 2), np.float32), places, 4)
    with pytest.raises(IndexError, match="from 0 to 3"):
        target.kernels.pick_rows(np.ones((2, 4), np.float32), places)


def test_alike() -> None:
    number = np.array(2.5)
    x = alike(number, (3, 4))
    np.testing.assert_array_equal(x, np.full((3, 4), 2.5))
    assert not x.flags.writeable
    assert [is_alike(each) for each in (x, x.copy(), x[:1, :1], number)] == [True, False, False, False]
    np.testing.assert_array_equal(first_of(x), number)
    assert alike(np.ones((1, 1)), (0, 2)).size == 0
