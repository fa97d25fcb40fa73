"""A model whose forward does what a test says, trained with and without a plan from the same seeds."""

from __future__ import annotations

import functools
import itertools
import random
import types
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np

import fastnn as fnn
from fastnn import nn, optim
from fastnn.train import Callback, Training

X = np.random.default_rng(0).standard_normal((32, 8)).astype(np.float32)
Y = np.random.default_rng(1).integers(0, 2, 32)
CROSS_ENTROPY = nn.CrossEntropyLoss()

Do = Callable[[Any, Any, Any], Any]  # of the model, the input and what the dense layer makes of it


class Helper:
    """No module: an object that a model or a loss reads from."""

    def __init__(self) -> None:
        self.calls, self.weight, self.generator = 0, 0.0, np.random.default_rng(0)

    def count(self) -> int:
        self.calls += 1
        return self.calls

    def loss(self, outputs: Any, y: Any) -> Any:
        return self.weighted(CROSS_ENTROPY(outputs, y))

    def weighted(self, loss: Any) -> Any:
        return loss * (1 + self.weight)

    def __call__(self, outputs: Any, y: Any) -> Any:
        return self.loss(outputs, y)


class Slotted:
    __slots__ = ("weight",)

    def __init__(self) -> None:
        self.weight = 0.0


class Model(nn.Module):
    """A dense layer, and what forward does with its outputs."""

    per_class = 0

    def __init__(self, do: Callable[[Any, Any, Any], Any]) -> None:
        super().__init__()
        self.linear, self.do = nn.Linear(8, 2), do
        self.generator, self.state = np.random.default_rng(0), np.random.RandomState(0)
        self.draw = functools.partial(np.random.default_rng(0).random)
        self.tools = {"dice": [random.Random(0)]}
        self.calls, self.weight, self.list, self.dict, self.helper = 0, 0.0, [0.0], {"n": 0}, Helper()
        self.options = types.SimpleNamespace(weight=0.0)
        self.number, self.live, self.large = np.zeros(()), np.zeros(2, np.float32), np.zeros((64, 64), np.float32)
        self.tensor = fnn.Tensor(np.zeros(2, np.float32))
        self.numbers, self.counter = iter(np.linspace(0, 1, 100)), itertools.count()
        self.slotted, self.optimizer = Slotted(), optim.SGD(self.parameters(), lr=1.0)
        self.table: Any = None
        self.kept: Any = None
        self.register_buffer("buffer", np.zeros(2, np.float32))

    def forward(self, x: Any) -> Any:
        return self.do(self, x, self.linear(x))

    @property
    def coin(self) -> bool:
        return bool(self.generator.random() < 0.9)


Change = Callable[[Any, Any, float], None]  # of the model or its loss, to a new weight


def trained(
    make: Callable[[], Any], compile: bool, loss: Any = CROSS_ENTROPY, change: Change | None = None, every: int = 1
) -> tuple[list[float], list[str], Any]:
    """Losses of some epochs of two batches each, what was warned of, and the model."""
    Model.per_class = 0
    fnn.manual_seed(0)
    np.random.seed(0)  # noqa: NPY002
    random.seed(0)
    model = make()

    class Changing(Callback):
        steps = 0

        def on_batch_end(self, training: Training) -> None:
            self.steps += 1
            if change is not None and self.steps % every == 0:
                change(model, loss, self.steps / 10)

    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        history = fnn.fit(
            model, (X, Y), loss=loss, optimizer=optim.SGD(model.parameters(), lr=0.05), epochs=8, batch_size=16, seed=0,
            verbose=False, compile=compile, callbacks=[Changing()],
        )  # fmt: skip
    return history["train_loss"], [str(warning.message) for warning in said], model
