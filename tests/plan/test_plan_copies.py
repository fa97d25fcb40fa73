"""Copies that compiled plans make of numbers of eight bytes are exact; copies of compiled steps."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import numpy as np
import pytest

import fastnn as fnn
from fastnn import nn, optim
from fastnn.errors import StateError


class Turned(nn.Module):
    """Entries in another order, which takes a copy."""

    def forward(self, x: fnn.Tensor) -> fnn.Tensor:
        return x.transpose(0, 1).reshape(-1)


@pytest.mark.parametrize("dtype", [np.float64, np.int64, np.float32, np.uint8])
def test_no_bit_is_lost(dtype: type) -> None:
    predict, rng = fnn.compile(Turned()), np.random.default_rng(0)
    for shape in ((3, 4), (5, 1, 2), (1, 1)):
        for _ in range(3):
            x = (rng.standard_normal(shape) * 2**40).astype(dtype) if dtype != np.uint8 else rng.integers(0, 9, shape)
            np.testing.assert_array_equal(predict(x), Turned()(x).numpy())


def test_a_view_of_the_input_in_float64() -> None:
    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(6, 3)

        def forward(self, x: fnn.Tensor) -> fnn.Tensor:
            return self.linear(x.view(-1, 6))

    model, x = Model().double(), np.random.default_rng(0).standard_normal((4, 3, 2))
    predict = fnn.compile(model)
    for shift in range(3):
        np.testing.assert_allclose(predict(x + shift), model(x + shift).numpy(), rtol=1e-14)


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda step: pickle.loads(pickle.dumps(step))])
def test_a_copy_of_a_step_trains_copies(copied: Any) -> None:
    """Of model and optimiser together, which go on as the first ones do, and leave these alone."""
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.ReLU(), nn.Linear(4, 2))
    step = fnn.compile(model, nn.CrossEntropyLoss(), optim.Adam(model.parameters(), lr=0.01), clip_norm=0.5)
    x, y = np.random.default_rng(0).standard_normal((6, 3)).astype(np.float32), np.arange(6) % 2
    step(x, y)
    other = copied(step)
    before = {name: np.array(array) for name, array in model.state_dict().items()}
    losses = [other(x, y) for _ in range(3)]
    assert all(np.array_equal(array, before[name]) for name, array in model.state_dict().items())
    assert losses == [step(x, y) for _ in range(3)]
    assert all(np.array_equal(array, other.model.state_dict()[name]) for name, array in model.state_dict().items())
    model[0].weight.requires_grad_(False)
    assert other.model[0].weight.requires_grad


def test_a_step_is_not_copied_within_a_group_of_batches() -> None:
    model, x = nn.Linear(3, 1), np.ones((2, 3), np.float32)
    step = fnn.compile(model, nn.MSELoss(), optim.SGD(model.parameters(), lr=0.1), accumulate=2)
    step(x, np.ones((2, 1), np.float32))
    with pytest.raises(StateError, match=r"call flush\(\) first"):
        copy.deepcopy(step)
    step.flush()
    copy.deepcopy(step)
