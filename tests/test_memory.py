"""Memory that is kept to be used again, and state that a failure must not leave half changed."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import fastnn as fnn
from fastnn import backends, nn, optim
from fastnn.errors import ShapeError


class Releasing(fnn.Function):
    """The identity, by a user's code that gives memory back while a plan runs."""

    @staticmethod
    def forward(ctx: Any, x: np.ndarray) -> np.ndarray:
        fnn.release_memory()
        return x

    @staticmethod
    def backward(ctx: Any, grad: np.ndarray) -> np.ndarray:
        fnn.release_memory()
        return grad


class Release(nn.Module):
    def forward(self, x: fnn.Tensor) -> fnn.Tensor:
        return Releasing.apply(x)


def images() -> nn.Module:
    norm = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(2), nn.Dropout(0.1))
    return nn.Sequential(nn.Unflatten(1, (1, 6, 6)), norm, nn.Flatten(), nn.Linear(16, 5))


def dense() -> nn.Module:
    return nn.Sequential(nn.Linear(36, 8), nn.Tanh(), nn.LayerNorm(8), nn.Linear(8, 5))


def users_own() -> nn.Module:
    return nn.Sequential(nn.Linear(36, 8), Release(), nn.Linear(8, 5))


X, Y = np.random.default_rng(0).standard_normal((8, 36)).astype(np.float32), np.arange(8) % 5


@pytest.mark.parametrize("make", [images, dense])
def test_the_arrays_of_a_plan_are_freed_at_once(make: Callable[[], nn.Module]) -> None:
    """And not when Python looks for cycles, which may be many plans later."""
    model = make()
    step = fnn.compile(model, nn.CrossEntropyLoss(), optim.SGD(model.parameters(), lr=0.1))
    predict = fnn.compile(model)
    gc.disable()
    try:
        step(X, Y), predict(X)
        executions = [step._last, *predict._executions.values()]
        arenas = [weakref.ref(execution.arena) for execution in executions]
        del executions
        fnn.release_memory()
        assert [arena() for arena in arenas] == [None, None]
    finally:
        gc.enable()


@pytest.mark.parametrize("make", [images, dense, users_own])
def test_results_are_the_same_after_a_release(make: Callable[[], nn.Module]) -> None:
    """Also by a step whose own code releases memory, while its plan is in use."""

    def losses(release: bool) -> list[float]:
        fnn.manual_seed(0)
        model = make()
        step = fnn.compile(model, nn.CrossEntropyLoss(), optim.Adam(model.parameters(), lr=0.1), accumulate=2)
        found = []
        for _ in range(5):
            found.append(step(X, Y))
            if release:
                fnn.release_memory()
        return found

    assert losses(True) == losses(False)


@pytest.mark.parametrize("name", ["SGD", "Adam", "NAdam"])
def test_a_gradient_of_a_wrong_shape_leaves_every_parameter(name: str) -> None:
    first, second = nn.Parameter(np.ones(3, np.float32)), nn.Parameter(np.ones((2, 3), np.float32))
    first.grad = np.ones(3, np.float32)
    second._grad = np.ones((3, 2), np.float32)  # as of an array that was reshaped in place
    optimizer = getattr(optim, name)([first, second], lr=0.1)
    with pytest.raises(ShapeError, match=r"expected \.grad of shape"):
        optimizer.step()
    assert np.array_equal(first.data, [1, 1, 1])
    assert not optimizer.state_dict()["state"]


def test_batch_norm_that_fails_leaves_its_statistics(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: Any) -> None:
        raise MemoryError

    layer = nn.BatchNorm1d(36)
    monkeypatch.setattr(backends.kernels(np.dtype(np.float32)), "batch_norm_forward", fails)
    with pytest.raises(MemoryError):
        layer(fnn.tensor(X))
    kept = layer.state_dict()
    assert np.array_equal(kept["running_mean"], np.zeros(36))
    assert np.array_equal(kept["running_var"], np.ones(36))
    assert kept["num_batches_tracked"] == 0
