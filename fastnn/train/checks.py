"""What is noticed before the first update: mistakes in the arguments of `fit` and `evaluate`."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastnn.checks import is_whole
from fastnn.errors import ArgumentError, LabelError
from fastnn.nn import CrossEntropyLoss

from .callbacks import Callback

__all__ = ["check_data", "check_fit", "check_labels", "check_loss", "check_model"]


def check_fit(model: Any, loss: Any, optimizer: Any, scheduler: Any, epochs: Any, callbacks: Any) -> None:
    """ArgumentError unless each is what `fit` documents; loss, optimizer and scheduler may be None."""
    check_model("fit", model)
    check_loss("fit", loss)
    if not is_whole(epochs, 1):
        raise ArgumentError(f"fit: expected a whole number of epochs, got epochs={epochs!r}")
    if optimizer is not None and (isinstance(optimizer, type) or not hasattr(optimizer, "param_groups")):
        raise ArgumentError(
            f"fit: expected an optimiser such as optim.SGD(model.parameters(), lr=0.1), got {_named(optimizer)}"
        )
    if scheduler is not None:
        if isinstance(scheduler, type) or not hasattr(scheduler, "step"):
            raise ArgumentError(
                "fit: expected a schedule such as optim.lr_scheduler.StepLR(optimizer, step_size=10), "
                f"got {_named(scheduler)}"
            )
        if getattr(scheduler, "optimizer", optimizer) is not optimizer or optimizer is None:
            what = "that optimiser was not given" if optimizer is None else "it changes another optimiser"
            raise ArgumentError(
                f"fit: expected a schedule on the optimiser that trains, but {what}: "
                "pass both, optimizer=optimizer and scheduler=a schedule made with it"
            )
    if not isinstance(callbacks, (list, tuple)):
        raise ArgumentError(f"fit: expected a list, callbacks=[...], got {_named(callbacks)}")
    for callback in callbacks:
        if not isinstance(callback, Callback):
            raise ArgumentError(
                "fit: expected callbacks to be instances of a subclass of fastnn.train.Callback, "
                f"got {_named(callback)}"
            )


def check_model(where: str, model: Any) -> None:
    if isinstance(model, type) or not (callable(model) and hasattr(model, "parameters")):
        raise ArgumentError(f"{where}: expected a model, such as nn.Sequential(...), got {_named(model)}")


def check_loss(where: str, loss: Any) -> None:
    if loss is not None and (isinstance(loss, type) or not callable(loss)):
        raise ArgumentError(f"{where}: expected a loss such as nn.CrossEntropyLoss(), got {_named(loss)}")


def check_data(data: Any) -> None:
    """ArgumentError for a list of (image, label) pairs, one an image."""
    if isinstance(data, list) and data and all(isinstance(entry, tuple) and len(entry) == 2 for entry in data):
        raise ArgumentError(
            f"expected two arrays (images, labels), got a list of {len(data)} pairs: "
            "pass tuple(map(np.array, zip(*pairs)))"
        )


def check_labels(labels: np.ndarray, outputs: tuple[int, ...], loss: Any) -> None:
    """LabelError, with the first index in the data, where cross-entropy of outputs of that shape has no such class."""
    if not isinstance(loss, CrossEntropyLoss) or labels.ndim != 1 or labels.dtype.kind not in "iu":
        return
    if len(outputs) != 2:
        return
    classes = outputs[1]
    wrong = np.flatnonzero((labels < 0) | (labels >= classes))
    if len(wrong):
        raise LabelError(
            f"expected labels 0 to {classes - 1}, since the model has {classes} outputs, "
            f"got {labels[wrong[0]]} at index {wrong[0]} of the data"
        )


def _named(value: Any) -> str:
    if isinstance(value, type):
        return f"the class {value.__name__}: make one, {value.__name__}(...)"
    return f"{value!r}" if isinstance(value, (str, int, float)) else f"an object of type {type(value).__name__}"
