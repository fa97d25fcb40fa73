"""The optimisers that a recipe may name, and the numbers that they are used with."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from fastnn.errors import ArgumentError
from fastnn.optim import SGD, Adagrad, Adam, AdamW, GradientDescent, Optimizer, RMSprop, Rprop

__all__ = ["ALGORITHMS", "FULL", "Algorithm", "algorithm"]

FULL = "full"  # as a batch size: all images


@dataclass(frozen=True)
class Algorithm:
    """An optimiser, and the numbers that it is used with unless others are wanted."""

    make: Callable[..., Optimizer]
    name: str  # in a sentence
    numbers: dict[str, Any]  # fields of Recipe
    options: tuple[str, ...] = ("weight_decay",)  # which of them the optimiser takes, besides lr
    whole: bool = False  # of all images at once: then without a schedule, and 100 epochs


ALGORITHMS: dict[str, Algorithm] = {
    "gd": Algorithm(GradientDescent, "gradient descent with backtracking", {"lr": 1.0}, (), whole=True),
    "sgd": Algorithm(SGD, "SGD", {"lr": 0.1, "momentum": 0.0}),
    "momentum": Algorithm(SGD, "SGD with momentum {momentum:g}", {}, ("weight_decay", "momentum")),
    "nesterov": Algorithm(
        partial(SGD, nesterov=True), "SGD with Nesterov momentum {momentum:g}", {}, ("weight_decay", "momentum")
    ),
    "rprop": Algorithm(Rprop, "Rprop", {"lr": 1e-3}, (), whole=True),
    "adagrad": Algorithm(Adagrad, "Adagrad", {"lr": 1e-2, "weight_decay": 0.0}),
    "rmsprop": Algorithm(RMSprop, "RMSprop", {"lr": 1e-3, "weight_decay": 0.0}),
    "adam": Algorithm(Adam, "Adam", {"lr": 2e-3, "weight_decay": 0.0}),
    "adamw": Algorithm(AdamW, "AdamW", {"lr": 2e-3, "weight_decay": 1e-2}),
}


def algorithm(name: str) -> Algorithm:
    if not isinstance(name, str) or name not in ALGORITHMS:
        raise ArgumentError(f"expected an algorithm among {', '.join(ALGORITHMS)}, got {name!r}")
    return ALGORITHMS[name]
