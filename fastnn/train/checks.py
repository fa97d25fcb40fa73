"""What is noticed before the first update: mistakes in the arguments of `fit` and `evaluate`."""

from __future__ import annotations

from typing import Any

from fastnn.checks import is_whole
from fastnn.errors import ArgumentError

from .callbacks import Callback

__all__ = ["check_data", "check_fit", "check_loss", "check_model", "check_trainable"]


def check_fit(loss: Any, optimizer: Any, scheduler: Any, epochs: Any, callbacks: Any) -> None:
    """ArgumentError unless each is what `fit` documents; loss, optimizer and scheduler may be None."""
    check_loss("fit", loss)
    if not is_whole(epochs, 1):
        raise ArgumentError(f"fit: expected 1 or a larger whole number of epochs, got epochs={epochs!r}")
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
    """ArgumentError for a list of (image, label) pairs, one an image, and for samples without targets."""
    shape = getattr(data, "shape", None)
    if isinstance(shape, tuple) and shape:
        raise ArgumentError(
            f"expected samples and targets, got samples {shape} alone: pass both, such as fit(model, X, y)"
        )
    if isinstance(data, list) and data and all(isinstance(entry, tuple) and len(entry) == 2 for entry in data):
        raise ArgumentError(
            f"expected two arrays (samples, labels), got a list of {len(data)} pairs: "
            "pass tuple(map(np.array, zip(*pairs)))"
        )


def check_trainable(model: Any, optimizer: Any) -> None:
    """ArgumentError unless the optimiser holds parameters of this model alone, and one at least is to be learned."""
    own = {id(parameter) for parameter in model.parameters()}
    held = [p for group in optimizer.param_groups for p in group["params"]]
    others = [p.shape for p in held if id(p) not in own]
    if others:
        raise ArgumentError(
            f"fit: expected an optimiser of this model's parameters, got one that holds another, of shape {others[0]}"
        )
    if not any(p.requires_grad for p in held):
        whose = "the model's" if len(held) == len(own) else "the optimiser's"
        raise ArgumentError(
            f"fit: expected a parameter to train, but {whose} {len(held)} parameters are all frozen: "
            "call requires_grad_() on what is to be learned"
        )


def _named(value: Any) -> str:
    if isinstance(value, type):
        return f"the class {value.__name__}: make one, {value.__name__}(...)"
    return f"{value!r}" if isinstance(value, (str, int, float)) else f"an object of type {type(value).__name__}"
