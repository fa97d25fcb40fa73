"""Losses, optimisers and metrics that `fit` and `evaluate` take by name."""

from __future__ import annotations

from collections.abc import Callable
from itertools import chain, count
from typing import Any

import numpy as np

from fastnn import metrics, nn, optim
from fastnn.checks import entries
from fastnn.data.about import About
from fastnn.errors import ArgumentError, meant

from .tally import classes_found

__all__ = [
    "LOSSES",
    "OPTIMIZERS",
    "check_metrics",
    "is_of_fastnn",
    "measured",
    "named_loss",
    "named_metrics",
    "named_optimizer",
    "remembered_loss",
]

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
OF_CLASSES = ("accuracy", "balanced_accuracy", "f1", "precision", "recall")
OF_NUMBERS = ("mae", "mse", "r2", "rmse")
METRICS = (*OF_CLASSES, *OF_NUMBERS, "roc_auc", "top_k_accuracy")


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


def named_metrics(where: str, given: Any) -> dict[str, Callable[[Any, Any], Any]]:
    """Returns the metrics of these names, and functions under their own. ArgumentError for what is neither.

    >>> named_metrics("fit", ["mae", max])
    {'mae': <function mae at ...>, 'max': <built-in function max>}
    """
    found: dict[str, Callable[[Any, Any], Any]] = {}
    for metric in [given] if isinstance(given, str) or callable(given) else entries(where, "metrics", given):
        if callable(metric) and getattr(metric, "__name__", "") != "loss":  # which names a column of its own
            found[_free(getattr(metric, "__name__", type(metric).__name__), found)] = metric
        elif isinstance(metric, str) and metric in METRICS:
            found[metric] = getattr(metrics, metric)
        else:
            raise ArgumentError(
                f"{where}: expected metrics to be functions (targets, outputs) or among {', '.join(METRICS)}, got "
                f"{metric!r}{meant(metric, METRICS)}"
            )
    return found


def check_metrics(where: str, wanted: dict[str, Callable[[Any, Any], Any]], targets: Any, loss: Any) -> None:
    """ArgumentError where a metric of classes is wanted of values, of which it says nothing, or the other way round."""
    if not isinstance(targets, np.ndarray):
        return
    of_one = targets.ndim == 1 or targets.shape[1:] == (1,)
    values = of_one and targets.dtype.kind == "f" and not (targets == np.rint(targets)).all()
    classes = targets.ndim == 1 and targets.dtype.kind in "iu" and isinstance(loss, (nn.CrossEntropyLoss, nn.NLLLoss))
    for name, metric in wanted.items():
        wrong = classes if name in OF_NUMBERS else values
        if not wrong or metric is not getattr(metrics, name, None):
            continue
        fit = [other for other in METRICS if (other in OF_NUMBERS) == values]
        raise ArgumentError(
            f"{where}: expected a metric of {'values' if values else 'classes'} for such targets, got {name!r}: there "
            f"are {', '.join(fit)}"
        )


def _free(name: str, taken: dict[str, Any]) -> str:
    """Returns a name that is not taken yet: two lambdas are "<lambda>" and "<lambda> 2"."""
    numbered = (f"{name} {i}" for i in count(2))
    return next(free for free in chain([name], numbered) if free not in taken)


def measured(wanted: dict[str, Callable[[Any, Any], Any]], targets: Any, outputs: Any, loss: Any) -> dict[str, float]:
    """Returns the metrics by name, of targets and outputs (N, ...); of those that give a number a class, their mean."""
    values = {}
    for name, metric in wanted.items():
        shown = outputs
        if name in OF_CLASSES and metric is getattr(metrics, name) and isinstance(outputs, np.ndarray):
            shown = classes_found(outputs, loss)
        value = np.asarray(metric(targets, shown))
        if value.dtype.kind not in "fiub" or value.ndim > 1:
            raise ArgumentError(f"metrics: expected a number from {name}, got {value.dtype} {value.shape}")
        values[name] = float(value.mean())
    return values


def is_of_fastnn(loss: Any) -> bool:
    """Whether it is one of fastnn's losses, which its name and its options describe."""
    return getattr(nn, type(loss).__name__, None) is type(loss) and hasattr(loss, "reduction")


def remembered_loss(known: About | None) -> Any:
    """Returns the loss that a model was trained with; None where it is not known, or none of fastnn's.

    Label smoothing, which is there to train better, is left out.
    """
    if known is None or not hasattr(getattr(nn, known.loss, None), "options"):
        return None
    try:
        return getattr(nn, known.loss)(**{k: v for k, v in known.options.items() if k != "label_smoothing"})
    except (TypeError, ValueError):  # of a file that is not true
        return None
