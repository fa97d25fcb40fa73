"""How many Python functions an eager step calls: a small network's cost that, unlike time, no other process changes."""

from __future__ import annotations

import gc
import sys
from types import FrameType
from typing import Any

import numpy as np
import pytest

import fastnn as fnn
from fastnn import backends, nn

pytestmark = pytest.mark.skipif(backends.name() != "native", reason="counted for the compiled kernels")


def dense() -> list[nn.Module]:
    return [nn.Flatten(), nn.Linear(64, 8), nn.ReLU(), nn.Linear(8, 4)]


def convolution() -> list[nn.Module]:
    return [nn.Conv2d(1, 4, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(36, 4)]


def normalised() -> list[nn.Module]:
    return [nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(36, 4)]


# Python 3.11 counts 330, 427 and 564; later ones, where comprehensions are no calls, fewer.
@pytest.mark.parametrize(("layers", "most"), [(dense, 360), (convolution, 465), (normalised, 615)])
def test_an_eager_step_calls_few_functions(layers: Any, most: int) -> None:
    model, loss_fn = nn.Sequential(*layers()), nn.CrossEntropyLoss()
    optimizer = fnn.optim.Adam(model.parameters())
    x, labels = np.ones((4, 1, 8, 8), np.float32), np.arange(4)

    def step() -> None:
        optimizer.zero_grad()
        loss_fn(model(x), labels).backward()
        optimizer.step()

    gc.collect()  # hooks of other tests: while there are any, backward asks each node for its own
    step()  # state of the optimiser, and what is imported on first use
    calls: list[int] = []  # of several steps: the collector may clear up after other tests in one

    def look(frame: FrameType, event: str, _: Any) -> None:
        calls[-1] += event == "call"

    before = sys.getprofile()
    for _ in range(3):
        calls.append(0)
        sys.setprofile(look)
        try:
            step()
        finally:
            sys.setprofile(before)
    assert min(calls) <= most
