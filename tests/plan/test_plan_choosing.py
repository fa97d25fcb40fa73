"""What joins, chooses, moves and multiplies, compiled: as in eager, and natively but for sorts."""

from __future__ import annotations

import numpy as np
import pytest
from choice_cases import COMPILED, Expressed
from operator_cases import assert_alike, eager, interpreted, weighted
from plan_networks import NATIVE

import fastnn as fnn
from fastnn import nn
from fastnn.errors import ShapeError

pytestmark = pytest.mark.skipif(not NATIVE, reason="compiled operators need the native kernels")

IN_PYTHON = {"sort", "topk", "quantile", "axis", "cumprod", "cumprod with zeros", "logcumsumexp", "ctc_loss",
             "cummax", "mode", "nanmedian", "special", "special, of shares", "special, powers", "places"}  # fmt: skip


@pytest.mark.parametrize("name", COMPILED)
def test_compiled_as_in_eager(name: str) -> None:
    model, x = Expressed(name), np.ones(1, np.float32)
    weights = np.ones(model(fnn.Tensor(x)).shape, np.float32)
    expected = eager(model, weighted, x, weights)
    model.zero_grad()
    step = fnn.compile(model, weighted)
    loss = step(x, weights)
    gradients = [np.array(p.grad) for p in model.parameters() if p.grad is not None]
    assert_alike([step.outputs.copy(), np.float32(loss), *gradients], expected)
    if name not in IN_PYTHON:
        assert len(interpreted(step)) == 0


def test_places_that_the_plan_computes_and_that_it_is_given() -> None:
    class Chosen(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.w = nn.Parameter(np.arange(12, dtype=np.float32).reshape(4, 3))

        def forward(self, x: fnn.Tensor) -> fnn.Tensor:
            return (x @ self.w)[range(5), x.argmax(1) % 3]

    model = Chosen()
    x = np.random.default_rng(0).normal(size=(5, 4)).astype(np.float32)
    with fnn.no_grad():
        expected = model(fnn.Tensor(x)).numpy()
    np.testing.assert_allclose(fnn.compile(model)(x), expected, rtol=1e-6)


def test_a_label_out_of_range_is_the_error_of_eager() -> None:
    model = nn.Linear(4, 3)
    step = fnn.compile(model, lambda out, y: out[range(2), y].sum())
    x = np.ones((2, 4), np.float32)
    step(x, np.array([0, 2]))
    with pytest.raises((fnn.errors.FastnnError, IndexError)):
        step(x, np.array([0, 3]))


def test_writes_in_forward() -> None:
    class Filled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.w = nn.Parameter(np.array([2.0, 3.0], np.float32))

        def forward(self, x: fnn.Tensor) -> fnn.Tensor:
            out = fnn.zeros(2, 3)
            for i in range(3):
                out[:, i] = self.w * x if i == 0 else out[:, i - 1].clone() * self.w
            return out

    model, x = Filled(), np.ones(1, np.float32)
    weights = np.ones((2, 3), np.float32)
    expected = eager(model, weighted, x, weights)
    step = fnn.compile(model, weighted)
    model.zero_grad()
    loss = step(x, weights)
    assert_alike([step.outputs.copy(), np.float32(loss), np.array(model.w.grad)], expected)


def test_lengths_of_ctc_may_be_inputs_of_a_step() -> None:
    """The targets in a row, whose number the lengths say, which a plan is made without."""
    rng = np.random.default_rng(0)
    model, loss = fnn.nn.Linear(4, 5), fnn.nn.CTCLoss()
    x, of_inputs = rng.standard_normal((9, 3, 4)).astype(np.float32), np.array([9, 8, 9])
    step = fnn.compile(model, lambda scores, y: loss(scores.log_softmax(2), *y))
    for lengths in ([3, 2, 4], [4, 4, 1]):
        targets = rng.integers(1, 5, sum(lengths)), of_inputs, np.array(lengths)
        expected = loss(model(x).log_softmax(2), *targets).item()
        assert step(x, targets) == pytest.approx(expected, rel=1e-6)
    with pytest.raises(ShapeError, match="expected 9 targets, as target_lengths say, got 7"):
        step(x, (targets[0][:7], *targets[1:]))
