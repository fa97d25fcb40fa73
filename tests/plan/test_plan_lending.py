"""`.grad` after a compiled step without an optimiser is the plan's memory, and nobody notices."""

from __future__ import annotations

import gc
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import fastnn as fnn
from fastnn import backends, nn

ROWS = np.ones((1, 1), np.float32)
SHAPE = (64, 128)  # beyond what is copied

pytestmark = pytest.mark.skipif(backends.name() != "native", reason="only kernels' memory is lent")


class Of(nn.Module):
    """A function of parameters alone."""

    def __init__(self, call: Callable[..., Any], count: int) -> None:
        super().__init__()
        rng = np.random.default_rng(0)
        self.call = call
        arrays = [rng.uniform(0.2, 1, SHAPE).astype(np.float32) for _ in range(count)]
        self.tensors = nn.ParameterList([nn.Parameter(array) for array in arrays])

    def forward(self, x: Any) -> Any:
        return self.call(*self.tensors) * x


def compiled(call: Callable[..., Any], count: int = 1) -> tuple[Any, list[Any]]:
    model = Of(call, count)
    return fnn.compile(model, lambda y, _: y.sum()), list(model.parameters())


def is_lent(p: Any) -> bool:
    return type(p._grad.base).__name__ == "Loan"


def run(step: Any, parameters: list[Any], factor: float = 1.0) -> list[np.ndarray]:
    for p in parameters:
        p.grad = None
    step(factor * ROWS, ROWS)
    return [p.grad.copy() for p in parameters]


def test_a_gradient_is_lent_again_and_again() -> None:
    step, (p,) = compiled(lambda a: (a * a).exp())
    expected = 2 * p._data.astype(np.float64) * np.exp(p._data.astype(np.float64) ** 2)
    places = set()
    for factor in (1, 2, 3):
        (grad,) = run(step, [p], factor)
        assert is_lent(p)
        places.add(p._grad.ctypes.data)
        np.testing.assert_allclose(grad, factor * expected, rtol=1e-6)
    assert len(places) == 1


@pytest.mark.parametrize("hold", [
    lambda p: p.grad, lambda p: p.grad[3:], lambda p: p.grad.T[1], lambda p: np.asarray(p.grad).reshape(-1)[7:9],
    lambda p: memoryview(p.grad), lambda p: p.grad.view(np.int32), lambda p: [p.grad.ravel()],
    lambda p: fnn.Tensor(p.grad), lambda p: fnn.Tensor(p.grad)[2:5], lambda p: fnn.from_numpy(np.asarray(p.grad)),
])  # fmt: skip
def test_what_somebody_holds_is_never_written_again(hold: Callable[[Any], Any]) -> None:
    step, (p,) = compiled(lambda a: a.exp())
    run(step, [p])
    held = hold(p)
    gc.collect()

    def numbers() -> np.ndarray:
        value = held[0] if isinstance(held, list) else held
        return np.array(value.numpy() if isinstance(value, fnn.Tensor) else value)

    before = numbers()
    for factor in (2, 3):
        (grad,) = run(step, [p], factor)
        np.testing.assert_allclose(grad, factor * np.exp(p._data.astype(np.float64)), rtol=1e-6)
        assert not is_lent(p)  # to one who holds them, copies
        assert numbers().tobytes() == before.tobytes()


def test_gradients_add_up_where_nobody_sets_them_to_none() -> None:
    step, (p,) = compiled(lambda a: a.exp())
    once = run(step, [p])[0]
    for times in (2, 3):
        step(ROWS, ROWS)
        np.testing.assert_allclose(p.grad, times * once, rtol=1e-6)
    assert step.lends


def test_writing_into_one_changes_nothing_else() -> None:
    step, (a, b) = compiled(lambda a, b: (a + b).exp() + a, 2)
    first = run(step, [a, b])
    outputs = step.outputs.copy()
    data = [p._data.copy() for p in (a, b)]
    other = b.grad.copy()
    a.grad[...] = np.nan
    assert b.grad.tobytes() == other.tobytes()
    assert step.outputs.tobytes() == outputs.tobytes()
    assert all(p._data.tobytes() == before.tobytes() for p, before in zip((a, b), data, strict=True))
    again = run(step, [a, b])
    assert all(x.tobytes() == y.tobytes() for x, y in zip(first, again, strict=True))


