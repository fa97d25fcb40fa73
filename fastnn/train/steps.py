"""How `fit` makes one step: compiled, or operator by operator."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from fastnn.errors import ArgumentError, NonFiniteError
from fastnn.nn import Module
from fastnn.optim import Optimizer
from fastnn.plan import compile

__all__ = ["EagerStep", "make_step"]


class EagerStep:
    """The step that `fnn.compile` makes, without a plan: the same calls, and the twin that it is tested against."""

    def __init__(self, model: Any, loss: Any, optimizer: Any) -> None:
        self.model, self.loss, self.optimizer = model, loss, optimizer
        self.outputs: np.ndarray = np.zeros(0)
        self.check: Callable[[tuple[int, ...]], None] | None = None  # is shown the shape of the first outputs

    def prepare(self, x: np.ndarray, y: np.ndarray, check: Callable[[tuple[int, ...]], None]) -> None:
        self.check = check  # nothing is known before the first batch has run

    def __call__(self, x: np.ndarray, y: np.ndarray) -> float:
        outputs = self.model(x)
        if self.check is not None:
            self.check(outputs.shape)
            self.check = None
        with np.errstate(over="ignore", invalid="ignore"):  # said below, better than NumPy's warning does
            loss = self.loss(outputs, y)
        if loss.ndim:
            raise ArgumentError(f"expected a loss of one number (reduction 'mean' or 'sum'), got {loss.shape}")
        value = float(loss.item())
        if not np.isfinite(value):
            raise NonFiniteError(f"the loss became {value}: nothing was updated from it")
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        self.outputs = outputs.data
        return value


def make_step(model: Any, loss: Any, optimizer: Any, compiled: bool) -> Any:
    """A compiled step where that is wanted, and model and optimiser are fastnn's own."""
    if compiled and isinstance(model, Module) and isinstance(optimizer, Optimizer):
        return compile(model, loss, optimizer)
    return EagerStep(model, loss, optimizer)
