"""Weights of samples and classes in the loss."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from fastnn.arrays import as_array
from fastnn.checks import is_number
from fastnn.data.samples import is_several
from fastnn.errors import ArgumentError, meant
from fastnn.tensors import Tensor

from .named import is_of_fastnn

__all__ = ["Weighted", "Weights", "weights_of"]


class Weights:
    """What each sample counts: its own weight times its class's.

    Args:
        sample: (N,) float64, one for each sample of the data; None: all are 1.
        of_class: (K,) float64, one for each label; None: all are 1.
        ignored: the label that the loss leaves out.
    """

    def __init__(self, sample: Any, of_class: Any, ignored: int | None) -> None:
        self.sample, self.of_class, self._ignored = sample, of_class, ignored

    def __call__(self, labels: np.ndarray, indices: Any) -> tuple[np.ndarray, float]:
        """Returns the weights (n,) of a batch, on the scale on which their mean is 1, and their sum.

        labels (n, ...) are the batch's; `indices` say where its samples are in the data.
        """
        weights = np.ones(len(labels)) if self.sample is None else self.sample[indices]
        if self.of_class is not None:
            numbers = labels.reshape(-1).astype(np.int64)
            known = (numbers >= 0) & (numbers < len(self.of_class))
            weights = weights * np.where(known, self.of_class[np.where(known, numbers, 0)], 1)
        if self._ignored is not None and labels.ndim == 1:
            weights = weights * (labels != self._ignored)
        total = float(weights.sum())
        return (weights * (len(weights) / total if total else 0)).astype(np.float32), total


class Weighted:
    """A loss of outputs and (targets, weights): the mean of the samples' losses, each times its weight.

    A sample's loss is the mean over its outputs.
    """

    def __init__(self, loss: Any) -> None:
        self._each = copy.copy(loss)
        self._each.reduction = "none"

    def __call__(self, outputs: Any, targets: Any) -> Tensor:
        y, weights = targets
        losses = self._each(outputs, y)
        losses = losses if losses.ndim == 1 else losses.reshape(losses.shape[0], -1).mean(1)
        found: Tensor = (losses * weights).mean()
        return found


def weights_of(
    where: str, labels: Any, classes: Sequence[str], loss: Any, class_weight: Any, sample_weight: Any
) -> Weights | None:
    """Returns the weights of data with these labels (N, ...), and None where nothing weighs more than another.

    Raises ArgumentError for weights that are none, for classes that are not there, and for a loss that cannot be
    weighed; `where` begins the sentence.
    """
    if class_weight is None and sample_weight is None:
        return None
    if not is_of_fastnn(loss) or getattr(loss, "reduction", "") != "mean" or getattr(loss, "weight", None) is not None:
        raise ArgumentError(
            f"{where}: class_weight and sample_weight are for fastnn's losses with reduction='mean' and no weights of "
            f"their own, got {type(loss).__name__}: let your loss weigh its samples itself"
        )
    if is_several(labels):
        raise ArgumentError(f"{where}: expected one array of targets for class_weight and sample_weight, got several")
    of_class = None if class_weight is None else _of_classes(where, labels, classes, class_weight)
    sample = None
    if sample_weight is not None:
        sample = as_array(sample_weight)
        if sample.shape != (len(labels),) or sample.dtype.kind not in "fiub" or not _are_weights(sample):
            raise ArgumentError(
                f"{where}: expected sample_weight ({len(labels)},), one number of at least 0 for each sample and not "
                f"all zero, got {sample.dtype} {sample.shape}"
            )
        sample = sample.astype(np.float64)
    return Weights(sample, of_class, getattr(loss, "ignore_index", None))


def _of_classes(where: str, labels: np.ndarray, classes: Sequence[str], given: Any) -> np.ndarray:
    """(K,) weights by label."""
    whole = labels.size == len(labels) and (labels.dtype.kind in "iu" or bool(((labels == 0) | (labels == 1)).all()))
    if not whole:
        raise ArgumentError(f"{where}: class_weight is for class labels (N,), got {labels.dtype} {labels.shape}")
    numbers = labels.reshape(-1).astype(np.int64)
    numbers = numbers[numbers >= 0]
    number = max(len(classes), int(numbers.max(initial=0)) + 1)
    if isinstance(given, str) and given == "balanced":
        counts = np.bincount(numbers, minlength=number)
        return len(numbers) / (np.count_nonzero(counts) * np.maximum(counts, 1))
    if not isinstance(given, (Mapping, str)):
        array = as_array(given)
        if array.shape != (number,) or array.dtype.kind not in "fiub" or not _are_weights(array):
            raise ArgumentError(
                f'{where}: expected class_weight={{label: weight}}, "balanced", or {number} numbers of at least 0 and '
                f"not all zero, one for each class, got {array.dtype} {array.shape}"
            )
        return array.astype(np.float64)
    if not isinstance(given, Mapping):
        raise ArgumentError(f'{where}: expected class_weight={{label: weight}} or "balanced", got {given!r}')
    weights = np.ones(number)
    names = list(classes) if len(classes) == number else list(map(str, range(number)))
    for label, weight in given.items():
        place = names.index(str(label)) if str(label) in names else label
        if isinstance(place, (bool, str)) or place not in range(number):
            known = ", ".join(names[:10])
            raise ArgumentError(
                f"{where}: expected class_weight of the classes {known}, got {label!r}{meant(str(label), names)}"
            )
        if not is_number(weight) or not 0 <= weight < np.inf:
            raise ArgumentError(f"{where}: expected class_weight of at least 0, got {weight!r} for {label!r}")
        weights[int(place)] = weight
    return weights


def _are_weights(weights: np.ndarray) -> bool:
    return bool(np.isfinite(weights).all() and (weights >= 0).all() and weights.sum() > 0)
