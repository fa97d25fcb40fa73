"""Gradients of indexing: entries picked never, once, and very often."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import fastnn as fnn
from fastnn import nn, ops
from fastnn.errors import ArgumentError, DTypeError

torch = pytest.importorskip("torch")

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


FROM_THE_FRONT: dict[str, Callable[[Any, Any, Any], Any]] = {
    "gather": lambda lib, x, i: x.gather(1, i),
    "index_select": lambda lib, x, i: x.index_select(1, i[0]),
    "scatter": lambda lib, x, i: x.scatter(1, i, 9.0),
    "scatter_add": lambda lib, x, i: x.scatter_add(1, i, lib.ones(2, 1)),
    "scatter_reduce": lambda lib, x, i: x.scatter_reduce(1, i, lib.ones(2, 1), "mean"),
    "index_add": lambda lib, x, i: x.index_add(1, i[0], lib.ones(2, 1)),
    "index_copy": lambda lib, x, i: x.index_copy(1, i[0], lib.ones(2, 1)),
    "one_hot": lambda lib, x, i: x[:, :1] * lib.nn.functional.one_hot(i[:, 0], 3),
    "take_along_dim": lambda lib, x, i: lib.take_along_dim(x, i, 1),
    "take": lambda lib, x, i: x.take(i),
    "index_fill": lambda lib, x, i: x.index_fill(1, i[0], 7.0),
}


@pytest.mark.parametrize("name", FROM_THE_FRONT)
@pytest.mark.parametrize("place", [2, 0, -1])
def test_negative_places_count_from_behind_where_pytorchs_do(name: str, place: int) -> None:
    """A label of -1 picked the last class in gather, and was trained as that."""
    call = FROM_THE_FRONT[name]
    x, index = np.arange(6, dtype=np.float32).reshape(2, 3), np.full((2, 1), place)

    class Model(nn.Module):
        def forward(self, x: Any, i: Any) -> Any:
            return call(fnn, x, i)

    model = Model()
    compiled = fnn.compile(model)
    compiled(x, np.ones((2, 1), np.int64))
    try:
        expected = call(torch, torch.tensor(x), torch.tensor(index)).numpy()
    except (RuntimeError, IndexError):
        for run in (model, compiled):
            with pytest.raises(fnn.FastnnError):
                run(x, index)
    else:
        for run in (model, compiled):
            np.testing.assert_array_equal(np.asarray(run(x, index)), expected)


@pytest.mark.parametrize("include_self", [True, False])
@pytest.mark.parametrize("reduce", ["sum", "mean", "prod", "amax", "amin"])
def test_gradients_of_scatter_reduce_are_those_of_pytorch(reduce: str, include_self: bool) -> None:
    """With zeros, ties and entries that get nothing. Without itself, PyTorch counts what is not there in ties of
    extrema, so there are none in that case."""
    rng = np.random.default_rng(0)
    x, src = (rng.integers(-2, 3, shape).astype(np.float64) for shape in ((4, 3), (6, 2)))
    index = rng.integers(0, 3, (6, 2))
    if not include_self and reduce[0] == "a":
        src, x = rng.permutation(np.arange(12.0)).reshape(6, 2), x - 50
    found = []
    for lib in (torch, fnn):
        leaves = [lib.tensor(each, requires_grad=True) for each in (x, src)]
        y = leaves[0].scatter_reduce(0, lib.tensor(index), leaves[1], reduce, include_self=include_self)
        (y**2).sum().backward()
        found.append([y.detach().numpy(), *(leaf.grad.numpy() for leaf in leaves)])
    for theirs, ours in zip(*found, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-14)
