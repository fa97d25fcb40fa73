"""Gradients of indexing: entries picked never, once, and very often."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import fastnn as fnn
from fastnn import ops
from fastnn.errors import ArgumentError, DTypeError

X = np.arange(24, dtype=np.float32).reshape(4, 6)
KEYS: dict[str, Any] = {
    "number": 2,
    "slice": slice(1, None, 2),
    "numbers and slices": (slice(None), 3),
    "ellipsis and a new dimension": (..., None, slice(0, 2)),
    "truth": True,
    "array": np.array([0, 2, 2, 3]),
    "arrays": (np.array([0, 1, 1]), np.array([5, 5, 5])),
    "mask": X > 7,
    "array and slice": (np.array([3, 3]), slice(1, 4)),
}


@pytest.mark.parametrize("key", KEYS.values(), ids=KEYS)
def test_each_pick_counts(key: Any) -> None:
    """Against counting in NumPy, entry by entry."""
    x = fnn.Tensor(X, requires_grad=True)
    picked = x[key]
    weight = np.arange(1, picked.numel() + 1, dtype=np.float32).reshape(picked.shape)
    (picked * weight).sum().backward()
    places = np.arange(X.size).reshape(X.shape)[key]
    expected = np.bincount(places.ravel(), weight.ravel(), X.size).reshape(X.shape)
    np.testing.assert_array_equal(x.grad, expected)


def test_a_row_picked_a_million_times_keeps_its_digits() -> None:
    w = fnn.Tensor(np.ones((3, 2), np.float32), requires_grad=True)
    (w[np.zeros(1_000_000, np.int64)] * 0.1).sum().backward()
    np.testing.assert_allclose(w.grad, [[np.float32(0.1) * 1e6] * 2, [0, 0], [0, 0]], rtol=1e-6)


def test_slips_are_named() -> None:
    with pytest.raises(DTypeError, match=r"running_mean to be an array of shape \(3,\), got list"):
        ops.batch_norm(np.ones((4, 3), np.float32), [0, 0, 0], [1, 1, 1], training=True)
    with pytest.raises(ArgumentError, match="correction of at least 0, got '1'"):
        fnn.Tensor([1.0, 2.0]).var(correction="1")
