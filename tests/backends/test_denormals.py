"""Numbers below 1.2e-38: zero in optimisers' steps and in compiled plans' gradients, where they would cost a hundred
times as much; kept by everything else, of the user and of fastnn."""

from __future__ import annotations

import numpy as np
import pytest

import fastnn as fnn
from fastnn import backends, nn, optim

DENORMAL = np.float32(1e-40)
native = pytest.mark.skipif(backends.name() != "native", reason="the kernels' own way with these numbers")


def is_denormal(array: np.ndarray) -> np.ndarray:
    return (array != 0) & (np.abs(array) < np.finfo(np.float32).tiny)


def parameter_without_gradient(size: int) -> tuple[nn.Parameter, optim.Optimizer]:
    """After one step with a gradient: its mean decays to 1e-40 in 850 steps more, and would stay there."""
    p = nn.Parameter(np.ones(size, np.float32))
    optimizer = optim.Adam([p], lr=1e-3)
    p.grad = np.ones(size, np.float32)
    optimizer.step()
    p.grad = np.zeros(size, np.float32)
    return p, optimizer


@native
def test_moments_of_what_has_no_gradient_decay_to_zero() -> None:
    p, optimizer = parameter_without_gradient(5)
    optimizer.state[p]["exp_avg"][:] = [2e-38, 1e-39, 1, 0, -1e-39]
    for _ in range(20):
        optimizer.step()
    found = optimizer.state[p]["exp_avg"]
    assert found.tolist() == pytest.approx([0, 0, 0.9**20, 0, 0], rel=1e-5)
    assert not is_denormal(found).any()


@native
def test_moments_decay_to_zero_in_compiled_steps() -> None:
    """The ReLU is always zero, so its layer has no gradient. With fused operations moments reach zero; without, they
    stop just above the denormal numbers, where their tenth is one."""
    model = nn.Sequential(nn.Linear(4, 40), nn.ReLU(), nn.Linear(40, 3))
    model[0].bias.data[...] = -100
    optimizer = optim.Adam(model.parameters(), lr=1e-3)
    step = fnn.compile(model, nn.CrossEntropyLoss(), optimizer)
    x, y = np.random.default_rng(0).random((8, 4), np.float32), np.arange(8) % 3
    step(x, y)
    for array in (optimizer.state[p]["exp_avg"] for p in model.parameters()):
        array += 2e-38
    for _ in range(10):
        step(x, y)
    for name, p in model[0].named_parameters():
        assert not is_denormal(optimizer.state[p]["exp_avg"]).any(), name


@pytest.mark.parametrize("threads", [1, 3])
def test_other_arithmetic_keeps_them(threads: int) -> None:
    """Before and after a step that takes them for zero, on this thread and on those of the pool."""
    model = nn.Sequential(nn.Linear(300, 300), nn.ReLU(), nn.Linear(300, 3))
    optimizer = optim.Adam(model.parameters(), lr=1e-3)
    step = fnn.compile(model, nn.CrossEntropyLoss(), optimizer)
    x, y = np.random.default_rng(0).random((64, 300), np.float32), np.arange(64) % 3
    small = np.full((2000, 2000), DENORMAL)
    before = fnn.get_num_threads()
    fnn.set_num_threads(threads)
    try:
        step(x, y)
        optimizer.step()
        assert is_denormal(small * np.float32(0.5)).all()
        assert is_denormal(fnn.tensor(small).mul(0.5).numpy()).all()
        assert is_denormal(fnn.compile(nn.ReLU())(small)).all()
    finally:
        fnn.set_num_threads(before)


@native
@pytest.mark.parametrize("widths", [(6, 20), (600, 20)], ids=["rows", "dense"])
def test_gradients_of_compiled_layers_are_without_them(widths: tuple[int, int]) -> None:
    """A confident model: softmax gives the other classes 1e-39, which is their gradient."""
    inputs, hidden = widths
    model = nn.Sequential(nn.Linear(inputs, hidden), nn.ReLU(), nn.Linear(hidden, 3))
    model[2].weight.data[...] = 0
    model[2].bias.data[...] = [90, 0, 0]
    step = fnn.compile(model, nn.CrossEntropyLoss())
    x, y = np.random.default_rng(0).random((300, inputs), np.float32), np.zeros(300, np.int64)
    assert np.isfinite(step(x, y))
    assert not any(is_denormal(p.grad).any() for p in model.parameters())
