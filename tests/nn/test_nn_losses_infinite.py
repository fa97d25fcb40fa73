"""Losses of infinite logits, where a term with target 0 counts 0; and of logits near float32's end.

Expected values are worked out in float64, term by term, with 0 log 0 = 0.
"""

from __future__ import annotations

import math

import numpy as np
import pytest
from targets import Target

import fastnn as fnn
from fastnn import nn, optim

INF = math.inf


def right(z: np.ndarray, q: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Cross-entropies (N,) and their gradients (N, C)."""
    z = z.astype(np.float64)
    e = np.exp(z - z.max(1, keepdims=True))
    logs = z - z.max(1, keepdims=True) - np.log(e.sum(1, keepdims=True))
    terms = np.where(q == 0, 0, q * np.where(q == 0, 0, logs))
    return -terms.sum(1), e / e.sum(1, keepdims=True) * q.sum(1, keepdims=True) - q


CASES = {
    "one class masked": [[0.5, 1.0, -INF], [2.0, -INF, 0.0]],
    "all but one masked": [[-INF, 1.0, -INF], [-INF, -INF, 3.0]],
    "1e38 apart": [[1e38, 0.0, -1e38], [0.0, -1e30, 1e30]],
}


@pytest.mark.parametrize("classes", [3, 140])  # rows side by side in a vector, and a vector along a row
@pytest.mark.parametrize("case", CASES)
def test_cross_entropy_of_masked_classes(target: Target, case: str, classes: int) -> None:
    logits = np.full((2, classes), -INF, np.float32)
    logits[:, :3] = CASES[case]
    labels = np.array([int(np.argmax(row)) for row in logits])
    onehot = np.eye(classes, dtype=np.float32)[labels]
    kernel = target.kernels.softmax_cross_entropy
    expected, slope = right(logits, onehot)
    soft = np.where(np.isinf(logits), 0, 0.25).astype(np.float32)
    with np.errstate(all="ignore"):
        for given, (loss, gradient) in (
            (labels, (expected, slope)),
            (onehot, (expected, slope)),
            (soft, right(logits, soft)),
        ):
            got_loss, got_gradient = kernel(logits, given)
            np.testing.assert_allclose(got_loss, loss, rtol=1e-5, atol=1e-6)
            np.testing.assert_allclose(got_gradient, gradient, atol=1e-6)


def test_a_masked_label_costs_everything(target: Target) -> None:
    """And with label smoothing any masked class does; but a label that smoothing takes no notice of does not."""
    logits = np.array([[0.0, -INF], [0.0, 0.0]], np.float32)
    kernel = target.kernels.softmax_cross_entropy
    with np.errstate(all="ignore"):
        loss, gradient = kernel(logits, np.array([1, 1]))
        assert loss[0] == INF
        np.testing.assert_allclose(gradient, [[1, -1], [0.5, -0.5]])
        loss, gradient = kernel(logits, np.array([0, 0]), 0.1)
        assert loss[0] == INF
        np.testing.assert_allclose(gradient, [[0.05, -0.05], [-0.45, 0.45]], atol=1e-6)
        loss, _ = kernel(np.array([[0.0, 0.0]], np.float32), np.array([0]), 1.0)
        np.testing.assert_allclose(loss, math.log(2), rtol=1e-6)


def test_binary_cross_entropy_of_infinite_logits(target: Target) -> None:
    z = np.array([INF, -INF, INF, -INF, 1e38, -1e38, 0.0, 30.0], np.float32)
    t = np.array([1, 0, 0, 1, 1, 0, 0.5, 0.25], np.float32)
    with np.errstate(all="ignore"):
        loss, gradient = target.kernels.bce_with_logits(z, t)
    np.testing.assert_allclose(loss, [0, 0, INF, INF, 0, 0, math.log(2), 22.5], rtol=1e-6, atol=1e-12)
    np.testing.assert_allclose(gradient, [0, 0, 1, -1, 0, 0, 0, 0.75], atol=1e-6)


@pytest.mark.parametrize("soft", [False, True])
def test_a_compiled_step_with_a_masked_class(soft: bool) -> None:
    class Masked(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(4, 3)
            self.register_buffer("mask", np.array([0, 0, -np.inf], np.float32))

        def forward(self, x: fnn.Tensor) -> fnn.Tensor:
            return self.linear(x) + fnn.Tensor(self.mask)

    fnn.manual_seed(0)
    model = Masked()
    x, y = np.random.default_rng(0).standard_normal((32, 4)).astype(np.float32), np.arange(32) % 2
    onehot = np.eye(3, dtype=np.float32)[y]
    loss, slope = right(model.linear(x).numpy() + model.mask, onehot)
    weight = model.linear.weight.data.copy()
    step = fnn.compile(model, nn.CrossEntropyLoss(), optim.SGD(model.parameters(), lr=0.1))
    assert step(x, onehot if soft else y) == pytest.approx(loss.mean(), rel=1e-5)
    np.testing.assert_allclose(model.linear.weight.data, weight - 0.1 * slope.T @ x / 32, rtol=1e-4, atol=1e-6)


# ---- standard deviations ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [0.0, 2.0, -7.5])
def test_the_gradient_of_a_deviation_of_equal_values_is_0(value: float) -> None:
    """As in PyTorch; of the columns that vary it is (x - mean) / ((n - 1) std)."""
    column = np.array([1, 2, 4], np.float32)
    x = fnn.Tensor(np.stack([column, np.full(3, value, np.float32)], 1), requires_grad=True)
    x.std(0).sum().backward()
    away = np.array([1, 2, 4]) - 7 / 3
    np.testing.assert_allclose(x.grad[:, 0], away / (2 * np.std([1, 2, 4], ddof=1)), rtol=1e-5)
    np.testing.assert_array_equal(x.grad[:, 1], 0)
    y = fnn.Tensor(np.full((4, 3), value), requires_grad=True)
    y.std().backward()
    np.testing.assert_array_equal(y.grad, 0)


def test_a_compiled_step_through_a_deviation_of_equal_values() -> None:
    class Spread(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(5, 4)
            self.linear.bias.data[...] = [0, 0, 0, -100]  # the last unit is dead

        def forward(self, x: fnn.Tensor) -> fnn.Tensor:
            hidden = self.linear(x).relu()
            return hidden + hidden.std(0)

    fnn.manual_seed(0)
    model = Spread()
    fnn.compile(model, nn.CrossEntropyLoss())(
        np.random.default_rng(0).normal(size=(16, 5)).astype(np.float32), np.arange(16) % 4
    )
    assert np.isfinite(model.linear.weight.grad).all()


def test_the_square_roots_own_slope_at_0_stays_infinite() -> None:
    x = fnn.Tensor([0.0], requires_grad=True)
    with np.errstate(divide="ignore"):
        x.sqrt().sum().backward()
    assert np.isinf(x.grad).all()
