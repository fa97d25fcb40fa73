"""Operators of compiled plans that share memory: views, values with many users, memory that is used again."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from long import draws
from operator_cases import Formula, Shape, assert_alike, eager, interpreted, weighted
from plan_networks import NATIVE

import fastnn as fnn
from fastnn import ops

pytestmark = pytest.mark.skipif(not NATIVE, reason="compiled operators need the native kernels")


def random_formula(seed: int) -> Callable[..., fnn.Tensor]:
    """Thirty operators that read one or two values before them: many share memory, or have many users."""
    rng = np.random.default_rng(seed)
    unary: list[Any] = [
        lambda a: a.tanh(), lambda a: a.T.T, lambda a: ops.sigmoid(a.T).T, lambda a: -a, lambda a: ops.gelu(a),
        lambda a: a[:, ::-1], lambda a: a - a.mean(1, keepdim=True), lambda a: a.reshape(-1).reshape(5, 6),
        lambda a: ops.softmax(a), lambda a: fnn.cat([a[:, 3:], a[:, :3]], 1), lambda a: a / (1 + abs(a)),
        lambda a: ops.linear(a, WEIGHT).relu(), lambda a: a.max(0, keepdim=True)[0] * a,
    ]  # fmt: skip
    binary: list[Any] = [
        lambda a, b: a + b, lambda a, b: a - b, lambda a, b: a * b, lambda a, b: fnn.where(a > b, a, b),
        lambda a, b: (a @ b.T) @ a * 0.1, lambda a, b: fnn.stack([a, b]).sum(0), lambda a, b: a + b.sum(),
    ]  # fmt: skip
    plan = [(int(rng.integers(2)), int(rng.integers(99)), *(int(i) for i in rng.integers(0, 9, 2))) for _ in range(30)]

    def formula(x: fnn.Tensor, p: fnn.Tensor, q: fnn.Tensor) -> fnn.Tensor:
        values = [x, p + x, q * x, p]
        for two, which, i, j in plan:
            a, b = values[-1 - i % len(values)], values[-1 - j % len(values)]
            value = binary[which % len(binary)](a, b) if two else unary[which % len(unary)](a)
            values.append(value.tanh() if which % 2 else value * 0.5)
        return values[-1] + values[-3] * 0.5

    return formula


WEIGHT = fnn.Tensor(np.random.default_rng(0).normal(size=(6, 6)).astype(np.float32) / 3, requires_grad=True)


@pytest.mark.parametrize("seed", draws(range(30), 8))
def test_random_formulas(seed: int) -> None:
    """Memory that steps hand on to later ones, views of it, and sums of many gradients; two runs of one plan."""
    model = Formula(random_formula(seed), [(5, 6), (6,)], -1, 1)
    rng = np.random.default_rng(seed)
    step, predict = fnn.compile(model, weighted), fnn.compile(model)
    for _ in range(2):
        x, y = rng.uniform(-1, 1, (2, 5, 6)).astype(np.float32)
        WEIGHT.grad = None
        expected = [*eager(model, weighted, x, y), WEIGHT.grad]
        WEIGHT.grad = None
        model.zero_grad()
        loss = step(x, y)
        found = [step.outputs.copy(), np.float32(loss), *(p.grad for p in model.parameters() if p.grad is not None)]
        assert_alike([*found, *([] if WEIGHT.grad is None else [WEIGHT.grad])], [v for v in expected if v is not None])
        assert_alike([predict(x)], expected[:1])
    assert interpreted(step) == []


def test_memory_is_used_again() -> None:
    """In inference a row of operators needs two arrays, in training one of each that backward reads."""
    shape = (100, 1000)

    def formula(x: fnn.Tensor, p: fnn.Tensor) -> fnn.Tensor:
        for _ in range(12):
            x = (x * p).exp()
        return x.sum(1)

    model = Formula(formula, [(1000,)], 0.01, 0.02)
    x, y = np.ones(shape, np.float32), np.ones(100, np.float32)
    predict, step = fnn.compile(model), fnn.compile(model, weighted)
    predict(x)
    step(x, y)
    assert predict._last.arena.bytes < 3.5 * x.nbytes
    assert step._last.arena.bytes < 32 * x.nbytes


@pytest.mark.parametrize(
    ("formula", "shapes", "parts"),
    [
        (lambda x, p: (x * p).tanh() + x / (p * p + 1), [(5,)], True),
        (lambda x, p: ops.softmax(x * p) - p, [(1, 5)], True),
        (lambda x, p: x * (x * p).sum(), [(5,)], False),
        (lambda x, p: ops.softmax(x * p, 0), [(5,)], False),
        (lambda x, p: x + p, [(600, 5)], False),
    ],
)
def test_predictions_of_many_images(formula: Any, shapes: list[Shape], parts: bool) -> None:
    """In parts of 256 where each image's outputs depend on it alone."""
    model = Formula(formula, shapes, -1, 1)
    x = np.random.default_rng(0).uniform(-1, 1, (600, 5)).astype(np.float32)
    predict = fnn.compile(model)
    assert_alike([predict(x)], [model(x).numpy()])
    assert (len(predict._last.outputs) == 600 % 256) == parts
