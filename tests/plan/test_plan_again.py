"""A step that is like the one before is found without a key: whatever may have changed between the two counts still."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from plan_networks import ISAS, NATIVE, running_on

import fastnn as fnn
from fastnn import nn, optim
from fastnn.errors import LabelError

RNG = np.random.default_rng(0)
X, Y = RNG.standard_normal((6, 3, 4, 4)).astype(np.float32), RNG.integers(0, 5, 6)


class Task:
    """A model with a mode that counts, its optimiser, and a batch."""

    def __init__(self) -> None:
        fnn.manual_seed(1)
        convolution, head = nn.Conv2d(3, 4, 3, padding=1, bias=False), nn.Linear(64, 5)
        self.model = nn.Sequential(convolution, nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), head)
        self.loss = nn.CrossEntropyLoss()
        self.optimizer = optim.Adam(self.model.parameters(), lr=0.01)
        self.x: Any = X
        self.y: Any = Y

    def eager(self, x: Any, y: Any) -> float:
        self.optimizer.zero_grad()
        loss = self.loss(self.model(x), y)
        loss.backward()
        self.optimizer.step()
        return float(loss)


def _with(**changes: Any) -> Callable[[Task], None]:
    return lambda task: vars(task).update(changes)


CHANGES: dict[str, Callable[[Task], Any]] = {
    "nothing": lambda task: None,
    "eval mode": lambda task: task.model.eval(),
    "a layer's mode": lambda task: task.model[1].eval(),
    "frozen": lambda task: task.model[0].weight.requires_grad_(False),
    "another layer": lambda task: task.model.__setitem__(2, nn.Tanh()),
    "an option": lambda task: setattr(task.model[1], "momentum", 0.7),
    "weights": lambda task: setattr(task.model[4].weight, "data", np.ones((5, 64), np.float32)),
    "the rate": lambda task: task.optimizer.param_groups[0].update(lr=0.5),
    "the optimiser's state": lambda task: task.optimizer.state.clear(),
    "a smaller batch": _with(x=X[:4], y=Y[:4]),
    "every other sample": _with(x=np.repeat(X, 2, 0)[::2], y=np.repeat(Y, 2)[::2]),
    "the last axis first": _with(x=np.asfortranarray(X)),
    "int32 labels": _with(y=Y.astype(np.int32)),
    "an ignored label": _with(y=np.where(np.arange(6) == 2, -100, Y)),
    "a list": _with(x=X.tolist()),
    "a tensor": _with(x=fnn.tensor(X), y=fnn.tensor(Y)),
    "read only": _with(x=np.frombuffer(X.tobytes(), np.float32).reshape(X.shape)),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_a_step_follows_what_was_changed_since_the_last(change: Callable[[Task], Any]) -> None:
    """Losses and weights are those of steps by the tape."""
    here, there = Task(), Task()
    step = fnn.compile(here.model, here.loss, here.optimizer)
    for _ in range(3):
        assert step(here.x, here.y) == pytest.approx(there.eager(there.x, there.y), rel=1e-5)
    for task in (here, there):
        change(task)
    for _ in range(2):
        assert step(here.x, here.y) == pytest.approx(there.eager(np.asarray(there.x, np.float32), there.y), rel=2e-5)
    for mine, expected in zip(here.model.parameters(), there.model.parameters(), strict=True):
        np.testing.assert_allclose(mine.numpy(), expected.numpy(), rtol=1e-3, atol=1e-4)


def test_labels_out_of_range_are_refused_after_such_steps() -> None:
    task = Task()
    step = fnn.compile(task.model, task.loss, task.optimizer)
    for _ in range(3):
        step(X, Y)
    before = [p.numpy().copy() for p in task.model.parameters()]
    with pytest.raises(LabelError):
        step(X, np.full(6, 5))
    for p, was in zip(task.model.parameters(), before, strict=True):
        np.testing.assert_array_equal(p.numpy(), was)
    assert step(X, Y) > 0


@pytest.mark.skipif(not NATIVE, reason="needs the compiled kernels")
def test_another_instruction_set_makes_the_step_by_its_own_kernels() -> None:
    task, executions = Task(), []
    step = fnn.compile(task.model, task.loss, task.optimizer)
    for isa in ("baseline", ISAS[-1], "baseline"):
        with running_on(isa):
            step(X, Y)
            step(X, Y)
            executions.append(step._last)
    assert executions[0] is executions[2]
    assert executions[0] is not executions[1]
