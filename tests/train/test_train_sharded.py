"""Ranks of one machine: their common memory, and the kernel that steps a piece by the sum of their gradients."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fastnn as fnn
from fastnn import distributed, optim
from fastnn.plan.update import Updates
from fastnn.train import sharded

native = pytest.mark.skipif(fnn.backends.name() != "native", reason="needs the kernels")


@native
@pytest.mark.parametrize("count", [1, 15, 1025, 8193 + 1024])  # below and above a vector, a run, a chunk and a run
@pytest.mark.parametrize("factors", [(0.5, 0.5), (0.2, 0.5, 0.3)])
def test_a_piece_steps_by_the_weighted_sum_of_gradients(count: int, factors: tuple[float, ...]) -> None:
    from fastnn._kernels import Program, UpdateStage

    draw = np.random.default_rng(count)
    parameter = fnn.nn.Parameter(draw.normal(size=count).astype(np.float32))
    optimizer = optim.SGD([parameter], lr=0.1, momentum=0.9, weight_decay=0.01)
    expected, velocity = parameter.numpy().astype(np.float64), np.zeros(count)
    updates, program = Updates(optimizer, [parameter]), Program()
    grads = [draw.normal(size=count).astype(np.float32) for _ in factors]
    weights = np.array(factors, np.float32)
    program.add(UpdateStage(parameter._data, grads, updates.states(parameter), updates.numbers(parameter), weights))
    for _ in range(2):
        updates.before_step()
        program.run(np.zeros(0, np.float32), None)
        updates.after_step()
        total = sum(factor * grad.astype(np.float64) for factor, grad in zip(factors, grads, strict=True))
        velocity = 0.9 * velocity + total + 0.01 * expected
        expected = expected - 0.1 * velocity
    np.testing.assert_allclose(parameter.numpy(), expected, rtol=0, atol=1e-6)
    np.testing.assert_allclose(optimizer.state[parameter]["momentum_buffer"], velocity, rtol=0, atol=2e-6)


def test_pieces_begin_at_cache_lines_and_hold_everything_once() -> None:
    parameters = [fnn.nn.Parameter(np.zeros(shape, np.float32)) for shape in [(3, 5), (40,), (1,), (7, 11)]]
    starts, total, piece = sharded._laid_out(parameters, 3)
    assert starts == [0, 16, 64, 80]
    assert total == 160
    assert piece == 64  # ten lines among three


def test_common_memory_has_no_name(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("mpi4py")
    named: list[str] = []

    def remembered(*args: Any, make: Any = sharded.tempfile.mkstemp, **options: Any) -> Any:
        made = make(*args, **options)
        named.append(made[1])
        return made

    monkeypatch.setattr(sharded.tempfile, "mkstemp", remembered)
    memory = sharded._common_memory(distributed.world(), 1000)
    assert memory is not None
    assert bytes(memory) == bytes(1000)
    assert not Path(named[0]).exists()
    if hasattr(os, "posix_fallocate"):  # where the room that a container gives is used up

        def full(*args: Any) -> None:
            raise OSError(errno.ENOSPC, "no space left on device")

        monkeypatch.setattr(os, "posix_fallocate", full)
        assert sharded._common_memory(distributed.world(), 1000) is None
        assert not Path(named[1]).exists()


@native
def test_who_shares_parameters() -> None:
    pytest.importorskip("mpi4py")
    world = distributed.world()
    weight = fnn.nn.Parameter(np.zeros((4, 4), np.float32))
    rates = optim.SGD([weight], lr=0.1)
    assert sharded.Sharded.suits(world, [weight], rates)
    assert not sharded.Sharded.suits(world, [weight, fnn.nn.Parameter(weight.data[1:])], rates)  # one memory
    assert not sharded.Sharded.suits(world, [weight], optim.Adam([weight], amsgrad=True))
    assert not sharded.Sharded.suits(world, [weight], optim.LBFGS([weight]))
    assert not sharded.Sharded.suits(world, [fnn.nn.Linear(3, 3).double().weight], rates)  # float64
