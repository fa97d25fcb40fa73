"""Sums, moments, extrema and truth: values and gradients as PyTorch's in float64, names and options as its own."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import fastnn as fnn
from fastnn.errors import ArgumentError, FastnnError, ShapeError

RNG = np.random.default_rng(5)
IMAGES, ROWS = RNG.normal(size=(3, 4, 5)), RNG.normal(size=(4, 6))
TIES = np.array([[1.0, 3.0, 3.0, 0.0], [2.0, 2.0, 2.0, 2.0], [-1.0, 0.0, -1.0, 0.0]])
ZEROS = np.array([[1.0, 2.0, 0.0], [0.0, 3.0, 0.0], [2.0, 5.0, -1.0]])
HOLES = np.where(np.abs(ROWS) > 1.5, np.nan, ROWS)

CALLS: dict[str, tuple[Callable[..., Any], Any]] = {
    "sum": (lambda t, x: t.sum(x) + x.sum(1).sum() + t.sum(x, dim=(0, 2)).sum() + x.sum([0, -1], keepdim=True).sum(),
            IMAGES),
    "sum, axis": (lambda t, x: x.sum(axis=1, keepdims=True) + t.sum(x, axis=(1, 2), keepdims=True), IMAGES),
    "sum, dtype": (lambda t, x: x.sum(0, dtype=t.float64) * t.sum(x, dtype=t.float64), ROWS),
    "mean": (lambda t, x: t.mean(x) + x.mean(1) + t.mean(x, (0, 1), True), ROWS),
    "mean, axis": (lambda t, x: x.mean(axis=-1, keepdims=True), IMAGES),
    "prod": (lambda t, x: t.prod(x) + x.prod(1).sum() + t.prod(x, 0, keepdim=True).sum(), ROWS),
    "prod, zeros": (lambda t, x: t.prod(x, 1) + t.prod(x, 0) + x[1:].prod(), ZEROS),
    "prod, of three": (lambda t, x: x.prod(dim=1), IMAGES),
    "amax": (lambda t, x: t.amax(x, (0, 2)) + x.amax(1).sum() + t.amax(x, (0, 1, 2)), IMAGES),
    "amax, ties": (lambda t, x: t.amax(x, 1) + t.amin(x, (0,), keepdim=True).sum(), TIES),
    "amin": (lambda t, x: t.amin(x, -1) + x.amin([0, 1]).sum(), IMAGES),
    "max": (lambda t, x: t.max(x) * x.max(1).values.sum() + t.max(x, 0, True)[0] + x.max(dim=2).values.sum(), IMAGES),
    "max, ties": (lambda t, x: x.max() + t.max(x, 1).values, TIES),
    "min": (lambda t, x: t.min(x) * x.min(1)[0].sum() + t.min(x, dim=0, keepdim=True).values, IMAGES),
    "min, ties": (lambda t, x: x.min() * 2 + t.min(x, 0)[0], TIES),
    "max, two": (lambda t, x: t.max(x, x * 2 - 1) + t.min(x, other=x.flip(0) if t is not fnn else x[::-1]), ROWS),
    "aminmax": (lambda t, x: x.aminmax().max + t.aminmax(x, dim=1).min, ROWS),
    "median": (lambda t, x: x.median() + t.median(x, 1).values.sum() + x.median(0, keepdim=True)[0], ROWS),
    "var": (lambda t, x: t.var(x) + x.var(1) + t.var(x, 1, False) + x.var(dim=1, correction=0), ROWS),
    "var, axis": (lambda t, x: x.var(axis=(0, 2), keepdims=True) + x.var(1, unbiased=False, keepdim=True), IMAGES),
    "std": (lambda t, x: t.std(x) + x.std((0, 1)) + t.std(x, dim=1, correction=2), ROWS),
    "var_mean": (lambda t, x: sum(t.var_mean(x)) + sum(t.var_mean(x, 1, keepdim=True)), ROWS),
    "std_mean": (lambda t, x: sum(t.std_mean(x)) * t.std_mean(x, dim=1, unbiased=False)[0], ROWS),
    "nanmean": (lambda t, x: t.nanmean(t.where(x > 0, x, math.nan), 1).nansum() * x.nansum(0) * x.nanmean(), ROWS),
    "transposed": (lambda t, x: x.transpose(0, 2).amax((0, 1)) + x.transpose(0, 2).sum((0, 1)), IMAGES),
    "of one entry": (lambda t, x: x.sum() + x.max() + x.prod() + x.mean() + x.amin(), np.array([2.5])),
    "of a number": (lambda t, x: x.sum() + x.max() + x.prod() + x.sum(0) + x.mean(-1), np.array(2.5)),
    "of nothing": (lambda t, x: x.sum(0) + x.prod(0) + x.sum(), np.zeros((0, 3))),
}  # fmt: skip


@pytest.mark.parametrize("name", CALLS)
def test_values_and_gradients_are_pytorchs(name: str) -> None:
    torch = pytest.importorskip("torch")
    call, array = CALLS[name]
    mine, theirs = fnn.Tensor(array.copy(), requires_grad=True), torch.tensor(array, requires_grad=True)
    found, expected = call(fnn, mine), call(torch, theirs)
    assert found.dtype == np.float64
    assert found.shape == tuple(expected.shape)
    np.testing.assert_allclose(found.data, expected.detach().numpy(), rtol=1e-10, atol=1e-12)
    weights = np.asarray(RNG.normal(size=found.shape))
    found.backward(weights)
    expected.backward(torch.tensor(weights))
    np.testing.assert_allclose(mine.grad, theirs.grad.numpy(), rtol=1e-10, atol=1e-12)


# What gives indices, truth values and counts; the same of both packages.
OTHERS: list[Callable[..., Any]] = [
    lambda t, x: t.argmax(x), lambda t, x: x.argmax(1), lambda t, x: t.argmin(x, dim=0, keepdim=True),
    lambda t, x: x.argmin(axis=-1), lambda t, x: x.max(1).indices, lambda t, x: t.min(x, 0)[1],
    lambda t, x: x.median(1).indices if t is fnn or x.dtype == t.float64 else x,
    lambda t, x: t.any(x > 0), lambda t, x: (x > 2).all(1), lambda t, x: t.all(x > -9, dim=0, keepdim=True),
    lambda t, x: x.bool().any((0, 1)), lambda t, x: t.count_nonzero(x), lambda t, x: t.count_nonzero(x, dim=1),
    lambda t, x: (x > 0).sum(), lambda t, x: (x > 0).sum(1), lambda t, x: x.long().prod(), lambda t, x: x.long().sum(0),
    lambda t, x: (x == x).prod(1), lambda t, x: x.int().sum(), lambda t, x: t.isnan(x).any(),
]  # fmt: skip


@pytest.mark.parametrize("place", range(len(OTHERS)))
@pytest.mark.parametrize("array", [ROWS, TIES, ZEROS], ids=["rows", "ties", "zeros"])
def test_indices_and_truth_are_pytorchs(place: int, array: np.ndarray) -> None:
    torch = pytest.importorskip("torch")
    found, expected = (OTHERS[place](t, t.tensor(array)) for t in (fnn, torch))
    if place == 6 and array is not ROWS:  # of equal entries PyTorch promises no index
        return
    assert str(expected.dtype) == f"torch.{found.dtype}"
    np.testing.assert_array_equal(found.data, expected.numpy())


def test_named_results() -> None:
    x = fnn.tensor([[1.0, 5.0], [4.0, 3.0]])
    found = x.max(1)
    values, indices = found
    assert found.values is values is found[0]
    assert found.indices is indices
    assert (values.tolist(), indices.tolist(), indices.dtype) == ([5, 4], [1, 0], np.int64)
    assert x.min(0).indices.tolist() == [0, 1]
    assert x.aminmax().min.item() == 1
    assert x.median(1).values.tolist() == [1, 3]
    variance, mean = fnn.var_mean(x)
    assert (variance.item(), mean.item()) == (pytest.approx(8.75 / 3), 3.25)


def test_truth_values() -> None:
    """As tensors, and in conditions."""
    x = fnn.tensor([0.0, 2.0])
    assert isinstance(x.any(), fnn.Tensor)
    assert x.any()
    assert not x.all()
    assert (x.any().item(), x.all().item()) == (True, False)
    assert fnn.tensor([math.nan]).any()
    assert not fnn.tensor([]).any()
    assert fnn.tensor([]).all()


def test_equal_entries_share_the_gradient_where_pytorchs_do() -> None:
    for call, expected in (
        (lambda x: x.max(), [0, 0.5, 0.5]),
        (lambda x: x.amax(0), [0, 0.5, 0.5]),
        (lambda x: x.max(0).values, [0, 1, 0]),
    ):
        x = fnn.tensor([1.0, 2.0, 2.0], requires_grad=True)
        call(x).backward()
        assert x.grad.tolist() == expected


def test_nan_wins() -> None:
    x = fnn.tensor([1.0, math.nan, 3.0])
    for found in (x.max(), x.min(), x.amax(), x.max(0).values, x.median(), x.median(0).values, x.sum()):
        assert math.isnan(found.item())
    assert x.max(0).indices.item() == x.median(0).indices.item() == 1


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda x: x.max(3), ShapeError, "max: expected a dimension from -2 to 1, got 3"),
        (lambda x: x.amax((0, 0)), ShapeError, "every dimension once"),
        (lambda x: x[:0].max(), ShapeError, "max: expected at least one entry"),
        (lambda x: x[:0].amin(), ShapeError, "amin: expected at least one entry"),
        (lambda x: x[:0].argmin(), ShapeError, "argmin: expected at least one entry"),
        (lambda x: x[:0].median(), ShapeError, "median: expected at least one entry"),
        (lambda x: x.prod((0, 1)), ArgumentError, "prod: expected a dimension as an integer"),
        (lambda x: fnn.max(x, fnn.ones(3)), ShapeError, "maximum: expected shapes that broadcast"),
        (lambda x: x.var(0, 1), ArgumentError, "correction= is given by name"),
    ],
)
def test_what_is_refused(call: Callable[[Any], Any], error: type[FastnnError], message: str) -> None:
    with pytest.raises(error, match=message):
        call(fnn.ones(4, 6))


def test_nan_is_one_value_of_which_there_may_be_most() -> None:
    """Scipy's mode with nan_policy="propagate" counts them so, and PyTorch's."""
    x = np.array([[1, np.nan, np.nan, 0], [np.nan, 2, 2, np.nan], [np.nan, 3, 4, 5]])
    np.testing.assert_array_equal(fnn.tensor(x).mode(1).values.numpy(), [np.nan, 2, 3])


@pytest.mark.parametrize(("values", "correction"), [([1.0], 0), ([1.0], 1), ([1.0, 2.0], 1)])
def test_moments_of_too_few_entries_are_warned_of_at_the_users_line(values: list[float], correction: int) -> None:
    """A program that logs the deviation of one reward goes on with NaN, as in PyTorch."""
    torch = pytest.importorskip("torch")
    found = []
    for lib in (torch, fnn):
        x = lib.tensor(values, dtype=lib.float64, requires_grad=True)
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            y = x.var(dim=0, correction=correction)
            std = lib.std(x, dim=0, correction=correction)
        y.backward()
        found.append([*(float(each.detach()) for each in (y, std)), *x.grad.tolist()])
        assert len(told) == (2 if correction >= len(values) else 0)
        assert {each.filename for each in told} <= {__file__}
    np.testing.assert_array_equal(*found)
