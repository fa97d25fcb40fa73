"""Losses and optimisers that `fit` and `evaluate` take by name."""

from __future__ import annotations

from typing import Any

from fastnn import nn, optim
from fastnn.errors import ArgumentError, meant

__all__ = ["LOSSES", "OPTIMIZERS", "named_loss", "named_optimizer"]

LOSSES = {
    "bce_with_logits": "BCEWithLogitsLoss",
    "cross_entropy": "CrossEntropyLoss",
    "huber": "HuberLoss",
    "mae": "L1Loss",
    "mse": "MSELoss",
    "nll": "NLLLoss",
}
OPTIMIZERS: dict[str, tuple[str, dict[str, float]]] = {
    "adam": ("Adam", {"lr": 1e-3}),
    "adamw": ("AdamW", {"lr": 1e-3}),
    "rmsprop": ("RMSprop", {"lr": 1e-3}),
    "sgd": ("SGD", {"lr": 1e-2, "momentum": 0.9}),
}


def named_loss(where: str, loss: Any) -> Any:
    """The loss of that name; anything but text as it is. ArgumentError for an unknown name.

    >>> named_loss("fit", "mse")
    MSELoss()
    """
    if not isinstance(loss, str):
        return loss
    if loss not in LOSSES:
        known = ", ".join(LOSSES)
        raise ArgumentError(f"{where}: expected loss to be one of {known}, got {loss!r}{meant(loss, LOSSES)}")
    return getattr(nn, LOSSES[loss])()


def named_optimizer(optimizer: Any, model: Any) -> Any:
    """The optimiser of that name, of the model's parameters; anything but text as it is."""
    if not isinstance(optimizer, str):
        return optimizer
    if optimizer not in OPTIMIZERS:
        known = ", ".join(OPTIMIZERS)
        raise ArgumentError(
            f"fit: expected optimizer to be one of {known}, got {optimizer!r}{meant(optimizer, OPTIMIZERS)}"
        )
    name, options = OPTIMIZERS[optimizer]
    return getattr(optim, name)(model.parameters(), **options)