@pytest.mark.parametrize("call", [
    lambda a, b: (a + b).exp(), lambda a, b: (a.reshape(-1) + b.reshape(-1)).exp(),
    lambda a, b: a + b, lambda a, b: a * b, lambda a, b: a - b, lambda a, b: (a + b).reshape(-1),
    lambda a, b: a * 2 + b, lambda a, b: a.reshape(-1)[: b.numel()] * b.reshape(-1),
])  # fmt: skip
def test_two_never_share(call: Callable[..., Any]) -> None:
    step, (a, b) = compiled(call, 2)
    for factor in (1, 2):
        found = run(step, [a, b], factor)
        assert not np.shares_memory(a._grad, b._grad)
        assert not any(np.shares_memory(p._grad, q._data) for p in (a, b) for q in (a, b))
        assert not any(np.shares_memory(p._grad, np.asarray(step.outputs)) for p in (a, b))
        for p in (a, b):
            p.grad = None
        (call(a, b) * factor).sum().backward()
        for p, grad in zip((a, b), found, strict=True):
            np.testing.assert_allclose(grad, p.grad, rtol=1e-6)


def test_a_linear_layer_lends_its_weight() -> None:
    model = nn.Linear(64, 128)
    step = fnn.compile(model, nn.MSELoss())
    x, y = (np.random.default_rng(1).normal(size=(8, n)).astype(np.float32) for n in (64, 128))
    for _ in range(3):
        model.zero_grad()
        step(x, y)
        found = [p.grad.copy() for p in model.parameters()]
        model.zero_grad()
        nn.functional.mse_loss(model(fnn.Tensor(x)), fnn.Tensor(y)).backward()
        for p, grad in zip(model.parameters(), found, strict=True):
            np.testing.assert_allclose(grad, p.grad, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("wide", [4, 64])
def test_stages_of_layers_do_not_rely_on_what_they_lent(wide: int) -> None:
    layers = nn.Conv2d(3, wide, 3, padding=1), nn.BatchNorm2d(wide), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten()
    model = nn.Sequential(*layers, nn.Linear(16 * wide, 32), nn.LayerNorm(32), nn.Linear(32, 128))
    step = fnn.compile(model, nn.CrossEntropyLoss())
    x, y = np.random.default_rng(1).normal(size=(6, 3, 8, 8)).astype(np.float32), np.arange(6)
    found = []
    for _ in range(3):
        model.zero_grad()
        step(x, y)
        found.append([p.grad.copy() for p in model.parameters()])
        for p in model.parameters():
            p.grad[...] = np.nan
    assert any(map(is_lent, model.parameters()))
    for again in found[1:]:
        assert all(a.tobytes() == b.tobytes() for a, b in zip(found[0], again, strict=True))


def test_an_eager_step_between_adds_to_what_was_lent() -> None:
    step, (p,) = compiled(lambda a: a.exp())
    once = run(step, [p])[0]
    p.exp().sum().backward()
    np.testing.assert_allclose(p.grad, 2 * once, rtol=1e-6)
    step(ROWS, ROWS)
    np.testing.assert_allclose(p.grad, 3 * once, rtol=1e-6)


def test_shapes_share_parameters() -> None:
    model = nn.Linear(64, 128)
    step = fnn.compile(model, nn.MSELoss())
    rng = np.random.default_rng(1)
    batches = [[rng.normal(size=(n, size)).astype(np.float32) for size in (64, 128)] for n in (8, 9)]
    alone = []
    for x, y in batches:
        model.zero_grad()
        step(x, y)
        alone.append(model.weight.grad.copy())
    for _ in range(2):
        model.zero_grad()
        for x, y in batches:
            step(x, y)
        np.testing.assert_allclose(model.weight.grad, alone[0] + alone[1], rtol=1e-6, atol=1e-8)
