"""When to stop: rules for the callbacks of `fit`.

They judge by the history, and by what `Checkpoint` keeps of them, so that a resumed training stops where one in a
single run would have.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from fastnn.checks import choice, number, whole
from fastnn.errors import ArgumentError

from . import finite
from .callbacks import Callback, Training
from .named import METRICS

__all__ = ["EarlyStopping", "StopOnPlateau", "StopOnStep", "StoppingRule", "best_index", "check_monitor"]

PATIENCE = "a patience of at least 1 epoch"
MONITORED = tuple(
    dict.fromkeys(("val_loss", "val_accuracy", "train_loss", "train_accuracy", *(f"val_{name}" for name in METRICS)))
)
FALLING = ("loss", "mae", "mse", "rmse")  # the best is the smallest


class StoppingRule(Callback):
    """Base of the callbacks that end a training by `Training.stop`; in the list they come before `Checkpoint`, which
    then keeps the last epoch and what the rule remembers of it.
    """

    def judge(self, training: Training) -> None:
        """Stop the training if its history says so; `Checkpoint` asks, too, when it has restored one."""


class StopOnStep(StoppingRule):
    """Stop when an update moves the parameters by less than eps: ‖w(t) − w(t−1)‖ < eps, all of them as one vector.

    With mini-batches a small step may be chance; with ``fit(..., batch_size="full")`` it says that gradient descent has
    arrived. The epoch that the update completes is recorded; one that it leaves incomplete is not.

    >>> import numpy as np, fastnn as fnn
    >>> model = fnn.nn.Sequential(fnn.nn.Linear(2, 1))
    >>> data = np.eye(2, dtype=np.float32), np.ones((2, 1), np.float32)
    >>> history = fnn.fit(model, data, loss=fnn.nn.MSELoss(), optimizer=fnn.optim.SGD(model.parameters(), lr=0.5),
    ...                   batch_size="full", epochs=1000, callbacks=[fnn.train.StopOnStep(1e-6)], verbose=False)
    >>> len(history) < 200, history[-1].train_loss < 1e-9
    (True, True)
    """

    def __init__(self, eps: float) -> None:
        self.eps = float(number("StopOnStep", "eps", eps, above=0))
        self._before: list[np.ndarray] = []
        self._length = math.inf  # of the last update

    def on_train_begin(self, training: Training) -> None:
        self._length = math.inf

    def on_epoch_begin(self, training: Training) -> None:
        self._before = [p.data.copy() for p in training.model.parameters()]

    def on_batch_end(self, training: Training) -> None:
        total = 0.0
        for p, before in zip(training.model.parameters(), self._before, strict=True):
            step = np.subtract(p.data, before, out=before).reshape(-1)
            total += float(np.square(step).sum(dtype=np.float64))
            before[...] = p.data
        self._length = math.sqrt(total)
        if training.batch < len(training.batches):
            self.judge(training)

    def on_epoch_end(self, training: Training) -> None:
        self.judge(training)

    def judge(self, training: Training) -> None:
        if self._length < self.eps:
            training.stop(f"the update moved the parameters by {self._length:.3g}, less than {self.eps:g}")

    def state_dict(self) -> dict[str, Any]:
        return {"length": self._length}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._length = float(number("StopOnStep", "length", state_dict["length"], 0, finite=False))


class StopOnPlateau(StoppingRule):
    """Stop when R(θ), what the training minimises, does not decrease any more: the training loss with the penalty.

    Args:
        patience: epochs without a decrease after which the training ends.
        min_delta: what counts as a decrease is more than this.

    >>> import fastnn as fnn
    >>> fnn.train.StopOnPlateau(patience=3).patience
    3
    """

    def __init__(self, patience: int = 1, min_delta: float = 0.0) -> None:
        self.patience = whole("StopOnPlateau", "patience", patience, 1, expected=PATIENCE)
        self.min_delta = number("StopOnPlateau", "min_delta", min_delta, 0)

    def on_epoch_end(self, training: Training) -> None:
        self.judge(training)

    def judge(self, training: Training) -> None:
        values = [record.train_loss + (record.penalty or 0.0) for record in training.history]
        best = best_index(values, self.min_delta, "min")
        waited = len(values) - 1 - (-1 if best is None else best)
        if waited >= self.patience:
            training.stop(f"what is minimised has not decreased for {_epochs(waited)}")


class EarlyStopping(StoppingRule):
    """Stop when a measurement no longer improves, and put the weights of its best epoch back.

    They are back on every way out: a training that is complete, stopped by this rule or another, interrupted, or
    failed, be it in another callback. Batch norm's statistics belong to them, the optimiser's state does not. Where no
    epoch was complete, the model stays as it is.

    Args:
        monitor: "val_loss", "val_accuracy", "train_loss", "train_accuracy", or a metric that `fit` measures: "val_mae".
        patience: epochs without an improvement after which the training ends.
        min_delta: what counts as an improvement is more than this.
        mode: "min" or "max"; None: "min" for a loss and for errors, "max" for other metrics.

    Attributes:
        best_epoch: the epoch, counted from 1, whose weights the model has after the training; None before the first.

    Raises ArgumentError, when the training begins, where there is nothing to monitor.

    >>> import fastnn as fnn
    >>> model = fnn.nn.Sequential(fnn.nn.Normalize(0.3, 0.4), fnn.nn.Flatten(), fnn.nn.Linear(784, 10))
    >>> stop = fnn.train.EarlyStopping("val_accuracy", patience=2)
    >>> history = fnn.fit(model, "digits", val=0.2, epochs=50, seed=0, callbacks=[stop], verbose=False)
    >>> history["val_accuracy"].index(max(history["val_accuracy"])) + 1 == stop.best_epoch < len(history) < 50
    True
    """

    def __init__(
        self, monitor: str = "val_loss", patience: int = 5, min_delta: float = 0.0, mode: str | None = None
    ) -> None:
        self.patience = whole("EarlyStopping", "patience", patience, 1, expected=PATIENCE)
        self.min_delta = number("EarlyStopping", "min_delta", min_delta, 0)
        if mode is not None:
            choice("EarlyStopping", "mode", mode, ("min", "max"))
        self.monitor = monitor
        self.mode = check_monitor("EarlyStopping", monitor) if mode is None else mode
        check_monitor("EarlyStopping", monitor)
        self.best_epoch: int | None = None
        self._weights: dict[str, np.ndarray] = {}

    def on_train_begin(self, training: Training) -> None:
        if self.monitor.startswith("val_") and training.val is None:
            raise ArgumentError(
                f"EarlyStopping: expected validation data to monitor {self.monitor} on, got none: give fit val=, or "
                'monitor "train_loss"'
            )
        if not training.history:
            self.best_epoch, self._weights = None, {}

    def on_epoch_end(self, training: Training) -> None:
        values = training.history[self.monitor]
        if values[-1] is None:
            raise ArgumentError(f"EarlyStopping: expected {self.monitor} to be measured: the targets are no classes")
        if best_index(values, self.min_delta, self.mode) == len(values) - 1 or not self._weights:
            finite.check_model(f"EarlyStopping, after epoch {training.epoch}", training.model)
            self.best_epoch = training.epoch
            self._weights = {name: np.array(value) for name, value in training.model.state_dict().items()}
        self.judge(training)

    def judge(self, training: Training) -> None:
        values = training.history[self.monitor]
        best = best_index(values, self.min_delta, self.mode)
        waited = len(values) - 1 - (-1 if best is None else best)
        if waited >= self.patience:
            found = "" if best is None else f": epoch {best + 1} was the best, with {values[best]:.4f}"
            training.stop(f"{self.monitor} has not improved for {_epochs(waited)}{found}")

    def on_train_end(self, training: Training) -> None:
        if self._weights:
            training.model.load_state_dict(self._weights)

    def state_dict(self) -> dict[str, Any]:
        return {"best_epoch": self.best_epoch, "weights": dict(self._weights)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        epoch = state_dict["best_epoch"]
        self.best_epoch = None if epoch is None else whole("EarlyStopping", "best_epoch", epoch, 1)
        self._weights = {name: np.array(value) for name, value in state_dict["weights"].items()}


def best_index(values: Sequence[float], min_delta: float, mode: str) -> int | None:
    """Where the last improvement by more than min_delta over the best before it was; None where all are NaN.

    >>> best_index([3.0, 2.0, 1.95, 1.8], 0.1, "min"), best_index([0.5, 0.7, 0.7], 0.0, "max")
    (3, 1)
    """
    sign = 1 if mode == "min" else -1
    best: int | None = None
    for i, value in enumerate(values):
        if not math.isnan(value) and (best is None or sign * value < sign * values[best] - min_delta):
            best = i
    return best


def check_monitor(who: str, monitor: str) -> str:
    """The mode of what is monitored; ArgumentError where it is no measurement."""
    if not isinstance(monitor, str) or monitor not in MONITORED:
        raise ArgumentError(f"{who}: expected one of {', '.join(MONITORED)}, got {monitor!r}")
    return "min" if monitor.partition("_")[2] in FALLING else "max"


def _epochs(count: int) -> str:
    return f"{count} epoch{'' if count == 1 else 's'}"
