"""Initialisers that make matrices: orthogonal, truncated, sparse, identities; some beside PyTorch's."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import fastnn as fnn
from fastnn import nn
from fastnn.errors import ArgumentError, ShapeError
from fastnn.nn import init
from fastnn.nn.init import xavier_uniform_


@pytest.mark.parametrize("shape", [(5, 3), (3, 5), (4, 4), (6, 2, 3, 3)])
def test_orthogonal(shape: tuple[int, ...]) -> None:
    fnn.manual_seed(0)
    w = init.orthogonal_(np.empty(shape), gain=2.0).reshape(shape[0], -1)
    small = w @ w.T if w.shape[0] <= w.shape[1] else w.T @ w
    np.testing.assert_allclose(small, 4 * np.eye(len(small)), atol=1e-12)
    assert not np.allclose(w, init.orthogonal_(np.empty(shape), gain=2.0).reshape(w.shape))


def test_orthogonal_matrices_are_equally_likely() -> None:
    """The mean of many is 0, which it is not without the signs of R's diagonal."""
    fnn.manual_seed(0)
    mean = np.mean([init.orthogonal_(np.empty((2, 2))) for _ in range(2000)], axis=0)
    assert np.abs(mean).max() < 0.08


def test_trunc_normal() -> None:
    fnn.manual_seed(0)
    w = init.trunc_normal_(np.empty(20000), 0.5, 1.0, -0.5, 1.0)
    assert w.min() >= -0.5
    assert w.max() <= 1.0
    assert w.mean() == pytest.approx(0.5 + (0.24197 - 0.35207) / (0.69146 - 0.15866), abs=0.01)  # (φ(-1) - φ(½)) / mass


def test_sparse() -> None:
    fnn.manual_seed(0)
    w = init.sparse_(np.empty((10, 30)), 0.25)
    assert ((w == 0).sum(0) == 3).all()
    assert w[w != 0].std() == pytest.approx(0.01, rel=0.2)


@pytest.mark.parametrize(("shape", "groups"), [((4, 4, 3), 1), ((6, 2, 3, 3), 3), ((4, 6, 5, 4), 1), ((6, 2, 2, 2), 2)])
def test_dirac_is_torchs(shape: tuple[int, ...], groups: int) -> None:
    torch = pytest.importorskip("torch")
    expected = torch.nn.init.dirac_(torch.empty(shape), groups).numpy()
    np.testing.assert_array_equal(init.dirac_(np.empty(shape), groups), expected)


def test_eye_and_importable_names() -> None:
    layer = nn.Linear(3, 2)
    assert init.eye_(layer.weight) is layer.weight
    assert layer.weight.tolist() == [[1, 0, 0], [0, 1, 0]]
    assert xavier_uniform_ is fnn.init.xavier_uniform_


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: init.orthogonal_(np.empty(3)), ShapeError, "two dimensions"),
        (lambda: init.eye_(np.empty(3)), ShapeError, "expected a matrix, got shape"),
        (lambda: init.sparse_(np.empty((2, 2, 2)), 0.1), ShapeError, "sparse_: expected a matrix"),
        (lambda: init.dirac_(np.empty((4, 2, 3)), 3), ShapeError, "for 3 groups"),
        (lambda: init.trunc_normal_(np.empty(3), 0.0, 1.0, 9.0, 10.0), ArgumentError, "within 5 std"),
        (lambda: init.trunc_normal_(np.empty(3), 0.0, 1.0, 1.0, 1.0), ArgumentError, "a < b"),
    ],
)
def test_errors(call: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call()
