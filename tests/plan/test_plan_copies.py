"""Copies that compiled plans make of numbers of eight bytes are exact."""

from __future__ import annotations

import numpy as np
import pytest

import fastnn as fnn
from fastnn import nn


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
